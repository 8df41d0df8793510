/**
 * Which sockets are in which groups (node:dgram's addMembership). As in Linux a socket can be in 20 groups, and its
 * memberships end with it. Unlike there (IP_MULTICAST_ALL) a socket hears of the groups that it has joined itself.
 */
import { multicastFind, multicastJoin, multicastLeave } from "../ip/multicast.ts";
import { arenaAlloc } from "../mem/arena.ts";
import { EADDRINUSE, EADDRNOTAVAIL, ENOBUFS, OK } from "../../src/layout/status.ts";

/** Of Linux: net.ipv4.igmp_max_memberships. */
const PER_SOCKET_MAX: u32 = 20;
const MEMBERSHIPS_MAX: u32 = 256;

/** u16 socket, u16 group: the memberships, in no order. */
let table: usize = 0;
let memberships: u32 = 0;

/** @returns false when the arena is too small. */
export function membershipBoot(): bool {
  table = arenaAlloc(MEMBERSHIPS_MAX << 2, 64);
  return table != 0;
}

function pairOf(socket: u32, group: u32): u32 {
  return socket | (group << 16);
}

/** @returns its place, -1: there is none. */
function find(pair: u32): i32 {
  for (let i: u32 = 0; i < memberships; i++) if (load<u32>(table + (i << 2)) == pair) return i;
  return -1;
}

function removeAt(place: u32): void {
  memberships--;
  store<u32>(table + (place << 2), load<u32>(table + (memberships << 2)));
}

/** Is the socket in the group of this index? */
export function isMember(socket: u32, group: i32): bool {
  return group >= 0 && find(pairOf(socket, group)) >= 0;
}

/**
 * @param group where its 16 bytes lie.
 * @returns OK, EADDRINUSE: the socket is in it, ENOBUFS: too many groups, EINVAL: it is no group.
 */
export function membershipAdd(socket: u32, group: usize): i32 {
  if (isMember(socket, multicastFind(group))) return EADDRINUSE;
  let own: u32 = 0;
  for (let i: u32 = 0; i < memberships; i++) if ((load<u32>(table + (i << 2)) & 0xffff) == socket) own++;
  if (own == PER_SOCKET_MAX || memberships == MEMBERSHIPS_MAX) return ENOBUFS;
  const index = multicastJoin(group);
  if (index < 0) return index;
  store<u32>(table + (memberships << 2), pairOf(socket, index));
  memberships++;
  return OK;
}

/** @returns OK, EADDRNOTAVAIL: the socket is not in it. */
export function membershipDrop(socket: u32, group: usize): i32 {
  const index = multicastFind(group);
  const place = index < 0 ? -1 : find(pairOf(socket, index));
  if (place < 0) return EADDRNOTAVAIL;
  removeAt(place);
  multicastLeave(index);
  return OK;
}

/** The socket is closed. */
export function membershipDropAll(socket: u32): void {
  for (let i: u32 = 0; i < memberships; ) {
    const pair = load<u32>(table + (i << 2));
    if ((pair & 0xffff) != socket) {
      i++;
      continue;
    }
    removeAt(i);
    multicastLeave(pair >> 16);
  }
}
