/**
 * What only TCP_INFO asks for (info.ts) and only connections with a history have: bytes sent again, time-outs, D-SACK
 * and reordering, how long the peer's window or our send buffer held data back, why fast open failed. Records lie in an
 * array of their own, and a connection's is made with the first of these: the others touch no page for it.
 *
 * The times are Linux's chronographs (tcp_chrono_start, tcp_chrono_stop): of those that would run the one with the
 * highest number does. account.ts has the one below them, which runs as long as anything is unacknowledged.
 */
import { connectionsMax } from "../config.ts";
import { STATE_ESTABLISHED } from "../../src/layout/option.ts";
import { arenaAlloc } from "../mem/arena.ts";
import { clearBytes } from "../mem/copy.ts";
import { nowTick } from "../time.ts";
import { seqLt } from "./seq.ts";
import { F_RTO_RECOVERY, F_WANT_WRITABLE, TRAIT_HISTORY, Tcb, coldOf, tcbIndex } from "./tcb.ts";

/** What held data back at the last output: nothing. */
export const HELD_NOT: u8 = 0;
/** The peer's window: the next segment does not fit. */
export const HELD_BY_WINDOW: u8 = 1;
/** Our send buffer: all of it is sent, the congestion window has room, and the application waits to write more. */
export const HELD_BY_BUFFER: u8 = 2;

@unmanaged
export class History {
  /** Bytes sent more than once. */
  resent: u64;
  /** Ticks in HELD_*, and in recoveries from time-outs, those that last left out. */
  windowTicks: u64;
  bufferTicks: u64;
  timeoutTicks: u64;
  /** Since when: `held`, and the time-out. */
  heldTick: u32;
  timeoutTick: u32;
  dsacks: u32;
  /** ACKs that have told of reordering. */
  reorderings: u32;
  /** Both stay at 65535. */
  timeouts: u16;
  timeoutRecoveries: u16;
  /** HELD_*. */
  held: u8;
  /** 1: a recovery from a time-out lasts. */
  timedOut: u8;
  /** TCPI_FAST_OPEN_* (layout/tcpInfo.ts). */
  fastOpenFailure: u8;
}

export const HISTORY_SIZE_BYTES: u32 = 64;
if (offsetof<History>() > HISTORY_SIZE_BYTES) ERROR("History does not fit its record");

let records: usize = 0;

export function historyBoot(): bool {
  records = arenaAlloc(<usize>connectionsMax * HISTORY_SIZE_BYTES, 64);
  return records != 0;
}

export function hasHistory(tcb: Tcb): bool {
  return (coldOf(tcb).traits & TRAIT_HISTORY) != 0;
}

/** The connection's record. Preconditions to what is in it: hasHistory. */
export function historyOf(tcb: Tcb): History {
  return changetype<History>(records + <usize>tcbIndex(tcb) * HISTORY_SIZE_BYTES);
}

/** Likewise, made if need be. */
function historyEnsure(tcb: Tcb): History {
  const history = historyOf(tcb);
  if (hasHistory(tcb)) return history;
  coldOf(tcb).traits |= TRAIT_HISTORY;
  clearBytes(changetype<usize>(history), HISTORY_SIZE_BYTES);
  return history;
}

export function historyResent(tcb: Tcb, bytes: u32): void {
  historyEnsure(tcb).resent += bytes;
}

export function historyDsack(tcb: Tcb): void {
  historyEnsure(tcb).dsacks++;
}

/** The ACK being processed tells that segments have overtaken each other. */
export function historyReordered(tcb: Tcb): void {
  historyEnsure(tcb).reorderings++;
}

/** @param failure TCPI_FAST_OPEN_*. */
export function historyFastOpenFailed(tcb: Tcb, failure: i32): void {
  historyEnsure(tcb).fastOpenFailure = <u8>failure;
}

/** The retransmission timer has fired. Before the back-off is counted. */
export function historyTimeout(tcb: Tcb): void {
  const history = historyEnsure(tcb);
  if (history.timeouts < 0xffff) history.timeouts++;
  // A back-off may outlive its recovery (Karn's algorithm).
  const isFirst = tcb.backoff == 0 || history.timedOut == 0;
  if (isFirst && history.timeoutRecoveries < 0xffff) history.timeoutRecoveries++;
  if (history.timedOut != 0) return;
  history.timedOut = 1;
  history.timeoutTick = nowTick;
}

/** Something has been acknowledged, or the handshake is over. Preconditions: hasHistory. */
export function historyAcked(tcb: Tcb): void {
  const history = historyOf(tcb);
  if (history.timedOut != 0 && tcb.state >= STATE_ESTABLISHED && !(tcb.flags & F_RTO_RECOVERY)) {
    history.timeoutTicks += nowTick - history.timeoutTick;
    history.timedOut = 0;
  }
  const drained = !seqLt(tcb.sndUna, tcb.sndBufEnd);
  if (drained || (history.held == HELD_BY_BUFFER && !(tcb.flags & F_WANT_WRITABLE))) hold(history, HELD_NOT);
}

/**
 * Output has gone as far as it may. Preconditions: hasHistory, or there is something to begin one with.
 * @param held HELD_*.
 */
export function historyOutput(tcb: Tcb, held: u8): void {
  const history = historyEnsure(tcb);
  // The buffer holds data back until there is room in it (historyAcked).
  if (held > history.held || history.held == HELD_BY_WINDOW) hold(history, held);
}

function hold(history: History, held: u8): void {
  if (history.held == held) return;
  history.windowTicks = historyWindowTicks(history);
  history.bufferTicks = historyBufferTicks(history);
  history.held = held;
  history.heldTick = nowTick;
}

export function historyWindowTicks(history: History): u64 {
  return history.windowTicks + (history.held == HELD_BY_WINDOW ? nowTick - history.heldTick : 0);
}

export function historyBufferTicks(history: History): u64 {
  return history.bufferTicks + (history.held == HELD_BY_BUFFER ? nowTick - history.heldTick : 0);
}

export function historyTimeoutTicks(history: History): u64 {
  return history.timeoutTicks + (history.timedOut != 0 ? nowTick - history.timeoutTick : 0);
}
