/** How far a sweep is: a bar on a terminal, a line now and then elsewhere; always on stderr. */
import { performance } from "node:perf_hooks";
import type { SweepProgress } from "../../sim/sweep/runSweep.ts";
import { formatTimeLeft } from "../../sim/sweep/timeLeft.ts";

export type SweepView = {
  show(progress: SweepProgress): void;
  /** One line for the user. */
  note(text: string): void;
  /** Prints on stdout what `print` prints, without a bar in between. */
  around(print: () => void): void;
  close(): void;
};

/** Lines elsewhere than on a terminal are for logs: not more often than this. */
const LINE_MS = 5_000;
const CLEAR_LINE = "\r\x1b[K";
/** The bar has lines cut at the terminal's edge (DECAWM off), which results must not be. */
const WRAP_ON = "\x1b[?7h";
const WRAP_OFF = "\x1b[?7l";
/** What the bar goes back to when it ends: by itself to where it began, above the results that have come since. */
const SAVE_CURSOR = "\x1b7";

export async function createSweepView(): Promise<SweepView> {
  return process.stderr.isTTY ? await createBarView() : createLineView();
}

/** Shows nothing. */
export const silentView: SweepView = { show() {}, note() {}, around: (print) => print(), close() {} };

/** "about 3 min left", or why nobody knows. */
function leftText(leftMs: number | undefined): string {
  return leftMs === undefined ? "time left not known yet" : `about ${formatTimeLeft(leftMs)} left`;
}

async function createBarView(): Promise<SweepView> {
  const { default: cliProgress } = await import("cli-progress");
  const bar = new cliProgress.SingleBar(
    {
      format: "{bar} {percentage} %  {whole}/{total}  {left}  {last}",
      stream: process.stderr,
      hideCursor: true,
      clearOnComplete: true,
      // Redrawn by itself: the time left changes, and lines of results come between.
      forceRedraw: true,
      fps: 5,
      // Ctrl-C has its own way (interrupt.ts).
      gracefulExit: false,
    },
    cliProgress.Presets.shades_classic,
  );
  let isStarted = false;
  const around = (print: () => void) => {
    if (isStarted) process.stderr.write(CLEAR_LINE + WRAP_ON);
    print();
    if (isStarted) process.stderr.write(WRAP_OFF);
  };
  return {
    show({ done, total, leftMs, last }) {
      const payload = { whole: Math.floor(done), left: leftText(leftMs), last };
      if (isStarted) bar.update(done, payload);
      else if (total > 0) bar.start(total, done, payload);
      isStarted ||= total > 0;
    },
    note: (text) => around(() => process.stderr.write(`${text}\n`)),
    around,
    close() {
      if (!isStarted) return;
      isStarted = false;
      process.stderr.write(CLEAR_LINE + SAVE_CURSOR);
      bar.stop();
      process.stderr.write(WRAP_ON);
    },
  };
}

function createLineView(): SweepView {
  let saidMs = performance.now();
  return {
    show({ done, total, leftMs, last }) {
      const nowMs = performance.now();
      if (nowMs - saidMs < LINE_MS || done >= total) return;
      saidMs = nowMs;
      process.stderr.write(
        `${Math.floor(10 * done) / 10}/${total} simulations, ${leftText(leftMs)}${last && `, last: ${last}`}\n`,
      );
    },
    note: (text) => process.stderr.write(`${text}\n`),
    around: (print) => print(),
    close() {},
  };
}
