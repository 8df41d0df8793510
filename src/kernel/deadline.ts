/** Deadlines in milliseconds, for those who sleep by nanoseconds. */

const NS_PER_MS = 1e6;

/**
 * The first whole nanosecond that, told in milliseconds, has come to `deadlineMs`. The product alone may have been
 * rounded down to the one before it: then nothing is due yet, the deadline stays, and virtual time stands still.
 */
export function firstNsOf(deadlineMs: number): number {
  const ns = Math.ceil(deadlineMs * NS_PER_MS);
  return ns / NS_PER_MS < deadlineMs ? ns + 1 : ns;
}
