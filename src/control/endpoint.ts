/**
 * A kernel's end of the message rings: it sends to other kernels, and hands what they send to the handler of its type.
 *
 * - send() writes, flush() publishes: one tail store and one doorbell for each receiver and batch. The host flushes at
 *   the end of every turn.
 * - Nothing is lost: what finds no room waits here in order, up to OUTBOX_BYTES_MAX for each receiver; beyond that
 *   send() refuses and its caller has to wait. tell() does not: what it says is bounded by what it is about. The
 *   receiver rings when it has made room.
 * - poll() handles a bounded number. A record that is none, of an unknown type, or of a kernel's earlier life is
 *   counted and ignored.
 *
 * The same code serves kernels in threads, on one thread and in virtual time: it knows no clock and no timer.
 */
import {
  MESSAGE_BELL_BASE,
  MESSAGE_COUNT_ABANDONED,
  MESSAGE_COUNT_CORRUPT,
  MESSAGE_COUNT_HELD,
  MESSAGE_COUNT_REFUSED,
  MESSAGE_COUNT_STALE,
  MESSAGE_COUNT_UNKNOWN,
  MESSAGE_COUNTS,
  MESSAGE_COUNTS_BASE,
  MESSAGE_COUNTS_RECEIVED,
  MESSAGE_COUNTS_SENT,
  MESSAGE_KERNELS_MAX,
  MESSAGE_TYPES_MAX,
} from "../layout/message.ts";
import { EAGAIN, EHOSTUNREACH, EMSGSIZE, OK } from "../layout/status.ts";
import type { KernelMemory } from "../views/kernelMemory.ts";
import {
  MessageReceiver,
  MessageSender,
  messageBell,
  messageRecordBytes,
  ringMessageBell,
} from "../views/messageRing.ts";

/** Records of one receiver that wait for room in its ring. */
export const OUTBOX_BYTES_MAX = 1 << 20;
/** Of the payloads about ports and about the device: one, for kernelControl.ts carries the questions of both. */
export const CONTROL_VERSION = 3;
/** send(): the message waits for room, in order. */
export const MESSAGE_HELD = 1;
/** Messages that one poll handles unless told otherwise. */
const POLL_MESSAGES_MAX = 64;
/** A record of a later life than we know of waits, up to this many lives ahead: we shall hear of it. */
const LIFE_AHEAD_MAX = 1024;
const BELL = MESSAGE_BELL_BASE >> 2;
const EMPTY = new Uint8Array(0);

/** What a handler gets; valid during the call only. */
export type Message = {
  /** Kernel that has sent it. */
  readonly from: number;
  /** Its life. */
  readonly life: number;
  readonly type: number;
  readonly version: number;
  /** 0: none. */
  readonly correlation: number;
  /** In the kernel's own memory. */
  readonly payload: Uint8Array;
};

export type MessageHandler = (message: Message) => void;

/** A kernel that messages can be sent to, in one of its lives. */
export type Peer = {
  readonly kernelId: number;
  /** How often it has been started before. */
  readonly life: number;
  readonly memory: KernelMemory;
  /** Wakes its thread. */
  ring(): void;
};

type Held = {
  readonly type: number;
  readonly version: number;
  readonly correlation: number;
  readonly payload: Uint8Array;
};

type Connected = {
  readonly peer: Peer;
  readonly ring: MessageSender;
  readonly outbox: Held[];
  outboxBytes: number;
  dirty: boolean;
};

export type EndpointOptions = {
  readonly kernelId: number;
  readonly life: number;
  /** The kernel's own. */
  readonly memory: KernelMemory;
  /** Something has been sent outside a poll: flush() should be called soon. */
  readonly onWork: () => void;
  /** A handler has thrown. */
  readonly onError: (error: unknown) => void;
};

