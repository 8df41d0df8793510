/**
 * net.Server on the stack's listening socket. Node's class does arguments, events, counting and close(); the half of
 * listen() that goes to the operating system is replaced (`_listen2`, see nodeInternals.ts), in Server, or in any other
 * net.Server: those of node:http, node:https, node:tls.
 */
import net from "node:net";
import { isIP } from "node:net";
import { NetPopcornError } from "../errors.ts";
import { formatAddress, parseAddress } from "../ip/address.ts";
import type { KernelHost } from "../kernel/host.ts";
import type { Listener } from "../socket/listener.ts";
import type { Sockets } from "../socket/sockets.ts";
import { asNodeError, listenError, unsupported } from "./errors.ts";
import { internalsOf, LISTEN_IPV6_ONLY, listenOnHost, type ListenStep, type ServerHandle } from "./nodeInternals.ts";
import { StackSocket } from "./socket.ts";
import { announceOpening, type NetStack, socketsOf } from "./stackOf.ts";
import { Transport } from "./transport.ts";

/** As Node passes it to the operating system. */
const BACKLOG_DEFAULT = 511;
const ANY_V6 = "::";
/** Of connectionsMax; what connections that were dropped may hold. */
const DROPPED_PART_MAX = 1 / 8;

type Accept = (host: KernelHost, handle: number) => void;

/** As long as an application takes that waits for the event "close" before it listens again. */
function afterClose(call: () => void): void {
  // The event comes between the first two; what awaits it has gone on when no promise of this turn is left.
  process.nextTick(() => process.nextTick(() => queueMicrotask(() => process.nextTick(call))));
}

/** By port the last listen() that has not come to its end: they go one after the other. */
const openings = new WeakMap<Sockets, Map<number, Promise<void>>>();

/** One listen() of one server: every kernel of the group holds a replica. */
class ListenHandle implements ServerHandle {
  readonly #sockets: Sockets;
  readonly #address: string;
  readonly #ipv6Only: boolean;
  #port: number;
  #backlog = 0;
  #listener: Listener | undefined;
  #isClosed = false;
  #isReferenced = true;

  constructor(sockets: Sockets, address: string, port: number, ipv6Only: boolean) {
    this.#sockets = sockets;
    this.#address = address;
    this.#ipv6Only = ipv6Only;
    this.#port = port;
  }

