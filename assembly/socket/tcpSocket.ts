/**
 * The application's calls on TCP connections (src/wasm/exports.ts has the contract). Output happens at the next flush.
 */
import { EVENT_CLOSED, EVENT_ERROR } from "../../src/layout/event.ts";
import * as O from "../../src/layout/option.ts";
import { EBADF, ECONNABORTED, EINVAL, ENOTCONN, EPIPE } from "../../src/layout/status.ts";
import { RESULT_BASE } from "../../src/layout/kernelMemory.ts";
import { addressAt } from "../ip/address.ts";
import { resetIfSynchronized } from "../tcp/abort.ts";
import { detach, finWait2Arm, maySend, readableBytes, tcpDrop } from "../tcp/close.ts";
import { accountEnsure, accountQueue, hasAccount } from "../tcp/account.ts";
import { windowUpdateDue } from "../tcp/output.ts";
import { outputMark } from "../tcp/outputQueue.ts";
import { reassemblyHolds } from "../tcp/reassembly.ts";
import { SETTING_LINGER_RESET, settingsHas } from "../tcp/settings.ts";
import * as T from "../tcp/tcb.ts";
import { Tcb, coldOf, tcbHighWater, tcbOfHandle } from "../tcp/tcb.ts";
import { softErrorOf } from "../tcp/softError.ts";
import { LOSS_TIMERS, persistArm, rtoUs } from "../tcp/timers.ts";
import { urgentBytes } from "../tcp/urgent.ts";
import { windowRead } from "../tcp/window.ts";
import { autoTuningRead } from "./autoTuning.ts";
import { ringRead, ringWrite, rcvBufferRelease, sndBufferFor, sndBufferStart } from "./buffers.ts";

function isNull(tcb: Tcb): bool {
  return changetype<usize>(tcb) == 0;
}

/** Why nothing can be sent: 0 when it can. Before the handshake ends bytes are queued (RFC 9293 3.10.2). */
function sendStatus(tcb: Tcb): i32 {
  if (isNull(tcb)) return EBADF;
  if (tcb.flags & T.F_FIN_QUEUED) return EPIPE;
  if (tcb.state == O.STATE_SYN_SENT || tcb.state == O.STATE_SYN_RECEIVED || maySend(tcb)) return 0;
  const error = <i32>coldOf(tcb).error;
  return error != 0 ? error : tcb.state == O.STATE_CLOSED ? ENOTCONN : EPIPE;
}

/**
 * EVENT_WRITABLE comes with an ACK. Where nothing is queued there will be none, and it is the pool that is used up:
 * then the persist timer asks again. @returns 0.
 */
function awaitRoom(tcb: Tcb): i32 {
  const sending = LOSS_TIMERS | T.F_TIMER_PERSIST;
  if (tcb.state >= O.STATE_ESTABLISHED && tcb.sndUna == tcb.sndBufEnd && !(tcb.flags & sending)) persistArm(tcb);
  return 0;
}

export function tcpSend(handle: i32, source: usize, bytes: u32): i32 {
  const tcb = tcbOfHandle(handle);
  const status = sendStatus(tcb);
  if (status != 0) return status;
  if (bytes == 0) return 0;
  const room = sndBufferFor(tcb, bytes);
  if (room < bytes) tcb.flags |= T.F_WANT_WRITABLE;
  if (room == 0) return awaitRoom(tcb);
  ringWrite(tcb.sndBuf, tcb.sndBufOrder, tcb.sndBufEnd, source, room);
  if (!hasAccount(tcb)) accountEnsure(tcb);
  accountQueue(tcb);
  tcb.sndBufEnd += room;
  outputMark(tcb);
  return <i32>room;
}

export function tcpSendReserve(handle: i32, bytes: u32): i32 {
  const tcb = tcbOfHandle(handle);
  const status = sendStatus(tcb);
  if (status != 0) return status;
  const room = sndBufferFor(tcb, bytes);
  if (room < bytes) tcb.flags |= T.F_WANT_WRITABLE;
  if (room == 0) return awaitRoom(tcb);
  const size = (<u32>1) << tcb.sndBufOrder;
  const at = tcb.sndBufEnd & (size - 1);
  store<u32>(RESULT_BASE, min(room, size - at));
  return <i32>(tcb.sndBuf + at);
}

