// Runs the micro-benchmarks: node bench/run.mjs [FILTER] [--time MS] [--json]
// FILTER: only suites whose name contains it. With --json one object per line on stdout, else a table per suite.
// The suites are TypeScript, which Node 20 does not run, so they are bundled to a temporary file first.
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import { build } from "esbuild";

const root = fileURLToPath(new URL("..", import.meta.url));

function fail(message) {
  console.error(`bench: ${message}`);
  process.exit(1);
}

function readArguments() {
  try {
    return parseArgs({
      allowPositionals: true,
      options: { time: { type: "string", default: "300" }, json: { type: "boolean", default: false } },
    });
  } catch (error) {
    return fail(error.message);
  }
}

const { positionals, values } = readArguments();
const timeMs = Number(values.time);
if (!(timeMs >= 1 && timeMs <= 60_000)) fail(`--time ${values.time}: milliseconds per case, 1..60000`);
const filter = positionals[0] ?? "";
const files = readdirSync(join(root, "bench/micro"))
  .filter((file) => file.endsWith(".bench.ts") && file.includes(filter))
  .sort();
if (files.length === 0) fail(`no suite is called *${filter}*`);

process.chdir(root);
const folder = mkdtempSync(join(tmpdir(), "bench-"));
process.on("exit", () => rmSync(folder, { recursive: true, force: true }));

const suites = files.map((file, i) => `import { suite as suite${i} } from "./micro/${file}";`).join("\n");
const list = files.map((_, i) => `suite${i}`).join(", ");
await build({
  stdin: {
    contents: `${suites}\nexport { runSuite } from "./micro/harness.ts";\nexport const suites = [${list}];`,
    resolveDir: join(root, "bench"),
    loader: "ts",
  },
  bundle: true,
  platform: "node",
  format: "esm",
  outfile: join(folder, "bench.mjs"),
  // Modules of src/ look for build/ two folders above their own place.
  define: { "import.meta.url": JSON.stringify(pathToFileURL(join(root, "src/wasm/load.ts")).href) },
  logLevel: "warning",
});
const bundle = await import(pathToFileURL(join(folder, "bench.mjs")).href);

for (const suite of bundle.suites) {
  const results = await bundle.runSuite(suite, { timeMs });
  if (values.json) {
    for (const result of results) console.log(JSON.stringify(result));
    continue;
  }
  console.log(`\n${suite.name}: ns per item (median ± median deviation)`);
  for (const { name, nsPerItem, madNs, checksum } of results) {
    const deviation = madNs.toFixed(2).padStart(6);
    console.log(`  ${name.padEnd(44)} ${nsPerItem.toFixed(2).padStart(9)} ± ${deviation}   ${checksum}`);
  }
}
