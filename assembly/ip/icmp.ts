/**
 * ICMP for IPv4 (RFC 792, RFC 1122 3.2.2) that comes in: answers echo requests, hands errors about our own packets to
 * the socket they concern. Errors that we send are in icmpErrors.ts.
 */
import {
  CODE_FRAGMENTATION_NEEDED,
  ICMP_PARAMETER_PROBLEM,
  ICMP_TIME_EXCEEDED,
  ICMP_UNREACHABLE,
} from "./icmpErrors.ts";
import { acceptRedirects, mtuBytes } from "../config.ts";
import { txReserve } from "../device/tx.ts";
import { count } from "../stats.ts";
import { tcpIcmpError, tcpIsInFlight } from "../tcp/icmp.ts";
import { statusOfIcmp, udpError, udpIsBound } from "../udp/udp.ts";
import { nextHopV4 } from "./nextHop.ts";
import { addressFindV4, addressMaskV4, addressV4, isBroadcastV4, isHostV4 } from "./address.ts";
import { redirectLearn } from "./redirects.ts";
import { echoHeard, echoWaits, isEchoRequest } from "./echo.ts";
import { ipv4Route, ipv4SendRouted, ipv4Transmit, ipv4WriteChecksum, ipv4WriteHeader } from "./ipv4.ts";
import { OPTIONS_BYTES_MAX, optionsReflect } from "./options.ts";
import { loadBe16, loadBe32 } from "../wire/bytes.ts";
import { checksumOf, sumAdd, sumBytes } from "../wire/checksum.ts";
import {
  ETHERNET_BYTES,
  FRAGMENT_OFFSET_MASK,
  ICMP_CHECKSUM,
  ICMP_HEADER_BYTES,
  IPV4_HEADER_BYTES,
  IP_DESTINATION,
  IP_FRAGMENT,
  IP_PROTOCOL,
  IP_SOURCE,
  IP_TOS,
  IP_TTL,
  PROTOCOL_ICMP,
  PROTOCOL_TCP,
  PROTOCOL_UDP,
  V4_MAPPED,
} from "../wire/headers.ts";
import {
  DROP_BROADCAST,
  DROP_ICMP_CHECKSUM,
  DROP_ICMP_LENGTH,
  DROP_ICMP_QUOTE,
  DROP_ICMP_REDIRECT,
  DROP_ICMP_TYPE,
  ICMP_ECHO_REPLIES,
  ICMP_ERRORS_RECEIVED,
  ICMP_RECEIVED,
  ICMP_REDIRECTS,
} from "../../src/layout/counters.ts";
import { OK } from "../../src/layout/status.ts";

const ICMP_ECHO_REPLY: u32 = 0;
const ICMP_REDIRECT: u32 = 5;
const ICMP_ECHO_REQUEST: u32 = 8;

const ICMP_NEXT_HOP_MTU: usize = 6;
/** Of a quoted transport header: ports, and the sequence number of TCP. */
const QUOTED_TRANSPORT_BYTES: u32 = 8;
/**
 * A whole, checked IPv4 packet of protocol 1 for us.
 * @param toBroadcast it was sent to more than us: an IP or Ethernet broadcast or multicast.
 */
export function icmpInput(packet: usize, headerBytes: u32, totalBytes: u32, toBroadcast: bool): void {
  const icmp = packet + headerBytes;
  const icmpBytes = totalBytes - headerBytes;
  const cause = causeToDrop(icmp, icmpBytes, toBroadcast);
  if (cause != NOT_DROPPED) {
    count(cause);
    return;
  }
  count(ICMP_RECEIVED);
  const type = <u32>load<u8>(icmp);
  if (type == ICMP_REDIRECT) redirected(icmp, icmpBytes, load<u32>(packet, IP_SOURCE));
  else if (type == ICMP_ECHO_REQUEST) echo(packet, headerBytes, totalBytes);
  else if (type == ICMP_ECHO_REPLY) {
    echoHeard(icmp, load<u32>(packet, IP_SOURCE), icmpBytes - ICMP_HEADER_BYTES, load<u8>(packet, IP_TTL), OK);
  } else if (type == ICMP_UNREACHABLE || type == ICMP_TIME_EXCEEDED || type == ICMP_PARAMETER_PROBLEM) {
    errorInput(icmp, icmpBytes, load<u32>(packet, IP_SOURCE));
  } else {
    // Source quench is obsolete (RFC 6633).
    count(DROP_ICMP_TYPE);
  }
}

