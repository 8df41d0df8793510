/** Affinity-Accept's first machine (EuroSys 2012): 8 x 6 cores Opteron 8431, 82599, about 25 clients. */
import { CARD_82599, constantsOf, LINUX_COSTS, MESSAGE_COSTS, USER_STACK_COSTS } from "./common.ts";
import type { Machine } from "./machine.ts";

export const opteron48: Machine = {
  name: "opteron-48",
  description: "Affinity-Accept's: 8 x 6 cores at 2.4 GHz, 82599 with 64 rings",
  constants: constantsOf(LINUX_COSTS, USER_STACK_COSTS, MESSAGE_COSTS, CARD_82599, [
    ["clockGhz", 2.4, "measured", "EuroSys 2012, section 6"],
    ["sockets", 8, "measured", "EuroSys 2012, section 6"],
    ["coresPerSocket", 6, "measured", "EuroSys 2012, section 6"],
    ["lineLocalCycles", 14, "prior", "L2 (EuroSys 2012, table 1, remembered)"],
    ["lineSameSocketCycles", 81, "prior", "modified line of the same die (SOSP 2013, Opteron, remembered)"],
    ["lineCrossSocketCycles", 460, "prior", "remote L3 (EuroSys 2012, table 1, remembered)"],
    ["lineMemoryCycles", 120, "prior", "local RAM (EuroSys 2012, table 1, remembered)"],
    ["connectionLines", 100, "prior", "taken over from the Xeons"],
    ["clientFramesPerSecMax", 0, "prior", "about 25 clients; no cap is seen"],
  ]),
};
