/** What happens when a connection's timer is due. */
import { retriesMax, synRetriesMax } from "../config.ts";
import { neighborDoubt, neighborIsFailed, neighborIsResolved } from "../ip/neighbor.ts";
import {
  TCP_CONNECT_FAILED,
  TCP_KEEPALIVE_PROBES,
  TCP_RETRANSMIT_TIMEOUTS,
  TCP_TIMED_OUT,
  TCP_ZERO_WINDOW_PROBES,
} from "../../src/layout/counters.ts";
import { EVENT_WRITABLE } from "../../src/layout/event.ts";
import { STATE_FIN_WAIT_2, STATE_SYN_RECEIVED, STATE_SYN_SENT, STATE_TIME_WAIT } from "../../src/layout/option.ts";
import { CONGESTION_BBR } from "../../src/layout/option.ts";
import { EHOSTUNREACH, ETIMEDOUT } from "../../src/layout/status.ts";
import { count } from "../stats.ts";
import { nowTick, nowUs, tickReached, ticksOfMs, ticksOfUs } from "../time.ts";
import { eventPost } from "./events.ts";
import { tcpDrop } from "./close.ts";
import { congestionOf } from "./algorithm.ts";
import { congestionTimeout } from "./congestion.ts";
import { isFastOpenChild } from "./fastOpen.ts";
import { flightOf } from "./flightRecord.ts";
import { flightForget, flightRelease } from "./flight.ts";
import { historyTimeout } from "./history.ts";
import { mtuTimeout } from "./mtuProbe.ts";
import { outputMark } from "./outputQueue.ts";
import { pacingTimer } from "./pacing.ts";
import { reoTimeout, tlpTimeout } from "./rackTimers.ts";
import { recoveryTimeout } from "./recovery.ts";
import { seqLt } from "./seq.ts";
import { softErrorNote, softErrorOf } from "./softError.ts";
import { SETTING_USER_TIMING, settingsFind } from "./settings.ts";
import * as T from "./tcb.ts";
import { Tcb, coldOf } from "./tcb.ts";
import { MAIN_TIMERS, keepIdleMsOf, keepProbesMaxOf, keepaliveArm, mainTimerArm, rtoArm, rtoUs } from "./timers.ts";
import { validationKeeps } from "./validation.ts";
import { wheelArm } from "./wheel.ts";

/** R1 (RFC 1122 4.2.3.5; Linux: tcp_retries1): time-outs in a row after which the neighbour may be what is wrong. */
const DOUBT_TIMEOUTS: u32 = 3;

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
  if (tcb.flight != 0) {
    if (pacingTimer(tcb)) outputMark(tcb);
    if (tcb.sndMax == tcb.sndUna) releaseIdleFlight(tcb);
  }
  if (tcb.flags & MAIN_TIMERS) wheelArm(tcb, tcb.timerTick);
  if (tcb.flags & T.F_TIMER_DELACK) wheelArm(tcb, coldOf(tcb).delackTick);
}

/**
 * The flight block of a connection that has been idle for a time-out is given back. Until then the wheel must hold the
 * connection: it does, for the block is only made while something is in flight, and a timer runs.
 */
function releaseIdleFlight(tcb: Tcb): void {
  // BBR's model of the path is in it.
  if (congestionOf(tcb) == CONGESTION_BBR || validationKeeps(tcb)) return;
  const rto = rtoUs(tcb);
  if (nowUs - flightOf(tcb).deliveredUs >= rto) flightRelease(tcb);
  else wheelArm(tcb, nowTick + ticksOfUs(rto));
}

