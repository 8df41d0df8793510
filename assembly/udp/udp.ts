/**
 * UDP (RFC 768, RFC 1122 4.1, RFC 8200 8.1): sockets, their look-up, received datagrams until the application takes
 * them. A datagram belongs to the socket bound to its destination address, else to one bound to any address.
 */
import {
  checksumOffload,
  ephemeralPortFirst,
  ephemeralPortLast,
  mtuBytes,
  seedWord,
  udpSocketsMax,
} from "../config.ts";
import { txReserve } from "../device/tx.ts";
import { flowLabel, sipHash } from "../flow/hash.ts";
import { ADDRESS_ANY, ADDRESS_ANY_V6, addressIsBindable, bindsOverlap } from "../ip/bind.ts";
import { isAllNodesV6, isMulticastV6, isV4Mapped, isAllHostsV4, isMulticastV4 } from "../wire/addressKind.ts";
import { addressFindV4, addressIsV6 } from "../ip/address.ts";
import {
  CODE_FRAGMENTATION_NEEDED,
  CODE_PORT_UNREACHABLE,
  ICMP_UNREACHABLE,
  icmpSendUnreachable,
} from "../ip/icmpErrors.ts";
import { CODE6_PORT_UNREACHABLE, icmp6SendUnreachable } from "../ip/icmp6Errors.ts";
import {
  ipv4Route,
  ipv4RouteMark,
  ipv4RouteSource,
  ipv4SendRouted,
  ipv4Transmit,
  ipv4WriteRouted,
} from "../ip/ipv4.ts";
import {
  ipv6Route,
  ipv6RouteMark,
  ipv6RouteMtu,
  ipv6RouteSource,
  ipv6SendRouted,
  ipv6Transmit,
  ipv6WriteRouted,
} from "../ip/ipv6.ts";
import { multicastFind, multicastFindV4 } from "../ip/multicast.ts";
import { pathMtuLearn } from "../ip/pathMtu.ts";
import { arenaAlloc } from "../mem/arena.ts";
import { readyPush } from "../socket/ready.ts";
import { count } from "../stats.ts";
import {
  DATAGRAM_BYTES,
  DATAGRAM_HOP_LIMIT,
  DATAGRAM_LOCAL_ADDRESS,
  DATAGRAM_NEXT,
  DATAGRAM_PAYLOAD,
  DATAGRAM_REMOTE_ADDRESS,
  DATAGRAM_REMOTE_PORT,
  DATAGRAM_TOS,
  datagramBoot,
  datagramCharge,
  datagramGive,
  datagramPoolBytes,
  datagramPoolSize,
  datagramTake,
} from "./datagrams.ts";
import { isMember, membershipAdd, membershipBoot, membershipDrop, membershipDropAll } from "./memberships.ts";
import { loadBe16, storeBe16 } from "../wire/bytes.ts";
import { checksumOf, copyAndSum, pseudoHeaderSumV4, pseudoHeaderSumV6, sumAdd, sumBytes } from "../wire/checksum.ts";
import {
  ETHERNET_BYTES,
  IPV4_HEADER_BYTES,
  IPV6_HEADER_BYTES,
  IP_DESTINATION,
  IP_SOURCE,
  IP_TOS,
  IP_TTL,
  PROTOCOL_UDP,
  UDP_HEADER_BYTES,
  V4_MAPPED,
  V6_DESTINATION,
  V6_HOP_LIMIT,
  V6_SOURCE,
} from "../wire/headers.ts";
import {
  DROP_UDP_CHECKSUM,
  DROP_UDP_LENGTH,
  DROP_UDP_NO_SOCKET,
  DROP_UDP_QUEUE_FULL,
  UDP_RECEIVED,
  UDP_SENT,
} from "../../src/layout/counters.ts";
import * as EVENT from "../../src/layout/event.ts";
import {
  FRAME_OFFSET,
  FRAME_VNET_CSUM_OFFSET,
  FRAME_VNET_CSUM_START,
  FRAME_VNET_FLAGS,
  VNET_NEEDS_CSUM,
} from "../../src/layout/frameRing.ts";
import {
  OPTION_HOP_LIMIT,
  OPTION_MULTICAST_HOP_LIMIT,
  OPTION_MULTICAST_LOOP,
  OPTION_RCV_BUFFER_BYTES,
  OPTION_TOS,
} from "../../src/layout/option.ts";
import { RESULT_BASE } from "../../src/layout/kernelMemory.ts";
import {
  EADDRINUSE,
  EADDRNOTAVAIL,
  EBADF,
  ECONNREFUSED,
  EHOSTUNREACH,
  EINVAL,
  EMSGSIZE,
  ENETUNREACH,
  ENOBUFS,
  EPROTO,
  OK,
} from "../../src/layout/status.ts";

