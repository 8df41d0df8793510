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
/** Doubled so often it is half. */
const LEVEL_MAX: u32 = WAITING_SHIFT - 1;

/**
 * A pool that runs short is shared. What is offered cannot be taken back, so it has to be earned: a connection begins
 * with a 64th of what is free, and its part doubles each time that the application has read half of it, which is sooner
 * than a sender in slow start doubles. So many that are not read, or no more, leave room for those that are (dynamic
 * thresholds: Choudhury, Hahne 1998; sndOrderMax in ../socket/buffers.ts does the same). The ring that it has costs
 * nothing more, and two segments everybody gets: one at a time would wait for delayed ACKs.
 */
function poolRoom(tcb: Tcb, held: u32): u32 {
  const ring: u32 = tcb.rcvBuf == 0 ? 0 : 1 << tcb.rcvBufOrder;
  const both = <u64>streamFreeBytes() + ring;
  const share = ringShare(<u32>(both >> (WAITING_SHIFT - coldOf(tcb).rcvShareLevel)), ring, both);
  const allowed = max(max(share, ring), shareFloor(coldOf(tcb)));
  return allowed > held ? allowed - held : 0;
}

/** Two segments, in whole units of the header's field. */
function shareFloor(cold: TcbCold): u32 {
  const unit = (<u32>1) << cold.rcvWscale;
  return (((<u32>mtuBytes) << 1) + unit - 1) & ~(unit - 1);
}

/** The least reading that doubles a share, as a power of two. */
const READ_ORDER_MIN: u32 = 10;

/** The application has read `bytes`, which end at rcvRead. */
export function windowRead(tcb: Tcb, bytes: u32): void {
  const changed = (tcb.rcvRead - bytes) ^ tcb.rcvRead;
  if (changed >> READ_ORDER_MIN == 0) return;
  const cold = coldOf(tcb);
  if (<u32>cold.rcvShareLevel >= LEVEL_MAX) return;
  const share = streamFreeBytes() >> (WAITING_SHIFT - cold.rcvShareLevel);
  if (share >= (<u32>1) << cold.rcvLimitOrder) return;
  // No counter: of the sequence numbers every so many is a multiple of half the share, rounded down to a power of two.
  const order = 31 - clz(max(share >> 1, 1 << READ_ORDER_MIN));
  if (changed >> order != 0) cold.rcvShareLevel++;
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
