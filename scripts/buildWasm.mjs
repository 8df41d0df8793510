// Builds the WebAssembly modules: every entry of assembly/ in every variant, side by side on the machine's cores.
// Options: names of outputs ("kernel.release") build only those.
import { execFile } from "node:child_process";
import { mkdirSync } from "node:fs";
import { availableParallelism } from "node:os";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const asc = fileURLToPath(new URL("../node_modules/assemblyscript/bin/asc.js", import.meta.url));

const entries = ["kernel", "card", "probe", "probeIp", "probeTcp"];
// `plain` modules import an unshared memory (inline mode, browsers without isolation), `shared` ones a shared memory.
const variants = {
  release: ["--target", "release"],
  "release.shared": ["--target", "release", "--sharedMemory"],
  debug: ["--target", "debug"],
};

const wanted = process.argv.slice(2);
const jobs = entries
  .flatMap((entry) => Object.entries(variants).map(([variant, flags]) => ({ entry, variant, flags })))
  .filter((job) => wanted.length === 0 || wanted.includes(`${job.entry}.${job.variant}`));

mkdirSync(`${root}/build`, { recursive: true });

function compile({ entry, variant, flags }) {
  const args = [asc, `assembly/${entry}.ts`, "--outFile", `build/${entry}.${variant}.wasm`, ...flags];
  return new Promise((resolve, reject) => {
    execFile(process.execPath, args, { cwd: root, maxBuffer: 1 << 24 }, (error, stdout, stderr) => {
      if (error) reject(new Error(`asc ${entry}.${variant} failed\n${stdout}${stderr}`));
      else resolve();
    });
  });
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
