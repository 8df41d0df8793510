/** `netpopcorn serve`: a stack on a TAP device, with a built-in application or a module of the user's, until SIGINT. */
import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { captureDevice, openFileSink } from "../device/capture.ts";
import type { Device } from "../device/device.ts";
import { steerInSoftware } from "../device/steered/device.ts";
import { openTap, type TapDevice } from "../device/tap/device.ts";
import { NetPopcornError } from "../errors.ts";
import { formatAddress, parseAddress, parseCidr } from "../ip/address.ts";
import { PROCESS_EPOCH_MS } from "../kernel/clock.ts";
import { DHCP, type RouteOption, SLAAC } from "../kernel/networkPlan.ts";
import { createStack } from "../stack.ts";
import type { Stack } from "../types.ts";
import { createInterrupt, type Interrupt } from "./interrupt.ts";
import { CHAOS_RESTART, startChaos } from "./chaos.ts";
import type { Output } from "./output.ts";

export type ServeOptions = {
  readonly tap: string;
  /** Own addresses, CIDR, "dhcp" or "slaac", with commas between them; as the lists below. */
  readonly address: string;
  readonly kernels: number;
  /** Name of a built-in application or a module file. */
  readonly app: string;
  readonly port?: number;
  readonly gateway?: string;
  /** "10.8.0.0/16=10.7.0.9" */
  readonly route?: string;
  /** Address for the host's end of the device, CIDR. */
  readonly hostAddress?: string;
  /** Capture file to write. */
  readonly pcap?: string;
  readonly seed?: number;
  /** Ends a random kernel every so many seconds. */
  readonly chaos?: number;
  /** Who places frames on the kernels. Default "auto": the device, unless it has one queue only. */
  readonly steer?: "auto" | "device" | "software";
};

/** Built-in applications and their well-known ports (RFC 862, 863, 864, 9110). */
const builtInPorts = new Map([
  ["echo", 7],
  ["discard", 9],
  ["chargen", 19],
  ["http", 80],
]);
/** Port that a module of the user's is told when none is given. */
const MODULE_PORT = 80;

/** What to undo at the end, last things first. */
type Cleanups = (() => void | Promise<void>)[];

/**
 * Until SIGINT or SIGTERM.
 * @throws NetPopcornError for what is wrong with the options, the device or the application.
 */
export async function serve(options: ServeOptions, output: Output): Promise<void> {
  const given = listOf(options.address);
  for (const text of given) if (text !== DHCP && text !== SLAAC) parseCidr(text);
  for (const text of listOf(options.gateway)) parseAddress(text);
  const routes = listOf(options.route).map(parseRoute);
  const app = findApplication(options.app);
  const interrupt = createInterrupt();
  const cleanups: Cleanups = [() => interrupt.close()];
  try {
    const device = await openDevice(options, cleanups);
    const stack = await startStack(options, routes, app, device);
    cleanups.push(() => stack.close());
    stack.on("address", ({ address, state }) => output.progress(`address ${address} ${state}`));
    await Promise.race([stack.configured(), aborted(interrupt.signal)]);
    const addresses = stack.addresses.map((text) => formatAddress(parseCidr(text).address));
    // A link-local address is of no use to whoever reads this.
    const address = addresses.find((text) => !/^fe[89ab]/.test(text)) ?? addresses[0] ?? "";
    const { steering } = device.capabilities;
    const ready = { event: "ready", address, addresses, port: portOf(options), kernels: options.kernels, steering };
    const shown = address.includes(":") ? `[${address}]` : address;
    output.result(ready, `ready ${shown}:${ready.port} kernels=${ready.kernels}`);
    if (options.chaos !== undefined)
      cleanups.push(
        startChaos(stack, options.chaos, options.seed ?? crypto.getRandomValues(new Uint32Array(1))[0] ?? 0),
      );
    await untilEnd(stack, interrupt, output);
    await printStats(stack, output);
  } finally {
    for (const cleanup of cleanups.reverse()) await cleanup();
  }
}

/** What stands between commas. */
function listOf(text: string | undefined): string[] {
  return text === undefined ? [] : text.split(",").map((part) => part.trim());
}

/** @throws NetPopcornError ERR_ADDRESS_FORMAT. */
function parseRoute(text: string): RouteOption {
  const [to = "", via] = text.split("=");
  parseCidr(to);
  if (via !== undefined) parseAddress(via);
  return { to, ...(via === undefined ? {} : { via }) };
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    signal.addEventListener("abort", () => resolve());
  });
}

function portOf(options: ServeOptions): number {
  return options.port ?? builtInPorts.get(options.app) ?? MODULE_PORT;
}

