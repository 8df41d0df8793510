import { readFileSync } from "node:fs";

/** What assembly/probe.ts exports. u32 results come back as i32. */
export type ProbeExports = {
  sumBytes(at: number, bytes: number): number;
  copyAndSum(target: number, source: number, bytes: number): number;
  sumSwap(sum: number): number;
  sumAdd(a: number, b: number): number;
  checksumOf(sum: number): number;
  pseudoHeaderSumV4(source: number, destination: number, protocol: number, lengthBytes: number): number;
  toeplitzBuild(tables: number, key: number): void;
  toeplitzBitwise(key: number, input: number, bytes: number): number;
  toeplitzV4(tables: number, source: number, destination: number, ports: number): number;
  toeplitzV4Addresses(tables: number, source: number, destination: number): number;
  toeplitzV6(tables: number, addresses: number, ports: number): number;
  toeplitzV6Addresses(tables: number, addresses: number): number;
  copyBytes(target: number, source: number, bytes: number): void;
  clearBytes(target: number, bytes: number): void;
  setNowNs(ns: number): void;
  nowUsValue(): number;
  nowMsValue(): number;
  nowTickValue(): number;
};

export type Probe = {
  readonly wasm: ProbeExports;
  readonly bytes: Uint8Array;
  readonly words: Int32Array;
  /** First byte after static data that tests may use. */
  readonly free: number;
};

/** The inner functions of assembly/ on a small memory of their own. */
export function createProbe(build: "release" | "debug" = "release", pages = 8): Probe {
  const memory = new WebAssembly.Memory({ initial: pages, maximum: 65536 });
  const file = new URL(`../../build/probe.${build}.wasm`, import.meta.url);
  const module = new WebAssembly.Module(readFileSync(file));
  const abort = (): never => {
    throw new Error("abort");
  };
  const wasm = new WebAssembly.Instance(module, { env: { memory, abort } }).exports as ProbeExports;
  return { wasm, bytes: new Uint8Array(memory.buffer), words: new Int32Array(memory.buffer), free: 2 * 65536 };
}
