/** A machine of today, for questions beyond the papers: 2 x 64 cores, 100GbE, as many queues as cores. */
import { CARD_82599, constantsOf, LINUX_COSTS, MESSAGE_COSTS, USER_STACK_COSTS } from "./common.ts";
import type { Machine } from "./machine.ts";

export const modern128: Machine = {
  name: "modern-128",
  description: "2 x 64 cores at 2.6 GHz, 100GbE, 128 queues",
  constants: constantsOf(LINUX_COSTS, USER_STACK_COSTS, MESSAGE_COSTS, CARD_82599, [
    ["clockGhz", 2.6, "prior", "typical all-core clock of a large server processor"],
    ["sockets", 2, "prior", "two sockets"],
    ["coresPerSocket", 64, "prior", "64 cores each"],
    ["lineLocalCycles", 14, "prior", "L2"],
    ["lineSameSocketCycles", 160, "prior", "mesh or chiplets: between the 60 ns of a ring and the 100 ns across dies"],
    ["lineCrossSocketCycles", 380, "prior", "about 145 ns"],
    ["lineMemoryCycles", 280, "prior", "about 105 ns"],
    ["connectionLines", 165, "prior", "taken over from the Xeons of 2013"],
    ["syscallCycles", 600, "prior", "crossing with the mitigations of 2018"],
    ["rssQueues", 128, "prior", "cards of 100 Gbit/s have at least as many queues as cores"],
    ["nicRings", 256, "prior", "the same"],
    ["nicRingSlots", 1024, "prior", "default ring length of current drivers"],
    ["steerSamplePackets", 0, "prior", "drivers of today leave this to aRFS, which is off unless it is asked for"],
    ["interruptUs", 20, "prior", "adaptive moderation"],
    ["linkGbps", 100, "prior", "100GBASE"],
    ["nicPacketsPerSec", 150e6, "prior", "what cards of 100 Gbit/s are sold with"],
    ["clientFramesPerSecMax", 0, "prior", "as many clients as it takes"],
  ]),
};
