/**
 * Putting fragmented packets together again (RFC 791 3.2, RFC 815, RFC 1122 3.3.2; RFC 8200 4.5), within limits and
 * strictly: fragments that overlap condemn their packet (RFC 5722 for IPv6; RFC 1858 and 3128 tell what overlaps are
 * used for), an exact duplicate is ignored (RFC 8200 4.5).
 *
 * A packet's fragments are kept in blocks, in a list by offset. Every block is charged whole, so that many small
 * fragments cannot hold more memory than reassemblyBytesMax; beyond it the packet that waits longest goes first.
 */
import { reassemblyBytesMax } from "../config.ts";
import { arenaAlloc } from "../mem/arena.ts";
import { count, counterSet, countBy } from "../stats.ts";
import { nowTick, tickReached, ticksOfMs } from "../time.ts";
import { ipv4WriteChecksum } from "./ipv4.ts";
import { icmpSendReassemblyTimeout } from "./icmpErrors.ts";
import { icmp6SendProblem, icmp6SendReassemblyTimeout, CODE_HEADER_FIELD, CODE_FIRST_FRAGMENT } from "./icmp6Errors.ts";
import { v6ProtocolAt } from "./ipv6Input.ts";
import { loadBe16, storeBe16 } from "../wire/bytes.ts";
import {
  FRAGMENT_HEADER_BYTES,
  FRAGMENT_MORE,
  FRAGMENT_OFFSET_MASK,
  IPV4_PACKET_BYTES_MAX,
  IPV6_HEADER_BYTES,
  IP_DESTINATION,
  IP_FRAGMENT,
  IP_IDENTIFICATION,
  IP_PROTOCOL,
  IP_SOURCE,
  IP_TOS,
  IP_TOTAL_LENGTH,
  PROTOCOL_ICMPV6,
  PROTOCOL_TCP,
  PROTOCOL_UDP,
  TCP_HEADER_BYTES,
  V4_MAPPED,
  V6_DESTINATION,
  V6_PAYLOAD_LENGTH,
  V6_SOURCE,
} from "../wire/headers.ts";
import {
  DROP_FRAGMENT_INVALID,
  DROP_FRAGMENT_LIMIT,
  DROP_FRAGMENT_TIMEOUT,
  FRAGMENTS_REASSEMBLED,
  GAUGE_REASSEMBLY_BYTES,
} from "../../src/layout/counters.ts";

const PACKETS_MAX: u32 = 64;
/** The smallest MTU that is met (296) cuts the largest packet into 240. */
const FRAGMENTS_PER_PACKET_MAX: u32 = 256;
/**
 * Deviates: RFC 1122 3.3.2 asks for 60..120 s, in which a fast sender uses an identification again (RFC 4963); 15 s is
 * RFC 791's value.
 */
const TIMEOUT_MS: u32 = 15000;
/** RFC 8200 4.5; identifications have 32 bits there. */
const TIMEOUT_V6_MS: u32 = 60000;

const BLOCK_SIZE_BYTES: usize = 2048;
/** Next block of the packet, 0 at the end. */
const BLOCK_NEXT: usize = 0;
/** u32: first and last+1 byte of the payload in the packet. */
const BLOCK_START: usize = 4;
const BLOCK_END: usize = 8;
/** u32: end of the fragment when this is its first block, otherwise 0. */
const BLOCK_FRAGMENT_END: usize = 12;
const BLOCK_PAYLOAD: usize = 16;
/** A multiple of 8, as fragments are. */
const BLOCK_PAYLOAD_BYTES: u32 = 2032;

const NONE: i32 = -1;

