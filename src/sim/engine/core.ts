/** Accounts of the virtual cores' time: each nanosecond of a core is one share's, and what is nobody's is idle. */
import { SHARES, type ShareName, type Shares, type TraceEvent } from "../types.ts";
import { ZERO } from "./doubles.ts";

/** Index of each share in a core's account. */
export const APP = SHARES.indexOf("app");
export const STACK = SHARES.indexOf("stack");
export const LOCK_SPIN = SHARES.indexOf("lockSpin");
export const CACHE_MISS = SHARES.indexOf("cacheMiss");
export const SWITCH = SHARES.indexOf("switch");
export const VFS = SHARES.indexOf("vfs");
export const BACKGROUND = SHARES.indexOf("background");
export const IDLE = SHARES.indexOf("idle");

const TRACE_EVENTS_MAX = 200_000;

export class CoreAccounts {
  readonly cores: number;
  readonly trace: TraceEvent[] = [];
  readonly #spentNs: Float64Array;
  /** As #spentNs, all shares together and never reset. */
  readonly #everNs: Float64Array;
  /** How much longer everything takes on a core that does other work too. */
  readonly #dilation: Float64Array;
  #sinceNs = ZERO;
  #traceFromNs = Number.POSITIVE_INFINITY;
  #traceUntilNs = Number.NEGATIVE_INFINITY;

  /** @param backgroundCores the first so many cores spend `backgroundShare` of their time on other work. */
  constructor(cores: number, backgroundCores: number, backgroundShare: number) {
    this.cores = cores;
    this.#spentNs = new Float64Array(cores * SHARES.length);
    this.#everNs = new Float64Array(cores);
    this.#dilation = new Float64Array(cores).fill(1);
    this.#dilation.fill(1 / (1 - backgroundShare), 0, backgroundCores);
  }

  /** Books `ns` of work for a share. @returns how long it takes, other work included. */
  spend(core: number, share: number, ns: number): number {
    const at = core * SHARES.length;
    this.#spentNs[at + share] = (this.#spentNs[at + share] as number) + ns;
    const dilation = this.#dilation[core] as number;
    this.#everNs[core] = (this.#everNs[core] as number) + ns * dilation;
    if (dilation === 1) return ns;
    const extra = ns * (dilation - 1);
    this.#spentNs[at + BACKGROUND] = (this.#spentNs[at + BACKGROUND] as number) + extra;
    return ns + extra;
  }

  /** Waiting is not stretched by other work. */
  wait(core: number, share: number, ns: number): number {
    const at = core * SHARES.length + share;
    this.#spentNs[at] = (this.#spentNs[at] as number) + ns;
    this.#everNs[core] = (this.#everNs[core] as number) + ns;
    return ns;
  }

  /** Time that the core has been busy since the beginning, ns. */
  everBusyNs(core: number): number {
    return this.#everNs[core] as number;
  }

  startMeasuring(nowNs: number): void {
    this.#spentNs.fill(0);
    this.#sinceNs = nowNs;
  }

  /** Time that the core has been busy since startMeasuring(), ns, without other work. */
  busyNs(core: number): number {
    let sum = 0;
    for (let share = 0; share < IDLE; share++) {
      if (share !== BACKGROUND) sum += this.#spentNs[core * SHARES.length + share] as number;
    }
    return sum;
  }

  /** Shares of one core's time since startMeasuring(); they sum to 1. */
  sharesOf(core: number, nowNs: number): Shares {
    const at = core * SHARES.length;
    const spent = Array.from(this.#spentNs.subarray(at, at + SHARES.length));
    const busy = spent.reduce((sum, ns) => sum + ns, 0);
    // A step that was under way at either end counts whole where it began.
    const span = Math.max(nowNs - this.#sinceNs, busy);
    const idleNs = span - busy;
    const backgroundShare = 1 - 1 / (this.#dilation[core] as number);
    spent[BACKGROUND] = (spent[BACKGROUND] as number) + idleNs * backgroundShare;
    spent[IDLE] = idleNs * (1 - backgroundShare);
    return toShares(spent.map((ns) => (span > 0 ? ns / span : 0)));
  }

  traceBetween(fromNs: number, untilNs: number): void {
    this.#traceFromNs = fromNs;
    this.#traceUntilNs = untilNs;
  }

  /** A step has been made: kept if its time is traced. */
  note(core: number, name: string, category: string, startNs: number, endNs: number): void {
    if (startNs < this.#traceFromNs || startNs >= this.#traceUntilNs || endNs <= startNs) return;
    if (this.trace.length === TRACE_EVENTS_MAX) return;
    const ts = (startNs - this.#traceFromNs) / 1000;
    this.trace.push({ name, cat: category, ph: "X", ts, dur: (endNs - startNs) / 1000, pid: 0, tid: core });
  }
}

function toShares(values: readonly number[]): Shares {
  const shares: Partial<Record<ShareName, number>> = {};
  SHARES.forEach((name, i) => {
    shares[name] = values[i] as number;
  });
  return shares as Shares;
}

export function meanShares(all: readonly Shares[]): Shares {
  const mean = SHARES.map((name) => all.reduce((sum, one) => sum + one[name], 0) / all.length);
  return toShares(mean);
}
