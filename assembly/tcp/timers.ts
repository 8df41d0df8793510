/**
 * A connection's timers. At most two run at once: delayed ACK, and one of retransmission / persist / linger (TIME_WAIT,
 * FIN_WAIT_2, keep-alive), which exclude each other. RTT estimation and RTO are RFC 6298.
 */
import {
  delayedAckUs,
  keepaliveIdleMs,
  keepaliveIntervalMs,
  keepaliveProbesMax,
  retriesMax,
  rtoInitialUs,
  rtoMaxUs,
  rtoMinUs,
  synRetriesMax,
} from "../config.ts";
import { neighborIsFailed, neighborIsResolved } from "../ip/neighbor.ts";
import {
  TCP_CONNECT_FAILED,
  TCP_KEEPALIVE_PROBES,
  TCP_RETRANSMIT_TIMEOUTS,
  TCP_TIMED_OUT,
  TCP_ZERO_WINDOW_PROBES,
} from "../../src/layout/counters.ts";
import { STATE_FIN_WAIT_2, STATE_SYN_RECEIVED, STATE_SYN_SENT, STATE_TIME_WAIT } from "../../src/layout/option.ts";
import { EHOSTUNREACH, ETIMEDOUT } from "../../src/layout/status.ts";
import { count } from "../stats.ts";
import { nowTick, nowUs, tickReached, ticksOfMs, ticksOfUs } from "../time.ts";
import { tcpDrop } from "./close.ts";
import { congestionTimeout } from "./congestion.ts";
import { outputMark } from "./outputQueue.ts";
import { seqLt } from "./seq.ts";
import * as T from "./tcb.ts";
import { Tcb, coldOf } from "./tcb.ts";
import { wheelArm } from "./wheel.ts";

const MAIN_TIMERS: u32 = T.F_TIMER_RTO | T.F_TIMER_PERSIST | T.F_TIMER_LINGER;

/** Enters one round-trip time (RFC 6298 2.2, 2.3; alpha 1/8, beta 1/4). */
export function rttSample(tcb: Tcb, rttUs: u32): void {
  const rtt = max<u32>(rttUs, 1);
  if (tcb.srttUs8 == 0) {
    tcb.srttUs8 = rtt << 3;
    tcb.rttvarUs4 = rtt << 1;
    return;
  }
  const error = <i32>rtt - <i32>(tcb.srttUs8 >> 3);
  tcb.srttUs8 = max<u32>(tcb.srttUs8 + error, 1);
  tcb.rttvarUs4 += <u32>(abs(error) - <i32>(tcb.rttvarUs4 >> 2));
}

/**
 * Retransmission time-out with back-off, in microseconds.
 * Deviates: the floor is rtoMinUs (200 ms like Linux), not the 1 s of RFC 6298 (2.4).
 */
export function rtoUs(tcb: Tcb): u32 {
  const base = tcb.srttUs8 == 0 ? rtoInitialUs : max(rtoMinUs, (tcb.srttUs8 >> 3) + max<u32>(tcb.rttvarUs4, 65));
  const shift = min<u32>(tcb.backoff, 16);
  return <u32>min<u64>((<u64>base) << shift, rtoMaxUs);
}

function armMain(tcb: Tcb, which: u32, tick: u32): void {
  tcb.flags = (tcb.flags & ~MAIN_TIMERS) | which;
  tcb.timerTick = tick;
  wheelArm(tcb, tick);
}

/** Starts or restarts the retransmission timer (RFC 6298 5.1, 5.3). */
export function rtoArm(tcb: Tcb): void {
  armMain(tcb, T.F_TIMER_RTO, nowTick + ticksOfUs(rtoUs(tcb)));
}

/** Stops it; with keep-alive on, that timer takes its place. */
export function rtoDisarm(tcb: Tcb): void {
  tcb.flags &= ~(T.F_TIMER_RTO | T.F_TIMER_PERSIST);
  if (tcb.flags & T.F_KEEPALIVE && !(tcb.flags & T.F_TIMER_LINGER)) keepaliveArm(tcb);
}

/** The peer's window is closed and nothing is in flight (RFC 9293 3.8.6.1). */
export function persistArm(tcb: Tcb): void {
  armMain(tcb, T.F_TIMER_PERSIST, nowTick + ticksOfUs(rtoUs(tcb)));
}

/** TIME_WAIT and FIN_WAIT_2. */
export function lingerArm(tcb: Tcb, ms: u32): void {
  armMain(tcb, T.F_TIMER_LINGER, nowTick + ticksOfMs(ms));
}

export function keepaliveArm(tcb: Tcb): void {
  const probes = coldOf(tcb).unanswered;
  armMain(tcb, T.F_TIMER_LINGER, nowTick + ticksOfMs(probes == 0 ? keepaliveIdleMs : keepaliveIntervalMs));
}

/** RFC 9293 3.8.6.3: an ACK may wait, at most half a second. */
export function delackArm(tcb: Tcb): void {
  if (tcb.flags & T.F_TIMER_DELACK) return;
  tcb.flags |= T.F_TIMER_DELACK;
  const tick = nowTick + ticksOfUs(delayedAckUs);
  coldOf(tcb).delackTick = tick;
  wheelArm(tcb, tick);
}

