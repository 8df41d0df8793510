/**
 * The seeded random source of everything outside the kernels: xoshiro128** (Blackman and Vigna, 2018), its state filled
 * by splitmix32 so that neighbouring seeds give unrelated sequences. Same seed, same sequence, on every machine.
 */
export class Prng {
  #a: number;
  #b: number;
  #c: number;
  #d: number;

  /** @param seed any number; its low 32 bits count. @param stream separates sources that share a seed. */
  constructor(seed: number, stream = 0) {
    let state = (seed ^ Math.imul(stream + 1, 0x9e3779b9)) | 0;
    const next = (): number => {
      state = (state + 0x9e3779b9) | 0;
      let z = state ^ (state >>> 16);
      z = Math.imul(z, 0x21f0aaad);
      z ^= z >>> 15;
      z = Math.imul(z, 0x735a2d97);
      return (z ^ (z >>> 15)) | 0;
    };
    this.#a = next();
    this.#b = next();
    this.#c = next();
    // All zero is the one state that the generator never leaves.
    this.#d = next() | 1;
  }

  /** 0..2^32-1. */
  u32(): number {
    const product = Math.imul(this.#b, 5);
    const result = Math.imul((product << 7) | (product >>> 25), 9) >>> 0;
    const shifted = this.#b << 9;
    this.#c ^= this.#a;
    this.#d ^= this.#b;
    this.#b ^= this.#c;
    this.#a ^= this.#d;
    this.#c ^= shifted;
    this.#d = (this.#d << 11) | (this.#d >>> 21);
    return result;
  }

  /** 0..limit-1, without bias. Preconditions: 1 <= limit <= 2^32. */
  below(limit: number): number {
    const rejectFrom = 2 ** 32 - (2 ** 32 % limit);
    for (;;) {
      const value = this.u32();
      if (value < rejectFrom) return value % limit;
    }
  }

  /** 0 <= x < 1, 32 bits fine. */
  fraction(): number {
    return this.u32() / 2 ** 32;
  }

  /** True `ppm` times in a million. Always draws once, so that a rate of zero does not shift the sequence. */
  chance(ppm: number): boolean {
    return this.fraction() * 1_000_000 < ppm;
  }

  /** Fills `target` with random bytes. */
  fill(target: Uint8Array): void {
    for (let i = 0; i < target.length; i++) target[i] = this.u32() >>> 24;
  }
}
