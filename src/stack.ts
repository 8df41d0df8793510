/** createStack: checks the options, gives every kernel its configuration, and starts them in the wanted mode. */
import { onAbort } from "./abort.ts";
import { resolvePolicy } from "./balancer/balancing.ts";
import type { Policy } from "./balancer/policy.ts";
import type { Device } from "./device/device.ts";
import { NetPopcornError } from "./errors.ts";
import { parseMac } from "./ip/address.ts";
import { checkInteger, type KernelConfig, resolveTuning, writeConfig } from "./kernel/config.ts";
import type { KernelHost } from "./kernel/host.ts";
import { planNetwork } from "./kernel/networkPlan.ts";
import { startInlineStack } from "./kernel/inlineStack.ts";
import { createSeedSource } from "./kernel/seed.ts";
import type { KernelLife } from "./kernel/supervision.ts";
import { HANG_MS_DEFAULT, type RemoveOptions, RESTART_DEFAULTS, type RestartOptions } from "./kernel/supervisor.ts";
import { startThreadStack } from "./kernel/threadStack.ts";
import type { MigrationResult } from "./migration/migrator.ts";
import { toeplitzBuild } from "./rss/toeplitz.ts";
import type { Connection } from "./socket/connection.ts";
import type { Listener } from "./socket/listener.ts";
import type { Sockets } from "./socket/sockets.ts";
import type { PingOptions, PingReply } from "./ip/pinger.ts";
import type { UdpSocket } from "./socket/udp.ts";
import type {
  BindUdpOptions,
  CloseOptions,
  ConnectOptions,
  ListenOptions,
  StackEvents,
  StackMode,
  StackOptions,
  StackStats,
} from "./types.ts";
import { KernelMemory } from "./views/kernelMemory.ts";
import { createMemory, loadModule } from "./wasm/load.ts";

const KERNELS_MAX = 64;
/** Streams of the seed source for one generation of kernels: one each, one each for their hosts, one for the ports. */
const SEED_STREAMS = 4 * KERNELS_MAX;
/** Of the first generation: the seed that all kernels share, for the stack's life. */
const STACK_STREAM = 3 * KERNELS_MAX;

/** N kernels that look like one host. */
export interface Stack extends AsyncDisposable {
  readonly mode: StackMode;
  /** How many kernels there are, those included that are being started again. */
  readonly kernelCount: number;
  /** Own addresses now: "10.7.0.2/24". */
  readonly addresses: readonly string[];
  /**
   * Fulfilled when the stack has the addresses that it was to ask for ("dhcp", "slaac"); at once when there are none.
   * Nobody may answer: wait for as long as you like. @throws NetPopcornError ERR_STACK_CLOSED.
   */
  configured(): Promise<void>;
  /** The kernels with their handle level; empty in threads mode, where they are in other threads. */
  readonly kernels: readonly KernelHost[];
  /** @internal All kernels as one group, for the levels above the Web level (src/net); undefined in threads mode. */
  readonly sockets: Sockets | undefined;

  /**
   * Listens in all kernels. Inline mode only: in threads mode the application module listens, in its kernel.
   * @throws NetPopcornError EADDRINUSE, EADDRNOTAVAIL, ENOBUFS, ERR_OPTION_RANGE, ERR_STACK_CLOSED,
   * ERR_NO_APPLICATION_THREAD.
   */
  listen(where: number | ListenOptions, more?: Omit<ListenOptions, "port">): Promise<Listener>;
  /** Opens a connection. Inline mode only. @throws NetPopcornError ECONNREFUSED, ETIMEDOUT, …. */
  connect(options: ConnectOptions): Promise<Connection>;
  /**
   * Asks a host whether it is there: an echo request and its reply (RFC 1122 3.2.2.6). Inline mode only; in threads
   * mode the application of a stack with one kernel can.
   * @throws NetPopcornError ETIMEDOUT, EHOSTUNREACH, ENETUNREACH, …; ERR_ADDRESS_FORMAT, ERR_OPTION_RANGE.
   */
  ping(address: string, options?: PingOptions): Promise<PingReply>;
  /** Binds a UDP socket in all kernels. Inline mode only. */
  bindUdp(where: number | BindUdpOptions): Promise<UdpSocket>;

