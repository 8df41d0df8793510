import { describe, expect, test } from "vitest";
import { createProbe } from "../../helpers/probe.ts";

describe.each(["release", "debug"] as const)("%s build", (build) => {
  const { wasm, bytes, free } = createProbe(build);
  const source = free + 4096;
  const target = free + 16384;

  test("copyBytes copies exactly what it is told, at every length and alignment", () => {
    for (let i = 0; i < 1024; i++) bytes[source + i] = (i * 31 + 7) & 0xff;
    for (let length = 0; length <= 300; length++) {
      const shift = length % 17;
      bytes.fill(0xee, target - 32, target + 400);
      wasm.copyBytes(target + shift, source + (length % 5), length);
      const copied = bytes.subarray(target + shift, target + shift + length);
      expect(copied).toEqual(bytes.subarray(source + (length % 5), source + (length % 5) + length));
      expect(bytes.subarray(target - 32, target + shift).every((byte) => byte === 0xee)).toBe(true);
      expect(bytes.subarray(target + shift + length, target + 400).every((byte) => byte === 0xee)).toBe(true);
    }
  });

  test("clearBytes clears exactly what it is told", () => {
    bytes.fill(0xee, target, target + 256);
    wasm.clearBytes(target + 16, 128);
    expect(bytes.subarray(target, target + 16).every((byte) => byte === 0xee)).toBe(true);
    expect(bytes.subarray(target + 16, target + 144).every((byte) => byte === 0)).toBe(true);
    expect(bytes.subarray(target + 144, target + 256).every((byte) => byte === 0xee)).toBe(true);
  });
});
