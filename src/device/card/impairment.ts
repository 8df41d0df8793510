/**
 * A bad link: what happens to frames between the sending port and the card at the other end. Everything is drawn from
 * a seed and dated by the caller's clock, so that the same frames at the same instants have the same fate, to the byte.
 *
 * Order, as in the kernel's netem: loss, duplication, corruption, rate, delay. A frame that is neither reordered nor
 * lost never overtakes another, whatever the jitter.
 */
import { checkOptions, type Shape } from "../../checks.ts";
import { NetPopcornError } from "../../errors.ts";
import { FRAME_LENGTH, FRAME_OFFSET } from "../../layout/frameRing.ts";
import { Prng } from "../../sim/prng.ts";
import { recordBytes } from "../../views/frameRing.ts";

/** What a bad link does to frames. Drawn from the segment's seed. */
export type Impairments = {
  /** Time from the end of sending to delivery, ns. Default 0. */
  readonly delayNs?: number;
  /** Added to the delay, evenly drawn from 0..jitterNs. Default 0. */
  readonly jitterNs?: number;
  /** Bits per second that each port may send; 0: no limit. Default 0. */
  readonly rateBitsPerSecond?: number;
  /** Bytes that may wait for a rate-limited link; what comes on top is lost. Default 256 KiB. */
  readonly queueBytes?: number;
  /** Frames with more bytes are lost, and nobody is told: a path MTU black hole; 0: no limit. Default 0. */
  readonly frameBytesMax?: number;
  /** Frames per million that are lost, sent twice, changed in one bit, held back. Default 0. */
  readonly lossPpm?: number;
  readonly duplicatePpm?: number;
  readonly corruptPpm?: number;
  readonly reorderPpm?: number;
  /** How long a reordered frame is held back so that others overtake it, ns. Default 1 ms. */
  readonly reorderNs?: number;
};

export type ImpairmentCounts = {
  lost: number;
  duplicated: number;
  corrupted: number;
  reordered: number;
  /** Lost because the rate-limited link's queue was full. */
  queueDropped: number;
};

const PPM = 1_000_000;
const NS_PER_S = 1e9;

const RANGES: Readonly<Record<keyof Impairments, { readonly initial: number; readonly max: number }>> = {
  delayNs: { initial: 0, max: 3600 * NS_PER_S },
  jitterNs: { initial: 0, max: 3600 * NS_PER_S },
  rateBitsPerSecond: { initial: 0, max: 1e15 },
  queueBytes: { initial: 262144, max: 2 ** 31 },
  frameBytesMax: { initial: 0, max: 65_536 },
  lossPpm: { initial: 0, max: PPM },
  duplicatePpm: { initial: 0, max: PPM },
  corruptPpm: { initial: 0, max: PPM },
  reorderPpm: { initial: 0, max: PPM },
  reorderNs: { initial: 1e6, max: 3600 * NS_PER_S },
};

const OPTIONS = Object.fromEntries(Object.keys(RANGES).map((name) => [name, "any"])) as Shape<Impairments>;

/** @throws NetPopcornError ERR_OPTION_UNKNOWN, ERR_OPTION_RANGE naming the impairment and its range. */
export function completeImpairments(options: Impairments): Required<Impairments> {
  checkOptions("impairments", options, OPTIONS);
  const complete: Record<string, number> = {};
  for (const [name, range] of Object.entries(RANGES)) {
    const value = options[name as keyof Impairments] ?? range.initial;
    if (!(value >= 0 && value <= range.max)) {
      throw new NetPopcornError("ERR_OPTION_RANGE", `impairment ${name} is ${value}; it must be 0..${range.max}`);
    }
    complete[name] = value;
  }
  return complete as Required<Impairments>;
}

/** True when these settings leave every frame as it is. */
export function isPerfect(settings: Required<Impairments>): boolean {
  const { delayNs, jitterNs, rateBitsPerSecond, frameBytesMax } = settings;
  const { lossPpm, duplicatePpm, corruptPpm, reorderPpm } = settings;
  return (
    delayNs + jitterNs + rateBitsPerSecond + frameBytesMax + lossPpm + duplicatePpm + corruptPpm + reorderPpm === 0
  );
}

/** A frame on the way. */
type Flight = { readonly dueNs: number; readonly order: number; readonly frame: Uint8Array };

/** The frames of one sending port that are on the way, and the dice that decide their fate. */
export class ImpairedLink {
  readonly counts: ImpairmentCounts = { lost: 0, duplicated: 0, corrupted: 0, reordered: 0, queueDropped: 0 };
  #settings: Required<Impairments>;
  readonly #prng: Prng;
  /** Binary heap by due time, then by order of sending. */
  readonly #flights: Flight[] = [];
  #bytes = 0;
  #order = 0;
  /** When the link has sent what it has accepted, ns. */
  #busyUntilNs = 0;
  /** Latest due time of a frame that keeps its place. */
  #lastDueNs = 0;

