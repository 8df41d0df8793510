/** IPv6 and addresses from others, against Linux: ping, curl, dnsmasq (DHCP and router advertisements). */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, expect, type TestContext, test } from "vitest";
import { exited, missing, Namespace } from "../helpers/namespace.ts";

const CLI = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url));
const READY_MS = 40_000;

let namespace: Namespace;
let child: ChildProcess | undefined;

function need(context: TestContext, ...programs: string[]): void {
  const reason = missing(...programs);
  if (reason !== undefined) context.skip(reason);
}

beforeEach((context) => {
  need(context, "ping", "curl");
  namespace = new Namespace();
});

afterEach(async () => {
  child?.kill("SIGINT");
  if (child) await exited(child);
  child = undefined;
  await namespace?.[Symbol.asyncDispose]();
});

/** Starts `serve`; `beside` runs when the device is there, before the addresses are. @returns its ready line. */
async function serve(
  address: string,
  hostAddress: string,
  beside?: () => void,
  ...more: readonly string[]
): Promise<{ addresses: string[] }> {
  const options = ["--tap", "pop0", "--address", address, "--host-address", hostAddress, "--kernels", "2", ...more];
  const parameters = ["netns", "exec", namespace.name, process.execPath, CLI, "serve", ...options, "--json"];
  child = spawn("ip", parameters, { stdio: ["ignore", "pipe", "inherit"] });
  if (beside) await whenUp(beside);
  let text = "";
  const deadline = AbortSignal.timeout(READY_MS);
  while (!text.includes("\n")) {
    const [chunk] = await once(child.stdout as NodeJS.ReadableStream, "data", { signal: deadline });
    text += String(chunk);
  }
  return JSON.parse(text.slice(0, text.indexOf("\n")));
}

async function whenUp(beside: () => void): Promise<void> {
  for (let tries = 0; tries < 100; tries++) {
    // UP stands there once the device is; the host's own addresses follow.
    if (namespace.ip("link", "show").includes("pop0")) break;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  beside();
}

async function pings(host: string, ...more: string[]): Promise<void> {
  const ping = await namespace.run("ping", ["-c", "20", "-i", "0.01", "-W", "5", ...more, host]);
  expect(ping.stdout).toContain("20 received, 0% packet loss");
}

async function fetched(host: string, bytes: number): Promise<void> {
  const url = `http://${host}/bytes/${bytes}`;
  const curl = await namespace.run("curl", ["-sS", "-o", "/dev/null", "-w", "%{http_code} %{size_download}", url]);
  expect(curl).toMatchObject({ stdout: `200 ${bytes}`, stderr: "" });
}

describe("IPv6 with given addresses", () => {
  beforeEach(async () => {
    await serve("10.7.0.2/24,fd07::2/64", "10.7.0.1/24,fd07::1/64");
    // Linux probes its own address for a second first.
    await namespace.run("sh", ["-c", "while ip -6 addr show dev pop0 | grep -q tentative; do sleep 0.1; done"]);
  });

  test("ping: small, full frames, fragments", async () => {
    await pings("fd07::2");
    await pings("fd07::2", "-s", "1452", "-M", "do");
    await pings("fd07::2", "-s", "20000");
  });

  test("curl over both families, from one listener", async () => {
    await fetched("[fd07::2]", 20_000_000);
    await fetched("10.7.0.2", 20_000_000);
  });
});

test("a path that is narrower than both links: its router tells, and the download goes on", async () => {
  // The stack, a router (this namespace) whose way on carries 1300 bytes, and a client behind it.
  const far = new Namespace();
  try {
    namespace.ip("link", "add", "veth0", "type", "veth", "peer", "name", "veth1", "netns", far.name);
    namespace.ip("-6", "address", "add", "fd08::1/64", "dev", "veth0", "nodad");
    namespace.ip("link", "set", "veth0", "up");
    far.ip("-6", "address", "add", "fd08::2/64", "dev", "veth1", "nodad");
    far.ip("link", "set", "veth1", "up");
    far.ip("-6", "route", "add", "default", "via", "fd08::1");
    namespace.ip("-6", "route", "add", "fd08::2/128", "dev", "veth0", "mtu", "1300");
    await namespace.run("sysctl", ["-qw", "net.ipv6.conf.all.forwarding=1"]);
    await serve("fd07::2/64", "fd07::1/64", undefined, "--gateway", "fd07::1");
    const url = "http://[fd07::2]/bytes/3000000";
    const curl = await far.run("curl", ["-sS", "-m", "30", "-o", "/dev/null", "-w", "%{size_download}", url]);
    expect(curl).toMatchObject({ stdout: "3000000", stderr: "" });
    let text = "";
    child?.stdout?.on("data", (chunk) => {
      text += String(chunk);
    });
    child?.kill("SIGINT");
    await exited(child as ChildProcess);
    const stats = JSON.parse(text.trim()) as Record<string, number>;
    expect(stats["pathMtuLearnt"]).toBeGreaterThan(0);
    expect(stats["tcpPathMtuReduced"]).toBeGreaterThan(0);
  } finally {
    await far[Symbol.asyncDispose]();
  }
});

test("an address by DHCP, another by advertisement, and answers at both", async (context) => {
  need(context, "dnsmasq");
  const { addresses } = await serve("dhcp,slaac", "10.9.0.1/24,fd09::1/64", () => {
    const ranges = ["--dhcp-range=10.9.0.50,10.9.0.99,2m", "--dhcp-range=fd09::,ra-only,64", "--enable-ra"];
    const plain = ["--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--dhcp-leasefile=/dev/null"];
    namespace.start("dnsmasq", [...plain, "--interface=pop0", "--bind-dynamic", ...ranges], { stdio: "ignore" });
  });
  const v4 = addresses.find((text) => text.startsWith("10.9.0.")) as string;
  const v6 = addresses.find((text) => text.startsWith("fd09::")) as string;
  expect(Number(v4.split(".")[3])).toBeGreaterThanOrEqual(50);
  await pings(v4);
  await pings(v6);
  await fetched(v4, 1_000_000);
  await fetched(`[${v6}]`, 1_000_000);
});
