/**
 * Affinity-Accept (Pesterev et al., EuroSys 2012). A kernel is busy from the high mark of its queue until the average
 * has fallen below the low one. One that is not busy *steals*: of the connections that it serves, one for every five of
 * its own comes from a busy one, in turn; if nothing waits at home, it serves those of the busy ones. And every 100 ms
 * it takes one flow group from the kernel that it has stolen most from, so that the next connections come to it.
 *
 * Deviates: there a core steals when it accepts, one connection at a time, out of a queue that all share. Here that is
 * settled for a period at a time, and the connections move by live migration (docs/migration.md): what a kernel accepts
 * in a period it may steal in the next, at the published ratio; with an empty queue it takes twice what it has taken,
 * or was seen to serve, in the period before, and at first one: nobody knows before how many it can serve.
 *
 * Deviates: as our kernels take frames only as fast as they work, work waits in the RX lanes as well as in the accept
 * queue: queueFill is the larger of the two. A kernel that has stolen nothing, because nothing waits to be accepted or
 * the device has no filters, takes its group from the kernel with the fullest queue.
 *
 * The original moves whatever group comes next, with its connections. So does this one, by live migration, where the
 * stack can (`live`); otherwise only one without connections, since theirs would be reset.
 *
 * Deviates: a group of which some connection is elsewhere, because it was stolen, stays until that has ended.
 */
import type { KernelObservation, Move, Observation, Policy, StealMove, StealObservation } from "./policy.ts";

export type AffinityAcceptConstants = {
  /** Fill of the queue above which a kernel is busy. */
  readonly busyFill: number;
  /** Average fill below which it no longer is. */
  readonly idleFill: number;
  /** Connections of its own that a kernel serves for each that it steals. */
  readonly stealRatio: number;
  /** Connections that one kernel steals at most in a period. */
  readonly stealMax: number;
  /** Each non-busy kernel takes one group in this time. */
  readonly migrateNs: number;
  /** How often queues are looked at. */
  readonly periodNs: number;
};

export const AFFINITY_ACCEPT_DEFAULTS: AffinityAcceptConstants = {
  busyFill: 0.75,
  idleFill: 0.1,
  stealRatio: 5,
  stealMax: 128,
  migrateNs: 100e6,
  periodNs: 10e6,
};

type KernelState = {
  readonly busy: boolean;
  readonly average: number;
  readonly opened: number;
  readonly accepted: number;
  /** Accepted since it last stole, in connections. */
  readonly credit: number;
  /** What it can serve in a period, as far as is known: accepted in one, or stolen for an empty queue. */
  readonly burst: number;
  /** The busy kernel that it has last asked. */
  readonly victim: number;
  /** Stolen from each kernel since it last took a group. */
  readonly stolen: readonly number[];
  /** What has become of its steals, by the kernel that it steals from. */
  readonly pairs: readonly (PairState | undefined)[];
};

type PairState = {
  readonly stolen: number;
  readonly refused: number;
  readonly underWay: number;
  /** After a refusal nothing is asked for until then; the time doubles while the refusals go on. */
  readonly restNs: number;
  readonly restUntilNs: number;
};

type State = {
  readonly kernels: readonly KernelState[];
  readonly migratedNs: number;
  /** Where the walk through the groups goes on. */
  readonly cursor: number;
  /** The kernel that was last given something to steal. */
  readonly thief: number;
};

export function affinityAccept(constants: Partial<AffinityAcceptConstants> = {}): Policy {
  const options = { ...AFFINITY_ACCEPT_DEFAULTS, ...constants };
  return {
    name: "affinity-accept",
    periodNs: options.periodNs,
    decide: (observation, state, nowNs) => decide(options, observation, state as State | undefined, nowNs),
  };
}