const PAYLOAD_BYTES_MAX: u32 = 65507;
const UDP_LENGTH: usize = 4;
const UDP_CHECKSUM: usize = 6;
/** Of the memory that a socket's waiting datagrams take, counted in slots (udp/datagrams.ts). */
const RX_BYTES_DEFAULT: u32 = 262144;
const RX_BYTES_MIN: i32 = 2048;
const RX_BYTES_MAX: i32 = 16 << 20;
const NONE: i32 = -1;

const FREE: u8 = 0;
const BOUND: u8 = 1;
/** Closed while it stood in the ready queue: free once its handle has come out, or the queue would fill up. */
const CLOSING: u8 = 2;

@unmanaged
class Socket {
  state: u8;
  /** 1: stands in the ready queue. */
  isReady: u8;
  generation: u8;
  /** Index of the local address, or ADDRESS_ANY*. */
  addressIndex: i32;
  port: u32;
  /** Next socket of the bucket, or next free one. */
  next: i32;
  rxHead: usize;
  rxTail: usize;
  /** Payload bytes that wait, and the memory they take. */
  rxPayloadBytes: u32;
  rxChargedBytes: u32;
  /** OPTION_RCV_BUFFER_BYTES: how much rxChargedBytes may become. */
  rxBytesMax: u32;
  /** ICMP error not yet told, as a status; 0: none. */
  error: i32;
  /** OPTION_TOS and OPTION_HOP_LIMIT (0: as configured); those of datagrams to groups. */
  tos: u8;
  hopLimit: u8;
  groupHopLimit: u8;
  /** 1: what it sends to a group does not come back to our own sockets. */
  groupNoLoop: u8;
}
const SOCKET_SIZE_BYTES: usize = 64;
if (offsetof<Socket>() > SOCKET_SIZE_BYTES) ERROR("Socket does not fit its record");

let sockets: usize = 0;
let socketsTouched: u32 = 0;
let freeHead: i32 = NONE;
let buckets: usize = 0;
let bucketMask: u32 = 0;
let portDraws: u64 = 0;
/** A datagram too large for the MTU is put together here before it is cut. */
let scratch: usize = 0;

/** @returns false when the arena is too small. */
export function udpBoot(): bool {
  if (udpSocketsMax == 0) return true;
  let slots: u32 = 16;
  while (slots < udpSocketsMax) slots <<= 1;
  bucketMask = slots - 1;
  buckets = arenaAlloc((<usize>slots) << 2, 64);
  sockets = arenaAlloc(<usize>udpSocketsMax * SOCKET_SIZE_BYTES, 64);
  scratch = arenaAlloc(65536, 64);
  if (buckets == 0 || sockets == 0 || scratch == 0 || !membershipBoot()) return false;
  memory.fill(buckets, 0xff, (<usize>slots) << 2);
  return datagramBoot(datagramPoolBytes(udpSocketsMax));
}

function at(index: i32): Socket {
  return changetype<Socket>(sockets + <usize>index * SOCKET_SIZE_BYTES);
}

function handleOf(index: i32): u32 {
  const generation = (<u32>at(index).generation) << EVENT.HANDLE_GENERATION_SHIFT;
  return <u32>index | generation | (EVENT.HANDLE_KIND_UDP << EVENT.HANDLE_KIND_SHIFT);
}

