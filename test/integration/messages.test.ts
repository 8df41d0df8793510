/** Messages between real threads, each with an endpoint of its own, on the built package. */
import { Worker } from "node:worker_threads";
import { expect, it } from "vitest";
import type * as Views from "../../src/views/kernelMemory.ts";
import { RING_BASE, RING_SIZE } from "../../src/layout/frameRing.ts";
import { MESSAGE_CONTROL_BASE, STATIC_DATA_BASE } from "../../src/layout/kernelMemory.ts";
import { MESSAGE_CONTROL_SIZE_BYTES } from "../../src/layout/message.ts";
import { importBuilt } from "../helpers/dist.ts";

const { KernelMemory } = await importBuilt<typeof Views>("views/kernelMemory.js");
const RING_BYTES = 4096;
const THREADS = 3;
const MESSAGES = 30_000;

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
