/** A sweep's results as a report document (src/report). */
import type { Chart, LineSeries, PlainChart, ReportDocument, Table } from "../../report/document.ts";
import { machineNamed } from "../../sim/machines/index.ts";
import type { CellResult, Interval } from "../../sim/sweep/combine.ts";
import { type PointResult, SHARES, type ShareName } from "../../sim/types.ts";
import { formatCompact, formatInteger, formatPercent, formatUs } from "../format.ts";
import { relativeHalfWidth } from "./rows.ts";

/** Points of a distribution that are drawn: more cannot be seen. */
const CDF_POINTS_MAX = 160;

const shareNames: Readonly<Record<ShareName, string>> = {
  app: "application",
  stack: "stack",
  lockSpin: "lock spin",
  cacheMiss: "cache misses",
  switch: "switches",
  vfs: "VFS",
  background: "other work",
  idle: "idle",
};

export type ReportParts = {
  readonly results: readonly CellResult[];
  /** Tables from --validate and --sensitivity. */
  readonly tables: readonly Table[];
  readonly provenance: ReportDocument["provenance"];
};

/** Designs and core counts, as they come first in the results. */
class Grid {
  readonly designs: readonly string[];
  readonly cores: readonly number[];
  readonly #cells: Map<string, CellResult>;

  constructor(results: readonly CellResult[]) {
    this.designs = [...new Set(results.map(({ result }) => result.design))];
    this.cores = [...new Set(results.map(({ result }) => result.cores))].sort((a, b) => a - b);
    this.#cells = new Map(results.map((cell) => [`${cell.result.design} ${cell.result.cores}`, cell]));
  }

  find(design: string, cores: number): CellResult | undefined {
    return this.#cells.get(`${design} ${cores}`);
  }

  /** A line for each design. */
  lines(value: (result: PointResult) => number, interval?: (cell: CellResult) => Interval | undefined): LineSeries[] {
    return this.designs.map((design) => {
      const cells = this.cores.map((cores) => this.find(design, cores));
      return {
        name: design,
        values: cells.map((cell) => (cell === undefined ? null : value(cell.result))),
        ...(interval === undefined ? {} : { intervals: cells.map((cell) => (cell && interval(cell)) ?? null) }),
      };
    });
  }

  /** The same chart for each core count that has results. */
  byCores(text: { title: string; caption: string }, chart: (cells: readonly CellResult[]) => PlainChart): Chart {
    const variants = this.cores.map((cores) => ({
      name: String(cores),
      chart: chart(this.designs.flatMap((design) => this.find(design, cores) ?? [])),
    }));
    return { kind: "variants", ...text, label: "cores", variants };
  }
}

function rateCharts(grid: Grid, results: readonly CellResult[]): Chart[] {
  const axes = { kind: "lines", xName: "cores", xValues: grid.cores, isLogarithmic: false, format: "count" } as const;
  const hasManyRequests = results.some(({ point }) => point.requestsPerConn > 1);
  return [
    {
      ...axes,
      title: "Connections per second",
      caption: "Completed connections, by cores. Bars: 95 % confidence interval, where points were repeated.",
      yName: "connections/s",
      series: grid.lines(
        (result) => result.connsPerSec,
        ({ intervals }) => intervals?.connsPerSec,
      ),
    },
    ...(hasManyRequests
      ? [
          {
            ...axes,
            title: "Requests per second",
            caption: "Answered requests; a connection has several.",
            yName: "requests/s",
            series: grid.lines(
              (result) => result.requestsPerSec,
              ({ intervals }) => intervals?.requestsPerSec,
            ),
          } as const,
        ]
      : []),
    {
      ...axes,
      title: "Connections per second and core",
      caption: "What each core is worth. A design that scales has a level line.",
      yName: "connections/s per core",
      series: grid.lines((result) => result.connsPerSec / result.cores),
    },
  ];
}

