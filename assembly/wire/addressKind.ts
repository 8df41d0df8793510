/** What kind of address it is, whoever has it. IPv4 in memory order; IPv6 and Ethernet by where they lie. */
import { V4_MAPPED } from "./headers.ts";

export function isV4Mapped(address: usize): bool {
  return load<u64>(address) == 0 && load<u32>(address, 8) == V4_MAPPED;
}

/** Are the first `bits` bits of two addresses equal? @param bits 0..128. */
export function prefixEqual(a: usize, b: usize, bits: u32): bool {
  if (bits == 0) return true;
  const high = bswap<u64>(load<u64>(a) ^ load<u64>(b));
  if (bits <= 64) return high >> (64 - bits) == 0;
  if (high != 0) return false;
  return bswap<u64>(load<u64>(a, 8) ^ load<u64>(b, 8)) >> (128 - bits) == 0;
}

/** 127/8 (RFC 1122 3.2.1.3 (g)): such addresses are nowhere but inside the host. */
export function isLoopbackV4(v4: u32): bool {
  return (v4 & 0xff) == 127;
}

/** ::1 (RFC 4291 2.5.3). */
export function isLoopbackV6(at: usize): bool {
  return load<u64>(at) == 0 && load<u64>(at, 8) == 0x0100000000000000;
}

/** fe80::/10 (RFC 4291 2.5.6). */
export function isLinkLocalV6(at: usize): bool {
  return (<u32>load<u16>(at) & 0xc0ff) == 0x80fe;
}

export function isMulticastV6(at: usize): bool {
  return load<u8>(at) == 0xff;
}

/** ff01::1 and ff02::1 (RFC 4291 2.7.1): every node is in them. */
export function isAllNodesV6(at: usize): bool {
  const scope = <u32>load<u8>(at, 1);
  return load<u64>(at, 8) == 0x0100000000000000 && load<u64>(at) >> 16 == 0 && (scope == 1 || scope == 2);
}

export function isUnspecifiedV6(at: usize): bool {
  return (load<u64>(at) | load<u64>(at, 8)) == 0;
}

/** ff02::1:ff00:0/104 (RFC 4291 2.7.1). */
export function isSolicitedNodeGroup(at: usize): bool {
  return load<u64>(at) == 0x02ff && load<u32>(at, 8) == 0x01000000 && load<u8>(at, 12) == 0xff;
}

/**
 * True for an address that one host can have: not a group, not ::, not ::1, and not an IPv4 address in disguise, which
 * must not come over the wire (RFC 4942 2.2).
 */
export function isHostV6(at: usize): bool {
  if (load<u64>(at) == 0) {
    const low = load<u64>(at, 8);
    if (low == 0 || low == 0x0100000000000000 || <u32>low == V4_MAPPED) return false;
  }
  return load<u8>(at) != 0xff;
}

/** 224.0.0.0/4. */
export function isMulticastV4(v4: u32): bool {
  return (v4 & 0xf0) == 0xe0;
}

/** 224.0.0.1: every host is in it, and nobody is told so (RFC 1112 4). */
export function isAllHostsV4(v4: u32): bool {
  return v4 == 0x010000e0;
}

/** True for an address that a station can have: not a group address, not all zero. */
export function isStationMac(at: usize): bool {
  return (load<u8>(at) & 1) == 0 && (load<u32>(at) | load<u16>(at, 4)) != 0;
}

export function macEqual(a: usize, b: usize): bool {
  return load<u32>(a) == load<u32>(b) && load<u16>(a, 4) == load<u16>(b, 4);
}
