/** The peak of the loads, and the one group that lowers it most: for angel, where no group fits into the excess. */

type Loads = {
  readonly alive: readonly number[];
  readonly loads: readonly number[];
  /** A move must lower the peak by so much. */
  readonly stopGap: number;
};

export function leastLoaded(alive: readonly number[], loads: readonly number[]): number {
  return alive.reduce((least, id) => ((loads[id] as number) < (loads[least] as number) ? id : least));
}

export function mostLoaded(alive: readonly number[], loads: readonly number[]): number {
  return alive.reduce((most, id) => ((loads[id] as number) > (loads[most] as number) ? id : most));
}

/**
 * The move from the most to the least loaded kernel that leaves the two most even, if it leaves the fuller of them
 * `stopGap` below what the most loaded one was. So where there is none, the most loaded kernel is less than its
 * smallest group and `stopGap` above the least loaded.
 * @param groups of the most loaded kernel that may move; of equals the first is taken.
 * @param costOf load that goes with a group.
 */
export function lowersPeak(
  { alive, loads, stopGap }: Loads,
  groups: readonly number[],
  costOf: (group: number) => number,
): { group: number; from: number; to: number } | undefined {
  const from = mostLoaded(alive, loads);
  const to = leastLoaded(alive, loads);
  let best: number | undefined;
  let peak = (loads[from] as number) - stopGap;
  for (const group of groups) {
    const cost = costOf(group);
    const after = Math.max((loads[from] as number) - cost, (loads[to] as number) + cost);
    if (after > peak || (best !== undefined && after === peak)) continue;
    best = group;
    peak = after;
  }
  return best === undefined || from === to ? undefined : { group: best, from, to };
}
