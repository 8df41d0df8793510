/** Selective acknowledgment (RFC 2018, 2883) and the loss recovery that stands on it (RFC 6675, 8985, 6937, 5682). */
import { describe, expect, test } from "vitest";
import type { Tuning } from "../../../src/kernel/config.ts";
import { RESULT_BASE } from "../../../src/layout/kernelMemory.ts";
import * as TCPI from "../../../src/layout/tcpInfo.ts";
import { KERNEL_BUILDS, KernelBench, type KernelBuild, type Opened, Peer } from "../../helpers/kernelBench.ts";
import { pattern } from "../../helpers/packets.ts";

const MSS = 1000;
const RTT_MS = 100;

/** Sequence number of segment `i`, the first of which is 0. */
const at = (i: number): number => 1 + i * MSS;
/** Segments i to j - 1 as a SACK block. */
const segments = (i: number, j: number): readonly [number, number] => [at(i), at(j)];

type Options = { readonly timestamp?: number; readonly seed?: number; readonly tuning?: Partial<Tuning> };

/** A connection with SACK whose handshake took RTT_MS, window 10. */
function open(build: KernelBuild, { timestamp, seed = 1, tuning = {} }: Options = {}): Opened & { bench: KernelBench } {
  const bench = new KernelBench({ build, noDelay: true, seed, tuning });
  const listener = bench.listen(80);
  const peer = new Peer(bench, { mss: MSS, sack: true, ...(timestamp === undefined ? {} : { timestamp }) });
  peer.send({ flags: "syn" });
  expect(peer.expect({ flags: "syn ack" }).options.sackPermitted).toBe(true);
  bench.advance(RTT_MS);
  peer.send({ flags: "ack" });
  return { bench, peer, handle: bench.wasm.tcpAccept(listener), listener };
}

/** Numbers of TCP_INFO. */
function info(bench: KernelBench, handle: number): (offset: number) => number {
  expect(bench.wasm.tcpInfo(handle, RESULT_BASE)).toBe(0);
  return (offset) => bench.memory.loadU32(RESULT_BASE + offset);
}

/** Segments that have left, by their number. */
const sent = (peer: Peer): number[] =>
  peer
    .all()
    .filter((segment) => segment.payload.length > 0)
    .map((segment) => (segment.seq - 1) / MSS);

