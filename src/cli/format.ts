/** Numbers as people read them. */

const grouped = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });

/** 1234567 is "1,234,567". */
export function formatInteger(value: number): string {
  return grouped.format(value);
}

/** 1234567 is "1.23M". */
export function formatCompact(value: number): string {
  return compact.format(value);
}

/** @param fraction 0..1. */
export function formatPercent(fraction: number, digits = 0): string {
  return `${(100 * fraction).toFixed(digits)} %`;
}

/** Microseconds in the unit that keeps three digits: "87 µs", "1.24 ms", "2.05 s". */
export function formatUs(us: number): string {
  if (us < 1_000) return `${us.toFixed(us < 10 ? 1 : 0)} µs`;
  if (us < 1_000_000) return `${(us / 1_000).toPrecision(3)} ms`;
  return `${(us / 1_000_000).toPrecision(3)} s`;
}

/** 1500000 is "1.50 MB". */
export function formatBytes(bytes: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  const power = Math.min(units.length - 1, Math.max(0, Math.floor(Math.log10(Math.max(1, bytes)) / 3)));
  const value = bytes / 1000 ** power;
  return `${power === 0 ? value : value.toPrecision(3)} ${units[power]}`;
}
