/** `npm run fuzz`: see test/fuzz/README.md. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { Prng } from "../../src/sim/prng.ts";
import { fuzzModule } from "./fuzzKernel.ts";
import { BYTES_TARGETS, type ParserTarget, runTarget, scriptTarget } from "./parsers.ts";
import { Runner, Search, shorten } from "./search.ts";

const STEPS_PER_LOOK = 200;
const PROGRESS_MS = 2000;
const FINDINGS_MAX = 10;
/** Of the time, for what reads bytes and text outside the kernel. */
const PARSERS_SHARE = 0.1;
/** Separates the seeds of the parsers' inputs from what else is drawn from the run's. */
const PARSERS_STREAM = 34;

/** Parsers in turn, until the time is over. @returns what was found. */
function fuzzParsers(targets: readonly ParserTarget[], runSeed: number, seconds: number): number {
  const seeds = new Prng(runSeed, PARSERS_STREAM);
  let findings = 0;
  for (const { name, run } of targets) {
    const end = performance.now() + (seconds * 1000) / targets.length;
    let runs = 0;
    let understood = 0;
    let hasFailed = false;
    for (; !hasFailed && performance.now() < end; runs++) {
      const seed = seeds.u32();
      try {
        if (run(seed)) understood++;
      } catch (error) {
        hasFailed = true;
        findings++;
        console.log("FAILED:", error, `\n  npm run fuzz -- --replay-parser "${name}:${seed}"`);
      }
    }
    console.log(`fuzz, ${name}: ${runs} inputs, ${understood} understood, ${hasFailed ? 1 : 0} findings`);
  }
  return findings;
}

/** @param which name of a target and seed, as a finding tells them. @returns exit status. */
function replayParser(targets: readonly ParserTarget[], which: string): number {
  const [, name, seed] = /^(.*):(\d+)$/.exec(which) ?? [];
  const target = targets.find((candidate) => candidate.name === name);
  if (target === undefined) {
    console.error(`fuzz: --replay-parser ${which}: NAME:SEED, of ${targets.map((known) => known.name).join("; ")}`);
    return 2;
  }
  try {
    console.log(`nothing wrong: ${target.run(Number(seed)) ? "understood" : "refused"}`);
    return 0;
  } catch (error) {
    console.log(error);
    return 1;
  }
}

function parserTargets(packets: string, wasm: Buffer<ArrayBuffer>): ParserTarget[] {
  const scripts = readdirSync(packets, { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".pkt"))
    .sort()
    .map((name) => readFileSync(join(packets, name), "utf8"));
  return [...BYTES_TARGETS, scriptTarget(scripts), runTarget(scripts, packets, new WebAssembly.Module(wasm))];
}

/** @param packets folder of scripts to begin with. */
export async function main(wasmFile: string, packets: string, argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      seconds: { type: "string", default: "30" },
      frames: { type: "string", default: "Infinity" },
      seed: { type: "string", default: "1" },
      replay: { type: "string" },
      "replay-parser": { type: "string" },
    },
  });
  const wasm = readFileSync(wasmFile);
  const parser = values["replay-parser"];
  if (parser !== undefined) return replayParser(parserTargets(packets, wasm), parser);
  const compiled = fuzzModule(wasm);
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
  const end = start + seconds * 1000 * (1 - PARSERS_SHARE);
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
  // A count of frames asks for nothing else.
  const parsersSeconds = Number.isFinite(frames) ? 0 : seconds * PARSERS_SHARE;
  const targets = parsersSeconds > 0 ? parserTargets(packets, wasm) : [];
  const found = fuzzParsers(targets, seed, parsersSeconds);
  return search.findings.length + found === 0 ? 0 : 1;
}
