import { checkKind } from "./checks.ts";

/** Typed events for places that must run without node:events. */
export class Emitter<Events extends Record<string, object>> {
  readonly #listeners = new Map<keyof Events, Set<(event: never) => void>>();

  on<Name extends keyof Events>(name: Name, listener: (event: Events[Name]) => void): this {
    checkKind(`the listener of "${String(name)}"`, "call", listener);
    const listeners = this.#listeners.get(name) ?? new Set();
    listeners.add(listener);
    this.#listeners.set(name, listeners);
    return this;
  }

  off<Name extends keyof Events>(name: Name, listener: (event: Events[Name]) => void): this {
    this.#listeners.get(name)?.delete(listener);
    return this;
  }

  /** Whether somebody listens to this event. */
  protected hears(name: keyof Events): boolean {
    return (this.#listeners.get(name)?.size ?? 0) > 0;
  }

  /** @returns false when nobody listens. */
  protected emit<Name extends keyof Events>(name: Name, event: Events[Name]): boolean {
    const listeners = this.#listeners.get(name);
    if (!listeners || listeners.size === 0) return false;
    for (const listener of [...listeners]) (listener as (event: Events[Name]) => void)(event);
    return true;
  }
}
