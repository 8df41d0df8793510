/**
 * Goal: the parts that the connections stand on do what plain models of them do (test/model/tcp.ts), on both builds.
 * Method: random sequences of operations, compared after each.
 */
import fc from "../helpers/property.ts";
import { describe, expect, test } from "vitest";
import { RangeModel, RttModel, seqDistance, TimerModel } from "../model/tcp.ts";
import { createTcpProbe, TCP_PROBE_BUILDS } from "../helpers/probeTcp.ts";

const u32 = fc.oneof(
  fc.integer({ min: 0, max: 0xffffffff }),
  fc.constantFrom(0, 1, 2 ** 31 - 1, 2 ** 31, 2 ** 31 + 1, 2 ** 32 - 1),
);

describe.each(TCP_PROBE_BUILDS)("sequence numbers, %s build", (build) => {
  const { wasm } = createTcpProbe(build);

  test("are compared as distances on the circle of 2^32", () => {
    fc.assert(
      fc.property(u32, u32, (a, b) => {
        const distance = seqDistance(b, a);
        expect(wasm.seqLt(a, b)).toBe(distance < 0 ? 1 : 0);
        expect(wasm.seqLeq(a, b)).toBe(distance <= 0 ? 1 : 0);
        expect(wasm.seqGt(a, b)).toBe(distance > 0 ? 1 : 0);
        expect(wasm.seqGeq(a, b)).toBe(distance >= 0 ? 1 : 0);
        // At a distance of exactly half the circle neither is later: either answer will do.
        if (distance === -(2 ** 31)) return;
        expect(wasm.seqMax(a, b) >>> 0).toBe(distance >= 0 ? a : b);
        expect(wasm.seqMin(a, b) >>> 0).toBe(distance <= 0 ? a : b);
      }),
      { numRuns: 2000 },
    );
  });
});

/** assembly/tcp/wheel.ts: HORIZON_TICKS. */
const HORIZON_TICKS = 2 ** 29 - 1;
const TIMERS = 40;
const HOUR_TICKS = 54_931_641;
const delay = fc.oneof(
  fc.integer({ min: -3, max: 70 }),
  fc.integer({ min: 0, max: 5000 }),
  fc.integer({ min: 0, max: 2 * HOUR_TICKS }),
  fc.constantFrom(0, 1, 63, 64, 65, 4095, 4096, 262_144, 2 ** 24, HORIZON_TICKS, HORIZON_TICKS + 1, 2 ** 30),
);
const timerStep = fc.oneof(
  { weight: 5, arbitrary: fc.record({ kind: fc.constant("arm" as const), index: fc.nat(TIMERS - 1), ticks: delay }) },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant("remove" as const), index: fc.nat(TIMERS - 1), ticks: delay }),
  },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("turn" as const), index: fc.nat(0), ticks: delay }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("next" as const), index: fc.nat(0), ticks: delay }) },
);

describe.each(TCP_PROBE_BUILDS)("timer wheel, %s build", (build) => {
  test("hands out exactly what is due, whenever it is turned", () => {
    fc.assert(
      fc.property(u32, fc.array(timerStep, { maxLength: 150 }), (start, steps) => {
        const { wasm } = createTcpProbe(build, { tick: start, connectionsMax: TIMERS, streamPoolBytes: 65_536 });
        const model = new TimerModel(start, HORIZON_TICKS);
        for (let i = 0; i < TIMERS; i++) wasm.connectionCreate(i, 1, i);
        let now = start;
        const turnTo = (tick: number): void => {
          now = tick;
          const got: number[] = [];
          for (let i = wasm.takeTimer(now); i >= 0; i = wasm.takeTimer(now)) got.push(i);
          expect(got.sort((a, b) => a - b)).toEqual(model.take(now));
        };
        for (const { kind, index, ticks } of steps) {
          if (kind === "arm") {
            model.arm(index, now + ticks);
            wasm.armTimer(index, now + ticks);
          } else if (kind === "remove") {
            model.remove(index);
            wasm.removeTimer(index);
          } else if (kind === "turn") {
            turnTo(now + Math.max(ticks, 0));
          } else if (model.deadlines.size > 0) {
            // As the kernel sleeps: to the instant that the wheel names. Never too late; and a few steps get there.
            const next = wasm.nextTimer(now);
            expect(next).toBeGreaterThanOrEqual(0);
            expect(next).toBeLessThanOrEqual(model.first() - now);
            turnTo(now + next);
          } else {
            expect(wasm.nextTimer(now)).toBe(-1);
          }
        }
        let sleeps = 0;
        for (; model.deadlines.size > 0; sleeps++) turnTo(now + wasm.nextTimer(now));
        expect(sleeps).toBeLessThanOrEqual(TIMERS * 7);
        expect(wasm.nextTimer(now)).toBe(-1);
      }),
      { numRuns: 300 },
    );
  });
});

