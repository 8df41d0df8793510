/** Kernels that join and leave a running inline stack: nobody else's connections notice. */
import { afterEach, describe, expect, it, vi } from "vitest";
import type { Card, CardOptions } from "../../../src/device/card/card.ts";
import { createSegment, type Segment } from "../../../src/device/card/segment.ts";
import { ADDRESS_ANY, ADDRESS_ANY_V4 } from "../../../src/layout/config.ts";
import { INFO_SND_MSS_BYTES } from "../../../src/layout/option.ts";
import type { Connection } from "../../../src/socket/connection.ts";
import { createStack } from "../../../src/stack.ts";
import type { KernelEvent, Stack, StackOptions } from "../../../src/types.ts";
import { readAll, testBytes, writeAll } from "../../helpers/stacks.ts";

const TUNING = { memoryBytes: 64 << 20, connectionsMax: 4096 };
const echoApp = new URL("../../fixtures/echoApp.mjs", import.meta.url);

const cleanUp: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of cleanUp.splice(0).reverse()) await close();
});

type Setup = { segment: Segment; card: Card; server: Stack; client: Stack; events: KernelEvent[] };

async function setUp(kernels: number, kernelsMax: number, own: Partial<StackOptions> = {}, card: CardOptions = {}) {
  const segment = await createSegment({ shared: false, portsMax: 8 });
  const device = segment.createCard({ queues: kernelsMax, ...card });
  const server = await createStack({ device, address: "10.7.0.2/24", kernels, kernelsMax, tuning: TUNING, ...own });
  const client = await createStack({ device: segment.createCard(), address: "10.7.0.1/24", tuning: TUNING });
  cleanUp.push(
    () => segment.close(),
    () => server.close({ drainMs: 0 }),
    () => client.close({ drainMs: 0 }),
  );
  const events: KernelEvent[] = [];
  server.on("kernel", (event) => events.push(event));
  return { segment, card: device, server, client, events } satisfies Setup;
}

function entriesOf({ placement, capabilities }: Card): number[] {
  const entries = new Array<number>(capabilities.queues).fill(0);
  for (let entry = 0; entry < placement.entries; entry++) {
    const queue = placement.queueOf(entry);
    if (queue !== undefined) entries[queue] = (entries[queue] as number) + 1;
  }
  return entries;
}

const echo = (stack: Stack) =>
  stack.listen(7, { onConnection: ({ readable, writable }) => void readable.pipeTo(writable).catch(() => {}) });
const connectTo = ({ client }: Setup) => client.connect({ address: "10.7.0.2", port: 7 });

async function exchange(connection: Connection, bytes = testBytes(5000)): Promise<void> {
  const [echoed] = await Promise.all([readAll(connection.readable), writeAll(connection, bytes)]);
  expect(Buffer.compare(echoed, bytes)).toBe(0);
  await connection.closed;
}

/** Clients know of their connections before the server's kernels do. */
const allAccepted = (setup: Setup, count: number) =>
  expect.poll(async () => (await setup.server.stats()).total.tcpAccepted).toBe(count);
const mssOf = ({ kernels }: Stack, { kernelId, handle }: Connection): number | undefined => {
  const { handles } = kernels[kernelId] as (typeof kernels)[0];
  return handles.words[(handles.info(handle) + INFO_SND_MSS_BYTES) >> 2];
};
const acceptedBy = async ({ server }: Setup) => (await server.stats()).kernels.map(({ tcpAccepted }) => tcpAccepted);