function decide(
  options: AffinityAcceptConstants,
  observation: Observation,
  state: State | undefined,
  nowNs: number,
): { moves: Move[]; steals: StealMove[]; state: State } {
  const judged = observation.kernels.map((kernel, id) => {
    const ofThief = observation.steals.filter(({ to }) => to === id);
    return judge(options, kernel, ofThief, state?.kernels[id], nowNs);
  });
  const migratedNs = state?.migratedNs ?? nowNs;
  const cursor = state?.cursor ?? 0;
  const { kernels, steals, thief } = chooseSteals(options, observation, judged, state?.thief ?? -1, nowNs);
  const next = { kernels, migratedNs, cursor, thief };
  if (nowNs - migratedNs < options.migrateNs) return { moves: [], steals, state: next };
  const chosen = chooseMoves(observation, kernels, cursor);
  const rested = kernels.map((kernel) => ({ ...kernel, stolen: NOTHING }));
  return {
    moves: chosen.moves,
    steals,
    state: { kernels: rested, migratedNs: nowNs, cursor: chosen.cursor, thief },
  };
}

const NOTHING: readonly number[] = [];

/** Published: the average takes each accepted connection in with weight 1 / (2 x queue length). */
function judge(
  options: AffinityAcceptConstants,
  kernel: KernelObservation,
  steals: readonly StealObservation[],
  before: KernelState | undefined,
  nowNs: number,
): KernelState {
  const { queueFill, openedConnections, acceptQueueMax, acceptedConnections } = kernel;
  const samples = Math.max(openedConnections - (before?.opened ?? openedConnections), 1);
  const kept = (1 - 1 / (2 * acceptQueueMax)) ** samples;
  const average = (before?.average ?? queueFill) * kept + queueFill * (1 - kept);
  const busy = queueFill > options.busyFill || ((before?.busy ?? false) && average >= options.idleFill);
  // A kernel that has been started again counts from 0.
  const fresh = Math.max(acceptedConnections - (before?.accepted ?? acceptedConnections), 0);
  const queueIsEmpty = kernel.pendingConnections === 0;
  const pairs = [...(before?.pairs ?? [])];
  const stolen = [...(before?.stolen ?? NOTHING)];
  // What counts is what was stolen, not what was asked for.
  let came = 0;
  for (const pair of steals) {
    const last = pairs[pair.from];
    const count = pair.stolen - (last?.stolen ?? 0);
    came += count;
    stolen[pair.from] = (stolen[pair.from] ?? 0) + count;
    pairs[pair.from] = { ...pair, ...rest(options, pair, last, nowNs) };
  }
  const credit = Math.max((before?.credit ?? 0) - came * (options.stealRatio + 1), 0) + fresh;
  const known = queueIsEmpty ? Math.max(before?.burst ?? 0, came) : 0;
  return {
    busy,
    average,
    opened: openedConnections,
    accepted: acceptedConnections,
    credit,
    burst: Math.max(known, fresh),
    victim: before?.victim ?? -1,
    stolen,
    pairs,
  };
}

/** A thief that refuses, because nobody listens there or for lack of room, is not asked again at once. */
function rest(
  options: AffinityAcceptConstants,
  { stolen, refused }: StealObservation,
  last: PairState | undefined,
  nowNs: number,
): Pick<PairState, "restNs" | "restUntilNs"> {
  if (refused > (last?.refused ?? 0)) {
    const restNs = Math.min(Math.max(2 * (last?.restNs ?? 0), options.migrateNs), REST_NS_MAX);
    return { restNs, restUntilNs: nowNs + restNs };
  }
  if (stolen > (last?.stolen ?? 0)) return AWAKE;
  return { restNs: last?.restNs ?? 0, restUntilNs: last?.restUntilNs ?? 0 };
}

const REST_NS_MAX = 5e9;
const AWAKE = { restNs: 0, restUntilNs: 0 };

