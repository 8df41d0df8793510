/**
 * The sockets of a group of kernels on one thread: all kernels of an inline stack, or the one kernel of a thread.
 * A listen or bind is made in every kernel of the group or in none; a connect in the kernel to which the card will
 * bring the replies.
 */

import { onAbort } from "../abort.ts";
import { checkKind, checkOptions, type Shape } from "../checks.ts";
import { type ListenTerms, type PortClaims, portKey, type PortProtocol, type PortRequest } from "../control/ports.ts";
import { NetPopcornError, statusError } from "../errors.ts";
import { formatAddress, parseAddress } from "../ip/address.ts";
import { Pinger, type PingOptions, type PingReply } from "../ip/pinger.ts";
import { ownAddress, ownAddressIndex, speaks } from "../ip/ownAddresses.ts";
import { checkInteger } from "../optionRange.ts";
import type { KernelHost } from "../kernel/host.ts";
import type { Reactor } from "../kernel/reactor.ts";
import { OPTION_FAST_OPEN_CONNECT } from "../layout/option.ts";
import { ADDRESS_ANY, ADDRESS_ANY_V4, ADDRESS_ANY_V6 } from "../layout/config.ts";
import { GAUGE_CONNECTIONS, GAUGE_TIME_WAIT } from "../layout/counters.ts";
import { EADDRNOTAVAIL, EAGAIN, ENOBUFS } from "../layout/status.ts";
import type { KernelMemory } from "../views/kernelMemory.ts";
import { Connection, type ConnectionOwner, type OpenConnection } from "./connection.ts";
import { Listener } from "./listener.ts";
import { kernelOptions, type SocketOptions } from "./options.ts";
import { RetiringListeners } from "./retiring.ts";
import { UdpSocket } from "./udp.ts";

/** Options of Stack.listen(). */
export type ListenOptions = {
  /** 1..65535, 0: draw one. */
  readonly port: number;
  /** One of the stack's own addresses, "0.0.0.0" or "::". Default: all of them. */
  readonly address?: string;
  /** With "::": IPv6 only; otherwise "::" takes IPv4 too. */
  readonly ipv6Only?: boolean;
  /** Connections per kernel that wait to be accepted, 1..65535. Default 1024. */
  readonly backlog?: number;
  /** What its connections start with. */
  readonly socketOptions?: SocketOptions;
  /** Called with every connection as soon as it is there, instead of accept() and iteration. */
  readonly onConnection?: (connection: Connection) => void;
  /** Closes the listener when aborted. */
  readonly signal?: AbortSignal;
};

/** Options of Stack.connect(). */
export type ConnectOptions = {
  /** IP address of the peer; names are not resolved. */
  readonly address: string;
  /** 1..65535. */
  readonly port: number;
  /** Default: by route. */
  readonly localAddress?: string;
  /** Default: one whose replies the card brings to the kernel that opens. */
  readonly localPort?: number;
  /** What the connection starts with. */
  readonly socketOptions?: SocketOptions;
  /**
   * The first bytes to send: with the SYN, where the server has given this kernel a cookie before (RFC 7413), otherwise
   * after the handshake. The server may see them twice. At most what the send buffer takes.
   */
  readonly fastOpen?: Uint8Array;
  /** Gives up (or resets) when aborted. */
  readonly signal?: AbortSignal;
};

/** Options of Stack.bindUdp(). */
export type BindUdpOptions = {
  /** 1..65535, 0: draw one. */
  readonly port: number;
  /**
   * Whom a socket with port 0 asks. In a kernel's thread it is that kernel's alone then, and its port is one whose
   * answers from there the card brings to that kernel; without, or from others, they may come to another kernel's
   * socket. In inline mode a socket hears all kernels anyway.
   */
  readonly peer?: { readonly address: string; readonly port: number };
  /** As of listen(). */
  readonly address?: string;
  /** As of listen(). */
  readonly ipv6Only?: boolean;
  /** Closes the socket when aborted. */
  readonly signal?: AbortSignal;
};

const BACKLOG_DEFAULT = 1024;
const DRAIN_POLL_MS = 5;
const ANY_V4 = "0.0.0.0";
const ANY_V6 = "::";

