/** Fastsocket's testbed (ASPLOS 2016): 2 x 12 cores Xeon E5-2697 v2, dual-port 82599 on all three hosts. */
import { CARD_82599, constantsOf, LINUX_COSTS, MESSAGE_COSTS, USER_STACK_COSTS } from "./common.ts";
import { IVY_BRIDGE } from "./e52695v2.ts";
import type { Machine } from "./machine.ts";

export const e52697v2: Machine = {
  name: "e5-2697v2",
  description: "Fastsocket's: 2 x 12 cores at 2.7 GHz, 82599 with two ports",
  constants: constantsOf(LINUX_COSTS, USER_STACK_COSTS, MESSAGE_COSTS, CARD_82599, IVY_BRIDGE, [
    ["clockGhz", 2.7, "measured", "ASPLOS 2016, section 4.1"],
    ["sockets", 2, "measured", "ASPLOS 2016, section 4.1"],
    ["coresPerSocket", 12, "measured", "ASPLOS 2016, section 4.1"],
    ["rssQueues", 32, "derived", "two ports of 16 RSS queues each"],
    ["steerSamplePackets", 0, "measured", "ASPLOS 2016, section 4: RSS, unless Flow Director is named"],
    ["linkGbps", 20, "measured", "two ports"],
    ["nicPacketsPerSec", 29.76e6, "derived", "two ports"],
    ["interruptUs", 333, "measured", "Fastsocket's scripts: at most 3,000 interrupts per second and queue"],
    ["clientFramesPerSecMax", 0, "measured", "two hosts like the server generate the load: no cap of theirs is seen"],
  ]),
};