/** Each kernel that is not busy steals what it has earned, or may try, from the busy ones in turn. */
function chooseSteals(
  options: AffinityAcceptConstants,
  { kernels, pinsFree }: Observation,
  judged: readonly KernelState[],
  lastThief: number,
  nowNs: number,
): { kernels: KernelState[]; steals: StealMove[]; thief: number } {
  const waiting = kernels.map(({ alive, pendingConnections }, id) =>
    alive && judged[id]?.busy ? pendingConnections : 0,
  );
  const nobodyWaits = waiting.every((count) => count === 0);
  let filters = pinsFree;
  const wanted = judged.map((state, id) => {
    const underWay = state.pairs.reduce((sum, pair) => sum + (pair?.underWay ?? 0), 0);
    filters -= underWay;
    const { alive, pendingConnections } = kernels[id] as KernelObservation;
    if (!alive || state.busy || nobodyWaits) return 0;
    const earned = Math.floor(state.credit / (options.stealRatio + 1));
    const most = pendingConnections === 0 ? Math.max(1, 2 * state.burst, earned) : earned;
    return Math.min(most, options.stealMax) - underWay;
  });
  const victims = judged.map(({ victim }) => victim);
  const taken = judged.map((): number[] => []);
  let thief = lastThief;
  // One at a time, in turn: who comes first must not take all.
  for (; filters > 0; filters--) {
    const found = nextWith(wanted.length, thief, (to) => {
      if ((wanted[to] as number) <= 0) return false;
      const mayAsk = (from: number) => isReady(judged[to]?.pairs[from], nowNs) && (waiting[from] as number) > 0;
      const victim = nextWith(waiting.length, victims[to] as number, mayAsk);
      if (victim >= 0) victims[to] = victim;
      return victim >= 0;
    });
    if (found < 0) break;
    thief = found;
    const victim = victims[thief] as number;
    const ofThief = taken[thief] as number[];
    wanted[thief] = (wanted[thief] as number) - 1;
    waiting[victim] = (waiting[victim] as number) - 1;
    ofThief[victim] = (ofThief[victim] ?? 0) + 1;
  }
  const steals = taken.flatMap((ofThief, to) =>
    ofThief.flatMap((connections, from) => (connections > 0 ? [{ from, to, connections }] : [])),
  );
  const next = judged.map((state, id) => {
    // Nothing is saved up for a time when somebody is busy.
    const isIdle = kernels[id]?.alive !== true || state.busy || nobodyWaits;
    return { ...state, victim: victims[id] as number, ...(isIdle ? { credit: 0, burst: 0 } : {}) };
  });
  return { kernels: next, steals, thief };
}

/** Nothing is under way between the two kernels, and nothing was refused lately. */
function isReady(pair: PairState | undefined, nowNs: number): boolean {
  return pair === undefined || (pair.underWay === 0 && nowNs >= pair.restUntilNs);
}

/** The next kernel after `last` that is right, round and round; -1: none. */
function nextWith(kernels: number, last: number, isRight: (kernel: number) => boolean): number {
  for (let step = 1; step <= kernels; step++) {
    const kernel = (last + step) % kernels;
    if (isRight(kernel)) return kernel;
  }
  return -1;
}

function chooseMoves(
  observation: Observation,
  states: readonly KernelState[],
  cursorBefore: number,
): { moves: Move[]; cursor: number } {
  const { kernels, canMigrate } = observation;
  const fillOf = (id: number) => kernels[id]?.queueFill ?? 0;
  const victims = kernels
    .flatMap(({ alive }, id) => (alive && states[id]?.busy ? [id] : []))
    .sort((a, b) => fillOf(b) - fillOf(a) || a - b);
  const thieves = kernels.flatMap(({ alive }, id) => (alive && !states[id]?.busy ? [id] : []));
  const moves: Move[] = [];
  let cursor = cursorBefore;
  if (victims.length === 0 || thieves.length === 0) return { moves, cursor };
  const { apart, owner, live } = observation.groups;
  const taken = new Set<number>();
  for (const [index, to] of thieves.entries()) {
    const from = mostStolenFrom(states[to]?.stolen ?? NOTHING, victims) ?? (victims[index % victims.length] as number);
    for (let step = 0; step < owner.length; step++) {
      const group = cursor;
      cursor = (cursor + 1) % owner.length;
      if (owner[group] !== from || taken.has(group)) continue;
      // What has been stolen stays with its thief, and its group where it is meanwhile.
      if (live[group] !== 0 && (!canMigrate || apart[group] !== 0)) continue;
      taken.add(group);
      moves.push({ group, from, to, reason: "busy", ...(live[group] !== 0 ? { live: true } : {}) });
      break;
    }
  }
  return { moves, cursor };
}

/** Of those that are still busy; undefined: nothing was stolen from them. */
function mostStolenFrom(stolen: readonly number[], victims: readonly number[]): number | undefined {
  let most: number | undefined;
  for (const victim of victims) {
    if ((stolen[victim] ?? 0) > (most === undefined ? 0 : (stolen[most] ?? 0))) most = victim;
  }
  return most;
}
