/**
 * BBR as an option: a model of the path (bottleneck bandwidth, shortest round trip, and how much in flight it bears)
 * sets pacing rate and window. After draft-ietf-ccwg-bbr (version 3), whose names the constants and phases keep.
 * Deviates: the wait between bandwidth probes is in rounds (as beside Reno) or two to three seconds, extra
 * acknowledgement is not estimated, and ECN is not looked at. It needs SACK; a connection without it grows as Reno
 * does. The flight block stays for the connection's life.
 */
import { nowUs } from "../time.ts";
import { FLIGHT_RATE_LIMITED, Flight, flightOf, pipeBytes } from "./flightRecord.ts";
import {
  ackDelivered,
  ackHasRun,
  ackRttUs,
  ackRunDelivered,
  ackRunDeliveredUs,
  ackRunFirstSentUs,
  ackRunPipe,
  ackRunSentUs,
} from "./flight.ts";
import { initialWindow } from "./algorithm.ts";
import { LOSS_DIVISOR } from "./bbrLoss.ts";
import { seqGeq } from "./seq.ts";
import { Tcb } from "./tcb.ts";

const STARTUP: u8 = 0;
const DRAIN: u8 = 1;
const PROBE_DOWN: u8 = 2;
const PROBE_CRUISE: u8 = 3;
const PROBE_REFILL: u8 = 4;
const PROBE_UP: u8 = 5;
const PROBE_RTT: u8 = 6;

/** Bits of bbrFlags. */
const STARTED: u8 = 1;
const FULL: u8 = 2;
const IN_PROBE_RTT: u8 = 4;
/** What is lost now may be what a probe for bandwidth has sent (the draft's bw_probe_samples). */
const PROBE_SAMPLES: u8 = 8;

/** Gains in 1/256: 2.77, 0.5, 0.9, 1, 1.25; of the window 2, and 2.25 while probing up. */
const GAIN_STARTUP: u64 = 709;
const GAIN_DRAIN: u64 = 128;
const GAIN_DOWN: u64 = 230;
const GAIN_ONE: u64 = 256;
const GAIN_UP: u64 = 320;
const GAIN_CWND: u64 = 512;
const GAIN_CWND_UP: u64 = 576;
/** 0.7 and 0.85, in 1/256: what is left after too much loss, and what is used of inflight_hi while cruising. */
const BETA: u64 = 179;
const HEADROOM: u64 = 218;
const FULL_ROUNDS: u8 = 3;
const MIN_RTT_WINDOW_US: u32 = 10000000;
const PROBE_RTT_INTERVAL_US: u32 = 5000000;
const PROBE_RTT_US: u32 = 200000;
/** A probe for bandwidth comes at least this often (63 rounds: where Reno would have regained a window of 63). */
const PROBE_ROUNDS_MAX: u32 = 63;
const NONE: u32 = 0xffffffff;

function begin(tcb: Tcb, f: Flight): void {
  f.bbrFlags = STARTED;
  f.bbrMode = STARTUP;
  f.bbrMinRttUs = tcb.srttUs8 == 0 ? NONE : max<u32>(tcb.srttUs8 >> 3, 1);
  f.bbrMinRttAtUs = nowUs;
  f.bbrProbeRttEndUs = nowUs;
  f.bbrInflightHi = NONE;
  f.bbrInflightLo = NONE;
  f.bbrBwLo = NONE;
  f.bbrRoundEnd = f.delivered;
  f.bbrPhaseAtUs = nowUs;
  f.bbrLostSeen = f.lostTotal;
  f.bbrTooHigh = 0;
}

function bandwidth(f: Flight): u32 {
  return min(max(f.bbrBwMax0, f.bbrBwMax1), f.bbrBwLo);
}

/** Bandwidth-delay product times a gain, in bytes. */
function inflight(f: Flight, bw: u32, gain: u64): u32 {
  if (f.bbrMinRttUs == NONE) return 0;
  return <u32>min<u64>((((<u64>bw * f.bbrMinRttUs) / 1000000) * gain) >> 8, 1 << 30);
}

