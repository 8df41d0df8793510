/**
 * RACK-TLP (RFC 8985): what is lost is told by time. A segment counts as lost when one sent later has arrived, and a
 * reordering window has passed since then; a tail loss probe brings an answer where nothing would.
 */
import { rtoMinUs } from "../config.ts";
import { nowTick, nowUs, ticksOfUs } from "../time.ts";
import {
  Flight,
  FLIGHT_DSACK,
  FLIGHT_DSACK_ROUND,
  FLIGHT_RACK,
  FLIGHT_REORDERED,
  flightIsClean,
  flightOf,
  RUN_LOST,
  RUN_RETRANS,
  RUN_SACKED,
  runAt,
} from "./flightRecord.ts";
import { isSentAfter, runLost } from "./flight.ts";
import { ackDsackEnd, ackHasDsack } from "./sack.ts";
import { seqGt, seqLt } from "./seq.ts";
import * as T from "./tcb.ts";
import { Tcb, coldOf } from "./tcb.ts";
import { mainTimerArm, rtoArm, rtoUs } from "./timers.ts";

/** RFC 8985 6.2, step 4: recoveries for which a widened window is kept. */
const REO_WND_PERSIST: u8 = 16;
/** Segments reported beyond a hole that make it one without waiting. */
export const DUP_THRESHOLD: u32 = 3;
/** Added to two round trips before a probe: what Linux's timer adds at least. */
const PROBE_SLACK_US: u32 = 2000;

/** Reordering window, in microseconds (RFC 8985 6.2, step 4; min_RTT / 4 and its multiples, at most SRTT). */
function reorderingWindow(tcb: Tcb, f: Flight): u32 {
  if (!(f.flags & FLIGHT_REORDERED)) {
    if (tcb.flags & (T.F_RECOVERY | T.F_RTO_RECOVERY)) return 0;
    if (f.sackedBytes >= DUP_THRESHOLD * <u32>tcb.sndMss) return 0;
  }
  if (f.minRttUs == 0xffffffff) return 0;
  return min((f.minRttUs >> 2) * <u32>f.reoWndSteps, tcb.srttUs8 >> 3);
}

/** RFC 8985 6.2, step 4: duplicates at the peer mean that the window was too small; once per round trip. */
export function rackAdapt(tcb: Tcb, f: Flight): void {
  if (f.flags & FLIGHT_DSACK_ROUND && !seqLt(tcb.sndUna, f.dsackRound)) f.flags &= ~FLIGHT_DSACK_ROUND;
  if (!(f.flags & FLIGHT_DSACK)) return;
  f.flags &= ~FLIGHT_DSACK;
  if (f.flags & FLIGHT_DSACK_ROUND) return;
  f.flags |= FLIGHT_DSACK_ROUND;
  f.dsackRound = tcb.sndNxt;
  f.reoWndSteps = <u8>min<u32>(<u32>f.reoWndSteps + 1, 255);
  f.reoWndPersist = REO_WND_PERSIST;
}

/** A recovery has ended. */
export function rackRecovered(f: Flight): void {
  if (f.reoWndPersist > 0) f.reoWndPersist--;
  if (f.reoWndPersist == 0) f.reoWndSteps = 1;
}

/**
 * Judges what is lost by now (RFC 8985 6.2, step 5).
 * @returns microseconds until the next judgement, 0: none is due.
 */
export function rackDetect(tcb: Tcb, f: Flight): u32 {
  if (!(f.flags & FLIGHT_RACK) || (f.sackedBytes | f.lostBytes) == 0) return 0;
  const patience = f.rackRttUs + reorderingWindow(tcb, f);
  let timeout: u32 = 0;
  const runs = <u32>f.count;
  for (let i: u32 = 0; i < runs; i++) {
    const run = runAt(f, i);
    if (run.flags & RUN_SACKED || (run.flags & (RUN_LOST | RUN_RETRANS)) == RUN_LOST) continue;
    if (!isSentAfter(f.rackSentUs, f.rackEnd, run.sentUs, run.end)) continue;
    const left = <i32>(run.sentUs + patience - nowUs);
    if (left <= 0) runLost(f, i);
    else timeout = max(timeout, <u32>left);
  }
  return timeout;
}

/**
 * Starts the timer that fits: a probe where there is nothing amiss (RFC 8985 7.2), else the retransmission timer.
 * As in Linux the probe takes the place of the first time-out, also where that would be due earlier.
 */
export function lossTimerArm(tcb: Tcb): void {
  const cold = coldOf(tcb);
  const probing =
    (cold.traits & T.TRAIT_SACK) != 0 &&
    tcb.srttUs8 != 0 &&
    tcb.backoff == 0 &&
    tcb.sndNxt == tcb.sndMax &&
    !(tcb.flags & (T.F_RECOVERY | T.F_RTO_RECOVERY)) &&
    (tcb.flight == 0 || (flightOf(tcb).tlp == 0 && flightIsClean(tcb)));
  if (!probing) {
    rtoArm(tcb);
    return;
  }
  const alone = tcb.sndMax - tcb.sndUna <= <u32>tcb.sndMss;
  const us = min((tcb.srttUs8 >> 2) + (alone ? rtoMinUs : PROBE_SLACK_US), rtoUs(tcb));
  mainTimerArm(tcb, T.F_TIMER_TLP, nowTick + ticksOfUs(us));
}

/**
 * Starts the reordering timer. Deviates from Linux, which adds 2 ms (TCP_TIMEOUT_MIN, two of its ticks): our ticks are
 * 66 us, and at a round trip of 1 ms with 5 % loss that would cost a tenth of the goodput.
 */
export function reoTimerArm(tcb: Tcb, us: u32): void {
  mainTimerArm(tcb, T.F_TIMER_REO, nowTick + ticksOfUs(us));
}

/**
 * What an ACK says about an outstanding probe (RFC 8985 7.4).
 * @returns true when the probe has repaired a loss: the window must be reduced.
 */
export function tlpAcked(tcb: Tcb, f: Flight, advanced: bool): bool {
  if (f.tlp == 0 || seqLt(tcb.sndUna, f.tlpEnd)) return false;
  const retransmission = f.tlp == 2;
  if (!retransmission || (ackHasDsack && ackDsackEnd == f.tlpEnd)) {
    f.tlp = 0;
    return false;
  }
  if (seqGt(tcb.sndUna, f.tlpEnd)) {
    f.tlp = 0;
    return true;
  }
  // An ACK for all up to the probe's end that brings nothing new: both copies have arrived.
  if (!advanced) f.tlp = 0;
  return false;
}
