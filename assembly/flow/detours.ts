/**
 * Flows that change hands one by one, while their groups stay (docs/migration.md, Stealing). A *detour* says of one
 * flow what a group's state says of all of its group: its connection is on its way here, or has gone to another kernel;
 * or that the flow is for this kernel, while its group is for another (a move that has been undone).
 * Only a segment that finds no connection looks here, and only while there are any detours.
 *
 * A hash table:
 * ```
 * │ 512 x u16 first entry of the bucket, plus one │ 992 entries of 32 bytes │
 * ```
 */
import { groupOfPorts } from "./groups.ts";
import { GROUP_LEFT, GROUP_STEADY } from "../../src/layout/migration.ts";
import { arenaAlloc } from "../mem/arena.ts";

@unmanaged
class Detour {
  remoteHigh: u64;
  remoteLow: u64;
  /** As they stand in a received segment. */
  ports: u32;
  /** The steal that it belongs to. */
  move: u32;
  /** Next of the bucket, or of the free ones, plus one. */
  next: u16;
  localIndex: u8;
  /** GROUP_*; GROUP_STEADY: the entry is free. */
  state: u8;
  reserved: u32;
}

const TABLE_BYTES: u32 = 32768;
const BUCKET_BITS: u32 = 9;
const HEADS_BYTES: u32 = 2 << BUCKET_BITS;
const ENTRY_BYTES: u32 = 32;
const DETOURS_MAX: u32 = (TABLE_BYTES - HEADS_BYTES) / ENTRY_BYTES;
if (offsetof<Detour>() > ENTRY_BYTES) ERROR("Detour does not fit its record");

let base: usize = 0;
/** First free entry, plus one; 0: those from `touched` on are. */
let freeHead: u32 = 0;
/** Entries that have ever been used. */
let touched: u32 = 0;
let entries: u32 = 0;

export function detoursBoot(): bool {
  base = arenaAlloc(TABLE_BYTES, 64);
  return base != 0;
}

/** True when there are any. */
export function haveDetours(): bool {
  return entries > 0;
}

/** How many more there is room for. */
export function detoursFree(): u32 {
  return DETOURS_MAX - entries;
}

function entryAt(index: u32): Detour {
  return changetype<Detour>(base + HEADS_BYTES + index * ENTRY_BYTES);
}

function headOf(remote: usize, ports: u32): usize {
  const mixed = (load<u32>(remote, 12) ^ ports) * 0x9e3779b1;
  return base + ((mixed >> (32 - BUCKET_BITS)) << 1);
}

function find(remote: usize, localIndex: u32, ports: u32): Detour {
  let at = <u32>load<u16>(headOf(remote, ports));
  while (at != 0) {
    const entry = entryAt(at - 1);
    if (
      entry.ports == ports &&
      entry.localIndex == localIndex &&
      entry.remoteLow == load<u64>(remote, 8) &&
      entry.remoteHigh == load<u64>(remote)
    ) {
      return entry;
    }
    at = entry.next;
  }
  return changetype<Detour>(0);
}

/** State of a flow; GROUP_STEADY: it takes none. Preconditions: haveDetours(). @param remote its 16 bytes. */
export function detourState(remote: usize, localIndex: u32, ports: u32): u32 {
  const entry = find(remote, localIndex, ports);
  return changetype<usize>(entry) == 0 ? GROUP_STEADY : <u32>entry.state;
}

/** One that there is already is changed. @param state not GROUP_STEADY. @returns false: there is no room. */
export function detourSet(remote: usize, localIndex: u32, ports: u32, state: u32, move: u32): bool {
  let entry = find(remote, localIndex, ports);
  if (changetype<usize>(entry) == 0) {
    if (freeHead == 0 && touched == DETOURS_MAX) return false;
    const index = freeHead != 0 ? freeHead - 1 : touched++;
    entry = entryAt(index);
    if (freeHead != 0) freeHead = entry.next;
    const head = headOf(remote, ports);
    entry.remoteHigh = load<u64>(remote);
    entry.remoteLow = load<u64>(remote, 8);
    entry.ports = ports;
    entry.localIndex = <u8>localIndex;
    entry.next = load<u16>(head);
    store<u16>(head, <u16>(index + 1));
    entries++;
  }
  entry.state = <u8>state;
  entry.move = move;
  return true;
}

/** Gives all detours of a steal another state. @param state GROUP_STEADY: they end. */
export function detoursChange(move: u32, state: u32): void {
  for (let index: u32 = 0; index < touched && entries > 0; index++) {
    const entry = entryAt(index);
    if (entry.state == GROUP_STEADY || entry.move != move) continue;
    if (state == GROUP_STEADY) remove(index);
    else entry.state = <u8>state;
  }
}

/** Flows of the group that had gone from here one by one may come back with it. */
export function detoursForget(group: u32): void {
  for (let index: u32 = 0; index < touched && entries > 0; index++) {
    const entry = entryAt(index);
    if (<u32>entry.state >= <u32>GROUP_LEFT && groupOfPorts(entry.ports) == group) remove(index);
  }
}

function remove(index: u32): void {
  const entry = entryAt(index);
  let at = headOf(changetype<usize>(entry), entry.ports);
  while (load<u16>(at) != index + 1) {
    at = changetype<usize>(entryAt(load<u16>(at) - 1)) + offsetof<Detour>("next");
  }
  store<u16>(at, entry.next);
  entry.state = <u8>GROUP_STEADY;
  entry.next = <u16>freeHead;
  freeHead = index + 1;
  entries--;
}
