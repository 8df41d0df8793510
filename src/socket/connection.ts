/**
 * One TCP connection at the Web level: two streams over a handle. Back-pressure is the protocol's own: bytes stay in
 * the kernel's receive buffer until somebody reads, so that the window closes; a write waits for room in the send
 * buffer.
 */
import { NetPopcornError, statusError } from "../errors.ts";
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
import * as OPTION from "../layout/option.ts";
import { EBADF } from "../layout/status.ts";
import { readTcpInfo, type TcpInfo } from "../views/tcpInfo.ts";
import { kernelOptions, type SocketOptions } from "./options.ts";

/** Largest piece given to a reader at once. */
const CHUNK_BYTES_MAX = 65536;
/** Pieces below this are worth another look for what follows them. */
const SHORT_CHUNK_BYTES = 4096;

/** States from CLOSE_WAIT on in which the peer's FIN has arrived. */
const PEER_CLOSED_STATES: ReadonlySet<number> = new Set([
  OPTION.STATE_CLOSE_WAIT,
  OPTION.STATE_CLOSING,
  OPTION.STATE_LAST_ACK,
  OPTION.STATE_TIME_WAIT,
  OPTION.STATE_CLOSED,
]);

const stateNames = new Map<number, string>(
  Object.entries(OPTION)
    .filter(([name]) => name.startsWith("STATE_"))
    .map(([name, value]) => [value, name.slice("STATE_".length)] as const),
);

/** Variables of RFC 9293 3.3.1 and RFC 6298; bytes and microseconds as the names say. */
export type ConnectionInfo = {
  /** SYN_SENT, ESTABLISHED, … */
  readonly state: string;
  /** Sequence numbers, 32 bits; names of RFC 9293 3.3.1. */
  readonly sndUna: number;
  readonly sndNxt: number;
  /** Bytes that the peer takes beyond SND.UNA. */
  readonly sndWnd: number;
  /** Sequence number expected next. */
  readonly rcvNxt: number;
  /** Bytes that we take beyond it. */
  readonly rcvWnd: number;
  /** Congestion window and slow start threshold (RFC 5681). */
  readonly cwndBytes: number;
  readonly ssthreshBytes: number;
  /** Smoothed round-trip time, its variation, retransmission timeout (RFC 6298). 0: not measured yet. */
  readonly srttUs: number;
  readonly rttvarUs: number;
  readonly rtoUs: number;
  /** Payload of a full segment. */
  readonly sndMssBytes: number;
  /** Segments sent again since the connection was opened, up to 65,535. */
  readonly retransmits: number;
  /** Written and not acknowledged. */
  readonly sndQueuedBytes: number;
  /** Received and not read. */
  readonly rcvQueuedBytes: number;
};

/** A connection of any level, as the group of sockets it belongs to sees it. */
export interface OpenConnection {
  readonly kernelId: number;
  /** Resets the connection. */
  abort(): void;
  /** The kernel is dead: nothing more can be asked of it. */
  lost(error: NetPopcornError): void;
}

/** Who keeps account of a group's connections. */
export interface ConnectionOwner {
  connectionOpened(connection: OpenConnection): void;
  connectionOver(connection: OpenConnection): void;
}

/** A TCP connection: two Web streams of bytes. From Stack.connect() or a Listener. */
export class Connection implements EventSink, OpenConnection {
  /**
   * Fulfilled when both directions have ended in order, rejected with the error that ended the connection.
   * Need not be looked at: a rejection here is never "unhandled".
   */
  readonly closed: Promise<void>;
  #host: KernelHost;
  #handle: number;
  readonly #owner: ConnectionOwner;
  #localAddress = "";
  #localPort = 0;
  #remoteAddress = "";
  #remotePort = 0;
  #readable: ReadableStream<Uint8Array<ArrayBuffer>> | undefined;
  #readController: ReadableByteStreamController | undefined;
  #writable: WritableStream<BufferSource> | undefined;
  #writeController: WritableStreamDefaultController | undefined;
  #opened: { resolve: () => void; reject: (error: unknown) => void } | undefined;
  #readWaiter: (() => void) | undefined;
  #writeWaiter: (() => void) | undefined;
  #resolveClosed!: () => void;
  #rejectClosed!: (error: unknown) => void;
  #error: unknown;
  #failed = false;
  #peerClosed = false;
  /** The application has read to the end, or no longer wants to. */
  #readDone = false;
  /** What had come when the connection failed. */
  readonly #unread: Uint8Array<ArrayBuffer>[] = [];
  /** Behind them is the peer's FIN: that the connection failed after it takes nothing from what the peer has sent. */
  #endsInOrder = false;
  /** What still arrives is thrown away. */
  #discarding = false;
  /** Our FIN is queued. */
  #writeDone = false;
  /** tcpClose or tcpAbort has been called: the handle is the kernel's again. */
  #released = false;
  /** EVENT_CLOSED has come. */
  #closedByKernel = false;
  #finished = false;

