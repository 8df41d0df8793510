/** The options of a stack, checked, and what its kernels start with. */
import { resolvePolicy } from "../balancer/choosePolicy.ts";
import type { Policy } from "../balancer/policy.ts";
import { checkOptions, type Shape } from "../checks.ts";
import type { Device } from "../device/device.ts";
import { NetPopcornError } from "../errors.ts";
import { parseMac } from "../ip/address.ts";
import { toeplitzBuild } from "../rss/toeplitz.ts";
import type { StackOptions } from "../types.ts";
import { KernelMemory } from "../views/kernelMemory.ts";
import { createMemory, loadModule } from "../wasm/load.ts";
import { checkInteger } from "../optionRange.ts";
import { type KernelConfig, resolveTuning, writeConfig } from "./config.ts";
import { planNetwork } from "./networkPlan.ts";
import { createSeedSource } from "./seed.ts";
import { HANG_MS_DEFAULT, RESTART_DEFAULTS, type RestartOptions } from "./supervisor.ts";

const KERNELS_MAX = 64;
/** Streams of the seed source for one generation of kernels: one each, one each for their hosts, one for the ports. */
const SEED_STREAMS = 4 * KERNELS_MAX;
/** Of the first generation: the seed that all kernels share, for the stack's life. */
const STACK_STREAM = 3 * KERNELS_MAX;

/** What one life of a kernel starts with. */
export type KernelLife = {
  readonly config: KernelConfig;
  /** Configuration written, not booted. */
  readonly memory: KernelMemory;
  /** Seed of the host side's own draws. */
  readonly hostSeed: Uint32Array;
  /** How often the kernel has been started before. */
  readonly life: number;
};

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
  /** What a kernel that is started again starts with: the same but for its seeds. @param life from 1 on. */
  readonly renewKernel: (kernelId: number, life: number) => KernelLife;
  /** undefined: kernels are not started again. */
  readonly restart: RestartOptions | undefined;
  readonly hangMs: number;
};

/** What a kernel of a new stack starts with. */
export function firstLife({ configs, memories, hostSeeds }: StackPlan, kernelId: number): KernelLife {
  return {
    config: configs[kernelId] as KernelConfig,
    memory: memories[kernelId] as KernelMemory,
    hostSeed: hostSeeds[kernelId] as Uint32Array,
    life: 0,
  };
}

/** @throws NetPopcornError as createStack, but for what the application throws. */
export async function planStack(options: StackOptions): Promise<StackPlan> {
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
      ...configOf(device),
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
  const renewKernel = (kernelId: number, life: number): KernelLife => {
    // A block of streams for each generation; the first has those above.
    const stream = life * SEED_STREAMS + kernelId;
    const config = { ...(configs[kernelId] as KernelConfig), seed: seeds(stream) };
    return { config, memory: createKernelMemory(config), hostSeed: seeds(stream + KERNELS_MAX), life };
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

const RESTART_OPTIONS: Shape<RestartOptions> = {
  delayMs: "any",
  delayMsMax: "any",
  quietMs: "any",
  failuresMax: "any",
};

function checkSupervision({ restart, hangMs = HANG_MS_DEFAULT }: StackOptions): Pick<StackPlan, "restart" | "hangMs"> {
  checkInteger("hangMs", hangMs, 10, 3_600_000);
  if (restart !== undefined && restart !== false) checkOptions("option restart", restart, RESTART_OPTIONS);
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
  const { drive = "auto", moduleBuild = "release" } = options;
  if (drive !== "auto" && drive !== "manual") {
    throw new NetPopcornError("ERR_OPTION_RANGE", `option drive is "${drive}"; it must be "auto" or "manual"`);
  }
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
  checkClonable(options.appArguments);
  if (options.drive === "manual")
    throw combinationError('mode "threads" runs by itself: drive "manual" is for mode "inline"');
}

function checkClonable(appArguments: unknown): void {
  try {
    structuredClone(appArguments);
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    const text = `option appArguments cannot be handed to a thread (structured clone): ${why}`;
    throw new NetPopcornError("ERR_INVALID_ARG_TYPE", text, { cause });
  }
}

async function applicationUrl(app: string | URL): Promise<string> {
  if (app instanceof URL) return app.href;
  // A Windows drive letter looks like a scheme; schemes have two characters or more.
  if (/^[a-z][a-z0-9+.-]+:/i.test(app)) return app;
  if (typeof location === "object") return new URL(app, location.href).href;
  const [{ pathToFileURL }, { resolve }] = await Promise.all([import("node:url"), import("node:path")]);
  return pathToFileURL(resolve(app)).href;
}

/** What kernels must know of their device. */
function configOf({ capabilities, rxLanes }: Device) {
  const { checksumOffload, flowGroups, localPorts, mtuBytes, tsoBytesMax } = capabilities;
  return { mtuBytes, rxLanes, tsoBytesMax, checksumOffload, flowGroups, ...(localPorts && { localPorts }) };
}
