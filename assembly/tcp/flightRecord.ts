/**
 * Records of what is in flight (flight.ts keeps them): the flight block's header, in which congestion control and
 * recovery have their state, and its runs.
 */
import { Tcb } from "./tcb.ts";

/** Reported by SACK. */
export const RUN_SACKED: u32 = 1;
/** Judged lost. */
export const RUN_LOST: u32 = 2;
/** Sent again, and that copy may still arrive. Only with RUN_LOST. */
export const RUN_RETRANS: u32 = 4;
/** Has been sent more than once: no RTT samples (Karn). */
export const RUN_EVER: u32 = 8;

@unmanaged
export class Run {
  /** Sequence number after its last byte; it begins where the one before ends. */
  end: u32;
  /** When its first and last byte were sent (last). */
  beginUs: u32;
  sentUs: u32;
  private flagsByte: u8;
  unused: u8;
  /** Flight.lostTotal when it was sent, in units of 2^LOST_UNIT_SHIFT, modulo 2^16. */
  lostUnits: u16;
  /** Flight.delivered, deliveredUs and firstSentUs when it was sent: for delivery rate samples. */
  delivered: u32;
  deliveredUs: u32;
  firstSentUs: u32;
  /** Bytes in flight after it was sent; bit 31: the application had no more to send. */
  pipe: u32;

  /** RUN_*. */
  get flags(): u32 {
    return this.flagsByte;
  }

  set flags(value: u32) {
    this.flagsByte = <u8>value;
  }
}

export const LOST_UNIT_SHIFT: u32 = 8;

export const RUN_SHIFT: u32 = 5;
export const FLIGHT_HEADER_BYTES: u32 = 320;
export const FLIGHT_ORDER_MIN: u32 = 10;
export const FLIGHT_ORDER_MAX: u32 = 15;
/** Runs in the largest block. */
export const RUNS_MAX: u32 = ((1 << FLIGHT_ORDER_MAX) - FLIGHT_HEADER_BYTES) >> RUN_SHIFT;

/** State of one connection's sending. Times are microseconds modulo 2^32, amounts bytes. */
@unmanaged
export class Flight {
  /** Size of the block as a power of two. */
  order: u8;
  /** TLP: 0 none outstanding, 1 it carried new data, 2 it was a retransmission (rack.ts). */
  tlp: u8;
  /** RACK's reordering window in quarters of the shortest RTT, and recoveries until it shrinks again. */
  reoWndSteps: u8;
  reoWndPersist: u8;
  /** First run in the array, and how many there are. */
  first: u16;
  count: u16;
  /** Where the first run begins: SND.UNA as far as the runs know it. */
  una: u32;
  sackedBytes: u32;
  /** With RUN_LOST, sent again or not; and of those: with RUN_RETRANS. */
  lostBytes: u32;
  retransBytes: u32;
  /** Delivered in all, by ACK or SACK, and when that last grew. */
  delivered: u32;
  deliveredUs: u32;
  /** When the oldest burst of the present rate sample was sent. */
  firstSentUs: u32;
  /** Judged lost in all. */
  lostTotal: u32;
  /** Highest end of anything delivered (RFC 8985: RACK.fack). */
  fack: u32;
  // RACK (rack.ts).
  rackSentUs: u32;
  rackEnd: u32;
  rackRttUs: u32;
  minRttUs: u32;
  minRttAtUs: u32;
  /** Flags FLIGHT_*. */
  flags: u32;
  /** SND.NXT when D-SACK last widened the reordering window. */
  dsackRound: u32;
  tlpEnd: u32;
  // Recovery (recovery.ts).
  priorCwnd: u32;
  priorSsthresh: u32;
  /** SND.UNA when the window was reduced. */
  undoMarker: u32;
  /** Bytes sent again since, less those reported as duplicates; negative is possible. */
  undoRetrans: i32;
  /** Timestamp value of the first retransmission since. */
  retransTsVal: u32;
  prrDelivered: u32;
  prrOut: u32;
  recoverFlight: u32;
  // HyStart++ (hystart.ts).
  roundEnd: u32;
  roundMinRttUs: u32;
  lastRoundMinRttUs: u32;
  cssBaselineUs: u32;
  roundSamples: u8;
  cssRounds: u8;
  /** Largest distance by which something has come behind what was sent after it, in 1 << REORDERED_SHIFT bytes. */
  reordered: u16;
  // CUBIC (cubic.ts).
  epochUs: u32;
  lastAckUs: u32;
  kSeconds: f64;
  wMax: f64;
  wEst: f64;
  /** Part of a byte by which the window has grown. */
  growth: f64;
  // Pacing and BBR (pacing.ts, bbr.ts).
  /** Bytes per second; 0: not paced. */
  pacingRate: u32;
  /** Delivery rate of the latest sample, bytes per second. */
  deliveryRate: u32;
  /** When the next burst may leave. */
  paceNextNs: u64;
  paceTick: u32;
  /** Delivered in all when the application last ran dry; 0: it has not. */
  appLimited: u32;
  bbrMode: u8;
  bbrCycle: u8;
  bbrFullCount: u8;
  bbrFlags: u8;
  bbrRoundEnd: u32;
  bbrRounds: u32;
  bbrBwMax0: u32;
  bbrBwMax1: u32;
  bbrBwLo: u32;
  bbrInflightHi: u32;
  bbrInflightLo: u32;
  bbrFullBw: u32;
  bbrMinRttUs: u32;
  bbrMinRttAtUs: u32;
  bbrProbeRttEndUs: u32;
  bbrPhaseAtUs: u32;
  bbrRoundLost: u32;
  bbrRoundDelivered: u32;
  bbrPriorCwnd: u32;
  /** lostTotal as far as BBR has taken it into account. */
  bbrLostSeen: u32;
  /** Bytes that were in flight when too much of what was had been lost, 0: no news. */
  bbrTooHigh: u32;
  /** Highest of the present round: delivery rate, and bytes delivered within one round trip. */
  bbrBwLatest: u32;
  bbrInflightLatest: u32;
  /** The bounds before the present recovery. */
  bbrUndoBwLo: u32;
  bbrUndoInflightLo: u32;
  bbrUndoInflightHi: u32;
  /** What BBR did when it began. */
  bbrUndoMode: u8;
  /** Segments sent again, less the D-SACK blocks that have come (duplicates.ts). */
  resentUntold: i16;
  // Validation of the window (validation.ts).
  /** SND.UNA when the present sample began, and where it ends. */
  cwvUna: u32;
  cwvEnd: u32;
  /** pipeACK is the larger: of this half of the sampling period, and of the one before. */
  cwvBest0: u32;
  cwvBest1: u32;
  cwvHalfAtMs: u32;
  /** With FLIGHT_NOT_VALIDATED: since when. */
  cwvSinceMs: u32;
  /** What was in use when something was lost that the window did not stand for; 0: nothing was. */
  cwvLossFlight: u32;
}

