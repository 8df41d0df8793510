/** Ctrl-C and SIGTERM as an AbortSignal: the first asks to end, a second one ends at once. */
import { NetPopcornError } from "../errors.ts";

/** Exit status of a process that SIGINT ended, as shells report it. */
export const EXIT_INTERRUPTED = 130;

export type Interrupt = {
  readonly signal: AbortSignal;
  /** Gives the signals back to their default. */
  close(): void;
};

export function createInterrupt(): Interrupt {
  const controller = new AbortController();
  const onSignal = (name: NodeJS.Signals) => {
    if (controller.signal.aborted) process.exit(EXIT_INTERRUPTED);
    controller.abort(new NetPopcornError("ERR_INTERRUPTED", `ended by ${name}`));
  };
  process.on("SIGINT", onSignal);
  process.on("SIGTERM", onSignal);
  return {
    signal: controller.signal,
    close() {
      process.off("SIGINT", onSignal);
      process.off("SIGTERM", onSignal);
    },
  };
}
