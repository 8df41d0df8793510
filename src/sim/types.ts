/**
 * The simulator's seam: what to simulate (a point), and what came out. Both are plain JSON, so that points can be
 * queued, run in other processes or on other machines, and stored.
 */
import type { Machine } from "./machines/machine.ts";

export const DESIGNS = [
  "linux",
  "linux-reuseport",
  "affinity-accept",
  "fine-accept",
  "fastsocket",
  "mtcp",
  "netpopcorn",
  "linux-6",
  "megapipe",
] as const;
export type DesignName = (typeof DESIGNS)[number];

export const WORKLOADS = ["web-epoll", "web-accept", "proxy", "rpc"] as const;
export type WorkloadName = (typeof WORKLOADS)[number];

export const PROTOCOLS = ["steady", "ab"] as const;
export type Protocol = (typeof PROTOCOLS)[number];

export const BALANCER_POLICIES = ["static", "opportunistic", "affinity-accept", "angel"] as const;
export type BalancerPolicyName = (typeof BALANCER_POLICIES)[number];

/** Releases whose traits (kind of spin lock, VFS locks, listener look-up) the simulator knows: osTraits.ts. */
export const OS_VERSIONS = ["2.6.24", "2.6.32", "2.6.35", "3.2", "3.10", "3.13", "4.6", "6.2"] as const;
export type OsVersion = (typeof OS_VERSIONS)[number];

/** Clients' ports: `hotShare` of the connections come from `hotGroups` of the 4,096 flow groups. */
export type Skew = { readonly hotGroups: number; readonly hotShare: number };

/** Other work that takes `share` (0..1) of each of the first `cores` cores. */
export type BackgroundLoad = { readonly cores: number; readonly share: number };

/**
 * One simulation. What is left out has the default that the workload or the machine defines (point.ts): `parsePoint`
 * fills it in.
 */
export type SimPoint = {
  readonly design: DesignName;
  /** 1..128 virtual cores, filled socket by socket. */
  readonly cores: number;
  readonly workload: WorkloadName;
  /** Name of a machine, or a whole one. */
  readonly machine: string | Machine;
  /** 0..2^32-1. */
  readonly seed: number;
  /** Cycles of the application for one request, system calls not included. */
  readonly appCycles: number;
  readonly procsPerCore: number;
  readonly requestsPerConn: number;
  /** Connections that an event loop accepts at most when the listener is reported. */
  readonly acceptsPerEvent: number;
  /** Files that the application opens and closes for one request, beyond the connection itself. */
  readonly fileOpensPerRequest: number;
  /** Size of a request and of a response, application bytes. */
  readonly messageBytes: number;
  readonly responseBytes: number;
  /** Pause of the client before request k + 1, milliseconds; after the last entry there is none. */
  readonly thinkMs: readonly number[];
  readonly protocol: Protocol;
  /** Measured virtual time, seconds; 0: until the rate is known well enough (point.ts). Steady only. */
  readonly durationS: number;
  /** Connections in flight (closed loop). */
  readonly concurrency: number;
  /** New connections per second in a Poisson process (open loop); 0: closed loop. */
  readonly arrivalsPerSec: number;
  /** Connections of a finite run, all clients together. `ab` only. */
  readonly abConnections: number;
  readonly backlog: number;
  /**
   * TCP_DEFER_ACCEPT: a handshake's ACK is dropped at the listener, and the request makes the connection. Of designs in
   * the operating system's kernel.
   */
  readonly deferAccept: boolean;
  /** Addresses that the service listens on, each a listener of its own that every process watches. */
  readonly listenAddresses: number;
  /** Processes are threads of one process: they share its table of descriptors. */
  readonly sharedFdTable: boolean;
  readonly skew: Skew;
  readonly background: BackgroundLoad;
  readonly policy: BalancerPolicyName;
  /** The release whose kernel the design runs on. Default: the one that the machine's paper used for the design. */
  readonly os: OsVersion;
  /** fastsocket: false leaves the VFS as the release has it. */
  readonly vfsBypass: boolean;
  /**
   * fastsocket: false leaves all processes on the global listener, as its module does with those that it finds no core
   * for.
   */
  readonly localListen: boolean;
  /** Time that a client takes between a frame's arrival and what follows from it, microseconds. */
  readonly clientUs: number;
  /** Seconds after which a client gives up a connection that is not done. */
  readonly clientTimeoutS: number;
  /** Seconds of TIME-WAIT at the server; the 1 Mi records of its kernels must do for them. */
  readonly timeWaitS: number;
  /** Factors for constants of the machine, by name: the sensitivity table. */
  readonly scale: Readonly<Record<string, number>>;
  /** Collect trace events for this much virtual time after the warm-up, milliseconds; 0: none. */
  readonly traceMs: number;
};

