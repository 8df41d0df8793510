import { afterEach, describe, expect, it, vi } from "vitest";
import { createSegment } from "../../../src/device/card/segment.ts";
import type { Connection } from "../../../src/socket/connection.ts";
import { createStack } from "../../../src/stack.ts";
import type { Stack, StackOptions } from "../../../src/types.ts";
import { createStackPair, readAll, testBytes, writeAll } from "../../helpers/stacks.ts";

const echoApp = new URL("../../fixtures/echoApp.mjs", import.meta.url);
const noApp = new URL("../../fixtures/noApp.mjs", import.meta.url);
const tuning = { memoryBytes: 64 << 20, connectionsMax: 1024 };

const cleanUp: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of cleanUp.splice(0).reverse()) await close();
});

async function createOne(options: Partial<StackOptions> = {}, queues = 1): Promise<Stack> {
  const segment = await createSegment({ shared: false });
  const stack = await createStack({
    device: segment.createCard({ queues }),
    address: "10.7.0.2/24",
    tuning,
    ...options,
  });
  cleanUp.push(() => stack.close({ drainMs: 0 }));
  return stack;
}

function messagesOf(stack: Stack): unknown[] {
  const messages: unknown[] = [];
  stack.on("message", ({ data }) => messages.push(data));
  return messages;
}

function nap(ms = 20): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

describe("createStack", () => {
  it.each([
    [{ address: "10.7.0.2" }, "ERR_ADDRESS_FORMAT"],
    [{ address: [] }, "ERR_OPTION_RANGE"],
    [{ address: "10.7.0.300/24" }, "ERR_ADDRESS_FORMAT"],
    [{ gateway: "10.7.0" }, "ERR_ADDRESS_FORMAT"],
    [{ gateway: "fd07::1" }, "ERR_OPTION_COMBINATION"],
    [{ mac: "02:00" }, "ERR_ADDRESS_FORMAT"],
    [{ kernels: 0 }, "ERR_OPTION_RANGE"],
    [{ kernels: 2 }, "ERR_OPTION_COMBINATION"],
    [{ mode: "magic" as "inline" }, "ERR_OPTION_RANGE"],
    [{ mode: "threads" as const }, "ERR_OPTION_COMBINATION"],
    [{ mode: "threads" as const, app: echoApp, drive: "manual" as const }, "ERR_OPTION_COMBINATION"],
    [{ tuning: { connectionsMax: -1 } }, "ERR_OPTION_RANGE"],
    [{ seed: -1 }, "ERR_OPTION_RANGE"],
    [{ app: new URL("file:///no/such/app.mjs") }, "ERR_APP_LOAD"],
    [{ app: noApp }, "ERR_APP_EXPORT"],
    // A pool that does not fit: the kernel says so at boot.
    [{ tuning: { memoryBytes: 4 << 20, connectionsMax: 1_000_000 } }, "ENOMEM"],
  ])("refuses %j with %s", async (options, code) => {
    await expect(createOne(options as Partial<StackOptions>)).rejects.toMatchObject({ code });
  });

  it("gives its queue back when it fails", async () => {
    const segment = await createSegment({ shared: false });
    const device = segment.createCard();
    await expect(createStack({ device, address: "10.7.0.2/24", tuning, app: noApp })).rejects.toThrow();
    await (await createStack({ device, address: "10.7.0.2/24", tuning })).close();
  });

  it("closes when its signal is aborted", async () => {
    const controller = new AbortController();
    const stack = await createOne({ signal: controller.signal });
    const listener = await stack.listen(80);
    const waiting = listener.accept();
    controller.abort();
    expect(await waiting).toBeUndefined();
    await expect(stack.listen(81)).rejects.toMatchObject({ code: "ERR_STACK_CLOSED" });
    await expect(createOne({ signal: AbortSignal.abort() })).rejects.toThrow("aborted");
  });
});