/** @throws NetPopcornError ERR_APP_NOT_FOUND. */
function findApplication(app: string): URL {
  if (builtInPorts.has(app)) return new URL(`./apps/${app}.js`, import.meta.url);
  const file = resolve(app);
  if (!existsSync(file)) {
    const names = [...builtInPorts.keys()].join(", ");
    throw new NetPopcornError("ERR_APP_NOT_FOUND", `there is no application file ${file}; built in are ${names}`);
  }
  return pathToFileURL(file);
}

/** The TAP device, with a capture around it when one is asked for, and software that steers where the host cannot. */
async function openDevice(options: ServeOptions, cleanups: Cleanups): Promise<Device> {
  const { tap: name, pcap, kernels } = options;
  const sink = pcap === undefined ? undefined : await openFileSink(pcap);
  // Closed after the device, so that it gets all that the device still has.
  if (sink !== undefined) cleanups.push(() => sink.close());
  const tap = await openQueues(options);
  const captured = sink === undefined ? tap : captureDevice(tap, sink, { name, epochMs: PROCESS_EPOCH_MS });
  const hasQueues = tap.capabilities.queues === kernels;
  const device = hasQueues ? captured : await steerInSoftware(captured, { queues: kernels });
  cleanups.push(() => device.close());
  if (!hasQueues) {
    console.error(`netpopcorn: ${name} has one queue; software places its frames on ${kernels} kernels, by one thread`);
  }
  if (tap.steeringRefusal !== undefined) {
    console.error(`netpopcorn: the host steers packets by learning: ${tap.steeringRefusal}`);
  }
  return device;
}

/** As many queues as there are kernels, or one. */
async function openQueues({ tap: name, kernels, hostAddress, steer = "auto" }: ServeOptions): Promise<TapDevice> {
  const open = (queues: number) =>
    openTap({ name, queues, ...(hostAddress === undefined ? {} : { hostAddress: listOf(hostAddress) }) });
  if (steer === "software") return open(1);
  try {
    return await open(kernels);
  } catch (error) {
    // The device has been made without multi_queue.
    if (steer === "auto" && error instanceof NetPopcornError && error.code === "EINVAL") return open(1);
    throw error;
  }
}

function startStack(options: ServeOptions, routes: RouteOption[], app: URL, device: Device): Promise<Stack> {
  const { kernels, address, gateway, seed } = options;
  return createStack({
    kernels,
    mode: "threads",
    device,
    address: listOf(address),
    routes,
    app,
    appArguments: { port: portOf(options) },
    ...(gateway === undefined ? {} : { gateway: listOf(gateway) }),
    ...(seed === undefined ? {} : { seed }),
    ...(options.chaos === undefined ? {} : { restart: CHAOS_RESTART }),
  });
}

/** @throws the error that has ended the last kernel. */
function untilEnd(stack: Stack, interrupt: Interrupt, output: Output): Promise<void> {
  return new Promise((resolve, reject) => {
    const lost = new Set<number>();
    stack.on("kernel", ({ kernelId, state, reason, error, restartMs }) => {
      const why = error ? `: ${error.message}` : "";
      const next = state === "up" ? "" : restartMs === undefined ? "; for good" : `; again in ${restartMs} ms`;
      output.progress(`kernel ${kernelId} ${state} (${reason})${why}${next}`);
      if (state === "down" && restartMs === undefined) lost.add(kernelId);
      if (lost.size === stack.kernelCount) reject(error);
    });
    stack.on("error", ({ error, kernelId, fatal }) => {
      // What an application's handler throws concerns one connection: the others are served on.
      if (!fatal) console.error(`netpopcorn: application in kernel ${kernelId}: ${error.message}`);
    });
    if (interrupt.signal.aborted) resolve();
    interrupt.signal.addEventListener("abort", () => resolve());
  });
}

async function printStats(stack: Stack, output: Output): Promise<void> {
  const { total, kernels, queues, softwareSteered } = await stack.stats();
  const counted = Object.entries(total).filter(([, value]) => value !== 0);
  const sumOf = (name: string) => kernels.map((counters) => counters[name] ?? 0).join(" + ");
  const steered = softwareSteered > 0 ? [`softwareSteered  ${softwareSteered}`] : [];
  const text = [
    `queues  ${queues.join(" ")}`,
    ...steered,
    ...counted.map(([name, value]) => `${name}  ${sumOf(name)} = ${value}`),
  ];
  output.result({ event: "stats", ...total, queues, softwareSteered, kernels }, text.join("\n"));
}
