/**
 * IPv4 (RFC 791, RFC 1122 3.2.1): checking what comes in, writing headers, sending for ICMP and UDP. TCP writes its
 * own frames (tcp/output.ts) with the same ipv4WriteHeader.
 */
import { hopLimit, kernelId, mtuBytes, OWN_MAC } from "../config.ts";
import { loopSend } from "../device/loop.ts";
import { txCommit, txReserve } from "../device/tx.ts";
import { sipHash } from "../flow/hash.ts";
import { arenaAlloc } from "../mem/arena.ts";
import { count } from "../stats.ts";
import { nextHopV4, sourceForV4 } from "./nextHop.ts";
import { addressCount, addressFindV4, addressIsV6, addressV4, firstV4, isBroadcastV4 } from "./address.ts";
import { isMulticastV4 } from "../wire/addressKind.ts";
import { multicastIsOursV4 } from "./multicast.ts";
import { NEIGHBOR_OWN, neighborFind, neighborIsFailed, neighborSend } from "./neighbor.ts";
import { OPTIONS_FINE, optionsCheck } from "./options.ts";
import { loadBe16 } from "../wire/bytes.ts";
import { checksumOf, sumBytes } from "../wire/checksum.ts";
import {
  ETHERNET_BYTES,
  FRAGMENT_MORE,
  IPV4_HEADER_BYTES,
  IPV4_PACKET_BYTES_MAX,
  IP_CHECKSUM,
  IP_DESTINATION,
  IP_SOURCE,
  IP_TOTAL_LENGTH,
} from "../wire/headers.ts";
import {
  DROP_IP_CHECKSUM,
  DROP_IP_HEADER,
  DROP_IP_LENGTH,
  DROP_IP_OPTION,
  DROP_IP_SOURCE,
  DROP_NO_ROUTE,
} from "../../src/layout/counters.ts";
import { EADDRNOTAVAIL, EHOSTUNREACH, EMSGSIZE, ENETUNREACH, ENOBUFS, OK } from "../../src/layout/status.ts";

/** "Don't fragment", as the fragment field lies in memory. */
const DONT_FRAGMENT: u32 = 0x0040;

/** Identifications come from counters that pairs of hosts share by hash: unique, and not to be guessed from outside. */
const IDENT_COUNTERS: u32 = 256;
let identCounters: usize = 0;

/** @returns false when the arena is too small. */
export function ipv4Boot(): bool {
  identCounters = arenaAlloc(IDENT_COUNTERS << 2, 64);
  return identCounters != 0;
}

// Input.

/**
 * Checks the whole header of the packet at `packet`. Trailing bytes beyond the total length (Ethernet padding) are
 * fine; the caller goes on with the header's total length. Options are skipped, but not those that route (RFC 7126 4.3,
 * 4.4).
 * @param bytesAvailable from `packet` to the end of its frame; nothing behind is read. @param fromLoop it is our own.
 * @returns header length in bytes, 20..60, or -1 with the cause counted; ipv4Problem tells whether to report it.
 */
export function ipv4Check(packet: usize, bytesAvailable: u32, fromLoop: bool): i32 {
  ipv4Problem = 0;
  if (bytesAvailable < IPV4_HEADER_BYTES) return drop(DROP_IP_LENGTH);
  const first = <u32>load<u8>(packet);
  const headerBytes = (first & 0xf) << 2;
  if (first >> 4 != 4 || headerBytes < IPV4_HEADER_BYTES) return drop(DROP_IP_HEADER);
  const totalBytes = loadBe16(packet + IP_TOTAL_LENGTH);
  if (totalBytes < headerBytes || totalBytes > bytesAvailable) return drop(DROP_IP_LENGTH);
  if (sumBytes(packet, headerBytes) != 0xffff) return drop(DROP_IP_CHECKSUM);
  if (!fromLoop && !sourceIsSane(load<u32>(packet, IP_SOURCE), load<u32>(packet, IP_DESTINATION))) {
    return drop(DROP_IP_SOURCE);
  }
  if (headerBytes > IPV4_HEADER_BYTES && !optionsAreAcceptable(packet, headerBytes)) return drop(DROP_IP_OPTION);
  return <i32>headerBytes;
}

