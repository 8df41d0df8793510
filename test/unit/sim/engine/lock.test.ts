import { describe, expect, test } from "vitest";
import { Distance } from "../../../../src/sim/engine/distance.ts";
import { SpinLock, type SpinLockKind } from "../../../../src/sim/engine/lock.ts";
import { costsOf, machineNamed } from "../../../../src/sim/machines/index.ts";

/** 2 x 12 cores; at 1 GHz a cycle is a nanosecond: 100 within a socket, 280 across. */
const costs = { ...costsOf(machineNamed("e5-2695v2")), clockGhz: 1 };
const UNCONTENDED = 40;

function lockOf(kind: SpinLockKind, cores = 24): SpinLock {
  const distance = new Distance(costs, cores);
  return new SpinLock("test", { kind, uncontendedNs: UNCONTENDED, linesPerWaiter: 0.5 }, distance);
}

/** Holds it for `ns` from when it is granted. @returns when it was granted. */
function hold(lock: SpinLock, core: number, atNs: number, ns: number): number {
  const granted = lock.acquire(core, atNs);
  lock.release(core, granted + ns);
  return granted;
}

describe("Distance", () => {
  test("lines cost by socket; a larger machine goes on with sockets like its own", () => {
    const distance = new Distance(costs, 48);
    expect(distance.lineNs(3, 3)).toBe(0);
    expect(distance.lineNs(-1, 3)).toBe(0);
    expect(distance.lineNs(0, 11)).toBe(100);
    expect(distance.lineNs(11, 12)).toBe(280);
    expect(distance.socketOf(47)).toBe(3);
  });
});

describe("SpinLock", () => {
  test.each(["unfair", "ticket", "queued"] as const)("%s: free, it costs an atomic and its line", (kind) => {
    const lock = lockOf(kind);
    expect(hold(lock, 0, 0, 100)).toBe(UNCONTENDED);
    expect(hold(lock, 0, 1000, 100)).toBe(1000 + UNCONTENDED);
    expect(hold(lock, 1, 2000, 100)).toBe(2000 + 100 + UNCONTENDED);
    expect(hold(lock, 12, 3000, 100)).toBe(3000 + 280 + UNCONTENDED);
    expect(lock).toMatchObject({ acquisitions: 4, contended: 0, spinNs: 0 });
  });

  test("queued: a hand-off is one line, whoever else waits", () => {
    const lock = lockOf("queued");
    hold(lock, 0, 0, 1000);
    expect(hold(lock, 1, 0, 1000)).toBe(1040 + 100 + UNCONTENDED);
    expect(hold(lock, 2, 0, 1000)).toBe(2180 + 100 + UNCONTENDED);
    expect(hold(lock, 12, 0, 1000)).toBe(3320 + 280 + UNCONTENDED);
    expect(lock.contended).toBe(3);
    expect(lock.spinNs).toBe(1180 + 2320 + 3640);
  });

  test("ticket: each other waiter adds its part of a line", () => {
    const lock = lockOf("ticket");
    const mean = (100 + 280) / 2;
    hold(lock, 0, 0, 1000);
    expect(hold(lock, 1, 0, 1000)).toBe(1040 + 100 + UNCONTENDED);
    expect(hold(lock, 2, 0, 1000)).toBe(2180 + 100 + 0.5 * mean + UNCONTENDED);
    expect(hold(lock, 3, 0, 1000)).toBe(3320 + 95 + 100 + 2 * 0.5 * mean + UNCONTENDED);
  });

  test("ticket in one socket: the line comes from near", () => {
    const lock = lockOf("ticket", 8);
    hold(lock, 0, 0, 1000);
    hold(lock, 1, 0, 1000);
    expect(hold(lock, 2, 0, 1000)).toBe(2180 + 100 + 0.5 * 100 + UNCONTENDED);
  });

  test("unfair: with others waiting the nearest gets it", () => {
    const lock = lockOf("unfair");
    hold(lock, 0, 0, 1000);
    expect(hold(lock, 12, 0, 1000)).toBe(1040 + 280 + UNCONTENDED);
    expect(hold(lock, 1, 0, 1000)).toBe(2360 + 3 * 100 + UNCONTENDED);
  });

  test("waiters are gone when their time is over", () => {
    const lock = lockOf("ticket");
    for (let core = 0; core < 5; core++) hold(lock, core, 0, 1000);
    expect(lock.waiters(0)).toBe(5);
    expect(lock.waiters(1040)).toBe(4);
    expect(lock.waiters(1e6)).toBe(0);
    expect(hold(lock, 4, 1e6, 1)).toBe(1e6 + UNCONTENDED);
  });

  test("collapse: n cores that want it always get it less often the more they are, by the ticket only", () => {
    const perSecond = (kind: SpinLockKind, cores: number): number => {
      const lock = lockOf(kind);
      const freeAt = new Array<number>(cores).fill(0);
      for (let i = 0; i < 2000; i++) {
        const core = freeAt.indexOf(Math.min(...freeAt));
        const granted = lock.acquire(core, freeAt[core] as number);
        lock.release(core, granted + 200);
        freeAt[core] = granted + 210;
      }
      return 2000 / Math.max(...freeAt);
    };
    expect(perSecond("ticket", 24)).toBeLessThan(0.4 * perSecond("ticket", 4));
    expect(perSecond("queued", 24)).toBeGreaterThan(0.6 * perSecond("queued", 4));
  });
});