export type Latency = { readonly mean: number; readonly p50: number; readonly p99: number; readonly p999: number };

/**
 * Parts of the cores' time in the measured span, 0..1 each; they sum to 1. `app`: application. `stack`: protocol code
 * and system calls. `lockSpin`: waiting for spin locks. `cacheMiss`: cache lines fetched from other cores. `switch`:
 * context switches and wake-ups. `vfs`: file descriptors, dentries and inodes. `background`: other work. `idle`.
 */
export const SHARES = ["app", "stack", "lockSpin", "cacheMiss", "switch", "vfs", "background", "idle"] as const;
export type ShareName = (typeof SHARES)[number];
export type Shares = Readonly<Record<ShareName, number>>;

export type LockReport = {
  readonly name: string;
  readonly acquisitions: number;
  /** Acquisitions that had to wait. */
  readonly contended: number;
  /** Share of all cores' time spent waiting for it. */
  readonly spinShare: number;
};

/** One complete event ("X") of the Chrome trace-event format; `tid` is the core. */
export type TraceEvent = {
  readonly name: string;
  readonly cat: string;
  readonly ph: "X";
  readonly ts: number;
  readonly dur: number;
  readonly pid: 0;
  readonly tid: number;
};

/** Why a core waits or a connection fails, counted in the measured span. */
export type Losses = {
  /** Frames that found the card's ring full. */
  readonly ringFull: number;
  /** Frames that found a queue in memory full: the backlog of a listener that a process owned, or of another core. */
  readonly backlogFull: number;
  /** SYNs or handshake ACKs that found the accept queue full. */
  readonly acceptQueueFull: number;
  readonly synRetransmits: number;
  readonly connectionsReset: number;
};

export type PointResult = {
  readonly design: DesignName;
  readonly cores: number;
  readonly workload: WorkloadName;
  readonly machine: string;
  readonly protocol: Protocol;
  readonly seed: number;
  readonly connsPerSec: number;
  readonly requestsPerSec: number;
  /** From the client's SYN (first request) or its sending (others) to the whole response. */
  readonly latencyUs: Latency;
  readonly failedConnections: number;
  /** Busy share of each core, 0..1. */
  readonly utilization: readonly number[];
  readonly shares: Shares;
  /** The same for each core. */
  readonly coreShares: readonly Shares[];
  readonly locks: readonly LockReport[];
  /** Latency distribution: `cdf[i]` of the requests took at most `us[i]`. */
  readonly latencyCdf: { readonly us: readonly number[]; readonly cdf: readonly number[] };
  readonly losses: Losses;
  /** Mean share of packets whose process ran on the core that received them. */
  readonly localPacketShare: number;
  /** Shares of all cores' time in softirqs (packets, with what they wait for), and in looking listeners up. */
  readonly softirqShare: number;
  readonly lookUpShare: number;
  /** Busy cycles of all cores per completed connection. */
  readonly cyclesPerConn: number;
  readonly warmUpS: number;
  readonly measuredS: number;
  readonly simulatedPackets: number;
  /** Real time that the run took; 0 when no clock was given. */
  readonly wallMs: number;
  readonly trace: readonly TraceEvent[];
};

export type RunHooks = {
  /** 0..1, from time to time. */
  readonly onProgress?: (fraction: number) => void;
  /** Real time in nanoseconds, for `wallMs` and progress; the simulation itself never looks at it. */
  readonly wallNs?: () => number;
  readonly signal?: AbortSignal;
};
