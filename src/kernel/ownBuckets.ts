/**
 * The entries of a steering table that lead to one queue, as a list to draw from. The table belongs to another thread,
 * which does not say when it changes it: the list is brought up to date a few entries at a time.
 */
export class OwnBuckets {
  readonly #isOwn: (bucket: number) => boolean;
  readonly #list: Uint16Array;
  /** Place of each bucket in the list plus one; 0: not in it. */
  readonly #places: Uint16Array;
  #count = 0;
  #next = 0;

  /** @param size of the table. */
  constructor(size: number, isOwn: (bucket: number) => boolean) {
    this.#isOwn = isOwn;
    this.#list = new Uint16Array(size);
    this.#places = new Uint16Array(size);
  }

  get count(): number {
    return this.#count;
  }

  /** Preconditions: 0 <= index < count. */
  at(index: number): number {
    return this.#list[index] as number;
  }

  /** Asks the table. */
  isOwn(bucket: number): boolean {
    return this.#isOwn(bucket);
  }

  /** Compares the next `entries` of the table, all of them at most. @returns whether one had changed. */
  lookAt(entries: number): boolean {
    const size = this.#places.length;
    let changed = false;
    for (let left = Math.min(entries, size); left > 0; left--) {
      const bucket = this.#next;
      this.#next = bucket + 1 < size ? bucket + 1 : 0;
      const own = this.#isOwn(bucket);
      if (own === (this.#places[bucket] as number) > 0) continue;
      changed = true;
      if (own) this.#add(bucket);
      else this.#remove(bucket);
    }
    return changed;
  }

  #add(bucket: number): void {
    this.#list[this.#count++] = bucket;
    this.#places[bucket] = this.#count;
  }

  #remove(bucket: number): void {
    const place = this.#places[bucket] as number;
    const last = this.#list[--this.#count] as number;
    this.#list[place - 1] = last;
    this.#places[last] = place;
    this.#places[bucket] = 0;
  }
}
