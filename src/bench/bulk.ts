/**
 * Workload `bulk`: one way, from client to server, over a fixed number of connections; payload bytes that the server's
 * application has read. The content is checked by sample: every byte is a function of its place in the stream.
 */
import { NetPopcornError, statusError } from "../errors.ts";
import type { EventHandler } from "../kernel/handles.ts";
import type { Handles } from "../kernel/handles.ts";
import {
  EVENT_ACCEPTABLE,
  EVENT_CONNECTED,
  EVENT_ERROR,
  EVENT_READABLE,
  EVENT_WRITABLE,
  HANDLE_INDEX_MASK,
} from "../layout/event.ts";
import { EVENT_WORDS, HANDLE_WORD, MASK_WORD, READABLE_WORD } from "./events.ts";

/** The stream repeats this many bytes: byte i is i modulo PATTERN_BYTES modulo 251. */
const PATTERN_BYTES = 251 * 256;
const CHUNK_BYTES = PATTERN_BYTES;

/** Reads everything, and checks the first byte of each piece against its place in the stream. */
export class BulkServer {
  bytes = 0;
  readonly #handles: Handles;
  readonly #listener: number;
  /** Bytes read so far, by index of the handle. */
  readonly #position: number[] = [];

  constructor(handles: Handles, port: number, backlog: number) {
    this.#handles = handles;
    this.#listener = handles.listen(port, backlog);
    if (this.#listener < 0) throw statusError(this.#listener, `listen ${port}`);
    handles.onEvents(this.#onEvents);
  }

  readonly #onEvents: EventHandler = (words, first, count) => {
    for (let at = first, end = first + count * EVENT_WORDS; at < end; at += EVENT_WORDS) {
      const mask = (words[at + MASK_WORD] as number) & 0xffff;
      if (mask & EVENT_ACCEPTABLE) {
        for (let h = this.#handles.accept(this.#listener); h >= 0; h = this.#handles.accept(this.#listener)) {
          this.#position[h & HANDLE_INDEX_MASK] = 0;
        }
      } else if (mask & EVENT_READABLE) {
        this.#read(words[at + HANDLE_WORD] as number, words[at + READABLE_WORD] as number);
      }
    }
  };

  /** In place: what is readable lies in one piece, or in two where the receive buffer ends. */
  #read(handle: number, readable: number): void {
    const handles = this.#handles;
    const index = handle & HANDLE_INDEX_MASK;
    for (let left = readable; left > 0; left -= handles.available) {
      const at = handles.peek(handle);
      if (at <= 0) throw statusError(at, "peek");
      const bytes = handles.available;
      const position = this.#position[index] as number;
      if (handles.bytes[at] !== (position % PATTERN_BYTES) % 251) {
        throw new NetPopcornError("ERR_BENCH", `byte ${position} of a stream is not what was sent`);
      }
      handles.consume(handle, bytes);
      this.#position[index] = position + bytes;
      this.bytes += bytes;
    }
  }
}

/** Keeps the send buffers of its connections full. */
export class BulkClient {
  failed = 0;
  connected = 0;
  readonly #handles: Handles;
  readonly #pattern: number;
  readonly #position: number[] = [];

  constructor(handles: Handles) {
    this.#handles = handles;
    // Twice the pattern, so that a chunk can start anywhere in it.
    this.#pattern = handles.alloc(2 * PATTERN_BYTES);
    for (let i = 0; i < 2 * PATTERN_BYTES; i++) handles.bytes[this.#pattern + i] = (i % PATTERN_BYTES) % 251;
    handles.onEvents(this.#onEvents);
  }

  open(server: Uint8Array, port: number, connections: number): void {
    for (let i = 0; i < connections; i++) {
      const handle = this.#handles.connect(server, port);
      if (handle < 0) throw statusError(handle, "connect");
      this.#position[handle & HANDLE_INDEX_MASK] = 0;
    }
  }

  readonly #onEvents: EventHandler = (words, first, count) => {
    for (let at = first, end = first + count * EVENT_WORDS; at < end; at += EVENT_WORDS) {
      const mask = (words[at + MASK_WORD] as number) & 0xffff;
      if (mask & EVENT_ERROR) this.failed++;
      if (mask & EVENT_CONNECTED) this.connected++;
      if (mask & EVENT_WRITABLE) this.#write(words[at + HANDLE_WORD] as number);
    }
  };

  #write(handle: number): void {
    const index = handle & HANDLE_INDEX_MASK;
    for (;;) {
      const position = this.#position[index] as number;
      const taken = this.#handles.send(handle, this.#pattern + (position % PATTERN_BYTES), CHUNK_BYTES);
      if (taken < 0) throw statusError(taken, "send");
      this.#position[index] = position + taken;
      if (taken < CHUNK_BYTES) return;
    }
  }
}
