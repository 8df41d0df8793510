/**
 * Workload `accept`: every connection connects, sends 64 bytes, gets 64 bytes; the server closes first, then the
 * client. Handle level: no object per connection. The same classes drive one kernel on this thread or one per worker.
 */
import { NetPopcornError, statusError } from "../errors.ts";
import type { EventHandler } from "../kernel/handles.ts";
import type { Handles } from "../kernel/handles.ts";
import {
  EVENT_ACCEPTABLE,
  EVENT_CLOSED,
  EVENT_CONNECTED,
  EVENT_ERROR,
  EVENT_PEER_CLOSED,
  EVENT_READABLE,
} from "../layout/event.ts";
import { EVENT_WORDS, HANDLE_WORD, MASK_WORD, READABLE_WORD } from "./events.ts";

export const MESSAGE_BYTES = 64;

/** Answers each request of MESSAGE_BYTES with as many bytes and closes. */
export class AcceptServer {
  accepted = 0;
  readonly #handles: Handles;
  readonly #listener: number;
  readonly #area: number;

  constructor(handles: Handles, port: number, backlog: number) {
    this.#handles = handles;
    this.#area = handles.alloc(MESSAGE_BYTES);
    this.#listener = handles.listen(port, backlog);
    if (this.#listener < 0) throw statusError(this.#listener, `listen ${port}`);
    handles.onEvents(this.#onEvents);
  }

  readonly #onEvents: EventHandler = (words, first, count) => {
    const handles = this.#handles;
    for (let at = first, end = first + count * EVENT_WORDS; at < end; at += EVENT_WORDS) {
      const mask = (words[at + MASK_WORD] as number) & 0xffff;
      if (mask & EVENT_ACCEPTABLE) {
        while (handles.accept(this.#listener) >= 0) this.accepted++;
        continue;
      }
      const handle = words[at + HANDLE_WORD] as number;
      if (mask & EVENT_ERROR) {
        handles.close(handle);
        continue;
      }
      if (mask & EVENT_READABLE && (words[at + READABLE_WORD] as number) >= MESSAGE_BYTES) {
        handles.receive(handle, this.#area, MESSAGE_BYTES);
        handles.send(handle, this.#area, MESSAGE_BYTES);
        handles.close(handle);
      }
    }
  };
}

/** Keeps `concurrency` connections in flight. */
export class AcceptClient {
  completed = 0;
  failed = 0;
  /** No new connections are begun. */
  stopping = false;
  inFlight = 0;
  readonly #handles: Handles;
  readonly #server: Uint8Array;
  readonly #port: number;
  readonly #addresses: number;
  readonly #message: number;
  readonly #area: number;
  #nextAddress = 0;

  /** @param addresses own addresses to connect from, in turn. */
  constructor(handles: Handles, server: Uint8Array, port: number, addresses: number) {
    this.#handles = handles;
    this.#server = server;
    this.#port = port;
    this.#addresses = addresses;
    this.#message = handles.alloc(MESSAGE_BYTES);
    this.#area = handles.alloc(MESSAGE_BYTES);
    for (let i = 0; i < MESSAGE_BYTES; i++) handles.bytes[this.#message + i] = i;
    handles.onEvents(this.#onEvents);
  }

  /** Begins connections until `concurrency` are in flight. */
  fill(concurrency: number): void {
    while (this.inFlight < concurrency) {
      this.inFlight++;
      this.#connect();
    }
  }

  #connect(): void {
    this.#nextAddress = this.#nextAddress + 1 < this.#addresses ? this.#nextAddress + 1 : 0;
    const handle = this.#handles.connect(this.#server, this.#port, 0, this.#nextAddress);
    if (handle < 0) throw statusError(handle, "connect");
  }

  #done(): void {
    if (this.stopping) this.inFlight--;
    else this.#connect();
  }

  readonly #onEvents: EventHandler = (words, first, count) => {
    const handles = this.#handles;
    for (let at = first, end = first + count * EVENT_WORDS; at < end; at += EVENT_WORDS) {
      const handle = words[at + HANDLE_WORD] as number;
      const mask = (words[at + MASK_WORD] as number) & 0xffff;
      if (mask & EVENT_ERROR) {
        this.failed++;
        handles.close(handle);
        this.#done();
        continue;
      }
      if (mask & EVENT_CONNECTED) handles.send(handle, this.#message, MESSAGE_BYTES);
      if (mask & EVENT_READABLE) this.#check(handle);
      if (mask & EVENT_PEER_CLOSED) handles.close(handle);
      if (mask & EVENT_CLOSED) {
        this.completed++;
        this.#done();
      }
    }
  };

  #check(handle: number): void {
    const { bytes } = this.#handles;
    const received = this.#handles.receive(handle, this.#area, MESSAGE_BYTES);
    if (received !== MESSAGE_BYTES || bytes[this.#area + 63] !== 63 || bytes[this.#area] !== 0) {
      throw new NetPopcornError("ERR_BENCH", `the server answered ${received} bytes or other ones than were sent`);
    }
  }
}
