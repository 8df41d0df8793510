/**
 * What a report says, apart from how it looks: the data that html.ts embeds and that page/ draws in the browser.
 * Plain JSON, so that a report file can also be read by a program.
 */

export type ReportDocument = {
  readonly title: string;
  /** One sentence: what was measured. */
  readonly subtitle: string;
  /** The result in one word or two, shown beside the title. */
  readonly verdict: { readonly isGood: boolean; readonly text: string };
  readonly figures: readonly KeyFigure[];
  readonly charts: readonly Chart[];
  readonly tables: readonly Table[];
  /** How to make this report again, and on what it was made. */
  readonly provenance: readonly (readonly [name: string, value: string])[];
};

/** A number that the reader should not have to look for. */
export type KeyFigure = {
  readonly label: string;
  readonly value: string;
  readonly unit?: string;
  /** Draws attention: something went wrong. */
  readonly isBad?: boolean;
};

export type Chart = PlainChart | VariantsChart;

/** Whatever has one drawing. */
export type PlainChart =
  | TimeSeriesChart
  | DistributionChart
  | ShareChart
  | LinesChart
  | DistributionsChart
  | StackChart
  | HeatMapChart;

type ChartText = {
  readonly title: string;
  /** What to see in it, one sentence. */
  readonly caption: string;
};

/** Values over time, one line or one layer of a stack for each series. */
export type TimeSeriesChart = ChartText & {
  readonly kind: "timeSeries";
  readonly isStacked: boolean;
  /** Upper end of the y axis; by the data when left out. */
  readonly yMax?: number;
  /** How values read: 12.3k, or 12 %. */
  readonly format: "count" | "percent";
  /** Seconds since the start. */
  readonly seconds: readonly number[];
  readonly series: readonly { readonly name: string; readonly values: readonly number[] }[];
};

/** A cumulative distribution of durations, on a logarithmic axis. */
export type DistributionChart = ChartText & {
  readonly kind: "distribution";
  /** (microseconds, percent of all that are at or below it), both rising. */
  readonly pointsUs: readonly (readonly [us: number, percent: number])[];
  /** Points to mark and name, such as p99. */
  readonly marks: readonly { readonly name: string; readonly us: number }[];
};

/** Parts of a whole, in percent, for each category: bars beside each other for the series. */
export type ShareChart = ChartText & {
  readonly kind: "share";
  readonly categories: readonly string[];
  readonly series: readonly { readonly name: string; readonly percents: readonly number[] }[];
};

/** A quantity by another that takes few values, such as core counts: a line with points for each series. */
export type LinesChart = ChartText & {
  readonly kind: "lines";
  readonly xName: string;
  /** Rising. */
  readonly xValues: readonly number[];
  readonly yName: string;
  readonly format: "count" | "percent" | "us";
  /** On a logarithmic y axis what is not above 0 is left out. */
  readonly isLogarithmic: boolean;
  readonly series: readonly LineSeries[];
};

export type LineSeries = {
  readonly name: string;
  /** One for each x; null where there is none. */
  readonly values: readonly (number | null)[];
  /** Confidence interval of each value, where there is one. */
  readonly intervals?: readonly (readonly [low: number, high: number] | null)[];
};

/** Cumulative distributions of durations beside each other, on a logarithmic axis. */
export type DistributionsChart = ChartText & {
  readonly kind: "distributions";
  readonly series: readonly {
    readonly name: string;
    /** (microseconds, percent of all that are at or below it), both rising. */
    readonly pointsUs: readonly (readonly [us: number, percent: number])[];
  }[];
};

/** What a whole consists of, in percent, for each category: one bar each, made of parts. */
export type StackChart = ChartText & {
  readonly kind: "stack";
  readonly categories: readonly string[];
  readonly parts: readonly {
    readonly name: string;
    /** Drawn in grey: what is left over, such as idle time. */
    readonly isMuted?: boolean;
    readonly percents: readonly number[];
  }[];
};

/** A value 0..100 for each row and column, as a colour. */
export type HeatMapChart = ChartText & {
  readonly kind: "heatMap";
  readonly columnsName: string;
  readonly columns: readonly string[];
  readonly rows: readonly string[];
  /** [row][column]; null where there is none. */
  readonly percents: readonly (readonly (number | null)[])[];
};

/** One of several charts of a kind, chosen by the reader. */
export type VariantsChart = ChartText & {
  readonly kind: "variants";
  /** What is chosen: "cores". */
  readonly label: string;
  /** Names of the variants; the last one is shown first. */
  readonly variants: readonly { readonly name: string; readonly chart: PlainChart }[];
};

export type Table = {
  readonly title: string;
  /** What to see in it. */
  readonly caption?: string;
  readonly columns: readonly string[];
  readonly rows: readonly (readonly TableCell[])[];
};

/** Text, or text with a judgement that is drawn as a colour as well. */
export type TableCell = string | { readonly text: string; readonly tone: "good" | "bad" | "muted" };
