// Bundles the simulator's engine into dist/sim/run.js, with numbers in place of constants. V8 takes what is imported
// for a variable: each use of it is a load and a check, and less is inlined around it. Ratio of CPU time in alternating
// runs: 1.02 to 1.06.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { build, transform } from "esbuild";
import { root } from "./upToDate.mjs";

const simBundle = "dist/sim/run.js";

/** Files of tsc's that the bundle stands for. */
export const inSimBundle = (file) => file === `${simBundle}.map` || /^dist\/sim\/engine\/.*\.js(\.map)?$/.test(file);

/** Modules of which there may be only one: classes told apart by identity, and the cache of compiled modules. */
const shared = { "src/errors.ts": "../errors.js", "src/wasm/load.ts": "../wasm/load.js" };

const keepShared = {
  name: "keepShared",
  setup({ onResolve }) {
    onResolve({ filter: /\/(errors|load)\.ts$/ }, ({ path, resolveDir }) => {
      const kept = shared[join(resolveDir, path).slice(root.length)];
      return kept ? { path: kept, external: true } : undefined;
    });
  },
};

/** `var NAME = number;`, as esbuild writes constants of modules; expressions of numbers and of constants before. */
const constant = /^var ([A-Z][A-Z0-9_]*) = ([\w\s.+*/%()<>&|~-]+);$/gm;

/** Takes the declarations of numeric constants out of `code`. @returns the rest, and the constants' values. */
function takeConstants(code) {
  const values = {};
  const rest = code.replace(constant, (whole, name, expression) => {
    const value = evaluate(expression, values);
    if (value === undefined) return whole;
    values[name] = `${value}`;
    return "";
  });
  return { rest, values };
}

function evaluate(expression, values) {
  const numbers = expression.replace(/(?<![\w.])[A-Za-z_]\w*/g, (name) => (name in values ? `(${values[name]})` : "?"));
  if (/[^\s\d.+*/%()<>&|~e-]/.test(numbers)) return undefined;
  const value = Function(`"use strict"; return ${numbers};`)();
  return Number.isFinite(value) && !Object.is(value, -0) ? value : undefined;
}

export async function bundleSim() {
  const { outputFiles } = await build({
    absWorkingDir: root,
    entryPoints: ["src/sim/run.ts"],
    outfile: simBundle,
    write: false,
    bundle: true,
    format: "esm",
    platform: "node",
    target: "es2023",
    legalComments: "none",
    charset: "utf8",
    logLevel: "warning",
    plugins: [keepShared],
  });
  const { rest, values } = takeConstants(outputFiles[0].text);
  const { code } = await transform(rest, { define: values, format: "esm", target: "es2023", charset: "utf8" });
  // V8 reads what is declared as const, and not as esbuild's var, when it compiles.
  writeFileSync(join(root, simBundle), code.replace(/^var (?=[A-Z][A-Z0-9_]* = )/gm, "const "));
}
