/**
 * 5. Output: building one segment of a synchronized connection, straight in the TX ring. What to send is decided in
 * output.ts and retransmit.ts. RFC 9293 3.1, 3.8.6.2.2 (the window offered).
 */
import { checksumOffload } from "../config.ts";
import { loopSend } from "../device/loop.ts";
import { txReserve } from "../device/tx.ts";
import { flowLabel, timestampOffset, timestampOffsetV6 } from "../flow/hash.ts";
import { addressAt, addressIsV6, addressV4 } from "../ip/address.ts";
import { ipv4WriteHeader } from "../ip/ipv4.ts";
import { ipv6WriteHeader } from "../ip/ipv6Header.ts";
import { NEIGHBOR_OWN, neighborAddress, neighborFind, neighborSend } from "../ip/neighbor.ts";
import { nextHopV4 } from "../ip/nextHop.ts";
import { copyBytes } from "../mem/copy.ts";
import { count } from "../stats.ts";
import { accountSent } from "./account.ts";
import { accurateOptionBytes, accurateWrite } from "./accurateEcn.ts";
import { neighborOfV6, remoteAt } from "./addresses.ts";
import { ecnCodepoint, ecnFlags, ecnNone } from "./ecn.ts";
import { historyResent } from "./history.ts";
import { marksApply, marksOf } from "./marks.ts";
import { sackOptionBytes, sackWrite } from "./sack.ts";
import { seqGt, seqLt, seqMax } from "./seq.ts";
import { settingsCount } from "./settings.ts";
import { segmentMss } from "./sizes.ts";
import * as T from "./tcb.ts";
import { coldOf, Tcb } from "./tcb.ts";
import { urgentMark } from "./urgent.ts";
import { userTimeoutOptionBytes, userTimeoutWrite } from "./userTimeout.ts";
import { windowRoom } from "./window.ts";
import { nowMs } from "../time.ts";
import { storeBe16, storeBe32 } from "../wire/bytes.ts";
import {
  checksumOf,
  copyAndSum,
  pseudoHeaderSumV4,
  pseudoHeaderSumV6,
  sumAdd,
  sumBytes,
  sumSwap,
} from "../wire/checksum.ts";
import {
  ETHERNET_BYTES,
  IPV4_HEADER_BYTES,
  IPV6_HEADER_BYTES,
  PROTOCOL_TCP,
  TCP_HEADER_BYTES,
  TIMESTAMPS_ALONE,
  TIMESTAMP_BYTES,
} from "../wire/headers.ts";
import { DROP_NO_ROUTE, TCP_SEGMENTS_SENT } from "../../src/layout/counters.ts";
import {
  FRAME_OFFSET,
  FRAME_VNET_CSUM_OFFSET,
  FRAME_VNET_CSUM_START,
  FRAME_VNET_FLAGS,
  FRAME_VNET_GSO_SIZE,
  FRAME_VNET_GSO_TYPE,
  FRAME_VNET_HDR_LEN,
  VNET_GSO_TCPV4,
  VNET_GSO_TCPV6,
  VNET_NEEDS_CSUM,
} from "../../src/layout/frameRing.ts";

/** The segment being built is a path MTU probe: the device must not cut it. */
export let isWhole: bool = false;

export function emitInOne(on: bool): void {
  isWhole = on;
}

/**
 * Builds and sends one segment of a synchronized connection with `bytes` from the send buffer.
 * A segment that cannot be routed counts as sent: the retransmission timer will try again.
 * @returns false when the TX ring is full.
 */
