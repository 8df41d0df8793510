/**
 * 1. to 3. Receiving: takes frames from the RX lanes in batches and goes over each batch in stages, so that the memory
 * accesses of many flows overlap (src: LIMITS measured 432 -> 42 ns per look-up with a million flows):
 *   parse and hash every frame, touch every flow's bucket, find candidates, touch their TCBs, then process in order.
 * What is not plain TCP over IPv4 or IPv6 takes the slow way, still in order.
 */
import { tcpPacket, tcpPacketV6 } from "./segments.ts";
import { OWN_MAC, rxLanes, rxRingBytes } from "../config.ts";
import { LOOP_CONTROL } from "../device/loop.ts";
import { flowHashV4, flowHashV6 } from "../flow/hash.ts";
import { flowCandidate, flowTouch } from "../flow/table.ts";
import * as C from "../../src/layout/counters.ts";
import {
  FRAME_ALIGN_BYTES,
  FRAME_LENGTH,
  FRAME_OFFSET,
  FRAME_VNET_FLAGS,
  RING_BASE,
  RING_CONTROL_SIZE_BYTES,
  RING_HEAD,
  RING_SIZE,
  RING_TAIL,
  VNET_DATA_VALID,
  VNET_NEEDS_CSUM,
} from "../../src/layout/frameRing.ts";
import { RX_CONTROL_BASE } from "../../src/layout/kernelMemory.ts";
import { arenaAlloc } from "../mem/arena.ts";
import { loadOrdered, storeOrdered } from "../mem/ordered.ts";
import { count, countBy } from "../stats.ts";
import { coalesceBegin, coalesceTake } from "../tcp/coalesce.ts";
import { tcbAt, tcbTouch } from "../tcp/tcb.ts";
import { udpInput } from "../udp/udp.ts";
import { loadBe16 } from "../wire/bytes.ts";
import { isHostV6, isLoopbackV4, isLoopbackV6, isMulticastV4 } from "../wire/addressKind.ts";
import {
  ETHERNET_BYTES,
  ETHERNET_SOURCE,
  ETHERNET_TYPE,
  ETHERTYPE_ARP,
  ETHERTYPE_IPV4,
  ETHERTYPE_IPV6,
  FRAGMENT_BITS,
  IPV4_HEADER_BYTES,
  IPV6_HEADER_BYTES,
  IP_DESTINATION,
  IP_FRAGMENT,
  IP_PROTOCOL,
  IP_SOURCE,
  IP_TOTAL_LENGTH,
  PROTOCOL_ICMP,
  PROTOCOL_IGMP,
  PROTOCOL_TCP,
  PROTOCOL_UDP,
  TCP_HEADER_BYTES,
  V6_DESTINATION,
  V6_NEXT_HEADER,
  V6_PAYLOAD_LENGTH,
  V6_SOURCE,
} from "../wire/headers.ts";
import { addressFindV4, addressFindV6, isBroadcastV4, isOursOrBroadcastV4 } from "./address.ts";
import { nextHopV4 } from "./nextHop.ts";
import { neighborInput } from "./arpInput.ts";
import { CODE_PROTOCOL_UNREACHABLE, icmpReportProblem, icmpSendUnreachable } from "./icmpErrors.ts";
import { icmpInput } from "./icmp.ts";
import { packetInputV6 } from "./input6.ts";
import { igmpInput } from "./igmp.ts";
import { ipv4Check } from "./ipv4.ts";
import { multicastIsOursV4 } from "./multicast.ts";
import { neighborSeen } from "./neighbor.ts";
import { reassemblyInput } from "./reassembly.ts";

const BATCH_MAX: u32 = 32;

/** One frame of the batch between the stages. */
@unmanaged
class Staged {
  frame: u32;
  frameBytes: u32;
  /** The TCP segment; 0: this frame takes the slow way. */
  segmentBytes: u32;
  hash: u32;
  localIndex: u32;
  /** TCB index, -1: none found. */
  candidate: i32;
  /** The device vouches for the TCP checksum. */
  checksumKnown: u32;
  /** 20: IPv4, 40: IPv6. */
  headerBytes: u32;
}

let staged: usize = 0;
let nextLane: u32 = 0;

