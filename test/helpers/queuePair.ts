import type { QueuePair } from "../../src/device/device.ts";
import { RING_BASE, RING_SIZE } from "../../src/layout/frameRing.ts";
import { RX_CONTROL_BASE, STATIC_DATA_BASE, TX_CONTROL_BASE } from "../../src/layout/kernelMemory.ts";
import { FrameRing } from "../../src/views/frameRing.ts";

const RING_BYTES = 1 << 19;

/** A queue pair in a memory of its own, as a kernel would lay it out at boot, for whatever stands in for a kernel. */
export function createQueuePair(
  kernelId: number,
  shared: boolean,
  ring: () => void,
  ringBytes = RING_BYTES,
): QueuePair {
  const pages = (STATIC_DATA_BASE + 2 * ringBytes) / 65536;
  const memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared });
  const words = new Int32Array(memory.buffer);
  [RX_CONTROL_BASE, TX_CONTROL_BASE].forEach((control, index) => {
    words[(control + RING_SIZE) >> 2] = ringBytes;
    words[(control + RING_BASE) >> 2] = STATIC_DATA_BASE + index * ringBytes;
  });
  const rx = [new FrameRing(memory, RX_CONTROL_BASE)];
  return { kernelId, memory, rx, tx: new FrameRing(memory, TX_CONTROL_BASE), ring };
}
