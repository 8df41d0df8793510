/** A population of client hosts, one thread of it: keeps a number of connections in flight and checks every byte. */
import { performance, type RecordableHistogram } from "node:perf_hooks";
import { statusName } from "../../errors.ts";
import type { Handles } from "../../kernel/handles.ts";
import {
  EVENT_CLOSED,
  EVENT_CONNECTED,
  EVENT_ERROR,
  EVENT_PEER_CLOSED,
  EVENT_READABLE,
  EVENT_SIZE_BYTES,
  EVENT_WRITABLE,
  HANDLE_INDEX_MASK,
} from "../../layout/event.ts";
import type { KernelStack } from "../../types.ts";
import {
  countDifferences,
  exchangeSeed,
  MESSAGE_BYTES_MAX,
  type RequestHeader,
  readRequestHeader,
  writeRequest,
  writeResponse,
} from "./exchange.ts";
import { type DemoRequest, type DemoTotals, FailureCounts } from "./messages.ts";

export type ClientArguments = {
  readonly client: number;
  /** Addresses of this stack, each a host of its own. */
  readonly hosts: number;
  /** Connections in flight, all hosts together. */
  readonly concurrency: number;
  /** 16 bytes. */
  readonly serverAddress: Uint8Array;
  readonly serverPort: number;
  readonly seed: number;
  /** As the kernel is configured: handle indexes are below it. */
  readonly connectionsMax: number;
  /** Microseconds from connect to the last byte of the response; shared with the main thread. */
  readonly latencyUs: RecordableHistogram;
};

const EVENT_WORDS = EVENT_SIZE_BYTES >> 2;
/** A request and the few bytes that writeRequest may write behind it. */
const MESSAGE_ROOM_BYTES = MESSAGE_BYTES_MAX + 36;

/** Phases of a connection. */
const NONE = 0;
const CONNECTING = 1;
const EXCHANGING = 2;
/** The response is complete; the server is to close first. */
const AWAITING_CLOSE = 3;
/** We have closed; EVENT_CLOSED will say how it ended. */
const CLOSING = 4;

class DemoClient {
  readonly failures = new FailureCounts();
  begun = 0;
  completed = 0;
  open = 0;
  bytesExchanged = 0;
  bytesDiffering = 0;
  readonly #handles: Handles;
  readonly #args: ClientArguments;
  // By index of the connection's handle.
  readonly #handleOf: Int32Array;
  readonly #phase: Uint8Array;
  readonly #seedOf: Uint32Array;
  readonly #received: Uint16Array;
  readonly #sent: Uint16Array;
  readonly #startedUs: Float64Array;
  /** In the kernel's memory: where requests are written before they are sent. */
  readonly #requestAt: number;
  readonly #request = new Uint8Array(MESSAGE_ROOM_BYTES);
  readonly #response = new Uint8Array(MESSAGE_ROOM_BYTES);
  #isRunning = false;
  /** Connections to open when the present events are done with. */
  #connectsDue = 0;
  #hasConnected = false;

  constructor(handles: Handles, args: ClientArguments) {
    this.#handles = handles;
    this.#args = args;
    this.#handleOf = new Int32Array(args.connectionsMax);
    this.#phase = new Uint8Array(args.connectionsMax);
    this.#seedOf = new Uint32Array(args.connectionsMax);
    this.#received = new Uint16Array(args.connectionsMax);
    this.#sent = new Uint16Array(args.connectionsMax);
    this.#startedUs = new Float64Array(args.connectionsMax);
    this.#requestAt = handles.alloc(MESSAGE_ROOM_BYTES);
  }

  start(): void {
    this.#isRunning = true;
    this.#connect();
    this.#handles.flush();
  }

  /** All others once the first has gone through: until the server's Ethernet address is known, few frames are held. */
  #startOthers(): void {
    this.#hasConnected = true;
    if (this.#isRunning) this.#connectsDue += this.#args.concurrency - 1;
  }

  stop(): void {
    this.#isRunning = false;
  }

