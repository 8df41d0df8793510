/**
 * The kernel's own addresses and its routes. Addresses are 16 bytes, IPv4 as ::ffff:a.b.c.d, so that one table serves
 * both families; the IPv4 fast path looks at the last four bytes only (`v4`, in memory order: the first octet is the
 * lowest byte).
 */
import * as C from "../../src/layout/config.ts";
import { CONFIG_BASE } from "../../src/layout/kernelMemory.ts";
import { EADDRINUSE, EADDRNOTAVAIL, EINVAL, ENOBUFS } from "../../src/layout/status.ts";
import { gatewayAlive, otherGateways } from "./gateways.ts";
import { redirectFind, redirectFindV4, redirects } from "./redirects.ts";
import { routeDefaultGateway, routeFindV4, routeFindV6, routeIsDefault, v4Routes } from "./routes.ts";

const TABLE: usize = CONFIG_BASE + C.CONFIG_ADDRESSES;

export let addressCount: u32 = 0;
/** Bit i: address i is an IPv6 address. */
let v6Bits: u32 = 0;
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
    else if (isLive(i)) enter(addressV4(i), i + 1);
  }
  for (let i: u32 = 0; i < addressCount; i++) {
    if (!isLive(i) || addressIsV6(i)) continue;
    // /31 and /32 networks have no broadcast address (RFC 3021).
    if (<u32>load<u8>(addressAt(i), C.ADDRESS_PREFIX_LENGTH) < 31) {
      enter(addressV4(i) | ~addressMaskV4(i), KIND_BROADCAST);
    }
  }
}

