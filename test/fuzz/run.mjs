// Runs the fuzzer: node test/fuzz/run.mjs [--seconds S] [--frames N] [--seed N] [--build release|debug]
// or one program, or a parser's input, again: --replay BASE64, --replay-parser NAME:SEED. Node 20
// runs no TypeScript, so it is bundled to a temporary file first.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { build } from "esbuild";

const root = fileURLToPath(new URL("../..", import.meta.url));
const argv = process.argv.slice(2);
const at = argv.indexOf("--build");
const variant = at < 0 ? "release" : argv.splice(at, 2)[1];
if (variant !== "release" && variant !== "debug") {
  console.error(`fuzz: --build ${variant}: release or debug`);
  process.exit(2);
}

const folder = mkdtempSync(join(tmpdir(), "fuzz-"));
process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
await build({
  entryPoints: [join(root, "test/fuzz/main.ts")],
  bundle: true,
  platform: "node",
  format: "esm",
  outfile: join(folder, "fuzz.mjs"),
  define: { "import.meta.url": JSON.stringify(pathToFileURL(join(root, "src/wasm/load.ts")).href) },
  logLevel: "warning",
});
const { main } = await import(pathToFileURL(join(folder, "fuzz.mjs")).href);
process.exitCode = await main(join(root, `build/kernel.${variant}.wasm`), join(root, "test/packet"), argv);
