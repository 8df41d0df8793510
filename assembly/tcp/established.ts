/** The moment in which a connection becomes usable. */
import * as E from "../../src/layout/event.ts";
import { STATE_ESTABLISHED, STATE_FIN_WAIT_1 } from "../../src/layout/option.ts";
import { nowMs, nowTick, nowUs } from "../time.ts";
import { timestampOffsetOfSegment } from "./addresses.ts";
import { eventPost } from "./events.ts";
import { historyAcked } from "./history.ts";
import { outputMark } from "./outputQueue.ts";
import * as S from "./segment.ts";
import * as T from "./tcb.ts";
import { Tcb, coldOf } from "./tcb.ts";
import { keepaliveArm, rtoDisarm, rttSample } from "./timers.ts";

/** A longer round trip than that is a wrong echo. */
const RTT_MS_MAX: u32 = 120000;

/**
 * The handshake is complete: timers, RTT of the SYN, the application.
 * @param echoes the segment in segment.ts echoes our SYN's timestamp, if any; that of a cookie is none.
 */
export function established(tcb: Tcb, echoes: bool): void {
  tcb.state = STATE_ESTABLISHED;
  // Our SYN has arrived: one that still waits to be sent again must not go out any more.
  tcb.flags &= ~T.F_SYN_DUE;
  const cold = coldOf(tcb);
  if (cold.ackRefused) {
    // The answer to our SYN-ACK came before: this segment was sent when the peer had something to say.
    tcb.flags &= ~T.F_RTT_TIMING;
    cold.ackRefused = false;
  } else if (tcb.flags & T.F_RTT_TIMING) {
    tcb.flags &= ~T.F_RTT_TIMING;
    rttSample(tcb, nowUs - cold.rttStartUs);
  } else if (echoes && tcb.flags & T.F_TIMESTAMPS && S.segHasTimestamps && S.segTsEcr != 0) {
    // Our SYN has gone again: the echo tells which copy has been answered (RFC 7323 4.1).
    const rttMs = nowMs + timestampOffsetOfSegment() - S.segTsEcr;
    if (rttMs < RTT_MS_MAX) rttSample(tcb, max<u32>(rttMs, 1) * 1000);
  }
  tcb.backoff = 0;
  cold.lastRcvTick = nowTick;
  rtoDisarm(tcb);
  if (cold.traits & T.TRAIT_HISTORY) historyAcked(tcb);
  if (tcb.flags & T.F_KEEPALIVE) keepaliveArm(tcb);
  // One that fast open has let the application have before is open to it already.
  if ((tcb.flags & (T.F_APP | T.F_ACTIVE_OPEN)) == (T.F_APP | T.F_ACTIVE_OPEN))
    eventPost(tcb, E.EVENT_CONNECTED | E.EVENT_WRITABLE);
  // What was queued or shut down before the handshake ended can go now.
  if (tcb.flags & T.F_FIN_QUEUED) tcb.state = STATE_FIN_WAIT_1;
  if (tcb.sndBufEnd != tcb.sndNxt || tcb.flags & T.F_FIN_QUEUED) outputMark(tcb);
}
