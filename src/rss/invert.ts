/**
 * Toeplitz turned round: the local ports whose replies hash to a wanted entry of the indirection table.
 *
 * The hash is linear over GF(2): hash(tuple) = hash(tuple with local port 0) XOR L(port), where L is a linear map from
 * the port's 16 bits to the hash's low bits, those that choose the entry. So the ports of one entry are a coset of the
 * null space of L: one solution, XORed with every null vector. Gaussian elimination gives both once for a card's key;
 * after that a port costs two look-ups, whatever the number of queues.
 *
 * With the elimination done from the lowest bit upwards, null vectors have their highest bits in places ("pivots")
 * where all others, and the solutions, have 0. Counting through the coset then gives its ports in ascending order, so
 * those of a range of ports are a range of indices.
 */
import type { PortRange, ToeplitzTables } from "./toeplitz.ts";

const PORT_BITS = 16;
/** Where the destination port lies in the input: after two addresses and the source port. */
const PORT_BYTE_V4 = 10;
const PORT_BYTE_V6 = 34;

export class PortInversion {
  /** Most ports of the range that one target has. */
  readonly countMax: number;
  readonly #tables: ToeplitzTables;
  readonly #portByte: number;
  readonly #mask: number;
  /** By target: the solution that is 0 in all pivots; -1: no port gives this target. */
  readonly #solutions: Int32Array;
  /** All vectors of the null space, ascending. */
  readonly #nullSpace: Uint16Array;
  /** By target: index in the null space of the first port of the range, and how many there are. */
  readonly #first: Int32Array;
  readonly #count: Int32Array;

  /** @param entries of the indirection table, a power of two up to 65,536. @param range of local ports. */
  constructor(tables: ToeplitzTables, family: 4 | 6, entries: number, range: PortRange) {
    this.#tables = tables;
    this.#portByte = family === 4 ? PORT_BYTE_V4 : PORT_BYTE_V6;
    this.#mask = entries - 1;
    const { images, preimages, nullVectors } = this.#eliminate();
    this.#nullSpace = Uint16Array.from(combinations(nullVectors));
    this.#solutions = new Int32Array(entries).fill(-1);
    const reached = combinations(images);
    combinations(preimages).forEach((port, i) => {
      this.#solutions[reached[i] as number] = port;
    });
    this.#first = new Int32Array(entries);
    this.#count = new Int32Array(entries);
    let countMax = 0;
    for (let target = 0; target < entries; target++) {
      if ((this.#solutions[target] as number) < 0) continue;
      const first = this.#indexFrom(target, range.first);
      const count = this.#indexFrom(target, range.last + 1) - first;
      this.#first[target] = first;
      this.#count[target] = count;
      countMax = Math.max(countMax, count);
    }
    this.countMax = countMax;
  }

  /** L(port): what the local port contributes to the entry's number. */
  contribution(port: number): number {
    const at = this.#portByte * 256;
    const high = this.#tables[at + (port >> 8)] as number;
    return (high ^ (this.#tables[at + 256 + (port & 0xff)] as number)) & this.#mask;
  }

  /** Ports of the range whose contribution is `target`. */
  count(target: number): number {
    return this.#count[target] as number;
  }

  /** The `index`-th of them, ascending. Preconditions: 0 <= index < count(target). */
  port(target: number, index: number): number {
    const at = (this.#first[target] as number) + index;
    return (this.#solutions[target] as number) ^ (this.#nullSpace[at] as number);
  }

  /** Columns of L that are independent, with the ports that give them, and a basis of the null space, ascending. */
  #eliminate(): { images: number[]; preimages: number[]; nullVectors: number[] } {
    const images: number[] = [];
    const preimages: number[] = [];
    const nullVectors: number[] = [];
    for (let bit = 0; bit < PORT_BITS; bit++) {
      let port = 1 << bit;
      let image = this.contribution(port);
      // Each image's highest bit is in no later one, so one pass in order reduces fully.
      images.forEach((reducer, i) => {
        if (image & (1 << (31 - Math.clz32(reducer)))) {
          image ^= reducer;
          port ^= preimages[i] as number;
        }
      });
      if (image === 0) {
        nullVectors.push(port);
      } else {
        images.push(image);
        preimages.push(port);
      }
    }
    return { images, preimages, nullVectors };
  }

  /** Index of the first port >= `port` of a target, in the whole coset. */
  #indexFrom(target: number, port: number): number {
    let low = 0;
    let high = this.#nullSpace.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (((this.#solutions[target] as number) ^ (this.#nullSpace[middle] as number)) < port) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/** XORs of all subsets; element i is that of the vectors whose bits are set in i. */
function combinations(vectors: readonly number[]): number[] {
  const all = [0];
  for (const vector of vectors) for (let i = 0, end = all.length; i < end; i++) all.push((all[i] as number) ^ vector);
  return all;
}