export function tcpSendCommit(handle: i32, bytes: u32): i32 {
  const tcb = tcbOfHandle(handle);
  const status = sendStatus(tcb);
  if (status != 0) return status;
  const size = (<u32>1) << tcb.sndBufOrder;
  const queued = tcb.sndBufEnd - sndBufferStart(tcb);
  if (tcb.sndBuf == 0 || bytes > size - queued || bytes > size - (tcb.sndBufEnd & (size - 1))) return EINVAL;
  if (!hasAccount(tcb)) accountEnsure(tcb);
  accountQueue(tcb);
  tcb.sndBufEnd += bytes;
  outputMark(tcb);
  return <i32>bytes;
}

export function tcpRecv(handle: i32, target: usize, bytes: u32): i32 {
  const tcb = tcbOfHandle(handle);
  if (isNull(tcb)) return EBADF;
  const readable = min(readableBytes(tcb), bytes);
  if (readable == 0) return coldOf(tcb).error;
  ringRead(tcb.rcvBuf, tcb.rcvBufOrder, tcb.rcvRead, target, readable);
  consume(tcb, readable);
  return <i32>readable;
}

export function tcpRecvPeek(handle: i32): i32 {
  const tcb = tcbOfHandle(handle);
  if (isNull(tcb)) return EBADF;
  const readable = readableBytes(tcb);
  if (readable == 0) {
    store<u32>(RESULT_BASE, 0);
    return coldOf(tcb).error;
  }
  const size = (<u32>1) << tcb.rcvBufOrder;
  const at = tcb.rcvRead & (size - 1);
  store<u32>(RESULT_BASE, min(readable, size - at));
  return <i32>(tcb.rcvBuf + at);
}

export function tcpRecvConsume(handle: i32, bytes: u32): i32 {
  const tcb = tcbOfHandle(handle);
  if (isNull(tcb)) return EBADF;
  if (bytes > readableBytes(tcb)) return EINVAL;
  consume(tcb, bytes);
  return 0;
}

function consume(tcb: Tcb, bytes: u32): void {
  tcb.rcvRead += bytes;
  // Bytes that came ahead of their turn keep the ring.
  if (readableBytes(tcb) == 0 && !reassemblyHolds(tcb)) rcvBufferRelease(tcb);
  autoTuningRead(tcb, bytes);
  windowRead(tcb, bytes);
  if (windowUpdateDue(tcb)) {
    tcb.flags |= T.F_ACK_NOW;
    outputMark(tcb);
  }
}

/** RFC 9293 3.10.4 for the sending half. */
function queueFin(tcb: Tcb): void {
  if (tcb.flags & T.F_FIN_QUEUED) return;
  tcb.flags |= T.F_FIN_QUEUED;
  if (tcb.state == O.STATE_ESTABLISHED) tcb.state = O.STATE_FIN_WAIT_1;
  else if (tcb.state == O.STATE_CLOSE_WAIT) tcb.state = O.STATE_LAST_ACK;
  outputMark(tcb);
}

export function tcpShutdownSend(handle: i32): i32 {
  const tcb = tcbOfHandle(handle);
  const status = sendStatus(tcb);
  if (status != 0) return status == EPIPE ? 0 : status;
  queueFin(tcb);
  return 0;
}

export function tcpClose(handle: i32): i32 {
  const tcb = tcbOfHandle(handle);
  if (isNull(tcb)) return EBADF;
  if (tcb.state == O.STATE_CLOSED || tcb.state == O.STATE_TIME_WAIT) {
    if (tcb.events & EVENT_CLOSED) {
      // The end has not been told yet: it still is, and then the handle is gone.
      tcb.flags |= T.F_APP_CLOSED;
      tcb.events &= <u8>(EVENT_CLOSED | EVENT_ERROR);
    } else {
      detach(tcb);
    }
    return 0;
  }
  if (tcb.state == O.STATE_SYN_SENT) {
    tcb.flags |= T.F_APP_CLOSED;
    tcpDrop(tcb, 0);
    return 0;
  }
  const isLost = readableBytes(tcb) > 0 || settingsHas(T.tcbIndex(tcb), SETTING_LINGER_RESET);
  tcb.flags |= T.F_APP_CLOSED;
  tcb.events = 0;
  if (isLost) {
    // RFC 2525 2.17, RFC 1122 4.2.2.13: bytes that nobody has read are lost, and the peer must know.
    resetIfSynchronized(tcb);
    tcpDrop(tcb, 0);
    return 0;
  }
  queueFin(tcb);
  // FIN_WAIT_2 without an application does not last for ever.
  if (tcb.state == O.STATE_FIN_WAIT_2) finWait2Arm(tcb);
  return 0;
}

