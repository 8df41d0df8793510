/** The public API: a stack, its options, its results. */
import type { BalanceEvent, BalancerStats } from "./balancer/balancer.ts";
import type { BalancerOption } from "./balancer/choosePolicy.ts";
import type { MessageStats } from "./control/messageStats.ts";
import type { Device } from "./device/device.ts";
import type { PingOptions, PingReply } from "./ip/pinger.ts";
import type { Clock } from "./kernel/clock.ts";
import type { Tuning } from "./kernel/config.ts";
import type { KernelHost } from "./kernel/host.ts";
import type { Seed } from "./kernel/seed.ts";
import type { RouteOption } from "./kernel/networkPlan.ts";
import type { AddressEvent } from "./kernel/stackNetwork.ts";
import type { KernelEvent, RemoveOptions, RestartOptions } from "./kernel/supervisor.ts";
import type { MigrationResult } from "./migration/migrator.ts";
import type { Connection } from "./socket/connection.ts";
import type { Listener } from "./socket/listener.ts";
import type { BindUdpOptions, ConnectOptions, ListenOptions, Sockets } from "./socket/sockets.ts";
import type { UdpSocket } from "./socket/udp.ts";
import type { Counters } from "./views/kernelMemory.ts";
import type { ModuleBuild } from "./wasm/load.ts";

/** Where the kernels run: all on the calling thread, or each in a worker of its own. */
export type StackMode = "inline" | "threads";

/** Options of createStack(). */
export type StackOptions = {
  /** How many kernels, 1..64, at first. Default: kernelsMax, or as many as the device has queues. */
  readonly kernels?: number;
  /** How many there can be (addKernel), 1..64: as many as the device has queues. Default: kernels. */
  readonly kernelsMax?: number;
  /** Default "inline". */
  readonly mode?: StackMode;
  /** Stays the caller's: closing the stack does not close it. */
  readonly device: Device;
  /**
   * Own addresses with prefix length, "10.7.0.2/24" or "fd07::2/64"; "dhcp": ask a server for an IPv4 address; "slaac":
   * take the IPv6 addresses and routes that routers advertise (docs/ip.md). With an IPv6 address comes a link-local
   * one.
   */
  readonly address: string | readonly string[];
  /**
   * Default gateway, "10.7.0.1". Several of a family, up to nine: in order of preference, the next is used while those
   * before it do not answer.
   */
  readonly gateway?: string | readonly string[];
  /** Other routes: { to: "10.8.0.0/16", via: "10.7.0.9" }. */
  readonly routes?: readonly RouteOption[];
  /**
   * Key of the device's RSS hash, 40 or 52 bytes; the kernel that owns the device sets it before any kernel has its
   * queue pair. Only for a device with such a hash (model card). Default: the one that the device has.
   */
  readonly rssKey?: Uint8Array | readonly number[];
  /** Own Ethernet address, "02:00:5e:10:00:01". Default: the device's. */
  readonly mac?: string;
  /**
   * Module whose default export is the application (see Application); it is loaded once into every kernel. A URL, or
   * text that is one or a path. Needed in threads mode, possible in inline mode.
   */
  readonly app?: string | URL;
  /** Second argument of the application; structured-clonable. */
  readonly appArguments?: unknown;
  /** Same seed, same frames: same result. Default: random. */
  readonly seed?: Seed;
  /** Real time unless given (inline mode only). */
  readonly clock?: Clock;
  /**
   * "manual": nothing runs by itself; the caller gives turns with `stack.turn(nowNs)` (inline mode only), for
   * simulations and tests in virtual time. Default "auto".
   */
  readonly drive?: "auto" | "manual";
  /**
   * Inline kernels in shared memory too, so that kernels of other threads can be their neighbours on one segment.
   * Default false; threads mode always shares.
   */
  readonly sharedMemory?: boolean;
  /**
   * Which kernel gets which flow groups (docs/balancer.md): a policy's name, its name with constants, or a policy of
   * your own. Default "angel" in threads mode on a device with flow groups and exact filters, otherwise "static".
   */
  readonly balancer?: BalancerOption;
  /** Closes the stack at once when aborted. */
  readonly signal?: AbortSignal;
  /** RFC 7323 timestamps when the peer sends them too. Default true. */
  readonly timestamps?: boolean;
  /** Nagle's algorithm off for new connections. Default false. */
  readonly noDelay?: boolean;
  /**
   * What happens when a kernel traps, hangs or its worker dies: it is started again, after a wait that doubles (see
   * RestartOptions). false: it stays down, and the others go on. Default: the options' defaults.
   */
  readonly restart?: false | Partial<RestartOptions>;
  /**
   * How long a kernel on a thread of its own may take no turn although it has work, 10..3,600,000. Default 1000. With
   * `drive: "manual"` kernels are watched when this is given: one that does nothing in its turns hangs.
   */
  readonly hangMs?: number;
  /** "debug": kernels that check their own assertions, slower, in plain memories only. Default "release". */
  readonly moduleBuild?: ModuleBuild;
  /** Everything else that is a number. */
  readonly tuning?: Partial<Tuning>;
};

