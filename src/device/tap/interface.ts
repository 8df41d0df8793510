/**
 * A network interface of Linux, looked at and set up by ioctl: no external program, nothing to install.
 * Requests and structures: netdevice(7), <linux/if_tun.h>.
 */
import { NetPopcornError } from "../../errors.ts";
import type { Syscalls } from "./syscalls.ts";
import { EACCES, EPERM } from "./syscalls.ts";

const SIOCGIFFLAGS = 0x8913;
const SIOCSIFFLAGS = 0x8914;
const SIOCSIFADDR = 0x8916;
const SIOCSIFNETMASK = 0x891c;
const SIOCGIFMTU = 0x8921;
const SIOCSIFMTU = 0x8922;
const SIOCGIFINDEX = 0x8933;
const SIOCGIFTXQLEN = 0x8942;
const SIOCSIFTXQLEN = 0x8943;
const IFF_UP = 1;
const AF_INET = 2;
const AF_INET6 = 10;

/** `struct ifreq`: a 16-byte name and a union of 24. */
const IFREQ_SIZE_BYTES = 40;
export const IFREQ_VALUE = 16;
/** Longest interface name: IFNAMSIZ without the terminating zero. */
export const INTERFACE_NAME_BYTES_MAX = 15;
/** `struct in6_ifreq`: address, u32 prefix length, i32 interface index. */
const IN6_IFREQ_SIZE_BYTES = 24;
/** What a queue must hold when a kernel pauses for a moment. Linux gives a TAP 500. */
const QUEUE_FRAMES_MIN = 1000;

export type HostAddress = {
  /** 16 bytes, IPv4 as ::ffff:a.b.c.d. */
  readonly address: Uint8Array;
  readonly prefixLength: number;
  readonly family: 4 | 6;
};

/** An ifreq with the interface's name. */
export function interfaceRequest(name: string): DataView {
  const request = new Uint8Array(new ArrayBuffer(IFREQ_SIZE_BYTES));
  request.set(new TextEncoder().encode(name));
  return new DataView(request.buffer);
}

export function requestBytes(request: DataView): Uint8Array {
  return new Uint8Array(request.buffer);
}

export class NetworkInterface {
  readonly name: string;
  readonly #syscalls: Syscalls;
  readonly #socket: number;

  constructor(syscalls: Syscalls, name: string) {
    this.#syscalls = syscalls;
    this.name = name;
    this.#socket = syscalls.socket(AF_INET);
    if (this.#socket < 0) this.#fail("open a socket for", this.#socket);
  }

  /** Interface index, 0 when there is no such interface. */
  index(): number {
    const request = interfaceRequest(this.name);
    return this.#syscalls.ioctl(this.#socket, SIOCGIFINDEX, requestBytes(request)) < 0
      ? 0
      : request.getInt32(IFREQ_VALUE, true);
  }

  mtuBytes(): number {
    return this.#get(SIOCGIFMTU, "read the MTU of").getInt32(IFREQ_VALUE, true);
  }

  setMtu(mtuBytes: number): void {
    const request = interfaceRequest(this.name);
    request.setInt32(IFREQ_VALUE, mtuBytes, true);
    this.#set(SIOCSIFMTU, request, `set the MTU ${mtuBytes} on`);
  }

  /** Makes the host's queue towards us long enough for a pause. */
  raiseQueueLength(): void {
    if (this.#get(SIOCGIFTXQLEN, "read the queue length of").getInt32(IFREQ_VALUE, true) >= QUEUE_FRAMES_MIN) return;
    const request = interfaceRequest(this.name);
    request.setInt32(IFREQ_VALUE, QUEUE_FRAMES_MIN, true);
    this.#set(SIOCSIFTXQLEN, request, "set the queue length of");
  }

  bringUp(): void {
    const request = this.#get(SIOCGIFFLAGS, "read the flags of");
    const flags = request.getUint16(IFREQ_VALUE, true);
    if ((flags & IFF_UP) !== 0) return;
    request.setUint16(IFREQ_VALUE, flags | IFF_UP, true);
    this.#set(SIOCSIFFLAGS, request, "bring up");
  }

  /** Gives the host's side of the interface an address, and with it a route to the network. */
  setAddress(host: HostAddress): void {
    if (host.family === 6) this.#setAddress6(host);
    else this.#setAddress4(host);
  }

  close(): void {
    this.#syscalls.close(this.#socket);
  }

  #setAddress4({ address, prefixLength }: HostAddress): void {
    const mask = prefixLength === 0 ? 0 : (-1 << (32 - prefixLength)) >>> 0;
    for (const step of [SIOCSIFADDR, SIOCSIFNETMASK]) {
      // sockaddr_in: u16 family, u16 port, 4 bytes address.
      const request = interfaceRequest(this.name);
      request.setUint16(IFREQ_VALUE, AF_INET, true);
      if (step === SIOCSIFADDR) requestBytes(request).set(address.subarray(12, 16), IFREQ_VALUE + 4);
      else request.setUint32(IFREQ_VALUE + 4, mask, false);
      this.#set(step, request, "set the address of");
    }
  }

  #setAddress6({ address, prefixLength }: HostAddress): void {
    const request = new DataView(new ArrayBuffer(IN6_IFREQ_SIZE_BYTES));
    requestBytes(request).set(address);
    request.setUint32(16, prefixLength, true);
    request.setInt32(20, this.index(), true);
    const socket = this.#syscalls.socket(AF_INET6);
    if (socket < 0) this.#fail("set an IPv6 address on", socket);
    const status = this.#syscalls.ioctl(socket, SIOCSIFADDR, requestBytes(request));
    this.#syscalls.close(socket);
    if (status < 0) this.#fail("set an IPv6 address on", status);
  }

  #get(ioctl: number, what: string): DataView {
    const request = interfaceRequest(this.name);
    this.#set(ioctl, request, what);
    return request;
  }

  #set(ioctl: number, request: DataView, what: string): void {
    const status = this.#syscalls.ioctl(this.#socket, ioctl, requestBytes(request));
    if (status < 0) this.#fail(what, status);
  }

  #fail(what: string, status: number): never {
    throw hostError(`${what} ${this.name}`, status);
  }
}

/** The error for a request that the host refused. */
export function hostError(what: string, status: number): NetPopcornError {
  if (status === -EPERM || status === -EACCES) {
    return new NetPopcornError(
      "EPERM",
      `not permitted to ${what}: run as root or with CAP_NET_ADMIN, or let root prepare the device once: ` +
        "ip tuntap add dev NAME mode tap multi_queue user USER && ip link set NAME up",
      { errno: status },
    );
  }
  return new NetPopcornError("ERR_TAP", `cannot ${what}: errno ${-status}, see errno(3)`, { errno: status });
}
