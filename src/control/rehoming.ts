/**
 * Keeps every packet on its way to a kernel that lives. When a kernel goes, the entries of the device's tables that
 * name its queue are given to the others; when it is back, they are given back, one by one, as soon as no connection
 * that was opened meanwhile needs them. State of no kernel is touched: only the device's tables change.
 *
 * ```
 *            retire(queue)                       restore(queue)
 *  at home ───────────────▶ displaced, home down ─────────────▶ displaced, home up
 *     ▲                                                               │ no connection of it at the stand-in
 *     │ still none after SETTLE_MS                                    ▼
 *     └───────────────────────────────────────────────────────── settling ──▶ displaced again, if there is one
 * ```
 * A SYN may be on its way to the stand-in at the moment of the change. Therefore the kernel that takes entries back
 * answers unknown segments with silence, not RST, until the stand-in has been looked at once more.
 */
import type { Device, Placement } from "../device/device.ts";
import { HEALTH_BASE, HEALTH_WITHHOLD_RST } from "../layout/kernelMemory.ts";
import { forEachConnection } from "../views/connections.ts";
import type { FrameRing } from "../views/frameRing.ts";
import type { KernelMemory } from "../views/kernelMemory.ts";

/** How long frames that were steered the old way may take to become connections. */
const SETTLE_MS = 10;
/** How often that is waited for when the stand-in's thread does not come to its turn. */
const SETTLE_ROUNDS_MAX = 50;
/** How often entries that could not be given back are looked at again. */
const RETRY_MS = 200;

export type RehomingOptions = {
  readonly device: Device;
  /** Queues of the device, one kernel each. */
  readonly queues: number;
  /** Memory of the kernel that drives a queue now; undefined: none does. */
  readonly memoryOf: (queue: number) => KernelMemory | undefined;
  /** Own addresses, 16 bytes each, in the order of the kernels' configuration. */
  readonly addresses: readonly Uint8Array[];
};

type Displaced = { readonly home: number; readonly standIn: number };
type Settling = { readonly entry: number; readonly home: number; readonly standIn: number };

export class Rehoming {
  readonly #options: RehomingOptions;
  readonly #placement: Placement | undefined;
  readonly #down = new Set<number>();
  readonly #displaced = new Map<number, Displaced>();
  /** Down queue -> the queue whose port takes in what still comes there. */
  readonly #loans = new Map<number, number>();
  #settling: Settling[] = [];
  #settledAtMs = Number.POSITIVE_INFINITY;
  #settleRounds = 0;
  /** What stood in the stand-ins' RX lanes when their entries went home: they must have got past it. */
  #backlog: { readonly ring: FrameRing; readonly tail: number }[] = [];
  #retryAtMs = Number.POSITIVE_INFINITY;

  constructor(options: RehomingOptions) {
    this.#options = options;
    this.#placement = options.device.placement;
  }

  /** False for a queue that nothing is sent to. */
  isUp(queue: number): boolean {
    return !this.#down.has(queue);
  }

  /** Entries that are not where they belong. */
  get displacedEntries(): number {
    return this.#displaced.size;
  }

  /** When step() has something to do, ms; Infinity: never. */
  get deadlineMs(): number {
    return this.#settling.length > 0 ? this.#settledAtMs : this.#retryAtMs;
  }

