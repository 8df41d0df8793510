import type { PortProtocol, PortRequest } from "../control/ports.ts";
import { formatAddress } from "../ip/address.ts";
import { ownAddress, speaks } from "../ip/ownAddresses.ts";
import { ADDRESS_ANY_V4, ADDRESS_ANY_V6 } from "../layout/config.ts";
import { RESULT_BASE, SCRATCH_BASE, SCRATCH_SIZE_BYTES } from "../layout/kernelMemory.ts";
import { INFO_SIZE_BYTES } from "../layout/option.ts";
import { TCPI_SIZE_BYTES } from "../layout/tcpInfo.ts";
import { EAGAIN, EBADF } from "../layout/status.ts";
import type { KernelMemory } from "../views/kernelMemory.ts";
import type { KernelExports } from "../wasm/exports.ts";

const RESULT_WORD = RESULT_BASE >> 2;
/** Calls with arguments in memory use the upper half of the scratch page; the lower half is the application's. */
const ADDRESS_AT = SCRATCH_BASE + SCRATCH_SIZE_BYTES / 2;
const INFO_AT = ADDRESS_AT + 64;
/**
 * No memory reaches to the last page below 4 GiB (memoryBytes), so that results from -4095 to -1 are never addresses.
 */
const STATUS_MAX = 4095;

/**
 * All events of one poll at once: `count` records of EVENT_SIZE_BYTES from `words[first]` on (layout/event.ts), valid
 * during the call only. Events of Web-level sockets are among them; a handler skips handles that it does not know.
 */
export type EventHandler = (words: Int32Array, first: number, count: number) => void;

/** Opens towards a peer from ports whose replies come to this kernel (activeOpener.ts). */
interface Opener {
  connect(remote: Uint8Array, remotePort: number, localPort: number, addressIndex: number): number;
  bindToward(remote: Uint8Array, remotePort: number, addressIndex: number): number;
  answered(): Promise<void> | undefined;
}

/** What the handle level needs of its kernel (host.ts). */
export interface HandlesHost {
  readonly kernelId: number;
  readonly memory: KernelMemory;
  readonly exports: KernelExports;
  readonly nowNs: number;
  /** It has ended: nobody gives it turns. */
  readonly isClosed: boolean;
  /** undefined: this kernel is alone and picks ports itself. */
  readonly opener: Opener | undefined;
  readonly control: { readonly ports: { hold(request: PortRequest): void; release(request: PortRequest): void } };
  requestTurn(): void;
  setEventHandler(handler: EventHandler | undefined): void;
}

/** How an application lets a connection go, and takes it up again in another kernel. */
export type HandOver = {
  /**
   * The connection is about to move: from now on the handle must not be used, and no event of it comes.
   * @returns what the application knows of it, given to arrive() there: structured-clonable where kernels are threads.
   *   undefined: it cannot go, and then nothing of its flow group does.
   */
  leave(handle: number, toKernel: number): unknown;
  /**
   * A connection is here, with what leave() has returned. What there is to read, or has happened, is told by events.
   * Called in the old kernel, with the old handle, when the move was refused after leave().
   */
  arrive(handle: number, state: unknown, kernelId: number): void;
};

/**
 * The handle level of one kernel: integers and views on its memory, no object per connection, no copy, no exception.
 *
 * - A handle is a non-negative integer; every call returns a count or handle (>= 0) or a negative errno
 *   (layout/status.ts; `statusError` makes an Error of it).
 * - Addresses are byte offsets in `bytes`. IP addresses are 16 bytes, IPv4 as ::ffff:a.b.c.d.
 * - Events come in batches to the handler given to `onEvents`, on the kernel's thread, inside its turn. What the
 *   handler sends leaves at the end of the same turn; after calls from elsewhere (a timer, a promise) call `flush()`.
 * - One listen, bind or connect here concerns this kernel alone; each kernel's application does its own.
 */
