/**
 * The balancers against a load that is as uneven as it can be: 80 % of the new connections in 5 % of the flow groups,
 * all of them one kernel's. Real kernels, virtual cores, virtual time; docs/balancer.md has more of the same.
 */
import { beforeAll, describe, expect, it } from "vitest";
import { choosePolicy, type PolicyName } from "../../src/balancer/choosePolicy.ts";
import { runSkewedLoad, type SkewedLoadOptions, type SkewedLoadResult } from "../../src/sim/skewedLoad.ts";

const HOT_GROUPS = 205;
const common: Omit<SkewedLoadOptions, "policy" | "hotGroups" | "pinned"> = {
  seed: 1,
  kernels: 4,
  costs: { frameNs: 5_000, workNs: 105_000 },
  inFlight: 1024,
  backlog: 1024,
  hotShare: 0.8,
  warmUpNs: 0.6e9,
  measureNs: 0.6e9,
};

function run(policy: PolicyName, more: Partial<SkewedLoadOptions> = {}): Promise<SkewedLoadResult> {
  return runSkewedLoad({
    ...common,
    hotGroups: HOT_GROUPS,
    pinned: false,
    ...more,
    policy: choosePolicy(policy),
  });
}

let uniform: SkewedLoadResult;
beforeAll(async () => {
  uniform = await run("static", { hotGroups: 0 });
});

describe("a uniform load", () => {
  it("keeps every core busy without a balancer", () => {
    expect(Math.min(...uniform.loads)).toBeGreaterThan(0.95);
    expect(uniform.failed).toBe(0);
  });

  it.each([
    { what: "saturated", more: {} },
    { what: "at 70 %, where chance has some cores work more for a while", more: { arrivalsPerSecond: 20_000 } },
  ])("is left alone by angel, $what", async ({ more }) => {
    const [still, result] = [
      await run("static", { hotGroups: 0, ...more }),
      await run("angel", { hotGroups: 0, ...more }),
    ];
    expect(result.connsPerSec).toBeGreaterThan(0.99 * still.connsPerSec);
    expect(Object.values(result.balancer.moves).reduce((sum, moves) => sum + moves, 0)).toBeLessThan(10);
    expect(result.latencyMs.p99).toBeLessThan(1.1 * still.latencyMs.p99);
    expect(result.failed + result.balancer.strays + result.turnedAway).toBe(0);
  });
});

it("a skewed load of 70 % has a uniform one's latencies with angel, and no core is used up", async () => {
  const [even, skewed] = [0, HOT_GROUPS].map((hotGroups) =>
    run("angel", { hotGroups, arrivalsPerSecond: 20_000, inFlight: 8192, backlog: 8192, warmUpNs: 2.5e9 }),
  );
  const [{ latencyMs: wanted }, result] = [(await even) as SkewedLoadResult, (await skewed) as SkewedLoadResult];
  expect(result.latencyMs.p50).toBeLessThan(1.2 * wanted.p50);
  expect(result.latencyMs.p99).toBeLessThan(2 * wanted.p99);
  expect(Math.max(...result.loads)).toBeLessThan(0.85);
  expect(result.failed + result.turnedAway).toBe(0);
});

describe.each([
  ["short connections only", false],
  ["a long-lived connection in every flow group", true],
] as const)("a skewed load, %s", (_name, pinned) => {
  it("leaves three of four cores idle when nothing moves", async () => {
    const result = await run("static", { pinned });
    expect(result.connsPerSec).toBeLessThan(0.4 * uniform.connsPerSec);
    expect(Math.max(...result.loads.slice(1))).toBeLessThan(0.2);
  });

  it("is within 10 % of the uniform one with angel, and no connection is hurt", async () => {
    const result = await run("angel", { pinned });
    expect(result.connsPerSec).toBeGreaterThan(0.9 * uniform.connsPerSec);
    expect(result.latencyMs.p99).toBeLessThan(2 * uniform.latencyMs.p99);
    expect(result.failed).toBe(0);
    expect(result.longLived).toBe(pinned ? 4096 : 0);
    expect(result.balancer.strays).toBe(0);
    expect(result.balancer.pinned).toBeLessThanOrEqual(4096);
  });

  it.each(["opportunistic", "affinity-accept"] as const)("hurts no connection with %s either", async (policy) => {
    const result = await run(policy, { pinned, warmUpNs: 0.3e9, measureNs: 0.2e9 });
    expect([result.failed, result.balancer.strays, result.longLived]).toEqual([0, 0, pinned ? 4096 : 0]);
  });
});

it("long connections that load one kernel move to the others with angel and live migration, once each", async () => {
  const busy = { hotGroups: 0, inFlight: 0, backlog: 64, busyLong: 64, warmUpNs: 0.8e9, measureNs: 0.3e9 };
  const still = await run("angel", busy);
  expect(Math.max(...still.loads.slice(1))).toBeLessThan(0.01);
  const result = await run("angel", { ...busy, migrate: true });
  expect(Math.min(...result.loads)).toBeGreaterThan(0.95);
  expect(result.exchangesPerSec).toBeGreaterThan(3.8 * still.exchangesPerSec);
  expect([result.failed, result.longLived, result.balancer.refusals.migration]).toEqual([0, 64, 0]);
  expect(Object.values(result.balancer.moves).reduce((sum, moves) => sum + moves, 0)).toBeLessThanOrEqual(64);
});

it("the same seed gives the same run, another seed another", async () => {
  const short = { warmUpNs: 0.2e9, measureNs: 0.1e9 };
  const first = await run("angel", short);
  expect(await run("angel", short)).toEqual(first);
  expect(await run("angel", { ...short, seed: 2 })).not.toEqual(first);
});

it("without exact filters angel moves what is idle, and still refuses to tear connections apart", async () => {
  const result = await run("angel", { pinsMax: 0 });
  expect(result.failed).toBe(0);
  expect(result.balancer.pinned).toBe(0);
  const still = await run("static");
  expect(result.connsPerSec).toBeGreaterThan(still.connsPerSec);
});
