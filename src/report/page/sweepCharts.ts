/** Options of the charts that compare many runs: lines by core count, distributions, stacks of parts, heat maps. */
import type { DistributionsChart, HeatMapChart, LinesChart, StackChart } from "../document.ts";
import {
  axis,
  formatCount,
  formatPercent,
  formatUs,
  frame,
  legendPixels,
  type Options,
  type Scheme,
} from "./scheme.ts";

// With the colours, a second way to tell lines apart.
const SYMBOLS = ["circle", "rect", "triangle", "diamond", "roundRect", "arrow"];
/** Half the width of the caps of an interval, in pixels. */
const CAP_PIXELS = 4;

const formats = { count: formatCount, percent: formatPercent, us: formatUs } as const;

type Tooltip = {
  readonly seriesName: string;
  readonly seriesType: string;
  readonly marker: string;
  readonly value: readonly (number | string | null)[];
};

function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}

/** Tooltip of an axis: largest value first, intervals left out. */
function axisTooltip(title: (x: number) => string, format: (value: number) => string) {
  return (items: readonly Tooltip[]) => {
    const shown = items.filter(({ seriesType, value }) => seriesType === "line" && typeof value[1] === "number");
    const x = Number(shown[0]?.value[0] ?? 0);
    const rows = [...shown]
      .sort((a, b) => Number(b.value[1]) - Number(a.value[1]))
      .map(({ marker, seriesName, value }) => `${marker}${escapeHtml(seriesName)} <b>${format(Number(value[1]))}</b>`);
    return [escapeHtml(title(x)), ...rows].join("<br>");
  };
}

type RenderApi = {
  value(dimension: number): number;
  coord(point: readonly [number, number]): [number, number];
  visual(name: string): string;
};

/** A vertical bar with caps from `value(1)` to `value(2)` at x `value(0)`. */
function renderInterval(_: unknown, api: RenderApi): Options {
  const [x, lowY] = api.coord([api.value(0), api.value(1)]);
  const highY = api.coord([api.value(0), api.value(2)])[1];
  const style = { stroke: api.visual("color"), lineWidth: 1.5, fill: "none" };
  const line = (x1: number, y1: number, x2: number, y2: number) => ({
    type: "line",
    shape: { x1, y1, x2, y2 },
    style,
  });
  return {
    type: "group",
    children: [
      line(x, lowY, x, highY),
      line(x - CAP_PIXELS, lowY, x + CAP_PIXELS, lowY),
      line(x - CAP_PIXELS, highY, x + CAP_PIXELS, highY),
    ],
  };
}

export function linesOptions(chart: LinesChart, scheme: Scheme): Options {
  const format = formats[chart.format];
  const base = frame(scheme, format, chart.series.length);
  const isShown = (value: number | null | undefined) =>
    typeof value === "number" && (!chart.isLogarithmic || value > 0);
  const lines = chart.series.map(({ name, values }, index) => ({
    name,
    type: "line",
    symbol: SYMBOLS[index % SYMBOLS.length],
    symbolSize: 7,
    lineStyle: { width: 2 },
    emphasis: { focus: "series" },
    data: chart.xValues.map((x, at) => [x, isShown(values[at]) ? values[at] : null]),
  }));
  const intervals = chart.series.flatMap(({ name, intervals = [] }, index) => {
    const data = intervals.flatMap((interval, at) =>
      interval !== null && isShown(interval[0]) ? [[chart.xValues[at], ...interval]] : [],
    );
    if (data.length === 0) return [];
    const itemStyle = { color: scheme.series[index % scheme.series.length] };
    return [{ name, type: "custom", renderItem: renderInterval, data, itemStyle, silent: true, z: 1 }];
  });
  return {
    ...base,
    grid: { left: 8, right: 20, top: legendPixels(chart.series.length) + 32, bottom: 22, containLabel: true },
    tooltip: {
      ...(base.tooltip as Options),
      formatter: axisTooltip((x) => `${x} ${chart.xName}`, format),
    },
    xAxis: axis(scheme, {
      type: "value",
      name: chart.xName,
      nameLocation: "middle",
      nameGap: 26,
      nameTextStyle: { color: scheme.muted },
      min: 0,
      // A single one stands in the middle.
      max: (chart.xValues.at(-1) ?? 1) * (chart.xValues.length === 1 ? 2 : 1),
      splitLine: { show: false },
      // A tick where there is a value, and a label where there is room for it.
      axisTick: { show: true, customValues: chart.xValues },
      axisLabel: { color: scheme.muted, customValues: chart.xValues, hideOverlap: true },
    }),
    yAxis: axis(scheme, {
      type: chart.isLogarithmic ? "log" : "value",
      name: chart.yName,
      nameTextStyle: { color: scheme.muted, align: "left" },
      nameGap: 8,
      ...(chart.isLogarithmic ? {} : { min: 0 }),
      axisLabel: { color: scheme.muted, formatter: format },
    }),
    series: [...lines, ...intervals],
  };
}

