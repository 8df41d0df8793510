/**
 * A connection that is half open by SYN cookie has left no trace in its kernel, so nobody can see that it is there when
 * its entry of the device's tables changes hands. Its ACK then comes to a kernel that has not sent the cookie. All
 * kernels of a stack make cookies with one secret (assembly/flow/hash.ts): the new kernel can redeem it, if it knows
 * that others have sent some lately.
 */
import { SYN_COOKIES_SENT } from "../layout/counters.ts";
import { COOKIES_TRUSTED_MS, HEALTH_BASE, HEALTH_COOKIES_UNTIL_MS } from "../layout/kernelMemory.ts";
import type { KernelMemory } from "../views/kernelMemory.ts";

const UNTIL_WORD = (HEALTH_BASE + HEALTH_COOKIES_UNTIL_MS) >> 2;

/**
 * Before entries change hands. @param memories of all kernels, also those that have ended. @param nowMs the kernels'
 * clock.
 */
export function trustCookies(memories: readonly (KernelMemory | undefined)[], nowMs: number): void {
  if (!memories.some((memory) => memory && hasCookies(memory))) return;
  // 0 means none.
  const untilMs = (Math.floor(nowMs) + COOKIES_TRUSTED_MS) | 0 || 1;
  for (const memory of memories) if (memory) Atomics.store(memory.words, UNTIL_WORD, untilMs);
}

function hasCookies(memory: KernelMemory): boolean {
  return memory.counter(SYN_COOKIES_SENT) > 0 || Atomics.load(memory.words, UNTIL_WORD) !== 0;
}
