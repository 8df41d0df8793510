/** Ending a connection with RST. */
import { STATE_SYN_RECEIVED, STATE_SYN_SENT, STATE_TIME_WAIT } from "../../src/layout/option.ts";
import { tcpDrop } from "./close.ts";
import { sendReset } from "./output.ts";
import { Tcb } from "./tcb.ts";

/** Resets a connection that the application does not know: an accept queue that is thrown away. */
export function tcpAbortQuietly(tcb: Tcb): void {
  resetIfSynchronized(tcb);
  tcpDrop(tcb, 0);
}

/** RFC 9293 3.10.5: a reset is sent in the synchronized states except TIME-WAIT, and in SYN-RECEIVED. */
export function resetIfSynchronized(tcb: Tcb): void {
  if (tcb.state >= STATE_SYN_RECEIVED && tcb.state < STATE_TIME_WAIT && tcb.state != STATE_SYN_SENT) sendReset(tcb);
}
