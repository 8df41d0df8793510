/**
 * One TCP connection of a kernel for one net.Socket: what Node's own TCP handle is to it. Goes on after the socket has
 * let go of it, until the kernel says that the connection is over. Flow control is TCP's: bytes stay in the kernel's
 * receive buffer while the socket does not read.
 */
import type { NetPopcornError } from "../errors.ts";
import { formatAddress } from "../ip/address.ts";
import type { EventSink, KernelHost } from "../kernel/host.ts";
import {
  EVENT_CLOSED,
  EVENT_CONNECTED,
  EVENT_ERROR,
  EVENT_PEER_CLOSED,
  EVENT_READABLE,
  EVENT_WRITABLE,
} from "../layout/event.ts";
import { SCRATCH_BASE, SCRATCH_SIZE_BYTES } from "../layout/kernelMemory.ts";
import { INFO_LOCAL_ADDRESS, INFO_LOCAL_PORT, INFO_REMOTE_ADDRESS, INFO_REMOTE_PORT } from "../layout/option.ts";
import type { OpenConnection } from "../socket/connection.ts";
import type { Sockets } from "../socket/sockets.ts";

/** Methods of whoever uses a transport; symbols, since net.Socket's names are its users'. */
export const CONNECTED = Symbol("connected");
export const DATA = Symbol("data");
export const ENDED = Symbol("ended");
export const WRITABLE = Symbol("writable");
export const FAILED = Symbol("failed");
export const LOST = Symbol("lost");
export const STACK_CLOSED = Symbol("stackClosed");

export interface TransportUser {
  readonly connecting: boolean;
  [CONNECTED](): void;
  /** Received bytes, in the kernel's memory: valid during the call. @returns false: no more for now. */
  [DATA](bytes: Uint8Array, at: number, count: number): boolean;
  /** After the last bytes: the peer has sent FIN. */
  [ENDED](): void;
  /** A write that was cut short can go on. */
  [WRITABLE](): void;
  /** @param status negative errno. */
  [FAILED](status: number): void;
  /** The kernel is dead. */
  [LOST](error: NetPopcornError): void;
  /** The program has closed the stack, and this connection with it. */
  [STACK_CLOSED](): void;
}

export type Endpoint = { readonly address: string; readonly family: "IPv4" | "IPv6"; readonly port: number };

/** Largest piece given to the socket at once, as libuv reads. */
export const CHUNK_BYTES_MAX = 65536;

/** What goes by way of the application's half of the scratch page. */
const SMALL_BYTES_MAX = SCRATCH_SIZE_BYTES / 2;

export class Transport implements EventSink, OpenConnection {
  bytesRead = 0;
  /** Largest piece that the user can take; 0: told of the first one, it lets go of the connection. */
  chunkBytesMax = CHUNK_BYTES_MAX;
  readonly #sockets: Sockets;
  #host: KernelHost;
  #handle: number;
  /** Undefined once the socket has let go. */
  #user: TransportUser | undefined;
  #isReading = false;
  #isPulling = false;
  #hasPeerClosed = false;
  #isEnded = false;
  /** EVENT_ERROR has come: behind the bytes that are there lies its status, and no event follows. */
  #hasFailed = false;
  /** EVENT_CLOSED has come. */
  #isOver = false;
  #onFinish: (() => void) | undefined;
  #isReferenced = true;

  /** @param handle from accept, or of an active open. */
  constructor(sockets: Sockets, host: KernelHost, handle: number, user: TransportUser) {
    this.#sockets = sockets;
    this.#host = host;
    this.#handle = handle;
    this.#user = user;
    host.addSink(this);
    sockets.connectionOpened(this);
  }

  get handle(): number {
    return this.#handle;
  }

  get kernelId(): number {
    return this.#host.kernelId;
  }

  /** Bytes are wanted: those that come, and what is there already by way of pull(). */
  startReading(): void {
    this.#isReading = true;
  }

