/** Messages between real threads, and that packets need none, on the built package. */
import { Worker } from "node:worker_threads";
import { afterEach, expect, it } from "vitest";
import type * as Api from "../../src/index.ts";
import type * as Views from "../../src/views/kernelMemory.ts";
import { RING_BASE, RING_SIZE } from "../../src/layout/frameRing.ts";
import { MESSAGE_CONTROL_BASE, STATIC_DATA_BASE } from "../../src/layout/kernelMemory.ts";
import { MESSAGE_CONTROL_SIZE_BYTES } from "../../src/layout/message.ts";
import { parseAddress } from "../../src/ip/address.ts";
import { importBuilt } from "../helpers/dist.ts";

const { createSegment, createStack } = await importBuilt<typeof Api>("index.js");
const { KernelMemory } = await importBuilt<typeof Views>("views/kernelMemory.js");
const RING_BYTES = 4096;
const THREADS = 3;
const MESSAGES = 30_000;

const cleanUp: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of cleanUp.splice(0).reverse()) await close();
});

function createMemory(): WebAssembly.Memory {
  const memory = new WebAssembly.Memory({ initial: 2, maximum: 2, shared: true });
  const { words } = new KernelMemory(memory);
  for (let sender = 0; sender < THREADS; sender++) {
    const control = (MESSAGE_CONTROL_BASE + sender * MESSAGE_CONTROL_SIZE_BYTES) >> 2;
    words[control + (RING_SIZE >> 2)] = RING_BYTES;
    words[control + (RING_BASE >> 2)] = STATIC_DATA_BASE + sender * RING_BYTES;
  }
  return memory;
}

it("threads that all send to each other through small rings lose, repeat and reorder nothing", async () => {
  const memories = Array.from({ length: THREADS }, createMemory);
  const results = await Promise.all(
    memories.map(
      (_, kernelId) =>
        new Promise<{ received: number; wrong: number; sum: number }>((resolve, reject) => {
          const worker = new Worker(new URL("../helpers/messageWorker.mjs", import.meta.url), {
            workerData: { kernelId, memories, messages: MESSAGES },
          });
          worker.once("message", resolve);
          worker.once("error", reject);
        }),
    ),
  );
  const sum = (MESSAGES * (MESSAGES - 1)) / 2;
  for (const result of results) {
    expect(result).toEqual({ received: (THREADS - 1) * MESSAGES, wrong: 0, sum: (THREADS - 1) * sum });
  }
});

const PACKETS = 1_000_000;
/** Its decisions, and what kernels are asked about them. */
const BALANCERS = ["tablesWrite", "tablesWritten", "groupsOffer", "groupsAnswer", "groupsMoved"];

function withoutBalancer({ messages }: Api.StackStats): Record<string, number> {
  return Object.fromEntries(Object.entries(messages.sent).filter(([type]) => !BALANCERS.includes(type)));
}

it("a million packets through four kernels in threads are no reason for a message", async () => {
  const tuning = { memoryBytes: 64 << 20, connectionsMax: 1024 };
  const segment = await createSegment({ portsMax: 8 });
  cleanUp.push(() => segment.close());
  const server = await createStack({
    ...{ mode: "threads", device: segment.createCard({ queues: 4, mtuBytes: 576 }), address: "10.7.0.2/24", tuning },
    app: new URL("../fixtures/discardApp.mjs", import.meta.url),
  });
  cleanUp.push(() => server.close({ drainMs: 0 }));
  const client = await createStack({
    ...{ device: segment.createCard({ mtuBytes: 576 }), address: "10.7.0.1/24", sharedMemory: true, tuning },
  });
  cleanUp.push(() => client.close({ drainMs: 0 }));
  const { handles } = client.kernels[0] as (typeof client.kernels)[0];
  const bytes = 65536;
  const area = handles.alloc(bytes);
  const connections = Array.from({ length: 64 }, () => handles.connect(parseAddress("10.7.0.2"), 7));
  await expect.poll(async () => (await server.stats()).total.tcpAccepted).toBe(connections.length);
  const before = await server.stats();
  let after = before;
  const frames = ({ total }: typeof after) => total.rxFrames as number;
  for (let rounds = 0; rounds < 1e5 && frames(after) - frames(before) < PACKETS; rounds++) {
    for (const handle of connections) handles.send(handle, area, bytes);
    handles.flush();
    await new Promise((resolve) => setImmediate(resolve));
    if (rounds % 64 === 0) after = await server.stats();
  }
  expect(frames(after) - frames(before)).toBeGreaterThanOrEqual(PACKETS);
  for (const [kernel, { rxFrames }] of after.kernels.entries()) {
    expect((rxFrames as number) - (before.kernels[kernel]?.rxFrames as number)).toBeGreaterThan(PACKETS / 100);
  }
  // None of them carries a packet to another kernel.
  expect(withoutBalancer(after)).toEqual(withoutBalancer(before));
  for (const type of BALANCERS) expect(after.messages.sent[type] ?? 0).toBeLessThan(1000);
  expect(after.total.lateFramesForwarded).toBe(before.total.lateFramesForwarded);
  expect(after.softwareSteered).toBe(0);
}, 180_000);
