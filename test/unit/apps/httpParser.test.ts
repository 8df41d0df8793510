import fc from "../../helpers/property.ts";
import { describe, expect, it } from "vitest";
import { ChunkedDecoder, parseHead } from "../../../src/cli/apps/httpParser.ts";

function head(...lines: string[]): string {
  return lines.join("\r\n");
}

describe("parseHead", () => {
  it("reads what a browser sends", () => {
    const parsed = parseHead(head("GET /bytes/100 HTTP/1.1", "Host: 10.7.0.2", "Accept: */*"));
    expect(parsed).toEqual({
      method: "GET",
      target: "/bytes/100",
      minorVersion: 1,
      contentLength: 0,
      keepAlive: true,
      expectContinue: false,
    });
  });

  it.each([
    ["HTTP/1.1", "close", false],
    ["HTTP/1.1", "Keep-Alive, Close", false],
    ["HTTP/1.1", "keep-alive", true],
    ["HTTP/1.0", "close", false],
    ["HTTP/1.0", "Keep-Alive", true],
  ])("%s with Connection: %s keeps alive: %s", (version, connection, keepAlive) => {
    expect(parseHead(head(`GET / ${version}`, "Host: x", `Connection: ${connection}`))).toMatchObject({ keepAlive });
  });

  it("knows that HTTP/1.0 needs no host and closes by default", () => {
    expect(parseHead("GET / HTTP/1.0")).toMatchObject({ keepAlive: false, minorVersion: 0 });
  });

  it("reads a chunked upload that waits for 100 Continue", () => {
    const lines = ["PUT /sha256 HTTP/1.1", "host:x", "TRANSFER-ENCODING: Chunked", "expect:100-continue"];
    expect(parseHead(head(...lines))).toMatchObject({ contentLength: undefined, expectContinue: true });
  });

  it.each([
    [400, ["GET /"]],
    [400, ["GET  / HTTP/1.1", "Host: x"]],
    [400, ["GET / HTTP/1.1"]],
    [400, ["GET / HTTP/1.1", "Host: x", "Host: y"]],
    [400, ["GET / HTTP/1.1", "Host: x", "Folded: a", " b"]],
    [400, ["GET / HTTP/1.1", "Host : x"]],
    [400, ["GET / HTTP/1.1", "Host: x", "no colon"]],
    [400, ["PUT / HTTP/1.1", "Host: x", "Content-Length: -1"]],
    [400, ["PUT / HTTP/1.1", "Host: x", "Content-Length: 1, 1"]],
    [400, ["PUT / HTTP/1.1", "Host: x", "Content-Length: 1", "Content-Length: 2"]],
    [400, ["PUT / HTTP/1.1", "Host: x", "Content-Length: 1", "Transfer-Encoding: chunked"]],
    [400, ["PUT / HTTP/1.1", "Host: x", "Transfer-Encoding: chunked", "Transfer-Encoding: chunked"]],
    [400, ["PUT / HTTP/1.0", "Transfer-Encoding: chunked"]],
    [417, ["PUT / HTTP/1.1", "Host: x", "Expect: miracles"]],
    [501, ["PUT / HTTP/1.1", "Host: x", "Transfer-Encoding: gzip, chunked"]],
    [505, ["GET / HTTP/2.0", "Host: x"]],
  ])("answers %d to %j", (status, lines) => {
    expect(parseHead(head(...lines))).toEqual({ status });
  });
});

describe("ChunkedDecoder", () => {
  /** Feeds `coded` in pieces of the given sizes. */
  function decode(coded: Uint8Array, pieces: readonly number[]): { content: number[]; used: number; done: boolean } {
    const decoder = new ChunkedDecoder();
    const content: number[] = [];
    let at = 0;
    for (let i = 0; at < coded.length && !decoder.done; i++) {
      const end = Math.min(coded.length, at + (pieces[i % pieces.length] as number));
      const used = decoder.decode(coded, at, end, (from, to) => content.push(...coded.subarray(from, to)));
      if (used < 0) return { content, used, done: false };
      at += used;
    }
    return { content, used: at, done: decoder.done };
  }

  it("gives back any content, however it is cut, and stops behind the last chunk", () => {
    fc.assert(
      fc.property(
        fc.array(fc.uint8Array({ minLength: 1, maxLength: 40 }), { maxLength: 8 }),
        fc.array(fc.integer({ min: 1, max: 30 }), { minLength: 1, maxLength: 5 }),
        fc.boolean(),
        (chunks, pieces, withTrailer) => {
          const text = chunks.flatMap((chunk) => [`${chunk.length.toString(16)};x=1\r\n`, chunk, "\r\n"]);
          const coded = Buffer.concat([
            ...text.map((part) => Buffer.from(part as string)),
            Buffer.from(withTrailer ? "0\r\nTrailer: 1\r\n\r\n" : "0\r\n\r\n"),
          ]);
          const followed = Buffer.concat([coded, Buffer.from("GET / HTTP/1.1")]);
          const result = decode(followed, pieces);
          expect(result.done).toBe(true);
          expect(result.used).toBe(coded.length);
          expect(result.content).toEqual([...Buffer.concat(chunks)]);
        },
      ),
    );
  });

  it.each([
    "x\r\n",
    "-1\r\n",
    "1\na\r\n",
    "1\r\naXX\r\n",
    "1 \u00001\r\n",
    `${"0".repeat(2000)}`,
    "1000000000000000\r\n",
  ])("refuses %j", (coded) => {
    expect(decode(Buffer.from(coded, "latin1"), [coded.length]).used).toBe(-1);
  });
});
