/**
 * What the demo's threads tell each other: the main thread asks, the applications in the kernels answer with totals.
 */

export type DemoRequest =
  | { readonly kind: "start" }
  /** Answer with your totals. */
  | { readonly kind: "report" }
  /** Clients open no more connections; those that are open go on to their end. */
  | { readonly kind: "stop" }
  /** Clients reset what is still open and count it as failed. */
  | { readonly kind: "abandon" };

export type KernelTotals = {
  readonly kind: "kernel";
  readonly index: number;
  /** Connections answered in full. */
  readonly served: number;
  /** Connections that ended in an error or broke the rules of exchange.ts. */
  readonly failures: Readonly<Record<string, number>>;
  /** Milliseconds in which the thread's event loop had work, since it began. */
  readonly activeMs: number;
  readonly idleMs: number;
};

export type ClientTotals = {
  readonly kind: "client";
  readonly index: number;
  readonly begun: number;
  readonly completed: number;
  /** Begun and not over. */
  readonly open: number;
  readonly failures: Readonly<Record<string, number>>;
  readonly bytesExchanged: number;
  readonly bytesDiffering: number;
};

export type DemoTotals = KernelTotals | ClientTotals;

/** Counts failures by code. */
export class FailureCounts {
  readonly #counts = new Map<string, number>();

  add(code: string): void {
    this.#counts.set(code, (this.#counts.get(code) ?? 0) + 1);
  }

  toRecord(): Record<string, number> {
    return Object.fromEntries(this.#counts);
  }
}

export function sumFailures(records: readonly Readonly<Record<string, number>>[]): Record<string, number> {
  const sum: Record<string, number> = {};
  for (const record of records) {
    for (const [code, count] of Object.entries(record)) sum[code] = (sum[code] ?? 0) + count;
  }
  return sum;
}
