/**
 * Goal: a path that swallows large packets without a word (RFC 4821 1) does not stop a connection, and is used up to
 * its MTU. Method: transfers in virtual time over a link that loses every frame beyond a length.
 */
import { describe, expect, test } from "vitest";
import { parseCidr } from "../../src/ip/address.ts";
import { INFO_SND_MSS_BYTES } from "../../src/layout/option.ts";
import { Prng } from "../../src/sim/prng.ts";
import { ClientApplication, type Plan, ServerApplication } from "./application.ts";
import { type Behaviour, PATTERN_BYTES } from "./endpoint.ts";
import { World } from "./world.ts";

const ETH_BYTES = 14;
const S = 1e9;

const QUIET: Behaviour = {
  sendBytes: 0,
  writeBytesMax: 65_536,
  readBytesMax: 65_536,
  readPauseNs: 0,
  ending: "close",
  abortAfterBytes: 0,
  reserve: false,
  noDelay: true,
  quickAck: false,
};

const FAMILIES = {
  IPv4: { client: "10.7.0.1/24", server: "10.7.0.2/24", headers: 20 + 20 + 12 },
  IPv6: { client: "fd07::1/64", server: "fd07::2/64", headers: 40 + 20 + 12 },
};

type Path = {
  readonly family?: keyof typeof FAMILIES;
  /** The largest packet that the path carries. */
  readonly mtuBytes: number;
  readonly lossPpm?: number;
  readonly tsoBytesMax?: number;
  readonly sack?: number;
  /** Instants at which a client begins to send `bytes`. */
  readonly startsNs?: readonly number[];
  readonly bytes?: number;
  readonly mtuProbing?: number;
  readonly blackout?: { readonly fromNs: number; readonly untilNs: number };
};

async function transfer(path: Path) {
  const { family = "IPv4", mtuBytes, lossPpm = 0, tsoBytesMax = 0, startsNs = [0], bytes = 2 << 20 } = path;
  const { client: clientCidr, server: serverCidr } = FAMILIES[family];
  const seed = 7;
  const world = await World.create({
    seed,
    build: "release",
    ...(path.blackout ? { blackout: path.blackout } : {}),
    impairments: { delayNs: 5e6, rateBitsPerSecond: 100e6, lossPpm, frameBytesMax: mtuBytes + ETH_BYTES },
    mtuBytes: 1500,
    checksumOffload: tsoBytesMax > 0,
    tsoBytesMax,
    serverKernels: 1,
    timestamps: true,
    noDelay: true,
  });
  const tuning = { connectionsMax: 16, sack: path.sack ?? 1, mtuProbing: path.mtuProbing ?? 1 };
  const pattern = new Uint8Array(PATTERN_BYTES);
  new Prng(seed, 2).fill(pattern);
  const plans: Plan[] = startsNs.map((startNs, i) => ({
    id: 20_000 + i,
    startNs,
    client: { ...QUIET, sendBytes: bytes },
    // It keeps its side open until the client has closed, so that the client can be looked at.
    server: { ...QUIET, ending: "abort", abortAfterBytes: Number.POSITIVE_INFINITY },
  }));
  const clientHost = await world.boot(world.createCard(1), 0, clientCidr, tuning);
  const serverHost = await world.boot(world.createCard(1), 0, serverCidr, tuning);
  const { address } = parseCidr(serverCidr);
  const client = new ClientApplication("client", clientHost, pattern, plans, new Prng(seed, 3), address);
  const byId = new Map(plans.map((plan) => [plan.id, plan]));
  const server = new ServerApplication("server", serverHost, pattern, byId, new Prng(seed, 4), {
    backlog: 16,
    acceptPauseNs: 0,
  });
  world.kernels.push(client, server);
  /** SND.MSS of each connection, as last seen, and when all its bytes had come. */
  const mss = new Map<number, number>();
  const doneNs = new Map<number, number>();
  const look = (): void => {
    for (const [id, endpoint] of client.endpoints) {
      const at = clientHost.handles.info(endpoint.handle);
      if (at >= 0) mss.set(id, clientHost.memory.loadU32(at + INFO_SND_MSS_BYTES));
    }
    for (const [id, { received }] of server.endpoints) {
      if (received === bytes && !doneNs.has(id)) doneNs.set(id, world.nowNs);
    }
  };
  const done = world.run(() => doneNs.size === plans.length, 600 * S, look);
  const tookS = plans.map(({ id, startNs }) => ((doneNs.get(id) ?? Number.NaN) - startNs) / S);
  return { done, mss: plans.map(({ id }) => mss.get(id)), tookS, counters: clientHost.memory.counters() };
}

