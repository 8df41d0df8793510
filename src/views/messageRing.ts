import { RING_BASE, RING_HEAD, RING_SIZE, RING_TAIL } from "../layout/frameRing.ts";
import { MESSAGE_CONTROL_BASE } from "../layout/kernelMemory.ts";
import {
  MESSAGE_ALIGN_BYTES,
  MESSAGE_BELL_BASE,
  MESSAGE_CONTROL_SIZE_BYTES,
  MESSAGE_CORRELATION,
  MESSAGE_HEADER_BYTES,
  MESSAGE_LIFE,
  MESSAGE_PAYLOAD_BYTES,
  MESSAGE_TYPE,
  MESSAGE_TYPE_PAD,
  MESSAGE_VERSION,
  MESSAGE_WAITING,
} from "../layout/message.ts";
import type { KernelMemory } from "./kernelMemory.ts";

const BELL = MESSAGE_BELL_BASE >> 2;

/** Bytes that a message takes in a ring. */
export function messageRecordBytes(payloadBytes: number): number {
  return (MESSAGE_HEADER_BYTES + payloadBytes + MESSAGE_ALIGN_BYTES - 1) & -MESSAGE_ALIGN_BYTES;
}

/** What all rings of a receiving kernel share: one word says whether any has something. */
export function ringMessageBell({ words }: KernelMemory): void {
  Atomics.add(words, BELL, 1);
}

export function messageBell({ words }: KernelMemory): number {
  return Atomics.load(words, BELL);
}

/** A message ring (layout/message.ts) as its sender or as its receiver sees it, never as both. */
class MessageRing {
  readonly memory: KernelMemory;
  protected readonly control: number;
  protected base = 0;
  protected mask = 0;

  constructor(memory: KernelMemory, sender: number) {
    this.memory = memory;
    this.control = MESSAGE_CONTROL_BASE + sender * MESSAGE_CONTROL_SIZE_BYTES;
  }

  /** False until the receiving kernel has booted; for ever for a kernel id that its stack does not have. */
  get ready(): boolean {
    if (this.base === 0) {
      this.base = this.load(RING_BASE) >>> 0;
      this.mask = this.load(RING_SIZE) - 1;
    }
    return this.base !== 0;
  }

  get sizeBytes(): number {
    return this.ready ? this.mask + 1 : 0;
  }

  protected load(offset: number): number {
    return Atomics.load(this.memory.words, (this.control + offset) >> 2);
  }

  protected store(offset: number, value: number): void {
    Atomics.store(this.memory.words, (this.control + offset) >> 2, value);
  }

  protected header(at: number, offset: number): number {
    return (this.memory.words[(at + offset) >>> 2] as number) >>> 0;
  }
}

/** The producer's side. What is written becomes visible with publish(), all at once. */
export class MessageSender extends MessageRing {
  /** Where the next record goes; ahead of the ring's tail until publish(). -1: not read yet. */
  #tail = -1;

  /** The largest record that a ring of this size can always take in the end, whatever is in it. */
  get recordBytesMax(): number {
    return this.sizeBytes >> 1;
  }

  get #next(): number {
    // A sender of an earlier life may have left off anywhere.
    if (this.#tail < 0) this.#tail = this.load(RING_TAIL) >>> 0;
    return this.#tail;
  }

  /** Records written but not published. */
  get dirty(): boolean {
    return this.#tail >= 0 && this.#tail !== this.load(RING_TAIL) >>> 0;
  }

  /** @returns false when there is no room now. */
  write(type: number, version: number, correlation: number, life: number, payload: Uint8Array): boolean {
    if (!this.ready) return false;
    const bytes = messageRecordBytes(payload.length);
    let tail = this.#next;
    const size = this.mask + 1;
    let free = size - ((tail - this.load(RING_HEAD)) >>> 0);
    const toEnd = size - (tail & this.mask);
    if (bytes > toEnd) {
      if (toEnd + bytes > free) return false;
      this.#writeHeader(tail, toEnd - MESSAGE_HEADER_BYTES, MESSAGE_TYPE_PAD, 0, 0, life);
      tail = (tail + toEnd) >>> 0;
      free -= toEnd;
    }
    if (bytes > free) return false;
    this.#writeHeader(tail, payload.length, type, version, correlation, life);
    this.memory.bytes.set(payload, this.base + (tail & this.mask) + MESSAGE_HEADER_BYTES);
    this.#tail = (tail + bytes) >>> 0;
    return true;
  }

