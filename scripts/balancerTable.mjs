// Runs every balancer policy under the skewed load (src/sim/skewedLoad.ts, virtual time) and writes the tables into
// docs/balancer.md. Needs dist/: npm run build. Same seed, same tables, on every machine.
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { choosePolicy } from "../dist/balancer/choosePolicy.js";
import { runSkewedLoad } from "../dist/sim/skewedLoad.js";

const document = fileURLToPath(new URL("../docs/balancer.md", import.meta.url));
const common = {
  seed: 1,
  kernels: 4,
  costs: { frameNs: 5_000, workNs: 105_000 },
  hotShare: 0.8,
  warmUpNs: 3e9,
  measureNs: 2e9,
};
const HOT_GROUPS = 205;
const rows = [
  { name: "uniform load, static", policy: "static", hotGroups: 0 },
  { name: "uniform load, angel", policy: "angel", hotGroups: 0 },
  { name: "static", policy: "static" },
  { name: "opportunistic, published constants", policy: "opportunistic" },
  { name: "opportunistic, threshold 200", policy: { policy: "opportunistic", thresholdConnections: 200 } },
  { name: "affinity-accept", policy: "affinity-accept" },
  { name: "angel, no exact filters", policy: "angel", pinsMax: 0 },
  { name: "**angel**", policy: "angel" },
];

function sum(counts) {
  return Object.values(counts).reduce((total, count) => total + count, 0);
}

/** @param more options of this table. */
async function table(inFlight, more) {
  const lines = [
    "| | conn/s | of uniform | mean ms | p50 ms | p99 ms | load of each core | moves | pinned | failed |",
    "|---|---:|---:|---:|---:|---:|---|---:|---:|---:|",
  ];
  let uniform;
  for (const { name, policy, hotGroups = HOT_GROUPS, pinsMax } of rows) {
    const options = { ...common, inFlight, backlog: inFlight, hotGroups, policy: choosePolicy(policy), ...more };
    const result = await runSkewedLoad(pinsMax === undefined ? options : { ...options, pinsMax });
    uniform ??= result.connsPerSec;
    const { mean, p50, p99 } = result.latencyMs;
    const cells = [
      name,
      Math.round(result.connsPerSec).toLocaleString("en"),
      `${((100 * result.connsPerSec) / uniform).toFixed(1)} %`,
      mean.toFixed(1),
      p50.toFixed(1),
      p99.toFixed(1),
      result.loads.map((load) => load.toFixed(2)).join(" "),
      sum(result.balancer.moves),
      result.balancer.pinned,
      result.failed,
    ];
    lines.push(`| ${cells.join(" | ")} |`);
    console.error(lines.at(-1));
  }
  return lines.join("\n");
}

/** Long connections alone, all of them kernel 0's. */
async function busyTable() {
  const lines = ["| | exchanges/s | load of each core | moves | refused | failed |", "|---|---:|---|---:|---:|---:|"];
  for (const [name, migrate] of [
    ["angel, without migration", false],
    ["**angel, with migration**", true],
  ]) {
    const policy = choosePolicy("angel");
    const options = { ...common, policy, migrate, hotGroups: 0, inFlight: 0, backlog: 64, pinned: false, busyLong: 64 };
    const { exchangesPerSec, loads, balancer, failed } = await runSkewedLoad(options);
    const cells = [
      name,
      Math.round(exchangesPerSec).toLocaleString("en"),
      loads.map((load) => load.toFixed(2)).join(" "),
      sum(balancer.moves),
      sum(balancer.refusals),
      failed,
    ];
    lines.push(`| ${cells.join(" | ")} |`);
    console.error(lines.at(-1));
  }
  return lines.join("\n");
}

function replaceTable(text, mark, lines) {
  const [from, to] = [`<!-- table ${mark} -->\n`, `\n<!-- end ${mark} -->`];
  const start = text.indexOf(from) + from.length;
  const end = text.indexOf(to);
  if (start < from.length || end < start) throw new Error(`docs/balancer.md has no place for table ${mark}`);
  return text.slice(0, start) + lines + text.slice(end);
}

let text = readFileSync(document, "utf8");
// Names of tables; default: all.
const wanted = process.argv.length > 2 ? process.argv.slice(2) : ["rate", "short", "long", "crowd", "busy"];
for (const [mark, inFlight, more] of [
  ["rate", 8192, { pinned: false, arrivalsPerSecond: 20_000 }],
  ["short", 1024, { pinned: false }],
  ["long", 1024, { pinned: true }],
  ["crowd", 8192, { pinned: false }],
]) {
  if (!wanted.includes(mark)) continue;
  text = replaceTable(text, mark, await table(inFlight, more));
}
if (wanted.includes("busy")) text = replaceTable(text, "busy", await busyTable());
writeFileSync(document, text);
