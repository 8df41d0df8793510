/**
 * Pacing: bytes leave at a rate instead of a window at a time. Used by what sets Flight.pacingRate: bbr.ts and
 * validation.ts.
 * A burst is what the rate allows in a slack of a millisecond, or of an eighth of a round trip where that is less, and
 * two segments at least; the timer wheel's tick (65.5 us) is the finest step.
 */
import { nowNs, nowTick, tickReached, TICK_SHIFT } from "../time.ts";
import { Flight, FLIGHT_PACE_FIRED, FLIGHT_PACE_TIMER, flightOf } from "./flightRecord.ts";
import { Tcb } from "./tcb.ts";
import { validationPacesNoMore } from "./validation.ts";
import { wheelArm } from "./wheel.ts";

const SLACK_NS_MAX: u64 = 1000000;

function slackNs(tcb: Tcb, f: Flight): u64 {
  const eighth = (<u64>tcb.srttUs8 * 1000) >> 6;
  const twoSegments = (<u64>tcb.sndMss * 2000000000) / max<u64>(f.pacingRate, 1);
  return max(min(eighth, SLACK_NS_MAX), min(twoSegments, 1000000000));
}

/** False: nothing may leave now; the pacing timer will ask again. */
export function pacingAllows(tcb: Tcb): bool {
  if (tcb.flight == 0) return true;
  const f = flightOf(tcb);
  if (f.pacingRate == 0 || f.paceNextNs <= nowNs + slackNs(tcb, f)) return true;
  if (validationPacesNoMore(tcb, f)) return true;
  if (!(f.flags & FLIGHT_PACE_TIMER)) {
    f.flags |= FLIGHT_PACE_TIMER;
    f.paceTick = max(<u32>(f.paceNextNs >> TICK_SHIFT), nowTick + 1);
    wheelArm(tcb, f.paceTick);
  }
  return false;
}

/** Bytes have left. */
export function pacingSent(tcb: Tcb, bytes: u32): void {
  if (tcb.flight == 0) return;
  const f = flightOf(tcb);
  if (f.pacingRate == 0) return;
  // A timer that was late does not slow the connection down: as much as a burst is made up for.
  const late = f.flags & FLIGHT_PACE_FIRED ? min(slackNs(tcb, f), nowNs) : 0;
  f.flags &= ~FLIGHT_PACE_FIRED;
  f.paceNextNs = max(f.paceNextNs, nowNs - late) + (<u64>bytes * 1000000000) / f.pacingRate;
}

/** Runs or restarts the pacing timer. @returns true when output is due. Preconditions: there is a flight block. */
export function pacingTimer(tcb: Tcb): bool {
  const f = flightOf(tcb);
  if (!(f.flags & FLIGHT_PACE_TIMER)) return false;
  if (tickReached(f.paceTick, nowTick)) {
    f.flags = (f.flags & ~FLIGHT_PACE_TIMER) | FLIGHT_PACE_FIRED;
    return true;
  }
  wheelArm(tcb, f.paceTick);
  return false;
}
