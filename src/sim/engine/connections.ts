/**
 * What the engine knows of each connection, by *slot*: the index of the client's TCB for connections from clients, and
 * numbers above those for connections that the server opens. Arrays, not objects: there may be millions.
 */
export class Connections {
  readonly clientSlots: number;
  readonly slots: number;
  // Server side.
  /** Kernel that has it, and its handle there; -1: none. */
  readonly kernel: Int16Array;
  readonly handle: Int32Array;
  /** Process that serves it, -1: none yet. */
  readonly process: Int32Array;
  /** Core that has written last what opening and closing write, and what data write; -1: none. */
  readonly lastCore: Int16Array;
  readonly lastDataCore: Int16Array;
  /** RSS hash and flow group of its packets. */
  readonly hash: Int32Array;
  readonly group: Uint16Array;
  /** Listener that its SYN goes to. */
  readonly listener: Int32Array;
  /** The server has seen its SYN and not yet the ACK that completes the handshake. */
  readonly halfOpen: Uint8Array;
  /** Bytes of the present request (or of a back end's response) that have arrived. */
  readonly serverBytes: Int32Array;
  readonly requestsServed: Int32Array;
  /** Exact filter of the card, -1: none. */
  readonly filter: Int16Array;
  /** Core that opened it, for connections of the server's own. */
  readonly home: Int16Array;
  /** Proxy: the connection on the other side, -1: none. */
  readonly peer: Int32Array;
  /** The peer has closed or reset it. */
  readonly ended: Uint8Array;
  /** In its process's list of readable connections. */
  readonly queued: Uint8Array;
  // Client side.
  /** When its SYN was sent; negative: the slot is not in use. */
  readonly startedNs: Float64Array;
  readonly requestNs: Float64Array;
  readonly clientBytes: Int32Array;
  readonly requestsLeft: Int32Array;
  readonly finished: Uint8Array;
  /** Client's address (last byte) and port: whose life the slot has now. */
  readonly tuple: Int32Array;
  readonly #freeActive: number[] = [];
  #nextActive: number;

  /** @param activeSlots connections that the server has open at a time. */
  constructor(clientSlots: number, activeSlots: number) {
    const slots = clientSlots + activeSlots;
    this.clientSlots = clientSlots;
    this.slots = slots;
    this.#nextActive = clientSlots;
    this.kernel = new Int16Array(slots).fill(-1);
    this.handle = new Int32Array(slots).fill(-1);
    this.process = new Int32Array(slots).fill(-1);
    this.lastCore = new Int16Array(slots).fill(-1);
    this.lastDataCore = new Int16Array(slots).fill(-1);
    this.hash = new Int32Array(slots);
    this.group = new Uint16Array(slots);
    this.listener = new Int32Array(slots);
    this.halfOpen = new Uint8Array(slots);
    this.serverBytes = new Int32Array(slots);
    this.requestsServed = new Int32Array(slots);
    this.filter = new Int16Array(slots).fill(-1);
    this.home = new Int16Array(slots);
    this.peer = new Int32Array(slots).fill(-1);
    this.ended = new Uint8Array(slots);
    this.queued = new Uint8Array(slots);
    this.startedNs = new Float64Array(clientSlots).fill(-1);
    this.requestNs = new Float64Array(clientSlots);
    this.clientBytes = new Int32Array(clientSlots);
    this.requestsLeft = new Int32Array(clientSlots);
    this.finished = new Uint8Array(clientSlots);
    this.tuple = new Int32Array(clientSlots);
  }

  /** A new life for a slot, server side. */
  begin(slot: number): void {
    this.kernel[slot] = -1;
    this.handle[slot] = -1;
    this.process[slot] = -1;
    this.lastCore[slot] = -1;
    this.lastDataCore[slot] = -1;
    this.halfOpen[slot] = 0;
    this.serverBytes[slot] = 0;
    this.requestsServed[slot] = 0;
    this.filter[slot] = -1;
    this.peer[slot] = -1;
    this.ended[slot] = 0;
    this.queued[slot] = 0;
  }

  /** A slot for a connection that the server opens; -1: none is left. */
  takeActive(): number {
    const slot = this.#freeActive.pop() ?? (this.#nextActive < this.slots ? this.#nextActive++ : -1);
    if (slot >= 0) this.begin(slot);
    return slot;
  }

  giveActive(slot: number): void {
    this.#freeActive.push(slot);
  }
}
