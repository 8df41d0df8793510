/** A UDP socket at the Web level. Datagrams wait in the kernels' bounded queues until somebody asks. */
import { NetPopcornError, statusError } from "../errors.ts";
import { formatAddress, parseAddress } from "../ip/address.ts";
import { checkInteger } from "../kernel/config.ts";
import type { EventSink, KernelHost } from "../kernel/host.ts";
import { EVENT_DATAGRAM } from "../layout/event.ts";
import { RESULT_BASE } from "../layout/kernelMemory.ts";
import { ENOBUFS, EMSGSIZE } from "../layout/status.ts";

/** Largest UDP payload over IPv4. */
const DATAGRAM_BYTES_MAX = 65507;

export type Datagram = {
  readonly data: Uint8Array<ArrayBuffer>;
  readonly address: string;
  readonly port: number;
  /** The kernel that received it. */
  readonly kernelId: number;
};

export type UdpSocketOptions = {
  readonly address: string;
  readonly port: number;
  readonly onClose: (socket: UdpSocket) => void;
};

export class UdpSocket implements AsyncIterable<Datagram> {
  readonly address: string;
  readonly port: number;
  readonly #onClose: (socket: UdpSocket) => void;
  readonly #replicas: UdpReplica[] = [];
  readonly #waiters: { resolve: (datagram: Datagram | undefined) => void; reject: (error: unknown) => void }[] = [];
  #error: NetPopcornError | undefined;
  #next = 0;
  #closed = false;

  constructor(options: UdpSocketOptions) {
    this.address = options.address;
    this.port = options.port;
    this.#onClose = options.onClose;
  }

  /** @internal */
  addReplica(host: KernelHost, handle: number): void {
    const replica = new UdpReplica(host, handle, (status) => this.#onEvent(status));
    this.#replicas.push(replica);
    host.addSink(replica);
  }

  /** @internal */
  dropReplica(host: KernelHost): void {
    const index = this.#replicas.findIndex((replica) => replica.host === host);
    if (index >= 0) this.#replicas.splice(index, 1);
  }

  /** @internal Stops receiving in one kernel. */
  closeReplica(host: KernelHost): void {
    const replica = this.#replicas.find((other) => other.host === host);
    if (!replica) return;
    host.exports.udpClose(replica.handle);
    host.removeSink(replica);
    this.dropReplica(host);
  }

  /**
   * Sends one datagram; it may be lost, as any may.
   * @throws NetPopcornError EMSGSIZE, ENETUNREACH, ENOBUFS, EBADF, ERR_ADDRESS_FORMAT.
   */
  send(data: Uint8Array, to: { address: string; port: number }): void {
    const replica = this.#replicas[0];
    if (this.#closed || !replica) throw new NetPopcornError("EBADF", "send: the UDP socket is closed");
    const what = `send to ${to.address}:${to.port}`;
    if (data.length > DATAGRAM_BYTES_MAX) throw statusError(EMSGSIZE, what);
    checkInteger("port", to.port, 1, 65535);
    const status = replica.send(data, parseAddress(to.address), to.port);
    if (status < 0) throw statusError(status, what);
  }

  /**
   * The next datagram; undefined once the socket is closed.
   * Rejects once with each error that ICMP has reported (ECONNREFUSED, …); the socket goes on.
   */
  receive(): Promise<Datagram | undefined> {
    if (this.#error) {
      const error = this.#error;
      this.#error = undefined;
      return Promise.reject(error);
    }
    const datagram = this.#take();
    if (datagram || this.#closed) return Promise.resolve(datagram);
    return new Promise((resolve, reject) => {
      this.#waiters.push({ resolve, reject });
    });
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Datagram, void, void> {
    for (;;) {
      const datagram = await this.receive();
      if (!datagram) return;
      yield datagram;
    }
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    for (const replica of this.#replicas) {
      replica.host.exports.udpClose(replica.handle);
      replica.host.removeSink(replica);
    }
    for (const { resolve } of this.#waiters.splice(0)) resolve(undefined);
    this.#onClose(this);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #onEvent(status: number): void {
    if (status < 0) {
      const error = statusError(status, `UDP ${this.address}:${this.port}`);
      const waiter = this.#waiters.shift();
      if (waiter) waiter.reject(error);
      else this.#error = error;
    }
    while (this.#waiters.length > 0) {
      const datagram = this.#take();
      if (!datagram) return;
      this.#waiters.shift()?.resolve(datagram);
    }
  }

  #take(): Datagram | undefined {
    const count = this.#replicas.length;
    for (let i = 0; i < count && !this.#closed; i++) {
      const replica = this.#replicas[this.#next % count] as UdpReplica;
      this.#next = (this.#next + 1) % count;
      const datagram = replica.receive();
      if (datagram) return datagram;
    }
    return undefined;
  }
}

class UdpReplica implements EventSink {
  readonly host: KernelHost;
  readonly handle: number;
  readonly #notify: (status: number) => void;
  /** Where datagrams to send are laid; one per kernel, see sendBuffer. */
  readonly #buffer: number;

  constructor(host: KernelHost, handle: number, notify: (status: number) => void) {
    this.host = host;
    this.handle = handle;
    this.#notify = notify;
    this.#buffer = sendBuffer(host);
  }

  send(data: Uint8Array, address: Uint8Array, port: number): number {
    if (this.#buffer === 0) return ENOBUFS;
    this.host.memory.bytes.set(data, this.#buffer);
    const status = this.host.handles.udpSend(this.handle, this.#buffer, data.length, address, port);
    this.host.requestTurn();
    return status;
  }

  receive(): Datagram | undefined {
    const { handles, memory } = this.host;
    const at = handles.udpPeek(this.handle);
    // An empty datagram has an address too.
    if (at <= 0) return undefined;
    const datagram = {
      data: memory.bytes.slice(at, at + handles.available),
      address: formatAddress(memory.bytes.subarray(RESULT_BASE + 8, RESULT_BASE + 24)),
      port: memory.loadU32(RESULT_BASE + 4),
      kernelId: this.host.kernelId,
    };
    handles.udpConsume(this.handle);
    return datagram;
  }

  onEvent(mask: number, status: number): void {
    if (mask & EVENT_DATAGRAM) this.#notify(status);
  }
}

const sendBuffers = new WeakMap<KernelHost, number>();

/** The kernel's memory is never given back, so all UDP sockets of a kernel share one send buffer. 0: no memory. */
function sendBuffer(host: KernelHost): number {
  let buffer = sendBuffers.get(host);
  if (buffer === undefined) {
    buffer = host.handles.alloc(DATAGRAM_BYTES_MAX + 1);
    sendBuffers.set(host, buffer);
  }
  return buffer;
}
