/**
 * What has to become of a flow group's connections after the device has ceased to steer the group, or some flow of it,
 * to a kernel: of the balancer's groups, and of the re-homing's entries (control/rehoming.ts). Nobody sees all threads
 * and the device at one instant: a SYN may have been on its way, a connection may end while its filter is being
 * written, and the peer may open the next one from the same port at home. So the kernels and what is pinned are
 * compared, mended and compared again, until nothing is left to mend; and until then the kernels concerned do not
 * answer what they do not know with RST.
 *
 * ```
 *  begin() ──▶ the owner writes ──▶ both kernels read what lay before them ──▶ look ──nothing to mend──▶ over
 *                     ▲                                                         │
 *                     └─────────────────── filters set or removed ◀─────────────┘
 * ```
 * What a look makes true of each flow, in this order:
 *  1. it lives where a filter leads it: good;
 *  2. it lives at home, where its group is: no filter leads it away;
 *  3. it lives in the kernel that the group has left: a filter leads it there, unless the owner has refused it one.
 * Of two connections of one flow the one that only waits for its last ACK is the other's predecessor, and does not
 * count. A SYN that a kernel has not read counts where there is no connection: it may be the copy of an old one.
 * Invariant: while no pair settles, every connection gets the segments of its flow. For a connection that does not get
 * them cannot end, so the next look finds it; and a look that finds none, in kernels that have read all that was
 * steered before the last write, is followed by no change of the steering. New connections are then opened where the
 * rest of their segments will go.
 */
import { Backlog } from "../control/backlog.ts";
import type { Device } from "../device/device.ts";
import type { ReplyTuple } from "../device/replySteering.ts";
import { HEALTH_BASE, HEALTH_WITHHOLD_RST } from "../layout/kernelMemory.ts";
import type { KernelMemory } from "../views/kernelMemory.ts";
import { type FoundFlow, flowKey, type PinnedFlow, type Pins, pairKey } from "./pins.ts";

/** Frames that a sending thread was about to place are in a lane, and looked for there, after this. */
const LOOK_NS = 10e6;
/** A kernel that does not come to its turn is not waited for any longer; the supervisor finds it. */
const READ_MS_MAX = 500;
const NS_PER_MS = 1e6;
const WITHHOLD_WORD = (HEALTH_BASE + HEALTH_WITHHOLD_RST) >> 2;

export type SettlingOptions = {
  readonly device: Device;
  readonly pins: Pins;
  readonly kernels: number;
  /** Bit of HEALTH_WITHHOLD_RST that is this settling's. */
  readonly withholdBit: number;
  /** Where the device steers the group. */
  readonly homeOf: (group: number) => number | undefined;
  readonly memoryOf: (kernel: number) => KernelMemory | undefined;
  /** Connections and waiting SYNs of the kernels, of wanted groups. */
  readonly forEachFlow: (
    kernels: readonly number[],
    visit: (flow: FoundFlow) => void,
    isWanted: (group: number) => boolean,
  ) => void;
  /** The flow's connection is being stolen, or somebody else's filter keeps it: it is not ours to lead. */
  readonly isOthers: (flow: FoundFlow) => boolean;
  /** The group moves with its connections: what is found says nothing. It is looked at again. */
  readonly isMoving?: (group: number) => boolean;
  /** There is no filter for some connection of the group in `from`. The pair settles no longer. */
  readonly stuck: (pair: Pair) => void;
};

/** A flow group and a kernel to which it, or some flow of it, is no longer steered. */
export type Pair = { readonly group: number; readonly from: number };

/** Pairs that wait for the same writes and frames, and the kernels that those may bring something unknown to. */
type Round = { readonly backlog: Backlog; readonly kernels: readonly number[]; lookAtNs: number };

type Settled = { readonly pair: Pair; readonly round: Round };

export class Settling {
  readonly #options: SettlingOptions;
  /** By pairKey. */
  readonly #pairs = new Map<number, Settled>();
  /** Keys of flows that the owner has refused filters for: until all is over they are not tried again. */
  readonly #refused = new Set<string>();
  #deadlineNs = Number.POSITIVE_INFINITY;

  constructor(options: SettlingOptions) {
    this.#options = options;
  }

  /** When step() has something to do, ns. */
  get deadlineNs(): number {
    return this.#deadlineNs;
  }

  /** True while connections of the group may turn up in the kernel although it is not the group's home. */
  has(kernel: number, group: number): boolean {
    return this.#pairs.has(pairKey(kernel, group));
  }

