import { FLOW_GROUPS } from "../layout/flowGroup.ts";
import type { PortRange } from "../rss/toeplitz.ts";

/**
 * Where a flow group is at first: equal shares, and equal too for the groups that a client really uses. Linux's
 * connect() takes every second port, so dealing them out in turn would leave half of the queues idle; steps of the
 * golden ratio spread any regular sequence (Knuth, The Art of Computer Programming 3, 6.4).
 */
export function initialQueue(group: number, queues: number): number {
  const step = 2531; // FLOW_GROUPS / 1.618…, odd, so that groups map to places one to one.
  return Math.floor((((group * step) % FLOW_GROUPS) * queues) / FLOW_GROUPS);
}

/** The ephemeral ports of a stack, unless configured (RFC 6056 3.2 asks for a wide range; these are Linux's). */
export const LOCAL_PORTS_DEFAULT: PortRange = { first: 32768, last: 60999 };

/** How a device groups: which of our own ports count too, if any (first > last: none), and in how many groups. */
export type GroupRule = { readonly first: number; readonly last: number; readonly groups: number };

/** @param terms a device's capabilities, or what a kernel knows of them. */
export function groupRuleOf(terms: { readonly flowGroups?: number; readonly localPorts?: PortRange }): GroupRule {
  const { flowGroups, localPorts } = terms;
  // Without any flow groups the kernels count as if there were all.
  return { ...(localPorts ?? { first: 1, last: 0 }), groups: flowGroups || FLOW_GROUPS };
}

/**
 * The low bits of the client's port. Where our own port is one of those that connect() uses, of both ports, XORed: then
 * each of the two, the other being fixed, goes through all groups. So a connection that we open can be in any group, by
 * choice of our port, and a listener on such a port (port 0, or 50051) has its clients in all groups.
 * Also in assembly/card/steer.ts, assembly/flow/groups.ts and the steering program of the TAP (src/device/tap/ebpf.ts).
 */
export function groupOfPorts(remotePort: number, localPort: number, { first, last, groups }: GroupRule): number {
  return (localPort >= first && localPort <= last ? localPort ^ remotePort : remotePort) & (groups - 1);
}
