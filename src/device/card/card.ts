import { checkOptions, type Shape } from "../../checks.ts";
import { NetPopcornError } from "../../errors.ts";
import {
  CARD_FILTER_COUNT,
  CARD_FILTERS,
  CARD_FLAG_CHECKSUM_OFFLOAD,
  CARD_FLAG_FLOW_GROUPS,
  CARD_FLAG_LARGE_RECEIVE,
  CARD_FLAG_RSS_UDP_PORTS,
  CARD_FLAG_SEGMENTATION,
  CARD_FLAGS,
  CARD_FLOW_GROUP_MASK,
  CARD_FLOW_GROUPS,
  CARD_GENERATION,
  CARD_LOCAL_PORT_FIRST,
  CARD_LOCAL_PORT_LAST,
  CARD_OTHER_QUEUE,
  CARD_QUEUE_PORTS,
  CARD_QUEUES,
  CARD_QUEUES_MAX,
  CARD_RETA_MASK,
  CARD_SIZE_BYTES,
  CARDS_BASE,
  FILTERS_MAX,
  FLOW_GROUP_NONE,
  FLOW_GROUPS,
  PORT_NONE,
  RETA_ENTRIES_MAX,
} from "../../layout/card.ts";
import { type PortRange, TOEPLITZ_KEY_DEFAULT } from "../../rss/toeplitz.ts";
import type {
  Device,
  DeviceCapabilities,
  DevicePort,
  PlacedFilter,
  Placement,
  PortDescription,
  QueuePair,
} from "../device.ts";
import { LOCAL_PORTS_DEFAULT } from "../flowGroups.ts";
import type { ReplyTuple } from "../replySteering.ts";
import { completeImpairments, type ImpairmentCounts, type Impairments } from "./impairment.ts";
import { type CardExports, CardRegisters, PROTOCOL_TCP } from "./registers.ts";
import { CardTables, type CardTablesDescriptor } from "./tables.ts";

export type CardPreset = "82599" | "generic";

/** What a model card can do. Out of range: ERR_OPTION_RANGE. */
export type CardOptions = {
  /** Limits and defaults of a kind of card. Default "generic". */
  readonly preset?: CardPreset;
  /** Queue pairs, 1..64 (82599) or 1..128. Default 1. */
  readonly queues?: number;
  /** Ethernet address, 6 bytes. Default: a locally administered one made from seed and number of the card. */
  readonly mac?: Uint8Array;
  /** Entries of the indirection table, a power of two up to the preset's number, which is the default. */
  readonly retaEntries?: number;
  /** Queues that the indirection table can name. Default and maximum: 16 (82599) or 128. */
  readonly queuesRssMax?: number;
  /** 40 or 52 bytes. Default: the key of the RSS verification suite. */
  readonly rssKey?: Uint8Array | readonly number[];
  /** Hash UDP with its ports. Default: false on the 82599, whose fragments would leave their flow, else true. */
  readonly rssUdpPorts?: boolean;
  /** Flow groups, at first all left to the hash: a power of two up to 4096 (true, the default), or false: none. */
  readonly flowGroups?: boolean | number;
  /** Own ports that have a part in the flow group. Not on the 82599. Default: 32768..60999, those of connect(). */
  readonly localPorts?: PortRange;
  /** IP packet size, 576..65535. Default 1500. */
  readonly mtuBytes?: number;
  /** Kernels may leave TCP/UDP checksums to the card. Default false. */
  readonly checksumOffload?: boolean;
  /** Largest TCP payload that the card cuts into segments, up to 65,483; 0: none. Needs checksumOffload. Default 0. */
  readonly tsoBytesMax?: number;
  /** The card hands large frames of a peer on uncut. Default: when tsoBytesMax is not 0. */
  readonly largeReceive?: boolean;
};

/** Fates of frames sent by a card, other than delivery. */
export type CardStatistics = ImpairmentCounts & {
  /** For a queue that no kernel drives. */
  noKernel: number;
  /** For a kernel that takes none: with `overflow: "drop"`, or that has taken nothing for `pauseMsMax`. */
  noRoom: number;
  /** For the card itself: a switch sends nothing back. */
  ownAddress: number;
  /** Large frames whose segmentation request makes no sense. */
  badSegmentation: number;
  /** Runs of bytes in a TX ring that were no records. */
  brokenRuns: number;
};