describe("a kernel that is added", () => {
  it("gets the listeners and its share, and nobody's connections notice", async () => {
    const setup = await setUp(2, 4);
    await echo(setup.server);
    expect(entriesOf(setup.card).slice(2)).toEqual([0, 0]);
    expect(setup.server.kernelCount).toBe(2);
    const before = await Promise.all(Array.from({ length: 30 }, () => connectTo(setup)));
    expect(await setup.server.addKernel()).toBe(2);
    expect(await setup.server.addKernel()).toBe(3);
    expect((await setup.server.stats()).statuses.at(-1)).toEqual({ state: "up", restarts: 0 });
    expect(setup.server.kernelCount).toBe(4);
    expect(setup.events.map(({ kernelId, state, reason }) => [kernelId, state, reason])).toEqual([
      [2, "up", "added"],
      [3, "up", "added"],
    ]);
    for (const connection of before) await exchange(connection);
    await expect.poll(() => Math.min(...entriesOf(setup.card)), { timeout: 5000 }).toBeGreaterThan(100);
    for (let i = 0; i < 60; i++) await exchange(await connectTo(setup));
    for (const accepted of await acceptedBy(setup)) expect(accepted).toBeGreaterThan(3);
    await expect(setup.server.addKernel()).rejects.toMatchObject({ code: "ERR_KERNELS_MAX" });
  });

  it("runs the application, which listens in it on the same port", async () => {
    const setup = await setUp(1, 2, { app: echoApp, appArguments: { port: 7 } });
    await setup.server.addKernel();
    for (let i = 0; i < 40; i++) await exchange(await connectTo(setup));
    for (const accepted of await acceptedBy(setup)) expect(accepted).toBeGreaterThan(3);
  });

  it("listens as the others do, on what they have opened since they started", async () => {
    const app = new URL("../../fixtures/lateApp.mjs", import.meta.url);
    const setup = await setUp(1, 2, { app, address: ["10.7.0.2/24", "fd07::2/64"] });
    const { server } = setup;
    const news: unknown[] = [];
    server.on("message", ({ data }) => news.push(data));
    const errors: unknown[] = [];
    server.on("error", ({ error }) => errors.push(error));
    // Announced with the SYN-ACK; timestamps take twelve of it.
    const socketOptions = { TCP_MAXSEG: 600 };
    server.postMessage({ port: { port: 7, address: "0.0.0.0", socketOptions } });
    server.postMessage({ port: { port: 7, address: "::", ipv6Only: true, socketOptions } });
    await expect.poll(() => news).toHaveLength(2);
    await server.addKernel();
    expect(news.slice(2)).toEqual(Array(2).fill({ joined: 7, kernelId: 1 }));
    for (let i = 0; i < 40; i++) {
      const connection = await connectTo(setup);
      expect(mssOf(setup.client, connection)).toBe(600 - 12);
      await exchange(connection);
    }
    for (const accepted of await acceptedBy(setup)) expect(accepted).toBeGreaterThan(3);
    expect(errors).toEqual([]);
  });

  it("starts although it cannot listen as others do, and says so", async () => {
    const app = new URL("../../fixtures/lateApp.mjs", import.meta.url);
    const setup = await setUp(2, 3, { app, address: ["10.7.0.2/24", "fd07::2/64"] });
    const { server } = setup;
    const news: unknown[] = [];
    server.on("message", ({ data }) => news.push(data));
    const errors: unknown[] = [];
    server.on("error", (event) => errors.push(event));
    // The handle level asks nobody: two wildcards that no kernel could have both of.
    expect(server.kernels[0]?.handles.listen(9, 16, ADDRESS_ANY)).toBeGreaterThanOrEqual(0);
    expect(server.kernels[1]?.handles.listen(9, 16, ADDRESS_ANY_V4)).toBeGreaterThanOrEqual(0);
    server.postMessage({ port: 7 });
    await expect.poll(() => news).toHaveLength(2);
    expect(await server.addKernel()).toBe(2);
    const refusal = { kernelId: 2, error: expect.objectContaining({ code: "EADDRINUSE" }) };
    expect(errors).toMatchObject([refusal, refusal]);
    expect(news.slice(2)).toEqual([{ joined: 7, kernelId: 2 }]);
    for (let i = 0; i < 40; i++) await exchange(await connectTo(setup));
    for (const accepted of await acceptedBy(setup)) expect(accepted).toBeGreaterThan(3);
  });

  it("may fail beside another that is added: the stack is told things, and closes, as ever", async () => {
    const app = new URL("../../fixtures/lateApp.mjs", import.meta.url);
    const setup = await setUp(1, 3, { app });
    const { server, card } = setup;
    const openPort = card.openPort.bind(card);
    vi.spyOn(card, "openPort").mockImplementation((queue, ...more) => {
      if (queue === 1) throw new Error("no such queue");
      return openPort(queue, ...more);
    });
    const outcomes = await Promise.allSettled([server.addKernel(), server.addKernel()]);
    expect(outcomes.map(({ status }) => status)).toEqual(["rejected", "fulfilled"]);
    const news: unknown[] = [];
    server.on("message", ({ data }) => news.push(data));
    server.postMessage({ port: 7 });
    await expect.poll(() => news).toHaveLength(2);
    for (let i = 0; i < 20; i++) await exchange(await connectTo(setup));
    await server.close({ drainMs: 0 });
    expect(server.kernels.map((host) => host.network)).toEqual([undefined, undefined, undefined]);
  });

  it("is not hurt by one of its number that was removed while it started, and is refused late", async () => {
    const app = new URL("../../fixtures/slowStartApp.mjs", import.meta.url);
    const setup = await setUp(1, 2, { app });
    const { server } = setup;
    const first = expect(server.addKernel()).rejects.toMatchObject({ code: "ERR_NO_SUCH_KERNEL" });
    const application = await import(app.href);
    await expect.poll(() => server.kernels.length).toBe(2);
    for (let turns = 0; turns < 50; turns++) await new Promise((resolve) => setImmediate(resolve));
    await server.removeKernel(1);
    await first;
    expect(await server.addKernel()).toBe(1);
    application.refuse();
    for (let turns = 0; turns < 50; turns++) await new Promise((resolve) => setImmediate(resolve));
    for (let i = 0; i < 40; i++) await exchange(await connectTo(setup));
    for (const accepted of await acceptedBy(setup)) expect(accepted).toBeGreaterThan(3);
  });

  it("is refused when the stack closes meanwhile", async () => {
    const { server } = await setUp(1, 2, { app: echoApp, appArguments: { port: 7 } });
    const added = expect(server.addKernel()).rejects.toMatchObject({ code: "ERR_STACK_CLOSED" });
    await server.close({ drainMs: 0 });
    await added;
  });

  it("is not there when its start fails, and may be tried again", async () => {
    const setup = await setUp(1, 2, { app: echoApp, appArguments: { port: 7, failAtStart: 1 } });
    await expect(setup.server.addKernel()).rejects.toThrow("refuses to start");
    expect(setup.server.kernelCount).toBe(1);
    expect(entriesOf(setup.card)[1]).toBe(0);
    for (let i = 0; i < 10; i++) await exchange(await connectTo(setup));
    await expect(setup.server.addKernel()).rejects.toThrow("refuses to start");
  });
});

