/**
 * Goal: applications that do not read leave room in the stream pool for one that does. Method: 32 transfers in virtual
 * time to one kernel with a small pool; 31 are not read, from the start or later, the last gets what it gets alone.
 */
import { describe, expect, test } from "vitest";
import { parseCidr } from "../../src/ip/address.ts";
import { Prng } from "../../src/sim/prng.ts";
import { ClientApplication, type Plan, ServerApplication } from "./application.ts";
import { type Behaviour, type Endpoint, PATTERN_BYTES } from "./endpoint.ts";
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

interface Setting {
  hogs: number;
  poolBytes: number;
  startNs: number;
  /** What the others send in their first second, and whether it is read; then they send without end. */
  first?: { bytes: number; isRead: boolean } | undefined;
  /** When the reader reads no more; the transfer then need not end. */
  stopNs?: number;
}

/** @returns ns from the reader's SYN to its last byte, and what was counted. */
async function transfer({ hogs, poolBytes, startNs, first, stopNs }: Setting) {
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
    client: first === undefined ? sending : { ...sending, sendBytes: first.bytes },
    server: first?.isRead ? QUIET : waiting,
  }));
  plans.push({ id: READER, startNs, client: sending, server: QUIET });
  const tuning = {
    connectionsMax: 64,
    rcvBufferBytesMax: stopNs === undefined ? MIB : 4 * MIB,
    sndBufferBytesMax: MIB,
  };
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
  if (first !== undefined) {
    world.run(() => world.nowNs >= 1e9, 2e9);
    for (const endpoint of server.endpoints.values()) endpoint.behaviour = waiting;
    for (const endpoint of client.endpoints.values()) {
      endpoint.behaviour = sending;
      endpoint.progress(world.nowNs, true);
    }
  }
  const reader = (): Endpoint | undefined => server.endpoints.get(READER);
  if (stopNs === undefined) {
    expect(
      world.run(() => reader()?.received === BYTES, 600e9),
      "done in time",
    ).toBe(true);
  } else {
    world.run(() => world.nowNs >= stopNs, 600e9);
    (reader() as Endpoint).behaviour = waiting;
    world.run(() => world.nowNs >= stopNs + 3e9, 600e9);
  }
  return {
    ns: world.nowNs - startNs,
    received: reader()?.received,
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
  const cases: { what: string; first?: Setting["first"] }[] = [{ what: "are never read" }];
  if (startNs > 0) {
    cases.push({ what: "are never read and begin with 100 B", first: { bytes: 100, isRead: false } });
    cases.push({ what: "are read once", first: { bytes: 1000, isRead: true } });
  }
  test.each(cases)("31 connections that $what leave the 32nd its throughput", async ({ first }) => {
    const alone = await transfer({ hogs: 0, poolBytes, startNs });
    const among = await transfer({ hogs: HOGS, poolBytes, startNs, first });
    expect(among.accepted).toBe(HOGS + 1);
    expect(alone.ns / among.ns).toBeGreaterThan(share);
    // What the windows have allowed was taken, and so nothing was sent twice but probes.
    expect(among.server.dropTcpNoBuffer).toBe(0);
    expect(among.client.tcpRetransmits).toBe(0);
  });
});

test("what a window has promised fits the ring that the pool can still make", async () => {
  // Half of this pool is more than 1 MiB; a ring of 2 MiB could not be made beside the one that grows.
  const { received, server, client } = await transfer({ hogs: 0, poolBytes: 2.25 * MIB, startNs: 0, stopNs: 0.25e9 });
  expect(received).toBeGreaterThan(MIB);
  expect(received).toBeLessThan(BYTES - 1.25 * MIB);
  expect(server.gaugeStreamBytes).toBe(MIB);
  expect(server.dropTcpNoBuffer).toBe(0);
  expect(client.tcpRetransmits).toBe(0);
});