export function distributionsOptions(chart: DistributionsChart, scheme: Scheme): Options {
  // Whole decades around the data: a logarithmic axis that ends elsewhere has no label at its ends.
  const all = chart.series.flatMap(({ pointsUs }) => pointsUs.map(([us]) => us)).filter((us) => us > 0);
  const least = all.reduce((min, us) => Math.min(min, us), Number.POSITIVE_INFINITY);
  const most = all.reduce((max, us) => Math.max(max, us), 0);
  const base = frame(scheme, formatPercent, chart.series.length);
  return {
    ...base,
    tooltip: { ...(base.tooltip as Options), formatter: axisTooltip(formatUs, formatPercent) },
    xAxis: axis(scheme, {
      type: "log",
      min: all.length > 0 ? 10 ** Math.floor(Math.log10(least)) : 1,
      max: all.length > 0 ? 10 ** Math.ceil(Math.log10(most)) : 10,
      axisLabel: { color: scheme.muted, formatter: formatUs },
    }),
    yAxis: axis(scheme, {
      type: "value",
      min: 0,
      max: 100,
      axisLabel: { color: scheme.muted, formatter: "{value} %" },
    }),
    series: chart.series.map(({ name, pointsUs }) => ({
      name,
      type: "line",
      showSymbol: false,
      step: "end",
      emphasis: { focus: "series" },
      lineStyle: { width: 2 },
      data: pointsUs.filter(([us]) => us > 0),
    })),
  };
}

export function stackOptions(chart: StackChart, scheme: Scheme): Options {
  const base = frame(scheme, formatPercent, chart.parts.length);
  let colorIndex = 0;
  return {
    ...base,
    tooltip: { ...(base.tooltip as Options), axisPointer: { type: "shadow" } },
    grid: { left: 8, right: 28, top: legendPixels(chart.parts.length) + 8, bottom: 8, containLabel: true },
    xAxis: axis(scheme, {
      type: "value",
      min: 0,
      max: 100,
      axisLabel: { color: scheme.muted, formatter: "{value} %" },
    }),
    yAxis: axis(scheme, { type: "category", data: chart.categories, inverse: true, splitLine: { show: false } }),
    series: chart.parts.map(({ name, isMuted, percents }) => ({
      name,
      type: "bar",
      stack: "whole",
      data: percents,
      barMaxWidth: 30,
      emphasis: { focus: "series" },
      itemStyle: {
        color: isMuted === true ? scheme.rest : scheme.series[colorIndex++ % scheme.series.length],
        borderColor: scheme.card,
        borderWidth: 1,
      },
    })),
  };
}

export function heatMapOptions(chart: HeatMapChart, scheme: Scheme): Options {
  const data = chart.percents.flatMap((row, y) =>
    row.flatMap((percent, x) => (percent === null ? [] : [[x, y, percent]])),
  );
  const base = frame(scheme, formatPercent);
  return {
    ...base,
    legend: { show: false },
    tooltip: {
      ...(base.tooltip as Options),
      trigger: "item",
      formatter: ({ value: [x, y, percent] }: { value: readonly [number, number, number] }) =>
        `${escapeHtml(chart.rows[y] ?? "")}, ${escapeHtml(chart.columnsName)} ${escapeHtml(chart.columns[x] ?? "")}: ` +
        `<b>${formatPercent(percent)}</b>`,
    },
    grid: { left: 8, right: 12, top: 44, bottom: 22, containLabel: true },
    visualMap: {
      min: 0,
      max: 100,
      orient: "horizontal",
      left: 0,
      top: 0,
      itemWidth: 12,
      itemHeight: 140,
      calculable: false,
      text: ["100 %", "0 %"],
      textStyle: { color: scheme.muted },
      inRange: { color: scheme.heat },
    },
    xAxis: axis(scheme, {
      type: "category",
      data: chart.columns,
      name: chart.columnsName,
      nameLocation: "middle",
      nameGap: 26,
      nameTextStyle: { color: scheme.muted },
      splitLine: { show: false },
    }),
    yAxis: axis(scheme, { type: "category", data: chart.rows, inverse: true, splitLine: { show: false } }),
    series: [
      {
        type: "heatmap",
        data,
        itemStyle: { borderColor: scheme.card, borderWidth: 1 },
        label: {
          // Numbers in the cells only where they fit.
          show: chart.columns.length <= 12,
          formatter: ({ value }: { value: readonly [number, number, number] }) => value[2].toFixed(0),
        },
      },
    ],
  };
}
