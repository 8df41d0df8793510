/**
 * CUBIC (RFC 9438): in congestion avoidance the window follows a cubic function of the time since the last reduction,
 * whose plateau is where that happened. State in the flight block; the plateau outlives it in the TCB. W in segments
 * and t in seconds, as in the RFC.
 */
import { CONGESTION_CUBIC } from "../../src/layout/option.ts";
import { nowUs } from "../time.ts";
import { Flight, FLIGHT_EPOCH, flightOf } from "./flightRecord.ts";
import { flightEnsure } from "./flight.ts";
import { congestionOf, CWND_BYTES_MAX } from "./algorithm.ts";
import { F_IN_ACCEPT_QUEUE, Tcb, coldOf } from "./tcb.ts";

/** Segments per cubed second, and the factor of a reduction (RFC 9438 4.6, 5.1). */
const C: f64 = 0.4;
const BETA: f64 = 0.7;
/** RFC 9438 4.3: makes the average window that of Reno with its own factor. */
const ALPHA: f64 = (3.0 * (1.0 - BETA)) / (1.0 + BETA);

/** RFC 9438 4.6, 4.7. @returns the new ssthresh. */
export function cubicReduce(tcb: Tcb): u32 {
  const cwnd = <f64>tcb.cwnd;
  const wMax = tcb.flight != 0 ? flightOf(tcb).wMax : <f64>coldOf(tcb).wMaxBytes;
  // Fast convergence: a flow that did not get as far as last time makes room.
  const plateau = cwnd < wMax ? (cwnd * (1.0 + BETA)) / 2.0 : cwnd;
  if (tcb.flight != 0) {
    const f = flightOf(tcb);
    f.wMax = plateau;
    f.flags &= ~FLIGHT_EPOCH;
  } else {
    if (!ASC_NO_ASSERT) assert(!(tcb.flags & F_IN_ACCEPT_QUEUE), "W_max and the queue's link share a field");
    coldOf(tcb).wMaxBytes = <u32>plateau;
  }
  return max(<u32>(cwnd * BETA), (<u32>tcb.sndMss) << 1);
}

/** RFC 9438 4.9: what the reduction did is forgotten. */
export function cubicUndo(tcb: Tcb): void {
  const f = flightOf(tcb);
  f.wMax = max(f.wMax, <f64>tcb.cwnd);
  f.flags &= ~FLIGHT_EPOCH;
}

/**
 * Congestion avoidance (RFC 9438 4.2 to 4.5).
 * @returns false when there is no place for the state: the caller grows as Reno does.
 */
export function cubicGrow(tcb: Tcb, ackedBytes: u32): bool {
  if (congestionOf(tcb) != CONGESTION_CUBIC || !flightEnsure(tcb)) return false;
  const f = flightOf(tcb);
  const mss = <f64>(<u32>tcb.sndMss);
  const cwnd = <f64>tcb.cwnd / mss;
  const acked = <f64>ackedBytes / mss;
  if (!(f.flags & FLIGHT_EPOCH)) epochBegin(f, cwnd, mss);
  // Time in which the application had nothing to send does not count (RFC 9438 5.8).
  const pause = nowUs - f.lastAckUs;
  if (pause > max<u32>(tcb.srttUs8 >> 2, 100000)) f.epochUs += pause;
  f.lastAckUs = nowUs;
  const t = <f64>(nowUs - f.epochUs) / 1000000.0;
  const rtt = <f64>(tcb.srttUs8 >> 3) / 1000000.0;
  f.wEst += (f.wEst >= f.wMax / mss ? 1.0 : ALPHA) * (acked / cwnd);
  let more: f64;
  if (cubicWindow(f, t, mss) < f.wEst) {
    // Where Reno would be further (RFC 9438 4.3).
    more = max(f.wEst - cwnd, 0.0);
  } else {
    const target = min(max(cubicWindow(f, t + rtt, mss), cwnd), 1.5 * cwnd);
    more = ((target - cwnd) / cwnd) * acked;
  }
  f.growth += more * mss;
  const whole = <u32>f.growth;
  f.growth -= <f64>whole;
  tcb.cwnd = min(tcb.cwnd + whole, CWND_BYTES_MAX);
  return true;
}

/** RFC 9438 4.2, equation 1. */
function cubicWindow(f: Flight, t: f64, mss: f64): f64 {
  const d = t - f.kSeconds;
  return C * d * d * d + f.wMax / mss;
}

function epochBegin(f: Flight, cwnd: f64, mss: f64): void {
  f.flags |= FLIGHT_EPOCH;
  f.epochUs = nowUs;
  f.lastAckUs = nowUs;
  f.wEst = cwnd;
  f.growth = 0.0;
  const wMax = f.wMax / mss;
  if (cwnd < wMax) {
    f.kSeconds = cubeRoot((wMax - cwnd) / C);
  } else {
    f.kSeconds = 0.0;
    f.wMax = cwnd * mss;
  }
}

/** Newton's iteration; exact to a millionth for what windows can be. @param x > 0. */
function cubeRoot(x: f64): f64 {
  // A third of the exponent is a start within a factor of two.
  let y = reinterpret<f64>(reinterpret<u64>(x) / 3 + 0x2a9f7893782da1ce);
  for (let i = 0; i < 4; i++) y = (2.0 * y + x / (y * y)) / 3.0;
  return y;
}
