/**
 * The macro benchmarks of one core: client and server kernel on this thread (docs/benchmarking.md has the definitions).
 * A result is the median of slices of real time after a warm-up.
 */
import { NetPopcornError } from "../errors.ts";
import { realClock } from "../kernel/clock.ts";
import type { Tuning } from "../kernel/config.ts";
import { AcceptClient, AcceptServer } from "./accept.ts";
import { BulkClient, BulkServer } from "./bulk.ts";
import { IdleClient, IdleServer, residentBytesOfMapping } from "./idle.ts";
import { runNetLevel } from "./netLevel.ts";
import { createKernelPair, type KernelPair } from "./pair.ts";
import { EchoServer, PingClient } from "./rr.ts";
import { runThreads } from "./threads.ts";

export const WORKLOADS = ["accept", "bulk", "rr", "idle"] as const;
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
const SLICE_SECONDS = 0.5;
/** Turns between two looks at the clock for the end of a slice. */
const TURNS_PER_CHECK = 64;
const BACKLOG = 4096;
/** TIME_WAIT is kept as long as Linux keeps it; a connection in it is replaced early by RFC 6191 only. */
export const TIME_WAIT_MS = 60_000;
const ADDRESSES_MAX = 32;
/** Connections per pair of addresses and server port, of 28,232 ephemeral ports: a free one is found at once. */
const PORTS_USED = 24_000;

/** Rings and buffers that stay in the second-level cache. */
export const BENCH_TUNING: Partial<Tuning> = {
  rxRingBytes: 256 << 10,
  txRingBytes: 256 << 10,
  timeWaitMs: TIME_WAIT_MS,
};

export async function runBench(options: BenchOptions, progress: (text: string) => void): Promise<BenchResult> {
  if (options.level === "net") return runNetLevel(options, progress);
  if (options.kernels > 1) return runThreads(options, progress);
  switch (options.workload) {
    case "accept":
      return runAccept(options, progress);
    case "bulk":
      return runBulk(options, progress);
    case "rr":
      return runRr(options, progress);
    case "idle":
      return runIdle(options, progress);
  }
}

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

/**
 * Runs the pair, warmed up, in slices.
 * @param count of what is measured, so far.
 * @returns per second, by slice.
 */
function measure(pair: KernelPair, seconds: number, count: () => number, progress: (text: string) => void): number[] {
  const rates: number[] = [];
  for (let left = seconds; left > 0; left -= SLICE_SECONDS) {
    const before = count();
    const tookSeconds = turnFor(pair, Math.min(left, SLICE_SECONDS));
    rates.push((count() - before) / tookSeconds);
    progress(`${rates.length * SLICE_SECONDS} s: ${Math.round(rates.at(-1) ?? 0)} per second`);
  }
  return rates;
}

/** @returns seconds that it took. */
function turnFor(pair: KernelPair, seconds: number): number {
  const start = realClock.nowNs();
  let now = start;
  while (now - start < seconds * 1e9) {
    for (let i = 0; i < TURNS_PER_CHECK; i++) {
      now = realClock.nowNs();
      pair.turn(now);
    }
  }
  return (now - start) / 1e9;
}

function failIf(failed: number): void {
  if (failed > 0) throw new NetPopcornError("ERR_BENCH", `${failed} connections failed`);
}

/** Addresses and server ports that `connections` need. */
function shape(connections: number): { addresses: number; ports: number } {
  const addresses = Math.min(ADDRESSES_MAX, Math.max(1, Math.ceil(connections / PORTS_USED)));
  return { addresses, ports: Math.max(1, Math.ceil(connections / (PORTS_USED * addresses))) };
}

/** Memory for so many connections, buffers for those that are busy, and the rings. */
export function memoryFor(connections: number): Pick<Tuning, "memoryBytes" | "connectionsMax" | "streamPoolBytes"> {
  const connectionsMax = connections + (1 << 17);
  const streamPoolBytes = 128 << 20;
  const bytes = streamPoolBytes + (64 << 20) + connectionsMax * 240;
  return { memoryBytes: Math.ceil(bytes / 65536) * 65536, connectionsMax, streamPoolBytes };
}

async function openIdle(pair: KernelPair, connections: number, progress: (text: string) => void): Promise<void> {
  const { addresses, ports } = shape(connections);
  const server = new IdleServer(pair.server.handles, 1000, ports, BACKLOG);
  const client = new IdleClient(pair.client.handles, pair.serverAddress, 1000, addresses, PORTS_USED);
  let told = 0;
  while (server.accepted < connections) {
    client.open(connections, 1024);
    pair.turn(realClock.nowNs());
    failIf(client.failed);
    if (server.accepted - told >= 1_000_000) {
      told = server.accepted;
      progress(`${told} connections established`);
    }
  }
}

