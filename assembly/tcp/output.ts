/**
 * 5. Output: what to send, and building it. Runs once per turn for every connection that was marked, after input and
 * the application have had their say: so a response carries the ACK, and a burst of segments is answered by one ACK.
 * RFC 9293 3.8.6.2 (silly window avoidance, Nagle), 3.8.6.1 (probes), 3.8.6.3 (delayed ACKs).
 */
import { checksumOffload, mtuBytes, rcvBufferBytesMax, tsoBytesMax } from "../config.ts";
import { loopSend } from "../device/loop.ts";
import { txReserve } from "../device/tx.ts";
import { timestampOffset, timestampOffsetV6 } from "../flow/hash.ts";
import { addressAt, addressIsV6, addressV4, nextHopV4 } from "../ip/address.ts";
import { ipv4WriteHeader } from "../ip/ipv4.ts";
import { ipv6WriteHeader } from "../ip/ipv6.ts";
import { NEIGHBOR_OWN, neighborAddress, neighborFind, neighborSend } from "../ip/neighbor.ts";
import { copyBytes } from "../mem/copy.ts";
import { streamFreeBytes } from "../mem/streamPool.ts";
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
import {
  STATE_CLOSED,
  STATE_CLOSE_WAIT,
  STATE_ESTABLISHED,
  STATE_FREE,
  STATE_SYN_SENT,
  STATE_TIME_WAIT,
} from "../../src/layout/option.ts";
import { count } from "../stats.ts";
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
import { accountResent, accountSent } from "./account.ts";
import { ipBytesOf, neighborOfV6, remoteAt, timestampOffsetTo } from "./addresses.ts";
import { congestionIdle, congestionWindow } from "./congestion.ts";
import { accurateForbidsCutting, accurateOptionBytes, accurateWrite } from "./accurateEcn.ts";
import { ecnCodepoint, ecnFlags, ecnNone } from "./ecn.ts";
import { isFastOpenChild } from "./fastOpen.ts";
import { FLIGHT_NEW_FIRST, flightIsClean, flightOf, flightSent, pipeBytes } from "./flight.ts";
import { lossTimerArm } from "./rack.ts";
import { mtuProbe } from "./mtuProbe.ts";
import { sendSyn } from "./plainOutput.ts";
import { pacingAllows, pacingSent } from "./pacing.ts";
import { recoverySent } from "./recovery.ts";
import { countRetransmission, isSelective, resendFirst, resendLost } from "./retransmit.ts";
import { sackOptionBytes, sackWrite } from "./sack.ts";
import * as S from "./segment.ts";
import { seqGt, seqLt, seqMax, seqMin } from "./seq.ts";
import { SETTING_CORK, settingsCount, settingsFind, settingsHas, settingsPushed } from "./settings.ts";
import { marksApply, marksOf } from "./marks.ts";
import * as T from "./tcb.ts";
import { Tcb, TcbCold, coldOf } from "./tcb.ts";
import { LOSS_TIMERS, delackArm, persistArm, rttTimingStart } from "./timers.ts";
import { urgentIsQueued, urgentMark } from "./urgent.ts";
import { userTimeoutOptionBytes, userTimeoutWrite } from "./userTimeout.ts";

export const ETH_BYTES: u32 = 14;
export const TCP_BYTES: u32 = 20;
export const TIMESTAMP_BYTES: u32 = 12;
export const PROTOCOL_TCP: u32 = 6;
/** Twenty bits of the flow's hash are its flow label (RFC 6437 3). */
export const FLOW_LABEL_MASK: u32 = 0xfffff;
/** NOP NOP TIMESTAMPS(10), as it stands in memory. */
export const TIMESTAMPS_ALONE: u32 = 0x0a080101;

/** MSS that we announce: what fits into a packet without options (RFC 9293 3.7.1, RFC 6691). */
export function ownMss(localIndex: u32): u32 {
  return mtuBytes - ipBytesOf(localIndex) - TCP_BYTES;
}

/** Likewise for this connection, which may have been told a smaller one (TCP_MAXSEG). */
export function announcedMss(tcb: Tcb): u32 {
  const settings = settingsFind(T.tcbIndex(tcb));
  const mss = ownMss(tcb.localIndex);
  return changetype<usize>(settings) == 0 || settings.mssBytes == 0 ? mss : min<u32>(mss, settings.mssBytes);
}

/** Shift for our window: the smallest that can express the largest buffer. */
export function ownWscale(): u32 {
  let shift: u32 = 0;
  while (shift < 14 && (<u64>65535) << shift < rcvBufferBytesMax) shift++;
  return shift;
}