describe("a kernel that is removed", () => {
  it("gives its groups away at once, by filters, and lets its connections end", async () => {
    const setup = await setUp(3, 3);
    await echo(setup.server);
    const connections = await Promise.all(Array.from({ length: 30 }, () => connectTo(setup)));
    await allAccepted(setup, 30);
    const removed = setup.server.removeKernel(1);
    expect(entriesOf(setup.card)[1]).toBe(0);
    const accepted = (await acceptedBy(setup))[1];
    for (let i = 0; i < 20; i++) await exchange(await connectTo(setup));
    expect((await acceptedBy(setup))[1]).toBe(accepted);
    expect((await setup.server.stats()).statuses[1]?.state).toBe("up");
    for (const connection of connections) await exchange(connection);
    await removed;
    expect((await setup.server.stats()).statuses[1]?.state).toBe("removed");
    expect(setup.server.kernelCount).toBe(2);
    expect(setup.card.registers.filterCount).toBe(0);
    expect(setup.events.at(-1)).toMatchObject({ kernelId: 1, state: "down", reason: "removed" });
    for (let i = 0; i < 20; i++) await exchange(await connectTo(setup));
    // The place can be taken again.
    expect(await setup.server.addKernel()).toBe(1);
    await expect.poll(() => entriesOf(setup.card)[1], { timeout: 5000 }).toBeGreaterThan(100);
    for (let i = 0; i < 40; i++) await exchange(await connectTo(setup));
    expect((await acceptedBy(setup))[1]).toBeGreaterThan(accepted as number);
  });

  it("resets what is left when its time is over; other kernels' connections stay", async () => {
    const setup = await setUp(2, 2);
    await echo(setup.server);
    const connections = await Promise.all(Array.from({ length: 20 }, () => connectTo(setup)));
    await allAccepted(setup, 20);
    const lost = (await acceptedBy(setup))[0] as number;
    expect(lost).toBeGreaterThan(0);
    await setup.server.removeKernel(0, { drainMs: 50 });
    const outcomes = await Promise.allSettled(connections.map((connection) => exchange(connection)));
    const failed = outcomes.filter(({ status }) => status === "rejected");
    expect(failed).toHaveLength(lost);
    for (const outcome of failed) expect(outcome).toMatchObject({ reason: { code: "ECONNRESET" } });
  });

  it("at once resets at once", async () => {
    const setup = await setUp(2, 2);
    await echo(setup.server);
    const connections = await Promise.all(Array.from({ length: 20 }, () => connectTo(setup)));
    await allAccepted(setup, 20);
    await setup.server.removeKernel(1, { drain: false });
    expect(entriesOf(setup.card)[1]).toBe(0);
    const outcomes = await Promise.allSettled(connections.map((connection) => exchange(connection)));
    const failed = outcomes.filter(({ status }) => status === "rejected");
    expect(failed).toHaveLength((await acceptedBy(setup))[1] as number);
    for (let i = 0; i < 10; i++) await exchange(await connectTo(setup));
  });

  it("must be there, and not be the last", async () => {
    const setup = await setUp(2, 2);
    await expect(setup.server.removeKernel(2)).rejects.toMatchObject({ code: "ERR_NO_SUCH_KERNEL" });
    await setup.server.removeKernel(0);
    await expect(setup.server.removeKernel(0)).rejects.toMatchObject({ code: "ERR_NO_SUCH_KERNEL" });
    await expect(setup.server.removeKernel(1)).rejects.toMatchObject({ code: "ERR_LAST_KERNEL" });
    expect(() => setup.server.killKernel(0)).toThrow(expect.objectContaining({ code: "ERR_NO_SUCH_KERNEL" }));
  });

  it("may be down already, or die while it leaves", async () => {
    const setup = await setUp(3, 3, { restart: { delayMs: 50 } });
    await echo(setup.server);
    setup.server.killKernel(1);
    await setup.server.removeKernel(1);
    const removed = setup.server.removeKernel(2, { drainMs: 60_000 });
    setup.server.killKernel(0);
    await exchange(await connectTo(setup));
    await removed;
    await expect
      .poll(async () => (await setup.server.stats()).statuses.map(({ state }) => state))
      .toEqual(["up", "removed", "removed"]);
    for (let i = 0; i < 10; i++) await exchange(await connectTo(setup));
  });

  it("leaves in virtual time, too", async () => {
    const setup = await setUp(2, 2, { drive: "manual" });
    setup.server.turn(1e9);
    let done = false;
    void setup.server.removeKernel(1).then(() => {
      done = true;
    });
    for (let nowNs = 1e9; !done && nowNs < 3e9; nowNs += 5e6) {
      setup.server.turn(nowNs);
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(done).toBe(true);
    expect(entriesOf(setup.card)[1]).toBe(0);
  });
});
