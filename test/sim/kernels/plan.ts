/**
 * From a seed to all that will happen in a run. Swarm testing (Groce et al., ISSTA 2012): every run has some of the
 * faults and some of the behaviours switched off at random, because all at once hide each other.
 */
import type { BalancerOption } from "../../../src/balancer/choosePolicy.ts";
import type { Move, Policy, StealMove } from "../../../src/balancer/policy.ts";
import type { CardOptions } from "../../../src/device/card/card.ts";
import type { Impairments } from "../../../src/device/card/impairment.ts";
import type { Tuning } from "../../../src/kernel/config.ts";
import type { RestartOptions } from "../../../src/kernel/supervisor.ts";
import { FLOW_GROUPS } from "../../../src/layout/flowGroup.ts";
import { Prng } from "../../../src/sim/prng.ts";
import { type Behaviour, type Ending, PATTERN_BYTES } from "../endpoint.ts";
import type { Plan } from "./ends.ts";
import { CLIENT, SERVER } from "./stage.ts";

const MS = 1e6;
const SECOND = 1e9;
export const PORTS = [80, 81] as const;
export const UDP_PORT = 53;
/** A kernel that leaves with so much time loses no connection. */
export const DRAIN_ENOUGH_MS = 3_600_000;

/** What befalls a kernel: ended from outside, ended by itself, standing still for ever, or for a while. */
export type Blow = "kill" | "trap" | "hang" | "pause";

export type Event =
  | {
      readonly atNs: number;
      readonly what: "blow";
      readonly blow: Blow;
      readonly side: number;
      /** Chooses among the kernels that are up then. */
      readonly draw: number;
      /** Of a pause, ns. */
      readonly forNs: number;
    }
  | { readonly atNs: number; readonly what: "join"; readonly side: number }
  | {
      readonly atNs: number;
      readonly what: "leave";
      readonly side: number;
      readonly draw: number;
      readonly drainMs: number;
    }
  | { readonly atNs: number; readonly what: "migrate"; readonly draw: number }
  | { readonly atNs: number; readonly what: "listen" | "unlisten"; readonly port: number }
  | { readonly atNs: number; readonly what: "datagram"; readonly index: number; readonly bytes: number };

export type SidePlan = {
  readonly card: CardOptions;
  /** At first; the card may have queues for more. */
  readonly kernels: number;
  readonly balancer: string;
  readonly restart: false | Partial<RestartOptions>;
  readonly hangMs: number | undefined;
  readonly tuning: Partial<Tuning>;
};

export type RunPlan = {
  readonly seed: number;
  readonly impairments: Impairments;
  readonly sides: readonly [SidePlan, SidePlan];
  readonly timestamps: boolean;
  /** Of each of PORTS; all different sums, so that the gauge tells which listeners a kernel has. */
  readonly backlogs: readonly number[];
  readonly plans: readonly Plan[];
  /** In the order of their instants. */
  readonly events: readonly Event[];
  /** Blows may take the last kernel of a side. */
  readonly sparesNone: boolean;
};

function pick<T>(prng: Prng, values: readonly T[]): T {
  return values[prng.below(values.length)] as T;
}

/** Evenly in the logarithm, so that small values are as likely as large ones. */
function logarithmic(prng: Prng, max: number): number {
  return Math.floor(Math.exp(prng.fraction() * Math.log(max + 1)));
}

function drawImpairments(prng: Prng): Impairments {
  const some = (value: number): number => (prng.below(2) === 0 ? Math.floor(value) : 0);
  return {
    delayNs: some(prng.fraction() * 30 * MS),
    jitterNs: some(prng.fraction() * 10 * MS),
    lossPpm: some(prng.fraction() * 50_000),
    duplicatePpm: some(prng.fraction() * 50_000),
    corruptPpm: some(prng.fraction() * 10_000),
    reorderPpm: some(prng.fraction() * 100_000),
    reorderNs: Math.floor(1 + prng.fraction() * 20 * MS),
    rateBitsPerSecond: some(1e7 + prng.fraction() * 1e9),
    queueBytes: pick(prng, [65_536, 262_144]),
  };
}

function drawBehaviour(prng: Prng, bytesMax: number, endings: readonly Ending[], slow: boolean): Behaviour {
  const sendBytes = logarithmic(prng, bytesMax) - 1;
  return {
    sendBytes,
    writeBytesMax: pick(prng, [1 + (sendBytes >> 4), 512, 4096, PATTERN_BYTES - 1]),
    readBytesMax: pick(prng, [1 + (bytesMax >> 5), 2048, 65_536]),
    readPauseNs: slow && prng.below(3) === 0 ? Math.floor(prng.fraction() * pick(prng, [20 * MS, 500 * MS])) : 0,
    ending: pick(prng, endings),
    abortAfterBytes: prng.below(sendBytes + 1),
    reserve: prng.below(3) === 0,
    noDelay: prng.below(3) === 0,
    quickAck: prng.below(5) === 0,
  };
}

