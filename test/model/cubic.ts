/** CUBIC (RFC 9438) in the plainest form: windows in segments, times in seconds. An oracle, sharing no code. */

const C = 0.4;
const BETA = 0.7;

export class CubicModel {
  cwnd: number;
  /** The plateau: where the last reduction began, or less (4.7). */
  wMax = 0;
  #wEst = 0;
  #k = 0;
  #epoch: number | undefined;

  constructor(cwnd: number) {
    this.cwnd = cwnd;
  }

  /** A reduction (4.6), with fast convergence (4.7): a flow that did not get as far as last time makes room. */
  lost(): void {
    this.wMax = this.cwnd < this.wMax ? (this.cwnd * (1 + BETA)) / 2 : this.cwnd;
    this.cwnd *= BETA;
    this.#epoch = undefined;
  }

  /** Segments are acknowledged at `now`, in congestion avoidance. */
  acked(segments: number, now: number, rtt: number): void {
    if (this.#epoch === undefined) {
      this.#epoch = now;
      this.#wEst = this.cwnd;
      this.#k = Math.cbrt((this.wMax - this.cwnd) / C);
    }
    const t = now - this.#epoch;
    const alpha = this.#wEst >= this.wMax ? 1 : (3 * (1 - BETA)) / (1 + BETA);
    this.#wEst += (alpha * segments) / this.cwnd;
    if (this.#window(t) < this.#wEst) {
      // 4.3: where Reno would be further.
      this.cwnd = Math.max(this.cwnd, this.#wEst);
    } else {
      // 4.4, 4.5.
      const target = Math.min(Math.max(this.#window(t + rtt), this.cwnd), 1.5 * this.cwnd);
      this.cwnd += ((target - this.cwnd) / this.cwnd) * segments;
    }
  }

  /** 4.2, equation 1. */
  #window(t: number): number {
    return C * (t - this.#k) ** 3 + this.wMax;
  }
}
