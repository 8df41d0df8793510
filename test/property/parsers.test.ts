/**
 * Goal: whatever comes from outside the kernels, as bytes or as text, is read or refused by the parser's own error;
 * none throws anything else, or looks behind its input. Method: test/fuzz/parsers.ts with fixed seeds. PARSER_FUZZ=20
 * makes twenty times as many.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { BYTES_TARGETS, type ParserTarget, runTarget, scriptTarget } from "../fuzz/parsers.ts";

const TIMES = Number(process.env.PARSER_FUZZ ?? 1);
const BYTES_RUNS = 20_000 * TIMES;
const SCRIPT_RUNS = 5000 * TIMES;
const KERNEL_RUNS = 150 * TIMES;

const packets = fileURLToPath(new URL("../packet/", import.meta.url));
const scripts = readdirSync(packets, { recursive: true, encoding: "utf8" })
  .filter((name) => name.endsWith(".pkt"))
  .sort()
  .map((name) => readFileSync(join(packets, name), "utf8"));
const kernel = readFileSync(new URL("../../build/kernel.debug.wasm", import.meta.url));

const targets: readonly (readonly [number, ParserTarget])[] = [
  ...BYTES_TARGETS.map((target) => [BYTES_RUNS, target] as const),
  [SCRIPT_RUNS, scriptTarget(scripts)],
  [KERNEL_RUNS, runTarget(scripts, packets, new WebAssembly.Module(kernel))],
];

test.each(targets.map(([runs, target]) => [runs, target.name, target] as const))("%i %s", (runs, _name, target) => {
  let understood = 0;
  for (let seed = 1; seed <= runs; seed++) if (target.run(seed)) understood++;
  // Otherwise the mutations are so wild that only the first check is ever reached.
  expect(understood).toBeGreaterThan(runs / 50);
});
