/** angel under load that never rests: what it may move in a minute of virtual time, and what that must gain. */
import { describe, expect, it } from "vitest";
import { choosePolicy } from "../../../src/balancer/choosePolicy.ts";
import { BalancedWorld, type WorldOptions } from "../../helpers/balancedWorld.ts";

const KERNELS = 4;
const GROUPS = 96;
const MINUTE_MS = 60_000;
/** A kernel whose groups are all cold; hot ones are three times that. */
const COLD_LOAD = 0.3;
const [COLD, HOT] = [10, 30] as const;
const REST_MS = 1000;
const LIVE_REST_MS = 5000;

type Minute = {
  readonly moves: number;
  /** Of one group. */
  readonly movesMax: number;
  /** Between two moves of one group, at least; Infinity: none moved twice. */
  readonly restMs: number;
  /** Of the most loaded kernel, in the mean over time. */
  readonly peak: number;
};

/** @param change of the rates and traffic that `options` has, at each step. */
function minute(options: WorldOptions, change: (nowMs: number) => void, policy = choosePolicy("angel")): Minute {
  const world = new BalancedWorld(options);
  const moves = new Map<number, number[]>();
  let peaks = 0;
  const stepMs = policy.periodNs / 1e6;
  for (let ms = 0; ms < MINUTE_MS; ms += stepMs) {
    change(ms);
    for (const { group } of world.step(policy)) moves.set(group, [...(moves.get(group) ?? []), ms]);
    peaks += Math.max(...world.demands());
  }
  const all = [...moves.values()];
  return {
    moves: all.flat().length,
    movesMax: Math.max(0, ...all.map(({ length }) => length)),
    restMs: Math.min(...all.flatMap((at) => at.slice(1).map((ms, i) => ms - (at[i] as number)))),
    peak: (peaks * stepMs) / MINUTE_MS,
  };
}

/** Kernels have 24 groups each; `isHot` says which kernel's are hot, of those that it had at first. */
function hotKernel(isHot: (kernel: number, nowMs: number) => boolean): [WorldOptions, (nowMs: number) => void] {
  const rates = new Array<number>(GROUPS).fill(COLD);
  const owner = rates.map((_, group) => group % KERNELS);
  const cost = (COLD_LOAD * KERNELS) / (GROUPS * COLD);
  const change = (nowMs: number) => {
    for (let group = 0; group < GROUPS; group++) rates[group] = isHot(group % KERNELS, nowMs) ? HOT : COLD;
  };
  return [{ kernels: KERNELS, rates, live: rates.map(() => 0), owner, cost, pinsFree: 4096 }, change];
}

describe.each([100, 300, 1000, 3000, 10_000])("every %i ms", (periodMs) => {
  it("a kernel's load goes on or off: a group moves once, and it is even in the mean", () => {
    const [options, change] = hotKernel((kernel, ms) => kernel === 0 && Math.floor(ms / periodMs) % 2 === 0);
    const { moves, movesMax, peak } = minute(options, change);
    expect(moves).toBeGreaterThan(0);
    expect(moves).toBeLessThanOrEqual(24);
    expect(movesMax).toBe(1);
    // The mean of all is 0.375; left alone, the hot kernel would have 0.6.
    expect(peak).toBeLessThan(0.5);
  });

  it("the hot groups are others: groups rest for a second, and the peak is half of what it was", () => {
    const [options, change] = hotKernel((kernel, ms) => Math.floor(ms / periodMs) % KERNELS === kernel);
    const { moves, restMs, peak } = minute(options, change);
    expect(moves).toBeLessThan(400);
    expect(restMs).toBeGreaterThanOrEqual(REST_MS);
    // The mean is 0.45; left alone, 0.9.
    const alone = minute(options, change, choosePolicy("static"));
    expect(alone).toMatchObject({ moves: 0 });
    expect(alone.peak).toBeCloseTo(3 * COLD_LOAD, 5);
    expect(peak).toBeLessThan(0.6 * alone.peak);
  });
});

describe("two flows, each half of a kernel", () => {
  const still = () => {};
  const short = { live: [0, 0, 0], cost: 0.45 / 400 };
  const long = { rates: [0, 0, 0], live: [1, 1, 1], cost: 0, byteCost: 0.45e-6 };

  it("of one kernel: one of them moves, once, be they openings or bytes of one connection", () => {
    const common = { kernels: 2, owner: [0, 0, 0], pinsFree: 10 };
    expect(minute({ ...common, ...short, rates: [400, 400, 0] }, still).moves).toBe(1);
    expect(minute({ ...common, ...long, traffic: [1e6, 1e6, 0] }, still).moves).toBe(1);
  });

  it("and a third on the other kernel: nothing would be gained, and nothing moves", () => {
    const common = { kernels: 2, owner: [0, 0, 1], pinsFree: 10 };
    expect(minute({ ...common, ...short, rates: [400, 400, 400] }, still).moves).toBe(0);
    expect(minute({ ...common, ...long, traffic: [1e6, 1e6, 1e6] }, still).moves).toBe(0);
  });

  it.each([300, 1000, 3000])(
    "that swap every %i ms: a group with its connections rests for five seconds",
    (periodMs) => {
      const traffic = [1e6, 2e5, 2e5, 0];
      const owner = [0, 0, 1, 1];
      const options = { kernels: 2, rates: [0, 0, 0, 0], live: [1, 1, 1, 1], owner, cost: 0, pinsFree: 10, traffic };
      const { moves, restMs } = minute({ ...options, byteCost: 0.8e-6 }, (ms) => {
        const isFirst = Math.floor(ms / periodMs) % 2 === 1;
        traffic[0] = isFirst ? 1e6 : 2e5;
        traffic[2] = isFirst ? 2e5 : 1e6;
      });
      expect(moves).toBeLessThanOrEqual(MINUTE_MS / LIVE_REST_MS);
      expect(restMs).toBeGreaterThanOrEqual(LIVE_REST_MS);
    },
  );
});
