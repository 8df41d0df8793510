/**
 * Paths that are narrower than our link: what ICMP has told about a destination (RFC 1191, RFC 8201), for connections
 * and datagrams to come. A connection that exists learns by itself (tcp/icmp.ts).
 */
import { mtuBytes, seedWord } from "../config.ts";
import { linkMtuV6 } from "./link.ts";
import { count } from "../stats.ts";
import { nowTick, tickReached, ticksOfMs } from "../time.ts";
import { PATH_MTU_LEARNT } from "../../src/layout/counters.ts";
import { isV4Mapped } from "../wire/addressKind.ts";
import { V4_MAPPED } from "../wire/headers.ts";

/** Destinations remembered; two that meet in a place forget each other, which costs one packet. */
const ENTRIES: u32 = 256;
/** +0 16 bytes address, +16 u32 MTU (0: empty), +20 u32 tick at which it is forgotten. */
const ENTRY_SIZE_BYTES: u32 = 24;
/** RFC 8201 4, RFC 1191 6.3: ten minutes later the path may have become wider. */
const EXPIRY_MS: u32 = 600000;

const entries: usize = memory.data(6144, 8);
const v4Scratch: usize = memory.data(16, 8);
/** Nothing was ever learnt: the usual case, for which look-ups cost one load. */
let isEmpty: bool = true;

function entryOf(address: usize): usize {
  const hash = (load<u64>(address) ^ rotl<u64>(load<u64>(address, 8), 23) ^ seedWord(1)) * 0x9e3779b97f4a7c15;
  return entries + (<u32>(hash >> 56) & (ENTRIES - 1)) * ENTRY_SIZE_BYTES;
}

function linkMtuTo(address: usize): u32 {
  return isV4Mapped(address) ? mtuBytes : linkMtuV6();
}

/** Largest packet for the way to the 16 bytes at `address`: never more than the link's MTU. */
export function pathMtuOf(address: usize): u32 {
  if (isEmpty) return linkMtuTo(address);
  const entry = entryOf(address);
  const mtu = load<u32>(entry, 16);
  if (mtu == 0 || load<u64>(entry) != load<u64>(address) || load<u64>(entry, 8) != load<u64>(address, 8)) {
    return linkMtuTo(address);
  }
  if (!tickReached(load<u32>(entry, 20), nowTick)) return min(mtu, linkMtuTo(address));
  store<u32>(entry, 0, 16);
  return linkMtuTo(address);
}

/** A way is narrower than we thought. @param mtu as its router has told, at least the family's smallest. */
export function pathMtuLearn(address: usize, mtu: u32): void {
  if (mtu >= pathMtuOf(address)) return;
  isEmpty = false;
  const entry = entryOf(address);
  memory.copy(entry, address, 16);
  store<u32>(entry, mtu, 16);
  store<u32>(entry, nowTick + ticksOfMs(EXPIRY_MS), 20);
  count(PATH_MTU_LEARNT);
}

/** As pathMtuOf, for an IPv4 address in memory order. */
export function pathMtuOfV4(v4: u32): u32 {
  if (isEmpty) return mtuBytes;
  store<u32>(v4Scratch, V4_MAPPED, 8);
  store<u32>(v4Scratch, v4, 12);
  return pathMtuOf(v4Scratch);
}
