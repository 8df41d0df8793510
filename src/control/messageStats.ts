/** How many messages kernels have exchanged, read out of their memories. */
import * as LAYOUT from "../layout/message.ts";
import type { KernelMemory } from "../views/kernelMemory.ts";

export type MessageStats = {
  /** Sent since the start, all kernels and lives together, by type; types that were never sent are not there. */
  readonly sent: Readonly<Record<string, number>>;
  readonly received: Readonly<Record<string, number>>;
  /** Sent per second of the stack's clock, since the last time that somebody asked. */
  readonly sentPerSecond: number;
  /** The same by type; types that were not sent since are not there. */
  readonly sentPerSecondByType: Readonly<Record<string, number>>;
  /** Had to wait for room; were refused because too much waited; waited for a kernel that has gone. */
  readonly held: number;
  readonly refused: number;
  readonly abandoned: number;
  /** Ignored: no records at all, of unknown type or version, of an earlier life of the sender. */
  readonly corrupt: number;
  readonly unknown: number;
  readonly stale: number;
};

const PREFIX = "MESSAGE_TYPE_";

/** Names of the types in camel case; a type without a name is "type" and its number. */
const typeNames: readonly string[] = (() => {
  const names = Array.from({ length: LAYOUT.MESSAGE_TYPES_MAX }, (_, type) => `type${type}`);
  for (const [name, type] of Object.entries(LAYOUT)) {
    if (!name.startsWith(PREFIX)) continue;
    names[type] = name
      .slice(PREFIX.length)
      .toLowerCase()
      .replace(/_(.)/g, (_, letter: string) => letter.toUpperCase());
  }
  return names;
})();

/** Adds up over kernels and over their lives. */
export class MessageCounter {
  /** Of lives that are over. */
  readonly #past = new Float64Array(LAYOUT.MESSAGE_COUNTS);
  #lastSent: Readonly<Record<string, number>> = {};
  #lastNs = 0;

  /** @param nowNs start of the time for which the first rate is. */
  constructor(nowNs: number) {
    this.#lastNs = nowNs;
  }

  /** A kernel's memory is about to be given up. */
  retire(memory: KernelMemory): void {
    addCounts(this.#past, memory);
  }

  stats(memories: readonly KernelMemory[], nowNs: number): MessageStats {
    const counts = this.#past.slice();
    for (const memory of memories) addCounts(counts, memory);
    const byType = (first: number) => {
      const named: Record<string, number> = {};
      for (const [type, name] of typeNames.entries()) {
        const count = counts[first + type] as number;
        if (count > 0) named[name] = count;
      }
      return named;
    };
    const sent = byType(LAYOUT.MESSAGE_COUNTS_SENT);
    const spanNs = nowNs - this.#lastNs;
    const rates: Record<string, number> = {};
    for (const [name, count] of Object.entries(sent)) {
      const since = count - (this.#lastSent[name] ?? 0);
      if (since > 0 && spanNs > 0) rates[name] = (since / spanNs) * 1e9;
    }
    this.#lastSent = sent;
    this.#lastNs = nowNs;
    return {
      sent,
      received: byType(LAYOUT.MESSAGE_COUNTS_RECEIVED),
      sentPerSecond: Object.values(rates).reduce((sum, rate) => sum + rate, 0),
      sentPerSecondByType: rates,
      held: counts[LAYOUT.MESSAGE_COUNT_HELD] as number,
      refused: counts[LAYOUT.MESSAGE_COUNT_REFUSED] as number,
      abandoned: counts[LAYOUT.MESSAGE_COUNT_ABANDONED] as number,
      corrupt: counts[LAYOUT.MESSAGE_COUNT_CORRUPT] as number,
      unknown: counts[LAYOUT.MESSAGE_COUNT_UNKNOWN] as number,
      stale: counts[LAYOUT.MESSAGE_COUNT_STALE] as number,
    };
  }
}

function addCounts(sums: Float64Array, { memory }: KernelMemory): void {
  const counts = new Float64Array(memory.buffer, LAYOUT.MESSAGE_COUNTS_BASE, LAYOUT.MESSAGE_COUNTS);
  for (const [index, count] of counts.entries()) sums[index] = (sums[index] as number) + count;
}
