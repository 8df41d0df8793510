/**
 * How connections, and frames that came late, get from one kernel to another. On one thread: by a call, so that no
 * turn and no application comes in between. Between threads: over the message rings (docs/messages.md).
 */
import type { Endpoint, Message } from "../control/endpoint.ts";
import {
  MESSAGE_TYPE_MIGRATION_END,
  MESSAGE_TYPE_MIGRATION_LATE,
  MESSAGE_TYPE_MIGRATION_PIECE,
} from "../layout/message.ts";
import { EAGAIN } from "../layout/status.ts";
import type { MoveId } from "./request.ts";

/** The receiving end; bytes are valid during the call. */
export interface Parcels {
  takePiece(from: number, move: MoveId, bytes: Uint8Array): void;
  takeEnd(from: number, move: MoveId): void;
  /** A part of a frame's record, `offset` of `total` bytes. */
  takeLate(from: number, bytes: Uint8Array, offset: number, total: number): void;
}

export interface Carrier {
  /** Kernels share this thread: objects of the application can go with their connections. */
  readonly sameThread: boolean;
  /** Bytes that fit one piece now; 0: not at present. */
  pieceBytesMax(to: number): number;
  /** @returns false: too much waits; again in the next turn. */
  sendPiece(to: number, move: MoveId, bytes: Uint8Array): boolean;
  sendEnd(to: number, move: MoveId): boolean;
  sendLate(to: number, bytes: Uint8Array, offset: number, total: number): boolean;
}

const PIECE_BYTES = 65536;

export class CallCarrier implements Carrier {
  readonly sameThread = true;
  readonly #from: number;
  readonly #receiverOf: (kernelId: number) => Parcels | undefined;

  constructor(from: number, receiverOf: (kernelId: number) => Parcels | undefined) {
    this.#from = from;
    this.#receiverOf = receiverOf;
  }

  pieceBytesMax(): number {
    return PIECE_BYTES;
  }

  sendPiece(to: number, move: MoveId, bytes: Uint8Array): boolean {
    this.#receiverOf(to)?.takePiece(this.#from, move, bytes);
    return true;
  }

  sendEnd(to: number, move: MoveId): boolean {
    this.#receiverOf(to)?.takeEnd(this.#from, move);
    return true;
  }

  sendLate(to: number, bytes: Uint8Array, offset: number, total: number): boolean {
    this.#receiverOf(to)?.takeLate(this.#from, bytes, offset, total);
    return true;
  }
}

const VERSION = 1;
/** u32 offset, u32 total, before the bytes of a late frame's part. */
const LATE_HEADER_BYTES = 8;

export class MessageCarrier implements Carrier {
  readonly sameThread = false;
  readonly #messages: Endpoint;
  #late = new Uint8Array(0);

  constructor(messages: Endpoint, parcels: Parcels) {
    this.#messages = messages;
    messages.on(MESSAGE_TYPE_MIGRATION_PIECE, VERSION, ({ from, correlation, payload }: Message) =>
      parcels.takePiece(from, correlation, payload),
    );
    messages.on(MESSAGE_TYPE_MIGRATION_END, VERSION, ({ from, correlation }: Message) =>
      parcels.takeEnd(from, correlation),
    );
    messages.on(MESSAGE_TYPE_MIGRATION_LATE, VERSION, ({ from, payload }: Message) => {
      const header = new DataView(payload.buffer, payload.byteOffset, LATE_HEADER_BYTES);
      const part = payload.subarray(LATE_HEADER_BYTES);
      parcels.takeLate(from, part, header.getUint32(0, true), header.getUint32(4, true));
    });
  }

  pieceBytesMax(to: number): number {
    return Math.max(this.#messages.payloadBytesMax(to) - LATE_HEADER_BYTES, 0);
  }

  sendPiece(to: number, move: MoveId, bytes: Uint8Array): boolean {
    return this.#send(to, MESSAGE_TYPE_MIGRATION_PIECE, move, bytes);
  }

  sendEnd(to: number, move: MoveId): boolean {
    return this.#send(to, MESSAGE_TYPE_MIGRATION_END, move);
  }

  sendLate(to: number, bytes: Uint8Array, offset: number, total: number): boolean {
    const length = LATE_HEADER_BYTES + bytes.length;
    if (this.#late.length < length) this.#late = new Uint8Array(length);
    const header = new DataView(this.#late.buffer);
    header.setUint32(0, offset, true);
    header.setUint32(4, total, true);
    this.#late.set(bytes, LATE_HEADER_BYTES);
    return this.#send(to, MESSAGE_TYPE_MIGRATION_LATE, 0, this.#late.subarray(0, length));
  }

  /** To a kernel that has gone, everything is sent: it is lost as it would be there. */
  #send(to: number, type: number, correlation: number, payload?: Uint8Array): boolean {
    return this.#messages.send(to, type, VERSION, correlation, payload) !== EAGAIN;
  }
}
