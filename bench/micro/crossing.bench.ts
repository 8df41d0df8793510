import type { MicroSuite } from "./harness.ts";
import { createTcpProbe } from "./probeTcp.ts";

const CALLS = 4096;
/** Imports the function "f" of "m" and exports a loop that calls it n times: (func (param n i32) (result i32)). */
const CALLING_OUT = Uint8Array.of(
  // Header; types: 0 = i32 -> i32.
  ...[0, 0x61, 0x73, 0x6d, 1, 0, 0, 0, 1, 6, 1, 0x60, 1, 0x7f, 1, 0x7f],
  // Import m.f of type 0; one function of type 0; export it as "r".
  ...[2, 7, 1, 1, 0x6d, 1, 0x66, 0, 0, 3, 2, 1, 0, 7, 5, 1, 1, 0x72, 0, 1],
  // Locals: one i32 sum. loop: sum = f(sum); n -= 1; while n. Then sum.
  ...[10, 26, 1, 24, 1, 1, 0x7f, 3, 0x40, 0x20, 1, 0x10, 0, 0x21, 1, 0x20, 0, 0x41, 1, 0x6b, 0x22, 0, 0x0d, 0, 0x0b],
  ...[0x20, 1, 0x0b],
);

export const suite: MicroSuite = {
  name: "JS to WASM and back",
  cases() {
    const wasm = createTcpProbe(16);
    const addOne = (value: number): number => value + 1;
    const instance = new WebAssembly.Instance(new WebAssembly.Module(CALLING_OUT), { m: { f: addOne } });
    const callOut = instance.exports.r as (calls: number) => number;
    const words = new Int32Array(1024);
    const repeat = (call: (value: number) => number): number => {
      let value = 0;
      for (let i = 0; i < CALLS; i++) value = call(value);
      return value;
    };
    return [
      { name: "JS calls WASM", items: CALLS, run: () => repeat(wasm.callMe) },
      { name: "WASM calls JS", items: CALLS, run: () => callOut(CALLS) },
      {
        name: "Atomics.add in JS, for comparison",
        items: CALLS,
        run: () => {
          Atomics.store(words, 0, 0);
          for (let i = 0; i < CALLS; i++) Atomics.add(words, 0, 1);
          return Atomics.load(words, 0);
        },
      },
    ];
  },
};
