/**
 * 5. Output: what to send, and building it. Runs once per turn for every connection that was marked, after input and
 * the application have had their say: so a response carries the ACK, and a burst of segments is answered by one ACK.
 * RFC 9293 3.8.6.2 (silly window avoidance, Nagle), 3.8.6.1 (probes), 3.8.6.3 (delayed ACKs).
 */
import { emit, emitInOne, isWhole } from "./emit.ts";
import { pureSeq, segmentMss } from "./sizes.ts";
import { tsoBytesMax } from "../config.ts";
import {
  STATE_CLOSED,
  STATE_CLOSE_WAIT,
  STATE_ESTABLISHED,
  STATE_FREE,
  STATE_SYN_SENT,
  STATE_TIME_WAIT,
} from "../../src/layout/option.ts";
import { congestionIdle, congestionWindow } from "./congestion.ts";
import { accurateForbidsCutting } from "./accurateEcn.ts";
import { isFastOpenChild } from "./fastOpen.ts";
import { FLIGHT_NEW_FIRST, flightIsClean, flightOf, pipeBytes } from "./flightRecord.ts";
import { flightSent } from "./flight.ts";
import { HELD_BY_BUFFER, HELD_BY_WINDOW, HELD_NOT, historyOutput } from "./history.ts";
import { lossTimerArm } from "./rack.ts";
import { mtuProbeBytes, mtuProbed } from "./mtuProbe.ts";
import { sendSyn } from "./plainOutput.ts";
import { pacingAllows, pacingSent } from "./pacing.ts";
import { recoverySent } from "./recovery.ts";
import { countRetransmission, isSelective, resendFirst, resendLost } from "./retransmit.ts";
import * as S from "./segment.ts";
import { seqGt, seqLt, seqMin } from "./seq.ts";
import { SETTING_CORK, settingsCount, settingsHas, settingsPushed } from "./settings.ts";
import * as T from "./tcb.ts";
import { Tcb, coldOf } from "./tcb.ts";
import { LOSS_TIMERS, delackArm, persistArm, rttTimingStart } from "./timers.ts";
import { urgentIsQueued } from "./urgent.ts";
import { windowRoom } from "./window.ts";

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

/** New data, as far as the windows, Nagle and silly window avoidance allow. @returns false: the TX ring is full. */
function sendData(tcb: Tcb): bool {
  if (tcb.sndMax == tcb.sndUna) congestionIdle(tcb);
  const from = tcb.sndNxt;
  if (settingsCount != 0 && coldOf(tcb).traits & T.TRAIT_MTU_SEARCH) sendMtuProbe(tcb);
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

/** A path MTU probe, when one is due (RFC 4821). Before new data is sent. */
function sendMtuProbe(tcb: Tcb): void {
  const seq = tcb.sndMax;
  const bytes = mtuProbeBytes(tcb);
  if (bytes != 0 && emitWhole(tcb, bytes)) mtuProbed(tcb, seq, bytes);
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
  const waits = seqLt(tcb.sndNxt, tcb.sndBufEnd);
  const limited = waits && seqLt(congestionEdge, windowEdge);
  if (limited != ((cold.traits & T.TRAIT_LIMITED) != 0)) cold.traits ^= T.TRAIT_LIMITED;
  if (waits || tcb.flags & T.F_WANT_WRITABLE || cold.traits & T.TRAIT_HISTORY) {
    let held = HELD_NOT;
    if (!waits) {
      const isShort = tcb.flags & T.F_WANT_WRITABLE && tcb.sndNxt != first && seqLt(tcb.sndNxt, congestionEdge);
      if (isShort) held = HELD_BY_BUFFER;
    } else if (!limited && seqLt(windowEdge, tcb.sndNxt + min(tcb.sndBufEnd - tcb.sndNxt, mss))) {
      held = HELD_BY_WINDOW;
    }
    if (held != HELD_NOT || cold.traits & T.TRAIT_HISTORY) historyOutput(tcb, held);
  }
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
  const mss = tcb.ext == 0 ? <u32>tcb.sndMss : segmentMss(tcb);
  const isSmall = bytes < mss ? bytes != 0 : bytes != mss && !isWhole && bytes % mss != 0;
  if (tcb.sndMax == tcb.sndUna) {
    // Most requests and answers: as it was for the one before.
    const cold = coldOf(tcb);
    const sent = cold.traits & (T.TRAIT_SMALL_SENT | T.TRAIT_SMALLS_SENT);
    const due = isSmall ? T.TRAIT_SMALL_SENT : 0;
    if (sent != due) cold.traits ^= sent ^ due;
  } else if (isSmall) {
    const cold = coldOf(tcb);
    if (smallInFlight(tcb, mss)) cold.traits |= T.TRAIT_SMALLS_SENT;
    else cold.traits = (cold.traits | T.TRAIT_SMALL_SENT) & ~T.TRAIT_SMALLS_SENT;
  }
}

/** The next `bytes` bytes never sent before, whatever the congestion window says (RFC 8985 7.3). */
export function emitUnsent(tcb: Tcb, bytes: u32): void {
  const isLast = tcb.sndMax + bytes == tcb.sndBufEnd;
  sendSequenced(tcb, tcb.sndMax, S.FLAG_ACK | (isLast ? S.FLAG_PSH : 0), bytes);
}

/** Likewise in one segment, although they are more than the MSS (RFC 4821). @returns false: the TX ring is full. */
function emitWhole(tcb: Tcb, bytes: u32): bool {
  emitInOne(true);
  const sent = sendSequenced(tcb, tcb.sndMax, S.FLAG_ACK, bytes);
  emitInOne(false);
  return sent;
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

/** The application has read: is the window so much larger that the peer should know (RFC 9293 3.8.6.2.2)? */
export function windowUpdateDue(tcb: Tcb): bool {
  if (tcb.state < STATE_ESTABLISHED || tcb.state > STATE_CLOSE_WAIT || tcb.flags & T.F_FIN_RECEIVED) return false;
  const limit = (<u32>1) << coldOf(tcb).rcvLimitOrder;
  const offered = tcb.rcvAdv - tcb.rcvNxt;
  const room = windowRoom(tcb);
  if (room <= offered) return false;
  const gained = room - offered;
  return gained >= limit >> 1 || (offered < (<u32>tcb.sndMss) << 1 && gained >= min<u32>(limit >> 1, tcb.sndMss));
}
