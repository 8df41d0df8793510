/** All claims, and those that are left open. */
import { AFFINITY_ACCEPT_CLAIMS } from "./affinityAccept.ts";
import type { Claim, OpenClaim } from "./claim.ts";
import { FASTSOCKET_CLAIMS } from "./fastsocket.ts";
import { APART_CLAIMS } from "./heldOut.ts";
import { MEGAPIPE_CLAIMS } from "./megapipe.ts";
import { MTCP_CLAIMS } from "./mtcp.ts";
import { NETPOPCORN_CLAIMS } from "./netpopcorn.ts";

export const CLAIMS: readonly Claim[] = [
  ...NETPOPCORN_CLAIMS,
  ...FASTSOCKET_CLAIMS,
  ...AFFINITY_ACCEPT_CLAIMS,
  ...MTCP_CLAIMS,
  ...APART_CLAIMS,
  ...MEGAPIPE_CLAIMS,
];

export const OPEN_CLAIMS: readonly OpenClaim[] = [
  { id: "IX1", what: "IX / mtcp, 1.9", source: "OSDI 2014", reason: "IX is no design here" },
  {
    id: "NG1",
    what: "nginx, reuseport / accept_mutex, 36 cores, 2-3",
    source: "nginx's announcement",
    reason: "the published test says neither machine nor load",
  },
];
