/** What Affinity-Accept does at each of its constants (Pesterev et al., EuroSys 2012, 3.3). */
import { describe, expect, it } from "vitest";
import { affinityAccept } from "../../../src/balancer/affinityAccept.ts";
import type { Decision, KernelObservation, Observation } from "../../../src/balancer/policy.ts";

const QUEUE_MAX = 1000;
const GROUPS = 64;
const MS = 1e6;

type Seen = { readonly pending: number; readonly opened?: number };

/** Kernels with so many connections in their queues; nothing is accepted. */
function observation(seen: readonly Seen[], live = 0): Observation {
  const kernels = seen.map(({ pending, opened = 0 }): KernelObservation => {
    const queue = { queueFill: pending / QUEUE_MAX, acceptQueueMax: QUEUE_MAX, pendingConnections: pending };
    return { alive: true, load: 1, openConnections: 0, openedConnections: opened, acceptedConnections: 0, ...queue };
  });
  const groups = {
    owner: Uint16Array.from({ length: GROUPS }, (_, group) => group % seen.length),
    live: new Uint32Array(GROUPS).fill(live),
    apart: new Uint8Array(GROUPS),
    opened: new Uint32Array(GROUPS),
    progress: new Uint32Array(GROUPS),
  };
  return { kernels, groups, pinsFree: 100_000, steals: [], canMigrate: true };
}

/** Who is stolen from shows who is busy. */
const victims = ({ steals = [] }: Decision) => [...new Set(steals.map(({ from }) => from))];

describe("affinity-accept", () => {
  const policy = affinityAccept();

  it("a kernel is busy above 75 % of its queue, not at 75 %", () => {
    expect(victims(policy.decide(observation([{ pending: 750 }, { pending: 0 }]), undefined, 0))).toEqual([]);
    expect(victims(policy.decide(observation([{ pending: 751 }, { pending: 0 }]), undefined, 0))).toEqual([0]);
  });

  it("it no longer is when the average of the fill, 1 / (2 x queue) for each connection, is below 10 %", () => {
    // From 80 % with 2 % in the queue: 0.02 + 0.78 x (1 - 1/2000)^n is below 0.1 from n = 4,554 on.
    const busyAfter = (connections: number) => {
      const first = policy.decide(observation([{ pending: 800 }, { pending: 0 }]), undefined, 0);
      const seen = [{ pending: 20, opened: connections }, { pending: 0 }];
      return victims(policy.decide(observation(seen), first.state, 10 * MS));
    };
    expect(busyAfter(1)).toEqual([0]);
    expect(busyAfter(4553)).toEqual([0]);
    expect(busyAfter(4554)).toEqual([]);
  });

  it("busy kernels do not steal, from each other neither", () => {
    const { steals } = policy.decide(observation([{ pending: 900 }, { pending: 800 }]), undefined, 0);
    expect(steals).toEqual([]);
  });

  it("every 100 ms each kernel that is not busy takes one group, with its connections, from a busy one", () => {
    const seen = [{ pending: 900 }, { pending: 0 }, { pending: 0 }];
    let { state } = policy.decide(observation(seen, 3), undefined, 0);
    const taken: (readonly [number, number])[] = [];
    for (let ms = 1; ms <= 350; ms++) {
      const decision = policy.decide(observation(seen, 3), state, ms * MS);
      state = decision.state;
      for (const { from, to, live, pin } of decision.moves) {
        expect({ from, live, pin }).toEqual({ from: 0, live: true, pin: undefined });
        taken.push([ms, to]);
      }
    }
    expect(taken).toEqual(
      [100, 200, 300].flatMap((ms) => [
        [ms, 1],
        [ms, 2],
      ]),
    );
  });

  it("nobody takes anything where nobody is busy, or everybody", () => {
    for (const pending of [100, 900]) {
      const seen = [{ pending }, { pending }];
      const { state } = policy.decide(observation(seen), undefined, 0);
      expect(policy.decide(observation(seen), state, 100 * MS).moves).toEqual([]);
    }
  });
});
