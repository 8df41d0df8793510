/**
 * angel's last resort: load that comes from connections which are there already. Their groups move with them. What a
 * group costs is its share of the bytes that its kernel's groups have carried since the last look; so the policy
 * predicts here, too, and a connection that alone is more than the excess stays where it is.
 */
import { leastLoaded, lowersPeak, mostLoaded } from "./peak.ts";
import type { Move, Observation } from "./policy.ts";

const REASON = "busy, with its connections";

export type LiveConstants = {
  /** Time between two looks at what groups carry, while a kernel is overloaded and nothing else helps. */
  readonly livePeriodNs: number;
  /** Groups moved with their connections in one step. */
  readonly liveMovesMax: number;
  /** How long such a group stays. */
  readonly liveRestNs: number;
};

export type LiveState = {
  /** Of the last look. */
  readonly atNs: number;
  readonly progress: Uint32Array;
  readonly live: Uint32Array;
  readonly opened: Uint32Array;
};

type Situation = {
  readonly alive: readonly number[];
  readonly loads: readonly number[];
  readonly meanLoad: number;
  readonly stopGap: number;
  readonly nowNs: number;
  /** When each group may move again. */
  readonly restUntilNs: Float64Array;
};

/** @param state of the last look; undefined: this is the first. */
export function chooseLive(
  options: LiveConstants,
  { groups }: Observation,
  state: LiveState | undefined,
  situation: Situation,
): { moves: Move[]; state: LiveState } {
  const { nowNs, alive, meanLoad, stopGap, restUntilNs } = situation;
  if (state && nowNs - state.atNs < options.livePeriodNs) return { moves: [], state };
  const next = { atNs: nowNs, progress: groups.progress, live: groups.live, opened: groups.opened };
  // After a pause the old picture says little.
  if (!state || nowNs - state.atNs > 2 * options.livePeriodNs) return { moves: [], state: next };
  const carried = carriedBytes(state, next);
  const loads = situation.loads.slice();
  const sums: number[] = loads.map(() => 0);
  groups.owner.forEach((kernel, group) => {
    if (kernel < sums.length) sums[kernel] = (sums[kernel] as number) + (carried[group] as number);
  });
  const isCandidate = (group: number) => {
    const from = groups.owner[group] as number;
    if (!alive.includes(from) || (loads[from] as number) - meanLoad <= stopGap / 2) return false;
    return (carried[group] as number) > 0 && nowNs >= (restUntilNs[group] as number);
  };
  const order = Array.from(carried.keys()).filter(isCandidate);
  order.sort((a, b) => (carried[b] as number) - (carried[a] as number) || a - b);
  const moves: Move[] = [];
  for (const group of order) {
    if (moves.length === options.liveMovesMax) break;
    const from = groups.owner[group] as number;
    const fromLoad = situation.loads[from] as number;
    const cost = (fromLoad * (carried[group] as number)) / (sums[from] as number);
    const excess = (loads[from] as number) - meanLoad;
    if (excess <= stopGap / 2 || cost > excess) continue;
    const to = leastLoaded(alive, loads);
    if (to === from || (loads[to] as number) + cost > (loads[from] as number) - cost) continue;
    loads[from] = (loads[from] as number) - cost;
    loads[to] = (loads[to] as number) + cost;
    moves.push({ group, from, to, reason: REASON, live: true });
  }
  if (moves.length > 0) return { moves, state: next };
  const kernel = mostLoaded(alive, situation.loads);
  const perByte = (situation.loads[kernel] as number) / (sums[kernel] as number);
  const ofKernel = order.filter((group) => groups.owner[group] === kernel);
  const one = lowersPeak(situation, ofKernel, (group) => perByte * (carried[group] as number));
  if (one) moves.push({ ...one, reason: REASON, live: true });
  return { moves, state: next };
}

/** Bytes that each group's connections have carried; 0 where connections have come or gone. */
function carriedBytes(before: LiveState, now: LiveState): Float64Array {
  const carried = new Float64Array(now.progress.length);
  for (let group = 0; group < carried.length; group++) {
    const same = before.live[group] === now.live[group] && before.opened[group] === now.opened[group];
    if (!same || now.live[group] === 0) continue;
    const bytes = ((now.progress[group] as number) - (before.progress[group] as number)) >>> 0;
    // A connection that has been exchanged for another unnoticed makes nonsense of the sum.
    if (bytes < 0x80000000) carried[group] = bytes;
  }
  return carried;
}