/** Options of Stack.close(). */
export type CloseOptions = {
  /** How long open connections may go on before they are reset. Default 1000. */
  readonly drainMs?: number;
};

export type KernelStatus = {
  readonly state: "up" | "down" | "removed";
  /** How often it has been started again. */
  readonly restarts: number;
};

/** What stats() tells; all counts are since the start. */
export type StackStats = {
  /** Kernel that owns the device and the registry of ports. */
  readonly owner: number;
  /** Of each kernel. */
  readonly statuses: readonly KernelStatus[];
  /** Counters of each kernel (docs/api.md), over all its lives. */
  readonly kernels: readonly Counters[];
  /** Frames that the device has delivered to each queue. */
  readonly queues: readonly number[];
  /** How many of them software has placed: all or none (steerInSoftware). */
  readonly softwareSteered: number;
  /** Exact filters that were to keep connections where they are, and for which the device had no room. */
  readonly filtersRefused: number;
  /** Sums over the kernels. */
  readonly total: Counters;
  /** Load and flow groups of each kernel, and what has been moved; undefined with the static policy. */
  readonly balancer: BalancerStats | undefined;
  /** Messages between kernels. */
  readonly messages: MessageStats;
};

/** Events of a stack, with what their listeners get. */
export type StackEvents = {
  /**
   * An application's handler threw, or, with `fatal`, a kernel has ended: its worker died (the application's error, or
   * ERR_KERNEL_EXIT), it trapped (ERR_KERNEL_TRAP) or hung (ERR_KERNEL_HANG). Without a listener the error is thrown,
   * as an EventEmitter would, except for a kernel's end of which an event "kernel" has told.
   */
  error: { readonly error: Error; readonly kernelId: number; readonly fatal: boolean };
  /** A kernel has gone, or is back. Its packets go to the others before this is told. */
  kernel: KernelEvent;
  /** The balancer has moved flow groups, or has had to refuse. */
  balance: BalanceEvent;
  /** What an application has sent with `kernelStack.postMessage`. */
  message: { readonly data: unknown; readonly kernelId: number };
  /** DHCP or autoconfiguration has added or removed an address, or another station has one of ours. */
  address: AddressEvent;
  /** The stack has closed. */
  close: Record<string, never>;
};
export type { BindUdpOptions, ConnectOptions, ListenOptions } from "./socket/sockets.ts";
export type { KernelEvent, KernelReason, RemoveOptions, RestartOptions } from "./kernel/supervisor.ts";
export type { EventHandler, Handles } from "./kernel/handles.ts";
export type { KernelHost } from "./kernel/host.ts";
export type { Application, KernelStack } from "./kernel/kernelStack.ts";

/** N kernels that look like one host. */
export interface Stack extends AsyncDisposable {
  /** Where its kernels run. */
  readonly mode: StackMode;
  /** How many kernels there are, those included that are being started again. */
  readonly kernelCount: number;
  /** Own addresses now: "10.7.0.2/24". */
  readonly addresses: readonly string[];
  /**
   * Fulfilled when the stack has the addresses that it was to ask for ("dhcp", "slaac"); at once when there are none.
   * Nobody may answer: wait for as long as you like. @throws NetPopcornError ERR_STACK_CLOSED.
   */
  configured(): Promise<void>;
  /** The kernels with their handle level; empty in threads mode, where they are in other threads. */
  readonly kernels: readonly KernelHost[];
  /** @internal All kernels as one group, for the levels above the Web level (src/net); undefined in threads mode. */
  readonly sockets: Sockets | undefined;

