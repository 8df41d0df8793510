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

export function setNow(ns: u64): void {
  nowNs = ns;
  nowUs = <u32>(ns / 1000);
  nowMs = <u32>(ns / 1000000);
  nowTick = <u32>(ns >> TICK_SHIFT);
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
