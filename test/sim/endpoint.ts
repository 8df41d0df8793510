/**
 * One end of a simulated connection: writes and reads in pieces of random size, pauses, half-closes, closes or aborts,
 * and compares every byte it reads with what the other end must have written at that place.
 */
import type { Handles } from "../../src/kernel/handles.ts";
import { OPTION_KEEPALIVE, OPTION_NODELAY, OPTION_QUICKACK } from "../../src/layout/option.ts";
import { ECONNREFUSED, ECONNRESET, ENOTCONN, ETIMEDOUT } from "../../src/layout/status.ts";
import type { Prng } from "../../src/sim/prng.ts";

/** Prime, so that no power of two of buffers and segments divides it: a shifted or repeated piece shows. */
export const PATTERN_BYTES = 65_521;
const READ_BYTES_MAX = 65_536;

/** How an end goes: close = half-close when all is sent, read to the end; the others leave the peer in the lurch. */
export type Ending = "close" | "closeEarly" | "abort";

export type Behaviour = {
  readonly sendBytes: number;
  readonly writeBytesMax: number;
  readonly readBytesMax: number;
  /** Between two reads; 0: at once. */
  readonly readPauseNs: number;
  readonly ending: Ending;
  /** Bytes sent and received after which an aborting end aborts. */
  readonly abortAfterBytes: number;
  readonly reserve: boolean;
  readonly noDelay: boolean;
  readonly quickAck: boolean;
};

/** A kernel's copy of the pattern, and room to read into. */
export class Buffers {
  readonly pattern: number;
  readonly target: number;
  readonly expected: Uint8Array;

  /** @param pattern PATTERN_BYTES, the same for all kernels. */
  constructor(handles: Handles, pattern: Uint8Array) {
    this.pattern = handles.alloc(2 * PATTERN_BYTES);
    this.target = handles.alloc(READ_BYTES_MAX);
    if (this.pattern === 0 || this.target === 0) throw new Error("no memory for the application");
    // Twice, so that a piece may start anywhere.
    handles.bytes.set(pattern, this.pattern);
    handles.bytes.set(pattern, this.pattern + PATTERN_BYTES);
    this.expected = handles.bytes.subarray(this.pattern, this.pattern + 2 * PATTERN_BYTES);
  }
}

/** Where a stream starts in the pattern: different for every connection and direction. */
function patternOffset(id: number, towardsServer: boolean): number {
  return (id * 7919 + (towardsServer ? 0 : 31_337)) % PATTERN_BYTES;
}

export class Endpoint {
  handle: number;
  sent = 0;
  received = 0;
  peerClosed = false;
  /** EVENT_CLOSED has come, or the handle is gone for another reason. */
  over = false;
  /** We have let go. */
  closed = false;
  status = 0;
  wakeNs = Number.POSITIVE_INFINITY;
  behaviour: Behaviour;
  /** -1: the stream says so itself later (a server before it has read the header). */
  readonly id: number;
  #handles: Handles;
  #buffers: Buffers;
  readonly #prng: Prng;
  readonly #sendOffset: number;
  readonly #receiveOffset: number;
  #shutdown = false;

  constructor(
    handles: Handles,
    buffers: Buffers,
    prng: Prng,
    handle: number,
    id: number,
    isClient: boolean,
    behaviour: Behaviour,
  ) {
    this.#handles = handles;
    this.#buffers = buffers;
    this.#prng = prng;
    this.handle = handle;
    this.id = id;
    this.behaviour = behaviour;
    this.#sendOffset = patternOffset(id, isClient);
    this.#receiveOffset = patternOffset(id, !isClient);
    handles.setOption(handle, OPTION_KEEPALIVE, 1);
    if (behaviour.noDelay) handles.setOption(handle, OPTION_NODELAY, 1);
    if (behaviour.quickAck) handles.setOption(handle, OPTION_QUICKACK, 1);
  }

  get finished(): boolean {
    return this.over && this.closed;
  }

  /** The connection lives in another kernel from now on; events follow. */
  moveTo(handles: Handles, buffers: Buffers, handle: number): void {
    this.#handles = handles;
    this.#buffers = buffers;
    this.handle = handle;
  }

  /** Does what can be done now. */
  progress(nowNs: number, maySend: boolean): void {
    if (this.closed) return;
    if (maySend && !this.over) this.#write();
    if (!this.closed && nowNs >= this.wakeNs) this.#read(nowNs);
    if (!this.closed) this.#end();
  }

