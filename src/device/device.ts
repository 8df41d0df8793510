import type { PortRange } from "../rss/toeplitz.ts";
import type { FrameRing } from "../views/frameRing.ts";
import type { ReplySteering, ReplyTuple } from "./replySteering.ts";

/**
 * The seam between kernels and what carries their frames. A *device* is opened once, by the owner; each kernel gets a
 * *port*, which runs on that kernel's thread and drives that kernel's queue pair alone. Ports on other threads are
 * opened from a *descriptor*, a structured-clonable value.
 */

/** One kernel's RX lanes and TX ring. A lane is an RX ring with one producer; with one writer, only lane 0 is used. */
export type QueuePair = {
  readonly kernelId: number;
  readonly memory: WebAssembly.Memory;
  readonly rx: readonly FrameRing[];
  readonly tx: FrameRing;
  /** Wakes the kernel's thread if it sleeps (its doorbell); cheap when it does not. Call after publishing to `rx`. */
  ring(): void;
};

/** What a device can do; negotiated by the owner and fixed for the device's life. */
export type DeviceCapabilities = {
  /** Queue pairs that kernels can have. */
  readonly queues: number;
  /** IP packet size without the Ethernet header, 576..65535. */
  readonly mtuBytes: number;
  /** The device fills and checks TCP/UDP checksums (virtio NEEDS_CSUM / DATA_VALID). */
  readonly checksumOffload: boolean;
  /** The device hands over several segments of a flow as one frame (LRO). */
  readonly receiveCoalescing: boolean;
  /** Largest TCP payload in one frame that the device cuts into segments; 0: none. */
  readonly tsoBytesMax: number;
  /** Who places packets: the card by its tables, the host by a program of ours, learning, or software at the edge. */
  readonly steering: "card" | "ebpf" | "learned" | "software" | "none";
  /** Entries of the RSS indirection table; 0: none. */
  readonly retaEntries: number;
  /** Flow groups that can be placed one by one; 0: none. */
  readonly flowGroups: number;
  /**
   * Own ports that have a part in the flow group (flowGroups.ts), so that a connection that we open can be in any.
   * Missing: the remote port alone names it.
   */
  readonly localPorts?: PortRange;
  /** Exact-match filters; 0: none. */
  readonly exactFilters: number;
  /** Exact filters are for IPv6 flows, too. Default true. */
  readonly exactFiltersV6?: boolean;
};

/** The tables by which a device steers, as their one writer sees them (tables.ts opens them). */
export interface DeviceTables {
  /** Has an entry of Device.placement name `queue`. */
  place?(entry: number, queue: number): void;
  /** As Device.moveFlowGroup. */
  moveFlowGroup?(group: number, queue: number | undefined): void;
  /** @returns false when the exact filters are used up, or the device has none for this flow. */
  setFilter?(flow: ReplyTuple, queue: number): boolean;
  clearFilter?(flow: ReplyTuple): void;
  /** Exact filters that are set, whoever has set them. */
  filters?(): readonly PlacedFilter[];
  /** Key of the RSS hash, 40 bytes or more. This and the next are missing where there is none. */
  rssKey?(): Uint8Array;
  /** @throws NetPopcornError ERR_RSS_KEY. */
  setRssKey?(key: Uint8Array): void;
}

export type PlacedFilter = { readonly flow: ReplyTuple; readonly queue: number };

/** Structured-clonable, for any number of threads. `kind` names the module that opens the tables. */
export type TablesDescriptor = { readonly kind: "card" | "tap" };

/** One kernel's access to its queue pair, on the kernel's thread. */
export interface DevicePort {
  /** Brings what the outside has for this kernel into its RX lanes. @returns frames or bytes moved, 0: nothing. */
  receive(nowNs: number): number;
  /** Takes frames from the kernel's TX ring as far as there is room. @returns 0 when nothing moved. */
  transmit(nowNs: number): number;
  /** When this port has something to do by itself (a delayed frame falls due), ns; Infinity: never. */
  nextDeadlineNs(): number;
  /**
   * Called before the kernel's thread sleeps: from now on whatever arrives must ring the doorbell.
   * @returns false when something has arrived already, so that the thread must not sleep.
   */
  arm(): boolean;
  /** As Device.queueFor, from the kernel's own thread. */
  queueFor?(source: Uint8Array, sourcePort: number, destination: Uint8Array, destinationPort: number): number;
  /** How the device places replies; missing where it has one queue. connect() chooses local ports by it. */
  readonly replySteering?: ReplySteering;
  close(): void;
}

/** Structured-clonable: enough to open a port on another thread (openPort.ts). `kind` names the module that does it. */
export type PortDescriptor = { readonly kind: "card" | "tap" | "capture" };

/** What to post to another thread for a port, and what to transfer with it. A description opens one port once. */
export type PortDescription = {
  readonly descriptor: PortDescriptor;
  readonly transfer: readonly Transferable[];
};

