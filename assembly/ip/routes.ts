/**
 * Routes beside the networks of our own addresses: a prefix and the gateway to it, or a prefix that is on the link
 * without an address of ours in it. Few, so that the longest matching prefix is found by looking at all of them; IPv4
 * without any costs nothing but a comparison (ip/address.ts).
 */
import { CONFIG_BASE } from "../../src/layout/kernelMemory.ts";
import { CONFIG_GATEWAY } from "../../src/layout/config.ts";
import { EINVAL, ENOBUFS, OK } from "../../src/layout/status.ts";
import { isV4Mapped, prefixEqual } from "../wire/addressKind.ts";
import { V4_MAPPED } from "../wire/headers.ts";

const ROUTES_MAX: u32 = 64;
/** +0 16 bytes prefix, +16 16 bytes gateway (all zero: on the link), +32 u32 prefix length of 128. */
const ROUTE_GATEWAY: usize = 16;
const ROUTE_BITS: usize = 32;
const ROUTE_SIZE_BYTES: u32 = 40;
/** Bits before an IPv4 address in an IPv4-mapped one. */
const MAPPED_BITS: u32 = 96;

const table: usize = memory.data(2560, 8);
const v4Scratch: usize = memory.data(16, 8);
let routes: u32 = 0;
/** Routes to IPv4 networks, the default gateway of the configuration not counted. */
export let v4Routes: u32 = 0;

function routeAt(index: u32): usize {
  return table + index * ROUTE_SIZE_BYTES;
}

/** The configured gateway, when it is an IPv6 address, becomes an ordinary default route. */
export function routesBoot(): void {
  routes = 0;
  v4Routes = 0;
  store<u32>(v4Scratch, V4_MAPPED, 8);
  const gateway: usize = CONFIG_BASE + CONFIG_GATEWAY;
  if ((load<u64>(gateway) | load<u64>(gateway, 8)) == 0 || isV4Mapped(gateway)) return;
  memory.fill(routeAt(0), 0, ROUTE_SIZE_BYTES);
  memory.copy(routeAt(0) + ROUTE_GATEWAY, gateway, 16);
  routes = 1;
}

/**
 * See KernelExports.routeSet.
 * @param gateway where its 16 bytes lie; all zero: the prefix is on the link.
 * @returns OK, EINVAL or ENOBUFS.
 */
export function routeSet(prefix: usize, prefixLength: u32, gateway: usize): i32 {
  const isV4 = isV4Mapped(prefix);
  if (prefixLength > (isV4 ? 32 : 128)) return EINVAL;
  if ((load<u64>(gateway) | load<u64>(gateway, 8)) != 0 && isV4Mapped(gateway) != isV4) return EINVAL;
  const bits = isV4 ? prefixLength + MAPPED_BITS : prefixLength;
  let index = findExact(prefix, bits);
  if (index < 0) {
    if (routes == ROUTES_MAX) return ENOBUFS;
    index = <i32>routes;
    routes++;
    if (isV4) v4Routes++;
  }
  const at = routeAt(index);
  memory.copy(at, prefix, 16);
  memory.copy(at + ROUTE_GATEWAY, gateway, 16);
  store<u32>(at, bits, ROUTE_BITS);
  return OK;
}

/** See KernelExports.routeRemove. @returns OK or EINVAL: there is no such route. */
export function routeRemove(prefix: usize, prefixLength: u32): i32 {
  const isV4 = isV4Mapped(prefix);
  const index = findExact(prefix, isV4 ? prefixLength + MAPPED_BITS : prefixLength);
  if (index < 0) return EINVAL;
  routes--;
  if (isV4) v4Routes--;
  memory.copy(routeAt(index), routeAt(routes), ROUTE_SIZE_BYTES);
  return OK;
}

function findExact(prefix: usize, bits: u32): i32 {
  const isV4 = isV4Mapped(prefix);
  for (let i: u32 = 0; i < routes; i++) {
    const at = routeAt(i);
    // A default route of IPv6 has 0 bits, one of IPv4 has 96: they never meet.
    if (load<u32>(at, ROUTE_BITS) == bits && isV4Mapped(at) == isV4 && prefixEqual(at, prefix, bits)) return <i32>i;
  }
  return -1;
}

/** The route that was found last is a default route; and where its gateway lies. */
export let routeIsDefault: bool = false;
let foundGateway: usize = 0;

export function routeDefaultGateway(): usize {
  return foundGateway;
}

/** Is it the gateway of some route? @param address 16 bytes. */
export function routeHasGateway(address: usize): bool {
  for (let i: u32 = 0; i < routes; i++) {
    const gateway = routeAt(i) + ROUTE_GATEWAY;
    if (load<u64>(gateway) == load<u64>(address) && load<u64>(gateway, 8) == load<u64>(address, 8)) return true;
  }
  return false;
}

/** The route of the longest prefix that `remote` has; 0: none. */
function find(remote: usize, isV4: bool): usize {
  let best: usize = 0;
  let bestBits: i32 = -1;
  for (let i: u32 = 0; i < routes; i++) {
    const at = routeAt(i);
    const bits = load<i32>(at, ROUTE_BITS);
    if (bits > bestBits && (!isV4 || bits >= <i32>MAPPED_BITS) && prefixEqual(at, remote, bits)) {
      best = at;
      bestBits = bits;
    }
  }
  routeIsDefault = bestBits == (isV4 ? <i32>MAPPED_BITS : 0);
  foundGateway = best + ROUTE_GATEWAY;
  return best;
}

/** Next hop towards `remote` (both in memory order) by these routes; 0: none of them leads there. */
export function routeFindV4(remote: u32): u32 {
  store<u32>(v4Scratch, remote, 12);
  const route = find(v4Scratch, true);
  if (route == 0) return 0;
  const gateway = load<u32>(route, ROUTE_GATEWAY + 12);
  return gateway != 0 ? gateway : remote;
}

/** Where the next hop towards the 16 bytes at `remote` lies; 0: no route. */
export function routeFindV6(remote: usize): usize {
  const route = find(remote, false);
  if (route == 0) return 0;
  const gateway = route + ROUTE_GATEWAY;
  return (load<u64>(gateway) | load<u64>(gateway, 8)) == 0 ? remote : gateway;
}