export function tcpAbort(handle: i32): i32 {
  const tcb = T.tcbOfAnyHandle(handle);
  if (isNull(tcb)) return EBADF;
  resetIfSynchronized(tcb);
  if (tcb.state == O.STATE_CLOSED || tcb.state == O.STATE_TIME_WAIT) {
    detach(tcb);
    return 0;
  }
  // No event follows: the handle is gone at once.
  tcb.flags &= ~(T.F_APP | T.F_APP_CLOSED);
  T.tcbRenew(tcb);
  tcpDrop(tcb, 0);
  return 0;
}

/** See KernelExports.tcpAbortAll. */
export function tcpAbortAll(): i32 {
  let reset: i32 = 0;
  for (let index: u32 = 0; index < tcbHighWater(); index++) {
    const tcb = T.tcbAt(index);
    if (tcb.state == O.STATE_FREE || tcb.state == O.STATE_TIME_WAIT || tcb.state == O.STATE_CLOSED) continue;
    resetIfSynchronized(tcb);
    tcpDrop(tcb, ECONNABORTED);
    reset++;
  }
  return reset;
}

export function tcpGetInfo(handle: i32, target: usize): i32 {
  const tcb = tcbOfHandle(handle);
  if (isNull(tcb)) return EBADF;
  const cold = coldOf(tcb);
  store<u32>(target, tcb.state, O.INFO_STATE);
  store<u32>(target, tcb.sndUna, O.INFO_SND_UNA);
  store<u32>(target, tcb.sndNxt, O.INFO_SND_NXT);
  store<u32>(target, tcb.sndWnd, O.INFO_SND_WND);
  store<u32>(target, tcb.rcvNxt, O.INFO_RCV_NXT);
  store<u32>(target, tcb.rcvAdv - tcb.rcvNxt, O.INFO_RCV_WND);
  store<u32>(target, tcb.cwnd, O.INFO_CWND_BYTES);
  store<u32>(target, tcb.ssthresh, O.INFO_SSTHRESH_BYTES);
  store<u32>(target, tcb.srttUs8 >> 3, O.INFO_SRTT_US);
  store<u32>(target, tcb.rttvarUs4 >> 2, O.INFO_RTTVAR_US);
  store<u32>(target, rtoUs(tcb), O.INFO_RTO_US);
  store<u32>(target, tcb.sndMss, O.INFO_SND_MSS_BYTES);
  store<u32>(target, cold.retransmits, O.INFO_RETRANSMITS);
  const acked = tcb.sndBuf == 0 ? 0 : tcb.sndBufEnd - tcb.sndUna;
  store<u32>(target, acked, O.INFO_SND_QUEUED_BYTES);
  store<u32>(target, readableBytes(tcb), O.INFO_RCV_QUEUED_BYTES);
  store<u32>(target, bswap<u16>(<u16>(tcb.ports >> 16)), O.INFO_LOCAL_PORT);
  store<u32>(target, bswap<u16>(<u16>tcb.ports), O.INFO_REMOTE_PORT);
  store<u32>(target, urgentBytes(tcb), O.INFO_URGENT_BYTES);
  store<i32>(target, softErrorOf(tcb), O.INFO_SOFT_ERROR);
  memory.copy(target + O.INFO_LOCAL_ADDRESS, addressAt(tcb.localIndex), 16);
  memory.copy(target + O.INFO_REMOTE_ADDRESS, changetype<usize>(tcb), 16);
  return 0;
}