  /** @param port separates the dice of ports that share a seed. */
  constructor(settings: Required<Impairments>, seed: number, port: number) {
    this.#settings = settings;
    this.#prng = new Prng(seed, port);
  }

  /** New conditions for frames sent from now on; those on the way keep their due times. */
  set settings(settings: Required<Impairments>) {
    this.#settings = settings;
  }

  /** Frame bytes on the way. */
  get bytes(): number {
    return this.#bytes;
  }

  get frames(): number {
    return this.#flights.length;
  }

  /** When the next frame falls due, ns; Infinity: none is on the way. */
  get nextDueNs(): number {
    return this.#flights[0]?.dueNs ?? Number.POSITIVE_INFINITY;
  }

  /** Sends one frame; its bytes are copied. */
  send(frame: Uint8Array, nowNs: number): void {
    const settings = this.#settings;
    const prng = this.#prng;
    const lost = prng.chance(settings.lossPpm);
    const duplicated = prng.chance(settings.duplicatePpm);
    const corrupted = prng.chance(settings.corruptPpm);
    if (lost || (settings.frameBytesMax > 0 && frame.length > settings.frameBytesMax)) {
      this.counts.lost++;
      return;
    }
    const copy = frame.slice();
    if (corrupted && copy.length > 0) {
      const bit = prng.below(copy.length * 8);
      copy[bit >> 3] = (copy[bit >> 3] as number) ^ (1 << (bit & 7));
      this.counts.corrupted++;
    }
    this.#launch(copy, nowNs);
    if (duplicated) {
      this.counts.duplicated++;
      this.#launch(copy, nowNs);
    }
  }

  #launch(frame: Uint8Array, nowNs: number): void {
    const { delayNs, jitterNs, rateBitsPerSecond, queueBytes, reorderPpm, reorderNs } = this.#settings;
    let sentNs = nowNs;
    if (rateBitsPerSecond > 0) {
      const startNs = Math.max(nowNs, this.#busyUntilNs);
      const waitingBytes = ((startNs - nowNs) * rateBitsPerSecond) / (8 * NS_PER_S);
      if (waitingBytes + frame.length > queueBytes && startNs > nowNs) {
        this.counts.queueDropped++;
        return;
      }
      sentNs = startNs + (frame.length * 8 * NS_PER_S) / rateBitsPerSecond;
      this.#busyUntilNs = sentNs;
    }
    let dueNs = Math.ceil(sentNs + delayNs + (jitterNs > 0 ? this.#prng.fraction() * jitterNs : 0));
    if (this.#prng.chance(reorderPpm)) {
      this.counts.reordered++;
      dueNs += reorderNs;
    } else {
      dueNs = Math.max(dueNs, this.#lastDueNs);
      this.#lastDueNs = dueNs;
    }
    this.#push({ dueNs, order: this.#order++, frame });
  }

  /**
   * Writes due frames as frame-ring records at `at`, as many as fit before `end`.
   * @param words the same memory as `bytes`. @returns address behind the last record.
   */
  takeDue(nowNs: number, bytes: Uint8Array, words: Int32Array, at: number, end: number): number {
    let next = this.#flights[0];
    while (next && next.dueNs <= nowNs) {
      const size = recordBytes(next.frame.length);
      if (at + size > end) break;
      bytes.fill(0, at, at + FRAME_OFFSET);
      words[(at + FRAME_LENGTH) >> 2] = next.frame.length;
      bytes.set(next.frame, at + FRAME_OFFSET);
      at += size;
      this.#pop();
      next = this.#flights[0];
    }
    return at;
  }

  #push(flight: Flight): void {
    const heap = this.#flights;
    this.#bytes += flight.frame.length;
    let at = heap.length;
    heap.push(flight);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      const above = heap[parent] as Flight;
      if (isBefore(above, flight)) break;
      heap[at] = above;
      at = parent;
    }
    heap[at] = flight;
  }

  #pop(): void {
    const heap = this.#flights;
    this.#bytes -= (heap[0] as Flight).frame.length;
    const last = heap.pop() as Flight;
    if (heap.length === 0) return;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      const left = heap[child];
      if (left === undefined) break;
      const right = heap[child + 1];
      if (right !== undefined && isBefore(right, left)) child++;
      const least = heap[child] as Flight;
      if (isBefore(last, least)) break;
      heap[at] = least;
      at = child;
    }
    heap[at] = last;
  }
}

function isBefore(a: Flight, b: Flight): boolean {
  return a.dueNs < b.dueNs || (a.dueNs === b.dueNs && a.order < b.order);
}
