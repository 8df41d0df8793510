/**
 * A poll or a command, and what it has to send, in one call: for who takes the frames before anything else happens, on
 * the kernel's own thread (src/sim/engine): a call from JavaScript costs more than most of what a poll looks at.
 */
import { flush, poll } from "./kernel.ts";
import { tcpClose, tcpSend } from "./socket/tcpSocket.ts";

/** poll, then flush. @returns as poll. */
export function turn(now: f64, budgetFrames: i32): i32 {
  const events = poll(now, budgetFrames);
  flush();
  return events;
}

/** tcpSend, then flush. @returns as tcpSend. */
export function tcpSendNow(handle: i32, from: u32, bytes: u32): i32 {
  const sent = tcpSend(handle, from, bytes);
  flush();
  return sent;
}

/** tcpClose, then flush. @returns as tcpClose. */
export function tcpCloseNow(handle: i32): i32 {
  const status = tcpClose(handle);
  flush();
  return status;
}
