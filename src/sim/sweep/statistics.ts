/** Means with confidence intervals. */

/** Mean of samples and half the width of its 95 % confidence interval; null for fewer than two samples. */
export type Estimate = { readonly mean: number; readonly halfWidth: number | null };

/** Two-sided 95 % quantiles of Student's t distribution for 1, 2, … degrees of freedom. */
const STUDENT_T_95 = [
  12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.16, 2.145, 2.131, 2.12, 2.11,
  2.101, 2.093, 2.086, 2.08, 2.074, 2.069, 2.064, 2.06, 2.056, 2.052, 2.048, 2.045, 2.042,
];
const NORMAL_95 = 1.959964;

/** Beyond the table: the normal quantile and two terms of Cornish and Fisher's expansion, right to four digits. */
function studentT95(freedom: number): number {
  const z = NORMAL_95;
  const first = (z ** 3 + z) / (4 * freedom);
  const second = (5 * z ** 5 + 16 * z ** 3 + 3 * z) / (96 * freedom ** 2);
  return STUDENT_T_95[freedom - 1] ?? z + first + second;
}

export function meanOf(samples: readonly number[]): number {
  return samples.length === 0 ? 0 : samples.reduce((sum, sample) => sum + sample, 0) / samples.length;
}

export function estimate(samples: readonly number[]): Estimate {
  const mean = meanOf(samples);
  if (samples.length < 2) return { mean, halfWidth: null };
  const squares = samples.reduce((sum, sample) => sum + (sample - mean) ** 2, 0);
  const standardError = Math.sqrt(squares / (samples.length - 1) / samples.length);
  return { mean, halfWidth: studentT95(samples.length - 1) * standardError };
}
