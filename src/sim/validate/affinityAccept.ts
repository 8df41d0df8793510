/** Claims of Affinity-Accept's paper (Pesterev and others, EuroSys 2012): 48 cores AMD, six requests per connection. */
import type { DesignName, PointResult } from "../types.ts";
import type { Claim, PointInput } from "./claim.ts";

/** 1 request, 100 ms, 2 requests, 100 ms, 3 requests. */
const THINK_MS = [100, 0, 100, 0, 0];

/** 279k cycles per request with affinity, less the kernel's part; the futexes of its accept mutex are Apache's. */
const APACHE_CYCLES = 146_000;
/** 300,000 requests: the designs are a quarter apart. */
const DURATION_S = 0.6;

function apache(design: DesignName): PointInput {
  return {
    ...{ design, cores: 48, workload: "web-accept", machine: "opteron-48", procsPerCore: 450, requestsPerConn: 6 },
    ...{ thinkMs: THINK_MS, responseBytes: 700, concurrency: 28_800, backlog: 24_000, appCycles: APACHE_CYCLES },
    durationS: DURATION_S,
  };
}

const lighttpd = (design: DesignName): PointInput => ({
  ...apache(design),
  workload: "web-epoll",
  procsPerCore: 1,
  appCycles: 60_000,
});

type Result = (name: string) => PointResult;
const requestRatio = (result: Result) => result("a").requestsPerSec / result("b").requestsPerSec;
/** Cycles of the stack, with what it waits for, for each request. */
const stackPerRequest = ({ shares, requestsPerSec }: PointResult) =>
  (shares.stack + shares.cacheMiss + shares.lockSpin) / requestsPerSec;

const softirqPerRequest = ({ softirqShare, requestsPerSec }: PointResult) => softirqShare / requestsPerSec;

const source = "EuroSys 2012, abstract";

export const AFFINITY_ACCEPT_CLAIMS: readonly Claim[] = [
  {
    id: "AA7",
    what: "softirq time per request, affinity-accept / fine-accept",
    source: "EuroSys 2012, remembered: 69k / 97k cycles",
    published: 0.71,
    unit: "×",
    basis: "recalled",
    points: { a: apache("affinity-accept"), b: apache("fine-accept") },
    value: (result) => softirqPerRequest(result("a")) / softirqPerRequest(result("b")),
    holds: (simulated) => simulated > 0.4 && simulated < 0.95,
    shape: "clearly below 1",
  },
  {
    id: "AA1",
    what: "affinity-accept / fine-accept, Apache, 48 cores, requests/s",
    source,
    published: 1.24,
    unit: "×",
    basis: "read",
    points: { a: apache("affinity-accept"), b: apache("fine-accept") },
    value: requestRatio,
  },
  {
    id: "AA2",
    what: "time in the stack per request, affinity-accept / fine-accept",
    source,
    published: 0.7,
    unit: "×",
    basis: "read",
    points: { a: apache("affinity-accept"), b: apache("fine-accept") },
    value: (result) => stackPerRequest(result("a")) / stackPerRequest(result("b")),
  },
  {
    id: "AA5",
    what: "affinity-accept / fine-accept, lighttpd, 48 cores, requests/s",
    source: "EuroSys 2012, remembered: 1.17",
    published: 1.17,
    unit: "×",
    basis: "recalled",
    points: { a: lighttpd("affinity-accept"), b: lighttpd("fine-accept") },
    value: requestRatio,
    holds: (simulated) => simulated > 1,
    shape: "above 1",
  },
];