export function rxBoot(): bool {
  staged = arenaAlloc(BATCH_MAX * 32, 64);
  if (staged == 0) return false;
  for (let lane: u32 = 0; lane < rxLanes; lane++) {
    const control: usize = RX_CONTROL_BASE + lane * RING_CONTROL_SIZE_BYTES;
    const base = arenaAlloc(rxRingBytes, 4096);
    if (base == 0) return false;
    store<u32>(control, rxRingBytes, RING_SIZE);
    storeOrdered(control + RING_BASE, <u32>base);
  }
  return true;
}

function stagedAt(i: u32): Staged {
  return changetype<Staged>(staged + (i << 5));
}

/** True when any lane holds a frame. */
export function rxPending(): bool {
  if (load<u32>(LOOP_CONTROL, RING_TAIL) != load<u32>(LOOP_CONTROL, RING_HEAD)) return true;
  for (let lane: u32 = 0; lane < rxLanes; lane++) {
    const control: usize = RX_CONTROL_BASE + lane * RING_CONTROL_SIZE_BYTES;
    if (loadOrdered(control + RING_TAIL) != load<u32>(control, RING_HEAD)) return true;
  }
  return false;
}

/** Takes up to `budgetFrames` frames, a batch from each lane in turn. @returns frames taken. */
export function rxBurst(budgetFrames: u32): u32 {
  let taken: u32 = 0;
  let idleLanes: u32 = 0;
  while (taken < budgetFrames && idleLanes < rxLanes) {
    const lane = nextLane;
    nextLane = nextLane + 1 < rxLanes ? nextLane + 1 : 0;
    const frames = rxBatch(RX_CONTROL_BASE + lane * RING_CONTROL_SIZE_BYTES, min(BATCH_MAX, budgetFrames - taken));
    if (frames == 0) {
      idleLanes++;
    } else {
      idleLanes = 0;
      taken += frames;
    }
  }
  return taken + loopBatch();
}

/** Frames from ourselves: as many as are there now, for what they cause to be sent comes behind them. */
function loopBatch(): u32 {
  const tail = load<u32>(LOOP_CONTROL, RING_TAIL);
  let head = load<u32>(LOOP_CONTROL, RING_HEAD);
  if (head == tail) return 0;
  const base: usize = load<u32>(LOOP_CONTROL, RING_BASE);
  const mask = load<u32>(LOOP_CONTROL, RING_SIZE) - 1;
  let frames: u32 = 0;
  while (head != tail) {
    const record = base + (head & mask);
    const length = load<i32>(record, FRAME_LENGTH);
    if (length < 0) {
      head += -length;
      continue;
    }
    const frame = record + FRAME_OFFSET;
    const checksumKnown = (<u32>load<u8>(record, FRAME_VNET_FLAGS) & (VNET_NEEDS_CSUM | VNET_DATA_VALID)) != 0;
    const packet = frame + ETHERNET_BYTES;
    const bytes = length - ETHERNET_BYTES;
    if (<u32>load<u16>(frame, ETHERNET_TYPE) == ETHERTYPE_IPV6)
      packetInputV6(packet, bytes, checksumKnown, false, true);
    else packetInput(packet, bytes, checksumKnown, false, true);
    head += (FRAME_OFFSET + length + FRAME_ALIGN_BYTES - 1) & -FRAME_ALIGN_BYTES;
    frames++;
  }
  storeOrdered(LOOP_CONTROL + RING_HEAD, head);
  return frames;
}

/** One batch from one lane. */
function rxBatch(control: usize, framesMax: u32): u32 {
  const tail = loadOrdered(control + RING_TAIL);
  let head = load<u32>(control, RING_HEAD);
  if (head == tail) return 0;
  const base: usize = load<u32>(control, RING_BASE);
  const mask = load<u32>(control, RING_SIZE) - 1;
  let frames: u32 = 0;
  let bytes: u32 = 0;
  while (head != tail && frames < framesMax) {
    const record = base + (head & mask);
    const length = load<i32>(record, FRAME_LENGTH);
    if (length < 0) {
      head += -length;
      continue;
    }
    parse(stagedAt(frames), record, length);
    bytes += length;
    head += (FRAME_OFFSET + length + FRAME_ALIGN_BYTES - 1) & -FRAME_ALIGN_BYTES;
    frames++;
  }
  countBy(C.RX_FRAMES, frames);
  countBy(C.RX_BYTES, bytes);
  lookUp(frames);
  for (let i: u32 = 0; i < frames; i++) {
    const s = stagedAt(i);
    const mayContinue = i + 1 < frames && s.candidate >= 0 && stagedAt(i + 1).candidate == s.candidate;
    const rcvNxt = mayContinue ? tcbAt(s.candidate).rcvNxt : 0;
    process(s);
    if (mayContinue && coalesceBegin(s.candidate, rcvNxt)) i = takeRun(i, frames);
  }
  // Only now may the producer write over them.
  storeOrdered(control + RING_HEAD, head);
  return frames;
}

