import { createHash } from "node:crypto";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { chargenPattern } from "../../../src/cli/apps/chargen.ts";
import { contentPattern } from "../../../src/cli/apps/http.ts";
import type { Connection } from "../../../src/socket/connection.ts";
import { createStackPair, readAll, type StackPair, testBytes, writeAll } from "../../helpers/stacks.ts";

const pairs = new Map<string, StackPair>();

beforeAll(async () => {
  for (const name of ["echo", "discard", "chargen", "http"]) {
    const app = new URL(`../../../src/cli/apps/${name}.ts`, import.meta.url);
    pairs.set(
      name,
      await createStackPair({ server: { app, appArguments: {} }, serverKernels: name === "http" ? 2 : 1 }),
    );
  }
});

afterAll(async () => {
  for (const pair of pairs.values()) await pair.close();
});

function connectTo(name: string, port: number): Promise<Connection> {
  return (pairs.get(name) as StackPair).client.connect({ address: "10.7.0.2", port });
}

describe("echo (RFC 862)", () => {
  it("returns every byte, also to one that reads late", async () => {
    const connection = await connectTo("echo", 7);
    const bytes = testBytes(2 << 20);
    const writing = writeAll(connection, bytes);
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(Buffer.compare(await readAll(connection.readable), bytes)).toBe(0);
    await writing;
    await connection.closed;
  });

  it("returns datagrams", async () => {
    await using socket = await (pairs.get("echo") as StackPair).client.bindUdp(0);
    socket.send(testBytes(1000), { address: "10.7.0.2", port: 7 });
    expect(await socket.receive()).toMatchObject({ data: testBytes(1000), port: 7 });
  });
});

describe("discard (RFC 863)", () => {
  it("takes everything, says nothing, and closes when the client does", async () => {
    const connection = await connectTo("discard", 9);
    await writeAll(connection, testBytes(8 << 20));
    expect((await readAll(connection.readable)).length).toBe(0);
    await connection.closed;
  });
});

describe("chargen (RFC 864)", () => {
  it("begins with the pattern's first lines", () => {
    const lines = new TextDecoder().decode(chargenPattern().subarray(0, 148)).split("\r\n");
    expect(lines[0]).toBe(` !"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_\`abcdefg`);
    expect(lines[1]).toBe(`!"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_\`abcdefgh`);
  });

  it("sends the pattern until the client closes", async () => {
    const connection = await connectTo("chargen", 19);
    const pattern = chargenPattern();
    let at = 0;
    for await (const chunk of connection.readable) {
      for (const byte of chunk) if (byte !== pattern[at++ % 7030]) throw new Error(`byte ${at - 1} differs`);
      if (at > 100_000) break;
    }
    connection.abort();
  });
});

