/**
 * Published curves that are judged apart. Held out (HX, IX's echo test): no constant was fitted to them and no
 * mechanism of the engine chosen after a look at them; only which Linux they are about was told by the authors'
 * sources later. Checked, not held out (HF, HA, HN): HAProxy's cost comes from figure 4b at one core (HF3 and HF6 begin
 * there); back ends close first and accept4 has three parts since these rows were looked at; and HN asks for steady
 * rates, and for processes that poll, since other conditions came out otherwise. The application's cost is that of the
 * lowest core count of one design, as everywhere.
 */
import type { DesignName, PointResult } from "../types.ts";
import type { Claim, PointInput } from "./claim.ts";
import { haproxy as proxy } from "./fastsocket.ts";

type Result = (name: string) => PointResult;
const connections = (result: Result) => result("a").connsPerSec / result("b").connsPerSec;
const requests = (result: Result) => result("a").requestsPerSec / result("b").requestsPerSec;

type Row = Omit<Claim, "heldOut" | "checked" | "unit" | "value" | "points"> &
  Partial<Pick<Claim, "unit" | "value">> & { readonly a: PointInput; readonly b?: PointInput };

function apart({ a, b, ...row }: Row): Claim {
  return { unit: "×", value: connections, ...row, points: b === undefined ? { a } : { a, b } };
}

const held = (row: Row): Claim => ({ ...apart(row), heldOut: true });
const checked = (row: Row): Claim => ({ ...apart(row), checked: true });

const PORT_LIST =
  "the lock of the port's list, with which SO_REUSEPORT's nginx comes nearer to its figures (FS4, FS5), takes more " +
  "from its HAProxy than is published";

const DCACHE =
  "dcache_lock, at which its cores spin for 68 % of their time at 24 cores here, is held as long as nginx's fall " +
  "tells, and taken for two sockets a request; why that falls further there is not known";

const HAPROXY = { source: "ASPLOS 2016, figure 4b", basis: "pixels" } as const;

const proxies: readonly Claim[] = [
  checked({
    ...{ id: "HF1", what: "fastsocket / linux 2.6.32, HAProxy, 24 cores", published: 6.21, basis: "read" },
    ...{ source: "ASPLOS 2016, abstract", a: proxy("fastsocket", 24), b: proxy("linux", 24) },
  }),
  checked({
    ...{ ...HAPROXY, id: "HF2", what: "fastsocket / linux-reuseport 3.13, HAProxy, 24 cores", published: 441 / 302 },
    ...{ a: proxy("fastsocket", 24), b: proxy("linux-reuseport", 24), missReason: PORT_LIST },
  }),
  checked({
    ...{ ...HAPROXY, id: "HF3", what: "fastsocket, HAProxy, 24 / 1 core", published: 441 / 23 },
    ...{ a: proxy("fastsocket", 24), b: proxy("fastsocket", 1) },
  }),
  checked({
    ...{ ...HAPROXY, id: "HF4", what: "linux-reuseport 3.13, HAProxy, 24 / 8 cores", published: 302 / 140 },
    ...{ a: proxy("linux-reuseport", 24), b: proxy("linux-reuseport", 8) },
  }),
  checked({
    ...{ ...HAPROXY, id: "HF5", what: "linux 2.6.32, HAProxy, 24 / 12 cores", published: 71 / 164 },
    ...{ a: proxy("linux", 24), b: proxy("linux", 12), missReason: DCACHE },
  }),
  checked({
    ...{ ...HAPROXY, id: "HF6", what: "linux 2.6.32, HAProxy, 12 / 1 core", published: 164 / 23 },
    ...{ a: proxy("linux", 12), b: proxy("linux", 1) },
  }),
];

/** 48 cores, blocking processes; as in affinityAccept.ts. */
function apache48(design: DesignName): PointInput {
  return {
    ...{ design, cores: 48, workload: "web-accept", machine: "opteron-48", procsPerCore: 450, requestsPerConn: 6 },
    ...{ thinkMs: [100, 0, 100, 0, 0], responseBytes: 700, concurrency: 28_800, backlog: 24_000 },
    ...{ appCycles: 146_000, durationS: 0.6 },
  };
}