/** Processes one frame outside the lanes, laid aside earlier: `record` is as in a ring. Between polls only. */
export function rxReplay(record: usize): void {
  const s = stagedAt(0);
  parse(s, record, load<i32>(record, FRAME_LENGTH));
  s.candidate = -1;
  process(s);
}

/**
 * Stages two to four: the misses of up to 32 look-ups overlap, because no step of this loop waits for the one before.
 */
function lookUp(frames: u32): void {
  if (frames == 1) {
    // Alone it has nothing to wait beside.
    const s = stagedAt(0);
    s.candidate = s.segmentBytes != 0 ? flowCandidate(s.hash) : -1;
    return;
  }
  // A load whose value is dropped survives the compiler, because it might trap: WebAssembly's only prefetch (LIMITS).
  for (let i: u32 = 0; i < frames; i++) flowTouch(stagedAt(i).hash);
  for (let i: u32 = 0; i < frames; i++) {
    const s = stagedAt(i);
    s.candidate = s.segmentBytes != 0 ? flowCandidate(s.hash) : -1;
  }
  for (let i: u32 = 0; i < frames; i++) {
    const candidate = stagedAt(i).candidate;
    if (candidate >= 0) tcbTouch(candidate);
  }
}

/** Stage one: is this a plain TCP segment for us? Then its flow hash, else the slow way. */
function parse(s: Staged, record: usize, frameBytes: u32): void {
  const frame = record + FRAME_OFFSET;
  s.frame = <u32>frame;
  s.frameBytes = frameBytes;
  s.segmentBytes = 0;
  s.hash = 0;
  s.checksumKnown = <u32>load<u8>(record, FRAME_VNET_FLAGS) & (VNET_NEEDS_CSUM | VNET_DATA_VALID);
  if (frameBytes < ETHERNET_BYTES + IPV4_HEADER_BYTES + TCP_HEADER_BYTES) return;
  if (load<u32>(frame) != load<u32>(OWN_MAC) || load<u16>(frame, 4) != load<u16>(OWN_MAC, 4)) return;
  const packet = frame + ETHERNET_BYTES;
  // Type IPv4, version 4, header of 20 bytes; protocol TCP; neither MF nor an offset.
  if (load<u16>(frame, ETHERNET_TYPE) != ETHERTYPE_IPV4 || load<u8>(packet) != 0x45) {
    if (<u32>load<u16>(frame, ETHERNET_TYPE) == ETHERTYPE_IPV6) parseV6(s, packet, frameBytes - ETHERNET_BYTES);
    return;
  }
  if (load<u8>(packet, IP_PROTOCOL) != PROTOCOL_TCP || (load<u16>(packet, IP_FRAGMENT) & FRAGMENT_BITS) != 0) return;
  const totalBytes = loadBe16(packet + IP_TOTAL_LENGTH);
  if (totalBytes < IPV4_HEADER_BYTES + TCP_HEADER_BYTES || totalBytes > frameBytes - ETHERNET_BYTES) return;
  if (!headerSumIsValid(packet)) return;
  const remote = load<u32>(packet, IP_SOURCE);
  const local = load<u32>(packet, IP_DESTINATION);
  // Sources that no host has: 0/8, 127/8, 224/3 are left to the slow way, which counts them.
  const firstOctet = remote & 0xff;
  if (firstOctet == 0 || firstOctet == 127 || firstOctet >= 224) return;
  const localIndex = addressFindV4(local);
  if (localIndex < 0 || isLoopbackV4(local) || isOursOrBroadcastV4(remote)) return;
  s.localIndex = localIndex;
  s.headerBytes = IPV4_HEADER_BYTES;
  s.segmentBytes = totalBytes - IPV4_HEADER_BYTES;
  s.hash = flowHashV4(remote, local, load<u32>(packet, IPV4_HEADER_BYTES));
}

