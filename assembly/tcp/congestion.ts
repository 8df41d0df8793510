/**
 * Congestion control: one interface (start, grow, reduce, undo) before the algorithms a connection may choose, and what
 * connections without SACK do about losses (NewReno: RFC 5681, RFC 6582). Initial window of ten segments (RFC 6928).
 * Windows are bytes.
 *
 * A connection's algorithm is in TRAIT_CONGESTION_MASK. An algorithm keeps its state in the flight block; without one
 * all grow as Reno does.
 */
import { rtoMinUs } from "../config.ts";
import { TCP_DUPLICATE_ACKS, TCP_FAST_RETRANSMITS } from "../../src/layout/counters.ts";
import { CONGESTION_BBR, CONGESTION_CUBIC, CONGESTION_RENO } from "../../src/layout/option.ts";
import { slowStartAfterIdle } from "../config.ts";
import { count } from "../stats.ts";
import { nowUs } from "../time.ts";
import { congestionOf, CWND_BYTES_MAX, initialWindow } from "./algorithm.ts";
import { bbrRecoveryBegins, bbrUndo } from "./bbr.ts";
import { cubicGrow, cubicReduce, cubicUndo } from "./cubic.ts";
import { Flight, flightOf } from "./flightRecord.ts";
import { hystartRound } from "./hystart.ts";
import { rtoUs } from "./timers.ts";
import { seqGeq } from "./seq.ts";
import { validationAck, validationHolds, validationIdle, validationLoss } from "./validation.ts";
import {
  F_RECOVERY,
  F_RETRANSMIT,
  F_RTO_RECOVERY,
  TRAIT_CWR,
  TRAIT_CWR_STATE,
  TRAIT_ECN,
  TRAIT_LIMITED,
  Tcb,
  coldOf,
} from "./tcb.ts";

export const DUP_ACK_THRESHOLD: u32 = 3;

/**
 * Something is about to be sent after a pause: the window halves for each time-out that it lasted, down to the initial
 * one (RFC 2861, RFC 5681 4.1, as in Linux), or is kept for a while (RFC 7661: validation.ts). BBR's model outlives
 * pauses.
 */
export function congestionIdle(tcb: Tcb): void {
  let pause = nowUs - coldOf(tcb).rttStartUs;
  // No time-out is shorter: the case of nearly every send.
  if (pause <= rtoMinUs) return;
  const floor = initialWindow(tcb);
  if (!slowStartAfterIdle) return;
  if (tcb.cwnd <= floor || congestionOf(tcb) == CONGESTION_BBR) return;
  const rto = rtoUs(tcb);
  if (pause <= rto) return;
  if (validationHolds(tcb)) {
    validationIdle(tcb);
    return;
  }
  tcb.ssthresh = max(tcb.ssthresh, (tcb.cwnd >> 1) + (tcb.cwnd >> 2));
  while (pause > rto && tcb.cwnd > floor) {
    pause -= rto;
    tcb.cwnd >>= 1;
  }
  tcb.cwnd = max(tcb.cwnd, floor);
}

export function congestionStart(tcb: Tcb): void {
  tcb.cwnd = initialWindow(tcb);
  tcb.ssthresh = CWND_BYTES_MAX;
}

/**
 * Something was lost, or ECN says so. The next new data tells a peer that does ECN (RFC 3168 6.1.2: CWR, whatever the
 * reason).
 * @param flightBytes sent and not acknowledged before what told of it.
 * @returns the new ssthresh.
 */
export function congestionReduce(tcb: Tcb, flightBytes: u32): u32 {
  const cold = coldOf(tcb);
  if (cold.traits & TRAIT_ECN) cold.traits |= TRAIT_CWR;
  // Before the algorithm: it may forget what the window was.
  const inUse = validationHolds(tcb) ? validationLoss(tcb) : CWND_BYTES_MAX;
  return min(reduceByAlgorithm(tcb, flightBytes), inUse);
}

