import { expect, test } from "vitest";
import { parsePoint } from "../../../src/sim/point.ts";
import { runPoint } from "../../../src/sim/run.ts";

// A request that came with the ACK of its handshake was taken for another such ACK, and another connection's packets
// for ACKs of handshakes until its end: 33.5k cycles each on one core, where the same code packet by packet took 29.3k.
test("on one core a poll's packets cost what they cost one by one", async () => {
  const cyclesOf = async (design: "netpopcorn" | "affinity-accept") => {
    const test = { workload: "rpc", machine: "e5-2697v2", concurrency: 60, durationS: 0.02 } as const;
    return (await runPoint(parsePoint({ design, cores: 1, ...test }))).cyclesPerConn;
  };
  const ratio = (await cyclesOf("netpopcorn")) / (await cyclesOf("affinity-accept"));
  expect(ratio).toBeGreaterThan(0.95);
  expect(ratio).toBeLessThan(1.02);
});