  /** @throws NetPopcornError. */
  async open(backlog: number, accept: Accept): Promise<void> {
    this.#backlog = Math.min(backlog, 65535);
    if (this.#revive(accept)) return;
    const opening = openings.get(this.#sockets) ?? new Map<number, Promise<void>>();
    openings.set(this.#sockets, opening);
    const port = this.#port;
    const opened = this.#openAfter(port === 0 ? undefined : opening.get(port), accept);
    opening.set(port, opened);
    try {
      await opened;
    } finally {
      if (opening.get(port) === opened) opening.delete(port);
    }
  }

  async #openAfter(before: Promise<void> | undefined, accept: Accept): Promise<void> {
    // What is closed before it is open has the port until then.
    await before?.catch(() => {});
    if (before && this.#revive(accept)) return;
    const options = { address: this.#address, ipv6Only: this.#ipv6Only, port: this.#port, backlog: this.#backlog };
    this.#opened(await this.#sockets.listenHandles(options, accept));
  }

  #revive(accept: Accept): boolean {
    const listener = this.#sockets.retiring.revive(this.#key);
    if (!listener) return false;
    listener.resume(accept);
    this.#opened(listener);
    return true;
  }

  #opened(listener: Listener): void {
    this.#listener = listener;
    this.#port = listener.port;
    if (!this.#isReferenced) this.#sockets.unref();
    if (this.#isClosed) this.#closeListener();
  }

  get #key(): string {
    return `${this.#address} ${this.#port} ${this.#ipv6Only} ${this.#backlog}`;
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#closeListener();
  }

  getsockname(out: Partial<net.AddressInfo>): number {
    out.address = this.#address;
    out.family = isIP(this.#address) === 6 ? "IPv6" : "IPv4";
    out.port = this.#port;
    return 0;
  }

  ref(): void {
    this.#setReferenced(true);
  }

  unref(): void {
    this.#setReferenced(false);
  }

  #setReferenced(isReferenced: boolean): void {
    if (isReferenced === this.#isReferenced) return;
    this.#isReferenced = isReferenced;
    if (!this.#listener || this.#isClosed) return;
    if (isReferenced) this.#sockets.ref();
    else this.#sockets.unref();
  }

  #closeListener(): void {
    if (!this.#listener) return;
    // The listener takes back one reference.
    if (!this.#isReferenced) this.#sockets.ref();
    this.#sockets.retiring.retire(this.#key, this.#listener, afterClose);
    this.#listener = undefined;
  }
}

/** Connections beyond maxConnections that have got FIN and live on until their peers end, too; by kernel. */
const closingDropped = new WeakMap<KernelHost, number>();

/**
 * As Node closes its handle: FIN, or RST where bytes have come that nobody will read. But RST at once while those whose
 * peers do not end hold their part of the kernel's connections: the limit is there to protect the kernel.
 */
function closeDropped(transport: Transport, host: KernelHost): void {
  const closing = closingDropped.get(host) ?? 0;
  if (closing >= host.config.tuning.connectionsMax * DROPPED_PART_MAX) {
    transport.reset();
    return;
  }
  closingDropped.set(host, closing + 1);
  transport.close(() => closingDropped.set(host, (closingDropped.get(host) ?? 1) - 1));
}

/** The connection that `server` has no room for: event "drop". */
function drop(server: net.Server, sockets: Sockets, host: KernelHost, handle: number): void {
  const nobody = new StackSocket({}, () => sockets);
  const transport = new Transport(sockets, host, handle, nobody);
  const ends = transport.endpoints();
  closeDropped(transport, host);
  server.emit("drop", {
    localAddress: ends?.local.address,
    localPort: ends?.local.port,
    localFamily: ends?.local.family,
    remoteAddress: ends?.remote.address,
    remotePort: ends?.remote.port,
    remoteFamily: ends?.remote.family,
  });
}

function accept(server: net.Server, Socket: typeof StackSocket, sockets: Sockets, host: KernelHost, handle: number) {
  const internals = internalsOf(server);
  if (server.maxConnections && internals._connections >= server.maxConnections) {
    drop(server, sockets, host, handle);
    return;
  }
  const socket = StackSocket.accept(Socket, internals, sockets, host, handle);
  internals._connections++;
  const owned = socket as unknown as { server: net.Server; _server: net.Server };
  owned.server = server;
  owned._server = server;
  server.emit("connection", socket);
}

/**
 * An address as the stack writes it. None is any, and "::" is any IPv4 address where there is no IPv6, as with a Node
 * on a host without.
 */
function addressText(address: string | null, sockets: Sockets): string {
  return address === null || address === ANY_V6 ? sockets.anyAddress : formatAddress(parseAddress(address));
}

/** The second half of listen(), on the stack that `stackOf` gives. */
export function listenStep(Socket: typeof StackSocket, stackOf: () => NetStack): ListenStep {
  return function listenOnStack(this: net.Server, address, port, addressType, backlog, descriptor, flags = 0) {
    if (addressType === -1) throw unsupported(`listen on the pipe ${address}`);
    if (descriptor !== undefined || port === null || addressType === null) throw unsupported("listen on a descriptor");
    announceOpening(this);
    const internals = internalsOf(this);
    const sockets = socketsOf(stackOf());
    const text = addressText(address, sockets);
    const handle = new ListenHandle(sockets, text, port, (flags & LISTEN_IPV6_ONLY) !== 0);
    internals._handle = handle;
    internals._connectionKey = `${isIP(text)}:${text}:${port}`;
    if (internals._unref) handle.unref();
    handle
      .open(backlog || BACKLOG_DEFAULT, (host, accepted) => accept(this, Socket, sockets, host, accepted))
      .then(
        // What a listener of these events throws is an uncaught exception, not a rejected promise.
        () => process.nextTick(() => internals._handle === handle && this.emit("listening")),
        (cause: unknown) => {
          if (handle.isClosed) return;
          handle.close();
          internals._handle = null;
          const error = asNodeError(cause, (status) => listenError(status, text, port));
          process.nextTick(() => this.emit("error", error));
        },
      );
  };
}

/**
 * Calls `server.listen(...args)` with another second half.
 * @throws NetPopcornError ERR_INVALID_ARG_TYPE.
 */
export function listenBy<S extends net.Server>(server: S, step: ListenStep, args: readonly unknown[]): S {
  if (!(server instanceof net.Server)) {
    throw new NetPopcornError("ERR_INVALID_ARG_TYPE", "listenOn needs a server of node:net, node:http, node:tls, …");
  }
  internalsOf(server)._listen2 = step;
  return (server.listen as (...all: unknown[]) => S)(...args);
}

/**
 * Has every server of this thread, whatever module made it, listen on the stack. Pipes and descriptors stay the
 * host's.
 */
export function replaceListen(step: ListenStep): void {
  internalsOf(net.Server.prototype)._listen2 = function listenAnywhere(
    address,
    port,
    addressType,
    backlog,
    descriptor,
    flags,
  ) {
    const isNetwork = addressType !== -1 && descriptor === undefined;
    (isNetwork ? step : listenOnHost).call(this, address, port, addressType, backlog, descriptor, flags);
  };
}
