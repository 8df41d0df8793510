/**
 * Claims of NetPopcorn's paper (Ansary and others, ICDCS 2017): lighttpd over epoll, ten processes on each core, rates
 * as ApacheBench prints them: 30 instances of 1,000 in flight and 100,000 in all, from the first SYN to the last
 * completion.
 */
import type { BalancerPolicyName, DesignName, PointResult } from "../types.ts";
import type { Claim, PointInput } from "./claim.ts";

const SOURCE = "ICDCS 2017, figures 11-13, vector graphics";

function point(design: DesignName, cores: number, more: Partial<PointInput> = {}): PointInput {
  const run = { protocol: "ab", abConnections: 3_000_000, procsPerCore: design === "mtcp" ? 1 : 10 } as const;
  return { design, cores, workload: "web-epoll", machine: "e5-2695v2", ...run, ...more };
}

/** The flow groups of one kernel bring 60 % of the connections. */
const UNEVEN = { skew: { hotGroups: 512, hotShare: 0.6 }, concurrency: 4_000 } as const;

type Result = (name: string) => PointResult;
const ratioOf = (result: Result) => result("a").connsPerSec / result("b").connsPerSec;

/** "a / b at so many cores". */
function ratio(id: string, a: DesignName, b: DesignName, cores: number, published: number, more: Partial<Claim> = {}) {
  return {
    id,
    what: `${a} / ${b}, lighttpd, ${cores} cores`,
    source: SOURCE,
    published,
    unit: "×",
    basis: "read",
    points: { a: point(a, cores), b: point(b, cores) },
    value: ratioOf,
    ...more,
  } satisfies Claim;
}

const FEW_CORES =
  "at 2-4 cores ab's finite runs and their SYN back-off, not the server, set the printed rate: " +
  "the paper's own 57k cycles per connection at 2 cores become 200k at 24";
const FAST_FEW = `${FEW_CORES}; Fastsocket and mTCP lose fewer SYNs there`;

const FASTSOCKET_RUN =
  "Fastsocket's own figure has 476k/s on 24 like cores. Its module binds one process to a core and refuses the next " +
  "(fsocket_process_affinity_check): nine of ten lighttpds here had no local listener, or it ran without its library";
/** As it seems to have run there: no process has a local listener, so all of them watch the global one. */
const GLOBAL_LISTENER = { localListen: false } as const;
const LINUX_RUN = "who waits for the listener's lock is woken when it is free, and for that time nobody has it";
/** Figure 4 of the paper: 74.0k and 82.5k/s for the same server on the same Linux. */
const FIGURE_4 = { value: 74 / 82.5, source: "the paper's own figure 4" } as const;
const LAST_BACK_OFFS =
  "at 8 cores the back-offs of the last SYNs set the printed rates: for 3M connections they tell runs of 20.7 s " +
  "(netpopcorn), 26.5 s (its balancer off) and 13.6 s (mtcp), where simulated rates without losses need 13 and 10 s";
const BALANCED_RUN = `${LAST_BACK_OFFS}; ports drawn evenly leave nothing to balance, and what was uneven is not told`;
const AFFINITY_RUN =
  "the VFS locks of 2.6.24 leave it 189k/s at 24 cores, and the back-offs of SYNs that its short queues lose at the " +
  "end of ab's run make less of that here than there";

const rates: readonly Claim[] = [
  ratio("NP1", "netpopcorn", "linux", 24, 8.1),
  ratio("NP1b", "netpopcorn", "linux", 16, 242.9 / 42, { missReason: LINUX_RUN }),
  ratio("NP2", "netpopcorn", "affinity-accept", 24, 1.52, { missReason: AFFINITY_RUN }),
  ratio("NP3a", "netpopcorn", "fastsocket", 24, 5.2, { artefact: FASTSOCKET_RUN }),
  ratio("NP3b", "netpopcorn", "fastsocket", 12, 1.21, { artefact: FASTSOCKET_RUN }),
  ratio("NP3c", "netpopcorn", "fastsocket", 2, 0.43, { artefact: FAST_FEW }),
  ratio("NP4a", "mtcp", "netpopcorn", 16, 1.17),
  ratio("NP4b", "mtcp", "netpopcorn", 20, 1.16),
  ratio("NP4c", "mtcp", "netpopcorn", 24, 1.18),
  ratio("NP4d", "mtcp", "netpopcorn", 8, 1.52, { artefact: LAST_BACK_OFFS }),
  ratio("NP4e", "mtcp", "netpopcorn", 12, 1.5, {
    artefact: "NetPopcorn's own request time at 12 cores, 0.153 ms, implies 196k/s where the rate says 164k/s",
  }),
  ratio("NP4f", "mtcp", "netpopcorn", 2, 3.25, { artefact: FAST_FEW }),
  ratio("NP5", "linux", "netpopcorn", 4, 1.39, {
    artefact: "Linux's own request time at 4 cores, 1.315 ms, implies 23k/s where the rate says 63k/s",
  }),
];

const RESTING_GROUPS =
  "the published policy acts when a kernel has 5,000 connections (LOAD_THRESH), and moves groups without living ones " +
  "only: a backlog of 1,024 keeps the hot kernel below that, and its hot groups never rest. Snap Bean counts SYNs " +
  "less FINs, and so those that it drops, which the policy here does not";

