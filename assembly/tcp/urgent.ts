/**
 * Urgent data (RFC 9293 3.8.5, RFC 6093): a mark in the stream, sent and told of. The bytes stay in their place, as
 * with SO_OOBINLINE. Nothing is kept of the peer's marks unless the application wants to be told (OPTION_URGENT_TOLD).
 */
import { EVENT_READABLE } from "../../src/layout/event.ts";
import { STATE_ESTABLISHED } from "../../src/layout/option.ts";
import { loadBe16, loadBe32, storeBe16 } from "../wire/bytes.ts";
import { eventPost } from "./events.ts";
import { outputMark } from "./outputQueue.ts";
import * as S from "./segment.ts";
import { seqGeq, seqGt, seqLeq } from "./seq.ts";
import { Settings, SETTING_URGENT_SEND, SETTING_URGENT_TOLD, settingsCount, settingsFind } from "./settings.ts";
import * as T from "./tcb.ts";
import { Tcb, tcbIndex } from "./tcb.ts";

const POINTER_MAX: u32 = 65535;

/** All that has been queued so far is urgent (MSG_OOB). */
export function urgentQueued(tcb: Tcb, settings: Settings): void {
  settings.bits |= SETTING_URGENT_SEND;
  settings.sndUp = tcb.sndBufEnd;
  // RFC 9293 3.8.5: told also while the window is shut.
  if (tcb.sndWnd == 0 && tcb.state >= STATE_ESTABLISHED) tcb.flags |= T.F_ACK_NOW;
  outputMark(tcb);
}

/** True while the urgent mark has not been acknowledged: such data does not wait, and devices do not cut it. */
export function urgentIsQueued(tcb: Tcb): bool {
  const settings = settingsFind(tcbIndex(tcb));
  if (changetype<usize>(settings) == 0 || !(settings.bits & SETTING_URGENT_SEND)) return false;
  if (seqGt(settings.sndUp, tcb.sndUna)) return true;
  settings.bits &= ~SETTING_URGENT_SEND;
  return false;
}

/** Sets URG and the pointer, which names the octet behind the urgent ones, in a segment that leaves. */
export function urgentMark(tcb: Tcb, tcp: usize, seq: u32): void {
  if (!urgentIsQueued(tcb)) return;
  const up = settingsFind(tcbIndex(tcb)).sndUp;
  if (!seqGt(up, seq)) return;
  store<u8>(tcp, load<u8>(tcp, 13) | <u8>S.FLAG_URG, 13);
  storeBe16(tcp + 18, min(up - seq, POINTER_MAX));
}

/** A segment with URG has been accepted (RFC 9293 3.10.7.4, sixth check). */
export function urgentReceived(tcb: Tcb, settings: Settings): void {
  // Behind a FIN there is nothing (CLOSE-WAIT and later: ignored).
  if (!(settings.bits & SETTING_URGENT_TOLD) || tcb.flags & T.F_FIN_RECEIVED) return;
  // The segment may have been trimmed; the pointer counts from where it began.
  const up = loadBe32(S.segHeader + 4) + loadBe16(S.segHeader + 18);
  if (seqLeq(up, tcb.rcvRead) || seqGt(up, tcb.rcvAdv + POINTER_MAX)) return;
  if (settings.urgentPending != 0 && seqGeq(settings.rcvUp, up)) return;
  settings.rcvUp = up;
  settings.urgentPending = 1;
  eventPost(tcb, EVENT_READABLE);
}

/** Bytes from the next one to be read up to and with the last urgent one, whether they have come or not; 0: none. */
export function urgentBytes(tcb: Tcb): u32 {
  if (settingsCount == 0) return 0;
  const settings = settingsFind(tcbIndex(tcb));
  if (changetype<usize>(settings) == 0 || settings.urgentPending == 0) return 0;
  if (seqGt(settings.rcvUp, tcb.rcvRead)) return settings.rcvUp - tcb.rcvRead;
  settings.urgentPending = 0;
  return 0;
}
