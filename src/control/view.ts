/**
 * The view: which kernels there are, and which of them is the owner. The stack's supervisor makes it, and tells every
 * kernel each time it changes; kernels never argue about it. All else that kernels have to agree on goes by messages
 * between them (docs/messages.md).
 */
import { KernelMemory } from "../views/kernelMemory.ts";
import type { Endpoint } from "./endpoint.ts";

/** A kernel that has been started and has not ended. Structured-clonable where memories are shared. */
export type Member = {
  readonly kernelId: number;
  /** How often it has been started before. */
  readonly life: number;
  readonly memory: WebAssembly.Memory;
};

export type View = {
  /** Counts up with each change. */
  readonly term: number;
  /** Kernel that owns the device and the registry of ports. */
  readonly owner: number;
  /** The term in which it became that: who has missed a view or two can tell whether another was meanwhile. */
  readonly ownerSince: number;
  readonly members: readonly Member[];
  /** Members that have been the owner (they are about to leave): they may not have heard that they are no more. */
  readonly former: readonly number[];
};

/**
 * Has an endpoint talk to the members of a view, and to nobody else.
 * @param wake wakes the thread of a kernel whose memory is not shared, or on this thread; others' doorbells are rung.
 */
export function connectView(endpoint: Endpoint, { members }: View, wake: (kernelId: number) => void): void {
  const lives = new Map(members.map(({ kernelId, life }) => [kernelId, life] as const));
  for (const kernelId of endpoint.peers) if (!lives.has(kernelId)) endpoint.disconnect(kernelId);
  for (const { kernelId, life, memory } of members) {
    if (kernelId === endpoint.kernelId) continue;
    const kernel = new KernelMemory(memory);
    const ring = () => {
      kernel.ringDoorbell();
      wake(kernelId);
    };
    endpoint.connect({ kernelId, life, memory: kernel, ring });
  }
}