/** @returns false when the connection is gone. */
function mainTimer(tcb: Tcb, which: u32): bool {
  if (which & T.F_TIMER_RTO) return retransmissionTimeout(tcb);
  if (which & T.F_TIMER_TLP) {
    tlpTimeout(tcb);
    return true;
  }
  if (which & T.F_TIMER_REO) {
    reoTimeout(tcb);
    return true;
  }
  if (which & T.F_TIMER_PERSIST) {
    if (tcb.sndUna == tcb.sndBufEnd) return poolWaitOver(tcb);
    // RFC 9293 3.8.6.1: probing goes on as long as the peer answers; silence is bounded like any other. So is the
    // patience with a peer that keeps its window shut after our application has gone (as in Linux).
    if (isUserTimeoutOver(tcb, rtoUs(tcb))) return giveUp(tcb);
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

/** Nothing to probe with: the application waits for room in the stream pool (tcpSocket.ts) and may try again. */
function poolWaitOver(tcb: Tcb): bool {
  if (tcb.flags & T.F_WANT_WRITABLE) {
    tcb.flags &= ~T.F_WANT_WRITABLE;
    eventPost(tcb, EVENT_WRITABLE);
  }
  if (tcb.flags & T.F_KEEPALIVE) keepaliveArm(tcb);
  return true;
}

/** The next hop has not been resolved: the SYN has never been on the wire. */
function synCannotLeave(tcb: Tcb): bool {
  const neighbor = <i32>tcb.neighbor - 1;
  return neighbor >= 0 && !neighborIsResolved(neighbor);
}

/**
 * Nothing was lost, so there is no back-off; a neighbour that does not answer ends the attempt (Linux: EHOSTUNREACH).
 */
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
  const soft = softErrorOf(tcb);
  tcpDrop(tcb, soft != 0 ? soft : ETIMEDOUT);
  return false;
}

function synRetriesOf(tcb: Tcb): u32 {
  const settings = settingsFind(T.tcbIndex(tcb));
  return changetype<usize>(settings) == 0 || settings.synRetries == 0 ? synRetriesMax : settings.synRetries;
}

function retransmissionTimeout(tcb: Tcb): bool {
  count(TCP_RETRANSMIT_TIMEOUTS);
  if (isUserTimeoutOver(tcb, rtoUs(tcb))) return giveUp(tcb);
  const opening = tcb.state == STATE_SYN_SENT || tcb.state == STATE_SYN_RECEIVED;
  if (<u32>tcb.backoff >= (opening ? synRetriesOf(tcb) : retriesMax)) return giveUp(tcb);
  tcb.flags &= ~T.F_RTT_TIMING;
  if (opening) {
    if (tcb.state == STATE_SYN_SENT && synCannotLeave(tcb)) return afterUnsentSyn(tcb);
    tcb.flags |= T.F_SYN_DUE;
    if (tcb.state == STATE_SYN_RECEIVED && isFastOpenChild(tcb)) {
      // What was sent behind the SYN-ACK goes again with it, a segment at a time.
      tcb.cwnd = tcb.sndMss;
      goBack(tcb);
    }
  } else {
    // RFC 9293 3.8.6: the peer has taken its window back; what it needs is a probe, and it may answer them for ever.
    if (tcb.sndWnd == 0 && seqLt(tcb.sndUna, tcb.sndBufEnd)) {
      goBack(tcb);
      return mainTimer(tcb, T.F_TIMER_PERSIST);
    }
    mtuTimeout(tcb);
    if (<u32>tcb.backoff + 1 >= DOUBT_TIMEOUTS) {
      neighborDoubt(<i32>tcb.neighbor - 1);
      softErrorNote(tcb, ETIMEDOUT);
    }
    if (!recoveryTimeout(tcb)) {
      congestionTimeout(tcb);
      // What lies between SND.UNA and SND.MAX is sent again as the window allows; the first segment whatever the window
      // says, for a peer that has taken it back (RFC 9293 3.8.6) must not keep us from ever sending.
      goBack(tcb);
      tcb.flags |= T.F_RETRANSMIT;
    }
  }
  historyTimeout(tcb);
  tcb.backoff++;
  rtoArm(tcb);
  cutToUserTimeout(tcb);
  outputMark(tcb);
  return true;
}

/** SND.NXT goes back to SND.UNA; what is known of what is in flight is of no use any more. */
export function goBack(tcb: Tcb): void {
  tcb.sndNxt = tcb.sndUna;
  flightForget(tcb);
}

/** A user timeout decides instead of the number of probes (as in Linux). */
function isKeepaliveOver(tcb: Tcb, idleTicks: u32): bool {
  const settings = settingsFind(T.tcbIndex(tcb));
  if (changetype<usize>(settings) != 0 && settings.userTimeoutMs != 0) {
    return coldOf(tcb).unanswered > 0 && idleTicks >= ticksOfMs(settings.userTimeoutMs);
  }
  return <u32>coldOf(tcb).unanswered >= keepProbesMaxOf(tcb);
}

/**
 * RFC 5482: has data been unacknowledged, or a window shut, for as long as the user lets it?
 * @param waitedUs how long the timer that is due has run.
 */
function isUserTimeoutOver(tcb: Tcb, waitedUs: u32): bool {
  const settings = settingsFind(T.tcbIndex(tcb));
  if (changetype<usize>(settings) == 0 || settings.userTimeoutMs == 0) return false;
  if (tcb.backoff == 0 || !(settings.bits & SETTING_USER_TIMING)) {
    settings.bits |= SETTING_USER_TIMING;
    settings.userTimeoutTick = nowTick - ticksOfUs(waitedUs);
  }
  return nowTick - settings.userTimeoutTick >= ticksOfMs(settings.userTimeoutMs);
}

/** The timer that was just armed is cut short where it would fire after the user timeout. */
function cutToUserTimeout(tcb: Tcb): void {
  const settings = settingsFind(T.tcbIndex(tcb));
  if (changetype<usize>(settings) == 0 || settings.userTimeoutMs == 0 || !(tcb.flags & MAIN_TIMERS)) return;
  const end = settings.userTimeoutTick + ticksOfMs(settings.userTimeoutMs);
  if (tickReached(end, tcb.timerTick)) mainTimerArm(tcb, tcb.flags & MAIN_TIMERS, end);
}

function keepaliveTimeout(tcb: Tcb): bool {
  if (!(tcb.flags & T.F_KEEPALIVE)) return true;
  const cold = coldOf(tcb);
  const idleTicksMax = ticksOfMs(keepIdleMsOf(tcb));
  const idleTicks = nowTick - cold.lastRcvTick;
  if (cold.unanswered == 0 && idleTicks < idleTicksMax) {
    mainTimerArm(tcb, T.F_TIMER_LINGER, cold.lastRcvTick + idleTicksMax);
    return true;
  }
  if (isKeepaliveOver(tcb, idleTicks)) return giveUp(tcb);
  cold.unanswered++;
  count(TCP_KEEPALIVE_PROBES);
  tcb.flags |= T.F_PROBE;
  outputMark(tcb);
  keepaliveArm(tcb);
  return true;
}
