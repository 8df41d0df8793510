/**
 * Runs simulations on other machines: hands them to a queue on Redis or Valkey (BullMQ) and collects what workers
 * (queueWorker.ts) have made of them. A job's id is its task's key, so a task is in the queue once however often it is
 * asked for, and a sweep that starts again finds the results that have come in the meantime.
 */
import type { Job, Queue, QueueEvents } from "bullmq";
import type { Redis } from "ioredis";
import type { Executor, ExecutorEvents, Outcome } from "./executor.ts";
import type { Task } from "./plan.ts";
import {
  connectQueue,
  JOB_OPTIONS,
  loadQueueLibrary,
  type QueueAddress,
  type QueueJob,
  queueName,
} from "./queueConnection.ts";

/** Events tell at once; what was missed while the connection was down is found by looking. */
const LOOK_MS = 2_000;
/** Jobs handed over in one command. */
const BATCH = 100;

type PointQueue = Queue<QueueJob, Outcome>;
type PointJob = Job<QueueJob, Outcome>;

export class QueueExecutor implements Executor {
  /** Workers when the sweep began, at least one; estimates follow what comes in. */
  readonly jobs: number;
  readonly #address: QueueAddress;
  readonly #redis: Redis;
  readonly #queue: PointQueue;
  readonly #queueEvents: QueueEvents;
  readonly #errors: { report: (error: Error) => void };

  private constructor(
    address: QueueAddress,
    redis: Redis,
    queue: PointQueue,
    queueEvents: QueueEvents,
    jobs: number,
    errors: { report: (error: Error) => void },
  ) {
    this.#address = address;
    this.#redis = redis;
    this.#queue = queue;
    this.#queueEvents = queueEvents;
    this.jobs = jobs;
    this.#errors = errors;
  }

  /** @throws NetPopcornError ERR_QUEUE_UNREACHABLE, ERR_QUEUE_LIBRARY. */
  static async connect(address: QueueAddress, fingerprint: string): Promise<QueueExecutor> {
    const library = await loadQueueLibrary();
    const errors = { report: (_: Error) => {} };
    const redis = await connectQueue(library.Redis, address, (error) => errors.report(error));
    const name = queueName(fingerprint);
    const queue: PointQueue = new library.Queue(name, { connection: redis });
    const queueEvents = new library.QueueEvents(name, { connection: redis });
    queue.on("error", (error) => errors.report(error));
    queueEvents.on("error", (error) => errors.report(error));
    await Promise.all([queue.waitUntilReady(), queueEvents.waitUntilReady()]);
    return new QueueExecutor(address, redis, queue, queueEvents, Math.max(1, await queue.getWorkersCount()), errors);
  }

  async run(tasks: readonly Task[], events: ExecutorEvents, signal: AbortSignal): Promise<void> {
    const open = new Map(tasks.map((task) => [task.key, task]));
    let isBroken = false;
    this.#errors.report = (error) => {
      if (!isBroken) events.onNote(`the queue at ${this.#address.shown} is gone (${error.message}); trying again`);
      isBroken = true;
    };
    // Wakes the loop below; what it finds out is the same whoever wakes it.
    let wake = () => {};
    const changed = new Set<string>();
    const onChange = ({ jobId }: { jobId: string }) => {
      changed.add(jobId);
      wake();
    };
    this.#queueEvents.on("completed", onChange);
    this.#queueEvents.on("failed", onChange);
    const onAbort = () => wake();
    signal.addEventListener("abort", onAbort);
    try {
      await this.#hand(tasks);
      await this.#reviveFailed(open);
      let isAlone = false;
      for (const key of open.keys()) changed.add(key);
      while (open.size > 0) {
        signal.throwIfAborted();
        const keys = changed.size > 0 ? [...changed].filter((key) => open.has(key)) : [...open.keys()];
        changed.clear();
        await this.#collect(keys, open, events);
        isBroken = false;
        isAlone = await this.#tellWhenAlone(isAlone, open.size, events);
        if (open.size === 0 || changed.size > 0) continue;
        await new Promise<void>((resolve) => {
          const timer = setTimeout(resolve, LOOK_MS);
          wake = () => {
            clearTimeout(timer);
            resolve();
          };
        });
      }
    } catch (error) {
      if (signal.aborted) await this.#takeBack(open.keys());
      throw error;
    } finally {
      signal.removeEventListener("abort", onAbort);
      this.#queueEvents.off("completed", onChange);
      this.#queueEvents.off("failed", onChange);
    }
  }

  async #hand(tasks: readonly Task[]): Promise<void> {
    for (let start = 0; start < tasks.length; start += BATCH) {
      await this.#queue.addBulk(
        tasks.slice(start, start + BATCH).map(({ key, point }) => ({
          name: "point",
          data: { point },
          opts: { ...JOB_OPTIONS, jobId: key },
        })),
      );
    }
  }

  /** What an earlier sweep gave up gets new attempts. */
  async #reviveFailed(open: ReadonlyMap<string, Task>): Promise<void> {
    for (const key of open.keys()) {
      const job = await this.#find(key);
      if (job !== undefined && (await job.isFailed())) await job.retry("failed", { resetAttemptsMade: true });
    }
  }

  async #find(key: string): Promise<PointJob | undefined> {
    return (await this.#queue.getJob(key)) as PointJob | undefined;
  }

  async #collect(keys: readonly string[], open: Map<string, Task>, events: ExecutorEvents): Promise<void> {
    for (const key of keys) {
      const task = open.get(key);
      if (task === undefined) continue;
      const job = await this.#find(key);
      if (job === undefined) {
        // The server was emptied, or someone has removed it.
        await this.#hand([task]);
      } else if (job.finishedOn !== undefined) {
        const outcome = await this.#outcomeOf(job);
        if (outcome === undefined) continue;
        open.delete(key);
        events.onOutcome(task, outcome);
      }
    }
  }

  /** Undefined while further attempts are to come. */
  async #outcomeOf(job: PointJob): Promise<Outcome | undefined> {
    const state = await job.getState();
    if (state === "completed") return job.returnvalue;
    if (state === "failed") return { error: { code: "ERR_SIM_CRASH", message: `${job.failedReason}` } };
    return undefined;
  }

  async #tellWhenAlone(wasAlone: boolean, open: number, events: ExecutorEvents): Promise<boolean> {
    const isAlone = open > 0 && (await this.#queue.getWorkersCount()) === 0;
    if (isAlone && !wasAlone) {
      events.onNote(
        `no worker of this build is at ${this.#address.shown}; start some: netpopcorn worker --queue redis://…`,
      );
    }
    return isAlone;
  }

  /** What nobody has begun is not begun any more. */
  async #takeBack(keys: Iterable<string>): Promise<void> {
    for (const key of keys) {
      const job = await this.#find(key).catch(() => undefined);
      // A job that a worker holds cannot be removed; its result waits for the next sweep.
      await job?.remove().catch(() => {});
    }
  }

  async close(): Promise<void> {
    this.#errors.report = () => {};
    await Promise.allSettled([this.#queueEvents.close(), this.#queue.close()]);
    this.#redis.disconnect();
  }
}