  /**
   * Listens in all kernels. Inline mode only: in threads mode the application module listens, in its kernel.
   * @throws NetPopcornError EADDRINUSE, EADDRNOTAVAIL, ENOBUFS, ERR_OPTION_RANGE, ERR_STACK_CLOSED,
   * ERR_NO_APPLICATION_THREAD.
   */
  listen(where: number | ListenOptions, more?: Omit<ListenOptions, "port">): Promise<Listener>;
  /** Opens a connection. Inline mode only. @throws NetPopcornError ECONNREFUSED, ETIMEDOUT, …. */
  connect(options: ConnectOptions): Promise<Connection>;
  /**
   * Asks a host whether it is there: an echo request and its reply (RFC 1122 3.2.2.6). Inline mode only; in threads
   * mode the application of a stack with one kernel can.
   * @throws NetPopcornError ETIMEDOUT, EHOSTUNREACH, ENETUNREACH, …; ERR_ADDRESS_FORMAT, ERR_OPTION_RANGE.
   */
  ping(address: string, options?: PingOptions): Promise<PingReply>;
  /** Binds a UDP socket in all kernels. Inline mode only. */
  bindUdp(where: number | BindUdpOptions): Promise<UdpSocket>;

  /** Counters and states of all kernels, now. */
  stats(): Promise<StackStats>;
  /** Ends a kernel as a crash would, with all its connections, to see what happens then. It is started again. */
  killKernel(kernelId: number): void;
  /**
   * Starts one more kernel: what listens, listens there too, and it gets its share of the packets as flow groups become
   * free. Other kernels' connections are not touched. @returns its number.
   * @throws NetPopcornError ERR_KERNELS_MAX, ERR_STACK_CLOSED, and what the application throws at its start.
   */
  addKernel(): Promise<number>;
  /**
   * Has a kernel leave: nothing new is steered to it, its connections may go on for `drainMs` (none with
   * `drain: false`), then those that are left are reset. Fulfilled when it has ended.
   * @throws NetPopcornError ERR_NO_SUCH_KERNEL, ERR_LAST_KERNEL, ERR_OPTION_RANGE, ERR_STACK_CLOSED.
   */
  removeKernel(kernelId: number, options?: RemoveOptions): Promise<void>;
  /**
   * Moves a flow group, 0..4095, to another kernel with all its connections, while traffic flows (docs/migration.md).
   * Moves are made one after the other; fulfilled when the old kernel no longer forwards late frames. When it rejects,
   * everything is as it was.
   * @throws NetPopcornError ERR_OPTION_RANGE, EOPNOTSUPP (no flow groups), ERR_MIGRATION_PINNED (an application that
   * cannot follow), ENOBUFS (no room in that kernel), EADDRINUSE, ERR_KERNEL_DOWN, ERR_STACK_CLOSED.
   */
  migrate(group: number, toKernel: number): Promise<MigrationResult>;
  /** Sends a structured-clonable value to the application in every kernel (KernelStack event "message"). */
  postMessage(data: unknown): void;
  /** Calls `listener` with every event of that name, in the order of the calls of on(). See StackEvents. */
  on<Name extends keyof StackEvents>(name: Name, listener: (event: StackEvents[Name]) => void): this;
  /** Takes a listener away again. */
  off<Name extends keyof StackEvents>(name: Name, listener: (event: StackEvents[Name]) => void): this;

  /** With `drive: "manual"`: one turn of every kernel. @returns true when something was done or is left to do. */
  turn(nowNs: number): boolean;
  /** With `drive: "manual"`: when the next turn is due without outside input, ns; Infinity: never. */
  nextDeadlineNs(): number;

  /** Stops listening, lets connections drain, resets the rest. The device stays open: it is the caller's. */
  close(options?: CloseOptions): Promise<void>;
}
