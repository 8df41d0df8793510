/**
 * Connections that stay with their kernel although their group has moved: one exact filter of the device each, removed
 * when the connection is over.
 */
import type { Device } from "../device/device.ts";
import type { ReplyTuple } from "../device/replySteering.ts";

export type PinnedFlow = ReplyTuple & { readonly kernel: number; readonly group: number };
/**
 * `isWaiting`: no connection yet, but a SYN that the kernel has not read. `isDying`: a connection that waits for the
 * last ACK only. A peer has one connection of its ports at a time: while another kernel has one, a dying one is its
 * predecessor, which loses nothing if that ACK does not come.
 */
export type FoundFlow = PinnedFlow & { readonly isWaiting?: boolean; readonly isDying?: boolean };

type Pin = { readonly flow: PinnedFlow; readonly sinceNs: number };

const KERNEL_STRIDE = 65536;

export function flowKey({ remote, remotePort, local, localPort }: ReplyTuple): string {
  return `${remote} ${remotePort} ${local} ${localPort}`;
}

export class Pins {
  readonly #device: Device;
  readonly #max: number;
  readonly #pins = new Map<string, Pin>();
  /** Pins of each kernel and group, by pairKey. */
  readonly #counts = new Map<number, number>();

  /** @param max filters to use at most. */
  constructor(device: Device, max: number) {
    this.#device = device;
    this.#max = device.setFilter ? max : 0;
  }

  get count(): number {
    return this.#pins.size;
  }

  get free(): number {
    return Math.max(this.#max - this.#pins.size, 0);
  }

  /** True when some connection of the group is pinned to the kernel. */
  has(kernel: number, group: number): boolean {
    return (this.#counts.get(pairKey(kernel, group)) ?? 0) > 0;
  }

  /** Kernels and groups that have pinned connections. */
  forEachPair(visit: (kernel: number, group: number) => void): void {
    for (const key of this.#counts.keys()) visit(Math.floor(key / KERNEL_STRIDE), key % KERNEL_STRIDE);
  }

  /** True when the connection is pinned to the kernel. */
  holds(flow: PinnedFlow): boolean {
    return this.#pins.get(flowKey(flow))?.flow.kernel === flow.kernel;
  }

  /** True when it is dying, and what a filter leads to another kernel are its successor's segments. */
  isSucceeded(flow: FoundFlow): boolean {
    const pin = this.#pins.get(flowKey(flow));
    return flow.isDying === true && pin !== undefined && pin.flow.kernel !== flow.kernel;
  }

  /** Kernels that have pinned connections. */
  kernels(): number[] {
    return [...new Set([...this.#pins.values()].map(({ flow }) => flow.kernel))];
  }

  /**
   * @returns false when there is no filter left; pins of the flow to another kernel are replaced. Where a kernel owns
   * the device, a filter may be refused later.
   */
  add(flow: PinnedFlow, nowNs: number): boolean {
    const key = flowKey(flow);
    const known = this.#pins.get(key);
    if (known?.flow.kernel === flow.kernel) return true;
    if (!known && this.free === 0) return false;
    if (!this.#device.setFilter?.(flow, flow.kernel)) return false;
    if (known) this.#count(known.flow, -1);
    this.#pins.set(key, { flow, sinceNs: nowNs });
    this.#count(flow, 1);
    return true;
  }

  /** The device has refused the filter, after add(). @returns what was pinned; undefined: nothing, here. */
  refused(flow: ReplyTuple): PinnedFlow | undefined {
    const key = flowKey(flow);
    const pin = this.#pins.get(key);
    if (!pin) return undefined;
    this.#pins.delete(key);
    this.#count(pin.flow, -1);
    return pin.flow;
  }

  /** Removes the pin of a flow. @returns what was pinned; undefined: nothing. */
  remove(flow: ReplyTuple): PinnedFlow | undefined {
    const key = flowKey(flow);
    const pin = this.#pins.get(key);
    if (pin) this.#remove(key, pin.flow);
    return pin?.flow;
  }

  /** Removes the pins made before `beforeNs` of which `lives` says no. @returns what they were. */
  sweep(beforeNs: number, lives: (key: string, kernel: number) => boolean): PinnedFlow[] {
    const removed: PinnedFlow[] = [];
    for (const [key, { flow, sinceNs }] of this.#pins) {
      if (sinceNs >= beforeNs || lives(key, flow.kernel)) continue;
      this.#remove(key, flow);
      removed.push(flow);
    }
    return removed;
  }

  /** Those wanted. */
  find(isWanted: (flow: PinnedFlow) => boolean): PinnedFlow[] {
    return [...this.#pins.values()].map(({ flow }) => flow).filter(isWanted);
  }

  /** Removes the pins of a group. @returns what they were. */
  takeGroup(group: number): Pin[] {
    return this.take((flow) => flow.group === group);
  }

  /** Removes the pins wanted. @returns what they were. */
  take(isWanted: (flow: PinnedFlow) => boolean): Pin[] {
    const taken = [...this.#pins].filter(([, { flow }]) => isWanted(flow));
    for (const [key, { flow }] of taken) this.#remove(key, flow);
    return taken.map(([, pin]) => pin);
  }

  clear(): void {
    for (const [key, { flow }] of this.#pins) this.#remove(key, flow);
  }

  #remove(key: string, flow: PinnedFlow): void {
    this.#pins.delete(key);
    this.#count(flow, -1);
    this.#device.clearFilter?.(flow);
  }

  #count({ kernel, group }: PinnedFlow, change: number): void {
    const key = pairKey(kernel, group);
    const count = (this.#counts.get(key) ?? 0) + change;
    if (count > 0) this.#counts.set(key, count);
    else this.#counts.delete(key);
  }
}

/** A kernel and a group in one number. */
export function pairKey(kernel: number, group: number): number {
  return kernel * KERNEL_STRIDE + group;
}
