/** Claims of Fastsocket's paper (Lin and others, ASPLOS 2016): nginx, one pinned worker on each core, 64-byte file. */
import type { DesignName, PointResult } from "../types.ts";
import type { Claim, PointInput } from "./claim.ts";

const FIGURE = "ASPLOS 2016, figure 4, and the project's README";
/** nginx at 23k connections/s on one core of 2.7 GHz, less what the stack takes there. */
const APP_CYCLES = 89_000;

/** "Different IPs, same port" for the base kernel; how many is not told. */
const BASE_ADDRESSES = 8;

function point(design: DesignName, cores: number, more: Partial<PointInput> = {}): PointInput {
  return {
    ...{ design, cores, workload: "web-epoll", machine: "e5-2697v2", procsPerCore: 1, appCycles: APP_CYCLES },
    // multi_accept off, the file open already.
    ...{ acceptsPerEvent: 1, fileOpensPerRequest: 0, listenAddresses: design === "linux" ? BASE_ADDRESSES : 1 },
    ...more,
  };
}

type Result = (name: string) => PointResult;
const ratioOf = (result: Result) => result("a").connsPerSec / result("b").connsPerSec;

function ratio(id: string, what: string, a: PointInput, b: PointInput, published: number, more: Partial<Claim> = {}) {
  return {
    ...{ id, what, source: FIGURE, published, unit: "×", basis: "pixels", points: { a, b }, value: ratioOf },
    ...more,
  } as Claim;
}

/** HAProxy before a back end that answers 64 bytes, one pinned worker on each core, 500 connections in flight each. */
export function haproxy(design: DesignName, cores: number): PointInput {
  const test = { workload: "proxy", machine: "e5-2697v2", procsPerCore: 1, durationS: 0.1 } as const;
  return { design, cores, ...test, listenAddresses: design === "linux" ? BASE_ADDRESSES : 1 };
}

export const FASTSOCKET_CLAIMS: readonly Claim[] = [
  ratio("FS1", "fastsocket, nginx, 24 / 1 core", point("fastsocket", 24), point("fastsocket", 1), 20.4, {
    basis: "read",
    source: "ASPLOS 2016, abstract",
  }),
  ratio("FS2", "fastsocket / linux 2.6.32, nginx, 24 cores", point("fastsocket", 24), point("linux", 24), 2.67),
  ratio("FS4", "fastsocket / linux-reuseport 3.13, nginx, 24 cores", ...reuseportPair(24), 475 / 284),
  ratio("FS5", "linux-reuseport 3.13, 24 / 1 core", point("linux-reuseport", 24), point("linux-reuseport", 1), 12, {
    basis: "read",
    source: "ASPLOS 2016, section 4",
  }),
  ratio("FS6a", "linux 2.6.32, nginx, 24 / 12 cores", point("linux", 24), point("linux", 12), 178 / 222),
  ratio("FS6b", "linux 2.6.32, nginx, 12 / 1 core", point("linux", 12), point("linux", 1), 222 / 23),
  // There is no FS6c: it was HF5 (heldOut.ts) with a value that was remembered, 0.8, where the figure has 0.43.
  ratio("FS7a", "linux / fastsocket, one core", point("linux", 1), point("fastsocket", 1), 1, { basis: "read" }),
  ratio("FS7b", "linux-reuseport / fastsocket, one core", point("linux-reuseport", 1), point("fastsocket", 1), 1, {
    basis: "read",
  }),
  ratio("FS11", "fastsocket, nginx, 12 / 1 core", point("fastsocket", 12), point("fastsocket", 1), 272 / 23.4),
  {
    id: "FS8",
    what: "share of time in the listener look-up, linux-reuseport 3.13, 24 cores",
    source: "ASPLOS 2016, remembered: 0.26 % on one core, 24 % on 24",
    published: 24,
    unit: "%",
    basis: "recalled",
    points: { a: point("linux-reuseport", 24) },
    value: (result) => 100 * result("a").lookUpShare,
    holds: (simulated) => simulated > 12 && simulated < 48,
    shape: "within a factor of two",
  },
  {
    id: "FS9",
    what: "packets that arrive on their process's core, proxy, plain RSS, 16 cores",
    source: "ASPLOS 2016, remembered: 1 of 16",
    published: 6.2,
    unit: "%",
    basis: "recalled",
    points: { a: haproxy("linux-reuseport", 16) },
    value: (result) => 100 * result("a").localPacketShare,
    // A proxy's passive connections are local with a listener per process; only the active ones fall where they may.
    holds: (simulated) => simulated < 60,
    shape: "most packets of active connections arrive elsewhere",
  },
];

function reuseportPair(cores: number): [PointInput, PointInput] {
  return [point("fastsocket", cores), point("linux-reuseport", cores)];
}
