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

describe("docs/api.md", () => {
  it("lists every tuning option with its default", () => {
    const text = readFileSync(new URL("docs/api.md", root), "utf8");
    const rows = new Map([...text.matchAll(/^\| `(\w+)` \| ([^|]*) \| ([^|]*)\.\./gm)].map((row) => [row[1], row]));
    for (const [name, range] of Object.entries(TUNING_RANGES)) {
      const row = rows.get(name);
      expect(row, name).toBeDefined();
      const stated = (value: string) =>
        Number.parseInt(value, 10) * (/MiB/.test(value) ? 1 << 20 : /KiB/.test(value) ? 1024 : 1);
      if (!/half|lane/.test(row?.[2] ?? "")) expect(stated(row?.[2] as string), name).toBe(range.default);
      expect(stated(row?.[3] as string), name).toBe(range.min);
    }
  });
});
