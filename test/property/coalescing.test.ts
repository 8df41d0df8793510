/**
 * Receive coalescing changes nothing but its cost: what a kernel that finds a batch of segments at once delivers, sends
 * and remembers equals, to the byte, what one does that is given the same segments one by one
 * (assembly/tcp/coalesce.ts).
 */
import { describe, expect, test } from "vitest";
import { RESULT_BASE } from "../../src/layout/kernelMemory.ts";
import {
  KERNEL_BUILDS,
  type KernelBuild,
  KernelBench,
  openPassive,
  type SegmentFields,
} from "../helpers/kernelBench.ts";
import { pattern } from "../helpers/packets.ts";
import fc from "../helpers/property.ts";

const STREAM = pattern(1 << 18, 3);
/** What a batch may change without changing what happens; room is made before a checksum is known to be wrong. */
const COST = new Set(["polls", "eventsPublished", "tcpSegmentsCoalesced", "gaugeStreamBytes"]);

/** A segment, mostly the next one of the stream and like the one before it. */
const segment = fc.record({
  flow: fc.oneof({ weight: 6, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: fc.constant(1) }),
  bytes: fc.oneof(
    { weight: 4, arbitrary: fc.constant(1000) },
    { weight: 1, arbitrary: fc.integer({ min: 0, max: 1448 }) },
  ),
  /** Distance from the next byte of the stream. */
  shift: fc.oneof(
    { weight: 40, arbitrary: fc.constant(0) },
    { weight: 1, arbitrary: fc.integer({ min: -3000, max: 3000 }) },
  ),
  flags: fc.oneof(
    { weight: 40, arbitrary: fc.constant("ack") },
    { weight: 3, arbitrary: fc.constant("psh ack") },
    { weight: 1, arbitrary: fc.constantFrom("fin ack", "urg ack", "rst ack", "syn ack", "ack ece", "ack cwr", "psh") },
  ),
  acked: fc.oneof(
    { weight: 40, arbitrary: fc.constant(0) },
    { weight: 1, arbitrary: fc.integer({ min: -1, max: 400 }) },
  ),
  window: fc.oneof({ weight: 40, arbitrary: fc.constant(65535) }, { weight: 1, arbitrary: fc.nat(65535) }),
  clock: fc.oneof({ weight: 40, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: fc.integer({ min: -2, max: 2 }) }),
  tos: fc.oneof({ weight: 40, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: fc.constantFrom(1, 2, 3, 0x20) }),
  isDamaged: fc.oneof({ weight: 40, arbitrary: fc.constant(false) }, { weight: 1, arbitrary: fc.constant(true) }),
  sack: fc.oneof({ weight: 40, arbitrary: fc.constant(false) }, { weight: 1, arbitrary: fc.constant(true) }),
});
const batch = fc.record({
  segments: fc.array(segment, { minLength: 1, maxLength: 40 }),
  reads: fc.constantFrom(true, true, true, false),
  writes: fc.boolean(),
  waitMs: fc.constantFrom(0, 0, 1, 50),
});
const settings = fc.record({ timestamps: fc.boolean(), sack: fc.boolean(), limit: fc.constantFrom(8192, 65536) });

type Batch = typeof batch extends fc.Arbitrary<infer T> ? T : never;
type Settings = typeof settings extends fc.Arbitrary<infer T> ? T : never;

class World {
  readonly bench: KernelBench;
  readonly #flows;
  /** Next byte of each flow's stream. */
  readonly #next = [1, 1];
  readonly #clock: number[] = [5000, 5000];
  readonly #framesPerPoll: number;
  /** Everything observable, in order. */
  readonly log: unknown[] = [];

