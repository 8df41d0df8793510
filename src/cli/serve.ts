/** `netpopcorn serve`: a stack on a TAP device, with a built-in application or a module of the user's, until SIGINT. */
import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { openTap } from "../device/tap/device.ts";
import { NetPopcornError } from "../errors.ts";
import { formatAddress, parseAddress, parseCidr } from "../ip/address.ts";
import { createStack, type Stack } from "../stack.ts";
import { createInterrupt, type Interrupt } from "./interrupt.ts";
import type { Output } from "./output.ts";

export type ServeOptions = {
  readonly tap: string;
  /** Own address, CIDR. */
  readonly address: string;
  readonly kernels: number;
  /** Name of a built-in application or a module file. */
  readonly app: string;
  readonly port?: number;
  readonly gateway?: string;
  /** Address for the host's end of the device, CIDR. */
  readonly hostAddress?: string;
  readonly seed?: number;
};

/** Built-in applications and their well-known ports (RFC 862, 863, 864, 9110). */
const builtInPorts: Readonly<Record<string, number>> = { echo: 7, discard: 9, chargen: 19, http: 80 };
/** Port that a module of the user's is told when none is given. */
const MODULE_PORT = 80;

/**
 * Until SIGINT or SIGTERM.
 * @throws NetPopcornError for what is wrong with the options, the device or the application.
 */
export async function serve(options: ServeOptions, output: Output): Promise<void> {
  const { address, family } = parseCidr(options.address);
  if (family !== 4) {
    throw new NetPopcornError("EAFNOSUPPORT", `${options.address}: IPv6 is not supported yet; use an IPv4 address`);
  }
  if (options.gateway !== undefined) parseAddress(options.gateway);
  const app = findApplication(options.app);
  const port = options.port ?? builtInPorts[options.app] ?? MODULE_PORT;
  const interrupt = createInterrupt();
  try {
    const device = await openTap({
      name: options.tap,
      queues: options.kernels,
      ...(options.hostAddress === undefined ? {} : { hostAddress: options.hostAddress }),
    });
    try {
      if (device.steeringRefusal !== undefined) {
        console.error(`netpopcorn: the host steers packets by learning: ${device.steeringRefusal}`);
      }
      await using stack = await createStack({
        kernels: options.kernels,
        mode: "threads",
        device,
        address: options.address,
        app,
        appArguments: { port },
        ...(options.gateway === undefined ? {} : { gateway: options.gateway }),
        ...(options.seed === undefined ? {} : { seed: options.seed }),
      });
      const { kernels } = options;
      const ready = `ready ${formatAddress(address)}:${port} kernels=${kernels}`;
      output.result({ event: "ready", address: formatAddress(address), port, kernels }, ready);
      await untilEnd(stack, interrupt);
      await printStats(stack, output);
    } finally {
      await device.close();
    }
  } finally {
    interrupt.close();
  }
}

/** @throws NetPopcornError ERR_APP_NOT_FOUND. */
function findApplication(app: string): URL {
  if (app in builtInPorts) return new URL(`./apps/${app}.js`, import.meta.url);
  const file = resolve(app);
  if (!existsSync(file)) {
    const names = Object.keys(builtInPorts).join(", ");
    throw new NetPopcornError("ERR_APP_NOT_FOUND", `there is no application file ${file}; built in are ${names}`);
  }
  return pathToFileURL(file);
}

/** @throws the error that has ended a kernel. */
function untilEnd(stack: Stack, interrupt: Interrupt): Promise<void> {
  return new Promise((resolve, reject) => {
    stack.on("error", ({ error, kernelId, fatal }) => {
      if (fatal) reject(error);
      // What an application's handler throws concerns one connection: the others are served on.
      else console.error(`netpopcorn: application in kernel ${kernelId}: ${error.message}`);
    });
    if (interrupt.signal.aborted) resolve();
    interrupt.signal.addEventListener("abort", () => resolve());
  });
}

async function printStats(stack: Stack, output: Output): Promise<void> {
  const { total, kernels, queues } = await stack.stats();
  const counted = Object.entries(total).filter(([, value]) => value !== 0);
  const text = [
    `queues  ${queues.join(" ")}`,
    ...counted.map(
      ([name, value]) => `${name}  ${kernels.map((counters) => counters[name] ?? 0).join(" + ")} = ${value}`,
    ),
  ];
  output.result({ event: "stats", ...total, queues, kernels }, text.join("\n"));
}
