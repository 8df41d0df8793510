/** RACK-TLP (RFC 8985): what its two timers do when they are due. */
import { count } from "../stats.ts";
import { emit } from "./emit.ts";
import { flightAckBegin, flightEnsure, flightProbed } from "./flight.ts";
import { flightOf } from "./flightRecord.ts";
import { emitUnsent } from "./output.ts";
import { outputMark } from "./outputQueue.ts";
import { rackDetect, reoTimerArm } from "./rack.ts";
import { recoveryLostByTime } from "./recovery.ts";
import { FLAG_ACK, FLAG_FIN, FLAG_PSH } from "./segment.ts";
import { seqGt, seqLt } from "./seq.ts";
import * as T from "./tcb.ts";
import { Tcb } from "./tcb.ts";
import { rtoArm } from "./timers.ts";
import { TCP_TAIL_LOSS_PROBES } from "../../src/layout/counters.ts";

/** The reordering window has passed. */
export function reoTimeout(tcb: Tcb): void {
  // The connection has moved to another kernel since (migration.ts).
  if (tcb.flight == 0) {
    rtoArm(tcb);
    return;
  }
  const f = flightOf(tcb);
  // What the last ACK, perhaps another connection's, has told is not of this one.
  flightAckBegin(tcb);
  const timeout = rackDetect(tcb, f);
  recoveryLostByTime(tcb, f);
  outputMark(tcb);
  if (timeout != 0) reoTimerArm(tcb, timeout);
  else rtoArm(tcb);
}

/** The probe is due (RFC 8985 7.3): new data if there is any and the peer's window lets it, else the last segment. */
export function tlpTimeout(tcb: Tcb): void {
  // After the probe only the retransmission timer runs.
  rtoArm(tcb);
  if (!flightEnsure(tcb) || flightOf(tcb).tlp != 0) return;
  const mss = <u32>tcb.sndMss;
  const newBytes = seqLt(tcb.sndMax, tcb.sndBufEnd) ? min(tcb.sndBufEnd - tcb.sndMax, mss) : 0;
  const fits = newBytes != 0 && !seqGt(tcb.sndMax + newBytes, tcb.sndUna + tcb.sndWnd);
  flightOf(tcb).tlp = fits ? 1 : 2;
  flightOf(tcb).tlpEnd = fits ? tcb.sndMax + newBytes : tcb.sndMax;
  count(TCP_TAIL_LOSS_PROBES);
  if (fits) {
    emitUnsent(tcb, newBytes);
    return;
  }
  const finSent = (tcb.flags & T.F_FIN_QUEUED) != 0 && tcb.sndMax == tcb.sndBufEnd + 1;
  const dataEnd = finSent ? tcb.sndBufEnd : tcb.sndMax;
  const bytes = min(dataEnd - tcb.sndUna, mss);
  const from = dataEnd - bytes;
  const push = bytes != 0 && dataEnd == tcb.sndBufEnd ? FLAG_PSH : 0;
  const flags = FLAG_ACK | push | (finSent ? FLAG_FIN : 0);
  // When the TX ring is full the retransmission timer is left.
  if (!emit(tcb, from, flags, bytes)) return;
  tcb.flags &= ~T.F_RTT_TIMING;
  flightProbed(tcb, from);
}
