/** Kernels in workers, on the built package: what inline tests cannot show. */
import { describe, expect, it } from "vitest";
import type * as Api from "../../src/index.ts";
import { readAll, testBytes, writeAll } from "../helpers/stacks.ts";
import { cleanUpAfterEach, startThreadedPair } from "../helpers/threadedPair.ts";

const echoApp = new URL("../fixtures/echoApp.mjs", import.meta.url);
const tuning = { memoryBytes: 64 << 20, connectionsMax: 4096 };

const cleanUp = cleanUpAfterEach();

type Message = Record<string, unknown>;

async function start(kernels: number, appArguments: Message = {}) {
  const { segment, server, client } = await startThreadedPair(cleanUp, {
    queues: kernels,
    tuning,
    server: { app: echoApp, appArguments: { port: 7, ...appArguments } },
  });
  const messages: Message[] = [];
  server.on("message", ({ data }) => messages.push(data as Message));
  const errors: { error: Error; kernelId: number; fatal: boolean }[] = [];
  server.on("error", (event) => errors.push(event));
  const connect = () => client.connect({ address: "10.7.0.2", port: 7 });
  return { segment, server, client, messages, errors, connect };
}

describe("kernels in threads", () => {
  it("accept on one socket, each its share, bytes equal", async () => {
    const { server, connect } = await start(2);
    const bytes = testBytes(50_000);
    for (let round = 0; round < 5; round++) {
      await Promise.all(
        Array.from({ length: 20 }, async () => {
          const connection = await connect();
          const [echoed] = await Promise.all([readAll(connection.readable), writeAll(connection, bytes)]);
          expect(Buffer.compare(echoed, bytes)).toBe(0);
          await connection.closed;
        }),
      );
    }
    const { kernels, queues, total } = await server.stats();
    expect(total.tcpAccepted).toBe(100);
    expect(total.tcpNoListener).toBe(0);
    for (const counters of kernels) expect(counters.tcpAccepted).toBeGreaterThan(10);
    for (const frames of queues) expect(frames).toBeGreaterThan(100);
  });

  it("carry 64 MiB through one connection", async () => {
    const { connect } = await start(1);
    const connection = await connect();
    const block = testBytes(1 << 20);
    const sending = (async () => {
      const writer = connection.writable.getWriter();
      for (let i = 0; i < 64; i++) await writer.write(block.slice());
      await writer.close();
    })();
    let received = 0;
    let differing = 0;
    for await (const chunk of connection.readable) {
      for (let i = 0; i < chunk.length; i++) if (chunk[i] !== block[(received + i) & 0xfffff]) differing++;
      received += chunk.length;
    }
    await sending;
    expect({ received, differing }).toEqual({ received: 64 << 20, differing: 0 });
  });

  it("run the application once each and share its port, but not twice in a kernel", async () => {
    const { server, messages } = await start(3, { port: 0, listenTwice: true });
    await expect.poll(() => messages.length).toBeGreaterThanOrEqual(3);
    const started = messages.filter(({ port }) => port !== undefined);
    expect(started.map(({ kernelId }) => kernelId).sort()).toEqual([0, 1, 2]);
    expect(new Set(started.map(({ port }) => port)).size).toBe(1);
    await expect(server.listen(80)).rejects.toMatchObject({ code: "ERR_NO_APPLICATION_THREAD" });
    await expect(server.connect({ address: "10.7.0.1", port: 1 })).rejects.toMatchObject({
      code: "ERR_NO_APPLICATION_THREAD",
    });
  });

  it("refuse a port to a kernel that has it", async () => {
    const { messages } = await start(2, { listenTwice: true });
    await expect.poll(() => messages.filter(({ twice }) => twice === "EADDRINUSE").length).toBe(2);
  });

  it("open connections whose replies come home", async () => {
    const { server, client, messages } = await start(2);
    await client.listen(80, {
      onConnection: ({ readable, writable }) => void readable.pipeTo(writable).catch(() => {}),
    });
    for (let i = 0; i < 10; i++) server.postMessage({ connect: { address: "10.7.0.1", port: 80 } });
    await expect.poll(() => messages.filter(({ bytes }) => bytes === 1).length, { timeout: 5000 }).toBe(20);
    const { kernels } = await server.stats();
    for (const counters of kernels) {
      expect(counters.tcpActiveOpens).toBe(10);
      expect(counters.tcpNoListener).toBe(0);
    }
  });

  it("take no turns when idle", async () => {
    const { server, connect } = await start(2);
    const connection = await connect();
    await new Promise((resolve) => setTimeout(resolve, 300));
    const polls = async () => (await server.stats()).total.polls as number;
    const before = await polls();
    await new Promise((resolve) => setTimeout(resolve, 1000));
    // Polling would make a million; protocol timers may make a few.
    expect((await polls()) - before).toBeLessThan(50);
    // And it is still there.
    await Promise.all([
      writeAll(connection, testBytes(10)),
      readAll(connection.readable).then((bytes) => expect(bytes).toEqual(testBytes(10))),
    ]);
  });

  it("refuse to start when the application does, in any kernel", async () => {
    await expect(start(2, { failAtStart: 1 })).rejects.toThrow("refuses to start");
  });

  it("report an application that dies, and go on in the others", async () => {
    const { server, errors, connect } = await start(2);
    server.postMessage({ kernelId: 1, throw: "the application's own mistake" });
    await expect.poll(() => errors.length, { timeout: 5000 }).toBe(1);
    expect(errors[0]).toMatchObject({ kernelId: 1, fatal: true, error: { message: "the application's own mistake" } });
    // Connections that the card brings to the living kernel are served.
    const connection = await connectToKernel(connect, 0);
    await Promise.all([
      writeAll(connection, testBytes(10)),
      readAll(connection.readable).then((bytes) => expect(bytes).toEqual(testBytes(10))),
    ]);
  });

  it("end when they are told to, even a kernel that hangs", async () => {
    const { server, messages } = await start(2);
    server.postMessage({ kernelId: 1, spin: true });
    await new Promise((resolve) => setTimeout(resolve, 100));
    await server.close({ drainMs: 100 });
    expect(messages).toContainEqual({ closing: 0 });
  }, 20_000);

  /** Tries until a connection is answered; those to a dead kernel are given up. */
  async function connectToKernel(connect: () => Promise<Api.Connection>, attempts: number): Promise<Api.Connection> {
    const attempt = Promise.race([
      connect(),
      new Promise<never>((_, reject) => setTimeout(() => reject(new Error("no answer")), 200)),
    ]);
    return attempt.catch((error: unknown) => {
      if (attempts === 20) throw error;
      return connectToKernel(connect, attempts + 1);
    });
  }
});
