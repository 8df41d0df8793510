/** What BBR (bbr.ts) is to know of each loss, noted where it is found. */
import { Flight, LOST_UNIT_SHIFT, Run } from "./flightRecord.ts";

/** More than one byte in so many lost within a round trip is too much. */
export const LOSS_DIVISOR: u32 = 50;

/**
 * Bytes of a run have been judged lost. Is more lost of what was in flight with it than the path's own losses explain?
 * Then remembers how much was in flight when the limit was crossed (draft-ietf-ccwg-bbr, BBRInflightAtLoss).
 */
export function bbrLost(f: Flight, run: Run, bytes: u32): void {
  const lost = (<u32>(<u16>((f.lostTotal >> LOST_UNIT_SHIFT) - <u32>run.lostUnits))) << LOST_UNIT_SHIFT;
  const pipe = run.pipe & 0x7fffffff;
  if (run.pipe >> 31 || lost <= pipe / LOSS_DIVISOR) return;
  const pipeBefore = pipe > bytes ? pipe - bytes : 0;
  const lostBefore = lost > bytes ? lost - bytes : 0;
  const allowed = pipeBefore / LOSS_DIVISOR;
  f.bbrTooHigh = max(pipeBefore + (allowed > lostBefore ? allowed - lostBefore : 0), 1);
}
