/**
 * Goal: what the kernel believes to be reported and in flight is what a set of segment numbers says, whatever reports
 * come in whatever order; and in the end everything gets there. Method: random ACKs and SACK blocks, in virtual time.
 */
import fc from "../helpers/property.ts";
import { describe, expect, test } from "vitest";
import { RESULT_BASE } from "../../src/layout/kernelMemory.ts";
import * as TCPI from "../../src/layout/tcpInfo.ts";
import { KERNEL_BUILDS, KernelBench, type KernelBuild, Peer } from "../helpers/kernelBench.ts";
import { pattern } from "../helpers/packets.ts";

const MSS = 500;
const SEGMENTS = 120;

const step = fc.oneof(
  { weight: 5, arbitrary: fc.record({ kind: fc.constant("sack" as const), at: fc.nat(30), count: fc.nat(6) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("ack" as const), at: fc.nat(8), count: fc.nat(0) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("wait" as const), at: fc.nat(60), count: fc.nat(0) }) },
);

function open(build: KernelBuild): { bench: KernelBench; peer: Peer; handle: number } {
  const tuning = { sndBufferBytesMax: 1 << 17, retriesMax: 100 };
  const bench = new KernelBench({ build, noDelay: true, tuning });
  const listener = bench.listen(80);
  const peer = new Peer(bench, { mss: MSS, sack: true, windowScale: 7, window: 8192 });
  peer.send({ flags: "syn" });
  peer.expect({ flags: "syn ack" });
  bench.advance(20);
  peer.send({ flags: "ack" });
  return { bench, peer, handle: bench.wasm.tcpAccept(listener) };
}

/** SACK blocks of what a receiver has, at most four, the one with `first` in front. */
function blocks(has: ReadonlySet<number>, una: number, end: number, first: number): (readonly [number, number])[] {
  const all: [number, number][] = [];
  for (let i = una; i < end; i++) {
    if (!has.has(i)) continue;
    const last = all.at(-1);
    if (last && last[1] === i) last[1] = i + 1;
    else all.push([i, i + 1]);
  }
  const front = all.filter(([a, b]) => a <= first && first < b);
  const rest = all.filter(([a, b]) => !(a <= first && first < b));
  return [...front, ...rest].slice(0, 4).map(([a, b]) => [1 + a * MSS, 1 + b * MSS]);
}

describe.each(KERNEL_BUILDS)("SACK scoreboard, %s build", (build) => {
  test("equals a set of segment numbers, and everything gets there", () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        const { bench, peer, handle } = open(build);
        bench.write(handle, pattern(SEGMENTS * MSS));
        /** What the receiver has, what has ever left, and what has been reported. */
        const has = new Set<number>();
        const reported = new Set<number>();
        let una = 0;
        let end = 0;
        const take = (): void => {
          for (const segment of peer.all()) {
            if (segment.payload.length === 0) continue;
            expect(segment.payload.length).toBe(MSS);
            end = Math.max(end, (segment.seq - 1) / MSS + 1);
          }
        };
        const tell = (first: number): void => {
          const told = blocks(has, una, end, first);
          for (const [a, b] of told) for (let i = (a - 1) / MSS; i < (b - 1) / MSS; i++) reported.add(i);
          peer.sendSack(1 + una * MSS, ...told);
          take();
        };
        take();
        for (const { kind, at, count } of steps) {
          if (kind === "wait") {
            bench.advance(at);
            take();
            continue;
          }
          if (kind === "ack") una = Math.min(una + at, end);
          while (has.has(una)) una++;
          const from = Math.min(una + 1 + at, end - 1);
          if (kind === "sack") for (let i = from; i <= Math.min(from + count, end - 1); i++) if (i > una) has.add(i);
          tell(from);
          expect(bench.wasm.tcpInfo(handle, RESULT_BASE)).toBe(0);
          const info = (offset: number): number => bench.memory.loadU32(RESULT_BASE + offset);
          expect(info(TCPI.TCPI_SACKED)).toBe([...reported].filter((i) => i >= una).length);
          expect(info(TCPI.TCPI_UNACKED)).toBe(end - una);
          expect(info(TCPI.TCPI_RETRANS)).toBeLessThanOrEqual(info(TCPI.TCPI_LOST));
          expect(info(TCPI.TCPI_LOST) + info(TCPI.TCPI_SACKED)).toBeLessThanOrEqual(info(TCPI.TCPI_UNACKED));
        }
        // From now on nothing is lost: all that leaves arrives.
        for (let turns = 0; turns < 2000 && una < SEGMENTS; turns++) {
          bench.advance(20);
          let heard = false;
          for (const segment of peer.all()) {
            if (segment.payload.length === 0) continue;
            const i = (segment.seq - 1) / MSS;
            end = Math.max(end, i + 1);
            if (i >= una) has.add(i);
            heard = true;
          }
          while (has.has(una)) una++;
          if (heard) peer.sendSack(1 + una * MSS, ...blocks(has, una, end, end - 1));
        }
        expect(una).toBe(SEGMENTS);
        expect(bench.info(handle).sndQueuedBytes).toBe(0);
        bench.advance(5000);
        expect(bench.counters().gaugeStreamBytes).toBe(0);
      }),
      { numRuns: 150 },
    );
  });
});
