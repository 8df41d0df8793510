/**
 * Keeps every packet on its way to a kernel that lives. When a kernel goes, the entries of the device's tables that
 * name its queue are given to the others; when it is back, they are given back, one by one, as soon as no connection
 * that was opened meanwhile needs them. A kernel that is to leave is emptied the same way, entry by entry. State of no
 * kernel is touched: only the device's tables change.
 *
 * ```
 *            retire(queue)                       restore(queue)
 *  at home ───────────────▶ displaced, home down ─────────────▶ displaced, home up
 *     ▲                                                               │ no connection of it at the stand-in
 *     │ still none after SETTLE_MS                                    ▼
 *     └───────────────────────────────────────────────────────── settling ──▶ displaced again, if there is one
 * ```
 * A SYN may be on its way to the old queue at the moment of the change. Therefore the kernel that gets an entry answers
 * unknown segments with silence, not RST, until the old one has been looked at once more. What is found there gets an
 * exact filter, where the device has some; otherwise the entry goes back.
 */
import { flowKey, type PinnedFlow, Pins } from "../balancer/pins.ts";
import type { Device, Placement } from "../device/device.ts";
import { groupOfPorts, groupRuleOf } from "../device/flowGroups.ts";
import type { ReplyTuple } from "../device/replySteering.ts";
import { HEALTH_BASE, HEALTH_WITHHOLD_RST } from "../layout/kernelMemory.ts";
import type { StealOrder } from "../migration/steal.ts";
import { forEachConnection } from "../views/connections.ts";
import type { KernelMemory } from "../views/kernelMemory.ts";
import { Backlog } from "./backlog.ts";
import { trustCookies } from "./cookieTrust.ts";

/** How long frames that were steered the old way may take to become connections. */
const SETTLE_MS = 10;
/** How often that is waited for when a thread does not come to its turn, or the owner not to its writing. */
const SETTLE_ROUNDS_MAX = 50;
/** How often entries that could not be given back are looked at again. */
const RETRY_MS = 200;
/** The same while a kernel is to leave. */
const LEAVE_RETRY_MS = 20;

const WITHHOLD_WORD = (HEALTH_BASE + HEALTH_WITHHOLD_RST) >> 2;
/** Bits of HEALTH_WITHHOLD_RST that are ours (the other is the balancer's): for a time, and to the end of the life. */
const WITHHOLD_REHOMING = 1;
const WITHHOLD_ENDING = 4;

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
/** An entry that has just been given to `to`. `goesHome`: it belongs there. */
type Settling = { readonly entry: number; readonly from: number; readonly to: number; readonly goesHome: boolean };

/**
 * Why a queue is not one of those that entries are given to: its kernel is gone and will be back, is about to leave, or
 * is not there and nobody expects it.
 */
type Absence = "down" | "leaving" | "absent";

export class Rehoming {
  readonly #options: RehomingOptions;
  readonly #placement: Placement | undefined;
  readonly #out = new Map<number, Absence>();
  readonly #displaced = new Map<number, Displaced>();
  /** Queue without a kernel -> the queue whose port takes in what still comes there. */
  readonly #loans = new Map<number, number>();
  readonly #pins: Pins;
  #settling: Settling[] = [];
  #settledAtMs = Number.POSITIVE_INFINITY;
  #settleRounds = 0;
  /** What lay before those that gave entries away: they must have got past it. */
  readonly #givers: Backlog;
  #retryAtMs = Number.POSITIVE_INFINITY;
  #torn = 0;
  /** Kernels that answer unknown segments with silence: until they have got past what came before the last change. */
  readonly #silent = new Set<number>();
  readonly #takers: Backlog;
  #releaseAtMs = Number.POSITIVE_INFINITY;
  #releaseRounds = 0;
  /** Set by the stack: an entry that is on its way with its connections (src/migration) is left alone. */
  isMigrating: (entry: number) => boolean = () => false;

  constructor(options: RehomingOptions) {
    this.#options = options;
    this.#placement = options.device.placement;
    this.#pins = new Pins(options.device, options.device.capabilities.exactFilters >> 2);
    this.#givers = new Backlog(options);
    this.#takers = new Backlog(options);
  }

  /** False for a queue that nothing new is sent to. */
  isUp(queue: number): boolean {
    return !this.#out.has(queue);
  }

