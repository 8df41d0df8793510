/** Server files that know nothing of this stack, in every kernel: over a segment, and over a TAP with curl. */
import http from "node:http";
import { writeFile, mkdtemp, rm } from "node:fs/promises";
import type net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import type * as Api from "../../src/index.ts";
import type * as NetApi from "../../src/net/index.ts";
import { importBuilt } from "../helpers/dist.ts";
import { missing, Namespace } from "../helpers/namespace.ts";
import { SERVER, Served } from "../helpers/serve.ts";
import { cleanUpAfterEach, startThreadedPair } from "../helpers/threadedPair.ts";

const { createNet } = await importBuilt<typeof NetApi>("net/index.js");
const APP = new URL("../fixtures/expressServer.cjs", import.meta.url);
const KERNELS = 2;
const tuning = { memoryBytes: 64 << 20, connectionsMax: 4096 };

const cleanUp = cleanUpAfterEach();

describe("an express file, unmodified, in kernels of their own threads", () => {
  it("answers from each of them", async () => {
    const { server, client } = await startThreadedPair(cleanUp, { queues: KERNELS, tuning, server: { app: APP } });
    const errors: Error[] = [];
    server.on("error", ({ error }) => errors.push(error));
    const { connect } = createNet(client);
    const get = (path: string) =>
      new Promise<string>((resolve, reject) => {
        const createConnection = () => connect(80, "10.7.0.2") as net.Socket;
        const request = http.get({ host: "10.7.0.2", path, createConnection }, async (response) => {
          response.setEncoding("utf8");
          let text = "";
          for await (const part of response) text += part;
          resolve(text);
        });
        request.on("error", reject);
      });
    const threads = new Set<number>();
    for (let i = 0; i < 40; i++) {
      const { thread, from } = JSON.parse(await get("/thread")) as { thread: number; from: string };
      expect(from).toBe("10.7.0.1");
      threads.add(thread);
    }
    expect(threads.size).toBe(KERNELS);
    expect(errors).toEqual([]);
  });

  it("answers curl over a TAP", async (context) => {
    const reason = missing("curl");
    if (reason !== undefined) context.skip(reason);
    const namespace = new Namespace();
    cleanUp.push(() => namespace[Symbol.asyncDispose]());
    const served = await Served.start(namespace, { app: fileURLToPath(APP), port: 80, kernels: KERNELS });
    cleanUp.push(() => served[Symbol.asyncDispose]());
    const url = (path: string) => `http://${SERVER}${path}`;
    const urls = Array.from({ length: 40 }, () => url("/thread"));
    const curl = await namespace.run("curl", ["-sS", "--fail", "-H", "Connection: close", "-w", "\n", ...urls]);
    expect(curl).toMatchObject({ status: 0, stderr: "" });
    const threads = curl.stdout.split("\n").filter((line) => line !== "");
    expect(threads).toHaveLength(urls.length);
    expect(new Set(threads.map((line) => (JSON.parse(line) as { thread: number }).thread)).size).toBe(KERNELS);
    const folder = await mkdtemp(join(tmpdir(), "netpopcorn-"));
    cleanUp.push(() => rm(folder, { recursive: true, force: true }));
    const body = join(folder, "body");
    await writeFile(body, Buffer.alloc(5_000_000, "x"));
    const post = await namespace.run("curl", ["-sS", "--fail", "--data-binary", `@${body}`, url("/count")]);
    expect(post).toMatchObject({ status: 0, stderr: "", stdout: "5000000" });
    const { status, stdout } = await served.interrupt();
    expect(status).toBe(0);
    // The kernels' own counters say the same.
    expect(stdout).toMatch(new RegExp(`^tcpAccepted  ${Array(KERNELS).fill("[1-9][0-9]*").join(" \\+ ")} = `, "m"));
    expect(stdout).not.toMatch(/lateFramesForwarded|softwareSteered/);
  });
});

/** The file in every kernel of a stack in threads, and a stack to ask it from. */
async function serve(file: string): Promise<{ client: Api.Stack; server: Api.Stack }> {
  const app = new URL(`../fixtures/${file}`, import.meta.url);
  return startThreadedPair(cleanUp, { queues: KERNELS, tuning, server: { app } });
}

/** @returns the answer to a datagram. */
async function ask(client: Api.Stack, text: string): Promise<string> {
  const socket = await client.bindUdp(0);
  socket.send(new TextEncoder().encode(text), { address: "10.7.0.2", port: 7 });
  return new TextDecoder().decode((await socket.receive())?.data);
}

describe("a program with only its imports changed, without a default export", () => {
  it.each([
    { file: "importsChanged.mjs", tcp: true },
    { file: "datagramsOnly.mjs", tcp: false },
  ])("$file answers", async ({ file, tcp }) => {
    const { client, server } = await serve(file);
    expect(await ask(client, "ping")).toBe("ping");
    if (!tcp) {
      // One port, and whichever kernel the card brings a datagram to answers it.
      for (let i = 0; i < 40; i++) expect(await ask(client, `${i}`)).toBe(`${i}`);
      for (const { udpReceived } of (await server.stats()).kernels) expect(udpReceived).toBeGreaterThan(0);
      return;
    }
    const { readable, writable } = await client.connect({ address: "10.7.0.2", port: 7 });
    const writer = writable.getWriter();
    await writer.write(new TextEncoder().encode("hello"));
    await writer.close();
    expect(await new Response(readable).text()).toBe("hello");
  });

  it("keeps no account of what it opens once it has started", async () => {
    expect(await ask((await serve("opensLater.mjs")).client, "how many")).toBe("0");
  });
});

it("a default export is called, whatever sockets of netpopcorn/… the module has opened before", async () => {
  expect(await ask((await serve("opensAtImport.mjs")).client, "ping")).toBe("ping");
});

it.each(["in a row", "after an await", "both before either listens"])(
  "servers that close and listen again %s, in kernels of their own threads, refuse nobody meanwhile",
  async (way) => {
    const ports = [80, 81];
    const app = new URL("../fixtures/relistenServer.mjs", import.meta.url);
    const options = { app, appArguments: { ports }, balancer: "static" as const };
    const { server, client } = await startThreadedPair(cleanUp, { queues: KERNELS, tuning, server: options });
    const { connect } = createNet(client);
    let again = 0;
    server.on("message", () => again++);
    const codes: (string | undefined)[] = [];
    let served = 0;
    let isBusy = true;
    const visit = async (port: number) => {
      while (isBusy) {
        await new Promise<void>((resolve) => {
          const socket = connect(port, "10.7.0.2") as net.Socket;
          socket.on("error", ({ code }: NodeJS.ErrnoException) => codes.push(code));
          socket.on("end", () => served++);
          socket.on("close", () => resolve());
          socket.resume();
        });
      }
    };
    const visits = Array.from({ length: 16 }, (_, i) => visit(ports[i % ports.length] as number));
    for (let round = 1; round <= 50; round++) {
      server.postMessage(way);
      await expect.poll(() => again, { timeout: 10_000, interval: 1 }).toBe(round * KERNELS);
    }
    isBusy = false;
    await Promise.all(visits);
    expect(codes).toEqual([]);
    expect(served).toBeGreaterThan(16);
  },
  60_000,
);
