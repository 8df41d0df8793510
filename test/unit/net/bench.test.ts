/** `netpopcorn bench --level net`: a short round of each workload, which checks its own answers. */
import { describe, expect, it } from "vitest";
import type { BenchOptions } from "../../../src/bench/common.ts";
import { runBench } from "../../../src/bench/run.ts";

const options: BenchOptions = {
  workload: "accept",
  level: "net",
  kernels: 1,
  concurrency: 8,
  connections: 0,
  seconds: 0.5,
  seed: 1,
};

describe("bench --level net", () => {
  it.each([
    { workload: "accept", connections: 0, unit: "connsPerSec" },
    { workload: "bulk", connections: 2, unit: "gbitPerSec" },
    { workload: "rr", connections: 2, unit: "roundTripsPerSec" },
  ] as const)("$workload", async ({ workload, connections, unit }) => {
    const result = await runBench({ ...options, workload, connections }, () => {});
    expect(result).toMatchObject({ workload, level: "net", kernels: 1 });
    expect(result[unit]).toBeGreaterThan(0);
  });

  it("refuses what only the handle level has", async () => {
    await expect(runBench({ ...options, workload: "idle" }, () => {})).rejects.toMatchObject({ code: "ERR_ARGUMENT" });
    await expect(runBench({ ...options, kernels: 2 }, () => {})).rejects.toMatchObject({ code: "ERR_ARGUMENT" });
  });
});