export const REORDERED_SHIFT: u32 = 6;
/** Reordering has been seen (RFC 8985 6.2, step 2). */
export const FLIGHT_REORDERED: u32 = 1;
/** F-RTO is under way (RFC 5682). */
export const FLIGHT_FRTO: u32 = 2;
/** F-RTO: new data goes before what is lost, once. */
export const FLIGHT_NEW_FIRST: u32 = 4;
/** undoMarker and the prior windows are valid. */
export const FLIGHT_UNDO: u32 = 8;
/** Something has been sent again since: retransTsVal is valid. */
export const FLIGHT_UNDO_SENT: u32 = 16;
/** RACK has at least one delivered segment. */
export const FLIGHT_RACK: u32 = 32;
/** The ACK being processed has a D-SACK block. */
export const FLIGHT_DSACK: u32 = 64;
/** Slow start has been left by HyStart++ (conservative slow start). */
export const FLIGHT_CSS: u32 = 128;
/** CUBIC: an epoch has begun. */
export const FLIGHT_EPOCH: u32 = 256;
/** The reordering window has been widened in this round trip: until dsackRound is acknowledged. */
export const FLIGHT_DSACK_ROUND: u32 = 1024;
/** Less than half of the window is in use; a sample is being taken; the burst after a pause is paced. */
export const FLIGHT_NOT_VALIDATED: u32 = 4096;
export const FLIGHT_CWV_SAMPLE: u32 = 8192;
export const FLIGHT_CWV_PACED: u32 = 16384;
/** The pacing timer runs. */
export const FLIGHT_PACE_TIMER: u32 = 512;
/** It has fired, and nothing has been sent since. */
export const FLIGHT_PACE_FIRED: u32 = 2048;
/** The sample in deliveryRate was taken while the application had nothing more to send. */
export const FLIGHT_RATE_LIMITED: u32 = 32768;

if (offsetof<Run>() > 1 << RUN_SHIFT) ERROR("Run has outgrown its size");
if (offsetof<Flight>() > FLIGHT_HEADER_BYTES) ERROR("Flight has outgrown its header");

export function flightOf(tcb: Tcb): Flight {
  return changetype<Flight>(<usize>tcb.flight);
}

export function runAt(f: Flight, i: u32): Run {
  return changetype<Run>(changetype<usize>(f) + FLIGHT_HEADER_BYTES + ((<u32>f.first + i) << RUN_SHIFT));
}

/** Where run i begins. */
export function runStart(f: Flight, i: u32): u32 {
  return i == 0 ? f.una : runAt(f, i - 1).end;
}

/** Bytes believed to be on their way (RFC 6675: pipe). */
export function pipeBytes(tcb: Tcb): u32 {
  const flight = tcb.sndMax - tcb.sndUna;
  if (tcb.flight == 0) return flight;
  const f = flightOf(tcb);
  return flight - f.sackedBytes - f.lostBytes + f.retransBytes;
}

/** Nothing is reported or judged about what is in flight. */
export function flightIsClean(tcb: Tcb): bool {
  if (tcb.flight == 0) return true;
  const f = flightOf(tcb);
  return (f.sackedBytes | f.lostBytes) == 0;
}
