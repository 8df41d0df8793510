/** `serve --chaos`: ends a random kernel again and again, for people to see what happens then. */
import { Prng } from "../sim/prng.ts";
import type { Stack } from "../types.ts";
import type { RestartOptions } from "../types.ts";

const MS_PER_SECOND = 1000;

/** With chaos kernels end for no fault of theirs: it would be wrong to wait longer each time. */
export const CHAOS_RESTART: Partial<RestartOptions> = { delayMs: 100, delayMsMax: 100 };

/** Kills one kernel every `seconds`, but never the last that is up. @returns what ends it. */
export function startChaos(stack: Stack, seconds: number, seed: number): () => void {
  const random = new Prng(seed);
  let stopped = false;
  const strike = async (): Promise<void> => {
    const { statuses } = await stack.stats();
    const up = statuses.flatMap(({ state }, kernelId) => (state === "up" ? [kernelId] : []));
    if (up.length > 1 && !stopped) stack.killKernel(up[random.below(up.length)] as number);
  };
  const timer = setInterval(() => void strike(), seconds * MS_PER_SECOND);
  return () => {
    stopped = true;
    clearInterval(timer);
  };
}
