/**
 * Goal: the stream pool and the flow table keep what they are given and nothing else. Method: random sequences of
 * operations against a list of blocks and a Map, on both builds.
 */
import fc from "../helpers/property.ts";
import { describe, expect, test } from "vitest";
import { Prng } from "../../src/sim/prng.ts";
import { createTcpProbe, TCP_PROBE_BUILDS, type TcpProbeExports } from "../helpers/probeTcp.ts";

/** assembly/mem/streamPool.ts: STREAM_ORDER_MIN, STREAM_ORDER_MAX. */
const ORDER_MIN = 8;
const ORDER_MAX = 24;
const UNIT = 256;

/** Blocks handed out; who has which unit of memory. */
class PoolModel {
  readonly blocks: { readonly at: number; readonly order: number }[] = [];
  readonly #units = new Set<number>();
  usedBytes = 0;

  take(at: number, order: number, base: number): void {
    // Aligned to its size, as seen from the start of the pool.
    expect((at - base) % 2 ** order).toBe(0);
    for (let unit = at; unit < at + 2 ** order; unit += UNIT) {
      if (this.#units.has(unit)) throw new Error(`the unit at ${unit} is handed out twice`);
      this.#units.add(unit);
    }
    this.blocks.push({ at, order });
    this.usedBytes += 2 ** order;
  }

  give(which: number): { readonly at: number; readonly order: number } | undefined {
    const block = this.blocks.splice(which % Math.max(this.blocks.length, 1), 1)[0];
    if (!block) return undefined;
    for (let unit = block.at; unit < block.at + 2 ** block.order; unit += UNIT) this.#units.delete(unit);
    this.usedBytes -= 2 ** block.order;
    return block;
  }
}

const poolStep = fc.oneof(
  { weight: 5, arbitrary: fc.record({ take: fc.constant(true), value: fc.integer({ min: ORDER_MIN, max: 14 }) }) },
  { weight: 2, arbitrary: fc.record({ take: fc.constant(true), value: fc.integer({ min: 15, max: 20 }) }) },
  { weight: 5, arbitrary: fc.record({ take: fc.constant(false), value: fc.nat(1000) }) },
);

/** All that can be had in blocks of one order. */
function drain(wasm: TcpProbeExports, order: number): number[] {
  const blocks: number[] = [];
  for (let at = wasm.streamAlloc(order) >>> 0; at !== 0; at = wasm.streamAlloc(order) >>> 0) blocks.push(at);
  return blocks;
}

describe.each(TCP_PROBE_BUILDS)("stream pool, %s build", (build) => {
  test.each([1 << 20, (1 << 20) + 48 * 1024, 100 * 1024])(
    "blocks of a pool of %i bytes never overlap, and all of it can be had again",
    (poolBytes) => {
      fc.assert(
        fc.property(fc.array(poolStep, { maxLength: 250 }), (steps) => {
          const { wasm, memory } = createTcpProbe(build, { streamPoolBytes: poolBytes, connectionsMax: 16 });
          const model = new PoolModel();
          // The first block of a fresh pool is its start.
          const base = wasm.streamAlloc(ORDER_MIN) >>> 0;
          wasm.streamFree(base, ORDER_MIN);
          for (const { take, value } of steps) {
            if (take) {
              const at = wasm.streamAlloc(value) >>> 0;
              if (at !== 0) model.take(at, value, base);
              if (at !== 0) memory.bytes.fill(value, at, at + 2 ** value);
            } else {
              const block = model.give(value);
              if (block) expect(memory.bytes[block.at + 2 ** block.order - 1]).toBe(block.order);
              if (block) wasm.streamFree(block.at, block.order);
            }
            expect(wasm.streamFreeBytes()).toBe(poolBytes - model.usedBytes);
            expect(memory.counters().gaugeStreamBytes).toBe(model.usedBytes);
          }
          while (model.blocks.length > 0) {
            const block = model.give(0) as { at: number; order: number };
            wasm.streamFree(block.at, block.order);
          }
          // Everything has merged: as many of the largest blocks as fit, then every last unit.
          const largest = Math.min(ORDER_MAX, Math.floor(Math.log2(poolBytes)));
          const large = drain(wasm, largest);
          expect(large).toHaveLength(Math.floor(poolBytes / 2 ** largest));
          expect(drain(wasm, ORDER_MIN)).toHaveLength((poolBytes - large.length * 2 ** largest) / UNIT);
          expect(wasm.streamFreeBytes()).toBe(0);
        }),
        { numRuns: 80 },
      );
    },
  );

  test("a refusal changes nothing, and a freed block is the next one of its size", () => {
    const { wasm } = createTcpProbe(build, { streamPoolBytes: 1 << 16, connectionsMax: 16 });
    const block = wasm.streamAlloc(15);
    expect(block).not.toBe(0);
    for (const order of [16, 17, 24, 25, 31, 40]) expect(wasm.streamAlloc(order)).toBe(0);
    expect(wasm.streamFreeBytes()).toBe(1 << 15);
    wasm.streamFree(block, 15);
    // Last in, first out: still warm.
    expect(wasm.streamAlloc(15)).toBe(block);
  });

  test("the order for a size is the smallest that holds it", () => {
    const { wasm } = createTcpProbe(build, { streamPoolBytes: 1 << 16, connectionsMax: 16 });
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 2 ** 24 }), (bytes) => {
        const order = wasm.streamOrderFor(bytes);
        expect(2 ** order).toBeGreaterThanOrEqual(bytes);
        expect(order === ORDER_MIN || 2 ** (order - 1) < bytes).toBe(true);
      }),
      { seed: 12 },
    );
  });
});

