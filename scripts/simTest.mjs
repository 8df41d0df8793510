// The simulations of test/sim/kernels: `npm run sim-test -- --seed 123` replays one seed with a line per event and
// segment; `npm run sim-test -- --from 1000 --seeds 5000` runs many, in a process for each processor.
import { spawn } from "node:child_process";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { root } from "./upToDate.mjs";

/** Of each of the two suites. */
const SEEDS_DEFAULT = 150;

const USAGE = `usage: npm run sim-test -- [--seed N | --from N --seeds COUNT]
         [--what kernels|accepts] [--build debug|release]
  --seed N     replay one seed, with its trace
  --seeds N    run that many (150), from --from N (0) on
  --jobs N     processes that share the seeds (one per processor)
  --what       kernels (default with --seed) or accepts; without it many seeds run for both
  --build      of the kernels; default: debug for every fourth seed`;

function fail(text) {
  console.error(`${text}\n${USAGE}`);
  process.exit(2);
}

function parse() {
  try {
    return parseArgs({
      options: {
        seed: { type: "string" },
        from: { type: "string" },
        seeds: { type: "string" },
        jobs: { type: "string" },
        what: { type: "string" },
        build: { type: "string" },
        help: { type: "boolean" },
      },
    }).values;
  } catch (error) {
    return fail(error.message);
  }
}

const given = parse();
if (given.help) {
  console.log(USAGE);
  process.exit(0);
}
for (const name of ["seed", "from", "seeds", "jobs"]) {
  if (given[name] !== undefined && !/^\d{1,9}$/.test(given[name]))
    fail(`--${name} must be a number, not ${given[name]}`);
}
if (given.what !== undefined && !["kernels", "accepts"].includes(given.what)) fail(`--what is ${given.what}`);
if (given.build !== undefined && !["debug", "release"].includes(given.build)) fail(`--build is ${given.build}`);

const what = given.what ?? (given.seed === undefined ? "" : "kernels");
const files = (what === "" ? ["kernels", "accepts"] : [what]).map((name) => `test/sim/kernels/${name}.test.ts`);
const filter = given.seed === undefined ? [] : ["-t", "replay"];
const vitest = join(root, "node_modules", "vitest", "vitest.mjs");
const options = ["--project", "fast", "--disable-console-intercept", "--no-file-parallelism", ...filter, ...files];

/** @param environment what the suites read. @returns its exit code. */
function run(environment) {
  const env = { ...process.env, SIM_WHAT: what, ...environment };
  if (given.build !== undefined) env.SIM_BUILD = given.build;
  const child = spawn(process.execPath, [vitest, "run", ...options], { cwd: root, env, stdio: "inherit" });
  return new Promise((resolve) => child.on("close", (code) => resolve(code ?? 1)));
}

async function runMany() {
  const from = Number(given.from ?? 0);
  const seeds = Number(given.seeds ?? SEEDS_DEFAULT);
  // A share is large enough for the check that all kinds of faults have happened.
  const jobs = Math.max(1, Math.min(Number(given.jobs ?? availableParallelism()), Math.floor(seeds / SEEDS_DEFAULT)));
  const shares = Array.from({ length: jobs }, (_, job) => {
    const [first, next] = [job, job + 1].map((share) => Math.floor((seeds * share) / jobs));
    return run({ SIM_FROM: String(from + first), SIM_SEEDS: String(next - first) });
  });
  return Math.max(...(await Promise.all(shares)));
}

process.exit(given.seed === undefined ? await runMany() : await run({ SIM_SEED: given.seed }));
