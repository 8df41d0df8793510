/**
 * What only Affinity-Accept does (Pesterev et al., EuroSys 2012, sections 3.3 and 4): a core that is not busy steals
 * from busy ones, one connection for every five of its own; every 100 ms it takes a flow group from the core that it
 * has stolen from most. Cores share their tables, so the group's connections come along.
 */
import type { Listener } from "../engine/process.ts";
import type { Steering } from "../engine/wire.ts";

const HIGH_MARK = 0.75;
const LOW_MARK = 0.1;
/** Own connections for one that is stolen. */
const OWN_PER_STOLEN = 5;
export const MIGRATE_NS = 100e6;

export class Affinity {
  readonly #queueMax: number;
  readonly #ownSince: Int32Array;
  readonly #lastVictim: Int32Array;
  /** Stolen in this period, by thief and victim. */
  readonly #stolen: Int32Array;
  readonly #cores: number;
  #cursor = 0;
  moves = 0;

  /** @param queueMax length of one core's queue. */
  constructor(cores: number, queueMax: number) {
    this.#cores = cores;
    this.#queueMax = queueMax;
    this.#ownSince = new Int32Array(cores);
    this.#lastVictim = new Int32Array(cores);
    this.#stolen = new Int32Array(cores * cores);
  }

  /** A process of this core has nothing to do: its queue's average is brought up to date. */
  idle(core: number, listeners: readonly Listener[]): void {
    this.#judge(listeners[core] as Listener);
  }

  /** Busy above the high mark at once; no longer when the average has fallen below the low one. */
  #judge(listener: Listener): void {
    const weight = 1 / (2 * this.#queueMax);
    listener.average += weight * (listener.acceptCount - listener.average);
    if (listener.acceptCount > HIGH_MARK * this.#queueMax) listener.busy = true;
    else if (listener.average < LOW_MARK * this.#queueMax) listener.busy = false;
  }

  /** Queue to take from, -1: none. @param really false: only asked whether there is one. */
  choose(core: number, listeners: readonly Listener[], really: boolean): number {
    const own = listeners[core] as Listener;
    if (really) this.#judge(own);
    const mine = own.acceptCount > 0;
    if (own.busy) return mine ? core : -1;
    const due = (this.#ownSince[core] as number) >= OWN_PER_STOLEN;
    if (mine && !due) {
      if (really) this.#ownSince[core] = (this.#ownSince[core] as number) + 1;
      return core;
    }
    const victim = this.#findVictim(core, listeners);
    if (victim < 0) return mine ? core : -1;
    if (really) {
      this.#ownSince[core] = 0;
      this.#lastVictim[core] = victim;
      const at = core * this.#cores + victim;
      this.#stolen[at] = (this.#stolen[at] as number) + 1;
    }
    return victim;
  }

  #findVictim(core: number, listeners: readonly Listener[]): number {
    for (let i = 1; i <= this.#cores; i++) {
      const victim = ((this.#lastVictim[core] as number) + i) % this.#cores;
      const listener = listeners[victim];
      if (victim !== core && listener?.busy && listener.acceptCount > 0) return victim;
    }
    return -1;
  }

  /** Every 100 ms. @returns flow groups moved. */
  migrate(listeners: readonly Listener[], steering: Steering): number {
    let moved = 0;
    for (let core = 0; core < Math.min(this.#cores, steering.queues); core++) {
      if (listeners[core]?.busy) continue;
      const from = this.#mostStolenFrom(core);
      if (from >= 0 && this.#moveGroup(from, core, steering)) moved++;
    }
    this.#stolen.fill(0);
    this.moves += moved;
    return moved;
  }

  #mostStolenFrom(core: number): number {
    let most = 0;
    let from = -1;
    for (let victim = 0; victim < this.#cores; victim++) {
      const count = this.#stolen[core * this.#cores + victim] as number;
      if (count > most) {
        most = count;
        from = victim;
      }
    }
    return from;
  }

  #moveGroup(from: number, to: number, steering: Steering): boolean {
    const { groupQueue } = steering;
    for (let i = 0; i < groupQueue.length; i++) {
      const group = (this.#cursor + i) % groupQueue.length;
      if (groupQueue[group] !== from) continue;
      groupQueue[group] = to;
      this.#cursor = (group + 1) % groupQueue.length;
      return true;
    }
    return false;
  }
}
