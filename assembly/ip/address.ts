/**
 * The kernel's own addresses and its routes. Addresses are 16 bytes, IPv4 as ::ffff:a.b.c.d, so that one table serves
 * both families; the IPv4 fast path looks at the last four bytes only (`v4`, in memory order: the first octet is the
 * lowest byte).
 */
import * as C from "../../src/layout/config.ts";
import { CONFIG_BASE } from "../../src/layout/kernelMemory.ts";
import { EADDRINUSE, EINVAL, ENOBUFS } from "../../src/layout/status.ts";

const TABLE: usize = CONFIG_BASE + C.CONFIG_ADDRESSES;

export let addressCount: u32 = 0;

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
  memory.fill(slots, 0, SLOTS << 3);
  for (let i: u32 = 0; i < addressCount; i++) {
    if (load<u8>(addressAt(i), C.ADDRESS_PREFIX_LENGTH) > (isV4Mapped(addressAt(i)) ? 32 : 128)) return false;
    remember(i);
  }
  return true;
}

function remember(index: u32): void {
  if (!isV4Mapped(addressAt(index))) return;
  enter(addressV4(index), index + 1);
  // /31 and /32 networks have no broadcast address (RFC 3021).
  const prefixLength = <u32>load<u8>(addressAt(index), C.ADDRESS_PREFIX_LENGTH);
  if (prefixLength < 31) enter(addressV4(index) | ~addressMaskV4(index), KIND_BROADCAST);
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

/** See KernelExports.addressAdd. */
export function addressAdd(address: usize, prefixLength: u32): i32 {
  if (addressCount >= <u32>C.ADDRESSES_MAX) return ENOBUFS;
  if (prefixLength > <u32>(isV4Mapped(address) ? 32 : 128)) return EINVAL;
  for (let i: u32 = 0; i < addressCount; i++) {
    if (memory.compare(TABLE + i * C.ADDRESS_SIZE_BYTES, address, 16) == 0) return EADDRINUSE;
  }
  const at = TABLE + addressCount * C.ADDRESS_SIZE_BYTES;
  memory.copy(at, address, 16);
  store<u8>(at, <u8>prefixLength, C.ADDRESS_PREFIX_LENGTH);
  addressCount++;
  remember(addressCount - 1);
  store<u32>(CONFIG_BASE + C.CONFIG_ADDRESS_COUNT, addressCount);
  return <i32>addressCount - 1;
}

export function isV4Mapped(address: usize): bool {
  return load<u64>(address) == 0 && load<u32>(address, 8) == 0xffff0000;
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
  const prefixLength = load<u8>(addressAt(index), C.ADDRESS_PREFIX_LENGTH);
  return prefixLength == 0 ? 0 : bswap<u32>(0xffffffff << (32 - prefixLength));
}

/** True for 255.255.255.255 and the directed broadcast of one of our networks. */
export function isBroadcastV4(v4: u32): bool {
  return v4 == 0xffffffff || kindOf(v4) == KIND_BROADCAST;
}

/** True for an own address or a broadcast of ours: neither can be the source of a packet from outside. */
export function isOursOrBroadcastV4(v4: u32): bool {
  return v4 == 0xffffffff || kindOf(v4) != 0;
}

/** Next hop towards `remote` from address number `index`: itself when on-link, the gateway, or 0: no route. */
export function nextHopV4(index: u32, remote: u32): u32 {
  if (((remote ^ addressV4(index)) & addressMaskV4(index)) == 0) return remote;
  return load<u32>(CONFIG_BASE + C.CONFIG_GATEWAY, 12);
}

/**
 * Index of the local address to reach `remote` from: one in its network, else the first that has a gateway, else -1.
 */
export function sourceForV4(remote: u32): i32 {
  for (let i: u32 = 0; i < addressCount; i++) {
    if (isV4Mapped(addressAt(i)) && ((remote ^ addressV4(i)) & addressMaskV4(i)) == 0) return <i32>i;
  }
  return addressCount > 0 && load<u32>(CONFIG_BASE + C.CONFIG_GATEWAY, 12) != 0 ? 0 : -1;
}