/**
 * The tables by which a device places packets, as one list of entries that each name a queue. Exact filters are not
 * among them: they name one flow each.
 */
export interface Placement {
  readonly entries: number;
  /** Queue that an entry names; undefined: it leaves its packets to another entry. */
  queueOf(entry: number): number | undefined;
  /**
   * @param guarded where a kernel owns the device: only once the exact filters that keep flows of the entry elsewhere
   * are in effect, and not if one is refused. Default false.
   */
  place(entry: number, queue: number, guarded?: boolean): void;
  /** The entry that places a TCP packet with this tuple; addresses are 16 bytes. */
  entryOf(source: Uint8Array, sourcePort: number, destination: Uint8Array, destinationPort: number): number;
  /** The same where the ports alone decide it; undefined: the addresses do, too. Missing: they always do. */
  entryOfPorts?(sourcePort: number, destinationPort: number): number | undefined;
  /** The entry of a flow group, where there are any. */
  entryOfGroup?(group: number): number;
  /** Removes the exact filters that name `queue`. */
  dropFilters?(queue: number): void;
}

/** What carries the frames of a stack: opened once by its owner, driven queue by queue by the kernels. */
export interface Device {
  readonly capabilities: DeviceCapabilities;
  /** Ethernet address, 6 bytes. */
  readonly mac: Uint8Array;
  /** Lanes that each kernel's RX side needs for this device. */
  readonly rxLanes: number;
  /** Port of queue `queue`, for a kernel on this thread. */
  openPort(queue: number, pair: QueuePair): DevicePort;
  /** For a kernel on another thread, whose memory is `memory` (shared): what openPort() of openPort.ts there needs. */
  describePort(queue: number, memory: WebAssembly.Memory): PortDescription;
  /**
   * Queue to which the device would bring a TCP packet with this tuple now; missing where the device cannot tell.
   * connect() chooses a local port, or a kernel, by it. Addresses are 16 bytes.
   */
  queueFor?(source: Uint8Array, sourcePort: number, destination: Uint8Array, destinationPort: number): number;
  /** Missing where the host places packets by itself, or there is nothing to choose. */
  readonly placement?: Placement;
  /** Takes a queue pair away from its kernel, alive or dead, so that another can have it. */
  releaseQueue(queue: number): void;
  /**
   * Has the port of queue `to` take in what still comes to `queue`, whose kernel is gone: packets that the placement
   * does not cover, or all where there is none. undefined: ends it. Missing where every packet is covered.
   */
  lendQueue?(queue: number, to: number | undefined): void;
  /** Queue of a flow group; undefined: left to the hash. This and the next exist where capabilities.flowGroups > 0. */
  flowGroupQueue?(group: number): number | undefined;
  /**
   * Sends the next packets of a flow group to `queue`; undefined: leaves them to the hash, on devices that hash.
   * @param offer where a kernel owns the device: the kernel of that queue may refuse, and the move is guarded as in
   * Placement.place. Default false.
   */
  moveFlowGroup?(group: number, queue: number | undefined, offer?: boolean): void;
  /**
   * Sends one TCP flow to `queue`, before all tables. Where a kernel owns the device, that takes its time, and may be
   * refused later. @returns false when the exact filters are used up.
   */
  setFilter?(flow: ReplyTuple, queue: number): boolean;
  clearFilter?(flow: ReplyTuple): void;
  /**
   * Calls `then` once when the filters of these flows are in effect, or are not and will not be, at once where a write
   * takes effect at once. Missing: they are in effect.
   */
  whenFiltersSet?(flows: readonly ReplyTuple[], then: (areSet: boolean) => void): void;
  /** Exact filters that are set. */
  filters?(): readonly PlacedFilter[];
  /** Key of the RSS hash, 40 bytes or more. This and the next are missing where there is none. */
  rssKey?(): Uint8Array;
  /** While no kernel has a queue pair. @throws NetPopcornError ERR_RSS_KEY. */
  setRssKey?(key: Uint8Array): void;
  /** What another thread needs to write the tables (openTables of tables.ts); missing: there is nothing to write. */
  describeTables?(): TablesDescriptor | undefined;
  /**
   * Where another thread writes the tables (control/ownedDevice.ts): what has been written is sent, and `then` called
   * when all of it has taken effect. Missing: a write takes effect at once.
   */
  commitTables?(then?: () => void): void;
  /** How often the tables have been written so far. Missing: each write takes effect at once. */
  readonly writes?: number;
  /** The first so many writes have taken effect, been refused, or been overtaken by later ones. */
  hasWritten?(writes: number): boolean;
  /**
   * Calls `then` once when all that has been written so far, filters too, has taken effect, been refused, or been
   * overtaken by later writes. Missing: each write takes effect at once.
   */
  whenWritten?(then: () => void): void;
  /** Frames that the device has delivered to each queue. */
  queueFrames(): number[];
  /** Frames among them that software has placed (steered/device.ts); missing: none. */
  softwareSteered?(): number;
  close(): Promise<void>;
}
