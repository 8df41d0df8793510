/** Takes simulations from a queue on Redis or Valkey and runs them in threads of this process. */
import { setTimeout as sleep } from "node:timers/promises";
import { NetPopcornError } from "../../errors.ts";
import { parsePoint } from "../point.ts";
import { failureOf, type Outcome } from "./executor.ts";
import { pointName, type Task } from "./plan.ts";
import type { PoolExecutor } from "./pool.ts";
import { connectQueue, loadQueueLibrary, type QueueAddress, type QueueJob, queueName } from "./queueConnection.ts";

export type WorkerOptions = {
  readonly fingerprint: string;
  /** A worker that is silent for so long is lost, and its simulations are done again by others. */
  readonly lostAfterMs: number;
  /** Ends when the queue is empty and nobody works on anything. */
  readonly isDraining: boolean;
};

export type WorkerEvents = {
  onReady(): void;
  onOutcome(task: Task, outcome: Outcome): void;
  onNote(text: string): void;
};

/** How often a simulation may be begun again because its worker was lost. */
const LOST_MAX = 10;
const LOOK_MS = 500;

/**
 * Works until `signal` is aborted (what runs is finished first) or, when draining, until nothing is left.
 * @throws NetPopcornError ERR_QUEUE_UNREACHABLE, ERR_QUEUE_LIBRARY.
 */
export async function workOnQueue(
  address: QueueAddress,
  pool: PoolExecutor,
  options: WorkerOptions,
  events: WorkerEvents,
  signal: AbortSignal,
): Promise<void> {
  const library = await loadQueueLibrary();
  let isBroken = false;
  const onError = (error: Error) => {
    if (!isBroken) events.onNote(`the queue at ${address.shown} is gone (${error.message}); trying again`);
    isBroken = true;
  };
  const redis = await connectQueue(library.Redis, address, onError);
  const name = queueName(options.fingerprint);
  const queue = new library.Queue(name, { connection: redis });
  const worker = new library.Worker<QueueJob, Outcome>(
    name,
    async (job) => {
      isBroken = false;
      const outcome = await workOn({ key: String(job.id), point: job.data.point }, pool);
      events.onOutcome({ key: String(job.id), point: job.data.point }, outcome);
      // What kills a thread may be the machine's fault: another attempt, perhaps elsewhere.
      if ("error" in outcome && outcome.error.code === "ERR_SIM_CRASH") {
        throw new NetPopcornError(outcome.error.code, outcome.error.message);
      }
      return outcome;
    },
    {
      connection: redis,
      concurrency: pool.jobs,
      lockDuration: options.lostAfterMs,
      stalledInterval: options.lostAfterMs,
      maxStalledCount: LOST_MAX,
    },
  );
  queue.on("error", onError);
  worker.on("error", onError);
  try {
    await worker.waitUntilReady();
    events.onReady();
    while (!signal.aborted) {
      await sleep(LOOK_MS, undefined, { signal }).catch(() => {});
      if (!options.isDraining || signal.aborted) continue;
      const counts = await queue.getJobCounts("wait", "active", "delayed");
      if (Object.values(counts).every((count) => count === 0)) break;
    }
  } finally {
    // Waits for what runs.
    await Promise.allSettled([worker.close(), queue.close()]);
    redis.disconnect();
  }
}

/** A point from outside is checked here too. Interrupts let it finish, so it has no signal. */
async function workOn(task: Task, pool: PoolExecutor): Promise<Outcome> {
  try {
    const checked = { key: task.key, point: parsePoint(task.point) };
    return await pool.runOne(checked, () => {}, new AbortController().signal);
  } catch (error) {
    return failureOf(error);
  }
}

/** "mtcp at 8 cores: 123456 connections/s", or why not. */
export function describeOutcome({ point }: Task, outcome: Outcome): string {
  if ("error" in outcome) return `${pointName(point)}: ${outcome.error.code}: ${outcome.error.message}`;
  return `${pointName(point)}: ${Math.round(outcome.result.connsPerSec)} connections/s`;
}
