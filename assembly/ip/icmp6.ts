/**
 * ICMPv6 (RFC 4443) that comes in: answers echo requests, hands errors about our own packets to the socket they
 * concern. Errors that we send are in icmp6Errors.ts, neighbour discovery is in ndp.ts.
 */
import {
  CODE6_PORT_UNREACHABLE,
  quotedProtocol,
  quotedTransport,
  TYPE_ECHO_REQUEST,
  TYPE_PACKET_TOO_BIG,
  TYPE_PARAMETER_PROBLEM,
  TYPE_UNREACHABLE,
} from "./icmp6Errors.ts";
import { count } from "../stats.ts";
import { tcpIcmpErrorV6 } from "../tcp/icmp.ts";
import { udpErrorV6 } from "../udp/udp.ts";
import { isLinkLocalV6, isUnspecifiedV6 } from "../wire/addressKind.ts";
import { addressFindV6 } from "./address.ts";
import { controlQueueQuery } from "./control.ts";
import { echoHeardV6, echoWaits, isEchoRequest } from "./echo.ts";
import { pathMtuLearn } from "./pathMtu.ts";
import { ipv6Route, ipv6SendRouted } from "./ipv6.ts";
import { ND_REDIRECT, ND_ROUTER_SOLICITATION, ndpInput } from "./ndp.ts";
import { loadBe32 } from "../wire/bytes.ts";
import { checksumOf, pseudoHeaderSumV6, sumAdd, sumBytes } from "../wire/checksum.ts";
import {
  ICMP_CHECKSUM,
  ICMP_HEADER_BYTES,
  IPV6_MTU_MIN,
  PROTOCOL_ICMPV6,
  PROTOCOL_TCP,
  PROTOCOL_UDP,
  V6_DESTINATION,
  V6_HOP_LIMIT,
  V6_SOURCE,
} from "../wire/headers.ts";
import {
  DROP_BROADCAST,
  DROP_ICMP_CHECKSUM,
  DROP_ICMP_LENGTH,
  DROP_ICMP_QUOTE,
  DROP_ICMP_TYPE,
  ICMP_ECHO_REPLIES,
  ICMP_ERRORS_RECEIVED,
  ICMP_RECEIVED,
} from "../../src/layout/counters.ts";
import { ECONNREFUSED, EHOSTUNREACH, EMSGSIZE, ENETUNREACH, EPROTO, OK } from "../../src/layout/status.ts";

const TYPE_ECHO_REPLY: u32 = 129;
const TYPE_LISTENER_QUERY: u32 = 130;

const CODE_NO_ROUTE: u32 = 0;

/**
 * A whole IPv6 packet of protocol 58 for us.
 * @param at offset of the message. @param totalBytes of the packet. @param toGroup sent to more than us.
 */
export function icmp6Input(packet: usize, at: u32, totalBytes: u32, toGroup: bool): void {
  const message = packet + at;
  const bytes = totalBytes - at;
  // Neighbour discovery needs no more than four, but all its messages have eight (RFC 4861 4).
  if (bytes < ICMP_HEADER_BYTES) {
    count(DROP_ICMP_LENGTH);
    return;
  }
  const pseudo = pseudoHeaderSumV6(packet + V6_SOURCE, packet + V6_DESTINATION, PROTOCOL_ICMPV6, bytes);
  if (sumAdd(pseudo, sumBytes(message, bytes)) != 0xffff) {
    count(DROP_ICMP_CHECKSUM);
    return;
  }
  count(ICMP_RECEIVED);
  const type = <u32>load<u8>(message);
  if (type >= ND_ROUTER_SOLICITATION && type <= ND_REDIRECT) ndpInput(packet, at, bytes, totalBytes);
  else if (type == TYPE_ECHO_REQUEST) echo(packet, message, bytes, toGroup);
  else if (type == TYPE_ECHO_REPLY && !toGroup) {
    echoHeardV6(message, packet + V6_SOURCE, bytes - ICMP_HEADER_BYTES, load<u8>(packet, V6_HOP_LIMIT), OK);
  } else if (type >= TYPE_UNREACHABLE && type <= TYPE_PARAMETER_PROBLEM) errorInput(message, bytes, packet + V6_SOURCE);
  else if (type == TYPE_LISTENER_QUERY && isQueryOfLink(packet)) controlQueueQuery(packet, totalBytes);
  else count(DROP_ICMP_TYPE);
}

