/**
 * What a sweep consists of: cells (a design on so many cores), each simulated once for every seed; a simulation is a
 * task.
 */
import { createHash } from "node:crypto";
import type { SimPoint } from "../types.ts";

export type Task = {
  /** Names the simulation and the build that it is for: the same key, the same result. A letter and 32 hex digits. */
  readonly key: string;
  readonly point: SimPoint;
};

/** One row of a sweep's result: a point, repeated with other seeds. */
export type Cell = {
  /** Point of the first seed. */
  readonly point: SimPoint;
  /** One for each repeat. */
  readonly tasks: readonly Task[];
};

/** Repeat k of a point draws from seed + k * this: neighbouring seeds of the user stay apart from repeats. */
const SEED_STEP = 7919;

/**
 * @param points one for each cell, in the order in which results are to come.
 * @param repeats 1.. simulations for each.
 * @param fingerprint of the build (fingerprint.ts).
 */
export function planCells(points: readonly SimPoint[], repeats: number, fingerprint: string): Cell[] {
  return points.map((point) => ({
    point,
    tasks: Array.from({ length: repeats }, (_, repeat) => {
      const seed = (point.seed + repeat * SEED_STEP) >>> 0;
      // One timeline tells enough.
      const repeated = { ...point, seed, traceMs: repeat === 0 ? point.traceMs : 0 };
      return { key: taskKey(repeated, fingerprint), point: repeated };
    }),
  }));
}

/** Not an integer and without ":": BullMQ takes it as the identity of a job. */
export function taskKey(point: SimPoint, fingerprint: string): string {
  const text = `${fingerprint}\n${canonicalJson(point)}`;
  return `p${createHash("sha256").update(text).digest("hex").slice(0, 32)}`;
}

/** JSON with the keys of every object in order, so that equal values have equal texts. */
export function canonicalJson(value: unknown): string {
  return JSON.stringify(value, (_, part: unknown) => {
    if (typeof part !== "object" || part === null || Array.isArray(part)) return part;
    return Object.fromEntries(Object.entries(part).sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0)));
  });
}

/** "fastsocket at 12 cores": how a point is called in messages. */
export function pointName(point: SimPoint): string {
  return `${point.design} at ${point.cores} core${point.cores === 1 ? "" : "s"}`;
}
