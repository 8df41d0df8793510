// Builds the WebAssembly modules, side by side on the machine's cores.
// Options: names of modules ("kernel.release") or groups ("shipped", "test") build only those.
import { execFile } from "node:child_process";
import { mkdirSync } from "node:fs";
import { availableParallelism } from "node:os";
import { basename } from "node:path";
import { fileURLToPath } from "node:url";
import { wasmModules } from "./wasmModules.mjs";

const root = fileURLToPath(new URL("..", import.meta.url));
const asc = fileURLToPath(new URL("../node_modules/assemblyscript/bin/asc.js", import.meta.url));
const wasmOpt = fileURLToPath(new URL("../node_modules/binaryen/bin/wasm-opt", import.meta.url));

const wanted = process.argv.slice(2);
const jobs = wasmModules.filter(
  ({ name, group }) => wanted.length === 0 || wanted.includes(name) || wanted.includes(group),
);

mkdirSync(`${root}/build`, { recursive: true });

function run(tool, name, args) {
  return new Promise((resolve, reject) => {
    execFile(process.execPath, [tool, ...args], { cwd: root, maxBuffer: 1 << 24 }, (error, stdout, stderr) => {
      if (error) reject(new Error(`${basename(tool)} ${name} failed\n${stdout}${stderr}`));
      else resolve();
    });
  });
}

async function compile({ name, source, file, flags, optimizerFlags }) {
  await run(asc, name, [source, "--outFile", file, ...flags]);
  if (optimizerFlags) await run(wasmOpt, name, [file, "-o", file, ...optimizerFlags]);
}

const queue = [...jobs];
async function worker() {
  for (let job = queue.shift(); job; job = queue.shift()) await compile(job);
}
try {
  await Promise.all(Array.from({ length: availableParallelism() }, worker));
} catch (error) {
  console.error(error.message);
  process.exit(1);
}
