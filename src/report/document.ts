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

export type Chart = TimeSeriesChart | DistributionChart | ShareChart;

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

export type Table = {
  readonly title: string;
  readonly columns: readonly string[];
  readonly rows: readonly (readonly string[])[];
};
