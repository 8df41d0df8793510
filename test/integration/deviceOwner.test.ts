/** The device's owner with kernels in threads: it dies, and another writes the tables. On the built package. */
import { afterEach, expect, it } from "vitest";
import type * as Api from "../../src/index.ts";
import { importBuilt } from "../helpers/dist.ts";

const { createSegment, createStack } = await importBuilt<typeof Api>("index.js");
const app = new URL("../fixtures/connectApp.mjs", import.meta.url);
const tuning = { memoryBytes: 64 << 20, connectionsMax: 4096 };
const KERNELS = 3;
const PORT = 80;

const cleanUp: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of cleanUp.splice(0).reverse()) await close();
});

type Answer = { readonly id: number; readonly kernelId: number; readonly echoed: number; readonly codes: string[] };

/** Kernels in threads that connect to an echo server here. */
async function start(card: Parameters<Api.Segment["createCard"]>[0], restart: Api.StackOptions["restart"]) {
  const segment = await createSegment({ portsMax: 8 });
  const device = segment.createCard({ queues: KERNELS, ...card });
  const options = { device, address: "10.7.0.1/24", app, tuning, balancer: "static" as const };
  const stack = await createStack({ mode: "threads", ...options, ...(restart === undefined ? {} : { restart }) });
  cleanUp.push(() => stack.close({ drainMs: 0 }));
  const server = await createStack({
    ...{ device: segment.createCard(), address: "10.7.0.2/24", sharedMemory: true, tuning },
  });
  cleanUp.push(() => server.close({ drainMs: 0 }));
  await server.listen(PORT, { onConnection: ({ readable, writable }) => void readable.pipeTo(writable) });
  stack.on("kernel", () => {});
  const answers: Answer[] = [];
  stack.on("message", ({ data }) => answers.push(data as Answer));
  let lastId = 0;
  const connect = async (count: number, kernels: readonly number[]): Promise<Answer[]> => {
    const id = ++lastId;
    for (const kernelId of kernels)
      stack.postMessage({ id, address: "10.7.0.2", port: PORT, count, kernelId, kernels: KERNELS });
    const own = () => answers.filter((answer) => answer.id === id);
    await expect.poll(() => own().length, { timeout: 20_000 }).toBe(kernels.length);
    return own().sort((a, b) => a.kernelId - b.kernelId);
  };
  return { stack, device, connect };
}

it("every kernel opens connections to one service on an 82599, by filters in blocks, whoever owns it", async () => {
  const { stack, device, connect } = await start({ preset: "82599" }, false);
  // Replies of the service go to one kernel; the others need filters.
  device.moveFlowGroup(PORT, 0);
  const all = await connect(100, [0, 1, 2]);
  expect(all.map(({ echoed, codes }) => ({ echoed, codes }))).toEqual(Array(3).fill({ echoed: 100, codes: [] }));
  const { sent } = (await stack.stats()).messages;
  // Blocks of 64, asked for ahead: some messages for two hundred connections.
  expect(sent.filtersAsk).toBeGreaterThanOrEqual(2);
  expect(sent.filtersAsk).toBeLessThan(20);
  expect(device.registers.filterCount).toBeGreaterThanOrEqual(2 * 64);
  stack.killKernel(0);
  await expect.poll(async () => (await stack.stats()).owner, { timeout: 10_000 }).toBe(1);
  const rest = await connect(150, [1, 2]);
  expect(rest.map(({ echoed, codes }) => ({ echoed, codes }))).toEqual(Array(2).fill({ echoed: 150, codes: [] }));
  expect((await stack.stats()).messages.sent.ownerServes).toBeGreaterThanOrEqual(1);
  await stack.close({ drainMs: 0 });
  expect(device.registers.filterCount).toBe(0);
}, 60_000);

it("at the handle level connectAsync waits for the first block of filters, where connect says EAGAIN", async () => {
  const segment = await createSegment({ portsMax: 8 });
  const device = segment.createCard({ queues: KERNELS, preset: "82599" });
  const handleApp = new URL("../fixtures/handleConnectApp.mjs", import.meta.url);
  const options = { device, address: "10.7.0.1/24", app: handleApp, tuning, balancer: "static" as const };
  const stack = await createStack({ mode: "threads", ...options });
  cleanUp.push(() => stack.close({ drainMs: 0 }));
  const server = await createStack({
    ...{ device: segment.createCard(), address: "10.7.0.2/24", sharedMemory: true, tuning },
  });
  cleanUp.push(() => server.close({ drainMs: 0 }));
  await server.listen(PORT, {
    onConnection: ({ readable }) => void readable.pipeTo(new WritableStream()).catch(() => {}),
  });
  // Replies of the service go to one kernel; the others need filters.
  device.moveFlowGroup(PORT, 0);
  const answers: { kernelId: number; first: number; failed: number[] }[] = [];
  stack.on("message", ({ data }) => answers.push(data as (typeof answers)[0]));
  stack.postMessage({ id: 1, address: "10.7.0.2", port: PORT, count: 100 });
  await expect.poll(() => answers.length, { timeout: 20_000 }).toBe(KERNELS);
  expect(answers.map(({ failed }) => failed)).toEqual(Array(KERNELS).fill([]));
  // The owner asks itself, too, but has its answer in the same turn at the earliest.
  const byKernel = answers.sort((a, b) => a.kernelId - b.kernelId).map(({ first }) => first >= 0);
  expect(byKernel.slice(1)).toEqual([false, false]);
  for (const { first } of answers) if (first < 0) expect(first).toBe(-11);
  expect(device.registers.filterCount).toBeGreaterThanOrEqual(2 * 64);
}, 60_000);

it("the next kernel re-homes what the one after the owner leaves behind", async () => {
  const { stack, device } = await start({}, false);
  const entriesOf = (queue: number) =>
    Array.from({ length: device.placement.entries }, (_, entry) => device.placement.queueOf(entry)).filter(
      (named) => named === queue,
    ).length;
  const down: number[] = [];
  stack.on("kernel", ({ kernelId, state }) => {
    if (state === "down") down.push(kernelId);
  });
  stack.killKernel(0);
  await expect.poll(() => down, { timeout: 10_000 }).toEqual([0]);
  expect([entriesOf(0), (await stack.stats()).owner]).toEqual([0, 1]);
  // Both at once: the owner's successor is told of the other's end, too.
  stack.killKernel(1);
  await expect.poll(() => down, { timeout: 10_000 }).toEqual([0, 1]);
  expect([entriesOf(0), entriesOf(1), (await stack.stats()).owner]).toEqual([0, 0, 2]);
  expect(entriesOf(2)).toBeGreaterThan(100);
}, 60_000);
