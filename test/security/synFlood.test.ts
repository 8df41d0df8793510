/**
 * Goal: 100,000 spoofed SYNs per second leave established connections at least nine tenths of their goodput, and new
 * clients get in. Method: in virtual time, over links of 1 Gbit/s, the same seconds without and with the flood. The
 * links are full and lose frames: a new client whose ACK and first data are lost has time to send again. (What the
 * flood costs in processor time is measured by bench/synFlood.mjs.)
 */
import { describe, expect, test } from "vitest";
import { parseCidr } from "../../src/ip/address.ts";
import { Prng } from "../../src/sim/prng.ts";
import { v4Mapped } from "../helpers/packets.ts";
import { ClientApplication, type Plan, SERVER_PORT, ServerApplication } from "../sim/application.ts";
import { type Behaviour, PATTERN_BYTES } from "../sim/endpoint.ts";
import { World } from "../sim/world.ts";
import { Flooder } from "./flooder.ts";

const MS = 1e6;
const SERVER = "10.7.0.2";
const GATEWAY = "10.7.255.254";
const SYNS_PER_SECOND = 100_000;
/** Transfers begin at 0; the flood comes, and is measured over the rest. */
const FLOOD_NS = 60 * MS;
const MEASURE_NS = 100 * MS;
const END_NS = 400 * MS;
/** A lost SYN-ACK with a cookie comes again when the SYN does, after a second; and the flood goes on. */
const LAST_CLIENT_NS = END_NS + 1700 * MS;
const BULK_CONNECTIONS = 4;
const NEW_CLIENTS = 40;
const NEW_BYTES = 4000;
const BACKLOG = 128;

const BULK: Behaviour = {
  sendBytes: 1 << 30,
  writeBytesMax: 65_536,
  readBytesMax: 65_536,
  readPauseNs: 0,
  ending: "close",
  abortAfterBytes: 0,
  reserve: false,
  noDelay: true,
  quickAck: false,
};

type Flood = { readonly prefix: string; readonly options: boolean };

async function run(flood: Flood | undefined) {
  const seed = 11;
  const world = await World.create({
    seed,
    build: "release",
    impairments: { delayNs: 0.5 * MS, rateBitsPerSecond: 1e9 },
    mtuBytes: 1500,
    checksumOffload: false,
    tsoBytesMax: 0,
    // Ports on the segment beside the client's: the server's, and the attacker's.
    serverKernels: 2,
    timestamps: true,
    noDelay: true,
  });
  const pattern = new Uint8Array(PATTERN_BYTES);
  new Prng(seed, 2).fill(pattern);
  const bulk: Plan[] = Array.from({ length: BULK_CONNECTIONS }, (_, i) => ({
    id: 20_000 + i,
    startNs: 0,
    client: BULK,
    server: BULK,
  }));
  const short: Behaviour = { ...BULK, sendBytes: NEW_BYTES };
  const fresh: Plan[] = Array.from({ length: NEW_CLIENTS }, (_, i) => ({
    id: 30_000 + i,
    startNs: MEASURE_NS + i * 5 * MS,
    client: short,
    server: short,
  }));
  const plans = [...bulk, ...fresh];
  const tuning = { connectionsMax: 1024, rcvBufferBytesMax: 1 << 20, sndBufferBytesMax: 1 << 20 };
  const serverCard = world.createCard(1);
  const serverHost = await world.boot(serverCard, 0, `${SERVER}/16`, tuning, v4Mapped(GATEWAY));
  const clientHost = await world.boot(world.createCard(1), 0, "10.7.0.1/16", tuning);
  const client = new ClientApplication(
    "client",
    clientHost,
    pattern,
    plans,
    new Prng(seed, 3),
    parseCidr(`${SERVER}/16`).address,
  );
  const byId = new Map(plans.map((plan) => [plan.id, plan]));
  const server = new ServerApplication("server", serverHost, pattern, byId, new Prng(seed, 4), {
    backlog: BACKLOG,
    acceptPauseNs: 0,
  });
  world.kernels.push(client, server);
  const flooder = new Flooder(world.createCard(1), {
    synsPerSecond: flood ? SYNS_PER_SECOND : 0,
    target: SERVER,
    targetMac: serverCard.mac,
    port: SERVER_PORT,
    prefix: flood?.prefix ?? "10.7",
    options: flood?.options ?? false,
    fromNs: FLOOD_NS,
    untilNs: LAST_CLIENT_NS,
    seed,
  });
  world.kernels.push(flooder);
  const bulkBytes = (): number[] =>
    [client, server].map((side) => bulk.reduce((sum, { id }) => sum + (side.endpoints.get(id)?.received ?? 0), 0));
  world.run(() => world.nowNs >= MEASURE_NS, MEASURE_NS + 50 * MS);
  const before = bulkBytes();
  const fromNs = world.nowNs;
  world.run(() => world.nowNs >= END_NS, END_NS + 50 * MS);
  const seconds = (world.nowNs - fromNs) / 1e9;
  const mbitPerSec = bulkBytes().map((bytes, i) => ((bytes - (before[i] as number)) * 8) / seconds / 1e6);
  const served = (): number => fresh.filter(({ id }) => client.endpoints.get(id)?.received === NEW_BYTES).length;
  world.run(() => served() === NEW_CLIENTS, LAST_CLIENT_NS);
  const synsPerSecond = flooder.sent / ((world.nowNs - FLOOD_NS) / 1e9);
  return { mbitPerSec, served: served(), syns: flooder.sent, synsPerSecond, counters: serverHost.memory.counters() };
}

describe("100,000 SYNs per second from addresses that nobody has", async () => {
  const calm = await run(undefined);

  test("without them both directions are busy, and every new client is served", () => {
    for (const rate of calm.mbitPerSec) expect(rate).toBeGreaterThan(700);
    expect(calm).toMatchObject({ served: NEW_CLIENTS, syns: 0 });
    expect(calm.counters.synCookiesSent).toBe(0);
  });

  test.each([
    { name: "beyond the gateway, without options", prefix: "198.18", options: false },
    { name: "beyond the gateway, with Linux's options", prefix: "198.18", options: true },
    { name: "on our own segment, more of them than neighbours can be kept", prefix: "10.7", options: true },
  ])("$name", async ({ prefix, options }) => {
    const { mbitPerSec, served, syns, synsPerSecond, counters } = await run({ prefix, options });
    expect(synsPerSecond).toBeGreaterThan(0.99 * SYNS_PER_SECOND);
    // All but what fills the SYN queue is answered without being remembered.
    expect(counters.synCookiesSent).toBeGreaterThan(syns * 0.98);
    expect(counters.gaugeConnections).toBeLessThanOrEqual(BACKLOG + BULK_CONNECTIONS + NEW_CLIENTS);
    mbitPerSec.forEach((rate, i) => {
      expect(rate).toBeGreaterThan(0.9 * (calm.mbitPerSec[i] as number));
    });
    expect(served).toBe(NEW_CLIENTS);
    expect(counters.synCookiesAccepted).toBe(NEW_CLIENTS);
  });
});
