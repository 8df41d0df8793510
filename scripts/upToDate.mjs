// Knows whether a build step has to run: a step is up to date when neither the contents of its inputs nor those of
// its outputs have changed since it last succeeded. Contents, not times: a fresh clone has no meaningful times.
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export const root = fileURLToPath(new URL("..", import.meta.url));

/** Files below `path` (itself when it is a file), relative to the project, sorted. */
export function filesBelow(path) {
  const absolute = join(root, path);
  if (!existsSync(absolute)) return [];
  if (statSync(absolute).isFile()) return [path];
  return readdirSync(absolute, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(root.length))
    .sort();
}

function hashOf(paths) {
  const hash = createHash("sha256");
  for (const file of paths.flatMap(filesBelow)) hash.update(`${file}\0`).update(readFileSync(join(root, file)));
  return hash.digest("hex");
}

/**
 * Runs `build` unless `inputs` and `outputs` (files or folders) are as they were after its last success.
 * @returns whether it ran.
 */
export async function runWhenChanged({ name, inputs, outputs, build }) {
  const stampFile = join(root, ".setup", name);
  const stamp = () => `inputs ${hashOf(inputs)}\noutputs ${hashOf(outputs)}\n`;
  const isBuilt = outputs.every((output) => existsSync(join(root, output)));
  if (isBuilt && existsSync(stampFile) && readFileSync(stampFile, "utf8") === stamp()) return false;
  await build();
  mkdirSync(dirname(stampFile), { recursive: true });
  writeFileSync(stampFile, stamp());
  return true;
}
