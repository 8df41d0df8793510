// Speed of the simulator, from dist/: node bench/simSpeed.mjs [DESIGN,…] [CORES,…] [--runs N] [--duration S] [--json]
// Packets that the simulated server receives and sends, per second of this process's CPU time, which is that of all its
// threads: simulating, compiling, collecting garbage. Points run at the default precision, or for S seconds of virtual
// time. A sweep runs many points in each of its workers, and only the first waits for the engine to compile what the
// others run; so the first run is told apart, and each point's figure is the median of N runs after it.
import { parseArgs } from "node:util";
import { parsePoint } from "../dist/sim/point.js";
import { runPoint } from "../dist/sim/run.js";

const options = { duration: { type: "string" }, json: { type: "boolean" }, runs: { type: "string" } };
const { positionals, values } = parseArgs({ allowPositionals: true, options });
const designs = (positionals[0] ?? "netpopcorn,mtcp,linux").split(",");
const cores = (positionals[1] ?? "1,2,4,8,16,24").split(",").map(Number);
const runs = Number(values.runs ?? 3);
const durationS = Number(values.duration ?? 0);

async function run(design, count) {
  const point = parsePoint({ design, cores: count, workload: "web-epoll", durationS });
  const before = process.cpuUsage();
  const { connsPerSec, simulatedPackets } = await runPoint(point);
  const { system, user } = process.cpuUsage(before);
  return { connsPerSec, simulatedPackets, packetsPerSec: (simulatedPackets * 1e6) / (user + system) };
}

function tell(design, count, { connsPerSec, packetsPerSec, simulatedPackets }, first) {
  if (values.json) {
    console.log(JSON.stringify({ design, cores: count, first, connsPerSec, packetsPerSec, simulatedPackets }));
    return;
  }
  const what = first ? "the process's first run" : `median of ${runs}`;
  console.log(
    `${design}, ${count} cores: ${(packetsPerSec / 1e6).toFixed(2)} M packets per second of CPU time, ${what}`,
  );
}

tell(designs[0], cores[0], await run(designs[0], cores[0]), true);
for (const design of designs) {
  for (const count of cores) {
    const results = [];
    for (let i = 0; i < runs; i++) results.push(await run(design, count));
    results.sort((a, b) => a.packetsPerSec - b.packetsPerSec);
    tell(design, count, results[results.length >> 1], false);
  }
}
