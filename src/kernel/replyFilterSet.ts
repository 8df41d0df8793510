/**
 * A kernel's exact filters: one for each connection that it has opened and whose replies would else go to another
 * queue. They stay as long as the connection and its TIME-WAIT, in which the peer may still send its FIN again.
 *
 * The end of a connection is found by looking, once a second: the kernel's data path knows nothing of filters.
 */
import type { ReplyFilters, ReplyTuple } from "../device/replySteering.ts";
import { ENOBUFS } from "../layout/status.ts";

const LOOK_NS = 1e9;

type Entry = {
  readonly tuple: ReplyTuple;
  handle: number;
  /** When the connection was found to be over; -1: it is not. */
  endedNs: number;
};

export class ReplyFilterSet {
  readonly #filters: ReplyFilters;
  readonly #queue: number;
  readonly #timeWaitNs: number;
  readonly #isOver: (handle: number, localPort: number) => boolean;
  readonly #entries = new Map<string, Entry>();
  #nextLookNs = Number.POSITIVE_INFINITY;

  /** @param isOver whether the connection is closed or in TIME-WAIT, or the handle another connection's. */
  constructor(
    filters: ReplyFilters,
    queue: number,
    timeWaitMs: number,
    isOver: (handle: number, localPort: number) => boolean,
  ) {
    this.#filters = filters;
    this.#queue = queue;
    this.#timeWaitNs = timeWaitMs * 1e6;
    this.#isOver = isOver;
  }

  get size(): number {
    return this.#entries.size;
  }

  /** When turn() has something to do, ns; Infinity: never. */
  get nextLookNs(): number {
    return this.#nextLookNs;
  }

  /**
   * Has replies of the tuple brought here. A full table makes room of filters in TIME-WAIT.
   * @returns 0, or ENOBUFS: the device's table is full.
   */
  set(tuple: ReplyTuple, handle: number, nowNs: number): number {
    const key = keyOf(tuple);
    const known = this.#entries.get(key);
    if (known) {
      known.handle = handle;
      known.endedNs = -1;
      return 0;
    }
    let status = this.#filters.set(tuple, this.#queue);
    if (status === ENOBUFS && this.#look(nowNs, 0)) status = this.#filters.set(tuple, this.#queue);
    if (status < 0) return status;
    const own = { ...tuple, remote: tuple.remote.slice(), local: tuple.local.slice() };
    this.#entries.set(key, { tuple: own, handle, endedNs: -1 });
    this.#nextLookNs = Math.min(this.#nextLookNs, nowNs + LOOK_NS);
    return status;
  }

  /** Removes the filters of connections whose time is over. */
  turn(nowNs: number): void {
    if (nowNs < this.#nextLookNs) return;
    this.#look(nowNs, this.#timeWaitNs);
    this.#nextLookNs = this.#entries.size > 0 ? nowNs + LOOK_NS : Number.POSITIVE_INFINITY;
  }

  /** See ActiveOpener.redirectFilters. */
  redirect(handles: ReadonlySet<number>, to: number): (readonly [number, ReplyTuple])[] {
    const moving = [...this.#entries.values()].filter(({ handle, endedNs }) => endedNs < 0 && handles.has(handle));
    for (const { tuple } of moving) this.#filters.set(tuple, to);
    return moving.map(({ handle, tuple }) => [handle, tuple]);
  }

  forget(moved: readonly (readonly [number, ReplyTuple])[]): void {
    for (const [, tuple] of moved) this.#entries.delete(keyOf(tuple));
  }

  restore(stayed: readonly (readonly [number, ReplyTuple])[]): void {
    for (const [, tuple] of stayed) this.#filters.set(tuple, this.#queue);
  }

  adopt(arrived: readonly (readonly [number, ReplyTuple])[], nowNs: number): void {
    for (const [handle, tuple] of arrived) {
      this.#entries.set(keyOf(tuple), { tuple, handle, endedNs: -1 });
      this.#nextLookNs = Math.min(this.#nextLookNs, nowNs + LOOK_NS);
    }
  }

  close(): void {
    for (const { tuple } of this.#entries.values()) this.#filters.clear(tuple);
    this.#entries.clear();
    this.#nextLookNs = Number.POSITIVE_INFINITY;
  }

  /** @param timeWaitNs how long filters outlive their connections. @returns whether one was removed. */
  #look(nowNs: number, timeWaitNs: number): boolean {
    let removed = false;
    for (const [key, entry] of this.#entries) {
      if (entry.endedNs < 0 && this.#isOver(entry.handle, entry.tuple.localPort)) entry.endedNs = nowNs;
      if (entry.endedNs < 0 || nowNs - entry.endedNs < timeWaitNs) continue;
      this.#filters.clear(entry.tuple);
      this.#entries.delete(key);
      removed = true;
    }
    return removed;
  }
}

function keyOf({ remote, remotePort, local, localPort }: ReplyTuple): string {
  return `${remote} ${remotePort} ${local} ${localPort}`;
}
