/**
 * Path MTU without ICMP: RFC 4821 as Linux has it with tcp_mtu_probing 1 (RFC 8899 is the same for datagrams).
 *
 * *Black hole*: a segment that has been sent three times and does not arrive may be too large for a router that tells
 * nobody. Then segments shrink to a size that nearly every path carries, and further with each time-out that follows.
 *
 * *Search*: once data gets through again, single segments of new data that are larger look for the largest that does.
 * The size is halved between what works and what does not. A probe that alone is lost says nothing about congestion
 * (RFC 4821 7.6.2). The result holds for ten minutes, for new connections to that address, too.
 *
 * Sizes are payload bytes without options, as in SND.MSS. State: settings.ts, for connections that have met a black
 * hole; the others pay for one look at a global. A connection that moves to another kernel goes on searching there.
 */
import { mtuProbing } from "../config.ts";
import { pathMtuLearn } from "../ip/pathMtu.ts";
import { TCP_BLACK_HOLES, TCP_MTU_PROBES, TCP_MTU_PROBES_FAILED } from "../../src/layout/counters.ts";
import { count } from "../stats.ts";
import { nowTick, tickReached, ticksOfMs } from "../time.ts";
import { ipBytesOf, isV6, remoteAt } from "./addresses.ts";
import { Flight, flightIsClean, pipeBytes, runAt, runStart, FLIGHT_FRTO, FLIGHT_UNDO } from "./flightRecord.ts";
import { runFirstLost } from "./flight.ts";
import { pacingAllows } from "./pacing.ts";
import { seqGeq, seqGt, seqLt } from "./seq.ts";
import { Settings, settingsCount, settingsFind, settingsOf } from "./settings.ts";
import * as T from "./tcb.ts";
import { Tcb, coldOf } from "./tcb.ts";

/** Time-outs in a row that make a path suspect (Linux: tcp_retries1). */
const TIMEOUTS_SUSPECT: u32 = 3;
/** RFC 4821 7.2: what to begin with. Linux: tcp_base_mss. */
const BASE_MSS_V4: u32 = 1024;
/** No path is narrower than these (IPv4: Linux's min_pmtu; IPv6: RFC 8200 5). */
const MTU_MIN_V4: u32 = 552;
const MTU_MIN_V6: u32 = 1280;
/** Segments that must be able to follow a probe, so that its loss is seen without a time-out. */
const FOLLOWING: u32 = 4;
/** A smaller gain is not worth a probe (Linux: tcp_probe_threshold). */
const GAIN_MIN: u32 = 8;
/** RFC 4821 7.7: the path may have changed (Linux: tcp_probe_interval). */
const REPEAT_MS: u32 = 600000;

/** Bytes of headers in front of a full segment's payload. */
function overhead(tcb: Tcb): u32 {
  return ipBytesOf(tcb.localIndex) + 20 + (tcb.flags & T.F_TIMESTAMPS ? 12 : 0);
}

/** Settings of a connection that searches; null: it does not. */
function searchOf(tcb: Tcb): Settings {
  if (settingsCount == 0 || !(coldOf(tcb).traits & T.TRAIT_MTU_SEARCH)) return changetype<Settings>(0);
  return settingsFind(T.tcbIndex(tcb));
}

/** The retransmission timer of a synchronized connection has fired, for the `backoff` + 1st time in a row. */
export function mtuTimeout(tcb: Tcb): void {
  const search = searchOf(tcb);
  if (changetype<usize>(search) != 0 && search.probeBytes != 0) {
    // Nothing told what became of it: RFC 4821 7.6.3 takes it for failed when it is what is missing.
    if (tcb.sndUna == search.probeSeq) probeFailed(search);
    search.probeBytes = 0;
  }
  if (mtuProbing == 0 || <u32>tcb.backoff + 1 < TIMEOUTS_SUSPECT) return;
  const mss = <u32>tcb.sndMss;
  const least = (isV6(tcb) ? MTU_MIN_V6 : MTU_MIN_V4) - overhead(tcb);
  const base = isV6(tcb) ? least : BASE_MSS_V4 - (overhead(tcb) - 40);
  const smaller = mss > base ? base : max(mss >> 1, least);
  // What does not arrive is not large: the reason is another.
  if (smaller >= mss || tcb.sndMax - tcb.sndUna <= smaller) return;
  count(TCP_BLACK_HOLES);
  searchBegin(tcb, mss);
  tcb.sndMss = <u16>smaller;
}

/** @param top payload up to which the search will go. Where there is no room for its state there will be none. */
function searchBegin(tcb: Tcb, top: u32): void {
  if (!(coldOf(tcb).traits & T.TRAIT_SACK)) return;
  const known = searchOf(tcb);
  if (changetype<usize>(known) != 0) return;
  const search = settingsOf(T.tcbIndex(tcb));
  if (changetype<usize>(search) == 0) return;
  coldOf(tcb).traits |= T.TRAIT_MTU_SEARCH;
  search.probeBytes = 0;
  search.probeTop = <u16>top;
  search.probeHigh = <u16>top;
}

