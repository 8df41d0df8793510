/** Live migration between kernels in workers, on the built package: over the model card, and against Linux over TAP. */
import { createHash } from "node:crypto";
import { beforeEach, describe, expect, it } from "vitest";
import type * as Api from "../../src/index.ts";
import { importBuilt } from "../helpers/dist.ts";
import { exited, missing, Namespace } from "../helpers/namespace.ts";
import { readAll, testBytes } from "../helpers/stacks.ts";
import { cleanUpAfterEach, startThreadedPair } from "../helpers/threadedPair.ts";

const { createStack, openTap } = await importBuilt<typeof Api>("index.js");
const echoApp = new URL("../../dist/cli/apps/echo.js", import.meta.url);
const httpApp = new URL("../../dist/cli/apps/http.js", import.meta.url);
const streamsApp = new URL("../fixtures/echoApp.mjs", import.meta.url);
const tuning = { memoryBytes: 64 << 20, connectionsMax: 4096 };
const KERNELS = 3;

const cleanUp = cleanUpAfterEach();

function startPair(app: URL) {
  const server = { app, appArguments: { port: 7 }, balancer: "static" } as const;
  return startThreadedPair(cleanUp, { queues: KERNELS, tuning, server });
}

describe("kernels in threads", () => {
  it("streams go on while their groups move from kernel to kernel, and no peer sees a reset", async () => {
    const { server, client } = await startPair(echoApp);
    const connections = await Promise.all(
      Array.from({ length: 6 }, () => client.connect({ address: "10.7.0.2", port: 7 })),
    );
    const block = testBytes(100_000);
    let moving = true;
    const sums = connections.map(async (connection) => {
      const sent = createHash("sha256");
      const sending = (async () => {
        const writer = connection.writable.getWriter();
        for (let i = 0; moving; i++) {
          const piece = block.slice(i % 1000, 60_000 + (i % 7919));
          sent.update(piece);
          await writer.write(piece);
        }
        await writer.close();
      })();
      const got = createHash("sha256");
      let bytes = 0;
      for await (const chunk of connection.readable) {
        got.update(chunk);
        bytes += chunk.length;
      }
      await sending;
      return { equal: got.digest("hex") === sent.digest("hex"), bytes };
    });
    const figures: Api.MigrationResult[] = [];
    for (let round = 0; round < 12; round++) {
      const { localPort } = connections[round % 6] as (typeof connections)[0];
      figures.push(await server.migrate(localPort & 4095, (round + (round % 5)) % KERNELS));
    }
    moving = false;
    for (const { equal, bytes } of await Promise.all(sums)) {
      expect(equal).toBe(true);
      expect(bytes).toBeGreaterThan(1_000_000);
    }
    const moved = figures.reduce((sum, { connections: count }) => sum + count, 0);
    expect(moved).toBeGreaterThanOrEqual(8);
    const { total } = await server.stats();
    expect(total).toMatchObject({ tcpRstSent: 0, migratedIn: moved, migratedOut: moved, migrationLost: 0 });
    expect((await client.stats()).total.tcpRstReceived).toBe(0);
  });

  it("applications whose closures cannot follow keep their groups", async () => {
    const { server, client } = await startPair(streamsApp);
    const connection = await client.connect({ address: "10.7.0.2", port: 7 });
    const echoed = readAll(connection.readable);
    const group = connection.localPort & 4095;
    const refusals = await Promise.allSettled([0, 1, 2].map((kernelId) => server.migrate(group, kernelId)));
    // The one that has it already has nothing to move.
    expect(refusals.filter(({ status }) => status === "fulfilled").length).toBe(1);
    for (const refusal of refusals) {
      if (refusal.status === "rejected") expect(refusal.reason).toMatchObject({ code: "ERR_MIGRATION_PINNED" });
    }
    const writer = connection.writable.getWriter();
    await writer.write(testBytes(1000));
    await writer.close();
    expect((await echoed).length).toBe(1000);
  });

  it("a move whose kernel dies is refused, and the stream goes on", async () => {
    const { server, client, device } = await startPair(echoApp);
    server.on("error", () => {});
    const connection = await client.connect({ address: "10.7.0.2", port: 7 });
    const group = connection.localPort & 4095;
    await server.migrate(group, 0);
    for (let round = 0; round < 3; round++) {
      const move = server.migrate(group, 1);
      server.killKernel(1);
      const outcome = await move.then(
        () => "moved",
        ({ code }) => code,
      );
      if (outcome === "moved") break;
      expect(outcome).toBe("ERR_KERNEL_DOWN");
      expect(device.flowGroupQueue(group)).toBe(0);
      const writer = connection.writable.getWriter();
      await writer.write(testBytes(5000));
      writer.releaseLock();
      const reader = connection.readable.getReader();
      for (let bytes = 0; bytes < 5000; ) bytes += (await reader.read()).value?.length ?? 5000;
      reader.releaseLock();
      await expect.poll(async () => (await server.stats()).statuses[1]?.state, { timeout: 10_000 }).toBe("up");
    }
  });
});

