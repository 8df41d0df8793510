/** One run of the demo: starts the load, takes samples, lets it end, and puts the result together. */
import { performance } from "node:perf_hooks";
import { setTimeout as sleep } from "node:timers/promises";
import { sumLatency, summarizeLatency } from "./latency.ts";
import { type KernelTotals, sumFailures } from "./messages.ts";
import { type DemoOptions, Population, type PopulationTotals } from "./population.ts";
import type { DemoResult, DemoSample } from "./result.ts";
import type { LiveState } from "./view.ts";

const SAMPLE_MS = 250;
/** What connections that are open at the end of the load may still take. */
const DRAIN_MS_MAX = 10_000;
const DRAIN_POLL_MS = 50;

/**
 * @param onSample called with the live state a few times a second.
 * @throws what kernels and applications die of; `signal.reason` when aborted.
 */
export async function runDemo(
  options: DemoOptions,
  onSample: (state: LiveState) => void,
  signal: AbortSignal,
): Promise<DemoResult> {
  const population = await Population.create(options);
  try {
    const before = await population.totals();
    population.tellClients({ kind: "start" });
    const load = await sampleLoad(population, before, options, onSample, signal);
    population.tellClients({ kind: "stop" });
    const after = await drain(population, signal);
    return await createResult(population, options, load, after);
  } finally {
    await population.close();
  }
}

type Load = {
  readonly samples: readonly DemoSample[];
  readonly before: PopulationTotals;
  readonly after: PopulationTotals;
};

async function sampleLoad(
  population: Population,
  before: PopulationTotals,
  options: DemoOptions,
  onSample: (state: LiveState) => void,
  signal: AbortSignal,
): Promise<Load> {
  const startMs = performance.now();
  const samples: DemoSample[] = [createSample(0, before, before)];
  let last = before;
  for (let seconds = 0; seconds < options.seconds; ) {
    const untilNextMs = Math.min(samples.length * SAMPLE_MS, options.seconds * 1000) - (performance.now() - startMs);
    await pause(Math.max(0, untilNextMs), signal);
    seconds = (performance.now() - startMs) / 1000;
    const totals = await population.totals();
    samples.push(createSample(seconds, totals, last));
    last = totals;
    const latency = sumLatency(population.latencyUs);
    onSample({
      secondsTotal: options.seconds,
      hosts: population.hosts,
      concurrency: options.concurrency,
      samples,
      p50Us: latency.percentile(50),
      p99Us: latency.percentile(99),
    });
  }
  return { samples, before, after: last };
}

/** Lets the open connections come to their end; resets what has not after a while. */
async function drain(population: Population, signal: AbortSignal): Promise<PopulationTotals> {
  for (let waitedMs = 0; waitedMs < DRAIN_MS_MAX; waitedMs += DRAIN_POLL_MS) {
    const totals = await population.totals();
    if (totals.clients.every((client) => client.open === 0)) return totals;
    await pause(DRAIN_POLL_MS, signal);
  }
  population.tellClients({ kind: "abandon" });
  return await population.totals();
}

async function pause(ms: number, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted();
  // The rejection on abort says less than the signal's own reason.
  await sleep(ms, undefined, { signal }).catch(() => signal.throwIfAborted());
}

function loadBetween(before: KernelTotals | undefined, after: KernelTotals): number {
  const activeMs = after.activeMs - (before?.activeMs ?? 0);
  const idleMs = after.idleMs - (before?.idleMs ?? 0);
  return activeMs + idleMs > 0 ? Math.min(1, Math.max(0, activeMs / (activeMs + idleMs))) : 0;
}

function countFailures(failures: Readonly<Record<string, number>>): number {
  return Object.values(failures).reduce((sum, count) => sum + count, 0);
}

function sum(parts: readonly number[]): number {
  return parts.reduce((total, part) => total + part, 0);
}

function createSample(seconds: number, totals: PopulationTotals, before: PopulationTotals): DemoSample {
  return {
    seconds,
    kernels: totals.kernels.map((kernel, index) => ({
      served: kernel.served,
      load: loadBetween(before.kernels[index], kernel),
    })),
    completed: sum(totals.clients.map((client) => client.completed)),
    failed: sum(totals.clients.map((client) => countFailures(client.failures))),
    open: sum(totals.clients.map((client) => client.open)),
  };
}

async function createResult(
  population: Population,
  options: DemoOptions,
  load: Load,
  after: PopulationTotals,
): Promise<DemoResult> {
  const queueFrames = population.queueFrames();
  const retransmits = await population.retransmits();
  const clientFailures = sumFailures(after.clients.map((client) => client.failures));
  const completed = sum(after.clients.map((client) => client.completed));
  // Every connection that was begun has completed or failed; one that is neither must not go unseen.
  const lost = sum(after.clients.map((client) => client.begun)) - completed - countFailures(clientFailures);
  if (lost !== 0) clientFailures.ERR_LOST = lost;
  const serverFailures = sumFailures(after.kernels.map((kernel) => kernel.failures));
  const failures = { ...clientFailures };
  for (const [code, count] of Object.entries(serverFailures)) failures[`server ${code}`] = count;
  return {
    seed: options.seed,
    seconds: load.samples.at(-1)?.seconds ?? 0,
    hosts: population.hosts,
    clientThreads: population.clientThreads,
    concurrency: options.concurrency,
    samples: load.samples,
    kernels: after.kernels.map((kernel, index) => ({
      served: kernel.served,
      load: loadBetween(load.before.kernels[index], load.after.kernels[index] ?? kernel),
      queueFrames: queueFrames[index] ?? 0,
      retransmits: retransmits[index] ?? 0,
    })),
    completed,
    // A failed connection is seen by its client, by the server, or by both.
    failed: Math.max(countFailures(clientFailures), countFailures(serverFailures)),
    failures,
    bytesDiffering: sum(after.clients.map((client) => client.bytesDiffering)),
    bytesExchanged: sum(after.clients.map((client) => client.bytesExchanged)),
    latencyUs: summarizeLatency(sumLatency(population.latencyUs)),
  };
}
