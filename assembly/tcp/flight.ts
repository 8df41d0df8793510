/**
 * What is in flight: when it was sent, what of it the peer has reported by SACK, what is lost, what was sent again.
 *
 * The flight block exists while a connection has more in flight than one burst; until then all that is in flight was
 * sent at `rttStartUs`. It is given back once the connection has been idle for a while (timeouts.ts). It holds runs:
 * sorted, gapless stretches of sequence space from `una` on whose bytes share time and state. Bursts less than 1/64 of
 * the round-trip time apart share a run, so a window takes about 64 of them, however many segments it has; each hole
 * takes two more. The block grows by doubling from 22 runs to RUNS_MAX (1014). At that bound new bursts join the last
 * run (it counts as sent later: losses are found later), and SACK blocks that would split a run are not believed
 * (counted): what they report is sent again at worst.
 *
 * ```
 * block from the stream pool, 1 to 32 KiB:   +0 Flight   +FLIGHT_HEADER_BYTES runs, 1 << RUN_SHIFT bytes each
 * ```
 * No pointers in it: it can be copied as it is.
 */
import { DROP_TCP_SACK_LIMIT } from "../../src/layout/counters.ts";
import { CONGESTION_BBR } from "../../src/layout/option.ts";
import { streamAlloc, streamFree } from "../mem/streamPool.ts";
import { count } from "../stats.ts";
import { nowUs } from "../time.ts";
import { accountMinRtt, hasAccount } from "./account.ts";
import { congestionOf } from "./algorithm.ts";
import { bbrLost } from "./bbrLoss.ts";
import { duplicateSent } from "./duplicates.ts";
import {
  Flight,
  FLIGHT_FRTO,
  FLIGHT_HEADER_BYTES,
  FLIGHT_NEW_FIRST,
  FLIGHT_ORDER_MAX,
  FLIGHT_ORDER_MIN,
  FLIGHT_RACK,
  FLIGHT_REORDERED,
  FLIGHT_UNDO,
  FLIGHT_UNDO_SENT,
  flightOf,
  LOST_UNIT_SHIFT,
  pipeBytes,
  REORDERED_SHIFT,
  Run,
  RUN_EVER,
  RUN_LOST,
  RUN_RETRANS,
  RUN_SACKED,
  RUN_SHIFT,
  runAt,
  RUNS_MAX,
  runStart,
} from "./flightRecord.ts";
import { historyReordered } from "./history.ts";
import { seqGeq, seqGt, seqLeq, seqLt } from "./seq.ts";
import { F_IN_ACCEPT_QUEUE, Tcb, coldOf } from "./tcb.ts";

/** Kept back from new bursts, and from SACK blocks: marks of retransmissions must always find room. */
const BURSTS_RESERVE: u32 = 32;
const SACK_RESERVE: u32 = 8;

// What the ACK being processed has told; set by flightAckBegin, flightAcked and sack.ts.

/** Bytes newly delivered, by ACK or SACK. */
export let ackDelivered: u32 = 0;
/** Of those, by SACK. */
export let ackSacked: u32 = 0;
/** Round-trip time of the latest byte newly delivered and sent once, 0: none. */
export let ackRttUs: u32 = 0;
/** Bytes newly judged lost. */
export let ackLost: u32 = 0;
/** Something below `recover` was delivered that has been sent only once (F-RTO). */
export let ackOriginal: bool = false;
/** A run newly delivered with the latest send time: for delivery rate samples. */
export let ackRunDelivered: u32 = 0;
export let ackRunDeliveredUs: u32 = 0;
export let ackRunFirstSentUs: u32 = 0;
export let ackRunSentUs: u32 = 0;
export let ackRunPipe: u32 = 0;
export let ackHasRun: bool = false;

/** Flight.fack before this ACK. */
let fackBefore: u32 = 0;
/** Whose ACK it is; null once it has told of reordering, for which it is counted once. */
let unreordered: Tcb = changetype<Tcb>(0);

export function flightAckBegin(tcb: Tcb): void {
  if (tcb.flight != 0) fackBefore = flightOf(tcb).fack;
  unreordered = tcb;
  ackDelivered = 0;
  ackSacked = 0;
  ackRttUs = 0;
  ackLost = 0;
  ackOriginal = false;
  ackHasRun = false;
}

function ackNoteLost(bytes: u32): void {
  ackLost += bytes;
}

