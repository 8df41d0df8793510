/**
 * Frames that every kernel must see: ARP replies and announcements, neighbour advertisements. The host has one queue
 * for a frame, so these go to a queue that no kernel has, and the waker's thread copies each into a mailbox per kernel.
 * The kernel's port takes it from there: the RX ring keeps its one producer, and no kernel depends on another for its
 * neighbours.
 *
 * A mailbox, single producer and single consumer, in a SharedArrayBuffer of its own:
 * ```
 *    0  i32 tail, frames put in so far      written by the relay
 *   64  i32 head, frames taken so far       written by the port
 *  128  64 slots of 128 bytes: u32 frame length, frame
 * ```
 * A full mailbox drops: whoever waits for a reply asks again.
 */
const TAIL = 0;
const HEAD = 64 >> 2;
const SLOTS_BASE = 128;
const SLOTS = 64;
const SLOT_BYTES = 128;
const SLOT_FRAME = 4;
/** A neighbour advertisement is 86 bytes; ARP is 42, or 60 with the padding of Ethernet (IEEE 802.3 4.2.3.3). */
export const RELAY_FRAME_BYTES_MAX = SLOT_BYTES - SLOT_FRAME;

export class Mailbox {
  readonly buffer: SharedArrayBuffer;
  readonly #words: Int32Array;
  readonly #bytes: Uint8Array;

  constructor(buffer = new SharedArrayBuffer(SLOTS_BASE + SLOTS * SLOT_BYTES)) {
    this.buffer = buffer;
    this.#words = new Int32Array(buffer);
    this.#bytes = new Uint8Array(buffer);
  }

  /** Puts a frame in, at most RELAY_FRAME_BYTES_MAX bytes. @returns false when there is no room: it is dropped. */
  put(frame: Uint8Array): boolean {
    const tail = this.#words[TAIL] as number;
    if (((tail - Atomics.load(this.#words, HEAD)) | 0) === SLOTS) return false;
    const slot = SLOTS_BASE + (tail & (SLOTS - 1)) * SLOT_BYTES;
    this.#words[slot >> 2] = frame.length;
    this.#bytes.set(frame, slot + SLOT_FRAME);
    Atomics.store(this.#words, TAIL, (tail + 1) | 0);
    return true;
  }

  get isEmpty(): boolean {
    return Atomics.load(this.#words, TAIL) === this.#words[HEAD];
  }

  /** Hands each frame to `take`; the view is valid during the call only. */
  drain(take: (frame: Uint8Array) => void): void {
    for (let head = this.#words[HEAD] as number; Atomics.load(this.#words, TAIL) !== head; ) {
      const slot = SLOTS_BASE + (head & (SLOTS - 1)) * SLOT_BYTES;
      const length = this.#words[slot >> 2] as number;
      take(this.#bytes.subarray(slot + SLOT_FRAME, slot + SLOT_FRAME + length));
      head = (head + 1) | 0;
      Atomics.store(this.#words, HEAD, head);
    }
  }
}
