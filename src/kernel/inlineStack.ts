/** All kernels on the calling thread. */

import type { WriteChannel } from "../control/ownedDevice.ts";
import { PortProxy } from "../control/portProxy.ts";
import { HOLDER_STACK } from "../control/ports.ts";
import type { View } from "../control/view.ts";
import { tablesOf } from "../device/tables.ts";
import { NetPopcornError } from "../errors.ts";
import type { MigrationAgent } from "../migration/agent.ts";
import { CallCarrier } from "../migration/carrier.ts";
import { setDefaultStack } from "../net/stackOf.ts";
import { Sockets } from "../socket/sockets.ts";
import type { Stack } from "../types.ts";
import { realClock } from "./clock.ts";
import type { ControlPlane, StackKernels } from "./controlPlane.ts";
import { KernelHost } from "./host.ts";
import { type Application, KernelStack } from "./kernelStack.ts";
import { loadApplication } from "./loadApplication.ts";
import { controlNetwork } from "./networkControl.ts";
import { type Reactor, reactorOf } from "./reactor.ts";
import { PortRandom } from "./seed.ts";
import { StackBase, startStack } from "./stackBase.ts";
import { firstLife, type KernelLife, type StackPlan } from "./stackPlan.ts";

/** Bounds what a pump does; more waits for turns. */
const PUMP_ROUNDS_MAX = 100;

export async function startInlineStack(plan: StackPlan): Promise<Stack> {
  return startStack(new InlineStack(plan));
}

class InlineStack extends StackBase implements Stack {
  readonly mode = "inline";
  /** The present life of each kernel, or its last. */
  readonly kernels: KernelHost[] = [];
  protected readonly controlPlane: ControlPlane;
  readonly #plan: StackPlan;
  readonly #reactor: Reactor | undefined;
  /** Ports of the stack's own sockets; one of the kernels speaks for them. */
  readonly #ports = new PortProxy(HOLDER_STACK);
  #sponsor: KernelHost | undefined;
  #pumping = false;
  readonly #rawDevice: StackPlan["device"];
  readonly #sockets: Sockets;
  /** By kernel: its draws of ports and times. */
  readonly #randoms: PortRandom[] = [];
  /** By kernel; none of one whose start has failed before its application's. */
  readonly #kernelStacks: KernelStack[] = [];
  readonly #kernelSockets: Sockets[] = [];
  /** Loaded once; undefined: none. */
  #application: Application | undefined;
  /** Instant of the last turn that was given by hand. */
  #turnNs = 0;
  #applicationHeld = false;

