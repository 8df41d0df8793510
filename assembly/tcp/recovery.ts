/**
 * Loss recovery of connections with SACK, in Linux's states: open, recovery (F_RECOVERY), reduction for ECN
 * (TRAIT_CWR_STATE), loss after a time-out (F_RTO_RECOVERY). Proportional rate reduction (RFC 6937, RFC 9937), F-RTO
 * (RFC 5682), and taking a reduction back that was a mistake (D-SACK: RFC 3708; timestamps: RFC 4015).
 * Connections without SACK, and without a flight block, recover as NewReno (congestion.ts).
 */
import { TCP_FAST_RETRANSMITS, TCP_SPURIOUS_RECOVERIES } from "../../src/layout/counters.ts";
import { CONGESTION_BBR } from "../../src/layout/option.ts";
import { count } from "../stats.ts";
import { nowUs } from "../time.ts";
import { bbrAck } from "./bbr.ts";
import { congestionOf } from "./algorithm.ts";
import { duplicatesAge } from "./duplicates.ts";
import { congestionGrow, congestionReduce, congestionSample, congestionUndo } from "./congestion.ts";
import {
  Flight,
  FLIGHT_DSACK,
  FLIGHT_FRTO,
  FLIGHT_NEW_FIRST,
  FLIGHT_REORDERED,
  FLIGHT_UNDO,
  FLIGHT_UNDO_SENT,
  flightOf,
  pipeBytes,
  REORDERED_SHIFT,
  RUN_LOST,
  RUN_RETRANS,
  RUN_SACKED,
  runAt,
} from "./flightRecord.ts";
import {
  ackDelivered,
  ackLost,
  ackOriginal,
  ackSacked,
  flightEnsure,
  flightNoteReordered,
  flightUnlose,
  flightUnsack,
  runLost,
} from "./flight.ts";
import { mtuProbeLost } from "./mtuProbe.ts";
import { outputMark } from "./outputQueue.ts";
import { DUP_THRESHOLD, rackAdapt, rackDetect, rackRecovered, tlpAcked } from "./rack.ts";
import { ackHasDsack } from "./sack.ts";
import * as S from "./segment.ts";
import { seqGeq, seqGt, seqLt } from "./seq.ts";
import * as T from "./tcb.ts";
import { Tcb, coldOf } from "./tcb.ts";
import { validationHolds, validationRecovered } from "./validation.ts";

/**
 * Processes an ACK of a connection with a flight block; SND.UNA has moved and SACK blocks are entered.
 * @param flightBefore bytes in flight before the ACK.
 * @returns microseconds until the reordering window ends, 0: nothing waits for it.
 */
export function recoveryAck(tcb: Tcb, advanced: bool, flightBefore: u32): u32 {
  const f = flightOf(tcb);
  rackAdapt(tcb, f);
  let timeout = rackDetect(tcb, f);
  undone = false;
  if (tlpAcked(tcb, f, advanced)) reduceOnce(tcb, f, flightBefore);
  if (tcb.flags & T.F_RTO_RECOVERY) lossAck(tcb, f, advanced);
  else if (tcb.flags & T.F_RECOVERY) recoveringAck(tcb, f, advanced);
  else openAck(tcb, f);
  // What was judged lost with the rest may still be.
  if (undone) timeout = rackDetect(tcb, f);
  if (!(tcb.flags & (T.F_RECOVERY | T.F_RTO_RECOVERY)) && f.lostBytes != f.retransBytes) {
    lossFound(tcb, f, flightBefore);
  }
  if (congestionOf(tcb) == CONGESTION_BBR) bbrAck(tcb);
  else if (isReducing(tcb)) proportionalAck(tcb, f, advanced);
  else if (advanced || (ackDelivered != 0 && isReordering(tcb, f))) congestionGrow(tcb, ackDelivered, flightBefore);
  else congestionSample(tcb, f);
  if (f.lostBytes != f.retransBytes || !advanced) outputMark(tcb);
  return timeout;
}

