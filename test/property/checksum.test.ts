import fc from "../helpers/property.ts";
import { describe, expect, it } from "vitest";
import { createProbe } from "../helpers/probe.ts";

/** RFC 1071 as written, on words in memory order: add with end-around carry. */
function model(bytes: Uint8Array): number {
  let sum = 0;
  for (let i = 0; i < bytes.length; i += 2) {
    sum += (bytes[i] as number) + (bytes[i + 1] ?? 0) * 256;
    if (sum > 0xffff) sum -= 0xffff;
  }
  return sum;
}

/** Random bytes, and the extremes: SIMD sums are signed inside, so all-ones and 0x8000 words are where they break. */
const content = fc.oneof(
  fc.uint8Array({ maxLength: 300 }),
  fc.uint8Array({ minLength: 1400, maxLength: 1600 }),
  fc
    .tuple(fc.constantFrom(0x00, 0x7f, 0x80, 0xff), fc.integer({ min: 0, max: 65550 }))
    .map(([byte, n]) => new Uint8Array(n).fill(byte)),
);

describe.each(["release", "debug"] as const)("assembly/wire/checksum (%s)", (build) => {
  const { wasm, bytes, free } = createProbe(build);

  it("sums any bytes at any alignment like the plain definition", () => {
    fc.assert(
      fc.property(content, fc.nat(31), (data, offset) => {
        bytes.fill(0xa5, free, free + data.length + 64);
        bytes.set(data, free + offset);
        expect(wasm.sumBytes(free + offset, data.length)).toBe(model(data));
      }),
      { numRuns: 300 },
    );
  });

  it("copies and sums in one pass, and writes nothing around", () => {
    fc.assert(
      fc.property(content, fc.nat(31), fc.nat(31), (data, from, to) => {
        const target = free + 131072;
        bytes.set(data, free + from);
        bytes.fill(0xa5, target, target + data.length + 96);
        expect(wasm.copyAndSum(target + to, free + from, data.length)).toBe(model(data));
        expect(Buffer.from(bytes.subarray(target + to, target + to + data.length)).equals(data)).toBe(true);
        expect(bytes.subarray(target, target + to).every((byte) => byte === 0xa5)).toBe(true);
        expect(
          bytes.subarray(target + to + data.length, target + data.length + 96).every((byte) => byte === 0xa5),
        ).toBe(true);
      }),
      { numRuns: 200 },
    );
  });

  it("puts pieces together: a piece at an odd offset counts swapped", () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 200 }), fc.nat(200), (data, cut) => {
        const at = Math.min(cut, data.length);
        bytes.set(data, free);
        const first = wasm.sumBytes(free, at);
        const second = wasm.sumBytes(free + at, data.length - at);
        expect(wasm.sumAdd(first, at & 1 ? wasm.sumSwap(second) : second)).toBe(model(data));
      }),
    );
  });

  it("makes a checksum that sums to all ones with its data", () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 20, maxLength: 60 }), (data) => {
        const even = data.subarray(0, data.length & ~1);
        bytes.set(even, free);
        new DataView(bytes.buffer).setUint16(free + 10, 0, true);
        const checksum = wasm.checksumOf(wasm.sumBytes(free, even.length)) & 0xffff;
        new DataView(bytes.buffer).setUint16(free + 10, checksum, true);
        expect(wasm.sumBytes(free, even.length)).toBe(0xffff);
      }),
    );
  });

  it("sums the IPv4 pseudo-header as its 12 bytes", () => {
    const header = fc.tuple(fc.uint8Array({ minLength: 8, maxLength: 8 }), fc.nat(255), fc.nat(65535));
    fc.assert(
      fc.property(header, ([addresses, protocol, length]) => {
        const view = new DataView(addresses.slice().buffer);
        const sum = wasm.pseudoHeaderSumV4(view.getUint32(0, true), view.getUint32(4, true), protocol, length);
        expect(sum).toBe(model(Uint8Array.of(...addresses, 0, protocol, length >> 8, length & 255)));
      }),
    );
  });
});