describe("applications inline", () => {
  it("run in every kernel, share a port, and exchange messages with the owner", async () => {
    const pair = await createStackPair({
      serverKernels: 2,
      server: { app: echoApp, appArguments: { port: 7, listenTwice: true } },
    });
    cleanUp.push(pair.close);
    const messages = messagesOf(pair.server);
    await nap();
    expect(messages).toEqual([
      { kernelId: 0, kernels: 2, port: 7 },
      { twice: "EADDRINUSE" },
      { kernelId: 1, kernels: 2, port: 7 },
      { twice: "EADDRINUSE" },
    ]);
    const connection = await pair.client.connect({ address: "10.7.0.2", port: 7 });
    await Promise.all([
      writeAll(connection, testBytes(100_000)),
      readAll(connection.readable).then((bytes) => expect(Buffer.compare(bytes, testBytes(100_000))).toBe(0)),
    ]);
    // The applications' port is taken for the owner, too.
    await expect(pair.server.listen(7)).rejects.toMatchObject({ code: "EADDRINUSE" });
  });

  it("stop the start when they throw", async () => {
    await expect(createOne({ app: echoApp, appArguments: { port: 7, failAtStart: 0 } })).rejects.toThrow(
      "refuses to start",
    );
  });

  it("go on when a listener of the stack's events throws: that is an uncaught exception, and no trap", async () => {
    const { server, client, close } = await createStackPair();
    cleanUp.push(close);
    const thrown: unknown[] = [];
    const queue = globalThis.queueMicrotask;
    const microtasks = vi.spyOn(globalThis, "queueMicrotask").mockImplementation((task) =>
      queue(() => {
        try {
          task();
        } catch (error) {
          thrown.push(error);
        }
      }),
    );
    cleanUp.push(async () => microtasks.mockRestore());
    server.on("error", ({ error }) => {
      throw error;
    });
    await server.listen(7, {
      onConnection: () => {
        throw new Error("of the application");
      },
    });
    for (let i = 1; i < 3; i++) {
      await client.connect({ address: "10.7.0.2", port: 7 });
      await expect.poll(() => thrown.length).toBe(i);
    }
    expect(thrown).toEqual(Array(2).fill(new Error("of the application")));
    expect((await server.stats()).statuses).toEqual([{ state: "up", restarts: 0 }]);
  });

  it("connect from the kernel to which the card brings the reply", async () => {
    const pair = await createStackPair({
      clientKernels: 4,
      client: { app: echoApp, appArguments: { port: 7 } },
    });
    cleanUp.push(pair.close);
    await pair.server.listen(80, {
      onConnection: ({ readable, writable }) => void readable.pipeTo(writable).catch(() => {}),
    });
    const messages = messagesOf(pair.client);
    pair.client.postMessage({ connect: { address: "10.7.0.2", port: 80 } });
    await expect
      .poll(() => messages.filter((message) => Object.hasOwn(message as object, "connected")))
      .toEqual(expect.arrayContaining([0, 1, 2, 3].map((connected) => ({ connected, bytes: 1 }))));
    expect((await pair.client.stats()).total.tcpNoListener).toBe(0);
  });
});

describe("close", () => {
  it("lets connections drain, then resets what is left", async () => {
    const pair = await createStackPair();
    cleanUp.push(pair.close);
    const listener = await pair.server.listen(7);
    const connect = async (): Promise<[Connection, Connection]> => {
      const [client, server] = await Promise.all([
        pair.client.connect({ address: "10.7.0.2", port: 7 }),
        listener.accept(),
      ]);
      return [client, server as Connection];
    };
    const [busyClient, busyServer] = await connect();
    const [idleClient] = await connect();
    const closing = pair.server.close({ drainMs: 300 });
    await expect(pair.client.connect({ address: "10.7.0.2", port: 7 })).rejects.toMatchObject({ code: "ECONNREFUSED" });
    await writeAll(busyServer, testBytes(100_000));
    expect((await readAll(busyClient.readable)).length).toBe(100_000);
    await writeAll(busyClient);
    await readAll(busyServer.readable);
    await busyServer.closed;
    await closing;
    await expect(idleClient.closed).rejects.toMatchObject({ code: "ECONNRESET" });
  });

  it("is the same whoever calls it, and says that it has happened", async () => {
    const stack = await createOne();
    let closed = 0;
    stack.on("close", () => closed++);
    await Promise.all([stack.close(), stack.close(), stack[Symbol.asyncDispose]()]);
    expect(closed).toBe(1);
  });
});

describe("drive: manual", () => {
  /** An exchange in virtual time over a lossy link; everything that could differ, as one text. */
  async function run(seed: number): Promise<string> {
    const pair = await createStackPair({
      segment: { seed, impairments: { delayNs: 5e6, lossPpm: 60_000 } },
      client: { drive: "manual", seed },
      server: { drive: "manual", seed: seed + 1 },
    });
    const stacks = [pair.client, pair.server];
    const [client, server] = stacks.map(({ kernels }) => kernels[0]?.handles);
    if (!client || !server) throw new Error("no kernels");
    const listener = server.listen(7);
    const received: number[] = [];
    let nowNs = 1e9;
    const connection = client.connect(Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 10, 7, 0, 2), 7);
    expect(connection).toBeGreaterThanOrEqual(0);
    const source = client.alloc(200_000);
    client.bytes.set(testBytes(200_000), source);
    let sent = 0;
    let accepted = -1;
    for (let turns = 0; received.length < 200_000 && turns < 100_000; turns++) {
      const busy = stacks.map((stack) => stack.turn(nowNs)).includes(true);
      if (accepted < 0) accepted = server.accept(listener);
      const taken = client.send(connection, source + sent, 200_000 - sent);
      if (taken > 0) sent += taken;
      for (let at = server.peek(accepted); accepted >= 0 && at > 0; at = server.peek(accepted)) {
        for (const byte of server.bytes.subarray(at, at + server.available)) received.push(byte);
        server.consume(accepted, server.available);
      }
      if (!busy)
        nowNs = Math.max(nowNs + 1000, Math.min(...stacks.map((stack) => stack.nextDeadlineNs()), nowNs + 1e9));
    }
    expect(Uint8Array.from(received)).toEqual(testBytes(200_000));
    const stats = await Promise.all(stacks.map((stack) => stack.stats()));
    await pair.close();
    return JSON.stringify({ nowNs, totals: stats.map(({ total }) => total) });
  }

  it("gives the same result, to the frame, for the same seed", async () => {
    const first = await run(11);
    expect(JSON.parse(first).totals[0].tcpRetransmits).toBeGreaterThan(0);
    expect(await run(11)).toBe(first);
    expect(await run(12)).not.toBe(first);
  });
});
