/**
 * Results of simulations that never ran, for tests of what is done with results. The
 * figures are arithmetic on the point, not a model of anything.
 */
import { type PointResult, SHARES, type ShareName, type Shares, type SimPoint } from "../../src/sim/types.ts";

/** @param busy 0..1; the rest is idle. */
function sampleShares(busy: number): Shares {
  const parts: Partial<Record<ShareName, number>> = { app: 0.5, stack: 0.3, lockSpin: 0.1, cacheMiss: 0.1, idle: 0 };
  const shares = SHARES.map((name) => [name, name === "idle" ? 1 - busy : busy * (parts[name] ?? 0)] as const);
  return Object.fromEntries(shares) as Record<ShareName, number>;
}

/** Rates rise with cores and differ a little from seed to seed. */
export function sampleResult(point: SimPoint, change: Partial<PointResult> = {}): PointResult {
  const connsPerSec = 20_000 * Math.sqrt(point.cores) * (point.design.length % 5) + 10_000 + (point.seed % 100);
  const busy = 0.4 + 0.5 / point.cores;
  const us = [50, 100, 200, 400, 1_000, 5_000];
  return {
    design: point.design,
    cores: point.cores,
    workload: point.workload,
    machine: typeof point.machine === "string" ? point.machine : point.machine.name,
    protocol: point.protocol,
    seed: point.seed,
    connsPerSec,
    requestsPerSec: connsPerSec * point.requestsPerConn,
    latencyUs: { mean: 120, p50: 100 + point.cores, p99: 400 * point.cores, p999: 1_000 * point.cores },
    failedConnections: point.cores > 4 ? point.cores : 0,
    utilization: Array.from({ length: point.cores }, (_, core) => Math.min(1, busy + 0.01 * core)),
    shares: sampleShares(busy),
    coreShares: Array.from({ length: point.cores }, () => sampleShares(busy)),
    locks: [{ name: "listener", acquisitions: 1_000, contended: 250, spinShare: 0.1 * busy }],
    latencyCdf: { us, cdf: [0.1, 0.5, 0.8, 0.95, 0.99, 1] },
    losses: { ringFull: 1, backlogFull: 0, acceptQueueFull: 2, synRetransmits: 3, connectionsReset: 0 },
    localPacketShare: 1 / point.cores,
    softirqShare: 0.2,
    lookUpShare: 0,
    cyclesPerConn: 100_000,
    warmUpS: 0.1,
    measuredS: 0.5,
    simulatedPackets: 12_345,
    wallMs: 10,
    trace: [],
    ...change,
  };
}