export function emit(tcb: Tcb, seq: u32, flags: u32, bytes: u32): bool {
  const optionBytes = tcb.flags & T.F_TIMESTAMPS ? TIMESTAMP_BYTES : 0;
  const sackBytes = tcb.ext == 0 ? 0 : sackOptionBytes(tcb, optionBytes);
  const traits = coldOf(tcb).traits;
  let ecnBytes: u32 = 0;
  if (traits & T.TRAIT_ACCURATE_ECN) {
    const full = segmentMss(tcb);
    ecnBytes = accurateOptionBytes(tcb, optionBytes + sackBytes, bytes < full ? full - bytes : 0);
  }
  let timeoutBytes: u32 = 0;
  if (settingsCount != 0) {
    const full = segmentMss(tcb);
    const room = bytes + ecnBytes < full ? full - bytes - ecnBytes : 0;
    timeoutBytes = userTimeoutOptionBytes(tcb, optionBytes + sackBytes + ecnBytes, room);
  }
  const headerBytes = TCP_HEADER_BYTES + optionBytes + sackBytes + ecnBytes + timeoutBytes;
  // Before reserving: a look-up may send a request of its own.
  const neighbor = neighborOf(tcb);
  const isV6 = addressIsV6(tcb.localIndex);
  const headersBytes = (isV6 ? ETHERNET_BYTES + IPV6_HEADER_BYTES : ETHERNET_BYTES + IPV4_HEADER_BYTES) + headerBytes;
  const frame = txReserve(headersBytes + bytes);
  if (frame == 0) return false;
  const tcp = frame + headersBytes - headerBytes;
  store<u32>(tcp, rotl<u32>(tcb.ports, 16));
  storeBe32(tcp + 4, seq);
  storeBe32(tcp + 8, tcb.rcvNxt);
  let allFlags = flags;
  if (traits & T.TRAIT_ECN) allFlags |= ecnFlags(tcb, seq, bytes, flags);
  else ecnNone();
  // Data offset, flags, window; then checksum and urgent pointer are zero. AE is the ninth flag.
  store<u16>(tcp, <u16>((headerBytes << 2) | (allFlags << 8) | (allFlags >> 8)), 12);
  storeBe16(tcp + 14, receiveWindowField(tcb));
  store<u32>(tcp, 0, 16);
  if (optionBytes != 0) {
    const offset = isV6
      ? timestampOffsetV6(remoteAt(tcb), addressAt(tcb.localIndex))
      : timestampOffset(tcb.remoteV4, addressV4(tcb.localIndex));
    store<u32>(tcp, TIMESTAMPS_ALONE, 20);
    storeBe32(tcp + 24, nowMs + offset);
    storeBe32(tcp + 28, tcb.tsRecent);
  }
  if (sackBytes != 0) sackWrite(tcb, tcp + TCP_HEADER_BYTES + optionBytes, sackBytes);
  if (ecnBytes != 0) accurateWrite(tcb, tcp + TCP_HEADER_BYTES + optionBytes + sackBytes, ecnBytes);
  if (timeoutBytes != 0) userTimeoutWrite(tcb, tcp + headerBytes - timeoutBytes);
  if (settingsCount != 0) urgentMark(tcb, tcp, seq);
  tcb.flags &= ~(T.F_ACK_NOW | T.F_ACK_PENDING);
  const tcpBytes = headerBytes + bytes;
  const pseudo = isV6
    ? pseudoHeaderSumV6(addressAt(tcb.localIndex), remoteAt(tcb), PROTOCOL_TCP, tcpBytes)
    : pseudoHeaderSumV4(addressV4(tcb.localIndex), tcb.remoteV4, PROTOCOL_TCP, tcpBytes);
  seal(tcb, frame, tcp, pseudo, isV6 ? VNET_GSO_TCPV6 : VNET_GSO_TCPV4, tcpBytes, seq, bytes);
  const packet = frame + ETHERNET_BYTES;
  if (isV6) {
    const classAndLabel = (ecnCodepoint << 20) | flowLabel(remoteAt(tcb), addressAt(tcb.localIndex), tcb.ports);
    ipv6WriteHeader(packet, tcpBytes, PROTOCOL_TCP, addressAt(tcb.localIndex), remoteAt(tcb), classAndLabel);
  } else {
    ipv4WriteHeader(
      packet,
      IPV4_HEADER_BYTES + tcpBytes,
      PROTOCOL_TCP,
      addressV4(tcb.localIndex),
      tcb.remoteV4,
      ecnCodepoint,
    );
  }
  if (settingsCount != 0) marksApply(marksOf(tcb), packet, isV6);
  count(TCP_SEGMENTS_SENT);
  if (bytes != 0) {
    accountSent(tcb, bytes <= <u32>tcb.sndMss ? 1 : (bytes - 1) / segmentMss(tcb) + 1);
    if (seqLt(seq, tcb.sndMax)) historyResent(tcb, min(bytes, tcb.sndMax - seq));
  }
  if (neighbor >= 0) neighborSend(neighbor, frame, headersBytes + bytes);
  else if (neighbor == NEIGHBOR_OWN) loopSend(frame, headersBytes + bytes, isV6);
  return true;
}

/**
 * Copies the payload and fills the checksum, or leaves it to the device.
 * @param pseudo sum of the pseudo-header. @param gsoType for a frame that the device cuts.
 */