/** Index of an open or closing socket, NONE when the handle is no longer (or never was) one. */
function indexOf(handle: u32): i32 {
  const index = handle & EVENT.HANDLE_INDEX_MASK;
  if (handle >> EVENT.HANDLE_KIND_SHIFT != EVENT.HANDLE_KIND_UDP || index >= socketsTouched) return NONE;
  const generation = (handle >> EVENT.HANDLE_GENERATION_SHIFT) & EVENT.HANDLE_GENERATION_MASK;
  const socket = at(<i32>index);
  return socket.state != FREE && <u32>socket.generation == generation ? <i32>index : NONE;
}

function boundIndexOf(handle: u32): i32 {
  const index = indexOf(handle);
  return index != NONE && at(index).state == BOUND ? index : NONE;
}

// Binding.

function bucketOf(port: u32): usize {
  return buckets + ((<usize>(port & bucketMask)) << 2);
}

/** A socket whose addresses overlap with `addressIndex` in the way that one of them must be refused. */
function findConflict(addressIndex: i32, port: u32): i32 {
  let index = load<i32>(bucketOf(port));
  while (index != NONE && (at(index).port != port || !bindsOverlap(at(index).addressIndex, addressIndex))) {
    index = at(index).next;
  }
  return index;
}

/**
 * The socket that gets what is sent to this address and port.
 * @param addressIndex of the local address, -1: a group or broadcast. @param isV6 by its address family.
 */
function findFor(addressIndex: i32, isV6: bool, port: u32): i32 {
  if (udpSocketsMax == 0) return NONE;
  let wildcard: i32 = NONE;
  for (let index = load<i32>(bucketOf(port)); index != NONE; index = at(index).next) {
    const socket = at(index);
    if (socket.port != port) continue;
    const bound = socket.addressIndex;
    if (bound >= 0) {
      if (bound == addressIndex) return index;
    } else if (bound == ADDRESS_ANY || (bound == ADDRESS_ANY_V6) == isV6) {
      wildcard = index;
    }
  }
  return wildcard;
}

/**
 * See KernelExports.udpBind. A wildcard and a specific socket may share a port: the specific one gets what is sent to
 * its address.
 * @param addressIndex or ADDRESS_ANY*. @param port 0: an ephemeral one, see udpLocalPort.
 * @returns handle, EINVAL, EADDRNOTAVAIL, EADDRINUSE or ENOBUFS.
 */
export function udpBind(addressIndex: i32, port: u32): i32 {
  if (port > 65535) return EINVAL;
  if (!addressIsBindable(addressIndex)) return EADDRNOTAVAIL;
  if (freeHead == NONE && socketsTouched == udpSocketsMax) return ENOBUFS;
  const localPort = port == 0 ? ephemeralPort(addressIndex) : port;
  if (localPort == 0 || findConflict(addressIndex, localPort) != NONE) return EADDRINUSE;
  let index = freeHead;
  if (index != NONE) freeHead = at(index).next;
  else {
    index = <i32>socketsTouched;
    socketsTouched++;
  }
  const socket = at(index);
  const generation = socket.generation;
  memory.fill(changetype<usize>(socket), 0, SOCKET_SIZE_BYTES);
  socket.generation = generation;
  socket.state = BOUND;
  socket.addressIndex = addressIndex;
  socket.port = localPort;
  socket.groupHopLimit = 1;
  socket.rxBytesMax = RX_BYTES_DEFAULT;
  const bucket = bucketOf(localPort);
  socket.next = load<i32>(bucket);
  store<i32>(bucket, index);
  return handleOf(index);
}

/** RFC 6056 3.3.1: from a random start to the next port that nobody has. @returns 0 when all are taken. */
function ephemeralPort(addressIndex: i32): u32 {
  if (ephemeralPortFirst == 0 || ephemeralPortLast < ephemeralPortFirst || ephemeralPortLast > 65535) return 0;
  const ports = ephemeralPortLast - ephemeralPortFirst + 1;
  const start = <u32>((sipHash(++portDraws, seedWord(3)) >> 32) % ports);
  for (let i: u32 = 0; i < ports; i++) {
    const port = ephemeralPortFirst + ((start + i) % ports);
    if (findConflict(addressIndex, port) == NONE && findConflict(ADDRESS_ANY, port) == NONE) return port;
  }
  return 0;
}

/** @returns port of a socket, 1..65535, or EBADF. */
export function udpLocalPort(handle: u32): i32 {
  const index = boundIndexOf(handle);
  return index == NONE ? EBADF : <i32>at(index).port;
}

