/** Shows the demo while it runs: drawn in place on a terminal, a line a second elsewhere, JSON lines with --json. */
import type { Output } from "../output.ts";
import { type LiveState, rateNow, renderLine, renderLive } from "./view.ts";

export type ProgressView = {
  show(state: LiveState): void;
  /** Leaves the last state on the screen and the terminal as it was. */
  close(): void;
};

const COLUMNS_DEFAULT = 80;

export async function createProgressView(output: Output): Promise<ProgressView> {
  if (!output.isJson && process.stdout.isTTY) return createTerminalView();
  return createLineView(output);
}

async function createTerminalView(): Promise<ProgressView> {
  // Hides the cursor while it draws and shows it again, also when the process is ended by a signal.
  const { default: logUpdate } = await import("log-update");
  return {
    show: (state) => logUpdate(renderLive(state, process.stdout.columns ?? COLUMNS_DEFAULT)),
    close: () => logUpdate.done(),
  };
}

function createLineView(output: Output): ProgressView {
  let nextSeconds = 1;
  return {
    show(state) {
      const now = state.samples.at(-1);
      if (now === undefined || now.seconds < nextSeconds) return;
      nextSeconds = Math.floor(now.seconds) + 1;
      if (!output.isJson) {
        output.progress(renderLine(state));
        return;
      }
      const { seconds, completed, failed, open, kernels } = now;
      const record = {
        phase: "load",
        seconds,
        completed,
        failed,
        open,
        connsPerSec: Math.round(rateNow(state.samples).total),
        kernels: kernels.map(({ served, load }) => ({ served, load: Number(load.toFixed(3)) })),
      };
      output.result(record, "");
    },
    close() {},
  };
}
