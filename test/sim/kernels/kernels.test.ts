/**
 * Goal: whatever kernels end, hang, trap and come back, whatever a balancer moves and a network loses, every byte of
 * every connection that no fault has hit arrives once and in order, and nothing leaks. Method: README.md beside this.
 */
import { expect, test } from "vitest";
import { drawRun } from "./plan.ts";
import { runPlan } from "./run.ts";
import { describeSuite } from "./suite.ts";

describeSuite({
  name: "kernels",
  run: async (seed, build, trace) => {
    const { reached, hit, delivered, frames } = await runPlan(drawRun(seed), build, trace);
    return { ...reached, hit, delivered, frames };
  },
  show: drawRun,
  found: [
    {
      seed: 97,
      what: "a SYN that was late when its entry went to a new kernel was answered with a cookie, then reset",
    },
    { seed: 141, what: "a migration was undone towards the kernel whose end undid it" },
    { seed: 330, what: "a kernel that left took received bytes along that the application had not read yet" },
    { seed: 500, what: "the next migration began towards a kernel that was just ending" },
    {
      seed: 588,
      what: "a migration to a kernel that had begun to leave was not undone there: frames stayed laid aside",
    },
    { seed: 291, what: "filters of a kernel that left stayed when the order to drop them came before the news" },
    { seed: 450, what: "a group of a leaving kernel moved, and its connections were not pinned" },
    { seed: 727, what: "a kernel that hung before it was to leave was never found, and took an hour to go" },
    { seed: 1178, what: "the model: a kernel that joins when all others have gone for good finds no listeners" },
    { seed: 1612, what: "the model: with no kernel left, filters stay until the stack is closed" },
    { seed: 1089, what: "angel threw with no kernel up" },
    { seed: 3907, what: "an entry went home to a kernel that still forwarded frames of its group, which had migrated" },
    { seed: 1634, what: "the balancer moved a group while stack.migrate() was moving it" },
    { seed: 2836, what: "a migration that was undone set a filter to a kernel that had just ended" },
  ],
  reached: [
    "ended exit",
    "ended trap",
    "ended hang",
    "ended owner",
    "restarts",
    "hit",
    "delivered",
    "moves",
    "join done",
    "leave done",
    "migrate done",
    "migrated",
    "refused live",
    "tcpRstWithheld",
    "tcpRetransmits",
    "tcpRstReceived",
    "tcpKeepaliveProbes",
    "synCookiesAccepted",
    "udpReceived",
    "fragmentsReassembled",
  ],
});

test("the same seed gives the same frames at the same instants, in both builds", async () => {
  for (const seed of [2, 5, 9]) {
    const first = await runPlan(drawRun(seed), "release");
    expect(await runPlan(drawRun(seed), "release")).toEqual(first);
    expect((await runPlan(drawRun(seed), "debug")).digest).toBe(first.digest);
  }
});