/**
 * Takes the ACK being processed into account (flight.ts has what it told), and sets rate and window.
 * Preconditions: there is a flight block.
 */
export function bbrAck(tcb: Tcb): void {
  const f = flightOf(tcb);
  if (!(f.bbrFlags & STARTED)) begin(tcb, f);
  const roundStart = updateRound(f);
  updateBandwidth(f);
  updateLoss(tcb, f, roundStart);
  updateMinRtt(tcb, f);
  updatePhase(tcb, f, roundStart);
  setRate(tcb, f);
  setWindow(tcb, f);
  f.bbrTooHigh = 0;
  if (!roundStart) return;
  f.bbrRoundLost = 0;
  f.bbrRoundDelivered = 0;
  f.bbrBwLatest = 0;
  f.bbrInflightLatest = 0;
}

/** A recovery begins: what it does to the bounds may be a mistake. */
export function bbrRecoveryBegins(f: Flight): void {
  f.bbrUndoBwLo = f.bbrBwLo;
  f.bbrUndoInflightLo = f.bbrInflightLo;
  f.bbrUndoInflightHi = f.bbrInflightHi;
  f.bbrUndoMode = f.bbrMode;
}

/** It was a mistake: nothing had been lost. A probe that has ended for it goes on, and so does STARTUP. */
export function bbrUndo(f: Flight): void {
  f.bbrFullBw = 0;
  f.bbrFullCount = 0;
  if (f.bbrMode != PROBE_RTT && f.bbrMode != f.bbrUndoMode) {
    if (f.bbrUndoMode == STARTUP) {
      f.bbrMode = STARTUP;
      f.bbrFlags &= ~FULL;
    } else if (f.bbrUndoMode == PROBE_UP) {
      enterUp(f);
    }
  }
  f.bbrBwLo = max(f.bbrBwLo, f.bbrUndoBwLo);
  f.bbrInflightLo = max(f.bbrInflightLo, f.bbrUndoInflightLo);
  f.bbrInflightHi = max(f.bbrInflightHi, f.bbrUndoInflightHi);
  f.bbrLostSeen = f.lostTotal;
  f.bbrRoundLost = 0;
  f.bbrTooHigh = 0;
}

function updateRound(f: Flight): bool {
  f.bbrRoundLost += f.lostTotal - f.bbrLostSeen;
  f.bbrLostSeen = f.lostTotal;
  f.bbrRoundDelivered += ackDelivered;
  if (!ackHasRun || !seqGeq(ackRunDelivered, f.bbrRoundEnd)) return false;
  f.bbrRoundEnd = f.delivered;
  f.bbrRounds++;
  return true;
}

/** draft-cheng-iccrg-delivery-rate-estimation: delivered over the longer of the time to send and to be acknowledged. */
function updateBandwidth(f: Flight): void {
  if (!ackHasRun || ackDelivered == 0) return;
  const interval = max(ackRunSentUs - ackRunFirstSentUs, nowUs - ackRunDeliveredUs);
  f.firstSentUs = ackRunSentUs;
  if (interval == 0 || <i32>interval < 0 || (f.bbrMinRttUs != NONE && interval < f.bbrMinRttUs)) return;
  const rate = <u32>min<u64>((<u64>(f.delivered - ackRunDelivered) * 1000000) / interval, NONE - 1);
  f.deliveryRate = rate;
  f.flags = ackRunPipe >> 31 ? f.flags | FLIGHT_RATE_LIMITED : f.flags & ~FLIGHT_RATE_LIMITED;
  f.bbrBwLatest = max(f.bbrBwLatest, rate);
  f.bbrInflightLatest = max(f.bbrInflightLatest, f.delivered - ackRunDelivered);
  // An application that had nothing to send says nothing about the path, unless it was faster than known.
  if (ackRunPipe >> 31 && rate < max(f.bbrBwMax0, f.bbrBwMax1)) return;
  f.bbrBwMax1 = max(f.bbrBwMax1, rate);
}

