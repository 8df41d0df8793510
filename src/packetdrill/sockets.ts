/**
 * Sockets as system calls see them, on top of the kernel's handles. What the kernel tells in events is kept here until
 * a call asks for it.
 */
import type { Endpoint } from "./encode.ts";
import * as EVENT from "../layout/event.ts";
import * as OPTION from "../layout/option.ts";
import { RESULT_BASE, SCRATCH_BASE } from "../layout/kernelMemory.ts";
import type { Machine, MachineEvent } from "./machine.ts";
import { findWrongByte, streamBytes } from "./payload.ts";
import { ERRNOS, O_RDWR, POLLERR, POLLHUP, POLLIN, POLLOUT, POLLRDHUP } from "./symbols.ts";

/** Errno name. */
export type Errno = string;
/** What a call returns: a count (>= 0), or the name of an error. */
export type Result = number | Errno;

const errnoNames = new Map(Object.entries(ERRNOS).map(([name, number]) => [number, name] as const));

/** @param status of the kernel, negative. */
export function errnoOf(status: number): Errno {
  return errnoNames.get(-status) ?? `errno ${-status}`;
}

/** Largest piece that goes through the application's area at once. */
const PIECE_BYTES = 65536;

/** A kernel's message that is not about a call: bytes that do not belong where they are. */
export class ContentError extends Error {}

export class TcpSocket {
  readonly kind = "tcp";
  fileFlags = O_RDWR;
  /** Undefined before connect. */
  handle: number | undefined;
  listener: number | undefined;
  /** Chosen by bind; 0: none. */
  boundPort = 0;
  backlog = 0;
  remote: Endpoint | undefined;
  /** Options set so far, by OPTION_*: they apply when there is a connection. */
  readonly options = new Map<number, number>();
  /** What getsockopt is to tell of options that only set. */
  readonly remembered = new Map<string, number | string>();
  lingerSeconds: number | undefined;
  /** The last write said that more would follow (MSG_MORE). */
  holdsBack = false;
  /** Not yet reported by a call. */
  pendingError: Errno | undefined;
  isConnecting = false;
  isConnected = false;
  /** Bytes that go with a SYN that has not left yet (RFC 7413). */
  synRoom = 0;
  /** connect() is over, and the SYN waits for the first bytes (TCP_FASTOPEN_CONNECT). */
  isSynWaiting = false;
  isPeerClosed = false;
  isOver = false;
  isSendShut = false;
  isReceiveShut = false;
  /** Of a listener: how many wait to be accepted. */
  pendingAccepts = 0;
  /** Bytes written and read so far. */
  written = 0;
  read = 0;
  /** Raised with every event that makes epoll's edges. */
  edges = 0;
  readonly #machine: Machine;

  constructor(machine: Machine) {
    this.#machine = machine;
  }

  onEvent({ mask, status, count }: MachineEvent): void {
    if (mask & EVENT.EVENT_ACCEPTABLE) this.pendingAccepts = count;
    if (mask & EVENT.EVENT_CONNECTED) {
      this.isConnecting = false;
      this.isConnected = true;
    }
    if (mask & EVENT.EVENT_PEER_CLOSED) this.isPeerClosed = true;
    if (mask & EVENT.EVENT_CLOSED) {
      this.isOver = true;
      this.isConnecting = false;
    }
    if (mask & EVENT.EVENT_ERROR) this.pendingError = errnoOf(status);
    this.edges++;
  }

  /** Reports an error once. */
  takeError(): Errno | undefined {
    const error = this.pendingError;
    this.pendingError = undefined;
    return error;
  }

  /** A field of tcpGetInfo (INFO_*); undefined without a connection. */
  info(offset: number): number | undefined {
    if (this.handle === undefined) return undefined;
    const status = this.#machine.exports.tcpGetInfo(this.handle, RESULT_BASE);
    return status === 0 ? this.#machine.memory.loadU32(RESULT_BASE + offset) : undefined;
  }

  /** Bytes that can be read now. */
  get readable(): number {
    return this.info(OPTION.INFO_RCV_QUEUED_BYTES) ?? 0;
  }

  get isListening(): boolean {
    return this.listener !== undefined;
  }

  /**
   * All bytes taken, or as many as there is room for. @param isEarly also before the handshake is over.
   * @returns undefined: there is none, wait.
   */
  write(bytes: number, isEarly = false): Result | undefined {
    const error = this.takeError();
    if (error !== undefined) return error;
    if (this.isSendShut) return "EPIPE";
    if (this.handle === undefined || (!this.isConnecting && !this.isConnected)) return "EPIPE";
    if (this.isConnecting && !isEarly) return undefined;
    if (bytes === 0) return 0;
    let taken = 0;
    while (taken < bytes) {
      const piece = Math.min(PIECE_BYTES, bytes - taken);
      this.#machine.memory.bytes.set(streamBytes(this.written, piece), this.#machine.area);
      const status = this.#machine.exports.tcpSend(this.handle, this.#machine.area, piece);
      if (status < 0) return taken > 0 ? taken : this.#writeError(status);
      if (status === 0) break;
      taken += status;
      this.written += status;
    }
    return taken > 0 ? taken : undefined;
  }

