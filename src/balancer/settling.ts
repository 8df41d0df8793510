/**
 * What has to become of a flow group's connections after the device has ceased to steer the group, or some flow of it,
 * to a kernel that runs on a thread of its own. Nobody sees all threads and the device at one instant: a SYN may have
 * been on its way, a connection may end while its filter is being written, and the peer may open the next one from the
 * same port at home. So the kernels and what is pinned are compared, mended and compared again, until nothing is left
 * to mend; and until then no kernel answers what it does not know with RST.
 *
 * ```
 *  begin() ──▶ the owner writes ──▶ both kernels read what lay before them ──▶ look ──nothing to mend──▶ over
 *                     ▲                                                         │
 *                     └─────────────────── filters set or removed ◀─────────────┘
 * ```
 * What a look makes true of each flow, in this order:
 *  1. it lives where a filter leads it: good;
 *  2. it lives at home, where its group is: no filter leads it away;
 *  3. it lives in the kernel that the group has left: a filter leads it there.
 * Invariant: while no pair settles, every connection gets the segments of its flow. For a connection that does not get
 * them cannot end, so the next look finds it; and a look that finds none, in kernels that have read all that was
 * steered before the last write, is followed by no change of the steering. New connections are then opened where the
 * rest of their segments will go.
 */
import { Backlog } from "../control/backlog.ts";
import type { Device } from "../device/device.ts";
import { HEALTH_BASE, HEALTH_WITHHOLD_RST } from "../layout/kernelMemory.ts";
import type { KernelMemory } from "../views/kernelMemory.ts";
import { flowKey, type PinnedFlow, type Pins, pairKey } from "./pins.ts";

/** Frames that a sending thread was about to place are in a lane, and looked for there, after this. */
const LOOK_NS = 10e6;
/** A kernel that does not come to its turn is not waited for any longer; the supervisor finds it. */
const READ_MS_MAX = 500;
const NS_PER_MS = 1e6;
/** Bit of HEALTH_WITHHOLD_RST that is ours; the others belong to the supervisor (control/rehoming.ts). */
const WITHHOLD_BALANCER = 2;

export type SettlingOptions = {
  readonly device: Device;
  readonly pins: Pins;
  readonly kernels: number;
  readonly memoryOf: (kernel: number) => KernelMemory | undefined;
  /** Connections and waiting SYNs of the kernels, of wanted groups. */
  readonly forEachFlow: (
    kernels: readonly number[],
    visit: (flow: PinnedFlow) => void,
    isWanted: (group: number) => boolean,
  ) => void;
  /** The flow's connection is being stolen: the end of its steal says where it belongs. */
  readonly isOnTheWay: (flow: PinnedFlow) => boolean;
  /** There is no filter for some connection of the group in `from`. The pair settles no longer. */
  readonly stuck: (pair: Pair) => void;
};

/** A flow group and a kernel to which it, or some flow of it, is no longer steered. */
export type Pair = { readonly group: number; readonly from: number };

/** Pairs that wait for the same writes and frames. */
type Round = { readonly backlog: Backlog; lookAtNs: number };

type Settled = { readonly pair: Pair; readonly round: Round };

export class Settling {
  readonly #options: SettlingOptions;
  /** By pairKey. */
  readonly #pairs = new Map<number, Settled>();
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

  /** Before the steering is changed: kernels are silent until begin() and what follows from it. */
  prepare(): void {
    this.#withhold(true);
  }

  /** The steering has been changed for these, as far as it is up to us: the owner may not have written it yet. */
  begin(pairs: readonly Pair[], nowNs: number): void {
    if (pairs.length > 0) {
      this.#withhold(true);
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
    for (const [key, { round }] of due) if (stuck.has(key) || past.has(round)) this.#pairs.delete(key);
    this.begin(
      [...mended].filter(([key]) => !stuck.has(key)).map(([, pair]) => pair),
      nowNs,
    );
    for (const pair of stuck.values()) this.#options.stuck(pair);
  }

  /** Kernels speak again. */
  close(): void {
    this.#pairs.clear();
    this.#planNext();
  }

  #planNext(): void {
    if (this.#pairs.size === 0) this.#withhold(false);
    let deadlineNs = Number.POSITIVE_INFINITY;
    for (const { round } of this.#pairs.values()) deadlineNs = Math.min(deadlineNs, round.lookAtNs);
    this.#deadlineNs = deadlineNs;
  }

  #newRound(pairs: readonly Pair[], nowNs: number): Round {
    const { device, memoryOf } = this.#options;
    const backlog = new Backlog({ device, memoryOf });
    backlog.note(this.#kernelsOf(pairs), nowNs / NS_PER_MS);
    return { backlog, lookAtNs: nowNs + LOOK_NS };
  }

  /** Those that the pairs' groups have left, those where they are, and those where filters keep some of their flows. */
  #kernelsOf(pairs: Iterable<Pair>): number[] {
    const kernels = new Set<number>();
    const groups = new Set<number>();
    for (const { group, from } of pairs) {
      kernels.add(from);
      groups.add(group);
      const home = this.#homeOf(group);
      if (home !== undefined) kernels.add(home);
    }
    this.#options.pins.forEachPair((kernel, group) => groups.has(group) && kernels.add(kernel));
    return [...kernels];
  }

  #homeOf(group: number): number | undefined {
    return this.#options.device.flowGroupQueue?.(group);
  }

  /** @returns pairs, by pairKey, for which something was changed, and those for which there was no filter. */
  #look(due: ReadonlyMap<number, Pair>, nowNs: number): { mended: Map<number, Pair>; stuck: Map<number, Pair> } {
    const { forEachFlow, isOnTheWay, pins } = this.#options;
    const groups = new Set([...due.values()].map(({ group }) => group));
    const found = new Map<string, PinnedFlow[]>();
    const gather = (flow: PinnedFlow) => {
      const flows = found.get(flowKey(flow));
      if (flows) flows.push(flow);
      else found.set(flowKey(flow), [flow]);
    };
    forEachFlow(this.#kernelsOf(due.values()), gather, (group) => groups.has(group));
    const mended = new Map<number, Pair>();
    const stuck = new Map<number, Pair>();
    for (const flows of found.values()) {
      const [first] = flows as [PinnedFlow];
      if (isOnTheWay(first) || flows.some((flow) => pins.holds(flow))) continue;
      const home = this.#homeOf(first.group);
      if (flows.some(({ kernel }) => kernel === home)) {
        const misled = pins.remove(first);
        if (misled) note(mended, misled);
        continue;
      }
      const late = flows.find(({ kernel, group }) => due.has(pairKey(kernel, group)));
      if (late) note(pins.add(late, nowNs) ? mended : stuck, late);
    }
    return { mended, stuck };
  }

  #withhold(withhold: boolean): void {
    const word = (HEALTH_BASE + HEALTH_WITHHOLD_RST) >> 2;
    for (let kernel = 0; kernel < this.#options.kernels; kernel++) {
      const memory = this.#options.memoryOf(kernel);
      if (!memory?.shared) continue;
      if (withhold) Atomics.or(memory.words, word, WITHHOLD_BALANCER);
      else Atomics.and(memory.words, word, ~WITHHOLD_BALANCER);
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