/**
 * Has something come more than DUP_THRESHOLD segments late? Then most ACKs tell of holes that are none, and what they
 * report beyond them lets the window grow as well (as in Linux's tcp_may_raise_cwnd).
 */
function isReordering(tcb: Tcb, f: Flight): bool {
  return (<u32>f.reordered) << REORDERED_SHIFT > DUP_THRESHOLD * <u32>tcb.sndMss;
}

/** True when an ACK without SACK blocks can only let the window grow. Preconditions: there is a flight block. */
export function recoveryIsIdle(tcb: Tcb): bool {
  const f = flightOf(tcb);
  if ((f.sackedBytes | f.lostBytes | <u32>f.tlp) != 0 || f.flags & FLIGHT_DSACK) return false;
  if (tcb.flags & (T.F_RECOVERY | T.F_RTO_RECOVERY)) return false;
  const traits = coldOf(tcb).traits;
  return (
    (traits & T.TRAIT_CWR_STATE) == 0 &&
    (traits & T.TRAIT_CONGESTION_MASK) >> T.TRAIT_CONGESTION_SHIFT != CONGESTION_BBR
  );
}

/**
 * Losses found by the reordering timer. No ACK clocks out what is sent now, so it is no burst: as in Linux the timer
 * that begins a recovery counts as the delivery of a segment. In one that lasts, what the account of proportional rate
 * reduction has left goes, and one segment in any case.
 * Preconditions: flightAckBegin, since when the losses were found.
 */
export function recoveryLostByTime(tcb: Tcb, f: Flight): void {
  if (f.lostBytes == f.retransBytes) return;
  // A reduction for ECN goes on in the recovery, and so does its account.
  const begins = !isReducing(tcb);
  if (!(tcb.flags & (T.F_RECOVERY | T.F_RTO_RECOVERY))) lossFound(tcb, f, tcb.sndMax - tcb.sndUna);
  if (!(tcb.flags & T.F_RECOVERY)) return;
  const mss = <u32>tcb.sndMss;
  if (congestionOf(tcb) == CONGESTION_BBR) {
    tcb.cwnd = max(tcb.cwnd, pipeBytes(tcb) + mss);
    return;
  }
  reduceInProportion(tcb, f, begins ? mss : 0, false);
  tcb.cwnd = max(tcb.cwnd, pipeBytes(tcb) + mss);
}

function isReducing(tcb: Tcb): bool {
  return (tcb.flags & T.F_RECOVERY) != 0 || (coldOf(tcb).traits & T.TRAIT_CWR_STATE) != 0;
}

/** Remembers what must be known to take the reduction back. */
function undoBegin(tcb: Tcb, f: Flight): void {
  f.priorCwnd = tcb.cwnd;
  f.priorSsthresh = tcb.ssthresh;
  f.undoMarker = tcb.sndUna;
  duplicatesAge(f);
  f.undoRetrans = 0;
  f.flags = (f.flags | FLIGHT_UNDO) & ~FLIGHT_UNDO_SENT;
}

/**
 * The window shrinks to ssthresh as data is delivered, from here on until SND.MAX of now is acknowledged.
 * @param flightBefore bytes in flight before the ACK.
 */
function reductionBegin(tcb: Tcb, f: Flight, flightBefore: u32): void {
  f.prrDelivered = 0;
  f.prrOut = 0;
  // What was in flight before this ACK's reports (RFC 9937 6.1: RecoverFS).
  f.recoverFlight = max(tcb.sndMax - tcb.sndUna - f.sackedBytes + ackDelivered, 1);
  tcb.ssthresh = congestionReduce(tcb, flightBefore);
  coldOf(tcb).recover = tcb.sndMax;
}

function lossFound(tcb: Tcb, f: Flight, flightBefore: u32): void {
  if (!mtuProbeLost(tcb, f)) enterRecovery(tcb, f, flightBefore);
}

