/**
 * Active opens of a kernel that shares its device with others: the local port is one whose replies the device brings
 * to this kernel, or the connection gets an exact filter that does.
 */
import type { ReplySteering } from "../device/replySteering.ts";
import { addressFamily } from "../ip/address.ts";
import { ownAddress, ownAddressIndex } from "../ip/ownAddresses.ts";
import { EADDRINUSE, EADDRNOTAVAIL, EAGAIN, EBADF, ENOBUFS } from "../layout/status.ts";
import { INFO_LOCAL_PORT, INFO_STATE, STATE_CLOSED, STATE_TIME_WAIT } from "../layout/option.ts";
import type { KernelControl } from "../control/kernelControl.ts";
import type { KernelMemory } from "../views/kernelMemory.ts";
import type { Flow, MovingTuple } from "../migration/request.ts";
import type { Handles } from "./handles.ts";
import type { KernelConfig } from "./config.ts";
import { DatagramPorts } from "./datagramPorts.ts";
import { FILTER_BLOCK_PORTS, FilterBlocks, type Service } from "./filterBlocks.ts";
import { HomePorts } from "./homePorts.ts";
import type { PortRandom } from "./seed.ts";

export type ActiveOpenerOptions = {
  readonly config: KernelConfig;
  readonly memory: KernelMemory;
  readonly steering: ReplySteering;
  /** Draws the ports. */
  readonly random: PortRandom;
  readonly handles: Handles;
  readonly control: KernelControl;
  /** Handles messages now, as far as they need no other thread. */
  readonly settle: () => void;
};

type Attempt = {
  readonly remote: Uint8Array;
  readonly remotePort: number;
  /** 0: any. */
  readonly localPort: number;
  readonly own: Uint8Array;
  readonly index: number;
};

export class ActiveOpener {
  readonly #memory: KernelMemory;
  readonly #ports: HomePorts;
  readonly #datagramPorts: DatagramPorts;
  readonly #filters: FilterBlocks | undefined;
  readonly #handles: Handles;
  /** Of those who have been told EAGAIN because of a group that moves. */
  readonly #waiters: (() => void)[] = [];
  #isHeldUp = false;

  constructor({ config, memory, steering, random, handles, control, settle }: ActiveOpenerOptions) {
    const { ephemeralPortFirst: first, ephemeralPortLast: last, timeWaitMs } = config.tuning;
    const queue = config.kernelId;
    this.#memory = memory;
    this.#ports = new HomePorts({ queue, steering, range: { first, last }, random });
    this.#datagramPorts = new DatagramPorts({ queue, steering, range: { first, last }, random });
    this.#handles = handles;
    if (!steering.filterable) return;
    const isOver = (handle: number, localPort: number) => this.#isOver(handle, localPort);
    const filters = new FilterBlocks({ queue, line: control, settle, nowNs: () => handles.nowNs, timeWaitMs, isOver });
    control.onReclaim(() => filters.reclaim());
    control.device.onRecall = () => filters.giveBack(handles.nowNs);
    this.#filters = filters;
  }

