/** Where simulations run: in threads here (pool.ts), or on other machines (queue.ts). */
import type { MessagePort } from "node:worker_threads";
import { NetPopcornError } from "../../errors.ts";
import type { PointResult, SimPoint } from "../types.ts";
import { pointName, type Task } from "./plan.ts";

/** What became of one task. A failure is a value, so that it crosses threads and queues with its code. */
export type Outcome =
  | { readonly result: PointResult }
  | { readonly error: { readonly code: string; readonly message: string } };

/** What a thread of the pool gets: the point, and where fractions 0..1 of progress go. */
export type PoolTask = { readonly point: SimPoint; readonly progress: MessagePort };

export type Executor = {
  /** How many run side by side, as far as known. */
  readonly jobs: number;
  /**
   * Does every task once, in this order as far as there are free hands; resolves after the last one.
   * @throws the signal's reason when aborted; NetPopcornError when nothing can run at all.
   */
  run(tasks: readonly Task[], events: ExecutorEvents, signal: AbortSignal): Promise<void>;
  close(): Promise<void>;
};

export type ExecutorEvents = {
  onProgress(task: Task, fraction: number): void;
  onOutcome(task: Task, outcome: Outcome): void;
  /** Something that the user should know, one line. */
  onNote(text: string): void;
};

export function failureOf(error: unknown): Outcome {
  const code = error instanceof NetPopcornError ? error.code : "ERR_SIM_CRASH";
  return { error: { code, message: error instanceof Error ? error.message : String(error) } };
}

/** The error that a sweep ends with when some of its tasks failed. */
export function sweepFailure(
  failures: readonly { readonly task: Task; readonly code: string; readonly message: string }[],
) {
  const first = failures[0];
  if (first === undefined) throw new RangeError("no failure");
  const what = `${pointName(first.task.point)}: ${first.message}`;
  const more = failures.length > 1 ? ` (and ${failures.length - 1} more failed)` : "";
  return new NetPopcornError(first.code, what + more);
}