function drawPlans(prng: Prng, spanNs: number): Plan[] {
  const connections = 2 + logarithmic(prng, 60);
  const bytesMax = pick(prng, [100, 10_000, Math.floor(600_000 / (connections + 1))]);
  const endings = pick<readonly Ending[]>(prng, [["close"], ["close", "close", "close", "closeEarly", "abort"]]);
  const slow = prng.below(2) === 0;
  const plans = Array.from({ length: connections }, (_, id) => ({
    id,
    startNs: Math.floor(prng.fraction() * spanNs),
    port: prng.below(4) === 0 ? PORTS[1] : PORTS[0],
    client: drawBehaviour(prng, bytesMax, endings, slow),
    server: drawBehaviour(prng, bytesMax, endings, slow),
  }));
  return plans.sort((a, b) => a.startNs - b.startNs);
}

function drawTuning(prng: Prng): Partial<Tuning> {
  const maybe = <Name extends keyof Tuning>(name: Name, values: readonly number[]): Partial<Tuning> =>
    prng.below(2) === 0 ? { [name]: pick(prng, values) } : {};
  return {
    memoryBytes: 16 << 20,
    connectionsMax: 128,
    neighborsMax: 16,
    udpSocketsMax: 4,
    listenersMax: 4,
    reassemblyBytesMax: 65_536,
    streamPoolBytes: 1_000_000,
    txRingBytes: 1 << 18,
    rxRingBytes: 1 << 17,
    // An idle end must find out that the other's kernel has gone.
    keepaliveIdleMs: 2000,
    keepaliveIntervalMs: 1000,
    synRetriesMax: 12,
    retriesMax: 40,
    rtoMaxUs: 5_000_000,
    timeWaitMs: 1000,
    ...maybe("timeWaitMs", [1, 60_000]),
    ...maybe("rcvBufferBytesMax", [2048, 16_384]),
    ...maybe("sndBufferBytesMax", [2048, 16_384]),
    ...maybe("delayedAckUs", [0, 200_000]),
    ...maybe("pollBudgetFrames", [1, 7, 64]),
    ...maybe("eventSlots", [1, 3, 64]),
    ...maybe("rtoMinUs", [20_000, 1_000_000]),
  };
}

function drawSide(prng: Prng, kernels: number, joins: boolean, mtuBytes: number, hangs: boolean): SidePlan {
  const flowGroups = prng.below(4) !== 0;
  const checksumOffload = prng.below(2) === 0;
  const policies = ["static", "angel", "opportunistic", "affinity-accept", "reckless", "reckless", "reckless"];
  return {
    card: {
      queues: kernels + (joins ? prng.below(3) : 0),
      preset: pick(prng, ["generic", "generic", "82599"] as const),
      flowGroups,
      mtuBytes,
      checksumOffload,
      tsoBytesMax: checksumOffload && prng.below(2) === 0 ? 65_483 : 0,
    },
    kernels,
    balancer: flowGroups && prng.below(3) !== 0 ? pick(prng, policies) : "static",
    restart: prng.below(8) === 0 ? false : { delayMs: pick(prng, [0, 1, 20, 200]), delayMsMax: 400, failuresMax: 100 },
    hangMs: hangs ? pick(prng, [400, 2000]) : undefined,
    tuning: drawTuning(prng),
  };
}

/** Kernels that come and go as they are told, and flow groups that move with their connections. */
function drawChanges(prng: Prng, at: () => number, joins: boolean): Event[] {
  const events: Event[] = [];
  for (let i = joins ? 1 + prng.below(6) : 0; i > 0; i--) {
    const side = prng.below(4) === 0 ? CLIENT : SERVER;
    if (prng.below(2) === 0) events.push({ atNs: at(), what: "join", side });
    else {
      const drainMs = prng.below(2) === 0 ? DRAIN_ENOUGH_MS : prng.below(50);
      events.push({ atNs: at(), what: "leave", side, draw: prng.u32(), drainMs });
    }
  }
  for (let i = prng.below(2) === 0 ? 0 : 1 + prng.below(20); i > 0; i--) {
    events.push({ atNs: at(), what: "migrate", draw: prng.u32() });
  }
  return events;
}

