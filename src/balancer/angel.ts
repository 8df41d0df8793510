/**
 * Our own policy. What a group costs is known before it moves: its share of the openings that its kernel's load comes
 * from. So the policy predicts the loads after each move and moves exactly as much as evens them out, hottest groups
 * first, in one step; then it lets things settle and looks again.
 *
 * - A group with connections can move as well: they are pinned to their kernel by exact filters, if the device has
 *   some left; the group's next connections go to the new one. At equal heat a group without connections is preferred.
 *   Without filters the balancer waits for a moment when the group has none.
 * - Where no move of that kind helps, because the load comes from connections that live long, groups move with their
 *   connections (angelLive.ts).
 * - Where every group is larger than what would even the loads out, one moves if that lowers the peak (peak.ts).
 * - It does not follow chance: how much a kernel's load varies from look to look says how far its average may be off,
 *   and a difference below three times that is none. An even load at 70 % is left alone.
 * - It does not oscillate: it starts only when the most loaded kernel is `startGap` above the mean, stops at `stopGap`,
 *   never moves more than evens out, waits `settleNs` for the effect, and a moved group rests for `restNs`.
 */
import { chooseLive, type LiveConstants, type LiveState } from "./angelLive.ts";
import { leastLoaded, lowersPeak, mostLoaded } from "./peak.ts";
import type { GroupsObservation, Move, Observation, Policy } from "./policy.ts";

export type AngelConstants = {
  readonly periodNs: number;
  /** Time constants of the averages of a group's openings and of a kernel's load. */
  readonly rateNs: number;
  readonly loadNs: number;
  /** Distance of the largest load to the mean at which balancing starts, and at which it stops. */
  readonly startGap: number;
  readonly stopGap: number;
  /** What a full queue adds to a kernel's load: two saturated kernels differ by their queues. */
  readonly queueWeight: number;
  /** Below this load nobody needs help. */
  readonly loadMin: number;
  /** Pause after moves. */
  readonly settleNs: number;
  /** How long a group stays after a move. */
  readonly restNs: number;
  /** Groups moved in one step. */
  readonly movesMax: number;
} & LiveConstants;

export const ANGEL_DEFAULTS: AngelConstants = {
  periodNs: 20e6,
  rateNs: 200e6,
  loadNs: 200e6,
  startGap: 0.06,
  stopGap: 0.02,
  queueWeight: 0.1,
  loadMin: 0.3,
  settleNs: 100e6,
  restNs: 1e9,
  movesMax: 256,
  livePeriodNs: 200e6,
  liveMovesMax: 8,
  liveRestNs: 5e9,
};

/** Time constant of the variances. */
const VARIANCE_NS = 1e9;
/** So many are more than chance. */
const STANDARD_ERRORS = 3;

type State = {
  readonly atNs: number;
  readonly opened: Uint32Array;
  /** Openings per second and group. */
  readonly rates: Float64Array;
  /** Averages since the last moves have taken effect, and of how many looks. */
  readonly loads: readonly number[];
  readonly looks: number;
  /** Load of the last look, and the variance of one look's. */
  readonly lastLoads: readonly number[];
  readonly variances: readonly number[];
  /** Pairs of looks that the variances are of. */
  readonly pairs: number;
  readonly balancing: boolean;
  readonly settledNs: number;
  /** When each group may move again. */
  readonly restUntilNs: Float64Array;
  /** Undefined while nothing has been looked for among the connections that are there. */
  readonly live: LiveState | undefined;
};

export function angel(constants: Partial<AngelConstants> = {}): Policy {
  const options = { ...ANGEL_DEFAULTS, ...constants };
  return {
    name: "angel",
    periodNs: options.periodNs,
    decide: (observation, state, nowNs) => decide(options, observation, state as State | undefined, nowNs),
  };
}

