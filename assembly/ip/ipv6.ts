/**
 * IPv6 (RFC 8200) that goes out: writing headers, sending for ICMPv6 and UDP. TCP writes its own frames (tcp/output.ts)
 * with the same ipv6WriteHeader. What comes in is checked in ipv6Input.ts.
 */
import { ipv6WriteHeader, writeEthernetSource } from "./ipv6Header.ts";
import { kernelId, mtuBytes } from "../config.ts";
import { loopSend } from "../device/loop.ts";
import { txCommit, txReserve } from "../device/tx.ts";
import { pairHashV6, sipHash } from "../flow/hash.ts";
import { arenaAlloc } from "../mem/arena.ts";
import { count } from "../stats.ts";
import { isMulticastV6, isUnspecifiedV6, isLoopbackV6 } from "../wire/addressKind.ts";
import { nextHopV6, sourceForV6 } from "./nextHop.ts";
import { addressAt, addressCount, addressFindV6, addressIsV6 } from "./address.ts";
import { ipv4PacketSend } from "./ipv4.ts";
import { linkHopLimit } from "./link.ts";
import { multicastFind } from "./multicast.ts";
import { NEIGHBOR_OWN, neighborFindV6, neighborIsFailed, neighborSend } from "./neighbor.ts";
import { pathMtuOf } from "./pathMtu.ts";
import { storeBe16 } from "../wire/bytes.ts";
import {
  ETHERNET_BYTES,
  FRAGMENT_HEADER_BYTES,
  HEADER_FRAGMENT,
  IPV6_HEADER_BYTES,
  V6_DESTINATION,
  V6_HOP_LIMIT,
  V6_SOURCE,
} from "../wire/headers.ts";
import { DROP_NO_ROUTE } from "../../src/layout/counters.ts";
import { EADDRNOTAVAIL, EHOSTUNREACH, EMSGSIZE, ENETUNREACH, ENOBUFS, OK } from "../../src/layout/status.ts";

const IDENT_COUNTERS: u32 = 256;
let identCounters: usize = 0;

/** @returns false when the arena is too small. */
export function ipv6Boot(): bool {
  identCounters = arenaAlloc(IDENT_COUNTERS << 2, 64);
  return identCounters != 0;
}

/** Made by ipv6Route for the packet that is about to be sent. */
let routeSource: usize = 0;
const routeDestination: usize = memory.data(16, 16);
/** Neighbour entry, NEIGHBOR_OWN, or ROUTE_GROUP: multicast, which needs none. */
let routeNeighbor: i32 = 0;
const ROUTE_GROUP: i32 = -1;
/** Hop limit of what goes over the route, and whether our own sockets get a copy of what goes to a group. */
let routeHopLimit: u32 = 0;
let routeLoops: bool = false;

/** What a socket has to say about the next packet over the last route. @param limit 0: as it is. */
export function ipv6RouteMark(limit: u32, loops: bool): void {
  if (limit != 0) routeHopLimit = limit;
  routeLoops = loops;
}

/** Header of a packet that goes over the last route. */
export function ipv6WriteRouted(packet: usize, payloadBytes: u32, nextHeader: u32, classAndFlow: u32): void {
  ipv6WriteHeader(packet, payloadBytes, nextHeader, routeSource, routeDestination, classAndFlow);
  store<u8>(packet, <u8>routeHopLimit, V6_HOP_LIMIT);
}

/** Where the 16 bytes of the route's local address lie. */
export function ipv6RouteSource(): usize {
  return routeSource;
}

/**
 * Finds the way to the 16 bytes at `destination` for the next ipv6Transmit or ipv6SendRouted. May send a solicitation,
 * so it stands before txReserve.
 * @param addressIndex of the local address, negative: by route.
 * @returns OK, EADDRNOTAVAIL, ENETUNREACH (no route), EHOSTUNREACH (does not answer), ENOBUFS (no neighbour entry).
 */
export function ipv6Route(addressIndex: i32, destination: usize): i32 {
  const source = addressIndex >= 0 ? addressIndex : sourceForV6(destination);
  if (source < 0) return noRoute();
  if (<u32>source >= addressCount || !addressIsV6(source)) return EADDRNOTAVAIL;
  // RFC 4291 2.5.3: ::1 is no source of what leaves the host.
  if (isLoopbackV6(addressAt(source)) && addressFindV6(destination) < 0) return noRoute();
  return routeFrom(addressAt(source), destination);
}

/** As ipv6Route, from an address that need not be ours (duplicate address detection speaks from ::). */
function routeFrom(source: usize, destination: usize): i32 {
  routeSource = source;
  v128.store(routeDestination, v128.load(destination));
  routeNeighbor = ROUTE_GROUP;
  routeLoops = false;
  // RFC 3493 5.2: groups are asked for on this link only, unless the application says otherwise.
  routeHopLimit = isMulticastV6(destination) ? 1 : linkHopLimit();
  if (isMulticastV6(destination)) return OK;
  if (isUnspecifiedV6(destination)) return noRoute();
  const nextHop = nextHopV6(destination);
  if (addressFindV6(destination) >= 0) routeNeighbor = NEIGHBOR_OWN;
  else if (nextHop == 0) return noRoute();
  else routeNeighbor = neighborFindV6(nextHop, false);
  if (routeNeighbor == NEIGHBOR_OWN) return OK;
  if (routeNeighbor < 0) return ENOBUFS;
  return neighborIsFailed(routeNeighbor) ? EHOSTUNREACH : OK;
}

