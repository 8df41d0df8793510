/** Turns the charts of a report into ECharts options, in the colours of the reader's scheme. */
import { BarChart, LineChart } from "echarts/charts";
import { GridComponent, LegendComponent, MarkLineComponent, TooltipComponent } from "echarts/components";
import { init, use } from "echarts/core";
import { SVGRenderer } from "echarts/renderers";
import type { Chart, DistributionChart, ShareChart, TimeSeriesChart } from "../document.ts";

use([BarChart, LineChart, GridComponent, LegendComponent, MarkLineComponent, TooltipComponent, SVGRenderer]);

type Options = Record<string, unknown>;
type Scheme = {
  readonly font: string;
  readonly text: string;
  readonly muted: string;
  readonly line: string;
  readonly card: string;
  readonly series: readonly string[];
};

// Distinguishable with the common colour deficiencies, and with at least 3:1 against the card.
const light = ["#2f6fde", "#d9730d", "#1a8f6a", "#b0399b", "#7a5af0", "#a5780a", "#c4364a", "#4b7a1f"];
const dark = ["#6ea8ff", "#f5a04c", "#43c79a", "#e57fd2", "#a793ff", "#dcb53c", "#ff7d8b", "#93c85a"];

const countFormat = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });

function formatCount(value: number): string {
  return countFormat.format(value);
}

/** Microseconds in the unit that reads best. */
function formatUs(us: number): string {
  if (us < 1_000) return `${countFormat.format(us)} µs`;
  if (us < 1_000_000) return `${countFormat.format(us / 1_000)} ms`;
  return `${countFormat.format(us / 1_000_000)} s`;
}

function formatPercent(value: number): string {
  return `${Number(value.toFixed(value >= 99 ? 3 : 1))} %`;
}

function readScheme(isDark: boolean): Scheme {
  const style = getComputedStyle(document.documentElement);
  const color = (name: string) => style.getPropertyValue(name).trim();
  return {
    font: style.fontFamily,
    text: color("--text"),
    muted: color("--muted"),
    line: color("--line"),
    card: color("--card"),
    series: isDark ? dark : light,
  };
}

function axis(scheme: Scheme, extra: Options): Options {
  return {
    axisLabel: { color: scheme.muted, hideOverlap: true },
    axisLine: { lineStyle: { color: scheme.line } },
    splitLine: { lineStyle: { color: scheme.line } },
    ...extra,
  };
}

function frame(scheme: Scheme, valueFormatter: (value: number) => string): Options {
  return {
    animation: false,
    color: scheme.series,
    textStyle: { fontFamily: scheme.font, color: scheme.text },
    grid: { left: 8, right: 20, top: 40, bottom: 8, containLabel: true },
    legend: { type: "scroll", top: 0, left: 0, icon: "roundRect", itemWidth: 12, textStyle: { color: scheme.muted } },
    tooltip: {
      trigger: "axis",
      valueFormatter,
      backgroundColor: scheme.card,
      borderColor: scheme.line,
      textStyle: { color: scheme.text },
    },
  };
}

function timeSeriesOptions(chart: TimeSeriesChart, scheme: Scheme): Options {
  const format = chart.format === "percent" ? formatPercent : formatCount;
  const end = chart.seconds.at(-1) ?? 1;
  return {
    ...frame(scheme, format),
    xAxis: axis(scheme, {
      type: "value",
      min: 0,
      max: end,
      axisLabel: {
        color: scheme.muted,
        formatter: (value: number) => `${Number(value.toFixed(1))} s`,
        hideOverlap: true,
      },
      splitLine: { show: false },
    }),
    yAxis: axis(scheme, {
      type: "value",
      min: 0,
      ...(chart.yMax === undefined ? {} : { max: chart.yMax }),
      axisLabel: { color: scheme.muted, formatter: format },
    }),
    series: chart.series.map(({ name, values }) => ({
      name,
      type: "line",
      showSymbol: false,
      data: values.map((value, index) => [chart.seconds[index], value]),
      lineStyle: { width: chart.isStacked ? 1 : 2 },
      ...(chart.isStacked ? { stack: "all", areaStyle: { opacity: 0.55 } } : {}),
    })),
  };
}

function distributionOptions(chart: DistributionChart, scheme: Scheme): Options {
  // Whole decades around the data: a logarithmic axis that ends elsewhere has no label at its ends.
  const min = 10 ** Math.floor(Math.log10(chart.pointsUs[0]?.[0] ?? 1));
  const max = 10 ** Math.ceil(Math.log10(chart.pointsUs.at(-1)?.[0] ?? 10));
  const rowPixels = 16;
  const marks = chart.marks.map((mark, row) => ({
    xAxis: mark.us,
    // One row each: marks may stand close together.
    label: { formatter: `${mark.name}  ${formatUs(mark.us)}`, color: scheme.text, distance: 4 + row * rowPixels },
  }));
  return {
    ...frame(scheme, formatPercent),
    legend: { show: false },
    grid: { left: 8, right: 32, top: 10 + marks.length * rowPixels, bottom: 8, containLabel: true },
    xAxis: axis(scheme, {
      type: "log",
      min,
      max,
      axisLabel: { color: scheme.muted, formatter: formatUs },
      axisPointer: { label: { formatter: ({ value }: { value: number }) => formatUs(value) } },
    }),
    yAxis: axis(scheme, {
      type: "value",
      min: 0,
      max: 100,
      axisLabel: { color: scheme.muted, formatter: "{value} %" },
    }),
    series: [
      {
        name: "at or below",
        type: "line",
        showSymbol: false,
        data: chart.pointsUs,
        areaStyle: { opacity: 0.12 },
        lineStyle: { width: 2 },
        markLine: { symbol: "none", silent: true, lineStyle: { type: "dashed", color: scheme.muted }, data: marks },
      },
    ],
  };
}

function shareOptions(chart: ShareChart, scheme: Scheme): Options {
  return {
    ...frame(scheme, formatPercent),
    xAxis: axis(scheme, { type: "category", data: chart.categories, splitLine: { show: false } }),
    yAxis: axis(scheme, { type: "value", min: 0, axisLabel: { color: scheme.muted, formatter: "{value} %" } }),
    series: chart.series.map(({ name, percents }) => ({
      name,
      type: "bar",
      data: percents,
      barMaxWidth: 46,
      itemStyle: { borderRadius: [3, 3, 0, 0] },
      label: {
        // Numbers above the bars only where they fit.
        show: chart.categories.length * chart.series.length <= 16,
        position: "top",
        color: scheme.muted,
        formatter: ({ value }: { value: number }) => formatPercent(value),
      },
    })),
  };
}

function optionsOf(chart: Chart, scheme: Scheme): Options {
  switch (chart.kind) {
    case "timeSeries":
      return timeSeriesOptions(chart, scheme);
    case "distribution":
      return distributionOptions(chart, scheme);
    case "share":
      return shareOptions(chart, scheme);
  }
}

/** Draws each chart at its place, again when the reader changes the scheme, and fits it when the window changes. */
export function drawCharts(places: readonly { readonly chart: Chart; readonly place: HTMLElement }[]): void {
  const drawn = places.map(({ chart, place }) => ({ chart, view: init(place, null, { renderer: "svg" }) }));
  const darkScheme = matchMedia("(prefers-color-scheme: dark)");
  const draw = () => {
    const scheme = readScheme(darkScheme.matches);
    for (const { chart, view } of drawn) view.setOption(optionsOf(chart, scheme), true);
  };
  draw();
  darkScheme.addEventListener("change", draw);
  addEventListener("resize", () => {
    for (const { view } of drawn) view.resize();
  });
}