function enterRecovery(tcb: Tcb, f: Flight, flightBefore: u32): void {
  count(TCP_FAST_RETRANSMITS);
  const cold = coldOf(tcb);
  if (!(cold.traits & T.TRAIT_CWR_STATE)) {
    undoBegin(tcb, f);
    reductionBegin(tcb, f, flightBefore);
  }
  cold.recover = tcb.sndMax;
  cold.traits &= ~T.TRAIT_CWR_STATE;
  tcb.flags |= T.F_RECOVERY;
  f.tlp = 0;
}

/**
 * ECN's echo: as for a loss, but there is nothing to send again (RFC 3168 6.1.2). Once per round trip.
 * @param flightBefore bytes in flight before the ACK that brings it.
 */
export function recoveryCongestionEcho(tcb: Tcb, flightBefore: u32): bool {
  if (tcb.flags & (T.F_RECOVERY | T.F_RTO_RECOVERY) || coldOf(tcb).traits & T.TRAIT_CWR_STATE) return false;
  if (!flightEnsure(tcb)) return false;
  const f = flightOf(tcb);
  undoBegin(tcb, f);
  f.flags &= ~FLIGHT_UNDO;
  reductionBegin(tcb, f, flightBefore);
  coldOf(tcb).traits |= T.TRAIT_CWR_STATE;
  return true;
}

/** A tail loss probe has repaired a loss: the window is reduced at once (RFC 8985 7.4.2). */
function reduceOnce(tcb: Tcb, f: Flight, flightBefore: u32): void {
  if (isReducing(tcb) || tcb.flags & T.F_RTO_RECOVERY) return;
  undoBegin(tcb, f);
  f.flags &= ~FLIGHT_UNDO;
  reductionBegin(tcb, f, flightBefore);
  tcb.cwnd = min(tcb.cwnd, tcb.ssthresh);
  // Begun and over at once: one segment was sent again.
  if (validationHolds(tcb)) validationRecovered(tcb, <u32>tcb.sndMss);
}

function proportionalAck(tcb: Tcb, f: Flight, advanced: bool): void {
  if (ackDelivered != 0) reduceInProportion(tcb, f, ackDelivered, advanced);
}

/** RFC 9937 6.2: so much as to reach ssthresh when all that was in flight has been delivered. */
function reduceInProportion(tcb: Tcb, f: Flight, delivered: u32, advanced: bool): void {
  const mss = <u32>tcb.sndMss;
  f.prrDelivered += delivered;
  // The reduction was begun without a flight block (ECN without SACK, or a full pool), or that has been given back
  // since: its account begins here.
  if (f.recoverFlight == 0) f.recoverFlight = max(tcb.sndMax - tcb.sndUna - f.sackedBytes + delivered, 1);
  const pipe = pipeBytes(tcb);
  let sendable: i64;
  if (pipe > tcb.ssthresh) {
    const share = (<u64>f.prrDelivered * tcb.ssthresh + f.recoverFlight - 1) / f.recoverFlight;
    sendable = <i64>share - f.prrOut;
  } else {
    sendable = max(<i64>f.prrDelivered - f.prrOut, <i64>delivered);
    // It is safe to go up when the ACK moves on and nothing more is lost.
    if (advanced && ackLost == 0) sendable += mss;
    sendable = min(sendable, <i64>(tcb.ssthresh - pipe));
  }
  // The first retransmission goes in any case.
  sendable = max<i64>(sendable, f.prrOut == 0 ? mss : 0);
  tcb.cwnd = max(pipe + <u32>sendable, mss);
}

/** Bytes have been sent while the window is being reduced. */
export function recoverySent(tcb: Tcb, bytes: u32): void {
  if (tcb.flight != 0 && isReducing(tcb)) flightOf(tcb).prrOut += bytes;
}

/** A retransmission leaves, with this timestamp value. */
export function recoveryResent(tcb: Tcb, bytes: u32, tsVal: u32): void {
  const f = flightOf(tcb);
  f.undoRetrans += <i32>bytes;
  if (f.flags & FLIGHT_UNDO_SENT) return;
  f.flags |= FLIGHT_UNDO_SENT;
  f.retransTsVal = tsVal;
}

