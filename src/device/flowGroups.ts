import { FLOW_GROUPS } from "../layout/flowGroup.ts";

/**
 * Where a flow group is at first: equal shares, and equal too for the groups that a client really uses. Linux's
 * connect() takes every second port, so dealing them out in turn would leave half of the queues idle; steps of the
 * golden ratio spread any regular sequence (Knuth, The Art of Computer Programming 3, 6.4).
 */
export function initialQueue(group: number, queues: number): number {
  const step = 2531; // FLOW_GROUPS / 1.618…, odd, so that groups map to places one to one.
  return Math.floor((((group * step) % FLOW_GROUPS) * queues) / FLOW_GROUPS);
}

/** How a device groups: by which of our own ports, if any, and in how many groups. */
export type GroupRule = { readonly first: number; readonly last: number; readonly groups: number };

/** The low bits of the client's port. */
export function groupOfPorts(remotePort: number, localPort: number, { first, last, groups }: GroupRule): number {
  return (localPort >= first && localPort <= last ? localPort : remotePort) & (groups - 1);
}
