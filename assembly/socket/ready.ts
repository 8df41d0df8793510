/**
 * Sockets that have something to tell the application, oldest first. A socket stands here at most once (its own flag
 * says so). Published by kernel.ts at the end of a poll.
 */
import { HandleQueue, queueCount, queueCreate, queuePush, queueShift } from "../mem/handleQueue.ts";

let queue: HandleQueue = changetype<HandleQueue>(0);

export function readyBoot(socketsMax: u32): bool {
  queue = queueCreate(socketsMax);
  return changetype<usize>(queue) != 0;
}

/** Preconditions: the socket does not stand in the ring. */
export function readyPush(handle: u32): void {
  queuePush(queue, handle);
}

export function readyCount(): u32 {
  return queueCount(queue);
}

/** Preconditions: readyCount() > 0. */
export function readyShift(): u32 {
  return queueShift(queue);
}
