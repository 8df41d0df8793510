import { readFileSync } from "node:fs";
import { Prng } from "../../src/sim/prng.ts";
import { instantiateModule } from "../../src/wasm/load.ts";

/** Items per call. */
export const ITEMS = 1024;

/** What assembly/probe.ts exports for benchmarks. */
export type ProbeBatches = {
  sumBatch(at: number, stride: number, count: number, bytes: number): number;
  copyAndSumBatch(target: number, source: number, stride: number, count: number, bytes: number): number;
  toeplitzBuild(tables: number, key: number): void;
  toeplitzV4Batch(tables: number, at: number, count: number): number;
  toeplitzV6Batch(tables: number, at: number, count: number): number;
  toeplitzBitwiseBatch(key: number, at: number, stride: number, count: number, bytes: number): number;
  parseBatch(at: number, stride: number, count: number, frameBytes: number): number;
};

const MEMORY_BYTES = 64 * 1024 * 1024;
/** First byte that benchmarks may use. */
export const FREE = 1 << 20;

/** The probe module with `MEMORY_BYTES` of seeded random bytes from FREE on. */
export function createProbe(seed: number): { wasm: ProbeBatches; bytes: Uint8Array; memory: WebAssembly.Memory } {
  const pages = MEMORY_BYTES / 65536;
  const memory = new WebAssembly.Memory({ initial: pages, maximum: pages });
  const file = new URL("build/probe.release.wasm", `file://${process.cwd()}/`);
  const wasm = instantiateModule(new WebAssembly.Module(readFileSync(file)), memory) as ProbeBatches;
  const bytes = new Uint8Array(memory.buffer);
  new Prng(seed).fill(bytes.subarray(FREE, FREE + 8 * 1024 * 1024));
  return { wasm, bytes, memory };
}