export type SocketsOptions = {
  readonly hosts: readonly KernelHost[];
  /** They are all that the stack can have, or all of a stack on one thread. */
  readonly areAll: boolean;
  /** Keeps the process alive while sockets are open; missing: the group is driven by hand. */
  readonly reactor: Reactor | undefined;
  readonly claims: PortClaims;
  /** A socket had to be closed because another kernel could not open its replica. */
  readonly onError?: (error: NetPopcornError) => void;
};

const LISTEN_OPTIONS: Shape<ListenOptions> = {
  port: "any",
  address: "any",
  ipv6Only: "boolean",
  backlog: "any",
  socketOptions: "object",
  onConnection: "call",
  signal: "signal",
};

const CONNECT_OPTIONS: Shape<ConnectOptions> = {
  address: "any",
  port: "any",
  localAddress: "any",
  localPort: "any",
  socketOptions: "object",
  fastOpen: "bytes",
  signal: "signal",
};

const BIND_OPTIONS: Shape<BindUdpOptions> = {
  port: "any",
  peer: "object",
  address: "any",
  ipv6Only: "boolean",
  signal: "signal",
};

/** Where to listen: a port, or options with one. @throws NetPopcornError ERR_INVALID_ARG_TYPE. */
function withPort<Options extends { port: number }>(call: string, where: unknown, more: object | undefined): Options {
  if (typeof where === "number") return { ...more, port: where } as Options;
  checkKind(`the first argument of ${call}, a port or`, "object", where);
  return { ...(where as Options), ...more };
}

type Replicated = {
  addReplica(host: KernelHost, handle: number): void;
  dropReplica(host: KernelHost): void;
  closeReplica(host: KernelHost): void;
  close(): Promise<void>;
};

export class Sockets implements ConnectionOwner {
  readonly #options: SocketsOptions;
  readonly #hosts: KernelHost[];
  readonly #connections = new Set<OpenConnection>();
  /** With what opens one more replica. @returns handle or status. */
  readonly #listening = new Map<Replicated, (host: KernelHost) => number>();
  /** By port, as claimed. */
  readonly #keys = new Map<string, Replicated>();
  /** Of listenHandles(). */
  readonly retiring = new RetiringListeners();
  #nextHost = 0;
  #pinger: Pinger | undefined;
  #closed = false;
  /** Of a kernel that is or was there: all have the same addresses. One listens also while none is up. */
  #memory: KernelMemory | undefined;

  constructor(options: SocketsOptions) {
    this.#options = options;
    this.#hosts = [...options.hosts];
    this.#memory = this.#hosts[0]?.memory;
    options.claims.onRevoked = (request, status) => this.#revoked(request, status);
  }

  /** See SocketsOptions: whatever comes to the stack comes to this group. */
  get areAll(): boolean {
    return this.#options.areAll;
  }

  /** @throws NetPopcornError EADDRINUSE, EADDRNOTAVAIL, ENOBUFS, ERR_OPTION_RANGE, ERR_OPTION_UNKNOWN, … */
  async listen(where: number | ListenOptions, more?: Omit<ListenOptions, "port">): Promise<Listener> {
    return this.#listen(checkOptions("listen", withPort<ListenOptions>("listen", where, more), LISTEN_OPTIONS));
  }

  /** As listen, for those that make something else of a connection than a Connection. */
  listenHandles(options: ListenOptions, onHandle: (host: KernelHost, handle: number) => void): Promise<Listener> {
    return this.#listen(options, onHandle);
  }