const NOT_DROPPED: i32 = -1;

function causeToDrop(icmp: usize, icmpBytes: u32, toBroadcast: bool): i32 {
  if (icmpBytes < ICMP_HEADER_BYTES) return DROP_ICMP_LENGTH;
  if (sumBytes(icmp, icmpBytes) != 0xffff) return DROP_ICMP_CHECKSUM;
  // RFC 1122 3.2.2.6 lets a host ignore what is sent to broadcast addresses; answering amplifies.
  return toBroadcast ? DROP_BROADCAST : NOT_DROPPED;
}

/** Options of the reply being built. */
const options: usize = memory.data(OPTIONS_BYTES_MAX, 16);

/** RFC 1122 3.2.2.6: the reply is the request with another type, from the address that was asked. */
function echo(packet: usize, headerBytes: u32, totalBytes: u32): void {
  const icmp = packet + headerBytes;
  const icmpBytes = totalBytes - headerBytes;
  const source = load<u32>(packet, IP_DESTINATION);
  const destination = load<u32>(packet, IP_SOURCE);
  const tos = <u32>load<u8>(packet, IP_TOS);
  const addressIndex = addressFindV4(source);
  if (addressIndex < 0 || ipv4Route(addressIndex, destination) != OK) return;
  // The first word of the request is 0x0008 in memory, of the reply 0 (RFC 1624 eqn. 3: the sum loses 8).
  const oldChecksum = <u32>load<u16>(icmp, ICMP_CHECKSUM);
  let checksum = checksumOf(sumAdd(oldChecksum ^ 0xffff, 0xfff7));
  // Where it comes out as 0 all ones is as good, and the only right one for a reply of zeros (RFC 1624 3).
  if (checksum == 0) checksum = 0xffff;
  if (icmpBytes + IPV4_HEADER_BYTES > mtuBytes) {
    // The request lies in the reassembly buffer or in an RX buffer: both are ours to write.
    store<u8>(icmp, 0);
    store<u16>(icmp, checksum, ICMP_CHECKSUM);
    if (ipv4SendRouted(PROTOCOL_ICMP, tos, icmp, icmpBytes) >= 0) count(ICMP_ECHO_REPLIES);
    return;
  }
  // Where they would make fragments of it the reply goes without options.
  const reflected = headerBytes > IPV4_HEADER_BYTES ? optionsReflect(packet, headerBytes, source, options) : 0;
  const optionBytes = icmpBytes + IPV4_HEADER_BYTES + reflected <= mtuBytes ? reflected : 0;
  const replyHeaderBytes = IPV4_HEADER_BYTES + optionBytes;
  const frameBytes = ETHERNET_BYTES + replyHeaderBytes + icmpBytes;
  const frame = txReserve(frameBytes);
  if (frame == 0) return;
  const header = frame + ETHERNET_BYTES;
  ipv4WriteHeader(header, replyHeaderBytes + icmpBytes, PROTOCOL_ICMP, source, destination, tos);
  if (optionBytes != 0) {
    store<u8>(header, <u8>(0x40 | (replyHeaderBytes >> 2)));
    memory.copy(header + IPV4_HEADER_BYTES, options, optionBytes);
    ipv4WriteChecksum(header, replyHeaderBytes);
  }
  const reply = header + replyHeaderBytes;
  memory.copy(reply, icmp, icmpBytes);
  store<u8>(reply, 0);
  store<u16>(reply, checksum, ICMP_CHECKSUM);
  ipv4Transmit(frame, frameBytes);
  count(ICMP_ECHO_REPLIES);
}

