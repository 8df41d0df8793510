/** Colours in the scheme of the reader, numbers as people read them, and what all charts have in common. */

export type Options = Record<string, unknown>;
export type Scheme = {
  readonly font: string;
  readonly text: string;
  readonly muted: string;
  readonly line: string;
  readonly card: string;
  readonly series: readonly string[];
  /** What is left over. */
  readonly rest: string;
  /** From nothing to all. */
  readonly heat: readonly string[];
};

// Distinguishable with the common colour deficiencies, and with at least 3:1 against the card.
const light = [
  ...["#2f6fde", "#d9730d", "#1a8f6a", "#b0399b", "#7a5af0", "#a5780a", "#c4364a", "#4b7a1f", "#0f8299", "#8a5a44"],
];
const dark = [
  ...["#6ea8ff", "#f5a04c", "#43c79a", "#e57fd2", "#a793ff", "#dcb53c", "#ff7d8b", "#93c85a", "#4fc3d9", "#c79a83"],
];

// One hue, lightness alone: from the card's colour to the strongest.
const lightHeat = ["#eef2f8", "#9dbbf0", "#2f6fde", "#123a86"];
const darkHeat = ["#232a36", "#2c4c82", "#4d8bf0", "#cfe0ff"];

const countFormat = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });

export function formatCount(value: number): string {
  return countFormat.format(value);
}

/** Microseconds in the unit that reads best. */
export function formatUs(us: number): string {
  if (us < 1_000) return `${countFormat.format(us)} µs`;
  if (us < 1_000_000) return `${countFormat.format(us / 1_000)} ms`;
  return `${countFormat.format(us / 1_000_000)} s`;
}

export function formatPercent(value: number): string {
  return `${Number(value.toFixed(value >= 99 ? 3 : 1))} %`;
}

export function readScheme(isDark: boolean): Scheme {
  const style = getComputedStyle(document.documentElement);
  const color = (name: string) => style.getPropertyValue(name).trim();
  return {
    font: style.fontFamily,
    text: color("--text"),
    muted: color("--muted"),
    line: color("--line"),
    card: color("--card"),
    series: isDark ? dark : light,
    rest: isDark ? "#46505f" : "#c6cdd8",
    heat: isDark ? darkHeat : lightHeat,
  };
}

export function axis(scheme: Scheme, extra: Options): Options {
  return {
    axisLabel: { color: scheme.muted, hideOverlap: true },
    axisLine: { lineStyle: { color: scheme.line } },
    splitLine: { lineStyle: { color: scheme.line } },
    ...extra,
  };
}

/** Entries of a legend that fit in one row. */
const LEGEND_ROW = 4;

/** @param names in the legend: many need a second row. Height of the legend: `legendPixels`. */
export function frame(scheme: Scheme, valueFormatter: (value: number) => string, names = 0): Options {
  return {
    animation: false,
    color: scheme.series,
    textStyle: { fontFamily: scheme.font, color: scheme.text },
    grid: { left: 8, right: 20, top: legendPixels(names) + 16, bottom: 8, containLabel: true },
    legend: {
      type: names > LEGEND_ROW ? "plain" : "scroll",
      top: 0,
      left: 0,
      icon: "roundRect",
      itemWidth: 12,
      itemHeight: 10,
      itemGap: 8,
      textStyle: { color: scheme.muted },
    },
    tooltip: {
      trigger: "axis",
      valueFormatter,
      backgroundColor: scheme.card,
      borderColor: scheme.line,
      textStyle: { color: scheme.text },
    },
  };
}

export function legendPixels(names: number): number {
  return names > LEGEND_ROW ? 44 : 24;
}
