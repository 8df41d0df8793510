/**
 * A connection's timers: starting and stopping them; timeouts.ts says what happens when one is due. At most two run at
 * once: delayed ACK, and one of retransmission / persist / linger (TIME_WAIT, FIN_WAIT_2, keep-alive), which exclude
 * each other. RTT estimation and RTO are RFC 6298.
 */
import {
  delayedAckUs,
  keepaliveIdleMs,
  keepaliveIntervalMs,
  keepaliveProbesMax,
  quickAcks,
  rtoInitialUs,
  rtoMaxUs,
  rtoMinUs,
} from "../config.ts";
import { nowTick, nowUs, ticksOfMs, ticksOfUs } from "../time.ts";
import { settingsFind } from "./settings.ts";
import * as T from "./tcb.ts";
import { Tcb, coldOf } from "./tcb.ts";
import { wheelArm } from "./wheel.ts";

/** The timers that exclude each other: they share `timerTick`. */
export const MAIN_TIMERS: u32 = T.F_TIMER_RTO | T.F_TIMER_TLP | T.F_TIMER_REO | T.F_TIMER_PERSIST | T.F_TIMER_LINGER;
/** Those that run while something is in flight. */
export const LOSS_TIMERS: u32 = T.F_TIMER_RTO | T.F_TIMER_TLP | T.F_TIMER_REO;

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
 * Deviates: the floor of 1 s of RFC 6298 (2.4) is one of rtoMinUs (200 ms) for the variation's part, as in Linux: the
 * timer never runs out less than that after a smoothed round trip.
 */
export function rtoUs(tcb: Tcb): u32 {
  const base = tcb.srttUs8 == 0 ? rtoInitialUs : (tcb.srttUs8 >> 3) + max<u32>(tcb.rttvarUs4, rtoMinUs);
  const shift = min<u32>(tcb.backoff, 16);
  return <u32>min<u64>((<u64>base) << shift, rtoMaxUs);
}

/** Starts one of MAIN_TIMERS in place of the others. */
export function mainTimerArm(tcb: Tcb, which: u32, tick: u32): void {
  tcb.flags = (tcb.flags & ~MAIN_TIMERS) | which;
  tcb.timerTick = tick;
  wheelArm(tcb, tick);
}

/** Starts or restarts the retransmission timer (RFC 6298 5.1, 5.3). */
export function rtoArm(tcb: Tcb): void {
  mainTimerArm(tcb, T.F_TIMER_RTO, nowTick + ticksOfUs(rtoUs(tcb)));
}

/** Stops it; with keep-alive on, that timer takes its place. */
export function rtoDisarm(tcb: Tcb): void {
  tcb.flags &= ~(LOSS_TIMERS | T.F_TIMER_PERSIST);
  if (tcb.flags & T.F_KEEPALIVE && !(tcb.flags & T.F_TIMER_LINGER)) keepaliveArm(tcb);
}

/** The peer's window is closed and nothing is in flight (RFC 9293 3.8.6.1). */
export function persistArm(tcb: Tcb): void {
  mainTimerArm(tcb, T.F_TIMER_PERSIST, nowTick + ticksOfUs(rtoUs(tcb)));
}

/** TIME_WAIT and FIN_WAIT_2. */
export function lingerArm(tcb: Tcb, ms: u32): void {
  mainTimerArm(tcb, T.F_TIMER_LINGER, nowTick + ticksOfMs(ms));
}

/** Silence before the first keep-alive probe. */
export function keepIdleMsOf(tcb: Tcb): u32 {
  const settings = settingsFind(T.tcbIndex(tcb));
  return changetype<usize>(settings) != 0 && settings.keepIdleMs != 0 ? settings.keepIdleMs : keepaliveIdleMs;
}

function keepIntervalMsOf(tcb: Tcb): u32 {
  const settings = settingsFind(T.tcbIndex(tcb));
  const own = changetype<usize>(settings) != 0 && settings.keepIntervalMs != 0;
  return own ? settings.keepIntervalMs : keepaliveIntervalMs;
}

/** Unanswered probes before the connection is given up. */
export function keepProbesMaxOf(tcb: Tcb): u32 {
  const settings = settingsFind(T.tcbIndex(tcb));
  const own = changetype<usize>(settings) != 0 && settings.keepProbesMax != 0;
  return own ? settings.keepProbesMax : keepaliveProbesMax;
}

export function keepaliveArm(tcb: Tcb): void {
  const ms = coldOf(tcb).unanswered == 0 ? keepIdleMsOf(tcb) : keepIntervalMsOf(tcb);
  mainTimerArm(tcb, T.F_TIMER_LINGER, nowTick + ticksOfMs(ms));
}

/**
 * How long a quick ACK waits for the application's answer. Linux sends the first sixteen ACKs of a connection that only
 * receives at once: a peer in slow start grows with them, and one with Nagle's algorithm does not have to wait.
 */
const QUICK_ACK_US: u32 = 1000;

/** RFC 9293 3.8.6.3: an ACK may wait, at most half a second. */
export function delackArm(tcb: Tcb): void {
  if (tcb.flags & T.F_TIMER_DELACK) return;
  tcb.flags |= T.F_TIMER_DELACK;
  const cold = coldOf(tcb);
  let us = delayedAckUs;
  const spent = (cold.traits / T.TRAIT_QUICK_ACK) & 31;
  if (spent < quickAcks) {
    cold.traits += T.TRAIT_QUICK_ACK;
    us = min(us, QUICK_ACK_US);
  }
  const tick = nowTick + ticksOfUs(us);
  cold.delackTick = tick;
  wheelArm(tcb, tick);
}

/** Starts timing the segment that ends before `endSeq`, unless one is being timed (RFC 6298 3, Karn's algorithm). */
export function rttTimingStart(tcb: Tcb, endSeq: u32): void {
  if (tcb.flags & T.F_RTT_TIMING) return;
  tcb.flags |= T.F_RTT_TIMING;
  coldOf(tcb).rttSeq = endSeq;
  coldOf(tcb).rttStartUs = nowUs;
}