  /** Resets what has not come to its end; connections that only wait for the other's FIN or ACK count as failed too. */
  abandon(): void {
    for (let index = 0; index < this.#phase.length; index++) {
      if (this.#phase[index] === NONE) continue;
      const handle = this.#handleOf[index] as number;
      this.#fail(index, "ERR_UNFINISHED");
      this.#handles.abort(handle);
    }
    this.#handles.flush();
  }

  onEvents(words: Int32Array, first: number, count: number): void {
    for (let i = 0, at = first; i < count; i++, at += EVENT_WORDS) {
      const handle = words[at] as number;
      const index = handle & HANDLE_INDEX_MASK;
      if (this.#phase[index] === NONE || this.#handleOf[index] !== handle) continue;
      const maskAndStatus = words[at + 1] as number;
      this.#onEvent(handle, index, maskAndStatus & 0xffff, maskAndStatus >> 16);
    }
    // After the batch: a new connection may get the index of one whose end stands further on in it.
    for (; this.#connectsDue > 0; this.#connectsDue--) this.#connect();
  }

  #connect(): void {
    const { hosts, seed, client, serverAddress, serverPort } = this.#args;
    const number = this.begun++;
    const host = number % hosts;
    const handle = this.#handles.connect(serverAddress, serverPort, 0, host);
    if (handle < 0) {
      this.failures.add(statusName(handle));
      return;
    }
    const index = handle & HANDLE_INDEX_MASK;
    this.#handleOf[index] = handle;
    this.#phase[index] = CONNECTING;
    this.#seedOf[index] = exchangeSeed(seed, client * hosts + host, number);
    this.#received[index] = 0;
    this.#sent[index] = 0;
    this.#startedUs[index] = performance.now() * 1000;
    this.open++;
  }

  #onEvent(handle: number, index: number, mask: number, status: number): void {
    if (mask & EVENT_ERROR) {
      // The handle is ours until we let go of it.
      if (this.#phase[index] !== CLOSING) this.#handles.close(handle);
      this.#fail(index, statusName(status));
      return;
    }
    if (mask & EVENT_CONNECTED) {
      this.#phase[index] = EXCHANGING;
      if (!this.#hasConnected) this.#startOthers();
    }
    if (mask & (EVENT_CONNECTED | EVENT_WRITABLE)) this.#sendRequest(handle, index);
    if (mask & EVENT_READABLE) this.#readResponse(handle, index);
    if (mask & EVENT_PEER_CLOSED) this.#onPeerClosed(handle, index);
    if (mask & EVENT_CLOSED) this.#onClosed(handle, index);
  }

  #sendRequest(handle: number, index: number): void {
    if (this.#phase[index] !== EXCHANGING) return;
    const bytes = writeRequest(this.#handles.bytes, this.#requestAt, this.#seedOf[index] as number);
    const sent = this.#sent[index] as number;
    if (sent === bytes) return;
    const taken = this.#handles.send(handle, this.#requestAt + sent, bytes - sent);
    if (taken < 0) {
      this.#breakOff(handle, index, statusName(taken));
      return;
    }
    this.#sent[index] = sent + taken;
    this.bytesExchanged += taken;
  }

  #readResponse(handle: number, index: number): void {
    if (this.#phase[index] === CLOSING) return;
    const header = this.#expect(index);
    const { bytes: memory } = this.#handles;
    // Two pieces where the receive buffer turns around.
    for (let at = this.#handles.peek(handle); at > 0; at = this.#handles.peek(handle)) {
      const bytes = this.#handles.available;
      const received = this.#received[index] as number;
      const expected = Math.min(bytes, header.responseBytes - received);
      const differing = countDifferences(this.#response, received, { memory, at, bytes: expected }) + bytes - expected;
      if (differing > 0) {
        this.bytesDiffering += differing;
        this.#breakOff(handle, index, "ERR_BYTES_DIFFER");
        return;
      }
      this.#received[index] = received + bytes;
      this.bytesExchanged += bytes;
      this.#handles.consume(handle, bytes);
    }
    if (this.#phase[index] !== EXCHANGING || this.#received[index] !== header.responseBytes) return;
    this.#args.latencyUs.record(Math.max(1, Math.round(performance.now() * 1000 - (this.#startedUs[index] as number))));
    if (header.serverCloses) this.#phase[index] = AWAITING_CLOSE;
    else this.#close(handle, index);
  }

  /** Writes request and response of a connection as they must be. */
  #expect(index: number): RequestHeader {
    const bytes = writeRequest(this.#request, 0, this.#seedOf[index] as number);
    const header = readRequestHeader(this.#request);
    if (header === undefined) throw new Error("a request that we wrote cannot be read");
    const request = { memory: this.#request, at: 0, bytes };
    writeResponse({ memory: this.#response, at: 0, bytes: header.responseBytes }, request);
    return header;
  }

  #onPeerClosed(handle: number, index: number): void {
    if (this.#phase[index] === AWAITING_CLOSE) {
      this.#close(handle, index);
    } else if (this.#phase[index] === EXCHANGING) {
      this.bytesDiffering += this.#expect(index).responseBytes - (this.#received[index] as number);
      this.#breakOff(handle, index, "ERR_RESPONSE_SHORT");
    }
  }

  #close(handle: number, index: number): void {
    this.#phase[index] = CLOSING;
    this.#handles.close(handle);
    this.#next();
  }

  #onClosed(handle: number, index: number): void {
    if (this.#phase[index] !== CLOSING) {
      this.#breakOff(handle, index, "ERR_RESPONSE_SHORT");
      return;
    }
    this.#phase[index] = NONE;
    this.open--;
    this.completed++;
  }

  #breakOff(handle: number, index: number, code: string): void {
    this.#handles.abort(handle);
    this.#fail(index, code);
  }

  #fail(index: number, code: string): void {
    const wasClosing = this.#phase[index] === CLOSING;
    this.#phase[index] = NONE;
    this.open--;
    this.failures.add(code);
    if (!wasClosing) this.#next();
  }

  #next(): void {
    if (this.#isRunning) this.#connectsDue++;
  }
}

export default function app(stack: KernelStack, args: ClientArguments): void {
  const client = new DemoClient(stack.handles, args);
  stack.handles.onEvents((words, first, count) => client.onEvents(words, first, count));
  stack.on("message", ({ data }) => {
    const { kind } = data as DemoRequest;
    if (kind === "start") client.start();
    else if (kind === "stop") client.stop();
    else if (kind === "abandon") client.abandon();
    else if (kind === "report") {
      const totals: DemoTotals = {
        kind: "client",
        index: args.client,
        begun: client.begun,
        completed: client.completed,
        open: client.open,
        failures: client.failures.toRecord(),
        bytesExchanged: client.bytesExchanged,
        bytesDiffering: client.bytesDiffering,
      };
      stack.postMessage(totals);
    }
  });
}
