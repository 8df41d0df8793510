/**
 * The device's exact filters as their owner keeps them: who holds which, and who waits for room. Room is given in the
 * order in which it was asked for. When there is none, kernels are asked to give back what they do not use (a *round*),
 * and only who has waited for a whole round is refused: then all filters are in use.
 *
 * ```
 *          room                         all kernels have answered, still none
 *  want ─────────▶ has it      waiting ─────────────────────────────────────▶ refused
 *    │ none                      ▲ │ room, by whoever gives a filter back
 *    └───────────────────────────┘ └─────────────▶ has it
 * ```
 * A kernel that hangs is waited for until the view is without it; nothing but filters waits meanwhile,
 * and the end of a silence that begins with a move (backlog.ts, the balancer's settling): they look at all writes.
 */
import type { ReplyTuple } from "../device/replySteering.ts";
import type { DeviceTables } from "../device/device.ts";
import { CORRELATION_MAX, filterKey } from "./deviceMessages.ts";

export type FilterTableOptions = {
  /** Opened by a kernel that may still write them; undefined: not now. */
  readonly tables: () => DeviceTables | undefined;
  /** Filters that the device has. */
  readonly capacity: () => number;
  /**
   * Asks all kernels to give back what they do not use. @param round 1..CORRELATION_MAX; their answers name it.
   * @returns those whose answers are to be waited for.
   */
  readonly recall: (round: number) => readonly number[];
  readonly onError: (error: unknown) => void;
};

/** Somebody who wants room. */
export type FilterWant = {
  /** Takes what there is, at most `share` filters. @returns false: there was nothing, it waits. */
  readonly take: (share: number) => boolean;
  /** All filters are in use. */
  readonly refuse: () => void;
  /** Of one filter: a later write of the same flow decides. */
  readonly key?: string;
  /** Queue that the filter is to name. */
  readonly queue?: number;
  /** The kernel that asks, for itself. */
  readonly kernelId?: number;
  /** Called instead of the others when a later write has decided. */
  readonly overtaken?: () => void;
};

type Held = { readonly holder: number; readonly queue: number };

export class FilterTable {
  readonly #options: FilterTableOptions;
  readonly #held = new Map<string, Held>();
  /** Kernels that have a connection without a filter, which was opened by another: nobody else gets one for it. */
  readonly #reserved = new Map<string, number>();
  #waiting: FilterWant[] = [];
  /** Those that the present round is for, and the kernels that have not answered. */
  #round: ReadonlySet<FilterWant> = new Set();
  readonly #asked = new Set<number>();
  #roundNumber = 0;
  #serving = false;

  constructor(options: FilterTableOptions) {
    this.#options = options;
  }

  /** Filters given out. */
  get size(): number {
    return this.#held.size;
  }

  holderOf(flow: ReplyTuple): number | undefined {
    return this.#held.get(filterKey(flow))?.holder;
  }

  /** Somebody else than `kernelId` may have a connection with this tuple. */
  isOthers(flow: ReplyTuple, kernelId: number): boolean {
    const key = filterKey(flow);
    return [this.#held.get(key)?.holder, this.#reserved.get(key)].some(
      (holder) => holder !== undefined && holder !== kernelId,
    );
  }

  /** Without a filter: the group leads to the kernel. */
  reserve(flow: ReplyTuple, holder: number): void {
    this.#reserved.set(filterKey(flow), holder);
  }

