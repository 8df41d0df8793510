/**
 * A small HTTP/1.1 server on the handle level, for tests and load generators.
 *
 * | request | answer |
 * |---|---|
 * | GET / | a line of text |
 * | GET /bytes/N | N bytes, byte i = (i * 31 + (i >> 8)) & 255 |
 * | GET /kernel | {"kernel": id of the kernel that has the connection} |
 * | PUT or POST /sha256 | SHA-256 of the body in hexadecimal |
 *
 * Keep-alive, pipelining, chunked bodies, Expect: 100-continue, HEAD, HTTP/1.0. Unanswered requests stay in the receive
 * buffer, and a body is generated as the send buffer has room: memory per connection is bounded by the kernel's
 * buffers.
 */
import { createHash, type Hash } from "node:crypto";
import { NetPopcornError } from "../../errors.ts";
import type { KernelStack } from "../../kernel/kernelStack.ts";
import { ChunkedDecoder, parseHead, type RequestHead } from "./httpParser.ts";
import { type ServiceArguments, type Session, type SessionLink, serveTcp } from "./tcpService.ts";

const HEAD_BYTES_MAX = 16384;
/** Content repeats after so many bytes. */
const PATTERN_BYTES = 65536;
/** What is still taken from a client that was answered with an error before its connection is reset. */
const LINGER_BYTES_MAX = 1 << 20;

const reasons: Readonly<Record<number, string>> = {
  200: "OK",
  400: "Bad Request",
  404: "Not Found",
  405: "Method Not Allowed",
  417: "Expectation Failed",
  431: "Request Header Fields Too Large",
  501: "Not Implemented",
  505: "HTTP Version Not Supported",
};

/** What all connections of one kernel share. */
type Service = {
  readonly stack: KernelStack;
  /** The kernel's memory. */
  readonly memory: Buffer;
  /** Address of the content pattern, twice in a row: from any place in it a whole period is in one piece. */
  readonly pattern: number;
};

/** What a connection is doing. `linger`: everything is said; wait for the client to hear it. */
type Phase = "head" | "body" | "answer" | "linger" | "closed";

/** A session on its way to another kernel. */
type Saved = {
  readonly phase: Phase;
  readonly partialHead: string;
  readonly request: RequestHead | undefined;
  readonly bodyLeft: number;
  readonly text: string;
  readonly patternAt: number;
  readonly patternLeft: number;
  readonly keepAlive: boolean;
  readonly lingered: number;
  readonly saidAll: boolean;
};

class HttpSession implements Session {
  readonly #service: Service;
  readonly #link: SessionLink;
  #phase: Phase = "head";
  /** Beginning of a head whose end has not come. */
  #partialHead = "";
  #request: RequestHead | undefined;
  #hash: Hash | undefined;
  #bodyLeft = 0;
  #chunks: ChunkedDecoder | undefined;
  /** Text to send, then pattern bytes. */
  #text = "";
  #patternAt = 0;
  #patternLeft = 0;
  #keepAlive = true;
  #lingered = 0;
  #saidAll = false;

  constructor(service: Service, link: SessionLink, saved?: Saved) {
    this.#service = service;
    this.#link = link;
    if (!saved) return;
    this.#phase = saved.phase;
    this.#partialHead = saved.partialHead;
    this.#request = saved.request;
    this.#bodyLeft = saved.bodyLeft;
    this.#text = saved.text;
    this.#patternAt = saved.patternAt;
    this.#patternLeft = saved.patternLeft;
    this.#keepAlive = saved.keepAlive;
    this.#lingered = saved.lingered;
    this.#saidAll = saved.saidAll;
  }

