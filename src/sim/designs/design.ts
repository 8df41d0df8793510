/** The designs, as declarations of mechanism. docs/simulator.md tells each with its source. */
import type { DesignName, SimPoint } from "../types.ts";

export type Design = {
  readonly name: DesignName;
  /** Protocol code in softirqs and system calls, or in a user-level thread beside the application's on each core. */
  readonly stack: "kernel" | "user";
  /**
   * Who finds a connection. `shared`: a hashed table for all cores, wherever the packet arrives. `core`: the core that
   * the packet arrives at, and no other.
   */
  readonly tables: "shared" | "core";
  /**
   * Accept queues of the one port: one for all; one for each process (SO_REUSEPORT); one for each core, served by the
   * processes there (cloned listener, local listen table, or listen replica of a kernel).
   */
  readonly listeners: "one" | "process" | "core";
  /** Which of several listeners a SYN goes to: drawn by a hash of its tuple, or the arriving core's own. */
  readonly choice: "hash" | "local";
  /** What the card goes by: the RSS hash and its indirection table, or flow groups. */
  readonly steering: "rss" | "flow-groups";
  /** The card's driver may steer connections by what they send (machine: steerSamplePackets). */
  readonly driverSteers: boolean;
  /** Cores without a receive queue get packets from those that have one, by software (RPS). */
  readonly rps: boolean;
  /** Where accept() takes from. */
  readonly acceptFrom: "own" | "round-robin" | "own-then-steal";
  /** Sockets skip the VFS's global locks. */
  readonly vfsBypass: boolean;
  /** Sockets are files: with a descriptor in the process's table, a dentry and an inode. */
  readonly socketFiles: boolean;
  /** System calls that enter the kernel together at most; what is left over enters with the wait for events. */
  readonly callBatch: number;
  /** Local ports of active opens are chosen so that replies come to the core that opened. */
  readonly ownPorts: boolean;
  /** Who moves flow groups. */
  readonly balancer: "none" | "policy" | "affinity";
};

const LINUX: Design = {
  name: "linux",
  stack: "kernel",
  tables: "shared",
  listeners: "one",
  choice: "hash",
  steering: "rss",
  driverSteers: true,
  rps: false,
  acceptFrom: "own",
  vfsBypass: false,
  socketFiles: true,
  callBatch: 1,
  ownPorts: false,
  balancer: "none",
};

const DESIGN_LIST: readonly Design[] = [
  LINUX,
  // SO_REUSEPORT (Linux 3.9): a listener per process, chosen by a hash of the tuple.
  { ...LINUX, name: "linux-reuseport", listeners: "process" },
  // Affinity-Accept (EuroSys 2012): accept queue per core, flow groups in the card, stealing, migration every 100 ms.
  {
    ...LINUX,
    name: "affinity-accept",
    listeners: "core",
    choice: "local",
    steering: "flow-groups",
    driverSteers: false,
    acceptFrom: "own-then-steal",
    balancer: "affinity",
  },
  // Its published baseline: the queues without the affinity.
  {
    ...LINUX,
    name: "fine-accept",
    listeners: "core",
    choice: "local",
    steering: "flow-groups",
    driverSteers: false,
    acceptFrom: "round-robin",
  },
  // Fastsocket (ASPLOS 2016): local listen table, RFD for active opens, VFS fast path, RPS beyond the queues.
  {
    ...LINUX,
    name: "fastsocket",
    listeners: "core",
    choice: "local",
    driverSteers: false,
    rps: true,
    vfsBypass: true,
    ownPorts: true,
  },
  // mTCP (NSDI 2014): everything per core, in user space.
  {
    ...LINUX,
    name: "mtcp",
    stack: "user",
    driverSteers: false,
    tables: "core",
    listeners: "core",
    choice: "local",
    vfsBypass: true,
    ownPorts: true,
  },
  // NetPopcorn (ICDCS 2017): a kernel per core, queue pairs of their own, flow groups moved by the balancer.
  {
    ...LINUX,
    name: "netpopcorn",
    tables: "core",
    listeners: "core",
    choice: "local",
    steering: "flow-groups",
    driverSteers: false,
    ownPorts: true,
    balancer: "policy",
  },
  // Linux 6 as tuned today: a listener per process, chosen by the arriving core (eBPF), replies steered back (aRFS).
  { ...LINUX, name: "linux-6", listeners: "process", choice: "local", driverSteers: false, ownPorts: true },
  // MegaPipe (OSDI 2012): partitioned listening, sockets that are no files (lwsocket), batches of up to 32 commands.
  {
    ...LINUX,
    name: "megapipe",
    listeners: "core",
    choice: "local",
    vfsBypass: true,
    socketFiles: false,
    callBatch: 32,
  },
];

export function designNamed(name: DesignName): Design {
  const design = DESIGN_LIST.find((one) => one.name === name);
  // Names are checked with the point; a design without declaration is a mistake of ours.
  if (!design) throw new RangeError(`design ${name} has no declaration`);
  return design;
}

/** The design as the point has it run. */
export function designOf({ design, localListen }: SimPoint): Design {
  const declared = designNamed(design);
  // Fastsocket's processes without a local listener share the global one.
  return design === "fastsocket" && !localListen ? { ...declared, listeners: "one", choice: "hash" } : declared;
}