/** See KernelExports.udpClose: what waits is dropped, the port is free at once. */
export function udpClose(handle: u32): i32 {
  const index = boundIndexOf(handle);
  if (index == NONE) return EBADF;
  const socket = at(index);
  while (socket.rxHead != 0) dropFirst(socket);
  membershipDropAll(index);
  let link = bucketOf(socket.port);
  while (load<i32>(link) != index) link = changetype<usize>(at(load<i32>(link))) + offsetof<Socket>("next");
  store<i32>(link, socket.next);
  socket.state = CLOSING;
  if (socket.isReady == 0) free(index);
  return OK;
}

function free(index: i32): void {
  const socket = at(index);
  socket.state = FREE;
  socket.generation = (socket.generation + 1) & <u8>EVENT.HANDLE_GENERATION_MASK;
  socket.next = freeHead;
  freeHead = index;
}

/** See KernelExports.udpJoin. */
export function udpJoin(handle: u32, group: usize): i32 {
  const index = boundIndexOf(handle);
  return index == NONE ? EBADF : membershipAdd(index, group);
}

/** See KernelExports.udpLeave. */
export function udpLeave(handle: u32, group: usize): i32 {
  const index = boundIndexOf(handle);
  return index == NONE ? EBADF : membershipDrop(index, group);
}

/** See KernelExports.udpSetOption. */
export function udpSetOption(handle: u32, option: i32, value: i32): i32 {
  const index = boundIndexOf(handle);
  if (index == NONE) return EBADF;
  const socket = at(index);
  if (option == OPTION_RCV_BUFFER_BYTES) {
    if (value < RX_BYTES_MIN || value > RX_BYTES_MAX) return EINVAL;
    // Less than waits already: nothing of that is lost.
    // One socket that nobody reads must leave the others room.
    socket.rxBytesMax = min(<u32>value, max(datagramPoolSize() >> 1, RX_BYTES_DEFAULT));
    return OK;
  }
  if (value < 0 || value > (option == OPTION_MULTICAST_LOOP ? 1 : 255)) return EINVAL;
  if (option == OPTION_TOS) socket.tos = <u8>value;
  else if (option == OPTION_HOP_LIMIT) socket.hopLimit = <u8>value;
  else if (option == OPTION_MULTICAST_HOP_LIMIT) socket.groupHopLimit = <u8>value;
  else if (option == OPTION_MULTICAST_LOOP) socket.groupNoLoop = <u8>(value == 0);
  else return EINVAL;
  return OK;
}

// Sending.

/** The datagram at hand goes over IPv6. */
let routeIsV6: bool = false;

/**
 * See KernelExports.udpSendTo. A datagram larger than the MTU (of the path, where it is known) goes in fragments.
 * @param remoteAddress where the 16 bytes lie. @param remotePort 1..65535.
 * @returns bytes, EBADF, EINVAL, EMSGSIZE, ENETUNREACH, EHOSTUNREACH, ENOBUFS.
 */
export function udpSendTo(handle: u32, source: usize, bytes: u32, remoteAddress: usize, remotePort: u32): i32 {
  const index = boundIndexOf(handle);
  if (index == NONE) return EBADF;
  if (remotePort == 0 || remotePort > 65535) return EINVAL;
  if (bytes > PAYLOAD_BYTES_MAX) return EMSGSIZE;
  routeIsV6 = !isV4Mapped(remoteAddress);
  const remoteV4 = load<u32>(remoteAddress, 12);
  const from = at(index).addressIndex;
  // A socket of one family does not reach the other.
  if (from != ADDRESS_ANY && (from < 0 ? from == ADDRESS_ANY_V6 : addressIsV6(from)) != routeIsV6) return ENETUNREACH;
  const status = routeIsV6 ? ipv6Route(from, remoteAddress) : ipv4Route(from, remoteV4);
  if (status != OK) return status;
  if (!mark(at(index), remoteAddress)) return <i32>bytes;
  const wholeMax = routeIsV6 ? ipv6RouteMtu() - IPV6_HEADER_BYTES : mtuBytes - IPV4_HEADER_BYTES;
  const sent =
    UDP_HEADER_BYTES + bytes <= wholeMax
      ? sendWhole(at(index).port, source, bytes, remoteAddress, remotePort)
      : sendInFragments(at(index).port, source, bytes, remoteAddress, remotePort);
  if (sent != OK) return sent;
  count(UDP_SENT);
  return <i32>bytes;
}

