/**
 * What this kernel has of each flow group, for the balancer: how many connections live in it and how many were ever
 * opened. A group is the low bits, 12 or fewer, of the client's port: the peer's for connections that we accept, our
 * own for those that we open (DESIGN: the service's port is the same for all of them). TIME-WAIT does not count as
 * living: a new connection in its place may be taken by any kernel.
 */
import { flowGroupMask } from "../config.ts";
import { FLOW_GROUPS, GROUP_LIVE, GROUP_OPENED, GROUP_SIZE_BYTES } from "../../src/layout/flowGroup.ts";
import { MAP_BASE, MAP_FLOW_GROUPS } from "../../src/layout/kernelMemory.ts";
import { arenaAlloc } from "../mem/arena.ts";
import { F_ACTIVE_OPEN, Tcb } from "../tcp/tcb.ts";

let base: usize = 0;

export function groupsBoot(): bool {
  base = arenaAlloc(FLOW_GROUPS * GROUP_SIZE_BYTES, 64);
  store<u32>(MAP_BASE, <u32>base, MAP_FLOW_GROUPS);
  return base != 0;
}

/** Flow group of a connection. */
export function groupOf(tcb: Tcb): u32 {
  const port = tcb.flags & F_ACTIVE_OPEN ? tcb.ports >> 16 : tcb.ports;
  return <u32>bswap<u16>(<u16>port) & flowGroupMask;
}

export function groupOpened(tcb: Tcb): void {
  const at = base + groupOf(tcb) * GROUP_SIZE_BYTES;
  store<u32>(at, load<u32>(at, GROUP_LIVE) + 1, GROUP_LIVE);
  store<u32>(at, load<u32>(at, GROUP_OPENED) + 1, GROUP_OPENED);
}

/** One that was opened in another kernel, and lives here from now on. */
export function groupArrived(tcb: Tcb): void {
  const at = base + groupOf(tcb) * GROUP_SIZE_BYTES;
  store<u32>(at, load<u32>(at, GROUP_LIVE) + 1, GROUP_LIVE);
}

export function groupClosed(tcb: Tcb): void {
  const at = base + groupOf(tcb) * GROUP_SIZE_BYTES;
  store<u32>(at, load<u32>(at, GROUP_LIVE) - 1, GROUP_LIVE);
}