describe.each(KERNEL_BUILDS)("SACK, %s build", (build) => {
  describe("negotiation (RFC 2018 2)", () => {
    test("permitted in the SYN-ACK when the SYN does, and only then", () => {
      for (const sack of [true, false]) {
        const bench = new KernelBench({ build });
        bench.listen(80);
        const peer = new Peer(bench, { mss: MSS, sack });
        peer.send({ flags: "syn" });
        expect(peer.expect({ flags: "syn ack" }).options.sackPermitted === true).toBe(sack);
      }
    });

    test("with tuning.sack 0 neither asked for nor agreed to, and blocks are not looked at", () => {
      const bench = new KernelBench({ build, tuning: { sack: 0 } });
      const listener = bench.listen(80);
      const peer = new Peer(bench, { mss: MSS, sack: true });
      peer.send({ flags: "syn" });
      expect(peer.expect({ flags: "syn ack" }).options.sackPermitted).toBeUndefined();
      peer.send({ flags: "ack" });
      const handle = bench.wasm.tcpAccept(listener);
      bench.write(handle, pattern(4 * MSS));
      peer.all();
      peer.sendSack(1, segments(1, 4));
      expect(info(bench, handle)(TCPI.TCPI_SACKED)).toBe(0);
      expect(bench.connect(9)).toBeGreaterThanOrEqual(0);
      bench.turn();
      expect(bench.sent().at(-1)?.options.sackPermitted).toBeUndefined();
    });
  });

  describe("receiving (RFC 2018 4, RFC 2883)", () => {
    /** Sends the segments with these numbers, one at a time. @returns the blocks of the last ACK, by number. */
    function receive(peer: Peer, ...numbers: readonly number[]): (readonly [number, number])[] {
      for (const i of numbers) peer.send({ flags: "ack", seq: at(i), payload: pattern(MSS, i) });
      const blocks = peer.all().at(-1)?.options.sack ?? [];
      const relative = (edge: number): number => (((edge - peer.iss) | 0) - 1) / MSS;
      return blocks.map(([start, end]) => [relative(start), relative(end)]);
    }

    test("the first block is that of the segment that came last, then those reported before", () => {
      const { peer } = open(build);
      expect(receive(peer, 2)).toEqual([[2, 3]]);
      expect(receive(peer, 4)).toEqual([
        [4, 5],
        [2, 3],
      ]);
      expect(receive(peer, 6, 8)).toEqual([
        [8, 9],
        [6, 7],
        [4, 5],
        [2, 3],
      ]);
      // Five ranges: the oldest report is left out.
      expect(receive(peer, 10)).toEqual([
        [10, 11],
        [8, 9],
        [6, 7],
        [4, 5],
      ]);
      expect(receive(peer, 3)[0]).toEqual([2, 5]);
      expect(receive(peer, 1)[0]).toEqual([1, 5]);
      expect(receive(peer, 0)).toEqual([
        [10, 11],
        [8, 9],
        [6, 7],
      ]);
      expect(receive(peer, 5, 7, 9)).toEqual([]);
    });

    test("three blocks at most beside timestamps, and the header says so", () => {
      const { peer } = open(build, { timestamp: 7 });
      expect(receive(peer, 2, 4, 6, 8).length).toBe(3);
    });

    test("a duplicate is reported once, as the first block (D-SACK)", () => {
      const { peer, bench } = open(build);
      receive(peer, 0, 1);
      expect(receive(peer, 0)).toEqual([[0, 1]]);
      expect(receive(peer, 3)).toEqual([[3, 4]]);
      // A duplicate of what waits: the block that holds it follows.
      expect(receive(peer, 4, 3)).toEqual([
        [3, 4],
        [3, 5],
      ]);
      expect(receive(peer, 2)).toEqual([]);
      bench.advance(100);
      expect(bench.counters().tcpDsackSent).toBe(2);
    });

    test("data segments leave room for the blocks", () => {
      const { peer, bench, handle } = open(build);
      receive(peer, 1, 3);
      bench.write(handle, pattern(3 * MSS));
      const segments = peer.all();
      for (const segment of segments) {
        expect(segment.payload.length + 4 * (segment.options.sack?.length ?? 0)).toBeLessThanOrEqual(MSS);
        expect(segment.options.sack?.length).toBe(2);
      }
      expect(segments.reduce((sum, segment) => sum + segment.payload.length, 0)).toBe(3 * MSS);
    });

    test("all memory of it is given back", () => {
      const { peer, bench, handle } = open(build);
      receive(peer, 1, 1, 0, 0, 1);
      expect(bench.read(handle).length).toBe(2 * MSS);
      expect(bench.counters().gaugeStreamBytes).toBe(0);
    });
  });

  describe("what is lost (RFC 8985 6)", () => {
    test("three segments beyond a hole: it alone is sent again, at once, and the window shrinks to 0.7 by PRR", () => {
      const { bench, peer, handle } = open(build);
      bench.write(handle, pattern(12 * MSS));
      expect(sent(peer).length).toBe(10);
      bench.advance(RTT_MS);
      peer.sendSack(at(0), segments(1, 2));
      // Limited transmit (RFC 3042): what is reported makes room.
      expect(sent(peer)).toEqual([10]);
      peer.sendSack(at(0), segments(1, 3));
      expect(sent(peer)).toEqual([11]);
      bench.advance(1);
      peer.sendSack(at(0), segments(1, 4));
      expect(sent(peer)).toEqual([0]);
      let now = info(bench, handle);
      expect(now(TCPI.TCPI_CA_STATE)).toBe(TCPI.TCPI_CA_RECOVERY);
      expect([TCPI.TCPI_SACKED, TCPI.TCPI_LOST, TCPI.TCPI_RETRANS].map(now)).toEqual([3, 1, 1]);
      expect(now(TCPI.TCPI_SND_SSTHRESH)).toBe(7);
      bench.advance(RTT_MS - 1);
      peer.sendSack(at(0), segments(1, 12));
      expect(sent(peer)).toEqual([]);
      bench.advance(1);
      peer.send({ flags: "ack", ack: at(12) });
      now = info(bench, handle);
      expect(now(TCPI.TCPI_CA_STATE)).toBe(TCPI.TCPI_CA_OPEN);
      expect(now(TCPI.TCPI_SND_CWND)).toBe(7);
      expect(bench.counters()).toMatchObject({ tcpFastRetransmits: 1, tcpRetransmits: 1 });
      expect(bench.counters().tcpRetransmitTimeouts).toBe(0);
    });

    test("the shortest round trip is told for the connection's life, whatever comes after a pause", () => {
      const { bench, peer, handle } = open(build);
      const shortest = () => info(bench, handle)(TCPI.TCPI_MIN_RTT_US);
      expect(shortest()).toBe(0xffffffff);
      let end = 0;
      for (const [rttMs, expected] of [
        [20, 20],
        [RTT_MS, 20],
        [15, 15],
      ] as const) {
        bench.write(handle, pattern(4 * MSS));
        sent(peer);
        bench.advance(rttMs);
        peer.sendSack(at(end), segments(end + 1, end + 4));
        end += 4;
        peer.send({ flags: "ack", ack: at(end) });
        expect(shortest()).toBe(expected * 1000);
        // What is known of the flight is given back meanwhile.
        bench.advance(5000);
        sent(peer);
        expect(shortest()).toBe(expected * 1000);
      }
    });

    test("several holes are filled in one round trip", () => {
      const { bench, peer, handle } = open(build);
      bench.write(handle, pattern(10 * MSS));
      sent(peer);
      bench.advance(RTT_MS);
      peer.sendSack(at(0), segments(7, 10), segments(5, 6), segments(3, 4));
      const again = sent(peer);
      expect(again[0]).toBe(0);
      peer.sendSack(at(1), segments(7, 10), segments(5, 6), segments(3, 4));
      again.push(...sent(peer));
      peer.sendSack(at(2), segments(7, 10), segments(5, 6), segments(3, 4));
      again.push(...sent(peer));
      expect(again).toEqual([0, 1, 2, 4, 6]);
      peer.send({ flags: "ack", ack: at(10) });
      expect(bench.info(handle).sndQueuedBytes).toBe(0);
    });

    test("one segment beyond a hole: after a quarter of the shortest round trip", () => {
      const { bench, peer, handle } = open(build);
      bench.write(handle, pattern(3 * MSS));
      sent(peer);
      bench.advance(RTT_MS);
      peer.sendSack(at(0), segments(1, 2));
      bench.advance(RTT_MS / 4 - 1);
      expect(sent(peer)).toEqual([]);
      bench.advance(2);
      expect(sent(peer)).toEqual([0]);
      expect(bench.counters().tcpFastRetransmits).toBe(1);
    });

    test("reordering within that time costs nothing, and three reports are no loss any more", () => {
      const { bench, peer, handle } = open(build);
      bench.write(handle, pattern(5 * MSS));
      sent(peer);
      bench.advance(RTT_MS);
      peer.sendSack(at(0), segments(1, 2));
      bench.advance(1);
      peer.send({ flags: "ack", ack: at(2) });
      expect(info(bench, handle)(TCPI.TCPI_REORD_SEEN)).toBe(1);
      peer.sendSack(at(2), segments(3, 5));
      bench.advance(1);
      expect(sent(peer)).toEqual([]);
      peer.send({ flags: "ack", ack: at(5) });
      bench.write(handle, pattern(6 * MSS));
      sent(peer);
      bench.advance(RTT_MS);
      peer.sendSack(at(5), segments(6, 11));
      expect(sent(peer)).toEqual([]);
      peer.send({ flags: "ack", ack: at(11) });
      bench.advance(1000);
      expect(bench.counters()).toMatchObject({ tcpFastRetransmits: 0, tcpRetransmits: 0 });
    });

    test("duplicates at the peer widen the window by a quarter, once in a round trip (RFC 8985 6.2, step 4)", () => {
      // Sequence numbers in both halves of their space: what is compared with a round's end is no accident of it.
      for (const seed of [1, 2, 3, 4, 5, 6, 7, 8]) {
        const { bench, peer, handle } = open(build, { seed });
        bench.write(handle, pattern(8 * MSS));
        sent(peer);
        bench.advance(RTT_MS);
        // Two come late and are sent again for nothing.
        peer.sendSack(at(0), segments(2, 5));
        peer.sendSack(at(0), segments(2, 5));
        expect(sent(peer)).toEqual([0, 1]);
        peer.send({ flags: "ack", ack: at(5) });
        const reports = [[at(0), at(1)] as const, [at(1), at(2)] as const];
        for (const report of reports) peer.sendSack(at(5), report);
        peer.send({ flags: "ack", ack: at(8) });
        expect(info(bench, handle)(TCPI.TCPI_DSACK_DUPS)).toBe(2);
        bench.write(handle, pattern(3 * MSS));
        sent(peer);
        bench.advance(RTT_MS);
        peer.sendSack(at(8), segments(9, 10));
        // Two quarters of the shortest round trip, for the two reports came within one.
        bench.advance(RTT_MS / 2 - 2);
        expect(sent(peer), `seed ${seed}`).toEqual([]);
        bench.advance(4);
        expect(sent(peer), `seed ${seed}`).toEqual([8]);
      }
    });

    test("a retransmission that is lost too is sent again when what was sent after it has arrived", () => {
      const { bench, peer, handle } = open(build);
      bench.write(handle, pattern(20 * MSS));
      expect(sent(peer).length).toBe(10);
      bench.advance(RTT_MS);
      peer.sendSack(at(0), segments(1, 10));
      const after = sent(peer);
      expect(after[0]).toBe(0);
      expect(after.length).toBeGreaterThan(1);
      bench.advance(RTT_MS);
      peer.sendSack(at(0), segments(1, 10 + after.length - 1));
      expect(sent(peer)[0]).toBe(0);
      expect(bench.counters().tcpRetransmitTimeouts).toBe(0);
    });

    test("blocks that make no sense are counted and change nothing", () => {
      const { bench, peer, handle } = open(build);
      bench.write(handle, pattern(4 * MSS));
      sent(peer);
      bench.advance(10);
      peer.sendSack(at(0), segments(2, 9), segments(3, 3), [at(3), at(2)]);
      expect(info(bench, handle)(TCPI.TCPI_SACKED)).toBe(0);
      expect(bench.counters().dropTcpSackInvalid).toBe(3);
    });
  });

  describe("tail loss probe (RFC 8985 7)", () => {
    test("after two round trips the last segment is sent again, and its ACK shows what is lost", () => {
      const { bench, peer, handle } = open(build);
      bench.write(handle, pattern(4 * MSS));
      sent(peer);
      bench.advance(2 * RTT_MS);
      expect(sent(peer)).toEqual([]);
      bench.advance(4);
      expect(sent(peer)).toEqual([3]);
      expect(bench.counters().tcpTailLossProbes).toBe(1);
      bench.advance(RTT_MS);
      peer.sendSack(at(2), segments(3, 4));
      bench.advance(RTT_MS / 4 + 1);
      expect(sent(peer)).toEqual([2]);
      peer.send({ flags: "ack", ack: at(4) });
      expect(bench.counters().tcpRetransmitTimeouts).toBe(0);
    });

    test("carries new data where there is any", () => {
      const { bench, peer, handle } = open(build);
      bench.write(handle, pattern(12 * MSS));
      expect(sent(peer).length).toBe(10);
      bench.advance(2 * RTT_MS + 4);
      expect(sent(peer)).toEqual([10]);
      bench.advance(RTT_MS);
      peer.send({ flags: "ack", ack: at(11) });
      expect(info(bench, handle)(TCPI.TCPI_SND_CWND)).toBeGreaterThanOrEqual(10);
    });

    test("one that has repaired a loss shrinks the window; one that was a duplicate does not", () => {
      for (const lost of [true, false]) {
        const { bench, peer, handle } = open(build);
        bench.write(handle, pattern(4 * MSS));
        sent(peer);
        bench.advance(2 * RTT_MS + 4);
        expect(sent(peer)).toEqual([3]);
        bench.write(handle, pattern(MSS));
        bench.advance(RTT_MS);
        if (lost) peer.send({ flags: "ack", ack: at(5) });
        else peer.sendSack(at(5), segments(3, 4));
        const cwnd = info(bench, handle)(TCPI.TCPI_SND_CWND);
        if (lost) expect(cwnd).toBe(7);
        else expect(cwnd).toBeGreaterThanOrEqual(10);
      }
    });

    test("goes before the first time-out, not before the second", () => {
      const { bench, peer, handle } = open(build);
      bench.write(handle, pattern(MSS));
      expect(sent(peer)).toEqual([0]);
      const { rtoUs } = bench.info(handle);
      bench.advance(rtoUs / 1000 + 1);
      expect(sent(peer)).toEqual([0]);
      expect(bench.counters()).toMatchObject({ tcpTailLossProbes: 1, tcpRetransmitTimeouts: 0 });
      bench.advance(rtoUs / 1000 + 1);
      expect(sent(peer)).toEqual([0]);
      expect(bench.counters()).toMatchObject({ tcpTailLossProbes: 1, tcpRetransmitTimeouts: 1 });
    });
  });

  describe("time-out", () => {
    /** Ten segments of which nothing is heard until the retransmission timer fires; the probe is taken out. */
    function timedOut(options: Options = {}): ReturnType<typeof open> {
      const opened = open(build, options);
      opened.bench.write(opened.handle, pattern(10 * MSS));
      expect(sent(opened.peer).length).toBe(10);
      opened.bench.advance(2 * RTT_MS + 4);
      expect(sent(opened.peer)).toEqual([9]);
      opened.bench.advance(opened.bench.info(opened.handle).rtoUs / 1000 + 2);
      return opened;
    }

    test("what the peer has reported is not sent again", () => {
      const { bench, peer, handle } = timedOut();
      expect(sent(peer)).toEqual([0]);
      bench.advance(RTT_MS);
      peer.sendSack(at(1), segments(3, 10));
      bench.advance(RTT_MS);
      expect(sent(peer)).toEqual([1, 2]);
      peer.send({ flags: "ack", ack: at(10) });
      expect(info(bench, handle)(TCPI.TCPI_CA_STATE)).toBe(TCPI.TCPI_CA_OPEN);
    });

    test("a peer that has dropped what it reported gets all of it again (RFC 2018 8)", () => {
      const { bench, peer } = timedOut();
      sent(peer);
      peer.sendSack(at(0), segments(1, 10));
      bench.advance(5);
      peer.all();
      // It acknowledges segment 0 only, though it had reported those after it.
      peer.send({ flags: "ack", ack: at(1) });
      const again = new Set<number>();
      for (let i = 0; i < 60; i++) {
        bench.advance(100);
        for (const number of sent(peer)) again.add(number);
      }
      expect(again.has(1)).toBe(true);
    });

    test("F-RTO: when the originals arrive after all, nothing more is sent again and the windows are restored", () => {
      const { bench, peer, handle } = timedOut();
      expect(sent(peer)).toEqual([0]);
      expect(info(bench, handle)(TCPI.TCPI_SND_CWND)).toBe(1);
      bench.queue(handle, pattern(4 * MSS));
      peer.send({ flags: "ack", ack: at(2) });
      const now = info(bench, handle);
      expect(now(TCPI.TCPI_CA_STATE)).toBe(TCPI.TCPI_CA_OPEN);
      expect(now(TCPI.TCPI_SND_CWND)).toBeGreaterThanOrEqual(10);
      expect(sent(peer).every((number) => number >= 10)).toBe(true);
      expect(bench.counters().tcpSpuriousRecoveries).toBe(1);
    });

    test("F-RTO: new data goes first; duplicates in answer mean that the loss was real", () => {
      const { bench, peer, handle } = timedOut();
      expect(sent(peer)).toEqual([0]);
      bench.queue(handle, pattern(4 * MSS));
      peer.send({ flags: "ack", ack: at(1) });
      expect(sent(peer)).toEqual([10, 11]);
      bench.advance(RTT_MS);
      peer.sendSack(at(1), segments(10, 12));
      expect(sent(peer)[0]).toBe(1);
      expect(info(bench, handle)(TCPI.TCPI_CA_STATE)).toBe(TCPI.TCPI_CA_LOSS);
      expect(bench.counters().tcpSpuriousRecoveries).toBe(0);
    });
  });

  describe("a reduction that was a mistake", () => {
    test("D-SACK for all that was sent again restores the windows (RFC 3708)", () => {
      const { bench, peer, handle } = open(build);
      bench.write(handle, pattern(10 * MSS));
      sent(peer);
      bench.advance(RTT_MS);
      peer.sendSack(at(0), segments(1, 4));
      expect(sent(peer)).toEqual([0]);
      peer.send({ flags: "ack", ack: at(4) });
      bench.advance(RTT_MS);
      peer.sendSack(at(4), segments(0, 1));
      const now = info(bench, handle);
      expect(now(TCPI.TCPI_CA_STATE)).toBe(TCPI.TCPI_CA_OPEN);
      expect(now(TCPI.TCPI_SND_CWND)).toBeGreaterThanOrEqual(10);
      expect(now(TCPI.TCPI_SND_SSTHRESH)).toBe(0x7fffffff);
      expect(bench.counters()).toMatchObject({ tcpSpuriousRecoveries: 1, tcpDsackReceived: 1 });
    });

    test("D-SACK where the network repeats segments says nothing of it (RFC 3708 2)", () => {
      const { bench, peer, handle } = open(build);
      bench.write(handle, pattern(10 * MSS));
      sent(peer);
      bench.advance(RTT_MS);
      // Nothing has been sent twice yet.
      for (let i = 0; i < 8; i++) peer.sendSack(at(0), segments(1, 2), segments(1, 3));
      peer.sendSack(at(0), segments(1, 4));
      expect(sent(peer)).toEqual([0]);
      const now = info(bench, handle);
      const ssthresh = now(TCPI.TCPI_SND_SSTHRESH);
      peer.send({ flags: "ack", ack: at(4) });
      bench.advance(RTT_MS);
      peer.sendSack(at(4), segments(0, 1));
      expect(info(bench, handle)(TCPI.TCPI_SND_SSTHRESH)).toBe(ssthresh);
      expect(ssthresh).toBeLessThan(10);
      expect(bench.counters().tcpSpuriousRecoveries).toBe(0);
    });

    test("a path that has repeated segments once is believed again, a few recoveries later", () => {
      const { bench, peer, handle } = open(build);
      bench.write(handle, pattern(8 * MSS));
      sent(peer);
      bench.advance(RTT_MS);
      for (let i = 0; i < 8; i++) peer.sendSack(at(0), segments(1, 2), segments(1, 3));
      peer.send({ flags: "ack", ack: at(8) });
      // From -8 by halves to 0: reports count from the fourth recovery on.
      let next = 8;
      const undone: unknown[] = [];
      for (let i = 0; i < 5; i++, next += 4) {
        bench.write(handle, pattern(4 * MSS));
        sent(peer);
        bench.advance(RTT_MS);
        peer.sendSack(at(next), segments(next + 1, next + 4));
        // Past the reordering window.
        bench.advance(RTT_MS);
        expect(sent(peer).slice(0, 1)).toEqual([next]);
        peer.send({ flags: "ack", ack: at(next + 4) });
        bench.advance(RTT_MS);
        peer.sendSack(at(next + 4), segments(next, next + 1));
        undone.push(bench.counters().tcpSpuriousRecoveries);
      }
      expect(undone.map(Number)).toEqual([0, 0, 0, 1, 2]);
    });

    test("an echo of a timestamp from before the retransmission does so at once (RFC 4015)", () => {
      const { bench, peer, handle } = open(build, { timestamp: 7 });
      bench.write(handle, pattern(9000));
      const first = peer.all()[0]?.options.timestamps?.[0] as number;
      const mss = bench.info(handle).sndMssBytes;
      bench.advance(RTT_MS);
      const block = (i: number, j: number) => [1 + i * mss, 1 + j * mss] as const;
      peer.sendSack(1, block(1, 4));
      expect(peer.all().length).toBe(1);
      peer.send({ flags: "ack", ack: 1 + 4 * mss, timestamps: [8, first] });
      expect(info(bench, handle)(TCPI.TCPI_CA_STATE)).toBe(TCPI.TCPI_CA_OPEN);
      expect(bench.counters().tcpSpuriousRecoveries).toBe(1);
    });
  });

  test("the flight block of an idle connection is given back", () => {
    const { bench, peer, handle } = open(build);
    bench.write(handle, pattern(10 * MSS));
    sent(peer);
    bench.advance(10);
    peer.send({ flags: "ack", ack: at(2) });
    bench.write(handle, pattern(MSS));
    expect(bench.counters().gaugeStreamBytes).toBeGreaterThan(16_384);
    peer.all();
    peer.send({ flags: "ack", ack: at(11) });
    bench.advance(2000);
    expect(bench.counters().gaugeStreamBytes).toBe(0);
  });
});