function decide(
  options: AngelConstants,
  observation: Observation,
  state: State | undefined,
  nowNs: number,
): { moves: Move[]; state: State } {
  const next = observe(options, observation, state, nowNs);
  const alive = observation.kernels.flatMap((kernel, id) => (kernel.alive ? [id] : []));
  if (alive.length < 2) return { moves: [], state: { ...next, balancing: false } };
  const meanLoad = alive.reduce((sum, id) => sum + (next.loads[id] as number), 0) / alive.length;
  const most = mostLoaded(alive, next.loads);
  const gap = (next.loads[most] as number) - meanLoad;
  const crowded = (next.loads[most] as number) >= options.loadMin;
  const least = Math.max(next.balancing ? options.stopGap : options.startGap, chance(options, next, most));
  const balancing = crowded && gap > least;
  if (!balancing || nowNs < next.settledNs) return { moves: [], state: { ...next, balancing } };
  const moves = choose(options, observation, next, { alive, meanLoad, nowNs });
  if (moves.length === 0) moves.push(...chooseOne(options, observation, next, { alive, meanLoad, nowNs }));
  let { live } = next;
  if (moves.length === 0 && observation.canMigrate) {
    const { loads, restUntilNs } = next;
    const { stopGap } = options;
    const chosen = chooseLive(options, observation, live, { alive, loads, meanLoad, stopGap, nowNs, restUntilNs });
    live = chosen.state;
    moves.push(...chosen.moves);
  }
  if (moves.length === 0) return { moves, state: { ...next, live, balancing } };
  const restUntilNs = next.restUntilNs.slice();
  for (const move of moves) {
    restUntilNs[move.group] = nowNs + (move.live === true ? options.liveRestNs : options.restNs);
  }
  return { moves, state: { ...next, live, balancing, restUntilNs, settledNs: nowNs + options.settleNs } };
}

/** How far the average load of a kernel may be off by chance. */
function chance({ loadNs, periodNs }: AngelConstants, { variances, looks }: State, kernel: number): number {
  // An exponential average weighs as much as a plain one over twice its time constant.
  const counted = Math.min(looks, (2 * loadNs) / periodNs);
  return STANDARD_ERRORS * Math.sqrt((variances[kernel] ?? 0) / counted);
}

/** Averages go on from the last state. During the settling time the load's starts afresh: what was is over. */
function observe(
  options: AngelConstants,
  { kernels, groups }: Observation,
  state: State | undefined,
  nowNs: number,
): State {
  const demands = kernels.map(({ load, queueFill }) => load + options.queueWeight * queueFill);
  if (!state) {
    return {
      atNs: nowNs,
      opened: groups.opened.slice(),
      rates: new Float64Array(groups.opened.length),
      loads: demands,
      looks: 1,
      lastLoads: demands,
      variances: demands.map(() => 0),
      pairs: 0,
      balancing: false,
      // Rates are known from the second look on.
      settledNs: nowNs + options.settleNs,
      restUntilNs: new Float64Array(groups.opened.length).fill(Number.NEGATIVE_INFINITY),
      live: undefined,
    };
  }
  const spanNs = Math.max(nowNs - state.atNs, 1);
  const rateWeight = 1 - Math.exp(-spanNs / options.rateNs);
  const rates = new Float64Array(state.rates.length);
  for (let group = 0; group < rates.length; group++) {
    const opened = ((groups.opened[group] as number) - (state.opened[group] as number)) >>> 0;
    const before = state.rates[group] as number;
    rates[group] = before + rateWeight * ((opened * 1e9) / spanNs - before);
  }
  const settling = state.atNs < state.settledNs - options.settleNs / 2;
  const looks = settling ? 1 : state.looks + 1;
  // A plain average, until it has as many looks as the exponential one would count.
  const loadWeight = Math.max(1 / looks, 1 - Math.exp(-spanNs / options.loadNs));
  const loads = demands.map((demand, id) => {
    const before = state.loads[id] ?? demand;
    return before + loadWeight * (demand - before);
  });
  const next = { ...state, atNs: nowNs, opened: groups.opened.slice(), rates, loads, looks, lastLoads: demands };
  // What moves have changed is no chance.
  if (settling) return next;
  const pairs = state.pairs + 1;
  const varianceWeight = Math.max(1 / pairs, 1 - Math.exp(-spanNs / VARIANCE_NS));
  const variances = demands.map((demand, id) => {
    // Half the square of the difference of two looks: its mean is the variance, whatever else changes slowly.
    const sample = (demand - (state.lastLoads[id] ?? demand)) ** 2 / 2;
    const before = state.variances[id] ?? 0;
    return before + varianceWeight * (sample - before);
  });
  return { ...next, variances, pairs };
}

