/** Affinity-Accept's stealing, in a plain model of kernels that accept from queues (EuroSys 2012, 3.3). */
import { describe, expect, it } from "vitest";
import { AFFINITY_ACCEPT_DEFAULTS, affinityAccept } from "../../src/balancer/affinityAccept.ts";
import type { KernelObservation, Observation, StealMove, StealObservation } from "../../src/balancer/policy.ts";
import fc from "../helpers/property.ts";

const QUEUE_MAX = 1000;
const PERIOD_NS = AFFINITY_ACCEPT_DEFAULTS.periodNs;

/** A kernel to which so many connections come in a period, and which accepts so many. */
type Rates = { readonly comes: number; readonly serves: number };
type Queue = { pending: ("own" | "stolen")[]; own: number; stolen: number; alive: boolean };
type Pair = { -readonly [Name in keyof StealObservation]: StealObservation[Name] };

class AcceptWorld {
  readonly queues: Queue[];
  readonly policy = affinityAccept();
  pinsFree = 1_000_000;
  canMigrate = false;
  live = 0;
  apart = 0;
  /** Kernels where nobody listens. */
  readonly deaf = new Set<number>();
  /** Periods that a steal takes; 0: it has ended when the next look comes. */
  stealPeriods = 0;
  readonly pairs = new Map<string, Pair & { endsIn: number }>();
  readonly stolenFrom: number[];
  readonly #rates: readonly Rates[];
  #state: unknown;
  #nowNs = 0;

  constructor(rates: readonly Rates[]) {
    this.#rates = rates;
    this.queues = rates.map(() => ({ pending: [], own: 0, stolen: 0, alive: true }));
    this.stolenFrom = rates.map(() => 0);
  }

  observation(): Observation {
    const kernels = this.queues.map(({ pending, own, stolen, alive }): KernelObservation => {
      const accepted = own + stolen;
      return {
        alive,
        load: 1,
        openConnections: accepted + pending.length,
        openedConnections: accepted + pending.length,
        queueFill: pending.length / QUEUE_MAX,
        acceptQueueMax: QUEUE_MAX,
        pendingConnections: pending.length,
        acceptedConnections: accepted,
      };
    });
    const groups = {
      owner: Uint16Array.from({ length: 64 }, (_, group) => group % kernels.length),
      live: new Uint32Array(64).fill(this.live),
      apart: new Uint8Array(64).fill(this.apart),
      opened: new Uint32Array(64),
      progress: new Uint32Array(64),
    };
    const steals = [...this.pairs.values()].map(({ endsIn: _, ...pair }) => pair);
    return { kernels, groups, steals, pinsFree: this.pinsFree, canMigrate: this.canMigrate };
  }

  /** What comes and is accepted in a period, then a decision, which is carried out. */
  step() {
    for (const [id, queue] of this.queues.entries()) {
      const { comes, serves } = this.#rates[id] as Rates;
      const room = QUEUE_MAX - queue.pending.length;
      for (let i = 0; i < Math.min(comes, room); i++) queue.pending.push("own");
      for (const kind of queue.pending.splice(0, serves)) queue[kind]++;
    }
    this.#nowNs += PERIOD_NS;
    for (const pair of this.pairs.values()) if (pair.underWay > 0 && pair.endsIn-- === 0) this.#end(pair);
    const before = this.observation();
    const { moves, steals = [], state } = this.policy.decide(before, this.#state, this.#nowNs);
    this.#state = state;
    for (const { from, to, connections } of steals) {
      const pair = this.pairs.get(`${from} ${to}`) ?? { from, to, stolen: 0, refused: 0, underWay: 0, endsIn: 0 };
      expect(pair.underWay).toBe(0);
      pair.underWay = connections;
      pair.endsIn = this.stealPeriods - 1;
      this.pairs.set(`${from} ${to}`, pair);
      if (this.stealPeriods === 0) this.#end(pair);
    }
    return { before, moves, steals: steals as readonly StealMove[] };
  }

  #end(pair: Pair): void {
    const { from, to, underWay } = pair;
    pair.underWay = 0;
    if (this.deaf.has(to)) {
      pair.refused++;
      return;
    }
    const taken = (this.queues[from] as Queue).pending.splice(0, underWay);
    pair.stolen += taken.length;
    this.stolenFrom[from] = (this.stolenFrom[from] as number) + taken.length;
    for (const _ of taken) (this.queues[to] as Queue).pending.push("stolen");
  }
}