function drop(counter: i32): i32 {
  count(counter);
  return -1;
}

/** RFC 1122 3.2.1.3: a source is one host's address; 0.0.0.0 only while a host has none, and asks everybody. */
function sourceIsSane(source: u32, destination: u32): bool {
  const octet = source & 0xff;
  if (octet == 0) return source == 0 && destination == 0xffffffff;
  if (octet == 127 || octet >= 224) return false;
  return addressFindV4(source) < 0 && !isBroadcastV4(source);
}

/** Where in its header the packet that ipv4Check has refused last is wrong, 0: that is nothing to report. */
export let ipv4Problem: u32 = 0;

function optionsAreAcceptable(packet: usize, headerBytes: u32): bool {
  const found = optionsCheck(packet, headerBytes);
  ipv4Problem = <u32>max(found, 0);
  return found == OPTIONS_FINE;
}

// Output.

/**
 * Writes a header of 20 bytes: DF set and identification 0 (an atomic datagram, RFC 6864 4.1), the checksum filled.
 * @param totalBytes header and payload, 20..65535. @param source address in memory order, as `destination`.
 */
export function ipv4WriteHeader(
  packet: usize,
  totalBytes: u32,
  protocol: u32,
  source: u32,
  destination: u32,
  tos: u32,
): void {
  const length = <u32>bswap<u16>(<u16>totalBytes);
  const rest = hopLimit | (protocol << 8);
  writeHeader(packet, 0x45 | (tos << 8) | (length << 16), DONT_FRAGMENT << 16, rest, source, destination);
}

/** Likewise for a packet that goes over the last route, with its TTL. */
export function ipv4WriteRouted(packet: usize, totalBytes: u32, protocol: u32, tos: u32): void {
  const first = 0x45 | (tos << 8) | ((<u32>bswap<u16>(<u16>totalBytes)) << 16);
  const third = routeHopLimit | (protocol << 8);
  writeHeader(packet, first, DONT_FRAGMENT << 16, third, routeSource, routeDestination);
}

/**
 * @param first word 0 of the header in memory order. @param second likewise: identification and fragment field.
 * @param third TTL, and protocol << 8.
 */
