/**
 * net.Socket on a connection of the stack. Node's class does the stream, the timeout and the events; its handle, the
 * part that is the operating system's, is replaced by a Transport. For Node this is a socket without a handle, which
 * node:tls and node:http take for a stream in JavaScript.
 */
import { type LookupAddress, lookup as lookupName } from "node:dns";
import net from "node:net";
import { addAbortSignal, getDefaultHighWaterMark } from "node:stream";
import type { NetPopcornError } from "../errors.ts";
import type { KernelHost } from "../kernel/host.ts";
import { OPTION_KEEPALIVE, OPTION_KEEPALIVE_IDLE_MS, OPTION_NODELAY } from "../layout/option.ts";
import {
  EADDRINUSE,
  EADDRNOTAVAIL,
  ECONNABORTED,
  ECONNREFUSED,
  ENOBUFS,
  ENOTCONN,
  EPIPE,
  ETIMEDOUT,
} from "../layout/status.ts";
import { isEagain, type Sockets } from "../socket/sockets.ts";
import { forNode, keepAliveDelayMs, type SocketOptions, usableOnread } from "./socketOptions.ts";
import type { NetStack } from "./stackOf.ts";
import { socketsOf } from "./stackOf.ts";
import { type ConnectArguments, normalizeConnect } from "./arguments.ts";
import { alternateFamilies, Attempts, type Target } from "./attempts.ts";
import {
  addressError,
  asNodeError,
  checkAttemptTimeout,
  checkLookup,
  checkPort,
  closedBeforeConnection,
  errnoError,
  invalidAddress,
  invalidArgument,
  missingPort,
  socketClosed,
  unsupported,
} from "./errors.ts";
import type { ServerInternals, SocketInternals } from "./nodeInternals.ts";
import { extendStreamHandle, UNDER_STREAM_HANDLE } from "./tlsHandle.ts";
import {
  CHUNK_BYTES_MAX,
  CONNECTED,
  DATA,
  ENDED,
  type Endpoint,
  FAILED,
  LOST,
  STACK_CLOSED,
  Transport,
  type TransportUser,
  WRITABLE,
} from "./transport.ts";

type Done = (error?: Error | null) => void;
type Piece = { readonly chunk: Uint8Array | string; readonly encoding: BufferEncoding };

function toBytes({ chunk, encoding }: Piece): Uint8Array {
  return typeof chunk === "string" ? Buffer.from(chunk, encoding) : chunk;
}

const settled = Promise.resolve();

function isStackAddress(error: unknown): boolean {
  const errno = (error as { errno?: number } | undefined)?.errno;
  return errno === EADDRINUSE || errno === EADDRNOTAVAIL;
}

/** A write that waits for room, or for the connection. */
type PendingWrite = { bytes: Uint8Array; from: number; readonly rest: Piece[]; readonly done: Done };

export class StackSocket extends net.Socket implements TransportUser {
  readonly #stack: () => NetStack;
  readonly #onread: net.OnReadOpts | undefined;
  /** Where the next bytes go with onread. */
  #buffer: Uint8Array | undefined;
  #transport: Transport | undefined;
  #endpoints: { readonly local: Endpoint; readonly remote: Endpoint } | undefined;
  #wantsBytes = false;
  #write: PendingWrite | undefined;
  #noDelay: boolean;
  #keepAlive: boolean;
  /** 0: the stack's. */
  #keepAliveDelayMs = 0;
  #isReferenced = true;
  #isResetting = false;
  #bytesRead = 0;
  #bytesDispatched = 0;

