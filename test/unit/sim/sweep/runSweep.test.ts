import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { parsePoint } from "../../../../src/sim/point.ts";
import { Prng } from "../../../../src/sim/prng.ts";
import type { CellResult } from "../../../../src/sim/sweep/combine.ts";
import type { Executor, ExecutorEvents, Outcome } from "../../../../src/sim/sweep/executor.ts";
import { planCells, type Task } from "../../../../src/sim/sweep/plan.ts";
import { runSweep } from "../../../../src/sim/sweep/runSweep.ts";
import { ResultStore } from "../../../../src/sim/sweep/store.ts";
import { sampleResult } from "../../../helpers/sampleResult.ts";

let folder = "";
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "netpopcorn-sweep-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** Finishes tasks in an order drawn from a seed, and may end early as a killed process would. */
class ShuffledExecutor implements Executor {
  readonly jobs = 4;
  readonly ran: Task[] = [];
  readonly #seed: number;
  readonly #outcomeOf: (task: Task) => Outcome;
  readonly #limit: number;

  constructor(seed: number, outcomeOf = (task: Task): Outcome => ({ result: sampleResult(task.point) }), limit = 1e9) {
    this.#seed = seed;
    this.#outcomeOf = outcomeOf;
    this.#limit = limit;
  }

  async run(tasks: readonly Task[], events: ExecutorEvents, signal: AbortSignal): Promise<void> {
    const random = new Prng(this.#seed);
    const waiting = [...tasks];
    while (waiting.length > 0) {
      signal.throwIfAborted();
      if (this.ran.length === this.#limit) throw new Error("killed");
      const [task] = waiting.splice(random.below(waiting.length), 1);
      if (task === undefined) break;
      this.ran.push(task);
      events.onProgress(task, 0.5);
      events.onOutcome(task, this.#outcomeOf(task));
      // Some executors tell twice: a queue's event and a look at the queue.
      events.onOutcome(task, this.#outcomeOf(task));
    }
  }

  async close(): Promise<void> {}
}

const cells = planCells(
  [1, 2, 4, 8].flatMap((cores) => [
    parsePoint({ design: "linux", cores, workload: "web-epoll" }),
    parsePoint({ design: "mtcp", cores, workload: "web-epoll" }),
  ]),
  2,
  "build",
);

async function run(executor: Executor, store?: ResultStore, signal = new AbortController().signal) {
  const told: CellResult[] = [];
  const progress: { done: number; total: number }[] = [];
  const notes: string[] = [];
  const events = {
    onCell: (cell: CellResult) => told.push(cell),
    onProgress: (one: { done: number; total: number }) => progress.push(one),
    onNote: (text: string) => notes.push(text),
    nowMs: () => 0,
  };
  const summary = await runSweep(cells, executor, store, events, signal);
  return { told, progress, notes, summary };
}

test("results come in the order of the plan, whatever is done first, each once", async () => {
  const [a, b] = [await run(new ShuffledExecutor(1)), await run(new ShuffledExecutor(2))];
  expect(a.told).toEqual(b.told);
  expect(a.told.map(({ point }) => point)).toEqual(cells.map(({ point }) => point));
  expect(a.summary).toMatchObject({ results: a.told, simulated: 16, simulatedPackets: 16 * 12_345 });
});

test("results are told before the last one is there", async () => {
  let firstTold = -1;
  const executor = new ShuffledExecutor(1);
  await runSweep(
    cells,
    executor,
    undefined,
    {
      onCell: () => {
        if (firstTold < 0) firstTold = executor.ran.length;
      },
      onProgress: () => {},
      onNote: () => {},
      nowMs: () => 0,
    },
    new AbortController().signal,
  );
  expect(firstTold).toBeLessThan(16);
});

test("progress rises to the total", async () => {
  const { progress } = await run(new ShuffledExecutor(3));
  expect(progress.every(({ done }, index) => done >= (progress[index - 1]?.done ?? 0))).toBe(true);
  expect(progress.at(-1)).toMatchObject({ done: 16, total: 16, leftMs: 0 });
});

test("a sweep that was killed goes on: nothing is done twice, and the result is the same", async () => {
  const whole = await run(new ShuffledExecutor(9));
  const killed = new ShuffledExecutor(4, undefined, 7);
  const first = ResultStore.open(folder, true);
  await expect(run(killed, first)).rejects.toThrow("killed");
  first.close();
  const second = ResultStore.open(folder, true);
  const rest = new ShuffledExecutor(5);
  const resumed = await run(rest, second);
  second.close();
  expect(resumed.notes).toEqual(["7 of 16 simulations were done before"]);
  expect(rest.ran).toHaveLength(9);
  expect(new Set([...killed.ran, ...rest.ran].map(({ key }) => key)).size).toBe(16);
  expect(resumed.told).toEqual(whole.told);
});

test("what failed is told at the end; the rest is done and kept", async () => {
  const failing = (task: Task): Outcome =>
    task.point.design === "mtcp" && task.point.cores === 4
      ? { error: { code: "ERR_SIM_CRASH", message: "out of memory" } }
      : { result: sampleResult(task.point) };
  const store = ResultStore.open(folder, true);
  const executor = new ShuffledExecutor(6, failing);
  await expect(run(executor, store)).rejects.toMatchObject({
    code: "ERR_SIM_CRASH",
    message: "mtcp at 4 cores: out of memory (and 1 more failed)",
  });
  expect(executor.ran).toHaveLength(16);
  const again = new ShuffledExecutor(7);
  await run(again, store);
  expect(again.ran.map(({ point }) => point.cores)).toEqual([4, 4]);
  store.close();
});

test("two cells that are the same are simulated once", async () => {
  const [cell] = cells;
  if (cell === undefined) throw new Error("no cell");
  const executor = new ShuffledExecutor(8);
  const events = { onCell: () => {}, onProgress: () => {}, onNote: () => {}, nowMs: () => 0 };
  const { results } = await runSweep([cell, cell], executor, undefined, events, new AbortController().signal);
  expect(executor.ran).toHaveLength(2);
  expect(results).toHaveLength(2);
});

test("an interrupted sweep ends with the reason", async () => {
  const controller = new AbortController();
  controller.abort(new Error("ended by SIGINT"));
  await expect(run(new ShuffledExecutor(1), undefined, controller.signal)).rejects.toThrow("ended by SIGINT");
});
