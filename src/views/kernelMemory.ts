import type { QueuePair } from "../device/device.ts";
import { CONFIG_MEMORY_BYTES } from "../layout/config.ts";
import * as COUNTERS from "../layout/counters.ts";
import { RING_CONTROL_SIZE_BYTES } from "../layout/frameRing.ts";
import {
  CONFIG_BASE,
  COUNTERS_BASE,
  HEALTH_BASE,
  HEALTH_BUSY_US,
  HEALTH_DOORBELL,
  HEALTH_FENCED,
  HEALTH_HEARTBEAT,
  HEALTH_SLEEPING,
  MAP_BASE,
  MAP_BOOTED,
  RX_CONTROL_BASE,
  TX_CONTROL_BASE,
} from "../layout/kernelMemory.ts";
import { FrameRing } from "./frameRing.ts";

const DOORBELL = (HEALTH_BASE + HEALTH_DOORBELL) >> 2;
const BUSY_US = (HEALTH_BASE + HEALTH_BUSY_US) >> 2;
const SLEEPING = (HEALTH_BASE + HEALTH_SLEEPING) >> 2;

/** Counter names in camel case, at the counter's index; unused indexes are empty. */
const counterNames: readonly (string | undefined)[] = (() => {
  const table: (string | undefined)[] = [];
  for (const [name, index] of Object.entries(COUNTERS)) {
    if (name === "COUNTER_COUNT") continue;
    table[index] = name.toLowerCase().replace(/_(.)/g, (_match, letter: string) => letter.toUpperCase());
  }
  return table;
})();

/**
 * Counters and gauges of a kernel, or sums of them; the names are the constants of layout/counters.ts in camel case.
 */
export type Counters = Record<string, number>;

/**
 * A kernel's linear memory seen from TypeScript (layout/kernelMemory.ts). Any thread may have one on a shared memory:
 * configuration before boot, counters and health at any time. Memories never grow, so the views stay valid.
 */
export class KernelMemory {
  readonly memory: WebAssembly.Memory;
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly words: Int32Array;
  readonly #counters: BigUint64Array;
  readonly #inThreads: boolean;

  constructor(memory: WebAssembly.Memory) {
    this.memory = memory;
    this.bytes = new Uint8Array(memory.buffer);
    this.words = new Int32Array(memory.buffer);
    this.#counters = new BigUint64Array(memory.buffer, COUNTERS_BASE, COUNTERS.COUNTER_COUNT);
    this.#inThreads = this.shared;
  }

  get shared(): boolean {
    return typeof SharedArrayBuffer !== "undefined" && this.memory.buffer instanceof SharedArrayBuffer;
  }

  /** True once boot() has returned OK. */
  get booted(): boolean {
    return Atomics.load(this.words, (MAP_BASE + MAP_BOOTED) >> 2) === 1;
  }

  /** The u32 at byte address `at`. */
  loadU32(at: number): number {
    return (this.words[at >>> 2] as number) >>> 0;
  }

  get configuredBytes(): number {
    return this.loadU32(CONFIG_BASE + CONFIG_MEMORY_BYTES);
  }

  rxRing(lane: number): FrameRing {
    return new FrameRing(this.memory, RX_CONTROL_BASE + lane * RING_CONTROL_SIZE_BYTES);
  }

  txRing(): FrameRing {
    return new FrameRing(this.memory, TX_CONTROL_BASE);
  }

  /** The rings as a device port wants them. `ring` wakes the kernel's thread. */
  queuePair(kernelId: number, rxLanes: number, ring: () => void): QueuePair {
    const rx = Array.from({ length: rxLanes }, (_, lane) => this.rxRing(lane));
    return { kernelId, memory: this.memory, rx, tx: this.txRing(), ring };
  }

  // Doorbell: see docs/kernel-threads.md for the whole protocol.

  get doorbell(): number {
    return Atomics.load(this.words, DOORBELL);
  }

  /** For whoever has given this kernel work, on any thread. */
  ringDoorbell(): void {
    Atomics.add(this.words, DOORBELL, 1);
    // Sequentially consistent with setSleeping(): either the sleeper sees the new doorbell, or we see that it sleeps.
    if (Atomics.load(this.words, SLEEPING) === 1) Atomics.notify(this.words, DOORBELL);
  }

  /** Ends all waits on the doorbell without raising it. */
  notifyDoorbell(): void {
    Atomics.notify(this.words, DOORBELL);
  }

  setSleeping(sleeping: boolean): void {
    Atomics.store(this.words, SLEEPING, sleeping ? 1 : 0);
  }

  /** The kernel's thread sleeps, and must be notified. */
  get sleeping(): boolean {
    return Atomics.load(this.words, SLEEPING) === 1;
  }

  /**
   * Sleeps until the doorbell differs from `seen` or `timeoutMs` is over. Only for shared memories.
   * @returns undefined when the doorbell has moved already.
   */
  waitDoorbell(seen: number, timeoutMs: number): Promise<unknown> | undefined {
    const wait = Atomics.waitAsync(this.words, DOORBELL, seen, timeoutMs);
    return wait.async ? wait.value : undefined;
  }

  /** For the supervisor: the kernel is given up, and must not write the device's tables any more. */
  fence(): void {
    Atomics.store(this.words, (HEALTH_BASE + HEALTH_FENCED) >> 2, 1);
  }

  get fenced(): boolean {
    return Atomics.load(this.words, (HEALTH_BASE + HEALTH_FENCED) >> 2) === 1;
  }

  /** Polls so far; stands still when the kernel hangs. */
  get heartbeat(): number {
    return Atomics.load(this.words, (HEALTH_BASE + HEALTH_HEARTBEAT) >> 2) >>> 0;
  }

  /** Time that the kernel's thread has worked for it, microseconds, u32, wraps. */
  get busyUs(): number {
    return (this.words[BUSY_US] as number) >>> 0;
  }

  /** For whoever drives the kernel. */
  addBusyUs(us: number): void {
    this.words[BUSY_US] = ((this.words[BUSY_US] as number) + us) | 0;
  }

  /** One counter, COUNTERS.*. Exact up to 2^53. */
  counter(index: number): number {
    if (this.#inThreads) return Number(this.#counters[index]);
    // In two halves, without a BigInt: balancers read many counters.
    const at = (COUNTERS_BASE >> 2) + 2 * index;
    return ((this.words[at] as number) >>> 0) + (this.words[at + 1] as number) * 2 ** 32;
  }

  counters(): Counters {
    const result: Counters = {};
    counterNames.forEach((name, index) => {
      if (name !== undefined) result[name] = Number(this.#counters[index]);
    });
    return result;
  }
}

/** Sums of all counters of several kernels. */
export function sumCounters(kernels: readonly Counters[]): Counters {
  return kernels.reduce(addCounters, {});
}

export function addCounters(some: Counters, others: Counters): Counters {
  const sums = { ...some };
  for (const [name, value] of Object.entries(others)) sums[name] = (sums[name] ?? 0) + value;
  return sums;
}
