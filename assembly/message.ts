/**
 * Rings for messages from other kernels: this kernel only gives them a place. What is in them is control, so the host
 * reads and writes them (src/control/endpoint.ts); nothing of it is on the path of a packet.
 */
import { kernelId, kernelsMax, messageRingBytes } from "./config.ts";
import { RING_BASE, RING_SIZE } from "../src/layout/frameRing.ts";
import { MESSAGE_CONTROL_BASE } from "../src/layout/kernelMemory.ts";
import { MESSAGE_ALIGN_BYTES, MESSAGE_CONTROL_SIZE_BYTES } from "../src/layout/message.ts";
import { arenaAlloc } from "./mem/arena.ts";
import { storeOrdered } from "./mem/ordered.ts";

/** A ring for each kernel but this one. @returns false when the memory is too small. */
export function messageBoot(): bool {
  for (let sender: u32 = 0; sender < kernelsMax; sender++) {
    if (sender == kernelId) continue;
    const control: usize = MESSAGE_CONTROL_BASE + sender * MESSAGE_CONTROL_SIZE_BYTES;
    const base = arenaAlloc(messageRingBytes, MESSAGE_ALIGN_BYTES);
    if (base == 0) return false;
    store<u32>(control, messageRingBytes, RING_SIZE);
    storeOrdered(control + RING_BASE, <u32>base);
  }
  return true;
}
