/** Which of a machine's constants the ratios between designs depend on: each is varied alone, down and up. */
import { CONSTANT_NAMES, type ConstantName } from "../machines/machine.ts";
import type { PointResult, SimPoint } from "../types.ts";

/** Relative change of a constant, both ways. */
export const VARIATION = 0.3;

/** What the machine is, not what something costs: a third of a socket is no machine. */
const STRUCTURE: ReadonlySet<ConstantName> = new Set([
  "clockGhz",
  "sockets",
  "coresPerSocket",
  "nicRings",
  "rssQueues",
]);

export const VARIED_CONSTANTS = CONSTANT_NAMES.filter((name) => !STRUCTURE.has(name));

export type Variation = {
  /** Undefined: nothing is varied. */
  readonly constant: ConstantName | undefined;
  readonly factor: number;
};

export function variations(): Variation[] {
  const both = VARIED_CONSTANTS.flatMap((constant) =>
    [1 - VARIATION, 1 + VARIATION].map((factor) => ({ constant, factor })),
  );
  return [{ constant: undefined, factor: 1 }, ...both];
}

export function variedPoint(point: SimPoint, { constant, factor }: Variation): SimPoint {
  if (constant === undefined) return point;
  return { ...point, scale: { ...point.scale, [constant]: (point.scale[constant] ?? 1) * factor } };
}

export type SensitivityRow = {
  readonly constant: ConstantName;
  /** "netpopcorn/linux". */
  readonly ratio: string;
  readonly base: number;
  /** With the constant 30 % lower, and higher. */
  readonly low: number;
  readonly high: number;
  /** Largest change relative to base. */
  readonly swing: number;
};

/**
 * Rows with the largest swing first.
 * @param find result of a design under a variation; undefined leaves the rows that need it out.
 */
export function sensitivityRows(
  own: string,
  others: readonly string[],
  find: (design: string, variation: Variation) => PointResult | undefined,
): SensitivityRow[] {
  const ratioOf = (other: string, variation: Variation) => {
    const [a, b] = [find(own, variation)?.connsPerSec, find(other, variation)?.connsPerSec];
    return a === undefined || b === undefined || b === 0 ? undefined : a / b;
  };
  const rows = others.flatMap((other) => {
    const base = ratioOf(other, { constant: undefined, factor: 1 });
    return VARIED_CONSTANTS.flatMap((constant): SensitivityRow[] => {
      const low = ratioOf(other, { constant, factor: 1 - VARIATION });
      const high = ratioOf(other, { constant, factor: 1 + VARIATION });
      if (base === undefined || low === undefined || high === undefined) return [];
      const swing = Math.max(Math.abs(low - base), Math.abs(high - base)) / base;
      return [{ constant, ratio: `${own}/${other}`, base, low, high, swing }];
    });
  });
  return rows.sort((a, b) => b.swing - a.swing);
}
