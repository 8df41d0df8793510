/** IPv6 that comes in (RFC 8200): its fixed header, and extension headers within limits. */
import { addressFindV6 } from "./address.ts";
import { icmp6SendProblem, CODE_HEADER_FIELD, CODE_NEXT_HEADER, CODE_OPTION } from "./icmp6Errors.ts";
import { count } from "../stats.ts";
import { isHostV6, isUnspecifiedV6 } from "../wire/addressKind.ts";
import { loadBe16 } from "../wire/bytes.ts";
import {
  FRAGMENT_HEADER_BYTES,
  HEADER_DESTINATION,
  HEADER_FRAGMENT,
  HEADER_HOP_BY_HOP,
  HEADER_ROUTING,
  IPV6_HEADER_BYTES,
  PROTOCOL_ICMPV6,
  PROTOCOL_TCP,
  PROTOCOL_UDP,
  V6_NEXT_HEADER,
  V6_PAYLOAD_LENGTH,
  V6_SOURCE,
} from "../wire/headers.ts";
import {
  DROP_IP6_EXTENSION,
  DROP_IP6_HEADER,
  DROP_IP6_LENGTH,
  DROP_IP_PROTOCOL,
  DROP_IP_SOURCE,
} from "../../src/layout/counters.ts";

/** RFC 8504 5.3: a host may set limits. No sender comes near these. */
const EXTENSION_HEADERS_MAX: u32 = 8;
const OPTIONS_PER_HEADER_MAX: u32 = 8;
const HEADER_NONE: u32 = 59;

/** Made by ipv6Walk: the packet's protocol, and where its header stands, from the packet's start. */
export let v6Protocol: u32 = 0;
export let v6Transport: u32 = 0;
/** Offset of the byte that names the protocol, or the fragment header. */
export let v6ProtocolAt: u32 = 0;

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
