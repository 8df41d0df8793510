/**
 * Real programs against `netpopcorn serve` on a TAP: ping, curl, plain Linux sockets, ab and wrk.
 * The application contract is that of src/cli/apps: http, echo, discard, chargen.
 */
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, expect, type TestContext, test } from "vitest";
import { missing, Namespace } from "../helpers/namespace.ts";
import { SERVER, Served, type ServeOptions } from "../helpers/serve.ts";
import { contentOf, sha256Of } from "../helpers/content.ts";

const MEBIBYTE = 1 << 20;
const BODY_BYTES = 100 * MEBIBYTE;
const SHORT_CONNECTIONS = 10_000;
const SOCKET_CLIENT = fileURLToPath(new URL("../helpers/socketClient.mjs", import.meta.url));

let namespace: Namespace;
let folder: string;
let served: Served | undefined;

/** Skips the test, with the reason, where it cannot run. */
function need(context: TestContext, ...programs: string[]): void {
  const reason = missing(...programs);
  if (reason !== undefined) context.skip(reason);
}

beforeEach(async (context) => {
  need(context, "ping");
  namespace = new Namespace();
  folder = await mkdtemp(join(tmpdir(), "netpopcorn-"));
});

afterEach(async () => {
  await served?.[Symbol.asyncDispose]();
  served = undefined;
  await namespace?.[Symbol.asyncDispose]();
  if (folder) await rm(folder, { recursive: true, force: true });
});

async function serve(options: Partial<ServeOptions> = {}): Promise<Served> {
  served = await Served.start(namespace, { app: "http", port: 80, ...options });
  return served;
}

const url = (path: string): string => `http://${SERVER}${path}`;

describe("ping", () => {
  test.each([
    { what: "small packets", parameters: ["-c", "200", "-i", "0.002"], count: 200 },
    { what: "full frames", parameters: ["-c", "100", "-i", "0.002", "-s", "1472", "-M", "do"], count: 100 },
    { what: "fragments", parameters: ["-c", "50", "-i", "0.005", "-s", "20000"], count: 50 },
  ])("0 % loss with $what", async ({ parameters, count }) => {
    await serve();
    const ping = await namespace.run("ping", [...parameters, "-W", "5", SERVER]);
    expect(ping.stdout).toContain(`${count} received, 0% packet loss`);
  });
});

describe("curl", () => {
  test("fetches 100 MiB with equal SHA-256", async (context) => {
    need(context, "curl");
    await serve();
    const file = join(folder, "body");
    const curl = await namespace.run("curl", ["-sS", "--fail", "-o", file, url(`/bytes/${BODY_BYTES}`)], 120_000);
    expect(curl).toMatchObject({ status: 0, stderr: "" });
    expect(sha256Of(await readFile(file))).toBe(sha256Of(contentOf(BODY_BYTES)));
  });

  test.for([
    { method: "PUT", parameters: ["-T"], mark: "" },
    { method: "POST", parameters: ["--data-binary"], mark: "@" },
    { method: "PUT in chunks", parameters: ["-H", "Transfer-Encoding: chunked", "-T"], mark: "" },
  ])("sends 100 MiB by $method with equal SHA-256", async ({ parameters, mark }, context) => {
    need(context, "curl");
    await serve();
    const file = join(folder, "body");
    const body = contentOf(BODY_BYTES);
    await writeFile(file, body);
    const curl = await namespace.run("curl", ["-sS", "--fail", ...parameters, mark + file, url("/sha256")], 120_000);
    expect(curl).toMatchObject({ status: 0, stderr: "" });
    expect(curl.stdout.trim()).toBe(sha256Of(body));
  });

  test("both kernels answer", async (context) => {
    need(context, "curl");
    await serve();
    const urls = Array.from({ length: 40 }, () => url("/kernel"));
    const curl = await namespace.run("curl", ["-sS", "--fail", "-H", "Connection: close", "-w", "\n", ...urls]);
    expect(curl).toMatchObject({ status: 0, stderr: "" });
    const answers = curl.stdout.split("\n").filter((line) => line !== "");
    expect(answers).toHaveLength(urls.length);
    expect(new Set(answers.map((line) => (JSON.parse(line) as { kernel: number }).kernel))).toEqual(new Set([0, 1]));
  });
});

describe("plain Linux sockets", () => {
  /** @returns what each connection has counted. */
  async function client(
    role: string,
    port: number,
    connections: number,
    bytes: number,
  ): Promise<{ sent: number; received: number }[]> {
    const parameters = [SOCKET_CLIENT, role, SERVER, `${port}`, `${connections}`, `${bytes}`];
    const run = await namespace.run(process.execPath, parameters, 120_000);
    expect(run).toMatchObject({ status: 0, stderr: "" });
    return JSON.parse(run.stdout) as { sent: number; received: number }[];
  }

  test.each([1, 8])("bulk to the stack: 200 MiB on %i connections, all taken", async (connections) => {
    await serve({ app: "discard", port: 9 });
    const bytes = (200 * MEBIBYTE) / connections;
    // The server closes after our FIN only when it has read all that came before it.
    for (const each of await client("send", 9, connections, bytes)) expect(each).toEqual({ sent: bytes, received: 0 });
  });

  test.each([1, 8])(
    "bulk from the stack: 200 MiB on %i connections, each byte as RFC 864 says",
    async (connections) => {
      await serve({ app: "chargen", port: 19 });
      const bytes = (200 * MEBIBYTE) / connections;
      for (const each of await client("chargen", 19, connections, bytes))
        expect(each.received).toBeGreaterThanOrEqual(bytes);
    },
  );

  test("both ways at once: 50 MiB on 8 connections come back equal", async () => {
    await serve({ app: "echo", port: 7 });
    const bytes = (50 * MEBIBYTE) / 8;
    for (const each of await client("echo", 7, 8, bytes)) expect(each).toEqual({ sent: bytes, received: bytes });
  });
});