const OPTIONS: Shape<CardOptions> = {
  preset: "any",
  queues: "any",
  mac: "bytes",
  retaEntries: "any",
  queuesRssMax: "any",
  rssKey: "octets",
  rssUdpPorts: "boolean",
  flowGroups: "any",
  localPorts: "object",
  mtuBytes: "any",
  checksumOffload: "boolean",
  tsoBytesMax: "any",
  largeReceive: "boolean",
};

type Limits = {
  readonly queuesMax: number;
  readonly queuesRssMax: number;
  readonly retaEntries: number;
  readonly rssUdpPorts: boolean;
  readonly localPorts?: PortRange;
};

/** 82599: datasheet 331520, 7.1.2.8 (RSS: 128 entries, 16 queues) and 7.1.2.7 (flow director). */
const PRESETS: Readonly<Record<CardPreset, Limits>> = {
  "82599": { queuesMax: 64, queuesRssMax: 16, retaEntries: 128, rssUdpPorts: false },
  generic: {
    queuesMax: CARD_QUEUES_MAX,
    queuesRssMax: CARD_QUEUES_MAX,
    retaEntries: RETA_ENTRIES_MAX,
    rssUdpPorts: true,
    localPorts: LOCAL_PORTS_DEFAULT,
  },
};

const TSO_BYTES_MAX = 65483;

function checkRange(name: string, value: number, min: number, max: number): number {
  if (!(Number.isInteger(value) && value >= min && value <= max)) {
    throw new NetPopcornError("ERR_OPTION_RANGE", `card option ${name} is ${value}; it must be ${min}..${max}`);
  }
  return value;
}

function checkLocalPorts({ localPorts }: CardOptions, limits: Limits): PortRange | undefined {
  if (localPorts === undefined) return limits.localPorts;
  if (!limits.localPorts) {
    throw new NetPopcornError("EOPNOTSUPP", "this kind of card groups by the remote port only; leave localPorts out");
  }
  checkRange("localPorts.first", localPorts.first, 1, 65535);
  checkRange("localPorts.last", localPorts.last, localPorts.first, 65535);
  return { first: localPorts.first, last: localPorts.last };
}

/** What a card needs of its segment (segment.ts). */
export interface CardSegment {
  readonly seed: number;
  readonly memory: WebAssembly.Memory;
  readonly exports: CardExports;
  readonly module: WebAssembly.Module;
  openPort(card: Card, queue: number, pair: QueuePair): DevicePort;
  describePort(card: Card, queue: number, memory: WebAssembly.Memory): PortDescription;
  releaseQueue(card: number, queue: number): void;
  impairPorts(card: number, settings: Required<Impairments>): void;
  /** Frames that a port has got. */
  deliveredTo(port: number): number;
  statisticsOf(card: number): CardStatistics;
}

/** Where a card is, and what is told to it there. */
export type CardPlace = {
  readonly segment: CardSegment;
  readonly index: number;
  /** Cards that have had this place before. */
  readonly generation: number;
  readonly settings: Required<Impairments>;
  /** Ports of the segment that send to it. */
  readonly rxLanes: number;
};

/** A model multi-queue card on an in-memory segment. Created by Segment.createCard(). */
export class Card implements Device {
  readonly index: number;
  readonly mac: Uint8Array;
  readonly rxLanes: number;
  readonly capabilities: DeviceCapabilities;
  readonly registers: CardRegisters;
  readonly placement: Placement;
  readonly #segment: CardSegment;
  readonly #tables: CardTables;
  #settings: Required<Impairments>;
  #isClosed = false;
  /** Frames that each queue got through ports that are gone, less what its present port had got before it came. */
  readonly #frames: number[];

