/** Workload `rr`: one byte to the server, one byte back, on one connection. */
import { statusError } from "../errors.ts";
import type { EventHandler } from "../kernel/handles.ts";
import type { Handles } from "../kernel/handles.ts";
import { EVENT_ACCEPTABLE, EVENT_CONNECTED, EVENT_ERROR, EVENT_READABLE } from "../layout/event.ts";
import { EVENT_WORDS, HANDLE_WORD, MASK_WORD, READABLE_WORD } from "./events.ts";

/** Sends back what it gets. */
export class EchoServer {
  readonly #handles: Handles;
  readonly #listener: number;
  readonly #area: number;

  constructor(handles: Handles, port: number, backlog: number) {
    this.#handles = handles;
    this.#area = handles.alloc(64);
    this.#listener = handles.listen(port, backlog);
    if (this.#listener < 0) throw statusError(this.#listener, `listen ${port}`);
    handles.onEvents(this.#onEvents);
  }

  readonly #onEvents: EventHandler = (words, first, count) => {
    const handles = this.#handles;
    for (let at = first, end = first + count * EVENT_WORDS; at < end; at += EVENT_WORDS) {
      const mask = (words[at + MASK_WORD] as number) & 0xffff;
      if (mask & EVENT_ACCEPTABLE) while (handles.accept(this.#listener) >= 0);
      else if (mask & EVENT_READABLE) {
        const handle = words[at + HANDLE_WORD] as number;
        const bytes = handles.receive(handle, this.#area, 64);
        handles.send(handle, this.#area, bytes);
      }
    }
  };
}

/** One ping at a time on each of its connections. */
export class PingClient {
  roundTrips = 0;
  failed = 0;
  readonly #handles: Handles;
  readonly #area: number;

  constructor(handles: Handles) {
    this.#handles = handles;
    this.#area = handles.alloc(64);
    handles.onEvents(this.#onEvents);
  }

  open(server: Uint8Array, port: number, connections: number): void {
    for (let i = 0; i < connections; i++) {
      const handle = this.#handles.connect(server, port);
      if (handle < 0) throw statusError(handle, "connect");
    }
  }

  readonly #onEvents: EventHandler = (words, first, count) => {
    const handles = this.#handles;
    for (let at = first, end = first + count * EVENT_WORDS; at < end; at += EVENT_WORDS) {
      const mask = (words[at + MASK_WORD] as number) & 0xffff;
      const handle = words[at + HANDLE_WORD] as number;
      if (mask & EVENT_ERROR) this.failed++;
      if (mask & EVENT_READABLE && (words[at + READABLE_WORD] as number) > 0) {
        handles.receive(handle, this.#area, 64);
        this.roundTrips++;
        handles.send(handle, this.#area, 1);
      } else if (mask & EVENT_CONNECTED) {
        handles.send(handle, this.#area, 1);
      }
    }
  };
}