/**
 * Sends what the connection has to send now.
 * @returns false when the TX ring is full: the connection must be asked again.
 */
export function tcpOutput(tcb: Tcb): bool {
  const state = tcb.state;
  if (state == STATE_FREE || state == STATE_CLOSED) return true;
  if (state < STATE_ESTABLISHED) {
    if (tcb.flags & T.F_SYN_DUE && !sendSyn(tcb)) return false;
    if (state == STATE_SYN_SENT || !isFastOpenChild(tcb)) {
      // In SYN-RECEIVED only answers to unacceptable segments go out (RFC 9293 3.10.7.4).
      return tcb.flags & T.F_ACK_NOW ? emit(tcb, tcb.sndNxt, S.FLAG_ACK, 0) : true;
    }
  }
  if (isSelective(tcb)) {
    if (!flightIsClean(tcb) && !resendLost(tcb)) return false;
  } else if (tcb.flags & T.F_RETRANSMIT && !resendFirst(tcb)) {
    return false;
  }
  if (state != STATE_TIME_WAIT && !sendData(tcb)) return false;
  if (tcb.flags & T.F_PROBE && !sendProbe(tcb)) return false;
  if (tcb.flags & T.F_ACK_NOW) return emit(tcb, pureSeq(tcb), S.FLAG_ACK, 0);
  if (tcb.flags & T.F_ACK_PENDING) delackArm(tcb);
  return true;
}

/**
 * Sequence number of a segment without data: SND.NXT as RFC 9293 means it, the highest sent, also while we have gone
 * back after a time-out (an older number would be unacceptable); but not beyond the peer's window.
 */
export function pureSeq(tcb: Tcb): u32 {
  return seqMin(tcb.sndMax, seqMax(tcb.sndNxt, tcb.sndUna + tcb.sndWnd));
}

/** New data, as far as the windows, Nagle and silly window avoidance allow. @returns false: the TX ring is full. */
function sendData(tcb: Tcb): bool {
  if (tcb.sndMax == tcb.sndUna) congestionIdle(tcb);
  const from = tcb.sndNxt;
  if (settingsCount != 0 && coldOf(tcb).traits & T.TRAIT_MTU_SEARCH) mtuProbe(tcb);
  const done = sendNew(tcb);
  if (tcb.sndNxt != from) {
    // A probe for the tail is due so long after the last segment, not after the first (RFC 8985 7.2).
    if (!(tcb.flags & (T.F_TIMER_RTO | T.F_TIMER_REO))) lossTimerArm(tcb);
    if (tcb.flight != 0) noteApplicationLimit(tcb);
  } else if (tcb.sndNxt == tcb.sndUna && seqLt(tcb.sndNxt, tcb.sndBufEnd)) {
    // Window closed and nothing in flight that would bring an ACK: probe it.
    if (done && !(tcb.flags & (LOSS_TIMERS | T.F_TIMER_PERSIST))) persistArm(tcb);
  }
  return done;
}

function sendNew(tcb: Tcb): bool {
  const mss = segmentMss(tcb);
  const finQueued = (tcb.flags & T.F_FIN_QUEUED) != 0;
  const windowEdge = tcb.sndUna + tcb.sndWnd;
  const congestionEdge = congestionRightEdge(tcb);
  const rightEdge = seqMin(windowEdge, congestionEdge);
  // One frame may carry many segments where the device cuts it up; whole segments only.
  let chunkMax = tsoBytesMax > mss ? tsoBytesMax - (tsoBytesMax % mss) : mss;
  if (chunkMax > mss && coldOf(tcb).traits & T.TRAIT_ACCURATE_ECN && accurateForbidsCutting(tcb)) chunkMax = mss;
  // The urgent pointer counts from each segment's own number.
  if (chunkMax > mss && settingsCount != 0 && urgentIsQueued(tcb)) chunkMax = mss;
  const first = tcb.sndNxt;
  while (seqLt(tcb.sndNxt, tcb.sndBufEnd)) {
    const queued = tcb.sndBufEnd - tcb.sndNxt;
    const usable = seqGt(rightEdge, tcb.sndNxt) ? rightEdge - tcb.sndNxt : 0;
    let bytes = min(min(queued, usable), chunkMax);
    if (bytes == 0) break;
    if (bytes < mss && !maySendSmall(tcb, bytes, queued, finQueued, mss)) break;
    if (bytes > mss && bytes < queued) bytes -= bytes % mss;
    if (!pacingAllows(tcb)) break;
    const last = bytes == queued;
    // A burst that a window ends carries PSH, too: a receiver that merges segments need not wait for more. As in Linux.
    const endsBurst = min(queued, usable) - bytes < mss && (bytes > mss || tcb.sndNxt != first);
    const flags = S.FLAG_ACK | (last || endsBurst ? S.FLAG_PSH : 0) | (last && finQueued ? S.FLAG_FIN : 0);
    if (!sendSequenced(tcb, tcb.sndNxt, flags, bytes)) return false;
  }
  const cold = coldOf(tcb);
  const limited = seqLt(tcb.sndNxt, tcb.sndBufEnd) && seqLt(congestionEdge, windowEdge);
  if (limited != ((cold.traits & T.TRAIT_LIMITED) != 0)) cold.traits ^= T.TRAIT_LIMITED;
  if (finQueued && tcb.sndNxt == tcb.sndBufEnd) {
    return sendSequenced(tcb, tcb.sndNxt, S.FLAG_ACK | S.FLAG_FIN, 0);
  }
  return true;
}

