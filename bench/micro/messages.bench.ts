import { Endpoint } from "../../src/control/endpoint.ts";
import { RING_BASE, RING_SIZE } from "../../src/layout/frameRing.ts";
import { MESSAGE_CONTROL_BASE, STATIC_DATA_BASE } from "../../src/layout/kernelMemory.ts";
import { KernelMemory } from "../../src/views/kernelMemory.ts";
import type { MicroSuite } from "./harness.ts";

const MESSAGES = 1024;
const RING_BYTES = 65536;

/** An endpoint of one of two kernels in shared memory, as kernel.wasm would boot it. */
function createEndpoint(kernelId: number): { endpoint: Endpoint; memory: KernelMemory } {
  const pages = 1 + (2 * RING_BYTES) / 65536;
  const memory = new KernelMemory(new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true }));
  for (let sender = 0; sender < 2; sender++) {
    const control = (MESSAGE_CONTROL_BASE + sender * 256) >> 2;
    memory.words[control + (RING_SIZE >> 2)] = RING_BYTES;
    memory.words[control + (RING_BASE >> 2)] = STATIC_DATA_BASE + sender * RING_BYTES;
  }
  const onError = (error: unknown) => {
    throw error;
  };
  return { endpoint: new Endpoint({ kernelId, life: 0, memory, onWork: () => {}, onError }), memory };
}

export const suite: MicroSuite = {
  name: "messages between kernels",
  cases() {
    const [a, b] = [createEndpoint(0), createEndpoint(1)];
    a.endpoint.connect({ kernelId: 1, life: 0, memory: b.memory, ring: () => b.memory.ringDoorbell() });
    b.endpoint.connect({ kernelId: 0, life: 0, memory: a.memory, ring: () => a.memory.ringDoorbell() });
    let sum = 0;
    b.endpoint.on(1, 1, ({ correlation, payload }) => {
      sum += correlation + payload.length;
    });
    const transfer = (payload: Uint8Array, batch: number): number => {
      sum = 0;
      for (let sent = 0; sent < MESSAGES; ) {
        for (let i = 0; i < batch; i++) a.endpoint.send(1, 1, 1, sent++ & 15, payload);
        a.endpoint.flush();
        b.endpoint.poll(batch);
      }
      return sum;
    };
    const small = new Uint8Array(16);
    const large = new Uint8Array(1024);
    return [
      { name: "16 B, batches of 16", items: MESSAGES, run: () => transfer(small, 16) },
      { name: "16 B, one by one", items: MESSAGES, run: () => transfer(small, 1) },
      { name: "1 KiB, batches of 16", items: MESSAGES, run: () => transfer(large, 16) },
      {
        name: "a poll that finds nothing",
        items: MESSAGES,
        run: () => {
          let handled = 0;
          for (let i = 0; i < MESSAGES; i++) handled += b.endpoint.poll();
          return handled;
        },
      },
    ];
  },
};
