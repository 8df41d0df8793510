/**
 * What IPv4 reassembly of one packet must do, written as a list of ranges: the oracle for assembly/ip/reassembly.ts.
 * No memory limit, no time.
 */
export type Fragment = { readonly start: number; readonly bytes: Uint8Array; readonly more: boolean };

export class ReassemblyModel {
  #kept: Fragment[] = [];
  #condemned = false;

  /** @returns the payload of the whole packet when this fragment completes it. */
  take(fragment: Fragment): Uint8Array | undefined {
    if (this.#condemned) return undefined;
    const end = (piece: Fragment) => piece.start + piece.bytes.length;
    const same = (piece: Fragment) =>
      piece.start === fragment.start && end(piece) === end(fragment) && piece.more === fragment.more;
    if (this.#kept.some(same)) return undefined;
    const overlaps = (piece: Fragment) => piece.start < end(fragment) && fragment.start < end(piece);
    const all = [...this.#kept, fragment];
    const lasts = all.filter((piece) => !piece.more);
    const beyond = lasts.some((last) => all.some((piece) => end(piece) > end(last)));
    if (this.#kept.some(overlaps) || lasts.length > 1 || beyond) {
      this.#condemned = true;
      return undefined;
    }
    this.#kept = all.sort((a, b) => a.start - b.start);
    let next = 0;
    for (const piece of this.#kept) {
      if (piece.start !== next) return undefined;
      next = end(piece);
    }
    if (lasts.length === 0) return undefined;
    const whole = new Uint8Array(next);
    for (const piece of this.#kept) whole.set(piece.bytes, piece.start);
    this.#kept = [];
    return whole;
  }
}