/** Everything sent again has been reported as a duplicate (RFC 3708). */
function allWereDuplicates(f: Flight): bool {
  return (f.flags & (FLIGHT_UNDO | FLIGHT_UNDO_SENT)) == (FLIGHT_UNDO | FLIGHT_UNDO_SENT) && f.undoRetrans <= 0;
}

/** This ACK was caused by a first copy: it echoes a timestamp from before the first retransmission (RFC 4015). */
function wasDelayed(tcb: Tcb, f: Flight): bool {
  if (!(f.flags & FLIGHT_UNDO)) return false;
  if (!(f.flags & FLIGHT_UNDO_SENT)) return true;
  if (!(tcb.flags & T.F_TIMESTAMPS) || !S.segHasTimestamps || S.segTsEcr == 0) return false;
  return <i32>(S.segTsEcr - f.retransTsVal) < 0;
}

/** The ACK being processed has taken a reduction back. */
let undone: bool = false;

function undo(tcb: Tcb, f: Flight): void {
  undone = true;
  count(TCP_SPURIOUS_RECOVERIES);
  flightUnlose(tcb);
  tcb.cwnd = max(tcb.cwnd, f.priorCwnd);
  tcb.ssthresh = max(tcb.ssthresh, f.priorSsthresh);
  congestionUndo(tcb);
  f.flags &= ~(FLIGHT_UNDO | FLIGHT_UNDO_SENT | FLIGHT_FRTO | FLIGHT_NEW_FIRST);
  tcb.flags &= ~(T.F_RECOVERY | T.F_RTO_RECOVERY | T.F_RETRANSMIT);
  coldOf(tcb).traits &= ~(T.TRAIT_CWR_STATE | T.TRAIT_CWR);
}

function openAck(tcb: Tcb, f: Flight): void {
  const cold = coldOf(tcb);
  if (ackHasDsack && allWereDuplicates(f)) {
    undo(tcb, f);
    return;
  }
  if (seqGeq(tcb.sndUna, cold.recover)) recoveryEchoOver(tcb);
}

/** The round trip of an echo has ended with it. */
export function recoveryEchoOver(tcb: Tcb): void {
  const cold = coldOf(tcb);
  if (!(cold.traits & T.TRAIT_CWR_STATE)) return;
  endReduction(tcb);
  cold.traits &= ~T.TRAIT_CWR_STATE;
}

/** The window has come down to ssthresh. BBR keeps its own. */
function endReduction(tcb: Tcb): void {
  if (congestionOf(tcb) == CONGESTION_BBR) return;
  tcb.cwnd = max(tcb.ssthresh, <u32>tcb.sndMss);
  if (validationHolds(tcb)) validationRecovered(tcb, <u32>max(flightOf(tcb).undoRetrans, 0));
}

function recoveringAck(tcb: Tcb, f: Flight, advanced: bool): void {
  const whole = seqGeq(tcb.sndUna, coldOf(tcb).recover);
  const delayed = advanced && wasDelayed(tcb, f) && (whole || f.retransBytes == 0);
  if (delayed || allWereDuplicates(f)) {
    // The hole was filled by a late first copy. RFC 8985 6.2, step 3 looks at what was never sent again, and where all
    // that is late is sent again at once that would never be anything (as in Linux's tcp_try_undo_partial).
    f.flags |= FLIGHT_REORDERED;
    flightNoteReordered();
    undo(tcb, f);
    return;
  }
  if (!whole) return;
  tcb.flags &= ~T.F_RECOVERY;
  endReduction(tcb);
  rackRecovered(f);
}

