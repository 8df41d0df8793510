/** The ends of a connection: events to the application, TIME_WAIT, and giving everything back. */
import { eventPost } from "./events.ts";
import { timeWaitMs } from "../config.ts";
import { groupClosed } from "../flow/groups.ts";
import { flowRemove } from "../flow/table.ts";
import { GAUGE_TIME_WAIT } from "../../src/layout/counters.ts";
import * as E from "../../src/layout/event.ts";
import {
  STATE_CLOSED,
  STATE_ESTABLISHED,
  STATE_FREE,
  STATE_SYN_RECEIVED,
  STATE_TIME_WAIT,
} from "../../src/layout/option.ts";
import { rcvBufferRelease, sndBufferRelease } from "../socket/buffers.ts";
import { countBy } from "../stats.ts";
import { fastOpenOver, isFastOpenChild } from "./fastOpen.ts";
import { flightRelease } from "./flight.ts";
import { listenerSynDone } from "./listener.ts";
import { pureSeq } from "./sizes.ts";
import { emit } from "./emit.ts";
import { reassemblyRelease } from "./reassembly.ts";
import { FLAG_ACK } from "./segment.ts";
import { settingsCount } from "./settings.ts";
import * as T from "./tcb.ts";
import { Tcb, coldOf } from "./tcb.ts";
import { MAIN_TIMERS, lingerArm } from "./timers.ts";
import { urgentBytes } from "./urgent.ts";
import { wheelRemove } from "./wheel.ts";

const TIMERS: u32 = MAIN_TIMERS | T.F_TIMER_DELACK;
const SENDING: u32 = T.F_RETRANSMIT | T.F_SYN_DUE | T.F_PROBE | T.F_ACK_NOW | T.F_ACK_PENDING | T.F_RTT_TIMING;

/**
 * Writes the connection's event record and clears what was pending.
 * @returns false when there is nothing to tell (any more).
 */
export function tcpTakeEvent(index: u32, record: usize): bool {
  const tcb = T.tcbAt(index);
  tcb.flags &= ~T.F_READY;
  let mask = <u32>tcb.events;
  if (settingsCount != 0 && mask & E.EVENT_READABLE && urgentBytes(tcb) != 0) mask |= E.EVENT_URGENT;
  if (tcb.state == STATE_FREE || mask == 0 || !(tcb.flags & T.F_APP)) return false;
  store<u32>(record, T.handleOf(tcb), E.EVENT_HANDLE);
  store<u16>(record, <u16>mask, E.EVENT_MASK);
  store<i16>(record, coldOf(tcb).error, E.EVENT_STATUS);
  store<u32>(record, readableBytes(tcb), E.EVENT_READABLE_BYTES);
  store<u32>(record, 0, E.EVENT_RESERVED);
  tcb.events = 0;
  if (mask & E.EVENT_CLOSED && tcb.flags & T.F_APP_CLOSED) detach(tcb);
  return true;
}

/** Bytes in order that the application has not read. The peer's FIN is not among them. */
export function readableBytes(tcb: Tcb): u32 {
  if (tcb.rcvBuf == 0) return 0;
  return tcb.rcvNxt - tcb.rcvRead - (tcb.flags & T.F_FIN_RECEIVED ? 1 : 0);
}

/** The application no longer knows this connection. */
export function detach(tcb: Tcb): void {
  tcb.flags &= ~(T.F_APP | T.F_APP_CLOSED);
  tcb.events = 0;
  T.tcbRenew(tcb);
  if (tcb.state == STATE_CLOSED) releaseLater(tcb);
}

/** Connections that end with this poll's events, linked through acceptNext. */
let releasedHead: u32 = T.TCB_NONE;

/**
 * The slot is given back with the next poll: until then an event of this batch may still name its index, and the
 * application must not find another connection there.
 */
function releaseLater(tcb: Tcb): void {
  rcvBufferRelease(tcb);
  T.tcbRetire(tcb);
  coldOf(tcb).acceptNext = releasedHead;
  releasedHead = T.tcbIndex(tcb);
}

/** Gives back what the last poll's events have ended. */
export function releaseEnded(): void {
  while (releasedHead != T.TCB_NONE) {
    const tcb = T.tcbAt(releasedHead);
    releasedHead = coldOf(tcb).acceptNext;
    T.tcbReturn(tcb);
  }
}

/**
 * The connection is over and leaves the wire.
 * @param status 0 for an orderly end, else what the application is told.
 */
export function tcpDrop(tcb: Tcb, status: i32): void {
  wheelRemove(tcb);
  if (tcb.flags & T.F_IN_FLOW_TABLE) {
    flowRemove(tcb.hash, T.tcbIndex(tcb));
    if (tcb.state != STATE_TIME_WAIT) groupClosed(tcb);
  }
  if (tcb.flags & T.F_IN_SYN_QUEUE) listenerSynDone(tcb);
  if (tcb.state == STATE_SYN_RECEIVED && isFastOpenChild(tcb)) fastOpenOver(tcb, false);
  if (tcb.state == STATE_TIME_WAIT) countBy(GAUGE_TIME_WAIT, -1);
  tcb.flags &= ~(T.F_IN_FLOW_TABLE | TIMERS | SENDING);
  const wasTimeWait = tcb.state == STATE_TIME_WAIT;
  tcb.state = STATE_CLOSED;
  sndBufferRelease(tcb);
  reassemblyRelease(tcb);
  flightRelease(tcb);
  if (tcb.flags & T.F_APP) {
    coldOf(tcb).error = <i16>status;
    // TIME_WAIT has told the end already.
    if (!wasTimeWait) eventPost(tcb, E.EVENT_CLOSED | (status != 0 ? E.EVENT_ERROR : 0));
    return;
  }
  if (tcb.flags & T.F_IN_ACCEPT_QUEUE) {
    coldOf(tcb).error = <i16>status;
    tcb.events |= <u8>(E.EVENT_CLOSED | (status != 0 ? E.EVENT_ERROR : 0));
    return;
  }
  releaseLater(tcb);
}

/** Both directions are closed and acknowledged, and we closed first (RFC 9293 3.10.7.4, TIME-WAIT). */
export function enterTimeWait(tcb: Tcb): void {
  if (timeWaitMs == 0) {
    // The last ACK cannot wait for the next output.
    if (tcb.flags & T.F_ACK_NOW) emit(tcb, pureSeq(tcb), FLAG_ACK, 0);
    tcpDrop(tcb, 0);
    return;
  }
  if (tcb.state != STATE_TIME_WAIT) {
    tcb.state = STATE_TIME_WAIT;
    countBy(GAUGE_TIME_WAIT, 1);
    groupClosed(tcb);
    sndBufferRelease(tcb);
    reassemblyRelease(tcb);
    flightRelease(tcb);
    eventPost(tcb, E.EVENT_CLOSED);
  }
  lingerArm(tcb, timeWaitMs);
}

/**
 * FIN-WAIT-2 without an application ends by itself: a peer that never closes its half must not hold the slot.
 * Deviates: RFC 9293 has no such limit; Linux has (tcp_fin_timeout).
 */
export function finWait2Arm(tcb: Tcb): void {
  lingerArm(tcb, max<u32>(timeWaitMs, 1000));
}

/** True in the states in which the application may still send. */
export function maySend(tcb: Tcb): bool {
  return tcb.state >= STATE_ESTABLISHED && tcb.state < STATE_CLOSED && !(tcb.flags & T.F_FIN_QUEUED);
}
