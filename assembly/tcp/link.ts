/** Connections on a link whose MTU is not the device's (RFC 4861 6.3.4). */
import { linkAdvertise, linkMtuV6 } from "../ip/link.ts";
import { neighborTimes } from "../ip/neighbor.ts";
import { OK } from "../../src/layout/status.ts";
import { isV6 } from "./addresses.ts";
import { segmentsShrink } from "./icmp.ts";
import { STATE_ESTABLISHED, STATE_LAST_ACK } from "../../src/layout/option.ts";
import { Tcb, tcbAt, tcbHighWater } from "./tcb.ts";

/** Segments of this connection fit into the link from now on, what is in flight among them. */
export function linkMtuKeep(tcb: Tcb): void {
  if (tcb.state >= STATE_ESTABLISHED && tcb.state <= STATE_LAST_ACK && isV6(tcb)) segmentsShrink(tcb, linkMtuV6());
}

/** See KernelExports.linkSet. */
export function linkSet(mtuBytes: u32, hopLimit: u32, reachableMs: u32, retransMs: u32): i32 {
  const before = linkMtuV6();
  linkAdvertise(mtuBytes, hopLimit);
  neighborTimes(reachableMs, retransMs);
  // Wider: connections to come have it, as with a path's MTU.
  if (linkMtuV6() < before) for (let i: u32 = 0; i < tcbHighWater(); i++) linkMtuKeep(tcbAt(i));
  return OK;
}
