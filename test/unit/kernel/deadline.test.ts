import { expect, it } from "vitest";
import { firstNsOf } from "../../../src/kernel/deadline.ts";

it("a deadline has come at its nanosecond, and not long before, however both are rounded", () => {
  let roundedDown = 0;
  for (let i = 0; i < 2000; i++) {
    // As deadlines are made: a time of the clock, and some milliseconds.
    const deadlineMs = (2_000_000_000 + i * 1_000_003) / 1e6 + 200;
    const ns = firstNsOf(deadlineMs);
    if (Math.ceil(deadlineMs * 1e6) / 1e6 < deadlineMs) roundedDown++;
    expect(Number.isInteger(ns)).toBe(true);
    expect(ns / 1e6).toBeGreaterThanOrEqual(deadlineMs);
    expect(ns / 1e6 - deadlineMs).toBeLessThan(2e-6);
  }
  expect(roundedDown).toBeGreaterThan(0);
  expect(firstNsOf(Number.POSITIVE_INFINITY)).toBe(Number.POSITIVE_INFINITY);
});