const SPAN = 600;
const rangeStep = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant("ahead" as const),
      at: fc.nat(SPAN),
      bytes: fc.integer({ min: 1, max: 40 }),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant("inOrder" as const),
      at: fc.nat(0),
      bytes: fc.integer({ min: 1, max: 60 }),
    }),
  },
);

describe.each(TCP_PROBE_BUILDS)("ranges ahead of RCV.NXT, %s build", (build) => {
  /** assembly/tcp/reassembly.ts: RANGES_MAX. */
  const RANGES_MAX = 30;
  const { wasm, memory } = createTcpProbe(build);
  const index = wasm.connectionCreate(1, 2, 3);

  test("RCV.NXT moves as in a set of bytes, at any sequence number, and nothing is kept in the end", () => {
    fc.assert(
      fc.property(u32, fc.array(rangeStep, { maxLength: 120 }), (base, steps) => {
        const model = new RangeModel();
        let next = 0;
        for (const { kind, at, bytes } of steps) {
          if (kind === "ahead") {
            const start = next + 1 + at;
            const refused = model.rangesWith(start, start + bytes) > RANGES_MAX;
            const took = wasm.rangeInsert(index, (base + start) >>> 0, (base + start + bytes) >>> 0);
            expect(took).toBe(refused ? 0 : 1);
            if (!refused) model.insert(start, start + bytes);
          } else {
            const received = (base + next + bytes) >>> 0;
            next = model.advance(next + bytes);
            expect((wasm.rangeAdvance(index, received) - base) >>> 0).toBe(next);
          }
        }
        // Byte by byte to the end: every hole is filled in turn.
        for (let end = next + SPAN + 50; next < end; ) {
          const step = (base + next + 1) >>> 0;
          next = model.advance(next + 1);
          expect((wasm.rangeAdvance(index, step) - base) >>> 0).toBe(next);
        }
        expect(model.empty).toBe(true);
        wasm.rangeFinReached(index);
        expect(wasm.rangeHolds(index)).toBe(0);
        expect(memory.counters().gaugeStreamBytes).toBe(0);
      }),
      { numRuns: 200 },
    );
  });

  test("a FIN that comes early counts when all before it is there, and not sooner", () => {
    fc.assert(
      fc.property(u32, fc.integer({ min: 1, max: 50 }), fc.integer({ min: 1, max: 50 }), (base, hole, bytes) => {
        const at = (offset: number): number => (base + offset) >>> 0;
        wasm.rangeInsert(index, at(hole), at(hole + bytes));
        wasm.rangeNoteFin(index, at(hole + bytes));
        for (let offset = 1; offset < hole; offset++) {
          expect(wasm.rangeAdvance(index, at(offset)) >>> 0).toBe(at(offset));
          expect(wasm.rangeFinReached(index)).toBe(0);
        }
        expect(wasm.rangeAdvance(index, at(hole)) >>> 0).toBe(at(hole + bytes));
        expect(wasm.rangeFinReached(index)).toBe(1);
        expect(wasm.rangeHolds(index)).toBe(0);
      }),
      { numRuns: 200 },
    );
  });
});

describe.each(TCP_PROBE_BUILDS)("retransmission timeout, %s build", (build) => {
  test("follows RFC 6298 within the rounding of its fixed point", () => {
    const { wasm } = createTcpProbe(build, { connectionsMax: 500, streamPoolBytes: 65_536 });
    let connections = 0;
    fc.assert(
      fc.property(
        fc.array(fc.oneof(fc.integer({ min: 1, max: 2000 }), fc.integer({ min: 1000, max: 3_000_000 })), {
          maxLength: 60,
        }),
        fc.nat(20),
        (samples, backoff) => {
          const index = wasm.connectionCreate(++connections, 2, 3);
          const model = new RttModel(1_000_000, 200_000, 120_000_000);
          expect(wasm.rtoOf(index, 0)).toBe(1_000_000);
          for (const us of samples) {
            wasm.rttEnter(index, us);
            model.enter(us);
            const expected = model.rto(0);
            // Eighths and quarters of a microsecond are cut off at each step; the error does not add up.
            expect(Math.abs(wasm.rtoOf(index, 0) - expected)).toBeLessThanOrEqual(50 + expected / 10_000);
          }
          expect(Math.abs(wasm.rtoOf(index, backoff) - model.rto(backoff)) / model.rto(backoff)).toBeLessThan(0.001);
        },
      ),
      { numRuns: 300 },
    );
  });
});