let routeTos: u32 = 0;

/** What the socket says about the datagram that goes over the last route. @returns false: it goes nowhere. */
function mark(socket: Socket, remoteAddress: usize): bool {
  routeTos = socket.tos;
  const toGroup = routeIsV6 ? isMulticastV6(remoteAddress) : isMulticastV4(load<u32>(remoteAddress, 12));
  const limit = <u32>(toGroup ? socket.groupHopLimit : socket.hopLimit);
  if (routeIsV6) ipv6RouteMark(limit, socket.groupNoLoop == 0);
  else ipv4RouteMark(limit, socket.groupNoLoop == 0);
  // RFC 1112 6.1: with a TTL of 0 it does not leave the host, and nothing with 0 is ever sent (RFC 1122 3.2.1.7).
  // Deviates: it does not come to the host's own sockets either.
  return !toGroup || limit != 0;
}

/** Pseudo-header of a datagram over the last route. */
function routePseudoSum(remoteAddress: usize, udpBytes: u32): u32 {
  return routeIsV6
    ? pseudoHeaderSumV6(ipv6RouteSource(), remoteAddress, PROTOCOL_UDP, udpBytes)
    : pseudoHeaderSumV4(ipv4RouteSource(), load<u32>(remoteAddress, 12), PROTOCOL_UDP, udpBytes);
}

/** Of a datagram over the last route, whose flow is that of its two sockets (RFC 6437 3). */
function classAndFlow(port: u32, remoteAddress: usize, remotePort: u32): u32 {
  const ports = <u32>bswap<u16>(<u16>remotePort) | ((<u32>bswap<u16>(<u16>port)) << 16);
  return (routeTos << 20) | flowLabel(remoteAddress, ipv6RouteSource(), ports);
}

function sendWhole(port: u32, source: usize, bytes: u32, remoteAddress: usize, remotePort: u32): i32 {
  const udpBytes = UDP_HEADER_BYTES + bytes;
  const ipBytes = routeIsV6 ? IPV6_HEADER_BYTES : IPV4_HEADER_BYTES;
  const frameBytes = ETHERNET_BYTES + ipBytes + udpBytes;
  const frame = txReserve(frameBytes);
  if (frame == 0) return ENOBUFS;
  const packet = frame + ETHERNET_BYTES;
  const udp = packet + ipBytes;
  if (checksumOffload) {
    // VIRTIO 1.2 5.1.6.2: the field holds the pseudo-header's sum, the device adds the rest.
    writeHeader(udp, port, remotePort, udpBytes);
    memory.copy(udp + UDP_HEADER_BYTES, source, bytes);
    store<u16>(udp, <u16>routePseudoSum(remoteAddress, udpBytes), UDP_CHECKSUM);
    const record = frame - FRAME_OFFSET;
    store<u8>(record, VNET_NEEDS_CSUM, FRAME_VNET_FLAGS);
    store<u16>(record, <u16>(ETHERNET_BYTES + ipBytes), FRAME_VNET_CSUM_START);
    store<u16>(record, <u16>UDP_CHECKSUM, FRAME_VNET_CSUM_OFFSET);
  } else {
    writeDatagram(udp, port, source, bytes, remoteAddress, remotePort);
  }
  if (routeIsV6) {
    ipv6WriteRouted(packet, udpBytes, PROTOCOL_UDP, classAndFlow(port, remoteAddress, remotePort));
    ipv6Transmit(frame, frameBytes);
  } else {
    ipv4WriteRouted(packet, IPV4_HEADER_BYTES + udpBytes, PROTOCOL_UDP, routeTos);
    ipv4Transmit(frame, frameBytes);
  }
  return OK;
}

