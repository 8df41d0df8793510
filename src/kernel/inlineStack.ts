/** All kernels on the calling thread. */

import { Balancing } from "../balancer/balancing.ts";
import { OwnedDevice, type WriteChannel } from "../control/ownedDevice.ts";
import { PortProxy } from "../control/portProxy.ts";
import { HOLDER_STACK } from "../control/ports.ts";
import type { View } from "../control/view.ts";
import { tablesOf } from "../device/tables.ts";
import { NetPopcornError } from "../errors.ts";
import type { MigrationAgent } from "../migration/agent.ts";
import { CallCarrier } from "../migration/carrier.ts";
import { createMigrator, type MigrationResult, type Migrator } from "../migration/migrator.ts";
import { setDefaultStack } from "../net/stackOf.ts";
import { Sockets } from "../socket/sockets.ts";
import type { CloseOptions, Stack, StackStats } from "../types.ts";
import { sumCounters } from "../views/kernelMemory.ts";
import { realClock } from "./clock.ts";
import { KernelHost } from "./host.ts";
import { type Application, KernelStack } from "./kernelStack.ts";
import { loadApplication } from "./loadApplication.ts";
import { controlNetwork } from "./networkControl.ts";
import { type Reactor, reactorOf } from "./reactor.ts";
import { PortRandom } from "./seed.ts";
import { checkClose, StackBase } from "./stackBase.ts";
import { StackNetwork } from "./stackNetwork.ts";
import type { KernelLife, StackPlan } from "./stackPlan.ts";
import { type KernelRunner, Supervision } from "./supervision.ts";
import type { RemoveOptions } from "./supervisor.ts";

