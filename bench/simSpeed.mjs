// Speed of the simulator, from dist/: node bench/simSpeed.mjs [DESIGN,…] [CORES,…] [--json]
// Packets that the simulated server receives and sends, per second of one real core's time.
import { parseArgs } from "node:util";
import { parsePoint } from "../dist/sim/point.js";
import { runPoint } from "../dist/sim/run.js";

const { positionals, values } = parseArgs({ allowPositionals: true, options: { json: { type: "boolean" } } });
const designs = (positionals[0] ?? "netpopcorn,mtcp,linux").split(",");
const cores = (positionals[1] ?? "8,16,24").split(",").map(Number);

for (const design of designs) {
  for (const count of cores) {
    const point = parsePoint({ design, cores: count, workload: "web-epoll", durationS: 2 });
    const before = process.cpuUsage();
    const { connsPerSec, simulatedPackets } = await runPoint(point);
    const { system, user } = process.cpuUsage(before);
    const packetsPerSec = (simulatedPackets * 1e6) / (user + system);
    if (values.json) console.log(JSON.stringify({ design, cores: count, connsPerSec, packetsPerSec }));
    else console.log(`${design}, ${count} cores: ${(packetsPerSec / 1e6).toFixed(2)} M packets per second of CPU time`);
  }
}
