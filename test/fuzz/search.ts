/**
 * The search: programs that reach new blocks of the kernel, or reach them more often by a power of two, are kept and
 * mutated further (as AFL does). Everything follows from the seed.
 */
import { Prng } from "../../src/sim/prng.ts";
import { type FuzzModule, FuzzKernel, VARIANTS } from "./fuzzKernel.ts";
import { Interpreter } from "./program.ts";

const PROGRAM_BYTES_MAX = 4096;
const CORPUS_MAX = 4096;
/** One program of so many is run to its end, and one is run twice with different bytes around its frames. */
const CHECK_EVERY = 32;
const INTERESTING = [0, 1, 2, 3, 7, 8, 15, 16, 31, 32, 63, 64, 65, 127, 128, 192, 224, 240, 254, 255];

/** Hit counts that count as different: 1, 2, 3, 4-7, 8-15, 16-31, 32-127, 128-255. */
const BUCKETS = Uint8Array.from({ length: 256 }, (_, hits) => {
  if (hits < 4) return hits === 0 ? 0 : 1 << (hits - 1);
  if (hits < 8) return 8;
  if (hits < 16) return 16;
  if (hits < 32) return 32;
  return hits < 128 ? 64 : 128;
});

export type Finding = { readonly what: string; readonly program: Uint8Array };

export class Runner {
  /** Where the last check failed: names of functions where the module has them (--build debug). */
  stack: string | undefined;
  readonly #interpreters: readonly Interpreter[];

  constructor(compiled: FuzzModule) {
    this.#interpreters = VARIANTS.map((variant) => new Interpreter(new FuzzKernel(compiled, variant)));
  }

  /** The first byte of a program chooses the kernel's configuration. */
  interpreter(program: Uint8Array): Interpreter {
    return this.#interpreters[(program[0] ?? 0) % VARIANTS.length] as Interpreter;
  }

  get framesWritten(): number {
    return this.#interpreters.reduce((sum, { writer }) => sum + writer.framesWritten, 0);
  }

  /** Runs a program with all checks. @returns what is wrong; undefined: nothing. */
  check(program: Uint8Array): string | undefined {
    const interpreter = this.interpreter(program);
    const body = program.subarray(1);
    this.stack = undefined;
    try {
      interpreter.run(body);
      interpreter.finish();
      const digests = [0x5a, 0xa5].map((poison) => {
        interpreter.run(body, poison);
        return interpreter.remotes.digest;
      });
      if (digests[0] !== digests[1]) return "bytes outside of a frame change what the kernel does";
    } catch (error) {
      if (!(error instanceof Error)) return String(error);
      this.stack = error.stack;
      return `${error.name}: ${error.message}`;
    } finally {
      interpreter.writer.poison = 0;
    }
    return undefined;
  }
}

export class Search {
  readonly runner: Runner;
  readonly corpus: Uint8Array[] = [];
  readonly findings: Finding[] = [];
  programs = 0;
  readonly #prng: Prng;
  readonly #seen: Uint8Array;

  constructor(compiled: FuzzModule, seed: number) {
    this.runner = new Runner(compiled);
    this.#prng = new Prng(seed);
    this.#seen = new Uint8Array(compiled.blocks);
    for (let i = 0; i < 16; i++) {
      const program = new Uint8Array(256);
      this.#prng.fill(program);
      this.#keep(program);
    }
  }

  get blocksReached(): number {
    return this.#seen.reduce((sum, buckets) => sum + (buckets === 0 ? 0 : 1), 0);
  }

  #keep(program: Uint8Array): void {
    if (this.corpus.length < CORPUS_MAX) this.corpus.push(program);
    else this.corpus[this.#prng.below(CORPUS_MAX)] = program;
  }

  /** Runs one mutated program. */
  step(): void {
    const program = this.#mutate();
    this.programs++;
    const interpreter = this.runner.interpreter(program);
    let fault: string | undefined;
    try {
      interpreter.run(program.subarray(1));
    } catch (error) {
      fault = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
    }
    const isNew = this.#merge(interpreter.kernel.coverage);
    if (isNew) this.#keep(program);
    if (fault === undefined && (isNew || this.programs % CHECK_EVERY === 0)) fault = this.runner.check(program);
    if (fault !== undefined) this.findings.push({ what: fault, program });
  }

  /** @returns whether this run has reached something new. */
  #merge(coverage: Uint8Array): boolean {
    let isNew = false;
    for (let i = 0; i < coverage.length; i++) {
      const hits = coverage[i] as number;
      if (hits === 0) continue;
      const bucket = BUCKETS[hits] as number;
      if (((this.#seen[i] as number) & bucket) === 0) {
        this.#seen[i] = (this.#seen[i] as number) | bucket;
        isNew = true;
      }
    }
    return isNew;
  }

  #pick<T>(values: ArrayLike<T>): T {
    return values[this.#prng.below(values.length)] as T;
  }

  #mutate(): Uint8Array {
    const prng = this.#prng;
    let program: Uint8Array = this.#pick(this.corpus).slice();
    for (let rounds = 1 << prng.below(5); rounds > 0; rounds--) {
      const at = prng.below(program.length);
      switch (prng.below(8)) {
        case 0:
          program[at] = (program[at] as number) ^ (1 << prng.below(8));
          break;
        case 1:
        case 2:
          program[at] = prng.below(256);
          break;
        case 3:
          program[at] = this.#pick(INTERESTING);
          break;
        case 4:
          program = splice(program, at, 0, this.#random(1 + prng.below(32)));
          break;
        case 5:
          if (program.length > 32) program = splice(program, at, 1 + prng.below(16), new Uint8Array(0));
          break;
        case 6: {
          const other = this.#pick(this.corpus);
          const from = prng.below(other.length);
          program = splice(program, at, 0, other.subarray(from, from + 1 + prng.below(256)));
          break;
        }
        default: {
          const piece = program.slice(at, at + 1 + prng.below(64));
          program = splice(program, prng.below(program.length), 0, piece);
        }
      }
    }
    return program;
  }

  #random(count: number): Uint8Array {
    const bytes = new Uint8Array(count);
    this.#prng.fill(bytes);
    return bytes;
  }
}

function splice(bytes: Uint8Array, at: number, remove: number, insert: Uint8Array): Uint8Array {
  const result = new Uint8Array(Math.max(0, bytes.length - remove) + insert.length + remove);
  result.set(bytes.subarray(0, at));
  result.set(insert, at);
  result.set(bytes.subarray(at + remove), at + insert.length);
  const length = bytes.length - Math.min(remove, bytes.length - at) + insert.length;
  return result.subarray(0, Math.min(length, PROGRAM_BYTES_MAX));
}

/** Makes a failing program shorter while it fails in the same way, in at most `tries` runs. */
export function shorten(runner: Runner, { what, program }: Finding, tries = 2000): Uint8Array {
  let shortest = program;
  for (let size = shortest.length >> 1; size >= 1; size >>= 1) {
    for (let at = 1; at < shortest.length && tries > 0; ) {
      const candidate = splice(shortest, at, size, new Uint8Array(0));
      tries--;
      if (candidate.length < shortest.length && runner.check(candidate) === what) shortest = candidate;
      else at += size;
    }
  }
  return shortest;
}
