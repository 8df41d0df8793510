/**
 * From a seed to a whole run, and its verdict. Swarm testing (Groce et al., ISSTA 2012): every run has some of the
 * faults and some of the behaviours switched off at random, because all at once hide each other.
 */
import type { Impairments } from "../../src/device/card/impairment.ts";
import { parseCidr } from "../../src/ip/address.ts";
import type { Tuning } from "../../src/kernel/config.ts";
import { Prng } from "../../src/sim/prng.ts";
import {
  ECN_ACCURATE_AGREE,
  FAST_OPEN_ALL_LISTENERS,
  FAST_OPEN_CLIENT,
  FAST_OPEN_MAX,
  FAST_OPEN_SERVER,
} from "../../src/layout/config.ts";
import { CONGESTION_BBR, CONGESTION_CUBIC, CONGESTION_RENO } from "../../src/layout/option.ts";
import { ECONNRESET } from "../../src/layout/status.ts";
import type { ModuleBuild } from "../../src/wasm/load.ts";
import { ClientApplication, isOrderly, type Plan, ServerApplication } from "./application.ts";
import { type Behaviour, type Ending, PATTERN_BYTES } from "./endpoint.ts";
import { SERVER_ADDRESS, World } from "./world.ts";

const MS = 1e6;
const SECOND = 1e9;
/** Virtual time that a run may take until all connections are over, and then until nothing moves any more. */
const LIMIT_NS = 3600 * SECOND;
const QUIET_LIMIT_NS = 4000 * SECOND;
const CLIENT_CIDR = "10.7.0.1/24";
const FIRST_ID = 20_000;
/** Outlives some retransmissions of a FIN. */
const TIME_WAIT_ENOUGH_MS = 60_000;

export type Scenario = {
  readonly seed: number;
  readonly impairments: Impairments;
  readonly blackout: { readonly fromNs: number; readonly untilNs: number } | undefined;
  readonly plans: readonly Plan[];
  readonly mtuBytes: number;
  readonly checksumOffload: boolean;
  readonly tsoBytesMax: number;
  readonly serverKernels: number;
  readonly timestamps: boolean;
  readonly noDelay: boolean;
  readonly backlog: number;
  readonly acceptPauseNs: number;
  readonly clientTuning: Partial<Tuning>;
  readonly serverTuning: Partial<Tuning>;
  readonly cePpm: number;
  /** Clients put their first bytes into the SYN where they may. */
  readonly fastOpen: boolean;
};

export type Verdict = {
  readonly digest: string;
  readonly frames: number;
  readonly virtualNs: number;
  readonly bytes: number;
  /** Sums of the counters of all kernels. */
  readonly counters: Readonly<Record<string, number>>;
};

function pick<T>(prng: Prng, values: readonly T[]): T {
  return values[prng.below(values.length)] as T;
}

/** Evenly in the logarithm, so that small values are as likely as large ones. */
function logarithmic(prng: Prng, max: number): number {
  return Math.floor(Math.exp(prng.fraction() * Math.log(max + 1))) - (prng.below(8) === 0 ? 1 : 0);
}

function drawImpairments(prng: Prng): Impairments {
  // Each fault is absent in half of the runs.
  const some = (value: number): number => (prng.below(2) === 0 ? Math.floor(value) : 0);
  return {
    delayNs: some(prng.fraction() * 60 * MS),
    jitterNs: some(prng.fraction() * 20 * MS),
    lossPpm: some(prng.fraction() * 100_000),
    duplicatePpm: some(prng.fraction() * 100_000),
    corruptPpm: some(prng.fraction() * 30_000),
    reorderPpm: some(prng.fraction() * 200_000),
    reorderNs: Math.floor(1 + prng.fraction() * 30 * MS),
    rateBitsPerSecond: some(1e6 + prng.fraction() * 1e9),
    queueBytes: pick(prng, [16_384, 65_536, 262_144]),
  };
}

/** A fourth of the runs: nothing gets through for a while, but not for as long as keep-alive would give up after. */
function drawBlackout(seed: number): Scenario["blackout"] {
  const prng = new Prng(seed, 60);
  if (prng.below(4) !== 0) return undefined;
  const fromNs = Math.floor(prng.fraction() * pick(prng, [100 * MS, 2 * SECOND]));
  return { fromNs, untilNs: fromNs + Math.floor(1 + prng.fraction() * 10 * SECOND) };
}

function drawBehaviour(prng: Prng, bytesMax: number, endings: readonly Ending[], slow: boolean): Behaviour {
  const sendBytes = logarithmic(prng, bytesMax);
  return {
    sendBytes,
    writeBytesMax: pick(prng, [1 + (sendBytes >> 4), 512, 4096, PATTERN_BYTES - 1]),
    readBytesMax: pick(prng, [1 + (bytesMax >> 5), 2048, 65_536]),
    readPauseNs: slow && prng.below(3) === 0 ? Math.floor(prng.fraction() * pick(prng, [50 * MS, 3 * SECOND])) : 0,
    ending: pick(prng, endings),
    abortAfterBytes: prng.below(sendBytes + 1),
    reserve: prng.below(3) === 0,
    noDelay: prng.below(3) === 0,
    quickAck: prng.below(5) === 0,
  };
}

