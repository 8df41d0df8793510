/** Kernels in threads that join and leave a running stack, on the built package. */
import { expect, it, vi } from "vitest";
import type { Connection } from "../../src/socket/connection.ts";
import { readAll, testBytes, writeAll } from "../helpers/stacks.ts";
import { cleanUpAfterEach, startThreadedPair } from "../helpers/threadedPair.ts";

const echoApp = new URL("../fixtures/echoApp.mjs", import.meta.url);
const tuning = { memoryBytes: 64 << 20, connectionsMax: 4096 };

const cleanUp = cleanUpAfterEach();

async function start(kernels: number, kernelsMax: number, app = echoApp) {
  const options = { kernels, kernelsMax, app, appArguments: { port: 7 } };
  const pair = await startThreadedPair(cleanUp, { queues: kernelsMax, tuning, server: options });
  const { server, client, device } = pair;
  const connect = () => client.connect({ address: "10.7.0.2", port: 7 });
  return { server, device, connect };
}

async function exchange(connection: Connection, bytes = testBytes(20_000)): Promise<void> {
  const [echoed] = await Promise.all([readAll(connection.readable), writeAll(connection, bytes)]);
  expect(Buffer.compare(echoed, bytes)).toBe(0);
  await connection.closed;
}

it("kernels join and leave under connections, and only those of one that leaves at once are lost", async () => {
  const { server, connect } = await start(1, 3);
  const first = await Promise.all(Array.from({ length: 10 }, connect));
  expect([await server.addKernel(), await server.addKernel()]).toEqual([1, 2]);
  for (const connection of first) await exchange(connection);
  const accepted = async () => (await server.stats()).kernels.map(({ tcpAccepted }) => tcpAccepted as number);
  await expect
    .poll(
      async () => {
        await exchange(await connect());
        return Math.min(...(await accepted()));
      },
      { timeout: 20_000, interval: 10 },
    )
    .toBeGreaterThan(3);
  // The owner leaves, and lets its connections end.
  const second = await Promise.all(Array.from({ length: 20 }, connect));
  const removed = server.removeKernel(0, { drainMs: 30_000 });
  for (let i = 0; i < 10; i++) await exchange(await connect());
  for (const connection of second) await exchange(connection);
  await removed;
  expect((await server.stats()).statuses.map(({ state }) => state)).toEqual(["removed", "up", "up"]);
  for (let i = 0; i < 10; i++) await exchange(await connect());
  // Another leaves at once.
  const third = await Promise.all(Array.from({ length: 20 }, connect));
  await server.removeKernel(2, { drain: false });
  const outcomes = await Promise.allSettled(third.map((connection) => exchange(connection)));
  for (const outcome of outcomes) {
    if (outcome.status === "rejected") expect(outcome.reason).toMatchObject({ code: "ECONNRESET" });
  }
  expect(outcomes.filter(({ status }) => status === "fulfilled").length).toBeGreaterThan(0);
  expect(await server.addKernel()).toBe(0);
  for (let i = 0; i < 20; i++) await exchange(await connect());
}, 60_000);

it("a kernel that leaves at once refuses nobody: who knocks meanwhile is answered by another", async () => {
  const { server, connect } = await start(2, 3);
  const failures: string[] = [];
  let done = 0;
  let busy = true;
  const visit = async () => {
    while (busy) {
      try {
        await exchange(await connect());
        done++;
      } catch (error) {
        failures.push((error as { code: string }).code);
      }
    }
  };
  const visitors = Array.from({ length: 20 }, visit);
  for (let round = 0; round < 6; round++) {
    const [kernelId, before] = [await server.addKernel(), done];
    await expect.poll(() => done - before, { timeout: 20_000 }).toBeGreaterThan(200);
    await server.removeKernel(kernelId, { drain: false });
  }
  busy = false;
  await Promise.all(visitors);
  expect(failures.filter((code) => code !== "ECONNRESET")).toEqual([]);
}, 120_000);

it("a kernel that joins, or comes back, gets the listeners that were opened after the start", async () => {
  const { server, connect } = await start(1, 2, new URL("../fixtures/lateApp.mjs", import.meta.url));
  const news: unknown[] = [];
  server.on("message", ({ data }) => news.push(data));
  server.on("kernel", () => {});
  server.postMessage({ port: 7 });
  await expect.poll(() => news).toEqual([{ listens: 7, kernelId: 0 }]);
  expect(await server.addKernel()).toBe(1);
  expect(news[1]).toEqual({ joined: 7, kernelId: 1 });
  const accepted = async () => (await server.stats()).kernels.map(({ tcpAccepted }) => tcpAccepted as number);
  const bothAccept = () =>
    expect
      .poll(
        async () => {
          await exchange(await connect());
          return (await accepted())[1];
        },
        { timeout: 20_000, interval: 10 },
      )
      .toBeGreaterThan(3);
  await bothAccept();
  // The owner dies: the other tells the next life of it.
  server.killKernel(0);
  await expect.poll(() => news[2], { timeout: 10_000 }).toEqual({ joined: 7, kernelId: 0 });
  for (let i = 0; i < 20; i++) await exchange(await connect());
}, 60_000);

it("a kernel that cannot be started leaves no trace: others join, are told things, and end as ever", async () => {
  const { server, device, connect } = await start(1, 3, new URL("../fixtures/lateApp.mjs", import.meta.url));
  const describePort = device.describePort.bind(device);
  vi.spyOn(device, "describePort").mockImplementation((queue, ...more) => {
    if (queue === 1) throw new Error("no such queue");
    return describePort(queue, ...more);
  });
  const outcomes = await Promise.allSettled([server.addKernel(), server.addKernel()]);
  expect(outcomes.map(({ status }) => status)).toEqual(["rejected", "fulfilled"]);
  vi.restoreAllMocks();
  const news: unknown[] = [];
  server.on("message", ({ data }) => news.push(data));
  server.on("kernel", () => {});
  server.postMessage({ port: 7 });
  await expect.poll(() => news).toHaveLength(2);
  for (let i = 0; i < 10; i++) await exchange(await connect());
  // The owner is another's turn, with the place between them empty.
  server.killKernel(0);
  await expect.poll(async () => (await server.stats()).statuses[0]?.restarts, { timeout: 10_000 }).toBe(1);
  expect(await server.addKernel()).toBe(1);
  for (let i = 0; i < 10; i++) await exchange(await connect());
  await server.close({ drainMs: 0 });
}, 60_000);

it("a kernel that is on its way in when the stack closes is refused, and ends with it", async () => {
  const { server } = await start(1, 2);
  const added = expect(server.addKernel()).rejects.toMatchObject({ code: "ERR_STACK_CLOSED" });
  await server.close({ drainMs: 0 });
  await added;
}, 30_000);