/** RFC 3810 6.2: queries come from the link. Deviates: the router alert option is not looked for. */
function isQueryOfLink(packet: usize): bool {
  return load<u8>(packet, V6_HOP_LIMIT) == 1 && isLinkLocalV6(packet + V6_SOURCE);
}

/** RFC 4443 4.2. Deviates: requests to groups are not answered, as IPv4's to broadcasts: answering amplifies. */
function echo(packet: usize, message: usize, bytes: u32, toGroup: bool): void {
  if (toGroup || isUnspecifiedV6(packet + V6_SOURCE)) {
    count(DROP_BROADCAST);
    return;
  }
  const index = addressFindV6(packet + V6_DESTINATION);
  if (index < 0 || ipv6Route(index, packet + V6_SOURCE) != OK) return;
  // The request lies in the reassembly buffer or in an RX buffer: both are ours to write. Type 128 becomes 129, the
  // checksum loses one (RFC 1624 eqn. 3); the addresses change places, which the sum does not see.
  const checksum = checksumOf(sumAdd(<u32>load<u16>(message, ICMP_CHECKSUM) ^ 0xffff, 1));
  store<u8>(message, <u8>TYPE_ECHO_REPLY);
  store<u16>(message, checksum == 0 ? 0xffff : checksum, ICMP_CHECKSUM);
  if (ipv6SendRouted(PROTOCOL_ICMPV6, 0, message, bytes) >= 0) count(ICMP_ECHO_REPLIES);
}

/** An error about a packet that we are said to have sent: handed to the socket that the quote names. */
function errorInput(message: usize, bytes: u32, from: usize): void {
  count(ICMP_ERRORS_RECEIVED);
  const quote = message + ICMP_HEADER_BYTES;
  const transport = quotedTransport(quote, bytes - ICMP_HEADER_BYTES);
  const localIndex = transport != 0 ? addressFindV6(quote + V6_SOURCE) : -1;
  if (localIndex < 0) {
    count(DROP_ICMP_QUOTE);
    return;
  }
  const type = <u32>load<u8>(message);
  const code = <u32>load<u8>(message, 1);
  const mtu = type == TYPE_PACKET_TOO_BIG ? loadBe32(message + 4) : 0;
  const status = statusOf(type, code);
  // RFC 8200 5: no link is narrower; one that says so wants us to send small packets (RFC 8201 4).
  const path = type == TYPE_PACKET_TOO_BIG ? max(mtu, IPV6_MTU_MIN) : 0;
  const remote = quote + V6_DESTINATION;
  const ports = load<u32>(transport);
  if (quotedProtocol == PROTOCOL_TCP) tcpIcmpErrorV6(localIndex, remote, ports, loadBe32(transport + 4), status, path);
  else if (quotedProtocol == PROTOCOL_UDP) udpErrorV6(localIndex, remote, ports, status, path);
  else if (quotedProtocol == PROTOCOL_ICMPV6 && isEchoRequest(transport, true)) {
    // Of a request that is too large the path's width is learnt as for datagrams; it may be sent again. A forger would
    // have to know that somebody waits for an answer.
    if (path != 0 && echoWaits()) pathMtuLearn(remote, path);
    echoHeardV6(transport, from, 0, 0, status);
  } else count(DROP_ICMP_QUOTE);
}

/** As Linux maps them, where we have the code. */
function statusOf(type: u32, code: u32): i32 {
  if (type == TYPE_PACKET_TOO_BIG) return EMSGSIZE;
  if (type == TYPE_PARAMETER_PROBLEM) return EPROTO;
  if (type != TYPE_UNREACHABLE) return EHOSTUNREACH;
  return code == CODE_NO_ROUTE ? ENETUNREACH : code == CODE6_PORT_UNREACHABLE ? ECONNREFUSED : EHOSTUNREACH;
}

// Errors that we send.
