import { expect, test } from "vitest";
import { parsePoint } from "../../../src/sim/point.ts";
import { runPoint } from "../../../src/sim/run.ts";

// Found by a run of 24 cores with hot flow groups: clients that had waited for 30 s were given up, and what the server
// still had of them was taken for their successors.
test.each(["linux", "affinity-accept", "netpopcorn", "mtcp"] as const)(
  "%s: clients give up what has waited too long, and the run comes to its end",
  async (design) => {
    const point = parsePoint({
      ...{ design, cores: 2, workload: "web-epoll", protocol: "ab", machine: "e5-2690", procsPerCore: 1, seed: 3 },
      ...{ abConnections: 3000, concurrency: 1000, appCycles: 400_000_000, backlog: 512 },
    });
    const result = await runPoint(point);
    expect(result.failedConnections).toBeGreaterThan(100);
    expect(result.failedConnections).toBeLessThan(3000);
    expect(result.measuredS).toBeGreaterThan(30);
  },
);

// The clients' kernel was out of memory after 65,537 connections, and that ended the simulation with an error.
test("an open loop that brings more than the server takes goes on, and who finds no place has failed", async () => {
  const point = { design: "netpopcorn", cores: 1, workload: "web-epoll", arrivalsPerSec: 2e6, concurrency: 1 };
  const result = await runPoint(parsePoint({ ...point, appCycles: 1e6, durationS: 0.02 }));
  expect(result.connsPerSec).toBeGreaterThan(1000);
  expect(result.failedConnections).toBeGreaterThan(10_000);
});