/** Deviates: a segment more than the draft's 2 %. One alone is no rate: in a round of few it would be too much. */
function isLossy(tcb: Tcb, f: Flight): bool {
  return f.bbrRoundLost > (f.bbrRoundLost + f.bbrRoundDelivered) / LOSS_DIVISOR + <u32>tcb.sndMss;
}

function updateLoss(tcb: Tcb, f: Flight, roundStart: bool): void {
  if (f.bbrMode == STARTUP) {
    if (roundStart && isLossy(tcb, f) && f.bbrRoundLost > 6 * <u32>tcb.sndMss) {
      f.bbrFlags |= FULL;
      f.bbrInflightHi = max(inflight(f, bandwidth(f), GAIN_ONE), pipeBytes(tcb));
    }
    return;
  }
  if (f.bbrFlags & PROBE_SAMPLES) {
    updateBound(tcb, f);
    // A round trip after the probe all that it sent has been heard of.
    if (roundStart && f.bbrMode != PROBE_UP) f.bbrFlags &= ~PROBE_SAMPLES;
  }
  if (f.bbrMode == PROBE_UP || f.bbrMode == PROBE_REFILL) return;
  // Deviates: the draft lets any loss lower these bounds. With a loss of 1 % that is not congestion's they would sink
  // round by round until the next probe; so it takes a round that loses more than BBR bears elsewhere.
  if (!roundStart || f.bbrMode == DRAIN || !isLossy(tcb, f)) return;
  // While not probing, the short-term bounds follow what gets through; going down, the rate is held back by ourselves.
  const bw = bandwidth(f);
  const latest = f.bbrMode == PROBE_DOWN ? ((<u64>f.bbrBwLatest) << 8) / GAIN_DOWN : f.bbrBwLatest;
  f.bbrBwLo = <u32>min<u64>(max<u64>(latest, (<u64>bw * BETA) >> 8), bw);
  const before = f.bbrInflightLo == NONE ? tcb.cwnd : f.bbrInflightLo;
  f.bbrInflightLo = max(f.bbrInflightLatest, <u32>((<u64>before * BETA) >> 8));
}

/** Of a probe: too much was in flight when more than its share of it is lost; else so much can be. */
function updateBound(tcb: Tcb, f: Flight): void {
  if (f.bbrTooHigh != 0) {
    // Once for each probe.
    f.bbrFlags &= ~PROBE_SAMPLES;
    const target = min(inflight(f, bandwidth(f), GAIN_ONE), tcb.cwnd);
    f.bbrInflightHi = max(f.bbrTooHigh, <u32>((<u64>target * BETA) >> 8));
    if (f.bbrMode == PROBE_UP) enterDown(f);
    return;
  }
  if (f.bbrInflightHi != NONE && ackHasRun) f.bbrInflightHi = max(f.bbrInflightHi, ackRunPipe & 0x7fffffff);
}

function updateMinRtt(tcb: Tcb, f: Flight): void {
  if (ackRttUs != 0 && (ackRttUs <= f.bbrMinRttUs || nowUs - f.bbrMinRttAtUs > MIN_RTT_WINDOW_US)) {
    f.bbrMinRttUs = ackRttUs;
    f.bbrMinRttAtUs = nowUs;
    f.bbrProbeRttEndUs = nowUs;
  }
  if (f.bbrMode == PROBE_RTT) {
    if (!(f.bbrFlags & IN_PROBE_RTT)) {
      if (pipeBytes(tcb) > probeRttWindow(tcb, f)) return;
      f.bbrFlags |= IN_PROBE_RTT;
      f.bbrPhaseAtUs = nowUs;
      return;
    }
    if (nowUs - f.bbrPhaseAtUs < max(PROBE_RTT_US, f.bbrMinRttUs)) return;
    f.bbrProbeRttEndUs = nowUs;
    f.bbrFlags &= ~IN_PROBE_RTT;
    tcb.cwnd = max(tcb.cwnd, f.bbrPriorCwnd);
    if (f.bbrFlags & FULL) enterDown(f);
    else f.bbrMode = STARTUP;
    return;
  }
  // The minimum must be seen anew: the queue that we make ourselves is drained for a moment.
  if (f.bbrFlags & FULL && nowUs - f.bbrProbeRttEndUs > PROBE_RTT_INTERVAL_US) {
    f.bbrMode = PROBE_RTT;
    f.bbrPriorCwnd = tcb.cwnd;
    f.bbrFlags &= ~IN_PROBE_RTT;
  }
}

