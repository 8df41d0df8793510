/** Congestion control: NewReno (RFC 5681, RFC 6582), initial window of ten segments (RFC 6928). Windows in bytes. */
import { F_RECOVERY, F_RETRANSMIT, F_RTO_RECOVERY, Tcb, coldOf } from "./tcb.ts";
import { seqGeq } from "./seq.ts";
import { count } from "../stats.ts";
import { TCP_DUPLICATE_ACKS, TCP_FAST_RETRANSMITS } from "../../src/layout/counters.ts";

export const CWND_BYTES_MAX: u32 = 1 << 30;
const DUP_ACK_THRESHOLD: u32 = 3;

export function congestionStart(tcb: Tcb): void {
  const mss = <u32>tcb.sndMss;
  // RFC 6928: min(10 MSS, max(2 MSS, 14600)).
  tcb.cwnd = min(10 * mss, max(2 * mss, 14600));
  tcb.ssthresh = CWND_BYTES_MAX;
}

/** Half of what is in flight, at least two segments (RFC 5681, equation 4). */
function halvedFlight(tcb: Tcb): u32 {
  return max((tcb.sndMax - tcb.sndUna) >> 1, (<u32>tcb.sndMss) << 1);
}

/**
 * New data has been acknowledged; SND.UNA has moved.
 * @param flightBefore bytes in flight before this ACK.
 * @returns true when the retransmission timer should start anew (not for later partial ACKs, RFC 6582 3.2 step 3).
 */
export function congestionAcked(tcb: Tcb, ackedBytes: u32, flightBefore: u32): bool {
  const mss = <u32>tcb.sndMss;
  if (tcb.flags & F_RECOVERY) {
    if (seqGeq(tcb.sndUna, coldOf(tcb).recover)) {
      // Full ACK: deflate (RFC 6582 3.2, step 3, option 1).
      tcb.cwnd = min(tcb.ssthresh, max(tcb.sndMax - tcb.sndUna, mss) + mss);
      tcb.flags &= ~F_RECOVERY;
    } else {
      // Partial ACK: the next hole is known.
      tcb.flags |= F_RETRANSMIT;
      tcb.cwnd = max(mss, (tcb.cwnd > ackedBytes ? tcb.cwnd - ackedBytes : 0) + mss);
      // The "impatient" variant: where more is lost than a timeout's worth of round trips can repair one by one, the
      // timeout ends it, and slow start is faster. The first partial ACK still has the duplicates counted before it.
      return tcb.dupAcks != 0;
    }
    return true;
  }
  if (tcb.flags & F_RTO_RECOVERY && seqGeq(tcb.sndUna, coldOf(tcb).recover)) tcb.flags &= ~F_RTO_RECOVERY;
  // RFC 7661: a window that is not used is not grown.
  if (flightBefore + 2 * mss < tcb.cwnd && flightBefore << 1 < tcb.cwnd) return true;
  if (tcb.cwnd < tcb.ssthresh) {
    // Deviates: RFC 3465 2.2 limits growth to 2 SMSS per ACK. Like Linux we count all acknowledged bytes, because a
    // peer that takes bursts (GRO, batches) acknowledges once per burst.
    tcb.cwnd = min(tcb.cwnd + ackedBytes, CWND_BYTES_MAX);
  } else {
    tcb.cwnd = min(tcb.cwnd + max<u32>(1, <u32>((<u64>mss * ackedBytes) / tcb.cwnd)), CWND_BYTES_MAX);
  }
  return true;
}

/** A duplicate ACK (RFC 5681 2) has arrived. */
export function congestionDuplicateAck(tcb: Tcb): void {
  count(TCP_DUPLICATE_ACKS);
  const mss = <u32>tcb.sndMss;
  if (tcb.flags & F_RECOVERY) {
    tcb.cwnd = min(tcb.cwnd + mss, CWND_BYTES_MAX);
    return;
  }
  if (tcb.dupAcks < 255) tcb.dupAcks++;
  if (<u32>tcb.dupAcks != DUP_ACK_THRESHOLD) return;
  // RFC 6582 3.2 step 2: not for ACKs of what was sent before the last time-out. (`recover` itself is only looked at
  // while a recovery lasts: after two gigabytes without loss it would seem to lie ahead.)
  if (tcb.flags & F_RTO_RECOVERY) return;
  count(TCP_FAST_RETRANSMITS);
  tcb.ssthresh = halvedFlight(tcb);
  tcb.cwnd = tcb.ssthresh + DUP_ACK_THRESHOLD * mss;
  coldOf(tcb).recover = tcb.sndMax;
  tcb.flags |= F_RECOVERY | F_RETRANSMIT;
}

/** The retransmission timer has fired. */
export function congestionTimeout(tcb: Tcb): void {
  // RFC 5681 3.1: once for each loss, not for each time-out of the same segment.
  if (!(tcb.flags & F_RTO_RECOVERY)) tcb.ssthresh = halvedFlight(tcb);
  tcb.cwnd = tcb.sndMss;
  coldOf(tcb).recover = tcb.sndMax;
  tcb.flags = (tcb.flags & ~(F_RECOVERY | F_RETRANSMIT)) | F_RTO_RECOVERY;
  tcb.dupAcks = 0;
}

/** Bytes that may be in flight now; the first two duplicate ACKs let one new segment each out (RFC 3042). */
export function congestionWindow(tcb: Tcb): u32 {
  if (tcb.dupAcks == 0 || tcb.flags & F_RECOVERY) return tcb.cwnd;
  return tcb.cwnd + min<u32>(tcb.dupAcks, 2) * <u32>tcb.sndMss;
}
