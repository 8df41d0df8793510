/** Posting frames to this kernel's TX ring (src/layout/frameRing.ts), as its only producer. */
import { mtuBytes, txRingBytes, tsoBytesMax } from "../config.ts";
import { arenaAlloc } from "../mem/arena.ts";
import { loadOrdered, storeOrdered } from "../mem/ordered.ts";
import { count, countBy } from "../stats.ts";
import { TX_BYTES, TX_FRAMES, TX_RING_FULL } from "../../src/layout/counters.ts";
import {
  FRAME_ALIGN_BYTES,
  FRAME_LENGTH,
  FRAME_OFFSET,
  FRAME_QUEUE,
  RING_BASE,
  RING_HEAD,
  RING_SIZE,
  RING_TAIL,
} from "../../src/layout/frameRing.ts";
import { TX_CONTROL_BASE } from "../../src/layout/kernelMemory.ts";

let base: usize = 0;
let mask: u32 = 0;
let tail: u32 = 0;
let tailPublished: u32 = 0;
/** Head as last read from the consumer; only refreshed when room runs short. */
let headSeen: u32 = 0;

/** @returns false when the arena is too small. */
export function txBoot(): bool {
  base = arenaAlloc(txRingBytes, 4096);
  if (base == 0) return false;
  mask = txRingBytes - 1;
  store<u32>(TX_CONTROL_BASE, txRingBytes, RING_SIZE);
  storeOrdered(TX_CONTROL_BASE + RING_BASE, <u32>base);
  return true;
}

/** Largest frame that this kernel ever sends. */
export function txFrameBytesMax(): u32 {
  return 14 + max(mtuBytes, tsoBytesMax > 0 ? tsoBytesMax + 60 : 0);
}

/**
 * Room for a frame of up to `frameBytes`.
 * @returns where the frame starts (its record header is 18 bytes before, virtio header zeroed), or 0: the ring is full.
 *   Nothing is sent until txCommit; a second reserve without commit gives the same place.
 */
export function txReserve(frameBytes: u32): usize {
  const bytes: u32 = (FRAME_OFFSET + frameBytes + FRAME_ALIGN_BYTES - 1) & -FRAME_ALIGN_BYTES;
  let at = tail & mask;
  const toEnd = mask + 1 - at;
  const needed = bytes <= toEnd ? bytes : toEnd + bytes;
  if (mask + 1 - (tail - headSeen) < needed) {
    headSeen = loadOrdered(TX_CONTROL_BASE + RING_HEAD);
    if (mask + 1 - (tail - headSeen) < needed) {
      count(TX_RING_FULL);
      return 0;
    }
  }
  if (bytes > toEnd) {
    store<i32>(base + at, -(<i32>toEnd), FRAME_LENGTH);
    tail += toEnd;
    at = 0;
  }
  const record = base + at;
  // Queue and virtio header: 14 bytes from FRAME_QUEUE to FRAME_OFFSET.
  store<u64>(record, 0, FRAME_QUEUE);
  store<u64>(record, 0, FRAME_OFFSET - 8);
  return record + FRAME_OFFSET;
}

/** Sends the frame written at the place that txReserve gave. Visible to the consumer after txPublish. */
export function txCommit(frameBytes: u32): void {
  store<i32>(base + (tail & mask), frameBytes, FRAME_LENGTH);
  tail += (FRAME_OFFSET + frameBytes + FRAME_ALIGN_BYTES - 1) & -FRAME_ALIGN_BYTES;
  count(TX_FRAMES);
  countBy(TX_BYTES, frameBytes);
}

/**
 * Makes all committed frames visible to the consumer: one atomic store per batch. It waits for all stores before it, so
 * it is not done for nothing.
 */
export function txPublish(): void {
  if (tail == tailPublished) return;
  tailPublished = tail;
  storeOrdered(TX_CONTROL_BASE + RING_TAIL, tail);
}

/**
 * Starts over at the ring's first byte when there is nothing in it. Preconditions: the consumer is on this thread, and
 * reads head and tail anew each time; no frame is begun.
 */
export function txRewind(): void {
  if (tail == 0 || tail != load<u32>(TX_CONTROL_BASE + RING_HEAD)) return;
  tail = 0;
  tailPublished = 0;
  headSeen = 0;
  store<u32>(TX_CONTROL_BASE + RING_HEAD, 0);
  store<u32>(TX_CONTROL_BASE + RING_TAIL, 0);
}
