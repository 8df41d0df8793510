/**
 * Sizes of buffers follow what a connection moves, so that the pool goes to those that need it: a connection begins
 * with 1 MiB to receive and 2 MiB to send and grows to what is configured. An application that does not read, or a peer
 * that does not, never has more than the start.
 *
 * Receive buffer, and with it the window: dynamic right-sizing (Fisk, Feng 2001; Linux: tcp_rcv_space_adjust). When
 * what the application has read in a round trip is a quarter of the limit or more, the limit grows to four times it; so
 * a sender in slow start, which doubles each round trip, does not meet the window. The round trip is measured by the
 * echoes of our timestamps in arriving data (RFC 7323 4.1), else that of the handshake is taken.
 * What waits behind a hole counts, too.
 * Send buffer: twice the congestion window, or what is in flight (Linux: tcp_sndbuf_expand), looked at when a write
 * finds no room.
 *
 * Neither grows while less than an eighth of the pool is free (counted); what has been offered is never taken back. A
 * limit that the application has set stays (as in Linux).
 */
import { rcvBufferBytesMax, sndBufferBytesMax, streamPoolBytes } from "../config.ts";
import { TCP_BUFFERS_GROWN, TCP_BUFFERS_HELD } from "../../src/layout/counters.ts";
import { streamFreeBytes } from "../mem/streamPool.ts";
import { count } from "../stats.ts";
import { nowMs, nowTick, ticksOfMs, ticksOfUs } from "../time.ts";
import { timestampOffsetOfSegment } from "../tcp/addresses.ts";
import * as S from "../tcp/segment.ts";
import * as T from "../tcp/tcb.ts";
import { Tcb, TcbCold, coldOf } from "../tcp/tcb.ts";

/**
 * 1 MiB. Less would do without loss; but with 5 % of it BBR stands behind holes: over 100 ms it reached 2.5 Mbit/s from
 * 512 KiB, 1.6 from 128 KiB, and 4.9 from here (docs/goodput.md has the link).
 */
const RECEIVE_START_ORDER: u32 = 20;
/** 2 MiB: a write of a mebibyte is taken whole, as by Linux over loopback. */
const SEND_START_ORDER: u32 = 21;
/** Reads below this say little about a stream, and are many. */
const READ_BYTES_MIN: u32 = 512;
/** Connections measured at a time; one that finds its slot in use is measured later. */
const SLOTS_MASK: u32 = 1023;
const RTT_MS_MAX: u32 = 60000;
/** Rather too much: then the window is larger than it need be. */
const RTT_MS_UNKNOWN: u32 = 100;

@unmanaged
class Slot {
  /** Handle of the connection being measured; 0: none yet. */
  owner: u32;
  startTick: u32;
  /** RCV.NXT of the application (rcvRead) then. */
  startSeq: u32;
  rttTicks: u32;
  /** When TRAIT_RCV_RTT was set. */
  askedTick: u32;
}

const SLOT_SHIFT: usize = 5;
const slots: usize = memory.data(32768, 64);

/** Limits of a new connection. */
export function autoTuningStart(cold: TcbCold): void {
  cold.rcvLimitOrder = <u8>min<u32>(31 - clz(rcvBufferBytesMax), RECEIVE_START_ORDER);
  cold.sndLimitOrder = <u8>min<u32>(31 - clz(sndBufferBytesMax), SEND_START_ORDER);
}

function slotOf(tcb: Tcb): Slot {
  return changetype<Slot>(slots + ((<usize>(T.tcbIndex(tcb) & SLOTS_MASK)) << SLOT_SHIFT));
}

function mayGrow(): bool {
  if (streamFreeBytes() >= streamPoolBytes >> 3) {
    count(TCP_BUFFERS_GROWN);
    return true;
  }
  count(TCP_BUFFERS_HELD);
  return false;
}

