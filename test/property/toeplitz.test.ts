import fc from "../helpers/property.ts";
import { describe, expect, it } from "vitest";
import { toeplitz, toeplitzBuild } from "../../src/rss/toeplitz.ts";
import { createProbe } from "../helpers/probe.ts";

/** The definition: for each input bit that is set, the 32 key bits that start at that bit. */
function model(key: Uint8Array, input: Uint8Array): number {
  const keyBits = [...key].map((byte) => byte.toString(2).padStart(8, "0")).join("");
  const inputBits = [...input].map((byte) => byte.toString(2).padStart(8, "0")).join("");
  let hash = 0;
  [...inputBits].forEach((bit, i) => {
    if (bit === "1") hash ^= Number.parseInt(keyBits.slice(i, i + 32), 2);
  });
  return hash >>> 0;
}

const anyKey = fc.uint8Array({ minLength: 40, maxLength: 40 });

describe("Toeplitz by table equals its definition", () => {
  const { wasm, bytes, free } = createProbe();
  const tables = free;
  const keyAt = free + 65536;
  const input = keyAt + 64;
  const view = new DataView(bytes.buffer);

  it("for every key, IPv4 tuple and IPv6 tuple", () => {
    fc.assert(
      fc.property(anyKey, fc.uint8Array({ minLength: 36, maxLength: 36 }), (key, tuple) => {
        bytes.set(key, keyAt);
        bytes.set(tuple, input);
        wasm.toeplitzBuild(tables, keyAt);
        const [source, destination, ports] = [0, 4, 8].map((at) => view.getUint32(input + at, true)) as [
          number,
          number,
          number,
        ];
        expect(wasm.toeplitzV4Addresses(tables, source, destination) >>> 0).toBe(model(key, tuple.subarray(0, 8)));
        expect(wasm.toeplitzV4(tables, source, destination, ports) >>> 0).toBe(model(key, tuple.subarray(0, 12)));
        expect(wasm.toeplitzV6Addresses(tables, input) >>> 0).toBe(model(key, tuple.subarray(0, 32)));
        expect(wasm.toeplitzV6(tables, input, view.getUint32(input + 32, true)) >>> 0).toBe(model(key, tuple));
        const script = toeplitzBuild(key);
        for (const length of [8, 12, 32, 36]) {
          expect(toeplitz(script, tuple.subarray(0, length))).toBe(model(key, tuple.subarray(0, length)));
          expect(wasm.toeplitzBitwise(keyAt, input, length) >>> 0).toBe(model(key, tuple.subarray(0, length)));
        }
      }),
      { numRuns: 60 },
    );
  });
});
