/** Whether what is called a 95 % interval has the truth in 95 % of the cases, and a run is found settled when it is. */
import { describe, expect, test } from "vitest";
import { relativeHalfWidth, WarmUp } from "../../../../src/sim/engine/statistics.ts";
import { Prng } from "../../../../src/sim/prng.ts";
import { estimate } from "../../../../src/sim/sweep/statistics.ts";

const TRIALS = 4000;

/** Normal deviates (Box and Muller). */
function normals(seed: number): () => number {
  const random = new Prng(seed, 7);
  return () => Math.sqrt(-2 * Math.log(1 - random.fraction())) * Math.cos(2 * Math.PI * random.fraction());
}

describe("the interval of repeats", () => {
  // 4,000 trials: 0.34 % is the standard error of a share of 95 %.
  test.each([2, 3, 5, 10, 30, 31, 60])("of %d seeds has the mean in 95 % of the cases", (count) => {
    const next = normals(count);
    let hits = 0;
    for (let trial = 0; trial < TRIALS; trial++) {
      const samples = Array.from({ length: count }, () => 100 + 7 * next());
      const { mean, halfWidth } = estimate(samples);
      if (Math.abs(mean - 100) <= (halfWidth ?? 0)) hits++;
    }
    expect(Math.abs(hits / TRIALS - 0.95)).toBeLessThan(0.013);
  });

  test("goes over into that of the normal distribution without a step", () => {
    const widths = [29, 30, 31, 32, 33].map((count) => {
      const samples = Array.from({ length: count }, (_, i) => (i % 2 === 0 ? 1 : -1));
      const { mean, halfWidth } = estimate(samples);
      const squares = samples.reduce((sum, sample) => sum + (sample - mean) ** 2, 0);
      return (halfWidth ?? 0) / Math.sqrt(squares / (count - 1) / count);
    });
    const known = [2.0484, 2.0452, 2.0423, 2.0395, 2.0369];
    for (const [i, width] of widths.entries()) expect(Math.abs(width - (known[i] ?? 0))).toBeLessThan(0.001);
  });
});

test("the interval of a run's windows, 25 at least, has the rate in 95 % of the cases", () => {
  const next = normals(3);
  let hits = 0;
  for (let trial = 0; trial < TRIALS; trial++) {
    const counts = Array.from({ length: 25 }, () => 1000 + 31 * next());
    const mean = counts.reduce((sum, one) => sum + one, 0) / counts.length;
    if (Math.abs(mean - 1000) <= relativeHalfWidth(counts) * mean) hits++;
  }
  expect(hits / TRIALS).toBeGreaterThan(0.935);
  expect(hits / TRIALS).toBeLessThan(0.965);
});

describe("warm-up", () => {
  /** Windows until a rate that comes near 1,000 in `tau` windows is found settled, and what it lacks then. */
  function settle(tau: number, seed: number): { windows: number; lacks: number } {
    const next = normals(seed);
    const warmUp = new WarmUp(0.02);
    for (let window = 0; ; window++) {
      const lacks = Math.exp(-window / tau);
      const count = 1000 * (1 - lacks) + Math.sqrt(1000) * next();
      if (warmUp.add(count, 500) || window === 10_000) return { windows: window, lacks };
    }
  }

  test.each([2, 8, 30])("is over when a rate has come near its end, with a time constant of %d windows", (tau) => {
    const runs = Array.from({ length: 100 }, (_, seed) => settle(tau, seed));
    const worst = runs.map(({ lacks }) => lacks).sort((a, b) => a - b)[94] ?? 1;
    // 95 of 100 runs begin to measure within 10 % of where the rate goes, the average within 4 %.
    expect(worst).toBeLessThan(0.1);
    expect(runs.reduce((sum, { lacks }) => sum + lacks, 0) / runs.length).toBeLessThan(0.04);
    // And none waits without end.
    expect(Math.max(...runs.map(({ windows }) => windows))).toBeLessThan(60 + 8 * tau);
  });
});

/**
 * docs/simulator.md has this table. Windows are of 10 ms: 15 at least and 400 at most until the run has settled, then
 * 25 to 200, until the interval is within 1 % (src/sim/run.ts).
 */
describe("the interval of a run's windows after its warm-up", () => {
  function run(noise: number, tau: number, seed: number): boolean {
    const next = normals(seed);
    let window = 0;
    const count = () => {
      const lacks = tau === 0 ? 0 : Math.exp(-window / tau);
      window++;
      return 1000 * (1 - lacks + noise * next());
    };
    const warmUp = new WarmUp(0.02);
    let settled = false;
    while (!(settled && window >= 15) && window < 400) settled = warmUp.add(count(), 500);
    const counts: number[] = [];
    while (counts.length < 25 || (counts.length < 200 && relativeHalfWidth(counts) >= 0.01)) counts.push(count());
    const mean = counts.reduce((sum, one) => sum + one, 0) / counts.length;
    return Math.abs(mean - 1000) <= relativeHalfWidth(counts) * mean;
  }

  // It is narrower than what a slow beginning leaves: the smaller the noise, the sooner.
  test.each([
    [0.032, 0, 95],
    [0.032, 4, 94],
    [0.032, 8, 91],
    [0.032, 30, 90],
    [0.032, 60, 70],
    [0.005, 0, 94],
    [0.005, 4, 93],
    [0.005, 8, 86],
    [0.005, 30, 62],
    [0.005, 60, 50],
  ])(
    "with noise of %d and a time constant of %d windows has the last rate in %d % of the cases",
    (noise, tau, share) => {
      const trials = tau > 8 ? 400 : 2000;
      const hits = Array.from({ length: trials }, (_, seed) => run(noise, tau, seed)).filter(Boolean).length;
      // Three standard errors.
      const wide = 300 * Math.sqrt(((share / 100) * (1 - share / 100)) / trials);
      expect(Math.abs((100 * hits) / trials - share)).toBeLessThan(wide + 0.5);
    },
  );
});