function reduceByAlgorithm(tcb: Tcb, flightBytes: u32): u32 {
  const algorithm = congestionOf(tcb);
  // RFC 5681, equation 4.
  if (algorithm == CONGESTION_RENO) return max(flightBytes >> 1, (<u32>tcb.sndMss) << 1);
  // BBR judges losses itself (bbr.ts).
  if (algorithm == CONGESTION_BBR && tcb.flight != 0) {
    bbrRecoveryBegins(flightOf(tcb));
    return tcb.ssthresh;
  }
  return cubicReduce(tcb);
}

/** The reduction was a mistake; the windows are as before. */
export function congestionUndo(tcb: Tcb): void {
  if (tcb.flight == 0) return;
  const algorithm = congestionOf(tcb);
  if (algorithm == CONGESTION_CUBIC) cubicUndo(tcb);
  else if (algorithm == CONGESTION_BBR) bbrUndo(flightOf(tcb));
}

/**
 * New data has been delivered and nothing is amiss, or slow start after a time-out goes on.
 * @param flightBefore bytes in flight before this ACK.
 */
export function congestionGrow(tcb: Tcb, ackedBytes: u32, flightBefore: u32): void {
  const mss = <u32>tcb.sndMss;
  if (slowStartAfterIdle > 1 && validationHolds(tcb) && validationAck(tcb, ackedBytes)) return;
  // RFC 7661: a window that is not used is not grown.
  const limited = (coldOf(tcb).traits & TRAIT_LIMITED) != 0;
  if (tcb.cwnd < tcb.ssthresh) {
    if (!limited && flightBefore + 2 * mss < tcb.cwnd && usedWindow(tcb, flightBefore) << 1 <= tcb.cwnd) return;
    // Deviates: RFC 3465 2.2 limits growth to 2 SMSS per ACK. Like Linux we count all acknowledged bytes, because a
    // peer that takes bursts (GRO, batches) acknowledges once per burst.
    const divisor = tcb.flight == 0 || tcb.flags & F_RTO_RECOVERY ? 1 : hystartRound(tcb, flightOf(tcb));
    const room = tcb.ssthresh - tcb.cwnd;
    const gain = ackedBytes / divisor;
    if (gain <= room) {
      tcb.cwnd = min(tcb.cwnd + gain, CWND_BYTES_MAX);
      return;
    }
    tcb.cwnd = tcb.ssthresh;
    grow(tcb, gain - room);
    return;
  }
  if (!limited && flightBefore + max(2 * mss, tcb.cwnd >> 3) < tcb.cwnd) return;
  grow(tcb, ackedBytes);
}

/** Slow start sees the round trips also in ACKs that report holes (as in Linux), for with reordering most do. */
export function congestionSample(tcb: Tcb, f: Flight): void {
  if (tcb.cwnd < tcb.ssthresh && !(tcb.flags & F_RTO_RECOVERY)) hystartRound(tcb, f);
}

/** Most bytes in flight in the present round trip: it began with the segment that is, or was, timed. */
function usedWindow(tcb: Tcb, flightBefore: u32): u32 {
  return max(flightBefore, tcb.sndMax - coldOf(tcb).rttSeq + <u32>tcb.sndMss);
}

/** Congestion avoidance. */
function grow(tcb: Tcb, ackedBytes: u32): void {
  if (congestionOf(tcb) != CONGESTION_RENO && cubicGrow(tcb, ackedBytes)) return;
  // RFC 5681, equation 3, by bytes.
  const more = max<u32>(1, <u32>((<u64>(<u32>tcb.sndMss) * ackedBytes) / tcb.cwnd));
  tcb.cwnd = min(tcb.cwnd + more, CWND_BYTES_MAX);
}

/**
 * New data has been acknowledged on a connection without SACK; SND.UNA has moved.
 * @param flightBefore bytes in flight before this ACK.
 * @returns true when the retransmission timer should start anew (not for later partial ACKs, RFC 6582 3.2 step 3).
 */
