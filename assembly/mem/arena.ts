/**
 * The arena: everything after static data, carved once from bottom to top at boot (and, later, for the application's
 * permanent memory). Nothing is ever given back. Pages are only touched when their pool first uses them.
 */
import { MAP_ARENA_END, MAP_ARENA_FREE, MAP_BASE } from "../../src/layout/kernelMemory.ts";

let free: usize = 0;
let end: usize = 0;

export function arenaBoot(memoryBytes: usize): void {
  free = (__heap_base + 63) & ~63;
  end = memoryBytes;
  publish();
}

/** @param align power of two. @returns 0 when the arena is used up. Zero-filled: pages come fresh from the host. */
export function arenaAlloc(bytes: usize, align: usize): usize {
  const at = (free + align - 1) & ~(align - 1);
  if (at < free || at > end || bytes > end - at) return 0;
  free = at + bytes;
  publish();
  return at;
}

/** Bytes that are still free. */
export function arenaFreeBytes(): usize {
  return end - free;
}

function publish(): void {
  store<u32>(MAP_BASE, <u32>free, MAP_ARENA_FREE);
  store<u32>(MAP_BASE, <u32>end, MAP_ARENA_END);
}
