/** The demo's live view: a frame of text for a terminal, one line for everything else. Pure: state in, text out. */
import { styleText } from "node:util";
import { formatCompact, formatInteger, formatPercent, formatUs } from "../format.ts";
import type { DemoSample } from "./result.ts";

export type LiveState = {
  readonly secondsTotal: number;
  readonly hosts: number;
  readonly concurrency: number;
  /** Rising in time; the last one is now. */
  readonly samples: readonly DemoSample[];
  readonly p50Us: number;
  readonly p99Us: number;
};

type Rate = { readonly total: number; readonly kernels: readonly number[] };

/** Kernels shown one by one; beyond that the frame would not fit a screen. */
const KERNEL_LINES_MAX = 16;
const RATE_SECONDS = 1;
const BLOCKS = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
const SPARKS = "▁▂▃▄▅▆▇█";

/** Connections per second over the last second or so. */
export function rateNow(samples: readonly DemoSample[]): Rate {
  const now = samples.at(-1);
  if (now === undefined) return { total: 0, kernels: [] };
  const before = samples.findLast((sample) => sample.seconds <= now.seconds - RATE_SECONDS) ?? samples[0];
  const seconds = now.seconds - (before?.seconds ?? 0);
  const perSecond = (to: number, from: number) => (seconds > 0 ? (to - from) / seconds : 0);
  return {
    total: perSecond(now.completed, before?.completed ?? 0),
    kernels: now.kernels.map((kernel, index) => perSecond(kernel.served, before?.kernels[index]?.served ?? 0)),
  };
}

/** A bar of `cells` characters with eighths at its end. */
function bar(fraction: number, cells: number): string {
  const eighths = Math.round(Math.min(1, Math.max(0, fraction)) * cells * 8);
  return ("█".repeat(eighths >> 3) + BLOCKS[eighths & 7]).padEnd(cells);
}

function sparkline(values: readonly number[], cells: number): string {
  const shown = values.slice(-cells);
  const top = Math.max(1, ...shown);
  return shown.map((value) => SPARKS[Math.min(7, Math.floor((8 * value) / top))]).join("");
}

/** Completed connections per second at each sample. */
function completedPerSecond(samples: readonly DemoSample[]): number[] {
  return samples.slice(1).map((sample, index) => {
    const before = samples[index] as DemoSample;
    return (sample.completed - before.completed) / Math.max(1e-3, sample.seconds - before.seconds);
  });
}

/** @param columns width of the terminal; no line is longer. */
export function renderLive(state: LiveState, columns: number): string {
  const now = state.samples.at(-1);
  const rate = rateNow(state.samples);
  const barCells = Math.max(10, Math.min(40, columns - 44));
  const elapsed = Math.min(now?.seconds ?? 0, state.secondsTotal);
  const progress = state.secondsTotal > 0 ? elapsed / state.secondsTotal : 1;
  const failed = now?.failed ?? 0;
  const failedText = `${formatInteger(failed)} failed`;
  const lines = [
    `${styleText("bold", "NetPopcorn")}  ${now?.kernels.length ?? 0} kernels · ${state.hosts} hosts · ` +
      `${formatInteger(state.concurrency)} connections in flight`,
    "",
    `${styleText("cyan", bar(progress, barCells))} ${formatPercent(progress).padStart(5)}  ` +
      `${elapsed.toFixed(1)} of ${state.secondsTotal} s`,
    "",
  ];
  const kernels = now?.kernels ?? [];
  const shown = kernels.slice(0, KERNEL_LINES_MAX);
  for (const [index, kernel] of shown.entries()) {
    lines.push(
      `kernel ${String(index).padEnd(3)}${styleText("green", bar(kernel.load, barCells))} ` +
        `${formatPercent(kernel.load).padStart(5)}  ${formatCompact(rate.kernels[index] ?? 0).padStart(6)} conn/s`,
    );
  }
  if (kernels.length > shown.length) lines.push(`… and ${kernels.length - shown.length} more kernels`);
  lines.push(
    "",
    `${formatInteger(rate.total).padStart(9)} conn/s  ` +
      styleText("dim", sparkline(completedPerSecond(state.samples), barCells)),
    `${formatInteger(now?.completed ?? 0).padStart(9)} completed, ` +
      (failed > 0 ? styleText("red", failedText) : failedText) +
      `  p50 ${formatUs(state.p50Us)}  p99 ${formatUs(state.p99Us)}`,
  );
  return lines.join("\n");
}

/** One line of plain text, for logs. */
export function renderLine(state: LiveState): string {
  const now = state.samples.at(-1);
  const rate = rateNow(state.samples);
  const loads = (now?.kernels ?? []).map((kernel, index) => `k${index} ${formatPercent(kernel.load)}`).join(" ");
  return (
    `${(now?.seconds ?? 0).toFixed(0).padStart(3)}/${state.secondsTotal} s  ` +
    `${formatInteger(rate.total)} conn/s  ${formatInteger(now?.completed ?? 0)} completed  ` +
    `${now?.failed ?? 0} failed  ` +
    `p99 ${formatUs(state.p99Us)}  load ${loads}`
  );
}