  stats(): Promise<StackStats>;
  /** Ends a kernel as a crash would, with all its connections, to see what happens then. It is started again. */
  killKernel(kernelId: number): void;
  /**
   * Starts one more kernel: what listens, listens there too, and it gets its share of the packets as flow groups become
   * free. Other kernels' connections are not touched. @returns its number.
   * @throws NetPopcornError ERR_KERNELS_MAX, ERR_STACK_CLOSED, and what the application throws at its start.
   */
  addKernel(): Promise<number>;
  /**
   * Has a kernel leave: nothing new is steered to it, its connections may go on for `drainMs` (none with
   * `drain: false`), then those that are left are reset. Fulfilled when it has ended.
   * @throws NetPopcornError ERR_NO_SUCH_KERNEL, ERR_LAST_KERNEL, ERR_OPTION_RANGE, ERR_STACK_CLOSED.
   */
  removeKernel(kernelId: number, options?: RemoveOptions): Promise<void>;
  /**
   * Moves a flow group, 0..4095, to another kernel with all its connections, while traffic flows (docs/migration.md).
   * Moves are made one after the other; fulfilled when the old kernel no longer forwards late frames. When it rejects,
   * everything is as it was.
   * @throws NetPopcornError ERR_OPTION_RANGE, EOPNOTSUPP (no flow groups), ERR_MIGRATION_PINNED (an application that
   * cannot follow), ENOBUFS (no room in that kernel), EADDRINUSE, ERR_KERNEL_DOWN, ERR_STACK_CLOSED.
   */
  migrate(group: number, toKernel: number): Promise<MigrationResult>;
  /** Sends a structured-clonable value to the application in every kernel (KernelStack event "message"). */
  postMessage(data: unknown): void;
  on<Name extends keyof StackEvents>(name: Name, listener: (event: StackEvents[Name]) => void): this;
  off<Name extends keyof StackEvents>(name: Name, listener: (event: StackEvents[Name]) => void): this;

  /** With `drive: "manual"`: one turn of every kernel. @returns true when something was done or is left to do. */
  turn(nowNs: number): boolean;
  /** With `drive: "manual"`: when the next turn is due without outside input, ns; Infinity: never. */
  nextDeadlineNs(): number;

  /** Stops listening, lets connections drain, resets the rest. The device stays open: it is the caller's. */
  close(options?: CloseOptions): Promise<void>;
}

/** What both modes need, with everything checked. */
export type StackPlan = {
  readonly options: StackOptions;
  readonly device: Device;
  readonly module: WebAssembly.Module;
  /** One for each kernel that there can be. */
  readonly configs: readonly KernelConfig[];
  readonly kernelsMax: number;
  /** Of the present life of each kernel, or its last. At first with the configuration written, not booted. */
  readonly memories: KernelMemory[];
  /** Application module, a URL. */
  readonly app: string | undefined;
  /** Seeds of the host side's own draws, one per kernel. */
  readonly hostSeeds: readonly Uint32Array[];
  /** Of the ports that the owner draws for port 0. */
  readonly drawSeed: Uint32Array;
  /** Of the balancer. */
  readonly policy: Policy;
  /** Key of the device's RSS hash; undefined: its own. */
  readonly rssKey: Uint8Array | undefined;
  /** What a kernel that is started again starts with: the same but for its seeds. @param restarts from 1 on. */
  readonly renewKernel: (kernelId: number, restarts: number) => KernelLife;
  /** undefined: kernels are not started again. */
  readonly restart: RestartOptions | undefined;
  readonly hangMs: number;
};

/**
 * Creates and starts a stack.
 * @throws NetPopcornError ERR_OPTION_RANGE, ERR_OPTION_UNKNOWN, ERR_OPTION_COMBINATION, ERR_ADDRESS_FORMAT,
 * ERR_RSS_KEY, ERR_APP_LOAD, ERR_APP_EXPORT, ENOMEM, and what the application throws at its start.
 */
export async function createStack(options: StackOptions): Promise<Stack> {
  options.signal?.throwIfAborted();
  const plan = await planStack(options);
  options.signal?.throwIfAborted();
  const stack = await (options.mode === "threads" ? startThreadStack(plan) : startInlineStack(plan));
  stack.on(
    "close",
    onAbort(options.signal, () => void stack.close({ drainMs: 0 })),
  );
  return stack;
}

