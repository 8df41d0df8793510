import fc from "../../helpers/property.ts";
import { expect, test } from "vitest";
import { createProbe } from "../../helpers/probe.ts";

const step = fc.oneof(
  fc.nat({ max: 3_000 }),
  fc.nat({ max: 5_000_000 }),
  fc.nat({ max: 2_000_000_100 }),
  fc.integer({ min: 1_999_999_990, max: 2_000_000_010 }),
  fc.double({ min: 0, max: 1e16, noNaN: true }).map(Math.floor),
);

test.each(["release", "debug"] as const)("%s build: the clock's widths agree with one division each", (build) => {
  const { wasm } = createProbe(build);
  fc.assert(
    fc.property(fc.double({ min: 0, max: 1e18, noNaN: true }), fc.array(step, { maxLength: 60 }), (start, steps) => {
      let ns = BigInt(Math.floor(start));
      for (const length of [0, ...steps]) {
        // What a number can hold: that is what the kernel is told.
        ns = BigInt(Number(ns + BigInt(length)));
        wasm.setNowNs(Number(ns));
        expect(wasm.nowUsValue() >>> 0).toBe(Number((ns / 1000n) & 0xffffffffn));
        expect(wasm.nowMsValue() >>> 0).toBe(Number((ns / 1000000n) & 0xffffffffn));
        expect(wasm.nowTickValue() >>> 0).toBe(Number((ns >> 16n) & 0xffffffffn));
      }
    }),
    { numRuns: 300 },
  );
});