type Situation = { readonly alive: readonly number[]; readonly meanLoad: number; readonly nowNs: number };

function choose(options: AngelConstants, observation: Observation, state: State, situation: Situation): Move[] {
  const { alive, meanLoad, nowNs } = situation;
  const { groups } = observation;
  const loads = state.loads.slice();
  const costs = costPerOpening(groups, state, loads.length);
  const order = candidates(observation, state, loads, meanLoad + options.stopGap / 2, nowNs);
  const moves: Move[] = [];
  let pinsFree = observation.pinsFree;
  for (const group of order) {
    if (moves.length === options.movesMax) break;
    const from = groups.owner[group] as number;
    const live = groups.live[group] as number;
    const excess = (loads[from] as number) - meanLoad;
    const cost = (costs[from] as number) * (state.rates[group] as number);
    // More than the excess would make the other kernel the loaded one.
    if (excess <= options.stopGap / 2 || cost > excess) continue;
    const to = leastLoaded(alive, loads);
    if (to === from || (loads[to] as number) + cost > (loads[from] as number) - cost) continue;
    loads[from] = (loads[from] as number) - cost;
    loads[to] = (loads[to] as number) + cost;
    moves.push(moveOf(group, from, to, live, pinsFree));
    if (live <= pinsFree) pinsFree -= live;
  }
  return moves;
}

/** Where every group is too large for that, one may still lower the peak. */
function chooseOne(options: AngelConstants, observation: Observation, state: State, situation: Situation): Move[] {
  const { alive, meanLoad, nowNs } = situation;
  const { groups, pinsFree } = observation;
  const { loads, rates } = state;
  const kernel = mostLoaded(alive, loads);
  const perOpening = costPerOpening(groups, state, loads.length)[kernel] as number;
  const ofKernel = candidates(observation, state, loads, meanLoad, nowNs).filter((g) => groups.owner[g] === kernel);
  const { stopGap } = options;
  const one = lowersPeak({ alive, loads, stopGap }, ofKernel, (group) => perOpening * (rates[group] as number));
  return one ? [moveOf(one.group, one.from, one.to, groups.live[one.group] as number, pinsFree)] : [];
}

/** @param live connections in the group. */
function moveOf(group: number, from: number, to: number, live: number, pinsFree: number): Move {
  if (live > pinsFree) return { group, from, to, reason: "hot, idle for a moment", wait: true };
  return { group, from, to, reason: live > 0 ? "hot, pinned" : "hot", pin: live > 0 };
}

/** Load per opening per second in each kernel. Load that comes from elsewhere makes it too high: then less is moved. */
function costPerOpening({ owner }: GroupsObservation, { rates, loads }: State, kernels: number): number[] {
  const sums: number[] = new Array(kernels).fill(0);
  for (let group = 0; group < owner.length; group++) {
    const kernel = owner[group] as number;
    if (kernel < kernels) sums[kernel] = (sums[kernel] as number) + (rates[group] as number);
  }
  return sums.map((sum, id) => (sum > 0 ? (loads[id] as number) / sum : 0));
}

/** Groups of overloaded kernels that may move: those that bring most for each filter they cost come first. */
function candidates(
  { groups, kernels }: Observation,
  { rates, restUntilNs }: State,
  loads: readonly number[],
  above: number,
  nowNs: number,
): number[] {
  const { owner, live } = groups;
  const found: number[] = [];
  for (let group = 0; group < owner.length; group++) {
    const from = owner[group] as number;
    if (!(kernels[from]?.alive && (loads[from] as number) > above)) continue;
    if ((rates[group] as number) > 0 && nowNs >= (restUntilNs[group] as number)) found.push(group);
  }
  const worth = (group: number) => (rates[group] as number) / (1 + (live[group] as number));
  return found.sort((a, b) => worth(b) - worth(a) || a - b);
}