function probeRttWindow(tcb: Tcb, f: Flight): u32 {
  return max(inflight(f, bandwidth(f), GAIN_ONE) >> 1, 4 * <u32>tcb.sndMss);
}

function enterDown(f: Flight): void {
  f.bbrMode = PROBE_DOWN;
  f.bbrPhaseAtUs = nowUs;
  f.bbrCycle = <u8>(f.bbrRounds & 0xff);
  // The bandwidth of two cycles is remembered. One in which the application was the limit all the time has none to tell
  // (the draft advances its filter without is_app_limited alone).
  if (f.bbrBwMax1 != 0) f.bbrBwMax0 = f.bbrBwMax1;
}

function updatePhase(tcb: Tcb, f: Flight, roundStart: bool): void {
  const bw = bandwidth(f);
  const pipe = pipeBytes(tcb);
  switch (<u32>f.bbrMode) {
    case STARTUP: {
      if (roundStart && !(ackRunPipe >> 31)) noteFullBandwidth(f);
      if (f.bbrFlags & FULL) f.bbrMode = DRAIN;
      return;
    }
    case DRAIN: {
      if (pipe <= inflight(f, bw, GAIN_ONE)) enterDown(f);
      return;
    }
    case PROBE_DOWN: {
      const bound = f.bbrInflightHi == NONE ? NONE : <u32>((<u64>f.bbrInflightHi * HEADROOM) >> 8);
      if (probeIsDue(tcb, f, bw)) enterRefill(f);
      else if (pipe <= min(inflight(f, bw, GAIN_ONE), bound)) f.bbrMode = PROBE_CRUISE;
      return;
    }
    case PROBE_CRUISE: {
      if (probeIsDue(tcb, f, bw)) enterRefill(f);
      return;
    }
    case PROBE_REFILL: {
      if (!roundStart) return;
      enterUp(f);
      f.bbrBwMax1 = 0;
      f.bbrBwMax0 = max(f.bbrBwMax0, bw);
      f.bbrFullBw = bw;
      return;
    }
    case PROBE_UP: {
      // What the bound allows and got through without loss is not the bound.
      if (roundStart && f.bbrInflightHi != NONE && pipe + ackDelivered + 2 * <u32>tcb.sndMss >= f.bbrInflightHi) {
        f.bbrInflightHi += f.bbrInflightHi >> 2;
      }
      // More gets through than before: the probe goes on as long as that grows.
      if (roundStart && <u64>f.bbrBwMax1 * 8 >= <u64>f.bbrFullBw * 9) {
        f.bbrFullBw = f.bbrBwMax1;
        f.bbrPhaseAtUs = nowUs;
      }
      const longEnough = nowUs - f.bbrPhaseAtUs > f.bbrMinRttUs;
      if (longEnough && pipe >= inflight(f, bandwidth(f), GAIN_UP)) enterDown(f);
      else if (nowUs - f.bbrPhaseAtUs > 8 * f.bbrMinRttUs) enterDown(f);
      return;
    }
    default:
      return;
  }
}

