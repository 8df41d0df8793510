/** `netpopcorn bench --level net`: kernels of one thread, driven by the reactor as an inline stack's are. */
import { localClaims, PortRegistry } from "../control/ports.ts";
import { NetPopcornError } from "../errors.ts";
import { formatAddress } from "../ip/address.ts";
import { realClock } from "../kernel/clock.ts";
import type { Tuning } from "../kernel/config.ts";
import type { KernelHost } from "../kernel/host.ts";
import { reactorOf } from "../kernel/reactor.ts";
import { createSeedSource, PortRandom } from "../kernel/seed.ts";
import { createNetOf, type Net } from "../net/createNet.ts";
import { Sockets } from "../socket/sockets.ts";
import { type NetWorkload, startAccept, startBulk, startRr } from "./netWorkloads.ts";
import { createKernelPair, type KernelPair } from "./pair.ts";
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

const SLICE_SECONDS = 0.5;
const BACKLOG = 4096;

/** @throws NetPopcornError ERR_ARGUMENT for what runs at the handle level only. */
export async function runNetLevel(options: BenchOptions, progress: (text: string) => void): Promise<BenchResult> {
  const { workload, concurrency, connections } = options;
  if (workload === "idle" || workload === "rehome" || options.kernels > 1) {
    const what = options.kernels > 1 ? "--kernels" : workload;
    throw new NetPopcornError("ERR_ARGUMENT", `${what} is measured at the handle level: leave --level net out`);
  }
  if (workload === "accept" && connections > 0) {
    throw new NetPopcornError("ERR_ARGUMENT", "accept beside other connections is measured with --level handle");
  }
  const count = workload === "accept" ? concurrency : Math.max(1, connections);
  const window = windowFor(count);
  const buffers = workload === "bulk" ? { rcvBufferBytesMax: window, sndBufferBytesMax: window } : {};
  const tuning = { ...BENCH_TUNING, ...memoryFor(count), ...buffers };
  const rates = await measure(
    { workload, connections: count, seconds: options.seconds, seed: options.seed, tuning },
    progress,
  );
  const unit = { accept: "connsPerSec", bulk: "gbitPerSec", rr: "roundTripsPerSec" }[workload];
  const { median, min, max } = summary(workload === "bulk" ? rates.map((rate) => (rate * 8) / 1e9) : rates);
  const round = (value: number) => (workload === "bulk" ? Math.round(value * 100) / 100 : Math.round(value));
  return {
    ...header(options),
    ...(workload === "accept" ? { concurrency: count, timeWaitMs: TIME_WAIT_MS } : { connections: count }),
    ...(workload === "bulk" ? { windowBytes: window } : {}),
    [unit]: round(median),
    [`${unit}Min`]: round(min),
    [`${unit}Max`]: round(max),
  };
}

type Measurement = {
  readonly workload: "accept" | "bulk" | "rr";
  /** accept: in flight; bulk, rr: connections. */
  readonly connections: number;
  readonly seconds: number;
  readonly seed: number;
  readonly tuning: Partial<Tuning>;
};

/** @returns what was done per second, by slice: connections, payload bytes, round trips. */
async function measure(options: Measurement, progress: (text: string) => void): Promise<readonly number[]> {
  const reactor = reactorOf(realClock);
  const pair = await createKernelPair({ seed: options.seed, tuning: options.tuning, onWork: () => reactor.wake() });
  const hosts = [pair.client, pair.server];
  const trap = (error: Error) => {
    throw error;
  };
  for (const host of hosts) reactor.add(host, trap);
  try {
    const workload = await startWorkload(pair, options);
    const rates = await sample(workload, options.seconds, progress);
    workload.stop();
    return rates;
  } finally {
    for (const host of hosts) {
      reactor.remove(host);
      host.close();
    }
  }
}

function startWorkload(pair: KernelPair, { workload, connections, seed }: Measurement): Promise<NetWorkload> {
  const ends = {
    client: netOf(pair.client, seed),
    server: netOf(pair.server, seed),
    address: formatAddress(pair.serverAddress),
    port: SERVER_PORT,
  };
  switch (workload) {
    case "accept":
      return startAccept(ends, connections, BACKLOG);
    case "bulk":
      return startBulk(ends, connections);
    case "rr":
      return startRr(ends, connections);
  }
}

function netOf(host: KernelHost, seed: number): Net {
  const random = new PortRandom(createSeedSource(seed)(host.kernelId));
  const registry = new PortRegistry(() => random.draw(32768, 60999));
  const claims = localClaims(registry, host.kernelId);
  const sockets = new Sockets({ hosts: [host], areAll: true, reactor: undefined, claims });
  return createNetOf(() => sockets);
}

async function sample(workload: NetWorkload, seconds: number, progress: (text: string) => void): Promise<number[]> {
  await wait(WARM_UP_SECONDS);
  const rates: number[] = [];
  for (let left = seconds; left > 0; left -= SLICE_SECONDS) {
    const before = workload.done();
    const startNs = realClock.nowNs();
    await wait(Math.min(left, SLICE_SECONDS));
    rates.push(((workload.done() - before) / (realClock.nowNs() - startNs)) * 1e9);
    workload.check();
    progress(`${rates.length * SLICE_SECONDS} s: ${Math.round(rates.at(-1) ?? 0)} per second`);
  }
  if (rates.every((rate) => rate === 0)) throw new NetPopcornError("ERR_BENCH", "nothing was done");
  return rates;
}

function wait(seconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, seconds * 1000));
}