export function congestionAcked(tcb: Tcb, ackedBytes: u32, flightBefore: u32): bool {
  const mss = <u32>tcb.sndMss;
  if (tcb.flags & F_RECOVERY) {
    if (seqGeq(tcb.sndUna, coldOf(tcb).recover)) {
      // Full ACK: deflate (RFC 6582 3.2, step 3, option 1).
      tcb.cwnd = min(tcb.ssthresh, max(tcb.sndMax - tcb.sndUna, mss) + mss);
      tcb.flags &= ~F_RECOVERY;
    } else {
      // Partial ACK: the next hole is known.
      tcb.flags |= F_RETRANSMIT;
      tcb.cwnd = max(mss, (tcb.cwnd > ackedBytes ? tcb.cwnd - ackedBytes : 0) + mss);
      // The "impatient" variant: where more is lost than a timeout's worth of round trips can repair one by one, the
      // timeout ends it, and slow start is faster. The first partial ACK still has the duplicates counted before it.
      return tcb.dupAcks != 0;
    }
    return true;
  }
  const cold = coldOf(tcb);
  if (seqGeq(tcb.sndUna, cold.recover)) {
    tcb.flags &= ~F_RTO_RECOVERY;
    cold.traits &= ~TRAIT_CWR_STATE;
  } else if (cold.traits & TRAIT_CWR_STATE) {
    // In the round trip of a reduction for ECN nothing grows.
    return true;
  }
  congestionGrow(tcb, ackedBytes, flightBefore);
  return true;
}

/** A duplicate ACK (RFC 5681 2) has arrived on a connection without SACK. */
export function congestionDuplicateAck(tcb: Tcb): void {
  count(TCP_DUPLICATE_ACKS);
  const mss = <u32>tcb.sndMss;
  if (tcb.flags & F_RECOVERY) {
    tcb.cwnd = min(tcb.cwnd + mss, CWND_BYTES_MAX);
    return;
  }
  if (tcb.dupAcks < 255) tcb.dupAcks++;
  if (<u32>tcb.dupAcks != DUP_ACK_THRESHOLD) return;
  // RFC 6582 3.2 step 2: not for ACKs of what was sent before the last time-out. (`recover` itself is only looked at
  // while a recovery lasts: after two gigabytes without loss it would seem to lie ahead.)
  if (tcb.flags & F_RTO_RECOVERY) return;
  count(TCP_FAST_RETRANSMITS);
  tcb.ssthresh = congestionReduce(tcb, tcb.sndMax - tcb.sndUna);
  tcb.cwnd = tcb.ssthresh + DUP_ACK_THRESHOLD * mss;
  coldOf(tcb).recover = tcb.sndMax;
  tcb.flags |= F_RECOVERY | F_RETRANSMIT;
}

/** The retransmission timer has fired, and the connection goes back to SND.UNA. */
export function congestionTimeout(tcb: Tcb): void {
  // RFC 5681 3.1: once for each loss, not for each time-out of the same segment.
  if (!(tcb.flags & F_RTO_RECOVERY)) tcb.ssthresh = congestionReduce(tcb, tcb.sndMax - tcb.sndUna);
  tcb.cwnd = tcb.sndMss;
  coldOf(tcb).recover = tcb.sndMax;
  tcb.flags = (tcb.flags & ~(F_RECOVERY | F_RETRANSMIT)) | F_RTO_RECOVERY;
  tcb.dupAcks = 0;
}

/** Bytes that may be in flight now; the first two duplicate ACKs let one new segment each out (RFC 3042). */
export function congestionWindow(tcb: Tcb): u32 {
  if (tcb.dupAcks == 0 || tcb.flags & F_RECOVERY) return tcb.cwnd;
  return tcb.cwnd + min<u32>(tcb.dupAcks, 2) * <u32>tcb.sndMss;
}