  /** @param handle established (from accept), or opening (then await `established()`). */
  constructor(host: KernelHost, handle: number, owner: ConnectionOwner) {
    this.#host = host;
    this.#handle = handle;
    this.#owner = owner;
    this.closed = new Promise((resolve, reject) => {
      this.#resolveClosed = resolve;
      this.#rejectClosed = reject;
    });
    this.closed.catch(() => {});
    this.#readEndpoints();
    host.addSink(this);
    owner.connectionOpened(this);
  }

  /**
   * The connection's handle in its kernel, for the handle level. Another one when the connection has moved to another
   * kernel; not valid any more once `closed` has settled.
   */
  get handle(): number {
    return this.#handle;
  }

  /** The kernel where it lives now. */
  get kernelId(): number {
    return this.#host.kernelId;
  }

  /** Own IP address: "10.7.0.2". */
  get localAddress(): string {
    return this.#localAddress;
  }

  /** 1..65535. */
  get localPort(): number {
    return this.#localPort;
  }

  /** The peer's IP address. */
  get remoteAddress(): string {
    return this.#remoteAddress;
  }

  /** 1..65535. */
  get remotePort(): number {
    return this.#remotePort;
  }

  /**
   * Received bytes; ends at the peer's FIN. A byte stream: readers with their own buffer ("byob") are served. When the
   * peer resets, what has come before can be read first; then comes the error.
   * Cancelling throws away what still arrives; when the sending side is closed too, the connection is closed.
   */
  get readable(): ReadableStream<Uint8Array<ArrayBuffer>> {
    this.#readable ??= new ReadableStream(
      {
        type: "bytes",
        start: (controller) => {
          this.#readController = controller;
          if (this.#readDone) controller.close();
          else if (this.#failed && this.#unread.length === 0) this.#endFailedReading();
        },
        pull: (controller) => this.#pull(controller),
        cancel: () => this.#cancel(),
      },
      // Nothing is taken from the kernel before somebody reads.
      { highWaterMark: 0 },
    );
    return this.#readable;
  }

  /** Bytes to send. A write is done when the kernel has a copy; close() sends FIN; abort() resets the connection. */
  get writable(): WritableStream<BufferSource> {
    this.#writable ??= new WritableStream<BufferSource>({
      start: (controller) => {
        this.#writeController = controller;
        if (this.#failed) controller.error(this.#error);
        // abort() waits for the write in progress, which waits for room that may never come: make it fail. The stream
        // itself is being aborted already and must not be told again.
        controller.signal.addEventListener("abort", () => {
          this.#writeController = undefined;
          this.abort(controller.signal.reason);
        });
      },
      write: (chunk) => this.#write(chunk),
      close: () => this.#shutdown(),
    });
    return this.#writable;
  }

