/**
 * HyStart++ (RFC 9406): slow start is left before the queue overflows. When the shortest round trip of a round is
 * longer than that of the round before by an eighth, growth is slowed down to a quarter for five rounds (conservative
 * slow start), and then ended; unless the delay was a passing one.
 */
import { Flight, FLIGHT_CSS } from "./flightRecord.ts";
import { ackRttUs } from "./flight.ts";
import { seqGt } from "./seq.ts";
import { Tcb } from "./tcb.ts";

/** RFC 9406 4.3, in its units but microseconds. */
const MIN_RTT_THRESH_US: u32 = 4000;
const MAX_RTT_THRESH_US: u32 = 16000;
const MIN_RTT_DIVISOR_SHIFT: u32 = 3;
const RTT_SAMPLES: u8 = 8;
const CSS_GROWTH_DIVISOR: u32 = 4;
const CSS_ROUNDS: u8 = 5;
const NONE: u32 = 0xffffffff;

/**
 * Takes the ACK being processed into account.
 * @returns what growth is to be divided by. It may set ssthresh: then slow start ends.
 */
export function hystartRound(tcb: Tcb, f: Flight): u32 {
  // The ACK of the round's last byte still tells of this round (as in Linux).
  if (seqGt(tcb.sndUna, f.roundEnd)) {
    f.roundEnd = tcb.sndMax;
    f.lastRoundMinRttUs = f.roundMinRttUs;
    f.roundMinRttUs = NONE;
    f.roundSamples = 0;
    if (f.flags & FLIGHT_CSS && ++f.cssRounds >= CSS_ROUNDS) {
      f.flags &= ~FLIGHT_CSS;
      tcb.ssthresh = tcb.cwnd;
      return CSS_GROWTH_DIVISOR;
    }
  }
  if (ackRttUs != 0) {
    f.roundMinRttUs = min(f.roundMinRttUs, ackRttUs);
    if (f.roundSamples < 255) f.roundSamples++;
  }
  if (f.roundSamples >= RTT_SAMPLES && f.roundMinRttUs != NONE) {
    if (f.flags & FLIGHT_CSS) {
      // It was a passing delay: back to slow start.
      if (f.roundMinRttUs < f.cssBaselineUs) f.flags &= ~FLIGHT_CSS;
    } else if (f.lastRoundMinRttUs != NONE) {
      const eighth = f.lastRoundMinRttUs >> MIN_RTT_DIVISOR_SHIFT;
      const threshold = min(max(eighth, MIN_RTT_THRESH_US), MAX_RTT_THRESH_US);
      if (f.roundMinRttUs >= f.lastRoundMinRttUs + threshold) {
        f.cssBaselineUs = f.roundMinRttUs;
        f.cssRounds = 0;
        f.flags |= FLIGHT_CSS;
      }
    }
  }
  return f.flags & FLIGHT_CSS ? CSS_GROWTH_DIVISOR : 1;
}
