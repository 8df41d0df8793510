/**
 * Words that another thread looks at while this one runs: the ends of rings, the heartbeat, a filter's control word.
 * Modules for shared memories are built with threads, and these are atomic. Those for plain memories are built without
 * (scripts/wasmModules.mjs): one thread sees its own writes in order, and an atomic store, which waits until all before
 * it are done, would cost some 20 cycles for nobody.
 */

export function loadOrdered(at: usize): u32 {
  return ASC_FEATURE_THREADS ? atomic.load<u32>(at) : load<u32>(at);
}

export function storeOrdered(at: usize, value: u32): void {
  if (ASC_FEATURE_THREADS) atomic.store<u32>(at, value);
  else store<u32>(at, value);
}
