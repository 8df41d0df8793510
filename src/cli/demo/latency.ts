/** The latency of all clients, from their HDR histograms. */
import { createHistogram, type RecordableHistogram } from "node:perf_hooks";
import type { LatencyUs } from "./result.ts";

/** Longest latency that is told apart, an hour. */
const LATENCY_US_MAX = 3_600_000_000;

/** Microseconds with three significant digits; a clone sent to another thread records into the same histogram. */
export function createLatencyHistogram(): RecordableHistogram {
  return createHistogram({ lowest: 1, highest: LATENCY_US_MAX, figures: 3 });
}

export function sumLatency(histograms: readonly RecordableHistogram[]): RecordableHistogram {
  const sum = createLatencyHistogram();
  for (const histogram of histograms) if (histogram.count > 0) sum.add(histogram);
  return sum;
}

/** Zeros when nothing was recorded. */
export function summarizeLatency(histogram: RecordableHistogram): LatencyUs {
  if (histogram.count === 0) return { mean: 0, p50: 0, p99: 0, p999: 0, max: 0, distribution: [] };
  return {
    mean: histogram.mean,
    p50: histogram.percentile(50),
    p99: histogram.percentile(99),
    p999: histogram.percentile(99.9),
    max: histogram.max,
    distribution: distribution(histogram),
  };
}

/** Points of the cumulative distribution: every percent, and ever finer towards the slow end. */
function distribution(histogram: RecordableHistogram): (readonly [us: number, percent: number])[] {
  const percents = [0.1, ...Array.from({ length: 99 }, (_, index) => index + 1)];
  for (let tail = 1; tail >= 0.001; tail /= 10) {
    for (let part = 9; part >= 1; part--) percents.push(100 - (tail * part) / 10);
  }
  percents.push(100);
  const points: (readonly [number, number])[] = [[Math.max(1, histogram.min), 0]];
  for (const percent of percents) {
    const us = Math.max(1, histogram.percentile(percent));
    // Several percents at one value: the last of them is how many are at or below it.
    if (points.at(-1)?.[0] === us) points.pop();
    points.push([us, percent]);
  }
  return points;
}