function capacity(f: Flight): u32 {
  return ((1 << (<u32>f.order)) - FLIGHT_HEADER_BYTES) >> RUN_SHIFT;
}

/**
 * Makes sure that there is a flight block.
 * @returns false when the pool is used up.
 */
export function flightEnsure(tcb: Tcb): bool {
  if (tcb.flight != 0) return true;
  if (!ASC_NO_ASSERT) assert(!(tcb.flags & F_IN_ACCEPT_QUEUE), "the block's W_max and the queue's link share a field");
  const block = streamAlloc(FLIGHT_ORDER_MIN);
  if (block == 0) return false;
  memory.fill(block, 0, FLIGHT_HEADER_BYTES);
  tcb.flight = <u32>block;
  const f = flightOf(tcb);
  f.order = <u8>FLIGHT_ORDER_MIN;
  f.reoWndSteps = 1;
  f.una = tcb.sndUna;
  f.fack = tcb.sndUna;
  f.minRttUs = 0xffffffff;
  if (tcb.srttUs8 != 0) noteMinRtt(f, max<u32>(tcb.srttUs8 >> 3, 1));
  f.roundEnd = tcb.sndMax;
  f.roundMinRttUs = 0xffffffff;
  f.lastRoundMinRttUs = 0xffffffff;
  f.lastAckUs = nowUs;
  f.wMax = <f64>coldOf(tcb).wMaxBytes;
  const sentUs = coldOf(tcb).rttStartUs;
  f.deliveredUs = sentUs;
  f.firstSentUs = sentUs;
  if (tcb.sndMax != tcb.sndUna) {
    f.count = 1;
    const run = runAt(f, 0);
    run.end = tcb.sndMax;
    runStamp(f, run, sentUs, tcb.sndMax - tcb.sndUna);
  }
  return true;
}

export function flightRelease(tcb: Tcb): void {
  if (tcb.flight == 0) return;
  const f = flightOf(tcb);
  coldOf(tcb).wMaxBytes = <u32>f.wMax;
  if (hasAccount(tcb) && f.minRttUs != 0xffffffff) accountMinRtt(tcb, f.minRttUs);
  streamFree(tcb.flight, f.order);
  tcb.flight = 0;
}

/** Forgets all that is known of what is in flight: it counts as sent now, once. */
export function flightForget(tcb: Tcb): void {
  if (tcb.flight == 0) return;
  const f = flightOf(tcb);
  f.una = tcb.sndUna;
  f.fack = tcb.sndUna;
  f.sackedBytes = 0;
  f.lostBytes = 0;
  f.retransBytes = 0;
  f.first = 0;
  f.count = 0;
  f.tlp = 0;
  f.flags &= ~(FLIGHT_FRTO | FLIGHT_NEW_FIRST | FLIGHT_UNDO | FLIGHT_UNDO_SENT);
  if (tcb.sndMax == tcb.sndUna) return;
  f.count = 1;
  const run = runAt(f, 0);
  run.end = tcb.sndMax;
  runStamp(f, run, nowUs, tcb.sndMax - tcb.sndUna);
  run.flags = RUN_EVER;
}

function runStamp(f: Flight, run: Run, sentUs: u32, pipe: u32): void {
  run.beginUs = sentUs;
  run.sentUs = sentUs;
  run.flags = 0;
  run.delivered = f.delivered;
  run.deliveredUs = f.deliveredUs;
  run.firstSentUs = f.firstSentUs;
  run.lostUnits = <u16>(f.lostTotal >> LOST_UNIT_SHIFT);
  run.pipe = pipe | (f.appLimited != 0 ? 0x80000000 : 0);
}

/** Enters [from, to), sent now for the first time. Before SND.MAX is moved. */
export function flightSent(tcb: Tcb, from: u32, to: u32): void {
  if (tcb.flight == 0) {
    // The first burst needs no record, but for BBR's samples.
    const first = tcb.sndUna == from || coldOf(tcb).rttStartUs == nowUs;
    if (first && congestionOf(tcb) != CONGESTION_BBR) return;
    if (!flightEnsure(tcb)) return;
  }
  const f = flightOf(tcb);
  const runs = <u32>f.count;
  if (runs != 0) {
    const last = runAt(f, runs - 1);
    const near = nowUs - last.beginUs <= tcb.srttUs8 >> 9;
    if (last.flags == 0 && (near || runs >= RUNS_MAX - BURSTS_RESERVE)) {
      last.end = to;
      last.sentUs = nowUs;
      last.pipe = (last.pipe & 0x80000000) | (pipeBytes(tcb) + (to - from));
      return;
    }
  } else {
    // Nothing in flight: the sample of the delivery rate begins here.
    f.una = tcb.sndUna;
    f.firstSentUs = nowUs;
    f.deliveredUs = nowUs;
  }
  append(tcb, to, pipeBytes(tcb) + (to - from));
}

