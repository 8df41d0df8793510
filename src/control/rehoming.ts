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
 *     │ nothing is left to mend                                       ▼
 *     └───────────────────────────────────────────────────────── settling ──▶ displaced again, if there is one
 * ```
 * A SYN may be on its way to the old queue at the moment of the change. Therefore every change settles, as the
 * balancer's do (../balancer/settling.ts): the kernels concerned answer unknown segments with silence, not RST, until a
 * look has found nothing to mend. A connection at the old queue gets an exact filter, where the device has some;
 * otherwise the entry goes back.
 */
import { forEachWaitingSyn } from "../balancer/flowScan.ts";
import { type FoundFlow, flowKey, type PinnedFlow, Pins } from "../balancer/pins.ts";
import { type Pair, Settling } from "../balancer/settling.ts";
import type { Device, Placement } from "../device/device.ts";
import { groupOfPorts, groupRuleOf } from "../device/flowGroups.ts";
import type { ReplyTuple } from "../device/replySteering.ts";
import {
  HEALTH_BASE,
  HEALTH_WITHHOLD_RST,
  WITHHOLD_RST_ENDING,
  WITHHOLD_RST_REHOMING,
} from "../layout/kernelMemory.ts";
import type { StealOrder } from "../migration/steal.ts";
import { forEachConnection } from "../views/connections.ts";
import type { KernelMemory } from "../views/kernelMemory.ts";
import { trustCookies } from "./cookieTrust.ts";

/** How often entries that could not be given back are looked at again. */
const RETRY_MS = 200;
/** The same while a kernel is to leave. */
const LEAVE_RETRY_MS = 20;
/** A filter is not looked at again before: its connection may be on its way back to where it was. */
const SWEEP_MS = 100;

const NS_PER_MS = 1e6;

export type RehomingOptions = {
  readonly device: Device;
  /** Queues of the device, one kernel each. */
  readonly queues: number;
  /** Memory of the kernel that drives a queue now; undefined: none does. */
  readonly memoryOf: (queue: number) => KernelMemory | undefined;
  /** Own addresses, 16 bytes each, in the order of the kernels' configuration. */
  readonly addresses: readonly Uint8Array[];
};

/** @param isWaiting no connection yet, but a SYN that the kernel has not read. @returns true: enough of this kernel. */
type VisitFlow = (
  flow: ReplyTuple,
  entry: number,
  queue: number,
  isDying: boolean,
  isWaiting: boolean,
) => boolean | undefined;

/** What a look is for. There may be a million connections: all others must cost next to nothing. */
type Wanted = {
  /** Default: all. */
  readonly queues?: Iterable<number>;
  readonly isWanted?: (entry: number, queue: number) => boolean;
  /** Asked before anything else. */
  readonly hasPorts?: (remotePort: number, localPort: number) => boolean;
};

type Displaced = { readonly home: number; readonly standIn: number };

/** What others have of the device's entries; in place of a device's group, as everywhere here, an entry. */
export type OtherSteering = {
  /** The entry's connections, or some, are on their way (src/migration): it is left alone. */
  readonly isMigrating: (entry: number) => boolean;
  /** All of them are. */
  readonly isGroupMoving: (entry: number) => boolean;
  /** The kernel would take a new connection of the entry elsewhere, as late frames: the entry is not given to it. */
  readonly isForwarding: (queue: number, entry: number) => boolean;
  /** A filter of the balancer's keeps the connection there, or its successor elsewhere, or it is being stolen. */
  readonly isPinned: (flow: FoundFlow) => boolean;
  /** Some of the kernel's connections may be frozen, so that nobody sees that they live. */
  readonly isStolenFrom: (queue: number) => boolean;
};

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
  readonly #settling: Settling;
  /** Where entries that have been given home were before: they are displaced again if they do not come to be there. */
  readonly #goingHome = new Map<number, Displaced>();
  #retryAtMs = Number.POSITIVE_INFINITY;
  #torn = 0;
  /** Of the last call that has told. */
  #nowMs = 0;
  /** Set by the stack. */
  others: OtherSteering = {
    isMigrating: () => false,
    isGroupMoving: () => false,
    isForwarding: () => false,
    isPinned: () => false,
    isStolenFrom: () => false,
  };

  constructor(options: RehomingOptions) {
    this.#options = options;
    this.#placement = options.device.placement;
    this.#pins = new Pins(options.device, options.device.capabilities.exactFilters >> 2);
    this.#settling = new Settling({
      device: options.device,
      pins: this.#pins,
      kernels: options.queues,
      withholdBit: WITHHOLD_RST_REHOMING,
      homeOf: (entry) => this.#placement?.queueOf(entry),
      memoryOf: (queue) => (this.#isGone(queue) ? undefined : options.memoryOf(queue)),
      forEachFlow: (queues, visit, isWanted) => {
        const found: VisitFlow = (flow, entry, kernel, isDying, isWaiting) => {
          visit({ ...flow, remote: flow.remote.slice(), kernel, group: entry, isDying, isWaiting });
        };
        // Lanes first: a SYN that is taken out of its lane meanwhile is found as a connection.
        this.#forEachWaiting(found, { queues, isWanted });
        this.#forEachFlow(found, { queues, isWanted });
      },
      isOthers: (flow) => this.others.isPinned(flow),
      isMoving: (entry) => this.others.isGroupMoving(entry),
      stuck: (pair) => this.#stuck(pair),
    });
  }

  /** False for a queue that nothing new is sent to. */
  isUp(queue: number): boolean {
    return !this.#out.has(queue);
  }

  /** Entries that are not where they belong. */
  get displacedEntries(): number {
    return this.#displaced.size;
  }

  /**
   * How often connections were accepted in one kernel while their entry went to another that has some, too, and got no
   * filters. Each connection counts once while all settles.
   */
  get tornEntries(): number {
    return this.#torn;
  }

  /** When step() has something to do, ms; Infinity: never. */
  get deadlineMs(): number {
    const { deadlineNs, isOver } = this.#settling;
    return Math.min(deadlineNs / NS_PER_MS, isOver ? this.#retryAtMs : Number.POSITIVE_INFINITY);
  }

  /**
   * From now on nothing is steered to `queue`, if there is another: its kernel is gone, with all its connections.
   * @param forGood nobody expects it back. @returns entries moved.
   */
  retire(queue: number, nowMs: number, forGood = false): number {
    this.#nowMs = nowMs;
    this.#out.set(queue, forGood ? "absent" : "down");
    if (!forGood && this.#standIns().length > 0) this.#retryAtMs = Math.min(this.#retryAtMs, nowMs + RETRY_MS);
    this.#placement?.dropFilters?.(queue);
    this.#trustCookies(nowMs);
    return this.#spread();
  }

  /** The kernel of `queue` is about to leave: its entries are given away as they become free, none is given to it. */
  leave(queue: number, nowMs: number): void {
    this.#nowMs = nowMs;
    if (this.#out.has(queue)) return;
    this.#out.set(queue, "leaving");
    if (!this.#settling.isOver) this.#retryAtMs = nowMs;
    else this.#rearrange(nowMs);
  }

  /**
   * The kernel of `queue` is about to end, and its listeners before it: what has come for those is left unanswered, for
   * the peer's next SYN finds the kernel that has its entries now.
   */
  silence(queue: number): void {
    const memory = this.#options.memoryOf(queue);
    if (memory) Atomics.or(memory.words, (HEALTH_BASE + HEALTH_WITHHOLD_RST) >> 2, WITHHOLD_RST_ENDING);
  }

  /** Nothing new comes to this queue any more. */
  hasLeft(queue: number): boolean {
    if (this.#settling.hasAny(queue)) return false;
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
      // Since now: they are still frozen, and not seen to live.
      // What led to a kernel that has ended meanwhile is gone.
      const kept = pins.filter(({ flow }) => !this.#isGone(flow.kernel));
      for (const { flow } of kept) this.#pins.add(flow, this.#nowMs * NS_PER_MS);
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

  /** A filter of ours keeps the connection in this kernel, or its successor elsewhere. */
  isPinned(flow: FoundFlow): boolean {
    return this.#pins.holds(flow) || this.#pins.isSucceeded(flow);
  }

  /** Takes its filters out of the device. */
  unpinAll(): void {
    this.#settling.close();
    this.#pins.clear();
  }

  /** The kernel of `queue` is there: it gets back what was its own, as that becomes free. */
  restore(queue: number, nowMs: number): void {
    this.#nowMs = nowMs;
    this.#out.delete(queue);
    this.#lend();
    // After a time without any kernel others' entries may still name a queue that is down.
    this.#spread();
    // One batch after the other.
    if (!this.#settling.isOver) this.#retryAtMs = nowMs;
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
      if (!pinned || this.#placement?.queueOf(pinned.group) === pinned.kernel) continue;
      this.#settling.refused(flow);
      lost.set(pinned.group, pinned.kernel);
    }
    if (lost.size === 0) return;
    const occupied = this.#occupied(lost.keys(), (entry) => this.#placement?.queueOf(entry));
    for (const [entry, kernel] of lost) {
      const queue = this.#placement?.queueOf(entry);
      if (queue === undefined || this.#isGone(kernel)) continue;
      if (occupied.has(this.#key(entry, queue))) this.#torn++;
      else this.#takeBack(entry, kernel, queue);
    }
  }

  /** An entry that has been given to `to` returns to `from`, where a connection of it lives. */
  #takeBack(entry: number, from: number, to: number): void {
    this.#goingHome.delete(entry);
    this.#settling.prepare([from, to]);
    this.#placement?.place(entry, from);
    this.#settling.begin([{ group: entry, from: to }], this.#nowMs * NS_PER_MS);
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
      const home = this.#displaced.get(entry)?.home ?? queue;
      // The kernel that it was to go home to is back already: it is there.
      if (home === standIn) this.#displaced.delete(entry);
      else this.#displaced.set(entry, { home, standIn });
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
    this.#nowMs = nowMs;
    const { deadlineNs } = this.#settling;
    // As deadlineMs says it: (deadlineNs / NS_PER_MS) * NS_PER_MS may be less than deadlineNs.
    if (nowMs >= deadlineNs / NS_PER_MS) {
      // Late SYNs may have been answered with cookies meanwhile.
      this.#trustCookies(nowMs);
      this.#displaceAgain();
      this.#settling.step(Math.max(nowMs * NS_PER_MS, deadlineNs));
      if (this.#settling.isOver) this.#settled(nowMs);
    }
    // One batch after the other.
    if (nowMs >= this.#retryAtMs && this.#settling.isOver) {
      // The balancer may have moved something to a queue that is down.
      if (this.#out.size > 0) this.#spread();
      this.#rearrange(nowMs);
    }
  }

  #settled(nowMs: number): void {
    this.#goingHome.clear();
    if ([...this.#out.values()].includes("leaving")) this.#retryAtMs = nowMs;
    else if (this.#pins.count > 0 || this.#displaced.size > 0)
      this.#retryAtMs = Math.min(this.#retryAtMs, nowMs + RETRY_MS);
  }

  /** Entries that have not gone home, for want of filters: it is tried again. */
  #displaceAgain(): void {
    for (const [entry, displaced] of this.#goingHome) {
      if (this.#placement?.queueOf(entry) === displaced.standIn) this.#displaced.set(entry, displaced);
    }
  }

  /** There is no filter for a connection of the entry in `from`: it goes back, unless others have connections there. */
  #stuck({ group: entry, from }: Pair): void {
    const now = this.#placement?.queueOf(entry);
    if (now === undefined || now === from || this.#isGone(from)) return;
    const occupied = this.#occupied([entry], () => now);
    if (occupied.has(this.#key(entry, now)) || this.others.isForwarding(from, entry)) this.#torn++;
    else this.#takeBack(entry, from, now);
  }

  /** Gives entries back to their homes, and away from kernels that are to leave, where no connection needs them. */
  #rearrange(nowMs: number): void {
    const pairs = [...this.#sweepPins(), ...this.#giveBack(), ...this.#empty()];
    if (pairs.length > 0) this.#trustCookies(nowMs);
    // Of entries that stay with those who have them, nothing is on its way anywhere else.
    this.#settling.begin(pairs, nowMs * NS_PER_MS);
    const absences = [...this.#out.values()];
    const waiting = [...this.#displaced.values()].some(({ home }) => !this.#isGone(home));
    const expected = absences.some((absence) => absence !== "absent") || waiting || this.#pins.count > 0;
    this.#retryAtMs = expected && this.#standIns().length > 0 ? nowMs + RETRY_MS : Number.POSITIVE_INFINITY;
    if (absences.includes("leaving")) this.#retryAtMs = nowMs + LEAVE_RETRY_MS;
  }

  /** @returns what has been given away. */
  #giveBack(): Pair[] {
    const free = new Map<number, Displaced>();
    for (const [entry, displaced] of this.#displaced) {
      // Somebody else has moved it since: it is at home there.
      if (this.#placement?.queueOf(entry) !== displaced.standIn) this.#displaced.delete(entry);
      else if (!this.#out.has(displaced.home)) free.set(entry, displaced);
    }
    const given: Pair[] = [];
    const occupied = this.#occupied(free.keys(), (entry) => free.get(entry)?.standIn);
    for (const [entry, { home, standIn }] of free) {
      if (occupied.has(this.#key(entry, standIn))) continue;
      if (this.others.isMigrating(entry) || this.others.isForwarding(home, entry)) continue;
      given.push(this.#give(entry, standIn, home, true));
    }
    return given;
  }

  /** Of kernels that are to leave. @returns what has been given away. */
  #empty(): Pair[] {
    const placement = this.#placement;
    const targets = this.#standIns().filter((queue) => !this.#out.has(queue));
    const leaving = [...this.#out.keys()].filter((queue) => this.#out.get(queue) === "leaving");
    if (!placement || leaving.length === 0 || targets.length === 0) return [];
    const named = new Map<number, number>();
    for (let entry = 0; entry < placement.entries; entry++) {
      const queue = placement.queueOf(entry);
      if (queue !== undefined && leaving.includes(queue) && !this.others.isMigrating(entry)) named.set(entry, queue);
    }
    const stuck = this.#pin(named);
    const given: Pair[] = [];
    for (const [entry, from] of named) {
      if (stuck.has(this.#key(entry, from))) continue;
      const home = this.#displaced.get(entry)?.home;
      const goesHome = home !== undefined && targets.includes(home);
      const to = goesHome ? home : (targets[given.length % targets.length] as number);
      if (!this.others.isForwarding(to, entry)) given.push(this.#give(entry, from, to, goesHome));
    }
    return given;
  }

  #give(entry: number, from: number, to: number, goesHome: boolean): Pair {
    const home = this.#displaced.get(entry)?.home ?? from;
    if (goesHome) {
      this.#displaced.delete(entry);
      this.#goingHome.set(entry, { home: to, standIn: from });
    } else this.#displaced.set(entry, { home, standIn: to });
    this.#settling.prepare([from, to]);
    this.#placement?.place(entry, to, true);
    return { group: entry, from };
  }

  /**
   * Has the connections of these entries in the kernels named stay there, by exact filters.
   * @param wanted queues by entry. @returns keys of those with connections that have got no filter.
   */
  #pin(wanted: ReadonlyMap<number, number>): Set<number> {
    const stuck = new Set<number>();
    if (wanted.size === 0) return stuck;
    // One without a filter is enough for an entry to stay.
    const isWanted = (entry: number, queue: number) =>
      wanted.get(entry) === queue && !stuck.has(this.#key(entry, queue));
    const pin: VisitFlow = (flow, entry, queue, isDying) => {
      const pinned = { ...flow, remote: flow.remote.slice(), kernel: queue, group: entry, isDying };
      if (this.#pins.isSucceeded(pinned)) return;
      if (!this.others.isPinned(pinned) && !this.#pins.add(pinned, this.#nowMs * NS_PER_MS))
        stuck.add(this.#key(entry, queue));
    };
    this.#forEachFlow(pin, { queues: new Set(wanted.values()), isWanted });
    return stuck;
  }

  /** @returns what filters of ended connections have led astray: the peer may just have opened its next one there. */
  #sweepPins(): Pair[] {
    if (this.#pins.count === 0) return [];
    const living = new Set<string>();
    const note: VisitFlow = (flow, _entry, queue) => void living.add(`${queue} ${flowKey(flow)}`);
    const ports = new Set(this.#pins.find(() => true).map((flow) => portsKey(flow.remotePort, flow.localPort)));
    const hasPorts = (remotePort: number, localPort: number) => ports.has(portsKey(remotePort, localPort));
    // A SYN for which a look has set a filter may still lie there.
    this.#forEachWaiting(note, { queues: this.#pins.kernels(), hasPorts });
    this.#forEachFlow(note, { queues: this.#pins.kernels(), hasPorts });
    const isNeeded = (key: string, kernel: number) =>
      living.has(`${kernel} ${key}`) || this.others.isStolenFrom(kernel);
    const ended = this.#pins.sweep((this.#nowMs - SWEEP_MS) * NS_PER_MS, isNeeded);
    const elsewhere = ended.filter(({ group, kernel }) => {
      const to = this.#placement?.queueOf(group);
      return to !== undefined && to !== kernel && !this.#isGone(kernel);
    });
    return elsewhere.map(({ group, kernel }) => ({ group, from: kernel }));
  }

  /** @param queueOf one for each entry. @returns keys of the entries that have a connection there. */
  #occupied(entries: Iterable<number>, queueOf: (entry: number) => number | undefined): Set<number> {
    const free = new Map<number, Set<number>>();
    for (const entry of entries) {
      const queue = queueOf(entry);
      if (queue === undefined) continue;
      const others = free.get(queue);
      if (others) others.add(entry);
      else free.set(queue, new Set([entry]));
    }
    const keys = new Set<number>();
    for (const [queue, left] of free) {
      const note: VisitFlow = (_flow, entry) => {
        left.delete(entry);
        keys.add(this.#key(entry, queue));
        // Where there are many connections, all entries have some soon.
        return left.size === 0;
      };
      this.#forEachFlow(note, { queues: [queue], isWanted: (entry) => left.has(entry) });
    }
    return keys;
  }

  /** Connections of kernels that are there, with the entry that places them; valid during the call only. */
  #forEachFlow(visit: VisitFlow, { queues = this.#allQueues(), isWanted, hasPorts }: Wanted): void {
    const { addresses, memoryOf } = this.#options;
    const placement = this.#placement;
    if (!placement) return;
    for (const queue of queues) {
      const memory = this.#isGone(queue) ? undefined : memoryOf(queue);
      if (!memory) continue;
      const mayBe = (remotePort: number, localPort: number) => {
        if (hasPorts?.(remotePort, localPort) === false) return false;
        const entry = isWanted && placement.entryOfPorts?.(remotePort, localPort);
        return entry === undefined || isWanted?.(entry, queue) !== false;
      };
      forEachConnection(
        memory,
        (remote, remotePort, localIndex, localPort, isDying) => {
          const local = addresses[localIndex];
          if (!local) return false;
          const entry = placement.entryOf(remote, remotePort, local, localPort);
          if (isWanted?.(entry, queue) === false) return false;
          return visit({ remote, remotePort, local, localPort }, entry, queue, isDying, false);
        },
        mayBe,
      );
    }
  }

  /** The same for SYNs that lie in their RX lanes: a kernel that stands still knows nothing of them. */
  #forEachWaiting(visit: VisitFlow, { queues = this.#allQueues(), isWanted, hasPorts }: Wanted): void {
    const { addresses, device, memoryOf } = this.#options;
    const placement = this.#placement;
    if (!placement) return;
    for (const queue of queues) {
      const memory = this.#isGone(queue) ? undefined : memoryOf(queue);
      for (let lane = 0; memory && lane < device.rxLanes; lane++) {
        forEachWaitingSyn(memory.rxRing(lane), (flow) => {
          if (hasPorts?.(flow.remotePort, flow.localPort) === false) return;
          const local = addresses.find((own) => own.every((byte, i) => byte === flow.local[i]));
          if (!local) return;
          const entry = placement.entryOf(flow.remote, flow.remotePort, local, flow.localPort);
          if (isWanted?.(entry, queue) !== false) visit({ ...flow, local }, entry, queue, false, true);
        });
      }
    }
  }

  #allQueues(): Iterable<number> {
    return Array(this.#options.queues).keys();
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
}

function portsKey(remotePort: number, localPort: number): number {
  return remotePort * 65_536 + localPort;
}