/** Samples of the delivery rate say little while the application has nothing more to send. */
function noteApplicationLimit(tcb: Tcb): void {
  const f = flightOf(tcb);
  if (f.appLimited != 0 && seqGt(f.delivered, f.appLimited)) f.appLimited = 0;
  if (tcb.sndNxt == tcb.sndBufEnd && pipeBytes(tcb) < tcb.cwnd) f.appLimited = max(f.delivered + pipeBytes(tcb), 1);
}

/**
 * Sequence number up to which the congestion window lets new data go. With SACK it is what is believed to be on its way
 * that counts (RFC 6675 5), and what is lost goes first.
 */
function congestionRightEdge(tcb: Tcb): u32 {
  if (tcb.flight == 0 || !isSelective(tcb) || flightIsClean(tcb)) return tcb.sndUna + congestionWindow(tcb);
  const f = flightOf(tcb);
  const pipe = pipeBytes(tcb);
  if (f.flags & FLIGHT_NEW_FIRST) {
    // F-RTO asks for two segments (RFC 5682 3.1, step 2b).
    f.flags &= ~FLIGHT_NEW_FIRST;
    return tcb.sndNxt + max(tcb.cwnd > pipe ? tcb.cwnd - pipe : 0, (<u32>tcb.sndMss) << 1);
  }
  if (f.lostBytes != f.retransBytes || pipe >= tcb.cwnd) return tcb.sndNxt;
  return tcb.sndNxt + (tcb.cwnd - pipe);
}

/** May a segment smaller than the MSS go out now? */
function maySendSmall(tcb: Tcb, bytes: u32, queued: u32, finQueued: bool, mss: u32): bool {
  // All there is: Nagle's rule (RFC 9293 3.7.4) holds it back while something is unacknowledged.
  if (bytes == queued) {
    // What has been sent before is not Nagle's business any more.
    if (finQueued || seqLt(tcb.sndNxt, tcb.sndMax)) return true;
    if (settingsCount != 0 && urgentIsQueued(tcb)) return true;
    // The persist timer lets go of what is corked (sendProbe).
    if (settingsCount != 0 && settingsHas(T.tcbIndex(tcb), SETTING_CORK)) return settingsPushed(T.tcbIndex(tcb));
    // Deviates (draft-minshall-nagle, as Linux): only while a small one is in flight. The end of a large write need
    // not wait for its beginning.
    return (tcb.flags & T.F_NODELAY) != 0 || !smallInFlight(tcb, mss);
  }
  // Cut short by a window: RFC 9293 3.8.6.2.1, at least half the largest window the peer ever offered.
  return bytes >= coldOf(tcb).sndWndMax >> 1;
}

/** Sends payload and/or FIN from `seq` = SND.NXT on and accounts for it. @returns false: the TX ring is full. */
function sendSequenced(tcb: Tcb, seq: u32, flags: u32, bytes: u32): bool {
  const again = seqLt(seq, tcb.sndMax);
  // The ACK goes with data: both sides talk, and ACKs can wait for the next answer (timers.ts).
  if (tcb.flags & T.F_ACK_PENDING) coldOf(tcb).traits |= T.TRAIT_DELAYS_ACKS;
  if (!emit(tcb, seq, flags, bytes)) return false;
  const next = seq + bytes + (flags & S.FLAG_FIN);
  if (again) {
    countRetransmission(tcb);
  } else {
    recoverySent(tcb, next - seq);
    pacingSent(tcb, bytes);
    noteSmall(tcb, bytes);
  }
  // Before the timing begins: without a flight block its start is when what is in flight was sent.
  if (seqGt(next, tcb.sndMax)) flightSent(tcb, tcb.sndMax, next);
  if (!again) rttTimingStart(tcb, next);
  tcb.sndNxt = next;
  if (seqGt(next, tcb.sndMax)) tcb.sndMax = next;
  return true;
}

