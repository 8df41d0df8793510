/**
 * Goal: whatever a network does, connections that wait to be accepted may be stolen at any moment, groups that move
 * included: bytes arrive once and in order, no connection fails, nothing is left behind.
 * Replay: SEED=… npx vitest run --project fast test/sim/steals
 */
import { describe, expect, test } from "vitest";
import { type MigrationRun, runMigrations } from "./migrationRun.ts";

const SEEDS = Number(process.env.SIM_SEEDS ?? 80);
const FIRST_SEED = Number(process.env.SIM_FROM ?? 0);
const SEEDS_PER_TEST = 20;
const given = process.env.SEED;

async function run(seed: number): Promise<MigrationRun> {
  try {
    return await runMigrations(seed, true);
  } catch (cause) {
    const what = cause instanceof Error ? cause.message : String(cause);
    throw new Error(`${what}\nreplay: SEED=${seed} npx vitest run --project fast test/sim/steals`, { cause });
  }
}

test.runIf(given !== undefined)(`replay of seed ${given ?? "(SEED is not set)"}`, async () => {
  console.log(JSON.stringify(await run(Number(given))));
});

describe.runIf(given === undefined)("connections that are stolen under traffic, in virtual time", () => {
  const firsts = Array.from({ length: Math.ceil(SEEDS / SEEDS_PER_TEST) }, (_, i) => FIRST_SEED + i * SEEDS_PER_TEST);
  const sums = { stolen: 0, moved: 0, held: 0, late: 0, retransmits: 0 };

  test.each(firsts)("seeds from %i on", { timeout: 300_000 }, async (first) => {
    for (let seed = first; seed < Math.min(first + SEEDS_PER_TEST, FIRST_SEED + SEEDS); seed++) {
      const figures = await run(seed);
      for (const name of Object.keys(sums) as (keyof typeof sums)[]) sums[name] += figures[name];
    }
  });

  test.runIf(SEEDS >= 80)("the seeds reach what they are meant to reach", () => {
    expect(sums.stolen).toBeGreaterThan(300);
    expect(sums.moved).toBeGreaterThan(sums.stolen);
    expect(sums.held + sums.late).toBeGreaterThan(0);
    expect(sums.retransmits).toBeGreaterThan(1000);
  });

  test("the same seed gives the same run", async () => {
    expect(await run(3)).toEqual(await run(3));
  });
});