function latencyCharts(grid: Grid): Chart[] {
  const text = { title: "Latency", caption: "Requests answered within a time, from the client's SYN on." };
  const tail = { title: "Latency by cores", caption: "On a logarithmic axis: half, 99 % and 99.9 % are faster." };
  const percentiles = [
    ["p50", "p50"],
    ["p99.9", "p999"],
    ["p99", "p99"],
  ] as const;
  return [
    grid.byCores(text, (cells) => ({
      kind: "distributions",
      ...text,
      series: cells.map(({ result }) => ({ name: result.design, pointsUs: cdfPoints(result) })),
    })),
    {
      kind: "variants",
      ...tail,
      label: "percentile",
      variants: percentiles.map(([name, field]) => ({
        name,
        chart: {
          kind: "lines",
          ...tail,
          xName: "cores",
          xValues: grid.cores,
          yName: name,
          format: "us",
          isLogarithmic: true,
          series: grid.lines(
            (result) => result.latencyUs[field],
            field === "p99" ? ({ intervals }) => intervals?.latencyP99Us : undefined,
          ),
        },
      })),
    },
  ];
}

function cdfPoints({ latencyCdf: { us, cdf } }: PointResult): (readonly [us: number, percent: number])[] {
  const step = Math.max(1, Math.ceil(us.length / CDF_POINTS_MAX));
  return us.flatMap((value, index) =>
    index % step === 0 || index === us.length - 1 ? [[value, 100 * (cdf[index] ?? 0)] as const] : [],
  );
}

function timeCharts(grid: Grid): Chart[] {
  const shares = {
    title: "Where the time goes",
    caption: "Parts of all cores' time. Stack: protocol code and system calls; cache misses: lines of other cores.",
  };
  const heat = { title: "Load of each core", caption: "Busy share; a design that spreads evenly has one colour." };
  return [
    grid.byCores(shares, (cells) => ({
      kind: "stack",
      ...shares,
      categories: cells.map(({ result }) => result.design),
      // Parts keep their colours from chart to chart, so all are there, also those that are 0.
      parts: SHARES.map((share) => ({
        name: shareNames[share],
        percents: cells.map(({ result }) => 100 * result.shares[share]),
        ...(share === "idle" ? { isMuted: true } : {}),
      })),
    })),
    grid.byCores(heat, (cells) => {
      const cores = cells.reduce((most, { result }) => Math.max(most, result.utilization.length), 0);
      return {
        kind: "heatMap",
        ...heat,
        columnsName: "core",
        columns: Array.from({ length: cores }, (_, core) => String(core)),
        rows: cells.map(({ result }) => result.design),
        percents: cells.map(({ result }) =>
          Array.from({ length: cores }, (_, core) => {
            const busy = result.utilization[core];
            return busy === undefined ? null : Math.round(1000 * busy) / 10;
          }),
        ),
      };
    }),
  ];
}

function failureChart(grid: Grid): Chart {
  return {
    kind: "lines",
    title: "Failed connections",
    caption: "Refused, reset or timed out in the measured span.",
    xName: "cores",
    xValues: grid.cores,
    yName: "connections",
    format: "count",
    isLogarithmic: false,
    series: grid.lines((result) => result.failedConnections),
  };
}

function resultTable(results: readonly CellResult[]): Table {
  const areRepeated = results.some(({ intervals }) => intervals !== undefined);
  const half = (interval: Interval | undefined) =>
    interval === undefined ? "" : `${relativeHalfWidth(interval).toFixed(1)} %`;
  return {
    title: "Results",
    columns: [
      ...[
        "design",
        "cores",
        "conn/s",
        ...(areRepeated ? ["±"] : []),
        "requests/s",
        "mean",
        "p50",
        "p99",
        "p99.9",
        "failed",
        "cycles/conn",
      ],
      ...["local packets", "packets"],
    ],
    rows: results.map(({ result, intervals }) => [
      result.design,
      String(result.cores),
      formatInteger(result.connsPerSec),
      ...(areRepeated ? [half(intervals?.connsPerSec)] : []),
      formatInteger(result.requestsPerSec),
      ...[result.latencyUs.mean, result.latencyUs.p50, result.latencyUs.p99, result.latencyUs.p999].map(formatUs),
      formatInteger(result.failedConnections),
      formatInteger(result.cyclesPerConn),
      formatPercent(result.localPacketShare, 1),
      formatCompact(result.simulatedPackets),
    ]),
  };
}

