/**
 * Validation of the congestion window (RFC 7661), where `slowStartAfterIdle` is 2; else RFC 2861 holds (congestion.ts).
 * A window that the connection does not use is kept for five minutes instead of being lost while it idles, but it does
 * not grow, its first burst is paced, and when it proves wrong the reduction starts from what was really in use.
 *
 * In use is pipeACK: the most that was acknowledged in a round trip, within the last three of them or a second. The
 * window is validated when that is half of it. State in the flight block, which is kept while the window is larger than
 * an initial one; without one (the pool is full) RFC 2861 holds.
 * Deviates: samples are kept in two halves of the period, so one counts for half of it to all of it (4.3: for all);
 * and the half is up to a segment short, since windows are no whole segments.
 */
import { slowStartAfterIdle } from "../config.ts";
import { CONGESTION_BBR } from "../../src/layout/option.ts";
import { nowMs } from "../time.ts";
import { congestionOf, initialWindow } from "./algorithm.ts";
import { Flight, FLIGHT_CWV_PACED, FLIGHT_CWV_SAMPLE, FLIGHT_NOT_VALIDATED, flightOf } from "./flightRecord.ts";
import { seqGeq } from "./seq.ts";
import { Tcb } from "./tcb.ts";

/** Value of the tuning. */
const RFC_7661: u32 = 2;
/** RFC 7661 4.2: the non-validated period; 4.3: pACKperiod is max(3 * RTT, 1 s), here in two halves. */
const PERIOD_MS_MAX: u32 = 300000;
const HALF_SAMPLING_MS_MIN: u32 = 500;

/** Does RFC 7661 hold for this connection? BBR has its own model of what the path bears. */
export function validationHolds(tcb: Tcb): bool {
  return slowStartAfterIdle == RFC_7661 && tcb.flight != 0 && congestionOf(tcb) != CONGESTION_BBR;
}

/** The flight block has something that must outlive a pause. Preconditions: there is one. */
export function validationKeeps(tcb: Tcb): bool {
  return validationHolds(tcb) && tcb.cwnd > initialWindow(tcb);
}

function pipeAck(f: Flight): u32 {
  return max(f.cwvBest0, f.cwvBest1);
}

/** Half of the sampling period. */
function halfMs(tcb: Tcb): u32 {
  return max((3 * (tcb.srttUs8 >> 3)) / 2000, HALF_SAMPLING_MS_MIN);
}

/** Lets samples grow old. */
function age(tcb: Tcb, f: Flight): void {
  const half = halfMs(tcb);
  const passed = nowMs - f.cwvHalfAtMs;
  if (passed < half) return;
  f.cwvBest1 = passed < 2 * half ? f.cwvBest0 : 0;
  f.cwvBest0 = 0;
  f.cwvHalfAtMs = nowMs;
}

/**
 * New data has been acknowledged outside of recovery.
 * @returns true when the window must not grow (RFC 7661 4.4). Preconditions: validationHolds.
 */
export function validationAck(tcb: Tcb, ackedBytes: u32): bool {
  const f = flightOf(tcb);
  // A time-out has intervened, or the reduction was taken back.
  if (f.cwvLossFlight != 0) forget(f);
  if (!(f.flags & FLIGHT_CWV_SAMPLE)) {
    f.flags |= FLIGHT_CWV_SAMPLE;
    f.cwvUna = tcb.sndUna - ackedBytes;
    f.cwvEnd = tcb.sndMax;
    if (f.cwvHalfAtMs == 0) f.cwvHalfAtMs = nowMs;
  }
  if (seqGeq(tcb.sndUna, f.cwvEnd)) {
    age(tcb, f);
    f.cwvBest0 = max(f.cwvBest0, tcb.sndUna - f.cwvUna);
    f.cwvUna = tcb.sndUna;
    f.cwvEnd = tcb.sndMax;
    // With nothing in flight the next sample begins with the next ACK.
    if (tcb.sndMax == tcb.sndUna) f.flags &= ~FLIGHT_CWV_SAMPLE;
    if (f.flags & FLIGHT_CWV_PACED) endPacing(f);
    judge(tcb, f);
  }
  if (!(f.flags & FLIGHT_NOT_VALIDATED)) return false;
  endPeriods(tcb, f);
  return true;
}

