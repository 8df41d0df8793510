import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { TUNING_RANGES } from "../../../src/kernel/config.ts";

const root = new URL("../../../", import.meta.url);

/** Modules that `file` and all that it imports statically need, types aside. */
function staticImports(file: URL, seen = new Set<string>(), outside = new Set<string>()): Set<string> {
  if (seen.has(file.href)) return outside;
  seen.add(file.href);
  const source = readFileSync(file, "utf8");
  for (const [, specifier] of source.matchAll(/^(?:import|export)\s(?!type\s)[^;"]*?from\s+"([^"]+)";/gm)) {
    if (specifier?.startsWith(".")) staticImports(new URL(specifier, file), seen, outside);
    else outside.add(specifier as string);
  }
  return outside;
}

describe("the package's entry", () => {
  it("needs nothing of Node before it is used, so that inline stacks run in browsers", () => {
    expect([...staticImports(new URL("src/index.ts", root))]).toEqual(["@assemblyscript/loader"]);
  });
});

const UNITS: Readonly<Record<string, number>> = { KiB: 1 << 10, MiB: 1 << 20, GiB: 1 << 30 };

/** "4 GiB - 64 KiB" as a number. */
function stated(text: string): number {
  const [first = 0, ...less] = text.split(" - ").map((term) => {
    const [value, unit = ""] = term.trim().split(" ");
    return Number(value) * (UNITS[unit] ?? 1);
  });
  return less.reduce((rest, term) => rest - term, first);
}

describe("docs/api.md", () => {
  it("lists every tuning option with its default and range", () => {
    const text = readFileSync(new URL("docs/api.md", root), "utf8");
    const cells = text.matchAll(/^\| `(\w+)` \| ([^|]*) \| ([^|]*)\.\.([^|]*) \|/gm);
    const rows = new Map([...cells].map(([, name, ...row]) => [name, row as [string, string, string]]));
    for (const [name, range] of Object.entries(TUNING_RANGES)) {
      const [byDefault = "", min = "", max = ""] = rows.get(name) ?? [];
      if (!/half|lane/.test(byDefault)) expect(stated(byDefault), name).toBe(range.default);
      expect({ min: stated(min), max: stated(max) }, name).toEqual({ min: range.min, max: range.max });
    }
  });
});
