/** All claims, and those that are left open. */
import { AFFINITY_ACCEPT_CLAIMS } from "./affinityAccept.ts";
import type { Claim, OpenClaim } from "./claim.ts";
import { FASTSOCKET_CLAIMS } from "./fastsocket.ts";
import { MTCP_CLAIMS } from "./mtcp.ts";
import { NETPOPCORN_CLAIMS } from "./netpopcorn.ts";

export const CLAIMS: readonly Claim[] = [
  ...NETPOPCORN_CLAIMS,
  ...FASTSOCKET_CLAIMS,
  ...AFFINITY_ACCEPT_CLAIMS,
  ...MTCP_CLAIMS,
];

export const OPEN_CLAIMS: readonly OpenClaim[] = [
  {
    id: "FS8",
    what: "share of time in the listener look-up, 0.26 % to 24 %",
    source: "ASPLOS 2016, remembered",
    reason: "results do not tell the look-up from the rest of the stack",
  },
  {
    id: "AA7",
    what: "softirq cycles per request, affinity-accept / fine-accept, 0.71",
    source: "EuroSys 2012, remembered",
    reason: "results do not tell soft interrupts from the rest of the stack; AA2 is about both",
  },
  { id: "MT3", what: "mtcp / MegaPipe, 2.75", source: "NSDI 2014", reason: "MegaPipe is no design here" },
  { id: "IX1", what: "IX / mtcp, 1.9", source: "OSDI 2014", reason: "IX is no design here" },
  {
    id: "NG1",
    what: "nginx, reuseport / accept_mutex, 36 cores, 2-3",
    source: "nginx's announcement",
    reason: "the published test says neither machine nor load",
  },
];
