/** The module node:net bound to one stack. */
import net from "node:net";
import { normalizeConnect } from "./arguments.ts";
import { internalsOf, listenOnHost, type ListenStep } from "./nodeInternals.ts";
import { listenBy, listenStep } from "./server.ts";
import { StackSocket } from "./socket.ts";
import type { SocketOptions } from "./socketOptions.ts";
import type { NetStack } from "./stackOf.ts";

type ConnectionListener = (socket: net.Socket) => void;

/**
 * `net.Server()` and `net.Socket()` without `new` are what they are with it, as in node:net. Objects are made by the
 * class itself: made by way of the proxy each would have a hidden class of its own, and be slow.
 */
function callable<Class extends new (...args: never[]) => object>(Class: Class): Class {
  const proxy: Class = new Proxy(Class, {
    apply: (target, _self, args) => Reflect.construct(target, args),
    construct: (target, args, newTarget) => Reflect.construct(target, args, newTarget === proxy ? target : newTarget),
  });
  return proxy;
}

/** The listen step of a stack, with the Socket class that its connections have. */
export type BoundClasses = {
  readonly Socket: typeof net.Socket;
  readonly Server: typeof net.Server;
  readonly step: ListenStep;
};

function bindClasses(stackOf: () => NetStack): BoundClasses {
  class Socket extends StackSocket {
    constructor(options?: SocketOptions, stack: () => NetStack = stackOf) {
      super(options, stack);
    }
  }
  const step = listenStep(Socket as unknown as typeof StackSocket, stackOf);
  class Server extends net.Server {
    constructor(options?: net.ServerOpts | ConnectionListener, listener?: ConnectionListener) {
      super(options as net.ServerOpts, listener);
      internalsOf(this)._listen2 = step;
    }
  }
  return { Socket: Socket as unknown as typeof net.Socket, Server, step };
}

/** node:net on a stack: the same functions and classes, and listenOn. */
export type Net = ReturnType<typeof createNetOf>;

/** @param stackOf asked for each listen() and connect(). */
export function createNetOf(stackOf: () => NetStack) {
  const { Socket, Server, step } = bindClasses(stackOf);
  const CallableSocket = callable(Socket);

  function createServer(options?: net.ServerOpts | ConnectionListener, listener?: ConnectionListener): net.Server {
    return new Server(options as net.ServerOpts, listener);
  }

  function connect(...args: unknown[]): net.Socket {
    const { options } = normalizeConnect(args);
    const socket = new Socket(options as net.SocketConstructorOpts);
    if (options.timeout) socket.setTimeout(options.timeout);
    return (socket.connect as (...all: unknown[]) => net.Socket)(...args);
  }

  /** `server.listen(...args)` on this stack, for a server of any module: node:http, node:https, node:tls, …. */
  function listenOn<S extends net.Server>(server: S, ...args: unknown[]): S {
    return listenBy(server, step, args);
  }

  return {
    createServer,
    connect: connect as typeof net.connect,
    createConnection: connect as typeof net.createConnection,
    listenOn,
    Server: callable(Server),
    Socket: CallableSocket,
    Stream: CallableSocket,
    isIP: net.isIP,
    isIPv4: net.isIPv4,
    isIPv6: net.isIPv6,
    BlockList: net.BlockList,
    SocketAddress: net.SocketAddress,
    getDefaultAutoSelectFamily: net.getDefaultAutoSelectFamily,
    setDefaultAutoSelectFamily: net.setDefaultAutoSelectFamily,
    getDefaultAutoSelectFamilyAttemptTimeout: net.getDefaultAutoSelectFamilyAttemptTimeout,
    setDefaultAutoSelectFamilyAttemptTimeout: net.setDefaultAutoSelectFamilyAttemptTimeout,
    /** @internal */
    step,
  };
}

/** `server.listen(...args)` on the host's network, in a kernel where listen() means the stack. */
export function listenOnHostNetwork<S extends net.Server>(server: S, ...args: unknown[]): S {
  return listenBy(server, listenOnHost, args);
}