describe("http", () => {
  /** Sends `request` in pieces, closes or not, and gives all that comes back. */
  async function exchange(request: string | Uint8Array, { pieces = 1, close = false } = {}): Promise<string> {
    const connection = await connectTo("http", 80);
    const bytes = typeof request === "string" ? Buffer.from(request, "latin1") : Buffer.from(request);
    const reading = readAll(connection.readable);
    const writer = connection.writable.getWriter();
    for (let i = 0; i < pieces; i++) {
      const part = bytes.subarray(
        Math.floor((bytes.length * i) / pieces),
        Math.floor((bytes.length * (i + 1)) / pieces),
      );
      await writer.write(Uint8Array.from(part));
      if (pieces > 1) await new Promise((resolve) => setTimeout(resolve, 2));
    }
    if (close) await writer.close();
    const answer = Buffer.from(await reading).toString("latin1");
    connection.close().catch(() => {});
    return answer;
  }

  const end = "Host: x\r\nConnection: close\r\n\r\n";

  it("answers GET /", async () => {
    const answer = await exchange(`GET / HTTP/1.1\r\n${end}`);
    expect(answer).toMatch(/^HTTP\/1\.1 200 OK\r\n/);
    expect(answer).toMatch(/\r\nContent-Length: 20\r\n/);
    expect(answer).toMatch(/\r\n\r\nNetPopcorn is here\.\n$/);
  });

  it.each([0, 1, 1000, 65537, 3_000_000])("generates %d bytes", async (bytes) => {
    const answer = Buffer.from(await exchange(`GET /bytes/${bytes} HTTP/1.1\r\n${end}`), "latin1");
    const body = answer.subarray(answer.indexOf("\r\n\r\n") + 4);
    expect(answer.toString("latin1", 0, 300)).toContain(`Content-Length: ${bytes}\r\n`);
    expect(Buffer.compare(body, contentPattern(bytes))).toBe(0);
  });

  it("hashes a body by length and in chunks", async () => {
    const body = Buffer.from(testBytes(200_000));
    const digest = createHash("sha256").update(body).digest("hex");
    const plain = `PUT /sha256 HTTP/1.1\r\nContent-Length: ${body.length}\r\n${end}`;
    expect(await exchange(Buffer.concat([Buffer.from(plain), body]))).toMatch(new RegExp(`\r\n\r\n${digest}$`));
    const chunks = [0, 70_000, 70_001, 200_000].flatMap((to, i, ends) => {
      const part = body.subarray(ends[i - 1] ?? 0, to);
      return i === 0 ? [] : [Buffer.from(`${part.length.toString(16)}\r\n`), part, Buffer.from("\r\n")];
    });
    const chunked = Buffer.from(`POST /sha256 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n${end}`);
    expect(await exchange(Buffer.concat([chunked, ...chunks, Buffer.from("0\r\n\r\n")]))).toMatch(
      new RegExp(`\r\n\r\n${digest}$`),
    );
  });

  it("says 100 Continue to a client that waits for it", async () => {
    const connection = await connectTo("http", 80);
    const writer = connection.writable.getWriter();
    const reader = connection.readable.getReader();
    const head = `PUT /sha256 HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n${end}`;
    await writer.write(Uint8Array.from(Buffer.from(head)));
    let interim = "";
    while (!interim.endsWith("\r\n\r\n")) interim += Buffer.from((await reader.read()).value ?? []).toString();
    expect(interim).toBe("HTTP/1.1 100 Continue\r\n\r\n");
    await writer.write(Uint8Array.from(Buffer.from("ab")));
    reader.releaseLock();
    const answer = Buffer.from(await readAll(connection.readable)).toString();
    expect(answer).toContain(createHash("sha256").update("ab").digest("hex"));
    connection.abort();
  });

  it("answers pipelined requests in order on one connection", async () => {
    const requests = ["/", "/bytes/3", "/nothing", "/kernel"].map(
      (target) => `GET ${target} HTTP/1.1\r\nHost: x\r\n\r\n`,
    );
    const answer = await exchange(`${requests.join("")}HEAD /bytes/9 HTTP/1.1\r\n${end}`);
    expect(answer.match(/HTTP\/1\.1 \d+/g)).toEqual([200, 200, 404, 200, 200].map((status) => `HTTP/1.1 ${status}`));
    expect(answer).toMatch(/\{"kernel":[01]\}\n/);
    expect(answer).toMatch(/Content-Length: 9\r\nConnection: close\r\n\r\n$/);
  });

  it("reads a head in any number of pieces", async () => {
    expect(await exchange(`\r\nGET / HTTP/1.1\r\n${end}`, { pieces: 20 })).toMatch(/^HTTP\/1\.1 200/);
  });

  it("talks HTTP/1.0", async () => {
    expect(await exchange("GET / HTTP/1.0\r\n\r\n")).toMatch(/Connection: close\r\n/);
    const kept = await exchange("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\nGET / HTTP/1.0\r\n\r\n");
    expect(kept.match(/HTTP\/1\.1 200/g)?.length).toBe(2);
    expect(kept).toMatch(/Connection: keep-alive/);
  });

  it.each([
    [400, "GET / HTTP/1.1\r\n\r\n"],
    [400, "nonsense\r\n\r\n"],
    [405, `POST / HTTP/1.1\r\n${end}`],
    [405, `GET /sha256 HTTP/1.1\r\n${end}`],
    [404, `GET /bytes/ HTTP/1.1\r\n${end}`],
    [431, `GET / HTTP/1.1\r\nCookie: ${"x".repeat(20_000)}\r\n${end}`],
    [400, `PUT /sha256 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n${end}zz\r\n`],
  ])("answers %d to a bad request, and closes", async (status, request) => {
    expect(await exchange(request, { close: true })).toMatch(new RegExp(`^HTTP/1.1 ${status} [^]*Connection: close`));
  });
});
