/** The slow way of IPv6: everything that is not a plain TCP segment, and whatever is wrong with one (ip/input.ts). */
import { flowHashV6 } from "../flow/hash.ts";
import * as C from "../../src/layout/counters.ts";
import { count } from "../stats.ts";
import { udpInputV6 } from "../udp/udp.ts";
import {
  isAllNodesV6,
  isMulticastV6,
  isSolicitedNodeGroup,
  isUnspecifiedV6,
  isLoopbackV6,
} from "../wire/addressKind.ts";
import { PROTOCOL_ICMPV6, PROTOCOL_TCP, V6_DESTINATION, V6_SOURCE } from "../wire/headers.ts";
import { nextHopV6 } from "./nextHop.ts";
import { addressFindV6, speaksV6 } from "./address.ts";
import { icmp6Input } from "./icmp6.ts";
import { tcpPacketV6 } from "./segments.ts";
import { ipv6Check, ipv6Walk, v6Protocol, v6Transport } from "./ipv6Input.ts";
import { multicastFind } from "./multicast.ts";
import { neighborSeenV6 } from "./neighbor.ts";
import { reassemblyInputV6 } from "./reassembly.ts";

/** From a packet back to the source address of its frame. */
const SOURCE_MAC_BEFORE: usize = 8;

/** @param toGroup the frame was an Ethernet multicast or broadcast. @param fromLoop we have sent it. */
export function packetInputV6(
  packet: usize,
  bytesAvailable: u32,
  checksumKnown: bool,
  toGroup: bool,
  fromLoop: bool,
): void {
  // A stack with IPv4 addresses only does not speak IPv6, not even to refuse it.
  if (!speaksV6()) {
    count(C.DROP_ETHERTYPE_UNKNOWN);
    return;
  }
  const totalBytes = ipv6Check(packet, bytesAvailable, fromLoop);
  if (totalBytes < 0) return;
  const destination = packet + V6_DESTINATION;
  const isGroup = isMulticastV6(destination);
  const localIndex = isGroup ? -1 : addressFindV6(destination);
  // RFC 4291 2.5.3: a packet for ::1 from outside is dropped.
  const isForUs = isGroup ? isOurGroup(destination) : localIndex >= 0 && (fromLoop || !isLoopbackV6(destination));
  if (!isForUs) {
    count(toGroup ? C.DROP_BROADCAST : C.DROP_IP_DESTINATION);
    return;
  }
  const toMany = isGroup || toGroup;
  const fragmentAt = ipv6Walk(packet, totalBytes, toMany);
  if (fragmentAt < 0) return;
  const sourceMac: usize = fromLoop ? 0 : packet - SOURCE_MAC_BEFORE;
  if (fragmentAt == 0) {
    transportInput(packet, sourceMac, totalBytes, localIndex, checksumKnown, toMany);
    return;
  }
  const whole = reassemblyInputV6(packet, fragmentAt, totalBytes);
  if (whole == 0) return;
  const wholeBytes = ipv6Check(whole, 65576, true);
  if (wholeBytes < 0) return;
  const next = ipv6Walk(whole, wholeBytes, toMany);
  if (next == 0) transportInput(whole, 0, wholeBytes, localIndex, false, toMany);
  // A fragment in a fragment: nobody sends that (RFC 8200 4.5 has one fragment header only).
  else if (next > 0) count(C.DROP_FRAGMENT_INVALID);
}

/**
 * Groups that we are in: those of sockets, all nodes of the link (and of the interface), and the solicited-node groups
 * (RFC 4291 2.8). All of the latter: what is asked decides, and an address may just be probed for.
 */
function isOurGroup(group: usize): bool {
  return isAllNodesV6(group) || isSolicitedNodeGroup(group) || multicastFind(group) >= 0;
}

function transportInput(
  packet: usize,
  sourceMac: usize,
  totalBytes: u32,
  localIndex: i32,
  checksumKnown: bool,
  toMany: bool,
): void {
  const at = v6Transport;
  const source = packet + V6_SOURCE;
  if (v6Protocol == PROTOCOL_ICMPV6) {
    icmp6Input(packet, at, totalBytes, toMany);
    return;
  }
  // RFC 4861 has a host without an address speak in neighbour discovery only.
  if (isUnspecifiedV6(source)) {
    count(C.DROP_IP_SOURCE);
    return;
  }
  if (v6Protocol != PROTOCOL_TCP) {
    // The way back without asking first, as ip/input.ts does for IPv4.
    if (sourceMac != 0 && !toMany) neighborSeenV6(nextHopV6(source), sourceMac);
    udpInputV6(packet, at, totalBytes, localIndex, checksumKnown, toMany);
  } else if (toMany) {
    count(C.DROP_BROADCAST);
  } else if (totalBytes < at + 20) {
    count(C.DROP_TCP_HEADER);
  } else {
    const hash = flowHashV6(source, packet + V6_DESTINATION, load<u32>(packet + at));
    tcpPacketV6(packet, sourceMac, at, totalBytes - at, localIndex, hash, -1, checksumKnown);
  }
}
