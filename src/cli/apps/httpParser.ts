/**
 * Request heads of HTTP/1.0 and 1.1 (RFC 9112), strictly: what servers and proxies are known to read differently is
 * refused.
 */

export type RequestHead = {
  readonly method: string;
  readonly target: string;
  /** Minor version: 0 or 1. */
  readonly minorVersion: number;
  /** Body length; undefined with chunked coding. */
  readonly contentLength: number | undefined;
  readonly keepAlive: boolean;
  /** The client waits for "100 Continue" before it sends the body. */
  readonly expectContinue: boolean;
};

/** Status to answer with instead. */
export type HeadError = { readonly status: 400 | 417 | 501 | 505 };

const REQUEST_LINE = /^([!#$%&'*+\-.^_`|~0-9A-Za-z]+) ([!-~]+) HTTP\/(\d)\.(\d)$/;
const HEADER_LINE = /^([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*(.*?)[ \t]*$/;

/** @param head everything before the empty line, without it; one byte per character. */
export function parseHead(head: string): RequestHead | HeadError {
  const lines = head.split("\r\n");
  const requestLine = REQUEST_LINE.exec(lines[0] as string);
  if (!requestLine) return { status: 400 };
  if (requestLine[3] !== "1") return { status: 505 };
  const minorVersion = requestLine[4] === "0" ? 0 : 1;
  let contentLength: number | undefined;
  let chunked = false;
  let hosts = 0;
  let connection = "";
  let expect = "";
  for (let i = 1; i < lines.length; i++) {
    // A line that begins with white space (obs-fold, RFC 9112 5.2) matches nothing and is refused.
    const header = HEADER_LINE.exec(lines[i] as string);
    if (!header) return { status: 400 };
    const value = header[2] as string;
    switch ((header[1] as string).toLowerCase()) {
      case "host":
        hosts++;
        break;
      case "connection":
        connection += `,${value.toLowerCase()}`;
        break;
      case "expect":
        expect = value.toLowerCase();
        break;
      case "content-length": {
        const length = /^\d{1,15}$/.test(value) ? Number(value) : -1;
        if (length < 0 || (contentLength !== undefined && contentLength !== length)) return { status: 400 };
        contentLength = length;
        break;
      }
      case "transfer-encoding":
        if (value.toLowerCase() !== "chunked") return { status: 501 };
        if (chunked) return { status: 400 };
        chunked = true;
        break;
    }
  }
  // RFC 9112 6.3: both lengths at once is how requests are smuggled; 3.2: HTTP/1.1 names one host.
  if (chunked && (contentLength !== undefined || minorVersion === 0)) return { status: 400 };
  if (hosts > 1 || (minorVersion === 1 && hosts === 0)) return { status: 400 };
  if (expect !== "" && expect !== "100-continue") return { status: 417 };
  const options = connection.split(",").map((option) => option.trim());
  return {
    method: requestLine[1] as string,
    target: requestLine[2] as string,
    minorVersion,
    contentLength: chunked ? undefined : (contentLength ?? 0),
    keepAlive: minorVersion === 1 ? !options.includes("close") : options.includes("keep-alive"),
    expectContinue: expect !== "" && minorVersion === 1,
  };
}

const CR = 13;
const LF = 10;
const CHUNK_LINE_BYTES_MAX = 1024;
const TRAILER_BYTES_MAX = 8192;

type ChunkState = "size" | "data" | "data end" | "trailer" | "done";

/** Decodes the chunked transfer coding (RFC 9112 7.1) piece by piece. */
export class ChunkedDecoder {
  #state: ChunkState = "size";
  #line = "";
  #left = 0;
  #trailerBytes = 0;

  get done(): boolean {
    return this.#state === "done";
  }

  /**
   * Takes `end - start` coded bytes; stops after the last chunk.
   * @param onData called with ranges of `bytes` that are content.
   * @returns bytes used, or -1 when the coding is broken.
   */
  decode(bytes: Uint8Array, start: number, end: number, onData: (from: number, to: number) => void): number {
    let at = start;
    while (at < end && this.#state !== "done") {
      if (this.#state === "data") {
        const count = Math.min(this.#left, end - at);
        onData(at, at + count);
        at += count;
        this.#left -= count;
        if (this.#left === 0) this.#state = "data end";
        continue;
      }
      const byte = bytes[at++] as number;
      if (byte !== LF) {
        if (this.#line.length === CHUNK_LINE_BYTES_MAX) return -1;
        this.#line += String.fromCharCode(byte);
        continue;
      }
      // Lines end with CR LF; a bare LF is not accepted.
      if (this.#line.charCodeAt(this.#line.length - 1) !== CR) return -1;
      const line = this.#line.slice(0, -1);
      this.#line = "";
      if (!this.#onLine(line)) return -1;
    }
    return at - start;
  }

  #onLine(line: string): boolean {
    if (this.#state === "data end") {
      this.#state = "size";
      return line === "";
    }
    if (this.#state === "trailer") {
      this.#trailerBytes += line.length;
      if (line === "") this.#state = "done";
      return this.#trailerBytes <= TRAILER_BYTES_MAX;
    }
    const size = /^([0-9a-f]{1,12})[ \t]*(;.*)?$/i.exec(line);
    if (!size) return false;
    this.#left = Number.parseInt(size[1] as string, 16);
    this.#state = this.#left === 0 ? "trailer" : "data";
    return true;
  }
}
