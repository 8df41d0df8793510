/**
 * Runs a policy: observes, asks, moves. It belongs to the stack's owner and lives by the owner's time; the same code
 * serves kernels in threads, kernels on this thread, and virtual time.
 *
 * What makes a move safe (docs/balancer.md): before the device's table changes, every connection of the group has an
 * exact filter that keeps it where it is, or there is none; SYNs that are on their way into the old kernel are found
 * in its RX lanes, before and after the change. What threads do in between is mended afterwards (settling.ts).
 */
import { trustCookies } from "../control/cookieTrust.ts";
import type { GroupRefusal } from "../control/ownedDevice.ts";
import type { Device } from "../device/device.ts";
import { groupOfPorts, groupRuleOf, initialQueue } from "../device/flowGroups.ts";
import type { ReplyTuple } from "../device/replySteering.ts";
import { WITHHOLD_RST_BALANCER } from "../layout/kernelMemory.ts";
import { forEachConnection } from "../views/connections.ts";
import type { KernelMemory } from "../views/kernelMemory.ts";
import type { StealOrder } from "../migration/steal.ts";
import { forEachWaitingSyn } from "./flowScan.ts";
import { Observer, OWNER_NONE } from "./observer.ts";
import { type FoundFlow, flowKey, type PinnedFlow, Pins } from "./pins.ts";
import { countGroups, type Move, type Policy, type StealMove, staticPolicy } from "./policy.ts";
import { type Pair, Settling } from "./settling.ts";
import { Stealing } from "./stealing.ts";

/** How often pins of ended connections are looked for. */
const SWEEP_NS = 200e6;
/** How long, and how often, a group with connections is watched for a moment when it has none. */
const WAIT_NS = 100e6;
const WAIT_STEP_NS = 1e6;
/** After a refused filter nothing is pinned for so long: each try has all kernels give back leases. */
const SHORT_NS = 1e9;
const NS_PER_MS = 1e6;

/**
 * Why a move was not made: the policy's picture was old, connections live in the group, the filters are used up, or a
 * live migration was refused, or the new kernel did not accept what it was offered.
 */
export type Refusal = "stale" | "live" | "arriving" | "filters" | "migration" | "offer";

export type BalancerOptions = {
  readonly device: Device;
  readonly policy: Policy;
  readonly kernels: number;
  readonly rxLanes: number;
  readonly memoryOf: (kernel: number) => KernelMemory | undefined;
  /** Also of a kernel that is leaving: its connections live, and keep their pins. Default: memoryOf. */
  readonly runningMemoryOf?: (kernel: number) => KernelMemory | undefined;
  /** Own addresses, 16 bytes each, in the order of the kernels' configuration. */
  readonly addresses: readonly Uint8Array[];
  /** Exact filters to use for connections whose group moves. Default: half of what the device has. */
  readonly pinsMax?: number;
  /** Moves a group with its connections; `settled` is called at its end. Missing: that cannot be done. */
  readonly migrate?: (group: number, to: number, settled: (refusal?: Error) => void) => void;
  /** Has connections stolen (docs/migration.md). Missing: that cannot be done. */
  readonly steal?: (order: StealOrder) => void;
  /** A group is being moved with its connections, or some are stolen: it is not the balancer's to move. */
  readonly isMigrating?: (group: number) => boolean;
  /** `migrate` cannot take the group, which is being moved already; a steal it waits for. Default: isMigrating. */
  readonly isGroupMoving?: (group: number) => boolean;
  /** The kernel would take a new connection of the group elsewhere, as late frames: the group does not move there. */
  readonly isForwarding?: (kernel: number, group: number) => boolean;
  /** Somebody else's filter (control/rehoming.ts) leads this flow to this kernel, or to a dying one's successor. */
  readonly isPinnedElsewhere?: (flow: FoundFlow) => boolean;
};

/** One step that has moved or refused something. */
export type BalanceEvent = {
  /** Of the step, by the stack's clock. */
  readonly nowNs: number;
  /** What has been moved. */
  readonly moves: readonly Move[];
  /** What could not be, and why. */
  readonly refused: readonly (Move & { readonly refusal: Refusal })[];
  /** What has been stolen, and what could not be. */
  readonly steals: readonly StealMove[];
  readonly stealsRefused: readonly (StealMove & { readonly refusal: Refusal })[];
  /** Busy share of each kernel. */
  readonly loads: readonly number[];
  /** Groups of each kernel after the moves. */
  readonly groups: readonly number[];
};