  /** Settled when the handshake has succeeded or failed. For connections being opened. */
  established(): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.#failed) reject(this.#error);
      else this.#opened = { resolve, reject };
    });
  }

  /**
   * Lets go in both directions: FIN after what has been written, or RST when received bytes were never read (RFC 2525
   * 2.17).
   */
  close(): Promise<void> {
    if (!this.#released && !this.#failed) {
      this.#endReading();
      this.#writeDone = true;
      this.#writeController?.error(new NetPopcornError("EPIPE", "the connection was closed by close()"));
      this.#wakeWaiters();
      this.#release();
    }
    return this.closed;
  }

  /** Resets the connection. @param reason what the streams fail with; default: NetPopcornError ECONNABORTED. */
  abort(reason?: unknown): void {
    if (this.#finished) return;
    // After close() too: the handle is the connection's until EVENT_CLOSED.
    this.#released = true;
    this.#host.exports.tcpAbort(this.#handle);
    this.#host.requestTurn();
    this.#fail(reason ?? new NetPopcornError("ECONNABORTED", "the connection was aborted by abort()"));
  }

  /** @throws NetPopcornError EBADF once the connection is over. */
  info(): ConnectionInfo {
    const at = this.#checkStatus(this.#released ? EBADF : this.#host.handles.info(this.#handle), "info");
    const field = (offset: number) => this.#host.memory.loadU32(at + offset);
    return {
      state: stateNames.get(field(OPTION.INFO_STATE)) ?? "UNKNOWN",
      sndUna: field(OPTION.INFO_SND_UNA),
      sndNxt: field(OPTION.INFO_SND_NXT),
      sndWnd: field(OPTION.INFO_SND_WND),
      rcvNxt: field(OPTION.INFO_RCV_NXT),
      rcvWnd: field(OPTION.INFO_RCV_WND),
      cwndBytes: field(OPTION.INFO_CWND_BYTES),
      ssthreshBytes: field(OPTION.INFO_SSTHRESH_BYTES),
      srttUs: field(OPTION.INFO_SRTT_US),
      rttvarUs: field(OPTION.INFO_RTTVAR_US),
      rtoUs: field(OPTION.INFO_RTO_US),
      sndMssBytes: field(OPTION.INFO_SND_MSS_BYTES),
      retransmits: field(OPTION.INFO_RETRANSMITS),
      sndQueuedBytes: field(OPTION.INFO_SND_QUEUED_BYTES),
      rcvQueuedBytes: field(OPTION.INFO_RCV_QUEUED_BYTES),
    };
  }

  /** true: small segments are sent at once (Nagle's algorithm off). */
  setNoDelay(on = true): void {
    this.#setOption(OPTION.OPTION_NODELAY, on ? 1 : 0);
  }

  /** true: an idle connection is probed (keepaliveIdleMs and the other tuning options). */
  setKeepAlive(on = true): void {
    this.#setOption(OPTION.OPTION_KEEPALIVE, on ? 1 : 0);
  }

  /**
   * Socket options by their usual names: `setOptions({ TCP_CORK: true, TCP_USER_TIMEOUT: 5000 })`.
   * @throws NetPopcornError ERR_OPTION_UNKNOWN, ERR_OPTION_RANGE, ENOBUFS, EBADF once the connection is over.
   */
  setOptions(options: SocketOptions): void {
    for (const [option, value] of kernelOptions(options)) this.#setOption(option, value);
  }

  /** TCP_INFO. @throws NetPopcornError EBADF once the connection is over. */
  tcpInfo(): TcpInfo {
    const at = this.#checkStatus(this.#released ? EBADF : this.#host.handles.tcpInfo(this.handle), "tcpInfo");
    return readTcpInfo(this.#host.memory, at);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close().catch(() => {});
  }

  /** @internal The kernel is dead: nothing more can be asked of it. */
  lost(error: NetPopcornError): void {
    this.#released = true;
    this.#fail(error);
  }

  /** @internal The connection lives in another kernel of this thread from now on. */
  moveTo(host: KernelHost, handle: number): void {
    this.#host.removeSink(this);
    this.#host = host;
    this.#handle = handle;
    host.addSink(this);
    host.requestTurn();
  }

  /** @internal */
  onEvent(mask: number, status: number): void {
    if (mask & EVENT_ERROR) {
      this.#closedByKernel = true;
      if (mask & EVENT_PEER_CLOSED) this.#peerClosed = true;
      this.#keepUnread();
      this.#endsInOrder = this.#peerClosed;
      this.#fail(statusError(status, this.#describe()));
      return;
    }
    if (mask & EVENT_CONNECTED) {
      this.#readEndpoints();
      this.#opened?.resolve();
      this.#opened = undefined;
    }
    if (mask & EVENT_PEER_CLOSED) this.#peerClosed = true;
    if (mask & (EVENT_READABLE | EVENT_PEER_CLOSED)) {
      if (this.#discarding) this.#discard();
      else this.#wakeReader();
    }
    if (mask & EVENT_WRITABLE) this.#wakeWriter();
    if (mask & EVENT_CLOSED) {
      this.#closedByKernel = true;
      if (this.#released) this.#finish();
    }
  }

  #describe(): string {
    return `connection ${this.#localAddress}:${this.#localPort} - ${this.#remoteAddress}:${this.#remotePort}`;
  }

  #checkStatus(result: number, what: string): number {
    if (result < 0) throw statusError(result, `${what} on ${this.#describe()}`);
    return result;
  }

  #setOption(option: number, value: number): void {
    this.#checkStatus(
      this.#released ? EBADF : this.#host.exports.tcpSetOption(this.#handle, option, value),
      "set option",
    );
  }

  /** Addresses and ports are kept: they are asked for in logs after the connection is over, too. */
  #readEndpoints(): void {
    const at = this.#host.handles.info(this.#handle);
    if (at < 0) return;
    const { memory } = this.#host;
    const { bytes } = memory;
    this.#localPort = memory.loadU32(at + OPTION.INFO_LOCAL_PORT);
    this.#remotePort = memory.loadU32(at + OPTION.INFO_REMOTE_PORT);
    this.#localAddress = formatAddress(
      bytes.subarray(at + OPTION.INFO_LOCAL_ADDRESS, at + OPTION.INFO_LOCAL_ADDRESS + 16),
    );
    this.#remoteAddress = formatAddress(
      bytes.subarray(at + OPTION.INFO_REMOTE_ADDRESS, at + OPTION.INFO_REMOTE_ADDRESS + 16),
    );
    // The FIN may have come before the connection was accepted.
    if (PEER_CLOSED_STATES.has(memory.loadU32(at + OPTION.INFO_STATE))) this.#peerClosed = true;
  }

  // Reading.

  #pull(controller: ReadableByteStreamController): Promise<void> | undefined {
    if (this.#pullNow(controller)) return undefined;
    return new Promise((resolve) => {
      const attempt = () => {
        if (this.#pullNow(controller)) resolve();
        else this.#readWaiter = attempt;
      };
      this.#readWaiter = attempt;
    });
  }

  /** @returns false when there is nothing yet. */
  #pullNow(controller: ReadableByteStreamController): boolean {
    if (this.#readDone) return true;
    if (this.#failed) {
      this.#pullUnread(controller);
      return true;
    }
    const { handles } = this.#host;
    const at = handles.peek(this.#handle);
    if (at < 0) {
      this.#fail(statusError(at, this.#describe()));
      return true;
    }
    if (at === 0) {
      if (!this.#peerClosed) return false;
      this.#endReading();
      this.#maybeRelease();
      return true;
    }
    const request = controller.byobRequest?.view;
    if (request && controller.byobRequest) {
      const bytes = Math.min(handles.available, request.byteLength);
      const target = new Uint8Array(request.buffer, request.byteOffset, bytes);
      target.set(handles.bytes.subarray(at, at + bytes));
      handles.consume(this.#handle, bytes);
      controller.byobRequest.respond(bytes);
    } else controller.enqueue(this.#takeChunk(at));
    this.#host.requestTurn();
    return true;
  }

  /** The connection has failed: what is left is the application's, and the handle is not kept for it. */
  #keepUnread(): void {
    if (this.#readDone || this.#released) return;
    const { handles } = this.#host;
    for (let at = handles.peek(this.#handle); at > 0; at = handles.peek(this.#handle)) {
      this.#unread.push(this.#takeChunk(at));
    }
  }

  #pullUnread(controller: ReadableByteStreamController): void {
    const chunk = this.#unread.shift();
    const request = controller.byobRequest?.view;
    if (!chunk) this.#endFailedReading();
    else if (request && controller.byobRequest) {
      const bytes = Math.min(chunk.length, request.byteLength);
      new Uint8Array(request.buffer, request.byteOffset, bytes).set(chunk.subarray(0, bytes));
      if (bytes < chunk.length) this.#unread.unshift(chunk.slice(bytes));
      controller.byobRequest.respond(bytes);
    } else controller.enqueue(chunk);
  }

  /** In order only where nothing is missing: whoever aborts, or loses the kernel, leaves bytes in it. */
  #endFailedReading(): void {
    if (this.#endsInOrder) this.#endReading();
    else this.#readController?.error(this.#error);
  }

  /** Takes a piece out of the receive buffer, as a copy of the application's own. @param at what peek has returned. */
  #takeChunk(at: number): Uint8Array<ArrayBuffer> {
    const { handles } = this.#host;
    // slice() copies out of a shared memory, too.
    const chunk = handles.bytes.slice(at, at + Math.min(handles.available, CHUNK_BYTES_MAX));
    handles.consume(this.#handle, chunk.length);
    // The buffer's blocks end anywhere; a short message should not come in two parts because of that.
    const next = chunk.length < SHORT_CHUNK_BYTES ? handles.peek(this.#handle) : 0;
    if (next <= 0) return chunk;
    const more = Math.min(handles.available, CHUNK_BYTES_MAX - chunk.length);
    const joined = new Uint8Array(chunk.length + more);
    joined.set(chunk);
    joined.set(handles.bytes.subarray(next, next + more), chunk.length);
    handles.consume(this.#handle, more);
    return joined;
  }

  #endReading(): void {
    if (this.#readDone) return;
    this.#readDone = true;
    const controller = this.#readController;
    if (!controller || this.#discarding) return;
    controller.close();
    controller.byobRequest?.respond(0);
  }

  #cancel(): void {
    this.#discarding = true;
    this.#readDone = true;
    this.#unread.length = 0;
    this.#wakeReader();
    this.#maybeRelease();
    if (!this.#released) this.#discard();
  }

  /** Empties the receive buffer, so that the peer is not stopped by a window that nobody opens. */
  #discard(): void {
    if (this.#released) return;
    const { handles } = this.#host;
    while (handles.peek(this.#handle) > 0) handles.consume(this.#handle, handles.available);
    this.#host.requestTurn();
  }

  // Writing.

  #write(chunk: BufferSource): Promise<void> | undefined {
    const bytes = ArrayBuffer.isView(chunk)
      ? new Uint8Array(chunk.buffer, chunk.byteOffset, chunk.byteLength)
      : chunk instanceof ArrayBuffer
        ? new Uint8Array(chunk)
        : undefined;
    if (!bytes)
      throw new NetPopcornError("ERR_INVALID_ARG_TYPE", "write a Uint8Array, another view, or an ArrayBuffer");
    const sent = this.#send(bytes, 0);
    return sent < bytes.length ? this.#writeRest(bytes, sent) : undefined;
  }

  async #writeRest(bytes: Uint8Array, sent: number): Promise<void> {
    let at = sent;
    while (at < bytes.length) {
      await new Promise<void>((resolve) => {
        this.#writeWaiter = resolve;
      });
      at += this.#send(bytes, at);
    }
  }

  /** Copies as much as there is room for straight into the send buffer. @returns bytes taken. */
  #send(bytes: Uint8Array, from: number): number {
    if (this.#failed) throw this.#error;
    if (this.#writeDone) throw new NetPopcornError("EPIPE", `${this.#describe()}: the sending side is closed`);
    const { handles } = this.#host;
    let at = from;
    while (at < bytes.length) {
      const room = this.#checkStatus(handles.reserve(this.#handle, bytes.length - at), "write");
      if (room === 0) break;
      const count = Math.min(handles.available, bytes.length - at);
      handles.bytes.set(bytes.subarray(at, at + count), room);
      this.#checkStatus(handles.commit(this.#handle, count), "write");
      at += count;
    }
    if (at > from) this.#host.requestTurn();
    return at - from;
  }

  #shutdown(): void {
    if (this.#writeDone) return;
    this.#checkStatus(this.#host.exports.tcpShutdownSend(this.#handle), "close");
    this.#writeDone = true;
    this.#host.requestTurn();
    this.#maybeRelease();
  }

  // The end.

  #wakeReader(): void {
    const waiter = this.#readWaiter;
    this.#readWaiter = undefined;
    waiter?.();
  }

  #wakeWriter(): void {
    const waiter = this.#writeWaiter;
    this.#writeWaiter = undefined;
    waiter?.();
  }

  #wakeWaiters(): void {
    this.#wakeReader();
    this.#wakeWriter();
  }

  #maybeRelease(): void {
    if (this.#readDone && this.#writeDone && !this.#released) this.#release();
  }

  #release(): void {
    this.#released = true;
    this.#host.exports.tcpClose(this.#handle);
    this.#host.requestTurn();
    if (this.#closedByKernel) this.#finish();
  }

  #fail(error: unknown): void {
    if (this.#finished || this.#failed) return;
    this.#failed = true;
    this.#error = error;
    if (!this.#released) {
      this.#released = true;
      this.#host.exports.tcpClose(this.#handle);
    }
    this.#opened?.reject(error);
    this.#opened = undefined;
    // With bytes left, whoever reads them comes to the error behind them.
    if (!this.#readDone && this.#unread.length === 0) this.#endFailedReading();
    if (!this.#writeDone) this.#writeController?.error(error);
    this.#wakeWaiters();
    this.#finish();
  }

  #finish(): void {
    if (this.#finished) return;
    this.#finished = true;
    this.#host.removeSink(this);
    this.#owner.connectionOver(this);
    if (this.#failed) this.#rejectClosed(this.#error);
    else this.#resolveClosed();
  }
}