function sendInFragments(port: u32, source: usize, bytes: u32, remoteAddress: usize, remotePort: u32): i32 {
  writeDatagram(scratch, port, source, bytes, remoteAddress, remotePort);
  const udpBytes = UDP_HEADER_BYTES + bytes;
  const sent = routeIsV6
    ? ipv6SendRouted(PROTOCOL_UDP, classAndFlow(port, remoteAddress, remotePort), scratch, udpBytes)
    : ipv4SendRouted(PROTOCOL_UDP, routeTos, scratch, udpBytes);
  return sent < 0 ? sent : OK;
}

/** Header with a checksum of 0. */
function writeHeader(udp: usize, port: u32, remotePort: u32, udpBytes: u32): void {
  storeBe16(udp, port);
  storeBe16(udp + 2, remotePort);
  storeBe16(udp + UDP_LENGTH, udpBytes);
  store<u16>(udp, 0, UDP_CHECKSUM);
}

function writeDatagram(udp: usize, port: u32, source: usize, bytes: u32, remoteAddress: usize, remotePort: u32): void {
  const udpBytes = UDP_HEADER_BYTES + bytes;
  writeHeader(udp, port, remotePort, udpBytes);
  let sum = copyAndSum(udp + UDP_HEADER_BYTES, source, bytes);
  sum = sumAdd(sum, sumBytes(udp, UDP_HEADER_BYTES));
  sum = sumAdd(sum, routePseudoSum(remoteAddress, udpBytes));
  const checksum = checksumOf(sum);
  // RFC 768: 0 means "no checksum", so a computed 0 is sent as all ones.
  store<u16>(udp, checksum == 0 ? 0xffff : checksum, UDP_CHECKSUM);
}

// Receiving.

/**
 * A whole, checked IPv4 packet of protocol 17 for us.
 * @param localIndex of the destination, -1: a broadcast. @param checksumKnown the device vouches for the checksum.
 * @param toBroadcast sent to more than us: nobody is told
 *   when no socket takes it.
 * @returns false when no socket takes it; the sender has been told (ICMP port unreachable).
 */
export function udpInput(
  packet: usize,
  headerBytes: u32,
  totalBytes: u32,
  localIndex: i32,
  checksumKnown: bool,
  toBroadcast: bool,
): bool {
  const udp = packet + headerBytes;
  const bytesAvailable = totalBytes - headerBytes;
  if (bytesAvailable < UDP_HEADER_BYTES) return dropped(DROP_UDP_LENGTH);
  const udpBytes = loadBe16(udp + UDP_LENGTH);
  if (udpBytes < UDP_HEADER_BYTES || udpBytes > bytesAvailable) return dropped(DROP_UDP_LENGTH);
  const source = load<u32>(packet, IP_SOURCE);
  const destination = load<u32>(packet, IP_DESTINATION);
  if (!checksumKnown && load<u16>(udp, UDP_CHECKSUM) != 0) {
    const pseudo = pseudoHeaderSumV4(source, destination, PROTOCOL_UDP, udpBytes);
    if (sumAdd(sumBytes(udp, udpBytes), pseudo) != 0xffff) return dropped(DROP_UDP_CHECKSUM);
  }
  let index = findFor(localIndex, false, loadBe16(udp + 2));
  if (isMulticastV4(destination) && index != NONE && !isAllHostsV4(destination)) {
    if (!isMember(index, multicastFindV4(destination))) index = NONE;
  }
  if (index == NONE) {
    count(DROP_UDP_NO_SOCKET);
    // RFC 1122 4.1.3.1.
    if (!toBroadcast) icmpSendUnreachable(packet, headerBytes, totalBytes, CODE_PORT_UNREACHABLE);
    return false;
  }
  store<u32>(mapped, V4_MAPPED, 8);
  store<u32>(mapped, source, 12);
  store<u32>(mapped, V4_MAPPED, 24);
  store<u32>(mapped, destination, 28);
  queueDatagram(index, udp, udpBytes - UDP_HEADER_BYTES, mapped, load<u8>(packet, IP_TOS), load<u8>(packet, IP_TTL));
  return true;
}

/** Source and destination of a datagram over IPv4, IPv4-mapped. */
const mapped: usize = memory.data(32, 8);

/**
 * Likewise for IPv6. @param at offset of the UDP header.
 * @returns false when no socket takes it; the sender has been told.
 */
