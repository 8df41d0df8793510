/** A FIFO of u32 handles with room for every socket that could stand in it, so that pushing never fails. */
import { arenaAlloc } from "./arena.ts";

@unmanaged
export class HandleQueue {
  base: usize;
  mask: u32;
  head: u32;
  tail: u32;
}

/** @returns 0 when the arena is used up. */
export function queueCreate(handlesMax: u32): HandleQueue {
  let slots: u32 = 64;
  while (slots < handlesMax) slots <<= 1;
  const queue = changetype<HandleQueue>(arenaAlloc(64, 64));
  const base = arenaAlloc((<usize>slots) << 2, 64);
  if (changetype<usize>(queue) == 0 || base == 0) return changetype<HandleQueue>(0);
  queue.base = base;
  queue.mask = slots - 1;
  return queue;
}

/** Preconditions: the handle does not stand in the queue (its socket's flag says so). */
export function queuePush(queue: HandleQueue, handle: u32): void {
  store<u32>(queue.base + ((queue.tail & queue.mask) << 2), handle);
  queue.tail++;
}

export function queueCount(queue: HandleQueue): u32 {
  return queue.tail - queue.head;
}

/** Preconditions: queueCount(queue) > 0. */
export function queueShift(queue: HandleQueue): u32 {
  const handle = load<u32>(queue.base + ((queue.head & queue.mask) << 2));
  queue.head++;
  // Start over when empty: the same few cache lines serve for ever.
  if (queue.head == queue.tail) {
    queue.head = 0;
    queue.tail = 0;
  }
  return handle;
}