  publish(): void {
    if (this.#tail >= 0) this.store(RING_TAIL, this.#tail | 0);
  }

  /** The receiver is asked to ring when it has taken something. Look once more for room after this. */
  waitForRoom(): void {
    this.store(MESSAGE_WAITING, 1);
  }

  #writeHeader(tail: number, bytes: number, type: number, version: number, correlation: number, life: number): void {
    const at = (this.base + (tail & this.mask)) >>> 2;
    const { words } = this.memory;
    words[at + (MESSAGE_PAYLOAD_BYTES >> 2)] = bytes;
    words[at + (MESSAGE_TYPE >> 2)] = type | (version << 16);
    words[at + (MESSAGE_CORRELATION >> 2)] = correlation;
    words[at + (MESSAGE_LIFE >> 2)] = life;
  }
}

/** The consumer's side: begin(), then next() for each record, then end() to give the room back. */
export class MessageReceiver extends MessageRing {
  type = 0;
  version = 0;
  correlation = 0;
  life = 0;
  /** Address and length of the present record's payload. */
  payloadAt = 0;
  payloadBytes = 0;
  /** What was in the ring is no sequence of records; it has been dropped. */
  corrupt = false;
  #head = 0;
  #tail = 0;
  /** Before the present record. */
  #before = 0;

  /** Takes in what has been published. @returns false when there is nothing. */
  begin(): boolean {
    this.corrupt = false;
    if (!this.ready) return false;
    this.#head = this.load(RING_HEAD) >>> 0;
    this.#tail = this.load(RING_TAIL) >>> 0;
    return this.#head !== this.#tail;
  }

  /** Goes to the next record, over pads. @returns false when there is none (left in this batch). */
  next(): boolean {
    while (this.#head !== this.#tail) {
      const at = this.base + (this.#head & this.mask);
      const payloadBytes = this.header(at, MESSAGE_PAYLOAD_BYTES);
      const used = (this.#tail - this.#head) >>> 0;
      // Compared before it is added to: the length may be anything.
      const fits = payloadBytes <= this.mask && used <= this.mask + 1;
      const bytes = fits ? messageRecordBytes(payloadBytes) : 0;
      if (!fits || bytes > used || bytes > this.mask + 1 - (this.#head & this.mask)) {
        this.corrupt = true;
        this.#head = this.#tail;
        return false;
      }
      const typeAndVersion = this.header(at, MESSAGE_TYPE);
      this.#before = this.#head;
      this.#head = (this.#head + bytes) >>> 0;
      this.type = typeAndVersion & 0xffff;
      if (this.type === MESSAGE_TYPE_PAD) continue;
      this.version = typeAndVersion >>> (8 * (MESSAGE_VERSION - MESSAGE_TYPE));
      this.correlation = this.header(at, MESSAGE_CORRELATION);
      this.life = this.header(at, MESSAGE_LIFE);
      this.payloadAt = at + MESSAGE_HEADER_BYTES;
      this.payloadBytes = payloadBytes;
      return true;
    }
    return false;
  }

  /** The present record stays in the ring, and with it all that follow. */
  putBack(): void {
    this.#head = this.#before;
  }

  /** Gives back what next() has gone over. @returns whether the sender waits for room: it must be rung. */
  end(): boolean {
    this.store(RING_HEAD, this.#head | 0);
    return this.takeWaiting();
  }

  /** Whether the sender waits for room, or for this kernel to boot; asked once. */
  takeWaiting(): boolean {
    if (this.load(MESSAGE_WAITING) === 0) return false;
    return Atomics.exchange(this.memory.words, (this.control + MESSAGE_WAITING) >> 2, 0) === 1;
  }
}
