/** The window that a connection may offer: what its buffer takes, and its share of the stream pool. */
import { mtuBytes } from "../config.ts";
import { streamFreeBytes } from "../mem/streamPool.ts";
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

/** What only waits may have this part of the free pool; where the application reads, half of it. */
const WAITING_SHIFT: u32 = 6;

/**
 * A pool that runs short is shared. An application that has read, and holds less than half of its ring unread, may have
 * half of what is free; one that lets data wait a 64th, so that many of them leave room for those that read (dynamic
 * thresholds: Choudhury, Hahne 1998; sndOrderMax in ../socket/buffers.ts does the same). The ring that it has costs
 * nothing more, and two segments everybody gets: one at a time would wait for delayed ACKs.
 */
function poolRoom(tcb: Tcb, held: u32): u32 {
  const ring: u32 = tcb.rcvBuf == 0 ? 0 : 1 << tcb.rcvBufOrder;
  // A ring is made for what it has to hold: it is more than half full until something is read. The order of one that is
  // gone is remembered.
  const reads = ring == 0 ? tcb.rcvBufOrder != 0 : held << 1 <= ring;
  const share = <u32>((<u64>streamFreeBytes() + ring) >> (reads ? 1 : WAITING_SHIFT));
  const allowed = max(max(share, ring), (<u32>mtuBytes) << 1);
  return allowed > held ? allowed - held : 0;
}
