/**
 * Listening to AbortSignals. Many sockets may share one signal (a program's shutdown, say); Node warns of a leak at the
 * eleventh listener of a signal, so there is one per signal, however many wait.
 */
const waiting = new WeakMap<AbortSignal, Set<() => void>>();

/**
 * Calls `listener` once when the signal is aborted; at once if it has been.
 * @returns takes the listener back.
 */
export function onAbort(signal: AbortSignal | undefined, listener: () => void): () => void {
  if (!signal) return () => {};
  if (signal.aborted) {
    listener();
    return () => {};
  }
  let listeners = waiting.get(signal);
  if (!listeners) {
    const all = new Set<() => void>();
    waiting.set(signal, all);
    signal.addEventListener(
      "abort",
      () => {
        for (const call of all) call();
      },
      { once: true },
    );
    listeners = all;
  }
  listeners.add(listener);
  return () => listeners.delete(listener);
}
