/** The folder that --out names: report, tables and timelines beside the stored results. */
import { rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { NetPopcornError } from "../../errors.ts";
import type { ReportDocument } from "../../report/document.ts";
import { loadPageScript, renderReport } from "../../report/html.ts";
import type { CellResult } from "../../sim/sweep/combine.ts";
import { toCsv } from "../../sim/sweep/csv.ts";
import { makeFolder } from "../../sim/sweep/makeFolder.ts";
import { traceDocument, traceFileName } from "../../sim/sweep/trace.ts";
import { SHARES } from "../../sim/types.ts";
import { recordOf } from "./rows.ts";

export type OutputFiles = {
  readonly results: readonly CellResult[];
  readonly report: ReportDocument;
  /** More tables, by file name without its ending: the rows' objects have the columns as keys. */
  readonly tables: Readonly<Record<string, readonly Readonly<Record<string, unknown>>[]>>;
};

/** @returns the report's path. */
export async function writeOutput(folder: string, { results, report, tables }: OutputFiles): Promise<string> {
  const files: [name: string, text: string][] = [["index.html", renderReport(report, await loadPageScript())]];
  if (results.length > 0) {
    const records = results.map((cell) => ({ ...recordOf(cell, true), latencyCdf: cell.result.latencyCdf }));
    files.push(["results.json", `${JSON.stringify(records, undefined, 1)}\n`], ["results.csv", resultsCsv(results)]);
  }
  for (const [name, rows] of Object.entries(tables)) {
    const columns = Object.keys(rows[0] ?? {});
    const values = rows.map((row) => columns.map((column) => csvText(row[column])));
    files.push([`${name}.json`, `${JSON.stringify(rows, undefined, 1)}\n`], [`${name}.csv`, toCsv(columns, values)]);
  }
  for (const cell of results) {
    if (cell.result.trace.length > 0) files.push([traceFileName(cell), JSON.stringify(traceDocument(cell))]);
  }
  try {
    makeFolder(folder);
    // Whole or not at all: a reader never sees half a file.
    for (const [name, text] of files) {
      const path = join(folder, name);
      await writeFile(`${path}.part`, text);
      await rename(`${path}.part`, path);
    }
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code ?? "EIO";
    throw new NetPopcornError(code, `${folder} cannot be written; name another folder with --out`, { cause });
  }
  return join(folder, "index.html");
}

function csvText(value: unknown): string | number {
  if (typeof value === "number") return value;
  return value === undefined || value === null ? "" : String(value);
}

function resultsCsv(results: readonly CellResult[]): string {
  const columns = [
    ...["design", "cores", "workload", "machine", "protocol", "seed", "repeats"],
    ...["connsPerSec", "connsPerSecLow", "connsPerSecHigh", "requestsPerSec"],
    ...["latencyMeanUs", "latencyP50Us", "latencyP99Us", "latencyP999Us", "failedConnections", "utilization"],
    ...SHARES,
    ...["localPacketShare", "softirqShare", "lookUpShare", "cyclesPerConn", "warmUpS", "measuredS", "simulatedPackets"],
  ];
  const rows = results.map(({ result, repeats, intervals }) => [
    ...[result.design, result.cores, result.workload, result.machine, result.protocol, result.seed, repeats],
    ...[result.connsPerSec, intervals?.connsPerSec[0], intervals?.connsPerSec[1], result.requestsPerSec],
    ...[result.latencyUs.mean, result.latencyUs.p50, result.latencyUs.p99, result.latencyUs.p999],
    result.failedConnections,
    result.utilization.reduce((sum, share) => sum + share, 0) / Math.max(1, result.utilization.length),
    ...SHARES.map((share) => result.shares[share]),
    ...[
      result.localPacketShare,
      result.softirqShare,
      result.lookUpShare,
      result.cyclesPerConn,
      result.warmUpS,
      result.measuredS,
      result.simulatedPackets,
    ],
  ]);
  return toCsv(columns, rows);
}