function searchEnd(tcb: Tcb): void {
  coldOf(tcb).traits &= ~T.TRAIT_MTU_SEARCH;
}

/** A router has told after all (RFC 1191, RFC 8201). @param mss payload that its MTU leaves room for. */
export function mtuTold(tcb: Tcb, mss: u32): void {
  const search = searchOf(tcb);
  if (changetype<usize>(search) == 0) return;
  search.probeTop = <u16>min(<u32>search.probeTop, mss);
  search.probeHigh = <u16>min(<u32>search.probeHigh, mss);
}

/** Payload of the probe to be sent now, 0: none is due, or it could not be lost without harm. */
export function mtuProbeBytes(tcb: Tcb): u32 {
  const search = searchOf(tcb);
  if (changetype<usize>(search) == 0) {
    searchEnd(tcb);
    return 0;
  }
  if (search.probeBytes != 0 || !isQuiet(tcb)) return 0;
  const low = <u32>tcb.sndMss;
  if (<u32>search.probeHigh < low + GAIN_MIN) {
    if (<u32>search.probeTop < low + GAIN_MIN) {
      searchEnd(tcb);
      return 0;
    }
    if (!tickReached(search.probeTick, nowTick)) return 0;
    search.probeHigh = search.probeTop;
  }
  const bytes = (low + <u32>search.probeHigh + 1) >> 1;
  const needed = bytes + FOLLOWING * low;
  const seq = tcb.sndMax;
  // Once the FIN has been sent SND.NXT is beyond the last byte.
  if (seqGt(seq + needed, tcb.sndBufEnd) || seqGt(seq + needed, tcb.sndUna + tcb.sndWnd)) return 0;
  if (pipeBytes(tcb) + bytes > tcb.cwnd || !pacingAllows(tcb)) return 0;
  return bytes;
}

/** It has left. */
export function mtuProbed(tcb: Tcb, seq: u32, bytes: u32): void {
  const search = searchOf(tcb);
  count(TCP_MTU_PROBES);
  search.probeSeq = seq;
  search.probeBytes = <u16>bytes;
}

/** Nothing is amiss that a probe could be confused with (Linux: tcp_mtu_probe). */
function isQuiet(tcb: Tcb): bool {
  if (tcb.flags & (T.F_RECOVERY | T.F_RTO_RECOVERY | T.F_RETRANSMIT) || tcb.ext != 0) return false;
  return tcb.sndNxt == tcb.sndMax && !(coldOf(tcb).traits & T.TRAIT_CWR_STATE) && flightIsClean(tcb);
}

/** SND.UNA has moved. */
export function mtuAcked(tcb: Tcb): void {
  const search = searchOf(tcb);
  if (changetype<usize>(search) == 0 || search.probeBytes == 0) return;
  if (seqLt(tcb.sndUna, search.probeSeq + <u32>search.probeBytes)) return;
  tcb.sndMss = search.probeBytes;
  search.probeBytes = 0;
  noteResult(tcb, search);
}

/** What is between the probe's ends goes again, in pieces: their arrival says nothing about the probe. */
export function mtuResent(tcb: Tcb): void {
  const search = searchOf(tcb);
  if (changetype<usize>(search) != 0) search.probeBytes = 0;
}

/**
 * Something of an otherwise healthy connection has just been judged lost.
 * @returns true: it was only the probe. It is sent again, and the window stays.
 */
export function mtuProbeLost(tcb: Tcb, f: Flight): bool {
  const search = searchOf(tcb);
  if (changetype<usize>(search) == 0 || search.probeBytes == 0) return false;
  const i = runFirstLost(f);
  if (i == <u32>f.count) return false;
  const end = search.probeSeq + <u32>search.probeBytes;
  const start = runStart(f, i);
  const within = seqGeq(start, search.probeSeq) && !seqGt(runAt(f, i).end, end);
  if (!within || f.lostBytes != runAt(f, i).end - start) return false;
  probeFailed(search);
  noteResult(tcb, search);
  f.flags &= ~(FLIGHT_UNDO | FLIGHT_FRTO);
  coldOf(tcb).recover = tcb.sndMax;
  tcb.flags |= T.F_RTO_RECOVERY;
  return true;
}

function probeFailed(search: Settings): void {
  count(TCP_MTU_PROBES_FAILED);
  search.probeHigh = search.probeBytes - 1;
  search.probeBytes = 0;
}

/** The search is over for now: what was found is of use to others. */
function noteResult(tcb: Tcb, search: Settings): void {
  if (<u32>search.probeHigh >= <u32>tcb.sndMss + GAIN_MIN) return;
  search.probeTick = nowTick + ticksOfMs(REPEAT_MS);
  if (search.probeHigh < search.probeTop) pathMtuLearn(remoteAt(tcb), <u32>tcb.sndMss + overhead(tcb));
}