  /** True while anything may turn up in the kernel although it is elsewhere that its group is steered to. */
  hasAny(kernel: number): boolean {
    for (const { pair } of this.#pairs.values()) if (pair.from === kernel) return true;
    return false;
  }

  get isOver(): boolean {
    return this.#pairs.size === 0;
  }

  /** Before the steering is changed, by which these kernels get what others got: they are silent until begin(). */
  prepare(kernels: Iterable<number>): void {
    this.#withhold(kernels);
  }

  /** The steering has been changed for these, as far as it is up to us: the owner may not have written it yet. */
  begin(pairs: readonly Pair[], nowNs: number): void {
    if (pairs.length > 0) {
      const round = this.#newRound(pairs, nowNs);
      for (const pair of pairs) this.#pairs.set(pairKey(pair.from, pair.group), { pair, round });
    }
    this.#planNext();
  }

  /** Looks, where it is time to. */
  step(nowNs: number): void {
    const due = new Map([...this.#pairs].filter(([, { round }]) => round.lookAtNs <= nowNs));
    const rounds = new Set([...due.values()].map(({ round }) => round));
    // Asked before the look: what is read in between is seen by the next one.
    const past = new Set([...rounds].filter((round) => isPast(round, nowNs)));
    const { mended, stuck } = this.#look(new Map([...due].map(([key, { pair }]) => [key, pair])), nowNs);
    for (const round of rounds) round.lookAtNs = nowNs + LOOK_NS;
    for (const [key, { pair, round }] of due) {
      const isDone = past.has(round) && this.#options.isMoving?.(pair.group) !== true;
      if (stuck.has(key) || isDone) this.#pairs.delete(key);
    }
    this.begin(
      [...mended].filter(([key]) => !stuck.has(key)).map(([, pair]) => pair),
      nowNs,
    );
    for (const pair of stuck.values()) this.#options.stuck(pair);
  }

  /**
   * The owner has refused the filter of this flow, after Pins.add(): it stays without one, for each further try would
   * begin another round, and so on for ever.
   */
  refused(flow: ReplyTuple): void {
    if (!this.isOver) this.#refused.add(flowKey(flow));
  }

  /** Kernels speak again. */
  close(): void {
    this.#pairs.clear();
    this.#planNext();
  }

  #planNext(): void {
    if (this.isOver) this.#refused.clear();
    let deadlineNs = Number.POSITIVE_INFINITY;
    // A group may have gone on since: what is found late in the kernel it left first sends its peer to its home of now.
    const involved = new Set(this.#kernelsOf([...this.#pairs.values()].map(({ pair }) => pair)));
    for (const round of new Set([...this.#pairs.values()].map((settled) => settled.round))) {
      deadlineNs = Math.min(deadlineNs, round.lookAtNs);
      for (const kernel of round.kernels) involved.add(kernel);
    }
    this.#deadlineNs = deadlineNs;
    this.#withhold(involved);
    for (let kernel = 0; kernel < this.#options.kernels; kernel++) {
      const memory = involved.has(kernel) ? undefined : this.#options.memoryOf(kernel);
      if (memory) Atomics.and(memory.words, WITHHOLD_WORD, ~this.#options.withholdBit);
    }
  }

  #newRound(pairs: readonly Pair[], nowNs: number): Round {
    const { device, memoryOf } = this.#options;
    const backlog = new Backlog({ device, memoryOf });
    const kernels = this.#kernelsOf(pairs);
    backlog.note(kernels, nowNs / NS_PER_MS);
    return { backlog, kernels, lookAtNs: nowNs + LOOK_NS };
  }

  /** Those that the pairs' groups have left, those where they are, and those where filters keep some of their flows. */
  #kernelsOf(pairs: Iterable<Pair>): number[] {
    const kernels = new Set<number>();
    const groups = new Set<number>();
    for (const { group, from } of pairs) {
      kernels.add(from);
      groups.add(group);
      const home = this.#options.homeOf(group);
      if (home !== undefined) kernels.add(home);
    }
    this.#options.pins.forEachPair((kernel, group) => groups.has(group) && kernels.add(kernel));
    return [...kernels];
  }

  /** @returns pairs, by pairKey, for which something was changed, and those for which there was no filter. */
  #look(due: ReadonlyMap<number, Pair>, nowNs: number): { mended: Map<number, Pair>; stuck: Map<number, Pair> } {
    const { forEachFlow, isMoving, isOthers, pins } = this.#options;
    const groups = new Set([...due.values()].map(({ group }) => group));
    for (const group of [...groups]) if (isMoving?.(group)) groups.delete(group);
    const found = new Map<string, FoundFlow[]>();
    const gather = (flow: FoundFlow) => {
      const flows = found.get(flowKey(flow));
      if (flows) flows.push(flow);
      else found.set(flowKey(flow), [flow]);
    };
    forEachFlow(this.#kernelsOf(due.values()), gather, (group) => groups.has(group));
    const mended = new Map<number, Pair>();
    const stuck = new Map<number, Pair>();
    for (const all of found.values()) {
      // A SYN that waits may be an old one's copy: where there is a connection, that decides; best a living one.
      const connections = all.filter(({ isWaiting }) => !isWaiting);
      const living = connections.filter(({ isDying }) => !isDying);
      const flows = [living, connections, all].find(({ length }) => length > 0) as FoundFlow[];
      const [first] = flows as [FoundFlow];
      if (flows.some((flow) => isOthers(flow) || pins.holds(flow))) continue;
      const home = this.#options.homeOf(first.group);
      if (flows.some(({ kernel }) => kernel === home)) {
        const misled = pins.remove(first);
        if (misled) note(mended, misled);
        continue;
      }
      if (this.#refused.has(flowKey(first))) continue;
      const late = flows.find(({ kernel, group }) => due.has(pairKey(kernel, group)));
      if (late) note(pins.add(late, nowNs) ? mended : stuck, late);
    }
    return { mended, stuck };
  }

  #withhold(kernels: Iterable<number>): void {
    for (const kernel of kernels) {
      const memory = this.#options.memoryOf(kernel);
      if (memory) Atomics.or(memory.words, WITHHOLD_WORD, this.#options.withholdBit);
    }
  }
}

function note(pairs: Map<number, Pair>, { kernel, group }: PinnedFlow): void {
  pairs.set(pairKey(kernel, group), { group, from: kernel });
}

function isPast({ backlog }: Round, nowNs: number): boolean {
  const nowMs = nowNs / NS_PER_MS;
  return backlog.isPast(nowMs) || backlog.waitedMs(nowMs) >= READ_MS_MAX;
}