/** A packet of which fragments are missing. */
@unmanaged
class Packet {
  sourceHigh: u64;
  sourceLow: u64;
  destinationHigh: u64;
  destinationLow: u64;
  identification: u32;
  /** Of IPv4, which has it in the key; 0 for IPv6. */
  protocol: u8;
  isV6: bool;
  /** Bit for each ECN code point seen (RFC 3168 5.3). */
  ecnSeen: u8;
  /** 1: overlapping or contradicting; what still comes of it is dropped. */
  condemned: u8;
  inUse: u8;
  fragments: u16;
  /** Payload bytes present, and in all (0 until the last fragment is there). */
  presentBytes: u32;
  payloadBytes: u32;
  firstBlock: usize;
  lastBlock: usize;
  deadlineTick: u32;
  /** Age order. */
  older: i32;
  newer: i32;
  /** Header of the first fragment; 0 bytes until it has come. */
  headerBytes: u32;
}
const PACKET_HEADER: usize = 96;
const PACKET_SIZE_BYTES: usize = 256;
/** IPv4's largest has 60; of IPv6's all that stands before the fragment header. */
const PACKET_HEADER_BYTES_MAX: u32 = 160;
if (offsetof<Packet>() > PACKET_HEADER) ERROR("Packet does not fit before its header");

let packets: usize = 0;
let oldest: i32 = NONE;
let newest: i32 = NONE;
let packetsUsed: u32 = 0;

let blocks: usize = 0;
let blockCount: u32 = 0;
let blocksTouched: u32 = 0;
let blocksHeld: u32 = 0;
let blockFree: usize = 0;

/** The whole packet, made when its last fragment arrives. */
let output: usize = 0;

/** @returns false when the arena is too small. */
export function reassemblyBoot(): bool {
  blockCount = reassemblyBytesMax / <u32>BLOCK_SIZE_BYTES;
  packets = arenaAlloc(<usize>PACKETS_MAX * PACKET_SIZE_BYTES, 64);
  blocks = arenaAlloc(<usize>blockCount * BLOCK_SIZE_BYTES, 64);
  output = arenaAlloc(65536 + 256, 64);
  return packets != 0 && blocks != 0 && output != 0;
}

function at(index: i32): Packet {
  return changetype<Packet>(packets + <usize>index * PACKET_SIZE_BYTES);
}

// Blocks.

/** @returns 0 when all are held. */
function takeBlock(): usize {
  let block = blockFree;
  if (block != 0) blockFree = load<usize>(block, BLOCK_NEXT);
  else {
    if (blocksTouched == blockCount) return 0;
    block = blocks + <usize>blocksTouched * BLOCK_SIZE_BYTES;
    blocksTouched++;
  }
  blocksHeld++;
  return block;
}

function giveBlocks(first: usize): void {
  while (first != 0) {
    const next = load<usize>(first, BLOCK_NEXT);
    store<usize>(first, blockFree, BLOCK_NEXT);
    blockFree = first;
    blocksHeld--;
    first = next;
  }
}

function showHeldBytes(): void {
  counterSet(GAUGE_REASSEMBLY_BYTES, <u64>blocksHeld * BLOCK_SIZE_BYTES);
}

// Packets.

/** The fragment at hand: of which packet it is, and what it brings. */
@unmanaged
class Fragment {
  sourceHigh: u64;
  sourceLow: u64;
  destinationHigh: u64;
  destinationLow: u64;
  identification: u32;
  protocol: u8;
  isV6: bool;
  /** It is not the last one. */
  more: bool;
  /** ECN code point. */
  ecn: u8;
  /** What stands before it, kept when it is the first. */
  header: usize;
  headerBytes: u32;
  payload: usize;
  /** First and last+1 byte of the payload in the packet. */
  start: u32;
  end: u32;
}
const fragment = changetype<Fragment>(memory.data(96, 16));
if (offsetof<Fragment>() > 96) ERROR("Fragment does not fit its record");