/**
 * For Nagle: is a segment smaller than the MSS in flight? Instead of the number where the last one ended we keep
 * whether there was one since all was acknowledged, or more than one. Of one the size of what is in flight tells; of
 * more, or where the MSS has changed meanwhile, it counts until all is acknowledged.
 */
function smallInFlight(tcb: Tcb, mss: u32): bool {
  if (tcb.sndMax == tcb.sndUna) return false;
  const traits = coldOf(tcb).traits;
  if (!(traits & T.TRAIT_SMALL_SENT)) return false;
  return (traits & T.TRAIT_SMALLS_SENT) != 0 || (tcb.sndMax - tcb.sndUna) % mss != 0;
}

/** These bytes leave for the first time. Preconditions: SND.MAX is where they begin. */
function noteSmall(tcb: Tcb, bytes: u32): void {
  const mss = segmentMss(tcb);
  const cold = coldOf(tcb);
  if (bytes < mss ? bytes != 0 : bytes != mss && !isWhole && bytes % mss != 0) {
    if (smallInFlight(tcb, mss)) cold.traits |= T.TRAIT_SMALLS_SENT;
    else cold.traits = (cold.traits | T.TRAIT_SMALL_SENT) & ~T.TRAIT_SMALLS_SENT;
  } else if (tcb.sndMax == tcb.sndUna) {
    cold.traits &= ~(T.TRAIT_SMALL_SENT | T.TRAIT_SMALLS_SENT);
  }
}

/** The next `bytes` bytes never sent before, whatever the congestion window says (RFC 8985 7.3). */
export function emitUnsent(tcb: Tcb, bytes: u32): void {
  const isLast = tcb.sndMax + bytes == tcb.sndBufEnd;
  sendSequenced(tcb, tcb.sndMax, S.FLAG_ACK | (isLast ? S.FLAG_PSH : 0), bytes);
}

/** The segment being built is a path MTU probe: the device must not cut it. */
let isWhole: bool = false;

/** Likewise in one segment, although they are more than the MSS (RFC 4821). @returns false: the TX ring is full. */
export function emitWhole(tcb: Tcb, bytes: u32): bool {
  isWhole = true;
  const sent = sendSequenced(tcb, tcb.sndMax, S.FLAG_ACK, bytes);
  isWhole = false;
  return sent;
}

/** Payload of a full segment that leaves now: SACK blocks need room. */
export function segmentMss(tcb: Tcb): u32 {
  const mss = <u32>tcb.sndMss;
  return tcb.ext == 0 ? mss : mss - sackOptionBytes(tcb, tcb.flags & T.F_TIMESTAMPS ? TIMESTAMP_BYTES : 0);
}

/** Our timestamp value now. */
export function timestampOf(tcb: Tcb): u32 {
  return nowMs + timestampOffsetTo(remoteAt(tcb), tcb.localIndex);
}

/** A window probe (one byte beyond the window, or the FIN) or a keep-alive (an old sequence number). */
function sendProbe(tcb: Tcb): bool {
  if (seqLt(tcb.sndUna, tcb.sndBufEnd) && tcb.sndNxt == tcb.sndUna) {
    // What fits, where silly window avoidance held it back (RFC 9293 3.8.6.2.1, the override timeout); else one byte.
    const bytes = min(max(tcb.sndWnd, 1), min<u32>(tcb.sndBufEnd - tcb.sndUna, segmentMss(tcb)));
    if (!emit(tcb, tcb.sndUna, S.FLAG_ACK | S.FLAG_PSH, bytes)) return false;
    if (seqLt(tcb.sndMax, tcb.sndUna + bytes)) tcb.sndMax = tcb.sndUna + bytes;
    persistArm(tcb);
  } else if (tcb.sndNxt == tcb.sndUna) {
    // RFC 9293 3.8.6.3 (keep-alive): SEG.SEQ = SND.NXT - 1 and no data makes the peer answer.
    if (!emit(tcb, tcb.sndUna - 1, S.FLAG_ACK, 0)) return false;
  }
  tcb.flags &= ~T.F_PROBE;
  return true;
}

/** Largest window that the header field can express on this connection. */
function windowMax(cold: TcbCold): u32 {
  return (<u32>65535) << cold.rcvWscale;
}

