/**
 * What a sending card does to a frame before the wire: filling in the TCP/UDP checksum (VIRTIO 1.2, 5.1.6.2,
 * NEEDS_CSUM) and cutting a large TCP frame into segments (TSO).
 */
import {
  FRAME_ALIGN_BYTES,
  FRAME_LENGTH,
  FRAME_OFFSET,
  FRAME_QUEUE,
  FRAME_VNET_CSUM_OFFSET,
  FRAME_VNET_CSUM_START,
  FRAME_VNET_FLAGS,
  FRAME_VNET_GSO_SIZE,
  FRAME_VNET_GSO_TYPE,
  VNET_GSO_TCPV4,
  VNET_GSO_TCPV6,
  VNET_NEEDS_CSUM,
} from "../../src/layout/frameRing.ts";
import { loadBe16, loadBe32, storeBe16, storeBe32 } from "../wire/bytes.ts";
import { checksumOf, copyAndSum, pseudoHeaderSumV4, sumAdd, sumBytes } from "../wire/checksum.ts";
import {
  ETHERNET_BYTES,
  ETHERNET_TYPE,
  ETHERTYPE_IPV4,
  ETHERTYPE_IPV6,
  IP_PROTOCOL,
  PROTOCOL_TCP,
  V6_NEXT_HEADER,
} from "../wire/headers.ts";

/** Bit of gso_type that asks for ECN handling; it does not change how a frame is cut here. */
const GSO_ECN: u32 = 0x80;
/** Smaller segments than this are refused: nobody sends them, and a frame of them would not fit the cut buffer. */
const SEGMENT_BYTES_MIN: u32 = 64;
const TCP_FIN_PSH: u32 = 0x09;
const TCP_CWR: u32 = 0x80;

/** Fills in the checksum that the record's virtio header asks for. One that points outside the frame is ignored. */
export function fillChecksum(record: usize): void {
  const bytes = load<u32>(record, FRAME_LENGTH);
  const start = <u32>load<u16>(record, FRAME_VNET_CSUM_START);
  const field = start + <u32>load<u16>(record, FRAME_VNET_CSUM_OFFSET);
  store<u8>(record, load<u8>(record, FRAME_VNET_FLAGS) & ~VNET_NEEDS_CSUM, FRAME_VNET_FLAGS);
  if (field + 2 > bytes) return;
  // The field holds the sum of the pseudo-header, so that summing over it gives the whole.
  const checksum = checksumOf(sumBytes(record + FRAME_OFFSET + start, bytes - start));
  // RFC 768: a UDP checksum of zero is sent as all ones. For TCP the two mean the same.
  store<u16>(record + FRAME_OFFSET + field, checksum == 0 ? 0xffff : checksum);
}

function isTcpV4(frame: usize): bool {
  const packet = frame + ETHERNET_BYTES;
  if (<u32>load<u16>(frame, ETHERNET_TYPE) != ETHERTYPE_IPV4 || load<u8>(packet) >> 4 != 4) return false;
  return <u32>load<u8>(packet, IP_PROTOCOL) == PROTOCOL_TCP;
}

/** Without extension headers: large frames come from kernels, which put none there. */
function isTcpV6(frame: usize): bool {
  const packet = frame + ETHERNET_BYTES;
  if (<u32>load<u16>(frame, ETHERNET_TYPE) != ETHERTYPE_IPV6 || load<u8>(packet) >> 4 != 6) return false;
  return <u32>load<u8>(packet, V6_NEXT_HEADER) == PROTOCOL_TCP;
}

/**
 * Cuts the large frame of `record` into records at `target`, of at most `roomBytes` in all.
 * @returns their bytes, or 0: the request makes no sense (not TCP, no payload, sizes that do not fit).
 */
