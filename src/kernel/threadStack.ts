/** Every kernel in a worker of its own. The calling thread watches. */
import { Balancing } from "../balancer/balancing.ts";
import { OwnedDevice } from "../control/ownedDevice.ts";
import type { View } from "../control/view.ts";
import { NetPopcornError } from "../errors.ts";
import { createMigrator, type MigrationResult, type Migrator } from "../migration/migrator.ts";
import type { CloseOptions, Stack, StackStats } from "../types.ts";
import { sumCounters } from "../views/kernelMemory.ts";
import { PROCESS_EPOCH_MS, realClock } from "./clock.ts";
import { checkClose, StackBase } from "./stackBase.ts";
import { StackNetwork } from "./stackNetwork.ts";
import type { KernelLife, StackPlan } from "./stackPlan.ts";
import { type KernelRunner, Supervision } from "./supervision.ts";
import type { KernelEvent, RemoveOptions } from "./supervisor.ts";
import { ThreadKernel } from "./threadKernel.ts";

const DRAIN_MS_DEFAULT = 1000;
/** How long a kernel that is started again may take until its application has started. */
const START_MS_MAX = 30_000;
/** How long the owner may take for the last writes of a stack that closes. */
const LAST_WRITES_MS_MAX = 500;

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
  readonly kernels = [];
  readonly sockets = undefined;
  /** Its device is the one below. */
  readonly #plan: StackPlan;
  /** As its owner, one of the kernels, lets the stack see it. */
  readonly #device: OwnedDevice;
  readonly #tables: ReturnType<NonNullable<StackPlan["device"]["describeTables"]>>;
  readonly #supervision: Supervision;
  readonly #balancing: Balancing;
  readonly #network: StackNetwork;
  readonly #migrator: Migrator;
  /** The present life of each kernel, or its last. */
  readonly #threads: ThreadKernel[] = [];
  readonly #restarting = new Set<Promise<void>>();
  /** Where writes to the device's tables go, and since which term. */
  #deviceThread: ThreadKernel | undefined;
  #ownerSince = 0;
  #closing: Promise<void> | undefined;

  constructor(given: StackPlan) {
    super();
    this.#tables = given.device.describeTables?.();
    this.#device = new OwnedDevice(given.device);
    const plan = { ...given, device: this.#device };
    this.#plan = plan;
    this.#network = new StackNetwork(plan.configs[0], (event) => void this.emit("address", event));
    this.#supervision = new Supervision(plan, this.#createRunner());
    this.#balancing = new Balancing({
      plan,
      isUp: (kernelId) => this.#supervision.isUp(kernelId),
      isRunning: (kernelId) => this.#supervision.isRunning(kernelId),
      onBalance: (event) => void this.emit("balance", event),
      onError: (error) => this.reportError(error, this.#supervision.view.owner, false),
      clock: realClock,
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
      ask: (kernelId, request, reply) => this.#threads[kernelId]?.ask(request, reply),
      nowNs: () => realClock.nowNs(),
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
  }

  migrate(group: number, toKernel: number): Promise<MigrationResult> {
    return this.#migrator.migrate(group, toKernel);
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

  /** @throws the first error of any kernel's start. */
  async start(): Promise<void> {
    const { configs, memories, hostSeeds } = this.#plan;
    for (const kernelId of memories.keys()) {
      const config = configs[kernelId];
      const life = { config, memory: memories[kernelId], hostSeed: hostSeeds[kernelId], life: 0 } as KernelLife;
      const thread = await this.#startThread(life);
      this.#threads.push(thread);
      thread.changeNetwork(this.#network.changes);
    }
    this.#attachDevice(this.#supervision.view);
    await Promise.all(this.#threads.map(({ ready }) => ready));
    // No kernel gets packets of a queue that has none.
    await new Promise<void>((resolve) => this.#device.commitTables(resolve));
    this.#supervision.begin();
    this.#balancing.begin();
    this.announceStarted();
  }

  listen(): ReturnType<Stack["listen"]> {
    return Promise.reject(noApplicationThread("listen"));
  }

  connect(): ReturnType<Stack["connect"]> {
    return Promise.reject(noApplicationThread("connect"));
  }

  ping(): ReturnType<Stack["ping"]> {
    return Promise.reject(noApplicationThread("ping"));
  }

  bindUdp(): ReturnType<Stack["bindUdp"]> {
    return Promise.reject(noApplicationThread("bindUdp"));
  }

  async stats(): Promise<StackStats> {
    // Counters are read out of the kernels' memories: no kernel is asked, so one that hangs has counters too.
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
    this.#threads[kernelId]?.kill();
  }

  addKernel(): Promise<number> {
    return this.#supervision.addKernel();
  }

  removeKernel(kernelId: number, options?: RemoveOptions): Promise<void> {
    return this.#supervision.removeKernel(kernelId, options);
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

  async close(options: CloseOptions = {}): Promise<void> {
    checkClose(options);
    this.#closing ??= this.#close(options.drainMs ?? DRAIN_MS_DEFAULT);
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #createRunner(): KernelRunner {
    return {
      apart: true,
      manual: false,
      nowNs: () => realClock.nowNs(),
      lost: (kernelId) => this.#migrator.kernelDown(kernelId),
      end: async (kernelId) => this.#threads[kernelId]?.terminate(),
      start: (kernelId, life) => {
        const restart = this.#restartThread(kernelId, life);
        this.#restarting.add(restart);
        return restart.finally(() => this.#restarting.delete(restart));
      },
      dismiss: async (kernelId) => this.#threads[kernelId]?.close(0, true),
      announce: (event: KernelEvent) => this.announceKernel(event),
      viewChanged: (view) => {
        for (const thread of this.#threads) thread.setView(view);
        this.#attachDevice(view);
      },
      giveUp: () => {},
    };
  }

  /** Writes go to the owner's thread from now on. It has been told the view before. */
  #attachDevice({ owner, ownerSince, members }: View): void {
    const life = members.find(({ kernelId }) => kernelId === owner)?.life;
    const thread = this.#threads[owner];
    const present = thread && thread.life === life ? thread : undefined;
    if (present === this.#deviceThread && ownerSince === this.#ownerSince) return;
    this.#deviceThread = present;
    this.#ownerSince = ownerSince;
    this.#device.attach(present && ((payload, onWritten) => present.writeTables(payload, onWritten)));
  }

  async #restartThread(kernelId: number, life: KernelLife): Promise<void> {
    const thread = await this.#startThread(life);
    this.#threads[kernelId] = thread;
    // Another kernel may have come or gone since this one was given its first view.
    thread.setView(this.#supervision.view);
    this.#attachDevice(this.#supervision.view);
    thread.changeNetwork(this.#network.changes);
    if (this.#closing) void thread.close(0);
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<never>((_, reject) => {
      const text = `kernel ${kernelId}: the application has not started within ${START_MS_MAX} ms`;
      timer = setTimeout(() => reject(new NetPopcornError("ERR_KERNEL_START", text)), START_MS_MAX);
    });
    try {
      await Promise.race([thread.ready, late]);
    } finally {
      clearTimeout(timer);
    }
  }

  #startThread({ config, memory: { memory }, hostSeed, life }: KernelLife): Promise<ThreadKernel> {
    const { device, module, options, app } = this.#plan;
    const { kernelId } = config;
    const { descriptor, transfer } = device.describePort(kernelId, memory);
    return ThreadKernel.start({
      start: {
        module,
        memory,
        config,
        kernels: this.kernelCount,
        port: descriptor,
        tables: this.#tables,
        capabilities: device.capabilities,
        rssKey: this.#plan.rssKey,
        app: app as string,
        appArguments: options.appArguments,
        seed: hostSeed,
        drawSeed: this.#plan.drawSeed,
        epochMs: PROCESS_EPOCH_MS,
        life,
        view: this.#supervision.view,
      },
      transfer,
      onError: (error) => this.reportError(error, kernelId, false),
      onEnd: (end, error) => this.#supervision.down(kernelId, end, error),
      onMessage: (data) => this.deliverMessage(data, kernelId),
      onNetwork: (change) => {
        this.#network.changed(change);
        for (const thread of this.#threads) if (thread.kernelId !== kernelId) thread.changeNetwork([change]);
      },
      onConflict: (address) => this.#network.conflict(address),
    });
  }

  async #lastWrites(): Promise<void> {
    if (this.#device.pendingWrites === 0) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, LAST_WRITES_MS_MAX);
      this.#device.commitTables(() => {
        clearTimeout(timer);
        resolve();
      });
    });
  }

  async #close(drainMs: number): Promise<void> {
    this.#supervision.close();
    this.#balancing.stop();
    this.#network.close();
    this.#migrator.close();
    await this.#lastWrites();
    await Promise.all(this.#threads.map((thread) => thread.close(drainMs)));
    await Promise.allSettled(this.#restarting);
    this.#balancing.unpinAll();
    this.#supervision.rehoming.unpinAll();
    this.#device.release();
    this.emit("close", {});
  }
}

function noApplicationThread(what: string): NetPopcornError {
  return new NetPopcornError(
    "ERR_NO_APPLICATION_THREAD",
    `${what}: in mode "threads" sockets belong to the application in each kernel; call it there, or use mode "inline"`,
  );
}
