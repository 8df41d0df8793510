/** What a sweep needs while it runs: threads or a queue, a store, a progress bar, Ctrl-C; puts it all away again. */
import { cpus } from "node:os";
import { resolve } from "node:path";
import { performance } from "node:perf_hooks";
import type { ReportDocument } from "../../report/document.ts";
import type { CellResult } from "../../sim/sweep/combine.ts";
import type { Executor } from "../../sim/sweep/executor.ts";
import type { Cell } from "../../sim/sweep/plan.ts";
import { PoolExecutor } from "../../sim/sweep/pool.ts";
import { parseQueueAddress } from "../../sim/sweep/queueConnection.ts";
import { runSweep, type SweepSummary } from "../../sim/sweep/runSweep.ts";
import { ResultStore } from "../../sim/sweep/store.ts";
import { formatCompact } from "../format.ts";
import { createInterrupt } from "../interrupt.ts";
import type { Output } from "../output.ts";
import { type OutputFiles, writeOutput } from "./output.ts";
import type { SimCommandOptions } from "./plan.ts";
import { createSweepView, type SweepView } from "./progress.ts";

export type RunCells = (cells: readonly Cell[], onCell: (cell: CellResult) => void) => Promise<SweepSummary>;

/** Has `body` run sweeps. */
export async function withSweep<Result>(
  options: SimCommandOptions,
  fingerprint: string,
  body: (run: RunCells) => Promise<Result>,
): Promise<Result> {
  const interrupt = createInterrupt();
  let store: ResultStore | undefined;
  let executor: Executor | undefined;
  let view: SweepView | undefined;
  try {
    executor = await createExecutor(options, fingerprint);
    store = options.out === undefined ? undefined : ResultStore.open(resolve(options.out), options.resume !== false);
    view = await createSweepView();
    if (store !== undefined && store.unreadableLines > 0) {
      view.note(`${store.unreadableLines} lines of ${options.out}/results.jsonl are no results; they are left alone`);
    }
    const { onProgress, onNote, around } = { onProgress: view.show, onNote: view.note, around: view.around };
    const [used, kept, shown] = [executor, store, view];
    return await body(async (cells, onCell) => {
      const startMs = performance.now();
      const nowMs = () => performance.now();
      const events = { onCell: (cell: CellResult) => around(() => onCell(cell)), onProgress, onNote, nowMs };
      const summary = await runSweep(cells, used, kept, events, interrupt.signal);
      shown.close();
      if (summary.simulated > 0) onNote(paceText(summary, performance.now() - startMs));
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
    `${formatCompact(simulatedPackets)} packets, ${formatCompact(perSecond)} packets/s in each thread`
  );
}

/** Writes the folder that --out names, if it names one. */
export async function finish(options: SimCommandOptions, output: Output, files: OutputFiles): Promise<void> {
  if (options.out === undefined) return;
  const file = await writeOutput(resolve(options.out), files);
  // With --json, stdout has results only.
  (output.isJson ? process.stderr : process.stdout).write(`report ${file}\n`);
}

/** How to make the report again, and on what it was made. */
export function provenance(options: SimCommandOptions, fingerprint: string): ReportDocument["provenance"] {
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
