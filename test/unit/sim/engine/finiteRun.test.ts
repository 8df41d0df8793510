import { describe, expect, test } from "vitest";
import { type FiniteClients, FiniteRun } from "../../../../src/sim/engine/finiteRun.ts";
import { Histogram } from "../../../../src/sim/engine/statistics.ts";

const WINDOW_NS = 10e6;

/** Clients of a server that completes `perWindow` connections, and fails as many as `failPerWindow`, in a window. */
class SteadyClients implements FiniteClients {
  readonly concurrency = 100;
  readonly latency = new Histogram();
  inFlight = 100;
  left = 1_000_000;
  completed = 0;
  completedEver = 0;
  failed = 0;
  requests = 0;

  skip(count: number): void {
    this.left -= count;
  }

  work(perWindow: number, failPerWindow: number, latencyNs: number): void {
    const done = Math.min(perWindow, this.left);
    const lost = Math.min(failPerWindow, this.left - done);
    this.left -= done + lost;
    this.completed += done;
    this.completedEver += done;
    this.requests += done;
    this.failed += lost;
    for (let i = 0; i < done; i++) this.latency.add(latencyNs);
  }
}

/** @returns seconds that the run seems to take. */
function play(clients: SteadyClients, perWindow: number, failPerWindow: number): number {
  const run = new FiniteRun(clients);
  let nowNs = 0;
  while (clients.left > 0) {
    // The beginning is slow, the middle is not.
    clients.work(perWindow, failPerWindow, nowNs < 100e6 ? 9e6 : 1e6);
    nowNs += WINDOW_NS;
    if (run.skippedNs === 0) run.look(nowNs, WINDOW_NS, 0);
  }
  expect(nowNs).toBeLessThan(2e9);
  return (nowNs + run.skippedNs) / 1e9;
}

describe("FiniteRun", () => {
  test("the run takes as long and counts as many as if all of it were simulated", () => {
    const clients = new SteadyClients();
    const seconds = play(clients, 990, 10);
    expect(seconds).toBeCloseTo(10, 1);
    expect(clients.completed + clients.failed).toBe(1_000_000);
    expect(clients.completedEver).toBe(clients.completed);
    expect(clients.requests).toBe(clients.completed);
    expect(clients.failed).toBeGreaterThan(9990);
    expect(clients.failed).toBeLessThan(10_010);
    // Ten windows of a thousand were slow at the beginning: 1 % of all, not more.
    expect(clients.latency.count).toBeCloseTo(clients.completed, -2);
    expect(clients.latency.quantileNs(0.985)).toBeLessThan(1.2e6);
    expect(clients.latency.quantileNs(0.995)).toBeGreaterThan(8e6);
  });

  test("nothing is left out of a short run, nor where nothing completes", () => {
    const short = new SteadyClients();
    short.left = 60_000;
    expect(play(short, 1000, 0)).toBeCloseTo(0.6, 6);
    const dead = new SteadyClients();
    const run = new FiniteRun(dead);
    for (let ns = WINDOW_NS; ns < 5e9; ns += WINDOW_NS) if (run.skippedNs === 0) run.look(ns, WINDOW_NS, 0);
    expect(dead.left).toBe(1_000_000);
    expect(dead.completed).toBe(0);
  });

  test("a queue that fills up is no steady middle, however steady the rate", () => {
    const clients = new SteadyClients();
    const run = new FiniteRun(clients);
    for (let ns = WINDOW_NS; ns < 5e9; ns += WINDOW_NS) {
      clients.work(1000, 0, 1e6);
      clients.inFlight += 50;
      run.look(ns, WINDOW_NS, 0);
    }
    expect(run.skippedNs).toBe(0);
    for (let ns = 5e9; run.skippedNs === 0 && clients.left > 0; ns += WINDOW_NS) {
      clients.work(1000, 0, 1e6);
      run.look(ns, WINDOW_NS, 0);
    }
    expect(run.skippedNs).toBeGreaterThan(1e9);
  });

  test("while SYNs are lost, their back-offs come round first", () => {
    const clients = new SteadyClients();
    clients.left = 10_000_000;
    const run = new FiniteRun(clients);
    for (let ns = WINDOW_NS; ns <= 7e9; ns += WINDOW_NS) {
      clients.work(1000, 0, 1e6);
      run.look(ns, WINDOW_NS, ns / WINDOW_NS);
    }
    expect(run.skippedNs).toBe(0);
    // Nothing has been lost for a while: a short span does.
    for (let ns = 7e9; ns <= 10e9; ns += WINDOW_NS) {
      clients.work(1000, 0, 1e6);
      if (run.skippedNs === 0) run.look(ns, WINDOW_NS, 700);
    }
    expect(run.skippedNs).toBeGreaterThan(1e9);
  });
});