  /**
   * As Handles.connect.
   * @returns EADDRNOTAVAIL too when no port comes home (any more), ENOBUFS when the device's filters are used up;
   * EAGAIN: the owner has been asked for a block of filters, or all ports are of flow groups that are moving here;
   * answered() waits for it.
   */
  connect(remote: Uint8Array, remotePort: number, localPort: number, addressIndex: number): number {
    const index = addressIndex >= 0 ? addressIndex : this.#handles.addressFor(remote);
    const own = ownAddress(this.#memory, index)?.slice();
    // The kernel says what is wrong; and to an own address every port is home, for nothing leaves the kernel.
    if (!own || ownAddressIndex(this.#memory, remote) >= 0)
      return this.#handles.connectFrom(remote, remotePort, localPort, addressIndex);
    const attempt: Attempt = { remote, remotePort, localPort, own, index };
    const leased = this.#connectLeased(attempt);
    if (leased !== EADDRNOTAVAIL) return leased;
    const ports = this.#ports;
    ports.begin(remote, remotePort, own, localPort, addressFamily(own) === 4);
    let refusal = EADDRNOTAVAIL;
    for (let port = ports.next(); port !== 0; port = ports.next()) {
      // Ports of this kind come last.
      if (ports.needsFilter) return this.#connectByFilter(attempt, port);
      const handle = this.#handles.connectFrom(remote, remotePort, port, index);
      if (handle >= 0) return handle;
      if (handle !== EADDRINUSE) return handle;
      if (localPort !== 0) refusal = EADDRINUSE;
    }
    this.#isHeldUp = refusal === EADDRNOTAVAIL && ports.isHeldUp;
    return this.#isHeldUp ? EAGAIN : refusal;
  }

  /** As Handles.udpBindToward. */
  bindToward(remote: Uint8Array, remotePort: number, addressIndex: number): number {
    const index = addressIndex >= 0 ? addressIndex : this.#handles.addressFor(remote);
    const own = ownAddress(this.#memory, index)?.slice();
    let handle = EADDRINUSE;
    // What goes to an own address leaves the kernel for nowhere.
    if (own && ownAddressIndex(this.#memory, remote) < 0) {
      this.#datagramPorts.find(remote, remotePort, own, (port) => {
        handle = this.#handles.exports.udpBind(addressIndex, port);
        return handle !== EADDRINUSE;
      });
    }
    return handle === EADDRINUSE ? this.#handles.udpBind(0, addressIndex) : handle;
  }

  /** Fulfilled when what connect() has said EAGAIN for is over; undefined: there is nothing of the kind. */
  answered(): Promise<void> | undefined {
    const answered = this.#filters?.answered();
    if (!this.#isHeldUp) return answered;
    const opened = new Promise<void>((resolve) => this.#waiters.push(resolve));
    return answered ? Promise.race([answered, opened]) : opened;
  }

  /** No ports of this flow group: it is on its way here. */
  shutGroup(group: number): void {
    this.#ports.shutGroups.add(group);
  }

  /** It has come, or it will not, and the device knows that. */
  openGroup(group: number): void {
    if (this.#ports.shutGroups.delete(group)) this.#wake();
  }

  /** The kernel has ended: whoever waits for it asks another. */
  abandon(): void {
    this.#wake();
    this.#filters?.abandon();
  }

  #wake(): void {
    this.#isHeldUp = false;
    for (const resolve of this.#waiters.splice(0)) resolve();
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

  /**
   * Connections that move: their filters lead to queue `to` from now on. Those without are named, too: their ports may
   * be in a share that a kernel asks for filters from, when the group is another's.
   */
  redirectFilters(handles: ReadonlySet<number>, to: number, flowOf: (handle: number) => Flow): readonly MovingTuple[] {
    if (!this.#filters) return [];
    const opened: MovingTuple[] = [];
    for (const handle of this.#ports.hasShares ? handles : []) {
      const { remote, remotePort, localIndex, localPort } = flowOf(handle);
      const local = this.#ports.isShared(localPort) ? ownAddress(this.#memory, localIndex)?.slice() : undefined;
      if (local) opened.push([handle, { remote, remotePort, local, localPort }, true]);
    }
    return this.#filters.redirect(handles, opened, to);
  }

  /** The device may still bring what these filters are for to where they led before. */
  get isLeading(): boolean {
    return this.#filters?.isLeading ?? false;
  }

  /** They have moved. */
  forgetFilters(moved: readonly MovingTuple[]): void {
    this.#filters?.forget(moved);
  }

  /** They have not. */
  restoreFilters(stayed: readonly MovingTuple[]): void {
    this.#filters?.restore(stayed);
  }

  /** They have come here, and their filters lead here. */
  adoptFilters(arrived: readonly MovingTuple[]): void {
    this.#filters?.adopt(arrived, this.#handles.nowNs);
  }

  /** From a port that has a filter already. @returns EADDRNOTAVAIL when there is none. */
  #connectLeased(attempt: Attempt): number {
    const { remote, remotePort, localPort, own, index } = attempt;
    const filters = this.#filters;
    const service = filters?.find(remote, remotePort, own);
    if (!filters || !service) return EADDRNOTAVAIL;
    if (localPort !== 0 && !filters.leads(service, localPort)) return EADDRNOTAVAIL;
    for (const port of localPort !== 0 ? [localPort] : service.ready.slice()) {
      const handle = this.#handles.connectFrom(remote, remotePort, port, index);
      // Somebody may have taken the port by other ways.
      if (handle === EADDRINUSE && localPort === 0) continue;
      if (handle < 0) return handle;
      filters.use(service, port, handle, this.#handles.nowNs);
      if (localPort === 0 && filters.isLow(service)) this.#askAhead(attempt, service);
      return handle;
    }
    return EADDRNOTAVAIL;
  }

  #askAhead(attempt: Attempt, service: Service): void {
    const { remote, remotePort, own } = attempt;
    const ports = this.#ports;
    ports.begin(remote, remotePort, own, 0, addressFamily(own) === 4);
    let port = ports.next();
    while (port !== 0 && !ports.needsFilter) port = ports.next();
    if (port === 0) return;
    const candidates = this.#candidates(attempt, port);
    if (candidates.length > 0) this.#filters?.ask(service, candidates, false);
  }

  /** @param first what the walk has just named. */
  #connectByFilter(attempt: Attempt, first: number): number {
    const { remote, remotePort, own } = attempt;
    const filters = this.#filters as FilterBlocks;
    let handle = EADDRNOTAVAIL;
    // When others have connections from all ports of a block, the next is asked for.
    for (let port = first; port !== 0 && handle === EADDRNOTAVAIL; port = this.#ports.next()) {
      const candidates = this.#candidates(attempt, port);
      if (candidates.length === 0) break;
      const service = filters.open(remote, remotePort, own, this.#handles.nowNs);
      // An answer that has come meanwhile, and was no, is told.
      if (!service.refused && !filters.isRefused(service)) filters.ask(service, candidates, true);
      if (service.asked) return EAGAIN;
      const refused = service.refused || filters.isRefused(service);
      service.refused = false;
      handle = refused ? ENOBUFS : this.#connectLeased(attempt);
    }
    return handle;
  }

  /** A block of ports that need a filter and have none, from `first` on, which the walk has just named. */
  #candidates({ remote, remotePort, own }: Attempt, first: number): number[] {
    const service = this.#filters?.find(remote, remotePort, own);
    const candidates: number[] = [];
    for (let port = first; port !== 0 && candidates.length < FILTER_BLOCK_PORTS; port = this.#ports.next()) {
      if (this.#ports.needsFilter && !(service && this.#filters?.isKnown(service, port))) candidates.push(port);
    }
    return candidates;
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
