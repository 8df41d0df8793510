/** `netpopcorn worker`: simulates for sweeps elsewhere. */
import { setImmediate as afterEvents } from "node:timers/promises";
import { buildFingerprint } from "../../sim/sweep/fingerprint.ts";
import { PoolExecutor } from "../../sim/sweep/pool.ts";
import { parseQueueAddress } from "../../sim/sweep/queueConnection.ts";
import { describeOutcome, workOnQueue } from "../../sim/sweep/queueWorker.ts";
import { createInterrupt } from "../interrupt.ts";
import { createOutput } from "../output.ts";

export type WorkerCommandOptions = {
  readonly queue: string;
  readonly jobs: number;
  readonly drain?: boolean;
  /** Seconds. */
  readonly lostAfter: number;
  readonly json?: boolean;
};

export async function worker(options: WorkerCommandOptions): Promise<void> {
  const output = createOutput(options.json === true);
  const address = parseQueueAddress(options.queue);
  const fingerprint = await buildFingerprint();
  const pool = new PoolExecutor(options.jobs);
  const interrupt = createInterrupt();
  const counts = { done: 0, failed: 0 };
  const onAbort = () => output.progress("finishing what runs; Ctrl-C again ends at once and leaves it to others");
  interrupt.signal.addEventListener("abort", onAbort);
  try {
    await workOnQueue(
      address,
      pool,
      { fingerprint, lostAfterMs: 1000 * options.lostAfter, isDraining: options.drain === true },
      {
        onReady: () => {
          const ready = { event: "ready", queue: address.shown, jobs: options.jobs, build: fingerprint };
          output.result(ready, `ready: ${options.jobs} simulations side by side for the queue at ${address.shown}`);
        },
        onOutcome: (task, outcome) => {
          const isDone = "result" in outcome;
          counts[isDone ? "done" : "failed"]++;
          const { design, cores, workload } = task.point;
          const shown = isDone ? { connsPerSec: outcome.result.connsPerSec } : { error: outcome.error };
          output.result({ event: "point", design, cores, workload, ...shown }, describeOutcome(task, outcome));
        },
        onNote: (text) => process.stderr.write(`${text}\n`),
      },
      interrupt.signal,
    );
    output.result({ event: "end", ...counts }, `${counts.done} simulations done, ${counts.failed} failed`);
  } finally {
    interrupt.signal.removeEventListener("abort", onAbort);
    interrupt.close();
    await pool.close();
    await afterEvents();
  }
}
