/**
 * Spin locks in virtual time. Who asks first is served first; what differs between the kinds is the hand-off, the time
 * between one holder's release and the next one's first instruction inside:
 *
 * - `queued` (MCS, Linux from 4.2): each waiter spins on a line of its own; one line goes over, whatever the queue.
 * - `ticket` (2.6.25 to 4.1): all waiters spin on one line. The release takes it from all of them, they fetch it again
 *   one after another, and the next owner is somewhere among them: one line, plus a part of a line per other waiter
 *   (Boyd-Wickizer et al., OLS 2012: linear in the waiters).
 * - `unfair` (before 2.6.25): test-and-set. All waiters fetch the line and try; who is nearest wins, so its line comes
 *   from the own socket: fetched to be read, fetched again to be written, and fetched back by the holder that releases.
 *   The losers' attempts take the line from one to the other, and the holder cannot release before they are through
 *   (Anderson, 1990: a burst of attempts after each release, of the order of the waiters).
 */
import type { Distance } from "./distance.ts";
import { ZERO } from "./doubles.ts";

export type SpinLockKind = "unfair" | "ticket" | "queued";

export type SpinLockCosts = {
  readonly kind: SpinLockKind;
  /** An atomic operation on an own line and its release. */
  readonly uncontendedNs: number;
  /** Ticket: lines per waiter beside the next owner. */
  readonly linesPerWaiter: number;
};

const UNFAIR_FETCHES = 3;
/** More than the cores that can spin at a time. */
const ENDS = 256;

export class SpinLock {
  readonly name: string;
  acquisitions = 0;
  contended = 0;
  /** Time spent spinning, all cores together. */
  spinNs = ZERO;
  readonly #costs: SpinLockCosts;
  readonly #distance: Distance;
  /** Ends of the present and the coming critical sections, in order; a ring. */
  readonly #endNs = new Float64Array(ENDS);
  /** The waiters are spread over the sockets in use. */
  readonly #meanLineNs: number;
  #head = 0;
  #tail = 0;
  #lastCore = -1;
  #lastEndNs = Number.NEGATIVE_INFINITY;
  #grantedNs = ZERO;
  /** How long the last holder had it. */
  #lastHoldNs = ZERO;

  constructor(name: string, costs: SpinLockCosts, distance: Distance) {
    this.name = name;
    this.#costs = costs;
    this.#distance = distance;
    const sockets = distance.socketOf(distance.cores - 1) + 1;
    this.#meanLineNs = (distance.sameSocketNs + (sockets - 1) * distance.crossSocketNs) / sockets;
    this.resetStatistics();
  }

  /** Core that held it last, -1: none. */
  get lastCore(): number {
    return this.#lastCore;
  }

  /**
   * Asks for the lock at `nowNs`; release() must follow before anybody else asks.
   * Preconditions: nowNs does not run backwards by more than a step.
   * @returns when `core` has it. The time until then, but for the uncontended cost, is spun.
   */
  acquire(core: number, nowNs: number): number {
    this.acquisitions++;
    const { uncontendedNs } = this.#costs;
    if (this.#lastEndNs <= nowNs) {
      this.#head = this.#tail;
      this.#grantedNs = nowNs + uncontendedNs + this.#distance.lineNs(this.#lastCore, core);
      return this.#grantedNs;
    }
    // Critical sections follow each other, so that the last one is among those that are not over.
    const waiting = this.waiters(nowNs);
    this.contended++;
    this.#grantedNs = this.#lastEndNs + this.#handOffNs(core, waiting - 1) + uncontendedNs;
    this.spinNs += this.#grantedNs - nowNs;
    return this.#grantedNs;
  }

  release(core: number, atNs: number): void {
    this.#lastCore = core;
    this.#lastEndNs = atNs;
    this.#lastHoldNs = atNs - this.#grantedNs;
    if (this.#tail - this.#head === ENDS) this.#head++;
    this.#endNs[this.#tail++ % ENDS] = atNs;
  }

  /** Holders and waiters at `nowNs`. */
  waiters(nowNs: number): number {
    while (this.#head < this.#tail && (this.#endNs[this.#head % ENDS] as number) <= nowNs) this.#head++;
    return this.#tail - this.#head;
  }

  resetStatistics(): void {
    this.acquisitions = 0;
    this.contended = 0;
    this.spinNs = 0;
  }

  /** What is left of the losers' attempts when the holder wants to release. */
  #burstLeftNs(losers: number): number {
    return Math.max(0, losers * this.#meanLineNs - this.#lastHoldNs);
  }

  #handOffNs(core: number, otherWaiters: number): number {
    const { sameSocketNs } = this.#distance;
    const lineNs = this.#distance.lineNs(this.#lastCore, core) || sameSocketNs;
    switch (this.#costs.kind) {
      case "queued":
        return lineNs;
      case "ticket":
        return lineNs + otherWaiters * this.#costs.linesPerWaiter * this.#meanLineNs;
      case "unfair":
        if (otherWaiters === 0) return lineNs;
        return UNFAIR_FETCHES * Math.min(lineNs, sameSocketNs) + this.#burstLeftNs(otherWaiters);
    }
  }
}
