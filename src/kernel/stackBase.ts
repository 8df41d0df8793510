import { checkOptions } from "../checks.ts";
import { Emitter } from "../emitter.ts";
import { NetPopcornError } from "../errors.ts";
import type { CloseOptions, StackEvents } from "../types.ts";
import type { KernelEvent } from "./supervisor.ts";

/** @throws NetPopcornError ERR_INVALID_ARG_TYPE, ERR_OPTION_UNKNOWN, ERR_OPTION_RANGE. */
export function checkClose(options: CloseOptions): void {
  const { drainMs = 0 } = checkOptions("close", options, { drainMs: "any" });
  if (typeof drainMs === "number" && drainMs >= 0) return;
  throw new NetPopcornError("ERR_OPTION_RANGE", `option drainMs is ${drainMs}; it must be milliseconds, 0 or more`);
}

/** What both kinds of stack do alike: events, held back until whoever created the stack can have attached listeners. */
export class StackBase extends Emitter<StackEvents> {
  /** Events since the creation; undefined once they are delivered as they come. */
  #held: (() => void)[] | undefined = [];

  /** The stack has started: createStack is about to return. */
  protected announceStarted(): void {
    // Later than the continuation of `await createStack(…)`, which attaches the listeners.
    setTimeout(() => {
      const held = this.#held ?? [];
      this.#held = undefined;
      for (const deliver of held) deliver();
    });
  }

  protected deliverMessage(data: unknown, kernelId: number): void {
    this.#deliver(() => this.emit("message", { data, kernelId }));
  }

  /** An "error" event; without a listener the error is thrown, so that it does not pass unseen. */
  protected reportError(cause: unknown, kernelId: number, fatal: boolean): void {
    const error = cause instanceof Error ? cause : new Error(String(cause));
    this.#deliver(() => {
      if (this.emit("error", { error, kernelId, fatal })) return;
      queueMicrotask(() => {
        throw error;
      });
    });
  }

  /** A "kernel" event; the end of a kernel is an "error" event too. */
  protected announceKernel(event: KernelEvent): void {
    this.#deliver(() => {
      const heard = this.emit("kernel", event);
      const { error, kernelId } = event;
      if (!error || this.emit("error", { error, kernelId, fatal: true }) || heard) return;
      queueMicrotask(() => {
        throw error;
      });
    });
  }

  #deliver(event: () => void): void {
    if (this.#held) this.#held.push(event);
    else event();
  }
}
