/** A UDP socket at the Web level. Datagrams wait in the kernels' bounded queues until somebody asks. */
import { checkKind } from "../checks.ts";
import { NetPopcornError, statusError } from "../errors.ts";
import { formatAddress, parseAddress } from "../ip/address.ts";
import { checkInteger } from "../optionRange.ts";
import type { EventSink, KernelHost } from "../kernel/host.ts";
import { EVENT_DATAGRAM } from "../layout/event.ts";
import { RESULT_BASE } from "../layout/kernelMemory.ts";
import {
  OPTION_HOP_LIMIT,
  OPTION_MULTICAST_HOP_LIMIT,
  OPTION_MULTICAST_LOOP,
  OPTION_RCV_BUFFER_BYTES,
  OPTION_TOS,
} from "../layout/option.ts";
import { EBADF, ENOBUFS, EMSGSIZE, OK } from "../layout/status.ts";

/** Largest UDP payload over IPv4. */
export const DATAGRAM_BYTES_MAX = 65507;
/** What setRecvBufferSize takes, and what a socket has at first. */
export const UDP_RECV_BUFFER_BYTES = [2048, 16 << 20] as const;
export const UDP_RECV_BUFFER_BYTES_DEFAULT = 262144;

/** A datagram as it came. */
export type Datagram = {
  /** Its payload, a copy. */
  readonly data: Uint8Array<ArrayBuffer>;
  /** IP address and port of the sender. */
  readonly address: string;
  readonly port: number;
  /** The address that it was sent to: one of ours, a broadcast, or a group (RFC 1122 4.1.4). */
  readonly localAddress: string;
  /** TOS of IPv4, traffic class of IPv6, with their bits of ECN; TTL or hop limit, as it came. */
  readonly tos: number;
  readonly ttl: number;
  /** The kernel that received it. */
  readonly kernelId: number;
};

export type UdpSocketOptions = {
  readonly address: string;
  readonly port: number;
  readonly onClose: (socket: UdpSocket) => void;
  /** @internal Told when datagrams wait (OK) and of ICMP errors, in place of receive(); take() gives the datagrams. */
  readonly onEvent?: ((status: number) => void) | undefined;
};

/** A UDP socket in all kernels of its group. From Stack.bindUdp(). */
export class UdpSocket implements AsyncIterable<Datagram> {
  /** As bound: one of ours, "0.0.0.0" or "::". */
  readonly address: string;
  /** 1..65535, also where 0 was asked for. */
  readonly port: number;
  readonly #onClose: (socket: UdpSocket) => void;
  readonly #onDatagram: ((status: number) => void) | undefined;
  readonly #replicas: UdpReplica[] = [];
  readonly #waiters: { resolve: (datagram: Datagram | undefined) => void; reject: (error: unknown) => void }[] = [];
  /** What replicas that come later are given, too. */
  readonly #options = new Map<number, number>();
  readonly #groups = new Set<string>();
  #error: NetPopcornError | undefined;
  #next = 0;
  #closed = false;

  constructor(options: UdpSocketOptions) {
    this.address = options.address;
    this.port = options.port;
    this.#onClose = options.onClose;
    this.#onDatagram = options.onEvent;
  }