function append(tcb: Tcb, to: u32, pipe: u32): void {
  if (!roomForOne(tcb)) {
    count(DROP_TCP_SACK_LIMIT);
    flightForget(tcb);
    const f = flightOf(tcb);
    f.count = 1;
    runAt(f, 0).end = to;
    runStamp(f, runAt(f, 0), nowUs, pipe);
    return;
  }
  const f = flightOf(tcb);
  const run = runAt(f, f.count);
  f.count++;
  run.end = to;
  runStamp(f, run, nowUs, pipe);
}

/** Room for one more run behind the last. @returns false: there is none. The block may have moved. */
function roomForOne(tcb: Tcb): bool {
  const f = flightOf(tcb);
  const size = capacity(f);
  if (<u32>f.first + <u32>f.count < size) return true;
  if (f.first > 0 && (<u32>f.first >= size >> 2 || <u32>f.order == FLIGHT_ORDER_MAX)) {
    const runs = changetype<usize>(f) + FLIGHT_HEADER_BYTES;
    memory.copy(runs, runs + ((<usize>f.first) << RUN_SHIFT), (<usize>f.count) << RUN_SHIFT);
    f.first = 0;
    return true;
  }
  if (<u32>f.order == FLIGHT_ORDER_MAX) return false;
  const larger = streamAlloc(<u32>f.order + 1);
  if (larger == 0) {
    if (f.first == 0) return false;
    const runs = changetype<usize>(f) + FLIGHT_HEADER_BYTES;
    memory.copy(runs, runs + ((<usize>f.first) << RUN_SHIFT), (<usize>f.count) << RUN_SHIFT);
    f.first = 0;
    return true;
  }
  memory.copy(larger, changetype<usize>(f), FLIGHT_HEADER_BYTES);
  memory.copy(larger + FLIGHT_HEADER_BYTES, changetype<usize>(runAt(f, 0)), (<usize>f.count) << RUN_SHIFT);
  streamFree(tcb.flight, f.order);
  tcb.flight = <u32>larger;
  flightOf(tcb).order++;
  flightOf(tcb).first = 0;
  return true;
}

/**
 * Divides run i at `at`, strictly inside it. The block may move.
 * @param reserve runs to leave free. @returns false: no room.
 */
function split(tcb: Tcb, i: u32, at: u32, reserve: u32): bool {
  if (<u32>flightOf(tcb).count + reserve >= RUNS_MAX || !roomForOne(tcb)) return false;
  const f = flightOf(tcb);
  const run = changetype<usize>(runAt(f, i));
  memory.copy(run + (1 << RUN_SHIFT), run, (<usize>(<u32>f.count - i)) << RUN_SHIFT);
  f.count++;
  changetype<Run>(run).end = at;
  return true;
}

