/** The moment in which a connection becomes usable. */
import * as E from "../../src/layout/event.ts";
import { STATE_ESTABLISHED, STATE_FIN_WAIT_1 } from "../../src/layout/option.ts";
import { nowTick, nowUs } from "../time.ts";
import { eventPost } from "./events.ts";
import { historyAcked } from "./history.ts";
import { outputMark } from "./outputQueue.ts";
import * as T from "./tcb.ts";
import { Tcb, coldOf } from "./tcb.ts";
import { keepaliveArm, rtoDisarm, rttSample } from "./timers.ts";

/** The handshake is complete: timers, RTT of the SYN, the application. */
export function established(tcb: Tcb): void {
  tcb.state = STATE_ESTABLISHED;
  // Our SYN has arrived: one that still waits to be sent again must not go out any more.
  tcb.flags &= ~T.F_SYN_DUE;
  const cold = coldOf(tcb);
  if (tcb.flags & T.F_RTT_TIMING) {
    tcb.flags &= ~T.F_RTT_TIMING;
    rttSample(tcb, nowUs - cold.rttStartUs);
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