  /** A body half decoded or half hashed cannot go: these states are objects of this thread. */
  save(): Saved | undefined {
    if (this.#phase === "body" && (this.#hash || this.#chunks)) return undefined;
    return {
      phase: this.#phase,
      partialHead: this.#partialHead,
      request: this.#request,
      bodyLeft: this.#bodyLeft,
      text: this.#text,
      patternAt: this.#patternAt,
      patternLeft: this.#patternLeft,
      keepAlive: this.#keepAlive,
      lingered: this.#lingered,
      saidAll: this.#saidAll,
    };
  }

  advance(): void {
    while (this.#send() && this.#receive());
  }

  drain(): void {
    this.#keepAlive = false;
    if (
      this.#phase === "head" &&
      this.#partialHead === "" &&
      this.#service.stack.handles.peek(this.#link.handle) === 0
    ) {
      this.#close();
    }
  }

  /** Sends what is to be sent. @returns true when all of it has been taken and there is a reason to go on. */
  #send(): boolean {
    const { handles } = this.#service.stack;
    const { handle } = this.#link;
    while (this.#text !== "") {
      const room = handles.reserve(handle, this.#text.length);
      if (room <= 0) return room === 0 ? false : this.#abort();
      const bytes = Math.min(handles.available, this.#text.length);
      this.#service.memory.write(this.#text.slice(0, bytes), room, "latin1");
      handles.commit(handle, bytes);
      this.#text = this.#text.slice(bytes);
    }
    while (this.#patternLeft > 0) {
      const wanted = Math.min(this.#patternLeft, PATTERN_BYTES);
      const sent = handles.send(handle, this.#service.pattern + this.#patternAt, wanted);
      if (sent < 0) return this.#abort();
      this.#patternAt = (this.#patternAt + sent) % PATTERN_BYTES;
      this.#patternLeft -= sent;
      if (sent < wanted) return false;
    }
    if (this.#phase === "answer") {
      if (this.#keepAlive) this.#phase = "head";
      else if (handles.peek(handle) === 0) this.#close();
      else this.#phase = "linger";
    }
    if (this.#phase === "linger" && !this.#saidAll) {
      // Closing at once would reset the connection because of the unread input, and take the answer with it (RFC 9112
      // 9.6).
      this.#saidAll = true;
      handles.shutdownSend(handle);
    }
    return this.#phase !== "closed";
  }

  /** Takes the next piece of input. @returns true when there may be more to do. */
  #receive(): boolean {
    const { handles } = this.#service.stack;
    const at = handles.peek(this.#link.handle);
    if (at < 0) return false;
    if (at === 0) {
      if (this.#link.peerClosed) this.#onEnd();
      return false;
    }
    const bytes = handles.available;
    let used = bytes;
    if (this.#phase === "head") used = this.#takeHead(at, bytes);
    else if (this.#phase === "body") used = this.#takeBody(at, bytes);
    else {
      this.#lingered += bytes;
      if (this.#lingered > LINGER_BYTES_MAX) return this.#abort();
    }
    handles.consume(this.#link.handle, used);
    return true;
  }

  #onEnd(): void {
    if (this.#phase === "body" || this.#partialHead !== "") this.#abort();
    else this.#close();
  }

  /** @returns bytes used. */
  #takeHead(at: number, bytes: number): number {
    const before = this.#partialHead.length;
    const wanted = Math.min(bytes, HEAD_BYTES_MAX - before + 4);
    const text = this.#partialHead + this.#service.memory.toString("latin1", at, at + wanted);
    // The empty line may begin in the last three bytes of what was there before.
    const end = text.indexOf("\r\n\r\n", Math.max(0, before - 3));
    if (end < 0 || end > HEAD_BYTES_MAX) {
      if (text.length > HEAD_BYTES_MAX) {
        this.#fail(431);
        return bytes;
      }
      this.#partialHead = text;
      return text.length - before;
    }
    this.#partialHead = "";
    // RFC 9112 2.2: empty lines before a request are ignored.
    const start = /^(?:\r\n)*/.exec(text)?.[0].length ?? 0;
    if (start > end) return start - before;
    const head = parseHead(text.slice(start, end));
    if ("status" in head) this.#fail(head.status);
    else this.#onHead(head);
    return end + 4 - before;
  }

  #onHead(head: RequestHead): void {
    this.#request = head;
    this.#keepAlive &&= head.keepAlive;
    this.#hash = head.target === "/sha256" ? createHash("sha256") : undefined;
    this.#chunks = head.contentLength === undefined ? new ChunkedDecoder() : undefined;
    this.#bodyLeft = head.contentLength ?? 0;
    if (this.#chunks || this.#bodyLeft > 0) {
      this.#phase = "body";
      if (head.expectContinue) this.#text += "HTTP/1.1 100 Continue\r\n\r\n";
    } else this.#answer(head);
  }

  /** @returns bytes used. */
  #takeBody(at: number, bytes: number): number {
    const { memory } = this.#service;
    let used: number;
    if (this.#chunks) {
      used = this.#chunks.decode(memory, at, at + bytes, (from, to) => this.#hash?.update(memory.subarray(from, to)));
      if (used < 0) {
        this.#fail(400);
        return bytes;
      }
      if (!this.#chunks.done) return used;
    } else {
      used = Math.min(bytes, this.#bodyLeft);
      this.#hash?.update(memory.subarray(at, at + used));
      this.#bodyLeft -= used;
      if (this.#bodyLeft > 0) return used;
    }
    this.#answer(this.#request as RequestHead);
    return used;
  }

  #answer({ method, target }: RequestHead): void {
    const isRead = method === "GET" || method === "HEAD";
    const isWrite = method === "PUT" || method === "POST";
    const bytes = /^\/bytes\/(\d{1,15})$/.exec(target);
    if (target === "/sha256") {
      if (!isWrite) this.#respond(405, "use PUT or POST\n");
      else this.#respond(200, this.#hash?.digest("hex") ?? "");
    } else if (!bytes && target !== "/" && target !== "/kernel") this.#respond(404, "not here\n");
    else if (!isRead) this.#respond(405, "use GET or HEAD\n");
    else if (bytes) this.#respondPattern(Number(bytes[1]));
    else if (target === "/") this.#respond(200, "NetPopcorn is here.\n");
    else this.#respond(200, `{"kernel":${this.#service.stack.kernelId}}\n`, "application/json");
  }

  #respond(status: number, text: string, type = "text/plain"): void {
    this.#startResponse(status, text.length, type);
    if (this.#request?.method !== "HEAD") this.#text += text;
  }

  #respondPattern(bytes: number): void {
    this.#startResponse(200, bytes, "application/octet-stream");
    this.#patternAt = 0;
    this.#patternLeft = this.#request?.method === "HEAD" ? 0 : bytes;
  }

  #startResponse(status: number, contentLength: number, type: string): void {
    const connection = this.#keepAlive ? "keep-alive" : "close";
    const allow = status === 405 ? "Allow: GET, HEAD, PUT, POST\r\n" : "";
    this.#text +=
      `HTTP/1.1 ${status} ${reasons[status]}\r\nContent-Type: ${type}\r\nContent-Length: ${contentLength}\r\n` +
      `${allow}Connection: ${connection}\r\n\r\n`;
    this.#phase = "answer";
  }

  /** Answers with an error after which the input makes no sense any more. */
  #fail(status: number): void {
    this.#request = undefined;
    this.#partialHead = "";
    this.#keepAlive = false;
    this.#respond(status, `${reasons[status]}\n`);
    this.#phase = "linger";
  }

  #close(): void {
    this.#phase = "closed";
    this.#link.close();
  }

  #abort(): false {
    this.#phase = "closed";
    this.#link.abort();
    return false;
  }
}

/** The content of GET /bytes/N: byte i = (i * 31 + (i >> 8)) & 255. */
export function contentPattern(bytes: number): Uint8Array {
  return Uint8Array.from({ length: bytes }, (_, i) => (i * 31 + (i >> 8)) & 255);
}

export default function http(stack: KernelStack, { port = 80 }: ServiceArguments = {}): void {
  const { handles } = stack;
  const pattern = handles.alloc(2 * PATTERN_BYTES);
  if (pattern === 0) throw new NetPopcornError("ENOMEM", "http: no memory for the content; raise memoryBytes");
  handles.bytes.set(contentPattern(2 * PATTERN_BYTES), pattern);
  const memory = Buffer.from(handles.bytes.buffer);
  const service: Service = { stack, memory, pattern };
  serveTcp({ stack, port, createSession: (link, saved) => new HttpSession(service, link, saved as Saved) });
}
