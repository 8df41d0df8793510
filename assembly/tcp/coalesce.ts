/**
 * 4. Receive coalescing (GRO): segments that continue the one before them in the same batch are taken as one with it.
 *
 * Elsewhere GRO joins frames into one large packet, because each packet costs a walk through the layers. Here frames
 * lie in the RX ring and are taken in batches, so nothing needs to be joined: the *lead*, the first segment of a run,
 * goes the whole way of RFC 9293 3.10.7 (input.ts). One behind it that says the same in its headers and brings the next
 * bytes has nothing to say but these: they are summed and copied to the receive buffer in one pass, and RCV.NXT moves
 * on.
 *
 * Linux's rules (tcp_gro_receive) for what says the same: addresses, ports, TOS, acknowledgement, window, flags but
 * PSH, options. What the peer is told does not depend on it: two segments of data are acknowledged at once (RFC 9293
 * 3.8.6.3), a packet with CE goes the whole way (RFC 3168 6.1.3), accurate ECN counts the others' bytes (RFC 9768
 * 3.2.3), and anything that is not the next segment ends the run. A run ends with its batch at the latest, 32 frames.
 */
import * as C from "../../src/layout/counters.ts";
import { STATE_ESTABLISHED } from "../../src/layout/option.ts";
import { rcvBufferFor, ringWrite } from "../socket/buffers.ts";
import { count } from "../stats.ts";
import { loadBe32 } from "../wire/bytes.ts";
import { copyAndSum, pseudoHeaderSumV4, pseudoHeaderSumV6, sumAdd, sumBytes } from "../wire/checksum.ts";
import {
  CE,
  IP_DESTINATION,
  IP_SOURCE,
  IPV4_HEADER_BYTES,
  PROTOCOL_TCP,
  TCP_HEADER_BYTES,
  TIMESTAMP_BYTES,
  V6_DESTINATION,
  V6_SOURCE,
} from "../wire/headers.ts";
import { accountOf } from "./account.ts";
import { accurateContinued } from "./accurateEcn.ts";
import * as S from "./segment.ts";
import * as T from "./tcb.ts";
import { Tcb, coldOf, tcbAt } from "./tcb.ts";

/** AE, CWR, ECE: a number where ECN is accurate (RFC 9768 3.2.1). */
const ACE_FLAGS: u32 = S.FLAG_AE | S.FLAG_CWR | S.FLAG_ECE;
/** PSH in the word of a TCP header that has the flags, as it lies in memory: it may differ. */
const PSH_IN_MEMORY: u32 = 0x0800;
/** Header lengths that a run can have: without options, and with timestamps alone. */
const HEADER_PLAIN_BYTES: u32 = TCP_HEADER_BYTES;
const HEADER_TIMESTAMPS_BYTES: u32 = TCP_HEADER_BYTES + TIMESTAMP_BYTES;

/** Connection of the present run, and its lead's packet and TCP header. */
let runTcb: Tcb = changetype<Tcb>(0);
let runPacket: usize = 0;
let runHeader: usize = 0;
/** Accurate ECN counts its bytes. */
let runIsCounted: bool = false;

/**
 * The segment in segment.ts has been processed. May others continue it? They may when it has brought data in order to
 * an established connection, all of it was taken, and it has said nothing else.
 * @param candidate TCB index from the staged look-up. @param rcvNxt its RCV.NXT before the segment.
 */
export function coalesceBegin(candidate: i32, rcvNxt: u32): bool {
  const tcb = tcbAt(candidate);
  // RCV.NXT tells that the candidate is the segment's connection, and that the segment was neither cut nor dropped.
  if (S.segSeq != rcvNxt || S.segDataBytes == 0 || tcb.rcvNxt != rcvNxt + S.segDataBytes) return false;
  const codepoint = S.segmentCodepoint();
  // What CE says is said by every packet anew (RFC 3168 6.1.3).
  if (codepoint == CE) return false;
  const accurate = (coldOf(tcb).traits & T.TRAIT_ACCURATE_ECN) != 0;
  const told = accurate ? S.FLAG_PSH | ACE_FLAGS : S.FLAG_PSH;
  if ((S.segFlags & ~told) != S.FLAG_ACK || tcb.state != STATE_ESTABLISHED || tcb.ext != 0) return false;
  const headerBytes = <u32>(S.segData - S.segHeader);
  const isPlain = headerBytes == HEADER_PLAIN_BYTES;
  if (!isPlain && !(headerBytes == HEADER_TIMESTAMPS_BYTES && S.segHasTimestamps)) return false;
  runTcb = tcb;
  runPacket = S.segPacket;
  runHeader = S.segHeader;
  runIsCounted = accurate && codepoint != 0;
  return true;
}

