import { describe, expect, test } from "vitest";
import { Affinity } from "../../../../src/sim/designs/affinity.ts";
import { ActorHeap } from "../../../../src/sim/engine/actorHeap.ts";
import { APP, CoreAccounts, LOCK_SPIN } from "../../../../src/sim/engine/core.ts";
import { FrameQueue } from "../../../../src/sim/engine/frameQueue.ts";
import type { Listener } from "../../../../src/sim/engine/process.ts";
import { Histogram, relativeHalfWidth, WarmUp } from "../../../../src/sim/engine/statistics.ts";
import { ThinkTimes } from "../../../../src/sim/engine/thinkTimes.ts";
import { Steering, wireBytes } from "../../../../src/sim/engine/wire.ts";
import { Prng } from "../../../../src/sim/prng.ts";
import { SHARES } from "../../../../src/sim/types.ts";

describe("ActorHeap", () => {
  test("the first in time, then by number, as a sorted list would say", () => {
    const heap = new ActorHeap(9);
    const times = new Array<number>(9).fill(Number.POSITIVE_INFINITY);
    const random = new Prng(7);
    for (let i = 0; i < 5000; i++) {
      const actor = random.below(9);
      const time = random.chance(100_000) ? Number.POSITIVE_INFINITY : random.below(20);
      if (random.chance(500_000)) {
        heap.set(actor, time);
        times[actor] = time;
      } else {
        heap.atLatest(actor, time);
        times[actor] = Math.min(times[actor] as number, time);
      }
      const first = Math.min(...times);
      expect(heap.firstNs).toBe(first);
      expect(heap.first).toBe(times.indexOf(first));
    }
  });
});

/** A record of `bytes` frame bytes, each word its index plus `tag`. */
function record(bytes: number, tag: number): Int32Array {
  const words = new Int32Array(512).map((_, i) => i + tag);
  words[0] = bytes;
  return words;
}

describe("FrameQueue", () => {
  test("first in, first out, through growth and sliding, with lengths as they come", () => {
    const queue = new FrameQueue();
    const out = new FrameQueue();
    const random = new Prng(3);
    const expected: number[] = [];
    let next = 0;
    for (let i = 0; i < 3000; i++) {
      if (random.chance(530_000)) {
        queue.push(record(14 + random.below(1500), next), 0, next, next & 0xffff);
        expected.push(next++);
      } else if (expected.length > 0) {
        const tag = expected.shift() as number;
        expect(queue.headNs).toBe(tag);
        expect(queue.headSlot).toBe(tag & 0xffff);
        expect(queue.passOn(out, tag)).toBe(true);
      }
      expect(queue.count).toBe(expected.length);
    }
  });

  test("a full one drops and counts; only what has arrived is there", () => {
    const queue = new FrameQueue(2);
    expect(queue.headNs).toBe(Number.POSITIVE_INFINITY);
    expect(queue.push(record(60, 0), 0, 10, 1)).toBe(true);
    expect(queue.push(record(60, 0), 0, 20, 2)).toBe(true);
    expect(queue.push(record(60, 0), 0, 30, 3)).toBe(false);
    expect(queue.dropped).toBe(1);
    expect(queue.arrived(9, 64)).toBe(0);
    expect(queue.arrived(19, 64)).toBe(1);
    expect(queue.arrived(99, 1)).toBe(1);
  });
});

describe("CoreAccounts", () => {
  test("shares sum to one, with other work on the core too", () => {
    const accounts = new CoreAccounts(2, 1, 0.5);
    accounts.startMeasuring(0);
    expect(accounts.spend(0, APP, 100)).toBe(200);
    expect(accounts.spend(1, APP, 100)).toBe(100);
    expect(accounts.wait(1, LOCK_SPIN, 50)).toBe(50);
    const [loaded, free] = [accounts.sharesOf(0, 1000), accounts.sharesOf(1, 1000)];
    expect(loaded).toMatchObject({ app: 0.1, background: 0.5, idle: 0.4 });
    expect(free).toMatchObject({ app: 0.1, lockSpin: 0.05, background: 0, idle: 0.85 });
    for (const shares of [loaded, free]) expect(SHARES.reduce((sum, name) => sum + shares[name], 0)).toBeCloseTo(1);
    expect(accounts.busyNs(1)).toBe(150);
    expect(accounts.everBusyNs(0)).toBe(200);
  });

  test("the trace holds what begins in its time", () => {
    const accounts = new CoreAccounts(1, 0, 0);
    accounts.traceBetween(1000, 2000);
    accounts.note(0, "early", "x", 999, 1500);
    accounts.note(0, "in", "x", 1500, 2500);
    accounts.note(0, "late", "x", 2000, 2500);
    expect(accounts.trace).toEqual([{ name: "in", cat: "x", ph: "X", ts: 0.5, dur: 1, pid: 0, tid: 0 }]);
  });
});

