/**
 * Replaces what opens connections and sockets on Node's own module objects. Node's other modules, its fetch, and
 * packages of either module system look it up there at each call; ES modules get it by syncBuiltinESMExports().
 */
import dgram from "node:dgram";
import http from "node:http";
import { syncBuiltinESMExports } from "node:module";
import net from "node:net";
import tls from "node:tls";
// Node's own subclasses of net.Socket have to be there before it is replaced: node:tls's above, and node:tty's.
import "node:tty";
import { createDgramOf } from "../dgram/createDgram.ts";
import { NetPopcornError } from "../errors.ts";
import { normalizeConnect } from "../net/arguments.ts";
import { createNetOf } from "../net/createNet.ts";
import { internalsOf, listenOnHost } from "../net/nodeInternals.ts";
import { getDefaultStack, type NetStack } from "../net/stackOf.ts";

type AnyClass = new (...args: never[]) => object;
type AnyFunction = (...args: never[]) => unknown;
type TlsOptions = tls.ConnectionOptions & { readonly port?: number | string; readonly timeout?: number };

let isReplaced = false;

/** @param stackOf asked at each call; undefined: as if nothing had been replaced. */
export function replaceModules(stackOf: () => NetStack | undefined): void {
  if (isReplaced) return;
  isReplaced = true;
  const stack = () => stackOf() ?? getDefaultStack();
  const ours = createNetOf(stack);
  const connect = netConnect(stackOf, net.connect, ours.connect);
  const Socket = eitherClass(net.Socket, ours.Socket, (options) => stackOf() !== undefined && !isHosts(options));
  replaceListenOf(stackOf, ours.step);
  Object.assign(net, { connect, createConnection: connect, Socket, Stream: Socket });
  Object.assign(http.Agent.prototype, { createConnection: connect });
  Object.assign(tls, { connect: tlsConnect(stackOf, tls.connect) });
  Object.assign(tls.TLSSocket.prototype, { connect: tlsSocketConnect(stackOf, tls.TLSSocket.prototype.connect) });
  const hostCreateSocket = dgram.createSocket as AnyFunction;
  const ourDgram = createDgramOf(stack);
  function createSocket(...args: never[]): unknown {
    return (stackOf() === undefined ? hostCreateSocket : (ourDgram.createSocket as AnyFunction))(...args);
  }
  Object.assign(dgram, {
    createSocket,
    Socket: eitherClass(dgram.Socket, ourDgram.Socket, () => stackOf() !== undefined),
  });
  syncBuiltinESMExports();
}

/** Pipes, descriptors and handles are the host's. */
function isHosts(options: unknown): boolean {
  if (typeof options !== "object" || options === null) return typeof options === "number";
  const { path, fd, handle } = options as { path?: unknown; fd?: unknown; handle?: unknown };
  return path != null || fd !== undefined || handle != null;
}

function netConnect(stackOf: () => unknown, host: AnyFunction, stack: AnyFunction): AnyFunction {
  return function connect(...args) {
    const isStacks = stackOf() !== undefined && !isHosts(normalizeConnect(args).options);
    return (isStacks ? stack : host)(...args);
  };
}

/**
 * `Host`, of which `new` and subclasses are `Ours` while `isOurs` says so. An instance of either is one of it.
 * Called without `new`, as Node's own subclasses do, it is `Host`.
 */
function eitherClass<Class extends object>(Host: Class, Ours: AnyClass, isOurs: (options: unknown) => boolean): Class {
  const HostClass = Host as AnyClass;
  const isInstance = (value: unknown) => value instanceof HostClass || value instanceof Ours;
  const either: AnyClass = new Proxy(HostClass, {
    get(target, name, receiver) {
      if (name === "prototype" && isOurs(undefined)) return Ours.prototype;
      // A subclass inherits it, and is asked about its own instances.
      if (name === Symbol.hasInstance && receiver === either) return isInstance;
      return Reflect.get(target, name, receiver);
    },
    construct(_target, args, newTarget) {
      const isSubclass = newTarget !== either;
      const Class = (isSubclass ? newTarget.prototype instanceof Ours : isOurs(args[0])) ? Ours : HostClass;
      return Reflect.construct(Class, args, isSubclass ? newTarget : Class);
    },
    apply(_target, self, args) {
      if (self instanceof Ours) {
        const message = "Socket.call(this) cannot make a socket of the stack: use class … extends Socket";
        throw new NetPopcornError("ERR_OPTION_UNSUPPORTED", message);
      }
      if (self instanceof HostClass) return Reflect.apply(HostClass as unknown as AnyFunction, self, args);
      return Reflect.construct(either, args);
    },
  });
  return either as unknown as Class;
}

/** node:tls opens the connection itself, by its own socket's handle: it is given one that is opening. */
function tlsConnect(stackOf: () => unknown, host: typeof tls.connect): AnyFunction {
  return function connect(...args: unknown[]) {
    const { options, listener } = normalizeTls(args);
    if (stackOf() === undefined || options.socket || isHosts(options)) {
      return (host as AnyFunction)(...(args as never[]));
    }
    const {
      allowHalfOpen = false,
      timeout,
      onread,
      signal,
      highWaterMark,
      ...opening
    } = options as TlsOptions & {
      allowHalfOpen?: boolean;
      onread?: unknown;
      signal?: unknown;
      highWaterMark?: unknown;
    };
    if (onread) {
      const message = "tls.connect({ onread }) has no such buffer on the stack: listen for its data";
      throw new NetPopcornError("ERR_OPTION_UNSUPPORTED", message);
    }
    const socket = net.connect(opening as net.NetConnectOpts);
    try {
      const secure = host({ ...options, socket } as tls.ConnectionOptions, listener);
      if (timeout) secure.setTimeout(timeout);
      secure.allowHalfOpen = allowHalfOpen;
      // Of a socket that it is given it tells "connect" only.
      socket.on("lookup", (...found) => void secure.emit("lookup", ...found));
      socket.on("ready", () => void secure.emit("ready"));
      return secure;
    } catch (error) {
      socket.on("error", () => {}).destroy();
      throw error;
    }
  };
}

/** A TLSSocket without a socket below opens the connection by a handle of its own, which is the host's. */
function tlsSocketConnect(stackOf: () => unknown, host: AnyFunction): AnyFunction {
  return function connect(this: tls.TLSSocket, ...args) {
    if (stackOf() !== undefined && !isHosts(normalizeConnect(args).options)) {
      const message = "new TLSSocket().connect() would leave by the host's network: use tls.connect()";
      throw new NetPopcornError("ERR_OPTION_UNSUPPORTED", message);
    }
    return Reflect.apply(host, this, args);
  };
}

/** (options), (port), (port, host), (port, host, options), (port, options), each with a listener at the end or not. */
function normalizeTls(args: readonly unknown[]) {
  const { options, listener } = normalizeConnect(args);
  const further = args.slice(1, 3).find((value) => typeof value === "object" && value !== null);
  return { options: { ...options, ...further } as TlsOptions, listener };
}

function replaceListenOf(stackOf: () => unknown, step: typeof listenOnHost): void {
  const internals = internalsOf(net.Server.prototype);
  // In a kernel's thread listen() is the kernel's already.
  if (internals._listen2 !== listenOnHost) return;
  internals._listen2 = function listenOnEither(address, port, addressType, backlog, descriptor, flags) {
    const isStacks = stackOf() !== undefined && addressType !== -1 && descriptor === undefined;
    (isStacks ? step : listenOnHost).call(this, address, port, addressType, backlog, descriptor, flags);
  };
}
