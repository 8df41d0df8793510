// Runs the micro-benchmarks; see `usage`. The suites are TypeScript, which Node 20 does not run, so they are bundled to
// a temporary file first.
import { existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import { build } from "esbuild";

const usage = `npm run bench -- [FILTER] [options]

Micro-benchmarks of the hot path: ns per item, median over many calls. FILTER: only suites whose name contains it.

  --time MS       measuring time per case, 1..60000 (default: 300)
  --against DIR   another checkout, set up and built: the same suites are run there and here in turn, in this process;
                  shown is how many times as long an item takes here
  --rounds N      with --against: how often each side is run, 1..100 (default: 7)
  --json          one JSON object per line on stdout, nothing else there`;

const here = fileURLToPath(new URL("..", import.meta.url));

function fail(message) {
  console.error(`bench: ${message}`);
  process.exit(1);
}

function readArguments() {
  try {
    return parseArgs({
      allowPositionals: true,
      options: {
        time: { type: "string", default: "300" },
        against: { type: "string" },
        rounds: { type: "string", default: "7" },
        json: { type: "boolean", default: false },
        help: { type: "boolean", short: "h", default: false },
      },
    });
  } catch (error) {
    return fail(error.message);
  }
}

function readNumber(name, text, max) {
  const value = Number(text);
  if (!(Number.isInteger(value) && value >= 1 && value <= max)) fail(`--${name} ${text}: a whole number, 1..${max}`);
  return value;
}

const folder = mkdtempSync(join(tmpdir(), "bench-"));
process.on("exit", () => rmSync(folder, { recursive: true, force: true }));

/** The suites of a checkout, and its function that runs one. */
async function load(root, filter, name) {
  const micro = join(root, "bench/micro");
  if (!existsSync(micro)) fail(`${root} has no bench/micro: give the top of a checkout`);
  if (!existsSync(join(root, "build"))) fail(`${root} is not built: run npm run build there`);
  const files = readdirSync(micro)
    .filter((file) => file.endsWith(".bench.ts") && file.includes(filter))
    .sort();
  const suites = files.map((file, i) => `import { suite as suite${i} } from "./micro/${file}";`).join("\n");
  const outfile = join(folder, `${name}.mjs`);
  await build({
    stdin: {
      contents:
        `${suites}\nexport { runSuite } from "./micro/harness.ts";\n` +
        `export const suites = [${files.map((_, i) => `suite${i}`).join(", ")}];`,
      resolveDir: join(root, "bench"),
      loader: "ts",
    },
    bundle: true,
    platform: "node",
    format: "esm",
    outfile,
    // Modules of src/ look for build/ two folders above their own place.
    define: { "import.meta.url": JSON.stringify(pathToFileURL(join(root, "src/wasm/load.ts")).href) },
    logLevel: "warning",
  });
  return import(pathToFileURL(outfile).href);
}

async function report({ suites, runSuite }, timeMs, isJson) {
  for (const suite of suites) {
    const results = await runSuite(suite, { timeMs });
    if (isJson) {
      for (const result of results) console.log(JSON.stringify(result));
      continue;
    }
    console.log(`\n${suite.name}: ns per item (median ± median deviation)`);
    for (const { name, nsPerItem, madNs, checksum } of results) {
      const deviation = madNs.toFixed(2).padStart(6);
      console.log(`  ${name.padEnd(44)} ${nsPerItem.toFixed(2).padStart(9)} ± ${deviation}   ${checksum}`);
    }
  }
}

function median(numbers) {
  const sorted = numbers.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** Cases that the other side has not: they cannot be compared. */
function tellMissing(suite, results, others, checkout) {
  for (const { name } of results) {
    if (others.some((other) => other.name === name)) continue;
    console.error(`bench: ${suite}: ${name} is in ${checkout} checkout only`);
  }
}

/** Rounds of both, one after the other, who goes first changing: what disturbs the machine disturbs both. */
async function compare(ours, theirs, timeMs, rounds, isJson) {
  for (const { name } of theirs.suites) {
    if (!ours.suites.some((suite) => suite.name === name))
      console.error(`bench: ${name} is in the other checkout only`);
  }
  for (const suite of ours.suites) {
    const other = theirs.suites.find(({ name }) => name === suite.name);
    if (!other) {
      console.error(`bench: ${suite.name} is in this checkout only`);
      continue;
    }
    const pairs = new Map();
    for (let round = 0; round < rounds; round++) {
      const isFirst = round % 2 === 0;
      const first = await (isFirst ? ours.runSuite(suite, { timeMs }) : theirs.runSuite(other, { timeMs }));
      const second = await (isFirst ? theirs.runSuite(other, { timeMs }) : ours.runSuite(suite, { timeMs }));
      const [here, there] = isFirst ? [first, second] : [second, first];
      if (round === 0) {
        tellMissing(suite.name, here, there, "this");
        tellMissing(suite.name, there, here, "the other");
      }
      for (const { name, nsPerItem } of here) {
        const match = there.find((result) => result.name === name);
        if (match) pairs.set(name, [...(pairs.get(name) ?? []), { here: nsPerItem, there: match.nsPerItem }]);
      }
    }
    if (!isJson) console.log(`\n${suite.name}: there, here (ns per item), here / there (median, least..most)`);
    for (const [name, all] of pairs) {
      const ratios = all.map(({ here, there }) => here / there);
      const result = {
        suite: suite.name,
        name,
        nsPerItemThere: median(all.map(({ there }) => there)),
        nsPerItem: median(all.map(({ here }) => here)),
        ratio: median(ratios),
        ratioMin: Math.min(...ratios),
        ratioMax: Math.max(...ratios),
        rounds,
      };
      if (isJson) console.log(JSON.stringify(result));
      else {
        const times = `${result.nsPerItemThere.toFixed(2).padStart(9)} ${result.nsPerItem.toFixed(2).padStart(9)}`;
        const spread = `${result.ratioMin.toFixed(3)}..${result.ratioMax.toFixed(3)}`;
        console.log(`  ${name.padEnd(44)} ${times}   ${result.ratio.toFixed(3)} (${spread})`);
      }
    }
  }
}

const { positionals, values } = readArguments();
if (values.help) {
  console.log(usage);
  process.exit(0);
}
const timeMs = readNumber("time", values.time, 60_000);
const rounds = readNumber("rounds", values.rounds, 100);
const filter = positionals[0] ?? "";
const against = values.against === undefined ? undefined : resolve(values.against);
process.chdir(here);
const ours = await load(here, filter, "here");
if (ours.suites.length === 0) fail(`no suite is called *${filter}*`);
if (against === undefined) await report(ours, timeMs, values.json);
else await compare(ours, await load(against, filter, "there"), timeMs, rounds, values.json);
