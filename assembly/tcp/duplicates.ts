/**
 * Whose a duplicate is that D-SACK tells of. Each retransmission can explain one; what comes beyond that the network
 * has repeated, and then D-SACK does not say which retransmissions were mistakes (RFC 3708 2).
 */
import { Flight } from "./flightRecord.ts";

/** Bounds of Flight.resentUntold. At the lower one retransmissions do not raise it, for they tell nothing. */
const RESENT_MAX: i16 = 0x7fff;
const REPEATING: i16 = -8;

/** A segment has been sent once more. */
export function duplicateSent(f: Flight): void {
  if (f.resentUntold > REPEATING && f.resentUntold < RESENT_MAX) f.resentUntold++;
}

/** A recovery begins: what was sent again before explains less, and a path that has repeated may do so no more. */
export function duplicatesAge(f: Flight): void {
  f.resentUntold /= 2;
}

/** Something has come twice at the peer. @returns whether it may have been sent twice. */
export function duplicateTold(f: Flight): bool {
  if (f.resentUntold > REPEATING) f.resentUntold--;
  return f.resentUntold >= 0;
}
