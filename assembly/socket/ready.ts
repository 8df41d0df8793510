/**
 * Sockets that have something to tell the application, oldest first. A socket stands here at most once (its own flag
 * says so), so the ring holds as many handles as there can be sockets. Published in kernel.ts at the end of a poll.
 */
import { arenaAlloc } from "../mem/arena.ts";

let base: usize = 0;
let mask: u32 = 0;
let head: u32 = 0;
let tail: u32 = 0;

export function readyBoot(socketsMax: u32): bool {
  let slots: u32 = 64;
  while (slots < socketsMax) slots <<= 1;
  base = arenaAlloc(<usize>slots << 2, 64);
  mask = slots - 1;
  return base != 0;
}

/** Preconditions: the socket does not stand in the ring. */
export function readyPush(handle: u32): void {
  store<u32>(base + ((tail & mask) << 2), handle);
  tail++;
}

export function readyCount(): u32 {
  return tail - head;
}

/** Preconditions: readyCount() > 0. */
export function readyShift(): u32 {
  const handle = load<u32>(base + ((head & mask) << 2));
  head++;
  // Start over when empty: the same few cache lines serve for ever.
  if (head == tail) {
    head = 0;
    tail = 0;
  }
  return handle;
}
