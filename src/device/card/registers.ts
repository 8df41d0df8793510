import { NetPopcornError, statusError } from "../../errors.ts";
import {
  CARD_FILTER_COUNT,
  CARD_FILTERS,
  CARD_FLAG_FLOW_GROUPS,
  CARD_FLAGS,
  CARD_FLOW_GROUP_MASK,
  CARD_FLOW_GROUPS,
  CARD_GENERATION,
  CARD_LOCAL_PORT_FIRST,
  CARD_LOCAL_PORT_LAST,
  CARD_OTHER_QUEUE,
  CARD_QUEUE_PORTS,
  CARD_QUEUES,
  CARD_RETA,
  CARD_RETA_MASK,
  CARD_RSS_KEY,
  CARD_RSS_TABLES,
  CARD_SCRATCH,
  CARD_SIZE_BYTES,
  CARDS_BASE,
  FILTER_CONTROL,
  FILTER_DELETED,
  FILTER_DESTINATION,
  FILTER_PORTS,
  FILTER_PROTOCOL_UNIT,
  FILTER_SIZE_BYTES,
  FILTER_SLOTS,
  FILTER_SOURCE,
  FILTER_V6,
  FLOW_GROUP_NONE,
  FLOW_GROUPS,
  RSS_KEY_BYTES_MAX,
  SEGMENT_SCRATCH_BASE,
} from "../../layout/card.ts";
import { ENOBUFS } from "../../layout/status.ts";
import { portsWord, TOEPLITZ_INPUT_BYTES_MAX } from "../../rss/toeplitz.ts";
import { groupOfPorts } from "../flowGroups.ts";

/** What card.wasm exports (assembly/card.ts). Addresses are byte offsets in the segment's memory. */
export type CardExports = {
  buildRssTables(card: number): void;
  filterSet(card: number, queue: number): number;
  filterClear(card: number): number;
  queueOf(card: number, frame: number, bytes: number): number;
  fill(record: number): void;
  cut(port: number, record: number): number;
  classify(port: number, card: number, from: number, bytes: number): number;
};

export const PROTOCOL_TCP = 6;
export const PROTOCOL_UDP = 17;

/** A flow as its packets come to the card: the source is remote. Addresses: 16 bytes, IPv4 as ::ffff:a.b.c.d. */
export type Tuple = {
  readonly protocol: typeof PROTOCOL_TCP | typeof PROTOCOL_UDP;
  readonly source: Uint8Array;
  readonly sourcePort: number;
  readonly destination: Uint8Array;
  readonly destinationPort: number;
};

/** Bytes of the largest frame that writeTupleFrame makes. */
export const TUPLE_FRAME_BYTES = 58;

function isV4Mapped(address: Uint8Array): boolean {
  return address[10] === 0xff && address[11] === 0xff && address.subarray(0, 10).every((byte) => byte === 0);
}

/**
 * Writes the headers of a packet with this tuple: enough for a card to steer it.
 * @returns length of the frame in bytes.
 */
export function writeTupleFrame(bytes: Uint8Array, at: number, tuple: Tuple): number {
  bytes.fill(0, at, at + TUPLE_FRAME_BYTES);
  const v4 = isV4Mapped(tuple.source) && isV4Mapped(tuple.destination);
  const ports = at + (v4 ? 34 : 54);
  if (v4) {
    bytes.set([0x08, 0x00, 0x45], at + 12);
    bytes[at + 23] = tuple.protocol;
    bytes.set(tuple.source.subarray(12), at + 26);
    bytes.set(tuple.destination.subarray(12), at + 30);
  } else {
    bytes.set([0x86, 0xdd, 0x60], at + 12);
    bytes[at + 20] = tuple.protocol;
    bytes.set(tuple.source, at + 22);
    bytes.set(tuple.destination, at + 38);
  }
  bytes[ports] = tuple.sourcePort >> 8;
  bytes[ports + 1] = tuple.sourcePort & 0xff;
  bytes[ports + 2] = tuple.destinationPort >> 8;
  bytes[ports + 3] = tuple.destinationPort & 0xff;
  return ports + 4 - at;
}

