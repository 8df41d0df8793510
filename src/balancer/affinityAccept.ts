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
 */
import type { KernelObservation, Move, Observation, Policy, StealMove } from "./policy.ts";

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
  /** What it can serve in a period, as far as is known: accepted in the last one, or stolen for an empty queue. */
  readonly burst: number;
  /** The busy kernel that it has stolen from last. */
  readonly victim: number;
  /** Stolen from each kernel since it last took a group. */
  readonly stolen: readonly number[];
};

type State = {
  readonly kernels: readonly KernelState[];
  readonly migratedNs: number;
  /** Where the walk through the groups goes on. */
  readonly cursor: number;
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
  const judged = observation.kernels.map((kernel, id) => judge(options, kernel, state?.kernels[id]));
  const migratedNs = state?.migratedNs ?? nowNs;
  const cursor = state?.cursor ?? 0;
  const { kernels, steals } = chooseSteals(options, observation, judged);
  if (nowNs - migratedNs < options.migrateNs) return { moves: [], steals, state: { kernels, migratedNs, cursor } };
  const chosen = chooseMoves(observation, kernels, cursor);
  const rested = kernels.map((kernel) => ({ ...kernel, stolen: NOTHING }));
  return { moves: chosen.moves, steals, state: { kernels: rested, migratedNs: nowNs, cursor: chosen.cursor } };
}

const NOTHING: readonly number[] = [];

/** Published: the average takes each accepted connection in with weight 1 / (2 x queue length). */
function judge(
  options: AffinityAcceptConstants,
  kernel: KernelObservation,
  before: KernelState | undefined,
): KernelState {
  const { queueFill, openedConnections, acceptQueueMax, acceptedConnections } = kernel;
  const samples = Math.max(openedConnections - (before?.opened ?? openedConnections), 1);
  const kept = (1 - 1 / (2 * acceptQueueMax)) ** samples;
  const average = (before?.average ?? queueFill) * kept + queueFill * (1 - kept);
  const busy = queueFill > options.busyFill || ((before?.busy ?? false) && average >= options.idleFill);
  // A kernel that has been started again counts from 0.
  const fresh = Math.max(acceptedConnections - (before?.accepted ?? acceptedConnections), 0);
  const queueIsEmpty = kernel.pendingConnections === 0;
  return {
    busy,
    average,
    opened: openedConnections,
    accepted: acceptedConnections,
    credit: (before?.credit ?? 0) + fresh,
    burst: Math.max(queueIsEmpty ? (before?.burst ?? 0) : 0, fresh),
    victim: before?.victim ?? -1,
    stolen: before?.stolen ?? NOTHING,
  };
}

/** Each kernel that is not busy steals what it has earned, or may try, from the busy ones in turn. */
function chooseSteals(
  options: AffinityAcceptConstants,
  { kernels, pinsFree }: Observation,
  judged: readonly KernelState[],
): { kernels: KernelState[]; steals: StealMove[] } {
  const waiting = kernels.map(({ alive, pendingConnections }, id) =>
    alive && judged[id]?.busy ? pendingConnections : 0,
  );
  let filters = pinsFree;
  const steals: StealMove[] = [];
  const next = judged.map((state, to) => {
    const { alive, pendingConnections } = kernels[to] as KernelObservation;
    // Nothing is saved up for a time when somebody is busy.
    if (!alive || state.busy || waiting.every((count) => count === 0)) return { ...state, credit: 0, burst: 0 };
    const isIdle = pendingConnections === 0;
    const earned = Math.floor(state.credit / (options.stealRatio + 1));
    const wanted = Math.min(isIdle ? Math.max(1, 2 * state.burst, earned) : earned, options.stealMax, filters);
    const taken: number[] = new Array(kernels.length).fill(0);
    let count = 0;
    let { victim } = state;
    for (; count < wanted; count++) {
      const found = nextOf(waiting, victim);
      if (found < 0) break;
      victim = found;
      waiting[victim] = (waiting[victim] as number) - 1;
      taken[victim] = (taken[victim] as number) + 1;
    }
    filters -= count;
    for (const [from, connections] of taken.entries()) if (connections > 0) steals.push({ from, to, connections });
    return {
      ...state,
      credit: isIdle ? 0 : state.credit - count * (options.stealRatio + 1),
      burst: isIdle ? count : state.burst,
      victim,
      stolen: taken.map((connections, from) => (state.stolen[from] ?? 0) + connections),
    };
  });
  return { kernels: next, steals };
}

/** The next kernel after `last` where somebody waits, round and round; -1: nowhere. */
function nextOf(waiting: readonly number[], last: number): number {
  for (let step = 1; step <= waiting.length; step++) {
    const kernel = (last + step) % waiting.length;
    if ((waiting[kernel] as number) > 0) return kernel;
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
  const { owner, live } = observation.groups;
  const taken = new Set<number>();
  for (const [index, to] of thieves.entries()) {
    const from = mostStolenFrom(states[to]?.stolen ?? NOTHING, victims) ?? (victims[index % victims.length] as number);
    for (let step = 0; step < owner.length; step++) {
      const group = cursor;
      cursor = (cursor + 1) % owner.length;
      if (owner[group] !== from || taken.has(group) || (live[group] !== 0 && !canMigrate)) continue;
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
