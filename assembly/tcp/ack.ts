/** Fifth check of RFC 9293 3.10.7.4: the ACK field and the send window of an acceptable segment. */
import { EVENT_WRITABLE } from "../../src/layout/event.ts";
import { STATE_ESTABLISHED } from "../../src/layout/option.ts";
import { sndBufferRelease } from "../socket/buffers.ts";
import { nowMs, nowTick, nowUs } from "../time.ts";
import { confirmNeighbor, timestampOffsetOfSegment } from "./addresses.ts";
import { challengeAck, challengePureAck } from "./challenge.ts";
import { eventPost } from "./close.ts";
import { congestionAcked, congestionDuplicateAck } from "./congestion.ts";
import { outputMark } from "./outputQueue.ts";
import * as S from "./segment.ts";
import { seqGeq, seqGt, seqLeq, seqLt } from "./seq.ts";
import * as T from "./tcb.ts";
import { Tcb, coldOf } from "./tcb.ts";
import { rtoArm, rtoDisarm, rttSample } from "./timers.ts";

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
  if (advances) {
    newAck(tcb, ack);
  } else if (isDuplicate(tcb, wnd)) {
    congestionDuplicateAck(tcb);
    outputMark(tcb);
  }
  // RFC 9293 3.10.7.4: older segments must not change the window.
  // Deviates: an ACK of new data always does (like Linux). A retransmission has a small SEG.SEQ, yet its window belongs
  // to its ACK; the old window beside the new SND.UNA would put the right edge beyond what was ever offered.
  const newer = seqLt(tcb.sndWl1, S.segSeq) || (tcb.sndWl1 == S.segSeq && seqLeq(tcb.sndWl2, ack));
  if (advances || (ack == tcb.sndUna && newer)) {
    if (wnd > tcb.sndWnd && seqLt(tcb.sndNxt, tcb.sndBufEnd)) outputMark(tcb);
    if (tcb.sndWnd == 0 && wnd > 0 && tcb.flags & T.F_TIMER_PERSIST) {
      rtoDisarm(tcb);
      tcb.backoff = 0;
    }
    tcb.sndWnd = wnd;
    tcb.sndWl1 = S.segSeq;
    tcb.sndWl2 = ack;
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
  } else if (tcb.backoff > 0 && tcb.flags & T.F_TIMER_RTO) {
    // Karn: without a sample the backed-off timeout stays (RFC 6298 5, last note), bounded so that progress, however
    // slow, never counts as silence.
    backoff = min<u8>(tcb.backoff, KEPT_BACKOFF_MAX);
  }
  const queued = seqLt(tcb.sndUna, tcb.sndBufEnd) ? tcb.sndBufEnd - tcb.sndUna : 0;
  tcb.sndUna = ack;
  if (seqLt(tcb.sndNxt, ack)) tcb.sndNxt = ack;
  tcb.backoff = backoff;
  const restart = congestionAcked(tcb, acked, flight);
  tcb.dupAcks = 0;
  if (ack == tcb.sndMax) rtoDisarm(tcb);
  else if (restart) rtoArm(tcb);
  if (acked >= queued) sndBufferRelease(tcb);
  if (tcb.flags & T.F_WANT_WRITABLE) writable(tcb);
  if (seqLt(tcb.sndNxt, tcb.sndBufEnd) || tcb.flags & (T.F_FIN_QUEUED | T.F_RETRANSMIT)) outputMark(tcb);
}

/**
 * A send was cut short: the application is told when a third of the limit is free, so that it does not write crumbs.
 */
function writable(tcb: Tcb): void {
  const limit = (<u32>1) << coldOf(tcb).sndLimitOrder;
  if (tcb.sndBufEnd - tcb.sndUna > limit - limit / 3) return;
  tcb.flags &= ~T.F_WANT_WRITABLE;
  eventPost(tcb, EVENT_WRITABLE);
}
