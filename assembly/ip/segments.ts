/** TCP segments, on both ways through IP: what the fast one has not checked, and on to tcp/input.ts. */
import { addressAt } from "./address.ts";
import * as C from "../../src/layout/counters.ts";
import { count } from "../stats.ts";
import { tcpInput } from "../tcp/input.ts";
import { segmentPlace } from "../tcp/segment.ts";
import { pseudoHeaderSumV4, pseudoHeaderSumV6, sumAdd, sumBytes } from "../wire/checksum.ts";
import { IP_DESTINATION, IP_SOURCE, PROTOCOL_TCP, TCP_HEADER_BYTES, V6_SOURCE } from "../wire/headers.ts";

/** Length and ports (RFC 9293 3.9.2: port 0 is nobody's). */
function isHeaderSane(tcp: usize, segmentBytes: u32): bool {
  const tcpHeaderBytes = (<u32>load<u8>(tcp, 12) >> 4) << 2;
  const isLengthSane = tcpHeaderBytes >= TCP_HEADER_BYTES && tcpHeaderBytes <= segmentBytes;
  if (isLengthSane && load<u16>(tcp) != 0 && load<u16>(tcp, 2) != 0) return true;
  count(C.DROP_TCP_HEADER);
  return false;
}

/** @param pseudo sum of the pseudo-header. */
function isChecksumRight(pseudo: u32, tcp: usize, segmentBytes: u32): bool {
  if (sumAdd(pseudo, sumBytes(tcp, segmentBytes)) == 0xffff) return true;
  count(C.DROP_TCP_CHECKSUM);
  return false;
}

/** Checks what the fast path has not, and hands the segment on. */
export function tcpPacket(
  packet: usize,
  sourceMac: usize,
  headerBytes: u32,
  segmentBytes: u32,
  localIndex: u32,
  hash: u32,
  candidate: i32,
  checksumKnown: bool,
): void {
  const tcp = packet + headerBytes;
  if (!isHeaderSane(tcp, segmentBytes)) return;
  const remote = load<u32>(packet, IP_SOURCE);
  const local = load<u32>(packet, IP_DESTINATION);
  if (!checksumKnown) {
    if (!isChecksumRight(pseudoHeaderSumV4(remote, local, PROTOCOL_TCP, segmentBytes), tcp, segmentBytes)) return;
  }
  segmentPlace(packet, sourceMac, tcp, remote, local, localIndex, hash, 0);
  tcpInput(segmentBytes, candidate);
}

/** Likewise for IPv6. */
export function tcpPacketV6(
  packet: usize,
  sourceMac: usize,
  headerBytes: u32,
  segmentBytes: u32,
  localIndex: u32,
  hash: u32,
  candidate: i32,
  checksumKnown: bool,
): void {
  const tcp = packet + headerBytes;
  if (!isHeaderSane(tcp, segmentBytes)) return;
  const remote = packet + V6_SOURCE;
  const local = addressAt(localIndex);
  if (!checksumKnown) {
    if (!isChecksumRight(pseudoHeaderSumV6(remote, local, PROTOCOL_TCP, segmentBytes), tcp, segmentBytes)) return;
  }
  segmentPlace(packet, sourceMac, tcp, load<u32>(remote, 12), load<u32>(local, 12), localIndex, hash, remote);
  tcpInput(segmentBytes, candidate);
}
