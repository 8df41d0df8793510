/** `npm run fuzz`: see test/fuzz/README.md. */
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { fuzzModule } from "./fuzzKernel.ts";
import { Runner, Search, shorten } from "./search.ts";

const STEPS_PER_LOOK = 200;
const PROGRESS_MS = 2000;
const FINDINGS_MAX = 10;

export async function main(wasmFile: string, argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      seconds: { type: "string", default: "30" },
      frames: { type: "string", default: "Infinity" },
      seed: { type: "string", default: "1" },
      replay: { type: "string" },
    },
  });
  const compiled = fuzzModule(readFileSync(wasmFile));
  if (values.replay !== undefined) {
    const runner = new Runner(compiled);
    const fault = runner.check(Buffer.from(values.replay, "base64"));
    console.log(fault ?? "nothing wrong");
    if (runner.stack !== undefined) console.log(runner.stack);
    return fault === undefined ? 0 : 1;
  }
  const [seconds, frames, seed] = [values.seconds, values.frames, values.seed].map(Number) as [number, number, number];
  if (!(seconds > 0 && frames > 0 && Number.isInteger(seed))) {
    console.error("fuzz: --seconds and --frames must be greater than 0, --seed an integer");
    return 2;
  }
  const search = new Search(compiled, seed);
  const start = performance.now();
  const end = start + seconds * 1000;
  let nextReport = start + PROGRESS_MS;
  const line = () => {
    const done = search.runner.framesWritten;
    const perSecond = Math.round(done / ((performance.now() - start) / 1000));
    const reached = `${search.blocksReached} of ${compiled.blocks} blocks`;
    return `${done} frames (${perSecond}/s), ${search.programs} programs, ${reached}, corpus ${search.corpus.length}`;
  };
  while (performance.now() < end && search.runner.framesWritten < frames && search.findings.length < FINDINGS_MAX) {
    for (let i = 0; i < STEPS_PER_LOOK; i++) search.step();
    if (performance.now() < nextReport) continue;
    nextReport += PROGRESS_MS;
    process.stderr.write(`fuzz: ${line()}, findings ${search.findings.length}\n`);
  }
  for (const finding of search.findings) {
    const program = shorten(search.runner, finding);
    console.log(`FAILED: ${finding.what}\n  npm run fuzz -- --replay ${Buffer.from(program).toString("base64")}`);
  }
  console.log(`fuzz, seed ${seed}: ${line()}, ${search.findings.length} findings`);
  return search.findings.length === 0 ? 0 : 1;
}