function seal(
  tcb: Tcb,
  frame: usize,
  tcp: usize,
  pseudo: u32,
  gsoType: u32,
  tcpBytes: u32,
  seq: u32,
  bytes: u32,
): void {
  const headerBytes = tcpBytes - bytes;
  const payload = tcp + headerBytes;
  if (checksumOffload) {
    if (bytes > 0) copyPayload(tcb, payload, seq, bytes);
    store<u16>(tcp, <u16>pseudo, 16);
    const record = frame - FRAME_OFFSET;
    store<u8>(record, VNET_NEEDS_CSUM, FRAME_VNET_FLAGS);
    store<u16>(record, <u16>(tcp - frame), FRAME_VNET_CSUM_START);
    store<u16>(record, 16, FRAME_VNET_CSUM_OFFSET);
    const mss = <u32>tcb.sndMss - (headerBytes - TCP_HEADER_BYTES - (tcb.flags & T.F_TIMESTAMPS ? TIMESTAMP_BYTES : 0));
    if (bytes > mss && !isWhole) {
      store<u8>(record, <u8>gsoType, FRAME_VNET_GSO_TYPE);
      store<u16>(record, <u16>(payload - frame), FRAME_VNET_HDR_LEN);
      store<u16>(record, <u16>mss, FRAME_VNET_GSO_SIZE);
    }
  } else {
    let sum = sumAdd(pseudo, sumBytes(tcp, headerBytes));
    if (bytes > 0) sum = sumAdd(sum, copyPayloadAndSum(tcb, payload, seq, bytes));
    store<u16>(tcp, checksumOf(sum), 16);
  }
}

export function copyPayload(tcb: Tcb, target: usize, seq: u32, bytes: u32): void {
  const size = (<u32>1) << tcb.sndBufOrder;
  const at = seq & (size - 1);
  const first = min(bytes, size - at);
  copyBytes(target, <usize>tcb.sndBuf + at, first);
  if (first < bytes) copyBytes(target + first, tcb.sndBuf, bytes - first);
}

function copyPayloadAndSum(tcb: Tcb, target: usize, seq: u32, bytes: u32): u32 {
  const size = (<u32>1) << tcb.sndBufOrder;
  const at = seq & (size - 1);
  const first = min(bytes, size - at);
  const sum = copyAndSum(target, <usize>tcb.sndBuf + at, first);
  if (first == bytes) return sum;
  const rest = copyAndSum(target + first, tcb.sndBuf, bytes - first);
  return sumAdd(sum, first & 1 ? sumSwap(rest) : rest);
}

/** Window to offer, as the header field; moves RCV.ADV. Never takes back what was offered (RFC 9293 3.8.6). */
function receiveWindowField(tcb: Tcb): u32 {
  const cold = coldOf(tcb);
  const limit = (<u32>1) << cold.rcvLimitOrder;
  const room = windowRoom(tcb);
  const offered = tcb.rcvAdv - tcb.rcvNxt;
  // RFC 9293 3.8.6.2.2: the edge moves by at least a segment or half the buffer.
  const wnd = <i32>(room - offered) < <i32>min<u32>(limit >> 1, tcb.sndMss) ? offered : room;
  // Rounded up, so that the edge never seems to move back.
  const shift = <u32>cold.rcvWscale;
  let field = min<u32>((wnd + (1 << shift) - 1) >> shift, 65535);
  let edge = tcb.rcvNxt + (field << shift);
  if (seqGt(edge, tcb.rcvAdv)) {
    // Not beyond what there is room for, though: segments of odd lengths would push the edge on for ever (RFC 7323
    // 2.4), and a byte more than a ring holds takes one twice as large. The field then says up to a unit less than was
    // offered, which the peer sees as an edge that moves back; data up to RCV.ADV is taken all the same.
    if (seqGt(edge, tcb.rcvNxt + room)) {
      field = wnd >> shift;
      edge = tcb.rcvNxt + (field << shift);
    }
    tcb.rcvAdv = seqMax(edge, tcb.rcvAdv);
  }
  return field;
}

/** The neighbour entry for this connection's next hop, cached in the TCB; else as neighborTo. */
function neighborOf(tcb: Tcb): i32 {
  if (addressIsV6(tcb.localIndex)) return neighborOfV6(tcb);
  const nextHop = nextHopV4(tcb.localIndex, tcb.remoteV4);
  if (nextHop == 0) {
    count(DROP_NO_ROUTE);
    return -1;
  }
  const cached = <i32>tcb.neighbor - 1;
  if (cached >= 0 && neighborAddress(cached) == nextHop) return cached;
  const found = neighborFind(nextHop, false);
  tcb.neighbor = <u16>max(found + 1, 0);
  return found;
}