/** The wheel has handed this connection out: runs what is due and links it again for the rest. */
export function timersRun(tcb: Tcb): void {
  if (tcb.flags & T.F_TIMER_DELACK && tickReached(coldOf(tcb).delackTick, nowTick)) {
    tcb.flags &= ~T.F_TIMER_DELACK;
    if (tcb.flags & T.F_ACK_PENDING) {
      tcb.flags |= T.F_ACK_NOW;
      outputMark(tcb);
    }
  }
  if (tcb.flags & MAIN_TIMERS && tickReached(tcb.timerTick, nowTick)) {
    const which = tcb.flags & MAIN_TIMERS;
    tcb.flags &= ~MAIN_TIMERS;
    if (!mainTimer(tcb, which)) return;
  }
  if (tcb.flags & MAIN_TIMERS) wheelArm(tcb, tcb.timerTick);
  if (tcb.flags & T.F_TIMER_DELACK) wheelArm(tcb, coldOf(tcb).delackTick);
}

/** @returns false when the connection is gone. */
function mainTimer(tcb: Tcb, which: u32): bool {
  if (which & T.F_TIMER_RTO) return retransmissionTimeout(tcb);
  if (which & T.F_TIMER_PERSIST) {
    // RFC 9293 3.8.6.1: probing goes on as long as the peer answers; silence is bounded like any other. So is the
    // patience with a peer that keeps its window shut after our application has gone (as in Linux).
    const cold = coldOf(tcb);
    const tries = tcb.flags & T.F_APP_CLOSED ? tcb.backoff : cold.unanswered;
    if (<u32>tries >= retriesMax) return giveUp(tcb);
    cold.unanswered++;
    if (tcb.backoff < 255) tcb.backoff++;
    tcb.flags |= T.F_PROBE;
    count(TCP_ZERO_WINDOW_PROBES);
    outputMark(tcb);
    return true;
  }
  if (tcb.state != STATE_TIME_WAIT && !(tcb.state == STATE_FIN_WAIT_2 && tcb.flags & T.F_APP_CLOSED)) {
    return keepaliveTimeout(tcb);
  }
  // End of TIME_WAIT, or a peer that never closes its half after we let go (FIN_WAIT_2).
  tcpDrop(tcb, 0);
  return false;
}

/** The next hop has not been resolved: the SYN has never been on the wire. */
function synCannotLeave(tcb: Tcb): bool {
  const neighbor = <i32>tcb.neighbor - 1;
  return neighbor >= 0 && !neighborIsResolved(neighbor);
}

/** Nothing was lost, so there is no back-off; a neighbour that does not answer ends the attempt (Linux: EHOSTUNREACH). */
function afterUnsentSyn(tcb: Tcb): bool {
  if (neighborIsFailed(<i32>tcb.neighbor - 1)) {
    count(TCP_CONNECT_FAILED);
    tcpDrop(tcb, EHOSTUNREACH);
    return false;
  }
  rtoArm(tcb);
  return true;
}

function giveUp(tcb: Tcb): bool {
  count(TCP_TIMED_OUT);
  tcpDrop(tcb, ETIMEDOUT);
  return false;
}

function retransmissionTimeout(tcb: Tcb): bool {
  count(TCP_RETRANSMIT_TIMEOUTS);
  const opening = tcb.state == STATE_SYN_SENT || tcb.state == STATE_SYN_RECEIVED;
  if (<u32>tcb.backoff >= (opening ? synRetriesMax : retriesMax)) return giveUp(tcb);
  tcb.flags &= ~T.F_RTT_TIMING;
  if (opening) {
    if (tcb.state == STATE_SYN_SENT && synCannotLeave(tcb)) return afterUnsentSyn(tcb);
    tcb.flags |= T.F_SYN_DUE;
  } else {
    // RFC 9293 3.8.6: the peer has taken its window back; what it needs is a probe, and it may answer them for ever.
    if (tcb.sndWnd == 0 && seqLt(tcb.sndUna, tcb.sndBufEnd)) {
      tcb.sndNxt = tcb.sndUna;
      return mainTimer(tcb, T.F_TIMER_PERSIST);
    }
    congestionTimeout(tcb);
    // Go back: what lies between SND.UNA and SND.MAX is sent again as the window allows; the first segment whatever the
    // window says, for a peer that has taken it back (RFC 9293 3.8.6) must not keep us from ever sending.
    tcb.sndNxt = tcb.sndUna;
    tcb.flags |= T.F_RETRANSMIT;
  }
  tcb.backoff++;
  rtoArm(tcb);
  outputMark(tcb);
  return true;
}

function keepaliveTimeout(tcb: Tcb): bool {
  if (!(tcb.flags & T.F_KEEPALIVE)) return true;
  const cold = coldOf(tcb);
  const idleTicks = nowTick - cold.lastRcvTick;
  if (cold.unanswered == 0 && idleTicks < ticksOfMs(keepaliveIdleMs)) {
    armMain(tcb, T.F_TIMER_LINGER, cold.lastRcvTick + ticksOfMs(keepaliveIdleMs));
    return true;
  }
  if (<u32>cold.unanswered >= keepaliveProbesMax) return giveUp(tcb);
  cold.unanswered++;
  count(TCP_KEEPALIVE_PROBES);
  tcb.flags |= T.F_PROBE;
  outputMark(tcb);
  keepaliveArm(tcb);
  return true;
}

/** Starts timing the segment that ends before `endSeq`, unless one is being timed (RFC 6298 3, Karn's algorithm). */
export function rttTimingStart(tcb: Tcb, endSeq: u32): void {
  if (tcb.flags & T.F_RTT_TIMING) return;
  tcb.flags |= T.F_RTT_TIMING;
  coldOf(tcb).rttSeq = endSeq;
  coldOf(tcb).rttStartUs = nowUs;
}