  /** @internal */
  addReplica(host: KernelHost, handle: number): void {
    const replica = new UdpReplica(host, handle, (status) => this.#onEvent(status));
    this.#replicas.push(replica);
    host.addSink(replica);
    for (const [option, value] of this.#options) replica.setOption(option, value);
    for (const group of this.#groups) {
      const status = replica.join(parseAddress(group));
      if (status < 0) throw statusError(status, `join ${group} in kernel ${host.kernelId}`);
    }
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
    host.handles.udpClose(replica.handle);
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
    checkKind("what send() is given to send", "bytes", data);
    checkKind("the second argument of send(), { address, port },", "object", to);
    const what = `send to ${to.address}:${to.port}`;
    if (data.length > DATAGRAM_BYTES_MAX) throw statusError(EMSGSIZE, what);
    checkInteger("port", to.port, 1, 65535);
    const status = replica.send(data, parseAddress(to.address), to.port);
    if (status < 0) throw statusError(status, what);
  }

  /**
   * Takes datagrams sent to the group from now on, and has routers told of it (docs/ip.md). The card brings them to the
   * kernel that owns the device: an application of several kernels joins in all of them.
   * @throws NetPopcornError EINVAL: it is no group, EADDRINUSE: joined before, ENOBUFS: too many, EBADF,
   *   ERR_ADDRESS_FORMAT.
   */
  addMembership(group: string): void {
    const address = parseAddress(group);
    const name = formatAddress(address);
    const joined: UdpReplica[] = [];
    for (const replica of this.#open(`join ${group}`)) {
      const status = replica.join(address);
      if (status < 0) {
        for (const other of joined) other.leave(address);
        throw statusError(status, `join ${group}`);
      }
      joined.push(replica);
    }
    this.#groups.add(name);
  }

  /** @throws NetPopcornError EADDRNOTAVAIL: not in the group, EBADF, ERR_ADDRESS_FORMAT. */
  dropMembership(group: string): void {
    const address = parseAddress(group);
    this.#groups.delete(formatAddress(address));
    this.#onEach(`leave ${group}`, (replica) => replica.leave(address));
  }

  /** How many routers a datagram to a group may pass, 0..255, at first 1. @throws NetPopcornError ERR_OPTION_RANGE. */
  setMulticastTTL(ttl: number): void {
    this.#setOption("setMulticastTTL", OPTION_MULTICAST_HOP_LIMIT, checkInteger("ttl", ttl, 0, 255));
  }

  /** Whether datagrams to a group come to this stack's own sockets in it, too; at first they do. */
  setMulticastLoopback(loops: boolean): void {
    this.#setOption("setMulticastLoopback", OPTION_MULTICAST_LOOP, loops ? 1 : 0);
  }

  /** TTL, or hop limit, of other datagrams, 1..255. @throws NetPopcornError ERR_OPTION_RANGE. */
  setTTL(ttl: number): void {
    this.#setOption("setTTL", OPTION_HOP_LIMIT, checkInteger("ttl", ttl, 1, 255));
  }

  /**
   * How many bytes of memory datagrams may take that nobody has received yet, in each kernel, at first 256 KiB; further
   * ones are dropped and counted. From 2 KiB to 16 MiB; a kernel keeps at most half of its pool for one socket, or 256
   * KiB where that is less (docs/dgram.md). @throws NetPopcornError ERR_OPTION_RANGE.
   */
  setRecvBufferSize(bytes: number): void {
    const [min, max] = UDP_RECV_BUFFER_BYTES;
    this.#setOption("setRecvBufferSize", OPTION_RCV_BUFFER_BYTES, checkInteger("bytes", bytes, min, max));
  }

  /** TOS, or traffic class, of datagrams, 0..255. @throws NetPopcornError ERR_OPTION_RANGE. */
  setTOS(tos: number): void {
    this.#setOption("setTOS", OPTION_TOS, checkInteger("tos", tos, 0, 255));
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
    const datagram = this.take();
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
      replica.host.handles.udpClose(replica.handle);
      replica.host.removeSink(replica);
    }
    for (const { resolve } of this.#waiters.splice(0)) resolve(undefined);
    this.#onClose(this);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #open(what: string): readonly UdpReplica[] {
    if (this.#closed) throw statusError(EBADF, what);
    return this.#replicas;
  }

  /** @throws NetPopcornError with the first refusal, when all have been asked. */
  #onEach(what: string, ask: (replica: UdpReplica) => number): void {
    let refusal = OK;
    for (const replica of this.#open(what)) refusal ||= Math.min(ask(replica), OK);
    if (refusal < 0) throw statusError(refusal, what);
  }

  #setOption(what: string, option: number, value: number): void {
    this.#onEach(what, (replica) => replica.setOption(option, value));
    this.#options.set(option, value);
  }

  #onEvent(status: number): void {
    if (this.#onDatagram) {
      this.#onDatagram(status);
      return;
    }
    if (status < 0) {
      const error = statusError(status, `UDP ${this.address}:${this.port}`);
      const waiter = this.#waiters.shift();
      if (waiter) waiter.reject(error);
      else this.#error = error;
    }
    while (this.#waiters.length > 0) {
      const datagram = this.take();
      if (!datagram) return;
      this.#waiters.shift()?.resolve(datagram);
    }
  }

  /** @internal The next datagram that waits in a kernel, in turn over the kernels. */
  take(): Datagram | undefined {
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
      localAddress: formatAddress(memory.bytes.subarray(RESULT_BASE + 24, RESULT_BASE + 40)),
      tos: memory.loadU32(RESULT_BASE + 40),
      ttl: memory.loadU32(RESULT_BASE + 44),
      kernelId: this.host.kernelId,
    };
    handles.udpConsume(this.handle);
    return datagram;
  }

  setOption(option: number, value: number): number {
    return this.host.handles.udpSetOption(this.handle, option, value);
  }

  join(group: Uint8Array): number {
    const status = this.host.handles.udpJoin(this.handle, group);
    this.host.requestTurn();
    return status;
  }

  leave(group: Uint8Array): number {
    const status = this.host.handles.udpLeave(this.handle, group);
    this.host.requestTurn();
    return status;
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
