/**
 * What this kernel has of each flow group, for the balancer: how many connections live in it and how many were ever
 * opened. A group is what the device makes of the two ports (src/device/flowGroups.ts). TIME-WAIT does not count as
 * living: a new connection in its place may be taken by any kernel.
 */
import { flowGroupMask, localPortFirst, localPortLast } from "../config.ts";
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

/** The device's rule. @param ports as in a received segment. */
export function groupOfPorts(ports: u32): u32 {
  const local = <u32>bswap<u16>(<u16>(ports >> 16));
  const leased = local >= localPortFirst && local <= localPortLast;
  return (<u32>bswap<u16>(<u16>ports) ^ (leased ? local : 0)) & flowGroupMask;
}

/** Flow group of a connection. */
function groupOf(tcb: Tcb): u32 {
  return groupOfPorts(tcb.ports);
}

export function groupOpened(tcb: Tcb): void {
  const at = base + groupOf(tcb) * GROUP_SIZE_BYTES;
  store<u32>(at, load<u32>(at, GROUP_LIVE) + 1, GROUP_LIVE);
  // Where the group does not depend on our port, an exact filter may have brought the connection here: it says nothing
  // about what comes with the group.
  if (tcb.flags & F_ACTIVE_OPEN && localPortFirst > localPortLast) return;
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
