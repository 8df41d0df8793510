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
  found: [],
  reached: [
    "ended exit",
    "ended trap",
    "ended hang",
    "restarts",
    "hit",
    "delivered",
    "moves",
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