  /** The kernel needs its filter, or reservation, no more. */
  release(flow: ReplyTuple, holder: number): void {
    const key = filterKey(flow);
    if (this.#reserved.get(key) === holder) this.#reserved.delete(key);
    if (this.holderOf(flow) === holder) this.clear(flow);
  }

  /** Nobody waits: room is for whoever comes. */
  get isFree(): boolean {
    return this.#waiting.length === 0;
  }

  /** Sets a filter now. @returns false: no room, or the device has none for this flow. */
  set(flow: ReplyTuple, queue: number, holder: number): boolean {
    const key = filterKey(flow);
    this.#overtake((want) => want.key === key);
    try {
      return this.#put(key, flow, queue, holder);
    } catch (error) {
      this.#options.onError(error);
      return false;
    }
  }

  /**
   * Sets a filter for the stack as soon as there is room. @param decided called once: true, or false when it has been
   * refused. A later write of the same flow counts as true: what was wanted before is not wanted any more.
   */
  setWhenFree(flow: ReplyTuple, queue: number, holder: number, decided: (isSet: boolean) => void): void {
    const key = filterKey(flow);
    this.#overtake((want) => want.key === key);
    const take = () => {
      let isSet = false;
      try {
        isSet = this.#put(key, flow, queue, holder);
        if (!isSet) return false;
      } catch (error) {
        // What makes no sense to the device, or what its host refuses, needs no room.
        this.#options.onError(error);
      }
      decided(isSet);
      return true;
    };
    // A flow that has a filter needs no room, and if there is any, nobody has waited for it.
    if (take()) return;
    this.#waiting.push({
      key,
      queue,
      take,
      refuse: () => decided(false),
      overtaken: () => decided(true),
    });
  }

  /** Room is taken at once, or waited for after those that wait already: serve() asks for it. */
  want(want: FilterWant): void {
    if (this.isFree && want.take(Number.POSITIVE_INFINITY)) return;
    this.#waiting.push(want);
  }

  clear(flow: ReplyTuple): void {
    const key = filterKey(flow);
    this.#overtake((want) => want.key === key);
    this.#remove(key, flow);
  }

  /** Removes those that name the queue, but for what its kernel has got in its present life. */
  drop(queue: number): void {
    this.#overtake((want) => want.queue === queue);
    for (const { flow, queue: named } of this.#set()) {
      if (named === queue && this.holderOf(flow) !== queue) this.#remove(filterKey(flow), flow);
    }
  }

  /**
   * Kernels are gone: serve() has to follow. The stack's order to drop a queue may have come before the view that says
   * so.
   */
  forget(gone: readonly number[]): void {
    for (const { flow, queue } of this.#set()) {
      const holder = this.holderOf(flow);
      if (holder === undefined || !gone.includes(holder) || !gone.includes(queue)) continue;
      this.#options.tables()?.clearFilter?.(flow);
    }
    for (const [key, { holder }] of this.#held) if (gone.includes(holder)) this.#held.delete(key);
    for (const [key, holder] of this.#reserved) if (gone.includes(holder)) this.#reserved.delete(key);
    this.#waiting = this.#waiting.filter(({ kernelId }) => kernelId === undefined || !gone.includes(kernelId));
    for (const kernelId of gone) this.recalled(kernelId, this.#roundNumber);
  }

  /** All have told what they have: from now on kernels can be asked to give back. */
  begin(): void {
    this.#serving = true;
    this.serve();
  }

  /** Those that nobody has told a new owner of: whoever had them set is gone. */
  clearOrphans(): void {
    for (const { flow } of this.#set()) {
      if (!this.#held.has(filterKey(flow))) this.#options.tables()?.clearFilter?.(flow);
    }
  }

  /** This kernel is the owner no more: whoever waits asks the next one. */
  end(): void {
    this.#serving = false;
    this.#held.clear();
    this.#reserved.clear();
    this.#waiting = [];
    this.#round = new Set();
    this.#asked.clear();
  }

  /**
   * Gives room to those that wait, in their order, and asks kernels for more if it does not suffice. To be called when
   * there may be some, and when somebody may have begun to wait.
   */
  serve(): void {
    this.#giveRoom();
    if (!this.#serving || this.#waiting.length === 0 || this.#asked.size > 0) return;
    this.#round = new Set(this.#waiting);
    this.#roundNumber = (this.#roundNumber % CORRELATION_MAX) + 1;
    for (const kernelId of this.#options.recall(this.#roundNumber)) this.#asked.add(kernelId);
  }

  #giveRoom(): void {
    for (let want = this.#waiting.shift(); want; want = this.#waiting.shift()) {
      const free = this.#options.capacity() - this.#held.size;
      // Whoever hears that it has room may write, and so come here.
      if (want.take(Math.max(1, Math.floor(free / (this.#waiting.length + 1))))) continue;
      this.#waiting.unshift(want);
      return;
    }
  }

  /** A kernel has given back what it does not use, or is gone. */
  recalled(kernelId: number, round: number): void {
    // An earlier round's answer may come after this kernel has become the owner again.
    if (round !== this.#roundNumber || !this.#asked.delete(kernelId) || this.#asked.size > 0) return;
    this.#giveRoom();
    const refused = this.#waiting.filter((want) => this.#round.has(want));
    this.#waiting = this.#waiting.filter((want) => !this.#round.has(want));
    this.#round = new Set();
    for (const { refuse } of refused) refuse();
    // What the one cannot have (the device refuses it) the next may.
    this.serve();
  }

  #put(key: string, flow: ReplyTuple, queue: number, holder: number): boolean {
    if (this.#options.tables()?.setFilter?.(flow, queue) !== true) return false;
    this.#held.set(key, { holder, queue });
    return true;
  }

  #remove(key: string, flow: ReplyTuple): void {
    this.#held.delete(key);
    this.#options.tables()?.clearFilter?.(flow);
  }

  #set(): ReturnType<NonNullable<DeviceTables["filters"]>> {
    return this.#options.tables()?.filters?.() ?? [];
  }

  #overtake(isOvertaken: (want: FilterWant) => boolean): void {
    const overtaken = this.#waiting.filter(isOvertaken);
    if (overtaken.length === 0) return;
    this.#waiting = this.#waiting.filter((want) => !isOvertaken(want));
    for (const { overtaken: tell } of overtaken) tell?.();
  }
}
