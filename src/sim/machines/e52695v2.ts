/** NetPopcorn's testbed (ICDCS 2017): 2 x 12 cores Xeon E5-2695 v2, 82599, three 8-core AMD FX-8350 as clients. */
import { CARD_82599, constantsOf, type Entry, LINUX_COSTS, MESSAGE_COSTS, USER_STACK_COSTS } from "./common.ts";
import type { Machine } from "./machine.ts";

/** Ivy Bridge EP, in cycles: what the two E5 v2 machines share. */
export const IVY_BRIDGE: readonly Entry[] = [
  ["lineLocalCycles", 12, "prior", "a line in the own L2"],
  ["lineSameSocketCycles", 100, "prior", "dirty in a neighbour's cache: 109 (Xeon, SOSP 2013), 112 (ccbench sample)"],
  ["lineCrossSocketCycles", 280, "prior", "dirty in the other socket: 289 at one hop (Xeon, SOSP 2013)"],
  ["lineMemoryCycles", 200, "prior", "local DRAM"],
  ["connectionLines", 165, "fitted", "the SO_REUSEPORT curves of Fastsocket's (24 cores) and mTCP's (8 cores) figures"],
];

export const e52695v2: Machine = {
  name: "e5-2695v2",
  description: "NetPopcorn's: 2 x 12 cores at 2.4 GHz, 82599, three clients",
  constants: constantsOf(LINUX_COSTS, USER_STACK_COSTS, MESSAGE_COSTS, CARD_82599, IVY_BRIDGE, [
    ["clockGhz", 2.4, "measured", "ICDCS 2017, section V"],
    ["sockets", 2, "measured", "ICDCS 2017, section V"],
    ["coresPerSocket", 12, "measured", "ICDCS 2017, section V; Hyper-Threading off"],
    [
      "clientFramesPerSecMax",
      2_300_000,
      "fitted",
      "three clients with ten ApacheBench each: mTCP's plateau at 16-24 cores, 8 frames each; for all designs",
    ],
  ]),
};
