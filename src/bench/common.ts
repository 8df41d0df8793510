/** What the benchmarks of all levels and thread counts share: options, results, settings. */
import type { Tuning } from "../kernel/config.ts";

export const WORKLOADS = ["accept", "bulk", "rr", "idle", "rehome"] as const;
export type Workload = (typeof WORKLOADS)[number];

export const LEVELS = ["handle", "net"] as const;
export type Level = (typeof LEVELS)[number];

export type BenchOptions = {
  readonly workload: Workload;
  /** Whose sockets: bare handles, or those of netpopcorn/net. */
  readonly level: Level;
  /** Server kernels; 1: both ends on this thread, more: a thread each (and as many client threads). */
  readonly kernels: number;
  /** accept: connections in flight. */
  readonly concurrency: number;
  /** accept: other established connections; bulk, rr: connections; idle: how many. */
  readonly connections: number;
  readonly seconds: number;
  readonly seed: number;
};

/** A result line; `median` and the extremes are of the slices. */
export type BenchResult = Readonly<Record<string, string | number>>;

export const SERVER_PORT = 80;
export const WARM_UP_SECONDS = 1;
/** TIME_WAIT is kept as long as Linux keeps it; a connection in it is replaced early by RFC 6191 only. */
export const TIME_WAIT_MS = 60_000;

/** Rings and buffers that stay in the second-level cache. */
export const BENCH_TUNING: Partial<Tuning> = {
  rxRingBytes: 256 << 10,
  txRingBytes: 256 << 10,
  timeWaitMs: TIME_WAIT_MS,
};

export function header(options: BenchOptions): Record<string, string | number> {
  const { workload, level, kernels } = options;
  return { workload, stack: "netpopcorn", level, kernels };
}

/** Lowest, middle and highest of the slices. */
export function summary(rates: readonly number[]): { median: number; min: number; max: number } {
  const sorted = [...rates].sort((a, b) => a - b);
  const at = (i: number) => sorted[i] ?? 0;
  return { median: at(sorted.length >> 1), min: at(0), max: at(sorted.length - 1) };
}

/** Memory for so many connections, buffers for those that are busy, and the rings. */
export function memoryFor(connections: number): Pick<Tuning, "memoryBytes" | "connectionsMax" | "streamPoolBytes"> {
  const connectionsMax = connections + (1 << 17);
  const streamPoolBytes = 128 << 20;
  const bytes = streamPoolBytes + (64 << 20) + connectionsMax * 352;
  return { memoryBytes: Math.ceil(bytes / 65536) * 65536, connectionsMax, streamPoolBytes };
}

/** Size of the buffers of each of so many connections: together they fill the second-level cache, not more. */
export function windowFor(connections: number): number {
  return Math.max(16 << 10, Math.min(128 << 10, 2 ** Math.floor(Math.log2((2 << 20) / connections))));
}