/** One listener loses SYNs, which come back after 1, 3, 7 s: less than a second shows a lull between two waves. */
const stockApache48 = (): PointInput => ({ ...apache48("linux"), durationS: 4 });

const STOCK_LISTENER =
  "cores spin there for 14 % of their time and idle here: who waits for the listener sleeps in the model at once; " +
  "the published rates are of a kernel that lock_stat slows";
const TABLE_2 = {
  source: "EuroSys 2012, table 2 (with lock_stat)",
  basis: "read",
  value: requests,
  missReason: STOCK_LISTENER,
} as const;

const stockAccept: readonly Claim[] = [
  checked({
    ...{ ...TABLE_2, id: "HA1", what: "affinity-accept / linux, Apache, 48 cores, requests/s", published: 7000 / 1700 },
    ...{ a: apache48("affinity-accept"), b: stockApache48() },
  }),
  checked({
    ...{ ...TABLE_2, id: "HA2", what: "fine-accept / linux, Apache, 48 cores, requests/s", published: 5700 / 1700 },
    ...{ a: apache48("fine-accept"), b: stockApache48() },
  }),
  checked({
    ...{ ...TABLE_2, id: "HA3", what: "linux, Apache, 48 cores: cores' time that is idle", published: 54, unit: "%" },
    ...{ a: stockApache48(), value: (result: Result) => 100 * result("a").shares.idle },
  }),
];

/**
 * Apache by NetPopcorn's authors: ten processes on each core, 30,000 connections in flight; 10.7k/s on 2 kernels.
 * Steady rates against what ApacheBench printed of finite runs. Its processes are told to share a socket, not how they
 * wait for it. The published profile tells: 25 % of Apache's time goes into accepting, which at 13.9k/s on 8 cores and
 * 16.2k/s on 24 is 345k and 890k cycles for a connection: some 4k for each of the 80, of the 240 processes. So each
 * connection wakes all of them, as where Apache polls its listeners before it accepts (several of them, or the event
 * MPM). A blocking accept would wake one, and HA's Apache blocks. As the conditions come from the result, these rows
 * can only miss. There is no HN3: a number that no row ever had.
 */
function apacheProcesses(design: DesignName, cores: number): PointInput {
  const test = { workload: "web-epoll", machine: "e5-2695v2", procsPerCore: 10, appCycles: 420_000 } as const;
  return { design, cores, ...test, acceptsPerEvent: 1, durationS: 0.3 };
}

const POLLS = "that its processes poll the listener was inferred from the published profile";
const FIGURE_8 = { source: "ICDCS 2017, figure 8, vector graphics", basis: "read", inferred: POLLS } as const;
const PORTED =
  "the published Affinity-Accept behaves like Linux here, and not with lighttpd: whether its port to 2.6.24 wakes " +
  "only local processes that poll is not told";
const STEADY_RUN =
  "published runs last 216 s on 8 cores and 185 s on 24, of which back-offs of SYNs are a part: 3M connections at " +
  "the simulated rates take 142 and 153 s";

const blockingAccept: readonly Claim[] = [
  checked({
    ...{ ...FIGURE_8, id: "HN1", what: "netpopcorn / linux, Apache, 24 cores", published: 109 / 16.2 },
    ...{ a: apacheProcesses("netpopcorn", 24), b: apacheProcesses("linux", 24) },
  }),
  checked({
    ...{ ...FIGURE_8, id: "HN2", what: "netpopcorn / affinity-accept, Apache, 24 cores", published: 109 / 22 },
    ...{ a: apacheProcesses("netpopcorn", 24), b: apacheProcesses("affinity-accept", 24), missReason: PORTED },
  }),
  checked({
    ...{ ...FIGURE_8, id: "HN4", what: "linux, Apache, 24 / 8 cores", published: 16.2 / 13.9 },
    ...{ a: apacheProcesses("linux", 24), b: apacheProcesses("linux", 8), missReason: STEADY_RUN },
  }),
];

