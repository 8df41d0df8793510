/** Seeds: whatever the user gives becomes 128 bits for each kernel. */
import { checkInteger } from "../optionRange.ts";

/** An integer 0..2^53-1, any text, or bytes. */
export type Seed = number | string | Uint8Array;

/**
 * Where kernels get their seeds from: four words for stream 0, 1, … (one per kernel, and one for the host's own draws).
 * Given a seed, the streams are a function of it; without one they come from the system's random source, which is what
 * initial sequence numbers (RFC 6528) and hash keys need against an attacker.
 */
export type SeedSource = (stream: number) => Uint32Array;

export function createSeedSource(seed?: Seed): SeedSource {
  if (seed === undefined) return () => crypto.getRandomValues(new Uint32Array(4));
  if (typeof seed === "number") checkInteger("seed", seed, 0, Number.MAX_SAFE_INTEGER);
  const text = typeof seed === "object" ? seed : new TextEncoder().encode(String(seed));
  return (stream) => {
    const bytes = new Uint8Array(text.length + 4);
    bytes.set(text);
    new DataView(bytes.buffer).setUint32(text.length, stream, true);
    return mixBytes(bytes);
  };
}

/** FNV-1a in four lanes with different offsets, each finished by the mixer of MurmurHash3. Not for secrets. */
function mixBytes(bytes: Uint8Array): Uint32Array {
  const words = new Uint32Array(4);
  for (let lane = 0; lane < 4; lane++) {
    let hash = (0x811c9dc5 ^ Math.imul(lane + 1, 0x9e3779b9)) >>> 0;
    for (const byte of bytes) hash = Math.imul(hash ^ byte, 0x01000193);
    hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
    hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
    words[lane] = hash ^ (hash >>> 16);
  }
  return words;
}

/** A small generator for host-side draws (ports): xorshift128, seeded, not for secrets. */
export class PortRandom {
  readonly #state: Uint32Array;

  constructor(seed: Uint32Array) {
    this.#state = Uint32Array.from(seed);
    // The all-zero state would stay zero for ever.
    if (this.#state.every((word) => word === 0)) this.#state[0] = 1;
  }

  /** An integer from first to last. */
  draw(first: number, last: number): number {
    const s = this.#state;
    let t = s[3] as number;
    const a = s[0] as number;
    s[3] = s[2] as number;
    s[2] = s[1] as number;
    s[1] = a;
    t ^= t << 11;
    t ^= t >>> 8;
    s[0] = t ^ a ^ (a >>> 19);
    return first + ((s[0] as number) % (last - first + 1));
  }
}