  /** @param stack asked at each connect(). */
  constructor(options: SocketOptions | number | undefined, stack: () => NetStack) {
    if (typeof options === "number" || options?.fd !== undefined) throw unsupported("option fd");
    if (options !== undefined && "handle" in options) throw unsupported("option handle");
    super(forNode(options));
    if (options?.allowHalfOpen) this.allowHalfOpen = true;
    this.#stack = stack;
    this.#onread = usableOnread(options?.onread);
    this.#noDelay = options?.noDelay === true;
    this.#keepAlive = options?.keepAlive === true;
    this.#keepAliveDelayMs = keepAliveDelayMs(options?.keepAliveInitialDelay);
    if (options?.signal !== undefined) addAbortSignal(options.signal, this);
    // Before node:tls makes a stream handle of it: the first TLSSocket of a thread counts, too.
    extendStreamHandle(StackSocket.#isOne);
  }

  /** A connection that `server` has accepted. */
  static accept(
    Socket: typeof StackSocket,
    server: ServerInternals,
    sockets: Sockets,
    host: KernelHost,
    handle: number,
  ) {
    const { allowHalfOpen, highWaterMark } = server;
    const isUsual = highWaterMark === getDefaultHighWaterMark(false);
    const marks = { readableHighWaterMark: highWaterMark, writableHighWaterMark: highWaterMark };
    const socket = new Socket(isUsual ? undefined : marks, () => sockets);
    socket.allowHalfOpen = allowHalfOpen;
    socket.#attach(new Transport(sockets, host, handle, socket));
    if (server.noDelay) socket.setNoDelay(true);
    // Node has made seconds of it.
    if (server.keepAlive) socket.setKeepAlive(true, server.keepAliveInitialDelay * 1000);
    if (server.pauseOnConnect) socket.pause();
    else socket.read(0);
    return socket;
  }

  static #isOne(stream: unknown): stream is StackSocket {
    return stream instanceof StackSocket;
  }

