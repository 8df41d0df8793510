/** What the algorithms of congestion control share, and which of them a connection has (TRAIT_CONGESTION_MASK). */
import { CONGESTION_BBR } from "../../src/layout/option.ts";
import { TRAIT_CONGESTION_MASK, TRAIT_CONGESTION_SHIFT, Tcb, coldOf } from "./tcb.ts";

export const CWND_BYTES_MAX: u32 = 1 << 30;

/** The connection's algorithm, CONGESTION_*. */
export function congestionOf(tcb: Tcb): u32 {
  return (coldOf(tcb).traits & TRAIT_CONGESTION_MASK) >> TRAIT_CONGESTION_SHIFT;
}

export function congestionChoose(tcb: Tcb, algorithm: u32): bool {
  if (algorithm > <u32>CONGESTION_BBR) return false;
  const cold = coldOf(tcb);
  cold.traits = (cold.traits & ~TRAIT_CONGESTION_MASK) | (algorithm << TRAIT_CONGESTION_SHIFT);
  return true;
}

/** RFC 6928: min(10 MSS, max(2 MSS, 14600)). */
export function initialWindow(tcb: Tcb): u32 {
  const mss = <u32>tcb.sndMss;
  return min(10 * mss, max(2 * mss, 14600));
}