  constructor({ segment, index, generation, settings, rxLanes }: CardPlace, options: CardOptions) {
    checkOptions("createCard", options, OPTIONS);
    const limits = PRESETS[options.preset ?? "generic"];
    if (!limits) {
      throw new NetPopcornError(
        "ERR_OPTION_RANGE",
        `card preset "${options.preset}" is none of ${Object.keys(PRESETS)}`,
      );
    }
    this.#segment = segment;
    this.#settings = settings;
    this.index = index;
    this.rxLanes = rxLanes;
    this.mac = options.mac?.slice() ?? defaultMac(segment.seed, index);
    if (this.mac.length !== 6 || (this.mac[0] as number) & 1) {
      throw new NetPopcornError("ERR_OPTION_RANGE", "card option mac must be the six bytes of a unicast address");
    }
    const queues = checkRange("queues", options.queues ?? 1, 1, limits.queuesMax);
    const retaEntries = checkRange("retaEntries", options.retaEntries ?? limits.retaEntries, 1, limits.retaEntries);
    if (retaEntries & (retaEntries - 1)) {
      throw new NetPopcornError(
        "ERR_OPTION_RANGE",
        `card option retaEntries is ${retaEntries}; it must be a power of two`,
      );
    }
    const { flowGroups: groupsWanted = true } = options;
    const flowGroups = typeof groupsWanted === "number" ? groupsWanted : groupsWanted ? FLOW_GROUPS : 0;
    checkRange("flowGroups", flowGroups, 0, FLOW_GROUPS);
    if (flowGroups & (flowGroups - 1)) {
      throw new NetPopcornError(
        "ERR_OPTION_RANGE",
        `card option flowGroups is ${flowGroups}; it must be a power of two`,
      );
    }
    const localPorts = checkLocalPorts(options, limits);
    this.#frames = new Array(queues).fill(0);
    this.capabilities = {
      queues,
      mtuBytes: checkRange("mtuBytes", options.mtuBytes ?? 1500, 576, 65535),
      checksumOffload: options.checksumOffload ?? false,
      receiveCoalescing: options.largeReceive ?? (options.tsoBytesMax ?? 0) > 0,
      tsoBytesMax: checkRange("tsoBytesMax", options.tsoBytesMax ?? 0, 0, TSO_BYTES_MAX),
      steering: queues === 1 ? "none" : "card",
      retaEntries,
      flowGroups,
      ...(localPorts && { localPorts }),
      exactFilters: FILTERS_MAX,
    };
    if (this.capabilities.tsoBytesMax > 0 && !this.capabilities.checksumOffload) {
      throw new NetPopcornError("ERR_OPTION_RANGE", "card option tsoBytesMax needs checksumOffload: true");
    }
    this.#writeRegisters(options, limits, generation);
    this.registers = new CardRegisters(segment.memory, segment.exports, index);
    this.#tables = new CardTables(this.registers);
    this.placement = this.#tables.placement;
    this.registers.setRssKey(options.rssKey ?? TOEPLITZ_KEY_DEFAULT);
    const rssQueues = checkRange("queuesRssMax", options.queuesRssMax ?? limits.queuesRssMax, 1, limits.queuesRssMax);
    for (let entry = 0; entry < retaEntries; entry++) {
      this.registers.setRetaEntry(entry, entry % Math.min(queues, rssQueues));
    }
  }

  /** Another card may have its place on the segment, and its address. */
  get isClosed(): boolean {
    return this.#isClosed;
  }

  get settings(): Required<Impairments> {
    return this.#settings;
  }

  /** Conditions of this card's links: what happens to frames that it sends. Each of its ports has a link of its own. */
  impair(impairments: Impairments): void {
    this.#settings = completeImpairments(impairments);
    this.#segment.impairPorts(this.index, this.#settings);
  }

  openPort(queue: number, pair: QueuePair): DevicePort {
    this.#checkPort(queue);
    return this.#segment.openPort(this, queue, pair);
  }

  describePort(queue: number, memory: WebAssembly.Memory): PortDescription {
    this.#checkPort(queue);
    return this.#segment.describePort(this, queue, memory);
  }

  /** Takes a queue pair away from its kernel, for instance a dead one. */
  releaseQueue(queue: number): void {
    if (this.registers.isReplaced) return;
    this.#segment.releaseQueue(this.index, queue);
  }

  queueFor(source: Uint8Array, sourcePort: number, destination: Uint8Array, destinationPort: number): number {
    return this.registers.queueFor({ protocol: PROTOCOL_TCP, source, sourcePort, destination, destinationPort });
  }

  flowGroupQueue(group: number): number | undefined {
    return this.registers.flowGroup(group);
  }

  moveFlowGroup(group: number, queue: number | undefined): void {
    this.registers.setFlowGroup(group, queue);
  }

  setFilter(flow: ReplyTuple, queue: number): boolean {
    return this.#tables.setFilter(flow, queue);
  }

  clearFilter(flow: ReplyTuple): void {
    this.#tables.clearFilter(flow);
  }

