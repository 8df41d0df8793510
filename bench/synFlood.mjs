// What a SYN flood costs on one core, from dist/: node bench/synFlood.mjs [SYNS_PER_SECOND] [--seconds S] [--json].
// The workloads bulk and accept (docs/benchmarking.md) in slices without and with the flood by turns, in one process;
// every SYN is from another address and port. The client, too, runs on this core. Time is processor time of this
// process, for flood, kernels and result, so that other programs on the machine do not count.
import { parseArgs } from "node:util";
import { AcceptClient, AcceptServer } from "../dist/bench/accept.js";
import { BulkClient, BulkServer } from "../dist/bench/bulk.js";
import { BENCH_TUNING, SERVER_PORT, memoryFor, summary, windowFor } from "../dist/bench/common.js";
import { createKernelPair } from "../dist/bench/pair.js";

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: { seconds: { type: "string", default: "10" }, json: { type: "boolean", default: false } },
});
const synsPerSecond = Number(positionals[0] ?? 100_000);
const seconds = Number(values.seconds);
const SLICE_SECONDS = 0.5;
const SYNS = 8192;
const BACKLOG = 4096;
const TURNS_PER_CHECK = 8;

/** Processor time so far, ns. */
function cpuNs() {
  const { user, system } = process.cpuUsage();
  return (user + system) * 1000;
}

/** SYNs as Linux's clients send them, from 10.7/16. The card has checked their checksums. */
function syns(mac) {
  const template = Buffer.from(
    `${Buffer.from(mac).toString("hex")}0200000000770800` +
      "4500003c000040003706000000000000 0a07ff01".replace(" ", "") +
      "0000005000000000000000 00a002faf000000000".replace(" ", "") +
      "020405b40402080a00000001000000000103 0307".replace(" ", ""),
    "hex",
  );
  // In one piece, as a card's buffers are: what generates the flood must not fill the cache.
  const all = Buffer.alloc(SYNS * template.length);
  return Array.from({ length: SYNS }, (_, i) => {
    const frame = all.subarray(i * template.length, (i + 1) * template.length);
    template.copy(frame);
    frame.writeUInt16BE(0x0a07, 26);
    // Not the server's own, nor the client's.
    frame.writeUInt16BE(0x1000 + ((i * 40503) & 0x7fff), 28);
    frame.writeUInt16BE(1024 + ((i * 7919) % 60_000), 34);
    frame.writeUInt32BE((i * 2_654_435_761) >>> 0, 38);
    let sum = 0;
    for (let at = 14; at < 34; at += 2) sum += frame.readUInt16BE(at);
    while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
    frame.writeUInt16BE(~sum & 0xffff, 24);
    return frame;
  });
}

function tcpChecksum(frame) {
  let sum = 6 + frame.length - 34;
  for (let at = 26; at < frame.length; at += 2) sum += frame.readUInt16BE(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  frame.writeUInt16BE(~sum & 0xffff, 50);
}

/** @returns what was counted, per second, in slices without and with the flood. */
function alternate(pair, count) {
  const ring = pair.server.memory.rxRing(0);
  const frames = syns(pair.server.config.mac);
  frames.forEach(tcpChecksum);
  const rates = { calm: [], flooded: [] };
  let next = 0;
  const slice = (rate) => {
    const start = cpuNs();
    const before = count();
    let now = start;
    let sent = 0;
    while (now - start < SLICE_SECONDS * 1e9) {
      now = cpuNs();
      for (const due = ((now - start) * rate) / 1e9; sent < due; sent++) {
        if (!ring.push(frames[next++ % SYNS])) break;
      }
      for (let i = 0; i < TURNS_PER_CHECK; i++) pair.turn(now);
    }
    return { rate: (count() - before) / ((now - start) / 1e9), sent: sent / ((now - start) / 1e9) };
  };
  slice(0);
  slice(synsPerSecond);
  let sent = 0;
  for (let done = 0; done < seconds; done += 2 * SLICE_SECONDS) {
    rates.calm.push(slice(0).rate);
    const flooded = slice(synsPerSecond);
    rates.flooded.push(flooded.rate);
    sent = Math.max(sent, flooded.sent);
  }
  const { synCookiesSent, synCookiesAccepted } = pair.server.memory.counters();
  return {
    calm: summary(rates.calm).median,
    flooded: summary(rates.flooded).median,
    sent: Math.round(sent),
    synCookiesSent,
    synCookiesAccepted,
  };
}

function report(workload, unit, { calm, flooded, ...rest }) {
  const share = flooded / calm;
  if (values.json) console.log(JSON.stringify({ workload, unit, calm, flooded, share, ...rest }));
  else {
    const percent = (100 * share).toFixed(1);
    console.log(`${workload}: ${calm.toFixed(2)} ${unit}; with ${rest.sent} SYN/s ${flooded.toFixed(2)}, ${percent} %`);
  }
}

const window = windowFor(1);
const buffers = { rcvBufferBytesMax: window, sndBufferBytesMax: window };
const bulk = await createKernelPair({ seed: 1, tuning: { ...BENCH_TUNING, ...memoryFor(1), ...buffers } });
const server = new BulkServer(bulk.server.handles, SERVER_PORT, BACKLOG);
new BulkClient(bulk.client.handles).open(bulk.serverAddress, SERVER_PORT, 1);
report(
  "bulk",
  "Gbit/s",
  alternate(bulk, () => (server.bytes * 8) / 1e9),
);

const accept = await createKernelPair({ seed: 1, tuning: { ...BENCH_TUNING, ...memoryFor(0) } });
new AcceptServer(accept.server.handles, SERVER_PORT, BACKLOG);
const client = new AcceptClient(accept.client.handles, accept.serverAddress, SERVER_PORT, 1);
client.fill(256);
report(
  "accept",
  "conn/s",
  alternate(accept, () => client.completed),
);
if (client.failed > 0) {
  console.error(`${client.failed} connections failed`);
  process.exitCode = 1;
}
