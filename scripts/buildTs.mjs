// Builds dist/: compiles src/ with tsc, bundles the report page for browsers with esbuild, and removes what is left
// over from sources that are gone, so that a package never carries them.
import { spawnSync } from "node:child_process";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { filesBelow, root } from "./upToDate.mjs";

const page = { source: "src/report/page", bundle: "dist/report/page.js" };

const tsc = fileURLToPath(new URL("../node_modules/typescript/bin/tsc", import.meta.url));
const compiled = spawnSync(process.execPath, [tsc, "-p", "tsconfig.build.json"], { cwd: root, stdio: "inherit" });
if (compiled.status !== 0) process.exit(compiled.status ?? 1);

await build({
  absWorkingDir: root,
  entryPoints: [`${page.source}/main.ts`],
  outfile: page.bundle,
  bundle: true,
  minify: true,
  format: "iife",
  target: "es2022",
  legalComments: "inline",
  charset: "utf8",
  logLevel: "warning",
});

const expected = new Set([page.bundle]);
for (const file of filesBelow("src")) {
  if (!file.endsWith(".ts") || file.startsWith(`${page.source}/`)) continue;
  const stem = file.replace(/^src/, "dist").slice(0, -".ts".length);
  for (const ending of [".js", ".js.map", ".d.ts"]) expected.add(stem + ending);
}
for (const file of filesBelow("dist")) if (!expected.has(file)) rmSync(join(root, file));
