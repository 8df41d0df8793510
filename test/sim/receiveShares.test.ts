/**
 * Goal: applications that do not read leave room in the stream pool for one that does. Method: 32 transfers in virtual
 * time to one kernel with a small pool; 31 are never read, the last gets what it gets alone.
 */
import { describe, expect, test } from "vitest";
import { parseCidr } from "../../src/ip/address.ts";
import { Prng } from "../../src/sim/prng.ts";
import { ClientApplication, type Plan, ServerApplication } from "./application.ts";
import { type Behaviour, PATTERN_BYTES } from "./endpoint.ts";
import { SERVER_ADDRESS, World } from "./world.ts";

const MIB = 1 << 20;
const BYTES = 4 * MIB;
const READER = 20_000;
const HOGS = 31;
const QUIET: Behaviour = {
  sendBytes: 0,
  writeBytesMax: 65_536,
  readBytesMax: 65_536,
  readPauseNs: 0,
  ending: "abort",
  abortAfterBytes: Number.POSITIVE_INFINITY,
  reserve: false,
  noDelay: true,
  quickAck: false,
};

/** @returns ns from the reader's SYN to its last byte, and what was counted. */
async function transfer({ hogs, poolBytes, startNs }: { hogs: number; poolBytes: number; startNs: number }) {
  const seed = 11;
  const world = await World.create({
    seed,
    build: "release",
    impairments: { delayNs: 10e6, rateBitsPerSecond: 100e6, queueBytes: 4 * MIB },
    mtuBytes: 1500,
    checksumOffload: false,
    tsoBytesMax: 0,
    serverKernels: 1,
    timestamps: true,
    noDelay: true,
  });
  const pattern = new Uint8Array(PATTERN_BYTES);
  new Prng(seed, 2).fill(pattern);
  const sending = { ...QUIET, sendBytes: BYTES };
  const waiting = { ...QUIET, readPauseNs: Number.POSITIVE_INFINITY };
  const plans: Plan[] = Array.from({ length: hogs }, (_, i) => ({
    id: READER + 1 + i,
    startNs: 0,
    client: sending,
    server: waiting,
  }));
  plans.push({ id: READER, startNs, client: sending, server: QUIET });
  const tuning = { connectionsMax: 64, rcvBufferBytesMax: MIB, sndBufferBytesMax: MIB };
  const clientHost = await world.boot(world.createCard(1), 0, "10.7.0.1/24", { ...tuning, memoryBytes: 128 * MIB });
  const serverHost = await world.boot(world.createCard(1), 0, `${SERVER_ADDRESS}/24`, {
    ...tuning,
    streamPoolBytes: poolBytes,
  });
  const { address } = parseCidr(`${SERVER_ADDRESS}/24`);
  const client = new ClientApplication("client", clientHost, pattern, plans, new Prng(seed, 3), address);
  const byId = new Map(plans.map((plan) => [plan.id, plan]));
  const server = new ServerApplication("server", serverHost, pattern, byId, new Prng(seed, 4), {
    backlog: 64,
    acceptPauseNs: 0,
  });
  world.kernels.push(client, server);
  const isDone = (): boolean => server.endpoints.get(READER)?.received === BYTES;
  expect(world.run(isDone, 600e9), "done in time").toBe(true);
  return {
    ns: world.nowNs - startNs,
    accepted: server.endpoints.size,
    client: clientHost.memory.counters(),
    server: serverHost.memory.counters(),
  };
}

describe.each([
  { poolBytes: 4 * MIB, startNs: 5e9, share: 0.95 },
  { poolBytes: 4 * MIB, startNs: 0, share: 0.5 },
  { poolBytes: MIB, startNs: 5e9, share: 0.95 },
])("a pool of $poolBytes B, the reader comes after $startNs ns", ({ poolBytes, startNs, share }) => {
  test("31 connections that are never read leave the 32nd its throughput", async () => {
    const alone = await transfer({ hogs: 0, poolBytes, startNs });
    const among = await transfer({ hogs: HOGS, poolBytes, startNs });
    expect(among.accepted).toBe(HOGS + 1);
    expect(alone.ns / among.ns).toBeGreaterThan(share);
    // What the windows have allowed was taken, and so nothing was sent twice but probes.
    expect(among.server.dropTcpNoBuffer).toBe(0);
    expect(among.client.tcpRetransmits).toBe(0);
  });
});