/** Likewise over IPv6: no extension headers. Everything that is wrong is left to the slow way, which counts it. */
function parseV6(s: Staged, packet: usize, bytesAvailable: u32): void {
  if (
    bytesAvailable < IPV6_HEADER_BYTES + TCP_HEADER_BYTES ||
    load<u8>(packet) >> 4 != 6 ||
    load<u8>(packet, V6_NEXT_HEADER) != PROTOCOL_TCP
  )
    return;
  const segmentBytes = loadBe16(packet + V6_PAYLOAD_LENGTH);
  if (segmentBytes < TCP_HEADER_BYTES || segmentBytes > bytesAvailable - IPV6_HEADER_BYTES) return;
  const remote = packet + V6_SOURCE;
  const local = packet + V6_DESTINATION;
  const localIndex = addressFindV6(local);
  if (localIndex < 0 || isLoopbackV6(local) || !isHostV6(remote) || addressFindV6(remote) >= 0) return;
  s.localIndex = localIndex;
  s.headerBytes = IPV6_HEADER_BYTES;
  s.segmentBytes = segmentBytes;
  s.hash = flowHashV6(remote, local, load<u32>(packet, IPV6_HEADER_BYTES));
}

/** Checksum of a header of exactly 20 bytes. */
function headerSumIsValid(packet: usize): bool {
  let sum =
    <u64>load<u32>(packet) +
    load<u32>(packet, 4) +
    load<u32>(packet, 8) +
    load<u32>(packet, 12) +
    load<u32>(packet, 16);
  sum = (sum & 0xffffffff) + (sum >> 32);
  sum = (sum & 0xffff) + (sum >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  return (sum & 0xffff) + (sum >> 16) == 0xffff;
}

/** Takes the frames behind `lead` that only continue its segment (tcp/coalesce.ts). @returns index of the last one. */
function takeRun(lead: u32, frames: u32): u32 {
  let last = lead;
  while (last + 1 < frames) {
    const s = stagedAt(last + 1);
    if (s.candidate != stagedAt(lead).candidate) break;
    if (!coalesceTake(s.frame + ETHERNET_BYTES, s.headerBytes, s.segmentBytes, s.checksumKnown != 0)) break;
    last++;
  }
  return last;
}

function process(s: Staged): void {
  if (s.segmentBytes != 0) {
    const packet: usize = s.frame + ETHERNET_BYTES;
    const mac: usize = s.frame + ETHERNET_SOURCE;
    const known = s.checksumKnown != 0;
    if (s.headerBytes == IPV4_HEADER_BYTES)
      tcpPacket(packet, mac, IPV4_HEADER_BYTES, s.segmentBytes, s.localIndex, s.hash, s.candidate, known);
    else tcpPacketV6(packet, mac, IPV6_HEADER_BYTES, s.segmentBytes, s.localIndex, s.hash, s.candidate, known);
    return;
  }
  frameInput(s.frame, s.frameBytes, s.checksumKnown != 0);
}

/** The slow way: everything that is not a plain TCP segment, and whatever is wrong with one. */
function frameInput(frame: usize, frameBytes: u32, checksumKnown: bool): void {
  if (frameBytes < ETHERNET_BYTES) {
    count(C.DROP_FRAME_SHORT);
    return;
  }
  const toUs = load<u32>(frame) == load<u32>(OWN_MAC) && load<u16>(frame, 4) == load<u16>(OWN_MAC, 4);
  const toGroup = (load<u8>(frame) & 1) != 0;
  if (!toUs && !toGroup) {
    count(C.DROP_NOT_FOR_US);
    return;
  }
  const type = <u32>load<u16>(frame, ETHERNET_TYPE);
  if (type == ETHERTYPE_ARP) {
    neighborInput(frame, frameBytes);
  } else if (type == ETHERTYPE_IPV4) {
    packetInput(frame + ETHERNET_BYTES, frameBytes - ETHERNET_BYTES, checksumKnown, toGroup, false);
  } else if (type == ETHERTYPE_IPV6) {
    packetInputV6(frame + ETHERNET_BYTES, frameBytes - ETHERNET_BYTES, checksumKnown, toGroup, false);
  } else {
    count(C.DROP_ETHERTYPE_UNKNOWN);
  }
}

/** @param toGroup the frame was an Ethernet broadcast or multicast. @param fromLoop we have sent it. */
export function packetInput(
  packet: usize,
  bytesAvailable: u32,
  checksumKnown: bool,
  toGroup: bool,
  fromLoop: bool,
): void {
  const headerBytes = ipv4Check(packet, bytesAvailable, fromLoop);
  if (headerBytes < 0) {
    icmpReportProblem(packet, toGroup);
    return;
  }
  const totalBytes = loadBe16(packet + IP_TOTAL_LENGTH);
  const local = load<u32>(packet, IP_DESTINATION);
  const localIndex = addressFindV4(local);
  const toMulticast = isMulticastV4(local);
  const toBroadcast = toGroup || toMulticast || isBroadcastV4(local);
  // RFC 1122 3.2.1.3 (g): 127/8 must not appear outside a host.
  if (isLoopbackV4(local) && !fromLoop) {
    count(C.DROP_IP_DESTINATION);
    return;
  }
  if (localIndex < 0 && !(toMulticast ? multicastIsOursV4(local) : isBroadcastV4(local))) {
    count(toGroup ? C.DROP_BROADCAST : C.DROP_IP_DESTINATION);
    return;
  }
  if ((load<u16>(packet, IP_FRAGMENT) & FRAGMENT_BITS) == 0) {
    const sourceMac: usize = fromLoop ? 0 : packet - ETHERNET_BYTES + ETHERNET_SOURCE;
    const isFromNeighbor = !toBroadcast && localIndex >= 0 && !fromLoop;
    if (isFromNeighbor) neighborSeen(nextHopV4(localIndex, load<u32>(packet, IP_SOURCE)), sourceMac);
    transportInput(packet, sourceMac, headerBytes, totalBytes, localIndex, checksumKnown, toBroadcast);
    return;
  }
  const whole = reassemblyInput(packet, headerBytes, totalBytes);
  if (whole == 0) return;
  const wholeHeaderBytes = (<u32>load<u8>(whole) & 15) << 2;
  transportInput(whole, 0, wholeHeaderBytes, loadBe16(whole + IP_TOTAL_LENGTH), localIndex, false, toBroadcast);
}

function transportInput(
  packet: usize,
  sourceMac: usize,
  headerBytes: u32,
  totalBytes: u32,
  localIndex: i32,
  checksumKnown: bool,
  toBroadcast: bool,
): void {
  const protocol = <u32>load<u8>(packet, IP_PROTOCOL);
  if (protocol == PROTOCOL_TCP) {
    // RFC 9293 3.9.2.3: TCP does not speak to groups.
    if (localIndex < 0 || toBroadcast) {
      count(C.DROP_BROADCAST);
    } else if (totalBytes < headerBytes + TCP_HEADER_BYTES) {
      count(C.DROP_TCP_HEADER);
    } else {
      const ports = load<u32>(packet + headerBytes);
      const hash = flowHashV4(load<u32>(packet, IP_SOURCE), load<u32>(packet, IP_DESTINATION), ports);
      tcpPacket(packet, sourceMac, headerBytes, totalBytes - headerBytes, localIndex, hash, -1, checksumKnown);
    }
  } else if (protocol == PROTOCOL_UDP) {
    udpInput(packet, headerBytes, totalBytes, localIndex, checksumKnown, toBroadcast);
  } else if (protocol == PROTOCOL_ICMP) {
    icmpInput(packet, headerBytes, totalBytes, toBroadcast);
  } else if (protocol == PROTOCOL_IGMP) {
    igmpInput(packet, headerBytes, totalBytes);
  } else {
    count(C.DROP_IP_PROTOCOL);
    // RFC 1122 3.2.2.1.
    if (!toBroadcast) icmpSendUnreachable(packet, headerBytes, totalBytes, CODE_PROTOCOL_UNREACHABLE);
  }
}
