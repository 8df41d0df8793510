/**
 * What the engine knows of each connection, by *slot*: the index of the client's TCB for connections from clients, and
 * numbers above those for connections that the server opens. There may be millions, and no two packets in a row are of
 * the same one: a record of two cache lines each, one for the server's side and one for the clients'.
 */
import { createMemory } from "../../wasm/load.ts";
import { SlotList } from "./process.ts";

const PAGE_BYTES = 65536;
const LINE_WORDS = 16;
/** Words of a record. */
const RECORD_WORDS = 2 * LINE_WORDS;

/**
 * Slots of connections to back ends rest before they have another life: the last acknowledgement of the old one is
 * still on its way, and the card steers it by what the slot says.
 */
const RESTING_SLOTS = 4096;

/** One word of all records. */
export class Column {
  readonly #words: Int32Array;
  readonly #at: number;

  constructor(words: Int32Array, at: number) {
    this.#words = words;
    this.#at = at;
  }

  get(slot: number): number {
    return this.#words[slot * RECORD_WORDS + this.#at] as number;
  }

  set(slot: number, value: number): void {
    this.#words[slot * RECORD_WORDS + this.#at] = value;
  }
}

/** Two words of all records: an instant, ns. */
class TimeColumn {
  readonly #times: Float64Array;
  readonly #at: number;

  /** @param at its first word, even. */
  constructor(words: Int32Array, at: number) {
    this.#times = new Float64Array(words.buffer);
    this.#at = at >> 1;
  }

  get(slot: number): number {
    return this.#times[slot * (RECORD_WORDS / 2) + this.#at] as number;
  }

  set(slot: number, timeNs: number): void {
    this.#times[slot * (RECORD_WORDS / 2) + this.#at] = timeNs;
  }
}

export class Connections {
  readonly clientSlots: number;
  readonly slots: number;
  // Server side. What a slot holds before begin() or takeActive() says nothing.
  /** Kernel that has it, and its handle there; -1: none. */
  readonly kernel: Column;
  readonly handle: Column;
  /** Process that serves it, -1: none yet. */
  readonly process: Column;
  /** Core that has written last what opening and closing write, and what data write; -1: none. */
  readonly lastCore: Column;
  readonly lastDataCore: Column;
  /** Listener that its SYN goes to. */
  readonly listener: Column;
  /** The server has seen its SYN and not yet the ACK that completes the handshake. */
  readonly halfOpen: Column;
  /** Bytes of the present request (or of a back end's response) that have arrived. */
  readonly serverBytes: Column;
  readonly requestsServed: Column;
  /** Proxy: the connection on the other side, -1: none. */
  readonly peer: Column;
  /** The peer has closed or reset it. */
  readonly ended: Column;
  /** In its process's list of readable connections. */
  readonly queued: Column;
  // Client side, and what the card looks at.
  /** When its SYN was sent; not positive: the slot is not in use. */
  readonly startedNs: TimeColumn;
  readonly requestNs: TimeColumn;
  readonly clientBytes: Column;
  readonly requestsLeft: Column;
  readonly finished: Column;
  /** Client's address (last byte) and port: whose life the slot has now. */
  readonly tuple: Column;
  /** RSS hash and flow group of its packets. */
  readonly hash: Column;
  readonly group: Column;
  /** Exact filter of the card, -1: none. */
  readonly filter: Column;
  /** Core that opened it, for connections of the server's own. */
  readonly home: Column;
  /** In the order of their ends. */
  readonly #freeActive = new SlotList();
  #nextActive: number;

  /** @param activeSlots connections that the server has open at a time. */
  constructor(clientSlots: number, activeSlots: number) {
    this.clientSlots = clientSlots;
    this.slots = clientSlots + activeSlots;
    this.#nextActive = clientSlots;
    // A memory and not an array: it begins with a page, and so each record with a line.
    const bytes = Math.ceil((this.slots * RECORD_WORDS * 4) / PAGE_BYTES) * PAGE_BYTES;
    const words = new Int32Array(createMemory(bytes, false).buffer);
    const server = (word: number): Column => new Column(words, word);
    this.kernel = server(0);
    this.handle = server(1);
    this.process = server(2);
    this.lastCore = server(3);
    this.lastDataCore = server(4);
    this.listener = server(5);
    this.halfOpen = server(6);
    this.serverBytes = server(7);
    this.requestsServed = server(8);
    this.peer = server(9);
    this.ended = server(10);
    this.queued = server(11);
    const client = (word: number): Column => new Column(words, LINE_WORDS + word);
    this.startedNs = new TimeColumn(words, LINE_WORDS);
    this.requestNs = new TimeColumn(words, LINE_WORDS + 2);
    this.clientBytes = client(4);
    this.requestsLeft = client(5);
    this.finished = client(6);
    this.tuple = client(7);
    this.hash = client(8);
    this.group = client(9);
    this.filter = client(10);
    this.home = client(11);
  }

  /** A new life for a slot, server side. */
  begin(slot: number): void {
    this.kernel.set(slot, -1);
    this.handle.set(slot, -1);
    this.process.set(slot, -1);
    this.lastCore.set(slot, -1);
    this.lastDataCore.set(slot, -1);
    this.halfOpen.set(slot, 0);
    this.serverBytes.set(slot, 0);
    this.requestsServed.set(slot, 0);
    this.filter.set(slot, -1);
    this.peer.set(slot, -1);
    this.ended.set(slot, 0);
    this.queued.set(slot, 0);
  }

  /** A slot for a connection that the server opens; -1: none is left. */
  takeActive(): number {
    const fresh = this.#nextActive < this.slots;
    if (fresh && this.#freeActive.count < RESTING_SLOTS) {
      this.begin(this.#nextActive);
      return this.#nextActive++;
    }
    const slot = this.#freeActive.shift();
    if (slot >= 0) this.begin(slot);
    return slot;
  }

  giveActive(slot: number): void {
    this.#freeActive.push(slot);
  }
}
