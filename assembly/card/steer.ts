/**
 * Which queue of a card takes a frame: exact filter, else flow group, else Toeplitz hash and indirection table. What
 * belongs to no flow goes to one queue, named by a register: ARP and neighbour discovery, broadcasts and multicasts,
 * VLAN-tagged and malformed frames. Fragments have no ports, so they and protocols without ports are hashed by
 * addresses only, as RSS cards do. IPv6 extension headers are
 * not walked. A card does not judge: nothing is dropped here, and nothing is read outside the frame.
 */
import {
  CARD_FILTER_COUNT,
  CARD_FLAGS,
  CARD_FLAG_FLOW_GROUPS,
  CARD_FLAG_RSS_UDP_PORTS,
  CARD_FLOW_GROUP_MASK,
  CARD_FLOW_GROUPS,
  CARD_LOCAL_PORT_FIRST,
  CARD_LOCAL_PORT_LAST,
  CARD_OTHER_QUEUE,
  CARD_QUEUES,
  CARD_RETA,
  CARD_RETA_MASK,
  CARD_RSS_TABLES,
  FILTER_PROTOCOL_UNIT,
  FILTER_V6,
  FLOW_GROUP_NONE,
} from "../../src/layout/card.ts";
import { toeplitzV4, toeplitzV4Addresses, toeplitzV6, toeplitzV6Addresses } from "../rss/toeplitz.ts";
import { filterFind } from "./filters.ts";
import {
  ETHERNET_BYTES,
  ETHERNET_TYPE,
  ETHERTYPE_IPV4,
  ETHERTYPE_IPV6,
  FRAGMENT_BITS,
  IPV4_HEADER_BYTES,
  IPV6_HEADER_BYTES,
  IP_DESTINATION,
  IP_FRAGMENT,
  IP_PROTOCOL,
  IP_SOURCE,
  PROTOCOL_ICMPV6,
  PROTOCOL_TCP,
  PROTOCOL_UDP,
  V6_NEXT_HEADER,
  V6_SOURCE,
} from "../wire/headers.ts";

/** Of a DHCP client (RFC 2131 4.1): there is one for all kernels, with the device's owner. */
const DHCP_CLIENT: u32 = 68;
/** ICMPv6 types of neighbour discovery, from router solicitation to redirect (RFC 4861 4). */
const ND_FIRST: u32 = 133;
const ND_LAST: u32 = 137;

/** Queue for a frame of `bytes` bytes at `frame`, on the card whose registers are at `card`. */
export function steer(card: usize, frame: usize, bytes: u32): u32 {
  const etherType = bytes < ETHERNET_BYTES ? 0 : <u32>load<u16>(frame, ETHERNET_TYPE);
  let queue = load<u32>(card, CARD_OTHER_QUEUE);
  if (bytes > 0 && load<u8>(frame) & 1) return queue < load<u32>(card, CARD_QUEUES) ? queue : 0;
  if (etherType == ETHERTYPE_IPV4) queue = steerV4(card, frame + ETHERNET_BYTES, bytes - ETHERNET_BYTES);
  else if (etherType == ETHERTYPE_IPV6) queue = steerV6(card, frame + ETHERNET_BYTES, bytes - ETHERNET_BYTES);
  return queue < load<u32>(card, CARD_QUEUES) ? queue : 0;
}

