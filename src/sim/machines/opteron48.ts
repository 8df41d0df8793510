/** Affinity-Accept's first machine (EuroSys 2012): 8 x 6 cores Opteron 8431, 82599, about 25 clients. */
import { CARD_82599, constantsOf, LINUX_COSTS, MESSAGE_COSTS, USER_STACK_COSTS } from "./common.ts";
import type { Machine } from "./machine.ts";

/** softirq 69k, read 10k, schedule 16k, accept 7k, writev 12k, poll 9k, shutdown 6k, close 4k; six requests each. */
const TABLE = "EuroSys 2012, table 3 (cycles per request by kernel entry, Affinity-Accept; remembered)";

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
    ["connectionLines", 240, "fitted", `${TABLE}: 67k cycles per request less where packets and process share a core`],
    // The same code takes this machine, with its small caches, several times the cycles of the Xeons.
    ["rxPacketCycles", 12_000, "derived", TABLE],
    ["txPacketCycles", 6000, "derived", TABLE],
    ["segmentCycles", 15_000, "derived", TABLE],
    ["synCycles", 25_000, "derived", TABLE],
    ["childCycles", 35_000, "derived", TABLE],
    ["acceptCycles", 40_000, "derived", TABLE],
    ["recvCycles", 19_000, "derived", `${TABLE}: read and the poll before it`],
    ["sendCycles", 6000, "derived", TABLE],
    ["closeCycles", 50_000, "derived", `${TABLE}: shutdown and close`],
    ["epollWaitCycles", 8000, "derived", TABLE],
    ["contextSwitchCycles", 18_000, "derived", TABLE],
    ["steerSamplePackets", 0, "derived", "EuroSys 2012: the filters are the flow groups', with all designs"],
    ["clientFramesPerSecMax", 0, "prior", "about 25 clients; no cap is seen"],
  ]),
};
