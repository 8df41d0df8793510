import { describe, expect, test } from "vitest";
import { parsePoint } from "../../../src/sim/point.ts";
import { runPoint } from "../../../src/sim/run.ts";
import type { DesignName } from "../../../src/sim/types.ts";

const proxy = (design: DesignName, cores: number) =>
  runPoint(
    parsePoint({
      ...{ design, cores, workload: "proxy", machine: "e5-2697v2", procsPerCore: 1, concurrency: 100 * cores },
      ...{ appCycles: 500_000, durationS: 0.1 },
    }),
  );

// Kernels that drew their local ports from the same range took each other's answers, and kernels that had to ask for
// the back ends' Ethernet addresses lost their first SYNs: nearly all connections hung for seconds.
describe.each(["affinity-accept", "fastsocket", "mtcp", "netpopcorn"] as const)("a proxy on %s", (design) => {
  test("uses all of four cores, and no connection is reset", async () => {
    const [one, four] = [await proxy(design, 1), await proxy(design, 4)];
    expect(four.connsPerSec).toBeGreaterThan(3 * one.connsPerSec);
    expect(four.losses).toMatchObject({ connectionsReset: 0, synRetransmits: 0 });
    expect(four.failedConnections).toBe(0);
    expect(four.shares.idle).toBeLessThan(0.2);
  });
});

// Connections to back ends stayed open until there was no slot left for another, and mTCP's proxy closed after its
// first answer. Slots that had another life at once let the card bring the last acknowledgements to the wrong core.
test.each(["linux", "linux-reuseport", "mtcp", "netpopcorn"] as const)(
  "a proxy on %s answers all requests of a connection, and ends its connections to back ends",
  async (design) => {
    const many = { requestsPerConn: 50, appCycles: 0, durationS: 1.2, concurrency: 200, procsPerCore: 1 };
    const result = await runPoint(parsePoint({ design, cores: 2, workload: "proxy", machine: "e5-2697v2", ...many }));
    expect(result.requestsPerSec / result.connsPerSec).toBeCloseTo(50, -1);
    // More than there are slots.
    expect(result.requestsPerSec * result.measuredS).toBeGreaterThan(70_000);
    expect(result.failedConnections).toBe(0);
    expect(result.losses).toMatchObject({ connectionsReset: 0, synRetransmits: 0 });
  },
);

// A process had closed a client's connection and was about to close the one to the back end when the client's slot had
// its next life: that one's connection to its back end was closed instead, and the run lasted until it was stopped.
test("a proxy's connections end with their own clients, and the run with the last of them", async () => {
  const test = { protocol: "ab", abConnections: 8000, concurrency: 400, procsPerCore: 2 } as const;
  const point = { design: "netpopcorn", cores: 4, workload: "proxy", machine: "e5-2697v2", seed: 1, ...test };
  const result = await runPoint(parsePoint(point));
  expect(result.failedConnections).toBe(0);
  expect(result.losses.connectionsReset).toBe(0);
  expect(result.measuredS).toBeLessThan(1);
});

// The ring of a kernel that takes whole bursts held 32 KiB, however large its frames.
test.each([
  { workload: "proxy", responseBytes: 3000 },
  { workload: "proxy", responseBytes: 20_000 },
  { workload: "web-epoll", messageBytes: 20_000 },
])("netpopcorn takes frames of full size: %j", async (sizes) => {
  const point = { design: "netpopcorn", cores: 2, machine: "e5-2697v2", procsPerCore: 1, concurrency: 100 };
  const result = await runPoint(parsePoint({ ...point, durationS: 0.02, ...sizes }));
  expect(result.connsPerSec).toBeGreaterThan(1000);
  expect(result.failedConnections).toBe(0);
});
