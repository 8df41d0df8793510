/**
 * Frames from the kernel to itself: to one of its own addresses. They go from the place in the TX ring where they were
 * built to a lane of their own, of which the kernel is producer and consumer.
 */
import { OWN_MAC } from "../config.ts";
import { arenaAlloc } from "../mem/arena.ts";
import { storeOrdered } from "../mem/ordered.ts";
import { count } from "../stats.ts";
import { DROP_LOOP_FULL, LOOP_FRAMES } from "../../src/layout/counters.ts";
import {
  FRAME_ALIGN_BYTES,
  FRAME_LENGTH,
  FRAME_OFFSET,
  RING_BASE,
  RING_HEAD,
  RING_SIZE,
  RING_TAIL,
} from "../../src/layout/frameRing.ts";
import { ETHERNET_TYPE, ETHERTYPE_IPV4, ETHERTYPE_IPV6 } from "../wire/headers.ts";

/** Room for a few frames as large as TSO makes them. */
const LOOP_RING_BYTES: u32 = 262144;

/** The lane's control record. */
export const LOOP_CONTROL: usize = memory.data(256, 64);

/** @returns false when the arena is too small. */
export function loopBoot(): bool {
  const base = arenaAlloc(LOOP_RING_BYTES, 4096);
  store<u32>(LOOP_CONTROL, LOOP_RING_BYTES, RING_SIZE);
  store<u32>(LOOP_CONTROL, <u32>base, RING_BASE);
  return base != 0;
}

/**
 * Hands the packet behind room for an Ethernet header at `frame`, a place that txReserve gave, to our own input. When
 * the lane is full it is lost, as on a wire.
 */
export function loopSend(frame: usize, frameBytes: u32, isV6: bool): void {
  const control = LOOP_CONTROL;
  const size = load<u32>(control, RING_SIZE);
  const base: usize = load<u32>(control, RING_BASE);
  let tail = load<u32>(control, RING_TAIL);
  const bytes: u32 = (FRAME_OFFSET + frameBytes + FRAME_ALIGN_BYTES - 1) & -FRAME_ALIGN_BYTES;
  const toEnd = size - (tail & (size - 1));
  const needed = bytes <= toEnd ? bytes : toEnd + bytes;
  if (size - (tail - load<u32>(control, RING_HEAD)) < needed) {
    count(DROP_LOOP_FULL);
    return;
  }
  if (bytes > toEnd) {
    store<i32>(base + (tail & (size - 1)), -(<i32>toEnd), FRAME_LENGTH);
    tail += toEnd;
  }
  const record = base + (tail & (size - 1));
  store<u32>(frame, load<u32>(OWN_MAC));
  store<u16>(frame, load<u16>(OWN_MAC, 4), 4);
  store<u32>(frame, load<u32>(OWN_MAC), 6);
  store<u16>(frame, load<u16>(OWN_MAC, 4), 10);
  store<u16>(frame, <u16>(isV6 ? ETHERTYPE_IPV6 : ETHERTYPE_IPV4), ETHERNET_TYPE);
  memory.copy(record, frame - FRAME_OFFSET, FRAME_OFFSET + frameBytes);
  store<i32>(record, frameBytes, FRAME_LENGTH);
  storeOrdered(control + RING_TAIL, tail + bytes);
  count(LOOP_FRAMES);
}
