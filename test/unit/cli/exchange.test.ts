import { describe, expect, test } from "vitest";
import {
  countDifferences,
  exchangeSeed,
  MESSAGE_BYTES_MAX,
  MESSAGE_BYTES_MIN,
  readRequestHeader,
  writeRequest,
  writeResponse,
} from "../../../src/cli/demo/exchange.ts";

const room = MESSAGE_BYTES_MAX + 3;

describe("writeRequest", () => {
  test("lengths and closers cover their range, and the header reads back", () => {
    const memory = new Uint8Array(room);
    const seen = { shortest: Infinity, longest: 0, serverCloses: 0, clientCloses: 0 };
    for (let connection = 0; connection < 20_000; connection++) {
      const bytes = writeRequest(memory, 0, exchangeSeed(7, 3, connection));
      const header = readRequestHeader(memory);
      expect(header?.requestBytes).toBe(bytes);
      for (const length of [bytes, header?.responseBytes ?? 0]) {
        seen.shortest = Math.min(seen.shortest, length);
        seen.longest = Math.max(seen.longest, length);
      }
      if (header?.serverCloses) seen.serverCloses++;
      else seen.clientCloses++;
    }
    expect([seen.shortest, seen.longest]).toEqual([MESSAGE_BYTES_MIN, MESSAGE_BYTES_MAX]);
    expect(seen.serverCloses / 20_000).toBeCloseTo(0.5, 1);
    expect(seen.clientCloses / 20_000).toBeCloseTo(0.5, 1);
  });

  test("is a function of the seed and differs between connections and hosts", () => {
    const content = (seed: number, host: number, connection: number) => {
      const memory = new Uint8Array(room);
      const bytes = writeRequest(memory, 0, exchangeSeed(seed, host, connection));
      return Buffer.from(memory.subarray(0, bytes)).toString("hex");
    };
    const all = [content(1, 0, 0), content(1, 0, 1), content(1, 1, 0), content(2, 0, 0)];
    expect(content(1, 0, 0)).toBe(all[0]);
    expect(new Set(all).size).toBe(all.length);
  });

  test("writes nothing before its start and at most three bytes behind its end", () => {
    for (let connection = 0; connection < 500; connection++) {
      const memory = new Uint8Array(32 + room + 32).fill(0xee);
      const bytes = writeRequest(memory, 32, exchangeSeed(1, 0, connection));
      expect(memory.subarray(0, 32).every((byte) => byte === 0xee)).toBe(true);
      expect(memory.subarray(32 + bytes + 3).every((byte) => byte === 0xee)).toBe(true);
    }
  });
});

test.each([
  ["too short", [0, 63, 1, 0, 0]],
  ["too long", [5, 221, 1, 0, 0]],
  ["response too short", [1, 0, 0, 63, 0]],
  ["response too long", [1, 0, 5, 221, 0]],
  ["closer unknown", [1, 0, 1, 0, 2]],
  ["empty", []],
])("a header that is %s is refused", (_name, bytes) => {
  expect(readRequestHeader(Uint8Array.from(bytes))).toBeUndefined();
});

describe("the response", () => {
  const seed = exchangeSeed(1, 2, 3);
  const request = new Uint8Array(room);
  const bytes = writeRequest(request, 0, seed);
  const expected = new Uint8Array(MESSAGE_BYTES_MAX);
  writeResponse({ memory: expected, at: 0, bytes: MESSAGE_BYTES_MAX }, { memory: request, at: 0, bytes });

  test("follows the published formula", () => {
    for (const index of [0, 1, bytes - 1, bytes, MESSAGE_BYTES_MAX - 1]) {
      expect(expected[index]).toBe((((request[index % bytes] ?? 0) ^ 0xa5) + 7 * index) & 255);
    }
  });

  test("shows any single changed bit of the request", () => {
    for (let at = 0; at < bytes; at += 7) {
      const damaged = request.slice();
      damaged[at] = (damaged[at] ?? 0) ^ (1 << (at & 7));
      const actual = new Uint8Array(MESSAGE_BYTES_MAX);
      writeResponse({ memory: actual, at: 0, bytes: MESSAGE_BYTES_MAX }, { memory: damaged, at: 0, bytes });
      const place = { memory: actual, at: 0, bytes: MESSAGE_BYTES_MAX };
      expect(countDifferences(expected, 0, place)).toBeGreaterThan(0);
    }
  });

  test("shows bytes that are lost or moved", () => {
    const moved = { memory: expected, at: 1, bytes: MESSAGE_BYTES_MAX - 1 };
    expect(countDifferences(expected, 0, moved)).toBeGreaterThan(MESSAGE_BYTES_MAX / 2);
    expect(countDifferences(expected, 1, moved)).toBe(0);
  });
});
