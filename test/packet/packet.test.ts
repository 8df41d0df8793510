/** Runs every script below this folder against both builds of the kernel. Sent packets that none expects fail too. */
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { runScript } from "../../src/packetdrill/run.ts";

const here = fileURLToPath(new URL(".", import.meta.url));
const scripts = readdirSync(here, { recursive: true, encoding: "utf8" })
  .filter((name) => name.endsWith(".pkt"))
  .sort();

function moduleOf(build: string): WebAssembly.Module {
  return new WebAssembly.Module(readFileSync(new URL(`../../build/kernel.${build}.wasm`, import.meta.url)));
}

describe.each(["release", "debug"])("%s kernel", (build) => {
  const module = moduleOf(build);
  test.each(scripts)("%s", (script) => {
    const file = join(here, script);
    const source = { file: relative(here, file), text: readFileSync(file, "utf8"), directory: dirname(file) };
    // A script that names its family is run in that one twice: other random numbers must make no difference either.
    for (const [index, family] of ["ipv4", "ipv6"].entries()) {
      const options = [
        { name: "expect_all", value: undefined },
        { name: "ip_version", value: family },
      ];
      expect(runScript(source, { module, seed: 1 + index, options }), family).toEqual({ outcome: "passed" });
    }
  });
});

test("there are scripts, and each says first what it is about", () => {
  expect(scripts.length).toBeGreaterThan(50);
  for (const script of scripts) expect(readFileSync(join(here, script), "utf8"), script).toMatch(/^\/\/ [A-Z]/);
});