  /** The kernel repeats what it has told already; on Linux what follows the first report is a broken pipe. */
  #writeError(status: number): Errno {
    return this.isOver ? "EPIPE" : errnoOf(status);
  }

  /** @returns undefined: nothing there yet, wait. */
  receive(bytes: number, isPeek: boolean): Result | undefined {
    if (this.handle === undefined) return this.takeError() ?? "ENOTCONN";
    const { exports, memory, area } = this.#machine;
    let taken = 0;
    while (taken < bytes) {
      const piece = Math.min(PIECE_BYTES, bytes - taken);
      const count = isPeek ? this.#peek(piece) : exports.tcpRecv(this.handle, area, piece);
      if (count <= 0) break;
      this.#verify(memory.bytes.subarray(area, area + count));
      taken += count;
      if (isPeek) break;
      this.read += count;
    }
    if (taken > 0 || bytes === 0) return taken;
    const error = this.takeError();
    if (error !== undefined) return error;
    if (this.isPeerClosed || this.isReceiveShut || this.isOver) return 0;
    return this.isConnected || this.isConnecting ? undefined : "ENOTCONN";
  }

  #peek(bytes: number): number {
    const { exports, memory, area } = this.#machine;
    const at = exports.tcpRecvPeek(this.handle as number) >>> 0;
    const count = Math.min(bytes, memory.loadU32(RESULT_BASE));
    if (count > 0) memory.bytes.copyWithin(area, at, at + count);
    return count;
  }

  #verify(bytes: Uint8Array): void {
    const wrong = findWrongByte(this.read, bytes);
    if (wrong < 0) return;
    throw new ContentError(`byte ${this.read + wrong} of the received stream is not what the peer has sent there`);
  }

  /** POLL* bits that hold now. */
  readiness(): number {
    if (this.listener !== undefined) return this.pendingAccepts > 0 ? POLLIN : 0;
    let bits = 0;
    if (this.pendingError !== undefined) bits |= POLLERR | POLLIN | POLLOUT;
    if (this.isOver || (!this.isConnecting && !this.isConnected)) bits |= POLLHUP | POLLOUT;
    if (this.isPeerClosed || this.isReceiveShut || this.isOver) bits |= POLLIN | POLLRDHUP;
    if (this.isPeerClosed && this.isSendShut) bits |= POLLHUP;
    if (this.isConnected) {
      if (this.readable > 0) bits |= POLLIN;
      if (this.isSendShut || this.hasRoom()) bits |= POLLOUT;
    }
    return bits;
  }

  hasRoom(): boolean {
    if (this.handle === undefined) return false;
    const { exports, memory } = this.#machine;
    const at = exports.tcpSendReserve(this.handle, 1);
    return at !== 0 && !(at < 0 && at > -4096) && memory.loadU32(RESULT_BASE) > 0;
  }
}

export class UdpSocket {
  readonly kind = "udp";
  fileFlags = O_RDWR;
  handle: number | undefined;
  remote: Endpoint | undefined;
  boundPort = 0;
  pendingError: Errno | undefined;
  readonly remembered = new Map<string, number | string>();
  edges = 0;
  readonly #machine: Machine;

  constructor(machine: Machine) {
    this.#machine = machine;
  }

  onEvent({ status }: MachineEvent): void {
    if (status < 0) this.pendingError = errnoOf(status);
    this.edges++;
  }

  takeError(): Errno | undefined {
    const error = this.pendingError;
    this.pendingError = undefined;
    return error;
  }

  /** @param port 0: any. @returns 0 or an error. */
  bind(port: number): Result {
    if (this.handle !== undefined) return "EINVAL";
    const handle = this.#machine.exports.udpBind(-1, port);
    if (handle < 0) return errnoOf(handle);
    this.handle = handle;
    this.boundPort = this.#machine.exports.udpLocalPort(handle);
    return 0;
  }

  send(bytes: number, to: Endpoint | undefined): Result {
    const error = this.takeError();
    if (error !== undefined) return error;
    const target = to ?? this.remote;
    if (!target) return "EDESTADDRREQ";
    if (this.handle === undefined) {
      const bound = this.bind(0);
      if (bound !== 0) return bound;
    }
    const { exports, memory, area } = this.#machine;
    if (bytes > 65507) return "EMSGSIZE";
    memory.bytes.set(streamBytes(0, bytes), area);
    memory.bytes.set(target.address, SCRATCH_BASE);
    const sent = exports.udpSendTo(this.handle as number, area, bytes, SCRATCH_BASE, target.port);
    return sent < 0 ? errnoOf(sent) : sent;
  }

  receive(bytes: number, isPeek: boolean): Result | undefined {
    const error = this.takeError();
    if (error !== undefined) return error;
    if (this.handle === undefined) return undefined;
    const { exports, memory } = this.#machine;
    const at = exports.udpRecvPeek(this.handle);
    if (at <= 0 && at > -4096) return at === 0 ? undefined : errnoOf(at);
    const length = memory.loadU32(RESULT_BASE);
    const taken = Math.min(length, bytes);
    const wrong = findWrongByte(0, memory.bytes.subarray(at >>> 0, (at >>> 0) + taken));
    if (wrong >= 0) throw new ContentError(`byte ${wrong} of the received datagram is not what the peer has sent`);
    if (!isPeek) exports.udpRecvConsume(this.handle);
    return taken;
  }

  readiness(): number {
    const hasDatagram = this.handle !== undefined && this.#machine.exports.udpRecvPeek(this.handle) !== 0;
    return POLLOUT | (hasDatagram ? POLLIN : 0) | (this.pendingError !== undefined ? POLLERR : 0);
  }
}

/** What an epoll instance watches. */
export type Watch = {
  readonly fd: number;
  events: number;
  /** As the script gave it: fd, ptr, u32 or u64. */
  data: number;
  /** Edges seen at the last report: with EPOLLET nothing is told twice. */
  seenEdges: number;
  seenBits: number;
  isDisarmed: boolean;
};

export class Epoll {
  readonly kind = "epoll";
  fileFlags = O_RDWR;
  readonly watches = new Map<number, Watch>();
}

export type Descriptor = TcpSocket | UdpSocket | Epoll;
