/** Fifth check of RFC 9293 3.10.7.4: the ACK field and the send window of an acceptable segment. */
import { TCP_DUPLICATE_ACKS } from "../../src/layout/counters.ts";
import { EVENT_WRITABLE } from "../../src/layout/event.ts";
import { STATE_ESTABLISHED } from "../../src/layout/option.ts";
import { sndBufferRelease } from "../socket/buffers.ts";
import { count } from "../stats.ts";
import { nowMs, nowTick, nowUs } from "../time.ts";
import { accountAcked, accountDrained } from "./account.ts";
import { confirmNeighbor, timestampOffsetOfSegment } from "./addresses.ts";
import { challengeAck, challengePureAck } from "./challenge.ts";
import { eventPost } from "./events.ts";
import { ecnAckBegin, ecnAcked } from "./ecn.ts";
import { congestionAcked, congestionDuplicateAck, congestionGrow } from "./congestion.ts";
import { flightAckBegin, flightAcked, flightEnsure } from "./flight.ts";
import { historyAcked } from "./history.ts";
import { mtuAcked } from "./mtuProbe.ts";
import { outputMark } from "./outputQueue.ts";
import { lossTimerArm, reoTimerArm } from "./rack.ts";
import { recoveryAck, recoveryIsIdle } from "./recovery.ts";
import { isSelective } from "./retransmit.ts";
import { sackReceived } from "./sack.ts";
import * as S from "./segment.ts";
import { seqGeq, seqGt, seqLeq, seqLt } from "./seq.ts";
import { settingsCount } from "./settings.ts";
import { softErrorForget } from "./softError.ts";
import * as T from "./tcb.ts";
import { Tcb, coldOf } from "./tcb.ts";
import { LOSS_TIMERS, rtoArm, rtoDisarm, rttSample } from "./timers.ts";

/** Back-off that outlives an ACK without an RTT sample. */
const KEPT_BACKOFF_MAX: u8 = 4;

/** @returns false when the segment must be dropped. */
export function ackProcess(tcb: Tcb): bool {
  const ack = S.segAck;
  if (seqGt(ack, tcb.sndMax) || seqLt(ack, tcb.sndUna - coldOf(tcb).sndWndMax - 1)) {
    // Acknowledges what was never sent, or is older than any window (RFC 5961 5.2).
    if (S.segLen == 0) challengePureAck(tcb);
    else challengeAck(tcb);
    return false;
  }
  const cold = coldOf(tcb);
  // The peer lives: what keep-alive and window probes ask for.
  cold.lastRcvTick = nowTick;
  cold.unanswered = 0;
  const wnd = S.segWndField << cold.sndWscale;
  const advances = seqGt(ack, tcb.sndUna);
  if (S.segSackBlocks != 0 && tcb.sndMax != tcb.sndUna && tcb.sndNxt == tcb.sndMax && cold.traits & T.TRAIT_SACK) {
    // What is in flight must be entered before reports about it are. Without memory they are not believed.
    flightEnsure(tcb);
  }
  if (cold.traits & (T.TRAIT_ECN | T.TRAIT_SOFT_ERROR_MASK)) {
    if (advances) softErrorForget(tcb);
    if (cold.traits & T.TRAIT_ECN) ecnAckBegin(tcb);
  }
  if (advances) {
    newAck(tcb, ack);
  } else if (isSelective(tcb)) {
    if (S.segSackBlocks != 0 || isDuplicate(tcb, wnd)) selectiveAck(tcb);
  } else if (isDuplicate(tcb, wnd)) {
    congestionDuplicateAck(tcb);
    outputMark(tcb);
  }
  if (cold.traits & (T.TRAIT_ACCURATE_ECN | T.TRAIT_HISTORY)) {
    if (cold.traits & T.TRAIT_ACCURATE_ECN) ecnAcked(tcb);
    if (cold.traits & T.TRAIT_HISTORY) historyAcked(tcb);
  }
  // RFC 9293 3.10.7.4: older segments must not change the window.
  // Deviates: an ACK of new data always does (like Linux). A retransmission has a small SEG.SEQ, yet its window belongs
  // to its ACK; the old window beside the new SND.UNA would put the right edge beyond what was ever offered.
  // SND.WL2 needs no keeping: it is never beyond SND.UNA.
  const newer = seqLeq(tcb.sndWl1, S.segSeq);
  if (advances || (ack == tcb.sndUna && newer)) {
    if (wnd > tcb.sndWnd && seqLt(tcb.sndNxt, tcb.sndBufEnd)) outputMark(tcb);
    if (tcb.sndWnd == 0 && wnd > 0 && tcb.flags & T.F_TIMER_PERSIST) {
      rtoDisarm(tcb);
      tcb.backoff = 0;
    }
    tcb.sndWnd = wnd;
    tcb.sndWl1 = S.segSeq;
    if (wnd > cold.sndWndMax) cold.sndWndMax = wnd;
  }
  return true;
}