async function runAccept(options: BenchOptions, progress: (text: string) => void): Promise<BenchResult> {
  const others = options.connections;
  const { addresses } = shape(others);
  const tuning = { ...BENCH_TUNING, ...memoryFor(others) };
  const pair = await createKernelPair({ seed: options.seed, tuning, clientAddresses: addresses });
  if (others > 0) await openIdle(pair, others, progress);
  new AcceptServer(pair.server.handles, SERVER_PORT, BACKLOG);
  const client = new AcceptClient(pair.client.handles, pair.serverAddress, SERVER_PORT, addresses);
  client.fill(options.concurrency);
  turnFor(pair, WARM_UP_SECONDS);
  const before = { frames: framesOf(pair), completed: client.completed };
  const rates = measure(pair, options.seconds, () => client.completed, progress);
  const frames = framesOf(pair) - before.frames;
  const completed = client.completed - before.completed;
  failIf(client.failed);
  const { median, min, max } = summary(rates);
  return {
    ...header(options),
    concurrency: options.concurrency,
    otherConnections: others,
    timeWaitMs: TIME_WAIT_MS,
    connsPerSec: Math.round(median),
    connsPerSecMin: Math.round(min),
    connsPerSecMax: Math.round(max),
    framesPerConnection: Math.round((frames / Math.max(1, completed)) * 100) / 100,
  };
}

/** Frames both ways so far: per connection, how much the stack coalesces. */
function framesOf(pair: KernelPair): number {
  const { txFrames = 0, rxFrames = 0 } = pair.client.memory.counters();
  return txFrames + rxFrames;
}

/** Size of the buffers of each of so many connections: together they fill the second-level cache, not more. */
export function windowFor(connections: number): number {
  return Math.max(16 << 10, Math.min(128 << 10, 2 ** Math.floor(Math.log2((2 << 20) / connections))));
}

async function runBulk(options: BenchOptions, progress: (text: string) => void): Promise<BenchResult> {
  const connections = Math.max(1, options.connections);
  const window = windowFor(connections);
  const tuning = { ...BENCH_TUNING, ...memoryFor(connections), rcvBufferBytesMax: window, sndBufferBytesMax: window };
  const pair = await createKernelPair({ seed: options.seed, tuning });
  const server = new BulkServer(pair.server.handles, SERVER_PORT, BACKLOG);
  const client = new BulkClient(pair.client.handles);
  client.open(pair.serverAddress, SERVER_PORT, connections);
  turnFor(pair, WARM_UP_SECONDS);
  const rates = measure(
    pair,
    options.seconds,
    () => (server.bytes * 8) / 1e9,
    () => {},
  );
  failIf(client.failed);
  const { median, min, max } = summary(rates);
  progress(`${connections} connections, windows of ${window >> 10} KiB`);
  const round = (value: number) => Math.round(value * 100) / 100;
  return {
    ...header(options),
    connections,
    windowBytes: window,
    gbitPerSec: round(median),
    gbitPerSecMin: round(min),
    gbitPerSecMax: round(max),
  };
}

async function runRr(options: BenchOptions, progress: (text: string) => void): Promise<BenchResult> {
  const connections = Math.max(1, options.connections);
  const pair = await createKernelPair({ seed: options.seed, tuning: { ...BENCH_TUNING, ...memoryFor(connections) } });
  new EchoServer(pair.server.handles, SERVER_PORT, BACKLOG);
  const client = new PingClient(pair.client.handles);
  client.open(pair.serverAddress, SERVER_PORT, connections);
  turnFor(pair, WARM_UP_SECONDS);
  const rates = measure(pair, options.seconds, () => client.roundTrips, progress);
  failIf(client.failed);
  const { median, min, max } = summary(rates);
  return {
    ...header(options),
    connections,
    roundTripsPerSec: Math.round(median),
    roundTripsPerSecMin: Math.round(min),
    roundTripsPerSecMax: Math.round(max),
  };
}

async function runIdle(options: BenchOptions, progress: (text: string) => void): Promise<BenchResult> {
  const connections = Math.max(1, options.connections);
  const { addresses } = shape(connections);
  const tuning = { ...BENCH_TUNING, ...memoryFor(connections) };
  const extraBytes = 65536;
  const pair = await createKernelPair({
    seed: options.seed,
    tuning,
    clientAddresses: addresses,
    // A size of its own, so that its mapping can be found.
    serverExtraBytes: extraBytes,
  });
  const resident = () => ({
    process: process.memoryUsage.rss(),
    server: residentBytesOfMapping(tuning.memoryBytes + extraBytes),
    client: residentBytesOfMapping(tuning.memoryBytes),
  });
  const before = resident();
  const start = realClock.nowNs();
  await openIdle(pair, connections, progress);
  const openSeconds = (realClock.nowNs() - start) / 1e9;
  // Timers that were armed for the handshakes run out.
  turnFor(pair, 1);
  const after = resident();
  const per = (bytes: number) => Math.round((bytes / connections) * 10) / 10;
  return {
    ...header(options),
    connections,
    bytesPerConnection: per(after.server + after.client - before.server - before.client),
    bytesPerConnectionServer: per(after.server - before.server),
    bytesPerConnectionProcess: per(after.process - before.process),
    openConnsPerSec: Math.round(connections / openSeconds),
  };
}