/** RFC 791 2.3. As IPv4-mapped addresses, which are let in as no IPv6 address: the two never meet. */
function keyFromV4(packet: usize): void {
  fragment.sourceHigh = 0;
  fragment.sourceLow = <u64>V4_MAPPED | ((<u64>load<u32>(packet, IP_SOURCE)) << 32);
  fragment.destinationHigh = 0;
  fragment.destinationLow = <u64>V4_MAPPED | ((<u64>load<u32>(packet, IP_DESTINATION)) << 32);
  fragment.identification = load<u16>(packet, IP_IDENTIFICATION);
  fragment.protocol = load<u8>(packet, IP_PROTOCOL);
  fragment.isV6 = false;
}

/** RFC 8200 4.5: addresses and identification, whatever the next header says. */
function keyFromV6(packet: usize, fragmentAt: u32): void {
  fragment.sourceHigh = load<u64>(packet, V6_SOURCE);
  fragment.sourceLow = load<u64>(packet, V6_SOURCE + 8);
  fragment.destinationHigh = load<u64>(packet, V6_DESTINATION);
  fragment.destinationLow = load<u64>(packet, V6_DESTINATION + 8);
  fragment.identification = load<u32>(packet + fragmentAt, 4);
  fragment.protocol = 0;
  fragment.isV6 = true;
}

function findPacket(): i32 {
  // From the newest: fragments of one packet arrive together.
  let index = newest;
  while (index != NONE) {
    const entry = at(index);
    if (
      entry.identification == fragment.identification &&
      entry.sourceLow == fragment.sourceLow &&
      entry.sourceHigh == fragment.sourceHigh &&
      entry.destinationLow == fragment.destinationLow &&
      entry.destinationHigh == fragment.destinationHigh &&
      entry.protocol == fragment.protocol
    ) {
      return index;
    }
    index = entry.older;
  }
  return NONE;
}

function createPacket(timeoutMs: u32): i32 {
  if (packetsUsed == PACKETS_MAX) evictOldest();
  let index: i32 = 0;
  while (at(index).inUse != 0) index++;
  const entry = at(index);
  memory.fill(changetype<usize>(entry), 0, PACKET_HEADER);
  entry.sourceHigh = fragment.sourceHigh;
  entry.sourceLow = fragment.sourceLow;
  entry.destinationHigh = fragment.destinationHigh;
  entry.destinationLow = fragment.destinationLow;
  entry.identification = fragment.identification;
  entry.protocol = fragment.protocol;
  entry.isV6 = fragment.isV6;
  entry.inUse = 1;
  entry.deadlineTick = nowTick + ticksOfMs(timeoutMs);
  entry.older = newest;
  entry.newer = NONE;
  if (newest == NONE) oldest = index;
  else at(newest).newer = index;
  newest = index;
  packetsUsed++;
  return index;
}

function removePacket(index: i32): void {
  const entry = at(index);
  giveBlocks(entry.firstBlock);
  if (entry.older == NONE) oldest = entry.newer;
  else at(entry.older).newer = entry.newer;
  if (entry.newer == NONE) newest = entry.older;
  else at(entry.newer).older = entry.older;
  entry.inUse = 0;
  packetsUsed--;
}

function evictOldest(): void {
  countBy(DROP_FRAGMENT_LIMIT, at(oldest).fragments);
  removePacket(oldest);
}

/** Drops what is there of a packet and what will still come (RFC 5722 4). */
function condemn(index: i32): void {
  const entry = at(index);
  giveBlocks(entry.firstBlock);
  countBy(DROP_FRAGMENT_INVALID, entry.fragments);
  entry.firstBlock = 0;
  entry.lastBlock = 0;
  entry.fragments = 0;
  entry.condemned = 1;
}

// Input.

/**
 * Takes a fragment whose header ipv4Check has passed (MF set or fragment offset not 0).
 * @param headerBytes from ipv4Check. @param totalBytes the header's total length.
 * @returns address of the whole packet when this fragment completes it, valid until the next call; otherwise 0, with
 *   the cause counted when the fragment was dropped. The packet's header is the first fragment's, its length, fragment
 *   field and checksum corrected.
 */
