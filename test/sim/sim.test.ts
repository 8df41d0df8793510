/**
 * Goal: whatever a network does and however applications behave, bytes arrive once and in order, windows are kept,
 * everything ends, and nothing is left behind. Method: README.md beside this file.
 */
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { drawScenario, runScenario, type Verdict } from "./scenario.ts";

const FIXED_SEEDS = 500;
const SEEDS_PER_TEST = 50;
/** Counters that must have moved: else a fault or a behaviour has silently ceased to be simulated. */
const REACHED = [
  "tcpRetransmits",
  "tcpRetransmitTimeouts",
  "tcpFastRetransmits",
  "tcpOutOfOrder",
  "tcpZeroWindowProbes",
  "tcpKeepaliveProbes",
  "tcpRstReceived",
  "tcpChallengeAcks",
  "synCookiesAccepted",
  "dropAcceptQueueFull",
  "dropTcpChecksum",
  "dropTcpUnacceptable",
  "tcpEcnReductions",
  "tcpSpuriousRecoveries",
  "tcpFastOpenPassive",
];

const found = JSON.parse(readFileSync(new URL("seeds.json", import.meta.url), "utf8")) as {
  seed: number;
  what: string;
}[];
const given = process.env.SEED;

/** Runs one seed; a failure names the command that replays it. */
async function run(seed: number, build: "debug" | "release", trace?: (line: string) => void): Promise<Verdict> {
  try {
    return await runScenario(drawScenario(seed), build, trace);
  } catch (cause) {
    const what = cause instanceof Error ? cause.message : String(cause);
    throw new Error(`${what}\nreplay: SEED=${seed} npx vitest run --project fast test/sim`, { cause });
  }
}

describe.runIf(given !== undefined)("one seed, when SEED names it", () => {
  test(`replay of seed ${given ?? "(SEED is not set)"}`, async () => {
    const seed = Number(given);
    console.log(JSON.stringify(drawScenario(seed), undefined, 1));
    const verdict = await run(seed, process.env.BUILD === "release" ? "release" : "debug", (line) => console.log(line));
    console.log(JSON.stringify(verdict));
  });
});

describe.runIf(given === undefined)("whole stacks in virtual time", () => {
  test.each(found)("seed $seed: $what", async ({ seed }) => {
    for (const build of ["debug", "release"] as const) expect((await run(seed, build)).frames).toBeGreaterThan(0);
  });

  const firsts = Array.from({ length: FIXED_SEEDS / SEEDS_PER_TEST }, (_, i) => i * SEEDS_PER_TEST);
  test.each(firsts)(`seeds from %i on`, async (first) => {
    for (let seed = first; seed < first + SEEDS_PER_TEST; seed++) {
      // Throws where anything is wrong.
      await run(seed, seed % 4 === 0 ? "debug" : "release");
    }
  });

  test("the same seed gives the same frames at the same instants, in both builds", async () => {
    for (const seed of [1, 2, 3, 7]) {
      const first = await run(seed, "release");
      expect(await run(seed, "release")).toEqual(first);
      expect((await run(seed, "debug")).digest).toBe(first.digest);
    }
    expect((await run(1, "release")).digest).not.toBe((await run(2, "release")).digest);
  });

  test("the seeds reach what they are meant to reach", async () => {
    const sums: Record<string, number> = {};
    for (let seed = 0; seed < 100; seed++) {
      for (const [name, value] of Object.entries((await run(seed, "release")).counters)) {
        sums[name] = (sums[name] ?? 0) + value;
      }
    }
    expect(REACHED.filter((name) => !sums[name])).toEqual([]);
  });
});