/**
 * IX's echo test: n messages to a connection, 64 bytes or more; the clients reset, which leaves no TIME-WAIT. The Linux
 * of it sets SO_REUSEPORT (bench/server_common.c of the authors' sources). Two hardware threads on each of its cores
 * are not modelled, so that only ratios are compared.
 */
function echo(design: DesignName, more: Partial<PointInput>): PointInput {
  const os = design === "mtcp" ? {} : ({ os: "3.13" } as const);
  const test = { workload: "rpc", machine: "e5-2665", procsPerCore: 1, timeWaitS: 0, durationS: 0.05 } as const;
  return { design, cores: 8, ...test, ...os, ...more };
}

const IX_DATA = { source: "OSDI 2014, the authors' raw data, 10GbE", basis: "read", value: requests } as const;
const THREADS = "two hardware threads share a core there, which is not modelled";
/** bench/server_common.c of the authors' sources. */
const LIBEVENT =
  "its Linux server is libevent's, at 46k cycles a connection on one core where epoll alone takes 30k here; and " +
  THREADS;
/** Its frames overflow rings, and SYNs that are lost come back after a second: as stockApache48. */
const sized = (bytes: number) => ({ messageBytes: bytes, responseBytes: bytes, durationS: 3 });

const messages: readonly Claim[] = [
  held({
    ...{ ...IX_DATA, id: "HX1", what: "mtcp, messages/s, 8 to a connection / 1", published: 3936 / 1484 },
    ...{ a: echo("mtcp", { requestsPerConn: 8 }), b: echo("mtcp", {}) },
  }),
  held({
    ...{ ...IX_DATA, id: "HX2", what: "mtcp, messages/s, 128 to a connection / 1", published: 4507 / 1484 },
    ...{ a: echo("mtcp", { requestsPerConn: 128 }), b: echo("mtcp", {}), missReason: THREADS },
  }),
  held({
    ...{ ...IX_DATA, id: "HX3", what: "linux-reuseport, messages/s, 128 to a connection / 1", published: 912 / 188 },
    ...{ a: echo("linux-reuseport", { requestsPerConn: 128 }), b: echo("linux-reuseport", {}) },
  }),
  held({
    ...{
      ...IX_DATA,
      id: "HX4",
      what: "mtcp / linux-reuseport, messages/s, 128 to a connection",
      published: 4507 / 912,
    },
    ...{ a: echo("mtcp", { requestsPerConn: 128 }), b: echo("linux-reuseport", { requestsPerConn: 128 }) },
  }),
  held({
    ...{
      ...IX_DATA,
      id: "HX5",
      what: "mtcp, 8192-byte / 64-byte messages, one to a connection",
      published: 112 / 1484,
    },
    ...{ a: echo("mtcp", sized(8192)), b: echo("mtcp", {}) },
  }),
  held({
    ...{
      ...IX_DATA,
      id: "HX6",
      what: "linux-reuseport, 8192-byte / 64-byte messages, one to a connection",
      published: 87.2 / 188,
    },
    ...{ a: echo("linux-reuseport", sized(8192)), b: echo("linux-reuseport", {}) },
  }),
  held({
    ...{ ...IX_DATA, id: "HX7", what: "mtcp, 64 bytes, 4 / 1 cores", published: 1036 / 266.5, value: connections },
    ...{ a: echo("mtcp", { cores: 4 }), b: echo("mtcp", { cores: 1 }) },
  }),
  held({
    ...{ ...IX_DATA, id: "HX8", what: "linux-reuseport, 64 bytes, 8 / 1 cores", published: 188 / 52.35 },
    ...{ a: echo("linux-reuseport", {}), b: echo("linux-reuseport", { cores: 1 }), value: connections },
  }),
  held({
    ...{ ...IX_DATA, id: "HX9", what: "mtcp / linux-reuseport, 64 bytes, 8 cores", published: 1484 / 188 },
    ...{ a: echo("mtcp", {}), b: echo("linux-reuseport", {}), value: connections, missReason: LIBEVENT },
  }),
];

export const APART_CLAIMS: readonly Claim[] = [...proxies, ...stockAccept, ...blockingAccept, ...messages];