export function cutLargeFrame(record: usize, target: usize, roomBytes: u32): u32 {
  const frame = record + FRAME_OFFSET;
  const bytes = load<u32>(record, FRAME_LENGTH);
  const type = <u32>load<u8>(record, FRAME_VNET_GSO_TYPE) & ~GSO_ECN;
  const segmentBytes = <u32>load<u16>(record, FRAME_VNET_GSO_SIZE);
  let tcp: u32 = 0;
  if (type == VNET_GSO_TCPV4 && bytes >= 34 && isTcpV4(frame)) tcp = 14 + ((<u32>load<u8>(frame, 14) & 15) << 2);
  else if (type == VNET_GSO_TCPV6 && bytes >= 54 && isTcpV6(frame)) tcp = 54;
  if (tcp < 34 || tcp + 20 > bytes || segmentBytes < SEGMENT_BYTES_MIN) return 0;
  const headerBytes = tcp + ((<u32>load<u8>(frame + tcp, 12) >> 4) << 2);
  if (headerBytes < tcp + 20 || headerBytes >= bytes) return 0;
  const payloadBytes = bytes - headerBytes;
  const recordMax = (FRAME_OFFSET + headerBytes + segmentBytes + FRAME_ALIGN_BYTES - 1) & -FRAME_ALIGN_BYTES;
  if (((payloadBytes + segmentBytes - 1) / segmentBytes) * recordMax > roomBytes) return 0;

  let at = target;
  for (let offset: u32 = 0; offset < payloadBytes; offset += segmentBytes) {
    const take = min(segmentBytes, payloadBytes - offset);
    store<i32>(at, headerBytes + take, FRAME_LENGTH);
    store<u64>(at, 0, FRAME_QUEUE);
    store<u64>(at, 0, FRAME_OFFSET - 8);
    memory.copy(at + FRAME_OFFSET, frame, headerBytes);
    const sum = copyAndSum(at + FRAME_OFFSET + headerBytes, frame + headerBytes + offset, take);
    const index = offset / segmentBytes;
    fixIp(at + FRAME_OFFSET, type == VNET_GSO_TCPV4, headerBytes + take - 14, tcp - 14, index);
    fixTcp(at + FRAME_OFFSET + tcp, offset, offset + take == payloadBytes);
    closeTcp(at + FRAME_OFFSET, tcp, headerBytes, take, sum, type == VNET_GSO_TCPV4);
    at += (FRAME_OFFSET + headerBytes + take + FRAME_ALIGN_BYTES - 1) & -FRAME_ALIGN_BYTES;
  }
  return <u32>(at - target);
}

/** Length, identification (counted up, as cards do) and header checksum of one segment's packet. */
function fixIp(frame: usize, v4: bool, packetBytes: u32, headerBytes: u32, index: u32): void {
  if (!v4) {
    storeBe16(frame + 18, packetBytes - 40);
    return;
  }
  storeBe16(frame + 16, packetBytes);
  storeBe16(frame + 18, loadBe16(frame + 18) + index);
  store<u16>(frame, 0, 24);
  store<u16>(frame, checksumOf(sumBytes(frame + 14, headerBytes)), 24);
}

/** Sequence number and flags: FIN and PSH belong to the last segment, CWR to the first (RFC 3168 6.1.2). */
function fixTcp(tcp: usize, offset: u32, last: bool): void {
  storeBe32(tcp + 4, loadBe32(tcp + 4) + offset);
  let flags = <u32>load<u8>(tcp, 13);
  if (!last) flags &= ~TCP_FIN_PSH;
  if (offset != 0) flags &= ~TCP_CWR;
  store<u8>(tcp, <u8>flags, 13);
}

function closeTcp(frame: usize, tcp: u32, headerBytes: u32, payloadBytes: u32, payloadSum: u32, v4: bool): void {
  const tcpBytes = headerBytes - tcp + payloadBytes;
  store<u16>(frame + tcp, 0, 16);
  // TCP headers are a multiple of four bytes, so the payload's words keep their places.
  let sum = sumAdd(payloadSum, sumBytes(frame + tcp, headerBytes - tcp));
  if (v4) {
    sum = sumAdd(sum, pseudoHeaderSumV4(load<u32>(frame, 26), load<u32>(frame, 30), 6, tcpBytes));
  } else {
    // RFC 8200 8.1: addresses, length, next header; the last two fold as for IPv4.
    sum = sumAdd(sumAdd(sum, sumBytes(frame + 22, 32)), pseudoHeaderSumV4(0, 0, 6, tcpBytes));
  }
  store<u16>(frame + tcp, checksumOf(sum), 16);
}