  /** Bytes may be readable: at once, or after the reader's pause. */
  readable(nowNs: number): void {
    if (!this.closed && this.wakeNs === Number.POSITIVE_INFINITY) this.wakeNs = nowNs + this.behaviour.readPauseNs;
  }

  #write(): void {
    const { sendBytes, writeBytesMax, reserve } = this.behaviour;
    while (this.sent < sendBytes) {
      if (this.#abortDue()) return;
      const wanted = Math.min(sendBytes - this.sent, 1 + this.#prng.below(writeBytesMax));
      const at = (this.#sendOffset + this.sent) % PATTERN_BYTES;
      const taken = reserve ? this.#writeInPlace(at, wanted) : this.#copyIn(at, wanted);
      this.sent += taken;
      if (taken < wanted && !(reserve && taken > 0)) return;
    }
    if (this.#shutdown || this.behaviour.ending === "abort") return;
    this.#shutdown = true;
    if (this.behaviour.ending === "closeEarly") this.#close();
    else this.#expect(this.#handles.shutdownSend(this.handle), "shutdownSend");
  }

  #copyIn(at: number, wanted: number): number {
    return this.#expect(this.#handles.send(this.handle, this.#buffers.pattern + at, wanted), "send");
  }

  #writeInPlace(at: number, wanted: number): number {
    const handles = this.#handles;
    const place = this.#expect(handles.reserve(this.handle, wanted), "reserve");
    if (place === 0) return 0;
    const bytes = Math.min(wanted, handles.available);
    handles.bytes.set(this.#buffers.expected.subarray(at, at + bytes), place);
    return this.#expect(handles.commit(this.handle, bytes), "commit");
  }

  #read(nowNs: number): void {
    const { readBytesMax, readPauseNs } = this.behaviour;
    this.wakeNs = Number.POSITIVE_INFINITY;
    for (;;) {
      const wanted = Math.min(READ_BYTES_MAX, 1 + this.#prng.below(readBytesMax));
      const bytes = this.#handles.receive(this.handle, this.#buffers.target, wanted);
      // The error was told by the event already.
      if (bytes <= 0) return;
      this.#compare(bytes);
      if (this.#abortDue()) return;
      if (readPauseNs > 0) {
        this.wakeNs = nowNs + readPauseNs;
        return;
      }
    }
  }

  #compare(bytes: number): void {
    const { target, expected } = this.#buffers;
    const at = (this.#receiveOffset + this.received) % PATTERN_BYTES;
    const got = this.#handles.bytes.subarray(target, target + bytes);
    if (Buffer.compare(got, expected.subarray(at, at + bytes)) !== 0) {
      throw new Error(
        `connection ${this.id}: a byte of ${bytes} from position ${this.received} on is not what was sent`,
      );
    }
    this.received += bytes;
  }

  #abortDue(): boolean {
    const { ending, abortAfterBytes } = this.behaviour;
    if (ending !== "abort" || this.sent + this.received < abortAfterBytes) return false;
    this.#letGo();
    // After EVENT_CLOSED the handle is only to be given back.
    this.#expect(this.#handles.abort(this.handle), "abort");
    this.over = true;
    return true;
  }

  /** Lets go when there is nothing more to do. */
  #end(): void {
    if (this.#abortDue()) return;
    const drained = this.wakeNs === Number.POSITIVE_INFINITY;
    if (this.over ? drained : this.peerClosed && drained && this.#shutdown) this.#close();
    // An aborting end whose peer closes first aborts now.
    else if (
      this.behaviour.ending === "abort" &&
      this.peerClosed &&
      drained &&
      this.sent === this.behaviour.sendBytes
    ) {
      this.behaviour = { ...this.behaviour, abortAfterBytes: 0 };
      this.#abortDue();
    }
  }

  #letGo(): void {
    this.closed = true;
    this.wakeNs = Number.POSITIVE_INFINITY;
  }

  #close(): void {
    this.#letGo();
    this.#expect(this.#handles.close(this.handle), "close");
  }

  /** A refusal is no news when the connection has failed in the meantime: its event is on the way. */
  #expect(result: number, call: string): number {
    if (result >= 0) return result;
    if (result === ECONNRESET || result === ETIMEDOUT || result === ECONNREFUSED || result === ENOTCONN) return 0;
    throw new Error(`connection ${this.id}: ${call} gives ${result}`);
  }
}
