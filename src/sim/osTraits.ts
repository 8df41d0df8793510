/**
 * What differs between Linux releases, independently of the design that runs on them. Sources: commits and release
 * notes named beside each trait.
 */
import type { DesignName, OsVersion } from "./types.ts";

export type OsTraits = {
  /**
   * Spin locks: unfair before 2.6.25, ticket until 4.1, queued (MCS) from 4.2 on.
   */
  readonly spinLock: "unfair" | "ticket" | "queued";
  /**
   * dcache_lock and inode_lock are global and every socket takes them; a path is walked with vfsmount_lock and a lock
   * and a reference on each dentry, and every file is on a list under files_lock: until 2.6.36..2.6.39 (lglocks,
   * dcache scalability and RCU walk, inode lock split), for sockets until 3.1 (a209dfc, 4b93688).
   */
  readonly globalVfsLocks: boolean;
  /** SYNs and handshake ACKs take the listener's socket lock: until 4.4 (e994b2f0 and the commits around it). */
  readonly listenerLocked: boolean;
  /** One lock for the wheel of all connections in TIME-WAIT: until 4.1 (789f558c). */
  readonly timeWaitLocked: boolean;
  /**
   * Frames that may come to a socket's backlog while its owner processes it: any number before 2.6.34; then as many as
   * have room in its receive buffer of 87,380 bytes (6b03a53a), from 3.5 on in its send buffer of 16 KiB too (da882c1f,
   * also in RHEL's 2.6.32). ixgbe's buffers for small frames, with their sk_buff: 560 bytes, in 3.2 1,280, later 960.
   */
  readonly backlogFramesMax: number;
  /** Look-up in a SO_REUSEPORT group: each listener is scored (3.9), or an array is indexed (4.5, c125e80b). */
  readonly reuseport: "none" | "scan" | "index";
};

const OS_TRAITS: Readonly<Record<OsVersion, OsTraits>> = {
  "2.6.24": {
    spinLock: "unfair",
    globalVfsLocks: true,
    listenerLocked: true,
    backlogFramesMax: Number.POSITIVE_INFINITY,
    timeWaitLocked: true,
    reuseport: "none",
  },
  "2.6.32": {
    spinLock: "ticket",
    globalVfsLocks: true,
    listenerLocked: true,
    backlogFramesMax: 185,
    timeWaitLocked: true,
    reuseport: "none",
  },
  // As patched for Affinity-Accept's comparison (the MOSBENCH patches): without the global VFS locks.
  "2.6.35": {
    spinLock: "ticket",
    globalVfsLocks: false,
    listenerLocked: true,
    backlogFramesMax: 156,
    timeWaitLocked: true,
    reuseport: "none",
  },
  "3.2": {
    spinLock: "ticket",
    globalVfsLocks: false,
    listenerLocked: true,
    backlogFramesMax: 68,
    timeWaitLocked: true,
    reuseport: "none",
  },
  "3.10": {
    spinLock: "ticket",
    globalVfsLocks: false,
    listenerLocked: true,
    backlogFramesMax: 108,
    timeWaitLocked: true,
    reuseport: "scan",
  },
  "3.13": {
    spinLock: "ticket",
    globalVfsLocks: false,
    listenerLocked: true,
    backlogFramesMax: 108,
    timeWaitLocked: true,
    reuseport: "scan",
  },
  "4.6": {
    spinLock: "queued",
    globalVfsLocks: false,
    listenerLocked: false,
    backlogFramesMax: 108,
    timeWaitLocked: false,
    reuseport: "index",
  },
  "6.2": {
    spinLock: "queued",
    globalVfsLocks: false,
    listenerLocked: false,
    backlogFramesMax: 108,
    timeWaitLocked: false,
    reuseport: "index",
  },
};

export function osTraits(version: OsVersion): OsTraits {
  return OS_TRAITS[version];
}

/** Release on which each design runs where no paper says another. */
const USUAL: Readonly<Record<DesignName, OsVersion>> = {
  linux: "3.10",
  "linux-reuseport": "3.13",
  "affinity-accept": "2.6.35",
  "fine-accept": "2.6.35",
  fastsocket: "2.6.32",
  mtcp: "3.10",
  netpopcorn: "3.2",
  "linux-6": "6.2",
  // 3.1.3, whose traits here are those of 3.2.
  megapipe: "3.2",
};

/** What the paper of a machine compared. */
const OF_MACHINE: Readonly<Record<string, Partial<Record<DesignName, OsVersion>>>> = {
  "e5-2695v2": { linux: "3.2", "affinity-accept": "2.6.24", "fine-accept": "2.6.24" },
  "e5-2697v2": { linux: "2.6.32" },
  "e5-2690": { "linux-reuseport": "3.10" },
  "opteron-48": { linux: "2.6.35" },
};

export function defaultOs(machine: string, design: DesignName): OsVersion {
  return OF_MACHINE[machine]?.[design] ?? USUAL[design];
}