const FLOWS = 600;
const flowStep = fc.record({
  kind: fc.constantFrom("insert" as const, "insert" as const, "insert" as const, "remove" as const, "find" as const),
  index: fc.nat(FLOWS - 1),
  /** Few different low bits, and few different hashes at all: long chains, and several flows of one hash. */
  hash: fc.oneof(
    fc.integer({ min: 0, max: 0xffffffff }),
    fc.nat(12),
    fc.nat(40).map((i) => (i * 2 ** 24) >>> 0),
  ),
});

describe.each(TCP_PROBE_BUILDS)("flow table, %s build", (build) => {
  test("holds what a Map holds, with equal hashes and long chains", () => {
    fc.assert(
      fc.property(fc.array(flowStep, { maxLength: 500 }), (steps) => {
        const { wasm, memory } = createTcpProbe(build, { connectionsMax: 1024, streamPoolBytes: 65_536 });
        const model = new Map<number, number>();
        for (const { kind, index, hash } of steps) {
          const present = model.get(index);
          if (kind === "insert" && present === undefined) {
            if (wasm.flowInsert(hash, index) === 1) model.set(index, hash);
          } else if (kind === "remove") {
            expect(wasm.flowRemove(present ?? hash, index)).toBe(present === undefined ? 0 : 1);
            model.delete(index);
          } else {
            const found = wasm.flowCandidate(hash);
            const candidates = [...model].filter(([, h]) => h === hash).map(([i]) => i);
            expect(candidates.length === 0 ? found === -1 : candidates.includes(found)).toBe(true);
          }
          expect(memory.counters().gaugeFlows).toBe(model.size);
        }
        for (const [index, hash] of model) expect(wasm.flowRemove(hash, index)).toBe(1);
        for (const [, hash] of model) expect(wasm.flowCandidate(hash)).toBe(-1);
      }),
      { numRuns: 150 },
    );
  });

  test("one hash for all: refused at the limit of overflow buckets, never lost", () => {
    const { wasm } = createTcpProbe(build, { connectionsMax: 1024, streamPoolBytes: 65_536 });
    let inserted = 0;
    while (inserted < 4000 && wasm.flowInsert(0x1234, inserted) === 1) inserted++;
    expect(inserted).toBeGreaterThan(500);
    expect(inserted).toBeLessThan(4000);
    for (let i = inserted - 1; i >= 0; i--) expect(wasm.flowRemove(0x1234, i)).toBe(1);
    expect(wasm.flowCandidate(0x1234)).toBe(-1);
    // The overflow buckets are all back.
    for (let i = 0; i < inserted; i++) expect(wasm.flowInsert(0x4321, i)).toBe(1);
  });
});

describe("flow table, release build", () => {
  test("grows to 200,000 connections, finds each by its tuple, and refuses one more", () => {
    const flows = 200_000;
    const probe = createTcpProbe("release", { connectionsMax: flows, memoryBytes: 96 << 20, streamPoolBytes: 65_536 });
    const { wasm, memory } = probe;
    const prng = new Prng(14);
    const tupleOf = (i: number): [number, number, number] => [
      Math.imul(i, 2654435761),
      0x0100000a,
      0x5000_0000 | (i & 7),
    ];
    for (let i = 0; i < flows; i++) {
      expect(wasm.connectionCreate(...tupleOf(i))).toBe(i);
      if (i % 1000 === 0) expect(wasm.flowFind(...tupleOf(prng.below(i + 1)))).toBeGreaterThanOrEqual(0);
    }
    expect(memory.counters().gaugeFlows).toBe(flows);
    let missed = 0;
    for (let i = 0; i < flows; i++) if (wasm.flowFind(...tupleOf(i)) !== i) missed++;
    expect(missed).toBe(0);
    expect(wasm.flowFind(...tupleOf(flows + 1))).toBe(-1);
    expect(wasm.connectionCreate(...tupleOf(flows + 2))).toBe(-1);
  });
});
