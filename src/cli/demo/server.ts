/** The demo's server, loaded into every kernel of the server stack: one listening port, the handle level of the API. */
import { performance } from "node:perf_hooks";
import { statusError, statusName } from "../../errors.ts";
import type { Handles } from "../../kernel/handles.ts";
import {
  EVENT_ACCEPTABLE,
  EVENT_CLOSED,
  EVENT_ERROR,
  EVENT_PEER_CLOSED,
  EVENT_READABLE,
  EVENT_SIZE_BYTES,
  EVENT_WRITABLE,
  HANDLE_INDEX_MASK,
} from "../../layout/event.ts";
import type { KernelStack } from "../../types.ts";
import { MESSAGE_BYTES_MAX, REQUEST_HEADER_BYTES, readRequestHeader, writeResponse } from "./exchange.ts";
import { type DemoRequest, type DemoTotals, FailureCounts } from "./messages.ts";

export type ServerArguments = {
  readonly port: number;
  /** As the kernel is configured: handle indexes are below it. */
  readonly connectionsMax: number;
  /** Requests that can be half received at once. */
  readonly requestsMax: number;
};

const EVENT_WORDS = EVENT_SIZE_BYTES >> 2;
const SLOT_BYTES = 1536;
/** Connections waiting to be accepted, for a client population that starts all at once. */
const BACKLOG = 4096;
const NO_SLOT = -1;

class DemoServer {
  readonly failures = new FailureCounts();
  served = 0;
  readonly #handles: Handles;
  readonly #listener: number;
  /** Where each connection's request is collected, by index of its handle; NO_SLOT: it has been answered. */
  readonly #slotOf: Int32Array;
  readonly #received: Uint16Array;
  readonly #sent: Uint16Array;
  readonly #freeSlots: Int32Array;
  #freeCount: number;
  #isAcceptable = false;
  readonly #requests: number;
  readonly #response: number;

  constructor(handles: Handles, args: ServerArguments) {
    this.#handles = handles;
    this.#slotOf = new Int32Array(args.connectionsMax).fill(NO_SLOT);
    this.#received = new Uint16Array(args.connectionsMax);
    this.#sent = new Uint16Array(args.connectionsMax);
    this.#freeSlots = Int32Array.from({ length: args.requestsMax }, (_, slot) => slot);
    this.#freeCount = args.requestsMax;
    this.#requests = handles.alloc(args.requestsMax * SLOT_BYTES);
    this.#response = handles.alloc(SLOT_BYTES);
    this.#listener = handles.listen(args.port, BACKLOG);
    if (this.#listener < 0) throw statusError(this.#listener, `listen ${args.port}`);
  }

  onEvents(words: Int32Array, first: number, count: number): void {
    for (let i = 0, at = first; i < count; i++, at += EVENT_WORDS) {
      const maskAndStatus = words[at + 1] as number;
      if (maskAndStatus & EVENT_ACCEPTABLE) this.#isAcceptable = true;
      else this.#onEvent(words[at] as number, maskAndStatus & 0xffff, maskAndStatus >> 16);
    }
    // After the batch: a new connection may have the index of one whose end stands further on in it.
    if (this.#isAcceptable) this.#acceptAll();
  }

  #acceptAll(): void {
    this.#isAcceptable = false;
    for (let accepted = this.#handles.accept(this.#listener); accepted >= 0; ) {
      this.#onAccepted(accepted);
      accepted = this.#handles.accept(this.#listener);
    }
  }

  #onEvent(handle: number, mask: number, status: number): void {
    const index = handle & HANDLE_INDEX_MASK;
    if (mask & EVENT_CLOSED) {
      if (mask & EVENT_ERROR) this.failures.add(statusName(status));
      this.#freeSlot(index);
      // Harmless when we have closed before; needed when the peer's reset came first.
      this.#handles.close(handle);
      return;
    }
    if (mask & (EVENT_READABLE | EVENT_WRITABLE) && this.#slotOf[index] !== NO_SLOT) this.#advance(handle, index);
    if (mask & EVENT_PEER_CLOSED) this.#onPeerClosed(handle, index);
  }

  #onAccepted(handle: number): void {
    const index = handle & HANDLE_INDEX_MASK;
    if (this.#freeCount === 0) {
      this.#fail(handle, index, "ENOBUFS");
      return;
    }
    this.#slotOf[index] = this.#freeSlots[--this.#freeCount] as number;
    this.#received[index] = 0;
    this.#sent[index] = 0;
    this.#advance(handle, index);
  }

  /** Takes what has arrived of the request; when it is complete, sends as much of the response as there is room for. */
  #advance(handle: number, index: number): void {
    const slot = this.#requests + (this.#slotOf[index] as number) * SLOT_BYTES;
    const before = this.#received[index] as number;
    const bytes = this.#handles.receive(handle, slot + before, MESSAGE_BYTES_MAX - before);
    if (bytes < 0) {
      this.#fail(handle, index, statusName(bytes));
      return;
    }
    const received = before + bytes;
    this.#received[index] = received;
    if (received < REQUEST_HEADER_BYTES) return;
    const header = readRequestHeader(this.#handles.bytes, slot);
    if (header === undefined || received > header.requestBytes) {
      this.#fail(handle, index, "ERR_REQUEST");
      return;
    }
    if (received < header.requestBytes) return;
    const { bytes: memory } = this.#handles;
    const request = { memory, at: slot, bytes: received };
    writeResponse({ memory, at: this.#response, bytes: header.responseBytes }, request);
    const sent = this.#sent[index] as number;
    const taken = this.#handles.send(handle, this.#response + sent, header.responseBytes - sent);
    if (taken < 0) {
      this.#fail(handle, index, statusName(taken));
      return;
    }
    this.#sent[index] = sent + taken;
    if (sent + taken < header.responseBytes) return;
    this.#freeSlot(index);
    this.served++;
    if (header.serverCloses) this.#handles.close(handle);
  }

  #onPeerClosed(handle: number, index: number): void {
    // A client closes first only after the whole response; earlier it has broken off.
    if (this.#slotOf[index] === NO_SLOT) this.#handles.close(handle);
    else this.#fail(handle, index, "ERR_REQUEST");
  }

  #fail(handle: number, index: number, code: string): void {
    this.failures.add(code);
    this.#freeSlot(index);
    this.#handles.abort(handle);
  }

  #freeSlot(index: number): void {
    const slot = this.#slotOf[index] as number;
    if (slot === NO_SLOT) return;
    this.#freeSlots[this.#freeCount++] = slot;
    this.#slotOf[index] = NO_SLOT;
  }
}

export default function app(stack: KernelStack, args: ServerArguments): void {
  const server = new DemoServer(stack.handles, args);
  stack.handles.onEvents((words, first, count) => server.onEvents(words, first, count));
  stack.on("message", ({ data }) => {
    if ((data as DemoRequest).kind !== "report") return;
    const { active, idle } = performance.eventLoopUtilization();
    const totals: DemoTotals = {
      kind: "kernel",
      index: stack.kernelId,
      served: server.served,
      failures: server.failures.toRecord(),
      activeMs: active,
      idleMs: idle,
    };
    stack.postMessage(totals);
  });
}
