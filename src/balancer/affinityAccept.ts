/**
 * Flow-group migration of Affinity-Accept (Pesterev et al., EuroSys 2012): every 100 ms each kernel that is not busy
 * takes one flow group from one that is. Busy is judged by the queue: above the high mark at once, no longer when its
 * average has fallen below the low mark.
 *
 * Deviates: the other half of Affinity-Accept, stealing accepted connections from other cores' queues (5:1), needs a
 * socket that several cores can serve; share-nothing kernels have none. So a group is taken from the kernel with the
 * fullest queue, not from the one stolen from most; and only one without connections, since theirs would be reset. As
 * our kernels take frames only as fast as they work, work waits in the RX lanes as well as in the accept queue:
 * queueFill is the larger of the two.
 */
import type { Move, Observation, Policy } from "./policy.ts";

export type AffinityAcceptConstants = {
  /** Fill of the queue above which a kernel is busy. */
  readonly busyFill: number;
  /** Average fill below which it no longer is. */
  readonly idleFill: number;
  /** Each non-busy kernel takes one group in this time. */
  readonly migrateNs: number;
  /** How often queues are looked at. */
  readonly periodNs: number;
};

export const AFFINITY_ACCEPT_DEFAULTS: AffinityAcceptConstants = {
  busyFill: 0.75,
  idleFill: 0.1,
  migrateNs: 100e6,
  periodNs: 10e6,
};

type State = {
  readonly busy: readonly boolean[];
  readonly averages: readonly number[];
  readonly opened: readonly number[];
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
): { moves: Move[]; state: State } {
  const next = judge(options, observation, state, nowNs);
  if (nowNs - next.migratedNs < options.migrateNs) return { moves: [], state: next };
  const { kernels } = observation;
  const victims = kernels
    .flatMap((kernel, id) => (kernel.alive && next.busy[id] ? [id] : []))
    .sort((a, b) => fillOf(observation, b) - fillOf(observation, a) || a - b);
  const thieves = kernels.flatMap((kernel, id) => (kernel.alive && !next.busy[id] ? [id] : []));
  const migrated = { ...next, migratedNs: nowNs };
  if (victims.length === 0 || thieves.length === 0) return { moves: [], state: migrated };
  const { owner, live } = observation.groups;
  const moves: Move[] = [];
  const taken = new Set<number>();
  let cursor = next.cursor;
  for (const [index, to] of thieves.entries()) {
    const from = victims[index % victims.length] as number;
    for (let step = 0; step < owner.length; step++) {
      const group = cursor;
      cursor = (cursor + 1) % owner.length;
      if (owner[group] !== from || live[group] !== 0 || taken.has(group)) continue;
      taken.add(group);
      moves.push({ group, from, to, reason: "busy" });
      break;
    }
  }
  return { moves, state: { ...migrated, cursor } };
}

function fillOf({ kernels }: Observation, id: number): number {
  return kernels[id]?.queueFill ?? 0;
}

/** Published: the average takes each accepted connection in with weight 1 / (2 x queue length). */
function judge(
  options: AffinityAcceptConstants,
  { kernels }: Observation,
  state: State | undefined,
  nowNs: number,
): State {
  const averages = kernels.map(({ queueFill, openedConnections, acceptQueueMax }, id) => {
    const before = state?.averages[id] ?? queueFill;
    const samples = Math.max(openedConnections - (state?.opened[id] ?? openedConnections), 1);
    const kept = (1 - 1 / (2 * acceptQueueMax)) ** samples;
    return before * kept + queueFill * (1 - kept);
  });
  const busy = kernels.map(({ queueFill }, id) => {
    if (queueFill > options.busyFill) return true;
    return (state?.busy[id] ?? false) && (averages[id] as number) >= options.idleFill;
  });
  return {
    busy,
    averages,
    opened: kernels.map(({ openedConnections }) => openedConnections),
    migratedNs: state?.migratedNs ?? nowNs,
    cursor: state?.cursor ?? 0,
  };
}
