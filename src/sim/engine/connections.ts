/**
 * What the engine knows of each connection, by *slot*: the index of the client's TCB for connections from clients, and
 * numbers above those for connections that the server opens. There may be millions, and no two packets in a row are of
 * the same one: a record of two cache lines each (connectionFields.ts), one for the server's side and one for the
 * clients'. All records are one array, which compiled code looks up once for many fields.
 */
import { createMemory } from "../../wasm/load.ts";
import * as F from "./connectionFields.ts";
import { SlotList } from "./process.ts";

const PAGE_BYTES = 65536;
// Of a record, as shifts: what is imported is no constant to V8, and a product by it would be checked for overflow.
const WORDS_SHIFT = 5;
const TIMES_SHIFT = 4;

/**
 * Slots of connections to back ends rest before they have another life: the last acknowledgement of the old one is
 * still on its way, and the card steers it by what the slot says.
 */
const RESTING_SLOTS = 4096;

export class Connections {
  readonly clientSlots: number;
  readonly slots: number;
  readonly #words: Int32Array;
  readonly #times: Float64Array;
  /** In the order of their ends. */
  readonly #freeActive = new SlotList();
  #nextActive: number;

  /** @param activeSlots connections that the server has open at a time. */
  constructor(clientSlots: number, activeSlots: number) {
    this.clientSlots = clientSlots;
    this.slots = clientSlots + activeSlots;
    this.#nextActive = clientSlots;
    // A memory and not an array: it begins with a page, and so each record with a line.
    const bytes = Math.ceil((this.slots * F.RECORD_WORDS * 4) / PAGE_BYTES) * PAGE_BYTES;
    this.#words = new Int32Array(createMemory(bytes, false).buffer);
    this.#times = new Float64Array(this.#words.buffer);
  }

  /** @param field of connectionFields.ts. */
  get(slot: number, field: number): number {
    return this.#words[((slot << WORDS_SHIFT) + field) | 0] as number;
  }

  set(slot: number, field: number, value: number): void {
    this.#words[((slot << WORDS_SHIFT) + field) | 0] = value;
  }

  /** @param field one that ends in _NS. */
  getNs(slot: number, field: number): number {
    return this.#times[((slot << TIMES_SHIFT) + field) | 0] as number;
  }

  setNs(slot: number, field: number, timeNs: number): void {
    this.#times[((slot << TIMES_SHIFT) + field) | 0] = timeNs;
  }

  /** A new life for a slot, server side. */
  begin(slot: number): void {
    const words = this.#words;
    const at = slot << WORDS_SHIFT;
    words[at + F.KERNEL] = -1;
    words[at + F.HANDLE] = -1;
    words[at + F.PROCESS] = -1;
    words[at + F.LAST_CORE] = -1;
    words[at + F.LAST_DATA_CORE] = -1;
    words[at + F.HALF_OPEN] = 0;
    words[at + F.SERVER_BYTES] = 0;
    words[at + F.REQUESTS_SERVED] = 0;
    words[at + F.FILTER] = -1;
    words[at + F.PEER] = -1;
    words[at + F.ENDED] = 0;
    words[at + F.QUEUED] = 0;
  }

  /** A slot for a connection that the server opens; -1: none is left. */
  takeActive(): number {
    const fresh = this.#nextActive < this.slots;
    if (fresh && this.#freeActive.count < RESTING_SLOTS) {
      this.begin(this.#nextActive);
      return this.#nextActive++;
    }
    const slot = this.#freeActive.shift();
    if (slot >= 0) this.begin(slot);
    return slot;
  }

  giveActive(slot: number): void {
    this.#freeActive.push(slot);
  }
}
