/**
 * IPv6 (RFC 8200): checking what comes in, walking extension headers within limits, writing headers, sending for
 * ICMPv6 and UDP. TCP writes its own frames (tcp/output.ts) with the same ipv6WriteHeader.
 */
import { hopLimit, kernelId, mtuBytes, OWN_MAC } from "../config.ts";
import { loopSend } from "../device/loop.ts";
import { txCommit, txReserve } from "../device/tx.ts";
import { pairHashV6, sipHash } from "../flow/hash.ts";
import { arenaAlloc } from "../mem/arena.ts";
import { count } from "../stats.ts";
import {
  addressAt,
  addressCount,
  addressFindV6,
  addressIsV6,
  isHostV6,
  isMulticastV6,
  isUnspecifiedV6,
  nextHopV6,
  sourceForV6,
  isLoopbackV6,
} from "./address.ts";
import { icmp6SendProblem } from "./icmp6.ts";
import { ipv4PacketSend } from "./ipv4.ts";
import { multicastFind } from "./multicast.ts";
import { NEIGHBOR_OWN, neighborFindV6, neighborIsFailed, neighborSend } from "./neighbor.ts";
import { pathMtuOf } from "./pathMtu.ts";
import { loadBe16, storeBe16, storeBe32 } from "../wire/bytes.ts";
import {
  DROP_IP6_EXTENSION,
  DROP_IP6_HEADER,
  DROP_IP6_LENGTH,
  DROP_IP_PROTOCOL,
  DROP_IP_SOURCE,
  DROP_NO_ROUTE,
} from "../../src/layout/counters.ts";
import { EADDRNOTAVAIL, EHOSTUNREACH, EMSGSIZE, ENETUNREACH, ENOBUFS, OK } from "../../src/layout/status.ts";

const ETHERNET_BYTES: u32 = 14;
export const IPV6_HEADER_BYTES: u32 = 40;
/** RFC 8200 5: every link carries this. */
export const IPV6_MTU_MIN: u32 = 1280;
export const PROTOCOL_ICMPV6: u32 = 58;
const PROTOCOL_TCP: u32 = 6;
const PROTOCOL_UDP: u32 = 17;

export const V6_PAYLOAD_LENGTH: usize = 4;
export const V6_NEXT_HEADER: usize = 6;
export const V6_HOP_LIMIT: usize = 7;
export const V6_SOURCE: usize = 8;
export const V6_DESTINATION: usize = 24;

export const HEADER_HOP_BY_HOP: u32 = 0;
export const HEADER_ROUTING: u32 = 43;
export const HEADER_FRAGMENT: u32 = 44;
const HEADER_NONE: u32 = 59;
export const HEADER_DESTINATION: u32 = 60;
export const FRAGMENT_HEADER_BYTES: u32 = 8;

/** RFC 8504 5.3: a host may set limits. No sender comes near these. */
const EXTENSION_HEADERS_MAX: u32 = 8;
const OPTIONS_PER_HEADER_MAX: u32 = 8;

/** Codes of ICMPv6 "parameter problem" (RFC 4443 3.4). */
export const CODE_HEADER_FIELD: u32 = 0;
export const CODE_NEXT_HEADER: u32 = 1;
export const CODE_OPTION: u32 = 2;
/** RFC 7112 5: the first fragment lacks headers. */
export const CODE_FIRST_FRAGMENT: u32 = 3;

/** Made by ipv6Walk: the packet's protocol, and where its header stands, from the packet's start. */
export let v6Protocol: u32 = 0;
export let v6Transport: u32 = 0;
/** Offset of the byte that names the protocol, or the fragment header. */
export let v6ProtocolAt: u32 = 0;

const IDENT_COUNTERS: u32 = 256;
let identCounters: usize = 0;

/** @returns false when the arena is too small. */
export function ipv6Boot(): bool {
  identCounters = arenaAlloc(IDENT_COUNTERS << 2, 64);
  return identCounters != 0;
}

// Input.

/**
 * Checks the fixed header of the packet at `packet`. Bytes behind the payload length (Ethernet padding) are fine.
 * @param bytesAvailable from `packet` to the end of its frame. @param fromLoop the packet is our own.
 * @returns header and payload in bytes, or -1 with the cause counted.
 */
export function ipv6Check(packet: usize, bytesAvailable: u32, fromLoop: bool): i32 {
  if (bytesAvailable < IPV6_HEADER_BYTES) return drop(DROP_IP6_LENGTH);
  if (load<u8>(packet) >> 4 != 6) return drop(DROP_IP6_HEADER);
  // Jumbograms (RFC 2675), whose length is 0, are no packets of an Ethernet.
  const totalBytes = IPV6_HEADER_BYTES + loadBe16(packet + V6_PAYLOAD_LENGTH);
  if (totalBytes > bytesAvailable) return drop(DROP_IP6_LENGTH);
  const source = packet + V6_SOURCE;
  if (!fromLoop && !isUnspecifiedV6(source) && (!isHostV6(source) || addressFindV6(source) >= 0)) {
    return drop(DROP_IP_SOURCE);
  }
  return <i32>totalBytes;
}

function drop(counter: i32): i32 {
  count(counter);
  return -1;
}

/**
 * Goes over the extension headers to v6Protocol and v6Transport. An atomic fragment (RFC 6946) is a whole packet.
 * @param totalBytes from ipv6Check. @param toGroup to more than us.
 * @returns 0; the offset of a fragment header that must be dealt with first; -1: dropped, counted and, where RFC 8200
 *   wants it, reported.
 */
