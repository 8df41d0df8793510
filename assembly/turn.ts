/**
 * A poll or a command, and what it has to send, in one call: for who takes the frames before anything else happens, on
 * the kernel's own thread (src/sim/engine). Each call from JavaScript costs as much as a third of a segment's way
 * through the stack. The TX ring starts over at its first byte whenever it is empty, and so stays in the caches of the
 * machine, however many kernels there are.
 */
import { txRewind } from "./device/tx.ts";
import { flush, poll } from "./kernel.ts";
import { tcpClose, tcpSend } from "./socket/tcpSocket.ts";

/** poll, then flush. @returns as poll. */
export function turn(now: f64, budgetFrames: i32): i32 {
  txRewind();
  const events = poll(now, budgetFrames);
  flush();
  return events;
}

/** tcpSend, then flush. @returns as tcpSend. */
export function tcpSendNow(handle: i32, from: u32, bytes: u32): i32 {
  txRewind();
  const sent = tcpSend(handle, from, bytes);
  flush();
  return sent;
}

/** tcpClose, then flush. @returns as tcpClose. */
export function tcpCloseNow(handle: i32): i32 {
  txRewind();
  const status = tcpClose(handle);
  flush();
  return status;
}
