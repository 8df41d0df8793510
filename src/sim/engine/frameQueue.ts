/**
 * Frames on their way: records (layout/frameRing.ts), each behind the instant at which it arrives and the connection
 * that it belongs to. The card's receive rings, and what each core has sent. Instants never decrease.
 *
 * ```
 *  +0  f64 arrival, ns    +8  i32 connection and kind (wire.ts)    +12 i32 words of all this
 *  +16 the frame's record
 * ```
 * One piece of memory per queue, so that a frame costs few cache lines; an empty queue starts over at its beginning.
 */
import { FRAME_LENGTH, FRAME_OFFSET } from "../../layout/frameRing.ts";
import { type FrameRing, recordBytes } from "../../views/frameRing.ts";

const FRAME_LENGTH_WORD = FRAME_LENGTH >> 2;
const SLOT = 2;
const STRIDE = 3;
const HEADER_WORDS = 4;
const WORDS_MIN = 1024;
/** Any number. */
const SLOTS_MAX = 2 ** 30;

/** Words of a record up to the end of its frame, an even number: what is behind it is padding. */
function contentWords(frameBytes: number): number {
  return ((FRAME_OFFSET + frameBytes + 7) >> 3) << 1;
}

export class FrameQueue {
  /** Frames that found no room. */
  dropped = 0;
  count = 0;
  readonly #slotsMax: number;
  #words: Int32Array;
  #times: Float64Array;
  #head = 0;
  #tail = 0;
  /** Arrival of the oldest frame, for whoever looks at many queues at once. */
  readonly #headsNs: Float64Array;
  readonly #index: number;

  /**
   * @param slotsMax frames that it holds; more are dropped.
   * @param headsNs `headsNs[index]` is kept as headNs.
   */
  constructor(slotsMax = SLOTS_MAX, headsNs: Float64Array = new Float64Array(1), index = 0) {
    this.#slotsMax = slotsMax;
    this.#words = new Int32Array(WORDS_MIN);
    this.#times = new Float64Array(this.#words.buffer);
    this.#headsNs = headsNs;
    this.#index = index;
    headsNs[index] = Number.POSITIVE_INFINITY;
  }

  /** Arrival of the oldest frame; Infinity: there is none. */
  get headNs(): number {
    return this.#headsNs[this.#index] as number;
  }

  /** Connection of the oldest frame. Preconditions: count > 0. */
  get headSlot(): number {
    return this.#words[this.#head + SLOT] as number;
  }

  /** Frames that have arrived by `nowNs`, at most `max`. */
  arrived(nowNs: number, max: number): number {
    const limit = Math.min(max, this.count);
    let at = this.#head;
    let count = 0;
    while (count < limit && (this.#times[at >> 1] as number) <= nowNs) {
      at += this.#words[at + STRIDE] as number;
      count++;
    }
    return count;
  }

  /** Copies the record at word `at` of `source`. @returns false: no room, dropped and counted. */
  push(source: Int32Array, at: number, arrivalNs: number, slot: number): boolean {
    if (this.count >= this.#slotsMax) {
      this.dropped++;
      return false;
    }
    const words = contentWords(source[at + FRAME_LENGTH_WORD] as number);
    const put = this.#roomFor(HEADER_WORDS + words);
    this.#times[put >> 1] = arrivalNs;
    this.#words[put + SLOT] = slot;
    this.#words[put + STRIDE] = HEADER_WORDS + words;
    copyWords(source, at, this.#words, put + HEADER_WORDS, words);
    this.#tail = put + HEADER_WORDS + words;
    if (this.count++ === 0) this.#headsNs[this.#index] = arrivalNs;
    return true;
  }

  /** Moves the oldest frame to the ring's tail. @returns false: the ring is full. Preconditions: count > 0. */
  moveTo(ring: FrameRing): boolean {
    const at = this.#head + HEADER_WORDS;
    const bytes = recordBytes(this.#words[at + FRAME_LENGTH_WORD] as number);
    const to = ring.reserve(bytes);
    if (to === 0) return false;
    copyWords(this.#words, at, ring.words, to >>> 2, (this.#words[this.#head + STRIDE] as number) - HEADER_WORDS);
    ring.publish(bytes);
    this.#drop();
    return true;
  }

  /** Moves the oldest frame to another queue. Preconditions: count > 0. */
  passOn(queue: FrameQueue, arrivalNs: number): boolean {
    const passed = queue.push(this.#words, this.#head + HEADER_WORDS, arrivalNs, this.headSlot);
    this.#drop();
    return passed;
  }

  /** The oldest frame is lost. Preconditions: count > 0. */
  drop(): void {
    this.dropped++;
    this.#drop();
  }

  #drop(): void {
    if (--this.count === 0) {
      this.#head = 0;
      this.#tail = 0;
      this.#headsNs[this.#index] = Number.POSITIVE_INFINITY;
      return;
    }
    this.#head += this.#words[this.#head + STRIDE] as number;
    this.#headsNs[this.#index] = this.#times[this.#head >> 1] as number;
  }

  /** @returns where `words` in one piece are free behind the last frame. */
  #roomFor(words: number): number {
    if (this.#tail + words <= this.#words.length) return this.#tail;
    // The living records slide to the front; into a larger array when they fill more than half of it.
    const used = this.#tail - this.#head;
    if ((used + words) * 2 > this.#words.length) {
      const larger = new Int32Array((used + words) * 4);
      larger.set(this.#words.subarray(this.#head, this.#tail));
      this.#words = larger;
      this.#times = new Float64Array(larger.buffer);
    } else {
      this.#words.copyWithin(0, this.#head, this.#tail);
    }
    this.#head = 0;
    this.#tail = used;
    return used;
  }
}

/** A view object for a copy costs as much as copying this many words one by one. */
const WORDWISE_MAX = 192;

/** @param words an even number. */
function copyWords(source: Int32Array, from: number, target: Int32Array, to: number, words: number): void {
  if (words > WORDWISE_MAX) {
    target.set(source.subarray(from, from + words), to);
    return;
  }
  for (let i = 0; i < words; i += 2) {
    target[to + i] = source[from + i] as number;
    target[to + i + 1] = source[from + i + 1] as number;
  }
}