  /** Entries that are not where they belong. */
  get displacedEntries(): number {
    return this.#displaced.size;
  }

  /** Connections that were accepted in one kernel while their entry went to another that has some, too. */
  get tornEntries(): number {
    return this.#torn;
  }

  /** When step() has something to do, ms; Infinity: never. */
  get deadlineMs(): number {
    return Math.min(this.#releaseAtMs, this.#settling.length > 0 ? this.#settledAtMs : this.#retryAtMs);
  }

  /**
   * From now on nothing is steered to `queue`, if there is another: its kernel is gone, with all its connections.
   * @param forGood nobody expects it back. @returns entries moved.
   */
  retire(queue: number, nowMs: number, forGood = false): number {
    this.#out.set(queue, forGood ? "absent" : "down");
    if (!forGood && this.#standIns().length > 0) this.#retryAtMs = Math.min(this.#retryAtMs, nowMs + RETRY_MS);
    this.#placement?.dropFilters?.(queue);
    this.#trustCookies(nowMs);
    return this.#spread();
  }

  /** The kernel of `queue` is about to leave: its entries are given away as they become free, none is given to it. */
  leave(queue: number, nowMs: number): void {
    if (this.#out.has(queue)) return;
    this.#out.set(queue, "leaving");
    if (this.#settling.length > 0) this.#retryAtMs = nowMs;
    else this.#rearrange(nowMs);
  }

  /**
   * The kernel of `queue` is about to end, and its listeners before it: what has come for those is left unanswered, for
   * the peer's next SYN finds the kernel that has its entries now.
   */
  silence(queue: number): void {
    const memory = this.#options.memoryOf(queue);
    if (memory) Atomics.or(memory.words, WITHHOLD_WORD, WITHHOLD_ENDING);
  }

  /** Nothing new comes to this queue any more. */
  hasLeft(queue: number): boolean {
    if (this.#settling.some(({ from }) => from === queue)) return false;
    const placement = this.#placement;
    for (let entry = 0; placement && entry < placement.entries; entry++) {
      if (placement.queueOf(entry) === queue) return false;
    }
    return true;
  }

  /** See MigratorOptions.unpin. */
  unpin(group: number): () => void {
    const pins = this.#pins.take(this.#isOf(group));
    return () => {
      for (const { flow, sinceNs } of pins) this.#pins.add(flow, sinceNs);
    };
  }

  /** See MigratorOptions.pinned. */
  pinnedOf(group: number): PinnedFlow[] {
    return this.#pins.find(this.#isOf(group));
  }

  /** Its pins may name entries instead of groups. */
  #isOf(group: number): (flow: ReplyTuple) => boolean {
    const rule = groupRuleOf(this.#options.device.capabilities);
    return ({ remotePort, localPort }) => groupOfPorts(remotePort, localPort, rule) === group;
  }

  /** Filters of ours that a steal has name another kernel are its own from then on. */
  handPinsTo(order: StealOrder): StealOrder {
    const pin: StealOrder["pin"] = (flow) => {
      if (!order.pin(flow)) return false;
      this.#pins.refused(flow);
      return true;
    };
    return { ...order, pin };
  }

  /** Takes its filters out of the device. */
  unpinAll(): void {
    this.#pins.clear();
  }

  /** The kernel of `queue` is there: it gets back what was its own, as that becomes free. */
  restore(queue: number, nowMs: number): void {
    this.#out.delete(queue);
    this.#lend();
    // After a time without any kernel others' entries may still name a queue that is down.
    this.#spread();
    // One batch after the other.
    if (this.#settling.length > 0) this.#retryAtMs = nowMs;
    else this.#rearrange(nowMs);
  }

  /** What was to move stays where it is (offers have been refused): that may be a queue without a kernel. */
  refused(): void {
    if (this.#out.size > 0) this.#spread();
  }

  /** These connections have got no filter after all: their entries come back to them, unless others are there too. */
  filtersRefused(flows: readonly ReplyTuple[]): void {
    const lost = new Map<number, number>();
    for (const flow of flows) {
      const pinned = this.#pins.refused(flow);
      if (pinned && this.#placement?.queueOf(pinned.group) !== pinned.kernel) lost.set(pinned.group, pinned.kernel);
    }
    if (lost.size === 0) return;
    const occupied = this.#occupied((entry) => lost.has(entry));
    for (const [entry, kernel] of lost) {
      const queue = this.#placement?.queueOf(entry);
      if (queue === undefined || this.#isGone(kernel)) continue;
      if (occupied.has(this.#key(entry, queue))) this.#torn++;
      else this.#takeBack(entry, kernel, queue);
    }
  }

  /** An entry that has been given to `to` returns to `from`, where a connection of it lives. */
  #takeBack(entry: number, from: number, to: number): void {
    this.#placement?.place(entry, from);
    const home = this.#displaced.get(entry)?.home ?? to;
    if (home === from) this.#displaced.delete(entry);
    else this.#displaced.set(entry, { home, standIn: from });
  }

  /**
   * Moves what stands on a queue without a kernel, whoever has put it there. @returns entries moved.
   */
  #spread(): number {
    const standIns = this.#standIns();
    if (standIns.length === 0) return 0;
    let moved = 0;
    const placement = this.#placement;
    const isGone = Array.from({ length: this.#options.queues }, (_, queue) => this.#isGone(queue));
    for (let entry = 0; placement && entry < placement.entries; entry++) {
      const queue = placement.queueOf(entry);
      if (queue === undefined || !isGone[queue]) continue;
      // What still lies in a queue that is lent is read by the borrower: so its connections must stay with it.
      const standIn = this.#borrowerOf(queue, standIns) ?? (standIns[moved % standIns.length] as number);
      this.#displaced.set(entry, { home: this.#displaced.get(entry)?.home ?? queue, standIn });
      placement.place(entry, standIn);
      moved++;
    }
    this.#lend();
    return moved;
  }

  #isGone(queue: number): boolean {
    const absence = this.#out.get(queue);
    return absence === "down" || absence === "absent";
  }

  #lend(): void {
    const { device } = this.#options;
    if (!device.lendQueue) return;
    const standIns = this.#standIns();
    for (let queue = 0; queue < this.#options.queues; queue++) {
      const to = this.#isGone(queue) ? this.#borrowerOf(queue, standIns) : undefined;
      if (this.#loans.get(queue) === to) continue;
      if (to === undefined) this.#loans.delete(queue);
      else this.#loans.set(queue, to);
      device.lendQueue(queue, to);
    }
  }

  /** Who reads what still comes to a queue without a kernel: the same one as long as it is there. */
  #borrowerOf(queue: number, standIns: readonly number[]): number | undefined {
    if (!this.#options.device.lendQueue) return undefined;
    const present = this.#loans.get(queue);
    return present !== undefined && standIns.includes(present) ? present : standIns[queue % standIns.length];
  }

  /** Queues that entries can be given to; if all others are gone, those about to leave. */
  #standIns(): number[] {
    const queues = Array.from({ length: this.#options.queues }, (_, queue) => queue);
    const up = queues.filter((queue) => !this.#out.has(queue));
    return up.length > 0 ? up : queues.filter((queue) => !this.#isGone(queue));
  }

  /** Does what is due. */
  step(nowMs: number): void {
    if (nowMs >= this.#releaseAtMs) {
      if (!this.#takers.isPast(nowMs) && ++this.#releaseRounds < SETTLE_ROUNDS_MAX)
        this.#releaseAtMs = nowMs + SETTLE_MS;
      else this.#release();
    }
    if (nowMs >= this.#settledAtMs) {
      if (!this.#givers.isPast(nowMs) && ++this.#settleRounds < SETTLE_ROUNDS_MAX)
        this.#settledAtMs = nowMs + SETTLE_MS;
      else this.#settle(nowMs);
    }
    // One batch after the other.
    if (nowMs >= this.#retryAtMs && this.#settling.length === 0) {
      // The balancer may have moved something to a queue that is down.
      if (this.#out.size > 0) this.#spread();
      this.#rearrange(nowMs);
    }
  }

  /** Gives entries back to their homes, and away from kernels that are to leave, where no connection needs them. */
  #rearrange(nowMs: number): void {
    this.#sweepPins(nowMs);
    this.#giveBack(nowMs);
    this.#empty(nowMs);
    this.#settleRounds = 0;
    this.#givers.note(
      this.#settling.map(({ from }) => from),
      nowMs,
    );
    const absences = [...this.#out.values()];
    const waiting = [...this.#displaced.values()].some(({ home }) => !this.#isGone(home));
    const expected = absences.some((absence) => absence !== "absent") || waiting || this.#pins.count > 0;
    this.#retryAtMs = expected && this.#standIns().length > 0 ? nowMs + RETRY_MS : Number.POSITIVE_INFINITY;
    if (absences.includes("leaving")) this.#retryAtMs = nowMs + LEAVE_RETRY_MS;
  }

  #giveBack(nowMs: number): void {
    const occupied = this.#occupied((entry) => this.#displaced.has(entry));
    for (const [entry, { home, standIn }] of this.#displaced) {
      if (this.#placement?.queueOf(entry) !== standIn) {
        // Somebody else has moved it since: it is at home there.
        this.#displaced.delete(entry);
        continue;
      }
      if (this.#out.has(home) || occupied.has(this.#key(entry, standIn)) || this.isMigrating(entry)) continue;
      this.#displaced.delete(entry);
      this.#give({ entry, from: standIn, to: home, goesHome: true }, nowMs);
    }
  }

  #empty(nowMs: number): void {
    const placement = this.#placement;
    const targets = this.#standIns().filter((queue) => !this.#out.has(queue));
    const leaving = [...this.#out.keys()].filter((queue) => this.#out.get(queue) === "leaving");
    if (!placement || leaving.length === 0 || targets.length === 0) return;
    const named = new Map<number, number>();
    for (let entry = 0; entry < placement.entries; entry++) {
      const queue = placement.queueOf(entry);
      if (queue !== undefined && leaving.includes(queue) && !this.isMigrating(entry)) named.set(entry, queue);
    }
    const stuck = this.#pin(named);
    let moved = 0;
    for (const [entry, from] of named) {
      if (stuck.has(this.#key(entry, from))) continue;
      const home = this.#displaced.get(entry)?.home;
      const goesHome = home !== undefined && targets.includes(home);
      const to = goesHome ? home : (targets[moved++ % targets.length] as number);
      if (goesHome) this.#displaced.delete(entry);
      else this.#displaced.set(entry, { home: home ?? from, standIn: to });
      this.#give({ entry, from, to, goesHome }, nowMs);
    }
  }

  #give(settling: Settling, nowMs: number): void {
    this.#watch(settling, nowMs);
    this.#placement?.place(settling.entry, settling.to, true);
  }

  /** Connections that turn up where the entry has been are looked for, and not reset where it is. */
  #watch(settling: Settling, nowMs: number): void {
    if (this.#settling.length === 0) {
      this.#settledAtMs = nowMs + SETTLE_MS;
      this.#trustCookies(nowMs);
    }
    this.#withhold(settling.to);
    this.#settling.push(settling);
  }

  /**
   * Looks for connections that were being opened at the old queue when their entry went. Once: unlike the balancer's
   * settling it does not look again when the filters are written. In threads a connection that ends meanwhile, and
   * whose ports the peer uses again within these milliseconds, leaves a filter that leads the next one away from its
   * home, where it was opened; it is reset, or the filter is swept first (RETRY_MS).
   */
  #settle(nowMs: number): void {
    const placement = this.#placement as Placement;
    // Late SYNs may have been answered with cookies meanwhile.
    this.#trustCookies(nowMs);
    // Also of entries that somebody (the balancer, the end of another kernel) has given to a third kernel meanwhile.
    for (const { entry, from, to, goesHome } of this.#settling) {
      // Not moved, for want of filters: it is tried again.
      if (goesHome && placement.queueOf(entry) === from) this.#displaced.set(entry, { home: to, standIn: from });
    }
    const present = this.#settling.filter(
      ({ entry, from }) => placement.queueOf(entry) !== from && !this.#isGone(from),
    );
    const entries = new Map(present.map((settling) => [settling.entry, settling]));
    const occupied = this.#occupied((entry) => entries.has(entry));
    const late = present.filter(({ entry, from }) => occupied.has(this.#key(entry, from)));
    const stuck = this.#pin(new Map(late.map(({ entry, from }) => [entry, from])));
    for (const { entry, from, to } of late) {
      if (!stuck.has(this.#key(entry, from))) continue;
      if (occupied.has(this.#key(entry, to)) || placement.queueOf(entry) !== to) {
        this.#torn++;
        continue;
      }
      this.#takeBack(entry, from, to);
    }
    // What had been steered before the filters were written may still lie before the new one.
    this.#releaseAtMs = nowMs + SETTLE_MS;
    this.#releaseRounds = 0;
    this.#takers.note(this.#silent, nowMs);
    this.#settling = [];
    this.#settledAtMs = Number.POSITIVE_INFINITY;
    if ([...this.#out.values()].includes("leaving")) this.#retryAtMs = nowMs;
    else if (this.#pins.count > 0) this.#retryAtMs = Math.min(this.#retryAtMs, nowMs + RETRY_MS);
  }

  /**
   * Has the connections of these entries in the kernels named stay there, by exact filters.
   * @param wanted queues by entry. @returns keys of those with connections that have got no filter.
   */
  #pin(wanted: ReadonlyMap<number, number>): Set<number> {
    const stuck = new Set<number>();
    if (wanted.size === 0) return stuck;
    this.#forEachFlow((flow, entry, queue) => {
      if (wanted.get(entry) !== queue) return;
      const pinned = { ...flow, remote: flow.remote.slice(), kernel: queue, group: entry };
      if (!this.#pins.add(pinned, 0)) stuck.add(this.#key(entry, queue));
    });
    return stuck;
  }

  #sweepPins(nowMs: number): void {
    if (this.#pins.count === 0) return;
    const living = new Set<string>();
    this.#forEachFlow((flow, _entry, queue) => living.add(`${queue} ${flowKey(flow)}`));
    const ended = this.#pins.sweep(Number.POSITIVE_INFINITY, (key, kernel) => living.has(`${kernel} ${key}`));
    // The peer may just have opened its next connection from the same port, by the filter.
    for (const { group: entry, kernel: from } of ended) {
      const to = this.#placement?.queueOf(entry);
      if (to !== undefined && to !== from && !this.#isGone(from))
        this.#watch({ entry, from, to, goesHome: false }, nowMs);
    }
  }

  /** Which of the wanted entries have a connection in which kernel. */
  #occupied(isWanted: (entry: number) => boolean): Set<number> {
    const keys = new Set<number>();
    this.#forEachFlow((_flow, entry, queue) => {
      if (isWanted(entry)) keys.add(this.#key(entry, queue));
    });
    return keys;
  }

  /** Connections of all kernels that are there, with the entry that places them; valid during the call only. */
  #forEachFlow(visit: (flow: ReplyTuple, entry: number, queue: number) => void): void {
    const { addresses, memoryOf, queues } = this.#options;
    const placement = this.#placement;
    for (let queue = 0; placement && queue < queues; queue++) {
      const memory = this.#isGone(queue) ? undefined : memoryOf(queue);
      if (!memory) continue;
      forEachConnection(memory, (remote, remotePort, localIndex, localPort) => {
        const local = addresses[localIndex];
        if (!local) return;
        const entry = placement.entryOf(remote, remotePort, local, localPort);
        visit({ remote, remotePort, local, localPort }, entry, queue);
      });
    }
  }

  #key(entry: number, queue: number): number {
    return entry * this.#options.queues + queue;
  }

  #trustCookies(nowMs: number): void {
    const { queues, memoryOf } = this.#options;
    trustCookies(
      Array.from({ length: queues }, (_, queue) => memoryOf(queue)),
      nowMs,
    );
  }

  #withhold(queue: number): void {
    const memory = this.#options.memoryOf(queue);
    if (!memory) return;
    this.#silent.add(queue);
    Atomics.or(memory.words, WITHHOLD_WORD, WITHHOLD_REHOMING);
  }

  #release(): void {
    this.#releaseAtMs = Number.POSITIVE_INFINITY;
    this.#releaseRounds = 0;
    for (const queue of this.#silent) {
      if (this.#settling.some(({ to }) => to === queue)) continue;
      this.#silent.delete(queue);
      const memory = this.#options.memoryOf(queue);
      if (memory) Atomics.and(memory.words, WITHHOLD_WORD, ~WITHHOLD_REHOMING);
    }
  }
}
