/**
 * NetPopcorn's own balancer (Ansary et al., ICDCS 2017, and the Snap Bean sources): work sharing. A kernel with many
 * connections gives idle groups away, in turn to all kernels that are willing.
 *
 * Deviates: the groups that one kernel is to get in a pass share a request and its confirmation (docs/messages.md,
 * Flow groups); the load is the kernel's busy share instead of the host's weighted_cpuload; one pass moves at most
 * `movesMax` groups (there, messages bound it).
 */
import { countGroups, type Move, type Observation, type Policy } from "./policy.ts";

export type OpportunisticConstants = {
  /** Connections (SYNs minus FINs) from which on a kernel gives groups away (LOAD_THRESH). */
  readonly thresholdConnections: number;
  /** It does as long as its groups times this exceed the fair share: so it ends at 83 % of that. */
  readonly shareFactor: number;
  /** Weight of a new load sample. */
  readonly ewmaAlpha: number;
  readonly sampleNs: number;
  /** A kernel below this load takes groups. */
  readonly willingLoad: number;
  /** Pause between two passes. */
  readonly periodNs: number;
  readonly movesMax: number;
};

export const OPPORTUNISTIC_DEFAULTS: OpportunisticConstants = {
  thresholdConnections: 5000,
  shareFactor: 1.2,
  ewmaAlpha: 0.15,
  sampleNs: 200e6,
  willingLoad: 0.8,
  periodNs: 1e6,
  movesMax: 64,
};

type State = {
  readonly atNs: number;
  /** Busy time of each kernel since the last sample, ns. */
  readonly busyNs: readonly number[];
  readonly sampledNs: number;
  readonly loads: readonly number[];
  /** Where the walk through the groups goes on, and the kernel that is next to get one. */
  readonly cursor: number;
  readonly turn: number;
};

export function opportunistic(constants: Partial<OpportunisticConstants> = {}): Policy {
  const options = { ...OPPORTUNISTIC_DEFAULTS, ...constants };
  return {
    name: "opportunistic",
    periodNs: options.periodNs,
    decide: (observation, state, nowNs) => decide(options, observation, state as State | undefined, nowNs),
  };
}

function decide(
  options: OpportunisticConstants,
  observation: Observation,
  state: State | undefined,
  nowNs: number,
): { moves: Move[]; state: State } {
  const next = sample(options, observation, state, nowNs);
  const { kernels } = observation;
  const crowded = kernels.flatMap((kernel, id) =>
    kernel.alive && kernel.openConnections >= options.thresholdConnections ? [id] : [],
  );
  if (crowded.length === 0) return { moves: [], state: next };
  const { owner, live } = observation.groups;
  const counts = countGroups(owner, kernels.length);
  const ideal = owner.length / kernels.filter(({ alive }) => alive).length;
  const willing = kernels.flatMap((kernel, id) =>
    kernel.alive && (next.loads[id] as number) < options.willingLoad ? [id] : [],
  );
  const moves: Move[] = [];
  let { cursor, turn } = next;
  for (const from of crowded) {
    const targets = willing.filter((id) => id !== from);
    if (targets.length === 0) continue;
    const before = moves.length;
    for (let step = 0; step < owner.length && moves.length - before < options.movesMax; step++) {
      if (options.shareFactor * (counts[from] as number) <= ideal) break;
      const group = cursor;
      cursor = (cursor + 1) % owner.length;
      if (owner[group] !== from || live[group] !== 0) continue;
      const to = targets[turn++ % targets.length] as number;
      counts[from] = (counts[from] as number) - 1;
      moves.push({ group, from, to, reason: "connections" });
    }
  }
  return { moves, state: { ...next, cursor, turn } };
}

/** Every `sampleNs` the mean load since the last sample enters the averages. */
function sample(
  options: OpportunisticConstants,
  { kernels }: Observation,
  state: State | undefined,
  nowNs: number,
): State {
  if (!state) {
    const loads = kernels.map(({ load }) => load);
    return { atNs: nowNs, busyNs: loads.map(() => 0), sampledNs: nowNs, loads, cursor: 0, turn: 0 };
  }
  const spanNs = nowNs - state.atNs;
  const busyNs = kernels.map(({ load }, id) => (state.busyNs[id] ?? 0) + load * spanNs);
  const sinceNs = nowNs - state.sampledNs;
  if (sinceNs < options.sampleNs) return { ...state, atNs: nowNs, busyNs };
  const loads = busyNs.map((busy, id) => {
    const before = state.loads[id] ?? 0;
    return before + options.ewmaAlpha * (busy / sinceNs - before);
  });
  return { ...state, atNs: nowNs, busyNs: busyNs.map(() => 0), sampledNs: nowNs, loads };
}
