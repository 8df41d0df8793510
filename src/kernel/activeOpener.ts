/**
 * Active opens of a kernel that shares its device with others: the local port is one whose replies the device brings
 * to this kernel, or the connection gets an exact filter that does.
 */
import type { ReplySteering, ReplyTuple } from "../device/replySteering.ts";
import { addressFamily } from "../ip/address.ts";
import { ownAddress, ownAddressIndex } from "../ip/ownAddresses.ts";
import { EADDRINUSE, EADDRNOTAVAIL, EBADF } from "../layout/status.ts";
import { INFO_LOCAL_PORT, INFO_STATE, STATE_CLOSED, STATE_TIME_WAIT } from "../layout/option.ts";
import type { KernelMemory } from "../views/kernelMemory.ts";
import type { Handles } from "./handles.ts";
import type { KernelConfig } from "./config.ts";
import { HomePorts } from "./homePorts.ts";
import { ReplyFilterSet } from "./replyFilterSet.ts";
import type { PortRandom } from "./seed.ts";

export class ActiveOpener {
  readonly #memory: KernelMemory;
  readonly #ports: HomePorts;
  readonly #filters: ReplyFilterSet | undefined;
  readonly #handles: Handles;

  /** @param random draws the ports. */
  constructor(
    config: KernelConfig,
    memory: KernelMemory,
    steering: ReplySteering,
    random: PortRandom,
    handles: Handles,
  ) {
    const { ephemeralPortFirst: first, ephemeralPortLast: last, timeWaitMs } = config.tuning;
    const queue = config.kernelId;
    this.#memory = memory;
    this.#ports = new HomePorts({ queue, steering, range: { first, last }, random });
    this.#handles = handles;
    if (steering.filters) {
      const isOver = (handle: number, localPort: number) => this.#isOver(handle, localPort);
      this.#filters = new ReplyFilterSet(steering.filters, queue, timeWaitMs, isOver);
    }
  }

  /**
   * As Handles.connect.
   * @returns EADDRNOTAVAIL too when no port comes home (any more), ENOBUFS when the device's filters are used up.
   */
  connect(remote: Uint8Array, remotePort: number, localPort: number, addressIndex: number): number {
    const index = addressIndex >= 0 ? addressIndex : this.#handles.addressFor(remote);
    const own = ownAddress(this.#memory, index)?.slice();
    // The kernel says what is wrong; and to an own address every port is home, for nothing leaves the kernel.
    if (!own || ownAddressIndex(this.#memory, remote) >= 0)
      return this.#handles.connectFrom(remote, remotePort, localPort, addressIndex);
    const ports = this.#ports;
    ports.begin(remote, remotePort, own, localPort, addressFamily(own) === 4);
    let refusal = EADDRNOTAVAIL;
    for (let port = ports.next(); port !== 0; port = ports.next()) {
      const handle = this.#handles.connectFrom(remote, remotePort, port, index);
      if (handle >= 0) return ports.needsFilter ? this.#filter(handle, remote, remotePort, own, port) : handle;
      if (handle !== EADDRINUSE) return handle;
      if (localPort !== 0) refusal = EADDRINUSE;
    }
    return refusal;
  }

  /** Exact filters of this kernel. */
  get filterCount(): number {
    return this.#filters?.size ?? 0;
  }

  /** When turn() has something to do, ns; Infinity: never. */
  get nextTurnNs(): number {
    return this.#filters?.nextLookNs ?? Number.POSITIVE_INFINITY;
  }

  turn(nowNs: number): void {
    this.#filters?.turn(nowNs);
  }

  /** Connections that move: their filters lead to queue `to` from now on. @returns handle and tuple of each. */
  redirectFilters(handles: ReadonlySet<number>, to: number): (readonly [number, ReplyTuple])[] {
    return this.#filters?.redirect(handles, to) ?? [];
  }

  /** They have moved. */
  forgetFilters(moved: readonly (readonly [number, ReplyTuple])[]): void {
    this.#filters?.forget(moved);
  }

  /** They have not. */
  restoreFilters(stayed: readonly (readonly [number, ReplyTuple])[]): void {
    this.#filters?.restore(stayed);
  }

  /** They have come here, and their filters lead here. */
  adoptFilters(arrived: readonly (readonly [number, ReplyTuple])[]): void {
    this.#filters?.adopt(arrived, this.#handles.nowNs);
  }

  close(): void {
    this.#filters?.close();
  }

  /** Before the SYN leaves, which is at the end of the turn. */
  #filter(handle: number, remote: Uint8Array, remotePort: number, local: Uint8Array, localPort: number): number {
    const filters = this.#filters as ReplyFilterSet;
    const status = filters.set({ remote, remotePort, local, localPort }, handle, this.#handles.nowNs);
    if (status >= 0) return handle;
    this.#handles.abort(handle);
    return status;
  }

  #isOver(handle: number, localPort: number): boolean {
    const at = this.#handles.info(handle);
    if (at === EBADF) return true;
    const { words } = this.#handles;
    const state = words[(at + INFO_STATE) >> 2] as number;
    // The handle's number may have come to another connection in the meantime.
    return state === STATE_CLOSED || state === STATE_TIME_WAIT || words[(at + INFO_LOCAL_PORT) >> 2] !== localPort;
  }
}
