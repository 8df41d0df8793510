/**
 * Next hop and source address of what is sent: by own networks, redirects, routes and gateways (RFC 1122 3.3.1,
 * RFC 6724 5). IPv4 addresses in memory order.
 */
import {
  addressAt,
  addressCount,
  addressFindV4,
  addressIsLive,
  addressIsV6,
  addressMaskV4,
  addressV4,
  firstV4,
  v6Bits,
} from "./address.ts";
import { gatewayAlive, otherGateways } from "./gateways.ts";
import { redirectFind, redirectFindV4, redirects } from "./redirects.ts";
import { routeDefaultGateway, routeFindV4, routeFindV6, routeIsDefault, v4Routes } from "./routes.ts";
import {
  isLinkLocalV6,
  isLoopbackV4,
  isLoopbackV6,
  isMulticastV6,
  isV4Mapped,
  prefixEqual,
} from "../wire/addressKind.ts";
import * as C from "../../src/layout/config.ts";
import { CONFIG_BASE } from "../../src/layout/kernelMemory.ts";

/** See KernelExports.addressFor. */
export function addressFor(remote: usize): i32 {
  return isV4Mapped(remote) ? sourceForV4(load<u32>(remote, 12)) : sourceForV6(remote);
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
    if (addressIsLive(i) && !addressIsV6(i) && ((remote ^ addressV4(i)) & addressMaskV4(i)) == 0) return <i32>i;
  }
  return -1;
}

function isOnLinkV6(remote: usize): bool {
  for (let bits = v6Bits; bits != 0; bits &= bits - 1) {
    const own = addressAt(ctz(bits));
    if (addressIsLive(ctz(bits)) && prefixEqual(own, remote, load<u8>(own, C.ADDRESS_PREFIX_LENGTH))) return true;
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

function commonBits(a: usize, b: usize): u32 {
  const high = bswap<u64>(load<u64>(a) ^ load<u64>(b));
  if (high != 0) return <u32>clz(high);
  return 64 + <u32>clz(bswap<u64>(load<u64>(a, 8) ^ load<u64>(b, 8)));
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
    if (!addressIsLive(index) || isLoopbackV6(addressAt(index)) != isLoopbackV6(remote)) continue;
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
