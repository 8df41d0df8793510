/**
 * Packets for the control path: router advertisements and what else decides about addresses. Deciding is not done per
 * packet and not in every kernel, so it is not done here; the packets wait in a short queue until the host takes them
 * (src/ip). Nobody has asked for them: nothing is queued.
 */
import { arenaAlloc } from "../mem/arena.ts";
import { count } from "../stats.ts";
import { CONTROL_PACKETS, DROP_CONTROL_QUEUE_FULL } from "../../src/layout/counters.ts";
import { RESULT_BASE } from "../../src/layout/kernelMemory.ts";
import { ENOMEM, OK } from "../../src/layout/status.ts";

const SLOTS: u32 = 16;
const SLOT_SIZE_BYTES: u32 = 2048;
const SLOT_HEADER_BYTES: u32 = 4;

let queue: usize = 0;
let head: u32 = 0;
let tail: u32 = 0;

/** See KernelExports.controlOpen. @returns OK or ENOMEM. */
export function controlOpen(): i32 {
  if (queue == 0) queue = arenaAlloc(SLOTS * SLOT_SIZE_BYTES, 64);
  return queue == 0 ? ENOMEM : OK;
}

function slotAt(index: u32): usize {
  return queue + (index & (SLOTS - 1)) * SLOT_SIZE_BYTES;
}

/** Queues a copy of a packet for the host. */
export function controlQueue(packet: usize, bytes: u32): void {
  if (queue == 0) return;
  if (tail - head == SLOTS || bytes > SLOT_SIZE_BYTES - SLOT_HEADER_BYTES) {
    count(DROP_CONTROL_QUEUE_FULL);
    return;
  }
  store<u32>(slotAt(tail), bytes);
  memory.copy(slotAt(tail) + SLOT_HEADER_BYTES, packet, bytes);
  tail++;
  count(CONTROL_PACKETS);
}

/**
 * Likewise a query for groups: it may not have the last half of the queue, which routers and address conflicts need.
 * One that is lost is asked again.
 */
export function controlQueueQuery(packet: usize, bytes: u32): void {
  if (queue != 0 && tail - head >= SLOTS / 2) count(DROP_CONTROL_QUEUE_FULL);
  else controlQueue(packet, bytes);
}

/** See KernelExports.controlPeek. */
export function controlPeek(): u32 {
  if (head == tail) return 0;
  store<u32>(RESULT_BASE, load<u32>(slotAt(head)));
  return <u32>slotAt(head) + SLOT_HEADER_BYTES;
}

/** See KernelExports.controlConsume. */
export function controlConsume(): void {
  if (head != tail) head++;
}
