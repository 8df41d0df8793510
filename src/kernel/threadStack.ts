/** Every kernel in a worker of its own. The calling thread keeps the port registry and watches. */
import { PortRegistry } from "../control/ports.ts";
import { NetPopcornError } from "../errors.ts";
import type { Stack, StackPlan } from "../stack.ts";
import type { CloseOptions, StackStats } from "../types.ts";
import { sumCounters } from "../views/kernelMemory.ts";
import { PROCESS_EPOCH_MS } from "./clock.ts";
import { PortRandom } from "./seed.ts";
import { StackBase } from "./stackBase.ts";
import { ThreadKernel } from "./threadKernel.ts";

const DRAIN_MS_DEFAULT = 1000;

export async function startThreadStack(plan: StackPlan): Promise<Stack> {
  const stack = new ThreadStack(plan);
  try {
    await stack.start();
    return stack;
  } catch (error) {
    await stack.close({ drainMs: 0 });
    throw error;
  }
}

class ThreadStack extends StackBase implements Stack {
  readonly mode = "threads";
  readonly kernelCount: number;
  readonly addresses: readonly string[];
  readonly kernels = [];
  readonly sockets = undefined;
  readonly #plan: StackPlan;
  readonly #ports: PortRegistry;
  readonly #threads: ThreadKernel[] = [];
  #closing: Promise<void> | undefined;

  constructor(plan: StackPlan) {
    super();
    this.#plan = plan;
    this.kernelCount = plan.configs.length;
    this.addresses = [plan.options.address].flat();
    const { ephemeralPortFirst, ephemeralPortLast } = (plan.configs[0] as (typeof plan.configs)[0]).tuning;
    const random = new PortRandom(plan.hostSeeds[this.kernelCount] as Uint32Array);
    this.#ports = new PortRegistry(() => random.draw(ephemeralPortFirst, ephemeralPortLast));
  }

  /** @throws the first error of any kernel's start. */
  async start(): Promise<void> {
    for (const kernelId of this.#plan.configs.keys()) this.#threads.push(await this.#startThread(kernelId));
    await Promise.all(this.#threads.map(({ ready }) => ready));
    this.announceStarted();
  }

  listen(): ReturnType<Stack["listen"]> {
    return Promise.reject(noApplicationThread("listen"));
  }

  connect(): ReturnType<Stack["connect"]> {
    return Promise.reject(noApplicationThread("connect"));
  }

  bindUdp(): ReturnType<Stack["bindUdp"]> {
    return Promise.reject(noApplicationThread("bindUdp"));
  }

  async stats(): Promise<StackStats> {
    // Counters are read out of the kernels' memories: no kernel is asked, so one that hangs has counters too.
    const kernels = this.#threads.map(({ memory }) => memory.counters());
    return { kernels, queues: this.#plan.device.queueFrames(), total: sumCounters(kernels) };
  }

  postMessage(data: unknown): void {
    for (const thread of this.#threads) thread.postMessage(data);
  }

  turn(): boolean {
    throw noApplicationThread("turn");
  }

  nextDeadlineNs(): number {
    throw noApplicationThread("nextDeadlineNs");
  }

  close(options: CloseOptions = {}): Promise<void> {
    this.#closing ??= this.#close(options.drainMs ?? DRAIN_MS_DEFAULT);
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #startThread(kernelId: number): Promise<ThreadKernel> {
    const { configs, device, memories, module, options, app, hostSeeds } = this.#plan;
    const memory = (memories[kernelId] as (typeof memories)[number]).memory;
    const { descriptor, transfer } = device.describePort(kernelId, memory);
    return ThreadKernel.start({
      start: {
        module,
        memory,
        config: configs[kernelId] as (typeof configs)[number],
        kernels: this.kernelCount,
        port: descriptor,
        app: app as string,
        appArguments: options.appArguments,
        seed: hostSeeds[kernelId] as Uint32Array,
        epochMs: PROCESS_EPOCH_MS,
      },
      transfer,
      ports: this.#ports,
      onError: (error, fatal) => this.reportError(error, kernelId, fatal),
      onMessage: (data) => this.deliverMessage(data, kernelId),
    });
  }

  async #close(drainMs: number): Promise<void> {
    await Promise.all(this.#threads.map((thread) => thread.close(drainMs)));
    this.emit("close", {});
  }
}

function noApplicationThread(what: string): NetPopcornError {
  return new NetPopcornError(
    "ERR_NO_APPLICATION_THREAD",
    `${what}: in mode "threads" sockets belong to the application in each kernel; call it there, or use mode "inline"`,
  );
}