async function planStack(options: StackOptions): Promise<StackPlan> {
  const { device, mode = "inline" } = options;
  const { capabilities } = device;
  const kernelsDefault = options.kernelsMax ?? capabilities.queues;
  const kernels = checkInteger("kernels", options.kernels ?? kernelsDefault, 1, KERNELS_MAX);
  const kernelsMax = checkInteger("kernelsMax", options.kernelsMax ?? kernels, kernels, KERNELS_MAX);
  if (kernelsMax !== capabilities.queues) {
    // A queue that no kernel will ever have would swallow its share of the traffic.
    const wrap = kernelsMax > capabilities.queues ? `, or one queue and steerInSoftware(device, { queues })` : "";
    throw combinationError(
      `${kernelsMax} kernels on a device with ${capabilities.queues} queues; ` +
        `give it one queue per kernel (kernelsMax)${wrap}`,
    );
  }
  checkCombinations(options, mode);
  const policy = resolvePolicy(options.balancer, {
    threads: mode === "threads",
    kernels: kernelsMax,
    device: capabilities,
  });
  const tuning = resolveTuning(options.tuning ?? {}, device.rxLanes, kernelsMax);
  const seeds = createSeedSource(options.seed);
  const shared = mode === "threads" || options.sharedMemory === true;
  const app = options.app === undefined ? undefined : await applicationUrl(options.app);
  const module = await loadModule("kernel", shared, options.moduleBuild);
  const stackSeed = seeds(STACK_STREAM);
  const mac = options.mac === undefined ? device.mac : parseMac(options.mac);
  const { addresses, gateway, network } = planNetwork(options, mac, stackSeed);
  const configs = Array.from(
    { length: kernelsMax },
    (_, kernelId): KernelConfig => ({
      kernelId,
      kernelsMax,
      seed: seeds(kernelId),
      stackSeed,
      mac,
      addresses,
      gateway,
      network,
      mtuBytes: capabilities.mtuBytes,
      rxLanes: device.rxLanes,
      tsoBytesMax: capabilities.tsoBytesMax,
      checksumOffload: capabilities.checksumOffload,
      timestamps: options.timestamps ?? true,
      noDelay: options.noDelay ?? false,
      tuning,
    }),
  );
  const createKernelMemory = (config: KernelConfig): KernelMemory => {
    const memory = new KernelMemory(createMemory(tuning.memoryBytes, shared));
    writeConfig(memory, config);
    return memory;
  };
  const memories = configs.slice(0, kernels).map(createKernelMemory);
  const hostSeeds = Array.from({ length: kernels }, (_, index) => seeds(KERNELS_MAX + index));
  const drawSeed = seeds(KERNELS_MAX + kernels);
  const renewKernel = (kernelId: number, restarts: number): KernelLife => {
    // A block of streams for each generation; the first has those above.
    const stream = restarts * SEED_STREAMS + kernelId;
    const config = { ...(configs[kernelId] as KernelConfig), seed: seeds(stream) };
    return { config, memory: createKernelMemory(config), hostSeed: seeds(stream + KERNELS_MAX), life: restarts };
  };
  const { restart, hangMs } = checkSupervision(options);
  const rssKey = checkRssKey(options);
  return {
    options,
    device,
    module,
    configs,
    kernelsMax,
    memories,
    app,
    hostSeeds,
    drawSeed,
    policy,
    rssKey,
    renewKernel,
    restart,
    hangMs,
  };
}

function checkRssKey({ rssKey, device }: StackOptions): Uint8Array | undefined {
  if (rssKey === undefined) return undefined;
  if (!device.setRssKey) throw combinationError("this device has no RSS hash, so no key; leave rssKey out");
  for (const octet of rssKey) checkInteger("rssKey", octet, 0, 255);
  // Checks its length.
  toeplitzBuild(rssKey);
  return Uint8Array.from(rssKey);
}

function checkSupervision({ restart, hangMs = HANG_MS_DEFAULT }: StackOptions): Pick<StackPlan, "restart" | "hangMs"> {
  checkInteger("hangMs", hangMs, 10, 3_600_000);
  if (restart === false) return { restart: undefined, hangMs };
  const filled = { ...RESTART_DEFAULTS, ...restart };
  checkInteger("restart.delayMs", filled.delayMs, 0, 3_600_000);
  checkInteger("restart.delayMsMax", filled.delayMsMax, filled.delayMs, 3_600_000);
  checkInteger("restart.quietMs", filled.quietMs, 0, Number.MAX_SAFE_INTEGER);
  checkInteger("restart.failuresMax", filled.failuresMax, 1, Number.MAX_SAFE_INTEGER);
  return { restart: filled, hangMs };
}

function combinationError(message: string): NetPopcornError {
  return new NetPopcornError("ERR_OPTION_COMBINATION", message);
}

function checkCombinations(options: StackOptions, mode: string): void {
  if (mode !== "inline" && mode !== "threads") {
    throw new NetPopcornError("ERR_OPTION_RANGE", `option mode is "${mode}"; it must be "inline" or "threads"`);
  }
  const { moduleBuild = "release" } = options;
  if (moduleBuild !== "release" && moduleBuild !== "debug") {
    throw new NetPopcornError(
      "ERR_OPTION_RANGE",
      `option moduleBuild is "${moduleBuild}"; it must be "release" or "debug"`,
    );
  }
  if (moduleBuild === "debug" && (mode === "threads" || options.sharedMemory === true))
    throw combinationError('moduleBuild "debug" is for kernels in plain memories: mode "inline" without sharedMemory');
  if (mode === "inline") return;
  if (options.app === undefined)
    throw combinationError('mode "threads" needs option app: the module to run in each kernel');
  if (options.clock) throw combinationError('mode "threads" runs in real time: option clock is for mode "inline"');
  if (options.drive === "manual")
    throw combinationError('mode "threads" runs by itself: drive "manual" is for mode "inline"');
}

async function applicationUrl(app: string | URL): Promise<string> {
  if (app instanceof URL) return app.href;
  // A Windows drive letter looks like a scheme; schemes have two characters or more.
  if (/^[a-z][a-z0-9+.-]+:/i.test(app)) return app;
  if (typeof location === "object") return new URL(app, location.href).href;
  const [{ pathToFileURL }, { resolve }] = await Promise.all([import("node:url"), import("node:path")]);
  return pathToFileURL(resolve(app)).href;
}
