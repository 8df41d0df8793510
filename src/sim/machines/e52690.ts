/** mTCP's testbed (NSDI 2014): one 8-core Xeon E5-2690, X520-DA2 (82599), up to five clients. */
import { CARD_82599, constantsOf, LINUX_COSTS, MESSAGE_COSTS, USER_STACK_COSTS } from "./common.ts";
import { IVY_BRIDGE } from "./e52695v2.ts";
import type { Machine } from "./machine.ts";

export const e52690: Machine = {
  name: "e5-2690",
  description: "mTCP's: 8 cores at 2.9 GHz in one socket, 82599",
  constants: constantsOf(LINUX_COSTS, USER_STACK_COSTS, MESSAGE_COSTS, CARD_82599, IVY_BRIDGE, [
    ["clockGhz", 2.9, "measured", "mTCP, section 5"],
    ["sockets", 1, "measured", "mTCP, section 5"],
    ["coresPerSocket", 8, "measured", "mTCP, section 5"],
    ["clientFramesPerSecMax", 0, "prior", "up to five clients; no cap is seen"],
  ]),
};
