/** All kernels on the calling thread. */
import { localClaims, PortRegistry } from "../control/ports.ts";
import type { NetPopcornError } from "../errors.ts";
import { setDefaultStack } from "../net/stackOf.ts";
import { Sockets } from "../socket/sockets.ts";
import type { Stack, StackPlan } from "../stack.ts";
import type { CloseOptions, StackStats } from "../types.ts";
import { sumCounters } from "../views/kernelMemory.ts";
import { realClock } from "./clock.ts";
import { KernelHost } from "./host.ts";
import { KernelStack } from "./kernelStack.ts";
import { loadApplication } from "./loadApplication.ts";
import { type Reactor, reactorOf } from "./reactor.ts";
import { PortRandom } from "./seed.ts";
import { StackBase } from "./stackBase.ts";

const DRAIN_MS_DEFAULT = 1000;

export async function startInlineStack(plan: StackPlan): Promise<Stack> {
  const stack = new InlineStack(plan);
  try {
    await stack.start();
    return stack;
  } catch (error) {
    await stack.close({ drainMs: 0 });
    throw error;
  }
}

class InlineStack extends StackBase implements Stack {
  readonly mode = "inline";
  readonly kernelCount: number;
  readonly addresses: readonly string[];
  readonly kernels: readonly KernelHost[];
  readonly #plan: StackPlan;
  readonly #reactor: Reactor | undefined;
  readonly #ports: PortRegistry;
  readonly #sockets: Sockets;
  readonly #kernelStacks: KernelStack[] = [];
  readonly #kernelSockets: Sockets[] = [];
  #applicationHeld = false;
  #closing: Promise<void> | undefined;

  constructor(plan: StackPlan) {
    super();
    this.#plan = plan;
    this.addresses = [plan.options.address].flat();
    this.kernelCount = plan.configs.length;
    this.#reactor = plan.options.drive === "manual" ? undefined : reactorOf(plan.options.clock);
    const hosts: KernelHost[] = [];
    try {
      for (const index of plan.configs.keys()) hosts.push(this.#startKernel(index));
    } catch (error) {
      for (const host of hosts) host.close();
      throw error;
    }
    this.kernels = hosts;
    const { ephemeralPortFirst, ephemeralPortLast } = (plan.configs[0] as (typeof plan.configs)[0]).tuning;
    const portRandom = new PortRandom(plan.hostSeeds[hosts.length] as Uint32Array);
    this.#ports = new PortRegistry(() => portRandom.draw(ephemeralPortFirst, ephemeralPortLast));
    this.#sockets = this.#createSockets(hosts);
    for (const host of hosts) this.#reactor?.add(host, (error) => this.#onTrap(host, error));
  }

  /** Loads the application into every kernel, if there is one. */
  async start(): Promise<void> {
    if (this.#plan.app !== undefined) await this.#startApplications(this.#plan.app);
    this.announceStarted();
  }

  async #startApplications(app: string): Promise<void> {
    const { options } = this.#plan;
    // Handle-level sockets are not counted one by one: while there is an application, the process goes on.
    this.#reactor?.ref();
    this.#applicationHeld = true;
    // netpopcorn/net is the whole stack's, but a kernel's own while its application starts.
    setDefaultStack(this);
    const application = await loadApplication(app);
    for (const host of this.kernels) {
      const { kernelId } = host;
      const sockets = this.#createSockets([host]);
      this.#kernelSockets.push(sockets);
      const stack = new KernelStack({
        host,
        kernels: this.kernelCount,
        sockets,
        clock: options.clock ?? realClock,
        post: (data) => queueMicrotask(() => this.deliverMessage(data, kernelId)),
      });
      this.#kernelStacks.push(stack);
      setDefaultStack(stack);
      await application(stack, options.appArguments as never);
      setDefaultStack(this);
    }
  }

  get sockets(): Sockets {
    return this.#sockets;
  }

  listen(...args: Parameters<Stack["listen"]>): ReturnType<Stack["listen"]> {
    return this.#sockets.listen(...args);
  }

  connect(...args: Parameters<Stack["connect"]>): ReturnType<Stack["connect"]> {
    return this.#sockets.connect(...args);
  }

  bindUdp(...args: Parameters<Stack["bindUdp"]>): ReturnType<Stack["bindUdp"]> {
    return this.#sockets.bindUdp(...args);
  }

  async stats(): Promise<StackStats> {
    const kernels = this.kernels.map((host) => host.memory.counters());
    return { kernels, queues: this.#plan.device.queueFrames(), total: sumCounters(kernels) };
  }

  postMessage(data: unknown): void {
    queueMicrotask(() => {
      for (const stack of this.#kernelStacks) stack.deliver(data);
    });
  }

  turn(nowNs: number): boolean {
    let busy = false;
    for (const host of this.kernels) {
      try {
        if (host.turn(nowNs)) busy = true;
      } catch (error) {
        this.#onTrap(host, error as NetPopcornError);
      }
    }
    return busy;
  }

  nextDeadlineNs(): number {
    return Math.min(...this.kernels.map((host) => (host.failure ? Number.POSITIVE_INFINITY : host.nextDeadlineNs())));
  }

  close(options: CloseOptions = {}): Promise<void> {
    // Driven by hand, nobody would give turns to what drains.
    const drainMs = this.#reactor ? (options.drainMs ?? DRAIN_MS_DEFAULT) : 0;
    this.#closing ??= this.#close(drainMs);
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #startKernel(index: number): KernelHost {
    const { plan, memory, config } = {
      plan: this.#plan,
      memory: this.#plan.memories[index] as StackPlan["memories"][number],
      config: this.#plan.configs[index] as StackPlan["configs"][number],
    };
    const wake = () => this.#reactor?.wake();
    const host = new KernelHost({
      module: plan.module,
      memory,
      config,
      onApplicationError: (error) => this.reportError(error, index, false),
      onWork: wake,
    });
    const port = plan.device.openPort(index, memory.queuePair(index, config.rxLanes, wake));
    host.attach(port, new PortRandom(plan.hostSeeds[index] as Uint32Array));
    return host;
  }

  #createSockets(hosts: readonly KernelHost[]): Sockets {
    return new Sockets({
      hosts,
      reactor: this.#reactor,
      claims: localClaims(
        this.#ports,
        hosts.map(({ kernelId }) => kernelId),
      ),
    });
  }

  #onTrap(host: KernelHost, error: NetPopcornError): void {
    for (const sockets of [this.#sockets, ...this.#kernelSockets]) sockets.dropKernel(host, error);
    this.#ports.releaseAll(host.kernelId);
    host.close();
    this.reportError(error, host.kernelId, true);
  }

  async #close(drainMs: number): Promise<void> {
    this.#reactor?.ref();
    await Promise.all([this.#sockets.close(drainMs), ...this.#kernelStacks.map((stack) => stack.close(drainMs))]);
    for (const host of this.kernels) {
      // The last resets and FINs are sent by one more turn.
      if (!host.failure) host.turn(this.#reactor ? (this.#plan.options.clock ?? realClock).nowNs() : host.nowNs);
      this.#reactor?.remove(host);
      host.close();
    }
    if (this.#applicationHeld) this.#reactor?.unref();
    this.#reactor?.unref();
    this.emit("close", {});
  }
}