/** RFC 5681 2: nothing new in it, though something is outstanding. The answer to a window probe is none. */
function isDuplicate(tcb: Tcb, wnd: u32): bool {
  if (S.segLen != 0 || S.segAck != tcb.sndUna || wnd != tcb.sndWnd || tcb.sndMax == tcb.sndUna) return false;
  return wnd != 0 && !(tcb.flags & T.F_TIMER_PERSIST) && tcb.state >= STATE_ESTABLISHED;
}

function newAck(tcb: Tcb, ack: u32): void {
  const flight = tcb.sndMax - tcb.sndUna;
  const acked = ack - tcb.sndUna;
  const cold = coldOf(tcb);
  let backoff: u8 = 0;
  if (tcb.flags & T.F_RTT_TIMING && seqGeq(ack, cold.rttSeq)) {
    tcb.flags &= ~T.F_RTT_TIMING;
    rttSample(tcb, nowUs - cold.rttStartUs);
    confirmNeighbor(tcb);
  } else if (tcb.backoff > 0 && S.segHasTimestamps && S.segTsEcr != 0) {
    // After a retransmission only the echoed timestamp tells which copy was acknowledged (RFC 7323 4.1).
    const rttMs = nowMs + timestampOffsetOfSegment() - S.segTsEcr;
    if (rttMs < 120000) rttSample(tcb, rttMs * 1000);
  } else if (tcb.backoff > 0 && tcb.flags & LOSS_TIMERS) {
    // Karn: without a sample the backed-off timeout stays (RFC 6298 5, last note), bounded so that progress, however
    // slow, never counts as silence.
    backoff = min<u8>(tcb.backoff, KEPT_BACKOFF_MAX);
  }
  const queued = seqLt(tcb.sndUna, tcb.sndBufEnd) ? tcb.sndBufEnd - tcb.sndUna : 0;
  const una = tcb.sndUna;
  // Without an account of what is in flight, and without news that would start one, there is nothing to keep.
  if (tcb.flight != 0) {
    flightAckBegin(tcb);
    flightAcked(tcb, ack);
  }
  tcb.sndUna = ack;
  accountAcked(tcb, una);
  if (seqLt(tcb.sndNxt, ack)) tcb.sndNxt = ack;
  if (settingsCount != 0 && cold.traits & T.TRAIT_MTU_SEARCH) mtuAcked(tcb);
  tcb.backoff = backoff;
  let restart = true;
  let reorderingUs: u32 = 0;
  if (isSelective(tcb)) {
    // The case of nearly every ACK: nothing is amiss, and it says nothing of that kind.
    if (S.segSackBlocks == 0 && recoveryIsIdle(tcb)) {
      congestionGrow(tcb, acked, flight);
    } else {
      if (S.segSackBlocks != 0) sackReceived(tcb, una);
      reorderingUs = recoveryAck(tcb, true, flight);
    }
  } else {
    restart = congestionAcked(tcb, acked, flight);
  }
  tcb.dupAcks = 0;
  if (ack == tcb.sndMax) rtoDisarm(tcb);
  else if (reorderingUs != 0) reoTimerArm(tcb, reorderingUs);
  else if (restart) lossTimerArm(tcb);
  if (acked >= queued && tcb.sndBuf != 0) {
    if (queued != 0) accountDrained(tcb);
    sndBufferRelease(tcb);
  }
  if (tcb.flags & T.F_WANT_WRITABLE) writable(tcb);
  if (seqLt(tcb.sndNxt, tcb.sndBufEnd) || tcb.flags & (T.F_FIN_QUEUED | T.F_RETRANSMIT)) outputMark(tcb);
}

/** An ACK that does not move SND.UNA, on a connection that keeps account of what is in flight. */
function selectiveAck(tcb: Tcb): void {
  const flight = tcb.sndMax - tcb.sndUna;
  count(TCP_DUPLICATE_ACKS);
  flightAckBegin(tcb);
  sackReceived(tcb, tcb.sndUna);
  const reorderingUs = recoveryAck(tcb, false, flight);
  if (flight == 0) return;
  if (reorderingUs != 0) reoTimerArm(tcb, reorderingUs);
  else if (tcb.flags & (T.F_TIMER_REO | T.F_TIMER_TLP)) rtoArm(tcb);
}

/** Below this round-trip time few large writes are worth more than a full pipe. */
const SHORT_RTT_US: u32 = 1000;

/**
 * A send was cut short: the application is told when an eighth of the limit is free, so that it does not write crumbs.
 * Deviates: Linux waits for a third, of a buffer that it sizes to twice the window; of one no larger than the path
 * needs a third is what would be missing in flight. Where the round trip is short it is a third here too.
 */
function writable(tcb: Tcb): void {
  // The pool may have given less.
  const order = tcb.sndBuf != 0 ? <u32>tcb.sndBufOrder : 31;
  const limit = (<u32>1) << min(order, <u32>coldOf(tcb).sndLimitOrder);
  const crumb = tcb.srttUs8 >> 3 < SHORT_RTT_US ? limit / 3 : limit >> 3;
  if (tcb.sndBufEnd - tcb.sndUna > limit - crumb) return;
  tcb.flags &= ~T.F_WANT_WRITABLE;
  eventPost(tcb, EVENT_WRITABLE);
}
