import { once } from "node:events";
import { type Transferable, Worker } from "node:worker_threads";
import { afterEach, describe, expect, it } from "vitest";
import type { Card } from "../../src/device/card/card.ts";
import { PORT_NONE } from "../../src/layout/card.ts";
import { CardKernel } from "../helpers/cardKernel.ts";
import { importBuilt } from "../helpers/dist.ts";

const { createSegment } =
  await importBuilt<typeof import("../../src/device/card/segment.ts")>("device/card/segment.js");

const workers: Worker[] = [];
afterEach(async () => {
  await Promise.all(workers.splice(0).map((worker) => worker.terminate()));
});

async function start(role: "echo" | "client", card: Card, queue: number, ringBytes: number): Promise<Worker> {
  const { memory } = new CardKernel(queue, { rxLanes: card.rxLanes, shared: true, ringBytes }).pair;
  const { descriptor, transfer } = card.describePort(queue, memory);
  const workerData = { role, memory, descriptor, rxLanes: card.rxLanes, outstandingMax: 100 };
  const worker = new Worker(new URL("../helpers/cardWorker.mjs", import.meta.url), {
    workerData,
    transferList: [...transfer] as Transferable[],
  });
  workers.push(worker);
  await once(worker, "message");
  return worker;
}

async function run(client: Worker, first: number, count: number): Promise<unknown> {
  client.postMessage({ first, count });
  const [result] = await once(client, "message");
  return result;
}

const ALL_BACK = { missing: 0, wrong: 0, lateWakes: 0 };

describe("kernels on threads of their own, behind a card", () => {
  it("get every frame, asleep or not, through lanes that are always too small", async () => {
    const segment = await createSegment({ portsMax: 4 });
    const server = segment.createCard({ queues: 2, flowGroups: false });
    const near = segment.createCard();
    for (const queue of [0, 1]) await start("echo", server, queue, 1 << 13);
    const client = await start("client", near, 0, 1 << 14);
    expect(await run(client, 1, 20_000)).toEqual(ALL_BACK);
    const frames = server.queueFrames();
    expect(frames[0]).toBeGreaterThan(8000);
    expect((frames[0] as number) + (frames[1] as number)).toBe(20_000);
    expect(near.queueFrames()).toEqual([20_000]);
    await segment.close();
  });

  it("join and die while others work", async () => {
    const segment = await createSegment({ portsMax: 4 });
    const server = segment.createCard({ queues: 2, flowGroups: false });
    const point = (queues: readonly number[]): void => {
      for (let entry = 0; entry < server.registers.retaEntries; entry++) {
        server.registers.setRetaEntry(entry, queues[entry % queues.length] as number);
      }
    };
    point([0]);
    const client = await start("client", segment.createCard(), 0, 1 << 16);
    await start("echo", server, 0, 1 << 16);
    expect(await run(client, 1, 2000)).toEqual(ALL_BACK);
    expect(server.queueFrames()).toEqual([2000, 0]);

    const running = run(client, 2001, 20_000);
    const second = await start("echo", server, 1, 1 << 16);
    point([0, 1]);
    expect(await running).toEqual(ALL_BACK);
    expect(await run(client, 30_000, 2000)).toEqual(ALL_BACK);
    expect(server.queueFrames()[1]).toBeGreaterThan(500);

    await second.terminate();
    while (server.registers.queuePort(1) !== PORT_NONE) await new Promise((resolve) => setTimeout(resolve, 1));
    point([0]);
    expect(await run(client, 40_000, 2000)).toEqual(ALL_BACK);
    await segment.close();
  });
});
