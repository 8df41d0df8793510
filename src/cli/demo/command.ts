/** `netpopcorn demo`: runs the demo, shows it live, prints the summary, writes the report. */
import { writeFile } from "node:fs/promises";
import { cpus } from "node:os";
import { resolve } from "node:path";
import { NetPopcornError } from "../../errors.ts";
import type { ReportDocument } from "../../report/document.ts";
import { loadPageScript, renderReport } from "../../report/html.ts";
import type { CellResult } from "../../sim/sweep/combine.ts";
import { createInterrupt } from "../interrupt.ts";
import type { Output } from "../output.ts";
import { createSweepView, silentView } from "../sim/progress.ts";
import { compareDesigns, comparisonCharts, comparisonLine, comparisonRecord, comparisonTable } from "./comparison.ts";
import { type DemoOptions, TIME_WAIT_MS } from "./population.ts";
import { createProgressView } from "./progress.ts";
import { demoReport, summaryLines } from "./report.ts";
import { connectionsPerSecond, type DemoResult, isGood } from "./result.ts";
import { runDemo } from "./run.ts";

export type DemoCommandOptions = DemoOptions & {
  /** Whether to compare designs in simulation at the end. */
  readonly comparison: boolean;
  /** Where the report goes. */
  readonly out: string;
};

/** @returns whether every connection completed with every byte as it was sent. */
export async function demo(options: DemoCommandOptions, output: Output): Promise<boolean> {
  // Before the run: what would make it futile.
  const pageScript = await loadPageScript();
  const interrupt = createInterrupt();
  const view = await createProgressView(output);
  let result: DemoResult;
  let compared: readonly CellResult[] = [];
  try {
    result = await runDemo(options, (state) => view.show(state), interrupt.signal);
    view.close();
    if (options.comparison) compared = await compare(options.seed, output, interrupt.signal);
  } finally {
    view.close();
    interrupt.close();
  }
  const report = resolve(options.out);
  const document = withComparison(demoReport(result, provenance(options)), compared);
  await writeReport(report, renderReport(document, pageScript));
  printSummary(result, compared, report, output);
  return isGood(result);
}

async function compare(seed: number, output: Output, signal: AbortSignal): Promise<readonly CellResult[]> {
  if (!output.isJson) output.progress("\ncomparing designs in simulation …");
  const results = await compareDesigns(seed, output.isJson ? silentView : await createSweepView(), signal);
  if (output.isJson) for (const cell of results) output.result(comparisonRecord(cell), "");
  return results;
}

function withComparison(report: ReportDocument, compared: readonly CellResult[]): ReportDocument {
  if (compared.length === 0) return report;
  return {
    ...report,
    charts: [...report.charts, ...comparisonCharts(compared)],
    tables: [...report.tables, comparisonTable(compared)],
  };
}

async function writeReport(file: string, html: string): Promise<void> {
  try {
    await writeFile(file, html);
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code ?? "EIO";
    throw new NetPopcornError(code, `the report cannot be written to ${file}; name another file with --out`, { cause });
  }
}

function printSummary(result: DemoResult, compared: readonly CellResult[], report: string, output: Output): void {
  const { latencyUs, samples: _samples, ...totals } = result;
  const { distribution: _distribution, ...latency } = latencyUs;
  const comparisonLines = compared.length === 0 ? [] : [comparisonLine(compared)];
  const record = {
    phase: "summary",
    ok: isGood(result),
    connsPerSec: Math.round(connectionsPerSecond(result)),
    ...totals,
    latencyUs: latency,
    report,
  };
  output.result(record, ["", ...summaryLines(result), ...comparisonLines, `report        ${report}`].join("\n"));
}

function provenance(options: DemoCommandOptions): [name: string, value: string][] {
  const processors = cpus();
  const { kernels, seconds, concurrency, seed } = options;
  const flags = `--kernels ${kernels} --seconds ${seconds} --concurrency ${concurrency} --seed ${seed}`;
  return [
    ["command", `netpopcorn demo ${flags}`],
    ["machine", `${processors.length} cores, ${processors[0]?.model.trim() ?? "unknown processor"}`],
    ["runtime", `Node ${process.versions.node} on ${process.platform} ${process.arch}`],
    ["TIME_WAIT", `${TIME_WAIT_MS / 1000} s, so that local ports come round again`],
    ["made", new Date().toISOString()],
  ];
}