function drawEvents(prng: Prng, spanNs: number, blows: readonly Blow[], joins: boolean): Event[] {
  const at = () => Math.floor(prng.fraction() * spanNs * 1.2);
  const events = drawChanges(prng, at, joins);
  const count = blows.length === 0 ? 0 : logarithmic(prng, 12);
  for (let i = 0; i < count; i++) {
    const side = prng.below(4) === 0 ? CLIENT : SERVER;
    const forNs = Math.floor(prng.fraction() * pick(prng, [1 * MS, 20 * MS, 80 * MS]));
    events.push({ atNs: at(), what: "blow", blow: pick(prng, blows), side, draw: prng.u32(), forNs });
  }
  // The second port comes and goes; the first is there from the beginning, and may go.
  for (const [index, port] of PORTS.entries()) {
    let openNs = index === 0 ? 0 : Math.floor((prng.fraction() * spanNs) / 2);
    events.push({ atNs: openNs, what: "listen", port });
    for (let changes = index === 0 ? prng.below(2) : prng.below(5); changes > 0; changes--) {
      const closeNs = openNs + Math.floor(1 + prng.fraction() * spanNs);
      events.push({ atNs: closeNs, what: "unlisten", port });
      openNs = closeNs + Math.floor(prng.fraction() * spanNs * pick(prng, [0, 0.3]));
      events.push({ atNs: openNs, what: "listen", port });
    }
  }
  const datagrams = prng.below(2) === 0 ? 0 : logarithmic(prng, 30);
  for (let index = 0; index < datagrams; index++) {
    events.push({ atNs: at(), what: "datagram", index, bytes: 4 + logarithmic(prng, 5000) });
  }
  return events.sort((a, b) => a.atNs - b.atNs);
}

export function drawRun(seed: number): RunPlan {
  const prng = new Prng(seed, 1);
  const spanNs = pick(prng, [50 * MS, 500 * MS, 3 * SECOND]);
  const blows = (["kill", "trap", "hang", "pause"] as const).filter(() => prng.below(2) === 0);
  const mtuBytes = pick(prng, [576, 1500, 9000]);
  const hangs = blows.includes("hang");
  const joins = prng.below(2) === 0;
  const sides: [SidePlan, SidePlan] = [
    drawSide(prng, 1 + prng.below(3), joins, mtuBytes, hangs),
    drawSide(prng, 1 + prng.below(4), joins, mtuBytes, hangs),
  ];
  return {
    seed,
    impairments: drawImpairments(prng),
    sides,
    timestamps: prng.below(2) === 0,
    backlogs: [1 + prng.below(15), 16 * (1 + prng.below(15))],
    plans: drawPlans(prng, spanNs),
    events: drawEvents(prng, spanNs, blows, joins),
    sparesNone: prng.below(4) === 0,
  };
}

/** Then it has done enough: what still goes on are retransmissions. */
const RECKLESS_NS = 10 * SECOND;

/** Moves groups for no reason, those that have connections above all, with and without pins. */
function recklessPolicy(prng: Prng): Policy {
  return {
    name: "reckless",
    periodNs: pick(prng, [5 * MS, 20 * MS, 100 * MS]),
    decide: (observation, state, nowNs) => {
      const moves: Move[] = [];
      if (nowNs > RECKLESS_NS) return { moves, state };
      const { kernels, groups } = observation;
      const alive = kernels.flatMap(({ alive: isAlive }, kernel) => (isAlive ? [kernel] : []));
      if (alive.length === 0 || prng.below(3) === 0) return { moves, state };
      const busy: number[] = [];
      for (let group = 0; group < FLOW_GROUPS; group++) if (groups.opened[group] !== 0) busy.push(group);
      for (let i = prng.below(12); i > 0; i--) {
        const group = busy.length > 0 && prng.below(4) !== 0 ? pick(prng, busy) : prng.below(FLOW_GROUPS);
        const from = groups.owner[group] as number;
        const pin = prng.below(3) !== 0;
        moves.push({ group, from, to: pick(prng, alive), reason: "reckless", pin, wait: prng.below(3) === 0 });
      }
      return { moves, state };
    },
  };
}

/** The same, and steals for no reason from whoever has something, or nothing, that waits. */
export function thievishPolicy(prng: Prng): Policy {
  const reckless = recklessPolicy(prng);
  const moves = prng.below(2) === 0;
  return {
    name: "thievish",
    periodNs: pick(prng, [1 * MS, 5 * MS, 20 * MS]),
    decide: (observation, state, nowNs) => {
      const decision = moves ? reckless.decide(observation, state, nowNs) : { moves: [], state };
      if (nowNs > RECKLESS_NS) return decision;
      const { kernels } = observation;
      const steals: StealMove[] = [];
      // No kernel is both thief and victim, and no thief has two victims: the model could not tell what came first.
      const victims = kernels.flatMap((_, kernel) => (prng.below(2) === 0 ? [kernel] : []));
      for (let to = 0; to < kernels.length && victims.length > 0; to++) {
        const from = pick(prng, victims);
        const waits = kernels[from]?.pendingConnections ?? 0;
        if (victims.includes(to) || (waits === 0 && prng.below(8) !== 0) || prng.below(2) === 0) continue;
        steals.push({ from, to, connections: 1 + prng.below(waits + 1) });
      }
      return { ...decision, steals };
    },
  };
}

export function balancerOf(name: string, prng: Prng): BalancerOption {
  return name === "reckless" ? recklessPolicy(prng) : (name as "static" | "angel" | "opportunistic");
}
