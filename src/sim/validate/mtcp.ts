/** Claims of mTCP's paper (Jeong and others, NSDI 2014): 64-byte messages, one to a connection, eight cores. */
import type { DesignName, PointResult } from "../types.ts";
import type { Claim, PointInput } from "./claim.ts";

const FIGURE = "NSDI 2014, figures on the project's page";

function echo(design: DesignName, cores: number, more: Partial<PointInput> = {}): PointInput {
  return { design, cores, workload: "rpc", machine: "e5-2690", procsPerCore: 1, timeWaitS: 0, ...more };
}

/** Both ends run the same stack: mTCP's waits for its time-out of 100 us, Linux takes 6 us (Arrakis, table 1, idle). */
const MTCP_END_US = 100;
const LINUX_END_US = 6;

function pingPong(design: DesignName, clientUs: number): PointInput {
  return echo(design, 1, { concurrency: 1, requestsPerConn: 1000, clientUs });
}

/** Files of a few kilobytes; lighttpd's own work as in the NetPopcorn test. */
const lighttpd = (design: DesignName): PointInput => ({ ...echo(design, 8), workload: "web-epoll", procsPerCore: 1 });

type Result = (name: string) => PointResult;
const ratioOf = (result: Result) => result("a").connsPerSec / result("b").connsPerSec;

function ratio(id: string, what: string, a: PointInput, b: PointInput, published: number, more: Partial<Claim> = {}) {
  return {
    ...{ id, what, source: FIGURE, published, unit: "×", basis: "pixels", points: { a, b }, value: ratioOf },
    ...more,
  } as Claim;
}

/** What IX's authors measured of Linux, 188k/s on eight cores, is SO_REUSEPORT (heldOut.ts): no word on this. */
const SHARED_LISTENER =
  "one, two and four threads at one listener serve about what they do there; eight fall there and not here: of the " +
  "15.6 µs from one connection to the next in the figure, more than half are not known to the model";

export const MTCP_CLAIMS: readonly Claim[] = [
  ratio("MT1", "mtcp / linux, shared listener, 8 cores", echo("mtcp", 8), echo("linux", 8), 23.7, {
    missReason: SHARED_LISTENER,
  }),
  ratio("MT2", "mtcp / linux-reuseport, 8 cores", echo("mtcp", 8), echo("linux-reuseport", 8), 5, {
    source: "NSDI 2014, abstract and slides",
    basis: "read",
  }),
  ratio("MT4", "mtcp / linux, one core", echo("mtcp", 1), echo("linux", 1), 3.2),
  ratio("MT6", "linux, shared listener, 8 / 1 core", echo("linux", 8), echo("linux", 1), 0.65, {
    missReason: SHARED_LISTENER,
  }),
  ratio("MT6b", "linux, shared listener, 2 / 1 core", echo("linux", 2), echo("linux", 1), 1.45),
  ratio("MT7", "linux-reuseport, 8 / 1 core", echo("linux-reuseport", 8), echo("linux-reuseport", 1), 3),
  ratio("MT10", "mtcp, 8 / 1 core", echo("mtcp", 8), echo("mtcp", 1), 4.6, {
    artefact: "the figure's dip from 1 to 2 to 4 cores is not seen by others, who measured it linear",
  }),
  ratio("MT8a", "lighttpd, mtcp / linux, 8 cores", lighttpd("mtcp"), lighttpd("linux"), 3.2),
  ratio("MT8b", "lighttpd, mtcp / linux-reuseport, 8 cores", lighttpd("mtcp"), lighttpd("linux-reuseport"), 2.2),
  {
    id: "MT9",
    what: "latency of one idle connection, mtcp / linux",
    source: "IX's raw data: 96-127 against 22 µs one way",
    published: 5,
    unit: "×",
    basis: "read",
    points: {
      a: pingPong("mtcp", MTCP_END_US),
      b: pingPong("linux", LINUX_END_US),
    },
    value: (result) => result("a").latencyUs.p50 / result("b").latencyUs.p50,
  },
];