  /**
   * From now on nothing is steered to `queue`, if there is another: its kernel is gone, with all its connections.
   * @returns entries moved.
   */
  retire(queue: number, nowMs: number): number {
    this.#down.add(queue);
    if (this.#down.size < this.#options.queues) this.#retryAtMs = Math.min(this.#retryAtMs, nowMs + RETRY_MS);
    this.#placement?.dropFilters?.(queue);
    this.#settling = this.#settling.filter(({ home }) => home !== queue);
    return this.#spread();
  }

  /** The kernel of `queue` is there: it gets back what was its own, as that becomes free. */
  restore(queue: number, nowMs: number): void {
    this.#down.delete(queue);
    this.#lend();
    // After a time without any kernel others' entries may still name a queue that is down.
    this.#spread();
    // One batch after the other.
    if (this.#settling.length > 0) this.#retryAtMs = nowMs;
    else this.#giveBack(nowMs);
  }

  /**
   * Moves what stands on a queue that is down, whoever has put it there. @returns entries moved.
   */
  #spread(): number {
    const standIns = this.#queuesUp();
    if (standIns.length === 0) return 0;
    let moved = 0;
    const placement = this.#placement;
    for (let entry = 0; placement && entry < placement.entries; entry++) {
      const queue = placement.queueOf(entry);
      if (queue === undefined || !this.#down.has(queue)) continue;
      const standIn = standIns[moved % standIns.length] as number;
      this.#displaced.set(entry, { home: this.#displaced.get(entry)?.home ?? queue, standIn });
      placement.place(entry, standIn);
      moved++;
    }
    this.#lend();
    return moved;
  }

  #lend(): void {
    const { device } = this.#options;
    if (!device.lendQueue) return;
    const standIns = this.#queuesUp();
    for (let queue = 0; queue < this.#options.queues; queue++) {
      const to = this.#down.has(queue) ? standIns[queue % standIns.length] : undefined;
      if (this.#loans.get(queue) === to) continue;
      if (to === undefined) this.#loans.delete(queue);
      else this.#loans.set(queue, to);
      device.lendQueue(queue, to);
    }
  }

  #queuesUp(): number[] {
    return Array.from({ length: this.#options.queues }, (_, queue) => queue).filter((queue) => !this.#down.has(queue));
  }

  /** Does what is due. */
  step(nowMs: number): void {
    if (nowMs >= this.#settledAtMs) {
      if (this.#isBacklogged() && ++this.#settleRounds < SETTLE_ROUNDS_MAX) this.#settledAtMs = nowMs + SETTLE_MS;
      else this.#settle();
    }
    // One batch after the other.
    if (nowMs >= this.#retryAtMs && this.#settling.length === 0) {
      // The balancer may have moved something to a queue that is down.
      if (this.#down.size > 0) this.#spread();
      this.#giveBack(nowMs);
    }
  }

  #giveBack(nowMs: number): void {
    const placement = this.#placement;
    const occupied = this.#occupied((entry) => this.#displaced.has(entry));
    for (const [entry, { home, standIn }] of this.#displaced) {
      if (placement?.queueOf(entry) !== standIn) {
        // Somebody else has moved it since: it is at home there.
        this.#displaced.delete(entry);
        continue;
      }
      if (this.#down.has(home) || occupied.has(this.#key(entry, standIn))) continue;
      if (this.#settling.length === 0) this.#settledAtMs = nowMs + SETTLE_MS;
      this.#withholdReset(home, true);
      placement.place(entry, home);
      this.#displaced.delete(entry);
      this.#settling.push({ entry, home, standIn });
    }
    this.#noteBacklog();
    const waiting = this.#displaced.size > 0 || this.#down.size > 0;
    this.#retryAtMs = waiting && this.#down.size < this.#options.queues ? nowMs + RETRY_MS : Number.POSITIVE_INFINITY;
  }

  /** Looks for connections that were being opened at a stand-in when their entry went home. */
  #settle(): void {
    const placement = this.#placement;
    const entries = new Set(this.#settling.map(({ entry }) => entry));
    const occupied = this.#occupied((entry) => entries.has(entry));
    for (const { entry, home, standIn } of this.#settling) {
      if (placement?.queueOf(entry) !== home || this.#down.has(standIn)) continue;
      if (!occupied.has(this.#key(entry, standIn)) || occupied.has(this.#key(entry, home))) continue;
      placement.place(entry, standIn);
      this.#displaced.set(entry, { home, standIn });
    }
    for (const home of new Set(this.#settling.map((settling) => settling.home))) this.#withholdReset(home, false);
    this.#settling = [];
    this.#settledAtMs = Number.POSITIVE_INFINITY;
  }

  #noteBacklog(): void {
    const { device, memoryOf } = this.#options;
    this.#settleRounds = 0;
    this.#backlog = [...new Set(this.#settling.map(({ standIn }) => standIn))].flatMap((queue) => {
      const memory = memoryOf(queue);
      if (!memory) return [];
      const rings = Array.from({ length: device.rxLanes }, (_, lane) => memory.rxRing(lane));
      return rings.map((ring) => ({ ring, tail: ring.tail }));
    });
  }

  #isBacklogged(): boolean {
    // Counters run freely, modulo 2^32.
    this.#backlog = this.#backlog.filter(({ ring, tail }) => ((ring.head - tail) | 0) < 0);
    return this.#backlog.length > 0;
  }

  /** Which of the wanted entries have a connection in which kernel. */
  #occupied(isWanted: (entry: number) => boolean): Set<number> {
    const { addresses, memoryOf } = this.#options;
    const placement = this.#placement;
    const keys = new Set<number>();
    if (!placement) return keys;
    for (const queue of this.#queuesUp()) {
      const memory = memoryOf(queue);
      if (!memory) continue;
      forEachConnection(memory, (remote, remotePort, localIndex, localPort) => {
        const local = addresses[localIndex];
        if (!local) return;
        const entry = placement.entryOf(remote, remotePort, local, localPort);
        if (isWanted(entry)) keys.add(this.#key(entry, queue));
      });
    }
    return keys;
  }

  #key(entry: number, queue: number): number {
    return entry * this.#options.queues + queue;
  }

  #withholdReset(queue: number, withhold: boolean): void {
    const memory = this.#options.memoryOf(queue);
    if (memory) Atomics.store(memory.words, (HEALTH_BASE + HEALTH_WITHHOLD_RST) >> 2, withhold ? 1 : 0);
  }
}
