// The simulations of test/sim/kernels: `npm run sim-test -- --seed 123` replays one seed with a line per event and
// segment; `npm run sim-test -- --from 1000 --seeds 5000` runs many.
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { root } from "./upToDate.mjs";

const USAGE = `usage: npm run sim-test -- [--seed N | --from N --seeds COUNT]
         [--what kernels|accepts] [--build debug|release]
  --seed N     replay one seed, with its trace
  --seeds N    run that many (150), from --from N (0) on
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
for (const name of ["seed", "from", "seeds"]) {
  if (given[name] !== undefined && !/^\d{1,9}$/.test(given[name]))
    fail(`--${name} must be a number, not ${given[name]}`);
}
if (given.what !== undefined && !["kernels", "accepts"].includes(given.what)) fail(`--what is ${given.what}`);
if (given.build !== undefined && !["debug", "release"].includes(given.build)) fail(`--build is ${given.build}`);

const what = given.what ?? (given.seed === undefined ? "" : "kernels");
const files = (what === "" ? ["kernels", "accepts"] : [what]).map((name) => `test/sim/kernels/${name}.test.ts`);
const environment = { SIM_WHAT: what, SIM_SEED: given.seed, SIM_FROM: given.from, SIM_SEEDS: given.seeds };
if (given.build !== undefined) environment.SIM_BUILD = given.build;
const env = { ...process.env };
for (const [name, value] of Object.entries(environment)) if (value !== undefined) env[name] = value;
const filter = given.seed === undefined ? [] : ["-t", "replay"];
const vitest = join(root, "node_modules", "vitest", "vitest.mjs");
const run = spawnSync(
  process.execPath,
  [vitest, "run", "--project", "fast", "--disable-console-intercept", ...filter, ...files],
  { cwd: root, env, stdio: "inherit" },
);
process.exit(run.status ?? 1);