  async #listen(options: ListenOptions, onHandle?: (host: KernelHost, handle: number) => void): Promise<Listener> {
    const backlog = checkInteger("backlog", options.backlog ?? BACKLOG_DEFAULT, 1, 65535);
    return this.#listenOn({ backlog, options: kernelOptions(options.socketOptions ?? {}) }, options, onHandle);
  }

  /** Listens, or is bound, as another kernel does already. @throws NetPopcornError as listen. */
  joinListener({ terms, ...where }: PortRequest): Promise<Listener> {
    return this.#listenOn(terms ?? { backlog: BACKLOG_DEFAULT, options: [] }, where);
  }

  #listenOn(
    terms: ListenTerms,
    options: ListenOptions,
    onHandle?: (host: KernelHost, handle: number) => void,
  ): Promise<Listener> {
    return this.#replicate<Listener>(
      "tcp",
      "listen",
      { ...options, terms },
      {
        open: (host, addressIndex, port) => listenWith(host, addressIndex, port, terms),
        undo: (host, handle) => host.exports.tcpListenClose(handle),
        create: (address, port, onClose) =>
          new Listener({ address, port, owner: this, onConnection: options.onConnection, onHandle, onClose }),
      },
    );
  }

  /** @throws NetPopcornError as listen. */
  async bindUdp(where: number | BindUdpOptions): Promise<UdpSocket> {
    const options = withPort<BindUdpOptions>("bindUdp", where, undefined);
    return this.bindDatagrams(checkOptions("bindUdp", options, BIND_OPTIONS));
  }

  /** As bindUdp; with `onEvent` for those that take datagrams when they come, see UdpSocketOptions. */
  async bindDatagrams(options: BindUdpOptions, onEvent?: (status: number) => void): Promise<UdpSocket> {
    if (options.peer && options.port === 0 && !this.#options.areAll) return this.#bindToward(options, onEvent);
    const socket = await this.#replicate<UdpSocket>("udp", "bind", options, {
      open: (host, addressIndex, port) => host.exports.udpBind(addressIndex, port),
      undo: (host, handle) => host.exports.udpClose(handle),
      create: (address, port, onClose) => new UdpSocket({ address, port, onClose, onEvent }),
    });
    return socket;
  }

  /** Of this kernel alone: others may use the same port towards peers of their own. */
  #bindToward({ address, ipv6Only, peer, signal }: BindUdpOptions, onEvent?: (status: number) => void): UdpSocket {
    this.#checkOpen();
    const { address: name, port } = peer as NonNullable<BindUdpOptions["peer"]>;
    const what = `bind a port for ${name}:${port}`;
    checkInteger("peer.port", port, 1, 65535);
    const local = address ?? this.anyAddress;
    const index = wildcardIndex(local, ipv6Only) ?? this.#addressIndex(local, what);
    const host = this.#anyHost();
    const handle = host.handles.udpBindToward(parseAddress(name), port, index);
    if (handle < 0) throw statusError(handle, what);
    const { reactor } = this.#options;
    let forget = () => {};
    const onClose = (closed: UdpSocket) => {
      forget();
      if (this.#listening.delete(closed)) reactor?.unref();
    };
    const socket = new UdpSocket({ address: local, port: host.exports.udpLocalPort(handle), onClose, onEvent });
    socket.addReplica(host, handle);
    this.#listening.set(socket, () => EADDRNOTAVAIL);
    reactor?.ref();
    forget = onAbort(signal, () => void socket.close());
    return socket;
  }

  /**
   * @throws NetPopcornError ECONNREFUSED, ETIMEDOUT, EHOSTUNREACH, ENETUNREACH, EADDRINUSE, EADDRNOTAVAIL, ENOBUFS,
   * ….
   */
  async connect(options: ConnectOptions): Promise<Connection> {
    checkOptions("connect", options, CONNECT_OPTIONS);
    options.signal?.throwIfAborted();
    const { host, handle } = await this.#openWhenAnswered(options);
    const connection = new Connection(host, handle, this);
    const forget = onAbort(options.signal, () => connection.abort(options.signal?.reason));
    try {
      await connection.established();
    } finally {
      forget();
    }
    return connection;
  }

  /**
   * Starts an active open in its home kernel; EVENT_CONNECTED or EVENT_ERROR follows. The signal is not looked at.
   * @throws NetPopcornError as connect, for what is refused at once; EAGAIN: answered() tells when to try again.
   */
  openHandle(options: Omit<ConnectOptions, "signal">): { readonly host: KernelHost; readonly handle: number } {
    this.#checkOpen();
    const what = `connect to ${options.address}:${options.port}`;
    checkInteger("port", options.port, 1, 65535);
    if (options.localPort !== undefined) checkInteger("localPort", options.localPort, 0, 65535);
    const remote = parseAddress(LOOPBACK_OF[options.address] ?? options.address);
    const addressIndex =
      options.localAddress === undefined
        ? this.#anyHost().handles.addressFor(remote)
        : this.#addressIndex(options.localAddress, what);
    const socketOptions = kernelOptions(options.socketOptions ?? {});
    const opened = this.#open(remote, options.port, options.localPort ?? 0, addressIndex, what);
    // The SYN leaves with the next turn: what it says depends on them.
    for (const [option, value] of socketOptions) opened.host.exports.tcpSetOption(opened.handle, option, value);
    if (options.fastOpen) sendFirst(opened.host, opened.handle, options.fastOpen, what);
    opened.host.requestTurn();
    return opened;
  }

  /** A kernel that must first lease exact filters is tried again when it has its answer. */
  async #openWhenAnswered(options: ConnectOptions): Promise<{ readonly host: KernelHost; readonly handle: number }> {
    for (;;) {
      try {
        return this.openHandle(options);
      } catch (error) {
        if (!isEagain(error)) throw error;
        await this.answered();
        options.signal?.throwIfAborted();
      }
    }
  }

  /**
   * Asks a host whether it is there (RFC 1122 3.2.2.6).
   * @throws NetPopcornError ETIMEDOUT, EHOSTUNREACH, ENETUNREACH, …; ERR_NO_APPLICATION_THREAD: the reply may come to
   *   another kernel than those of this group.
   */
  async ping(address: string, options?: PingOptions): Promise<PingReply> {
    this.#checkOpen();
    if (!this.#options.areAll) {
      const text = "ping: the card may bring the reply to another kernel; use the stack's own, in inline mode";
      throw new NetPopcornError("ERR_NO_APPLICATION_THREAD", text);
    }
    const anyHost = this.#anyHost();
    // A kernel's replies are in one queue: whoever pings from its thread, there is one that reads it.
    const pinger = anyHost.pinger ?? new Pinger(() => this.#hosts, anyHost.config.seed[0] ?? 0);
    for (const host of this.#hosts) host.pinger ??= pinger;
    this.#pinger = pinger;
    this.ref();
    try {
      return await pinger.ping(address, options);
    } finally {
      this.unref();
    }
  }

  /** Fulfilled when a kernel of this group has what openHandle has said EAGAIN for, or has ended. */
  async answered(): Promise<void> {
    const awaited = this.#hosts.map((host) => host.opener?.answered()).filter((answer) => answer !== undefined);
    if (awaited.length > 0) await Promise.race(awaited);
  }

  /** Until as many unref() the process stays alive. */
  ref(): void {
    this.#options.reactor?.ref();
  }

  unref(): void {
    this.#options.reactor?.unref();
  }

  connectionOpened(connection: OpenConnection): void {
    this.#connections.add(connection);
    this.#options.reactor?.ref();
  }

  connectionOver(connection: OpenConnection): void {
    if (!this.#connections.delete(connection)) return;
    this.#options.reactor?.unref();
  }

  /** Connections, listeners and UDP sockets now open. */
  get openCount(): number {
    return this.#connections.size + this.#listening.size;
  }

  /** Takes out a kernel that is dead: its connections fail, listeners go on in the others. */
  dropKernel(host: KernelHost, error: NetPopcornError): void {
    const index = this.#hosts.indexOf(host);
    if (index >= 0) this.#hosts.splice(index, 1);
    host.opener?.abandon();
    // Not to keep a dead kernel's memory for one's whole life.
    if (this.#memory === host.memory && this.#hosts[0]) this.#memory = this.#hosts[0].memory;
    for (const socket of this.#listening.keys()) socket.dropReplica(host);
    this.#pinger?.close(error, host);
    // Connections may have moved there from a kernel of this group.
    for (const connection of this.#connections) if (connection.kernelId === host.kernelId) connection.lost(error);
  }

  /** Takes in a kernel that is new: what listens, listens there too. @throws NetPopcornError ENOBUFS. */
  addKernel(host: KernelHost): void {
    for (const [socket, open] of this.#listening) {
      const handle = open(host);
      if (handle < 0) throw statusError(handle, `listen in kernel ${host.kernelId}`);
      socket.addReplica(host, handle);
    }
    this.#hosts.push(host);
    if (this.#pinger) {
      host.pinger ??= this.#pinger;
      this.#pinger.joined(host);
    }
  }

  /** A kernel is about to leave: its replicas stop listening, those in other kernels go on. */
  closeReplicas(host: KernelHost): void {
    for (const socket of this.#listening.keys()) socket.closeReplica(host);
  }

  /** No kernel is left, and none will come. */
  closeListeners(): void {
    for (const socket of this.#listening.keys()) void socket.close();
  }

  /** Stops listening, gives open connections `drainMs` to end, then resets those that are left. */
  async close(drainMs: number): Promise<void> {
    this.#closed = true;
    this.#pinger?.close(new NetPopcornError("ERR_STACK_CLOSED", "the stack was closed before the reply came"));
    await Promise.all([...this.#listening.keys()].map((socket) => socket.close()));
    for (let waitedMs = 0; waitedMs < drainMs && this.#draining(); waitedMs += DRAIN_POLL_MS) {
      await new Promise((resolve) => setTimeout(resolve, DRAIN_POLL_MS));
    }
    for (const connection of this.#connections) connection.abort();
  }

  /** True while connections, those of the handle level too, have not ended (TIME_WAIT is an end). */
  #draining(): boolean {
    return (
      this.#connections.size > 0 ||
      this.#hosts.some(({ memory }) => memory.counter(GAUGE_CONNECTIONS) > memory.counter(GAUGE_TIME_WAIT))
    );
  }

  /** What a socket without an address is bound to: "::", or "0.0.0.0" where there is no IPv6. */
  get anyAddress(): string {
    return speaks(this.#anyMemory(), 6) ? ANY_V6 : ANY_V4;
  }

  /** Whether the stack has this address, or it is a wildcard. */
  hasAddress(address: string): boolean {
    return (
      wildcardIndex(address, false) !== undefined || ownAddressIndex(this.#anyMemory(), parseAddress(address)) >= 0
    );
  }

  /** Calls the application outside a turn: its exceptions are told as those of its event handlers are. */
  callApplication(call: () => void): void {
    this.#anyHost().callApplication(call);
  }

  /** The own address that what goes to `remote` leaves with; undefined: there is no route. */
  sourceAddressFor(remote: Uint8Array): Uint8Array | undefined {
    const { handles, memory } = this.#anyHost();
    return ownAddress(memory, handles.addressFor(remote));
  }

  /** The address family that the stack speaks; 0: both. */
  get families(): 0 | 4 | 6 {
    const memory = this.#anyMemory();
    if (!speaks(memory, 6)) return 4;
    return speaks(memory, 4) ? 0 : 6;
  }

  #checkOpen(): void {
    if (this.#closed) throw new NetPopcornError("ERR_STACK_CLOSED", "the stack is closed; create another");
  }

  /** Opens in every kernel, or undoes what was done and throws. */
  async #replicate<S extends Replicated>(
    protocol: PortProtocol,
    verb: string,
    options: { port: number; address?: string; ipv6Only?: boolean; terms?: ListenTerms; signal?: AbortSignal },
    socket: {
      open: (host: KernelHost, addressIndex: number, port: number) => number;
      undo: (host: KernelHost, handle: number) => void;
      create: (address: string, port: number, onClose: (closed: S) => void) => S;
    },
  ): Promise<S> {
    this.#checkOpen();
    const { port: wanted, signal, terms } = options;
    const address = options.address ?? this.anyAddress;
    checkInteger("port", wanted, 0, 65535);
    const what = `${verb} ${address}:${wanted}`;
    const bound = formatAddress(parseAddress(address));
    const addressIndex = wildcardIndex(bound, options.ipv6Only) ?? this.#addressIndex(bound, what);
    const { claims, reactor } = this.#options;
    if (protocol === "tcp") this.retiring.closeOn(wanted);
    const request: PortRequest = {
      ...{ protocol, address: bound, port: wanted },
      ...(addressIndex === ADDRESS_ANY_V6 && { ipv6Only: true }),
      ...(terms && { terms }),
    };
    const { result: port } = await claims.claim(request);
    if (port < 0) throw statusError(port, what);
    const claimed = { ...request, port };
    if (this.#closed) claims.release(claimed);
    this.#checkOpen();
    const opened: { host: KernelHost; handle: number }[] = [];
    for (const host of this.#hosts) {
      const handle = socket.open(host, addressIndex, port);
      if (handle < 0) {
        for (const done of opened) socket.undo(done.host, done.handle);
        claims.fail(claimed, handle);
        throw statusError(handle, `${what} in kernel ${host.kernelId}`);
      }
      opened.push({ host, handle });
    }
    let forget = () => {};
    const created = socket.create(address, port, (closed) => {
      forget();
      claims.release(claimed);
      this.#keys.delete(portKey(claimed));
      if (this.#listening.delete(closed)) reactor?.unref();
    });
    for (const { host, handle } of opened) created.addReplica(host, handle);
    this.#listening.set(created, (host) => socket.open(host, addressIndex, port));
    this.#keys.set(portKey(claimed), created);
    reactor?.ref();
    forget = onAbort(signal, () => void created.close());
    return created;
  }

  /** A listener is everywhere or nowhere: one that another kernel could not open is closed here, too. */
  #revoked(request: PortRequest, status: number): void {
    const socket = this.#keys.get(portKey(request));
    if (!socket) return;
    void socket.close();
    const { protocol, address, port } = request;
    this.#options.onError?.(statusError(status, `${protocol} ${address}:${port} in another kernel, so closed here`));
  }

  #addressIndex(text: string, what: string): number {
    const address = parseAddress(text);
    const index = ownAddressIndex(this.#anyMemory(), address);
    if (index < 0) throw statusError(EADDRNOTAVAIL, `${what} from ${text}`);
    return index;
  }

  #anyMemory(): KernelMemory {
    if (this.#hosts[0]) this.#memory = this.#hosts[0].memory;
    return this.#memory ?? this.#anyHost().memory;
  }

  #anyHost(): KernelHost {
    const host = this.#hosts[0];
    if (!host) throw new NetPopcornError("ERR_NO_KERNEL", "no kernel of this stack is alive");
    return host;
  }

  /**
   * Starts an active open, in each kernel in turn. The kernel chooses a port whose replies come back to it (or, asked
   * for a certain port, refuses when they do not): when it has none, another may have.
   */
  #open(remote: Uint8Array, port: number, localPort: number, addressIndex: number, what: string) {
    let handle = EADDRNOTAVAIL;
    for (let tries = this.#hosts.length; tries > 0 && handle === EADDRNOTAVAIL; tries--) {
      const host = this.#hosts[this.#nextHost % this.#hosts.length] as KernelHost;
      handle = host.handles.connect(remote, port, localPort, addressIndex);
      // The same kernel is tried again when it has what it waits for.
      if (handle === EAGAIN) break;
      this.#nextHost++;
      if (handle >= 0) return { host, handle };
    }
    throw statusError(handle, localPort === 0 ? what : `${what} from port ${localPort}`);
  }
}

/** What openHandle() throws when the device's owner has to be asked first. */
export function isEagain(error: unknown): boolean {
  return error instanceof NetPopcornError && error.errno === EAGAIN;
}

/** As in Linux, whoever connects to the wildcard connects to itself. */
const LOOPBACK_OF: Readonly<Record<string, string>> = { [ANY_V4]: "127.0.0.1", [ANY_V6]: "::1" };

/** What a kernel calls the wildcard that `address` is; undefined: it is none. "::" takes both families, as in Linux. */
function wildcardIndex(address: string, ipv6Only: boolean | undefined): number | undefined {
  if (address === ANY_V6) return ipv6Only ? ADDRESS_ANY_V6 : ADDRESS_ANY;
  return address === ANY_V4 ? ADDRESS_ANY_V4 : undefined;
}

/** Bytes that wait for the SYN, or for the end of the handshake where fast open is not to be had. */
function sendFirst({ exports, handles }: KernelHost, handle: number, bytes: Uint8Array, what: string): void {
  exports.tcpSetOption(handle, OPTION_FAST_OPEN_CONNECT, 2);
  for (let at = 0; at < bytes.length; ) {
    const room = handles.reserve(handle, bytes.length - at);
    if (room <= 0) {
      exports.tcpAbort(handle);
      throw statusError(room < 0 ? room : ENOBUFS, `${what}: ${bytes.length} bytes of fastOpen`);
    }
    const count = Math.min(handles.available, bytes.length - at);
    handles.bytes.set(bytes.subarray(at, at + count), room);
    exports.tcpSendCommit(handle, count);
    at += count;
  }
}

/** A listen replica with the options for its connections. @returns handle or status. */
function listenWith(host: KernelHost, addressIndex: number, port: number, { backlog, options }: ListenTerms): number {
  const handle = host.exports.tcpListen(addressIndex, port, backlog);
  if (handle < 0) return handle;
  for (const [option, value] of options) host.exports.tcpListenSetOption(handle, option, value);
  return handle;
}
