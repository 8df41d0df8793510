/**
 * What the parts of TCP must do, in the plainest form: oracles for the property tests, sharing no code with assembly/.
 */

/** Distance of b from a on the circle of 2^32 numbers, -2^31..2^31-1. */
export function seqDistance(a: number, b: number): number {
  const forward = (((b - a) % 2 ** 32) + 2 ** 32) % 2 ** 32;
  return forward >= 2 ** 31 ? forward - 2 ** 32 : forward;
}

/** Timers as a plain list of deadlines; ticks are counted without wrapping around. */
export class TimerModel {
  readonly deadlines = new Map<number, number>();
  #now: number;
  readonly #horizon: number;

  constructor(now: number, horizonTicks: number) {
    this.#now = now;
    this.#horizon = horizonTicks;
  }

  /** To be looked at no later than at `tick`; what lies too far ahead is looked at when the horizon is reached. */
  arm(index: number, tick: number): void {
    const present = this.deadlines.get(index);
    if (present !== undefined && present <= tick) return;
    this.deadlines.set(index, Math.min(Math.max(tick, this.#now + 1), this.#now + this.#horizon));
  }

  remove(index: number): void {
    this.deadlines.delete(index);
  }

  /** All that is due at `tick`, in the order of the numbers. */
  take(tick: number): number[] {
    this.#now = tick;
    const due = [...this.deadlines].filter(([, deadline]) => deadline <= tick).map(([index]) => index);
    for (const index of due) this.deadlines.delete(index);
    return due.sort((a, b) => a - b);
  }

  first(): number {
    return Math.min(...this.deadlines.values());
  }
}

/** Bytes received ahead of their turn, one by one. Positions are counted from the start without wrapping around. */
export class RangeModel {
  readonly #bytes = new Set<number>();

  insert(start: number, end: number): void {
    for (let at = start; at < end; at++) this.#bytes.add(at);
  }

  /** Everything before `next` has been received in order. @returns first position that is missing then. */
  advance(next: number): number {
    let at = next;
    while (this.#bytes.has(at)) at++;
    for (const byte of [...this.#bytes]) if (byte < at) this.#bytes.delete(byte);
    return at;
  }

  get empty(): boolean {
    return this.#bytes.size === 0;
  }

  /** Pieces without a hole. */
  get ranges(): number {
    return [...this.#bytes].filter((byte) => !this.#bytes.has(byte - 1)).length;
  }

  /** Number of pieces if [start, end) were there too. */
  rangesWith(start: number, end: number): number {
    const copy = new RangeModel();
    for (const byte of this.#bytes) copy.#bytes.add(byte);
    copy.insert(start, end);
    return copy.ranges;
  }
}

/** RFC 6298 section 2 in real numbers, seconds; alpha = 1/8, beta = 1/4, K = 4. */
export class RttModel {
  #srtt = 0;
  #rttvar = 0;
  #samples = 0;
  readonly #initial: number;
  readonly #min: number;
  readonly #max: number;

  constructor(initial: number, min: number, max: number) {
    this.#initial = initial;
    this.#min = min;
    this.#max = max;
  }

  enter(rtt: number): void {
    if (this.#samples++ === 0) {
      this.#srtt = rtt;
      this.#rttvar = rtt / 2;
      return;
    }
    this.#rttvar = 0.75 * this.#rttvar + 0.25 * Math.abs(this.#srtt - rtt);
    this.#srtt = 0.875 * this.#srtt + 0.125 * rtt;
  }

  rto(backoff: number): number {
    const base = this.#samples === 0 ? this.#initial : this.#srtt + Math.max(this.#min, 4 * this.#rttvar);
    return Math.min(this.#max, base * 2 ** Math.min(backoff, 16));
  }
}
