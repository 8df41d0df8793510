/** How far a sweep is, and how long it will take: from what its simulations have taken so far. */
import type { SimPoint } from "../types.ts";

type Pace = { weight: number; ms: number };

/** Of the first simulation: what came before it, such as compiling, would tell more than its own pace. */
const FRACTION_MIN = 0.1;

/** A design with many cores simulates more packets, up to where cards and clients end. */
const CORES_MAX = 32;

/** What a simulation costs compared with others of the same design, before any has been seen. */
export function pointWeight(point: SimPoint): number {
  return Math.sqrt(Math.min(point.cores, CORES_MAX));
}

/** Estimates the remaining time of `jobs` simulations side by side. */
export class TimeLeft {
  readonly #paces = new Map<string, Pace>();
  readonly #all: Pace = { weight: 0, ms: 0 };
  readonly #open: Map<string, { point: SimPoint; fraction: number }>;
  readonly #jobs: number;
  readonly #count: number;

  /** @param tasks what is to be done, by key. */
  constructor(tasks: ReadonlyMap<string, SimPoint>, jobs: number) {
    this.#open = new Map([...tasks].map(([key, point]) => [key, { point, fraction: 0 }]));
    this.#jobs = jobs;
    this.#count = tasks.size;
  }

  /** @param fraction 0..1 of the simulation that is done. */
  onProgress(key: string, fraction: number): void {
    const task = this.#open.get(key);
    if (task !== undefined) task.fraction = Math.min(1, Math.max(0, fraction));
  }

  /** @param wallMs what it took. */
  onDone(key: string, wallMs: number): void {
    const task = this.#open.get(key);
    if (task === undefined) return;
    this.#open.delete(key);
    const pace = this.#paces.get(task.point.design) ?? { weight: 0, ms: 0 };
    this.#paces.set(task.point.design, pace);
    for (const one of [pace, this.#all]) {
      one.weight += pointWeight(task.point);
      one.ms += wallMs;
    }
  }

  /** Done simulations, with parts of those that run. */
  get done(): number {
    let done = this.#count - this.#open.size;
    for (const { fraction } of this.#open.values()) done += fraction;
    return done;
  }

  /**
   * Milliseconds; undefined before anything is known.
   * @param elapsedMs since the start: all there is to go by until the first simulation is done.
   */
  leftMs(elapsedMs: number): number | undefined {
    if (this.#open.size === 0) return 0;
    if (this.#all.weight === 0) return this.#leftByFractions(elapsedMs);
    let ms = 0;
    let longestMs = 0;
    for (const { point, fraction } of this.#open.values()) {
      const pace = this.#paces.get(point.design) ?? this.#all;
      const oneMs = (1 - fraction) * pointWeight(point) * (pace.ms / pace.weight);
      ms += oneMs;
      longestMs = Math.max(longestMs, oneMs);
    }
    return Math.max(longestMs, ms / this.#jobs);
  }

  #leftByFractions(elapsedMs: number): number | undefined {
    let done = 0;
    let all = 0;
    for (const { point, fraction } of this.#open.values()) {
      done += fraction * pointWeight(point);
      all += pointWeight(point);
    }
    return this.done >= FRACTION_MIN ? (elapsedMs * (all - done)) / done : undefined;
  }
}

/** "40 s", "3 min", "1 h 20 min". */
export function formatTimeLeft(ms: number): string {
  const seconds = Math.round(ms / 1000);
  if (seconds < 100) return `${seconds} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 100) return `${minutes} min`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}
