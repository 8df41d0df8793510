/**
 * Frames on their way: a ring of records (layout/frameRing.ts) with the instant at which each arrives and the
 * connection that it belongs to. The card's receive rings, and what each core has sent. Instants never decrease.
 */
import { FRAME_ALIGN_BYTES, FRAME_LENGTH, FRAME_OFFSET } from "../../layout/frameRing.ts";
import type { FrameRing } from "../../views/frameRing.ts";

const ALIGN_WORDS = FRAME_ALIGN_BYTES >> 2;
const FRAME_LENGTH_WORD = FRAME_LENGTH >> 2;

function recordWords(frameBytes: number): number {
  return ((FRAME_OFFSET + frameBytes + FRAME_ALIGN_BYTES - 1) >> 5) * ALIGN_WORDS;
}

export class FrameQueue {
  /** Frames that found no room. */
  dropped = 0;
  readonly #slotsMax: number;
  #words = new Int32Array(1024);
  #arrivals = new Float64Array(16);
  #slots = new Int32Array(16);
  #starts = new Int32Array(16);
  #head = 0;
  #tail = 0;
  #putWord = 0;

  /** @param slotsMax frames that it holds; more are dropped. */
  constructor(slotsMax = Number.POSITIVE_INFINITY) {
    this.#slotsMax = slotsMax;
  }

  get count(): number {
    return this.#tail - this.#head;
  }

  /** Arrival of the oldest frame; Infinity: there is none. */
  get headNs(): number {
    if (this.#head === this.#tail) return Number.POSITIVE_INFINITY;
    return this.#arrivals[this.#head & (this.#arrivals.length - 1)] as number;
  }

  /** Connection of the oldest frame. Preconditions: count > 0. */
  get headSlot(): number {
    return this.#slots[this.#head & (this.#slots.length - 1)] as number;
  }

  /** Frames that have arrived by `nowNs`, at most `max`. */
  arrived(nowNs: number, max: number): number {
    const mask = this.#arrivals.length - 1;
    let count = 0;
    const limit = Math.min(max, this.count);
    while (count < limit && (this.#arrivals[(this.#head + count) & mask] as number) <= nowNs) count++;
    return count;
  }

  /** Copies the record at word `at` of `source`. @returns false: no room, dropped and counted. */
  push(source: Int32Array, at: number, arrivalNs: number, slot: number): boolean {
    if (this.count >= this.#slotsMax) {
      this.dropped++;
      return false;
    }
    const words = recordWords(source[at + FRAME_LENGTH_WORD] as number);
    this.#makeRoom(words);
    const mask = this.#arrivals.length - 1;
    const entry = this.#tail++ & mask;
    this.#arrivals[entry] = arrivalNs;
    this.#slots[entry] = slot;
    this.#starts[entry] = this.#putWord;
    copyWords(source, at, this.#words, this.#putWord, words);
    this.#putWord += words;
    return true;
  }

  /** Moves the oldest frame to the ring's tail. @returns false: the ring is full. Preconditions: count > 0. */
  moveTo(ring: FrameRing): boolean {
    const at = this.#starts[this.#head & (this.#starts.length - 1)] as number;
    const words = recordWords(this.#words[at] as number);
    const to = ring.reserve(words * 4);
    if (to === 0) return false;
    copyWords(this.#words, at, ring.words, to >>> 2, words);
    ring.publish(words * 4);
    this.#head++;
    return true;
  }

  /** Moves the oldest frame to another queue. Preconditions: count > 0. */
  passOn(queue: FrameQueue, arrivalNs: number): boolean {
    const entry = this.#head++ & (this.#starts.length - 1);
    return queue.push(this.#words, this.#starts[entry] as number, arrivalNs, this.#slots[entry] as number);
  }

  /** Room for one more entry and `words` in one piece behind the last. */
  #makeRoom(words: number): void {
    if (this.count === this.#arrivals.length) this.#growEntries();
    if (this.count === 0) this.#putWord = 0;
    if (this.#putWord + words <= this.#words.length) return;
    // Slide the living records to the front; a larger array when they fill more than half of it.
    const mask = this.#starts.length - 1;
    const first = this.#starts[this.#head & mask] as number;
    const used = this.#putWord - first;
    const target = (used + words) * 2 > this.#words.length ? new Int32Array((used + words) * 4) : this.#words;
    if (target === this.#words) target.copyWithin(0, first, this.#putWord);
    else target.set(this.#words.subarray(first, this.#putWord));
    for (let i = this.#head; i < this.#tail; i++) this.#starts[i & mask] = (this.#starts[i & mask] as number) - first;
    this.#words = target;
    this.#putWord = used;
  }

  #growEntries(): void {
    const size = this.#arrivals.length;
    const order = Array.from({ length: size }, (_, i) => (this.#head + i) & (size - 1));
    const arrivals = new Float64Array(size * 2);
    const slots = new Int32Array(size * 2);
    const starts = new Int32Array(size * 2);
    order.forEach((from, to) => {
      arrivals[to] = this.#arrivals[from] as number;
      slots[to] = this.#slots[from] as number;
      starts[to] = this.#starts[from] as number;
    });
    this.#arrivals = arrivals;
    this.#slots = slots;
    this.#starts = starts;
    this.#head = 0;
    this.#tail = size;
  }
}

/** A view object for a copy costs as much as copying this many words one by one. */
const WORDWISE_MAX = 192;

function copyWords(source: Int32Array, from: number, target: Int32Array, to: number, words: number): void {
  if (words > WORDWISE_MAX) {
    target.set(source.subarray(from, from + words), to);
    return;
  }
  for (let i = 0; i < words; i++) target[to + i] = source[from + i] as number;
}
