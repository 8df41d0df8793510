/** One result from the repeats of a point: means, and how sure they are. */
import {
  type LockReport,
  type Losses,
  type PointResult,
  SHARES,
  type ShareName,
  type Shares,
  type SimPoint,
} from "../types.ts";
import type { Cell } from "./plan.ts";
import { estimate, meanOf } from "./statistics.ts";

/** Ends of a 95 % confidence interval. */
export type Interval = readonly [low: number, high: number];

export type CellResult = {
  readonly point: SimPoint;
  /** Means over the repeats; percentiles are means of the repeats' percentiles. */
  readonly result: PointResult;
  readonly repeats: number;
  /** With two repeats or more. */
  readonly intervals?: {
    readonly connsPerSec: Interval;
    readonly requestsPerSec: Interval;
    readonly latencyP99Us: Interval;
  };
};

/** Latencies of a merged distribution; more would only make files longer. */
const CDF_POINTS_MAX = 400;

/** @param results of the cell's tasks, in their order; at least one. */
export function combineCell(cell: Cell, results: readonly PointResult[]): CellResult {
  const first = results[0];
  if (first === undefined) throw new RangeError("a cell has at least one result");
  if (results.length === 1) return { point: cell.point, result: first, repeats: 1 };
  const mean = (value: (result: PointResult) => number) => meanOf(results.map(value));
  return {
    point: cell.point,
    result: {
      ...first,
      connsPerSec: mean((result) => result.connsPerSec),
      requestsPerSec: mean((result) => result.requestsPerSec),
      latencyUs: {
        mean: mean((result) => result.latencyUs.mean),
        p50: mean((result) => result.latencyUs.p50),
        p99: mean((result) => result.latencyUs.p99),
        p999: mean((result) => result.latencyUs.p999),
      },
      failedConnections: mean((result) => result.failedConnections),
      utilization: first.utilization.map((_, core) => mean((result) => result.utilization[core] ?? 0)),
      shares: meanShares(results.map((result) => result.shares)),
      coreShares: first.coreShares.map((shares, core) =>
        meanShares(results.map((result) => result.coreShares[core] ?? shares)),
      ),
      locks: meanLocks(results),
      latencyCdf: mergeCdfs(results.map((result) => result.latencyCdf)),
      losses: meanLosses(results.map((result) => result.losses)),
      localPacketShare: mean((result) => result.localPacketShare),
      softirqShare: mean((result) => result.softirqShare),
      lookUpShare: mean((result) => result.lookUpShare),
      cyclesPerConn: mean((result) => result.cyclesPerConn),
      warmUpS: mean((result) => result.warmUpS),
      measuredS: mean((result) => result.measuredS),
      simulatedPackets: results.reduce((sum, result) => sum + result.simulatedPackets, 0),
      wallMs: results.reduce((sum, result) => sum + result.wallMs, 0),
    },
    repeats: results.length,
    intervals: {
      connsPerSec: interval(results.map((result) => result.connsPerSec)),
      requestsPerSec: interval(results.map((result) => result.requestsPerSec)),
      latencyP99Us: interval(results.map((result) => result.latencyUs.p99)),
    },
  };
}

function interval(samples: readonly number[]): Interval {
  const { mean, halfWidth } = estimate(samples);
  return [mean - (halfWidth ?? 0), mean + (halfWidth ?? 0)];
}

function meanShares(all: readonly Shares[]): Shares {
  const entries = SHARES.map((name) => [name, meanOf(all.map((shares) => shares[name]))] as const);
  return Object.fromEntries(entries) as Record<ShareName, number>;
}

function meanLosses(all: readonly Losses[]): Losses {
  const mean = (name: keyof Losses) => meanOf(all.map((losses) => losses[name]));
  return {
    ringFull: mean("ringFull"),
    backlogFull: mean("backlogFull"),
    acceptQueueFull: mean("acceptQueueFull"),
    synRetransmits: mean("synRetransmits"),
    connectionsReset: mean("connectionsReset"),
  };
}

/** A lock that a repeat did not see counts as 0 there. */
function meanLocks(results: readonly PointResult[]): LockReport[] {
  const names = [...new Set(results.flatMap(({ locks }) => locks.map(({ name }) => name)))];
  return names.map((name) => {
    const reports = results.map(({ locks }) => locks.find((lock) => lock.name === name));
    const mean = (value: (lock: LockReport) => number) => meanOf(reports.map((lock) => (lock ? value(lock) : 0)));
    return {
      name,
      acquisitions: mean((lock) => lock.acquisitions),
      contended: mean((lock) => lock.contended),
      spinShare: mean((lock) => lock.spinShare),
    };
  });
}

type Cdf = PointResult["latencyCdf"];

/** The distribution of a request drawn from a repeat drawn at random. */
export function mergeCdfs(cdfs: readonly Cdf[]): Cdf {
  const all = [...new Set(cdfs.flatMap(({ us }) => us))].sort((a, b) => a - b);
  const step = Math.max(1, Math.ceil(all.length / CDF_POINTS_MAX));
  // The last one stays: the distribution ends at 1.
  const us = all.filter((_, index) => index % step === 0 || index === all.length - 1);
  const places = cdfs.map(() => 0);
  const cdf = us.map((limit) => {
    let sum = 0;
    for (const [index, one] of cdfs.entries()) {
      let place = places[index] ?? 0;
      while (place < one.us.length && (one.us[place] ?? 0) <= limit) place++;
      places[index] = place;
      sum += one.cdf[place - 1] ?? 0;
    }
    return sum / cdfs.length;
  });
  return { us, cdf };
}
