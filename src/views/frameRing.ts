import {
  FRAME_ALIGN_BYTES,
  FRAME_LENGTH,
  FRAME_OFFSET,
  FRAME_QUEUE,
  FRAME_VNET,
  FRAME_VNET_SIZE_BYTES,
  RING_BASE,
  RING_HEAD,
  RING_MISSED,
  RING_SIZE,
  RING_TAIL,
} from "../layout/frameRing.ts";

/** Bytes that a frame takes in a ring. */
export function recordBytes(frameBytes: number): number {
  return (FRAME_OFFSET + frameBytes + FRAME_ALIGN_BYTES - 1) & -FRAME_ALIGN_BYTES;
}

/**
 * A frame ring (layout/frameRing.ts) seen from TypeScript, as its producer or as its consumer, never as both.
 * Kernel memories never grow, so the views stay valid for the ring's life.
 */
export class FrameRing {
  readonly bytes: Uint8Array;
  readonly words: Int32Array;
  readonly #tail: number;
  readonly #head: number;
  readonly #missed: number;
  #base = 0;
  #mask = 0;
  readonly #control: number;
  /**
   * Other threads look at this memory: head and tail must be read and written atomically. A plain access is 8 ns
   * cheaper.
   */
  readonly #shared: boolean;

  /** @param control byte address of the ring control record in `memory`. */
  constructor(memory: WebAssembly.Memory, control: number) {
    this.bytes = new Uint8Array(memory.buffer);
    this.words = new Int32Array(memory.buffer);
    this.#shared = typeof SharedArrayBuffer !== "undefined" && memory.buffer instanceof SharedArrayBuffer;
    this.#control = control;
    this.#tail = (control + RING_TAIL) >> 2;
    this.#head = (control + RING_HEAD) >> 2;
    this.#missed = (control + RING_MISSED) >> 2;
  }

  /** False until the kernel has booted and the ring has a place. */
  get ready(): boolean {
    if (this.#base === 0) {
      this.#base = Atomics.load(this.words, (this.#control + RING_BASE) >> 2) >>> 0;
      this.#mask = (this.words[(this.#control + RING_SIZE) >> 2] as number) - 1;
    }
    return this.#base !== 0;
  }

  get sizeBytes(): number {
    return this.ready ? this.#mask + 1 : 0;
  }

  /** Bytes of records between head and tail. */
  get usedBytes(): number {
    return (this.#load(this.#tail) - this.#load(this.#head)) >>> 0;
  }

  #load(word: number): number {
    return this.#shared ? Atomics.load(this.words, word) : (this.words[word] as number);
  }

  #store(word: number, value: number): void {
    if (this.#shared) Atomics.store(this.words, word, value);
    else this.words[word] = value;
  }