function drawPlans(prng: Prng): Plan[] {
  const connections = 1 + logarithmic(prng, 40);
  const bytesMax = pick(prng, [100, 10_000, Math.floor(1_200_000 / (connections + 1))]);
  const spreadNs = pick(prng, [0, 10 * MS, SECOND]);
  const endings = pick<readonly Ending[]>(prng, [
    ["close"],
    ["close", "close", "abort"],
    ["close", "close", "close", "closeEarly"],
    ["close", "abort", "closeEarly"],
  ]);
  const slow = prng.below(3) === 0;
  const plans = Array.from({ length: connections }, (_, i) => ({
    id: FIRST_ID + i,
    startNs: Math.floor(prng.fraction() * spreadNs),
    client: drawBehaviour(prng, bytesMax, endings, slow),
    server: drawBehaviour(prng, bytesMax, endings, slow),
  }));
  return plans.sort((a, b) => a.startNs - b.startNs);
}

function drawTuning(prng: Prng): Partial<Tuning> {
  const maybe = <Name extends keyof Tuning>(name: Name, values: readonly number[]): Partial<Tuning> =>
    prng.below(2) === 0 ? { [name]: pick(prng, values) } : {};
  return {
    connectionsMax: 128,
    neighborsMax: 16,
    udpSocketsMax: 4,
    listenersMax: 4,
    reassemblyBytesMax: 65_536,
    txRingBytes: 1 << 18,
    rxRingBytes: 1 << 17,
    // An idle end must find out that the other has gone without a word (its RST was lost).
    keepaliveIdleMs: 4000,
    keepaliveIntervalMs: 2000,
    synRetriesMax: 12,
    // Enough for many connections that press into a short accept queue, all with the same timeouts.
    retriesMax: 40,
    rtoMaxUs: 10_000_000,
    timeWaitMs: 2000,
    ...maybe("timeWaitMs", [1, 500, 60_000]),
    ...maybe("rcvBufferBytesMax", [2048, 5000, 16_384, 262_144]),
    ...maybe("sndBufferBytesMax", [2048, 5000, 16_384, 262_144]),
    ...maybe("streamPoolBytes", [65_536, 262_144, 1_000_000]),
    ...maybe("delayedAckUs", [0, 1000, 200_000]),
    ...maybe("pollBudgetFrames", [1, 7, 64]),
    ...maybe("eventSlots", [1, 3, 64]),
    ...maybe("rtoMinUs", [1000, 20_000, 1_000_000]),
  };
}

/** What the protocol may do and need not, each end for itself. Drawn apart: the rest of a seed's run stays as it is. */
function drawProtocol(prng: Prng): Partial<Tuning> {
  return {
    congestionControl: pick(prng, [CONGESTION_CUBIC, CONGESTION_CUBIC, CONGESTION_RENO, CONGESTION_BBR]),
    ecn: prng.below(ECN_ACCURATE_AGREE + 1),
    sack: prng.below(4) === 0 ? 0 : 1,
    mtuProbing: prng.below(2),
    slowStartAfterIdle: prng.below(3),
    quickAcks: pick(prng, [0, 1, 16]),
    fastOpen: pick(prng, [0, FAST_OPEN_CLIENT + FAST_OPEN_SERVER + FAST_OPEN_ALL_LISTENERS, FAST_OPEN_MAX]),
  };
}

export function drawScenario(seed: number): Scenario {
  const prng = new Prng(seed, 1);
  const protocol = new Prng(seed, 61);
  const checksumOffload = prng.below(2) === 0;
  const impairments = drawImpairments(prng);
  const plans = drawPlans(prng);
  return {
    seed,
    impairments,
    blackout: drawBlackout(seed),
    plans,
    mtuBytes: pick(prng, [576, 1500, 1500, 9000]),
    checksumOffload,
    tsoBytesMax: checksumOffload && prng.below(2) === 0 ? 65_483 : 0,
    serverKernels: 1 + prng.below(3),
    timestamps: prng.below(2) === 0,
    noDelay: prng.below(2) === 0,
    backlog: pick(prng, [2, 8, 32, 128]),
    acceptPauseNs: pick(prng, [0, 0, 3 * MS]),
    clientTuning: { ...drawTuning(prng), ...drawProtocol(protocol) },
    serverTuning: { ...drawTuning(prng), ...drawProtocol(protocol) },
    // A SYN that comes again when its connection has ended opens another, with its data: RFC 7413 6.3.1 leaves that to
    // the application. So nothing may be duplicated, and nobody may leave early.
    fastOpen: protocol.below(2) === 0 && impairments.duplicatePpm === 0 && plans.every(isOrderly),
    cePpm: protocol.below(2) === 0 ? Math.floor(protocol.fraction() * 100_000) : 0,
  };
}