export function reassemblyInput(packet: usize, headerBytes: u32, totalBytes: u32): usize {
  const field = loadBe16(packet + IP_FRAGMENT);
  keyFromV4(packet);
  fragment.more = (field & FRAGMENT_MORE) != 0;
  fragment.ecn = load<u8>(packet, IP_TOS) & 3;
  fragment.header = packet;
  fragment.headerBytes = headerBytes;
  fragment.payload = packet + headerBytes;
  fragment.start = (field & FRAGMENT_OFFSET_MASK) << 3;
  fragment.end = fragment.start + totalBytes - headerBytes;
  if (!isPlausible()) {
    count(DROP_FRAGMENT_INVALID);
    return 0;
  }
  return place(TIMEOUT_MS);
}

/**
 * Likewise for IPv6; the packet's fragment header is cut out and the header before it names what follows.
 * @param fragmentAt offset of the fragment header, from ipv6Walk. @param totalBytes of the packet.
 */
export function reassemblyInputV6(packet: usize, fragmentAt: u32, totalBytes: u32): usize {
  const fragmentHeader = packet + fragmentAt;
  const field = loadBe16(fragmentHeader + 2);
  const more = (field & 1) != 0;
  const start = field & ~7;
  const payloadAt = fragmentAt + FRAGMENT_HEADER_BYTES;
  const end = start + totalBytes - payloadAt;
  const nextHeader = <u32>load<u8>(fragmentHeader);
  if (end == start || fragmentAt > PACKET_HEADER_BYTES_MAX) {
    count(DROP_FRAGMENT_INVALID);
    return 0;
  }
  // RFC 8200 4.5 names these three and what is to be sent.
  const notWhole = more && ((end - start) & 7) != 0;
  const tooLong = end + fragmentAt - IPV6_HEADER_BYTES > IPV4_PACKET_BYTES_MAX;
  const cutHeader = start == 0 && end < transportBytesMin(nextHeader);
  if (notWhole || tooLong || cutHeader) {
    count(DROP_FRAGMENT_INVALID);
    if (notWhole) icmp6SendProblem(packet, totalBytes, CODE_HEADER_FIELD, <u32>V6_PAYLOAD_LENGTH);
    else if (tooLong) icmp6SendProblem(packet, totalBytes, CODE_HEADER_FIELD, fragmentAt + 2);
    else icmp6SendProblem(packet, totalBytes, CODE_FIRST_FRAGMENT, 0);
    return 0;
  }
  keyFromV6(packet, fragmentAt);
  // The header before names the one behind: our copy is made from this packet, which is ours to write.
  store<u8>(packet + v6ProtocolAt, <u8>nextHeader);
  fragment.more = more;
  fragment.ecn = (load<u8>(packet, 1) >> 4) & 3;
  fragment.header = packet;
  fragment.headerBytes = fragmentAt;
  fragment.payload = packet + payloadAt;
  fragment.start = start;
  fragment.end = end;
  return place(TIMEOUT_V6_MS);
}

/** RFC 7112 5: the first fragment has all headers; what other headers hide is seen when the packet is whole. */
function transportBytesMin(protocol: u32): u32 {
  // RFC 1858 3.2: the transport header up to the flags at least; ours up to its end.
  if (protocol == PROTOCOL_TCP) return TCP_HEADER_BYTES;
  return protocol == PROTOCOL_UDP || protocol == PROTOCOL_ICMPV6 ? 8 : 1;
}

function place(timeoutMs: u32): usize {
  let index = findPacket();
  if (index == NONE) index = createPacket(timeoutMs);
  else if (at(index).condemned != 0) {
    count(DROP_FRAGMENT_INVALID);
    return 0;
  }
  const whole = insert(index);
  showHeldBytes();
  return whole;
}

