import { describe, expect, test } from "vitest";
import { parsePoint } from "../../../src/sim/point.ts";
import { runPoint } from "../../../src/sim/run.ts";
import { DESIGNS, SHARES, WORKLOADS } from "../../../src/sim/types.ts";

const small = { cores: 2, machine: "e5-2690", concurrency: 100, durationS: 0.02, appCycles: 20_000 };

describe("runPoint", () => {
  test.each(DESIGNS)("%s serves every workload, and its time is all accounted for", async (design) => {
    for (const workload of WORKLOADS) {
      const result = await runPoint(parsePoint({ ...small, design, workload }));
      expect(result.connsPerSec, workload).toBeGreaterThan(10_000);
      expect(result.failedConnections).toBe(0);
      expect(result.latencyUs.p50).toBeGreaterThan(10);
      expect(result.latencyUs.p99).toBeGreaterThanOrEqual(result.latencyUs.p50);
      for (const shares of [result.shares, ...result.coreShares]) {
        expect(SHARES.reduce((sum, name) => sum + shares[name], 0)).toBeCloseTo(1, 9);
      }
      expect(result.utilization).toHaveLength(2);
    }
  });

  test("the same seed gives the same result, another one another", async () => {
    const point = parsePoint({ ...small, design: "linux", workload: "web-epoll", traceMs: 1 });
    const first = await runPoint(point);
    const again = await runPoint(point);
    expect(again).toEqual(first);
    const other = await runPoint({ ...point, seed: 2 });
    expect(other.latencyCdf).not.toEqual(first.latencyCdf);
  });

  test("a connection of shared tables joins its port's list and leaves it; a TIME-WAIT joins too", async () => {
    const joined = async (workload: "rpc" | "web-epoll", design: "linux-reuseport" | "netpopcorn") => {
      const result = await runPoint(parsePoint({ ...small, design, workload, durationS: 0.1 }));
      const lock = result.locks.find(({ name }) => name === "bind_bucket");
      return (lock?.acquisitions ?? 0) / (result.connsPerSec * result.measuredS);
    };
    expect(await joined("rpc", "linux-reuseport")).toBeCloseTo(2, 1);
    expect(await joined("web-epoll", "linux-reuseport")).toBeCloseTo(3, 1);
    expect(await joined("rpc", "netpopcorn")).toBe(0);
  });

  test.each(["mtcp", "netpopcorn"] as const)("packets come to the core of their process: %s", async (design) => {
    const result = await runPoint(parsePoint({ ...small, design, workload: "web-epoll" }));
    expect(result.localPacketShare).toBe(1);
  });

  test("a stopped run says so", async () => {
    const point = parsePoint({ ...small, design: "linux", workload: "rpc" });
    await expect(runPoint(point, { signal: AbortSignal.abort() })).rejects.toMatchObject({ code: "ERR_SIM_ABORTED" });
  });
});
