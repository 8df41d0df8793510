/** A result as a line of a table, and as the JSON object that scripts read (the fields are a contract). */
import type { CellResult } from "../../sim/sweep/combine.ts";
import { SHARES, type ShareName } from "../../sim/types.ts";
import { formatCompact, formatInteger, formatUs } from "../format.ts";

/** Everything but what is only for pictures, and real time: the same command has the same lines, to the byte. */
export function recordOf({ result, repeats, intervals }: CellResult, isExplained: boolean): Record<string, unknown> {
  const { latencyCdf: _cdf, trace: _trace, wallMs: _wallMs, coreShares, locks, ...fields } = result;
  return {
    ...fields,
    repeats,
    ...(intervals === undefined ? {} : { ci95: intervals }),
    ...(isExplained ? { coreShares, locks } : {}),
  };
}

const shareTitles: Readonly<Record<ShareName, string>> = {
  app: "app",
  stack: "stack",
  lockSpin: "lock",
  cacheMiss: "cache",
  switch: "switch",
  vfs: "vfs",
  background: "other",
  idle: "idle",
};

const columns = [
  ["design", -15],
  ["cores", 5],
  ["conn/s", 10],
  ["±", 6],
  ["p50", 8],
  ["p99", 8],
  ["p99.9", 8],
  ["failed", 7],
  ["busy", 5],
  ...SHARES.map((name) => [shareTitles[name], 6] as const),
] as const;

/** @param width negative: to the left. */
function place(text: string, width: number): string {
  return width < 0 ? text.padEnd(-width) : text.padStart(width);
}

export function headerLine(): string {
  return columns.map(([name, width]) => place(name, width)).join(" ");
}

/** Half of an interval in percent of its middle. */
export function relativeHalfWidth([low, high]: readonly [number, number]): number {
  const middle = (low + high) / 2;
  return middle > 0 ? (100 * (high - low)) / 2 / middle : 0;
}

export function rowLine({ result, intervals }: CellResult): string {
  const { latencyUs, utilization } = result;
  const busy = utilization.reduce((sum, share) => sum + share, 0) / Math.max(1, utilization.length);
  const cells = [
    result.design,
    String(result.cores),
    formatInteger(result.connsPerSec),
    intervals === undefined ? "" : `${relativeHalfWidth(intervals.connsPerSec).toFixed(1)}%`,
    formatUs(latencyUs.p50),
    formatUs(latencyUs.p99),
    formatUs(latencyUs.p999),
    formatCompact(result.failedConnections),
    `${(100 * busy).toFixed(0)}%`,
    ...SHARES.map((name) => `${(100 * result.shares[name]).toFixed(1)}%`),
  ];
  return columns.map(([, width], index) => place(cells[index] ?? "", width)).join(" ");
}
