/**
 * What is used of node:net beyond its documentation, all of it here. Each is kept by Node because other packages wrap
 * it; a test goes through every one, so that a Node that changes one of them shows.
 */
import net from "node:net";
import { NetPopcornError } from "../errors.ts";

/** Node's own handle of a listening socket, as far as net.Server asks for it. */
export interface ServerHandle {
  close(): void;
  /** Fills in the address; 0 or a negative errno. */
  getsockname(out: Partial<net.AddressInfo>): number;
  ref(): void;
  unref(): void;
}

export interface ServerInternals {
  /** Present while the server listens; listen() refuses to listen again, close() closes it. */
  _handle: ServerHandle | null;
  /** What listen() was asked for, as text. */
  _connectionKey: string;
  /** Connections that count for maxConnections, getConnections() and the end of close(). */
  _connections: number;
  /** unref() came before listen(). */
  _unref: boolean;
  /** The options of createServer. */
  allowHalfOpen: boolean;
  pauseOnConnect: boolean;
  noDelay: boolean;
  keepAlive: boolean;
  keepAliveInitialDelay: number;
  highWaterMark: number;
  /** Called by listen() once arguments are checked and the name is resolved. Address null: any; port -1: a pipe. */
  _listen2: ListenStep;
  /** Emits "close" once there is no handle and no connection. */
  _emitCloseIfDrained(): void;
}

/** @param addressType 4 or 6 for an address, -1 for a pipe; with a descriptor all three before it are null. */
export type ListenStep = (
  this: net.Server,
  address: string | null,
  port: number | null,
  addressType: number | null,
  backlog: number | undefined,
  descriptor: number | undefined,
  flags?: number,
) => void;

/** In the flags of a ListenStep: `ipv6Only` (UV_TCP_IPV6ONLY). */
export const LISTEN_IPV6_ONLY = 1;

export interface SocketInternals {
  connecting: boolean;
  timeout: number | undefined;
  /** Resets the idle timer. */
  _unrefTimer(): void;
  /** Makes a destroyed stream fresh for another connect(). */
  _undestroy(): void;
  server: net.Server | null;
  _server: net.Server | null;
  _parent: { connecting?: boolean } | null;
  _host: string | null;
  /** "address:port" of all that connect() has tried. */
  autoSelectFamilyAttemptedAddresses: string[] | undefined;
  readonly writableBuffer: readonly { readonly chunk: Uint8Array | string; readonly encoding: BufferEncoding }[];
}

export function internalsOf(server: net.Server): net.Server & ServerInternals {
  return server as net.Server & ServerInternals;
}

/** Node's own second half of listen(), for the host's network. */
export const listenOnHost: ListenStep = (net.Server.prototype as net.Server & ServerInternals)._listen2;

if (typeof listenOnHost !== "function") {
  throw new NetPopcornError("ERR_NODE_VERSION", `netpopcorn/net does not know the node:net of Node ${process.version}`);
}