/** An error about a packet that we are said to have sent: handed to the socket that the quote names. */
function errorInput(icmp: usize, icmpBytes: u32, from: u32): void {
  count(ICMP_ERRORS_RECEIVED);
  const quote = icmp + ICMP_HEADER_BYTES;
  if (!quoteIsOurs(quote, icmpBytes - ICMP_HEADER_BYTES)) {
    count(DROP_ICMP_QUOTE);
    return;
  }
  const type = <u32>load<u8>(icmp);
  const code = <u32>load<u8>(icmp, 1);
  // RFC 1191 4; 0 from a router that knows nothing of it.
  const isTooBig = type == ICMP_UNREACHABLE && code == CODE_FRAGMENTATION_NEEDED;
  const mtu = isTooBig ? loadBe16(icmp + ICMP_NEXT_HOP_MTU) : 0;
  const localV4 = load<u32>(quote, IP_SOURCE);
  const transport = quote + ((<u32>load<u8>(quote) & 0xf) << 2);
  const localPort = loadBe16(transport);
  const protocol = <u32>load<u8>(quote, IP_PROTOCOL);
  if (protocol == PROTOCOL_TCP) {
    const remoteV4 = load<u32>(quote, IP_DESTINATION);
    const remotePort = loadBe16(transport + 2);
    tcpIcmpError(localV4, localPort, remoteV4, remotePort, loadBe32(transport + 4), type, code, mtu);
  } else if (protocol == PROTOCOL_UDP) {
    udpError(localV4, localPort, type, code);
  } else if (protocol == PROTOCOL_ICMP && isEchoRequest(transport, false)) {
    echoHeard(transport, from, 0, 0, statusOfIcmp(type, code));
  } else {
    count(DROP_ICMP_QUOTE);
  }
}

/**
 * RFC 1122 3.2.2.2: believed of the gateway that packets to the destination go by now, about another on the same
 * network as ours. Besides, the quote has to name a connection or socket of ours: a forger must know of one.
 */
function redirected(icmp: usize, icmpBytes: u32, from: u32): void {
  const quote = icmp + ICMP_HEADER_BYTES;
  if (!acceptRedirects || !quoteIsOurs(quote, icmpBytes - ICMP_HEADER_BYTES) || !quoteIsKnown(quote)) {
    count(DROP_ICMP_REDIRECT);
    return;
  }
  const index = addressFindV4(load<u32>(quote, IP_SOURCE));
  const destination = load<u32>(quote, IP_DESTINATION);
  const gateway = load<u32>(icmp, 4);
  const isNear = ((gateway ^ addressV4(index)) & addressMaskV4(index)) == 0;
  const isNeighbor = isNear && isHostV4(gateway) && addressFindV4(gateway) < 0 && !isBroadcastV4(gateway);
  // A destination on the link is its own next hop: nobody is to say otherwise.
  if (!isNeighbor || from == destination || gateway == from || nextHopV4(index, destination) != from) {
    count(DROP_ICMP_REDIRECT);
    return;
  }
  for (let i: usize = 0; i < 2; i++) store<u32>(redirect + (i << 4), V4_MAPPED, 8);
  store<u32>(redirect, destination, 12);
  store<u32>(redirect, gateway, 28);
  redirectLearn(redirect, redirect + 16);
  count(ICMP_REDIRECTS);
}

/** Destination and next hop, IPv4-mapped. */
const redirect: usize = memory.data(32, 16);

/** Is there something of ours that has sent this packet, as far as can be told? */
function quoteIsKnown(quote: usize): bool {
  const transport = quote + ((<u32>load<u8>(quote) & 0xf) << 2);
  const protocol = <u32>load<u8>(quote, IP_PROTOCOL);
  const local = load<u32>(quote, IP_SOURCE);
  const remote = load<u32>(quote, IP_DESTINATION);
  if (protocol == PROTOCOL_TCP) {
    return tcpIsInFlight(local, loadBe16(transport), remote, loadBe16(transport + 2), loadBe32(transport + 4));
  }
  if (protocol == PROTOCOL_UDP) return udpIsBound(local, loadBe16(transport));
  return protocol == PROTOCOL_ICMP && echoWaits() && isEchoRequest(transport, false);
}

/** A quote is believed as far as it is the start of a packet from one of our addresses, ports included. */
function quoteIsOurs(quote: usize, quoteBytes: u32): bool {
  if (quoteBytes < IPV4_HEADER_BYTES) return false;
  const first = <u32>load<u8>(quote);
  const headerBytes = (first & 0xf) << 2;
  if (first >> 4 != 4 || headerBytes < IPV4_HEADER_BYTES) return false;
  if (quoteBytes < headerBytes + QUOTED_TRANSPORT_BYTES) return false;
  if ((loadBe16(quote + IP_FRAGMENT) & FRAGMENT_OFFSET_MASK) != 0) return false;
  return addressFindV4(load<u32>(quote, IP_SOURCE)) >= 0;
}

// Errors that we send.