export class Handles {
  readonly kernelId: number;
  /** The kernel's whole memory, by byte and by 32-bit word. Valid for the kernel's life. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly words: Int32Array;
  /** The kernel's exports themselves, for calls that have no method here. */
  readonly exports: KernelExports;
  /** Length in bytes that belongs to the address which `peek`, `reserve` or `udpPeek` returned last. */
  available = 0;
  #handOver: HandOver | undefined;
  readonly #host: HandlesHost;
  /** What the owner has been told of: the kernel itself has decided. */
  readonly #bound = new Map<number, PortRequest>();

  constructor(host: HandlesHost) {
    this.#host = host;
    this.kernelId = host.kernelId;
    this.bytes = host.memory.bytes;
    this.words = host.memory.words;
    this.exports = host.exports;
  }

  /** Instant of the present turn. */
  get nowNs(): number {
    return this.#host.nowNs;
  }

  /** Sets the one handler of this kernel's events; undefined removes it. */
  onEvents(handler: EventHandler | undefined): void {
    this.#host.setEventHandler(handler);
  }

  /**
   * Lets this kernel's connections move to other kernels, and theirs come here (docs/migration.md). One hook, for those
   * connections of the handle level that no other level has; undefined: they keep their kernel.
   */
  onHandOver(hook: HandOver | undefined): void {
    this.#handOver = hook;
  }

  /** @internal */
  get handOver(): HandOver | undefined {
    return this.#handOver;
  }

  /** Permanent memory for the application, 64-byte aligned, never given back. 0: the kernel's memory is used up. */
  alloc(bytes: number): number {
    return this.exports.allocAppBytes(bytes) >>> 0;
  }

  /** Has what was given to the kernel outside a turn sent soon. */
  flush(): void {
    this.#host.requestTurn();
  }