describe("statistics", () => {
  test("quantiles within a bucket's width", () => {
    const histogram = new Histogram();
    for (let i = 1; i <= 10_000; i++) histogram.add(i * 1000);
    const { mean, p50, p99, p999 } = histogram.latencyUs();
    expect(mean).toBeCloseTo(5000.5, 6);
    expect(p50 / 5000).toBeCloseTo(1, 1);
    expect(Math.abs(p99 / 9900 - 1)).toBeLessThan(0.023);
    expect(Math.abs(p999 / 9990 - 1)).toBeLessThan(0.023);
    const { cdf, us } = histogram.cdf(50);
    expect(us.length).toBeLessThanOrEqual(50);
    expect(cdf.at(-1)).toBe(1);
    expect(us).toEqual([...us].sort((a, b) => a - b));
  });

  test("warm-up: not while the series climbs, but when it has levelled off", () => {
    const warmUp = new WarmUp(0.02);
    const climb = Array.from({ length: 20 }, (_, i) => warmUp.add(100 * i, 0));
    expect(climb).not.toContain(true);
    const level = Array.from({ length: 20 }, (_, i) => warmUp.add(2000 + (i % 2), 30));
    expect(level.at(-1)).toBe(true);
    const nothing = new WarmUp(0.02);
    expect(Array.from({ length: 20 }, () => nothing.add(0, 0))).not.toContain(true);
  });

  test("warm-up: not while more come than go", () => {
    const warmUp = new WarmUp(0.02);
    const filling = Array.from({ length: 20 }, (_, i) => warmUp.add(2000, 200 * i));
    expect(filling).not.toContain(true);
    const full = Array.from({ length: 20 }, () => warmUp.add(2000, 4000));
    expect(full.at(-1)).toBe(true);
  });

  test("half width of an interval", () => {
    expect(relativeHalfWidth([5])).toBe(Number.POSITIVE_INFINITY);
    expect(relativeHalfWidth([10, 10, 10])).toBe(0);
    // Mean 10, variance 4, four values: 2 x 2 / 2 / 10.
    expect(relativeHalfWidth([8, 12, 8, 12])).toBeCloseTo((2 * Math.sqrt(16 / 3 / 4)) / 10);
  });
});

describe("ThinkTimes", () => {
  test("in the order of their ends", () => {
    const think = new ThinkTimes();
    const random = new Prng(5);
    const times = Array.from({ length: 500 }, () => random.below(1000));
    times.forEach((time, slot) => {
      think.add(slot, time, slot + 7);
    });
    const seen: number[] = [];
    for (let slot = think.due(499); slot >= 0; slot = think.due(499)) {
      expect(think.handle).toBe(slot + 7);
      seen.push(times[slot] as number);
    }
    expect(seen).toEqual(times.filter((time) => time < 500).sort((a, b) => a - b));
    expect(think.nextNs).toBeGreaterThan(499);
  });
});

describe("card", () => {
  test("the hash reaches the RSS queues only, groups all of them", () => {
    const rss = new Steering(16, false);
    const groups = new Steering(24, true);
    const seen = { rss: new Set<number>(), groups: new Set<number>() };
    for (let port = 4096; port < 12_288; port++) {
      const hash = rss.hash(0x0100070a, port, 0x01ff070a, 80);
      seen.rss.add(rss.queueOf(hash, port & 4095));
      seen.groups.add(groups.queueOf(hash, port & 4095));
    }
    expect(seen.rss.size).toBe(16);
    expect(seen.groups.size).toBe(24);
  });

  test("a frame of 60 bytes takes 84 on the wire", () => {
    expect(wireBytes(54)).toBe(84);
    expect(wireBytes(60)).toBe(84);
    expect(wireBytes(1514)).toBe(1538);
  });
});

describe("Affinity", () => {
  const listeners = (counts: readonly number[]): Listener[] =>
    counts.map((acceptCount) => ({ acceptCount, busy: false, average: 0 }) as unknown as Listener);

  test("a core that is not busy steals one for five of its own; a busy one does not", () => {
    const affinity = new Affinity(2, 100);
    const queues = listeners([50, 90]);
    // Looks at its own queue, above three quarters: busy.
    expect(affinity.choose(1, queues, true)).toBe(1);
    const taken = Array.from({ length: 12 }, () => affinity.choose(0, queues, true));
    expect(taken).toEqual([0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1]);
    expect(affinity.choose(1, queues, true)).toBe(1);
  });

  test("with nothing of its own it takes from the busy one; from nobody else", () => {
    const affinity = new Affinity(3, 100);
    const queues = listeners([0, 90, 20]);
    expect(affinity.choose(0, queues, true)).toBe(-1);
    affinity.choose(1, queues, true);
    expect(affinity.choose(0, queues, true)).toBe(1);
  });

  test("a flow group moves to the thief", () => {
    const affinity = new Affinity(2, 100);
    const queues = listeners([0, 90]);
    affinity.choose(1, queues, true);
    affinity.choose(0, queues, true);
    const steering = new Steering(2, true);
    const before = steering.groupQueue.filter((queue) => queue === 0).length;
    expect(affinity.migrate(queues, steering)).toBe(1);
    expect(steering.groupQueue.filter((queue) => queue === 0).length).toBe(before + 1);
    expect(affinity.migrate(queues, steering)).toBe(0);
  });
});
