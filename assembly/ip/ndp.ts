/**
 * Neighbour discovery messages (RFC 4861): checking them, answering solicitations for our addresses, sending our own.
 * What is learnt is decided in neighbor.ts. Router advertisements go to the control path, which gives every kernel the
 * addresses and routes that follow from them (src/ip).
 *
 * ```
 *  +0 u8 type 135/136   +1 u8 0   +2 u16 checksum   +4 u32 flags (advertisement)   +8 16 bytes target   +24 options:
 *  u8 type, u8 length in 8 bytes, …; 1: source Ethernet address, 2: target's
 * ```
 */
import {
  ndpAdvertise,
  ND_ALL_NODES,
  ND_FLAG_OVERRIDE,
  ND_FLAG_ROUTER,
  ND_FLAG_SOLICITED,
  ND_NEIGHBOR_ADVERTISEMENT,
  ND_NEIGHBOR_SOLICITATION,
  ND_OPTION_SOURCE_MAC,
  ND_OPTION_TARGET_MAC,
  ND_OPTIONS,
  ND_TARGET,
} from "./ndpSend.ts";
import { acceptRedirects, OWN_MAC } from "../config.ts";
import { isGateway } from "./gateways.ts";
import { redirectLearn, redirectsForget } from "./redirects.ts";
import { count } from "../stats.ts";
import {
  isLinkLocalV6,
  isMulticastV6,
  isSolicitedNodeGroup,
  isHostV6,
  isUnspecifiedV6,
  isLoopbackV6,
  isStationMac,
  macEqual,
} from "../wire/addressKind.ts";
import { V6_DESTINATION, V6_HOP_LIMIT, V6_SOURCE } from "../wire/headers.ts";
import { nextHopV6 } from "./nextHop.ts";
import { addressFindV6 } from "./address.ts";
import { controlQueue } from "./control.ts";
import { neighborAdvertised, neighborSolicited } from "./neighbor.ts";
import {
  DROP_ICMP_REDIRECT,
  DROP_ICMP_TYPE,
  ICMP_REDIRECTS,
  DROP_ND_MALFORMED,
  ND_CONFLICTS,
} from "../../src/layout/counters.ts";

export const ND_ROUTER_SOLICITATION: u32 = 133;
export const ND_ROUTER_ADVERTISEMENT: u32 = 134;
export const ND_REDIRECT: u32 = 137;

/** Of a redirect (RFC 4861 4.5). */
const REDIRECT_DESTINATION: usize = 24;
const REDIRECT_OPTIONS: u32 = 40;
/**
 * A checked ICMPv6 message of types 133 to 137 at `packet` + `at`.
 * @param bytes of the message. @param packetBytes of the whole packet.
 */
export function ndpInput(packet: usize, at: u32, bytes: u32, packetBytes: u32): void {
  const message = packet + at;
  const type = <u32>load<u8>(message);
  // RFC 4861 6.1, 7.1: what has passed a router is a forgery.
  if (load<u8>(packet, V6_HOP_LIMIT) != 255 || load<u8>(message, 1) != 0) {
    count(DROP_ND_MALFORMED);
  } else if (type == ND_ROUTER_ADVERTISEMENT) {
    if (bytes < 16 || !isLinkLocalV6(packet + V6_SOURCE) || !optionsAreSane(message, 16, bytes)) {
      count(DROP_ND_MALFORMED);
    } else controlQueue(packet, packetBytes);
  } else if (type == ND_NEIGHBOR_SOLICITATION || type == ND_NEIGHBOR_ADVERTISEMENT) {
    if (bytes < ND_OPTIONS || isMulticastV6(message + ND_TARGET) || !optionsAreSane(message, ND_OPTIONS, bytes)) {
      count(DROP_ND_MALFORMED);
    } else if (type == ND_NEIGHBOR_SOLICITATION) solicitation(packet, message, bytes, packetBytes);
    else advertisement(packet, message, bytes, packetBytes);
  } else if (type == ND_REDIRECT) {
    redirected(packet, message, bytes);
  } else {
    count(DROP_ICMP_TYPE);
  }
}

/**
 * RFC 4861 8.1, 8.3: the router that packets to the destination go by now tells of a better one, or that the
 * destination is on the link. Nobody beyond the link can: the hop limit and the link-local source say so.
 */