function isLive(index: u32): bool {
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
      if (isLive(i)) return EADDRINUSE;
      index = i;
    }
  }
  if (index < 0 && addressCount < <u32>C.ADDRESSES_MAX) {
    index = <i32>addressCount;
    addressCount++;
  }
  for (let i: u32 = 0; i < addressCount && index < 0; i++) {
    if (!isLive(i)) index = i;
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

/** See KernelExports.addressFor. */
export function addressFor(remote: usize): i32 {
  return isV4Mapped(remote) ? sourceForV4(load<u32>(remote, 12)) : sourceForV6(remote);
}

export function isV4Mapped(address: usize): bool {
  return load<u64>(address) == 0 && load<u32>(address, 8) == 0xffff0000;
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

/** 127/8 (RFC 1122 3.2.1.3 (g)): such addresses are nowhere but inside the host. */
export function isLoopbackV4(v4: u32): bool {
  return (v4 & 0xff) == 127;
}

/** ::1 (RFC 4291 2.5.3). */
export function isLoopbackV6(at: usize): bool {
  return load<u64>(at) == 0 && load<u64>(at, 8) == 0x0100000000000000;
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

/** Next hop towards `remote` from address number `index`: itself when on-link, a gateway, or 0: no route. */
export function nextHopV4(index: u32, remote: u32): u32 {
  if (((remote ^ addressV4(index)) & addressMaskV4(index)) == 0) return remote;
  if (isLoopbackV4(remote) || isLoopbackV4(addressV4(index))) return addressFindV4(remote) >= 0 ? remote : 0;
  if (redirects != 0) {
    const told = redirectFindV4(remote);
    if (told != 0) return told;
  }
  return gatewayToV4(remote);
}

/** By route; 0: none leads there. */
function gatewayToV4(remote: u32): u32 {
  const gateway = v4Routes == 0 ? 0 : routeFindV4(remote);
  if (gateway != 0 && (otherGateways == 0 || !routeIsDefault || gateway == remote)) return gateway;
  const first: usize = gateway != 0 ? routeDefaultGateway() : CONFIG_BASE + C.CONFIG_GATEWAY;
  return load<u32>(otherGateways == 0 ? first : gatewayAlive(first, true), 12);
}

/**
 * Index of the local address to reach `remote` from: itself when it is ours, one in its network, one in the network of
 * the gateway, else the first when there is a gateway, else -1.
 */
export function sourceForV4(remote: u32): i32 {
  const own = addressFindV4(remote);
  if (own >= 0) return own;
  if (isLoopbackV4(remote)) return -1;
  const direct = inNetworkOfV4(remote);
  if (direct >= 0) return direct;
  const gateway = gatewayToV4(remote);
  if (gateway == 0) return -1;
  const near = inNetworkOfV4(gateway);
  return near >= 0 ? near : firstV4();
}

function inNetworkOfV4(remote: u32): i32 {
  for (let i: u32 = 0; i < addressCount; i++) {
    if (isLive(i) && !addressIsV6(i) && ((remote ^ addressV4(i)) & addressMaskV4(i)) == 0) return <i32>i;
  }
  return -1;
}

/** First own IPv4 address in use that others know, -1: none. */
export function firstV4(): i32 {
  for (let i: u32 = 0; i < addressCount; i++) {
    if (isLive(i) && !addressIsV6(i) && !isLoopbackV4(addressV4(i))) return <i32>i;
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
    if (load<u64>(own, 8) == low && load<u64>(own) == high && isLive(index)) {
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
    if (low == 0 || low == 0x0100000000000000 || <u32>low == 0xffff0000) return false;
  }
  return load<u8>(at) != 0xff;
}

/** Are the first `bits` bits of two addresses equal? @param bits 0..128. */
export function prefixEqual(a: usize, b: usize, bits: u32): bool {
  if (bits == 0) return true;
  const high = bswap<u64>(load<u64>(a) ^ load<u64>(b));
  if (bits <= 64) return high >> (64 - bits) == 0;
  if (high != 0) return false;
  return bswap<u64>(load<u64>(a, 8) ^ load<u64>(b, 8)) >> (128 - bits) == 0;
}

function commonBits(a: usize, b: usize): u32 {
  const high = bswap<u64>(load<u64>(a) ^ load<u64>(b));
  if (high != 0) return <u32>clz(high);
  return 64 + <u32>clz(bswap<u64>(load<u64>(a, 8) ^ load<u64>(b, 8)));
}

function isOnLinkV6(remote: usize): bool {
  for (let bits = v6Bits; bits != 0; bits &= bits - 1) {
    const own = addressAt(ctz(bits));
    if (isLive(ctz(bits)) && prefixEqual(own, remote, load<u8>(own, C.ADDRESS_PREFIX_LENGTH))) return true;
  }
  return false;
}

/** Where the next hop towards the 16 bytes at `remote` lies: `remote` itself when on-link; 0: no route. */
export function nextHopV6(remote: usize): usize {
  if (isLinkLocalV6(remote) || isOnLinkV6(remote)) return remote;
  if (redirects != 0) {
    const told = redirectFind(remote);
    if (told != 0) return told;
  }
  const gateway = routeFindV6(remote);
  if (gateway == 0 || gateway == remote || otherGateways == 0 || !routeIsDefault) return gateway;
  return gatewayAlive(gateway, false);
}

/** Scope of an address, as RFC 6724 3.1 orders them: 2 link-local, 14 global (also fc00::/7). */
function scopeOf(at: usize): u32 {
  if (isMulticastV6(at)) return load<u8>(at, 1) & 15;
  return isLinkLocalV6(at) ? 2 : 14;
}

/**
 * Index of the local address to reach the 16 bytes at `remote` from (RFC 6724 5); -1: no route or no address.
 * Deviates: rules 1, 2, 3 and 8. The others speak of home addresses, several interfaces, labels (which need a policy
 * table) and temporary addresses, none of which we have.
 */
export function sourceForV6(remote: usize): i32 {
  if (!isMulticastV6(remote) && nextHopV6(remote) == 0) return -1;
  let best: i32 = -1;
  for (let bits = v6Bits; bits != 0; bits &= bits - 1) {
    const index = <i32>ctz(bits);
    if (!isLive(index) || isLoopbackV6(addressAt(index)) != isLoopbackV6(remote)) continue;
    if (best < 0 || isBetterSource(index, best, remote)) best = index;
  }
  return best;
}

/** Is address `a` a better source than `b`? */
function isBetterSource(a: u32, b: u32, remote: usize): bool {
  if (memory.compare(addressAt(a), remote, 16) == 0) return true;
  if (memory.compare(addressAt(b), remote, 16) == 0) return false;
  const scopeA = scopeOf(addressAt(a));
  const scopeB = scopeOf(addressAt(b));
  const scope = scopeOf(remote);
  if (scopeA != scopeB) return scopeA < scopeB ? scopeA >= scope : scopeB < scope;
  const deprecatedA = load<u8>(addressAt(a), C.ADDRESS_FLAGS) & C.ADDRESS_DEPRECATED;
  const deprecatedB = load<u8>(addressAt(b), C.ADDRESS_FLAGS) & C.ADDRESS_DEPRECATED;
  if (deprecatedA != deprecatedB) return deprecatedA == 0;
  // No longer than the source's own prefix: behind it stands no network's number (RFC 6724 2.2).
  const bitsA = min<u32>(commonBits(addressAt(a), remote), load<u8>(addressAt(a), C.ADDRESS_PREFIX_LENGTH));
  const bitsB = min<u32>(commonBits(addressAt(b), remote), load<u8>(addressAt(b), C.ADDRESS_PREFIX_LENGTH));
  return bitsA > bitsB;
}