function isPlausible(): bool {
  const start = fragment.start;
  const end = fragment.end;
  if (end == start || (fragment.more && ((end - start) & 7) != 0)) return false;
  // A packet that would end beyond the largest there can be.
  if (end + fragment.headerBytes > IPV4_PACKET_BYTES_MAX) return false;
  if (<u32>fragment.protocol != PROTOCOL_TCP) return true;
  // RFC 1858 3.2 and RFC 3128 3: no TCP header in pieces.
  return start == 0 ? end >= TCP_HEADER_BYTES : start >= TCP_HEADER_BYTES;
}

/** Puts the fragment in its place; see reassemblyInput for the result. */
function insert(index: i32): usize {
  const entry = at(index);
  const start = fragment.start;
  const end = fragment.end;
  // The last block that begins before the fragment; the usual case is the very last one.
  let before: usize = 0;
  if (entry.lastBlock != 0 && load<u32>(entry.lastBlock, BLOCK_START) < start) before = entry.lastBlock;
  else {
    let block = entry.firstBlock;
    while (block != 0 && load<u32>(block, BLOCK_START) < start) {
      before = block;
      block = load<usize>(block, BLOCK_NEXT);
    }
  }
  const after = before == 0 ? entry.firstBlock : load<usize>(before, BLOCK_NEXT);
  if (isDuplicate(after, entry.payloadBytes)) return 0;
  const overlaps =
    (before != 0 && load<u32>(before, BLOCK_END) > start) || (after != 0 && load<u32>(after, BLOCK_START) < end);
  if (overlaps || endContradicts(entry)) {
    entry.fragments++;
    condemn(index);
    return 0;
  }
  if (entry.fragments == FRAGMENTS_PER_PACKET_MAX) {
    countBy(DROP_FRAGMENT_LIMIT, <i64>entry.fragments + 1);
    removePacket(index);
    return 0;
  }
  if (!keep(index, before, after)) return 0;
  entry.fragments++;
  entry.presentBytes += end - start;
  entry.ecnSeen |= <u8>((<u32>1) << (<u32>fragment.ecn));
  if (!fragment.more) entry.payloadBytes = end;
  if (start == 0) {
    entry.headerBytes = fragment.headerBytes;
    memory.copy(changetype<usize>(entry) + PACKET_HEADER, fragment.header, fragment.headerBytes);
  }
  return entry.payloadBytes != 0 && entry.presentBytes == entry.payloadBytes ? finish(index) : 0;
}

/** The same fragment again: same start, same end, and last exactly when the first was. */
function isDuplicate(after: usize, payloadBytes: u32): bool {
  const end = fragment.end;
  if (after == 0 || load<u32>(after, BLOCK_START) != fragment.start) return false;
  return load<u32>(after, BLOCK_FRAGMENT_END) == end && fragment.more != (payloadBytes == end);
}

/** A second end that differs from the first, or bytes beyond the end. */
function endContradicts(entry: Packet): bool {
  if (entry.payloadBytes != 0) return !fragment.more || fragment.end > entry.payloadBytes;
  return !fragment.more && entry.lastBlock != 0 && load<u32>(entry.lastBlock, BLOCK_END) > fragment.end;
}

/** Copies the payload into blocks between `before` and `after`; false: no room, counted, nothing is kept. */
function keep(index: i32, before: usize, after: usize): bool {
  const entry = at(index);
  const start = fragment.start;
  const end = fragment.end;
  const blocksNeeded = (end - start + BLOCK_PAYLOAD_BYTES - 1) / BLOCK_PAYLOAD_BYTES;
  while (blockCount - blocksHeld < blocksNeeded && oldest != index) evictOldest();
  if (blockCount - blocksHeld < blocksNeeded) {
    countBy(DROP_FRAGMENT_LIMIT, <i64>entry.fragments + 1);
    removePacket(index);
    return false;
  }
  let last = before;
  for (let offset = start; offset < end; offset += BLOCK_PAYLOAD_BYTES) {
    const block = takeBlock();
    const blockEnd = min(end, offset + BLOCK_PAYLOAD_BYTES);
    store<u32>(block, offset, BLOCK_START);
    store<u32>(block, blockEnd, BLOCK_END);
    store<u32>(block, offset == start ? end : 0, BLOCK_FRAGMENT_END);
    memory.copy(block + BLOCK_PAYLOAD, fragment.payload + (offset - start), blockEnd - offset);
    if (last == 0) entry.firstBlock = block;
    else store<usize>(last, block, BLOCK_NEXT);
    last = block;
  }
  store<usize>(last, after, BLOCK_NEXT);
  if (after == 0) entry.lastBlock = last;
  return true;
}

