/**
 * Connections in the order in which they were begun, for those that wait too long: a ring of slot and start. Those that
 * have ended are dropped once they are the oldest.
 */
import * as F from "./connectionFields.ts";
import type { Connections } from "./connections.ts";
import { ZERO } from "./doubles.ts";

const SIZE_MIN = 1024;

export class BegunList {
  /** Start of the connection that oldest() returned. */
  oldestNs = ZERO;
  readonly #connections: Connections;
  #slots = new Int32Array(SIZE_MIN);
  #startsNs = new Float64Array(SIZE_MIN);
  #head = 0;
  #tail = 0;

  constructor(connections: Connections) {
    this.#connections = connections;
  }

  /** Entries, those of connections that have ended in between included. */
  get count(): number {
    return this.#tail - this.#head;
  }

  push(slot: number, startNs: number): void {
    if (this.count === this.#slots.length) this.#grow();
    const at = this.#tail++ & (this.#slots.length - 1);
    this.#slots[at] = slot;
    this.#startsNs[at] = startNs;
  }

  /** Slot of the oldest connection that has not ended; -1: none. */
  oldest(): number {
    const connections = this.#connections;
    const mask = this.#slots.length - 1;
    while (this.#head < this.#tail) {
      const slot = this.#slots[this.#head & mask] as number;
      const startNs = this.#startsNs[this.#head & mask] as number;
      // A slot may have another life since.
      if (connections.getNs(slot, F.STARTED_NS) === startNs && connections.get(slot, F.FINISHED) === 0) {
        this.oldestNs = startNs;
        return slot;
      }
      this.#head++;
    }
    return -1;
  }

  #grow(): void {
    const size = this.#slots.length;
    const slots = new Int32Array(size * 2);
    const startsNs = new Float64Array(size * 2);
    for (let i = 0; i < size; i++) {
      const from = (this.#head + i) & (size - 1);
      slots[i] = this.#slots[from] as number;
      startsNs[i] = this.#startsNs[from] as number;
    }
    this.#slots = slots;
    this.#startsNs = startsNs;
    this.#head = 0;
    this.#tail = size;
  }
}
