/** Ending connections with RST. */
import { addressTakeAway } from "../ip/address.ts";
import { STATE_CLOSED, STATE_FREE, STATE_SYN_RECEIVED, STATE_TIME_WAIT } from "../../src/layout/option.ts";
import { EBADF, ECONNABORTED } from "../../src/layout/status.ts";
import { tcpDrop } from "./close.ts";
import { listenerUnlink, unlinkedHead } from "./listener.ts";
import { sendReset } from "./plainOutput.ts";
import { F_IN_ACCEPT_QUEUE, TCB_NONE, Tcb, coldOf, tcbAt, tcbHighWater } from "./tcb.ts";

/** RFC 9293 3.10.5: a reset is sent in the synchronized states except TIME-WAIT, and in SYN-RECEIVED. */
export function resetIfSynchronized(tcb: Tcb): void {
  if (tcb.state >= STATE_SYN_RECEIVED && tcb.state < STATE_TIME_WAIT) sendReset(tcb);
}

/**
 * See KernelExports.addressRemove. Without RST: the address may be another's by now (RFC 4862 5.4.5).
 * @returns index of the address or EADDRNOTAVAIL.
 */
export function addressRemove(address: usize): i32 {
  const localIndex = addressTakeAway(address);
  if (localIndex < 0) return localIndex;
  for (let index: u32 = 0; index < tcbHighWater(); index++) {
    const tcb = tcbAt(index);
    if (tcb.state == STATE_FREE || tcb.state == STATE_CLOSED || <i32>tcb.localIndex != localIndex) continue;
    tcpDrop(tcb, ECONNABORTED);
  }
  return localIndex;
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