const DRAIN_MS_DEFAULT = 1000;
/** Bounds what a pump does; more waits for turns. */
const PUMP_ROUNDS_MAX = 100;

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
  /** The present life of each kernel, or its last. */
  readonly kernels: KernelHost[] = [];
  /** Its device is the one below. */
  readonly #plan: StackPlan;
  /** As its owner, one of the kernels, lets the stack see it. */
  readonly #device: OwnedDevice;
  readonly #reactor: Reactor | undefined;
  /** Ports of the stack's own sockets; one of the kernels speaks for them. */
  readonly #ports = new PortProxy(HOLDER_STACK);
  #sponsor: KernelHost | undefined;
  #pumping = false;
  readonly #rawDevice: StackPlan["device"];
  readonly #sockets: Sockets;
  readonly #supervision: Supervision;
  readonly #balancing: Balancing;
  readonly #network: StackNetwork;
  /** By kernel: its draws of ports and times. */
  readonly #randoms: PortRandom[] = [];
  readonly #migrator: Migrator;
  /** By kernel. */
  readonly #kernelStacks: KernelStack[] = [];
  readonly #kernelSockets: Sockets[] = [];
  /** Loaded once; undefined: none. */
  #application: Application | undefined;
  /** Instant of the last turn that was given by hand. */
  #turnNs = 0;
  #applicationHeld = false;
  #closing: Promise<void> | undefined;

  constructor(given: StackPlan) {
    super();
    this.#device = new OwnedDevice(given.device);
    const plan = { ...given, device: this.#device };
    this.#plan = plan;
    this.#rawDevice = given.device;
    this.#network = new StackNetwork(plan.configs[0], (event) => void this.emit("address", event));
    this.#reactor = plan.options.drive === "manual" ? undefined : reactorOf(plan.options.clock);
    const hosts = this.kernels;
    try {
      for (const index of plan.memories.keys()) hosts.push(this.#startKernel(this.#firstLife(index)));
    } catch (error) {
      for (const host of hosts) host.close();
      throw error;
    }
    this.#sockets = this.#createSockets(hosts, this.#ports, true);
    this.#supervision = new Supervision(plan, this.#createRunner());
    this.#balancing = new Balancing({
      plan,
      isUp: (kernelId) => this.#supervision.isUp(kernelId),
      isRunning: (kernelId) => this.#supervision.isRunning(kernelId),
      onBalance: (event) => void this.emit("balance", event),
      onError: (error) => this.reportError(error, this.#supervision.view.owner, false),
      clock: this.#reactor ? (plan.options.clock ?? realClock) : undefined,
      migrate: (group, to, settled) => void this.#migrator.migrate(group, to, settled).catch(() => {}),
      isMigrating: (group) => this.#migrator.isMoving(group),
      isGroupMoving: (group) => this.#migrator.isGroupMoving(group),
      isForwarding: (kernelId, group) => this.#migrator.forwards(kernelId, group),
      isPinnedElsewhere: (flow) => this.#supervision.rehoming.isPinned(flow),
      steal: (order) => this.#migrator.steal(this.#supervision.rehoming.handPinsTo(order)),
    });
    this.#migrator = createMigrator(plan, {
      isUp: (kernelId) => this.#supervision.isUp(kernelId),
      isRunning: (kernelId) => this.#supervision.isRunning(kernelId),
      ask: (kernelId, request, reply) => this.#agentOf(kernelId)?.handle(request, reply),
      nowNs: () => this.#nowNs(),
      unpin: (group) => {
        const repins = [this.#balancing.unpin(group), this.#supervision.rehoming.unpin(group)];
        return () => {
          for (const repin of repins) repin();
        };
      },
      pinned: (group) => [...this.#balancing.pinnedOf(group), ...this.#supervision.rehoming.pinnedOf(group)],
    });
    this.#supervision.rehoming.others = {
      isMigrating: (entry) => this.#migrator.isMovingEntry(entry),
      isGroupMoving: (entry) => this.#migrator.isGroupMovingEntry(entry),
      isForwarding: (queue, entry) => this.#migrator.forwardsEntry(queue, entry),
      isPinned: (flow) => this.#balancing.isPinned(flow),
      isStolenFrom: (queue) => this.#migrator.isStealingFrom(queue),
    };
    this.#device.onGroupsRefused = (groups, why) => {
      this.#balancing.refused(groups, why);
      this.#supervision.groupsRefused();
    };
    this.#device.onFiltersRefused = (flows) => {
      this.#balancing.filtersRefused(flows);
      this.#supervision.filtersRefused(flows);
    };
    this.#supervision.retireAbsent();
    for (const host of hosts) this.#drive(host);
    this.#tell(this.#supervision.view);
  }

  /** Gives every kernel its queue pair, and loads the application into it, if there is one. */
  async start(): Promise<void> {
    for (const host of this.kernels) await this.#takeQueue(host);
    if (this.#plan.app !== undefined) await this.#startApplications(this.#plan.app);
    this.#supervision.begin();
    this.#balancing.begin();
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
    });
    this.#kernelStacks[kernelId] = stack;
    setDefaultStack(stack);
    await application(stack, options.appArguments as never);
    setDefaultStack(this);
  }

  get addresses(): readonly string[] {
    return this.#network.addresses;
  }

  configured(): Promise<void> {
    return this.#network.configured();
  }

  get kernelCount(): number {
    return this.#supervision.supervisor.presentCount;
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

  async stats(): Promise<StackStats> {
    const kernels = this.#supervision.counters();
    return {
      owner: this.#supervision.view.owner,
      statuses: this.#supervision.statuses(),
      kernels,
      queues: this.#plan.device.queueFrames(),
      softwareSteered: this.#plan.device.softwareSteered?.() ?? 0,
      filtersRefused: this.#device.filtersRefused,
      total: sumCounters(kernels),
      balancer: this.#balancing.stats(),
      messages: this.#supervision.messageStats(),
    };
  }

  killKernel(kernelId: number): void {
    this.#supervision.requirePresent(kernelId);
    const error = new NetPopcornError("ERR_KERNEL_EXIT", `kernel ${kernelId} was ended by killKernel()`);
    this.#supervision.down(kernelId, "exit", error);
  }

  addKernel(): Promise<number> {
    return this.#supervision.addKernel();
  }

  removeKernel(kernelId: number, options?: RemoveOptions): Promise<void> {
    return this.#supervision.removeKernel(kernelId, options);
  }

  migrate(group: number, toKernel: number): Promise<MigrationResult> {
    return this.#migrator.migrate(group, toKernel);
  }

  postMessage(data: unknown): void {
    queueMicrotask(() => {
      for (const stack of this.#kernelStacks) stack.deliver(data);
    });
  }

  turn(nowNs: number): boolean {
    if (!Number.isFinite(nowNs)) {
      throw new NetPopcornError("ERR_OPTION_RANGE", `turn: nowNs is ${nowNs}; it must be a number of nanoseconds`);
    }
    let busy = false;
    this.#turnNs = nowNs;
    if (nowNs >= this.#supervision.deadlineNs) this.#supervision.step();
    this.#balancing.step(nowNs);
    for (const host of this.kernels) {
      try {
        if (this.#supervision.isRunning(host.kernelId) && host.turn(nowNs)) busy = true;
      } catch (error) {
        this.#supervision.down(host.kernelId, "trap", error as NetPopcornError);
      }
    }
    return busy;
  }

  nextDeadlineNs(): number {
    const up = this.kernels.filter(({ kernelId }) => this.#supervision.isRunning(kernelId));
    return Math.min(this.#supervision.deadlineNs, ...up.map((host) => host.nextDeadlineNs()));
  }

  async close(options: CloseOptions = {}): Promise<void> {
    checkClose(options);
    // Driven by hand, nobody would give turns to what drains.
    const drainMs = this.#reactor ? (options.drainMs ?? DRAIN_MS_DEFAULT) : 0;
    this.#closing ??= this.#close(drainMs);
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #firstLife(kernelId: number): KernelLife {
    const { configs, memories, hostSeeds } = this.#plan;
    return {
      config: configs[kernelId],
      memory: memories[kernelId],
      hostSeed: hostSeeds[kernelId],
      life: 0,
    } as KernelLife;
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
      onApplicationError: (error) => this.reportError(error, kernelId, false),
      onWork: () => this.#reactor?.wake(),
    });
    const open = () => tablesOf(this.#rawDevice);
    host.control.deviceOwner.provide({ terms: device.capabilities, open, stackWrites: true, rssKey });
    this.#randoms[kernelId] = new PortRandom(hostSeed);
    host.changeNetwork(this.#network.changes);
    return host;
  }

  /** The kernel gets its queue pair from the owner, and drives it. It must have a view. */
  async #takeQueue(host: KernelHost): Promise<void> {
    const { control, config, kernelId, memory } = host;
    const granted = control.device.acquire();
    this.#pumpNow();
    await granted;
    const wake = () => this.#reactor?.wake();
    const port = this.#device.openPort(kernelId, memory.queuePair(kernelId, config.rxLanes, wake));
    host.attach(port, this.#randoms[kernelId]);
    control.device.confirm();
    this.#pumpNow();
  }

  #agentOf(kernelId: number): MigrationAgent | undefined {
    return this.kernels[kernelId]?.migrationAgent(new CallCarrier(kernelId, (other) => this.#agentOf(other)));
  }

  #nowNs(): number {
    return this.#reactor ? (this.#plan.options.clock ?? realClock).nowNs() : this.#turnNs;
  }

  #drive(host: KernelHost): void {
    this.#reactor?.add(host, (error) => this.#supervision.down(host.kernelId, "trap", error));
  }

  #createRunner(): KernelRunner {
    const manual = this.#reactor === undefined;
    return {
      // Whoever gives the turns may leave a kernel without any: in virtual time it hangs as a thread would.
      apart: manual && this.#plan.options.hangMs !== undefined,
      manual,
      nowNs: () => this.#nowNs(),
      lost: (kernelId, error) => this.#lose(this.kernels[kernelId] as KernelHost, error),
      end: () => Promise.resolve(),
      start: (_kernelId, life) => this.#restart(life),
      dismiss: async (kernelId) => this.#dismiss(this.kernels[kernelId]),
      announce: (event) => this.announceKernel(event),
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
    if (!sameWay) this.#device.attach(sponsor && this.#writeChannel(sponsor));
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
      const hosts = this.kernels.filter((host) => this.#supervision.isLive(host.kernelId) && !host.failure);
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
        this.#network.changed(change);
        for (const kernel of this.kernels) if (!kernel.failure) kernel.changeNetwork([change]);
      },
      conflict: (address) => this.#network.conflict(address),
    });
  }

  #lose(host: KernelHost, cause: Error): void {
    const error =
      cause instanceof NetPopcornError ? cause : new NetPopcornError("ERR_KERNEL_START", cause.message, { cause });
    this.#reactor?.remove(host);
    host.close();
    this.#migrator.kernelDown(host.kernelId);
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
      host.turn(this.#reactor ? this.#nowNs() : Math.max(host.nowNs, this.#turnNs));
    } catch (error) {
      if (!(error instanceof NetPopcornError || error instanceof WebAssembly.RuntimeError)) throw error;
    }
  }

  async #restart(life: KernelLife): Promise<void> {
    const host = this.#startKernel(life);
    this.kernels[host.kernelId] = host;
    this.#tell(this.#supervision.view);
    try {
      await this.#takeQueue(host);
      this.#sockets.addKernel(host);
      this.#drive(host);
      if (this.#application) {
        await this.#startApplication(host, this.#application);
        await this.#kernelStacks[host.kernelId]?.joinListeners(await host.control.missingPorts());
      }
    } catch (error) {
      this.#lose(host, error as Error);
      throw error;
    }
  }

  #createSockets(hosts: readonly KernelHost[], claims: PortProxy, areAll: boolean): Sockets {
    return new Sockets({
      hosts,
      areAll,
      reactor: this.#reactor,
      claims,
      onError: (error) => this.reportError(error, hosts[0]?.kernelId ?? 0, false),
    });
  }

  async #close(drainMs: number): Promise<void> {
    this.#reactor?.ref();
    this.#supervision.close();
    this.#balancing.stop();
    this.#migrator.close();
    await Promise.all([this.#sockets.close(drainMs), ...this.#kernelStacks.map((stack) => stack.close(drainMs))]);
    this.#network.close();
    for (const host of this.kernels) {
      if (!host.failure) host.network?.close(true);
      host.network = undefined;
      // The last resets and FINs are sent by one more turn.
      if (this.#supervision.isRunning(host.kernelId)) this.#lastTurn(host, () => {});
      this.#reactor?.remove(host);
      host.close();
    }
    this.#balancing.unpinAll();
    this.#supervision.rehoming.unpinAll();
    this.#device.release();
    if (this.#applicationHeld) this.#reactor?.unref();
    this.#reactor?.unref();
    this.emit("close", {});
  }
}
