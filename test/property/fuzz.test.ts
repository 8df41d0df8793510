import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { type FuzzModule, fuzzModule } from "../fuzz/fuzzKernel.ts";
import { instrument } from "../fuzz/instrument.ts";
import { REGRESSIONS } from "../fuzz/regressions.ts";
import { Runner, Search } from "../fuzz/search.ts";

const BUILDS = ["release", "debug"] as const;

function compiled(build: (typeof BUILDS)[number]): FuzzModule {
  return fuzzModule(readFileSync(new URL(`../../build/kernel.${build}.wasm`, import.meta.url)));
}

/** (module (memory (export "m") 1) (global (mut i32) 5) (func (export "f") (param i32) if nop else nop end)) */
const SMALL = Uint8Array.from([
  ...[0, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
  ...[1, 5, 1, 0x60, 1, 0x7f, 0],
  ...[3, 2, 1, 0],
  ...[5, 3, 1, 0, 1],
  ...[6, 6, 1, 0x7f, 1, 0x41, 5, 0x0b],
  ...[7, 9, 2, 1, 0x6d, 2, 0, 1, 0x66, 0, 0],
  ...[10, 12, 1, 10, 0, 0x20, 0, 0x04, 0x40, 0x01, 0x05, 0x01, 0x0b, 0x0b],
]);

describe("coverage counters", () => {
  test("count functions and both arms of an if, and make globals visible", () => {
    const { module, blocks, globals } = instrument(SMALL, 1000);
    const exports = new WebAssembly.Instance(module).exports as {
      m: WebAssembly.Memory;
      f: (condition: number) => void;
    } & Record<string, WebAssembly.Global>;
    expect(blocks).toBe(3);
    expect(globals.map((name) => exports[name]?.value)).toEqual([5]);
    for (const condition of [1, 0, 0]) exports.f(condition);
    expect([...new Uint8Array(exports.m.buffer, 1000, 4)]).toEqual([3, 1, 2, 0]);
  });
});

describe.each(BUILDS)("fuzzing, %s build", (build) => {
  test.each(REGRESSIONS.map(({ what, program }) => [what, program]))("%s", (_what, program) => {
    expect(new Runner(compiled(build)).check(Buffer.from(program, "base64"))).toBe(undefined);
  });

  test("a short search reaches most of the kernel and finds nothing", () => {
    const search = new Search(compiled(build), 1);
    for (let i = 0; i < 1500 && search.findings.length === 0; i++) search.step();
    expect(search.findings).toEqual([]);
    expect(search.blocksReached).toBeGreaterThan(1000);
  });

  test("the same seed makes the same search", () => {
    const [first, second] = [new Search(compiled(build), 9), new Search(compiled(build), 9)];
    for (let i = 0; i < 60; i++) {
      first.step();
      second.step();
    }
    expect(second.corpus).toEqual(first.corpus);
    expect(second.blocksReached).toBe(first.blocksReached);
  });
});
