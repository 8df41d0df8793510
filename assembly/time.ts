/**
 * The kernel's clock: set once per poll from its argument, never read from anywhere else.
 * Instants are kept in three widths; differences between instants of one width are exact over half its range.
 */

/** Nanoseconds. */
export let nowNs: u64 = 0;
/** Microseconds modulo 2^32: for round-trip times, up to 35 minutes. */
export let nowUs: u32 = 0;
/** Milliseconds modulo 2^32: the timestamp clock (RFC 7323 5.4). */
export let nowMs: u32 = 0;
/** Timer ticks of 65,536 ns modulo 2^32: timers reach up to 39 hours ahead. */
export let nowTick: u32 = 0;

export const TICK_SHIFT: u64 = 16;

/** Nanoseconds since the present microsecond and millisecond began. */
let sinceUs: u32 = 0;
let sinceMs: u32 = 0;
/** Steps up to this long (two seconds) are added with 32-bit divisions by constants; engines divide 64 bits slowly. */
const STEP_NS_MAX: u64 = 2000000000;

export function setNow(ns: u64): void {
  const step = ns - nowNs;
  nowNs = ns;
  nowTick = <u32>(ns >> TICK_SHIFT);
  if (step > STEP_NS_MAX) {
    nowUs = <u32>(ns / 1000);
    nowMs = <u32>(ns / 1000000);
    sinceUs = <u32>(ns % 1000);
    sinceMs = <u32>(ns % 1000000);
    return;
  }
  const us = (sinceUs + <u32>step) / 1000;
  sinceUs = sinceUs + <u32>step - us * 1000;
  nowUs += us;
  const ms = (sinceMs + <u32>step) / 1000000;
  sinceMs = sinceMs + <u32>step - ms * 1000000;
  nowMs += ms;
}

/** Ticks that last at least `us` microseconds. */
export function ticksOfUs(us: u32): u32 {
  return <u32>((<u64>us * 1000 + 65535) >> TICK_SHIFT);
}

/** Ticks that last at least `ms` milliseconds. */
export function ticksOfMs(ms: u32): u32 {
  return <u32>((<u64>ms * 1000000 + 65535) >> TICK_SHIFT);
}

/** True when tick `a` is not after tick `b`. */
export function tickReached(a: u32, b: u32): bool {
  return <i32>(a - b) <= 0;
}