/** The locks that cost most at the largest core count of each design. */
function lockTable(grid: Grid): Table[] {
  const cells = grid.designs.flatMap((design) => {
    const cores = grid.cores.findLast((count) => grid.find(design, count) !== undefined);
    return (cores === undefined ? undefined : grid.find(design, cores)) ?? [];
  });
  const rows = cells.flatMap(({ result }) =>
    result.locks
      .filter(({ spinShare }) => spinShare >= 0.001)
      .sort((a, b) => b.spinShare - a.spinShare)
      .map((lock) => [
        result.design,
        String(result.cores),
        lock.name,
        formatInteger(lock.acquisitions),
        formatPercent(lock.acquisitions > 0 ? lock.contended / lock.acquisitions : 0, 1),
        formatPercent(lock.spinShare, 1),
      ]),
  );
  if (rows.length === 0) return [];
  const columns = ["design", "cores", "lock", "acquisitions", "had to wait", "share of all cores' time"];
  return [{ title: "Locks", caption: "Those that take more than 0.1 % of the time.", columns, rows }];
}

function constantTable(results: readonly CellResult[]): Table[] {
  const machine = results[0]?.point.machine;
  if (machine === undefined) return [];
  const { name, description, constants } = typeof machine === "string" ? machineNamed(machine) : machine;
  return [
    {
      title: `Machine ${name}`,
      caption: `${description}. The same constants for every design.`,
      columns: ["constant", "value", "unit", "confidence", "source"],
      rows: Object.entries(constants).map(([constant, { value, unit, confidence, source }]) => [
        constant,
        String(value),
        unit,
        confidence,
        source,
      ]),
    },
  ];
}

/** NetPopcorn against each other design at the largest core count that both have. */
function ratioFigures(grid: Grid): ReportDocument["figures"] {
  return grid.designs
    .filter((design) => design !== "netpopcorn")
    .flatMap((design) => {
      const has = (count: number) =>
        grid.find(design, count) !== undefined && grid.find("netpopcorn", count) !== undefined;
      const cores = grid.cores.findLast(has);
      if (cores === undefined) return [];
      const other = grid.find(design, cores)?.result.connsPerSec ?? 0;
      const own = grid.find("netpopcorn", cores)?.result.connsPerSec ?? 0;
      if (other <= 0) return [];
      return [{ label: `netpopcorn / ${design}, ${cores} cores`, value: `${(own / other).toPrecision(3)}×` }];
    });
}

/** All charts of a sweep. */
export function sweepCharts(results: readonly CellResult[]): readonly Chart[] {
  if (results.length === 0) return [];
  const grid = new Grid(results);
  return [...rateCharts(grid, results), ...latencyCharts(grid), failureChart(grid), ...timeCharts(grid)];
}

function namesOfDesigns({ designs }: Grid): string {
  return designs.length === 1 ? `${designs[0]}` : `${designs.length} designs`;
}

export function sweepReport({ results, tables, provenance }: ReportParts): ReportDocument {
  const grid = new Grid(results);
  const first = results[0];
  const packets = results.reduce((sum, { result }) => sum + result.simulatedPackets, 0);
  return {
    title: "NetPopcorn simulator",
    subtitle:
      first === undefined
        ? (tables[0]?.title ?? "")
        : `${namesOfDesigns(grid)} on ${grid.cores.join(", ")} ${grid.cores.at(-1) === 1 ? "core" : "cores"}, ` +
          `workload ${first.result.workload} (${first.result.protocol}), machine ${first.result.machine}.`,
    verdict: { isGood: true, text: "" },
    // Tables of claims and constants say themselves what they are made of.
    figures:
      results.length === 0
        ? []
        : [
            ...ratioFigures(grid),
            { label: "Simulations", value: formatInteger(results.reduce((sum, { repeats }) => sum + repeats, 0)) },
            { label: "Packets simulated", value: formatCompact(packets) },
          ],
    charts: sweepCharts(results),
    tables: [
      ...tables,
      ...(results.length > 0 ? [resultTable(results)] : []),
      ...lockTable(grid),
      ...constantTable(results),
    ],
    provenance,
  };
}
