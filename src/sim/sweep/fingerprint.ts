/**
 * Tells builds of the simulator apart: a result is only as good as the code that made it, so results of another build
 * are neither taken from a store nor accepted from a worker.
 */
import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";

/** Parts of the code that decide no result; a claim is points, which have names of their own. */
const PRESENTATION = /^(cli|report|bench|net|sim[/\\]validate)[/\\]/;

let known: Promise<string> | undefined;

/** 16 hex digits; the same for the same package on every machine. */
export function buildFingerprint(): Promise<string> {
  known ??= computeFingerprint();
  return known;
}

async function computeFingerprint(): Promise<string> {
  const code = fileURLToPath(new URL("../..", import.meta.url));
  const modules = fileURLToPath(new URL("../../../build", import.meta.url));
  const hash = createHash("sha256");
  for (const [folder, isPart] of [
    [code, (file: string) => /(?<!\.d)\.[jt]s$/.test(file) && !PRESENTATION.test(file)],
    [modules, (file: string) => /^(kernel|card)\.release\.wasm$/.test(file)],
  ] as const) {
    const entries = await readdir(folder, { recursive: true, withFileTypes: true });
    const files = entries
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name))
      .filter((file) => isPart(relative(folder, file)))
      .sort();
    for (const file of files)
      hash.update(`\0${relative(folder, file).replaceAll("\\", "/")}\0`).update(await readFile(file));
  }
  return hash.digest("hex").slice(0, 16);
}
