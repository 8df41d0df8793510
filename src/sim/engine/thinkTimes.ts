/** Pauses of clients: a binary heap of (instant, connection, handle). */
export class ThinkTimes {
  /** Handle of the connection that due() returned last. */
  handle = -1;
  readonly #timesNs: number[] = [];
  readonly #slots: number[] = [];
  readonly #handles: number[] = [];

  get nextNs(): number {
    return this.#timesNs[0] ?? Number.POSITIVE_INFINITY;
  }

  add(slot: number, atNs: number, handle: number): void {
    let at = this.#timesNs.length;
    this.#timesNs.push(atNs);
    this.#slots.push(slot);
    this.#handles.push(handle);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if ((this.#timesNs[parent] as number) <= (this.#timesNs[at] as number)) break;
      this.#swap(at, parent);
      at = parent;
    }
  }

  /** A connection whose pause is over; -1: none. */
  due(nowNs: number): number {
    if (this.nextNs > nowNs) return -1;
    const slot = this.#slots[0] as number;
    this.handle = this.#handles[0] as number;
    const last = this.#timesNs.length - 1;
    this.#swap(0, last);
    this.#timesNs.pop();
    this.#slots.pop();
    this.#handles.pop();
    this.#down();
    return slot;
  }

  #down(): void {
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= this.#timesNs.length) return;
      if (child + 1 < this.#timesNs.length && (this.#timesNs[child + 1] as number) < (this.#timesNs[child] as number)) {
        child++;
      }
      if ((this.#timesNs[at] as number) <= (this.#timesNs[child] as number)) return;
      this.#swap(at, child);
      at = child;
    }
  }

  #swap(a: number, b: number): void {
    for (const column of [this.#timesNs, this.#slots, this.#handles]) {
      const kept = column[a] as number;
      column[a] = column[b] as number;
      column[b] = kept;
    }
  }
}