/**
 * Takes a segment that continues the run.
 * @param packet a checked IP packet for us. @param headerBytes of IP: 20 (IPv4) or 40.
 * @returns false: it does not continue it, and has to go the whole way.
 */
export function coalesceTake(packet: usize, headerBytes: u32, segmentBytes: u32, checksumKnown: bool): bool {
  const tcb = runTcb;
  const header = packet + headerBytes;
  if (loadBe32(header + 4) != tcb.rcvNxt || !saysTheSame(packet, header, headerBytes)) return false;
  const tcpHeaderBytes = (<u32>load<u8>(header, 12) >> 4) << 2;
  if (segmentBytes <= tcpHeaderBytes) return false;
  const bytes = segmentBytes - tcpHeaderBytes;
  if (bytes > tcb.rcvAdv - tcb.rcvNxt || !rcvBufferFor(tcb, tcb.rcvNxt + bytes)) return false;
  const data = header + tcpHeaderBytes;
  if (checksumKnown) {
    ringWrite(tcb.rcvBuf, tcb.rcvBufOrder, tcb.rcvNxt, data, bytes);
  } else if (!copyChecked(tcb, packet, headerBytes, header, tcpHeaderBytes, bytes)) {
    count(C.DROP_TCP_CHECKSUM);
    return true;
  }
  count(C.TCP_SEGMENTS_RECEIVED);
  count(C.TCP_SEGMENTS_COALESCED);
  tcb.rcvNxt += bytes;
  // The lead has made the record.
  accountOf(tcb).segmentsIn++;
  if (runIsCounted) accurateContinued(tcb, bytes);
  // The lead is waiting for its acknowledgement: this is the second segment at least.
  tcb.flags |= T.F_ACK_NOW | T.F_ACK_PENDING;
  return true;
}

/** Do the headers of a packet say what the lead's have said? Sequence number, length and checksums apart. */
function saysTheSame(packet: usize, header: usize, headerBytes: u32): bool {
  if (<u32>(runHeader - runPacket) != headerBytes) return false;
  // Version and TOS (IPv6: traffic class and flow label); addresses; ports.
  if (headerBytes == IPV4_HEADER_BYTES) {
    if (load<u16>(packet) != load<u16>(runPacket) || load<u64>(packet, IP_SOURCE) != load<u64>(runPacket, IP_SOURCE))
      return false;
  } else {
    const addresses = v128.or(
      v128.xor(v128.load(packet, V6_SOURCE), v128.load(runPacket, V6_SOURCE)),
      v128.xor(v128.load(packet, V6_DESTINATION), v128.load(runPacket, V6_DESTINATION)),
    );
    if (load<u32>(packet) != load<u32>(runPacket) || v128.any_true(addresses)) return false;
  }
  if (load<u32>(header) != load<u32>(runHeader) || load<u32>(header, 8) != load<u32>(runHeader, 8)) return false;
  const word = load<u32>(header, 12);
  if (((word ^ load<u32>(runHeader, 12)) & ~PSH_IN_MEMORY) != 0) return false;
  // Length of the header in the upper half of the first byte: 5 words, or 8 with timestamps.
  if ((word & 0xf0) == 0x50) return true;
  return load<u64>(header, 20) == load<u64>(runHeader, 20) && load<u32>(header, 28) == load<u32>(runHeader, 28);
}

/**
 * Copies the payload to RCV.NXT's place and verifies the checksum in the same pass. What a bad one has left there lies
 * outside of what has been received, and nothing has been received behind it.
 */
function copyChecked(tcb: Tcb, packet: usize, headerBytes: u32, header: usize, tcpHeaderBytes: u32, bytes: u32): bool {
  const segmentBytes = tcpHeaderBytes + bytes;
  const pseudo =
    headerBytes == IPV4_HEADER_BYTES
      ? pseudoHeaderSumV4(load<u32>(packet, IP_SOURCE), load<u32>(packet, IP_DESTINATION), PROTOCOL_TCP, segmentBytes)
      : pseudoHeaderSumV6(packet + V6_SOURCE, packet + V6_DESTINATION, PROTOCOL_TCP, segmentBytes);
  const data = header + tcpHeaderBytes;
  const size = (<u32>1) << tcb.rcvBufOrder;
  const at = tcb.rcvNxt & (size - 1);
  let sum: u32;
  if (at + bytes <= size) {
    sum = copyAndSum(tcb.rcvBuf + at, data, bytes);
  } else {
    sum = sumBytes(data, bytes);
    ringWrite(tcb.rcvBuf, tcb.rcvBufOrder, tcb.rcvNxt, data, bytes);
  }
  return sumAdd(sumAdd(pseudo, sumBytes(header, tcpHeaderBytes)), sum) == 0xffff;
}