function probeIsDue(tcb: Tcb, f: Flight, bw: u32): bool {
  const rounds = <u32>(<u8>(f.bbrRounds - <u32>f.bbrCycle));
  const wait = min(inflight(f, bw, GAIN_ONE) / <u32>tcb.sndMss, PROBE_ROUNDS_MAX);
  // Two to three seconds at most, drawn by the connection.
  const longest: u32 = 2000000 + (((tcb.hash ^ f.bbrRounds) & 1023) << 10);
  return rounds >= max<u32>(wait, 1) || nowUs - f.bbrPhaseAtUs >= longest;
}

function enterRefill(f: Flight): void {
  f.bbrMode = PROBE_REFILL;
  f.bbrBwLo = NONE;
  f.bbrInflightLo = NONE;
  f.bbrRoundEnd = f.delivered;
  f.bbrPhaseAtUs = nowUs;
}

function enterUp(f: Flight): void {
  f.bbrMode = PROBE_UP;
  f.bbrFlags |= PROBE_SAMPLES;
  f.bbrPhaseAtUs = nowUs;
}

/** Three rounds without growth by a quarter: the pipe is full. */
function noteFullBandwidth(f: Flight): void {
  const bw = max(f.bbrBwMax0, f.bbrBwMax1);
  if (<u64>bw * 4 >= <u64>f.bbrFullBw * 5) {
    f.bbrFullBw = bw;
    f.bbrFullCount = 0;
    return;
  }
  if (++f.bbrFullCount >= FULL_ROUNDS) f.bbrFlags |= FULL;
}

function pacingGain(mode: u8): u64 {
  switch (<u32>mode) {
    case STARTUP:
      return GAIN_STARTUP;
    case DRAIN:
      return GAIN_DRAIN;
    case PROBE_DOWN:
      return GAIN_DOWN;
    case PROBE_UP:
      return GAIN_UP;
    default:
      return GAIN_ONE;
  }
}

function setRate(tcb: Tcb, f: Flight): void {
  const bw = bandwidth(f);
  let rate: u64;
  if (bw == 0 || f.bbrBwMax1 + f.bbrBwMax0 == 0) {
    const rtt = max<u64>(tcb.srttUs8 >> 3, 1000);
    rate = (<u64>tcb.cwnd * 1000000 * GAIN_STARTUP) / (rtt << 8);
  } else {
    // One per cent below what the path seems to bear, so that queues go away.
    rate = (<u64>bw * pacingGain(f.bbrMode) * 99) / 25600;
  }
  rate = min<u64>(max<u64>(rate, tcb.sndMss), NONE);
  // In STARTUP a sample that is too low must not slow it down.
  if (f.bbrFlags & FULL || <u32>rate > f.pacingRate) f.pacingRate = <u32>rate;
}

function setWindow(tcb: Tcb, f: Flight): void {
  const mss = <u32>tcb.sndMss;
  const bw = bandwidth(f);
  const quantum = max(2 * mss, <u32>min<u64>(<u64>f.pacingRate / 1000, 65536));
  const target = inflight(f, bw, f.bbrMode == PROBE_UP ? GAIN_CWND_UP : GAIN_CWND) + 3 * quantum;
  if (f.bbrFlags & FULL) tcb.cwnd = min(tcb.cwnd + ackDelivered, target);
  else if (tcb.cwnd < target || f.delivered < initialWindow(tcb)) tcb.cwnd += ackDelivered;
  let bound: u32 = NONE;
  if (f.bbrMode == PROBE_CRUISE) bound = <u32>((<u64>f.bbrInflightHi * HEADROOM) >> 8);
  else if (f.bbrFlags & FULL) bound = f.bbrInflightHi;
  if (f.bbrInflightHi == NONE) bound = NONE;
  bound = min(bound, f.bbrInflightLo);
  if (f.bbrMode == PROBE_RTT) bound = min(bound, probeRttWindow(tcb, f));
  tcb.cwnd = max(min(min(tcb.cwnd, bound), 1 << 30), 4 * mss);
}
