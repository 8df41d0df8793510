/**
 * Better first hops that gateways have told us of (RFC 1122 3.2.2.2, RFC 4861 8.3): for single destinations, few, for
 * ten minutes. Who may tell what is decided where the message is read (icmp.ts, ndp.ts). One that does not answer is
 * forgotten (gateways.ts), and the next packet goes the old way.
 */
import { nowTick, tickReached, ticksOfMs } from "../time.ts";
import { V4_MAPPED } from "../wire/headers.ts";

const REDIRECTS_MAX: u32 = 32;
const LIFETIME_MS: u32 = 600000;
/** +0 16 bytes destination, +16 16 bytes next hop, +32 u32 tick at which it ends. */
const NEXT_HOP: usize = 16;
const UNTIL: usize = 32;
const SIZE_BYTES: u32 = 48;

const table: usize = memory.data(1536, 16);
/** How many there are; those that have ended among them. */
export let redirects: u32 = 0;

function at(index: u32): usize {
  return table + index * SIZE_BYTES;
}

export function redirectsBoot(): void {
  redirects = 0;
}

function remove(index: u32): void {
  redirects--;
  memory.copy(at(index), at(redirects), SIZE_BYTES);
}

/**
 * Where the 16 bytes of the next hop towards `destination` (16 bytes) lie; `destination` itself: it is on the link; 0:
 * nobody has told.
 */
export function redirectFind(destination: usize): usize {
  const high = load<u64>(destination);
  const low = load<u64>(destination, 8);
  for (let i: u32 = 0; i < redirects; i++) {
    if (load<u64>(at(i), 8) != low || load<u64>(at(i)) != high) continue;
    if (!tickReached(load<u32>(at(i), UNTIL), nowTick)) {
      return isSame(at(i) + NEXT_HOP, destination) ? destination : at(i) + NEXT_HOP;
    }
    remove(i);
    return 0;
  }
  return 0;
}

const v4Key: usize = memory.data(16, 16);

/** Likewise for an IPv4 address, in memory order, as is the result. */
export function redirectFindV4(destination: u32): u32 {
  store<u32>(v4Key, V4_MAPPED, 8);
  store<u32>(v4Key, destination, 12);
  const nextHop = redirectFind(v4Key);
  return nextHop == 0 ? 0 : load<u32>(nextHop, 12);
}

/** From now on packets to `destination` go to `nextHop`, 16 bytes each. The oldest makes room. */
export function redirectLearn(destination: usize, nextHop: usize): void {
  let place: u32 = redirects;
  for (let i: u32 = 0; i < redirects; i++) {
    if (isSame(at(i), destination)) place = i;
  }
  if (place == redirects && redirects < REDIRECTS_MAX) {
    redirects++;
  } else if (place == redirects) {
    place = 0;
    for (let i: u32 = 1; i < redirects; i++) {
      if (<i32>(load<u32>(at(i), UNTIL) - load<u32>(at(place), UNTIL)) < 0) place = i;
    }
  }
  v128.store(at(place), v128.load(destination));
  v128.store(at(place), v128.load(nextHop), NEXT_HOP);
  store<u32>(at(place), nowTick + ticksOfMs(LIFETIME_MS), UNTIL);
}

function isSame(a: usize, b: usize): bool {
  return load<u64>(a) == load<u64>(b) && load<u64>(a, 8) == load<u64>(b, 8);
}

/** Nothing goes by this next hop any more. @param alsoItself not even what is for itself. */
export function redirectsForget(nextHop: usize, alsoItself: bool): void {
  for (let i: u32 = 0; i < redirects; ) {
    if (isSame(at(i) + NEXT_HOP, nextHop) && (alsoItself || !isSame(at(i), nextHop))) remove(i);
    else i++;
  }
}