describe.each(["IPv4", "IPv6"] as const)("a path that swallows large packets, %s", (family) => {
  const { headers } = FAMILIES[family];

  test.each([1400, 1300])("of %i bytes: found, used, and nothing else is taken for congestion", async (mtuBytes) => {
    const { done, mss, counters, tookS } = await transfer({ family, mtuBytes });
    expect(done).toBe(true);
    expect(counters.tcpBlackHoles).toBe(1);
    expect(mss[0]).toBeLessThanOrEqual(mtuBytes - headers);
    expect(mss[0]).toBeGreaterThan(mtuBytes - headers - 8);
    expect(counters.tcpMtuProbesFailed).toBeGreaterThan(0);
    // Three time-outs in a row found it; lost probes cost none.
    expect(counters).toMatchObject({ tcpRetransmitTimeouts: 3, tcpFastRetransmits: 0 });
    expect(tookS[0]).toBeLessThan(5);
  });

  test("with segments cut by the device", async () => {
    const { done, mss } = await transfer({ family, mtuBytes: 1400, tsoBytesMax: 65_160 });
    expect(done).toBe(true);
    expect(mss[0]).toBeGreaterThan(1400 - headers - 8);
    expect(mss[0]).toBeLessThanOrEqual(1400 - headers);
  });

  test("a connection that follows knows it from the start", async () => {
    const { done, mss, counters, tookS } = await transfer({ family, mtuBytes: 1400, startsNs: [0, 60 * S] });
    expect(done).toBe(true);
    expect(counters.tcpBlackHoles).toBe(1);
    expect(mss[1]).toBe(mss[0]);
    expect(tookS[1]).toBeLessThan(1);
  });

  test("without SACK: smaller segments, no search", async () => {
    const { done, mss, counters } = await transfer({ family, mtuBytes: 1400, sack: 0 });
    expect(done).toBe(true);
    expect(mss[0]).toBe((family === "IPv6" ? 1280 : 1064) - headers);
    expect(counters).toMatchObject({ tcpBlackHoles: 1, tcpMtuProbes: 0 });
  });

  test("on top of random loss", async () => {
    const { done, mss } = await transfer({ family, mtuBytes: 1350, lossPpm: 10_000 });
    expect(done).toBe(true);
    expect(mss[0]).toBeLessThanOrEqual(1350 - headers);
  });
});

test("a path of 600 bytes: segments shrink until they pass (IPv4)", async () => {
  const { done, mss } = await transfer({ mtuBytes: 600 });
  expect(done).toBe(true);
  expect(mss[0]).toBeLessThanOrEqual(600 - 52);
  expect(mss[0]).toBeGreaterThanOrEqual(500);
});

test("tuning mtuProbing 0: the connection stands still, as where only ICMP is relied on", async () => {
  const { done, counters } = await transfer({ mtuBytes: 1400, mtuProbing: 0 });
  expect(done).toBe(false);
  expect(counters.tcpBlackHoles).toBe(0);
});

test("a path that carries everything, cut off for a while: full segments again afterwards", async () => {
  const { done, mss, counters } = await transfer({
    mtuBytes: 1500,
    bytes: 8 << 20,
    blackout: { fromNs: 0.1 * S, untilNs: 3 * S },
  });
  expect(done).toBe(true);

  expect(counters).toMatchObject({ tcpBlackHoles: 2, tcpMtuProbesFailed: 0, pathMtuLearnt: 0 });
  expect(mss[0]).toBeGreaterThan(1448 - 8);
});
