/** What the threads of a benchmark tell each other. */
import type { KernelStack } from "../types.ts";

export type ThreadArguments = {
  readonly workload: string;
  readonly serverAddress: string;
  readonly port: number;
  readonly backlog: number;
  /** Connections of this client kernel. */
  readonly inFlight: number;
};

export type Counts = { readonly done: number; readonly failed: number };
export type CountsAnswer = Counts & { readonly side: "server" | "client"; readonly nowNs: number };

/** Answers every message of the main thread with the counts at that moment. */
export function answerCounts(stack: KernelStack, side: "server" | "client", counts: () => Counts): void {
  stack.on("message", () => stack.postMessage({ ...counts(), side, nowNs: stack.nowNs() } satisfies CountsAnswer));
}
