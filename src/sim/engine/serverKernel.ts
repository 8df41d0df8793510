/** One of the server's kernels as the engine drives it: one frame, or one call of the application, at a time. */
import { NetPopcornError, statusError } from "../../errors.ts";
import { DROP_ACCEPT_QUEUE_FULL, GAUGE_ACCEPT_QUEUE, GAUGE_TIME_WAIT } from "../../layout/counters.ts";
import { EVENT_SIZE_BYTES, HANDLE_INDEX_MASK } from "../../layout/event.ts";
import { COUNTERS_BASE, MAP_BASE, MAP_EVENTS, MAP_TCB_HIGH_WATER, MAP_TCBS } from "../../layout/kernelMemory.ts";
import { OPTION_DEFER_ACCEPT_MS } from "../../layout/option.ts";
import { TCB_PORTS, TCB_REMOTE_ADDRESS, TCB_SIZE_BYTES } from "../../layout/tcb.ts";
import type { FrameRing } from "../../views/frameRing.ts";
import type { KernelMemory } from "../../views/kernelMemory.ts";
import type { KernelExports } from "../../wasm/exports.ts";
import { type BootOptions, bootKernel } from "./boot.ts";
import type { FrameQueue } from "./frameQueue.ts";

/** Application memory in each kernel: what is sent comes from here, what is received goes here. */
const AREA_BYTES = 65536;
/** Of the connections that there is room for. */
const FULL_PART = 0.75;
/** So much of each ring stays in the caches of the machine that simulates. */
export const REWIND_BYTES = 4096;
const ACCEPT_QUEUE_WORD = (COUNTERS_BASE + 8 * GAUGE_ACCEPT_QUEUE) >> 2;
const QUEUE_FULL_WORD = (COUNTERS_BASE + 8 * DROP_ACCEPT_QUEUE_FULL) >> 2;
const TIME_WAIT_WORD = (COUNTERS_BASE + 8 * GAUGE_TIME_WAIT) >> 2;
export const EVENT_WORDS = EVENT_SIZE_BYTES >> 2;

export class ServerKernel {
  readonly memory: KernelMemory;
  readonly exports: KernelExports;
  readonly tx: FrameRing;
  readonly words: Int32Array;
  /** Where the application's bytes lie. */
  readonly area: number;
  /** Connection (slot) by index of the handle, -1: none that the application has. */
  readonly slotOf: Int32Array;
  /** First word of the events of the last poll. */
  readonly eventsAt: number;
  readonly #rx: FrameRing;
  readonly #tcbs: number;
  readonly #fullAt: number;
  readonly #rewinds: boolean;
  #nowNs = Number.NEGATIVE_INFINITY;

  /** @param rewinds its TX ring never fills up, so that it does not matter where in it a frame lies. */
  constructor(options: BootOptions, connectionsMax: number, rewinds: boolean) {
    const { memory, exports } = bootKernel(options);
    this.memory = memory;
    this.exports = exports;
    this.words = memory.words;
    this.#rewinds = rewinds;
    this.#rx = memory.rxRing(0);
    this.tx = memory.txRing();
    if (!this.#rx.ready || !this.tx.ready) throw new NetPopcornError("ERR_SIM", "a kernel has no rings");
    this.area = exports.allocAppBytes(AREA_BYTES) >>> 0;
    this.slotOf = new Int32Array(connectionsMax).fill(-1);
    this.eventsAt = memory.loadU32(MAP_BASE + MAP_EVENTS) >>> 2;
    this.#tcbs = memory.loadU32(MAP_BASE + MAP_TCBS);
    this.#fullAt = connectionsMax * FULL_PART;
  }

  /** @param deferAcceptMs TCP_DEFER_ACCEPT; 0: off. @returns listener handle. */
  listen(port: number, backlog: number, addressIndex: number, deferAcceptMs: number): number {
    const listener = this.exports.tcpListen(addressIndex, port, backlog);
    if (listener < 0) throw statusError(listener, `listen ${port}`);
    this.exports.tcpListenSetOption(listener, OPTION_DEFER_ACCEPT_MS, deferAcceptMs);
    return listener;
  }

  /** Takes the queue's oldest frame in, at `nowNs`, and answers. @returns events, at `eventsAt`. */
  deliver(queue: FrameQueue, nowNs: number): number {
    this.stage(queue);
    return this.poll(nowNs, 1);
  }

  /** Puts the queue's oldest frame in without processing it. */
  stage(queue: FrameQueue): void {
    this.#rx.rewind();
    if (!queue.moveTo(this.#rx)) throw new NetPopcornError("ERR_SIM", "a frame does not fit a kernel's ring");
  }

  /**
   * What there is to be sent then lies in the ring. A kernel's time must not run backwards, though a step on another
   * core may have been ahead a little.
   */
  poll(nowNs: number, frames: number): number {
    this.#nowNs = Math.max(this.#nowNs, Math.floor(nowNs));
    return this.exports.turn(this.#nowNs, frames);
  }

  /**
   * Sends so many bytes for the application; nothing if the connection is over.
   * @throws NetPopcornError ERR_SIM: the memory for streams is full. A part would be no whole request or response.
   */
  send(handle: number, bytes: number): void {
    this.#checkSent(this.exports.tcpSend(handle, this.area, bytes), bytes);
  }

  /** The same, and puts it into the ring. */
  sendNow(handle: number, bytes: number): void {
    this.#checkSent(this.exports.tcpSendNow(handle, this.area, bytes), bytes);
  }

  #checkSent(sent: number, bytes: number): void {
    if (sent < 0 || sent === bytes) return;
    const what = `${bytes} bytes do not fit a server kernel's send buffers`;
    throw new NetPopcornError("ERR_SIM", `${what}; lower the concurrency or the sizes of messages and responses`);
  }

  /** Puts what there is to be sent into the ring. */
  flush(): void {
    this.exports.flush();
  }

  /** Gives `bytes` of frames back, which stood at the head of the TX ring. */
  taken(bytes: number): void {
    this.tx.consume(bytes);
    if (this.#rewinds && this.tx.head >= REWIND_BYTES) this.exports.txRewind();
  }

  /** Connections waiting in accept queues. */
  get acceptQueue(): number {
    return this.words[ACCEPT_QUEUE_WORD] as number;
  }

  /** SYNs and ACKs that found an accept queue full, since boot. */
  get acceptQueueDrops(): number {
    return this.words[QUEUE_FULL_WORD] as number;
  }

  /**
   * It has, or has had, so many connections at a time that its behaviour may depend on its memory soon: windows get
   * smaller, slots are taken again early.
   */
  get isFull(): boolean {
    return this.memory.loadU32(MAP_BASE + MAP_TCB_HIGH_WATER) >= this.#fullAt;
  }

  /** Connections in TIME-WAIT. */
  get timeWait(): number {
    return this.words[TIME_WAIT_WORD] as number;
  }

  /** Low byte of an accepted connection's peer address. */
  peerByte(handle: number): number {
    return this.memory.bytes[this.#tcbAt(handle) + TCB_REMOTE_ADDRESS + 15] as number;
  }

  peerPort(handle: number): number {
    const { bytes } = this.memory;
    const at = this.#tcbAt(handle) + TCB_PORTS;
    return ((bytes[at] as number) << 8) | (bytes[at + 1] as number);
  }

  #tcbAt(handle: number): number {
    return this.#tcbs + (handle & HANDLE_INDEX_MASK) * TCB_SIZE_BYTES;
  }
}
