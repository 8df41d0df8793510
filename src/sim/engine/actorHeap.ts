/** Who acts next: an indexed binary heap of a fixed set of actors by virtual time; equal times by actor number. */
export class ActorHeap {
  /** When each actor acts next, ns; Infinity: not until somebody says so. */
  readonly timeNs: Float64Array;
  readonly #heap: Int32Array;
  readonly #place: Int32Array;

  constructor(actors: number) {
    this.timeNs = new Float64Array(actors).fill(Number.POSITIVE_INFINITY);
    this.#heap = Int32Array.from({ length: actors }, (_, actor) => actor);
    this.#place = this.#heap.slice();
  }

  /** The actor that is due first. */
  get first(): number {
    return this.#heap[0] as number;
  }

  get firstNs(): number {
    return this.timeNs[this.#heap[0] as number] as number;
  }

  set(actor: number, timeNs: number): void {
    const before = this.timeNs[actor] as number;
    if (timeNs === before) return;
    this.timeNs[actor] = timeNs;
    if (timeNs < before) this.#up(this.#place[actor] as number);
    else this.#down(this.#place[actor] as number);
  }

  /** Brings an actor forward: it acts at `timeNs` or before. */
  atLatest(actor: number, timeNs: number): void {
    if (timeNs < (this.timeNs[actor] as number)) this.set(actor, timeNs);
  }

  #before(a: number, b: number): boolean {
    const difference = (this.timeNs[a] as number) - (this.timeNs[b] as number);
    // Infinity - Infinity is NaN: equal.
    return difference < 0 || (!(difference > 0) && a < b);
  }

  #up(from: number): void {
    const heap = this.#heap;
    let at = from;
    const actor = heap[at] as number;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      const other = heap[parent] as number;
      if (!this.#before(actor, other)) break;
      heap[at] = other;
      this.#place[other] = at;
      at = parent;
    }
    heap[at] = actor;
    this.#place[actor] = at;
  }

  #down(from: number): void {
    const heap = this.#heap;
    const size = heap.length;
    let at = from;
    const actor = heap[at] as number;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= size) break;
      if (child + 1 < size && this.#before(heap[child + 1] as number, heap[child] as number)) child++;
      const other = heap[child] as number;
      if (!this.#before(other, actor)) break;
      heap[at] = other;
      this.#place[other] = at;
      at = child;
    }
    heap[at] = actor;
    this.#place[actor] = at;
  }
}
