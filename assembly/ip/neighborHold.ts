/**
 * Frames that wait for a neighbour's Ethernet address: copies in slots that all entries share, a FIFO for each entry.
 */
import { mtuBytes, neighborsMax } from "../config.ts";
import { txCommit, txReserve } from "../device/tx.ts";
import { arenaAlloc } from "../mem/arena.ts";
import { count, countBy } from "../stats.ts";
import { DROP_NEIGHBOR_QUEUE_FULL, DROP_NEIGHBOR_UNRESOLVED } from "../../src/layout/counters.ts";
import { FRAME_OFFSET, FRAME_QUEUE } from "../../src/layout/frameRing.ts";
import { Neighbor, writeEthernet } from "./neighborRecord.ts";

/**
 * Linux keeps as many small ones (unres_qlen_bytes): a burst of opens towards a new neighbour must not wait for
 * time-outs.
 */
const HELD_FRAMES_MAX: u8 = 100;
/** Held frames: +0 u32 next slot + 1, +4 u32 length, +18 queue and virtio header as in a ring record, +32 frame. */
const HOLD_NEXT: usize = 0;
const HOLD_LENGTH: usize = 4;
const HOLD_FRAME: u32 = 32;
const HOLD_BYTES_MAX: u32 = 1048576;
const HOLD_SLOTS_MAX: u32 = 256;
const RECORD_HEADER_BYTES: u32 = FRAME_OFFSET - FRAME_QUEUE;

let holdBase: usize = 0;
let holdSlotBytes: u32 = 0;
let slots: u32 = 0;
let holdSlotsUsed: u32 = 0;
let holdFree: u32 = 0;

/** @returns false when the arena is too small. */
export function holdBoot(): bool {
  holdSlotBytes = (HOLD_FRAME + 14 + mtuBytes + 63) & -64;
  slots = min<u32>(
    min<u32>(neighborsMax * HELD_FRAMES_MAX, HOLD_SLOTS_MAX),
    max<u32>(16, HOLD_BYTES_MAX / holdSlotBytes),
  );
  holdBase = arenaAlloc(<usize>slots * holdSlotBytes, 64);
  return holdBase != 0;
}

/** Frames that can wait, of all neighbours together. */
export function holdSlots(): u32 {
  return slots;
}

function holdSlot(slot: u32): usize {
  return holdBase + <usize>(slot - 1) * holdSlotBytes;
}

function dropOldestHeld(entry: Neighbor): void {
  const slot = <u32>entry.holdHead;
  entry.holdHead = <u16>load<u32>(holdSlot(slot), HOLD_NEXT);
  if (entry.holdHead == 0) entry.holdTail = 0;
  entry.heldFrames--;
  store<u32>(holdSlot(slot), holdFree, HOLD_NEXT);
  holdFree = slot;
}

export function dropHeld(entry: Neighbor): void {
  if (entry.heldFrames > 0) countBy(DROP_NEIGHBOR_UNRESOLVED, entry.heldFrames);
  while (entry.heldFrames > 0) dropOldestHeld(entry);
}

/** Keeps a copy of a frame (and of its record header: checksum offload works after the wait too). */
export function hold(entry: Neighbor, frame: usize, frameBytes: u32): void {
  if (entry.heldFrames == HELD_FRAMES_MAX) {
    count(DROP_NEIGHBOR_QUEUE_FULL);
    dropOldestHeld(entry);
  }
  // A frame for the device's TSO is larger than a slot; TCP sends it again, cut to what has been acknowledged.
  if (frameBytes > holdSlotBytes - HOLD_FRAME || (holdFree == 0 && holdSlotsUsed == slots)) {
    count(DROP_NEIGHBOR_QUEUE_FULL);
    return;
  }
  let slot = holdFree;
  if (slot != 0) holdFree = load<u32>(holdSlot(slot), HOLD_NEXT);
  else slot = ++holdSlotsUsed;
  const buffer = holdSlot(slot);
  store<u32>(buffer, 0, HOLD_NEXT);
  store<u32>(buffer, frameBytes, HOLD_LENGTH);
  memory.copy(buffer + HOLD_FRAME - RECORD_HEADER_BYTES, frame - RECORD_HEADER_BYTES, frameBytes + RECORD_HEADER_BYTES);
  if (entry.holdTail != 0) store<u32>(holdSlot(entry.holdTail), slot, HOLD_NEXT);
  else entry.holdHead = <u16>slot;
  entry.holdTail = <u16>slot;
  entry.heldFrames++;
}

export function sendHeld(entry: Neighbor): void {
  while (entry.heldFrames > 0) {
    const buffer = holdSlot(entry.holdHead);
    const frameBytes = load<u32>(buffer, HOLD_LENGTH);
    const frame = txReserve(frameBytes);
    if (frame != 0) {
      memory.copy(
        frame - RECORD_HEADER_BYTES,
        buffer + HOLD_FRAME - RECORD_HEADER_BYTES,
        frameBytes + RECORD_HEADER_BYTES,
      );
      writeEthernet(entry, frame);
      txCommit(frameBytes);
    }
    dropOldestHeld(entry);
  }
}
