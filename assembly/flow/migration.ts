/**
 * Flow groups that change hands (docs/migration.md): what happens to a segment that finds no connection because its
 * group is on its way here, or has left. Such frames are laid aside, in blocks of the stream pool: those of an arriving
 * group until its connections are here, those of a group that has left until the host takes them to the new kernel.
 * Nothing of this is on the way of a segment that finds its connection.
 */
import {
  DROP_MIGRATION_FRAMES,
  LATE_FRAMES_FORWARDED,
  MIGRATION_FRAMES_HELD,
  TCP_SEGMENTS_RECEIVED,
} from "../../src/layout/counters.ts";
import { FLOW_GROUPS } from "../../src/layout/flowGroup.ts";
import {
  FRAME_LENGTH,
  FRAME_OFFSET,
  FRAME_QUEUE,
  FRAME_VNET_FLAGS,
  VNET_DATA_VALID,
} from "../../src/layout/frameRing.ts";
import { RESULT_BASE } from "../../src/layout/kernelMemory.ts";
import { GROUP_ARRIVING, GROUP_HERE, GROUP_LEFT, GROUP_STEADY } from "../../src/layout/migration.ts";
import { EINVAL } from "../../src/layout/status.ts";
import { flowGroupMask } from "../config.ts";
import { detoursBoot, detoursForget, detourState, haveDetours } from "./detours.ts";
import { addressFind } from "../ip/address.ts";
import { arenaAlloc } from "../mem/arena.ts";
import { streamAlloc, streamFree, streamFreeBytes, streamOrderFor } from "../mem/streamPool.ts";
import { count, countBy } from "../stats.ts";
import { remoteAt } from "../tcp/addresses.ts";
import * as S from "../tcp/segment.ts";
import { Tcb } from "../tcp/tcb.ts";
import { loadBe16 } from "../wire/bytes.ts";
import { ETHERNET_BYTES, IP_TOTAL_LENGTH, IPV6_HEADER_BYTES, V6_PAYLOAD_LENGTH } from "../wire/headers.ts";
import { groupOfPorts } from "./groups.ts";

/** Frames laid aside at once, of each kind; more are dropped, and TCP sends them again. */
const FRAMES_MAX: u32 = 4096;

/** A FIFO of frames: blocks of the stream pool, each a header and then a record as in a ring (layout/frameRing.ts). */
@unmanaged
export class Shelf {
  head: u32;
  tail: u32;
  frames: u32;
}

/** In place of the group, of a frame whose flow goes by itself (detours.ts). */
const GROUP_NONE: u32 = FLOW_GROUPS;

/**
 * Block header: u32 next block, u32 order of this one, u32 group or GROUP_NONE. The record keeps a ring record's
 * alignment.
 */
const BLOCK_NEXT: usize = 0;
const BLOCK_ORDER: usize = 4;
const BLOCK_GROUP: usize = 8;
const BLOCK_RECORD: u32 = 32;

/** Frames that wait for their connections, and those that go to another kernel. */
export const held = changetype<Shelf>(memory.data(16, 16));
export const late = changetype<Shelf>(memory.data(16, 16));

/** u8 per group: GROUP_*. */
let states: usize = 0;
/** Groups that are not steady. */
let unsteady: u32 = 0;

export function migrationBoot(): bool {
  states = arenaAlloc(FLOW_GROUPS, 64);
  return states != 0 && detoursBoot();
}

/** True for connections that the device steers by this group: not those of the kernel with itself. */
export function isInGroup(tcb: Tcb, group: u32): bool {
  return groupOfPorts(tcb.ports) == group && addressFind(remoteAt(tcb)) < 0;
}

/** See KernelExports.migrationSetGroup. */
export function migrationSetGroup(group: u32, state: u32): i32 {
  if (group > flowGroupMask || state > 255) return EINVAL;
  const before = <u32>load<u8>(states + group);
  store<u8>(states + group, <u8>state);
  if (state == GROUP_ARRIVING && haveDetours()) detoursForget(group);
  if (before == GROUP_STEADY && state != GROUP_STEADY) unsteady++;
  if (before != GROUP_STEADY && state == GROUP_STEADY) unsteady--;
  return 0;
}

/** What becomes of segments of the group of these ports: GROUP_*. */
export function groupState(ports: u32): u32 {
  return <u32>load<u8>(states + groupOfPorts(ports));
}

