/**
 * The kernel's own addresses. Addresses are 16 bytes, IPv4 as ::ffff:a.b.c.d, so that one table serves
 * both families; the IPv4 fast path looks at the last four bytes only (`v4`, in memory order: the first octet is the
 * lowest byte).
 */
import { isLoopbackV4, isV4Mapped } from "../wire/addressKind.ts";
import * as C from "../../src/layout/config.ts";
import { CONFIG_BASE } from "../../src/layout/kernelMemory.ts";
import { EADDRINUSE, EADDRNOTAVAIL, EINVAL, ENOBUFS } from "../../src/layout/status.ts";

const TABLE: usize = CONFIG_BASE + C.CONFIG_ADDRESSES;

export let addressCount: u32 = 0;
/** Bit i: address i is an IPv6 address. */
export let v6Bits: u32 = 0;
/** Index of the address that addressFindV6 found last: packets for one address come in runs. */
let v6Seen: i32 = -1;

/**
 * What an IPv4 address is to us, by open addressing: u32 address, u32 kind (0: empty slot, index + 1: own address,
 * KIND_BROADCAST: directed broadcast of one of our networks). At most two entries per address: never more than half
 * full.
 */
const SLOTS: u32 = 128;
const KIND_BROADCAST: u32 = 0x8000;
const slots: usize = memory.data(1024, 64);

/** @returns false when a configured address is invalid. */
export function addressBoot(): bool {
  addressCount = load<u32>(CONFIG_BASE + C.CONFIG_ADDRESS_COUNT);
  if (addressCount > <u32>C.ADDRESSES_MAX) return false;
  for (let i: u32 = 0; i < addressCount; i++) {
    if (load<u8>(addressAt(i), C.ADDRESS_PREFIX_LENGTH) > (isV4Mapped(addressAt(i)) ? 32 : 128)) return false;
  }
  rebuild();
  return true;
}

/** Network masks by index of the address, in memory order; of IPv6 addresses nothing. */
const masks: usize = memory.data(<i32>C.ADDRESSES_MAX * 4, 16);

/** Makes what is derived from the table anew. */
function rebuild(): void {
  for (let i: u32 = 0; i < addressCount; i++) {
    const bits = <u32>load<u8>(addressAt(i), C.ADDRESS_PREFIX_LENGTH);
    if (bits <= 32) store<u32>(masks + (i << 2), bits == 0 ? 0 : bswap<u32>(0xffffffff << (32 - bits)));
  }
  memory.fill(slots, 0, SLOTS << 3);
  v6Bits = 0;
  v6Seen = -1;
  // Own addresses first: what is ours cannot be hidden by another network's broadcast address.
  for (let i: u32 = 0; i < addressCount; i++) {
    if (!isV4Mapped(addressAt(i))) v6Bits |= (<u32>1) << i;
    else if (addressIsLive(i)) enter(addressV4(i), i + 1);
  }
  for (let i: u32 = 0; i < addressCount; i++) {
    if (!addressIsLive(i) || addressIsV6(i)) continue;
    // /31 and /32 networks have no broadcast address (RFC 3021).
    if (<u32>load<u8>(addressAt(i), C.ADDRESS_PREFIX_LENGTH) < 31) {
      enter(addressV4(i) | ~addressMaskV4(i), KIND_BROADCAST);
    }
  }
}

/** In use: not one that was removed. */
export function addressIsLive(index: u32): bool {
  return (load<u8>(addressAt(index), C.ADDRESS_FLAGS) & C.ADDRESS_REMOVED) == 0;
}

function enter(v4: u32, kind: u32): void {
  let slot = slotOf(v4);
  while (load<u32>(slot, 4) != 0) {
    if (load<u32>(slot) == v4) return;
    slot = nextSlot(slot);
  }
  store<u32>(slot, v4);
  store<u32>(slot, kind, 4);
}

function slotOf(v4: u32): usize {
  return slots + (((v4 * 0x9e3779b1) >> 25) << 3);
}

function nextSlot(slot: usize): usize {
  return slots + ((slot + 8 - slots) & ((SLOTS << 3) - 1));
}

/** 0: nothing of ours. */
function kindOf(v4: u32): u32 {
  let slot = slotOf(v4);
  while (load<u32>(slot, 4) != 0) {
    if (load<u32>(slot) == v4) return load<u32>(slot, 4);
    slot = nextSlot(slot);
  }
  return 0;
}

/**
 * See KernelExports.addressAdd. An address that was removed gets its index back, and so do the sockets bound to it; a
 * new one gets a new index as long as there are any, then the index of one that was removed.
 */
