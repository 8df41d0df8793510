/** Runs simulations in worker threads of this process, one on each core. */
import { availableParallelism } from "node:os";
import { MessageChannel } from "node:worker_threads";
import { Piscina } from "piscina";
import { type Executor, type ExecutorEvents, failureOf, type Outcome, type PoolTask } from "./executor.ts";
import type { Task } from "./plan.ts";

const defaultTaskFile = new URL("./poolTask.js", import.meta.url);

export class PoolExecutor implements Executor {
  readonly jobs: number;
  readonly #pool: Piscina<PoolTask, Outcome>;

  /** @param taskFile built module whose default export runs a task; tests put another one here. */
  constructor(jobs = availableParallelism(), taskFile = defaultTaskFile) {
    this.jobs = jobs;
    this.#pool = new Piscina({
      filename: taskFile.href,
      minThreads: 1,
      maxThreads: jobs,
      // A thread is expensive to start: compiled modules and warm code stay.
      idleTimeout: 60_000,
      concurrentTasksPerWorker: 1,
      // A worker has nothing else to do while it simulates, and must hear what ends it.
      atomics: "disabled",
    });
  }

  async run(tasks: readonly Task[], events: ExecutorEvents, signal: AbortSignal): Promise<void> {
    const waiting = [...tasks];
    const hand = async () => {
      for (let task = waiting.shift(); task !== undefined; task = waiting.shift()) {
        const outcome = await this.runOne(task, (fraction) => events.onProgress(task, fraction), signal);
        events.onOutcome(task, outcome);
      }
    };
    await Promise.all(Array.from({ length: Math.min(this.jobs, tasks.length) }, hand));
  }

  /** @throws the signal's reason when aborted: the thread is ended, whatever it was doing. */
  async runOne(task: Task, onProgress: (fraction: number) => void, signal: AbortSignal): Promise<Outcome> {
    signal.throwIfAborted();
    const { port1, port2 } = new MessageChannel();
    port1.on("message", onProgress);
    port1.unref();
    try {
      return await this.#pool.run({ point: task.point, progress: port2 }, { signal, transferList: [port2] });
    } catch (error) {
      signal.throwIfAborted();
      return failureOf(error);
    } finally {
      port1.close();
    }
  }

  async close(): Promise<void> {
    await this.#pool.destroy();
  }
}
