/**
 * Listeners that their server has just closed. close() and listen() in a row must leave no time in which peers are
 * refused, and the owner of the ports may be another thread's kernel: so a listener goes on until the application gives
 * way to anything else, and who listens likewise until then takes it over, with those that wait to be accepted.
 */
import type { Listener } from "./listener.ts";

/** Of one group of sockets. */
export class RetiringListeners {
  /** By all that they listen with. */
  readonly #listeners = new Map<string, Listener>();

  /** Closes it when `later` calls back, unless revive() with the same key comes before. */
  retire(key: string, listener: Listener, later: (close: () => void) => void): void {
    listener.pause();
    this.#listeners.set(key, listener);
    later(() => {
      if (this.#listeners.get(key) === listener) this.#close(key, listener);
    });
  }

  /** @returns the listener retired with this key, the caller's now; undefined: none, or its stack has closed it. */
  revive(key: string): Listener | undefined {
    const listener = this.#listeners.get(key);
    this.#listeners.delete(key);
    return listener?.listening ? listener : undefined;
  }

  /** Closes those that would be in the way of another listener on this port. */
  closeOn(port: number): void {
    for (const [key, listener] of this.#listeners) if (listener.port === port) this.#close(key, listener);
  }

  #close(key: string, listener: Listener): void {
    this.#listeners.delete(key);
    void listener.close();
  }
}
