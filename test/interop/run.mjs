// node test/interop/run.mjs [--quick] [--only TEXT] [--seconds S] [--seeds N] [--minutes M] [--out FOLDER]: the grid.
// Node 20 runs no TypeScript, so it is bundled to a temporary file first.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { build } from "esbuild";

const root = fileURLToPath(new URL("../..", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "interop-"));
process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
await build({
  entryPoints: [join(root, "test/interop/grid.ts")],
  bundle: true,
  platform: "node",
  format: "esm",
  target: "node20",
  outfile: join(folder, "grid.mjs"),
  define: { "import.meta.url": JSON.stringify(pathToFileURL(join(root, "test/interop/grid.ts")).href) },
  logLevel: "warning",
});
const { main } = await import(pathToFileURL(join(folder, "grid.mjs")).href);
process.exitCode = await main(process.argv.slice(2));