function redirected(packet: usize, message: usize, bytes: u32): void {
  const target = message + ND_TARGET;
  const destination = message + REDIRECT_DESTINATION;
  const isSane =
    acceptRedirects &&
    bytes >= REDIRECT_OPTIONS &&
    isLinkLocalV6(packet + V6_SOURCE) &&
    optionsAreSane(message, REDIRECT_OPTIONS, bytes) &&
    isHostV6(destination) &&
    !isLinkLocalV6(destination) &&
    addressFindV6(destination) < 0 &&
    addressFindV6(target) < 0 &&
    (isSame(target, destination) || (isLinkLocalV6(target) && !isSame(target, packet + V6_SOURCE)));
  const nextHop = isSane ? nextHopV6(destination) : 0;
  if (nextHop == 0 || !isSame(nextHop, packet + V6_SOURCE)) {
    count(DROP_ICMP_REDIRECT);
    return;
  }
  redirectLearn(destination, target);
  const mac = findMac(message, bytes, ND_OPTION_TARGET_MAC, REDIRECT_OPTIONS);
  if (mac != 0 && !macEqual(mac, OWN_MAC)) neighborSolicited(target, mac);
  count(ICMP_REDIRECTS);
}

function isSame(a: usize, b: usize): bool {
  return load<u64>(a) == load<u64>(b) && load<u64>(a, 8) == load<u64>(b, 8);
}

function optionsAreSane(message: usize, from: u32, bytes: u32): bool {
  let at = from;
  while (at < bytes) {
    if (at + 2 > bytes) return false;
    const length = (<u32>load<u8>(message + at, 1)) << 3;
    if (length == 0 || at + length > bytes) return false;
    at += length;
  }
  return true;
}

/** Where the Ethernet address of an option lies; 0: there is none that a station can have. */
function findMac(message: usize, bytes: u32, type: u32, from: u32): usize {
  for (let at = from; at < bytes; at += (<u32>load<u8>(message + at, 1)) << 3) {
    if (<u32>load<u8>(message + at) == type) return isStationMac(message + at + 2) ? message + at + 2 : 0;
  }
  return 0;
}

function solicitation(packet: usize, message: usize, bytes: u32, packetBytes: u32): void {
  const source = packet + V6_SOURCE;
  const target = message + ND_TARGET;
  const mac = findMac(message, bytes, ND_OPTION_SOURCE_MAC, ND_OPTIONS);
  const isProbe = isUnspecifiedV6(source);
  // RFC 4861 7.1.1: a probe is for everybody and names no address of its sender.
  if (isProbe && (mac != 0 || !isSolicitedNodeGroup(packet + V6_DESTINATION))) {
    count(DROP_ND_MALFORMED);
    return;
  }
  // Our own frame come back, or one of another kernel of this stack.
  if (mac != 0 && macEqual(mac, OWN_MAC)) return;
  if (addressFindV6(target) < 0 || isLoopbackV6(target)) {
    // Another probes an address that we may be probing ourselves (RFC 4862 5.4.3).
    if (isProbe) controlQueue(packet, packetBytes);
    return;
  }
  if (isProbe) {
    // RFC 4862 5.4.3, 4861 7.2.4: all are told that the address is taken.
    ndpAdvertise(ND_ALL_NODES, 0, target, ND_FLAG_OVERRIDE);
    return;
  }
  if (mac != 0) neighborSolicited(source, mac);
  // A solicitation to us alone may leave its sender's address out; it came from the frame's.
  ndpAdvertise(source, mac != 0 ? mac : packet - 8, target, ND_FLAG_SOLICITED | ND_FLAG_OVERRIDE);
}

function advertisement(packet: usize, message: usize, bytes: u32, packetBytes: u32): void {
  const target = message + ND_TARGET;
  const flags = bswap<u32>(load<u32>(message, 4));
  const solicited = (flags & ND_FLAG_SOLICITED) != 0;
  const mac = findMac(message, bytes, ND_OPTION_TARGET_MAC, ND_OPTIONS);
  if (solicited && isMulticastV6(packet + V6_DESTINATION)) {
    count(DROP_ND_MALFORMED);
    return;
  }
  if (mac != 0 && macEqual(mac, OWN_MAC)) return;
  if (addressFindV6(target) >= 0) {
    count(ND_CONFLICTS);
    controlQueue(packet, packetBytes);
    return;
  }
  const counts = neighborAdvertised(target, mac, solicited, (flags & ND_FLAG_OVERRIDE) != 0);
  // RFC 4861 7.2.5: what is no router (any more) is no way to others; the control path takes it from its list.
  const isNoRouter = counts && (flags & ND_FLAG_ROUTER) == 0;
  if (isNoRouter) redirectsForget(target, false);
  // The answer to a probe of ours comes to all nodes and is about an address that we do not have yet.
  const concerns = isGateway(target) ? isNoRouter : isMulticastV6(packet + V6_DESTINATION);
  if (concerns) controlQueue(packet, packetBytes);
}