/**
 * A card's registers: RSS key and indirection table, flow-group table, exact filters. Written by the device's owner
 * only, read by every sending port's classify(). A write takes effect for frames classified after it, as on a card.
 */
export class CardRegisters {
  readonly #bytes: Uint8Array;
  readonly #words: Int32Array;
  readonly #halves: Uint16Array;
  readonly #exports: CardExports;
  /** The card's own; rss/toeplitz.ts lays its tables out alike. */
  readonly #rssTables: Int32Array;
  readonly #card: number;
  readonly #at: number;
  /** Cards that had its place before. */
  readonly generation: number;

  /** @param generation default: of the card that has the place now. */
  constructor(memory: WebAssembly.Memory, exports: CardExports, card: number, generation?: number) {
    this.#bytes = new Uint8Array(memory.buffer);
    this.#words = new Int32Array(memory.buffer);
    this.#halves = new Uint16Array(memory.buffer);
    this.#exports = exports;
    this.#card = card;
    this.#at = CARDS_BASE + card * CARD_SIZE_BYTES;
    this.generation = generation ?? this.#word(CARD_GENERATION);
    const tables = (this.#at + CARD_RSS_TABLES) >> 2;
    this.#rssTables = this.#words.subarray(tables, tables + TOEPLITZ_INPUT_BYTES_MAX * 256);
  }

  /** The card is closed, and another has its place: nothing is written any more, and no filter is found. */
  get isReplaced(): boolean {
    return this.#word(CARD_GENERATION) !== this.generation;
  }

  get queues(): number {
    return this.#word(CARD_QUEUES);
  }

  get retaEntries(): number {
    return this.#word(CARD_RETA_MASK) + 1;
  }

  get filterCount(): number {
    return this.#word(CARD_FILTER_COUNT);
  }

  /** How many; 0: the card has none. */
  get flowGroups(): number {
    return (this.#word(CARD_FLAGS) & CARD_FLAG_FLOW_GROUPS) !== 0 ? this.#word(CARD_FLOW_GROUP_MASK) + 1 : 0;
  }

  /** The key, and zeros behind it if it has 40 bytes. */
  get rssKey(): Uint8Array {
    return this.#bytes.slice(this.#at + CARD_RSS_KEY, this.#at + CARD_RSS_KEY + RSS_KEY_BYTES_MAX);
  }

  /** @param key 40 or 52 bytes. @throws NetPopcornError ERR_RSS_KEY. */
  setRssKey(key: Uint8Array | readonly number[]): void {
    if (key.length !== 40 && key.length !== RSS_KEY_BYTES_MAX) {
      throw new NetPopcornError("ERR_RSS_KEY", `an RSS key has 40 or 52 bytes, not ${key.length}`);
    }
    if (this.isReplaced) return;
    this.#bytes.fill(0, this.#at + CARD_RSS_KEY, this.#at + CARD_RSS_KEY + RSS_KEY_BYTES_MAX);
    this.#bytes.set(key, this.#at + CARD_RSS_KEY);
    this.#exports.buildRssTables(this.#card);
  }

  retaEntry(entry: number): number {
    this.#check("RETA entry", entry, 0, this.retaEntries - 1);
    return this.#halves[(this.#at + CARD_RETA) / 2 + entry] as number;
  }

  setRetaEntry(entry: number, queue: number): void {
    if (this.isReplaced) return;
    this.#check("RETA entry", entry, 0, this.retaEntries - 1);
    this.#check("queue", queue, 0, this.queues - 1);
    this.#halves[(this.#at + CARD_RETA) / 2 + entry] = queue;
  }

  /** Queue of a flow group (the low bits of the client's port); undefined: left to the hash. */
  flowGroup(group: number): number | undefined {
    this.#checkGroup(group);
    const queue = this.#halves[(this.#at + CARD_FLOW_GROUPS) / 2 + group] as number;
    return queue === FLOW_GROUP_NONE ? undefined : queue;
  }

  /** @throws NetPopcornError EOPNOTSUPP when the card was made without flow groups. */
  setFlowGroup(group: number, queue: number | undefined): void {
    if (this.isReplaced) return;
    this.#checkGroup(group);
    if (this.flowGroups === 0) {
      throw new NetPopcornError("EOPNOTSUPP", "this card has no flow groups; create it with flowGroups: true");
    }
    if (queue !== undefined) this.#check("queue", queue, 0, this.queues - 1);
    this.#halves[(this.#at + CARD_FLOW_GROUPS) / 2 + group] = queue ?? FLOW_GROUP_NONE;
  }

  /** Sends one flow to a queue, before all tables. @returns false when all filters are in use, by other flows. */
  setFilter(tuple: Tuple, queue: number): boolean {
    if (this.isReplaced) return false;
    this.#check("queue", queue, 0, this.queues - 1);
    this.#writeTuple(tuple);
    const status = this.#exports.filterSet(this.#card, queue);
    if (status === ENOBUFS) return false;
    if (status < 0) throw statusError(status, "exact filter");
    return true;
  }

  /** @returns false when there was no such filter. */
  clearFilter(tuple: Tuple): boolean {
    if (this.isReplaced) return false;
    this.#writeTuple(tuple);
    return this.#exports.filterClear(this.#card) === 1;
  }

  /** Removes all filters that name `queue`. @returns how many. */
  clearFiltersOf(queue: number): number {
    let cleared = 0;
    for (const at of this.#filtersOf(queue)) {
      this.#bytes.copyWithin(this.#at + CARD_SCRATCH, at, at + FILTER_SIZE_BYTES);
      cleared += this.#exports.filterClear(this.#card);
    }
    return cleared;
  }

  /** Filters that name `queue`. */
  filtersTo(queue: number): number {
    return this.#filtersOf(queue).length;
  }

  /** All filters, with the queues that they name. */
  filters(): { readonly tuple: Tuple; readonly queue: number }[] {
    return this.#filterRecords().map((at) => {
      const control = (this.#words[(at + FILTER_CONTROL) >> 2] as number) >>> 0;
      return { tuple: this.#readTuple(at, control), queue: control & (FILTER_V6 - 1) };
    });
  }

  /** Addresses of the filters that name a queue. */
  #filtersOf(queue: number): number[] {
    return this.#filterRecords().filter(
      (at) => ((this.#words[(at + FILTER_CONTROL) >> 2] as number) & (FILTER_V6 - 1)) === queue,
    );
  }

  /** Addresses of all filters. */
  #filterRecords(): number[] {
    const found: number[] = [];
    if (this.isReplaced) return found;
    for (let slot = 0; slot < FILTER_SLOTS && found.length < this.filterCount; slot++) {
      const at = this.#at + CARD_FILTERS + slot * FILTER_SIZE_BYTES;
      if ((this.#words[(at + FILTER_CONTROL) >> 2] as number) >>> 0 > FILTER_DELETED) found.push(at);
    }
    return found;
  }

  /** Queue for what is no IP packet. At first 0. */
  get otherQueue(): number {
    return this.#word(CARD_OTHER_QUEUE);
  }

  setOtherQueue(queue: number): void {
    if (this.isReplaced) return;
    this.#check("queue", queue, 0, this.queues - 1);
    this.#words[(this.#at + CARD_OTHER_QUEUE) >> 2] = queue;
  }

  /** The RETA entry for a TCP packet of this tuple. */
  retaEntryOf(source: Uint8Array, sourcePort: number, destination: Uint8Array, destinationPort: number): number {
    const from = isV4Mapped(source) && isV4Mapped(destination) ? 12 : 0;
    const ports = Uint8Array.of(sourcePort >> 8, sourcePort & 0xff, destinationPort >> 8, destinationPort & 0xff);
    let byte = 0;
    let hash = 0;
    for (const part of [source.subarray(from), destination.subarray(from), ports]) {
      for (const value of part) hash ^= this.#rssTables[byte++ * 256 + value] as number;
    }
    return hash & (this.retaEntries - 1);
  }

  /** The flow group for a packet between these ports, with the range that the card has now. */
  flowGroupOf(remotePort: number, localPort: number): number {
    const [first, last] = [this.#word(CARD_LOCAL_PORT_FIRST), this.#word(CARD_LOCAL_PORT_LAST)];
    return groupOfPorts(remotePort, localPort, { first, last, groups: this.#word(CARD_FLOW_GROUP_MASK) + 1 });
  }

  #checkGroup(group: number): void {
    this.#check("flow group", group, 0, (this.flowGroups || FLOW_GROUPS) - 1);
  }

  /** The queue that the card gives a packet with this tuple now; asked of the card's own code. */
  queueFor(tuple: Tuple): number {
    const bytes = writeTupleFrame(this.#bytes, SEGMENT_SCRATCH_BASE, tuple);
    return this.#exports.queueOf(this.#card, SEGMENT_SCRATCH_BASE, bytes);
  }

  /** Port that drives a queue; set when a kernel takes its queue pair over. Used by the segment. */
  setQueuePort(queue: number, port: number): void {
    if (this.isReplaced) return;
    this.#bytes[this.#at + CARD_QUEUE_PORTS + queue] = port;
  }

  queuePort(queue: number): number {
    return this.#bytes[this.#at + CARD_QUEUE_PORTS + queue] as number;
  }

  #writeTuple(tuple: Tuple): void {
    const at = this.#at + CARD_SCRATCH;
    const v4 = isV4Mapped(tuple.source) && isV4Mapped(tuple.destination);
    const from = v4 ? 12 : 0;
    this.#bytes.fill(0, at, at + FILTER_CONTROL + 4);
    this.#bytes.set(tuple.source.subarray(from), at + FILTER_SOURCE);
    this.#bytes.set(tuple.destination.subarray(from), at + FILTER_DESTINATION);
    this.#words[(at + FILTER_PORTS) >> 2] = portsWord(tuple.sourcePort, tuple.destinationPort);
    this.#words[(at + FILTER_CONTROL) >> 2] = tuple.protocol * FILTER_PROTOCOL_UNIT + (v4 ? 0 : FILTER_V6);
  }

  #readTuple(at: number, control: number): Tuple {
    const address = (from: number) => {
      const bytes = new Uint8Array(16);
      const v6 = (control & FILTER_V6) !== 0;
      if (!v6) bytes.fill(0xff, 10, 12);
      bytes.set(this.#bytes.subarray(from, from + (v6 ? 16 : 4)), v6 ? 0 : 12);
      return bytes;
    };
    const port = (from: number) => ((this.#bytes[from] as number) << 8) | (this.#bytes[from + 1] as number);
    return {
      protocol: Math.floor(control / FILTER_PROTOCOL_UNIT) as Tuple["protocol"],
      source: address(at + FILTER_SOURCE),
      sourcePort: port(at + FILTER_PORTS),
      destination: address(at + FILTER_DESTINATION),
      destinationPort: port(at + FILTER_PORTS + 2),
    };
  }

  #word(offset: number): number {
    return (this.#words[(this.#at + offset) >> 2] as number) >>> 0;
  }

  #check(what: string, value: number, min: number, max: number): void {
    if (!(Number.isInteger(value) && value >= min && value <= max)) {
      throw new NetPopcornError("EINVAL", `${what} must be ${min}..${max}, not ${value}`);
    }
  }
}