  /** Bytes stay in the kernel from now on. */
  stopReading(): void {
    this.#isReading = false;
  }

  get isReading(): boolean {
    return this.#isReading;
  }

  /** Delivers what has arrived, if it is wanted. @param readableBytes how much that is, where it is known. */
  pull(readableBytes = Number.POSITIVE_INFINITY): void {
    // The user may call startReading() from where it is given bytes.
    if (this.#isPulling || !this.#isReading || this.#isEnded) return;
    this.#isPulling = true;
    let status: number | undefined;
    try {
      status = readableBytes <= SMALL_BYTES_MAX ? this.#pullSmall() : this.#pullPieces();
    } finally {
      this.#isPulling = false;
      // The user has thrown: what lies behind, and the peer's end, are delivered in a later turn of the event loop.
      if (status === undefined) setImmediate(() => this.pullOutsideTurn());
    }
    if (!this.#isReading || !this.#user) return;
    if (this.#hasPeerClosed) {
      this.#isEnded = true;
      this.#user[ENDED]();
    } else if (status < 0) this.#user[FAILED](status);
  }

  /**
   * The connection is reset, or has timed out. As with Node on Linux: who does not read now gets what has come first,
   * and a peer that has ended has ended. A write that waits is tried again and finds out.
   */
  #fail(user: TransportUser, status: number): void {
    this.#hasFailed = true;
    const isLater = this.#hasPeerClosed || (!this.#isReading && !user.connecting);
    if (isLater) user[WRITABLE]();
    else user[FAILED](status);
  }

  /** As pull(); what the user throws is told as what it throws from an event. */
  pullOutsideTurn(readableBytes?: number): void {
    this.#host.callApplication(() => this.pull(readableBytes));
  }

  /** All in one piece, by way of the scratch page: one call of the kernel. @returns 0 or a negative errno. */
  #pullSmall(): number {
    const { handles } = this.#host;
    const limit = Math.min(SMALL_BYTES_MAX, this.chunkBytesMax);
    if (limit === 0) return this.#pullPieces();
    const count = handles.receive(this.#handle, SCRATCH_BASE, limit);
    if (count <= 0) return count;
    this.#host.requestTurn();
    this.bytesRead += count;
    if (!this.#user?.[DATA](handles.bytes, SCRATCH_BASE, count)) this.#isReading = false;
    const isMore = count === limit || this.#hasFailed;
    return isMore && this.#isReading ? this.#pullPieces() : 0;
  }

  /** Straight from the receive buffer, in as few pieces as it lies in. @returns 0 or a negative errno. */
  #pullPieces(): number {
    const { handles } = this.#host;
    while (this.#isReading && this.#user) {
      const at = handles.peek(this.#handle);
      if (at <= 0) return at;
      const count = Math.min(handles.available, this.chunkBytesMax);
      this.bytesRead += count;
      try {
        if (!this.#user[DATA](handles.bytes, at, count)) this.#isReading = false;
      } finally {
        // The user may have let go of the connection: the handle is not ours any more. If it has thrown, it has had the
        // bytes all the same.
        if (this.#user) {
          handles.consume(this.#handle, count);
          this.#host.requestTurn();
        }
      }
    }
    return 0;
  }

  /** @returns bytes taken, from `from` on; fewer than there are: [WRITABLE]() follows. Or a negative errno. */
  write(bytes: Uint8Array, from: number): number {
    const { handles } = this.#host;
    if (bytes.length <= SMALL_BYTES_MAX && from === 0) {
      handles.bytes.set(bytes, SCRATCH_BASE);
      const taken = handles.send(this.#handle, SCRATCH_BASE, bytes.length);
      if (taken > 0) this.#host.requestTurn();
      return taken;
    }
    let at = from;
    while (at < bytes.length) {
      const room = handles.reserve(this.#handle, bytes.length - at);
      if (room < 0) return room;
      if (room === 0) break;
      const count = Math.min(handles.available, bytes.length - at);
      handles.bytes.set(count === bytes.length ? bytes : bytes.subarray(at, at + count), room);
      const status = handles.commit(this.#handle, count);
      if (status < 0) return status;
      at += count;
    }
    if (at > from) this.#host.requestTurn();
    return at - from;
  }

  /** FIN after what has been written. */
  shutdown(): void {
    this.#host.handles.shutdownSend(this.#handle);
    this.#host.requestTurn();
  }

  setOption(option: number, value: number): void {
    this.#host.handles.setOption(this.#handle, option, value);
  }

  endpoints(): { readonly local: Endpoint; readonly remote: Endpoint } | undefined {
    const at = this.#host.handles.info(this.#handle);
    if (at < 0) return undefined;
    const { memory } = this.#host;
    const endpoint = (addressAt: number, portAt: number): Endpoint => {
      const address = formatAddress(memory.bytes.subarray(at + addressAt, at + addressAt + 16));
      return { address, family: address.includes(":") ? "IPv6" : "IPv4", port: memory.loadU32(at + portAt) };
    };
    return {
      local: endpoint(INFO_LOCAL_ADDRESS, INFO_LOCAL_PORT),
      remote: endpoint(INFO_REMOTE_ADDRESS, INFO_REMOTE_PORT),
    };
  }

  /** Lets the process end while this connection is open, or not. */
  setReferenced(isReferenced: boolean): void {
    if (isReferenced === this.#isReferenced || this.#isOver) return;
    this.#isReferenced = isReferenced;
    if (isReferenced) this.#sockets.ref();
    else this.#sockets.unref();
  }

  /**
   * The socket lets go: FIN after what has been written, RST if received bytes were never read (RFC 2525 2.17).
   * @param onFinish called when the kernel's connection, which goes on until the peer has ended too, is over.
   */
  close(onFinish?: () => void): void {
    if (!this.#user) return;
    this.#user = undefined;
    this.#onFinish = onFinish;
    this.#host.handles.close(this.#handle);
    this.#host.requestTurn();
    if (this.#isOver) this.#finish();
  }

  /** Resets the connection, or gives up opening it. No event follows. */
  reset(): void {
    this.#user = undefined;
    this.#host.handles.abort(this.#handle);
    this.#host.requestTurn();
    this.#finish();
  }

  /** The stack closes and has waited long enough. */
  abort(): void {
    const user = this.#user;
    this.reset();
    user?.[STACK_CLOSED]();
  }

  lost(error: NetPopcornError): void {
    const user = this.#user;
    this.#user = undefined;
    this.#finish();
    user?.[LOST](error);
  }

  moveTo(host: KernelHost, handle: number): void {
    this.#host.removeSink(this);
    this.#host = host;
    this.#handle = handle;
    host.addSink(this);
    host.requestTurn();
  }

  onEvent(mask: number, status: number, readableBytes: number): void {
    if (mask & EVENT_CLOSED) {
      // Nothing more happens: a socket that nobody reads to its end does not keep the process alive.
      this.setReferenced(false);
      this.#isOver = true;
    }
    const user = this.#user;
    if (!user) {
      if (this.#isOver) this.#finish();
      return;
    }
    if (mask & EVENT_PEER_CLOSED) this.#hasPeerClosed = true;
    // Any of these calls may make the user let go, or throw.
    try {
      if (mask & EVENT_CONNECTED) user[CONNECTED]();
      if (mask & (EVENT_READABLE | EVENT_PEER_CLOSED)) this.pull(readableBytes);
    } finally {
      if (mask & EVENT_ERROR && this.#user) this.#fail(this.#user, status);
      else if (mask & EVENT_WRITABLE) this.#user?.[WRITABLE]();
    }
  }

  #finish(): void {
    this.#host.removeSink(this);
    // connectionOver() takes back one reference.
    if (!this.#isReferenced) this.#sockets.ref();
    this.#isReferenced = true;
    this.#sockets.connectionOver(this);
    this.#onFinish?.();
    this.#onFinish = undefined;
  }
}
