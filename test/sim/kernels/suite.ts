/** What the tests of this folder share: which seeds, one seed by name, and the sums of what the seeds have reached. */
import { describe, expect, test } from "vitest";
import type { ModuleBuild } from "../../../src/wasm/load.ts";

/** Seeds of a suite. */
const SEEDS = Number(process.env.SIM_SEEDS ?? 150);
const FIRST_SEED = Number(process.env.SIM_FROM ?? 0);
const SEEDS_PER_TEST = 50;
const TEST_TIMEOUT_MS = 300_000;

export type Suite = {
  /** The name that replays it: `npm run sim-test -- --what NAME`. */
  readonly name: "kernels" | "accepts";
  /** Runs a seed. @returns how often what has happened. @throws Error with what is wrong. */
  readonly run: (seed: number, build: ModuleBuild, trace?: (line: string) => void) => Promise<Record<string, number>>;
  /** What is drawn from a seed, to be shown before its trace. */
  readonly show: (seed: number) => unknown;
  /** Seeds that have found something, with what. */
  readonly found: readonly { readonly seed: number; readonly what: string }[];
  /** What must have happened in the course of 150 seeds: else something has silently ceased to be simulated. */
  readonly reached: readonly string[];
};

/** Every fourth seed runs on the build that checks its own assertions. */
function buildOf(seed: number): ModuleBuild {
  return seed % 4 === 0 ? "debug" : "release";
}

export function describeSuite({ name, run, show, found, reached }: Suite): void {
  /** A failure names the command that replays it. */
  const runSeed = async (seed: number, build: ModuleBuild, trace?: (line: string) => void) => {
    try {
      return await run(seed, build, trace);
    } catch (cause) {
      const what = cause instanceof Error ? cause.message : String(cause);
      throw new Error(`${what}\nreplay: npm run sim-test -- --seed ${seed} --what ${name}`, { cause });
    }
  };
  const given = process.env.SIM_WHAT === name ? process.env.SIM_SEED : undefined;
  if (given !== undefined) {
    test(`replay of seed ${given}`, { timeout: TEST_TIMEOUT_MS }, async () => {
      const seed = Number(given);
      console.log(JSON.stringify(show(seed), undefined, 1));
      const build = process.env.SIM_BUILD === undefined ? buildOf(seed) : (process.env.SIM_BUILD as ModuleBuild);
      const sums = await runSeed(seed, build, (line) => console.log(line));
      console.log(JSON.stringify(Object.fromEntries(Object.entries(sums).filter(([, count]) => count !== 0))));
    });
    return;
  }
  describe(`${name} in virtual time`, () => {
    const sums: Record<string, number> = {};
    // Where the seeds are shared out, or more of them run, these have been among the first.
    test.skipIf(FIRST_SEED > 0).each(found)("seed $seed: $what", async ({ seed }) => {
      for (const build of ["debug", "release"] as const) await runSeed(seed, build);
    });

    const firsts: number[] = [];
    for (let seed = FIRST_SEED; seed < FIRST_SEED + SEEDS; seed += SEEDS_PER_TEST) firsts.push(seed);
    test.each(firsts)("seeds from %i on", { timeout: TEST_TIMEOUT_MS }, async (first) => {
      for (let seed = first; seed < Math.min(first + SEEDS_PER_TEST, FIRST_SEED + SEEDS); seed++) {
        for (const [what, count] of Object.entries(await runSeed(seed, buildOf(seed)))) {
          sums[what] = (sums[what] ?? 0) + count;
        }
      }
    });

    test.runIf(SEEDS >= 150)("the seeds reach what they are meant to reach", () => {
      expect(reached.filter((what) => !sums[what])).toEqual([]);
    });
  });
}