  /** Frames that the producer had to drop. */
  get missed(): number {
    return (this.words[this.#missed] as number) >>> 0;
  }

  // For observers (captures): the counters, and where a counter's record lies.

  /** Free-running byte counter, u32. */
  get head(): number {
    return this.#load(this.#head) >>> 0;
  }

  get tail(): number {
    return Atomics.load(this.words, this.#tail) >>> 0;
  }

  /** Byte address of the record at a counter. Preconditions: ready. */
  addressOf(counter: number): number {
    return this.#base + ((counter & this.#mask) >>> 0);
  }

  /** Starts over at the first byte when the ring is empty, and so stays in the caches. Both ends are on this thread. */
  rewind(): void {
    const head = this.words[this.#head] as number;
    if (head === 0 || head !== this.words[this.#tail]) return;
    this.words[this.#head] = 0;
    this.words[this.#tail] = 0;
  }

  // Consumer side.

  /**
   * Byte address of the oldest record and, in `runBytes`, how many bytes of records lie there in one piece; 0: the ring
   * is empty.
   */
  runBytes = 0;
  peekRun(): number {
    if (!this.ready) return 0;
    const head = this.words[this.#head] as number;
    const used = (this.#load(this.#tail) - head) >>> 0;
    if (used === 0) {
      this.runBytes = 0;
      return 0;
    }
    const at = head & this.#mask;
    this.runBytes = Math.min(used, this.#mask + 1 - at);
    return this.#base + at;
  }

  /** Gives `bytes` of records back to the producer. */
  consume(bytes: number): void {
    this.#store(this.#head, ((this.words[this.#head] as number) + bytes) | 0);
  }

  /** Length of the frame of the record at `address`; negative: a pad of that many bytes. */
  recordLength(address: number): number {
    return this.words[(address + FRAME_LENGTH) >>> 2] as number;
  }

  // Producer side.

  /** Bytes that can be written in one piece at the tail now, and their address in `roomAddress`. */
  roomAddress = 0;
  room(): number {
    if (!this.ready) return 0;
    const tail = this.words[this.#tail] as number;
    const free = this.#mask + 1 - ((tail - this.#load(this.#head)) >>> 0);
    const at = tail & this.#mask;
    this.roomAddress = this.#base + at;
    return Math.min(free, this.#mask + 1 - at);
  }

  /**
   * Makes room for one record of `bytes`, with a pad record where it would cross the end.
   * @returns its address, or 0 when the ring is too full.
   */
  reserve(bytes: number): number {
    if (!this.ready) return 0;
    const size = this.#mask + 1;
    const tail = this.words[this.#tail] as number;
    const free = size - ((tail - this.#load(this.#head)) >>> 0);
    const at = tail & this.#mask;
    const toEnd = size - at;
    if (bytes <= toEnd) return bytes <= free ? this.#base + at : 0;
    if (toEnd + bytes > free) return 0;
    this.words[(this.#base + at + FRAME_LENGTH) >>> 2] = -toEnd;
    this.publish(toEnd);
    return this.#base;
  }

  /** Hands `bytes` of written records to the consumer. */
  publish(bytes: number): void {
    this.#store(this.#tail, ((this.words[this.#tail] as number) + bytes) | 0);
  }

  /** Counts a frame that found no room. */
  countMissed(frames = 1): void {
    this.words[this.#missed] = ((this.words[this.#missed] as number) + frames) | 0;
  }

  /**
   * Appends one frame.
   * @param queue written to the record for the receiver's statistics.
   * @param vnet the 12-byte virtio header; zeros when left out.
   * @returns false, with the frame counted as missed, when there is no room.
   */
  push(frame: Uint8Array, queue = 0, vnet?: Uint8Array): boolean {
    const bytes = recordBytes(frame.length);
    const at = this.reserve(bytes);
    if (at === 0) {
      this.countMissed();
      return false;
    }
    this.words[(at + FRAME_LENGTH) >>> 2] = frame.length;
    this.bytes[at + FRAME_QUEUE] = queue & 0xff;
    this.bytes[at + FRAME_QUEUE + 1] = queue >> 8;
    if (vnet) this.bytes.set(vnet, at + FRAME_VNET);
    else this.bytes.fill(0, at + FRAME_VNET, at + FRAME_VNET + FRAME_VNET_SIZE_BYTES);
    this.bytes.set(frame, at + FRAME_OFFSET);
    this.publish(bytes);
    return true;
  }

  /** Takes the oldest frame as a copy; undefined when the ring is empty. For tests, captures and slow paths. */
  shift(): Uint8Array | undefined {
    for (;;) {
      const at = this.peekRun();
      if (at === 0) return undefined;
      const length = this.recordLength(at);
      if (length < 0) {
        this.consume(-length);
        continue;
      }
      const frame = this.bytes.slice(at + FRAME_OFFSET, at + FRAME_OFFSET + length);
      this.consume(recordBytes(length));
      return frame;
    }
  }
}

/**
 * Moves as many records as fit from `source` (as its consumer) to `target` (as its producer), each run in one copy.
 * What does not fit stays in `source`: back-pressure, no loss.
 * @returns bytes of records moved.
 */
export function moveRun(source: FrameRing, target: FrameRing): number {
  const from = source.peekRun();
  if (from === 0) return 0;
  let run = source.runBytes;
  let room = target.room();
  if (run > room) {
    run = prefixThatFits(source, from, run, room);
    if (run === 0) {
      // Perhaps the first record fits at the start of the target's ring: reserve() pads and turns.
      const length = source.recordLength(from);
      if (length < 0) {
        source.consume(-length);
        return 0;
      }
      if (target.reserve(recordBytes(length)) === 0) return 0;
      room = target.room();
      run = prefixThatFits(source, from, source.runBytes, room);
    }
  }
  copyRecords(source, from, target, target.roomAddress, run);
  target.publish(run);
  source.consume(run);
  return run;
}

/** A view object for a copy costs as much as copying this many bytes word by word. */
const WORDWISE_BYTES_MAX = 256;

/** Copies whole records; both places and the length are multiples of FRAME_ALIGN_BYTES. */
function copyRecords(source: FrameRing, from: number, target: FrameRing, to: number, bytes: number): void {
  if (bytes > WORDWISE_BYTES_MAX) {
    target.bytes.set(source.bytes.subarray(from, from + bytes), to);
    return;
  }
  const { words } = source;
  const targetWords = target.words;
  const end = (from + bytes) >>> 2;
  for (let at = from >>> 2, put = to >>> 2; at < end; ) targetWords[put++] = words[at++] as number;
}

/** Bytes of whole records at the start of a run that fit into `room`. */
function prefixThatFits(ring: FrameRing, from: number, run: number, room: number): number {
  let at = 0;
  while (at < run) {
    const length = ring.recordLength(from + at);
    const bytes = length < 0 ? -length : recordBytes(length);
    if (at + bytes > room) break;
    at += bytes;
  }
  return at;
}