  constructor(given: StackPlan) {
    super();
    const { clock, drive } = given.options;
    this.#reactor = drive === "manual" ? undefined : reactorOf(clock);
    this.#rawDevice = given.device;
    this.controlPlane = this.createControlPlane(given, this.#reachKernels(given));
    this.#plan = this.controlPlane.plan;
    const hosts = this.kernels;
    try {
      for (const id of this.#plan.memories.keys()) hosts.push(this.#startKernel(firstLife(this.#plan, id)));
    } catch (error) {
      for (const host of hosts) host.close();
      throw error;
    }
    this.#sockets = this.#createSockets(hosts, this.#ports, true);
    this.controlPlane.supervision.retireAbsent();
    for (const host of hosts) this.#drive(host);
    this.#tell(this.controlPlane.supervision.view);
  }

  /** Gives every kernel its queue pair, and loads the application into it, if there is one. */
  async start(): Promise<void> {
    for (const host of this.kernels) await this.#takeQueue(host);
    if (this.#plan.app !== undefined) await this.#startApplications(this.#plan.app);
    this.controlPlane.begin();
    this.announceStarted();
  }

  async #startApplications(app: string): Promise<void> {
    // Handle-level sockets are not counted one by one: while there is an application, the process goes on.
    this.#reactor?.ref();
    this.#applicationHeld = true;
    // netpopcorn/net is the whole stack's, but a kernel's own while its application starts.
    setDefaultStack(this);
    this.#application = await loadApplication(app);
    for (const host of [...this.kernels]) await this.#startApplication(host, this.#application);
  }

  async #startApplication(host: KernelHost, application: Application): Promise<void> {
    const { options } = this.#plan;
    const { kernelId } = host;
    const sockets = this.#createSockets([host], host.control.ports, this.#plan.kernelsMax === 1);
    this.#kernelSockets[kernelId] = sockets;
    const stack = new KernelStack({
      host,
      kernels: this.kernelCount,
      sockets,
      clock: options.clock ?? realClock,
      post: (data) => queueMicrotask(() => this.deliverMessage(data, kernelId)),
      onError: (error) => this.reportError(error, kernelId),
    });
    this.#kernelStacks[kernelId] = stack;
    setDefaultStack(stack);
    await application(stack, options.appArguments as never);
    setDefaultStack(this);
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

  ping(...args: Parameters<Stack["ping"]>): ReturnType<Stack["ping"]> {
    return this.#sockets.ping(...args);
  }

  bindUdp(...args: Parameters<Stack["bindUdp"]>): ReturnType<Stack["bindUdp"]> {
    return this.#sockets.bindUdp(...args);
  }

  postMessage(data: unknown): void {
    queueMicrotask(() => {
      for (const stack of Object.values(this.#kernelStacks)) stack.deliver(data);
    });
  }

  turn(nowNs: number): boolean {
    if (!Number.isFinite(nowNs)) {
      throw new NetPopcornError("ERR_OPTION_RANGE", `turn: nowNs is ${nowNs}; it must be a number of nanoseconds`);
    }
    let busy = false;
    this.#turnNs = nowNs;
    this.controlPlane.step(nowNs);
    for (const host of this.kernels) {
      try {
        if (this.controlPlane.supervision.isRunning(host.kernelId) && host.turn(nowNs)) busy = true;
      } catch (error) {
        this.controlPlane.supervision.down(host.kernelId, "trap", error as NetPopcornError);
      }
    }
    return busy;
  }

  nextDeadlineNs(): number {
    const up = this.kernels.filter(({ kernelId }) => this.controlPlane.supervision.isRunning(kernelId));
    return Math.min(this.controlPlane.supervision.deadlineNs, ...up.map((host) => host.nextDeadlineNs()));
  }

  /** A kernel without a queue pair. */
  #startKernel({ config, memory, hostSeed, life }: KernelLife): KernelHost {
    const { device, module, rssKey } = this.#plan;
    const { kernelId } = config;
    const host = new KernelHost({
      module,
      memory,
      config,
      life,
      drawSeed: this.#plan.drawSeed,
      onMessages: () => this.#pump(),
      settleMessages: () => this.#pumpNow(),
      onApplicationError: (error) => this.reportError(error, kernelId),
      onWork: () => this.#reactor?.wake(),
    });
    const open = () => tablesOf(this.#rawDevice);
    host.control.deviceOwner.provide({ terms: device.capabilities, open, stackWrites: true, rssKey });
    this.#randoms[kernelId] = new PortRandom(hostSeed);
    host.changeNetwork(this.controlPlane.network.changes);
    return host;
  }

  /** The kernel gets its queue pair from the owner, and drives it. It must have a view. */
  async #takeQueue(host: KernelHost): Promise<void> {
    const { control, config, kernelId, memory } = host;
    const granted = control.device.acquire();
    this.#pumpNow();
    await granted;
    requireOpen(host);
    const wake = () => this.#reactor?.wake();
    const port = this.controlPlane.device.openPort(kernelId, memory.queuePair(kernelId, config.rxLanes, wake));
    host.attach(port, this.#randoms[kernelId]);
    control.device.confirm();
    this.#pumpNow();
  }

  #agentOf(kernelId: number): MigrationAgent | undefined {
    return this.kernels[kernelId]?.migrationAgent(new CallCarrier(kernelId, (other) => this.#agentOf(other)));
  }

  #drive(host: KernelHost): void {
    this.#reactor?.add(host, (error) => this.controlPlane.supervision.down(host.kernelId, "trap", error));
  }

  #reachKernels({ options }: StackPlan): StackKernels {
    const manual = this.#reactor === undefined;
    return {
      // Whoever gives the turns may leave a kernel without any: in virtual time it hangs as a thread would.
      apart: manual && options.hangMs !== undefined,
      manual,
      nowNs: manual ? () => this.#turnNs : () => (options.clock ?? realClock).nowNs(),
      ask: (kernelId, request, reply) => this.#agentOf(kernelId)?.handle(request, reply),
      kill: (kernelId, error) => this.controlPlane.supervision.down(kernelId, "exit", error),
      lost: (kernelId, error) => this.#lose(this.kernels[kernelId] as KernelHost, error),
      end: () => Promise.resolve(),
      start: (_kernelId, life) => this.#restart(life),
      dismiss: async (kernelId) => this.#dismiss(this.kernels[kernelId]),
      viewChanged: (view) => this.#tell(view),
      giveUp: () => this.#sockets.closeListeners(),
    };
  }

  /** Tells every kernel that runs which there are. */
  #tell(view: View): void {
    const hosts = view.members.flatMap(({ kernelId, life }) => {
      const host = this.kernels[kernelId];
      return host?.messages.life === life ? [host] : [];
    });
    const sponsor = this.#sponsor && hosts.includes(this.#sponsor) ? this.#sponsor : hosts[0];
    const sameOwner = sponsor?.control.ownerSince === view.ownerSince;
    const sameWay = sponsor === this.#sponsor && sameOwner;
    if (!sponsor) this.#ports.attach(undefined, false);
    else if (sponsor !== this.#sponsor) sponsor.control.sponsor(this.#ports, false);
    for (const host of hosts) host.control.setView(view, () => this.#pump());
    for (const { kernelId } of hosts) this.#control(kernelId, view.owner);
    // What the last sponsor has asked for may have been lost with it.
    if (sponsor !== this.#sponsor && sameOwner) this.#ports.reclaim();
    this.#sponsor = sponsor;
    if (!sameWay) this.controlPlane.device.attach(sponsor && this.#writeChannel(sponsor));
  }

  /** By message from a kernel to the owner, and answered at once: on one thread nobody has to wait. */
  #writeChannel(sponsor: KernelHost): WriteChannel {
    return (payload, onWritten) => {
      sponsor.control.writeTables(payload, onWritten);
      this.#pumpNow();
    };
  }

  /** Has messages handled soon, without turns: a stack that is driven by hand must not need any to listen. */
  #pump(): void {
    if (this.#pumping) return;
    this.#pumping = true;
    queueMicrotask(() => {
      this.#pumping = false;
      this.#pumpNow();
    });
  }

  #pumpNow(): void {
    for (let handled = 1, round = 0; handled > 0 && round < PUMP_ROUNDS_MAX; round++) {
      handled = 0;
      const hosts = this.kernels.filter((host) => this.controlPlane.supervision.isLive(host.kernelId) && !host.failure);
      for (const { messages } of hosts) messages.flush();
      for (const { messages } of hosts) handled += messages.poll();
    }
  }

  /** The control path of addresses runs in the kernel that owns the device. */
  #control(kernelId: number, owner: number): void {
    const host = this.kernels[kernelId];
    const random = this.#randoms[kernelId];
    if (!host || !random || host.failure) return;
    controlNetwork(host, owner, random, {
      change: (change) => {
        this.controlPlane.network.changed(change);
        for (const kernel of this.kernels) if (!kernel.failure) kernel.changeNetwork([change]);
      },
      conflict: (address) => this.controlPlane.network.conflict(address),
    });
  }

  #lose(host: KernelHost, cause: Error): void {
    const error =
      cause instanceof NetPopcornError ? cause : new NetPopcornError("ERR_KERNEL_START", cause.message, { cause });
    this.#reactor?.remove(host);
    host.close();
    // Connections of any kernel's application may have moved here.
    for (const sockets of [this.#sockets, ...this.#kernelSockets]) sockets?.dropKernel(host, error);
    this.#kernelSockets[host.kernelId]?.closeListeners();
  }

  /** The kernel leaves in order: its own resets go out before it ends. */
  #dismiss(host: KernelHost | undefined): void {
    if (!host) return;
    const own = this.#kernelSockets[host.kernelId];
    own?.closeListeners();
    this.#sockets.closeReplicas(host);
    this.#lastTurn(host, () => host.exports.tcpAbortAll());
    this.#lose(host, new NetPopcornError("ECONNABORTED", `kernel ${host.kernelId} has been removed`));
  }

  /** What its connections have to say at their end is sent. A trap changes nothing any more: it ends anyway. */
  #lastTurn(host: KernelHost, before: () => void): void {
    if (host.failure) return;
    try {
      before();
      host.turn(this.#reactor ? (this.#plan.options.clock ?? realClock).nowNs() : Math.max(host.nowNs, this.#turnNs));
    } catch (error) {
      if (!(error instanceof NetPopcornError || error instanceof WebAssembly.RuntimeError)) throw error;
    }
  }

  async #restart(life: KernelLife): Promise<void> {
    const host = this.#startKernel(life);
    this.kernels[host.kernelId] = host;
    this.#tell(this.controlPlane.supervision.view);
    try {
      await this.#takeQueue(host);
      requireOpen(host);
      this.#sockets.addKernel(host);
      this.#drive(host);
      if (this.#application) {
        await this.#startApplication(host, this.#application);
        requireOpen(host);
        const missing = await host.control.missingPorts();
        requireOpen(host);
        await this.#kernelStacks[host.kernelId]?.joinListeners(missing);
      }
    } catch (error) {
      // One that is gone has been lost already, and its number may be another's.
      if (!host.isClosed) this.#lose(host, error as Error);
      throw error;
    }
  }

  #createSockets(hosts: readonly KernelHost[], claims: PortProxy, areAll: boolean): Sockets {
    return new Sockets({
      hosts,
      areAll,
      reactor: this.#reactor,
      claims,
      onError: (error) => this.reportError(error, hosts[0]?.kernelId ?? 0),
    });
  }

  protected async endKernels(drainMs: number): Promise<void> {
    this.#reactor?.ref();
    // Driven by hand, nobody would give turns to what drains.
    const socketsMs = this.#reactor ? drainMs : 0;
    await Promise.all([this.#sockets, ...Object.values(this.#kernelStacks)].map((open) => open.close(socketsMs)));
    for (const host of this.kernels) {
      if (!host.failure) host.network?.close(true);
      host.network = undefined;
      // The last resets and FINs are sent by one more turn.
      if (this.controlPlane.supervision.isRunning(host.kernelId)) this.#lastTurn(host, () => {});
      this.#reactor?.remove(host);
      host.close();
    }
    if (this.#applicationHeld) this.#reactor?.unref();
    this.#reactor?.unref();
  }
}

/** A kernel may end while it starts. @throws NetPopcornError ERR_KERNEL_START: nothing more is to be done in it. */
function requireOpen({ isClosed, kernelId }: KernelHost): void {
  if (isClosed) throw new NetPopcornError("ERR_KERNEL_START", `kernel ${kernelId} has ended while it started`);
}