function writeHeader(packet: usize, first: u32, second: u32, third: u32, source: u32, destination: u32): void {
  // Words are summed as they lie in memory (wire/checksum.ts): two per addition, the carries meet in the upper half.
  let sum = <u64>first + <u64>second + <u64>third + <u64>source + <u64>destination;
  sum = (sum & 0xffffffff) + (sum >> 32);
  sum = (sum & 0xffff) + (sum >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  const checksum = <u64>(<u16>~sum);
  store<u64>(packet, <u64>first | ((<u64>second) << 32));
  store<u64>(packet, <u64>third | (checksum << 16) | ((<u64>source) << 32), 8);
  store<u32>(packet, destination, 16);
}

/** Made by ipv4Route for the packet that is about to be sent. */
let routeSource: u32 = 0;
let routeDestination: u32 = 0;
/** Neighbour entry, NEIGHBOR_OWN, or ROUTE_GROUP: broadcast or multicast, which need none. */
let routeNeighbor: i32 = 0;
const ROUTE_GROUP: i32 = -1;
/** TTL of what goes over the route, and whether our own sockets get a copy of what goes to a group. */
let routeHopLimit: u32 = 0;
let routeLoops: bool = false;

/** What a socket has to say about the next packet over the last route. @param ttl 0: as it is. */
export function ipv4RouteMark(ttl: u32, loops: bool): void {
  if (ttl != 0) routeHopLimit = ttl;
  routeLoops = loops;
}

/** Local address of the route, in memory order. */
export function ipv4RouteSource(): u32 {
  return routeSource;
}

/**
 * Finds the way to `destination` for the next ipv4Transmit or ipv4SendRouted. May send an ARP request, so it stands
 * before txReserve.
 * @param addressIndex of the local address, -1: by route.
 * @returns OK, EADDRNOTAVAIL, ENETUNREACH (no route), EHOSTUNREACH (does not answer), ENOBUFS (no neighbour entry).
 */
export function ipv4Route(addressIndex: i32, destination: u32): i32 {
  const isGroup = isMulticastV4(destination) || isBroadcastV4(destination);
  // RFC 1112 6.1: a group is asked for on this link only, unless the application says otherwise.
  routeHopLimit = isMulticastV4(destination) ? 1 : hopLimit;
  routeLoops = false;
  let source = addressIndex >= 0 ? addressIndex : sourceForV4(destination);
  if (source < 0 && isGroup) source = firstV4();
  routeDestination = destination;
  routeNeighbor = ROUTE_GROUP;
  if (source < 0) {
    // RFC 1122 3.2.1.3: a host that has no address yet says so, to everybody on the link (DHCP).
    routeSource = 0;
    return destination == 0xffffffff ? OK : noRoute();
  }
  if (<u32>source >= addressCount || addressIsV6(source)) return EADDRNOTAVAIL;
  routeSource = addressV4(source);
  if (isGroup) return OK;
  const nextHop = nextHopV4(source, destination);
  if (nextHop == 0) return noRoute();
  routeNeighbor = neighborFind(nextHop, false);
  if (routeNeighbor == NEIGHBOR_OWN) return OK;
  if (routeNeighbor < 0) return ENOBUFS;
  return neighborIsFailed(routeNeighbor) ? EHOSTUNREACH : OK;
}

function noRoute(): i32 {
  count(DROP_NO_ROUTE);
  return ENETUNREACH;
}

/** Sends the packet built behind 14 bytes at the place that txReserve gave, over the last route. */
export function ipv4Transmit(frame: usize, frameBytes: u32): void {
  if (routeNeighbor >= 0) {
    neighborSend(routeNeighbor, frame, frameBytes);
    return;
  }
  if (routeNeighbor == NEIGHBOR_OWN) {
    loopSend(frame, frameBytes, false);
    return;
  }
  if (isMulticastV4(routeDestination)) {
    if (routeLoops && multicastIsOursV4(routeDestination)) loopSend(frame, frameBytes, false);
    // RFC 1112 6.4: 01:00:5e and the low 23 bits of the group.
    store<u32>(frame, 0x005e0001 | ((routeDestination & 0x7f00) << 16));
    store<u16>(frame, <u16>(routeDestination >> 16), 4);
  } else {
    store<u32>(frame, 0xffffffff);
    store<u16>(frame, 0xffff, 4);
  }
  store<u32>(frame, load<u32>(OWN_MAC), 6);
  store<u16>(frame, load<u16>(OWN_MAC, 4), 10);
  store<u16>(frame, 0x0008, 12);
  txCommit(frameBytes);
}

/**
 * Sends one datagram: route, header, payload (copied), in fragments when it is larger than the MTU.
 * @param addressIndex of the local address, -1: by route. @param destination in memory order.
 * @returns payloadBytes, or EMSGSIZE, ENOBUFS and the refusals of ipv4Route.
 */
export function ipv4Send(addressIndex: i32, destination: u32, protocol: u32, payload: usize, payloadBytes: u32): i32 {
  if (payloadBytes > IPV4_PACKET_BYTES_MAX - IPV4_HEADER_BYTES) return EMSGSIZE;
  const status = ipv4Route(addressIndex, destination);
  return status == OK ? ipv4SendRouted(protocol, 0, payload, payloadBytes) : status;
}

/**
 * Second half of ipv4Send, over the last route.
 * @returns payloadBytes or ENOBUFS: the TX ring is full; fragments already sent stay sent, the receiver drops them.
 */
export function ipv4SendRouted(protocol: u32, tos: u32, payload: usize, payloadBytes: u32): i32 {
  const source = routeSource;
  const destination = routeDestination;
  if (payloadBytes + IPV4_HEADER_BYTES <= mtuBytes) {
    const frame = txReserve(ETHERNET_BYTES + IPV4_HEADER_BYTES + payloadBytes);
    if (frame == 0) return ENOBUFS;
    const packet = frame + ETHERNET_BYTES;
    ipv4WriteRouted(packet, IPV4_HEADER_BYTES + payloadBytes, protocol, tos);
    memory.copy(packet + IPV4_HEADER_BYTES, payload, payloadBytes);
    ipv4Transmit(frame, ETHERNET_BYTES + IPV4_HEADER_BYTES + payloadBytes);
    return <i32>payloadBytes;
  }
  const ident = nextIdent(source, destination, protocol);
  const third = routeHopLimit | (protocol << 8);
  const pieceBytesMax = (mtuBytes - IPV4_HEADER_BYTES) & ~7;
  for (let offset: u32 = 0; offset < payloadBytes; offset += pieceBytesMax) {
    const pieceBytes = min(pieceBytesMax, payloadBytes - offset);
    const frame = txReserve(ETHERNET_BYTES + IPV4_HEADER_BYTES + pieceBytes);
    if (frame == 0) return ENOBUFS;
    const packet = frame + ETHERNET_BYTES;
    const more = offset + pieceBytes < payloadBytes ? FRAGMENT_MORE : 0;
    const length = <u32>bswap<u16>(<u16>(IPV4_HEADER_BYTES + pieceBytes));
    const fragment = <u32>bswap<u16>(<u16>(more | (offset >> 3)));
    const first = 0x45 | (tos << 8) | (length << 16);
    writeHeader(packet, first, ident | (fragment << 16), third, source, destination);
    memory.copy(packet + IPV4_HEADER_BYTES, payload + offset, pieceBytes);
    ipv4Transmit(frame, ETHERNET_BYTES + IPV4_HEADER_BYTES + pieceBytes);
  }
  return <i32>payloadBytes;
}

/** Identification of a fragmented datagram (RFC 6864 4.3, RFC 7739 for IPv6): a keyed start per pair, then counting. */
function nextIdent(source: u32, destination: u32, protocol: u32): u32 {
  // The key is the same in all kernels of a stack (flow/hash.ts), the sequence must not be.
  const hash = sipHash(((<u64>source) << 32) | destination, protocol | (kernelId << 8));
  const counter = identCounters + ((<usize>(hash & (IDENT_COUNTERS - 1))) << 2);
  const value = load<u32>(counter) + 1;
  store<u32>(counter, value);
  return (<u32>(hash >> 32) + value) & 0xffff;
}

/** Fills the checksum of a header that was changed. */
export function ipv4WriteChecksum(packet: usize, headerBytes: u32): void {
  store<u16>(packet, 0, IP_CHECKSUM);
  store<u16>(packet, checksumOf(sumBytes(packet, headerBytes)), IP_CHECKSUM);
}

/**
 * A whole IPv4 packet to a group that the control path has built (IGMP): see KernelExports.packetSend.
 * @returns OK, EMSGSIZE, ENETUNREACH: it is to no group, ENOBUFS.
 */
export function ipv4PacketSend(packet: usize, bytes: u32): i32 {
  if (bytes < IPV4_HEADER_BYTES) return EMSGSIZE;
  const destination = load<u32>(packet, IP_DESTINATION);
  if (!isMulticastV4(destination)) return noRoute();
  const frame = txReserve(ETHERNET_BYTES + bytes);
  if (frame == 0) return ENOBUFS;
  memory.copy(frame + ETHERNET_BYTES, packet, bytes);
  routeDestination = destination;
  routeNeighbor = ROUTE_GROUP;
  routeLoops = false;
  ipv4Transmit(frame, ETHERNET_BYTES + bytes);
  return OK;
}
