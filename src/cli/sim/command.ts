/** `netpopcorn sim`: plans the sweep, has it run, prints each result as it comes, and writes the report. */
import { cpus } from "node:os";
import { resolve } from "node:path";
import { performance } from "node:perf_hooks";
import type { ReportDocument } from "../../report/document.ts";
import type { CellResult } from "../../sim/sweep/combine.ts";
import type { Executor } from "../../sim/sweep/executor.ts";
import { buildFingerprint } from "../../sim/sweep/fingerprint.ts";
import { type Cell, planCells } from "../../sim/sweep/plan.ts";
import { PoolExecutor } from "../../sim/sweep/pool.ts";
import { parseQueueAddress } from "../../sim/sweep/queueConnection.ts";
import { runSweep, type SweepSummary } from "../../sim/sweep/runSweep.ts";
import { ResultStore } from "../../sim/sweep/store.ts";
import { formatCompact } from "../format.ts";
import { createInterrupt } from "../interrupt.ts";
import { createOutput, type Output } from "../output.ts";
import { explainLines } from "./explain.ts";
import { writeOutput } from "./output.ts";
import { planPoints, type SimCommandOptions } from "./plan.ts";
import { createSweepView, type SweepView } from "./progress.ts";
import { sweepReport } from "./report.ts";
import { headerLine, recordOf, rowLine } from "./rows.ts";

/** @throws NetPopcornError whose message is for the user. */
export async function sim(options: SimCommandOptions): Promise<void> {
  const output = createOutput(options.json === true);
  // Everything that can be wrong with the command line is found before anything runs.
  const points = await planPoints(options);
  const fingerprint = await buildFingerprint();
  const cells = planCells(points, options.repeats, fingerprint);
  const summary = await withSweep(options, fingerprint, (run) => {
    if (!output.isJson) process.stdout.write(`${headerLine()}\n`);
    return run(cells, (cell) => printCell(cell, options, output));
  });
  const report = sweepReport({ results: summary.results, tables: [], provenance: provenance(options, fingerprint) });
  await finish(options, output, { results: summary.results, report, tables: {} });
}

type RunCells = (cells: readonly Cell[], onCell: (cell: CellResult) => void) => Promise<SweepSummary>;

/** Has `body` run sweeps with an executor, a store, a progress bar and Ctrl-C, and puts them away again. */
async function withSweep<Result>(
  options: SimCommandOptions,
  fingerprint: string,
  body: (run: RunCells) => Promise<Result>,
): Promise<Result> {
  const interrupt = createInterrupt();
  const store =
    options.out === undefined ? undefined : ResultStore.open(resolve(options.out), options.resume !== false);
  let executor: Executor | undefined;
  let view: SweepView | undefined;
  try {
    executor = await createExecutor(options, fingerprint);
    view = await createSweepView();
    const shown = view;
    const used = executor;
    if (store !== undefined && store.unreadableLines > 0) {
      shown.note(`${store.unreadableLines} lines of ${options.out}/results.jsonl are no results; they are left alone`);
    }
    const startMs = performance.now();
    return await body(async (cells, onCell) => {
      const events = {
        onCell: (cell: CellResult) => shown.around(() => onCell(cell)),
        onProgress: shown.show,
        onNote: shown.note,
      };
      const summary = await runSweep(cells, used, store, events, interrupt.signal);
      shown.close();
      if (summary.simulated > 0) shown.note(paceText(summary, performance.now() - startMs));
      return summary;
    });
  } finally {
    view?.close();
    await executor?.close();
    store?.close();
    interrupt.close();
  }
}

async function createExecutor(options: SimCommandOptions, fingerprint: string): Promise<Executor> {
  if (options.queue === undefined) return new PoolExecutor(options.jobs);
  const address = parseQueueAddress(options.queue);
  const { QueueExecutor } = await import("../../sim/sweep/queue.ts");
  return await QueueExecutor.connect(address, fingerprint);
}

function paceText({ simulated, simulatedPackets, simulationMs }: SweepSummary, elapsedMs: number): string {
  const perSecond = simulationMs > 0 ? (1000 * simulatedPackets) / simulationMs : 0;
  return (
    `${simulated} simulations in ${(elapsedMs / 1000).toFixed(1)} s: ` +
    `${formatCompact(simulatedPackets)} packets, ${formatCompact(perSecond)} packets/s on each core of this machine`
  );
}

function printCell(cell: CellResult, options: SimCommandOptions, output: Output): void {
  const isExplained = options.explain === true;
  const text = isExplained ? [rowLine(cell), ...explainLines(cell)].join("\n") : rowLine(cell);
  output.result(recordOf(cell, isExplained), text);
}

type Finished = {
  readonly results: readonly CellResult[];
  readonly report: ReportDocument;
  readonly tables: Readonly<Record<string, readonly Readonly<Record<string, unknown>>[]>>;
};

async function finish(options: SimCommandOptions, output: Output, finished: Finished): Promise<void> {
  if (options.out === undefined) return;
  const file = await writeOutput(resolve(options.out), finished);
  (output.isJson ? process.stderr : process.stdout).write(`report ${file}\n`);
}

/** How to make the report again. Defaults are not repeated. */
function provenance(options: SimCommandOptions, fingerprint: string): ReportDocument["provenance"] {
  const processors = cpus();
  const words = process.argv.slice(2).map((word) => (/^[\w:,./=-]+$/.test(word) ? word : JSON.stringify(word)));
  return [
    ["command", `netpopcorn ${words.join(" ")}`],
    ["seed", String(options.seed)],
    ["build", fingerprint],
    ["simulated on", `${processors.length} cores, ${processors[0]?.model.trim() ?? "unknown processor"}`],
    ["runtime", `Node ${process.versions.node} on ${process.platform} ${process.arch}`],
    ["made", new Date().toISOString()],
  ];
}
