/**
 * node:dgram's Socket over a UDP socket of the stack: its states, events and errors are Node's. Datagrams are taken out
 * of the kernels' bounded queues when they come and told at once, as libuv does; there is no other queue.
 */
import dns from "node:dns";
import type { RemoteInfo } from "node:dgram";
import { EventEmitter } from "node:events";
import { type AddressInfo, isIP } from "node:net";
import { onAbort } from "../abort.ts";
import { NetPopcornError } from "../errors.ts";
import { formatAddress, parseAddress } from "../ip/address.ts";
import { EADDRINUSE, EADDRNOTAVAIL, EBADF, EINVAL, EISCONN, ENODEV, EOPNOTSUPP, OK } from "../layout/status.ts";
import { addressError, asNodeError, errnoError, unsupported } from "../net/errors.ts";
import { announceOpening, type NetStack, socketsOf } from "../net/stackOf.ts";
import type { Sockets } from "../socket/sockets.ts";
import {
  DATAGRAM_BYTES_MAX,
  type Datagram,
  UDP_RECV_BUFFER_BYTES,
  UDP_RECV_BUFFER_BYTES_DEFAULT,
  type UdpSocket,
} from "../socket/udp.ts";
import * as A from "./arguments.ts";

const LOOPBACK = { udp4: "127.0.0.1", udp6: "::1" } as const;
const ANY = { udp4: "0.0.0.0", udp6: "::" } as const;
const FAMILY = { udp4: 4, udp6: 6 } as const;
const MAPPED = "::ffff:";
const ZONE = /%.*$/;
/** Of an option of a socket: a C int. */
const INT_MAX = 0x7fffffff;

/** Whom a socket is about to turn to; the host is a name or an address. */
type Peer = { readonly host: string; readonly port: number };

export class StackDgramSocket extends EventEmitter {
  readonly type: A.SocketType;
  readonly #options: A.SocketOptions;
  readonly #stackOf: () => NetStack;
  #forgetSignal = () => {};
  /** While binding: what is to be done afterwards. */
  #waiting: (() => void)[] | undefined;
  /** Those to be joined then. */
  readonly #groupsWaiting = new Set<string>();
  #sockets: Sockets | undefined;
  #udp: UdpSocket | undefined;
  #peer: AddressInfo | undefined;
  /** What the socket's port has been chosen for: the step that waits must go there, whatever a second look-up said. */
  #resolved: { readonly name: string; readonly address: string } | undefined;
  #recvBufferBytes = UDP_RECV_BUFFER_BYTES_DEFAULT;
  #sendBufferBytes = DATAGRAM_BYTES_MAX;
  #isConnecting = false;
  #isClosed = false;
  #isReferenced = true;
  #closesWhenBound = false;

  /** @throws TypeError ERR_SOCKET_BAD_TYPE, ERR_INVALID_ARG_TYPE, RangeError ERR_OUT_OF_RANGE. */
  constructor(
    given: unknown,
    listener: ((message: Buffer<ArrayBuffer>, sender: RemoteInfo) => void) | undefined,
    stackOf: () => NetStack,
  ) {
    super();
    this.#options = A.normalizeOptions(given);
    this.type = this.#options.type;
    this.#stackOf = stackOf;
    if (typeof listener === "function") this.on("message", listener);
    this.#forgetSignal = onAbort(this.#options.signal, () => this.#closeQuietly());
  }

