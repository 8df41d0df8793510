/** Every kernel in a worker of its own. The calling thread watches. */
import type { View } from "../control/view.ts";
import { NetPopcornError } from "../errors.ts";
import type { Stack } from "../types.ts";
import { PROCESS_EPOCH_MS, realClock } from "./clock.ts";
import type { ControlPlane, StackKernels } from "./controlPlane.ts";
import { StackBase, startStack } from "./stackBase.ts";
import { firstLife, type KernelLife, type StackPlan } from "./stackPlan.ts";
import { ThreadKernel } from "./threadKernel.ts";

/** How long a kernel that is started again may take until its application has started. */
const START_MS_MAX = 30_000;
/** How long the owner may take for the last writes of a stack that closes. */
const LAST_WRITES_MS_MAX = 500;

export async function startThreadStack(plan: StackPlan): Promise<Stack> {
  return startStack(new ThreadStack(plan));
}

class ThreadStack extends StackBase implements Stack {
  readonly mode = "threads";
  readonly kernels = [];
  readonly sockets = undefined;
  protected readonly controlPlane: ControlPlane;
  readonly #plan: StackPlan;
  readonly #tables: ReturnType<NonNullable<StackPlan["device"]["describeTables"]>>;
  /** By kernel: its present life, or its last; none of one whose thread could not be started. */
  readonly #threads: (ThreadKernel | undefined)[] = [];
  readonly #restarting = new Set<Promise<void>>();
  /** Where writes to the device's tables go, and since which term. */
  #deviceThread: ThreadKernel | undefined;
  #ownerSince = 0;

  constructor(given: StackPlan) {
    super();
    this.#tables = given.device.describeTables?.();
    this.controlPlane = this.createControlPlane(given, this.#reachKernels());
    this.#plan = this.controlPlane.plan;
    this.controlPlane.supervision.retireAbsent();
  }

  /** @throws the first error of any kernel's start. */
  async start(): Promise<void> {
    for (const kernelId of this.#plan.memories.keys()) {
      const thread = await this.#startThread(firstLife(this.#plan, kernelId));
      this.#threads.push(thread);
      thread.changeNetwork(this.controlPlane.network.changes);
    }
    this.#attachDevice(this.controlPlane.supervision.view);
    await Promise.all(this.#started().map(({ ready }) => ready));
    // No kernel gets packets of a queue that has none.
    await new Promise<void>((resolve) => this.controlPlane.device.commitTables(resolve));
    this.controlPlane.begin();
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

  postMessage(data: unknown): void {
    for (const thread of this.#started()) thread.postMessage(data);
  }

  turn(): boolean {
    throw noApplicationThread("turn");
  }

  nextDeadlineNs(): number {
    throw noApplicationThread("nextDeadlineNs");
  }

  #started(): ThreadKernel[] {
    return this.#threads.filter((thread) => thread !== undefined);
  }

  #reachKernels(): StackKernels {
    return {
      apart: true,
      manual: false,
      nowNs: () => realClock.nowNs(),
      ask: (kernelId, request, reply) => this.#threads[kernelId]?.ask(request, reply),
      kill: (kernelId, error) => this.#threads[kernelId]?.kill(error),
      lost: () => {},
      end: async (kernelId) => this.#threads[kernelId]?.terminate(),
      start: (kernelId, life) => {
        const restart = this.#restartThread(kernelId, life);
        this.#restarting.add(restart);
        return restart.finally(() => this.#restarting.delete(restart));
      },
      dismiss: async (kernelId) => this.#threads[kernelId]?.close(0, true),
      viewChanged: (view) => {
        for (const thread of this.#started()) thread.setView(view);
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
    this.controlPlane.device.attach(present && ((payload, onWritten) => present.writeTables(payload, onWritten)));
  }

  async #restartThread(kernelId: number, life: KernelLife): Promise<void> {
    const thread = await this.#startThread(life);
    this.#threads[kernelId] = thread;
    // Another kernel may have come or gone since this one was given its first view.
    thread.setView(this.controlPlane.supervision.view);
    this.#attachDevice(this.controlPlane.supervision.view);
    thread.changeNetwork(this.controlPlane.network.changes);
    if (this.isClosing) void thread.close(0);
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
        view: this.controlPlane.supervision.view,
      },
      transfer,
      onError: (error) => this.reportError(error, kernelId),
      onEnd: (end, error) => this.controlPlane.supervision.down(kernelId, end, error),
      onMessage: (data) => this.deliverMessage(data, kernelId),
      onNetwork: (change) => {
        this.controlPlane.network.changed(change);
        for (const thread of this.#started()) if (thread.kernelId !== kernelId) thread.changeNetwork([change]);
      },
      onConflict: (address) => this.controlPlane.network.conflict(address),
    });
  }

  protected async endKernels(drainMs: number): Promise<void> {
    await this.#lastWrites();
    await Promise.all(this.#started().map((thread) => thread.close(drainMs)));
    await Promise.allSettled(this.#restarting);
  }

  async #lastWrites(): Promise<void> {
    const { device } = this.controlPlane;
    if (device.pendingWrites === 0) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, LAST_WRITES_MS_MAX);
      device.commitTables(() => {
        clearTimeout(timer);
        resolve();
      });
    });
  }
}

function noApplicationThread(what: string): NetPopcornError {
  return new NetPopcornError(
    "ERR_NO_APPLICATION_THREAD",
    `${what}: in mode "threads" sockets belong to the application in each kernel; call it there, or use mode "inline"`,
  );
}