/** The application has read `bytes`. */
export function autoTuningRead(tcb: Tcb, bytes: u32): void {
  if (bytes < READ_BYTES_MIN) return;
  const cold = coldOf(tcb);
  if ((<u32>1) << (<u32>cold.rcvLimitOrder + 1) > rcvBufferBytesMax || cold.traits & T.TRAIT_RCV_BUFFER_SET) return;
  const slot = slotOf(tcb);
  const elapsed = nowTick - slot.startTick;
  if (slot.owner != T.handleOf(tcb)) {
    if (slot.owner != 0 && elapsed <= slot.rttTicks << 1) return;
    slot.owner = T.handleOf(tcb);
    cold.traits &= ~T.TRAIT_RCV_RTT;
    slot.rttTicks = tcb.srttUs8 == 0 ? ticksOfMs(RTT_MS_UNKNOWN) : max(ticksOfUs(tcb.srttUs8 >> 3), ticksOfMs(1));
  } else {
    if (elapsed < slot.rttTicks) return;
    const perRtt = (<u64>(tcb.rcvRead - slot.startSeq) * slot.rttTicks) / elapsed;
    growWindow(cold, perRtt << 2);
  }
  slot.startTick = nowTick;
  slot.startSeq = tcb.rcvRead;
  if (!(tcb.flags & T.F_TIMESTAMPS) || cold.traits & T.TRAIT_RCV_RTT) return;
  cold.traits |= T.TRAIT_RCV_RTT;
  slot.askedTick = nowTick;
}

function growWindow(cold: TcbCold, wanted: u64): void {
  let order = <u32>cold.rcvLimitOrder;
  while (wanted >= (<u64>1) << order && (<u32>1) << (order + 1) <= rcvBufferBytesMax) order++;
  if (order != <u32>cold.rcvLimitOrder && mayGrow()) cold.rcvLimitOrder = <u8>order;
}

/**
 * Data has come while TRAIT_RCV_RTT asks for a sample: its echo tells how long ago the ACK left that let it go. A peer
 * that had nothing to send echoes an old one, and its pause is not the path's: what left before we asked is no sample,
 * and one sample at most doubles the round trip.
 */
export function autoTuningSample(tcb: Tcb): void {
  if (S.segDataBytes == 0 || !S.segHasTimestamps || S.segTsEcr == 0) return;
  const slot = slotOf(tcb);
  const isMeasured = slot.owner == T.handleOf(tcb);
  const rttMs = nowMs + timestampOffsetOfSegment() - S.segTsEcr;
  if (isMeasured && rttMs <= RTT_MS_MAX && ticksOfMs(rttMs) > nowTick - slot.askedTick + ticksOfMs(1)) return;
  coldOf(tcb).traits &= ~T.TRAIT_RCV_RTT;
  if (!isMeasured || rttMs > RTT_MS_MAX) return;
  slot.rttTicks = min(ticksOfMs(max<u32>(rttMs, 1)), slot.rttTicks << 1);
}

/**
 * Data up to `end` waits for what comes before it. That is not the application's fault: where it has read all that can
 * be read and half the window is taken up, the limit doubles, or every loss would stop the sender.
 */
export function autoTuningAhead(tcb: Tcb, end: u32): void {
  const cold = coldOf(tcb);
  const limit = (<u32>1) << cold.rcvLimitOrder;
  if (end - tcb.rcvRead < limit >> 1 || tcb.rcvNxt - tcb.rcvRead > limit >> 3) return;
  if (cold.traits & T.TRAIT_RCV_BUFFER_SET) return;
  growWindow(cold, limit);
}

/** Round trip as the receiver sees it, in ticks; 0: not measured lately. */
export function autoTuningRttTicks(tcb: Tcb): u32 {
  const slot = slotOf(tcb);
  return slot.owner == T.handleOf(tcb) ? slot.rttTicks : 0;
}

/** A write finds no room: does the send buffer hold less than the path takes? */
export function autoTuningWrite(tcb: Tcb): void {
  const cold = coldOf(tcb);
  let order = <u32>cold.sndLimitOrder;
  if ((<u32>1) << (order + 1) > sndBufferBytesMax || cold.traits & T.TRAIT_SND_BUFFER_SET) return;
  // What is in flight counts whole: behind a hole it is more than the window (Linux: three windows for BBR).
  const wanted = (<u64>max(tcb.cwnd, tcb.sndMax - tcb.sndUna)) << 1;
  while (wanted >= (<u64>1) << order && (<u32>1) << (order + 1) <= sndBufferBytesMax) order++;
  if (order != <u32>cold.sndLimitOrder && mayGrow()) cold.sndLimitOrder = <u8>order;
}
