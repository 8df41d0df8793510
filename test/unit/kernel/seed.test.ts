import { describe, expect, it } from "vitest";
import { createSeedSource, PortRandom } from "../../../src/kernel/seed.ts";

describe("createSeedSource", () => {
  it("gives the same words for the same seed, and others for every stream", () => {
    const words = Array.from({ length: 64 }, (_, stream) => createSeedSource("a seed")(stream).join());
    expect(words).toEqual(Array.from({ length: 64 }, (_, stream) => createSeedSource("a seed")(stream).join()));
    expect(new Set(words).size).toBe(64);
  });

  it("tells numbers, text and bytes apart by their text", () => {
    expect(createSeedSource(1)(0)).not.toEqual(createSeedSource(2)(0));
    expect(createSeedSource(17)(0)).toEqual(createSeedSource("17")(0));
    expect(createSeedSource(Uint8Array.of(1))(0)).not.toEqual(createSeedSource(Uint8Array.of(2))(0));
  });

  it("is random without a seed", () => {
    expect(createSeedSource()(0)).not.toEqual(createSeedSource()(0));
  });

  it.each([-1, 1.5, Number.NaN, 2 ** 53])("refuses the number %d", (seed) => {
    expect(() => createSeedSource(seed)).toThrow(expect.objectContaining({ code: "ERR_OPTION_RANGE" }));
  });
});

describe("PortRandom", () => {
  it("draws every port of the range about equally often, and none outside", () => {
    const random = new PortRandom(Uint32Array.of(1, 2, 3, 4));
    const counts = new Map<number, number>();
    for (let i = 0; i < 20_000; i++) {
      const port = random.draw(40000, 40019);
      counts.set(port, (counts.get(port) ?? 0) + 1);
    }
    expect([...counts.keys()].sort()).toEqual(Array.from({ length: 20 }, (_, i) => 40000 + i));
    // 1,000 expected each; 5 standard deviations are 154.
    for (const count of counts.values()) expect(Math.abs(count - 1000)).toBeLessThan(154);
  });

  it("works from the all-zero seed too", () => {
    const random = new PortRandom(new Uint32Array(4));
    expect(new Set(Array.from({ length: 100 }, () => random.draw(1, 65535))).size).toBeGreaterThan(90);
  });
});
