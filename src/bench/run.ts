/**
 * The macro benchmarks of one core: client and server kernel on this thread (docs/benchmarking.md has the definitions).
 * A result is the median of slices of real time after a warm-up.
 */
import { NetPopcornError } from "../errors.ts";
import { realClock } from "../kernel/clock.ts";
import { AcceptClient, AcceptServer } from "./accept.ts";
import { BulkClient, BulkServer } from "./bulk.ts";
import {
  BENCH_TUNING,
  type BenchOptions,
  type BenchResult,
  header,
  memoryFor,
  SERVER_PORT,
  summary,
  TIME_WAIT_MS,
  WARM_UP_SECONDS,
  windowFor,
} from "./common.ts";
import { IdleClient, IdleServer, residentBytesOfMapping } from "./idle.ts";
import { runNetLevel } from "./netLevel.ts";
import { createKernelPair, type KernelPair } from "./pair.ts";
import { runRehome } from "./rehome.ts";
import { EchoServer, PingClient } from "./rr.ts";
import { runThreads } from "./threads.ts";

const SLICE_SECONDS = 0.5;
/** Turns between two looks at the clock for the end of a slice. */
const TURNS_PER_CHECK = 64;
const BACKLOG = 4096;
const ADDRESSES_MAX = 32;
/** Connections per pair of addresses and server port, of 28,232 ephemeral ports: a free one is found at once. */
const PORTS_USED = 24_000;

export async function runBench(options: BenchOptions, progress: (text: string) => void): Promise<BenchResult> {
  if (options.level === "net") return runNetLevel(options, progress);
  const { workload } = options;
  if (workload === "rehome") return runRehome(options, progress);
  if (options.kernels > 1) return runThreads({ ...options, workload }, progress);
  switch (workload) {
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
