/** Turns the charts of a report into ECharts options, in the colours of the reader's scheme. */
import { BarChart, CustomChart, HeatmapChart, LineChart } from "echarts/charts";
import {
  GridComponent,
  LegendComponent,
  MarkLineComponent,
  TooltipComponent,
  VisualMapContinuousComponent,
} from "echarts/components";
import { init, use } from "echarts/core";
import { SVGRenderer } from "echarts/renderers";
import type { DistributionChart, PlainChart, ShareChart, TimeSeriesChart } from "../document.ts";
import { axis, formatCount, formatPercent, formatUs, frame, type Options, readScheme, type Scheme } from "./scheme.ts";
import { distributionsOptions, heatMapOptions, linesOptions, stackOptions } from "./sweepCharts.ts";

use([BarChart, CustomChart, HeatmapChart, LineChart, SVGRenderer]);
use([GridComponent, LegendComponent, MarkLineComponent, TooltipComponent, VisualMapContinuousComponent]);

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

function optionsOf(chart: PlainChart, scheme: Scheme): Options {
  switch (chart.kind) {
    case "timeSeries":
      return timeSeriesOptions(chart, scheme);
    case "distribution":
      return distributionOptions(chart, scheme);
    case "share":
      return shareOptions(chart, scheme);
    case "lines":
      return linesOptions(chart, scheme);
    case "distributions":
      return distributionsOptions(chart, scheme);
    case "stack":
      return stackOptions(chart, scheme);
    case "heatMap":
      return heatMapOptions(chart, scheme);
  }
}

/** A chart at its place; another one of the same size can be put there. */
export type DrawnChart = { show(chart: PlainChart): void };

/** Draws each chart at its place, again when the reader changes the scheme, and fits it when the window changes. */
export function drawCharts(
  places: readonly { readonly chart: PlainChart; readonly place: HTMLElement }[],
): readonly DrawnChart[] {
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
  return drawn.map((entry) => ({
    show(chart) {
      entry.chart = chart;
      entry.view.setOption(optionsOf(chart, readScheme(darkScheme.matches)), true);
    },
  }));
}