describe("affinity-accept", () => {
  it("of what a kernel with work of its own serves, one in six is stolen: 5:1, over many periods", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 6, max: 60 }),
        fc.integer({ min: 1, max: 3 }),
        fc.nat(4),
        (serves, victims, takes) => {
          const world = new AcceptWorld([{ comes: 0, serves }, ...new Array(victims).fill({ comes: 900, serves: 10 })]);
          world.stealPeriods = takes;
          const queue = world.queues[0] as Queue;
          for (let step = 0; step < 400; step++) {
            // The thief's queue is never empty, and never long; the victims' are always full.
            while (queue.pending.length < 100) queue.pending.push("own");
            world.step();
          }
          expect(queue.own / queue.stolen).toBeGreaterThan(4.8);
          expect(queue.own / queue.stolen).toBeLessThan(5.5);
        },
      ),
      { numRuns: 60 },
    );
  });

  it("takes what its own queue lacks: an idle kernel soon serves as much as it can", () => {
    const world = new AcceptWorld([
      { comes: 0, serves: 60 },
      { comes: 200, serves: 60 },
    ]);
    for (let step = 0; step < 50; step++) world.step();
    const before = (world.queues[0] as Queue).stolen;
    for (let step = 0; step < 50; step++) world.step();
    expect((world.queues[0] as Queue).stolen - before).toBeGreaterThan(0.5 * 50 * 60);
    expect((world.queues[0] as Queue).pending.length).toBeLessThan(0.3 * QUEUE_MAX);
  });

  const rates = fc.array(fc.record({ comes: fc.nat({ max: 120 }), serves: fc.nat({ max: 60 }) }), {
    minLength: 2,
    maxLength: 6,
  });

  it("steals for kernels that are not busy from busy ones, no more than waits, in turn, within the filters", () => {
    let stole = 0;
    fc.assert(
      fc.property(rates, fc.constantFrom(0, 3, 1_000_000), fc.nat({ max: 5 }), (given, pinsFree, dead) => {
        const world = new AcceptWorld(given);
        world.pinsFree = pinsFree;
        const wasBusy = given.map(() => false);
        for (let step = 0; step < 80; step++) {
          const victim = world.queues[dead];
          if (step === 40 && victim) victim.alive = false;
          const { before, steals } = world.step();
          const left = before.kernels.map(({ pendingConnections }) => pendingConnections);
          for (const [id, { queueFill }] of before.kernels.entries()) if (queueFill > 0.75) wasBusy[id] = true;
          const ofThief = new Map<number, number[]>();
          for (const { from, to, connections } of steals) {
            expect(Number.isInteger(connections) && connections > 0).toBe(true);
            // It has been above the high mark, and what takes from it is not.
            expect(wasBusy[from]).toBe(true);
            expect((before.kernels[to] as KernelObservation).queueFill).toBeLessThanOrEqual(0.75);
            expect(before.kernels[from]?.alive && before.kernels[to]?.alive).toBe(true);
            left[from] = (left[from] as number) - connections;
            expect(left[from]).toBeGreaterThanOrEqual(0);
            ofThief.set(to, [...(ofThief.get(to) ?? []), connections]);
            stole += connections;
          }
          const thieves = new Set(steals.map(({ to }) => to));
          for (const { from } of steals) expect(thieves.has(from)).toBe(false);
          // Round robin: a thief's shares differ by one, unless somebody had no more to give.
          for (const [to, shares] of ofThief) {
            const [least, most] = [Math.min(...shares), Math.max(...shares)];
            const emptied = steals.some(({ from, to: thief }) => thief === to && left[from] === 0);
            expect(most - least <= 1 || emptied).toBe(true);
          }
          expect(steals.reduce((sum, { connections }) => sum + connections, 0)).toBeLessThanOrEqual(pinsFree);
        }
      }),
      { numRuns: 150 },
    );
    expect(stole).toBeGreaterThan(1000);
  });

  it("steals nothing when nobody is busy, and earns nothing meanwhile", () => {
    const world = new AcceptWorld([
      { comes: 50, serves: 50 },
      { comes: 50, serves: 50 },
    ]);
    for (let step = 0; step < 100; step++) expect(world.step().steals).toEqual([]);
    (world.queues[1] as Queue).pending = new Array(900).fill("own");
    (world.queues[0] as Queue).pending = new Array(100).fill("own");
    world.step();
    const { steals } = world.step();
    expect(steals.reduce((sum, { connections }) => sum + connections, 0)).toBeLessThanOrEqual(Math.ceil(100 / 6));
  });

  it("every 100 ms a kernel that is not busy takes a group from the one that it has stolen most from", () => {
    const world = new AcceptWorld([
      { comes: 0, serves: 60 },
      { comes: 200, serves: 0 },
      { comes: 200, serves: 0 },
    ]);
    let times = 0;
    let last = [0, 0, 0];
    for (let step = 0; step < 200; step++) {
      // The second victim has something to steal only now and then.
      if (step % 7 !== 0) (world.queues[2] as Queue).pending.length = Math.min(900, (step % 5) * 225);
      const sofar = [...world.stolenFrom];
      const { moves } = world.step();
      if (moves.length === 0) continue;
      times++;
      expect(moves.length).toBe(1);
      const stolen = sofar.map((count, id) => count - (last[id] as number));
      last = sofar;
      if (stolen[1] !== stolen[2]) expect(moves[0]?.from).toBe((stolen[1] as number) > (stolen[2] as number) ? 1 : 2);
    }
    expect(times).toBe(19);
  });

  it("groups move with their connections where that can be, otherwise only those without", () => {
    for (const canMigrate of [true, false]) {
      const world = new AcceptWorld([
        { comes: 0, serves: 1 },
        { comes: 200, serves: 1 },
      ]);
      world.canMigrate = canMigrate;
      world.live = 1;
      const moves = Array.from({ length: 40 }, () => world.step().moves).flat();
      expect(moves.length > 0).toBe(canMigrate);
      expect(moves.every(({ live }) => live === true)).toBe(true);
      // Some connection of each was stolen, and lives elsewhere.
      world.apart = 1;
      expect(Array.from({ length: 40 }, () => world.step().moves).flat()).toEqual([]);
    }
  });

  it("thieves in the same state get the same, but for one round in each period and over all", () => {
    fc.assert(
      fc.property(fc.integer({ min: 2, max: 5 }), fc.integer({ min: 1, max: 60 }), (thieves, comes) => {
        const world = new AcceptWorld([{ comes, serves: 0 }, ...new Array(thieves).fill({ comes: 0, serves: 100 })]);
        (world.queues[0] as Queue).pending = new Array(990).fill("own");
        for (let step = 0; step < 60; step++) {
          const { steals } = world.step();
          const shares = Array.from({ length: thieves }, (_, i) => {
            return steals.find(({ to }) => to === i + 1)?.connections ?? 0;
          });
          expect(Math.max(...shares) - Math.min(...shares)).toBeLessThanOrEqual(1);
        }
        const stolen = world.queues.slice(1).map((queue) => queue.stolen);
        expect(Math.min(...stolen)).toBeGreaterThan(0);
        expect(Math.max(...stolen) - Math.min(...stolen)).toBeLessThanOrEqual(1 + 0.1 * Math.max(...stolen));
      }),
      { numRuns: 60 },
    );
  });

  it("a thief that refuses is asked ever more rarely, the others take its part, and it is found again", () => {
    const world = new AcceptWorld([
      { comes: 200, serves: 10 },
      { comes: 0, serves: 60 },
      { comes: 0, serves: 60 },
    ]);
    world.deaf.add(1);
    let asked = 0;
    for (let step = 0; step < 300; step++) asked += world.step().steals.filter(({ to }) => to === 1).length;
    expect(asked).toBeGreaterThan(2);
    // 0.1 + 0.2 + 0.4 + 0.8 + 1.6 s.
    expect(asked).toBeLessThan(8);
    expect((world.queues[2] as Queue).stolen).toBeGreaterThan(0.5 * 250 * 60);
    world.deaf.clear();
    for (let step = 0; step < 600; step++) world.step();
    expect((world.queues[1] as Queue).stolen).toBeGreaterThan(0.5 * 60 * 100);
  });

  it("what was asked for and not stolen costs no credit", () => {
    const run = (deaf: boolean) => {
      const world = new AcceptWorld([
        { comes: 0, serves: 60 },
        { comes: 900, serves: 1 },
      ]);
      const queue = world.queues[0] as Queue;
      if (deaf) world.deaf.add(0);
      const wanted: number[] = [];
      for (let step = 0; step < 40; step++) {
        while (queue.pending.length < 100) queue.pending.push("own");
        wanted.push(...world.step().steals.map(({ connections }) => connections));
      }
      return wanted;
    };
    const refused = run(true);
    // Two refusals in 0.4 s; what was earned meanwhile is still there, up to the most that may be stolen at once.
    expect(refused.length).toBeLessThan(5);
    expect(refused[1]).toBeGreaterThan(5 * (refused[0] as number));
    expect(Math.max(...run(false))).toBeLessThan(30);
  });
});
