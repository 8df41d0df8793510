/** ICMPv6 errors that we send (RFC 4443 2.4, 3). */
import { txReserve } from "../device/tx.ts";
import { addressFindV6 } from "./address.ts";
import { icmpTakeToken } from "./icmpErrors.ts";
import { ipv6WriteHeader } from "./ipv6Header.ts";
import { ipv6Route, ipv6RouteMtu, ipv6RouteSource, ipv6Transmit } from "./ipv6.ts";
import { ND_REDIRECT } from "./ndp.ts";
import { count } from "../stats.ts";
import { isHostV6, isMulticastV6 } from "../wire/addressKind.ts";
import { storeBe32 } from "../wire/bytes.ts";
import { checksumOf, pseudoHeaderSumV6, sumAdd, sumBytes } from "../wire/checksum.ts";
import {
  ETHERNET_BYTES,
  FRAGMENT_HEADER_BYTES,
  HEADER_DESTINATION,
  HEADER_FRAGMENT,
  HEADER_HOP_BY_HOP,
  HEADER_ROUTING,
  ICMP_CHECKSUM,
  ICMP_HEADER_BYTES,
  IPV6_HEADER_BYTES,
  IPV6_MTU_MIN,
  PROTOCOL_ICMPV6,
  V6_DESTINATION,
  V6_NEXT_HEADER,
  V6_SOURCE,
} from "../wire/headers.ts";
import { ICMP_ERRORS_SENT, ICMP_RATE_LIMITED } from "../../src/layout/counters.ts";
import { OK } from "../../src/layout/status.ts";

export const TYPE_UNREACHABLE: u32 = 1;
export const TYPE_PACKET_TOO_BIG: u32 = 2;
const TYPE_TIME_EXCEEDED: u32 = 3;
export const TYPE_PARAMETER_PROBLEM: u32 = 4;
export const TYPE_ECHO_REQUEST: u32 = 128;

export const CODE6_PORT_UNREACHABLE: u32 = 4;
/** Codes of "parameter problem" (RFC 4443 3.4). */
export const CODE_HEADER_FIELD: u32 = 0;
export const CODE_NEXT_HEADER: u32 = 1;
export const CODE_OPTION: u32 = 2;
/** RFC 7112 5: the first fragment lacks headers. */
export const CODE_FIRST_FRAGMENT: u32 = 3;
const CODE_REASSEMBLY_TIME: u32 = 1;

/** Reports a packet that no socket takes. */
export function icmp6SendUnreachable(packet: usize, totalBytes: u32, code: u32): void {
  sendError(packet, totalBytes, TYPE_UNREACHABLE, code, 0);
}

/** Reports what is wrong with a packet. @param code CODE_*. @param pointer offset of the byte. */
export function icmp6SendProblem(packet: usize, totalBytes: u32, code: u32, pointer: u32): void {
  sendError(packet, totalBytes, TYPE_PARAMETER_PROBLEM, code, pointer);
}

/** Reports a packet of which fragments never came. @param totalBytes of what is there, without a gap. */
export function icmp6SendReassemblyTimeout(packet: usize, totalBytes: u32): void {
  sendError(packet, totalBytes, TYPE_TIME_EXCEEDED, CODE_REASSEMBLY_TIME, 0);
}

function sendError(packet: usize, totalBytes: u32, type: u32, code: u32, rest: u32): void {
  const group = isMulticastV6(packet + V6_DESTINATION);
  // RFC 4443 2.4 (e): about groups only what helps to find the path's MTU or unknown options; never about errors.
  if (group && !(type == TYPE_PARAMETER_PROBLEM && code == CODE_OPTION)) return;
  if (!isHostV6(packet + V6_SOURCE) || isAboutError(packet, totalBytes)) return;
  const index = addressFindV6(packet + V6_DESTINATION);
  if (index < 0 && !group) return;
  if (!icmpTakeToken()) {
    count(ICMP_RATE_LIMITED);
    return;
  }
  if (ipv6Route(index, packet + V6_SOURCE) != OK) return;
  const mtu = min(ipv6RouteMtu(), IPV6_MTU_MIN);
  const quoteBytes = min(totalBytes, mtu - IPV6_HEADER_BYTES - ICMP_HEADER_BYTES);
  const bytes = ICMP_HEADER_BYTES + quoteBytes;
  const frameBytes = ETHERNET_BYTES + IPV6_HEADER_BYTES + bytes;
  const frame = txReserve(frameBytes);
  if (frame == 0) return;
  const reply = frame + ETHERNET_BYTES;
  ipv6WriteHeader(reply, bytes, PROTOCOL_ICMPV6, ipv6RouteSource(), packet + V6_SOURCE, 0);
  const message = reply + IPV6_HEADER_BYTES;
  store<u32>(message, type | (code << 8));
  storeBe32(message + 4, rest);
  memory.copy(message + ICMP_HEADER_BYTES, packet, quoteBytes);
  const pseudo = pseudoHeaderSumV6(reply + V6_SOURCE, reply + V6_DESTINATION, PROTOCOL_ICMPV6, bytes);
  store<u16>(message, checksumOf(sumAdd(pseudo, sumBytes(message, bytes))), ICMP_CHECKSUM);
  ipv6Transmit(frame, frameBytes);
  count(ICMP_ERRORS_SENT);
}

/** An ICMPv6 error or redirect, as far as that can be told; extension headers before it count as one. */
function isAboutError(packet: usize, totalBytes: u32): bool {
  const transport = quotedTransport(packet, totalBytes);
  if (transport == 0) return totalBytes >= IPV6_HEADER_BYTES + 8 && quotedIsIcmpFragment(packet);
  const type = <u32>load<u8>(transport);
  return quotedProtocol == PROTOCOL_ICMPV6 && (type < TYPE_ECHO_REQUEST || type == ND_REDIRECT);
}

function quotedIsIcmpFragment(packet: usize): bool {
  return (
    <u32>load<u8>(packet, V6_NEXT_HEADER) == HEADER_FRAGMENT &&
    <u32>load<u8>(packet + IPV6_HEADER_BYTES) == PROTOCOL_ICMPV6
  );
}

/** Extension headers passed in a quoted packet: we send none but the fragment header. */
const QUOTED_HEADERS_MAX: u32 = 4;
export let quotedProtocol: u32 = 0;

/** Where the first eight bytes of the quoted transport header lie, 0: not there. Also makes quotedProtocol. */
export function quotedTransport(quote: usize, bytes: u32): usize {
  if (bytes < IPV6_HEADER_BYTES || load<u8>(quote) >> 4 != 6) return 0;
  let header = <u32>load<u8>(quote, V6_NEXT_HEADER);
  let at = IPV6_HEADER_BYTES;
  for (let headers: u32 = 0; headers < QUOTED_HEADERS_MAX; headers++) {
    if (at + 8 > bytes) return 0;
    const isExtension = header == HEADER_HOP_BY_HOP || header == HEADER_ROUTING || header == HEADER_DESTINATION;
    if (!isExtension && header != HEADER_FRAGMENT) {
      quotedProtocol = header;
      return quote + at;
    }
    // A later fragment has no ports.
    if (header == HEADER_FRAGMENT && (load<u16>(quote + at, 2) & 0xf8ff) != 0) return 0;
    header = <u32>load<u8>(quote + at);
    at += isExtension ? (<u32>load<u8>(quote + at, 1) + 1) << 3 : FRAGMENT_HEADER_BYTES;
  }
  return 0;
}