/** Sends random bytes until it is told to stop, or reads; prints the sums of what it has sent and got. */
const LINUX_CLIENT = `
  const net = require("node:net"), crypto = require("node:crypto");
  const [mode, host, port, localPort] = process.argv.slice(1);
  const sent = crypto.createHash("sha256"), got = crypto.createHash("sha256");
  let bytes = 0, stopped = false;
  const socket = net.connect({ host, port: Number(port), localPort: Number(localPort) });
  const block = crypto.randomBytes(1 << 16);
  const pump = () => {
    while (!stopped) {
      block.writeUInt32LE(crypto.randomInt(1 << 30), 0);
      const piece = Buffer.from(block);
      sent.update(piece);
      if (!socket.write(piece)) return;
    }
    socket.end();
  };
  socket.on("connect", () => {
    console.log("connected");
    if (mode === "echo") pump();
    else socket.write("GET /bytes/" + mode + " HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n");
  });
  socket.on("drain", () => mode === "echo" && pump());
  let head = mode === "echo" ? undefined : "";
  socket.on("data", (chunk) => {
    if (head !== undefined) {
      head += chunk.toString("latin1");
      const end = head.indexOf("\\r\\n\\r\\n");
      if (end < 0) return;
      chunk = Buffer.from(head.slice(end + 4), "latin1");
      head = undefined;
    }
    got.update(chunk);
    bytes += chunk.length;
    // As fast as a slow disk: the transfer must outlast the moves.
    if (mode !== "echo" && !stopped) { socket.pause(); setTimeout(() => socket.resume(), 1); }
  });
  process.stdin.on("data", () => { stopped = true; pump(); });
  socket.on("error", (error) => { console.log(JSON.stringify({ error: error.message })); process.exit(1); });
  socket.on("close", () => {
    console.log(JSON.stringify({ sent: sent.digest("hex"), got: got.digest("hex"), bytes }));
    process.exit(0);
  });
`;

describe("over TAP", () => {
  let namespace: Namespace;

  beforeEach((context) => {
    const reason = missing("ping");
    if (reason !== undefined) context.skip(reason);
    namespace = new Namespace();
    cleanUp.push(() => namespace[Symbol.asyncDispose]());
  });

  async function serve(app: URL, port: number) {
    const device = await openTap({ name: "pop0", queues: KERNELS, netns: namespace.name, hostAddress: "10.7.0.1/24" });
    cleanUp.push(() => device.close());
    const server = await createStack({
      mode: "threads",
      device,
      address: "10.7.0.2/24",
      app,
      appArguments: { port },
      balancer: "static",
      tuning,
    });
    cleanUp.push(() => server.close({ drainMs: 0 }));
    return { device, server };
  }

  /** @returns what it prints, line by line; "connected" has been printed. */
  async function connectLinux(mode: string, port: number, localPort: number) {
    const child = namespace.start(process.execPath, ["-e", LINUX_CLIENT, mode, "10.7.0.2", `${port}`, `${localPort}`], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    let printed = "";
    child.stdout?.setEncoding("utf8").on("data", (text: string) => {
      printed += text;
    });
    await expect.poll(() => printed, { timeout: 10_000 }).toContain("connected");
    return {
      stop: () => child.stdin?.write("stop\n"),
      result: async () => {
        await exited(child);
        return JSON.parse(printed.trim().split("\n").at(-1) as string) as Record<string, unknown>;
      },
    };
  }

  it("a group's next connections land on the kernel that it was moved to", async () => {
    const { server } = await serve(echoApp, 7);
    const accepted = async () => (await server.stats()).kernels.map(({ tcpAccepted = 0 }) => tcpAccepted);
    const ports = [40_000, 44_096, 48_192, 52_288];
    for (const [round, to] of [2, 0, 1].entries()) {
      await server.migrate(40_000 & 4095, to);
      const before = await accepted();
      for (const port of ports) {
        // TIME-WAIT is at our end: ports can be used again.
        const client = await connectLinux("echo", 7, port + round);
        client.stop();
        await client.result();
      }
      const grown = (await accepted()).map((count, kernelId) => count - (before[kernelId] as number));
      if (round === 0) expect(grown).toEqual([0, 1, 2].map((kernelId) => (kernelId === to ? ports.length : 0)));
      await server.migrate((40_000 + round + 1) & 4095, [0, 1][round] ?? 0);
    }
  });

  it("a transfer in both directions survives ten moves, with equal checksums", async () => {
    const { server } = await serve(echoApp, 7);
    const client = await connectLinux("echo", 7, 41_000);
    const moves: Api.MigrationResult[] = [];
    for (let round = 0; round < 10; round++) moves.push(await server.migrate(41_000 & 4095, (round + 1) % KERNELS));
    client.stop();
    const { sent, got, bytes } = await client.result();
    expect(got).toBe(sent);
    expect(bytes).toBeGreaterThan(10_000_000);
    expect(moves.filter(({ connections }) => connections === 1).length).toBeGreaterThanOrEqual(9);
    const { total } = await server.stats();
    expect(total).toMatchObject({ tcpRstSent: 0, migrationLost: 0 });
  });

  it("a download survives ten moves, with an equal checksum", async () => {
    const { server } = await serve(httpApp, 80);
    const size = 64 << 20;
    const client = await connectLinux(`${size}`, 80, 42_000);
    const moves: Api.MigrationResult[] = [];
    for (let round = 0; round < 10; round++) moves.push(await server.migrate(42_000 & 4095, (round + 1) % KERNELS));
    client.stop();
    const content = Buffer.alloc(65_536, Buffer.from(Uint8Array.from({ length: 65_536 }, (_, i) => i * 31 + (i >> 8))));
    const wanted = createHash("sha256");
    for (let at = 0; at < size; at += content.length) wanted.update(content);
    expect(await client.result()).toMatchObject({ got: wanted.digest("hex"), bytes: size });
    expect(moves.filter(({ connections }) => connections === 1).length).toBeGreaterThanOrEqual(9);
    expect((await server.stats()).total.tcpRstSent).toBe(0);
  });
});
