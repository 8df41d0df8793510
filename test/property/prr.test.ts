/**
 * Goal: in fast recovery the congestion window is the one that proportional rate reduction allows, ACK by ACK. Method:
 * a window of segments with random losses, reported one arrival at a time; the kernel's window against
 * test/model/prr.ts.
 */
import fc from "../helpers/property.ts";
import { describe, expect, test } from "vitest";
import { RESULT_BASE } from "../../src/layout/kernelMemory.ts";
import * as I from "../../src/layout/tcpInfo.ts";
import { KERNEL_BUILDS, KernelBench, Peer } from "../helpers/kernelBench.ts";
import { pattern } from "../helpers/packets.ts";
import { PrrModel } from "../model/prr.ts";

const MSS = 1000;
const RTT_MS = 50;
const FLIGHT = 40;

type Range = readonly [number, number];

/** Ranges of what has arrived beyond `una`, the one with `latest` first. Numbers of segments. */
function blocks(arrived: ReadonlySet<number>, una: number, latest: number): Range[] {
  const ranges: [number, number][] = [];
  for (const segment of [...arrived].sort((a, b) => a - b)) {
    if (segment < una) continue;
    const last = ranges.at(-1);
    if (last && last[1] === segment) last[1] = segment + 1;
    else ranges.push([segment, segment + 1]);
  }
  const own = ranges.findIndex(([from, to]) => from <= latest && latest < to);
  return [...ranges.splice(own, own < 0 ? 0 : 1), ...ranges].slice(0, 4);
}

function dataBytes(peer: Peer): number {
  return peer.all().reduce((sum, { payload }) => sum + payload.length, 0);
}

/** Two round trips without loss make the window forty segments. */
function fullWindow(bench: KernelBench) {
  const listener = bench.listen(80);
  const peer = new Peer(bench, { mss: MSS, sack: true });
  peer.send({ flags: "syn" });
  peer.expect({ flags: "syn ack" });
  bench.advance(RTT_MS);
  peer.send({ flags: "ack" });
  const handle = bench.wasm.tcpAccept(listener);
  bench.write(handle, pattern(200 * MSS));
  let sent = dataBytes(peer);
  for (const acked of [10, 30]) {
    bench.advance(RTT_MS);
    peer.send({ flags: "ack", ack: 1 + acked * MSS });
    sent += dataBytes(peer);
  }
  return { peer, handle, first: 30, end: sent / MSS };
}

describe.each(KERNEL_BUILDS)("proportional rate reduction, %s build", (build) => {
  test("the window is the model's after every ACK", () => {
    let compared = 0;
    const losses = fc.array(fc.boolean(), { minLength: FLIGHT, maxLength: FLIGHT });
    fc.assert(
      fc.property(losses, fc.integer({ min: 1, max: 5 }), (lost, seed) => {
        const bench = new KernelBench({ build, noDelay: true, seed, tuning: { sndBufferBytesMax: 1 << 20 } });
        const { peer, handle, first, end } = fullWindow(bench);
        bench.advance(RTT_MS);
        const info = (offset: number): number => {
          expect(bench.wasm.tcpInfo(handle, RESULT_BASE)).toBe(0);
          return bench.memory.loadU32(RESULT_BASE + offset);
        };
        const arrived = new Set<number>();
        let una = first;
        let model: PrrModel | undefined;
        let lostBefore = 0;
        let sackedBefore = 0;
        let total = end;
        for (let segment = first; segment < end; segment++) {
          if (lost[segment - first]) continue;
          arrived.add(segment);
          const unaBefore = una;
          while (arrived.has(una)) una++;
          const sack = blocks(arrived, una, segment).map(([a, b]) => [1 + a * MSS, 1 + b * MSS] as const);
          peer.sendSack(1 + una * MSS, ...sack);
          const sentBytes = dataBytes(peer);
          const lostNow = info(I.TCPI_LOST);
          const pipeAfter = (info(I.TCPI_UNACKED) - info(I.TCPI_SACKED) - lostNow + info(I.TCPI_RETRANS)) * MSS;
          if (info(I.TCPI_CA_STATE) === I.TCPI_CA_RECOVERY) {
            const { ssthreshBytes, cwndBytes } = bench.info(handle);
            model ??= new PrrModel(ssthreshBytes, (total - unaBefore - sackedBefore) * MSS, MSS);
            const safe = una > unaBefore && lostNow <= lostBefore;
            const expected = model.ack({ delivered: MSS, pipe: pipeAfter - sentBytes, safe });
            expect(cwndBytes, `segment ${segment}`).toBe(Math.max(expected, MSS));
            model.sent(sentBytes);
            compared++;
          }
          lostBefore = lostNow;
          sackedBefore = info(I.TCPI_SACKED);
          // What is new comes behind; what goes again does not count twice.
          total = una + info(I.TCPI_UNACKED);
        }
      }),
      { numRuns: 60 },
    );
    expect(compared).toBeGreaterThan(500);
  });
});
