/** The same workloads on N server kernels and N client kernels, a thread each, on one in-memory segment. */
import { createSegment } from "../device/card/segment.ts";
import { NetPopcornError } from "../errors.ts";
import { createStack } from "../stack.ts";
import type { Stack } from "../types.ts";
import {
  BENCH_TUNING,
  type BenchOptions,
  type BenchResult,
  header,
  SERVER_PORT,
  summary,
  TIME_WAIT_MS,
  WARM_UP_SECONDS,
  type Workload,
} from "./common.ts";
import type { CountsAnswer, ThreadArguments } from "./threadMessages.ts";

const SERVER_ADDRESS = "10.7.0.1";
const BACKLOG = 4096;
const SLICE_MS = 500;
/** Silence of a thread that is taken for its end. */
const ANSWER_MS = 5000;
const MEMORY_BYTES = 512 << 20;
const CONNECTIONS_MAX = 1 << 18;

const wait = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

/** Which side counts what the workload measures. */
const COUNTING_SIDE = { accept: "client", bulk: "server", rr: "client" } as const;

/** `rehome` has threads of its own. */
export type ThreadBenchOptions = BenchOptions & { readonly workload: Exclude<Workload, "rehome"> };

export async function runThreads(options: ThreadBenchOptions, progress: (text: string) => void): Promise<BenchResult> {
  const { workload, kernels, seed } = options;
  if (workload === "idle")
    throw new NetPopcornError("ERR_ARGUMENT", `${workload} runs on one kernel: leave --kernels out`);
  const segment = await createSegment({ portsMax: Math.min(64, 2 * kernels + 1), seed });
  const stacks: Stack[] = [];
  try {
    const card = segment.createCard({ queues: kernels });
    const inFlight = Math.max(
      1,
      Math.floor((workload === "accept" ? options.concurrency : options.connections) / kernels),
    );
    const args: ThreadArguments = {
      workload,
      serverAddress: SERVER_ADDRESS,
      port: SERVER_PORT,
      backlog: BACKLOG,
      inFlight,
    };
    const tuning = { ...BENCH_TUNING, memoryBytes: MEMORY_BYTES, connectionsMax: CONNECTIONS_MAX };
    const common = { mode: "threads", noDelay: true, appArguments: args, tuning } as const;
    const serverApp = new URL("./serverApp.js", import.meta.url);
    stacks.push(
      await createStack({
        ...common,
        kernels,
        device: card,
        address: `${SERVER_ADDRESS}/24`,
        app: serverApp,
        seed: `${seed} s`,
      }),
    );
    for (let i = 0; i < kernels; i++) {
      const device = segment.createCard({ queues: 1 });
      const app = new URL("./clientApp.js", import.meta.url);
      stacks.push(await createStack({ ...common, device, address: `10.7.0.${i + 2}/24`, app, seed: `${seed} c${i}` }));
    }
    const rates = await sample(stacks, COUNTING_SIDE[workload], options.seconds, progress);
    const { median, min, max } = summary(rates);
    const unit = { accept: "connsPerSec", bulk: "gbitPerSec", rr: "roundTripsPerSec" }[workload];
    const round = (value: number) => (workload === "bulk" ? Math.round(value * 100) / 100 : Math.round(value));
    return {
      ...header(options),
      ...(workload === "accept"
        ? { concurrency: inFlight * kernels, timeWaitMs: TIME_WAIT_MS }
        : { connections: inFlight * kernels }),
      clientKernels: kernels,
      [unit]: round(median),
      [`${unit}Min`]: round(min),
      [`${unit}Max`]: round(max),
      queueFrames: card.queueFrames().join(" "),
    };
  } finally {
    await Promise.all(stacks.map((stack) => stack.close({ drainMs: 0 })));
    await segment.close();
  }
}

async function sample(
  stacks: readonly Stack[],
  side: string,
  seconds: number,
  progress: (text: string) => void,
): Promise<number[]> {
  await wait(WARM_UP_SECONDS * 1000);
  let last = await ask(stacks, side);
  const rates: number[] = [];
  for (let slice = 0; slice < Math.max(1, Math.round((seconds * 1000) / SLICE_MS)); slice++) {
    await wait(SLICE_MS);
    const now = await ask(stacks, side);
    rates.push(((now.done - last.done) / (now.nowNs - last.nowNs)) * 1e9);
    progress(`${Math.round(rates.at(-1) ?? 0)} per second`);
    last = now;
  }
  return rates;
}

/** Totals of all kernels of one side. @throws NetPopcornError when a connection has failed or a thread is silent. */
async function ask(stacks: readonly Stack[], side: string): Promise<{ done: number; nowNs: number }> {
  const answers = stacks.map((stack) => collect(stack));
  for (const stack of stacks) stack.postMessage("counts");
  const all = (await Promise.all(answers)).flat();
  const failed = all.reduce((sum, answer) => sum + answer.failed, 0);
  if (failed > 0) throw new NetPopcornError("ERR_BENCH", `${failed} connections failed`);
  const ours = all.filter((answer) => answer.side === side);
  return {
    done: ours.reduce((sum, answer) => sum + answer.done, 0),
    nowNs: ours.reduce((sum, answer) => sum + answer.nowNs, 0) / Math.max(1, ours.length),
  };
}

function collect(stack: Stack): Promise<CountsAnswer[]> {
  return new Promise((resolve, reject) => {
    const answers: CountsAnswer[] = [];
    const timer = setTimeout(() => reject(new NetPopcornError("ERR_BENCH", "a kernel does not answer")), ANSWER_MS);
    const onMessage = ({ data }: { readonly data: unknown }) => {
      answers.push(data as CountsAnswer);
      if (answers.length < stack.kernelCount) return;
      clearTimeout(timer);
      stack.off("message", onMessage);
      resolve(answers);
    };
    stack.on("message", onMessage);
  });
}
