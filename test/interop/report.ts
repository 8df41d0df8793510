/** docs/interop.md and its picture, from what the grid has measured. */
import { cpus, release } from "node:os";
import { init } from "echarts";
import type { Cell } from "./cells.ts";

/** Of what Linux to Linux gets. */
const GOAL_PERCENT = 80;

export type Row = {
  readonly cell: Cell;
  /** Mbit/s, means. */
  readonly linux: number;
  readonly sending: number;
  readonly receiving: number;
  /** Runs of each pair. */
  readonly runs: number;
};

export function percent(row: Row, which: "sending" | "receiving"): number {
  return Math.round((100 * row[which]) / row.linux);
}

export function isShort(row: Row): boolean {
  return percent(row, "sending") < GOAL_PERCENT || percent(row, "receiving") < GOAL_PERCENT;
}

function figure(row: Row, which: "sending" | "receiving"): string {
  const share = percent(row, which);
  const text = `${row[which].toFixed(2)} (${share} %)`;
  return share < GOAL_PERCENT ? `**${text}**` : text;
}

function tableOf(rows: readonly Row[]): string[] {
  const groups = [...new Set(rows.map(({ cell }) => cell.group))];
  return groups.flatMap((group) => [
    `| **${group}** | | | | |`,
    ...rows.filter(({ cell }) => cell.group === group).map(rowText),
  ]);
}

function rowText(row: Row): string {
  const parts = [row.cell.name, row.linux.toFixed(2), figure(row, "sending"), figure(row, "receiving"), row.runs];
  return `| ${parts.join(" | ")} |`;
}

/** @param load of the machine before. */
export function markdown(rows: readonly Row[], seconds: number, skipped: readonly Cell[], load: number): string {
  const reached = rows.filter((row) => !isShort(row)).length;
  const missing = skipped.map(({ name }) => name).join("; ");
  return [
    "# Goodput beside Linux",
    "",
    `One connection over a bad link, Linux ${release().replace(/-.*/, "")} at one end, NetPopcorn at the other,`,
    "against Linux at both ends of the same link with the same congestion control (CUBIC unless the row says",
    `otherwise). Payload in Mbit/s that the receiving application has read ${seconds} s after connect, means; TAP`,
    "devices and namespaces at both ends; link of 100 Mbit/s with a buffer of 256 KiB unless the row says otherwise.",
    "Loss is independent, in both",
    "directions; the same seeds for all three. Measured on",
    `${cpus().length} × ${cpus()[0]?.model ?? "?"}, Node ${process.versions.node}, all on that machine; its load`,
    `was ${load.toFixed(1)} when the measurement began: what is above 1 of other work counts against NetPopcorn first.`,
    "",
    `In ${reached} of ${rows.length} rows both directions reach ${GOAL_PERCENT} % of Linux to Linux; the rest is bold.`,
    "A row below is measured again with other seeds before it counts.",
    ...(skipped.length === 0 ? [] : [`Not measured, for want of time: ${missing}.`]),
    "",
    "![share of Linux to Linux by link](interop.svg)",
    "",
    "| link | Linux to Linux | NetPopcorn to Linux | Linux to NetPopcorn | runs |",
    "|---|---|---|---|---|",
    ...tableOf(rows),
    "",
    "Written by `npm run interop` (as root, less than 20 minutes; the machine should do nothing else).",
    "",
  ].join("\n");
}

export function picture(rows: readonly Row[]): string {
  const height = 70 + rows.length * 22;
  const chart = init(null, null, { renderer: "svg", ssr: true, width: 820, height });
  const names = rows.map(({ cell }) => `${cell.name}${cell.family === 6 ? ", IPv6" : ""}`);
  const series = (name: string, which: "sending" | "receiving", color: string) => ({
    name,
    type: "bar" as const,
    itemStyle: { color },
    // A share beyond that of the axis is cut off: it says "more".
    data: rows.map((row) => Math.min(percent(row, which), 200)),
  });
  chart.setOption({
    animation: false,
    backgroundColor: "#fff",
    legend: { top: 4 },
    grid: { left: 220, right: 24, top: 36, bottom: 28 },
    xAxis: { type: "value", max: 200, axisLabel: { formatter: "{value} %" } },
    yAxis: { type: "category", inverse: true, data: names, axisTick: { show: false } },
    series: [
      {
        ...series("NetPopcorn to Linux", "sending", "#4269d0"),
        markLine: {
          symbol: "none",
          silent: true,
          lineStyle: { color: "#d62728" },
          label: { formatter: `${GOAL_PERCENT} %` },
          data: [{ xAxis: GOAL_PERCENT }],
        },
      },
      series("Linux to NetPopcorn", "receiving", "#efb118"),
    ],
  });
  const svg = chart.renderToSVGString();
  chart.dispose();
  return svg;
}