/** First run that ends after `seq`; count: none. */
function runFind(f: Flight, seq: u32): u32 {
  let low: u32 = 0;
  let high: u32 = f.count;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (seqGt(runAt(f, middle).end, seq)) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** Takes runs i+1..j out; run i then ends where j did. */
function joinRuns(f: Flight, i: u32, j: u32): void {
  const into = changetype<usize>(runAt(f, i));
  changetype<Run>(into).end = runAt(f, j).end;
  const rest = changetype<usize>(runAt(f, j)) + (1 << RUN_SHIFT);
  memory.copy(into + (1 << RUN_SHIFT), rest, (<usize>(<u32>f.count - j - 1)) << RUN_SHIFT);
  f.count -= <u16>(j - i);
}

function noteMinRtt(f: Flight, rttUs: u32): void {
  // A minimum of five minutes ago says little (as in Linux).
  if (rttUs <= f.minRttUs || nowUs - f.minRttAtUs > 300000000) {
    f.minRttUs = rttUs;
    f.minRttAtUs = nowUs;
  }
}

/** Bytes of a run (or its part up to `end`) have been delivered for the first time. */
function delivered(f: Flight, run: Run, end: u32, sentUs: u32, bytes: u32, recover: u32): void {
  ackDelivered += bytes;
  f.delivered += bytes;
  if (run.flags & RUN_LOST) f.lostBytes -= bytes;
  if (run.flags & RUN_RETRANS) f.retransBytes -= bytes;
  const rttUs = max<u32>(nowUs - sentUs, 1);
  if (run.flags & RUN_EVER) {
    // Faster than any round trip: it was the first copy that arrived (RFC 8985 6.2, step 1).
    if (rttUs < f.minRttUs) return;
  } else {
    if (ackRttUs == 0 || rttUs < ackRttUs) ackRttUs = rttUs;
    if (seqLeq(end, recover)) ackOriginal = true;
    if (seqLt(end, fackBefore)) {
      f.flags |= FLIGHT_REORDERED;
      flightNoteReordered();
      const units = (fackBefore - (end - bytes)) >> REORDERED_SHIFT;
      f.reordered = <u16>max<u32>(f.reordered, min<u32>(units, 0xffff));
    }
  }
  if (seqGt(end, f.fack)) f.fack = end;
  if (!(f.flags & FLIGHT_RACK) || isSentAfter(sentUs, end, f.rackSentUs, f.rackEnd)) {
    f.rackSentUs = sentUs;
    f.rackEnd = end;
    f.rackRttUs = rttUs;
    f.flags |= FLIGHT_RACK;
  }
  if (!ackHasRun || <i32>(run.delivered - ackRunDelivered) >= 0) {
    ackHasRun = true;
    ackRunDelivered = run.delivered;
    ackRunDeliveredUs = run.deliveredUs;
    ackRunFirstSentUs = run.firstSentUs;
    ackRunSentUs = sentUs;
    ackRunPipe = run.pipe;
  }
}

/** The ACK being processed has told of reordering. */
export function flightNoteReordered(): void {
  if (changetype<usize>(unreordered) == 0) return;
  historyReordered(unreordered);
  unreordered = changetype<Tcb>(0);
}

/** RFC 8985 5.2: order of sending; in one burst by sequence number. */
export function isSentAfter(aUs: u32, aEnd: u32, bUs: u32, bEnd: u32): bool {
  return aUs == bUs ? seqGt(aEnd, bEnd) : <i32>(aUs - bUs) > 0;
}

/** SND.UNA moves to `ack`: takes out what it covers. */
export function flightAcked(tcb: Tcb, ack: u32): void {
  if (tcb.flight == 0) {
    ackDelivered = ack - tcb.sndUna;
    return;
  }
  const f = flightOf(tcb);
  const recover = coldOf(tcb).recover;
  let start = f.una;
  while (f.count != 0 && seqLt(start, ack)) {
    const run = runAt(f, 0);
    const whole = seqLeq(run.end, ack);
    const end = whole ? run.end : ack;
    if (run.flags & RUN_SACKED) f.sackedBytes -= end - start;
    else delivered(f, run, end, whole ? run.sentUs : run.beginUs, end - start, recover);
    start = end;
    if (!whole) break;
    f.first++;
    f.count--;
  }
  f.una = ack;
  f.deliveredUs = nowUs;
  if (seqLt(f.fack, ack)) f.fack = ack;
  if (f.count == 0) f.first = 0;
  if (ackRttUs != 0) noteMinRtt(f, ackRttUs);
}

/** The peer reports [start, end), within what is in flight. */
export function flightSacked(tcb: Tcb, start: u32, end: u32): void {
  const recover = coldOf(tcb).recover;
  let i = runFind(flightOf(tcb), start);
  while (i < <u32>flightOf(tcb).count) {
    const from = runStart(flightOf(tcb), i);
    if (seqGeq(from, end)) return;
    const run = runAt(flightOf(tcb), i);
    if (run.flags & RUN_SACKED) {
      i++;
      continue;
    }
    if (seqLt(from, start)) {
      if (!split(tcb, i, start, SACK_RESERVE)) break;
      i++;
      continue;
    }
    if (seqGt(run.end, end) && !split(tcb, i, end, SACK_RESERVE)) break;
    const f = flightOf(tcb);
    const whole = runAt(f, i);
    const bytes = whole.end - from;
    delivered(f, whole, whole.end, whole.sentUs, bytes, recover);
    ackSacked += bytes;
    f.sackedBytes += bytes;
    f.deliveredUs = nowUs;
    whole.flags = RUN_SACKED;
    i = joinSacked(f, i) + 1;
  }
  if (i < <u32>flightOf(tcb).count && seqLt(runStart(flightOf(tcb), i), end)) count(DROP_TCP_SACK_LIMIT);
  const f = flightOf(tcb);
  if (ackRttUs != 0) noteMinRtt(f, ackRttUs);
}

/** Joins run i with SACKed neighbours. @returns its index now. */
function joinSacked(f: Flight, i: u32): u32 {
  let low = i;
  let high = i;
  if (low > 0 && runAt(f, low - 1).flags & RUN_SACKED) low--;
  if (high + 1 < <u32>f.count && runAt(f, high + 1).flags & RUN_SACKED) high++;
  if (high != low) joinRuns(f, low, high);
  return low;
}

/** Judges run i lost; what was sent again is lost again. */
export function runLost(f: Flight, i: u32): void {
  const run = runAt(f, i);
  const bytes = run.end - runStart(f, i);
  if (run.flags & RUN_LOST) {
    if (!(run.flags & RUN_RETRANS)) return;
    f.retransBytes -= bytes;
    run.flags &= ~RUN_RETRANS;
  } else {
    f.lostBytes += bytes;
    run.flags |= RUN_LOST;
  }
  f.lostTotal += bytes;
  bbrLost(f, run, bytes);
  ackNoteLost(bytes);
}

/** First run that is lost and not sent again; count: none. */
export function runFirstLost(f: Flight): u32 {
  const runs = <u32>f.count;
  if (f.lostBytes == f.retransBytes) return runs;
  let i: u32 = 0;
  while (i < runs && (runAt(f, i).flags & (RUN_LOST | RUN_RETRANS)) != RUN_LOST) i++;
  return i;
}

/**
 * The first bytes of the lost run i, up to `end`, have been sent again now.
 * @returns false when that cannot be entered; nothing has changed then.
 */
export function runResent(tcb: Tcb, i: u32, end: u32): bool {
  if (seqLt(end, runAt(flightOf(tcb), i).end) && !split(tcb, i, end, 0)) return false;
  const f = flightOf(tcb);
  const run = runAt(f, i);
  f.retransBytes += run.end - runStart(f, i);
  runStamp(f, run, nowUs, pipeBytes(tcb));
  run.flags = RUN_LOST | RUN_RETRANS | RUN_EVER;
  // One run for what is sent again in one go.
  if (i > 0) {
    const before = runAt(f, i - 1);
    if (before.flags == run.flags && before.sentUs == nowUs) joinRuns(f, i - 1, i);
  }
  return true;
}

/** Bytes of [from, to) were sent again though nothing says that they are lost (TLP). */
export function flightProbed(tcb: Tcb, from: u32): void {
  const f = flightOf(tcb);
  let i = runFind(f, from);
  if (i >= <u32>f.count) return;
  if (seqLt(runStart(f, i), from)) {
    if (!split(tcb, i, from, 0)) return;
    i++;
  }
  const run = runAt(flightOf(tcb), i);
  // The judgement of losses goes by the last copy (RFC 8985 7.3).
  run.sentUs = nowUs;
  run.beginUs = nowUs;
  run.flags |= RUN_EVER;
  duplicateSent(flightOf(tcb));
}

/** Takes back all judgements of loss (the reduction was a mistake). */
export function flightUnlose(tcb: Tcb): void {
  const f = flightOf(tcb);
  for (let i: u32 = 0; i < <u32>f.count; i++) runAt(f, i).flags &= ~(RUN_LOST | RUN_RETRANS);
  f.lostBytes = 0;
  f.retransBytes = 0;
}

/** The peer has taken back what it reported (RFC 2018 8): SACK blocks so far say nothing. */
export function flightUnsack(tcb: Tcb): void {
  const f = flightOf(tcb);
  for (let i: u32 = 0; i < <u32>f.count; i++) {
    const run = runAt(f, i);
    if (run.flags & RUN_SACKED) run.flags = RUN_EVER;
  }
  f.sackedBytes = 0;
}