export class Endpoint {
  readonly kernelId: number;
  readonly life: number;
  readonly #options: EndpointOptions;
  readonly #counts: Float64Array;
  readonly #words: Int32Array;
  readonly #receivers: MessageReceiver[];
  readonly #connected: (Connected | undefined)[] = new Array(MESSAGE_KERNELS_MAX).fill(undefined);
  readonly #handlers: ({ readonly version: number; readonly handle: MessageHandler } | undefined)[] = new Array(
    MESSAGE_TYPES_MAX,
  ).fill(undefined);
  /** To itself: a kernel may be at both ends of a protocol. */
  readonly #own: Held[] = [];
  #bell = 0;
  /** The last poll has left something. */
  #left = false;
  #dirty = false;
  #polling = false;
  #next = 0;

  constructor(options: EndpointOptions) {
    this.#options = options;
    this.kernelId = options.kernelId;
    this.life = options.life;
    const { memory } = options;
    this.#words = memory.words;
    this.#counts = new Float64Array(memory.memory.buffer, MESSAGE_COUNTS_BASE, MESSAGE_COUNTS);
    this.#receivers = Array.from({ length: MESSAGE_KERNELS_MAX }, (_, sender) => new MessageReceiver(memory, sender));
    this.#bell = messageBell(memory);
    // Whatever has been sent before we listened.
    this.#left = true;
  }

  /** Messages of `type` go to `handle`; those of another version are counted as unknown. One handler each. */
  on(type: number, version: number, handle: MessageHandler): void {
    this.#handlers[type] = { version, handle };
  }

  /** From now on messages can be sent to this kernel, and are taken from this life of it. */
  connect(peer: Peer): void {
    const known = this.#connected[peer.kernelId];
    // A shared memory that is posted once more is another object; what has been written there must be published.
    const sameMemory = known?.peer.memory.memory === peer.memory.memory || peer.memory.shared;
    if (known?.peer.life === peer.life && sameMemory) return;
    this.disconnect(peer.kernelId);
    const ring = new MessageSender(peer.memory, this.kernelId);
    this.#connected[peer.kernelId] = { peer, ring, outbox: [], outboxBytes: 0, dirty: false };
    // It may have been first, and found us not knowing it.
    this.#left = true;
  }

  /** The kernel has gone: what waits for it is dropped, what it may still have sent is not looked at. */
  disconnect(kernelId: number): void {
    const known = this.#connected[kernelId];
    if (!known) return;
    this.#count(MESSAGE_COUNT_ABANDONED, known.outbox.length);
    this.#connected[kernelId] = undefined;
  }

  isConnected(kernelId: number): boolean {
    return kernelId === this.kernelId || this.#connected[kernelId] !== undefined;
  }

  /** Kernels that messages can be sent to, without this one. */
  get peers(): number[] {
    return this.#connected.flatMap((connected) => (connected ? [connected.peer.kernelId] : []));
  }

  /** Payload bytes that fit a message to `to`; 0: it has not booted, or is not there. */
  payloadBytesMax(to: number): number {
    const ring = this.#connected[to]?.ring;
    return ring?.ready ? ring.recordBytesMax - messageRecordBytes(0) : 0;
  }

  /**
   * Sends a message; the payload is copied.
   * @returns 0; MESSAGE_HELD: it waits for room, as all that follow; EAGAIN: too much waits, it has not been taken;
   * EMSGSIZE: it would never fit (payloadBytesMax); EHOSTUNREACH: no such kernel now.
   */
  send(to: number, type: number, version: number, correlation: number, payload: Uint8Array = EMPTY): number {
    return this.#put(to, OUTBOX_BYTES_MAX, { type, version, correlation, payload });
  }

  /** As send, for what is said once and is not much (ports, filters, queue pairs): it waits however much does. */
  tell(to: number, type: number, version: number, correlation: number, payload: Uint8Array = EMPTY): number {
    return this.#put(to, Number.POSITIVE_INFINITY, { type, version, correlation, payload });
  }

  #put(to: number, waitingBytesMax: number, { type, version, correlation, payload }: Held): number {
    if (to === this.kernelId) return this.#sendToSelf({ type, version, correlation, payload: payload.slice() });
    const connected = this.#connected[to];
    if (!connected) return EHOSTUNREACH;
    const { ring, outbox } = connected;
    const bytes = messageRecordBytes(payload.length);
    if (ring.ready && bytes > ring.recordBytesMax) return EMSGSIZE;
    if (!this.#dirty) this.#options.onWork();
    this.#dirty = true;
    connected.dirty = true;
    if (outbox.length === 0 && ring.write(type, version, correlation, this.life, payload)) {
      this.#count(MESSAGE_COUNTS_SENT + type, 1);
      return OK;
    }
    if (connected.outboxBytes + bytes > waitingBytesMax) {
      this.#count(MESSAGE_COUNT_REFUSED, 1);
      return EAGAIN;
    }
    outbox.push({ type, version, correlation, payload: payload.slice() });
    connected.outboxBytes += bytes;
    this.#count(MESSAGE_COUNT_HELD, 1);
    return MESSAGE_HELD;
  }

  /** Makes visible what has been sent, and wakes those that get it. */
  flush(): void {
    if (!this.#dirty) return;
    this.#dirty = false;
    for (const connected of this.#connected) {
      if (!connected?.dirty) continue;
      connected.dirty = false;
      this.#drain(connected);
      this.#publish(connected);
      if (connected.outbox.length === 0) continue;
      // Asked first, looked once more after: the receiver may have made room in between.
      connected.ring.waitForRoom();
      this.#drain(connected);
      this.#publish(connected);
    }
  }

  /** Messages, or room for those that wait, have come: a poll has something to do. */
  get pending(): boolean {
    return this.#left || this.#dirty || this.#own.length > 0 || Atomics.load(this.#words, BELL) !== this.#bell;
  }

  /** Handles up to `messagesMax` messages, of all senders in turn. @returns how many; none when a handler asks. */
  poll(messagesMax = POLL_MESSAGES_MAX): number {
    if (!this.pending || this.#polling) return 0;
    this.#polling = true;
    const handled = this.#pollAll(messagesMax);
    this.#polling = false;
    return handled;
  }

  #pollAll(messagesMax: number): number {
    this.#bell = Atomics.load(this.#words, BELL);
    this.#left = false;
    let handled = 0;
    for (let own = this.#own.length; own > 0 && handled < messagesMax; own--) {
      const { type, version, correlation, payload } = this.#own.shift() as Held;
      handled++;
      this.#dispatch({ from: this.kernelId, life: this.life, type, version, correlation, payload });
    }
    const first = this.#next;
    for (let i = 0; i < MESSAGE_KERNELS_MAX; i++) {
      const sender = (first + i) % MESSAGE_KERNELS_MAX;
      if (sender === this.kernelId) continue;
      handled += this.#receive(sender, messagesMax - handled);
    }
    this.#next = (first + 1) % MESSAGE_KERNELS_MAX;
    // Whoever has made room has rung as if it had sent something.
    for (const connected of this.#connected) {
      if (!connected || connected.outbox.length === 0) continue;
      connected.dirty = true;
      this.#dirty = true;
    }
    this.flush();
    return handled;
  }

  #receive(sender: number, messagesMax: number): number {
    const connected = this.#connected[sender];
    // What an unknown kernel has sent waits until we hear of it.
    if (!connected) return 0;
    const ring = this.#receivers[sender] as MessageReceiver;
    if (!ring.begin()) {
      if (ring.ready && ring.takeWaiting()) this.#wake(connected.peer);
      return 0;
    }
    if (messagesMax <= 0) {
      this.#left = true;
      return 0;
    }
    let handled = 0;
    while (handled < messagesMax && ring.next()) {
      const ahead = (ring.life - connected.peer.life) >>> 0;
      if (ahead !== 0) {
        if (ahead <= LIFE_AHEAD_MAX) {
          ring.putBack();
          break;
        }
        this.#count(MESSAGE_COUNT_STALE, 1);
        handled++;
        continue;
      }
      handled++;
      const { type, version, correlation, payloadAt, payloadBytes } = ring;
      const payload = this.#options.memory.bytes.subarray(payloadAt, payloadAt + payloadBytes);
      if (type < MESSAGE_TYPES_MAX) this.#count(MESSAGE_COUNTS_RECEIVED + type, 1);
      this.#dispatch({ from: sender, life: ring.life, type, version, correlation, payload });
    }
    if (ring.corrupt) this.#count(MESSAGE_COUNT_CORRUPT, 1);
    else if (handled === messagesMax) this.#left = true;
    if (ring.end()) this.#wake(connected.peer);
    return handled;
  }

  /** There is something for it, or room for what waits there. */
  #wake(peer: Peer): void {
    ringMessageBell(peer.memory);
    peer.ring();
  }

  #dispatch(message: Message): void {
    const handler = this.#handlers[message.type];
    if (handler?.version !== message.version) {
      this.#count(MESSAGE_COUNT_UNKNOWN, 1);
      return;
    }
    try {
      handler.handle(message);
    } catch (error) {
      this.#options.onError(error);
    }
  }

  #sendToSelf(held: Held): number {
    if (this.#own.length === 0) this.#options.onWork();
    this.#own.push(held);
    return OK;
  }

  /** Moves what waits into the ring, as far as there is room. */
  #drain(connected: Connected): void {
    const { ring, outbox } = connected;
    let moved = 0;
    for (const { type, version, correlation, payload } of outbox) {
      const bytes = messageRecordBytes(payload.length);
      if (ring.ready && bytes > ring.recordBytesMax) {
        // Only found out now: it was sent before the receiver had booted.
        this.#count(MESSAGE_COUNT_REFUSED, 1);
      } else {
        if (!ring.write(type, version, correlation, this.life, payload)) break;
        this.#count(MESSAGE_COUNTS_SENT + type, 1);
      }
      connected.outboxBytes -= bytes;
      moved++;
    }
    if (moved > 0) outbox.splice(0, moved);
  }

  #publish({ ring, peer }: Connected): void {
    if (!ring.dirty) return;
    ring.publish();
    this.#wake(peer);
  }

  #count(index: number, by: number): void {
    this.#counts[index] = (this.#counts[index] as number) + by;
  }
}
