/**
 * How a device places the packets of connections that we open: what choosing a local port takes (kernel/homePorts.ts).
 * It is a view: whatever the owner changes in the device's tables holds from the next call on. The RSS key and the
 * sizes of the tables are fixed when a kernel gets its port.
 *
 * A device looks at exact filters first, then at the flow group (flowGroups.ts), then at the hash.
 */
import type { ToeplitzTables } from "../rss/toeplitz.ts";

export interface ReplySteering {
  /** Queue pairs of the device. */
  readonly queues: number;
  /** Ports that have a part in the group; first > last: none. */
  readonly localPortFirst: number;
  readonly localPortLast: number;
  /** Flow groups, a power of two. Default 4096. */
  readonly flowGroups?: number;
  /** Queue of a flow group, 0..flowGroups - 1; -1: left to the hash. Missing: the device has no flow groups. */
  groupQueue?(group: number): number;
  /** Missing: the device does not hash. Without groups and hash it brings replies to where it has been sent from. */
  readonly rss?: {
    readonly tables: ToeplitzTables;
    /** Entries of the indirection table, a power of two. */
    readonly entries: number;
    entryQueue(entry: number): number;
  };
  /** The device has exact filters; its owner sets them. Default false. */
  readonly filterable?: boolean;
  /** Exact filters in use. */
  readonly filterCount: number;
  /**
   * The queue of a TCP packet, or of a UDP one, all tables considered; -1: the device cannot tell. Addresses are 16
   * bytes.
   */
  queueFor(remote: Uint8Array, remotePort: number, local: Uint8Array, localPort: number, isUdp?: boolean): number;
}

/** TCP packets from a remote address and port to a local one. */
export type ReplyTuple = {
  readonly remote: Uint8Array;
  readonly remotePort: number;
  readonly local: Uint8Array;
  readonly localPort: number;
};