/** What a stack's balancer sees and has done (`stats().balancer`). */
export type BalancerStats = {
  /** Its name. */
  readonly policy: string;
  /** Busy share of each kernel at the last look, 0..1. */
  readonly loads: readonly number[];
  /** Flow groups of each kernel. */
  readonly groups: readonly number[];
  /** Moves since the start, by reason. */
  readonly moves: Readonly<Record<string, number>>;
  /** Of moves and of steals. */
  readonly refusals: Readonly<Record<Refusal, number>>;
  /** Connections that each kernel has stolen, and that have been stolen from it, since the start. */
  readonly stolen: readonly number[];
  readonly stolenFrom: readonly number[];
  /** Connections that are kept where they are by exact filters, now. */
  readonly pinned: number;
  /** Connections that began in a kernel after their group had left it, and were not seen in time to be pinned. */
  readonly strays: number;
};

export class Balancer {
  readonly #options: BalancerOptions;
  readonly #observer: Observer;
  readonly #pins: Pins;
  readonly #moves: Record<string, number> = {};
  readonly #refusals: Record<Refusal, number> = { stale: 0, live: 0, arriving: 0, filters: 0, migration: 0, offer: 0 };
  /** Live moves under way, by group, and those that have ended since the last step. */
  readonly #migrating = new Map<number, Move>();
  #migrated: Move[] = [];
  #notMigrated: (Move & { readonly refusal: Refusal })[] = [];
  readonly #stealing: Stealing;
  #policy: Policy;
  /** Groups whose connections in a kernel have lost their filters, while they could not be brought together. */
  readonly #torn = new Map<number, number>();
  #state: unknown;
  #loads: readonly number[];
  #strays = 0;
  readonly #settling: Settling;
  /** Moves that wait for their group to be idle, by group. */
  #waiting = new Map<number, Move>();
  #waitUntilNs = 0;
  #waitAtNs = Number.POSITIVE_INFINITY;
  #sweepAtNs = Number.NEGATIVE_INFINITY;
  /** Filters have been refused since the last look, and until when the policy is told that there are none. */
  #isShort = false;
  #shortUntilNs = Number.NEGATIVE_INFINITY;
  /** Refusals that come while moves are made: on one thread the owner answers at once. */
  #applying: Map<number, GroupRefusal> | undefined;
  #decideAtNs = Number.NEGATIVE_INFINITY;
  /** Of the last step. */
  #nowNs = 0;