export function addressAdd(address: usize, prefixLength: u32): i32 {
  if (prefixLength > <u32>(isV4Mapped(address) ? 32 : 128)) return EINVAL;
  if (isGroupAddress(address)) return EINVAL;
  let index: i32 = -1;
  for (let i: u32 = 0; i < addressCount; i++) {
    if (memory.compare(addressAt(i), address, 16) == 0) {
      if (addressIsLive(i)) return EADDRINUSE;
      index = i;
    }
  }
  if (index < 0 && addressCount < <u32>C.ADDRESSES_MAX) {
    index = <i32>addressCount;
    addressCount++;
  }
  for (let i: u32 = 0; i < addressCount && index < 0; i++) {
    if (!addressIsLive(i)) index = i;
  }
  if (index < 0) return ENOBUFS;
  const at = addressAt(index);
  memory.copy(at, address, 16);
  store<u8>(at, <u8>prefixLength, C.ADDRESS_PREFIX_LENGTH);
  store<u8>(at, 0, C.ADDRESS_FLAGS);
  store<u32>(CONFIG_BASE + C.CONFIG_ADDRESS_COUNT, addressCount);
  rebuild();
  return index;
}

/** Takes an own address out of use (tcp/abort.ts deals with its connections). @returns its index or EADDRNOTAVAIL. */
export function addressTakeAway(address: usize): i32 {
  const index = addressFind(address);
  if (index < 0) return EADDRNOTAVAIL;
  store<u8>(addressAt(index), C.ADDRESS_REMOVED, C.ADDRESS_FLAGS);
  rebuild();
  return index;
}

/** See KernelExports.addressDeprecate (RFC 4862 5.5.4). @returns its index or EADDRNOTAVAIL. */
export function addressDeprecate(address: usize, deprecated: u32): i32 {
  const index = addressFind(address);
  if (index < 0) return EADDRNOTAVAIL;
  store<u8>(addressAt(index), deprecated != 0 ? C.ADDRESS_DEPRECATED : 0, C.ADDRESS_FLAGS);
  return index;
}

/** Index of the own address at `address`, 16 bytes; -1: not ours. */
export function addressFind(address: usize): i32 {
  return isV4Mapped(address) ? addressFindV4(load<u32>(address, 12)) : addressFindV6(address);
}

/** True for 0.0.0.0, ::, IPv4 and IPv6 multicast, 255.255.255.255: no station's address. */
function isGroupAddress(address: usize): bool {
  if (!isV4Mapped(address)) return load<u8>(address) == 0xff || (load<u64>(address) | load<u64>(address, 8)) == 0;
  const octet = <u32>load<u8>(address, 12);
  return octet >= 224 || octet == 0;
}

/** True when address number `index` is an IPv6 address. */
export function addressIsV6(index: u32): bool {
  return ((v6Bits >> index) & 1) != 0;
}

/** IPv4 address number `index`, in memory order. */
export function addressV4(index: u32): u32 {
  return load<u32>(TABLE + index * C.ADDRESS_SIZE_BYTES, 12);
}

/** Where the 16 bytes of address number `index` lie. */
export function addressAt(index: u32): usize {
  return TABLE + index * C.ADDRESS_SIZE_BYTES;
}

/** Index of an own IPv4 address, -1 when it is not ours. */
export function addressFindV4(v4: u32): i32 {
  const kind = kindOf(v4);
  return kind == KIND_BROADCAST ? -1 : <i32>kind - 1;
}

/** Network mask of address number `index`, in memory order. */
export function addressMaskV4(index: u32): u32 {
  return load<u32>(masks + (index << 2));
}

/** True for 255.255.255.255 and the directed broadcast of one of our networks. */
export function isBroadcastV4(v4: u32): bool {
  return v4 == 0xffffffff || kindOf(v4) == KIND_BROADCAST;
}

/** True for an own address or a broadcast of ours: neither can be the source of a packet from outside. */
export function isOursOrBroadcastV4(v4: u32): bool {
  return v4 == 0xffffffff || kindOf(v4) != 0;
}

/** First own IPv4 address in use that others know, -1: none. */
export function firstV4(): i32 {
  for (let i: u32 = 0; i < addressCount; i++) {
    if (addressIsLive(i) && !addressIsV6(i) && !isLoopbackV4(addressV4(i))) return <i32>i;
  }
  return -1;
}

// IPv6.

/** Index of an own IPv6 address, -1 when it is not ours. */
export function addressFindV6(at: usize): i32 {
  const high = load<u64>(at);
  const low = load<u64>(at, 8);
  if (v6Seen >= 0) {
    const seen = addressAt(v6Seen);
    if (load<u64>(seen, 8) == low && load<u64>(seen) == high) return v6Seen;
  }
  for (let bits = v6Bits; bits != 0; bits &= bits - 1) {
    const index = ctz(bits);
    const own = addressAt(index);
    if (load<u64>(own, 8) == low && load<u64>(own) == high && addressIsLive(index)) {
      v6Seen = <i32>index;
      return v6Seen;
    }
  }
  return -1;
}

/** True when we speak IPv6: a stack with IPv4 addresses only does not. */
export function speaksV6(): bool {
  return v6Bits != 0;
}

/** True for an IPv4 address that a neighbour can have: not 0/8, 127/8, multicast, class E or broadcast. */
export function isHostV4(v4: u32): bool {
  const octet = v4 & 0xff;
  return octet != 0 && octet != 127 && octet < 224 && !isBroadcastV4(v4);
}