/** RFC 7661 4.3: validated is a window of which half is in use. A segment in each half may be incomplete. */
function isInUse(tcb: Tcb, f: Flight): bool {
  return (pipeAck(f) + <u32>tcb.sndMss) << 1 >= tcb.cwnd;
}

function judge(tcb: Tcb, f: Flight): void {
  if (isInUse(tcb, f)) {
    f.flags &= ~FLIGHT_NOT_VALIDATED;
  } else if (!(f.flags & FLIGHT_NOT_VALIDATED)) {
    f.flags |= FLIGHT_NOT_VALIDATED;
    f.cwvSinceMs = nowMs;
  }
}

/** RFC 7661 4.4.3: what was not in use for five minutes is worth half. */
function endPeriods(tcb: Tcb, f: Flight): void {
  const floor = initialWindow(tcb);
  while (nowMs - f.cwvSinceMs >= PERIOD_MS_MAX) {
    if (tcb.cwnd <= floor) {
      f.cwvSinceMs = nowMs;
      return;
    }
    tcb.ssthresh = max(tcb.ssthresh, (tcb.cwnd >> 1) + (tcb.cwnd >> 2));
    tcb.cwnd = max(tcb.cwnd >> 1, floor);
    f.cwvSinceMs += PERIOD_MS_MAX;
  }
}

/** Something is about to be sent after a pause of more than a time-out. Preconditions: validationHolds. */
export function validationIdle(tcb: Tcb): void {
  const f = flightOf(tcb);
  const idleSinceMs = f.cwvHalfAtMs == 0 ? nowMs : f.cwvHalfAtMs;
  age(tcb, f);
  f.flags &= ~FLIGHT_CWV_SAMPLE;
  if (!(f.flags & FLIGHT_NOT_VALIDATED) && !isInUse(tcb, f)) {
    f.flags |= FLIGHT_NOT_VALIDATED;
    f.cwvSinceMs = idleSinceMs;
  }
  if (!(f.flags & FLIGHT_NOT_VALIDATED)) return;
  endPeriods(tcb, f);
  // RFC 7661 4.4.2: no burst of a whole window. Twice the rate that spreads it over a round trip.
  if (f.pacingRate != 0 || tcb.srttUs8 == 0) return;
  f.pacingRate = <u32>min<u64>((<u64>tcb.cwnd * 16000000) / tcb.srttUs8, 0xffffffff);
  f.flags |= FLIGHT_CWV_PACED;
}

/**
 * RFC 7661 4.4.1: something was lost.
 * @returns what the window may be at most from now on: half of what was in use. Preconditions: validationHolds.
 */
export function validationLoss(tcb: Tcb): u32 {
  const f = flightOf(tcb);
  f.cwvLossFlight = 0;
  if (!(f.flags & FLIGHT_NOT_VALIDATED)) return 0xffffffff;
  f.cwvLossFlight = max(max(pipeAck(f), tcb.sndMax - tcb.sndUna), 1);
  return max(f.cwvLossFlight >> 1, (<u32>tcb.sndMss) << 1);
}

/** RFC 7661 4.4.1: the recovery is over; what had to be sent again, `resent` bytes, counts against the window. */
export function validationRecovered(tcb: Tcb, resent: u32): void {
  const f = flightOf(tcb);
  if (f.cwvLossFlight != 0) {
    const left = f.cwvLossFlight > resent ? (f.cwvLossFlight - resent) >> 1 : 0;
    tcb.cwnd = min(tcb.cwnd, max(left, (<u32>tcb.sndMss) << 1));
  }
  forget(f);
}

/** pipeACK is undefined again. */
function forget(f: Flight): void {
  f.cwvLossFlight = 0;
  f.cwvBest0 = 0;
  f.cwvBest1 = 0;
  if (f.flags & FLIGHT_CWV_PACED) endPacing(f);
  f.flags &= ~(FLIGHT_NOT_VALIDATED | FLIGHT_CWV_SAMPLE);
}

function endPacing(f: Flight): void {
  f.flags &= ~FLIGHT_CWV_PACED;
  f.pacingRate = 0;
}

/** The first burst is still being paced, but RFC 7661 does not hold any more (tuningReload, TCP_CONGESTION). */
export function validationPacesNoMore(tcb: Tcb, f: Flight): bool {
  if (!(f.flags & FLIGHT_CWV_PACED) || validationHolds(tcb)) return false;
  endPacing(f);
  return true;
}
