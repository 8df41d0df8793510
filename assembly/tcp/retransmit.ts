/**
 * 5. Output: sending again. With SACK: what is judged lost, lowest first, as far as the congestion window lets
 * (RFC 6675 5, NextSeg). Without: the segment at SND.UNA (RFC 5681 3.2, RFC 6582).
 */
import { duplicateSent } from "./duplicates.ts";
import { FLIGHT_NEW_FIRST, flightOf, pipeBytes, runAt, runStart } from "./flightRecord.ts";
import { runFirstLost, runResent } from "./flight.ts";
import { mtuResent } from "./mtuProbe.ts";
import { segmentMss, timestampOf } from "./sizes.ts";
import { emit } from "./emit.ts";
import { rtoArm } from "./timers.ts";
import { lossTimerArm } from "./rack.ts";
import { pacingAllows, pacingSent } from "./pacing.ts";
import { recoveryResent, recoverySent } from "./recovery.ts";
import { FLAG_ACK, FLAG_FIN, FLAG_PSH } from "./segment.ts";
import { seqGt, seqLt, seqMax } from "./seq.ts";
import * as T from "./tcb.ts";
import { Tcb, coldOf } from "./tcb.ts";
import { TCP_RETRANSMITS } from "../../src/layout/counters.ts";
import { nowUs } from "../time.ts";
import { count } from "../stats.ts";

export function countRetransmission(tcb: Tcb): void {
  const cold = coldOf(tcb);
  if (tcb.flight != 0) duplicateSent(flightOf(tcb));
  count(TCP_RETRANSMITS);
  if (cold.retransmits < 0xffff) cold.retransmits++;
  tcb.flags &= ~T.F_RTT_TIMING;
  if (cold.traits & T.TRAIT_MTU_SEARCH) mtuResent(tcb);
}

/** True when what is lost is kept account of in the flight block. */
export function isSelective(tcb: Tcb): bool {
  return tcb.flight != 0 && tcb.sndNxt == tcb.sndMax && (coldOf(tcb).traits & T.TRAIT_SACK) != 0;
}

/** PSH goes with the last bytes that are queued (RFC 9293 3.9.1.2, MUST-61), also when they go again. */
function resentFlags(tcb: Tcb, from: u32, bytes: u32, fin: bool): u32 {
  const isLast = bytes > 0 && from + bytes == tcb.sndBufEnd;
  return FLAG_ACK | (isLast ? FLAG_PSH : 0) | (fin ? FLAG_FIN : 0);
}

/** Sends again what is lost. @returns false: the TX ring is full. */
export function resendLost(tcb: Tcb): bool {
  let forced = (tcb.flags & T.F_RETRANSMIT) != 0;
  if (flightOf(tcb).flags & FLIGHT_NEW_FIRST && !forced) return true;
  const mss = segmentMss(tcb);
  while (true) {
    const f = flightOf(tcb);
    const i = runFirstLost(f);
    if (i == <u32>f.count) {
      tcb.flags &= ~T.F_RETRANSMIT;
      return true;
    }
    const from = runStart(f, i);
    const bytes = min(runAt(f, i).end - from, mss);
    const pipe = pipeBytes(tcb);
    // The first one goes whatever the windows say: a peer that has taken its window back (RFC 9293 3.8.6) must not
    // keep us from ever sending.
    if (!forced && (pipe + bytes > tcb.cwnd || seqGt(from + bytes, tcb.sndUna + tcb.sndWnd))) return true;
    if (!forced && !pacingAllows(tcb)) return true;
    const fin = seqGt(from + bytes, tcb.sndBufEnd);
    if (!emit(tcb, from, resentFlags(tcb, from, bytes - (fin ? 1 : 0), fin), bytes - (fin ? 1 : 0))) return false;
    countRetransmission(tcb);
    recoverySent(tcb, bytes);
    pacingSent(tcb, bytes);
    recoveryResent(tcb, bytes, timestampOf(tcb));
    forced = false;
    tcb.flags &= ~T.F_RETRANSMIT;
    if (!(tcb.flags & (T.F_TIMER_RTO | T.F_TIMER_REO))) lossTimerArm(tcb);
    if (!runResent(tcb, i, from + bytes)) return true;
  }
}

/** Fast retransmit: one segment at SND.UNA (RFC 5681 3.2). @returns false: the TX ring is full. */
export function resendFirst(tcb: Tcb): bool {
  const inFlight = tcb.sndMax - tcb.sndUna;
  if (inFlight == 0) {
    tcb.flags &= ~T.F_RETRANSMIT;
    return true;
  }
  const data = seqLt(tcb.sndUna, tcb.sndBufEnd) ? tcb.sndBufEnd - tcb.sndUna : 0;
  const bytes = min(min(data, segmentMss(tcb)), inFlight);
  const fin = (tcb.flags & T.F_FIN_QUEUED) != 0 && bytes == data && inFlight > bytes;
  if (!emit(tcb, tcb.sndUna, resentFlags(tcb, tcb.sndUna, bytes, fin), bytes)) return false;
  tcb.flags &= ~T.F_RETRANSMIT;
  countRetransmission(tcb);
  coldOf(tcb).rttStartUs = nowUs;
  tcb.sndNxt = seqMax(tcb.sndNxt, tcb.sndUna + bytes + (fin ? 1 : 0));
  // Not anew: congestion.ts says which ACKs restart the timer.
  if (!(tcb.flags & T.F_TIMER_RTO)) rtoArm(tcb);
  return true;
}
