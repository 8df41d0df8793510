/** Ending connections with RST. */
import { STATE_SYN_RECEIVED, STATE_TIME_WAIT } from "../../src/layout/option.ts";
import { EBADF } from "../../src/layout/status.ts";
import { tcpDrop } from "./close.ts";
import { listenerUnlink, unlinkedHead } from "./listener.ts";
import { sendReset } from "./output.ts";
import { F_IN_ACCEPT_QUEUE, TCB_NONE, Tcb, coldOf, tcbAt } from "./tcb.ts";

/** RFC 9293 3.10.5: a reset is sent in the synchronized states except TIME-WAIT, and in SYN-RECEIVED. */
export function resetIfSynchronized(tcb: Tcb): void {
  if (tcb.state >= STATE_SYN_RECEIVED && tcb.state < STATE_TIME_WAIT) sendReset(tcb);
}

/** See KernelExports.tcpListenClose. */
export function tcpListenClose(handle: i32): i32 {
  if (!listenerUnlink(handle)) return EBADF;
  let index = unlinkedHead;
  while (index != TCB_NONE) {
    const tcb = tcbAt(index);
    index = coldOf(tcb).acceptNext;
    tcb.flags &= ~F_IN_ACCEPT_QUEUE;
    resetIfSynchronized(tcb);
    tcpDrop(tcb, 0);
  }
  return 0;
}
