/**
 * One transfer over a bad link, each end Linux's TCP or ours, the same program (peer.mjs) on both.
 *
 * ```
 *  namespace                     namespace
 *  link0 ───── bad link ───────── link0          Linux: the address is on link0
 *                                 link0 ─ br0 ─ pop0   NetPopcorn: a stack on pop0, bridged to the link
 * ```
 */
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import type { Impairments } from "../../src/device/card/impairment.ts";
import { openLossyLink } from "../helpers/lossyLink.ts";
import { Namespace } from "../helpers/namespace.ts";

const PEER = fileURLToPath(new URL("peer.mjs", import.meta.url));
const PORT = 5001;
const LINK = "link0";
const TAP = "pop0";

export type StackName = "linux" | "netpopcorn";
export type Family = 4 | 6;

export type Transfer = {
  readonly client: StackName;
  readonly server: StackName;
  readonly family: Family;
  /** get: the server sends; put: the client does. */
  readonly role: "get" | "put";
  readonly bytes: number;
  /** A get ends after so long, whatever has come. */
  readonly seconds: number;
  readonly impairments: Impairments;
  readonly seed: number;
  /** Congestion control of both ends. @default "cubic" */
  readonly congestion?: "cubic" | "reno" | "bbr";
};

export type Transferred = { readonly bytes: number; readonly seconds: number; readonly right: boolean };

const ADDRESSES = {
  4: { client: "10.9.0.1", server: "10.9.0.2", prefixLength: 24 },
  6: { client: "fd09::1", server: "fd09::2", prefixLength: 64 },
} as const;

class Host implements AsyncDisposable {
  readonly namespace = new Namespace();
  readonly #cidr: string;
  readonly #stack: StackName;
  readonly #congestion: string;

  constructor(stack: StackName, address: string, prefixLength: number, congestion: string) {
    this.#stack = stack;
    this.#congestion = congestion;
    this.#cidr = `${address}/${prefixLength}`;
  }

  /** After the link is there. */
  prepare(family: Family): void {
    if (this.#stack === "linux") {
      const nodad = family === 6 ? ["nodad"] : [];
      // By route: the sysctl is refused in some containers. The address's own route would come before it in IPv6.
      this.namespace.ip("address", "add", this.#cidr, "dev", LINK, "noprefixroute", ...nodad);
      const prefix = family === 4 ? "10.9.0.0/24" : "fd09::/64";
      this.namespace.ip(`-${family}`, "route", "replace", prefix, "dev", LINK, "congctl", this.#congestion);
      return;
    }
    this.namespace.ip("link", "add", "br0", "type", "bridge");
    this.namespace.ip("link", "set", LINK, "master", "br0");
    this.namespace.ip("link", "set", "br0", "up");
    this.namespace.ip("tuntap", "add", "dev", TAP, "mode", "tap", "multi_queue");
    this.namespace.ip("link", "set", TAP, "master", "br0");
  }

  start(parameters: readonly string[]): ChildProcess {
    const tap = this.#stack === "linux" ? [] : [TAP, this.#cidr, this.#congestion];
    return this.namespace.start(process.execPath, [PEER, ...parameters, ...tap], { stdio: ["ignore", "pipe", "pipe"] });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.namespace[Symbol.asyncDispose]();
  }
}

async function outputOf(child: ChildProcess, until: RegExp | undefined, timeoutMs: number): Promise<string> {
  let output = "";
  let errors = "";
  child.stderr?.setEncoding("utf8").on("data", (text: string) => {
    errors += text;
  });
  return await new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      child.kill("SIGKILL");
      reject(new Error(`peer.mjs took more than ${timeoutMs} ms: ${output}${errors}`));
    }, timeoutMs);
    const done = (error?: Error): void => {
      clearTimeout(timer);
      if (error) reject(error);
      else resolve(output);
    };
    child.stdout?.setEncoding("utf8").on("data", (text: string) => {
      output += text;
      if (until?.test(output)) done();
    });
    child.once("close", (status) => {
      if (status === 0 && until === undefined) done();
      else done(new Error(`peer.mjs ended with ${status}: ${output}${errors}`));
    });
  });
}

/** @throws when an end fails or takes three times as long as it may. */
export async function transfer(wanted: Transfer): Promise<Transferred> {
  const { client, server, family, role, bytes, seconds, impairments, seed, congestion = "cubic" } = wanted;
  const addresses = ADDRESSES[family];
  await using left = new Host(client, addresses.client, addresses.prefixLength, congestion);
  await using right = new Host(server, addresses.server, addresses.prefixLength, congestion);
  await using link = await openLossyLink(LINK, [left.namespace, right.namespace], impairments, seed);
  void link;
  for (const host of [left, right]) host.prepare(family);
  const listening = right.start(["server", `${PORT}`]);
  await outputOf(listening, /^ready/m, 20_000);
  const asking = left.start([role, addresses.server, `${PORT}`, `${bytes}`, `${seconds}`]);
  const result = JSON.parse(await outputOf(asking, undefined, 20_000 + 3000 * seconds)) as Transferred;
  listening.kill("SIGKILL");
  if (listening.exitCode === null) await once(listening, "exit");
  return result;
}
