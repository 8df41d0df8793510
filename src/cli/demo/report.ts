/** The demo's result as a report document (src/report/) and as lines of text. */
import type { Chart, ReportDocument } from "../../report/document.ts";
import { formatBytes, formatCompact, formatInteger, formatPercent, formatUs } from "../format.ts";
import { connectionsPerSecond, type DemoResult, isGood, percentShares, servedPerSecond } from "./result.ts";

function kernelName(kernel: number): string {
  return `kernel ${kernel}`;
}

function charts(result: DemoResult): Chart[] {
  const seconds = result.samples.map((sample) => sample.seconds);
  const kernels = result.kernels.map((_, kernel) => kernel);
  const { latencyUs } = result;
  return [
    {
      kind: "timeSeries",
      title: "Connections per second",
      caption: "Served by each kernel, stacked: the upper edge is the whole stack.",
      isStacked: true,
      format: "count",
      seconds,
      series: kernels.map((kernel) => ({ name: kernelName(kernel), values: servedPerSecond(result.samples, kernel) })),
    },
    {
      kind: "timeSeries",
      title: "Load",
      caption: "Share of time in which the kernel's thread had work. Clients share the same cores.",
      isStacked: false,
      yMax: 100,
      format: "percent",
      seconds,
      series: kernels.map((kernel) => ({
        name: kernelName(kernel),
        values: result.samples.map((sample) => 100 * (sample.kernels[kernel]?.load ?? 0)),
      })),
    },
    {
      kind: "distribution",
      title: "Latency",
      caption: "From connect to the last byte of the response: share of connections by when.",
      pointsUs: latencyUs.distribution,
      marks: [
        { name: "p50", us: latencyUs.p50 },
        { name: "p99", us: latencyUs.p99 },
        { name: "p99.9", us: latencyUs.p999 },
      ],
    },
    {
      kind: "share",
      title: "Queue shares",
      caption: "What the card brought to each kernel's queue, and the connections served from it.",
      categories: kernels.map(kernelName),
      series: [
        { name: "frames received", percents: percentShares(result.kernels.map((kernel) => kernel.queueFrames)) },
        { name: "connections served", percents: percentShares(result.kernels.map((kernel) => kernel.served)) },
      ],
    },
  ];
}

function verdict(result: DemoResult): ReportDocument["verdict"] {
  if (isGood(result)) return { isGood: true, text: "every connection completed, every byte as sent" };
  if (result.completed === 0 && result.failed === 0) return { isGood: false, text: "no connection was made" };
  const what = [];
  if (result.failed > 0) what.push(`${formatInteger(result.failed)} connections failed`);
  if (result.bytesDiffering > 0) what.push(`${formatInteger(result.bytesDiffering)} bytes differ`);
  return { isGood: false, text: what.join(", ") };
}

function failuresText(result: DemoResult): string {
  return Object.entries(result.failures)
    .map(([code, count]) => `${code} ${formatInteger(count)}`)
    .join(", ");
}

/** @param provenance lines about the machine and the command, which only the outer edge knows. */
export function demoReport(result: DemoResult, provenance: ReportDocument["provenance"]): ReportDocument {
  const { latencyUs } = result;
  const perSecond = connectionsPerSecond(result);
  const served = percentShares(result.kernels.map((kernel) => kernel.served));
  const frames = percentShares(result.kernels.map((kernel) => kernel.queueFrames));
  return {
    title: "NetPopcorn demo",
    subtitle:
      `${result.kernels.length} kernels behind one card and one listening port, ` +
      `${result.hosts} client hosts in ${result.clientThreads} threads, ` +
      `${result.concurrency} connections in flight, ${result.seconds.toFixed(1)} s.`,
    verdict: verdict(result),
    figures: [
      { label: "Connections", value: formatInteger(result.completed) },
      { label: "Connections/s", value: formatInteger(perSecond) },
      { label: "Failed", value: formatInteger(result.failed), isBad: result.failed > 0 },
      { label: "Bytes differing", value: formatInteger(result.bytesDiffering), isBad: result.bytesDiffering > 0 },
      { label: "Latency p50", value: formatUs(latencyUs.p50) },
      { label: "Latency p99", value: formatUs(latencyUs.p99) },
      { label: "Latency p99.9", value: formatUs(latencyUs.p999) },
    ],
    charts: charts(result),
    tables: [
      {
        title: "Kernels",
        columns: ["kernel", "connections", "share", "conn/s", "load", "queue frames", "frame share", "retransmits"],
        rows: result.kernels.map((kernel, index) => [
          String(index),
          formatInteger(kernel.served),
          formatPercent((served[index] ?? 0) / 100, 1),
          formatInteger(result.seconds > 0 ? kernel.served / result.seconds : 0),
          formatPercent(kernel.load),
          formatInteger(kernel.queueFrames),
          formatPercent((frames[index] ?? 0) / 100, 1),
          formatInteger(kernel.retransmits),
        ]),
      },
      {
        title: "Run",
        columns: ["measure", "value"],
        rows: [
          ["application bytes, both ways", formatBytes(result.bytesExchanged)],
          ["latency, mean", formatUs(latencyUs.mean)],
          ["latency, longest", formatUs(latencyUs.max)],
          ["failed connections", result.failed === 0 ? "none" : failuresText(result)],
        ],
      },
    ],
    provenance,
  };
}

/** The summary that ends a run on a terminal or in a log. */
export function summaryLines(result: DemoResult): string[] {
  const { latencyUs } = result;
  const served = percentShares(result.kernels.map((kernel) => kernel.served));
  const perKernel = (text: (kernel: number) => string) => result.kernels.map((_, kernel) => text(kernel)).join("  ");
  const failures = result.failed === 0 ? "" : ` (${failuresText(result)})`;
  return [
    `connections   ${formatInteger(result.completed)} completed, ${formatInteger(result.failed)} failed${failures}`,
    `bytes         ${formatBytes(result.bytesExchanged)} exchanged, ${formatInteger(result.bytesDiffering)} differ`,
    `rate          ${formatInteger(connectionsPerSecond(result))} connections/s over ${result.seconds.toFixed(1)} s`,
    `latency       p50 ${formatUs(latencyUs.p50)}   p99 ${formatUs(latencyUs.p99)}   p99.9 ${formatUs(latencyUs.p999)}`,
    `kernel share  ${perKernel((kernel) => `${kernel}: ${(served[kernel] ?? 0).toFixed(1)} %`)}`,
    `queue frames  ${perKernel((kernel) => `${kernel}: ${formatCompact(result.kernels[kernel]?.queueFrames ?? 0)}`)}`,
  ];
}
