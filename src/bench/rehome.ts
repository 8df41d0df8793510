/**
 * How long it takes until no entry of the card's tables names a kernel that has ended, with kernels in threads. From
 * the instant before an exception, a `process.exit` or killKernel() to the event that tells that all is written.
 */
import { createSegment } from "../device/card/segment.ts";
import { NetPopcornError } from "../errors.ts";
import { realClock } from "../kernel/clock.ts";
import { createStack } from "../stack.ts";
import type { Stack } from "../types.ts";
import type { KernelEvent } from "../types.ts";
import { type BenchOptions, type BenchResult, header, SERVER_PORT, summary, WARM_UP_SECONDS } from "./common.ts";
import { type EndOrder, type RehomeArguments, WAYS } from "./rehomeApp.ts";

const KERNELS_MIN = 2;
const MEMORY_BYTES = 64 << 20;
const RESTART_MS = 50;
/** Between two ends: the kernel gets back what is its own meanwhile. */
const PAUSE_MS = 300;
const EVENT_MS_MAX = 10_000;
const ALL_WAYS = [...WAYS, "kill"] as const;
/** Each way once for the owner and once for another. */
const ROUNDS_MIN = 2 * ALL_WAYS.length;
const MS = 1e6;

const wait = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

export async function runRehome(options: BenchOptions, progress: (text: string) => void): Promise<BenchResult> {
  const kernels = Math.max(KERNELS_MIN, options.kernels);
  const segment = await createSegment({ portsMax: kernels + 1, seed: options.seed });
  const card = segment.createCard({ queues: kernels });
  const endedNs = new SharedArrayBuffer(Float64Array.BYTES_PER_ELEMENT);
  const stack = await createStack({
    mode: "threads",
    kernels,
    device: card,
    address: "10.7.0.1/24",
    app: new URL("./rehomeApp.js", import.meta.url),
    appArguments: { port: SERVER_PORT, endedNs } satisfies RehomeArguments,
    tuning: { memoryBytes: MEMORY_BYTES, connectionsMax: 1 << 14 },
    restart: { delayMs: RESTART_MS, delayMsMax: RESTART_MS },
    seed: options.seed,
  });
  // Exceptions of the kernels are what is measured.
  stack.on("error", () => {});
  const entriesOf = (queue: number) => {
    const { placement } = card;
    let count = 0;
    for (let entry = 0; placement && entry < placement.entries; entry++) {
      if (placement.queueOf(entry) === queue) count++;
    }
    return count;
  };
  const ended = new Float64Array(endedNs);
  const took = { owner: [] as number[], other: [] as number[], up: [] as number[] };
  const tookBy = { throw: [] as number[], exit: [] as number[], kill: [] as number[] };
  let entries = 0;
  try {
    await wait(WARM_UP_SECONDS * 1000);
    const untilNs = realClock.nowNs() + options.seconds * 1e9;
    for (let round = 0; realClock.nowNs() < untilNs || round < ROUNDS_MIN; round++) {
      const { owner } = await stack.stats();
      // The owner every other time: another kernel has to take over before it can write.
      const pair = round >> 1;
      const kernelId = round % 2 === 0 ? (owner + 1 + (pair % (kernels - 1))) % kernels : owner;
      const way = ALL_WAYS[pair % ALL_WAYS.length] as (typeof ALL_WAYS)[number];
      entries = Math.max(entries, entriesOf(kernelId));
      const down = nextEvent(stack, "down");
      const up = nextEvent(stack, "up");
      // Nobody waits for it when the kernel does not even go down.
      up.catch(() => {});
      ended[0] = realClock.nowNs();
      if (way === "kill") stack.killKernel(kernelId);
      else stack.postMessage({ kernelId, way } satisfies EndOrder);
      const downMs = ((await down) - (ended[0] as number)) / MS;
      if (entriesOf(kernelId) > 0) throw new NetPopcornError("ERR_BENCH", `kernel ${kernelId} still has entries`);
      took[kernelId === owner ? "owner" : "other"].push(downMs);
      tookBy[way].push(downMs);
      took.up.push(((await up) - (ended[0] as number)) / MS);
      progress(`${way} of kernel ${kernelId}${kernelId === owner ? ", the owner" : ""}: ${downMs.toFixed(1)} ms`);
      await wait(PAUSE_MS);
    }
  } finally {
    await stack.close({ drainMs: 0 });
    await segment.close();
  }
  const all = [...took.owner, ...took.other];
  return {
    ...header({ ...options, kernels }),
    ends: all.length,
    entries,
    ...figures("rehomeMs", all),
    ...figures("ofOwnerMs", took.owner),
    ...figures("ofOthersMs", took.other),
    ...figures("throwMs", tookBy.throw),
    ...figures("exitMs", tookBy.exit),
    ...figures("killMs", tookBy.kill),
    ...figures("upAgainMs", took.up),
    restartMs: RESTART_MS,
  };
}

function figures(name: string, ms: readonly number[]): Record<string, number> {
  const { median, max } = summary(ms);
  const round = (value: number) => Math.round(value * 10) / 10;
  return { [name]: round(median), [`${name}Max`]: round(max) };
}

/** @returns when it came, ns. @throws NetPopcornError ERR_BENCH when it does not. */
function nextEvent(stack: Stack, state: KernelEvent["state"]): Promise<number> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      reject(new NetPopcornError("ERR_BENCH", `no kernel has gone ${state} within ${EVENT_MS_MAX} ms`));
    }, EVENT_MS_MAX);
    const onKernel = (event: KernelEvent) => {
      if (event.state !== state) return;
      clearTimeout(timer);
      stack.off("kernel", onKernel);
      resolve(realClock.nowNs());
    };
    stack.on("kernel", onKernel);
  });
}
