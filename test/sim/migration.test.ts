/**
 * Goal: whatever a network does, flow groups may move from kernel to kernel at any moment: bytes arrive once and in
 * order, no connection fails, nothing is left behind. Replay: SEED=… npx vitest run --project fast test/sim/migration
 */
import { describe, expect, test } from "vitest";
import { type MigrationRun, runMigrations } from "./migrationRun.ts";

const SEEDS = 100;
const SEEDS_PER_TEST = 20;
const given = process.env.SEED;

async function run(seed: number): Promise<MigrationRun> {
  try {
    return await runMigrations(seed);
  } catch (cause) {
    const what = cause instanceof Error ? cause.message : String(cause);
    throw new Error(`${what}\nreplay: SEED=${seed} npx vitest run --project fast test/sim/migration`, { cause });
  }
}

test.runIf(given !== undefined)(`replay of seed ${given ?? "(SEED is not set)"}`, async () => {
  console.log(JSON.stringify(await run(Number(given))));
});

describe.runIf(given === undefined)("groups that move under traffic, in virtual time", () => {
  const firsts = Array.from({ length: SEEDS / SEEDS_PER_TEST }, (_, i) => i * SEEDS_PER_TEST);
  const sums = { moved: 0, held: 0, late: 0, retransmits: 0 };

  test.each(firsts)("seeds from %i on", async (first) => {
    for (let seed = first; seed < first + SEEDS_PER_TEST; seed++) {
      const figures = await run(seed);
      for (const name of Object.keys(sums) as (keyof typeof sums)[]) sums[name] += figures[name];
    }
  });

  test("the seeds reach what they are meant to reach", () => {
    expect(sums.moved).toBeGreaterThan(500);
    expect(sums.held + sums.late).toBeGreaterThan(0);
    expect(sums.retransmits).toBeGreaterThan(1000);
  });

  test("seed 50: a SYN lay in a lane of a kernel that had nothing else of a group left to the hash", async () => {
    expect((await run(50)).moved).toBeGreaterThan(0);
  });

  test("the same seed gives the same run", async () => {
    expect(await run(3)).toEqual(await run(3));
  });
});
