/** Header of IPv6 (RFC 8200 3), and of the Ethernet frame around it. */
import { hopLimit, OWN_MAC } from "../config.ts";
import { storeBe16, storeBe32 } from "../wire/bytes.ts";

export const ETHERNET_BYTES: u32 = 14;
export const IPV6_HEADER_BYTES: u32 = 40;
/** RFC 8200 5: every link carries this. */
export const IPV6_MTU_MIN: u32 = 1280;
export const PROTOCOL_ICMPV6: u32 = 58;
export const V6_PAYLOAD_LENGTH: usize = 4;
export const V6_NEXT_HEADER: usize = 6;
export const V6_HOP_LIMIT: usize = 7;
export const V6_SOURCE: usize = 8;
export const V6_DESTINATION: usize = 24;
export const HEADER_HOP_BY_HOP: u32 = 0;
export const HEADER_ROUTING: u32 = 43;
export const HEADER_FRAGMENT: u32 = 44;
export const HEADER_DESTINATION: u32 = 60;
export const FRAGMENT_HEADER_BYTES: u32 = 8;

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

/** Source and EtherType of a frame of IPv6. */
export function writeEthernetSource(frame: usize): void {
  store<u32>(frame, load<u32>(OWN_MAC), 6);
  store<u16>(frame, load<u16>(OWN_MAC, 4), 10);
  store<u16>(frame, 0xdd86, 12);
}
