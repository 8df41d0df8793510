/**
 * Runs the cells of a sweep: takes from the store what is there, has the rest simulated, and hands over each cell's
 * result as soon as it and all cells before it are done. So the output is the same whatever finishes first.
 */
import type { PointResult } from "../types.ts";
import { type CellResult, combineCell } from "./combine.ts";
import { type Executor, sweepFailure } from "./executor.ts";
import { type Cell, pointName, type Task } from "./plan.ts";
import type { ResultStore } from "./store.ts";
import { TimeLeft } from "./timeLeft.ts";

export type SweepEvents = {
  onCell(result: CellResult): void;
  /** After every simulation and now and then within one. */
  onProgress(progress: SweepProgress): void;
  onNote(text: string): void;
  /** Real time, from any start. */
  nowMs(): number;
};

export type SweepProgress = {
  /** Simulations, with fractions of those that run. */
  readonly done: number;
  readonly total: number;
  /** Undefined while nothing is known. */
  readonly leftMs: number | undefined;
  /** The last one that was done. */
  readonly last: string;
};

export type SweepSummary = {
  readonly results: readonly CellResult[];
  /** Simulations that were run now, not taken from the store. */
  readonly simulated: number;
  readonly simulatedPackets: number;
  /** Real time of all simulations together, as if one after the other. */
  readonly simulationMs: number;
};

/**
 * @param store where results are kept; undefined keeps none.
 * @throws NetPopcornError with the code of the first simulation that failed, after all others are done; the signal's
 * reason when aborted.
 */
export async function runSweep(
  cells: readonly Cell[],
  executor: Executor,
  store: ResultStore | undefined,
  events: SweepEvents,
  signal: AbortSignal,
): Promise<SweepSummary> {
  const done = new Map<string, PointResult>();
  // A task that two cells have in common is simulated once.
  const open = new Map<string, Task>();
  for (const task of cells.flatMap((cell) => cell.tasks)) {
    const stored = store?.find(task.key);
    if (stored === undefined) open.set(task.key, task);
    else done.set(task.key, stored);
  }
  const total = done.size + open.size;
  const kept = done.size;
  const timeLeft = new TimeLeft(new Map([...open].map(([key, { point }]) => [key, point])), executor.jobs);
  const failures: { task: Task; code: string; message: string }[] = [];
  const results: CellResult[] = [];
  let last = "";
  const startMs = events.nowMs();
  const tell = () => {
    const leftMs = timeLeft.leftMs(events.nowMs() - startMs);
    events.onProgress({ done: kept + timeLeft.done, total, leftMs, last });
  };
  const failed = new Set<string>();
  let next = 0;
  const handOver = () => {
    for (let cell = cells[next]; cell !== undefined; cell = cells[++next]) {
      if (cell.tasks.some(({ key }) => failed.has(key))) continue;
      const parts = cell.tasks.map(({ key }) => done.get(key));
      if (parts.includes(undefined)) return;
      const result = combineCell(cell, parts as PointResult[]);
      results.push(result);
      events.onCell(result);
    }
  };
  let simulatedPackets = 0;
  let simulationMs = 0;
  if (kept > 0) events.onNote(`${kept} of ${total} simulations were done before`);
  handOver();
  tell();
  await executor.run(
    [...open.values()],
    {
      onNote: (text) => events.onNote(text),
      onProgress(task, fraction) {
        timeLeft.onProgress(task.key, fraction);
        tell();
      },
      onOutcome(task, outcome) {
        // Once for each task, whatever an executor reports.
        if (done.has(task.key) || failed.has(task.key)) return;
        last = pointName(task.point);
        if ("error" in outcome) {
          failed.add(task.key);
          failures.push({ task, ...outcome.error });
          timeLeft.onDone(task.key, 0);
        } else {
          store?.add(task.key, outcome.result);
          done.set(task.key, outcome.result);
          simulatedPackets += outcome.result.simulatedPackets;
          simulationMs += outcome.result.wallMs;
          timeLeft.onDone(task.key, outcome.result.wallMs);
        }
        handOver();
        tell();
      },
    },
    signal,
  );
  if (failures.length > 0) throw sweepFailure(failures);
  return { results, simulated: open.size, simulatedPackets, simulationMs };
}