  filters(): PlacedFilter[] {
    return this.#tables.filters();
  }

  rssKey(): Uint8Array {
    return this.#tables.rssKey();
  }

  setRssKey(key: Uint8Array): void {
    this.#tables.setRssKey(key);
  }

  describeTables(): CardTablesDescriptor {
    const { memory, module } = this.#segment;
    return { kind: "card", module, memory, card: this.index, generation: this.registers.generation };
  }

  queueFrames(): number[] {
    const { isReplaced } = this.registers;
    return this.#frames.map((frames, queue) => {
      const port = isReplaced ? PORT_NONE : this.registers.queuePort(queue);
      return port === PORT_NONE ? frames : frames + this.#segment.deliveredTo(port);
    });
  }

  /** What has happened to frames that this card's present ports have sent. */
  statistics(): CardStatistics {
    return this.#segment.statisticsOf(this.index);
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    for (let queue = 0; queue < this.capabilities.queues; queue++) this.releaseQueue(queue);
  }

  // What follows is for Segment.

  attached(queue: number, port: number): void {
    this.#frames[queue] = (this.#frames[queue] as number) - this.#segment.deliveredTo(port);
    this.registers.setQueuePort(queue, port);
  }

  detached(queue: number, port: number): void {
    this.#frames[queue] = (this.#frames[queue] as number) + this.#segment.deliveredTo(port);
    this.registers.setQueuePort(queue, PORT_NONE);
  }

  #checkPort(queue: number): void {
    if (this.#isClosed) throw new NetPopcornError("EBADF", "the card is closed; create another");
    checkRange("queue", queue, 0, this.capabilities.queues - 1);
  }

  #writeRegisters(options: CardOptions, limits: Limits, generation: number): void {
    const at = CARDS_BASE + this.index * CARD_SIZE_BYTES;
    const words = new Int32Array(this.#segment.memory.buffer);
    words[(at + CARD_GENERATION) >> 2] = generation;
    // What another card has left: no queue of its had a port any more, so nothing was steered by it.
    words.fill(0, (at + CARD_FILTERS) >> 2, (at + CARD_SIZE_BYTES) >> 2);
    words[(at + CARD_FILTER_COUNT) >> 2] = 0;
    words[(at + CARD_OTHER_QUEUE) >> 2] = 0;
    const { checksumOffload, flowGroups, localPorts, queues, receiveCoalescing, retaEntries, tsoBytesMax } =
      this.capabilities;
    words[(at + CARD_FLAGS) >> 2] =
      (flowGroups > 0 ? CARD_FLAG_FLOW_GROUPS : 0) |
      ((options.rssUdpPorts ?? limits.rssUdpPorts) ? CARD_FLAG_RSS_UDP_PORTS : 0) |
      (checksumOffload ? CARD_FLAG_CHECKSUM_OFFLOAD : 0) |
      (receiveCoalescing ? CARD_FLAG_LARGE_RECEIVE : 0) |
      (tsoBytesMax > 0 ? CARD_FLAG_SEGMENTATION : 0);
    words[(at + CARD_QUEUES) >> 2] = queues;
    words[(at + CARD_RETA_MASK) >> 2] = retaEntries - 1;
    words[(at + CARD_FLOW_GROUP_MASK) >> 2] = Math.max(flowGroups, 1) - 1;
    // First > last: no local ports.
    words[(at + CARD_LOCAL_PORT_FIRST) >> 2] = localPorts?.first ?? 1;
    words[(at + CARD_LOCAL_PORT_LAST) >> 2] = localPorts?.last ?? 0;
    const groupsAt = (at + CARD_FLOW_GROUPS) / 2;
    new Uint16Array(this.#segment.memory.buffer).fill(FLOW_GROUP_NONE, groupsAt, groupsAt + FLOW_GROUPS);
    const portsAt = at + CARD_QUEUE_PORTS;
    new Uint8Array(this.#segment.memory.buffer).fill(PORT_NONE, portsAt, portsAt + CARD_QUEUES_MAX);
  }
}

/** Locally administered and unicast (IEEE 802: the second bit set, the first clear). */
function defaultMac(seed: number, index: number): Uint8Array {
  return Uint8Array.of(0x02, 0x4e, 0x50, seed & 0xff, (seed >> 8) & 0xff, index);
}
