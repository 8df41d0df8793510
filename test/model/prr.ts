/** Proportional rate reduction as RFC 9937 6.2 has it, in plain arithmetic: bytes in, the congestion window out. */
export type PrrAck = {
  /** Newly delivered by this ACK, cumulatively or by SACK. */
  readonly delivered: number;
  /** Believed to be on its way, after this ACK's reports and before anything is sent. */
  readonly pipe: number;
  /** SND.UNA has moved and nothing more was judged lost: the RFC's SafeACK. */
  readonly safe: boolean;
};

export class PrrModel {
  readonly #ssthresh: number;
  readonly #recoverFlight: number;
  readonly #mss: number;
  #delivered = 0;
  #out = 0;

  /** @param recoverFlight in flight when recovery began, less what SACK had reported before (RecoverFS). */
  constructor(ssthresh: number, recoverFlight: number, mss: number) {
    this.#ssthresh = ssthresh;
    this.#recoverFlight = recoverFlight;
    this.#mss = mss;
  }

  /** @returns the congestion window after this ACK. */
  ack({ delivered, pipe, safe }: PrrAck): number {
    this.#delivered += delivered;
    let count: number;
    if (pipe > this.#ssthresh) {
      count = Math.ceil((this.#delivered * this.#ssthresh) / this.#recoverFlight) - this.#out;
    } else {
      const limit = Math.max(this.#delivered - this.#out, delivered) + (safe ? this.#mss : 0);
      count = Math.min(this.#ssthresh - pipe, limit);
    }
    // The first retransmission leaves with the ACK that begins recovery.
    count = Math.max(count, this.#out === 0 ? this.#mss : 0);
    return pipe + count;
  }

  sent(bytes: number): void {
    this.#out += bytes;
  }
}
