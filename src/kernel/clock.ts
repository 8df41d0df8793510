/** The edge where real time enters. Everything else gets `nowNs` as an argument. */

/** Whole nanoseconds from an arbitrary start; never runs backwards. */
export interface Clock {
  nowNs(): number;
}

/**
 * Start of the process's clocks, milliseconds since 1970: threads that share it agree on `nowNs` to some
 * microseconds.
 */
export const PROCESS_EPOCH_MS = performance.timeOrigin;

/** @param epochMs where 0 ns is: PROCESS_EPOCH_MS of the main thread, so that clocks of all threads agree. */
export function createRealClock(epochMs: number): Clock {
  // performance.timeOrigin differs from thread to thread; the sum does not.
  const offsetMs = performance.timeOrigin - epochMs;
  return { nowNs: () => Math.round((offsetMs + performance.now()) * 1e6) };
}

/** This thread's clock, shared by all of its stacks that are given none. */
export const realClock: Clock = createRealClock(PROCESS_EPOCH_MS);
