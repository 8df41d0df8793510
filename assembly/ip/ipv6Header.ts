/** Header of IPv6 (RFC 8200 3), and of the Ethernet frame around it. */
import { OWN_MAC } from "../config.ts";
import { linkHopLimit } from "./link.ts";
import { storeBe16, storeBe32 } from "../wire/bytes.ts";
import {
  ETHERNET_SOURCE,
  ETHERNET_TYPE,
  ETHERTYPE_IPV6,
  V6_DESTINATION,
  V6_HOP_LIMIT,
  V6_NEXT_HEADER,
  V6_PAYLOAD_LENGTH,
  V6_SOURCE,
} from "../wire/headers.ts";

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
  store<u8>(packet, <u8>linkHopLimit(), V6_HOP_LIMIT);
  v128.store(packet, v128.load(source), V6_SOURCE);
  v128.store(packet, v128.load(destination), V6_DESTINATION);
}

/** Source and EtherType of a frame of IPv6. */
export function writeEthernetSource(frame: usize): void {
  store<u32>(frame, load<u32>(OWN_MAC), ETHERNET_SOURCE);
  store<u16>(frame, load<u16>(OWN_MAC, 4), ETHERNET_SOURCE + 4);
  store<u16>(frame, <u16>ETHERTYPE_IPV6, ETHERNET_TYPE);
}