function noRoute(): i32 {
  count(DROP_NO_ROUTE);
  return ENETUNREACH;
}

/** Sends the packet built behind 14 bytes at the place that txReserve gave, over the last route. */
export function ipv6Transmit(frame: usize, frameBytes: u32): void {
  if (routeNeighbor >= 0) {
    neighborSend(routeNeighbor, frame, frameBytes);
  } else if (routeNeighbor == NEIGHBOR_OWN) {
    loopSend(frame, frameBytes, true);
  } else {
    if (routeLoops && multicastFind(routeDestination) >= 0) loopSend(frame, frameBytes, true);
    // RFC 2464 7: 33:33 and the last four bytes of the group.
    store<u16>(frame, 0x3333);
    store<u32>(frame, load<u32>(routeDestination, 12), 2);
    writeEthernetSource(frame);
    txCommit(frameBytes);
  }
}

/** Path MTU of the last route. */
export function ipv6RouteMtu(): u32 {
  return routeNeighbor == NEIGHBOR_OWN ? mtuBytes : pathMtuOf(routeDestination);
}

/**
 * Sends `payload` (copied) over the last route, in fragments when it is larger than the path's MTU.
 * @param classAndFlow as for ipv6WriteHeader.
 * @returns payloadBytes, EMSGSIZE or ENOBUFS: the TX ring is full; fragments already sent stay sent.
 */
export function ipv6SendRouted(nextHeader: u32, classAndFlow: u32, payload: usize, payloadBytes: u32): i32 {
  if (payloadBytes > 65535) return EMSGSIZE;
  const mtu = ipv6RouteMtu();
  if (payloadBytes + IPV6_HEADER_BYTES <= mtu) {
    const frame = txReserve(ETHERNET_BYTES + IPV6_HEADER_BYTES + payloadBytes);
    if (frame == 0) return ENOBUFS;
    const packet = frame + ETHERNET_BYTES;
    ipv6WriteRouted(packet, payloadBytes, nextHeader, classAndFlow);
    memory.copy(packet + IPV6_HEADER_BYTES, payload, payloadBytes);
    ipv6Transmit(frame, ETHERNET_BYTES + IPV6_HEADER_BYTES + payloadBytes);
    return <i32>payloadBytes;
  }
  const ident = nextIdent();
  const headerBytes = IPV6_HEADER_BYTES + FRAGMENT_HEADER_BYTES;
  const pieceBytesMax = (mtu - headerBytes) & ~7;
  for (let offset: u32 = 0; offset < payloadBytes; offset += pieceBytesMax) {
    const pieceBytes = min(pieceBytesMax, payloadBytes - offset);
    const frame = txReserve(ETHERNET_BYTES + headerBytes + pieceBytes);
    if (frame == 0) return ENOBUFS;
    const packet = frame + ETHERNET_BYTES;
    const bytes = FRAGMENT_HEADER_BYTES + pieceBytes;
    ipv6WriteRouted(packet, bytes, HEADER_FRAGMENT, classAndFlow);
    const fragment = packet + IPV6_HEADER_BYTES;
    store<u16>(fragment, <u16>nextHeader);
    storeBe16(fragment + 2, offset | (offset + pieceBytes < payloadBytes ? 1 : 0));
    store<u32>(fragment, ident, 4);
    memory.copy(fragment + FRAGMENT_HEADER_BYTES, payload + offset, pieceBytes);
    ipv6Transmit(frame, ETHERNET_BYTES + headerBytes + pieceBytes);
  }
  return <i32>payloadBytes;
}

/** Identification of a fragmented packet (RFC 7739 5.3): a keyed start per pair of hosts, then counting. */
function nextIdent(): u32 {
  // The key is the same in all kernels of a stack (flow/hash.ts), the sequence must not be.
  const hash = sipHash(pairHashV6(routeDestination, routeSource), 0x66726167 | ((<u64>kernelId) << 32));
  const counter = identCounters + ((<usize>(hash & (IDENT_COUNTERS - 1))) << 2);
  const value = load<u32>(counter) + 1;
  store<u32>(counter, value);
  return <u32>(hash >> 32) + value;
}

/**
 * See KernelExports.packetSend: a whole packet that the control path has built (router solicitations, probes for
 * duplicate addresses, group reports), from an address that need not be ours yet; of IPv4 only to groups.
 */
export function packetSend(packet: usize, bytes: u32): i32 {
  if (bytes > mtuBytes || bytes == 0) return EMSGSIZE;
  if (load<u8>(packet) >> 4 == 4) return ipv4PacketSend(packet, bytes);
  if (bytes < IPV6_HEADER_BYTES || load<u8>(packet) >> 4 != 6) return EMSGSIZE;
  const status = routeFrom(packet + V6_SOURCE, packet + V6_DESTINATION);
  if (status != OK) return status;
  const frame = txReserve(ETHERNET_BYTES + bytes);
  if (frame == 0) return ENOBUFS;
  memory.copy(frame + ETHERNET_BYTES, packet, bytes);
  ipv6Transmit(frame, ETHERNET_BYTES + bytes);
  return OK;
}
