/**
 * Yielding to the JavaScript event loop: promises, timers and I/O of the application run between two bursts of the
 * reactor. setImmediate where there is one; elsewhere a message to ourselves, since timers are clamped to 4 ms.
 */
export function createYielder(callback: () => void): () => void {
  if (typeof setImmediate === "function") {
    return () => {
      setImmediate(callback);
    };
  }
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = callback;
  return () => port2.postMessage(0);
}

const settled = Promise.resolve();

/**
 * Lets promises and ticks run, and nothing else of the event loop; much cheaper than createYielder. Undefined where
 * there is no such thing (browsers).
 */
export function createTickYielder(callback: () => void): (() => void) | undefined {
  if (typeof process !== "object" || typeof process.nextTick !== "function") return undefined;
  // A tick queued now would come before promises that are settled by then.
  const afterPromises = () => process.nextTick(callback);
  return () => void settled.then(afterPromises);
}
