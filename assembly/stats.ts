/** Counters (src/layout/counters.ts): u64 each, at COUNTERS_BASE. */
import { COUNTERS_BASE } from "../src/layout/kernelMemory.ts";

export function count(counter: i32): void {
  const at: usize = <usize>COUNTERS_BASE + ((<usize>counter) << 3);
  store<u64>(at, load<u64>(at) + 1);
}

export function countBy(counter: i32, n: i64): void {
  const at: usize = <usize>COUNTERS_BASE + ((<usize>counter) << 3);
  store<u64>(at, load<u64>(at) + n);
}

export function counterSet(counter: i32, value: u64): void {
  store<u64>(<usize>COUNTERS_BASE + ((<usize>counter) << 3), value);
}