  constructor(build: KernelBuild, framesPerPoll: number, { timestamps, sack, limit }: Settings) {
    this.#framesPerPoll = framesPerPoll;
    this.bench = new KernelBench({ build, tuning: { rcvBufferBytesMax: limit, ecn: 1 } });
    const listener = this.bench.listen();
    this.#flows = [40001, 40002].map((port) =>
      openPassive(this.bench, { port, mss: 1460, sack, ...(timestamps ? { timestamp: 5000 } : {}) }, listener),
    );
  }

  step({ segments, reads, writes, waitMs }: Batch): void {
    const { bench } = this;
    if (writes) for (const { handle } of this.#flows) bench.write(handle, STREAM.subarray(0, 200));
    // What was lost is sent again first.
    for (const [flow, { peer, handle }] of this.#flows.entries()) {
      if (bench.wasm.tcpGetInfo(handle, RESULT_BASE) === 0)
        this.#next[flow] = (bench.info(handle).rcvNxt - peer.iss) >>> 0;
    }
    // What is due now is done before anything comes, in both.
    bench.wasm.poll(bench.nowNs, 0);
    for (const fields of segments) bench.inject(this.#frame(fields));
    for (let polls = 0; polls * this.#framesPerPoll < segments.length; polls++) {
      bench.wasm.poll(bench.nowNs, this.#framesPerPoll);
    }
    bench.wasm.flush();
    for (let frame = bench.tx.shift(); frame; frame = bench.tx.shift())
      this.log.push(Buffer.from(frame).toString("hex"));
    for (const { handle } of this.#flows) {
      if (bench.wasm.tcpGetInfo(handle, RESULT_BASE) !== 0) this.log.push("gone");
      else this.log.push(bench.info(handle));
      if (reads) this.log.push(Buffer.from(bench.read(handle)).toString("hex"));
    }
    const counters = Object.entries(bench.counters()).filter(([name]) => !COST.has(name));
    this.log.push(Object.fromEntries(counters));
    bench.nowNs += waitMs * 1e6;
  }

  #frame(fields: Batch["segments"][number]): Uint8Array {
    const { flow, bytes, shift, flags, acked, window, clock, tos, isDamaged, sack } = fields;
    const peer = this.#flows[flow]?.peer;
    if (!peer) throw new Error("no such flow");
    const next = this.#next[flow] as number;
    const seq = Math.max(1, next + shift);
    const now = (this.#clock[flow] as number) + clock;
    this.#clock[flow] = now;
    const payload = STREAM.subarray(seq, seq + bytes);
    if (shift === 0 && flags.includes("ack")) this.#next[flow] = next + bytes;
    const segmentFields: SegmentFields = {
      flags: flags.replace("urg", "").trim(),
      seq,
      ack: 1 + acked,
      window,
      payload,
      ip: { tos },
      ...(peer.timestampsOn ? { timestamps: [now, peer.echo] } : {}),
      ...(sack ? { options: { sack: [[2, 3]] } } : {}),
    };
    const frame = peer.frame(segmentFields);
    if (isDamaged) frame[frame.length - 1] = (frame[frame.length - 1] as number) ^ 0x55;
    return frame;
  }
}

describe.each(KERNEL_BUILDS)("a batch of segments equals its segments one by one, %s build", (build) => {
  let coalesced = 0;
  test("what is delivered, sent and remembered", () => {
    fc.assert(
      fc.property(settings, fc.array(batch, { minLength: 1, maxLength: 6 }), (options, batches) => {
        const together = new World(build, 4096, options);
        const apart = new World(build, 1, options);
        for (const each of batches) {
          together.step(each);
          apart.step(each);
          expect(together.log.splice(0)).toEqual(apart.log.splice(0));
        }
        expect(apart.bench.counters()).toMatchObject({ tcpSegmentsCoalesced: 0 });
        coalesced += together.bench.counters().tcpSegmentsCoalesced as number;
      }),
      { numRuns: Number(process.env.COALESCING_RUNS ?? 100) },
    );
  });

  test("and it happens", () => {
    expect(coalesced).toBeGreaterThan(50);
  });
});
