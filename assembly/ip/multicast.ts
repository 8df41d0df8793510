/**
 * Groups that sockets of this kernel are in, of both families, as 16-byte addresses: which multicast packets are for us
 * (RFC 1112 7.1, RFC 1122 3.3.7). Telling routers and switches of them is the control path's (src/ip/groupReports.ts),
 * which looks here when `multicastRevision` has changed.
 */
import { arenaAlloc } from "../mem/arena.ts";
import { EINVAL, ENOBUFS } from "../../src/layout/status.ts";
import { isMulticastV6, isV4Mapped, isAllHostsV4, isMulticastV4 } from "../wire/addressKind.ts";
import { V4_MAPPED } from "../wire/headers.ts";

const GROUPS_MAX: u32 = 64;
const NONE: i32 = -1;

@unmanaged
class Group {
  high: u64;
  low: u64;
  /** Memberships of sockets; 0: the record is free. */
  members: u32;
}
const GROUP_SIZE_BYTES: usize = 24;
if (offsetof<Group>() > GROUP_SIZE_BYTES) ERROR("Group does not fit its record");

let table: usize = 0;
/** Records below this have been in use. */
let touched: u32 = 0;
let revision: u32 = 0;

/** @returns false when the arena is too small. */
export function multicastBoot(): bool {
  table = arenaAlloc(GROUPS_MAX * GROUP_SIZE_BYTES, 64);
  return table != 0;
}

function at(index: i32): Group {
  return changetype<Group>(table + <usize>index * GROUP_SIZE_BYTES);
}

function find(high: u64, low: u64): i32 {
  for (let i: u32 = 0; i < touched; i++) {
    const group = at(i);
    if (group.low == low && group.high == high && group.members != 0) return i;
  }
  return NONE;
}

/** Index of a group that we are in, -1: we are not. @param v4 in memory order. */
export function multicastFindV4(v4: u32): i32 {
  return find(0, <u64>V4_MAPPED | ((<u64>v4) << 32));
}

/** @param address 16 bytes. */
export function multicastFind(address: usize): i32 {
  return find(load<u64>(address), load<u64>(address, 8));
}

/** True for groups that packets come to us for. */
export function multicastIsOursV4(v4: u32): bool {
  return isMulticastV4(v4) && (isAllHostsV4(v4) || multicastFindV4(v4) >= 0);
}

/** One more socket is in the group at `address`, 16 bytes. @returns its index, EINVAL: no group, ENOBUFS. */
export function multicastJoin(address: usize): i32 {
  const isGroup = isV4Mapped(address) ? isMulticastV4(load<u32>(address, 12)) : isMulticastV6(address);
  if (!isGroup) return EINVAL;
  let index = multicastFind(address);
  for (let i: u32 = 0; i < touched && index == NONE; i++) if (at(i).members == 0) index = i;
  if (index == NONE) {
    if (touched == GROUPS_MAX) return ENOBUFS;
    index = <i32>touched;
    touched++;
  }
  const group = at(index);
  group.high = load<u64>(address);
  group.low = load<u64>(address, 8);
  if (group.members++ == 0) revision++;
  return index;
}

/** One socket fewer is in group number `index`. */
export function multicastLeave(index: i32): void {
  if (--at(index).members == 0) revision++;
}

/** See KernelExports.multicastRevision. */
export function multicastRevision(): u32 {
  return revision;
}

/** See KernelExports.multicastList. */
export function multicastList(target: usize): u32 {
  let count: u32 = 0;
  for (let i: u32 = 0; i < touched; i++) {
    if (at(i).members == 0) continue;
    memory.copy(target + (count << 4), changetype<usize>(at(i)), 16);
    count++;
  }
  return count;
}
