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

/** A listener and who takes its connections; undefined: its server has just closed it. */
type Served = { readonly listener: Listener; readonly route: { accept: Accept | undefined } };

/**
 * Closed a moment ago, by all that they listen with: close() and listen() in a row (also in close()'s callback) must
 * leave no time in which peers are refused, and the owner of the ports may be another thread's kernel.
 */
const justClosed = new WeakMap<Sockets, Map<string, Served>>();

/** Closes it unless the application listens again before it gives way to anything else. */
function closeSoon(sockets: Sockets, key: string, served: Served): void {
  const { listener, route } = served;
  route.accept = undefined;
  const closed = justClosed.get(sockets) ?? new Map<string, Served>();
  justClosed.set(sockets, closed.set(key, served));
  const close = () => {
    if (closed.get(key) !== served) return;
    closed.delete(key);
    void listener.close();
  };
  // The event "close" comes between the two.
  process.nextTick(() => process.nextTick(close));
}

/** What has just been closed and was the same; anything else is closed now. */
function takeOver(sockets: Sockets, wanted: string): Served | undefined {
  const closed = justClosed.get(sockets);
  const same = closed?.get(wanted);
  closed?.delete(wanted);
  for (const { listener } of closed?.values() ?? []) void listener.close();
  closed?.clear();
  return same?.listener.listening ? same : undefined;
}

/** One listen() of one server: every kernel of the group holds a replica. */
class ListenHandle implements ServerHandle {
  readonly #sockets: Sockets;
  readonly #address: string;
  readonly #ipv6Only: boolean;
  #port: number;
  #backlog = 0;
  #served: Served | undefined;
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
    const served = takeOver(this.#sockets, this.#key) ?? (await this.#listen());
    served.route.accept = accept;
    this.#served = served;
    this.#port = served.listener.port;
    if (!this.#isReferenced) this.#sockets.unref();
    if (this.#isClosed) this.#closeListener();
  }

  async #listen(): Promise<Served> {
    const route: Served["route"] = { accept: undefined };
    const listener = await this.#sockets.listenHandles(
      { address: this.#address, ipv6Only: this.#ipv6Only, port: this.#port, backlog: this.#backlog },
      (host, handle) => {
        if (route.accept) route.accept(host, handle);
        else host.handles.abort(handle);
      },
    );
    return { listener, route };
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
    if (!this.#served || this.#isClosed) return;
    if (isReferenced) this.#sockets.ref();
    else this.#sockets.unref();
  }

  #closeListener(): void {
    if (!this.#served) return;
    // The listener takes back one reference.
    if (!this.#isReferenced) this.#sockets.ref();
    closeSoon(this.#sockets, this.#key, this.#served);
    this.#served = undefined;
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
