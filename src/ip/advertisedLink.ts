/**
 * What routers advertise about the link to all hosts: MTU, hop limit, times of neighbour discovery (RFC 4861 6.3.4).
 * What came last counts, whichever router it is from; 0 and what is out of range leave what was there before. Without
 * clock or randomness, as autoconfiguration.ts.
 */
import type { LinkParameters } from "./networkChange.ts";

/** RFC 8200 5. */
const MTU_MIN_BYTES = 1280;
/** RFC 4861 6.2.1. */
const REACHABLE_MAX_MS = 3_600_000;
/** As Linux: less would have neighbours asked all the time. */
const REACHABLE_MIN_MS = 100;
const RETRANS_MIN_MS = 10;
/** Three solicitations are sent before another router is used: a forged time must not put that off for long. */
const RETRANS_MAX_MS = 10_000;
/** RFC 4861 6.3.4: a new random time "every few hours", although the base stays. */
const RANDOM_AGAIN_MS = 7_200_000;
/** Each change is one for all kernels and their connections: advertisements that disagree make no more of them. */
const CHANGE_INTERVAL_MS = 1000;

export type AdvertisedLinkOptions = {
  /** Of the device. */
  readonly mtuBytes: number;
  /** 0 <= result < 1. */
  readonly random: () => number;
  readonly change: (link: LinkParameters) => void;
};

function differ(a: LinkParameters, b: LinkParameters): boolean {
  return (
    a.mtuBytes !== b.mtuBytes ||
    a.hopLimit !== b.hopLimit ||
    a.reachableMs !== b.reachableMs ||
    a.retransMs !== b.retransMs
  );
}

const UNSPECIFIED: LinkParameters = { mtuBytes: 0, hopLimit: 0, reachableMs: 0, retransMs: 0 };

export class AdvertisedLink {
  readonly #options: AdvertisedLinkOptions;
  #heard = UNSPECIFIED;
  #told = UNSPECIFIED;
  /** BaseReachableTime; 0: unspecified. */
  #reachableBaseMs = 0;
  #drawMs = Number.POSITIVE_INFINITY;
  #tellFromMs = 0;

  constructor(options: AdvertisedLinkOptions) {
    this.#options = options;
  }

  /** RetransTimer as advertised; 0: unspecified. */
  get retransMs(): number {
    return this.#heard.retransMs;
  }

  /** When turn() has something to do; Infinity: never. */
  get deadlineMs(): number {
    return differ(this.#heard, this.#told) ? Math.min(this.#tellFromMs, this.#drawMs) : this.#drawMs;
  }

  turn(nowMs: number): void {
    if (nowMs >= this.#drawMs) this.#draw(nowMs);
    if (nowMs < this.#tellFromMs || !differ(this.#heard, this.#told)) return;
    this.#tellFromMs = nowMs + CHANGE_INTERVAL_MS;
    this.#told = this.#heard;
    this.#options.change(this.#heard);
  }

  input({ mtuBytes, hopLimit, reachableMs, retransMs }: LinkParameters, nowMs: number): void {
    // RFC 2464 2: what is larger than the device's is ignored.
    if (mtuBytes >= MTU_MIN_BYTES && mtuBytes <= this.#options.mtuBytes) this.#heard = { ...this.#heard, mtuBytes };
    if (hopLimit !== 0) this.#heard = { ...this.#heard, hopLimit };
    if (retransMs !== 0 && retransMs <= RETRANS_MAX_MS) {
      this.#heard = { ...this.#heard, retransMs: Math.max(retransMs, RETRANS_MIN_MS) };
    }
    if (reachableMs !== 0 && reachableMs <= REACHABLE_MAX_MS && reachableMs !== this.#reachableBaseMs) {
      this.#reachableBaseMs = reachableMs;
      this.#draw(nowMs);
    }
    this.turn(nowMs);
  }

  /** RFC 4861 6.3.2, 10: between half of the base and one and a half of it, so that hosts do not all ask at once. */
  #draw(nowMs: number): void {
    const reachableMs = Math.round(this.#reachableBaseMs * (0.5 + this.#options.random()));
    this.#heard = { ...this.#heard, reachableMs: Math.max(reachableMs, REACHABLE_MIN_MS) };
    this.#drawMs = nowMs + RANDOM_AGAIN_MS;
  }
}
