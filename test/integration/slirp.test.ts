/**
 * A third, independent TCP at the far end: libslirp's (descended from 4.4BSD), as virtual machines are given it.
 *
 *     NetPopcorn on pop0 ── bridge ── tap0 of slirp4netns ── a server on the machine's loopback, 10.0.2.2 to its guest
 */
import type { ChildProcess } from "node:child_process";
import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { exited, missing, Namespace } from "../helpers/namespace.ts";

const PEER = fileURLToPath(new URL("../interop/peer.mjs", import.meta.url));
const PORT = 5099;
const BYTES = 4 << 20;

const reason = missing("slirp4netns");

/** Resolves when `child` has printed something that matches. */
function printed(child: ChildProcess, pattern: RegExp): Promise<void> {
  return new Promise((resolve, reject) => {
    let output = "";
    const timer = setTimeout(() => reject(new Error(`only printed ${output}`)), 20_000);
    for (const stream of [child.stdout, child.stderr]) {
      stream?.setEncoding("utf8").on("data", (text: string) => {
        output += text;
        if (!pattern.test(output)) return;
        clearTimeout(timer);
        resolve();
      });
    }
    child.once("exit", (status) => reject(new Error(`ended with ${status}: ${output}`)));
  });
}

describe("libslirp", () => {
  let guest: Namespace;
  const children: ChildProcess[] = [];

  beforeAll(async () => {
    if (reason !== undefined) return;
    guest = new Namespace();
    const path = `/var/run/netns/${guest.name}`;
    const slirp = spawn("slirp4netns", ["--netns-type=path", "--configure", "--mtu=1500", path, "tap0"]);
    children.push(slirp);
    await printed(slirp, /received tapfd/);
    for (let tries = 0; tries < 50 && !guest.ip("address", "show", "tap0").includes("10.0.2.100"); tries++) {
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    guest.ip("address", "flush", "dev", "tap0");
    guest.ip("link", "add", "br0", "type", "bridge");
    guest.ip("link", "set", "br0", "up");
    guest.ip("link", "set", "tap0", "master", "br0");
    guest.ip("tuntap", "add", "dev", "pop0", "mode", "tap", "multi_queue");
    guest.ip("link", "set", "pop0", "master", "br0");
    const server = spawn(process.execPath, [PEER, "server", `${PORT}`], { stdio: ["ignore", "pipe", "pipe"] });
    children.push(server);
    await printed(server, /^ready/m);
  });

  afterAll(async () => {
    for (const child of children) child.kill("SIGKILL");
    await Promise.all(children.map((child) => exited(child)));
    await guest?.[Symbol.asyncDispose]();
  });

  test.for(["get", "put"])("%s: every byte arrives in order", async (role, context) => {
    if (reason !== undefined) context.skip(reason);
    const parameters = [PEER, role, "10.0.2.2", `${PORT}`, `${BYTES}`, "50", "pop0", "10.0.2.100/24"];
    const client = await guest.run(process.execPath, parameters, 90_000);
    expect(client.status, client.stderr).toBe(0);
    expect(JSON.parse(client.stdout)).toMatchObject({ bytes: BYTES, right: true });
  });
});