/** Runs a scenario to its end. @throws Error with what went wrong. */
export async function runScenario(
  scenario: Scenario,
  build: ModuleBuild,
  trace?: (line: string) => void,
): Promise<Verdict> {
  const { seed, plans, serverKernels } = scenario;
  const world = await World.create({ ...scenario, build, ...(trace ? { trace } : {}) });
  const pattern = new Uint8Array(PATTERN_BYTES);
  new Prng(seed, 2).fill(pattern);
  const clientHost = await world.boot(world.createCard(1), 0, CLIENT_CIDR, scenario.clientTuning);
  const address = parseCidr(`${SERVER_ADDRESS}/24`).address;
  const client = new ClientApplication(
    "client",
    clientHost,
    pattern,
    [...plans],
    new Prng(seed, 3),
    address,
    scenario.fastOpen,
  );
  world.kernels.push(client);
  const byId = new Map(plans.map((plan) => [plan.id, plan]));
  const serverCard = world.createCard(serverKernels);
  const servers: ServerApplication[] = [];
  for (let queue = 0; queue < serverKernels; queue++) {
    const host = await world.boot(serverCard, queue, `${SERVER_ADDRESS}/24`, scenario.serverTuning);
    const server = new ServerApplication(`server${queue}`, host, pattern, byId, new Prng(seed, 4 + queue), scenario);
    servers.push(server);
    world.kernels.push(server);
  }
  const all = [client, ...servers];
  const isOver = () => client.allStarted && all.every((app) => [...app.endpoints.values()].every((e) => e.finished));
  const check = () => {
    for (const app of all) app.check();
  };
  if (!world.run(isOver, LIMIT_NS, check)) throw new Error(`not over after ${LIMIT_NS / SECOND} s: ${unfinished(all)}`);
  const virtualNs = world.nowNs;
  const bytes = judge(scenario, client, servers);
  world.runUntilQuiet(virtualNs + QUIET_LIMIT_NS);
  // Connections that were still in an accept queue have been accepted and closed meanwhile; now nothing may be left.
  checkGauges(all);
  const counters: Record<string, number> = {};
  for (const { host } of all) {
    for (const [name, value] of Object.entries(host.memory.counters())) counters[name] = (counters[name] ?? 0) + value;
  }
  return { digest: world.checker.digest(), frames: world.checker.frames, virtualNs, bytes, counters };
}

function unfinished(all: readonly (ClientApplication | ServerApplication)[]): string {
  return all
    .flatMap((app) => [...app.endpoints.values()].filter((e) => !e.finished).map((e) => describe(app.name, e)))
    .join("; ");
}

function describe(
  name: string,
  e: { id: number; sent: number; received: number; closed: boolean; over: boolean },
): string {
  return `${name} ${e.id}: sent ${e.sent}, received ${e.received}, closed ${e.closed}, over ${e.over}`;
}

/** Orderly connections delivered everything to both ends, without an error. @returns bytes delivered. */
function judge(scenario: Scenario, client: ClientApplication, servers: readonly ServerApplication[]): number {
  let bytes = 0;
  for (const plan of scenario.plans) {
    const near = client.endpoints.get(plan.id);
    const far = servers.map((server) => server.endpoints.get(plan.id)).find((e) => e !== undefined);
    bytes += (near?.received ?? 0) + (far?.received ?? 0);
    if (near && far && (near.received > far.sent || far.received > near.sent)) {
      throw new Error(`connection ${plan.id}: more was received than was sent`);
    }
    if (!isOrderly(plan)) continue;
    if (!near || !far) throw new Error(`connection ${plan.id}: the server has not seen it (client: ${near?.status})`);
    const wrong =
      !endedWell(near, scenario.serverTuning) ||
      !endedWell(far, scenario.clientTuning) ||
      near.received !== plan.server.sendBytes ||
      far.received !== plan.client.sendBytes;
    if (wrong) {
      throw new Error(
        `connection ${plan.id}: client status ${near.status}, ${near.received} of ${plan.server.sendBytes} bytes; ` +
          `server status ${far.status}, ${far.received} of ${plan.client.sendBytes} bytes`,
      );
    }
  }
  return bytes;
}

/**
 * Without an error, or with a reset in place of the very last ACK: when the peer's TIME-WAIT was over before our FIN
 * had found its way (which is what TIME-WAIT is for).
 */
function endedWell(end: { readonly status: number; readonly peerClosed: boolean }, peer: Partial<Tuning>): boolean {
  if (end.status === 0) return true;
  return end.status === ECONNRESET && end.peerClosed && (peer.timeWaitMs ?? 0) < TIME_WAIT_ENOUGH_MS;
}

const GAUGES = ["gaugeConnections", "gaugeTimeWait", "gaugeStreamBytes", "gaugeFlows", "gaugeReassemblyBytes"] as const;

function checkGauges(all: readonly (ClientApplication | ServerApplication)[]): void {
  for (const app of all) {
    const counters = app.host.memory.counters();
    for (const gauge of GAUGES) {
      if (counters[gauge] !== 0) throw new Error(`${app.name}: ${gauge} is ${counters[gauge]} after the end`);
    }
  }
}
