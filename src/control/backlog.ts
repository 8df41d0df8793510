/**
 * What lay before some kernels, in the device and in their RX lanes, when something was changed: others may only go on
 * when the kernels have got past it.
 *
 * ```
 *  note() ──▶ unwritten ──the owner has written──▶ noted ──lanes read up to there, turns taken──▶ past
 * ```
 * Until the owner has written the device's tables, frames are steered the old way: what lies before the kernels counts
 * from the first look after that.
 */
import type { Device } from "../device/device.ts";
import type { FrameRing } from "../views/frameRing.ts";
import type { KernelMemory } from "../views/kernelMemory.ts";

/** Frames of a queue that the host keeps are brought by turns: so many empty it. */
const TURNS = 20;
/** A sleeper has nothing before it; but it may be about to be woken, and on a busy machine that takes its time. */
const SLEEPER_MS = 100;

export type BacklogOptions = {
  readonly device: Device;
  /** Memory of the kernel that drives a queue now; undefined: none does. */
  readonly memoryOf: (queue: number) => KernelMemory | undefined;
};

type Noted = {
  readonly memory: KernelMemory;
  readonly heartbeat: number;
  /** Those of which something has still to be read. */
  rings: { readonly ring: FrameRing; readonly tail: number }[];
};

export class Backlog {
  readonly #options: BacklogOptions;
  #queues: readonly number[] = [];
  #noted: Noted[] = [];
  #sinceMs = 0;
  /** Writes of the device's tables that had been made when it was noted. */
  #writes = 0;
  #isUnwritten = false;

  constructor(options: BacklogOptions) {
    this.#options = options;
  }

  /** Something has been changed for these queues, just now. */
  note(queues: Iterable<number>, nowMs: number): void {
    this.#queues = [...new Set(queues)];
    this.#writes = this.#options.device.writes ?? 0;
    this.#look(nowMs);
  }

  /** The kernels have got past it. */
  isPast(nowMs: number): boolean {
    if (this.#isUnwritten) {
      this.#look(nowMs);
      return false;
    }
    this.#noted = this.#noted.filter((noted) => !this.#isThrough(noted, nowMs));
    return this.#noted.length === 0;
  }

  /** How long the kernels have had to get past it, ms. */
  waitedMs(nowMs: number): number {
    return this.#isUnwritten ? 0 : nowMs - this.#sinceMs;
  }

  #look(nowMs: number): void {
    const { device, memoryOf } = this.#options;
    this.#isUnwritten = device.hasWritten?.(this.#writes) === false;
    this.#sinceMs = nowMs;
    this.#noted = this.#queues.flatMap((queue) => {
      const memory = memoryOf(queue);
      if (!memory) return [];
      const lanes = Array.from({ length: device.rxLanes }, (_, lane) => memory.rxRing(lane));
      return [{ memory, heartbeat: memory.heartbeat, rings: lanes.map((ring) => ({ ring, tail: ring.tail })) }];
    });
  }

  #isThrough(noted: Noted, nowMs: number): boolean {
    const { memory, heartbeat } = noted;
    // Counters run freely, modulo 2^32.
    noted.rings = noted.rings.filter(({ ring, tail }) => ((ring.head - tail) | 0) < 0);
    if (noted.rings.length > 0) return false;
    if (this.#options.device.capabilities.steering !== "ebpf") return true;
    if ((memory.heartbeat - heartbeat) >>> 0 >= TURNS) return true;
    return memory.sleeping && nowMs >= this.#sinceMs + SLEEPER_MS;
  }
}
