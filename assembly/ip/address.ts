/**
 * The kernel's own addresses and its routes. Addresses are 16 bytes, IPv4 as ::ffff:a.b.c.d, so that one table serves
 * both families; the IPv4 fast path looks at the last four bytes only (`v4`, in memory order: the first octet is the lowest byte).
 */
import * as C from "../../src/layout/config.ts";
import { CONFIG_BASE } from "../../src/layout/kernelMemory.ts";
import { EADDRINUSE, EINVAL, ENOBUFS } from "../../src/layout/status.ts";

const TABLE: usize = CONFIG_BASE + C.CONFIG_ADDRESSES;

export let addressCount: u32 = 0;
/** The first address, for the common case of exactly one. */
let firstV4: u32 = 0;

/** @returns false when a configured address is invalid. */
export function addressBoot(): bool {
  addressCount = load<u32>(CONFIG_BASE + C.CONFIG_ADDRESS_COUNT);
  if (addressCount > <u32>C.ADDRESSES_MAX) return false;
  firstV4 = addressCount > 0 ? addressV4(0) : 0;
  return true;
}

/** See KernelExports.addressAdd. */
export function addressAdd(address: usize, prefixLength: u32): i32 {
  if (addressCount >= <u32>C.ADDRESSES_MAX) return ENOBUFS;
  if (prefixLength > (isV4Mapped(address) ? 32 : 128)) return EINVAL;
  for (let i: u32 = 0; i < addressCount; i++) {
    if (memory.compare(TABLE + i * C.ADDRESS_SIZE_BYTES, address, 16) == 0) return EADDRINUSE;
  }
  const at = TABLE + addressCount * C.ADDRESS_SIZE_BYTES;
  memory.copy(at, address, 16);
  store<u8>(at, <u8>prefixLength, C.ADDRESS_PREFIX_LENGTH);
  addressCount++;
  firstV4 = addressV4(0);
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
  if (v4 == firstV4) return addressCount > 0 ? 0 : -1;
  for (let i: u32 = 1; i < addressCount; i++) {
    if (addressV4(i) == v4 && isV4Mapped(addressAt(i))) return <i32>i;
  }
  return -1;
}

/** Network mask of address number `index`, in memory order. */
export function addressMaskV4(index: u32): u32 {
  const prefixLength = load<u8>(addressAt(index), C.ADDRESS_PREFIX_LENGTH);
  return prefixLength == 0 ? 0 : bswap<u32>(0xffffffff << (32 - prefixLength));
}

/** True for 255.255.255.255 and the directed broadcast of one of our networks. */
export function isBroadcastV4(v4: u32): bool {
  if (v4 == 0xffffffff) return true;
  for (let i: u32 = 0; i < addressCount; i++) {
    const mask = addressMaskV4(i);
    if (mask != 0xffffffff && mask != 0xfeffffff && v4 == (addressV4(i) | ~mask)) return true;
  }
  return false;
}

/** Next hop towards `remote` from address number `index`: itself when on-link, the gateway, or 0: no route. */
export function nextHopV4(index: u32, remote: u32): u32 {
  if (((remote ^ addressV4(index)) & addressMaskV4(index)) == 0) return remote;
  return load<u32>(CONFIG_BASE + C.CONFIG_GATEWAY, 12);
}

/** Index of the local address to reach `remote` from: one in its network, else the first that has a gateway, else -1. */
export function sourceForV4(remote: u32): i32 {
  for (let i: u32 = 0; i < addressCount; i++) {
    if (isV4Mapped(addressAt(i)) && ((remote ^ addressV4(i)) & addressMaskV4(i)) == 0) return <i32>i;
  }
  return addressCount > 0 && load<u32>(CONFIG_BASE + C.CONFIG_GATEWAY, 12) != 0 ? 0 : -1;
}