  /** (port, address, callback), ({ port, address }, callback); all may be missing. Event "listening" follows. */
  bind(...args: unknown[]): this {
    this.#checkRunning();
    if (this.#udp || this.#waiting) throw A.alreadyBound();
    const [first] = args;
    if (typeof first === "object" && first !== null && "fd" in first) throw unsupported("bind to a descriptor");
    const { port, address = ANY[this.type], listener } = A.normalizeBind(args);
    if (listener) this.#onceListening(listener);
    announceOpening(this);
    this.#startBind(address, port);
    return this;
  }

  #startBind(address: string, port: number, peer?: Peer): void {
    this.#waiting = [];
    this.#lookup(address, (error, found) => {
      const bind = (asked?: Peer) => void this.#bind(found, port, asked).then((after) => process.nextTick(after));
      if (error) this.#bindFailed(error);
      else if (!peer || isIP(peer.host) || this.#hearsAll()) bind(peer);
      else {
        this.#lookup(peer.host, (unknown, host) => {
          if (!unknown) this.#resolved = { name: peer.host, address: host };
          bind(unknown ? undefined : { ...peer, host });
        });
      }
    });
  }

  /** (port, address, callback): datagrams go there and come from there only. Event "connect" follows. */
  connect(given: unknown, ...more: unknown[]): void {
    const port = A.checkPort(given, 1);
    const last = more.at(-1);
    const callback = typeof last === "function" ? (last as A.SendCallback) : undefined;
    const address = typeof more[0] === "string" && more[0] !== "" ? more[0] : LOOPBACK[this.type];
    this.#checkRunning();
    if (this.#peer || this.#isConnecting) throw A.alreadyConnected();
    this.#isConnecting = true;
    this.#whenBound(() => this.#connect(port, address, callback), { port, host: address });
  }

  /** @throws Error ERR_SOCKET_DGRAM_NOT_CONNECTED. */
  disconnect(): void {
    if (!this.#peer) throw A.notConnected();
    this.#peer = undefined;
  }

  /** (message[, offset, length][, port][, address][, callback]), the message also as a list of pieces. */
  send(...args: unknown[]): void {
    const { bytes, port, address, callback } = A.normalizeSend(args, this.#peer !== undefined);
    this.#checkRunning();
    // Node, too, sends what is there at the time, but for a socket that must first be bound.
    const peer = this.#peer;
    if (peer && port === undefined) this.#send(bytes, peer.port, peer.address, callback);
    else {
      const to = { port: port as number, host: address ?? LOOPBACK[this.type] };
      this.#whenBound(() => this.#resolveAndSend(bytes, to.port, to.host, callback), to);
    }
  }

  /** (message, offset, length, port, address[, callback]): send() with all of its arguments. */
  sendto(
    message: unknown,
    offset: unknown,
    length: unknown,
    port: unknown,
    address: unknown,
    callback?: unknown,
  ): void {
    A.checkNumber("offset", offset);
    A.checkNumber("length", length);
    A.checkNumber("port", port);
    A.checkString("address", address);
    this.send(message, offset, length, port, address, callback);
  }

  /** Event "close" follows. @throws Error ERR_SOCKET_DGRAM_NOT_RUNNING. */
  close(callback?: () => void): this {
    this.#checkRunning();
    if (typeof callback === "function") this.once("close", callback);
    if (this.#waiting && this.#waiting.length > 0) {
      this.#closesWhenBound = true;
      return this;
    }
    this.#isClosed = true;
    this.#forgetSignal();
    // The socket takes back one reference.
    if (!this.#isReferenced) this.#sockets?.ref();
    void this.#udp?.close();
    process.nextTick(() => this.emit("close"));
    return this;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#isClosed) return;
    await new Promise<void>((resolve) => this.close(() => resolve()));
  }

  /** @throws Error EBADF: not bound. */
  address(): AddressInfo {
    const { address, port } = this.#bound("getsockname");
    return this.#endpoint(this.#localAddress(address), port);
  }

  /** @throws Error ERR_SOCKET_DGRAM_NOT_CONNECTED. */
  remoteAddress(): AddressInfo {
    this.#checkRunning();
    if (!this.#peer) throw A.notConnected();
    return { ...this.#peer };
  }

  /** @param networkInterface an address of the stack; it has one interface, so that nothing hangs on which. */
  addMembership(multicastAddress: string, networkInterface?: string): void {
    this.#membership("addMembership", multicastAddress, networkInterface);
  }

  dropMembership(multicastAddress: string, networkInterface?: string): void {
    this.#membership("dropMembership", multicastAddress, networkInterface);
  }

  /** The stack does not filter by source. @throws Error EOPNOTSUPP; Node's, for wrong arguments. */
  addSourceSpecificMembership(sourceAddress: string, groupAddress: string, _networkInterface?: string): void {
    this.#sourceMembership("addSourceSpecificMembership", sourceAddress, groupAddress);
  }

  dropSourceSpecificMembership(sourceAddress: string, groupAddress: string, _networkInterface?: string): void {
    this.#sourceMembership("dropSourceSpecificMembership", sourceAddress, groupAddress);
  }

  setMulticastInterface(networkInterface: string): void {
    this.#checkRunning();
    A.checkString("interfaceAddress", networkInterface);
    this.#bound("setMulticastInterface");
    this.#checkInterface(networkInterface, "setMulticastInterface", EADDRNOTAVAIL);
  }

  /** Takes effect at once: a stack sends broadcasts of every socket. */
  setBroadcast(_on: boolean): void {
    this.#bound("setBroadcast");
  }

  setTTL(ttl: number): number {
    return this.#set("setTTL", A.checkNumber("ttl", ttl));
  }

  setMulticastTTL(ttl: number): number {
    return this.#set("setMulticastTTL", A.checkNumber("ttl", ttl));
  }

  setMulticastLoopback(on: boolean): boolean {
    this.#bound("setMulticastLoopback").setMulticastLoopback(Boolean(on));
    return on;
  }

  getRecvBufferSize(): number {
    this.#boundForSize("uv_recv_buffer_size");
    return this.#recvBufferBytes;
  }

  /** Within what a socket of the stack may have: 2 KiB to 16 MiB. */
  setRecvBufferSize(bytes: number): void {
    const udp = this.#boundForSize("uv_recv_buffer_size", A.checkBufferSize(bytes));
    const [min, max] = UDP_RECV_BUFFER_BYTES;
    this.#recvBufferBytes = Math.min(Math.max(bytes, min), max);
    udp.setRecvBufferSize(this.#recvBufferBytes);
  }

  getSendBufferSize(): number {
    this.#boundForSize("uv_send_buffer_size");
    return this.#sendBufferBytes;
  }

  /** Told by getSendBufferSize(), without another effect: the kernel takes a datagram at once or refuses it. */
  setSendBufferSize(bytes: number): void {
    this.#boundForSize("uv_send_buffer_size", A.checkBufferSize(bytes));
    this.#sendBufferBytes = bytes;
  }

  /** Nothing waits to be sent: the kernel takes a datagram or refuses it. */
  getSendQueueSize(): number {
    return 0;
  }

  getSendQueueCount(): number {
    return 0;
  }

  ref(): this {
    this.#setReferenced(true);
    return this;
  }

  unref(): this {
    this.#setReferenced(false);
    return this;
  }

  /** Whatever the port, no answer is missed. */
  #hearsAll(): boolean {
    try {
      return socketsOf(this.#stackOf()).areAll;
    } catch {
      // There is no stack: the binding will tell.
      return true;
    }
  }

  /** @returns what is to be done with the outcome, outside of any promise: listeners may throw. */
  async #bind(address: string, port: number, peer?: Peer): Promise<() => void> {
    const shape = (status: number) => addressError(status, "bind", address, port);
    try {
      const sockets = socketsOf(this.#stackOf());
      const family = FAMILY[this.type];
      if (isIP(address) !== family) throw shape(EINVAL);
      if (sockets.families !== 0 && sockets.families !== family) throw shape(EADDRNOTAVAIL);
      const toward = peer && isIP(peer.host) === family && { peer: { address: peer.host, port: peer.port } };
      const where = { address, port, ipv6Only: this.#options.ipv6Only ?? false, ...toward };
      const udp = await sockets.bindDatagrams(where, (status) => this.#onEvent(status));
      return () => this.#isBound(sockets, udp);
    } catch (cause) {
      return () => this.#bindFailed(asNodeError(cause, shape));
    }
  }

  #isBound(sockets: Sockets, udp: UdpSocket): void {
    if (this.#isClosed) {
      void udp.close();
      return;
    }
    this.#sockets = sockets;
    this.#udp = udp;
    if (!this.#isReferenced) sockets.unref();
    const { recvBufferSize, sendBufferSize } = this.#options;
    const waiting = this.#waiting ?? [];
    this.#waiting = undefined;
    this.#groupsWaiting.clear();
    try {
      if (recvBufferSize) this.setRecvBufferSize(recvBufferSize);
      if (sendBufferSize) this.setSendBufferSize(sendBufferSize);
      this.emit("listening");
    } finally {
      for (const step of waiting) this.#attempt(step);
      if (this.#closesWhenBound) this.#closeQuietly();
      // What came before anybody could hear of it.
      this.#drain();
    }
  }

  /** A step that fails takes no other one along. */
  #attempt(step: () => void): void {
    if (this.#isClosed) return;
    try {
      step();
    } catch (error) {
      process.nextTick(() => this.emit("error", error));
    }
  }

  #bindFailed(error: Error): void {
    this.#waiting = undefined;
    this.#groupsWaiting.clear();
    this.#isConnecting = false;
    if (this.#closesWhenBound) this.#closeQuietly();
    else if (this.#isClosed) return;
    this.emit("error", error);
  }

  #connect(port: number, host: string, callback: A.SendCallback | undefined): void {
    if (callback) this.once("connect", callback as () => void);
    this.#lookup(host, (error, found) => {
      this.#isConnecting = false;
      if (this.#isClosed) return;
      let failure = error;
      if (!failure && isIP(found) !== FAMILY[this.type]) failure = addressError(EINVAL, "connect", found, port);
      if (!failure) {
        this.#peer = this.#endpoint(this.#name(formatAddress(parseAddress(found))), port);
        process.nextTick(() => this.emit("connect"));
        return;
      }
      if (!callback) {
        process.nextTick(() => this.emit("error", failure));
        return;
      }
      this.off("connect", callback as () => void);
      process.nextTick(callback, failure);
    });
  }

  #resolveAndSend(bytes: Uint8Array, port: number, host: string, callback: A.SendCallback | undefined): void {
    this.#lookup(host, (error, found) => {
      if (!error) {
        if (this.#isClosed) return;
        if (!this.#peer) this.#send(bytes, port, found, callback);
        // Connected since it was asked for.
        else if (callback) process.nextTick(callback, addressError(EISCONN, "send", found, port));
      } else if (callback) process.nextTick(callback, error);
      else process.nextTick(() => this.emit("error", error));
    });
  }

  #send(bytes: Uint8Array, port: number, address: string, callback: A.SendCallback | undefined): void {
    let error: Error | undefined;
    if (this.#options.sendBlockList?.check(address, isIP(address) === 6 ? "ipv6" : "ipv4")) error = A.blocked(address);
    else if (isIP(address) !== FAMILY[this.type]) error = addressError(EINVAL, "send", address, port);
    else {
      try {
        this.#udp?.send(bytes, { address, port });
      } catch (cause) {
        error = asNodeError(cause, (status) =>
          this.#peer ? errnoError(status, "send") : addressError(status, "send", address, port),
        );
      }
    }
    if (!callback) return;
    if (error) process.nextTick(callback, error);
    else process.nextTick(callback, null, bytes.length);
  }

  #onEvent(status: number): void {
    try {
      // As on Linux: only a connected socket is told what ICMP says.
      if (status < OK && this.#peer && !this.#isClosed) this.emit("error", errnoError(status, "recvmsg"));
    } finally {
      this.#drain();
    }
  }

  /** Tells of all datagrams that wait; of those after one whose listener throws, in a later turn of the event loop. */
  #drain(): void {
    let isDone = false;
    try {
      for (;;) {
        const datagram = this.#isClosed ? undefined : this.#udp?.take();
        if (!datagram) break;
        this.#deliver(datagram);
      }
      isDone = true;
    } finally {
      if (!isDone) setImmediate(() => this.#drainLater());
    }
  }

  #drainLater(): void {
    if (!this.#isClosed) this.#sockets?.callApplication(() => this.#drain());
  }

  #deliver({ data, address: from, port }: Datagram): void {
    const address = this.#name(from);
    const peer = this.#peer;
    if (peer && (peer.port !== port || peer.address !== address)) return;
    if (this.#options.receiveBlockList?.check(from, isIP(from) === 6 ? "ipv6" : "ipv4")) return;
    const message = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
    this.emit("message", message, { ...this.#endpoint(address, port), size: message.length });
  }

  #membership(verb: "addMembership" | "dropMembership", group: unknown, networkInterface: unknown): void {
    this.#checkRunning();
    const address = A.checkMulticastAddress(group).replace(ZONE, "");
    if (!isIP(address)) throw errnoError(EINVAL, verb);
    const joins = verb === "addMembership";
    const bytes = parseAddress(address);
    if (!A.isGroup(bytes)) throw errnoError(joins ? EINVAL : EADDRNOTAVAIL, verb);
    if (networkInterface !== undefined) {
      this.#checkInterface(String(networkInterface), verb, joins ? ENODEV : EADDRNOTAVAIL);
    }
    if (!this.#udp) this.#checkGroupWaiting(formatAddress(bytes), verb);
    // Node binds a socket that is not, too; here the group is joined when that is done.
    this.#whenBound(() => this.#callKernel(verb, (udp) => udp[verb](address)));
  }

  /** As the kernel answers for a bound socket. @throws Error EADDRINUSE: in it already, EADDRNOTAVAIL: not in it. */
  #checkGroupWaiting(group: string, verb: "addMembership" | "dropMembership"): void {
    const groups = this.#groupsWaiting;
    const joins = verb === "addMembership";
    if (groups.has(group) === joins) throw errnoError(joins ? EADDRINUSE : EADDRNOTAVAIL, verb);
    if (joins) groups.add(group);
    else groups.delete(group);
  }

  /** @param unknown the errno for an address that is none of the stack's. @throws Error with it; EINVAL: no address. */
  #checkInterface(networkInterface: string, verb: string, unknown: number): void {
    const address = networkInterface.replace(ZONE, "");
    if (!isIP(address)) throw errnoError(EINVAL, verb);
    const sockets = this.#sockets ?? socketsOf(this.#stackOf());
    if (!sockets.hasAddress(address)) throw errnoError(unknown, verb);
  }

  #sourceMembership(verb: string, source: string, group: string): void {
    this.#checkRunning();
    A.checkString("sourceAddress", source);
    A.checkString("groupAddress", group);
    throw errnoError(isIP(source) && isIP(group) ? EOPNOTSUPP : EINVAL, verb);
  }

  #set(verb: "setTTL" | "setMulticastTTL", value: number): number {
    this.#bound(verb);
    this.#callKernel(verb, (udp) => udp[verb](value));
    return value;
  }

  #callKernel(verb: string, call: (udp: UdpSocket) => void): void {
    try {
      call(this.#bound(verb));
    } catch (cause) {
      if (cause instanceof NetPopcornError) throw errnoError(cause.errno ?? EINVAL, verb);
      throw cause;
    }
  }

  /** @throws Error EBADF: not bound yet; ERR_SOCKET_DGRAM_NOT_RUNNING. */
  #bound(verb: string): UdpSocket {
    this.#checkRunning();
    if (!this.#udp) throw errnoError(EBADF, verb);
    return this.#udp;
  }

  /** @throws Error ERR_SOCKET_BUFFER_SIZE: not bound, or more than an int can say; ERR_SOCKET_DGRAM_NOT_RUNNING. */
  #boundForSize(syscall: string, bytes = 0): UdpSocket {
    this.#checkRunning();
    if (!this.#udp) throw A.bufferSizeError(syscall, EBADF);
    if (bytes > INT_MAX) throw A.bufferSizeError(syscall, EINVAL);
    return this.#udp;
  }

  /** @param peer whom the step turns to: a socket that is bound for it gets a port for that peer's answers. */
  #whenBound(step: () => void, peer?: Peer): void {
    if (this.#udp) {
      step();
      return;
    }
    if (!this.#waiting) this.#startBind(ANY[this.type], 0, peer);
    this.#waiting?.push(step);
  }

  #onceListening(listener: A.Callback): void {
    const forget = () => {
      this.off("error", forget);
      this.off("listening", onListening);
    };
    const onListening = () => {
      forget();
      (listener as () => void).call(this);
    };
    this.on("error", forget);
    this.on("listening", onListening);
  }

  /** By the user's `lookup`, or the host's; both see addresses, too, as with Node. */
  #lookup(host: string, done: (error: Error | null, address: string) => void): void {
    const resolved = this.#resolved;
    this.#resolved = undefined;
    if (resolved?.name === host) {
      process.nextTick(done, null, resolved.address);
      return;
    }
    const lookup = this.#options.lookup ?? (dns.lookup as A.Lookup);
    // The stack has one interface: a zone says nothing.
    const name = host.includes(":") ? host.replace(ZONE, "") : host;
    lookup(name, FAMILY[this.type], done);
  }

  #endpoint(address: string, port: number): AddressInfo {
    return { address, family: this.type === "udp4" ? "IPv4" : "IPv6", port };
  }

  /** An address of a datagram as a socket of this type tells it, and as connect() keeps it. */
  #name(address: string): string {
    if (this.type === "udp4" || address.includes(":")) return address;
    return MAPPED + address;
  }

  /** A connected socket has the address that its datagrams leave with. */
  #localAddress(bound: string): string {
    const peer = this.#peer;
    if (!peer || bound !== ANY[this.type]) return bound;
    const own = this.#sockets?.sourceAddressFor(parseAddress(peer.address));
    return own ? this.#name(formatAddress(own)) : bound;
  }

  #setReferenced(isReferenced: boolean): void {
    if (isReferenced === this.#isReferenced) return;
    this.#isReferenced = isReferenced;
    if (!this.#udp || this.#isClosed) return;
    if (isReferenced) this.#sockets?.ref();
    else this.#sockets?.unref();
  }

  #checkRunning(): void {
    if (this.#isClosed) throw A.notRunning();
  }

  #closeQuietly(): void {
    if (!this.#isClosed) this.close();
  }
}