  /** Places all groups that the device has left to its hash. */
  constructor(options: BalancerOptions) {
    this.#options = options;
    const { device, kernels } = options;
    this.#policy = options.policy;
    this.#loads = new Array(kernels).fill(0);
    this.#pins = new Pins(device, options.pinsMax ?? device.capabilities.exactFilters >> 1);
    const onStray = (kernel: number, group: number, opened: number) => {
      // What its old kernel opens while a group moves with its connections moves along.
      if (this.#pins.has(kernel, group) || this.#settling.has(kernel, group) || this.#isGroupMoving(group)) return;
      this.#strays += opened;
    };
    const canMigrate = options.migrate !== undefined;
    const forEachPinned: Pins["forEachPair"] = (visit) => this.#pins.forEachPair(visit);
    this.#observer = new Observer({ ...options, onStray, canMigrate, forEachPinned });
    this.#stealing = new Stealing({
      kernels,
      pins: this.#pins,
      addresses: options.addresses,
      steal: options.steal,
      isHere: (kernel) => options.memoryOf(kernel)?.booted === true,
      groupOf: (flow) => this.#groupOf(flow),
      pinBack: (flow) => this.#pinBack(flow),
      lost: ({ group, kernel }) => this.#torn.set(group, kernel),
    });
    this.#settling = new Settling({
      device,
      pins: this.#pins,
      kernels,
      withholdBit: WITHHOLD_RST_BALANCER,
      homeOf: (group) => this.#queueOf(group),
      memoryOf: options.runningMemoryOf ?? options.memoryOf,
      forEachFlow: (...args) => this.#forEachFlow(...args),
      isOthers: (flow) => this.#stealing.isOnTheWay(flow) || options.isPinnedElsewhere?.(flow) === true,
      stuck: ({ group, from }) => this.#reunite(group, from),
    });
    for (let group = 0; group < device.capabilities.flowGroups; group++) {
      if (device.flowGroupQueue?.(group) === undefined) device.moveFlowGroup?.(group, initialQueue(group, kernels));
    }
  }

  get periodNs(): number {
    return this.#policy.periodNs;
  }

  /** Nothing begins any more; what has begun is ended, and pinned connections stay pinned. */
  keepStill(): void {
    this.#policy = staticPolicy;
    this.#waiting.clear();
    this.#waitAtNs = Number.POSITIVE_INFINITY;
  }

  /** Kernels are silent for the sake of what has been moved: it is to be looked at, however idle they are. */
  get isSettling(): boolean {
    return !this.#settling.isOver;
  }

  /** When step() has something to do, ns. */
  get deadlineNs(): number {
    return Math.min(this.#decideAtNs, this.#settling.deadlineNs, this.#waitAtNs);
  }

  /** Does what is due. @returns what was moved or refused, if anything. */
  step(nowNs: number): BalanceEvent | undefined {
    this.#nowNs = nowNs;
    if (nowNs >= this.#settling.deadlineNs) this.#settling.step(nowNs);
    if (nowNs < this.#decideAtNs) return nowNs < this.#waitAtNs ? undefined : this.#tryWaiting(nowNs);
    this.#decideAtNs = nowNs + this.periodNs;
    if (this.#pins.count > 0 && nowNs >= this.#sweepAtNs) this.#sweep(nowNs);
    if (this.#torn.size > 0) this.#reuniteTorn();
    if (this.#isShort) this.#shortUntilNs = nowNs + SHORT_NS;
    this.#isShort = false;
    const isShort = nowNs < this.#shortUntilNs;
    const observation = this.#observer.observe(nowNs, isShort ? 0 : this.#pins.free, this.#stealing.observe());
    this.#loads = observation.kernels.map(({ load }) => load);
    const { moves, state, steals = [] } = this.#policy.decide(observation, this.#state, nowNs);
    this.#state = state;
    // A steal that has begun would be in the way of the moves.
    const steal = () => this.#stealing.begin(steals, nowNs, isShort);
    if (moves.length === 0) steal();
    const ended = this.#migrated.length + this.#notMigrated.length > 0 || this.#stealing.hasNews;
    if (moves.length === 0 && !ended) return nowNs < this.#waitAtNs ? undefined : this.#tryWaiting(nowNs);
    // What still waits belongs to an old picture.
    this.#refusals.live += this.#waiting.size;
    this.#waiting.clear();
    this.#waitUntilNs = nowNs + WAIT_NS;
    return this.#make(moves, nowNs, moves.length > 0 ? steal : undefined);
  }

  /** Makes the moves whose groups are idle just now. */
  #tryWaiting(nowNs: number): BalanceEvent | undefined {
    this.#waitAtNs = nowNs + WAIT_STEP_NS;
    if (nowNs >= this.#waitUntilNs) {
      this.#refusals.live += this.#waiting.size;
      this.#waiting.clear();
      this.#waitAtNs = Number.POSITIVE_INFINITY;
    }
    const idle = [...this.#waiting.values()].filter(({ from, group }) => this.#observer.liveIn(from, group) === 0);
    for (const { group } of idle) this.#waiting.delete(group);
    if (idle.length === 0) return undefined;
    const event = this.#make(idle, nowNs);
    return event.moves.length + event.refused.length > 0 ? event : undefined;
  }

  /** @param steal called when the moves have begun. */
  #make(moves: readonly Move[], nowNs: number, steal?: () => void): BalanceEvent {
    const done: Move[] = [];
    const all = this.#apply(
      moves.filter(({ live }) => live !== true),
      done,
      nowNs,
    );
    done.push(...this.#migrated.splice(0));
    all.push(...this.#notMigrated.splice(0), ...this.#migrate(moves.filter(({ live }) => live === true)));
    steal?.();
    const waits = ({ refusal, wait }: (typeof all)[number]) =>
      wait === true && (refusal === "live" || refusal === "arriving");
    const refused = all.filter((move) => !waits(move));
    for (const { refusal: _, ...move } of all.filter(waits)) this.#waiting.set(move.group, move);
    this.#waitAtNs = this.#waiting.size > 0 ? nowNs + WAIT_STEP_NS : Number.POSITIVE_INFINITY;
    for (const { reason } of done) this.#moves[reason] = (this.#moves[reason] ?? 0) + 1;
    const { steals, stealsRefused } = this.#stealing.news();
    for (const { refusal } of [...refused, ...stealsRefused]) this.#refusals[refusal]++;
    return { nowNs, moves: done, refused, steals, stealsRefused, loads: this.#loads, groups: this.#groupCounts() };
  }

  /** Begins the live moves. @returns those that cannot be. */
  #migrate(moves: readonly Move[]): (Move & { refusal: Refusal })[] {
    const { migrate } = this.#options;
    const refused: (Move & { refusal: Refusal })[] = [];
    for (const move of moves) {
      const { group, to } = move;
      if (!migrate || this.#isGroupMoving(group) || !this.#isPossible(move)) {
        refused.push({ ...move, refusal: "stale" });
        continue;
      }
      this.#migrating.set(group, move);
      migrate(group, to, (refusal) => {
        this.#migrating.delete(group);
        // Likewise what has been opened since the last look.
        this.#observer.settle(move.from, group, this.#queueOf(group) ?? to);
        if (refusal) this.#notMigrated.push({ ...move, refusal: "migration" });
        else this.#migrated.push(move);
      });
    }
    return refused;
  }

  stats(): BalancerStats {
    return {
      policy: this.#policy.name,
      loads: this.#loads,
      groups: this.#groupCounts(),
      moves: { ...this.#moves },
      refusals: { ...this.#refusals },
      stolen: [...this.#stealing.stolen],
      stolenFrom: [...this.#stealing.stolenFrom],
      pinned: this.#pins.count,
      strays: this.#strays,
    };
  }

  /**
   * Groups that were to move stay where they are: their new kernel leaves or has died, or there is no filter for some
   * connection of theirs.
   */
  refused(groups: readonly number[], why: GroupRefusal): void {
    const refused = new Set(groups);
    if (why === "filters") this.#isShort = true;
    if (this.#applying) for (const group of groups) this.#applying.set(group, why);
    else this.#refusals[why] += groups.length;
    // At home they need no filters.
    this.#pins.take(({ group, kernel }) => refused.has(group) && this.#queueOf(group) === kernel);
  }

  /**
   * These connections have got no filter after all. If their group has gone (they were found late), it comes back, or
   * else they follow it.
   */
  filtersRefused(flows: readonly ReplyTuple[]): void {
    this.#isShort = true;
    const torn = new Map<number, number>();
    for (const flow of flows) {
      const pinned = this.#pins.refused(flow);
      // One that is on its way the end of its steal brings to where it belongs.
      if (this.#stealing.isOnTheWay(flow)) continue;
      if (!pinned || this.#queueOf(pinned.group) === pinned.kernel) continue;
      this.#settling.refused(flow);
      torn.set(pinned.group, pinned.kernel);
    }
    for (const [group, kernel] of torn) this.#reunite(group, kernel);
  }

  /** There is no filter for a connection of the group in `kernel`: the group comes back, or goes where that is. */
  #reunite(group: number, kernel: number): void {
    const { device, isForwarding, memoryOf, runningMemoryOf = memoryOf, migrate } = this.#options;
    const now = this.#queueOf(group);
    if (now === undefined || now === kernel || runningMemoryOf(kernel) === undefined) return;
    if (this.#isMigrating(group) || isForwarding?.(kernel, group)) {
      this.#torn.set(group, kernel);
      return;
    }
    if (memoryOf(kernel) !== undefined && this.#observer.liveIn(now, group) === 0) {
      this.#refusals.filters++;
      device.moveFlowGroup?.(group, kernel);
      this.#settle([{ group, from: now }], this.#nowNs);
    } else if (migrate) {
      migrate(group, now, (refusal) => {
        if (refusal) this.#strays++;
      });
    } else this.#strays++;
  }

  /** A move of the group may have brought together what was torn. */
  #reuniteTorn(): void {
    // A copy: what still cannot be brought together is put in again.
    for (const [group, kernel] of [...this.#torn]) {
      if (this.#isMigrating(group)) continue;
      this.#torn.delete(group);
      if (this.#queueOf(group) !== kernel && this.#observer.liveIn(kernel, group) > 0) this.#reunite(group, kernel);
    }
  }

  /** A connection that was to be stolen lives on in its kernel. */
  #pinBack(flow: PinnedFlow): void {
    const { memoryOf, runningMemoryOf = memoryOf } = this.#options;
    const { group, kernel } = flow;
    if (this.#queueOf(group) === kernel || runningMemoryOf(kernel) === undefined) {
      const removed = this.#pins.remove(flow);
      // Until that is written its segments still come to the thief.
      if (removed) this.#settle([{ group, from: removed.kernel }], this.#nowNs);
    } else if (!this.#pins.add(flow, this.#nowNs)) this.#reunite(group, kernel);
  }

  #queueOf(group: number): number | undefined {
    return this.#options.device.flowGroupQueue?.(group);
  }

  /**
   * Takes away the filters of the group's connections: they move with it. @returns what puts them back.
   */
  unpin(group: number): () => void {
    const { memoryOf, runningMemoryOf = memoryOf } = this.#options;
    const flows = this.#pins.takeGroup(group);
    return () => {
      // Since now: they are still frozen, and not seen to live. Those of a kernel that has ended meanwhile are gone.
      const kept = flows.filter(({ flow }) => runningMemoryOf(flow.kernel) !== undefined);
      for (const { flow } of kept) this.#pins.add(flow, this.#nowNs);
    };
  }

  /** The group's connections that filters keep in a kernel. */
  pinnedOf(group: number): PinnedFlow[] {
    return this.#pins.find((flow) => flow.group === group);
  }

  /** A filter of ours keeps the connection in this kernel, or its successor elsewhere, or it is being stolen. */
  isPinned(flow: FoundFlow): boolean {
    return this.#pins.holds(flow) || this.#pins.isSucceeded(flow) || this.#stealing.isOnTheWay(flow);
  }

  /** Takes its filters out of the device; the groups stay where they are. */
  close(): void {
    this.#settling.close();
    this.#pins.clear();
  }

  #apply(moves: readonly Move[], done: Move[], nowNs: number): (Move & { refusal: Refusal })[] {
    const { device } = this.#options;
    const refused: (Move & { refusal: Refusal })[] = [];
    const wanted = new Map<number, Move>();
    for (const move of moves) {
      if (!this.#isMigrating(move.group) && this.#isPossible(move) && !wanted.has(move.group))
        wanted.set(move.group, move);
      else refused.push({ ...move, refusal: "stale" });
    }
    const refuse = (group: number, refusal: Refusal) => {
      const move = wanted.get(group);
      if (!move) return;
      wanted.delete(group);
      refused.push({ ...move, refusal });
    };
    for (const { group, from, pin } of [...wanted.values()]) {
      if (pin !== true && this.#observer.liveIn(from, group) > 0) refuse(group, "live");
    }
    const guard = (flow: FoundFlow) => {
      const move = wanted.get(flow.group);
      if (move?.from !== flow.kernel || this.#options.isPinnedElsewhere?.(flow)) return;
      if (this.#pins.isSucceeded(flow)) return;
      if (move.pin !== true) refuse(flow.group, "arriving");
      else if (!this.#pins.add(flow, nowNs)) refuse(flow.group, "filters");
    };
    const kernels = [...new Set(moves.map(({ from }) => from))];
    const isWanted = (group: number) => wanted.has(group);
    this.#forEachFlow(kernels, guard, isWanted);
    if (wanted.size === 0) return refused;
    this.#trustCookies(nowNs);
    const threads = kernels.some((kernel) => this.#options.memoryOf(kernel)?.shared);
    if (threads) this.#settling.prepare([...wanted.values()].flatMap(({ from, to }) => [from, to]));
    for (const { group, from, to } of wanted.values()) {
      this.#observer.settle(from, group, to);
      device.moveFlowGroup?.(group, to, true);
    }
    this.#applying = new Map();
    device.commitTables?.();
    for (const [group, why] of this.#applying) refuse(group, why);
    this.#applying = undefined;
    // Only other threads can have done anything since.
    if (threads) {
      const moved = [...wanted.values()];
      this.#forEachFlow(kernels, guard, isWanted);
      const back = moved.filter(({ group }) => !wanted.has(group));
      for (const { group, from } of back) device.moveFlowGroup?.(group, from);
      this.#settling.begin([...wanted.values(), ...back.map(({ group, to }) => ({ group, from: to }))], nowNs);
    }
    done.push(...wanted.values());
    return refused;
  }

  #isPossible({ group, from, to }: Move): boolean {
    const { device, isForwarding, kernels, memoryOf } = this.#options;
    if (!(group >= 0 && group < device.capabilities.flowGroups && to >= 0 && to < kernels) || from === to) return false;
    if (isForwarding?.(to, group)) return false;
    // What a leaving kernel has goes as it becomes free (control/rehoming.ts).
    return device.flowGroupQueue?.(group) === from && memoryOf(from) !== undefined && memoryOf(to)?.booted === true;
  }

  #isMigrating(group: number): boolean {
    return this.#migrating.has(group) || this.#options.isMigrating?.(group) === true;
  }

  /** The same, but for steals. */
  #isGroupMoving(group: number): boolean {
    const { isMigrating, isGroupMoving = isMigrating } = this.#options;
    return this.#migrating.has(group) || isGroupMoving?.(group) === true;
  }

  /** The steering of these has changed. Nothing is on its way where kernels have no threads of their own. */
  #settle(pairs: readonly Pair[], nowNs: number): void {
    const { memoryOf, runningMemoryOf = memoryOf } = this.#options;
    const shared = pairs.filter(({ from }) => runningMemoryOf(from)?.shared === true);
    if (shared.length > 0) this.#settling.begin(shared, nowNs);
  }

  #sweep(nowNs: number): void {
    this.#sweepAtNs = nowNs + SWEEP_NS;
    const living = new Set<string>();
    const groups = new Set<number>();
    this.#pins.forEachPair((_kernel, group) => groups.add(group));
    const note = (flow: PinnedFlow) => living.add(`${flow.kernel} ${flowKey(flow)}`);
    this.#forEachFlow(this.#pins.kernels(), note, (group) => groups.has(group));
    // On their way they are in no kernel.
    for (const flow of this.#stealing.onTheWay()) living.add(`${flow.kernel} ${flowKey(flow)}`);
    const isNeeded = (key: string, kernel: number) =>
      living.has(`${kernel} ${key}`) || this.#stealing.isForwarded(key) || this.#stealing.isVictim(kernel);
    const ended = this.#pins.sweep(nowNs - SWEEP_NS, isNeeded);
    // The peer may just have opened its next connection from the same port, by the filter.
    const elsewhere = ended.filter(({ kernel, group }) => this.#queueOf(group) !== kernel);
    this.#settle(
      elsewhere.map(({ group, kernel }) => ({ group, from: kernel })),
      nowNs,
    );
  }

  /** Connections and waiting SYNs of the kernels. */
  #forEachFlow(
    kernels: readonly number[],
    visit: (flow: FoundFlow) => void,
    isWanted: (group: number) => boolean = () => true,
  ): void {
    const { addresses, device, memoryOf, runningMemoryOf = memoryOf } = this.#options;
    const rule = groupRuleOf(device.capabilities);
    for (const kernel of kernels) {
      const memory = runningMemoryOf(kernel);
      if (!memory) continue;
      // Lanes first: a SYN that is taken out of its lane meanwhile is found as a connection.
      for (const lane of this.#observer.lanesOf(kernel)) {
        forEachWaitingSyn(lane, (tuple) => {
          const group = this.#groupOf(tuple);
          if (isWanted(group)) visit({ ...tuple, kernel, group, isWaiting: true });
        });
      }
      forEachConnection(
        memory,
        (remote, remotePort, localIndex, localPort, isDying) => {
          const local = addresses[localIndex];
          const group = groupOfPorts(remotePort, localPort, rule);
          if (local) visit({ remote: remote.slice(), remotePort, local, localPort, kernel, group, isDying });
        },
        (remotePort, localPort) => isWanted(groupOfPorts(remotePort, localPort, rule)),
      );
    }
  }

  #groupOf({ remotePort, localPort }: Pick<ReplyTuple, "remotePort" | "localPort">): number {
    return groupOfPorts(remotePort, localPort, groupRuleOf(this.#options.device.capabilities));
  }

  #trustCookies(nowNs: number): void {
    const { kernels, memoryOf } = this.#options;
    trustCookies(
      Array.from({ length: kernels }, (_, kernel) => memoryOf(kernel)),
      nowNs / NS_PER_MS,
    );
  }

  #groupCounts(): number[] {
    const { device, kernels } = this.#options;
    const owner = new Uint16Array(device.capabilities.flowGroups);
    for (let group = 0; group < owner.length; group++) owner[group] = device.flowGroupQueue?.(group) ?? OWNER_NONE;
    return countGroups(owner, kernels);
  }
}
