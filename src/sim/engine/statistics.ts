/** Latency histogram, and when a run has settled and has been measured long enough. */
import type { Latency } from "../types.ts";
import { ZERO } from "./doubles.ts";

/** Buckets per factor of two: 2.2 % wide. */
const PER_OCTAVE = 32;
const OCTAVES = 40;

/** Counts of positive values, nanoseconds, in buckets of equal ratio. */
export class Histogram {
  readonly #counts = new Uint32Array(PER_OCTAVE * OCTAVES);
  #count = 0;
  #sum = ZERO;

  add(ns: number): void {
    const bucket = Math.floor(Math.log2(Math.max(ns, 1)) * PER_OCTAVE);
    const at = Math.min(bucket, this.#counts.length - 1);
    this.#counts[at] = (this.#counts[at] as number) + 1;
    this.#count++;
    this.#sum += ns;
  }

  get count(): number {
    return this.#count;
  }

  reset(): void {
    this.#counts.fill(0);
    this.#count = 0;
    this.#sum = 0;
  }

  copy(): Histogram {
    const copy = new Histogram();
    copy.#counts.set(this.#counts);
    copy.#count = this.#count;
    copy.#sum = this.#sum;
    return copy;
  }

  /** Adds what has come since `before`, a copy from then, `factor` times again. */
  extrapolate(before: Histogram, factor: number): void {
    for (let bucket = 0; bucket < this.#counts.length; bucket++) {
      const count = this.#counts[bucket] as number;
      const more = Math.round((count - (before.#counts[bucket] as number)) * factor);
      this.#counts[bucket] = count + more;
      this.#count += more;
    }
    this.#sum += (this.#sum - before.#sum) * factor;
  }

  /** The value that `share` (0..1) of all are at most; 0 when there is none. */
  quantileNs(share: number): number {
    const wanted = share * this.#count;
    let seen = 0;
    for (let bucket = 0; bucket < this.#counts.length; bucket++) {
      seen += this.#counts[bucket] as number;
      if (seen > 0 && seen >= wanted) return 2 ** ((bucket + 0.5) / PER_OCTAVE);
    }
    return 0;
  }

  latencyUs(): Latency {
    return {
      mean: this.#count === 0 ? 0 : this.#sum / this.#count / 1000,
      p50: this.quantileNs(0.5) / 1000,
      p99: this.quantileNs(0.99) / 1000,
      p999: this.quantileNs(0.999) / 1000,
    };
  }

  /** At most `points` steps of the distribution function. */
  cdf(points: number): { us: number[]; cdf: number[] } {
    const filled: number[] = [];
    this.#counts.forEach((count, bucket) => {
      if (count > 0) filled.push(bucket);
    });
    const step = Math.max(1, Math.ceil(filled.length / points));
    const us: number[] = [];
    const cdf: number[] = [];
    let seen = 0;
    filled.forEach((bucket, i) => {
      seen += this.#counts[bucket] as number;
      if (i % step !== step - 1 && i !== filled.length - 1) return;
      us.push(2 ** ((bucket + 1) / PER_OCTAVE) / 1000);
      cdf.push(seen / this.#count);
    });
    return { us, cdf };
  }
}

/** Whether more came than went by `tolerance`, of those that went; what chance brings is left aside. */
export function isFilling(growth: number, went: number, tolerance: number): boolean {
  return growth > Math.max(tolerance * went, 4 * Math.sqrt(went));
}

/** Windows that are looked at together at least. */
const WINDOWS_MIN = 8;

/**
 * Says when a series of counts per window of equal length has no trend any more: the means of the two halves of the
 * later half of all windows differ by less than `tolerance`, or by less than the standard error of their difference;
 * and no more came than went, to within `tolerance`: a queue that still fills up gives no sign in the rate before it
 * overflows. The longer the beginning has been, the longer is what must be without a trend: a rate that creeps along
 * would stand still for a moment by chance.
 */
export class WarmUp {
  readonly #tolerance: number;
  readonly #counts: number[] = [];
  readonly #open: number[] = [];

  constructor(tolerance: number) {
    this.#tolerance = tolerance;
  }

  /** @param open how many are under way at the window's end. @returns true when the series has settled. */
  add(count: number, open: number): boolean {
    this.#counts.push(count);
    this.#open.push(open);
    if (this.#counts.length < WINDOWS_MIN) return false;
    const half = Math.max(WINDOWS_MIN / 2, Math.floor(this.#counts.length / 4));
    const windows = 2 * half;
    const recent = this.#counts.slice(-windows);
    const mean = recent.reduce((sum, one) => sum + one, 0) / windows;
    if (mean === 0) return false;
    const early = recent.slice(0, half).reduce((sum, one) => sum + one, 0) / half;
    const late = recent.slice(half).reduce((sum, one) => sum + one, 0) / half;
    const variance = recent.reduce((sum, one) => sum + (one - mean) ** 2, 0) / (windows - 1);
    const standardError = Math.sqrt((2 * variance) / half);
    const hasTrend = Math.abs(late - early) >= Math.max(this.#tolerance * mean, Math.min(standardError, 0.1 * mean));
    const spent = (windows - 1) * mean;
    const growth = open - (this.#open[this.#open.length - windows] as number);
    return !hasTrend && !isFilling(growth, spent, this.#tolerance);
  }
}

/** Half width of the 95 % interval of the mean, as a share of it, from counts of windows of equal length. */
export function relativeHalfWidth(counts: readonly number[]): number {
  const n = counts.length;
  if (n < 2) return Number.POSITIVE_INFINITY;
  const mean = counts.reduce((sum, one) => sum + one, 0) / n;
  if (mean === 0) return Number.POSITIVE_INFINITY;
  const variance = counts.reduce((sum, one) => sum + (one - mean) ** 2, 0) / (n - 1);
  return (2 * Math.sqrt(variance / n)) / mean;
}
