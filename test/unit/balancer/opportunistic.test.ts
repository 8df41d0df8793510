/** What NetPopcorn's published balancer does at each of its constants (Ansary et al., ICDCS 2017, and its sources). */
import { describe, expect, it } from "vitest";
import { OPPORTUNISTIC_DEFAULTS, opportunistic } from "../../../src/balancer/opportunistic.ts";
import type { Decision, KernelObservation, Observation } from "../../../src/balancer/policy.ts";

const GROUPS = 4096;
const KERNELS = 4;
const IDEAL = GROUPS / KERNELS;
const MS = 1e6;

type Seen = { readonly open: readonly number[]; readonly loads: readonly number[]; readonly owner: number[] };

/** Kernel 0 has connections, the others have none; all idle. */
function world(open = 5000, ofZero = GROUPS): Seen {
  const owner = Array.from({ length: GROUPS }, (_, group) => (group < ofZero ? 0 : 1 + (group % 3)));
  return { open: [open, 0, 0, 0], loads: [1, 0, 0, 0], owner };
}

function observation({ open, loads, owner }: Seen, live: readonly number[] = []): Observation {
  const kernels = open.map((openConnections, id): KernelObservation => {
    const load = loads[id] as number;
    const nothing = { openedConnections: 0, queueFill: 0, acceptQueueMax: 1, pendingConnections: 0 };
    return { alive: true, load, openConnections, acceptedConnections: 0, ...nothing };
  });
  const groups = {
    owner: Uint16Array.from(owner),
    live: Uint32Array.from({ length: GROUPS }, (_, group) => live[group] ?? 0),
    apart: new Uint8Array(GROUPS),
    opened: new Uint32Array(GROUPS),
    progress: new Uint32Array(GROUPS),
  };
  return { kernels, groups, pinsFree: 0, steals: [], canMigrate: true };
}

const policy = opportunistic();
const decide = (seen: Seen, live?: readonly number[], state?: unknown, nowNs = 0): Decision =>
  policy.decide(observation(seen, live), state, nowNs);

describe("opportunistic", () => {
  it("acts from 5,000 connections on", () => {
    expect(decide(world(4999)).moves).toEqual([]);
    expect(decide(world(5000)).moves.length).toBeGreaterThan(0);
  });

  it("gives groups away as long as its own, times 1.2, are more than its share: 853 of 1,024 are left", () => {
    const few = opportunistic({ movesMax: GROUPS });
    const { moves } = few.decide(observation(world()), undefined, 0);
    const left = GROUPS - moves.length;
    expect(OPPORTUNISTIC_DEFAULTS.shareFactor * left).toBeLessThanOrEqual(IDEAL);
    expect(OPPORTUNISTIC_DEFAULTS.shareFactor * (left + 1)).toBeGreaterThan(IDEAL);
    expect(left).toBe(853);
    expect(few.decide(observation(world(9000, 853)), undefined, 0).moves).toEqual([]);
    expect(few.decide(observation(world(9000, 854)), undefined, 0).moves.length).toBe(1);
  });

  it("is asked each millisecond, and goes through the groups from where it was", () => {
    expect(policy.periodNs).toBe(MS);
    const first = decide(world());
    expect(first.moves.map(({ group }) => group)).toEqual(Array.from({ length: 64 }, (_, i) => i));
    const second = decide(world(), undefined, first.state, MS);
    expect(second.moves[0]?.group).toBe(64);
  });

  it("moves groups without living connections only", () => {
    const live = Array.from({ length: GROUPS }, (_, group) => (group % 2 === 0 ? 1 : 0));
    const { moves } = decide(world(), live);
    expect(moves.length).toBe(64);
    expect(moves.every(({ group, pin, live: withThem }) => group % 2 === 1 && !pin && !withThem)).toBe(true);
    expect(decide(world(), new Array(GROUPS).fill(1)).moves).toEqual([]);
  });

  it("gives to those whose load is below 80 %, one after the other, also from pass to pass", () => {
    const seen = { ...world(), loads: [1, 0.79, 0.8, 0] };
    const first = decide(seen);
    expect(first.moves.slice(0, 4).map(({ to }) => to)).toEqual([1, 3, 1, 3]);
    const odd = opportunistic({ movesMax: 3 });
    const one = odd.decide(observation(seen), undefined, 0);
    const two = odd.decide(observation(seen), one.state, MS);
    expect([...one.moves, ...two.moves].map(({ to }) => to)).toEqual([1, 3, 1, 3, 1, 3]);
    expect(decide({ ...seen, loads: [1, 0.8, 0.9, 1] }).moves).toEqual([]);
  });

  it("knows loads as averages: each 200 ms what has been since counts 15 %", () => {
    const busy = { ...world(), loads: [1, 1, 1, 1] };
    let { state } = decide({ ...world(), loads: [1, 0, 0, 0] });
    // After n samples the average is 1 - 0.85^n: above 0.8 from the tenth on.
    let willing = 0;
    for (let ms = 1; ms <= 2400; ms++) {
      const decision = decide(busy, undefined, state, ms * MS);
      state = decision.state;
      if (decision.moves.length > 0) willing = ms;
    }
    expect(willing).toBe(1999);
  });
});
