/** What the demo ends with: the designs compared in simulation, on more cores than this machine has. */

import type { Chart, Table } from "../../report/document.ts";
import { parsePoint } from "../../sim/point.ts";
import type { CellResult } from "../../sim/sweep/combine.ts";
import { buildFingerprint } from "../../sim/sweep/fingerprint.ts";
import { planCells } from "../../sim/sweep/plan.ts";
import { PoolExecutor } from "../../sim/sweep/pool.ts";
import { runSweep } from "../../sim/sweep/runSweep.ts";
import { formatCompact, formatInteger, formatUs } from "../format.ts";
import { DESIGNS_DEFAULT } from "../sim/definition.ts";
import type { SweepView } from "../sim/progress.ts";
import { sweepCharts } from "../sim/report.ts";

/** NetPopcorn's own testbed: where a second socket begins, and all of it. */
const CORES = [4, 12, 24];
/** Virtual seconds: enough for a picture, and short. */
const DURATION_S = 0.2;
const COMMAND = `netpopcorn sim --cores ${CORES.join(",")} --duration ${DURATION_S}`;

/** @throws the signal's reason when aborted. */
export async function compareDesigns(
  seed: number,
  view: SweepView,
  signal: AbortSignal,
): Promise<readonly CellResult[]> {
  const points = DESIGNS_DEFAULT.flatMap((design) =>
    CORES.map((cores) => parsePoint({ design, cores, workload: "web-epoll", durationS: DURATION_S, seed })),
  );
  const executor = new PoolExecutor();
  const events = { onCell: () => {}, onProgress: view.show, onNote: view.note, nowMs: () => performance.now() };
  try {
    const cells = planCells(points, 1, await buildFingerprint());
    return (await runSweep(cells, executor, undefined, events, signal)).results;
  } finally {
    view.close();
    await executor.close();
  }
}

export function comparisonRecord({ result }: CellResult): Record<string, unknown> {
  const { design, cores, workload, machine, connsPerSec, latencyUs, failedConnections } = result;
  return { phase: "comparison", design, cores, workload, machine, connsPerSec, latencyUs, failedConnections };
}

/** "simulated, 24 cores  netpopcorn 290K/s  mtcp 290K/s …". */
export function comparisonLine(results: readonly CellResult[]): string {
  const most = Math.max(...CORES);
  const rates = results
    .filter(({ result }) => result.cores === most)
    .map(({ result }) => `${result.design} ${formatCompact(result.connsPerSec)}/s`);
  return `simulated     ${most} cores: ${rates.reverse().join("  ")}`;
}

export function comparisonCharts(results: readonly CellResult[]): readonly Chart[] {
  const machine = results[0]?.result.machine ?? "";
  return sweepCharts(results)
    .filter(({ title }) => title === "Connections per second" || title === "Latency by cores")
    .map((chart) => ({
      ...chart,
      title: `Designs simulated: ${chart.title.toLowerCase()}`,
      caption: `In virtual time on a machine like ${machine}, not this one.`,
    }));
}

export function comparisonTable(results: readonly CellResult[]): Table {
  return {
    title: "Designs simulated",
    caption: `By ${COMMAND}: the same kernels under each design's locks, queues and wake-ups, in virtual time.`,
    columns: ["design", "cores", "conn/s", "p50", "p99", "p99.9", "failed"],
    rows: results.map(({ result }) => [
      result.design,
      String(result.cores),
      formatInteger(result.connsPerSec),
      ...[result.latencyUs.p50, result.latencyUs.p99, result.latencyUs.p999].map(formatUs),
      formatInteger(result.failedConnections),
    ]),
  };
}