/** RFC 5682 3.1 (F-RTO with SACK), as Linux does it in tcp_process_loss. */
function lossAck(tcb: Tcb, f: Flight, advanced: bool): void {
  const cold = coldOf(tcb);
  f.flags &= ~FLIGHT_NEW_FIRST;
  if (advanced && (allWereDuplicates(f) || (wasDelayed(tcb, f) && (f.flags & FLIGHT_UNDO_SENT) != 0))) {
    undo(tcb, f);
    return;
  }
  const whole = seqGeq(tcb.sndUna, cold.recover);
  if (f.flags & FLIGHT_FRTO) {
    // Something arrived that was never sent again: not all was lost.
    if (ackOriginal) {
      undo(tcb, f);
      return;
    }
    if (seqGt(tcb.sndMax, cold.recover)) {
      // New data has been reported, or duplicates of the old: the loss was real.
      if (ackSacked != 0 || !advanced) f.flags &= ~FLIGHT_FRTO;
    } else if (advanced && !whole) {
      // New data first; what its ACK says decides.
      const room = seqLt(tcb.sndMax, tcb.sndBufEnd) && seqLt(tcb.sndMax, tcb.sndUna + tcb.sndWnd);
      if (room) f.flags |= FLIGHT_NEW_FIRST;
      else f.flags &= ~FLIGHT_FRTO;
    }
  }
  if (!whole) return;
  tcb.flags &= ~T.F_RTO_RECOVERY;
  f.flags &= ~FLIGHT_FRTO;
  rackRecovered(f);
}

/**
 * The retransmission timer has fired: what was not sent lately is lost, and slow start begins from one segment.
 * @returns false when there is no memory to keep account: the caller goes back to SND.UNA instead.
 */
export function recoveryTimeout(tcb: Tcb): bool {
  if (!(coldOf(tcb).traits & T.TRAIT_SACK) || tcb.sndNxt != tcb.sndMax || !flightEnsure(tcb)) return false;
  const f = flightOf(tcb);
  if (f.count == 0) return false;
  // RFC 2018 8: a peer that has reported the segment at SND.UNA and not acknowledged it has dropped it.
  if (runAt(f, 0).flags & RUN_SACKED) flightUnsack(tcb);
  const fresh = !(tcb.flags & (T.F_RTO_RECOVERY | T.F_RECOVERY)) || seqGeq(tcb.sndUna, coldOf(tcb).recover);
  if (fresh) {
    undoBegin(tcb, f);
    f.prrDelivered = 0;
    tcb.ssthresh = congestionReduce(tcb, tcb.sndMax - tcb.sndUna);
  }
  if (fresh || tcb.backoff > 0) f.flags |= FLIGHT_FRTO;
  else f.flags &= ~FLIGHT_FRTO;
  for (let i: u32 = 0; i < <u32>f.count; i++) {
    const run = runAt(f, i);
    if (run.flags & RUN_SACKED || (run.flags & (RUN_LOST | RUN_RETRANS)) == RUN_LOST) continue;
    // What was sent within the last round trip may still be on its way (RFC 8985 6.3).
    const patience = max(f.rackRttUs, tcb.srttUs8 >> 3);
    if (i > 0 && <i32>(run.sentUs + patience - nowUs) > 0) continue;
    runLost(f, i);
  }
  f.tlp = 0;
  f.flags &= ~FLIGHT_NEW_FIRST;
  const cold = coldOf(tcb);
  cold.recover = tcb.sndMax;
  cold.traits &= ~T.TRAIT_CWR_STATE;
  tcb.cwnd = pipeBytes(tcb) + <u32>tcb.sndMss;
  tcb.dupAcks = 0;
  tcb.flags = (tcb.flags & ~T.F_RECOVERY) | T.F_RTO_RECOVERY | T.F_RETRANSMIT;
  return true;
}

/** Smaller segments from now on: all in flight was too large and is sent again; that was no congestion (RFC 1191). */
export function recoveryResegment(tcb: Tcb): bool {
  if (!(coldOf(tcb).traits & T.TRAIT_SACK) || tcb.sndNxt != tcb.sndMax || !flightEnsure(tcb)) return false;
  const f = flightOf(tcb);
  for (let i: u32 = 0; i < <u32>f.count; i++) {
    if (!(runAt(f, i).flags & RUN_SACKED)) runLost(f, i);
  }
  if (!(tcb.flags & (T.F_RECOVERY | T.F_RTO_RECOVERY))) {
    f.flags &= ~(FLIGHT_UNDO | FLIGHT_FRTO);
    coldOf(tcb).recover = tcb.sndMax;
    tcb.flags |= T.F_RTO_RECOVERY;
  }
  return true;
}