  static #pull(socket: StackSocket): void {
    socket.#transport?.pullOutsideTurn(0);
  }

  override connect(...args: never[]): this {
    const { options, listener } = normalizeConnect(args);
    if (listener) this.once("connect", listener);
    const internals = this.#internals;
    if (internals._parent?.connecting) return this;
    if (options.path != null) throw unsupported(`connect to the pipe ${options.path}`);
    if (options.port === undefined) throw missingPort();
    if (this.#transport && !this.destroyed) throw new Error("connect() on a socket that is open; close it first");
    // As for a new one: write() may say that the peer has ended, and the stream may be over.
    Reflect.deleteProperty(this, "write");
    internals._undestroy();
    this.#endpoints = undefined;
    this.#bytesRead = 0;
    this.#bytesDispatched = 0;
    internals._unrefTimer();
    internals.connecting = true;
    this.#resolve(options);
    return this;
  }

  override _read(): void {
    this.#wantsBytes = true;
    if (!this.connecting) this.#startReading();
  }

  // With onread bytes go past the stream, which therefore does not ask for more of them: these three do.

  override read(count?: number): unknown {
    if (this.#onread && !this.connecting) this.#startReading();
    return super.read(count);
  }

  override resume(): this {
    if (this.#onread && !this.connecting) this.#startReading();
    return super.resume();
  }

  override pause(): this {
    if (this.#onread && !this.connecting) this.#transport?.stopReading();
    return super.pause();
  }

  override _write(chunk: Uint8Array | string, encoding: BufferEncoding, done: Done): void {
    const piece = { chunk, encoding };
    const bytes = toBytes(piece);
    this.#bytesDispatched += bytes.length;
    if (this.connecting) this.#write = { bytes, from: 0, rest: [], done };
    else this.#send(bytes, 0, undefined, done);
  }

  override _writev(pieces: Piece[], done: Done): void {
    const rest = pieces.map((piece) => ({ chunk: toBytes(piece), encoding: piece.encoding }));
    for (const { chunk } of rest) this.#bytesDispatched += chunk.length;
    const first = (rest.shift()?.chunk ?? Buffer.alloc(0)) as Uint8Array;
    if (this.connecting) this.#write = { bytes: first, from: 0, rest, done };
    else this.#send(first, 0, rest, done);
  }

  override _final(done: Done): void {
    if (this.connecting) {
      this.once("connect", () => this._final(done));
      return;
    }
    // Of a connection that is over Linux says ENOTCONN, which Node does not report.
    this.#transport?.shutdown();
    // Not at once: Node hears of it from the event loop, when ticks and promises have run.
    void settled.then(() => process.nextTick(done, null));
  }

  override destroy(error?: Error): this {
    // Stops the idle timer, which Node's own class stops with its handle.
    const { timeout } = this;
    if (!this.destroyed && timeout) {
      this.setTimeout(0);
      this.#internals.timeout = timeout;
    }
    return super.destroy(error);
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    const internals = this.#internals;
    const transport = this.#transport;
    const wasConnecting = internals.connecting;
    if (transport) {
      this.#bytesRead = transport.bytesRead;
      if (wasConnecting || this.#isResetting) transport.reset();
      else transport.close();
    }
    this.#transport = undefined;
    this.#isResetting = false;
    internals.connecting = false;
    this.#attempts?.stop();
    this.#attempts = undefined;
    const write = this.#write;
    this.#write = undefined;
    done(error);
    // After all that the end has set going, as the close of a handle is in Node.
    setImmediate(() => {
      if (!wasConnecting) write?.done();
      this.emit("close", error !== null && error !== undefined);
      if (wasConnecting) write?.done(closedBeforeConnection());
    });
    const server = internals._server as (net.Server & ServerInternals) | null;
    if (!server) return;
    server._connections--;
    server._emitCloseIfDrained();
  }

  /**
   * node:tls takes a socket without a handle for one that is connecting and waits for "connect", also when it is open:
   * an accepted one, or after STARTTLS. Nobody else asks an open socket for that event. It is told.
   */
  override once(event: string, listener: (...args: never[]) => void): this {
    if (event === "connect") extendStreamHandle(StackSocket.#isOne);
    if (event !== "connect" || this.connecting || !this.#transport) {
      return super.once(event, listener as Parameters<net.Socket["once"]>[1]);
    }
    this[UNDER_STREAM_HANDLE]();
    process.nextTick(() => listener.call(this));
    return this;
  }

  /**
   * From then on TLS decides when this side ends: it may have more to write when the peer has ended, and may answer
   * when it has ended itself. Its own handle fails such a write without the event "error", and so does this.
   */
  [UNDER_STREAM_HANDLE](): void {
    if (Object.hasOwn(this, UNDER_STREAM_HANDLE)) return;
    Object.defineProperty(this, UNDER_STREAM_HANDLE, { value() {} });
    // Not yet: the TLSSocket that is being made takes over whether the user lets one side go on alone.
    process.nextTick(() => {
      this.allowHalfOpen = true;
    });
    const write = this.write as (...args: unknown[]) => boolean;
    this.write = (...args: unknown[]) => {
      if (!this.writableEnded) return write.apply(this, args);
      const done = args.at(-1);
      if (typeof done === "function") process.nextTick(done, errnoError(EPIPE, "write"));
      return false;
    };
  }

  override resetAndDestroy(): this {
    if (!this.#transport && !this.connecting) return this.destroy(socketClosed());
    const reset = () => {
      this.#isResetting = true;
      this.destroy();
    };
    if (this.connecting) this.once("connect", reset);
    else reset();
    return this;
  }

  override setNoDelay(noDelay = true): this {
    this.#noDelay = Boolean(noDelay);
    if (!this.connecting) this.#transport?.setOption(OPTION_NODELAY, Number(this.#noDelay));
    return this;
  }

  /** `initialDelay` in milliseconds, cut to seconds; 0: as before, at first the stack's keepaliveIdleMs. */
  override setKeepAlive(enable = false, initialDelay = 0): this {
    this.#keepAlive = Boolean(enable);
    const delayMs = keepAliveDelayMs(initialDelay);
    if (delayMs > 0) this.#keepAliveDelayMs = delayMs;
    if (this.connecting) return this;
    if (delayMs > 0) this.#transport?.setOption(OPTION_KEEPALIVE_IDLE_MS, delayMs);
    this.#transport?.setOption(OPTION_KEEPALIVE, Number(this.#keepAlive));
    return this;
  }

  override ref(): this {
    this.#isReferenced = true;
    this.#transport?.setReferenced(true);
    return this;
  }

  override unref(): this {
    this.#isReferenced = false;
    this.#transport?.setReferenced(false);
    return this;
  }

  override address(): net.AddressInfo | Record<string, never> {
    return this.#local === undefined ? {} : { ...this.#local };
  }

  get #internals(): SocketInternals {
    return this as unknown as SocketInternals;
  }

  get #addresses() {
    if (!this.connecting) this.#endpoints ??= this.#transport?.endpoints();
    return this.#endpoints;
  }

  /** Not after the end, unlike the remote one: as in Node. */
  get #local(): Endpoint | undefined {
    return this.#transport && this.#addresses?.local;
  }

  // Opening.

  #resolve(options: ConnectArguments): void {
    const { host = "localhost", lookup = lookupName, localAddress, localPort, family, hints } = options;
    if (localAddress && !net.isIP(localAddress)) throw invalidAddress(localAddress);
    if (localPort && typeof localPort !== "number") {
      throw invalidArgument('"options.localPort" property', "of type number", localPort);
    }
    const port = checkPort(options.port);
    const { autoSelectFamily = net.getDefaultAutoSelectFamily() } = options;
    if (typeof autoSelectFamily !== "boolean") {
      throw invalidArgument('"options.autoSelectFamily" property', "of type boolean", autoSelectFamily);
    }
    const timeoutMs = checkAttemptTimeout(options.autoSelectFamilyAttemptTimeout);
    if (net.isIP(host)) {
      process.nextTick(() => this.#open({ address: host, port, localAddress, localPort }));
      return;
    }
    if (typeof lookup !== "function") {
      throw invalidArgument('"options.lookup" property', "of type function", lookup);
    }
    this.#internals._host = host;
    const chosen = family === 6 || family === "IPv6" ? 6 : family === 4 || family === "IPv4" ? 4 : 0;
    const wanted = chosen || socketsOf(this.#stack()).families;
    const all = chosen === 0 && !localAddress && autoSelectFamily;
    lookup(host, { family: wanted, hints: hints ?? 0, all }, (error, found, foundFamily) => {
      const addresses = Array.isArray(found) ? found : [{ address: found, family: foundFamily as number }];
      for (const { address, family } of error ? [] : addresses.slice(0, all ? undefined : 1)) {
        this.emit("lookup", error, address, family, host);
      }
      if (error) this.emit("lookup", error, undefined, undefined, host);
      if (!this.connecting) return;
      const order = error ? [] : alternateFamilies(addresses, wanted);
      const [given = { address: "", family: 0 }] = addresses as readonly LookupAddress[];
      const refusal = error ?? (order.length > 0 ? undefined : checkLookup(given.address, given.family, host, port));
      if (refusal) process.nextTick(() => this.destroy(refusal));
      else this.#openFirst(order.slice(0, all ? undefined : 1), { port, localAddress, localPort }, timeoutMs);
    });
  }

  #openFirst(addresses: readonly LookupAddress[], rest: Omit<Target, "address">, timeoutMs: number): void {
    const targets = addresses.map(({ address }) => ({ ...rest, address }));
    if (targets.length === 1) {
      this.#open(targets[0] as Target);
      return;
    }
    this.#internals.autoSelectFamilyAttemptedAddresses = [];
    this.#attempts = new Attempts(targets, timeoutMs);
    this.#openNext();
  }

  /** What was under way is given up for the next address. */
  #openNext(): void {
    const attempts = this.#attempts as Attempts;
    const target = attempts.next();
    this.#transport?.reset();
    this.#transport = undefined;
    if (!target) {
      this.destroy(attempts.failure);
      return;
    }
    const { address, port } = target;
    this.#internals.autoSelectFamilyAttemptedAddresses?.push(`${address}:${port}`);
    attempts.wait(() => {
      this.emit("connectionAttemptTimeout", address, port, net.isIP(address));
      this.#notOpened(addressError(ETIMEDOUT, "connect", address, port));
    });
    this.#open(target);
  }

  /** This address is none: the next one is tried, if there is any. */
  #notOpened(error: Error): void {
    if (!this.#attempts) {
      this.destroy(error);
      return;
    }
    this.#attempts.errors.push(error);
    if (this.connecting) this.#openNext();
  }

  #open(target: Target): void {
    if (!this.connecting) return;
    const { address, port } = target;
    this.#internals._unrefTimer();
    this.emit("connectionAttempt", address, port, net.isIP(address));
    if (!this.connecting) return;
    this.#target = target;
    if (port === 0) {
      this.#failed(addressError(ECONNREFUSED, "connect", address, port));
      return;
    }
    this.#openFrom(target);
  }

  /** An attempt among several is told of by itself. */
  #failed(error: Error): void {
    const { address, port } = this.#target as Target;
    if (this.#attempts) this.emit("connectionAttemptFailed", address, port, net.isIP(address), error);
    this.#notOpened(error);
  }

  #openFrom(target: Target): void {
    if (!this.connecting || this.#target !== target) return;
    const { address, port, localAddress, localPort } = target;
    let sockets: Sockets | undefined;
    try {
      sockets = socketsOf(this.#stack());
      const { host, handle } = sockets.openHandle({
        address,
        port,
        ...(localAddress ? { localAddress } : {}),
        ...(localPort ? { localPort } : {}),
      });
      this.#attach(new Transport(sockets, host, handle, this));
    } catch (cause) {
      if (isEagain(cause)) {
        void sockets?.answered().then(() => this.#openFrom(target));
        return;
      }
      const binds = (localAddress || localPort) && isStackAddress(cause);
      const shape = (status: number) =>
        binds
          ? addressError(status, "bind", localAddress ?? "0.0.0.0", localPort ?? 0)
          : addressError(status, "connect", address, port);
      this.#failed(asNodeError(cause, shape));
    }
  }

  /** Where connect() goes: what a failed one is named after. */
  #target: Target | undefined;
  /** Of several addresses. */
  #attempts: Attempts | undefined;

  #attach(transport: Transport): void {
    this.#transport = transport;
    this.#takeBuffer(transport);
    if (!this.#isReferenced) transport.setReferenced(false);
  }

  /** What has come already is delivered later: bytes come from the event loop, in Node. */
  #startReading(): void {
    const transport = this.#transport;
    if (!transport || transport.isReading) return;
    transport.startReading();
    setImmediate(StackSocket.#pull, this);
  }

  [CONNECTED](): void {
    const internals = this.#internals;
    internals.connecting = false;
    this.#attempts?.stop();
    this.#attempts = undefined;
    internals._unrefTimer();
    if (this.#noDelay) this.setNoDelay(true);
    if (this.#keepAlive) this.setKeepAlive(true, this.#keepAliveDelayMs);
    this.emit("connect");
    this.#resume();
    this.emit("ready");
    if (!this.destroyed && !this.isPaused()) this.read(0);
    if (this.#wantsBytes) this.#startReading();
  }

  // Receiving.

  [DATA](kernelBytes: Uint8Array, at: number, count: number): boolean {
    this.#internals._unrefTimer();
    const onread = this.#onread;
    if (onread) return this.#deliver(onread, kernelBytes, at, count);
    const chunk = Buffer.allocUnsafe(count);
    chunk.set(kernelBytes.subarray(at, at + count));
    this.#wantsBytes = this.push(chunk);
    return this.#wantsBytes;
  }

  /** Into the user's own buffer (option onread), without a stream between. */
  #deliver(onread: net.OnReadOpts, kernelBytes: Uint8Array, at: number, count: number): boolean {
    const buffer = this.#buffer as Uint8Array;
    if (buffer.length === 0) {
      this.destroy(errnoError(ENOBUFS, "read"));
      return false;
    }
    buffer.set(kernelBytes.subarray(at, at + count));
    this.#wantsBytes = onread.callback.call(this, count, buffer) !== false;
    if (this.#transport) this.#takeBuffer(this.#transport);
    return this.#wantsBytes;
  }

  /** The buffer for the next bytes: never more of them come than it holds. */
  #takeBuffer(transport: Transport): void {
    const { buffer } = this.#onread ?? {};
    if (!buffer) return;
    const next = typeof buffer === "function" ? buffer() : buffer;
    // As in Node: what is no array of bytes leaves the last one in place.
    if (next instanceof Uint8Array) this.#buffer = next;
    this.#buffer ??= new Uint8Array(CHUNK_BYTES_MAX);
    // 0: what comes next is the socket's end (#deliver).
    transport.chunkBytesMax = this.#buffer.length;
  }

  [ENDED](): void {
    this.push(null);
    this.read(0);
  }

  // Sending.

  /** Gives the kernel what it takes; the rest waits for [WRITABLE](). */
  #send(bytes: Uint8Array, from: number, rest: Piece[] | undefined, done: Done): void {
    const transport = this.#transport;
    if (!transport) {
      done(socketClosed());
      return;
    }
    this.#internals._unrefTimer();
    let current = bytes;
    let at = from;
    for (;;) {
      const taken = transport.write(current, at);
      if (taken < 0) {
        done(errnoError(taken === ENOTCONN ? EPIPE : taken, "write"));
        return;
      }
      at += taken;
      if (at < current.length) {
        this.#write = { bytes: current, from: at, rest: rest ?? [], done };
        return;
      }
      const next = rest?.shift();
      if (next === undefined) {
        done();
        return;
      }
      current = next.chunk as Uint8Array;
      at = 0;
    }
  }

  [WRITABLE](): void {
    this.#resume();
  }

  #resume(): void {
    const write = this.#write;
    if (!write) return;
    this.#write = undefined;
    this.#send(write.bytes, write.from, write.rest, write.done);
  }

  // The end.

  [FAILED](status: number): void {
    const target = this.#target;
    if (this.connecting && target) {
      const { address, port } = target;
      const error = addressError(status, "connect", address, port);
      this.emit("connectionAttemptFailed", address, port, net.isIP(address), error);
      this.#notOpened(error);
    } else {
      this.destroy(errnoError(status, "read"));
    }
  }

  [LOST](error: NetPopcornError): void {
    this.destroy(error);
  }

  /** What the program has closed itself ends as by destroy(): an error is for who listens, never an exception. */
  [STACK_CLOSED](): void {
    const isHeard = this.listenerCount("error") > 0;
    this.destroy(isHeard ? errnoError(ECONNABORTED, this.connecting ? "connect" : "read") : undefined);
  }

  // What Node's class reads from its handle.

  static {
    const fields: { [name: string]: (this: StackSocket) => unknown } = {
      pending() {
        return this.#transport === undefined || this.connecting;
      },
      bufferSize() {
        return this.#transport || this.connecting ? this.writableLength : undefined;
      },
      bytesRead() {
        return this.#transport?.bytesRead ?? this.#bytesRead;
      },
      bytesWritten() {
        let bytes = this.#bytesDispatched;
        for (const { chunk, encoding } of this.#internals.writableBuffer) bytes += Buffer.byteLength(chunk, encoding);
        return bytes;
      },
      localAddress() {
        return this.#local?.address;
      },
      localPort() {
        return this.#local?.port;
      },
      localFamily() {
        return this.#local?.family;
      },
      remoteAddress() {
        return this.#addresses?.remote.address;
      },
      remotePort() {
        return this.#addresses?.remote.port;
      },
      remoteFamily() {
        return this.#addresses?.remote.family;
      },
    };
    // The types have fields there, of which accessors may not be made by declaration.
    for (const [name, get] of Object.entries(fields)) {
      // biome-ignore lint/complexity/noThisInStatic: as tsc writes the class, its name has no value before its end.
      Object.defineProperty(this.prototype, name, {
        configurable: true,
        enumerable: true,
        // Undefined for the prototype itself, as in Node: inspecting one reads all of its fields.
        get(this: object) {
          return #transport in this ? get.call(this as StackSocket) : undefined;
        },
      });
    }
  }
}