describe("10,000 short connections", () => {
  test("ab: no failed request", async (context) => {
    need(context, "ab");
    await serve();
    const ab = await namespace.run("ab", ["-q", "-n", `${SHORT_CONNECTIONS}`, "-c", "100", url("/")], 120_000);
    expect(ab.status, ab.stderr).toBe(0);
    expect(ab.stdout).toMatch(new RegExp(`Complete requests: +${SHORT_CONNECTIONS}\\n`));
    expect(ab.stdout).toMatch(/Failed requests: +0\n/);
    expect(ab.stdout).not.toMatch(/Non-2xx/);
  });

  test("wrk: no failed request", async (context) => {
    need(context, "wrk");
    await serve();
    // wrk counts seconds, not requests.
    let requests = 0;
    for (let round = 0; round < 15 && requests < SHORT_CONNECTIONS; round += 1) {
      const parameters = ["-t2", "-c100", "-d2s", "--timeout", "10s", "-H", "Connection: close", url("/")];
      const wrk = await namespace.run("wrk", parameters);
      expect(wrk.status, wrk.stderr).toBe(0);
      expect(wrk.stdout).not.toMatch(/Socket errors|Non-2xx/);
      requests += Number(/(\d+) requests in/.exec(wrk.stdout)?.[1]);
    }
    expect(requests).toBeGreaterThanOrEqual(SHORT_CONNECTIONS);
  });

  test("wrk with keep-alive on 256 connections: no failed request", async (context) => {
    need(context, "wrk");
    await serve();
    const wrk = await namespace.run("wrk", ["-t2", "-c256", "-d3s", "--timeout", "10s", url("/")]);
    expect(wrk.status, wrk.stderr).toBe(0);
    expect(wrk.stdout).not.toMatch(/Socket errors|Non-2xx/);
    expect(Number(/(\d+) requests in/.exec(wrk.stdout)?.[1])).toBeGreaterThan(0);
  });
});

describe("start and end", () => {
  test("SIGINT ends it cleanly: status 0, statistics, device gone", async (context) => {
    need(context, "curl");
    const server = await serve();
    const curl = await namespace.run("curl", ["-sS", "--fail", url("/")]);
    expect(curl.status, curl.stderr).toBe(0);
    const { status, stdout, stderr } = await server.interrupt();
    expect(stderr).toBe("");
    expect(status).toBe(0);
    expect(stdout).toMatch(/^ready/m);
    expect(namespace.ip("link", "show")).not.toMatch(/pop0/);
  });

  test("a name in use is refused in one line", async () => {
    await serve();
    const cli = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url));
    const second = await namespace.run(process.execPath, [cli, "serve", "--tap", "pop0", "--address", "10.7.0.3/24"]);
    expect(second.status).not.toBe(0);
    expect(second.stdout).toBe("");
    expect(second.stderr).toMatch(/^netpopcorn: EBUSY: .*\n$/);
  });
});

describe("capture", () => {
  test("tshark finds no malformed packet and no bad checksum", async (context) => {
    need(context, "tshark", "curl");
    const file = join(folder, "capture.pcapng");
    const server = await serve({ pcap: file });
    const ping = await namespace.run("ping", ["-c", "20", "-i", "0.01", "-s", "3000", SERVER]);
    expect(ping.stdout).toContain("20 received, 0% packet loss");
    const upload = join(folder, "upload");
    await writeFile(upload, contentOf(MEBIBYTE));
    const curl = await namespace.run("curl", [
      "-sS",
      "--fail",
      "-T",
      upload,
      url("/sha256"),
      "-o",
      "/dev/null",
      url(`/bytes/${MEBIBYTE}`),
    ]);
    expect(curl).toMatchObject({ status: 0, stderr: "" });
    const { status, stderr } = await server.interrupt();
    expect(status, stderr).toBe(0);

    const checks = ["ip", "tcp", "udp"].flatMap((protocol) => ["-o", `${protocol}.check_checksum:TRUE`]);
    const fieldsOf = async (filter: string, field: string): Promise<string[]> => {
      const parameters = ["-r", file, ...checks, "-Y", filter, "-T", "fields", "-e", field];
      const tshark = await namespace.run("tshark", parameters);
      expect(tshark.status, tshark.stderr).toBe(0);
      return tshark.stdout.split("\n").filter((line) => line !== "");
    };
    const count = async (filter: string): Promise<number> => (await fieldsOf(filter, "frame.number")).length;
    // Status: 0 bad, 1 good, 2 unverified.
    const bad = ["ip", "tcp", "udp", "icmp"].map((protocol) => `${protocol}.checksum.status == 0`).join(" || ");
    expect(await count(bad)).toBe(0);
    expect(await count("_ws.malformed")).toBe(0);
    expect(await count("tcp.checksum.status == 1")).toBe(await count("tcp"));
    for (const direction of ["tcp.dstport", "tcp.srcport"]) {
      const lengths = await fieldsOf(`${direction} == 80 && !tcp.analysis.retransmission`, "tcp.len");
      expect(lengths.reduce((sum, length) => sum + Number(length), 0)).toBeGreaterThan(MEBIBYTE);
    }
    expect(await count("icmp.type == 8")).toBe(20);
    expect(await count("icmp.type == 0")).toBe(20);
  });
});