  /**
   * @param addressIndex own address, in the order given to createStack; -1: any (-2: of IPv4, -3: of IPv6).
   * @returns listener handle or status; EBADF when stack or kernel have ended, as of all calls that open something.
   */
  listen(port: number, backlog = 1024, addressIndex = -1): number {
    if (this.#host.isClosed) return EBADF;
    const handle = this.exports.tcpListen(addressIndex, port, backlog);
    if (handle >= 0) this.#bound.set(handle, this.#claim("tcp", addressIndex, port));
    return handle;
  }

  /** Stops listening and resets connections not yet accepted. */
  closeListener(listener: number): number {
    this.#release(listener);
    return this.exports.tcpListenClose(listener);
  }

  /** Oldest connection of the listener's accept queue. @returns handle, or EAGAIN when there is none. */
  accept(listener: number): number {
    return this.exports.tcpAccept(listener);
  }

  /**
   * Starts an active open; EVENT_CONNECTED or EVENT_ERROR follows.
   * @param remoteAddress 16 bytes. @param localPort 0: any whose replies come to this kernel.
   * @param addressIndex -1: by route.
   * @returns EADDRNOTAVAIL too when replies to `localPort` would go to another kernel, or no port is left; EAGAIN when
   * the device's owner has to be asked first for exact filters towards that service (docs/connect.md), in another
   * thread: connectAsync() waits.
   */
  connect(remoteAddress: Uint8Array, remotePort: number, localPort = 0, addressIndex = -1): number {
    if (this.#host.isClosed) return EBADF;
    const opener = this.#host.opener;
    if (opener) return opener.connect(remoteAddress, remotePort, localPort, addressIndex);
    return this.connectFrom(remoteAddress, remotePort, localPort, addressIndex);
  }

  /**
   * As connect, but waits for the owner where connect says EAGAIN: once for each block of connections, if at all. What
   * is known at once is returned in this turn's microtasks.
   */
  async connectAsync(remoteAddress: Uint8Array, remotePort: number, localPort = 0, addressIndex = -1): Promise<number> {
    const remote = remoteAddress.slice();
    for (;;) {
      const handle = this.connect(remote, remotePort, localPort, addressIndex);
      if (handle !== EAGAIN) {
        // Outside a turn nobody else sees to it that the SYN leaves.
        this.flush();
        return handle;
      }
      await this.#host.opener?.answered();
    }
  }

  /** Index of the own address to speak to `remote` (16 bytes) from, as they are now; -1: no route. */
  addressFor(remote: Uint8Array): number {
    this.bytes.set(remote, ADDRESS_AT);
    return this.exports.addressFor(ADDRESS_AT);
  }

  /**
   * As connect, wherever the replies go.
   * @param localPort 0: the kernel picks one. @internal
   */
  connectFrom(remoteAddress: Uint8Array, remotePort: number, localPort: number, addressIndex: number): number {
    this.bytes.set(remoteAddress, ADDRESS_AT);
    return this.exports.tcpConnect(addressIndex, localPort, ADDRESS_AT, remotePort);
  }

  /**
   * Copies from the kernel's own memory at `source` into the send buffer. @returns bytes taken; fewer than asked:
   * EVENT_WRITABLE follows.
   */
  send(handle: number, source: number, bytes: number): number {
    return this.exports.tcpSend(handle, source, bytes);
  }

  /**
   * Room in the send buffer to write into. @returns its address (length in `available`), 0: full, EVENT_WRITABLE
   * follows.
   */
  reserve(handle: number, bytes: number): number {
    return this.#place(this.exports.tcpSendReserve(handle, bytes));
  }

  /** Sends the first `bytes` of the reserved room. */
  commit(handle: number, bytes: number): number {
    return this.exports.tcpSendCommit(handle, bytes);
  }

  /** Received bytes in place. @returns their address (length in `available`), 0: none now. */
  peek(handle: number): number {
    return this.#place(this.exports.tcpRecvPeek(handle));
  }

  /** Gives back the first `bytes` received bytes: the window opens. */
  consume(handle: number, bytes: number): number {
    return this.exports.tcpRecvConsume(handle, bytes);
  }

  /** Copies received bytes to `target` in the kernel's own memory. */
  receive(handle: number, target: number, bytes: number): number {
    return this.exports.tcpRecv(handle, target, bytes);
  }

  /** FIN after what is queued; receiving goes on. */
  shutdownSend(handle: number): number {
    return this.exports.tcpShutdownSend(handle);
  }

  /** Lets go of the connection. EVENT_CLOSED says when it is over; the handle must not be used any more. */
  close(handle: number): number {
    return this.exports.tcpClose(handle);
  }

  /** RST now. */
  abort(handle: number): number {
    return this.exports.tcpAbort(handle);
  }

  /** @param option OPTION_* of layout/option.ts. */
  setOption(handle: number, option: number, value: number): number {
    return this.exports.tcpSetOption(handle, option, value);
  }

  /**
   * @returns address of INFO_SIZE_BYTES of INFO_* fields (layout/option.ts), valid until the next call, or a status.
   */
  info(handle: number): number {
    const status = this.exports.tcpGetInfo(handle, INFO_AT);
    return status < 0 ? status : INFO_AT;
  }

  /** Likewise, for the connections that a listener will accept. */
  setListenOption(listener: number, option: number, value: number): number {
    return this.exports.tcpListenSetOption(listener, option, value);
  }

  /**
   * @returns address of TCPI_SIZE_BYTES of TCPI_* fields (layout/tcpInfo.ts), valid until the next call, or a status.
   */
  tcpInfo(handle: number): number {
    const status = this.exports.tcpInfo(handle, INFO_AT);
    return status < 0 ? status : INFO_AT;
  }

  /** @returns handle or status. */
  udpBind(port: number, addressIndex = -1): number {
    if (this.#host.isClosed) return EBADF;
    const handle = this.exports.udpBind(addressIndex, port);
    if (handle >= 0) this.#bound.set(handle, this.#claim("udp", addressIndex, this.exports.udpLocalPort(handle)));
    return handle;
  }

  /**
   * As udpBind, but unknown to the port registry, to a port whose answers from that peer come to this kernel, if the
   * device leaves any choice (an 82599 hashes UDP by addresses alone). @param remoteAddress 16 bytes.
   */
  udpBindToward(remoteAddress: Uint8Array, remotePort: number, addressIndex = -1): number {
    if (this.#host.isClosed) return EBADF;
    return this.#host.opener?.bindToward(remoteAddress, remotePort, addressIndex) ?? this.udpBind(0, addressIndex);
  }

  /** Sends the datagram at `source` in the kernel's own memory. @param remoteAddress 16 bytes. */
  udpSend(handle: number, source: number, bytes: number, remoteAddress: Uint8Array, remotePort: number): number {
    this.bytes.set(remoteAddress, ADDRESS_AT);
    return this.exports.udpSendTo(handle, source, bytes, ADDRESS_AT, remotePort);
  }

  /**
   * Oldest datagram in place. @returns address of its payload (length in `available`), 0: none.
   * At RESULT_BASE + 4: u32 remote port, + 8: remote address, + 24: the address that it was sent to, + 40: u32 TOS,
   * + 44: u32 TTL.
   */
  udpPeek(handle: number): number {
    return this.#place(this.exports.udpRecvPeek(handle));
  }

  /** Drops the oldest datagram. */
  udpConsume(handle: number): number {
    return this.exports.udpRecvConsume(handle);
  }

  /** Takes datagrams to a group, too. @param group 16 bytes. @returns EINVAL, EADDRINUSE, ENOBUFS. */
  udpJoin(handle: number, group: Uint8Array): number {
    this.bytes.set(group, ADDRESS_AT);
    return this.exports.udpJoin(handle, ADDRESS_AT);
  }

  udpLeave(handle: number, group: Uint8Array): number {
    this.bytes.set(group, ADDRESS_AT);
    return this.exports.udpLeave(handle, ADDRESS_AT);
  }

  /** @param option OPTION_TOS, OPTION_HOP_LIMIT, OPTION_MULTICAST_HOP_LIMIT, OPTION_MULTICAST_LOOP. */
  udpSetOption(handle: number, option: number, value: number): number {
    return this.exports.udpSetOption(handle, option, value);
  }

  udpClose(handle: number): number {
    this.#release(handle);
    return this.exports.udpClose(handle);
  }

  #claim(protocol: PortProtocol, addressIndex: number, port: number): PortRequest {
    const { memory } = this.#host;
    const own = addressIndex < 0 ? undefined : ownAddress(memory, addressIndex);
    const isV4 = addressIndex === ADDRESS_ANY_V4 || !speaks(memory, 6);
    const address = own ? formatAddress(own) : isV4 ? "0.0.0.0" : "::";
    const ipv6Only = address === "::" && addressIndex === ADDRESS_ANY_V6;
    const request = { protocol, address, port, ipv6Only };
    this.#host.control.ports.hold(request);
    return request;
  }

  #release(handle: number): void {
    const request = this.#bound.get(handle);
    if (!request || !this.#bound.delete(handle)) return;
    this.#host.control.ports.release(request);
  }

  /**
   * What a call that returns an address or a status has returned. Addresses may have bit 31 set; statuses are above
   * all of them.
   */
  #place(result: number): number {
    if (result === 0 || (result < 0 && result >= -STATUS_MAX)) {
      this.available = 0;
      return result;
    }
    this.available = (this.words[RESULT_WORD] as number) >>> 0;
    return result >>> 0;
  }
}

// The info record must stay inside the scratch page.
const infoEnd: number = INFO_AT + Math.max(INFO_SIZE_BYTES, TCPI_SIZE_BYTES);
if (infoEnd > RESULT_BASE) throw new RangeError("layout: INFO_SIZE_BYTES does not fit the scratch page");