export function udpInputV6(
  packet: usize,
  at: u32,
  totalBytes: u32,
  localIndex: i32,
  checksumKnown: bool,
  toMany: bool,
): bool {
  const udp = packet + at;
  const bytesAvailable = totalBytes - at;
  if (bytesAvailable < UDP_HEADER_BYTES) return dropped(DROP_UDP_LENGTH);
  const udpBytes = loadBe16(udp + UDP_LENGTH);
  if (udpBytes < UDP_HEADER_BYTES || udpBytes > bytesAvailable) return dropped(DROP_UDP_LENGTH);
  if (!checksumKnown) {
    // RFC 8200 8.1: without IPv4's header checksum, none at all is too little.
    if (load<u16>(udp, UDP_CHECKSUM) == 0) return dropped(DROP_UDP_CHECKSUM);
    const pseudo = pseudoHeaderSumV6(packet + V6_SOURCE, packet + V6_DESTINATION, PROTOCOL_UDP, udpBytes);
    if (sumAdd(sumBytes(udp, udpBytes), pseudo) != 0xffff) return dropped(DROP_UDP_CHECKSUM);
  }
  let index = findFor(localIndex, true, loadBe16(udp + 2));
  const group = packet + V6_DESTINATION;
  if (index != NONE && isMulticastV6(group) && !isAllNodesV6(group) && !isMember(index, multicastFind(group))) {
    index = NONE;
  }
  if (index == NONE) {
    count(DROP_UDP_NO_SOCKET);
    if (!toMany) icmp6SendUnreachable(packet, totalBytes, CODE6_PORT_UNREACHABLE);
    return false;
  }
  const trafficClass = <u8>(loadBe16(packet) >> 4);
  queueDatagram(
    index,
    udp,
    udpBytes - UDP_HEADER_BYTES,
    packet + V6_SOURCE,
    trafficClass,
    load<u8>(packet, V6_HOP_LIMIT),
  );
  return true;
}

function dropped(counter: i32): bool {
  count(counter);
  return true;
}

/** @param addresses where the 16 bytes of the source lie, and behind them those of the destination. */
function queueDatagram(index: i32, udp: usize, bytes: u32, addresses: usize, tos: u8, hopLimit: u8): void {
  const socket = at(index);
  const charge = datagramCharge(bytes);
  const datagram = socket.rxChargedBytes + charge <= socket.rxBytesMax ? datagramTake(bytes) : 0;
  if (datagram == 0) {
    count(DROP_UDP_QUEUE_FULL);
    return;
  }
  store<u16>(datagram, <u16>loadBe16(udp), DATAGRAM_REMOTE_PORT);
  store<u8>(datagram, tos, DATAGRAM_TOS);
  store<u8>(datagram, hopLimit, DATAGRAM_HOP_LIMIT);
  v128.store(datagram, v128.load(addresses), DATAGRAM_REMOTE_ADDRESS);
  v128.store(datagram, v128.load(addresses, 16), DATAGRAM_LOCAL_ADDRESS);
  memory.copy(datagram + DATAGRAM_PAYLOAD, udp + UDP_HEADER_BYTES, bytes);
  if (socket.rxTail != 0) store<u32>(socket.rxTail, <u32>datagram, DATAGRAM_NEXT);
  else socket.rxHead = datagram;
  socket.rxTail = datagram;
  socket.rxPayloadBytes += bytes;
  socket.rxChargedBytes += charge;
  count(UDP_RECEIVED);
  makeReady(index);
}

function makeReady(index: i32): void {
  if (at(index).isReady != 0) return;
  at(index).isReady = 1;
  readyPush(handleOf(index));
}

function dropFirst(socket: Socket): void {
  const datagram = socket.rxHead;
  const bytes = load<u32>(datagram, DATAGRAM_BYTES);
  socket.rxHead = load<u32>(datagram, DATAGRAM_NEXT);
  if (socket.rxHead == 0) socket.rxTail = 0;
  socket.rxPayloadBytes -= bytes;
  socket.rxChargedBytes -= datagramCharge(bytes);
  datagramGive(datagram);
}

