/**
 * Real programs against `netpopcorn serve` over a bad link: 1 % loss, 20 ms delay and 5 % reordering each way.
 *
 * ```
 *  client namespace            server namespace
 *  curl, ab ── bad link ── bridge br0 ── pop0 ── netpopcorn serve
 * ```
 * The link is a veth pair with `tc netem` at both ends and, for hosts whose kernel has no netem, one of our own.
 */
import { spawnSync } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { contentOf, sha256Of } from "../helpers/content.ts";
import { openLossyLink } from "../helpers/lossyLink.ts";
import { missing, Namespace } from "../helpers/namespace.ts";
import { CLIENT, SERVER, Served } from "../helpers/serve.ts";

const IMPAIRMENT = { lossPpm: 10_000, delayNs: 20e6, reorderPpm: 50_000, reorderNs: 5e6 };
const NETEM = ["netem", "delay", "20ms", "reorder", "5%", "loss", "1%"];
const BODY_BYTES = 1 << 20;
const SHORT_CONNECTIONS = 200;

/** A veth pair named `name` at both ends, which holds back, drops and reorders what leaves either end. */
async function netemLink(name: string, client: Namespace, server: Namespace): Promise<AsyncDisposable> {
  client.ip("link", "add", name, "type", "veth", "peer", "name", name, "netns", server.name);
  for (const end of [client, server]) {
    // Otherwise the link would lose 64 KiB at a time.
    await end.run("ethtool", ["-K", name, "tso", "off", "gso", "off"]);
    end.tc("qdisc", "add", "dev", name, "root", ...NETEM);
    end.ip("link", "set", name, "up");
  }
  return { [Symbol.asyncDispose]: async () => undefined };
}

/** Why `tc netem` cannot be used here. */
function netemRefusal(): string | undefined {
  const reason = missing("tc", "ethtool");
  if (reason !== undefined) return reason;
  const name = `npt${process.pid}-netem`;
  spawnSync("ip", ["netns", "add", name]);
  const tried = spawnSync("tc", ["-netns", name, "qdisc", "add", "dev", "lo", "root", ...NETEM], { encoding: "utf8" });
  spawnSync("ip", ["netns", "delete", name]);
  return tried.status === 0 ? undefined : `no netem in this host's kernel (${tried.stderr.trim()})`;
}

const links = [
  {
    link: "tc netem",
    refusal: netemRefusal,
    open: (client: Namespace, server: Namespace) => netemLink("link0", client, server),
  },
  {
    link: "our own link",
    refusal: () => missing(),
    open: (client: Namespace, server: Namespace) => openLossyLink("link0", [client, server], IMPAIRMENT, 42),
  },
];

describe.for(links)("1 % loss, 20 ms, 5 % reordering by $link", ({ refusal, open }) => {
  const reason = refusal();
  const cleanUps: AsyncDisposable[] = [];
  let client: Namespace;
  let folder: string;
  const url = (path: string): string => `http://${SERVER}${path}`;

  beforeEach(async (context) => {
    if (reason !== undefined) context.skip(reason);
    const curl = missing("curl", "ab");
    if (curl !== undefined) context.skip(curl);
    client = new Namespace();
    const server = new Namespace();
    cleanUps.push(client, server);
    cleanUps.push(await open(client, server));
    cleanUps.push(await Served.start(server, { app: "http", port: 80, hostAddress: false }));
    server.ip("link", "add", "br0", "type", "bridge");
    for (const name of ["link0", "pop0"]) server.ip("link", "set", name, "master", "br0");
    server.ip("link", "set", "br0", "up");
    client.ip("address", "add", `${CLIENT}/24`, "dev", "link0");
    folder = await mkdtemp(join(tmpdir(), "netpopcorn-"));
  });

  afterEach(async () => {
    for (const each of cleanUps.splice(0).reverse()) await each[Symbol.asyncDispose]();
    if (folder) await rm(folder, { recursive: true, force: true });
  });

  test("curl fetches 1 MiB, bytes equal", async () => {
    const file = join(folder, "body");
    const curl = await client.run("curl", ["-sS", "--fail", "-o", file, url(`/bytes/${BODY_BYTES}`)], 150_000);
    expect(curl).toMatchObject({ status: 0, stderr: "" });
    expect(sha256Of(await readFile(file))).toBe(sha256Of(contentOf(BODY_BYTES)));
  });

  test("curl sends 1 MiB, bytes equal", async () => {
    const file = join(folder, "body");
    await writeFile(file, contentOf(BODY_BYTES));
    const curl = await client.run("curl", ["-sS", "--fail", "-T", file, url("/sha256")], 150_000);
    expect(curl).toMatchObject({ status: 0, stderr: "" });
    expect(curl.stdout.trim()).toBe(sha256Of(contentOf(BODY_BYTES)));
  });

  test("ab: 200 short connections, no failed request", async () => {
    const ab = await client.run("ab", ["-q", "-s", "60", "-n", `${SHORT_CONNECTIONS}`, "-c", "20", url("/")], 150_000);
    expect(ab.status, ab.stderr).toBe(0);
    expect(ab.stdout).toMatch(new RegExp(`Complete requests: +${SHORT_CONNECTIONS}\\n`));
    expect(ab.stdout).toMatch(/Failed requests: +0\n/);
  });
});
