/**
 * The balancer's seam: a *policy* looks at what the kernels do and says which flow groups should move. It is a pure
 * function: no clock, no I/O, nothing kept but the state that it returns; equal inputs give equal moves.
 */

/** What the balancer sees of one kernel. */
export type KernelObservation = {
  /** False while the kernel is down: it has no say, and nothing may be moved to it. */
  readonly alive: boolean;
  /** Share of its processor's time that it has worked since the last observation, 0..1. */
  readonly load: number;
  /** Connections that it has now, without those in TIME-WAIT: SYNs minus ends. */
  readonly openConnections: number;
  /** Connections that it has ever begun. */
  readonly openedConnections: number;
  /** Fill of its accept queues or of its fullest RX lane, whichever is more, 0..1. */
  readonly queueFill: number;
  /** Connections that its accept queues can hold, at least 1. */
  readonly acceptQueueMax: number;
  /** Connections that wait in them now. */
  readonly pendingConnections: number;
  /** Connections that its application has ever accepted. */
  readonly acceptedConnections: number;
};

/** What the balancer sees of the flow groups; arrays by group. */
export type GroupsObservation = {
  /** Kernel to which the device brings the group. */
  readonly owner: Uint16Array;
  /** Connections that live now, in all kernels together. */
  readonly live: Uint32Array;
  /** 1: a connection of the group lives in a kernel that does not own it, or a filter of ours brings it there. */
  readonly apart: Uint8Array;
  /** Connections ever begun, in all kernels together; wraps. */
  readonly opened: Uint32Array;
  /**
   * Sum of RCV.NXT and SND.UNA over the connections that live now; wraps. Where `live` and `opened` have not changed,
   * it grows by the bytes that the group's connections carry. Gathered when it is first asked for: it is costly.
   */
  readonly progress: Uint32Array;
};

/** The steals between two kernels, since the start. */
export type StealObservation = {
  readonly from: number;
  readonly to: number;
  /** Connections that have been stolen. */
  readonly stolen: number;
  /** Steals that one of the kernels has refused: `to` does not listen, or has no room. */
  readonly refused: number;
  /** Connections of the steal that has not ended yet, at most; 0: there is none. Until then no other begins. */
  readonly underWay: number;
};

/** What a policy is shown at each step. */
export type Observation = {
  /** By kernel. */
  readonly kernels: readonly KernelObservation[];
  /** Gathered when it is first asked for: a policy that does not look saves the work. */
  readonly groups: GroupsObservation;
  /** Exact filters that are left for connections that are elsewhere than their group; 0: none. */
  readonly pinsFree: number;
  /** Of the kernels between which something was to be stolen. */
  readonly steals: readonly StealObservation[];
  /** Groups can move with their connections (`live` in a move). */
  readonly canMigrate: boolean;
};

/** A flow group goes from one kernel to another. */
export type Move = {
  /** 0..4095. */
  readonly group: number;
  /** Kernel that has it; with another the move is refused as stale. */
  readonly from: number;
  /** Kernel that is to have it. */
  readonly to: number;
  /** For statistics and logs: a word. */
  readonly reason: string;
  /**
   * The group may have connections: each of them keeps its kernel by an exact filter of the device. Otherwise a group
   * with connections is not moved.
   */
  readonly pin?: boolean;
  /** If the group has connections, the move is tried again for a while, to catch a moment when it has none. */
  readonly wait?: boolean;
  /**
   * The group moves with its connections (docs/migration.md). Such moves are made one after the other and may take a
   * while; one that is refused, by an application that cannot follow or for lack of room, changes nothing.
   */
  readonly live?: boolean;
};

/**
 * Connections that wait to be accepted go from one kernel to another, the oldest first (docs/migration.md, Stealing).
 * Their groups stay; each of them gets an exact filter of the device for as long as it lives.
 */
export type StealMove = {
  /** Kernel in which they wait. */
  readonly from: number;
  /** Kernel that is to accept them. */
  readonly to: number;
  /** At most so many. */
  readonly connections: number;
};

/** What a policy answers. */
export type Decision = {
  /** None: an empty list. */
  readonly moves: readonly Move[];
  /** Default: none. */
  readonly steals?: readonly StealMove[];
  /** Handed back in the next call. */
  readonly state: unknown;
};

/** @param state of the last decision; undefined in the first call. @param nowNs never less than before. */
export type PolicyFunction = (observation: Observation, state: unknown, nowNs: number) => Decision;

/** Decides which kernel gets which flow groups (docs/balancer.md). */
export type Policy = {
  /** For statistics and logs. */
  readonly name: string;
  /** How often it is asked. */
  readonly periodNs: number;
  /** A pure function: same observation, same state, same decision. */
  readonly decide: PolicyFunction;
};

/** How many groups each of `kernels` kernels owns. */
export function countGroups(owner: Uint16Array, kernels: number): number[] {
  const counts: number[] = new Array(kernels).fill(0);
  for (const kernel of owner) if (kernel < kernels) counts[kernel] = (counts[kernel] as number) + 1;
  return counts;
}

/** Nothing moves: the card's hash, or whatever tables it has, decide. */
export const staticPolicy: Policy = {
  name: "static",
  periodNs: 1e9,
  decide: (_observation, state) => ({ moves: [], state }),
};
