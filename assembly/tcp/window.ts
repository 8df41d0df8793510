/** The window that a connection may offer: what its buffer takes, and its share of the stream pool. */
import { mtuBytes, rcvBufferBytesMax } from "../config.ts";
import { streamFreeBytes, streamOrderFor } from "../mem/streamPool.ts";
import { autoTuningReadBytes } from "../socket/autoTuning.ts";
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

/** Without a sign of reading a connection may have this part of the free pool. */
const WAITING_SHIFT: u32 = 6;

/**
 * A pool that runs short is shared. What is offered cannot be taken back, so it has to be earned: an application may
 * have four times what it has read in its last round trip (a sender in slow start then never meets the window), at most
 * half of what is free; one that has not read lately a 64th, so that many of them leave room for those that read
 * (dynamic thresholds: Choudhury, Hahne 1998; sndOrderMax in ../socket/buffers.ts does the same). The ring that it has
 * costs nothing more, and two segments everybody gets: one at a time would wait for delayed ACKs.
 */
function poolRoom(tcb: Tcb, held: u32): u32 {
  const ring: u32 = tcb.rcvBuf == 0 ? 0 : 1 << tcb.rcvBufOrder;
  const both = <u64>streamFreeBytes() + ring;
  const earned = min<u64>((<u64>autoTuningReadBytes(tcb)) << 2, both >> 1);
  const share = ringShare(<u32>max<u64>(earned, both >> WAITING_SHIFT), ring, both);
  const allowed = max(max(share, ring), (<u32>mtuBytes) << 1);
  return allowed > held ? allowed - held : 0;
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