/** See KernelExports.udpRecvPeek. A datagram may be empty: its address is not 0, its length is. */
export function udpRecvPeek(handle: u32): i32 {
  const index = boundIndexOf(handle);
  if (index == NONE) return EBADF;
  const datagram = at(index).rxHead;
  if (datagram == 0) return 0;
  store<u32>(RESULT_BASE, load<u32>(datagram, DATAGRAM_BYTES));
  store<u32>(RESULT_BASE, load<u16>(datagram, DATAGRAM_REMOTE_PORT), 4);
  memory.copy(RESULT_BASE + 8, datagram + DATAGRAM_REMOTE_ADDRESS, 32);
  store<u32>(RESULT_BASE, load<u8>(datagram, DATAGRAM_TOS), 40);
  store<u32>(RESULT_BASE, load<u8>(datagram, DATAGRAM_HOP_LIMIT), 44);
  return <i32>(datagram + DATAGRAM_PAYLOAD);
}

/** See KernelExports.udpRecvConsume. @returns OK (also when none waits) or EBADF. */
export function udpRecvConsume(handle: u32): i32 {
  const index = boundIndexOf(handle);
  if (index == NONE) return EBADF;
  if (at(index).rxHead != 0) dropFirst(at(index));
  return OK;
}

// Errors and events.

/**
 * An ICMP error about a datagram that we sent; the port in host order. The socket's next event carries it as a status,
 * the latest when there are several (RFC 1122 4.1.3.3). The socket lives on.
 */
export function udpError(localV4: u32, localPort: u32, type: u32, code: u32): void {
  const localIndex = addressFindV4(localV4);
  if (localIndex >= 0) errorTo(findFor(localIndex, false, localPort), statusOfIcmp(type, code));
}

/** May a datagram from this address and port, in host order, have been ours? */
export function udpIsBound(localV4: u32, localPort: u32): bool {
  const localIndex = addressFindV4(localV4);
  return localIndex >= 0 && findFor(localIndex, false, localPort) != NONE;
}

/**
 * Likewise for IPv6. @param ports as they stand in the datagram that we sent. @param pathMtu 0: the error says nothing
 * about the path.
 */
export function udpErrorV6(localIndex: u32, remote: usize, ports: u32, status: i32, pathMtu: u32): void {
  const index = findFor(localIndex, true, <u32>bswap<u16>(<u16>ports));
  // Who may send from this port is all there is to check; a forger gains smaller datagrams, RFC 8201's least at worst.
  if (index != NONE && pathMtu != 0) pathMtuLearn(remote, pathMtu);
  errorTo(index, status);
}

function errorTo(index: i32, status: i32): void {
  if (index == NONE) return;
  at(index).error = status;
  makeReady(index);
}

/** RFC 1122 4.1.3.3 and 3.2.2.1, mapped as Linux does. */
export function statusOfIcmp(type: u32, code: u32): i32 {
  if (type != ICMP_UNREACHABLE) return type == 12 ? EPROTO : EHOSTUNREACH;
  if (code == CODE_PORT_UNREACHABLE || code == 2) return ECONNREFUSED;
  if (code == CODE_FRAGMENTATION_NEEDED) return EMSGSIZE;
  return code == 0 || code == 6 || code == 9 || code == 11 ? ENETUNREACH : EHOSTUNREACH;
}

/**
 * Writes the event of a handle that came out of the ready queue to `record` (layout/event.ts).
 * @returns false when there is nothing to tell: the socket was closed meanwhile.
 */
export function udpTakeEvent(handle: u32, record: usize): bool {
  const index = indexOf(handle);
  if (index == NONE) return false;
  const socket = at(index);
  socket.isReady = 0;
  if (socket.state == CLOSING) {
    free(index);
    return false;
  }
  store<u32>(record, handle, EVENT.EVENT_HANDLE);
  store<u16>(record, EVENT.EVENT_DATAGRAM, EVENT.EVENT_MASK);
  store<i16>(record, <i16>socket.error, EVENT.EVENT_STATUS);
  store<u32>(record, socket.rxPayloadBytes, EVENT.EVENT_READABLE_BYTES);
  store<u32>(record, 0, EVENT.EVENT_RESERVED);
  socket.error = 0;
  return true;
}