/** The segment in segment.ts has found no connection. @returns true when it is not to be answered here. */
export function migrationTakes(): bool {
  const detours = haveDetours();
  if (unsteady == 0 && !detours) return false;
  let group = GROUP_NONE;
  let state: u32 = detours ? detourState(S.segmentRemoteAt(), S.segLocalIndex, S.segPorts) : GROUP_STEADY;
  if (state == GROUP_STEADY) {
    group = groupOfPorts(S.segPorts);
    state = groupState(S.segPorts);
  }
  // What we have sent to ourselves is steered by no device.
  if (state == GROUP_STEADY || state == GROUP_HERE || addressFind(S.segmentRemoteAt()) >= 0) return false;
  // Counted where it finds its connection.
  countBy(TCP_SEGMENTS_RECEIVED, -1);
  const shelf = state == GROUP_ARRIVING ? held : late;
  if (!layAside(shelf, group, state)) count(DROP_MIGRATION_FRAMES);
  else count(state == GROUP_ARRIVING ? MIGRATION_FRAMES_HELD : LATE_FRAMES_FORWARDED);
  return true;
}

/** @returns false when there is no room, or no frame: a packet that came in fragments. */
function layAside(shelf: Shelf, group: u32, state: u32): bool {
  if (S.segSourceMac == 0 || shelf.frames == FRAMES_MAX) return false;
  const packet = S.segPacket;
  const packetBytes =
    load<u8>(packet) >> 4 == 4
      ? loadBe16(packet + IP_TOTAL_LENGTH)
      : loadBe16(packet + V6_PAYLOAD_LENGTH) + IPV6_HEADER_BYTES;
  const frameBytes = ETHERNET_BYTES + packetBytes;
  const order = streamOrderFor(BLOCK_RECORD + FRAME_OFFSET + frameBytes);
  // Connections come first: what is laid aside never takes more than half of what is left.
  if ((<u32>1) << order > streamFreeBytes() >> 1) return false;
  const block = streamAlloc(order);
  if (block == 0) return false;
  store<u32>(block, 0, BLOCK_NEXT);
  store<u32>(block, order, BLOCK_ORDER);
  store<u32>(block, group, BLOCK_GROUP);
  const record = block + BLOCK_RECORD;
  memory.fill(record, 0, FRAME_OFFSET);
  store<i32>(record, frameBytes, FRAME_LENGTH);
  store<u16>(record, <u16>(state - GROUP_LEFT), FRAME_QUEUE);
  // The checksum has been looked at.
  store<u8>(record, VNET_DATA_VALID, FRAME_VNET_FLAGS);
  memory.copy(record + FRAME_OFFSET, packet - ETHERNET_BYTES, frameBytes);
  append(shelf, <u32>block);
  return true;
}

function append(shelf: Shelf, block: u32): void {
  if (shelf.tail == 0) shelf.head = block;
  else store<u32>(shelf.tail, block, BLOCK_NEXT);
  shelf.tail = block;
  shelf.frames++;
}

/** See KernelExports.migrationLatePeek. */
export function migrationLatePeek(): u32 {
  if (late.head == 0) return 0;
  const record = late.head + BLOCK_RECORD;
  store<u32>(RESULT_BASE, FRAME_OFFSET + load<u32>(record, FRAME_LENGTH));
  store<u32>(RESULT_BASE, load<u32>(late.head, BLOCK_GROUP), 4);
  return record;
}

/** See KernelExports.migrationLateDrop. */
export function migrationLateDrop(): void {
  if (late.head != 0) shelfDrop(late);
}

/** How many frames lie there. */
export function shelfFrames(shelf: Shelf): u32 {
  return shelf.frames;
}

/** Record of the oldest. Preconditions: shelfFrames() > 0, here and below. */
export function shelfRecord(shelf: Shelf): usize {
  return shelf.head + BLOCK_RECORD;
}

/** Its group, or GROUP_NONE. */
export function shelfGroup(shelf: Shelf): u32 {
  return load<u32>(shelf.head, BLOCK_GROUP);
}

/** Gives the oldest back. */
export function shelfDrop(shelf: Shelf): void {
  const block = shelf.head;
  shelf.head = load<u32>(block, BLOCK_NEXT);
  if (shelf.head == 0) shelf.tail = 0;
  shelf.frames--;
  streamFree(block, load<u32>(block, BLOCK_ORDER));
}

/** Puts the oldest behind all others. */
export function shelfRotate(shelf: Shelf): void {
  const block = shelf.head;
  shelf.head = load<u32>(block, BLOCK_NEXT);
  if (shelf.head == 0) shelf.tail = 0;
  shelf.frames--;
  store<u32>(block, 0, BLOCK_NEXT);
  append(shelf, block);
}