export function ipv6Walk(packet: usize, totalBytes: u32, toGroup: bool): i32 {
  let header = <u32>load<u8>(packet, V6_NEXT_HEADER);
  let namedAt: u32 = <u32>V6_NEXT_HEADER;
  let at = IPV6_HEADER_BYTES;
  for (let headers: u32 = 0; headers <= EXTENSION_HEADERS_MAX; headers++) {
    if (header == PROTOCOL_TCP || header == PROTOCOL_UDP || header == PROTOCOL_ICMPV6) {
      v6Protocol = header;
      v6Transport = at;
      v6ProtocolAt = namedAt;
      return 0;
    }
    // RFC 8200 4.1: hop-by-hop options stand first or not at all.
    const isOptions = header == HEADER_DESTINATION || (header == HEADER_HOP_BY_HOP && at == IPV6_HEADER_BYTES);
    if (!isOptions && header != HEADER_ROUTING && header != HEADER_FRAGMENT) {
      if (header == HEADER_NONE) return drop(DROP_IP_PROTOCOL);
      if (!toGroup) icmp6SendProblem(packet, totalBytes, CODE_NEXT_HEADER, namedAt);
      return drop(DROP_IP_PROTOCOL);
    }
    if (at + 8 > totalBytes) return drop(DROP_IP6_LENGTH);
    if (header == HEADER_FRAGMENT) {
      // Offset and more-fragments flag; the two reserved bits do not count.
      if ((load<u16>(packet + at, 2) & 0xf9ff) != 0) {
        v6ProtocolAt = namedAt;
        return <i32>at;
      }
    } else {
      const bytes = (<u32>load<u8>(packet + at, 1) + 1) << 3;
      if (at + bytes > totalBytes) return drop(DROP_IP6_LENGTH);
      const fine = isOptions
        ? optionsAllow(packet, at, bytes, totalBytes, toGroup)
        : routingAllows(packet, at, totalBytes, toGroup);
      if (!fine) return drop(DROP_IP6_EXTENSION);
      namedAt = at;
      header = <u32>load<u8>(packet + at);
      at += bytes;
      continue;
    }
    namedAt = at;
    header = <u32>load<u8>(packet + at);
    at += FRAGMENT_HEADER_BYTES;
  }
  return drop(DROP_IP6_EXTENSION);
}

/** RFC 8200 4.4; type 0 is treated like any that we do not know (RFC 5095 3). */
function routingAllows(packet: usize, at: u32, totalBytes: u32, toGroup: bool): bool {
  if (load<u8>(packet + at, 3) == 0) return true;
  if (!toGroup) icmp6SendProblem(packet, totalBytes, CODE_HEADER_FIELD, at + 2);
  return false;
}

/** Options of a header (RFC 8200 4.2): the two high bits of one that we do not know say what to do. */
function optionsAllow(packet: usize, at: u32, bytes: u32, totalBytes: u32, toGroup: bool): bool {
  const end = at + bytes;
  let option = at + 2;
  let options: u32 = 0;
  while (option < end) {
    const kind = <u32>load<u8>(packet + option);
    if (kind == 0) {
      option++;
      continue;
    }
    if (option + 2 > end || ++options > OPTIONS_PER_HEADER_MAX) return false;
    const length = <u32>load<u8>(packet + option, 1) + 2;
    if (option + length > end) return false;
    // PadN and router alert (RFC 2711), which says nothing to a host.
    if (kind != 1 && kind != 5 && kind >> 6 != 0) {
      const report = kind >> 6 == 2 || (kind >> 6 == 3 && !toGroup);
      if (report) icmp6SendProblem(packet, totalBytes, CODE_OPTION, option);
      return false;
    }
    option += length;
  }
  return true;
}

// Output.

/**
 * Writes the fixed header.
 * @param payloadBytes behind it, 0..65535. @param source where its 16 bytes lie, as `destination`.
 * @param classAndFlow traffic class << 20 | flow label.
 */
export function ipv6WriteHeader(
  packet: usize,
  payloadBytes: u32,
  nextHeader: u32,
  source: usize,
  destination: usize,
  classAndFlow: u32,
): void {
  storeBe32(packet, 0x60000000 | classAndFlow);
  storeBe16(packet + V6_PAYLOAD_LENGTH, payloadBytes);
  store<u8>(packet, <u8>nextHeader, V6_NEXT_HEADER);
  store<u8>(packet, <u8>hopLimit, V6_HOP_LIMIT);
  v128.store(packet, v128.load(source), V6_SOURCE);
  v128.store(packet, v128.load(destination), V6_DESTINATION);
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
  routeHopLimit = isMulticastV6(destination) ? 1 : hopLimit;
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

/** Source and EtherType of a frame of IPv6. */
export function writeEthernetSource(frame: usize): void {
  store<u32>(frame, load<u32>(OWN_MAC), 6);
  store<u16>(frame, load<u16>(OWN_MAC, 4), 10);
  store<u16>(frame, 0xdd86, 12);
}

/** Path MTU of the last route. */
export function ipv6RouteMtu(): u32 {
  return routeNeighbor == NEIGHBOR_OWN ? mtuBytes : pathMtuOf(routeDestination);
}

/**
 * Sends `payload` (copied) over the last route, in fragments when it is larger than the path's MTU.
 * @returns payloadBytes, EMSGSIZE or ENOBUFS: the TX ring is full; fragments already sent stay sent.
 */
export function ipv6SendRouted(nextHeader: u32, trafficClass: u32, payload: usize, payloadBytes: u32): i32 {
  if (payloadBytes > 65535) return EMSGSIZE;
  const mtu = ipv6RouteMtu();
  const classAndFlow = trafficClass << 20;
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
