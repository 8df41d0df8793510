import { expect, test } from "vitest";
import { parsePoint } from "../../../src/sim/point.ts";
import { runPoint } from "../../../src/sim/run.ts";
import type { DesignName, WorkloadName } from "../../../src/sim/types.ts";

const CLOCK_HZ = 2.4e9;

/** Cycles of the stack for a connection, one at a time on one core. */
async function stackCycles(design: DesignName, deferAccept: boolean): Promise<number> {
  const alone = { cores: 1, workload: "web-accept", procsPerCore: 2, concurrency: 1, durationS: 0.05 } as const;
  const result = await runPoint(parsePoint({ design, ...alone, deferAccept }));
  expect(result.losses.synRetransmits + result.failedConnections).toBe(0);
  expect(result.connsPerSec).toBeGreaterThan(5000);
  return (result.shares.stack * CLOCK_HZ) / result.connsPerSec;
}

// The ACK that is dropped costs 30 % of a segment's 900 cycles; the request makes the connection beside its own 900.
test.each(["linux", "netpopcorn"] as const)("%s with TCP_DEFER_ACCEPT: requests make connections", async (design) => {
  const more = (await stackCycles(design, true)) - (await stackCycles(design, false));
  expect(more).toBeGreaterThan(150);
  expect(more).toBeLessThan(400);
});

test("Apache asks for it, event loops do not", () => {
  const defers = (workload: WorkloadName) => parsePoint({ design: "linux", cores: 1, workload }).deferAccept;
  expect(defers("web-accept")).toBe(true);
  for (const workload of ["web-epoll", "proxy", "rpc"] as const) expect(defers(workload)).toBe(false);
});