/** Writes the whole packet to `output`; 0 when it is not valid as a whole. */
function finish(index: i32): usize {
  const entry = at(index);
  const v6 = entry.isV6;
  const totalBytes = entry.headerBytes + entry.payloadBytes;
  // RFC 3168 5.3: congestion marks survive; marked beside not capable is a forgery.
  const marked = (entry.ecnSeen & 8) != 0;
  if (totalBytes > IPV4_PACKET_BYTES_MAX + (v6 ? IPV6_HEADER_BYTES : 0) || (marked && (entry.ecnSeen & 1) != 0)) {
    countBy(DROP_FRAGMENT_INVALID, entry.fragments);
    removePacket(index);
    return 0;
  }
  assemble(entry);
  if (v6) {
    storeBe16(output + V6_PAYLOAD_LENGTH, totalBytes - IPV6_HEADER_BYTES);
    if (marked) store<u8>(output, load<u8>(output, 1) | 0x30, 1);
  } else {
    storeBe16(output + IP_TOTAL_LENGTH, totalBytes);
    store<u16>(output, 0, IP_FRAGMENT);
    if (marked) store<u8>(output, load<u8>(output, IP_TOS) | 3, IP_TOS);
    ipv4WriteChecksum(output, entry.headerBytes);
  }
  countBy(FRAGMENTS_REASSEMBLED, entry.fragments);
  removePacket(index);
  return output;
}

/** Header and what follows it without a gap, to `output`. @returns payload bytes written. */
function assemble(entry: Packet): u32 {
  memory.copy(output, changetype<usize>(entry) + PACKET_HEADER, entry.headerBytes);
  const payload = output + entry.headerBytes;
  let end: u32 = 0;
  for (let block = entry.firstBlock; block != 0; block = load<usize>(block, BLOCK_NEXT)) {
    if (load<u32>(block, BLOCK_START) != end) break;
    end = load<u32>(block, BLOCK_END);
    const blockStart = load<u32>(block, BLOCK_START);
    memory.copy(payload + blockStart, block + BLOCK_PAYLOAD, end - blockStart);
  }
  return end;
}

// Timers.

export function reassemblyHasDeadline(): bool {
  return oldest != NONE;
}

/** Preconditions: reassemblyHasDeadline(). */
export function reassemblyNextDeadlineTick(): u32 {
  let next = at(oldest).deadlineTick;
  for (let index = at(oldest).newer; index != NONE; index = at(index).newer) {
    if (tickReached(at(index).deadlineTick, next)) next = at(index).deadlineTick;
  }
  return next;
}

/** Gives up packets that have waited too long; senders are told when the first fragment is there (RFC 1122 3.3.2). */
export function reassemblyTimers(): void {
  let index = oldest;
  while (index != NONE) {
    const entry = at(index);
    const newer = entry.newer;
    if (tickReached(entry.deadlineTick, nowTick)) giveUp(index);
    index = newer;
  }
  showHeldBytes();
}

function giveUp(index: i32): void {
  const entry = at(index);
  countBy(DROP_FRAGMENT_TIMEOUT, entry.fragments);
  if (entry.headerBytes != 0 && entry.condemned == 0) {
    const totalBytes = entry.headerBytes + assemble(entry);
    if (entry.isV6) icmp6SendReassemblyTimeout(output, totalBytes);
    else icmpSendReassemblyTimeout(output, entry.headerBytes, totalBytes);
  }
  removePacket(index);
}