/** The tails of affinity-accept and netpopcorn with flows unevenly spread. */
function tail(id: string, how: string, policy: BalancerPolicyName, more: Partial<Claim> = {}): Claim {
  return {
    id,
    what: `p99 latency affinity-accept / netpopcorn, uneven flows, 24 cores: ${how}`,
    source: "ICDCS 2017, text: up to ten times lower in an imbalanced scenario",
    published: 10,
    unit: "×",
    basis: "recalled",
    points: {
      a: point("affinity-accept", 24, UNEVEN),
      b: point("netpopcorn", 24, { ...UNEVEN, policy }),
    },
    value: (result) => result("a").latencyUs.p99 / result("b").latencyUs.p99,
    holds: (simulated) => simulated > 1,
    shape: "above 1: netpopcorn has the lower tail",
    ...more,
  };
}

const LATENCY =
  "ab's mean across all concurrent requests is the reciprocal of the rate, not a latency; " +
  "mTCP's value at 20 cores is Linux's, digit for digit";

const others: readonly Claim[] = [
  {
    id: "NP6",
    what: "request time mtcp / netpopcorn, 20 cores",
    source: SOURCE,
    published: 8.2,
    unit: "×",
    basis: "read",
    points: { a: point("mtcp", 20, { protocol: "steady" }), b: point("netpopcorn", 20, { protocol: "steady" }) },
    value: (result) => result("a").latencyUs.mean / result("b").latencyUs.mean,
    artefact: LATENCY,
  },
  {
    id: "NP8",
    what: "netpopcorn, balancer on / off, 8 cores",
    source: "ICDCS 2017, text: 113k and 145k",
    published: 1.28,
    unit: "×",
    basis: "read",
    points: { a: point("netpopcorn", 8), b: point("netpopcorn", 8, { policy: "static" }) },
    value: ratioOf,
    artefact: BALANCED_RUN,
  },
  {
    id: "NP9",
    what: "failed connections, worst other / netpopcorn, 24 cores, ab",
    source: "ICDCS 2017, figure 12",
    published: 100,
    unit: "×",
    basis: "recalled",
    points: {
      own: point("netpopcorn", 24),
      linux: point("linux", 24),
      fastsocket: point("fastsocket", 24),
    },
    value: (result) =>
      Math.max(result("linux").failedConnections, result("fastsocket").failedConnections) /
      Math.max(1, result("own").failedConnections),
    holds: (simulated) => simulated >= 100,
    shape: "two orders of magnitude or more",
  },
  {
    id: "NP10a",
    what: "netpopcorn against its worst and next competitors, 24 cores: the lesser of linux and fastsocket",
    source: "ICDCS 2017, abstract: 5 to 8 times",
    published: 5.2,
    unit: "×",
    basis: "read",
    points: {
      own: point("netpopcorn", 24),
      linux: point("linux", 24),
      fastsocket: point("fastsocket", 24, GLOBAL_LISTENER),
    },
    value: (result) =>
      result("own").connsPerSec / Math.max(result("linux").connsPerSec, result("fastsocket").connsPerSec),
    holds: (simulated) => simulated >= 5,
    shape: "at least 5, Fastsocket's processes on its global listener",
  },
  tail("NP10b", "the policy as published", "opportunistic", { missReason: RESTING_GROUPS }),
  tail("NP10c", "the policy angel, which moves groups with living connections", "angel"),
  {
    id: "NP11",
    what: "linux, lighttpd, 24 / 8 cores",
    source: SOURCE,
    published: 30 / 75.9,
    unit: "×",
    basis: "read",
    points: { a: point("linux", 24), b: point("linux", 8) },
    value: ratioOf,
    again: FIGURE_4,
  },
  {
    id: "NP12",
    what: "fastsocket, ten processes per core, 24 / 12 cores",
    source: SOURCE,
    artefact: FASTSOCKET_RUN,
    published: 46.6 / 135.2,
    unit: "×",
    basis: "read",
    points: { a: point("fastsocket", 24), b: point("fastsocket", 12) },
    value: ratioOf,
  },
  {
    id: "NP14",
    what: "fastsocket, its processes on the global listener, 24 / 12 cores",
    source: SOURCE,
    published: 46.6 / 135.2,
    unit: "×",
    basis: "read",
    points: { a: point("fastsocket", 24, GLOBAL_LISTENER), b: point("fastsocket", 12, GLOBAL_LISTENER) },
    value: ratioOf,
    holds: (simulated) => simulated < 0.8,
    shape: "clearly below 1: counter-scaling after one socket",
    missReason: "the herd has its cost at 12 cores already here: it falls from 8 cores on, not from 12",
  },
  {
    id: "NP13",
    what: "affinity-accept, lighttpd, 24 / 8 cores",
    source: SOURCE,
    published: 160.5 / 101.2,
    unit: "×",
    basis: "read",
    points: { a: point("affinity-accept", 24), b: point("affinity-accept", 8) },
    value: ratioOf,
    missReason: AFFINITY_RUN,
  },
];

export const NETPOPCORN_CLAIMS: readonly Claim[] = [...rates, ...others];