function steerV4(card: usize, packet: usize, bytes: u32): u32 {
  if (bytes < IPV4_HEADER_BYTES) return load<u32>(card, CARD_OTHER_QUEUE);
  const versionAndLength = <u32>load<u8>(packet);
  const headerBytes = (versionAndLength & 15) << 2;
  if (versionAndLength >> 4 != 4 || headerBytes < IPV4_HEADER_BYTES) return load<u32>(card, CARD_OTHER_QUEUE);
  const protocol = <u32>load<u8>(packet, IP_PROTOCOL);
  const source = load<u32>(packet, IP_SOURCE);
  const destination = load<u32>(packet, IP_DESTINATION);
  const tables = card + CARD_RSS_TABLES;
  const fragment = (load<u16>(packet, IP_FRAGMENT) & FRAGMENT_BITS) != 0;
  if (fragment || (protocol != PROTOCOL_TCP && protocol != PROTOCOL_UDP) || bytes < headerBytes + 4) {
    return redirect(card, toeplitzV4Addresses(tables, source, destination));
  }
  const ports = load<u32>(packet + headerBytes);
  const destinationPort = <u32>bswap<u16>(<u16>(ports >> 16));
  if (protocol == PROTOCOL_UDP && destinationPort == DHCP_CLIENT) return load<u32>(card, CARD_OTHER_QUEUE);
  const placed = place(card, protocol * FILTER_PROTOCOL_UNIT, packet + IP_SOURCE, packet + IP_DESTINATION, ports);
  if (placed >= 0) return placed;
  if (protocol == PROTOCOL_UDP && !(load<u32>(card, CARD_FLAGS) & CARD_FLAG_RSS_UDP_PORTS)) {
    return redirect(card, toeplitzV4Addresses(tables, source, destination));
  }
  return redirect(card, toeplitzV4(tables, source, destination, ports));
}

function steerV6(card: usize, packet: usize, bytes: u32): u32 {
  if (bytes < IPV6_HEADER_BYTES || load<u8>(packet) >> 4 != 6) return load<u32>(card, CARD_OTHER_QUEUE);
  const protocol = <u32>load<u8>(packet, V6_NEXT_HEADER);
  const tables = card + CARD_RSS_TABLES;
  const addresses = packet + V6_SOURCE;
  if ((protocol != PROTOCOL_TCP && protocol != PROTOCOL_UDP) || bytes < IPV6_HEADER_BYTES + 4) {
    const type =
      protocol == PROTOCOL_ICMPV6 && bytes > IPV6_HEADER_BYTES ? <u32>load<u8>(packet, IPV6_HEADER_BYTES) : 0;
    if (type >= ND_FIRST && type <= ND_LAST) return load<u32>(card, CARD_OTHER_QUEUE);
    return redirect(card, toeplitzV6Addresses(tables, addresses));
  }
  const ports = load<u32>(packet, IPV6_HEADER_BYTES);
  const placed = place(card, protocol * FILTER_PROTOCOL_UNIT + FILTER_V6, addresses, addresses + 16, ports);
  if (placed >= 0) return placed;
  if (protocol == PROTOCOL_UDP && !(load<u32>(card, CARD_FLAGS) & CARD_FLAG_RSS_UDP_PORTS)) {
    return redirect(card, toeplitzV6Addresses(tables, addresses));
  }
  return redirect(card, toeplitzV6(tables, addresses, ports));
}

/** Exact filter, then flow group. @returns queue or -1. */
function place(card: usize, kind: u32, source: usize, destination: usize, ports: u32): i32 {
  if (load<u32>(card, CARD_FILTER_COUNT) != 0) {
    const queue = filterFind(card, kind, source, destination, ports);
    if (queue >= 0) return queue;
  }
  if (load<u32>(card, CARD_FLAGS) & CARD_FLAG_FLOW_GROUPS) {
    const destinationPort = <u32>bswap<u16>(<u16>(ports >> 16));
    const leased =
      destinationPort >= load<u32>(card, CARD_LOCAL_PORT_FIRST) &&
      destinationPort <= load<u32>(card, CARD_LOCAL_PORT_LAST);
    // Why both ports: src/device/flowGroups.ts.
    const port = <u32>bswap<u16>(<u16>ports) ^ (leased ? destinationPort : 0);
    const queue = <u32>load<u16>(card + ((port & load<u32>(card, CARD_FLOW_GROUP_MASK)) << 1), CARD_FLOW_GROUPS);
    if (queue != FLOW_GROUP_NONE) return queue;
  }
  return -1;
}

function redirect(card: usize, hash: u32): u32 {
  return load<u16>(card + ((hash & load<u32>(card, CARD_RETA_MASK)) << 1), CARD_RETA);
}