/** Window to offer, as the header field; moves RCV.ADV. Never takes back what was offered (RFC 9293 3.8.6). */
function receiveWindowField(tcb: Tcb): u32 {
  const cold = coldOf(tcb);
  const limit = (<u32>1) << cold.rcvLimitOrder;
  const held = tcb.rcvNxt - tcb.rcvRead;
  let room = held < limit ? min<u32>(limit - held, windowMax(cold)) : 0;
  // A pool that runs short is shared: nobody is promised more than half of what is left.
  room = min(room, streamFreeBytes() >> 1);
  const offered = tcb.rcvAdv - tcb.rcvNxt;
  // RFC 9293 3.8.6.2.2: the edge moves by at least a segment or half the buffer.
  if (<i32>(room - offered) < <i32>min<u32>(limit >> 1, tcb.sndMss)) room = offered;
  // Rounded up, so that the edge never seems to move back.
  const shift = <u32>cold.rcvWscale;
  let field = min<u32>((room + (1 << shift) - 1) >> shift, 65535);
  let edge = tcb.rcvNxt + (field << shift);
  if (seqGt(edge, tcb.rcvAdv)) {
    // Not beyond the limit, though: segments of odd lengths would push the edge on for ever (RFC 7323 2.4).
    if (seqGt(edge, tcb.rcvRead + limit)) {
      field = room >> shift;
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
  const headerBytes = TCP_BYTES + optionBytes + sackBytes + ecnBytes + timeoutBytes;
  // Before reserving: a look-up may send a request of its own.
  const neighbor = neighborOf(tcb);
  const isV6 = addressIsV6(tcb.localIndex);
  const headersBytes = (isV6 ? ETH_BYTES + 40 : ETH_BYTES + 20) + headerBytes;
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
  if (sackBytes != 0) sackWrite(tcb, tcp + TCP_BYTES + optionBytes, sackBytes);
  if (ecnBytes != 0) accurateWrite(tcb, tcp + TCP_BYTES + optionBytes + sackBytes, ecnBytes);
  if (timeoutBytes != 0) userTimeoutWrite(tcb, tcp + headerBytes - timeoutBytes);
  if (settingsCount != 0) urgentMark(tcb, tcp, seq);
  tcb.flags &= ~(T.F_ACK_NOW | T.F_ACK_PENDING);
  const tcpBytes = headerBytes + bytes;
  const pseudo = isV6
    ? pseudoHeaderSumV6(addressAt(tcb.localIndex), remoteAt(tcb), PROTOCOL_TCP, tcpBytes)
    : pseudoHeaderSumV4(addressV4(tcb.localIndex), tcb.remoteV4, PROTOCOL_TCP, tcpBytes);
  seal(tcb, frame, tcp, pseudo, isV6 ? VNET_GSO_TCPV6 : VNET_GSO_TCPV4, tcpBytes, seq, bytes);
  const packet = frame + ETH_BYTES;
  if (isV6) {
    const classAndLabel = (ecnCodepoint << 20) | (tcb.hash & FLOW_LABEL_MASK);
    ipv6WriteHeader(packet, tcpBytes, PROTOCOL_TCP, addressAt(tcb.localIndex), remoteAt(tcb), classAndLabel);
  } else {
    ipv4WriteHeader(packet, 20 + tcpBytes, PROTOCOL_TCP, addressV4(tcb.localIndex), tcb.remoteV4, ecnCodepoint);
  }
  if (settingsCount != 0) marksApply(marksOf(tcb), packet, isV6);
  count(TCP_SEGMENTS_SENT);
  if (bytes != 0) {
    accountSent(tcb, bytes <= <u32>tcb.sndMss ? 1 : (bytes - 1) / segmentMss(tcb) + 1);
    if (seqLt(seq, tcb.sndMax)) accountResent(tcb, min(bytes, tcb.sndMax - seq));
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
    const mss = <u32>tcb.sndMss - (headerBytes - TCP_BYTES - (tcb.flags & T.F_TIMESTAMPS ? TIMESTAMP_BYTES : 0));
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

/** The application has read: is the window so much larger that the peer should know (RFC 9293 3.8.6.2.2)? */
export function windowUpdateDue(tcb: Tcb): bool {
  if (tcb.state < STATE_ESTABLISHED || tcb.state > STATE_CLOSE_WAIT || tcb.flags & T.F_FIN_RECEIVED) return false;
  const limit = (<u32>1) << coldOf(tcb).rcvLimitOrder;
  const offered = tcb.rcvAdv - tcb.rcvNxt;
  const held = tcb.rcvNxt - tcb.rcvRead;
  const room = held < limit ? min<u32>(limit - held, windowMax(coldOf(tcb))) : 0;
  if (room <= offered) return false;
  const gained = room - offered;
  return gained >= limit >> 1 || (offered < (<u32>tcb.sndMss) << 1 && gained >= min<u32>(limit >> 1, tcb.sndMss));
}
