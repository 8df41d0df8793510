/** The window that a connection may offer: what its buffer takes, and its share of the stream pool. */
import { mtuBytes, rcvBufferBytesMax } from "../config.ts";
import { streamFreeBytes, streamOrderFor } from "../mem/streamPool.ts";
import { Tcb, TcbCold, coldOf } from "./tcb.ts";

/** Largest window that the header field can express on this connection. */
export function windowMax(cold: TcbCold): u32 {
  return (<u32>65535) << cold.rcvWscale;
}

/** Bytes from RCV.NXT on that may be offered now. What has been offered already may be more, and stays. */
export function windowRoom(tcb: Tcb): u32 {
  const cold = coldOf(tcb);
  const limit = (<u32>1) << cold.rcvLimitOrder;
  const held = tcb.rcvNxt - tcb.rcvRead;
  if (held >= limit) return 0;
  const room = min<u32>(limit - held, windowMax(cold));
  const share = streamFreeBytes() >> WAITING_SHIFT;
  return share >= limit ? room : min(room, poolRoom(tcb, held));
}

/**
 * What a SYN-ACK with a cookie offers, and its connection begins with: unscaled, and a share of the pool as above. If
 * the pool runs short between the two, a peer that has used all of it at once sends the rest again.
 */
export function windowOfCookie(): u32 {
  const share = max(streamFreeBytes() >> WAITING_SHIFT, (<u32>mtuBytes) << 1);
  return min(share, min<u32>(rcvBufferBytesMax, 65535));
}

/** A connection begins with this part of the free pool. */
const WAITING_SHIFT: u32 = 6;

/**
 * A pool that runs short is shared. What is offered cannot be taken back, so it has to be earned: a connection begins
 * with a 64th of what is free, and may have twice as much for each quarter of it that the application reads, to half of
 * what is free; a sender in slow start does not double sooner. So many that are not read, or no more, leave room for
 * those that are (dynamic thresholds: Choudhury, Hahne 1998; sndOrderMax in ../socket/buffers.ts does the same). The
 * ring that it has costs nothing more, and two segments everybody gets: one at a time would wait for delayed ACKs.
 */
function poolRoom(tcb: Tcb, held: u32): u32 {
  const ring: u32 = tcb.rcvBuf == 0 ? 0 : 1 << tcb.rcvBufOrder;
  const both = <u64>streamFreeBytes() + ring;
  const earned = min<u64>(both >> 1, (<u64>1) << coldOf(tcb).rcvEarnedOrder);
  const share = ringShare(<u32>max<u64>(earned, both >> WAITING_SHIFT), ring, both);
  const allowed = max(max(share, ring), shareFloor(coldOf(tcb)));
  return allowed > held ? allowed - held : 0;
}

/** Two segments, in whole units of the header's field. */
function shareFloor(cold: TcbCold): u32 {
  const unit = (<u32>1) << cold.rcvWscale;
  return (((<u32>mtuBytes) << 1) + unit - 1) & ~(unit - 1);
}

/** The least that a share can be when it doubles, and a quarter of it, as powers of two. */
const EARNED_ORDER_MIN: u32 = 12;
const READ_ORDER_MIN: u32 = EARNED_ORDER_MIN - 2;

/** The application has read `bytes`, which end at rcvRead. */
export function windowRead(tcb: Tcb, bytes: u32): void {
  const changed = (tcb.rcvRead - bytes) ^ tcb.rcvRead;
  if (changed >> READ_ORDER_MIN == 0) return;
  const cold = coldOf(tcb);
  const share = streamFreeBytes() >> WAITING_SHIFT;
  const limitOrder = <u32>cold.rcvLimitOrder;
  if (share >= (<u32>1) << limitOrder) return;
  const beginning = max<u32>(31 - clz(share | 1), EARNED_ORDER_MIN);
  let order = max<u32>(cold.rcvEarnedOrder, beginning);
  if (order >= limitOrder) return;
  // No counter: of the sequence numbers every so many is a multiple of a quarter of what there is.
  if (changed >> (order - 2) != 0) order++;
  while (order < limitOrder && bytes >> (order - 2) != 0) order++;
  if (order > beginning) cold.rcvEarnedOrder = <u8>order;
}

/**
 * Rings are powers of two, and while one grows there are two of them: a share that takes a ring for which `both`, the
 * ring that there is and what is free, does not suffice is rounded down to one that will be there.
 */
function ringShare(share: u32, ring: u32, both: u64): u32 {
  if (share <= ring) return share;
  const order = streamOrderFor(share);
  return (<u64>3) << (order - 1) <= both ? share : 1 << (order - 1);
}
