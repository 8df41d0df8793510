import { describe, expect, test } from "vitest";
import { OPTION_QUICKACK, OPTION_RCV_BUFFER_BYTES } from "../../../src/layout/option.ts";
import { KERNEL_BUILDS, KernelBench, openPassive, type SegmentFields } from "../../helpers/kernelBench.ts";
import { concat, pattern } from "../../helpers/packets.ts";

const WINDOW = 4096;

describe.each(KERNEL_BUILDS)("TCP receiving, %s build", (build) => {
  const small = { build, tuning: { rcvBufferBytesMax: WINDOW } };

  describe("acceptability of a segment (RFC 9293 3.4, table 6)", () => {
    // Numbers are distances from RCV.NXT; `read`: what arrives in order; `kept`: ahead of its turn.
    test.each([
      { name: "no data, at RCV.NXT", seq: 0, bytes: 0, read: 0, answered: false },
      { name: "no data, before", seq: -1, bytes: 0, read: 0, answered: true },
      { name: "no data, in the window", seq: 100, bytes: 0, read: 0, answered: false },
      { name: "no data, at the right edge (let in like Linux)", seq: WINDOW, bytes: 0, read: 0, answered: false },
      { name: "no data, beyond the right edge", seq: WINDOW + 1, bytes: 0, read: 0, answered: true },
      { name: "data at RCV.NXT", seq: 0, bytes: 10, read: 10, answered: false },
      { name: "data all old", seq: -10, bytes: 10, read: 0, answered: true },
      { name: "data half old", seq: -5, bytes: 10, read: 5, answered: false },
      { name: "old data around all of the window", seq: -5, bytes: 1400, read: 1395, answered: false },
      { name: "data ahead", seq: 100, bytes: 10, read: 0, kept: 10, answered: true },
      { name: "data across the right edge", seq: WINDOW - 5, bytes: 10, read: 0, kept: 5, answered: true },
      { name: "data at the right edge", seq: WINDOW, bytes: 10, read: 0, answered: true },
      { name: "data half the number space away", seq: 2 ** 31, bytes: 10, read: 0, answered: true },
    ])("$name", ({ seq, bytes, read, kept = 0, answered }) => {
      const bench = new KernelBench(small);
      const { peer, handle } = openPassive(bench, { mss: 1460 });
      // Some data first, so that "old" numbers are data and not the SYN.
      peer.send({ flags: "ack", payload: pattern(1460, 7) });
      bench.read(handle);
      bench.advance(50);
      peer.all();
      const base = peer.nxt;
      expect(bench.info(handle).rcvWnd).toBe(WINDOW);
      // The payload's place in the stream decides its bytes.
      const stream = pattern(WINDOW + 1500, 3);
      const payload = seq >= -5 && seq < 5000 ? stream.subarray(seq + 5, seq + 5 + bytes) : pattern(bytes);
      peer.send({ flags: "ack", seq: base + seq, payload });
      expect(bench.read(handle)).toEqual(Buffer.from(stream.subarray(5, 5 + read)));
      if (answered) peer.expect({ flags: "ack", seq: 1, ack: base + read, payloadBytes: 0 });
      peer.expectNothing();
      if (kept === 0) return;
      // What was kept is not asked for again.
      peer.sendAll(...pieces(stream.subarray(5, 5 + seq), base, 1000));
      expect(bench.read(handle)).toEqual(Buffer.from(stream.subarray(5, 5 + seq + kept)));
      expect(peer.all().at(-1)).toMatchObject({ ack: base + seq + kept });
    });

    test.each([
      { name: "no data, at RCV.NXT", seq: 0, bytes: 0, answered: false },
      { name: "no data, elsewhere", seq: 1, bytes: 0, answered: true },
      { name: "data at RCV.NXT: its ACK counts, its data does not", seq: 0, bytes: 10, answered: true },
      { name: "data elsewhere", seq: 1, bytes: 10, answered: true },
    ])("with a closed window: $name", ({ seq, bytes, answered }) => {
      const bench = new KernelBench(small);
      const { peer, handle } = openPassive(bench, { mss: 1460 });
      bench.write(handle, pattern(100));
      peer.sendAll(...pieces(pattern(WINDOW), 1, 1024));
      bench.advance(50);
      expect(peer.all().at(-1)).toMatchObject({ ack: WINDOW + 1, window: 0 });
      peer.send({ flags: "ack", seq: peer.nxt + seq, ack: 101, payload: pattern(bytes) });
      if (answered) peer.expect({ flags: "ack", ack: WINDOW + 1, window: 0 });
      peer.expectNothing();
      expect(bench.info(handle)).toMatchObject({ rcvQueuedBytes: WINDOW, sndQueuedBytes: seq === 0 ? 0 : 100 });
    });

    test("with a closed window an RST at RCV.NXT counts", () => {
      const bench = new KernelBench(small);
      const { peer, handle } = openPassive(bench);
      peer.sendAll(...pieces(pattern(WINDOW), 1, 1024));
      peer.send({ flags: "rst" });
      expect(bench.events(handle)).toMatchObject([{ mask: "readable" }, { mask: "closed error" }]);
    });

    test("a FIN just behind a full window is taken, and opens no window", () => {
      const bench = new KernelBench(small);
      const { peer, handle } = openPassive(bench);
      peer.sendAll(...pieces(pattern(WINDOW), 1, 1024), { flags: "fin ack", seq: WINDOW + 1 });
      peer.expect({ flags: "ack", ack: WINDOW + 2, window: 0 });
      expect(bench.info(handle)).toMatchObject({ state: "CLOSE_WAIT", rcvWnd: 0 });
      // More "data" at the new RCV.NXT finds no room anywhere.
      peer.send({ flags: "ack", seq: WINDOW + 2, payload: pattern(1000) });
      expect(bench.read(handle)).toEqual(Buffer.from(pattern(WINDOW)));
    });
  });

  describe("out of order", () => {
    const DATA = pattern(3000);
    const [a, b, c] = pieces(DATA, 1, 1000) as [SegmentFields, SegmentFields, SegmentFields];
    const again = { flags: "ack", seq: 501, payload: DATA.subarray(500, 2500) };
    const inside = { flags: "ack", seq: 1201, payload: DATA.subarray(1200, 1300) };
    const finAlone = { flags: "fin ack", seq: 3001 };
    const cFin = { ...c, flags: "fin ack" };
    test.each([
      ["a c b", [a, c, b], false],
      ["c b a", [c, b, a], false],
      ["b c a", [b, c, a], false],
      ["c a b", [c, a, b], false],
      ["each twice", [c, c, b, b, a, a], false],
      ["overlap in front and behind", [c, again, a], false],
      ["a piece, then all around it", [inside, c, again, a], false],
      ["touching pieces", [c, inside, b, a], false],
      ["FIN first", [finAlone, c, a, b], true],
      ["FIN on data, first", [cFin, b, a], true],
      ["FIN on data and again alone", [cFin, finAlone, a, b], true],
    ])("%s: the bytes come whole and in order (RFC 9293 3.10.7.4)", (_name, segments, fin) => {
      for (const batched of [false, true]) {
        const bench = new KernelBench({ build });
        const { peer, handle } = openPassive(bench);
        if (batched) {
          peer.sendAll(...segments);
        } else {
          for (const segment of segments) {
            const before = bench.info(handle).rcvNxt;
            peer.send(segment);
            // What comes ahead of its turn, or again, is answered at once with what is missing (RFC 5681 4.2).
            if (bench.info(handle).rcvNxt === before) peer.expect({ flags: "ack", ack: (before - peer.iss) | 0 });
          }
        }
        expect(peer.all().at(-1)).toMatchObject({ flags: "ack", ack: fin ? 3002 : 3001 });
        expect(bench.read(handle)).toEqual(Buffer.from(DATA));
        expect(bench.state(handle)).toBe(fin ? "CLOSE_WAIT" : "ESTABLISHED");
        expect(bench.events(handle).some((event) => event.mask.includes("peerClosed"))).toBe(fin);
        bench.advance(100);
        expect(bench.counters().gaugeStreamBytes).toBe(0);
      }
    });

    test("more holes than can be noted: the rest is sent again, nothing is lost (dropTcpReassemblyLimit)", () => {
      const bench = new KernelBench({ build });
      const { peer, handle } = openPassive(bench);
      const data = pattern(60_000);
      const all = pieces(data, 1, 50);
      peer.sendAll(...all.filter((_, i) => i % 2 === 1));
      expect(bench.counters().dropTcpReassemblyLimit).toBe(600 - 506);
      peer.sendAll(...all.filter((_, i) => i % 2 === 0));
      // The peer sends everything again, as it would after its time-out.
      peer.sendAll(...all);
      expect(bench.read(handle)).toEqual(Buffer.from(data));
    });

    test("bytes kept ahead of their turn are not changed by a later copy of other content", () => {
      const bench = new KernelBench({ build });
      const { peer, handle } = openPassive(bench);
      peer.send({ flags: "ack", seq: 101, payload: pattern(100, 1) });
      peer.send({ flags: "ack", seq: 1, payload: pattern(100, 2) });
      peer.send({ flags: "ack", seq: 1, payload: pattern(200, 3) });
      expect(bench.read(handle)).toEqual(Buffer.from(concat(pattern(100, 2), pattern(100, 1))));
    });

    test("urgent data comes in its place in the stream (RFC 6093 6)", () => {
      const bench = new KernelBench({ build });
      const { peer, handle } = openPassive(bench);
      peer.send({ flags: "psh ack urg", payload: pattern(50), tcp: { urgent: 20 } });
      expect(bench.read(handle)).toEqual(Buffer.from(pattern(50)));
    });
  });

  describe("acknowledging (RFC 9293 3.8.6.3, RFC 5681 4.2)", () => {
    test("sixteen ACKs wait 1 ms, the next ones 40 ms", () => {
      const bench = new KernelBench({ build });
      const { peer } = openPassive(bench);
      for (let i = 0; i < 16; i++) {
        peer.send({ flags: "psh ack", payload: pattern(10) });
        bench.advance(0.9);
        peer.expectNothing();
        bench.advance(0.3);
        peer.expect({ flags: "ack", ack: 11 + 10 * i, payloadBytes: 0 });
      }
      peer.send({ flags: "psh ack", payload: pattern(10) });
      bench.advance(39.9);
      peer.expectNothing();
      bench.advance(0.3);
      peer.expect({ flags: "ack", ack: 171, payloadBytes: 0 });
    });

    test("ACKs wait 40 ms once an answer has carried one", () => {
      const bench = new KernelBench({ build });
      const { peer, handle } = openPassive(bench);
      peer.send({ flags: "psh ack", payload: pattern(10) });
      bench.write(handle, pattern(10));
      peer.expect({ flags: "psh ack", ack: 11, payloadBytes: 10 });
      // The first one's timer has run by then.
      bench.advance(2);
      peer.send({ flags: "psh ack", payload: pattern(10) });
      bench.advance(39.9);
      peer.expectNothing();
      bench.advance(0.3);
      peer.expect({ flags: "ack", ack: 21, payloadBytes: 0 });
    });

    test("without quick ACKs one segment waits 40 ms, no longer and no shorter", () => {
      const bench = new KernelBench({ build, tuning: { quickAcks: 0 } });
      const { peer } = openPassive(bench);
      peer.send({ flags: "psh ack", payload: pattern(10) });
      bench.advance(39.9);
      peer.expectNothing();
      bench.advance(0.3);
      peer.expect({ flags: "ack", ack: 11, payloadBytes: 0 });
      bench.advance(1000);
      peer.expectNothing();
    });

    test("every second segment is acknowledged at once", () => {
      const bench = new KernelBench({ build });
      const { peer } = openPassive(bench, { mss: 1000 });
      for (let i = 0; i < 10; i++) {
        peer.send({ flags: "ack", payload: pattern(1000) });
        if (i % 2 === 0) peer.expectNothing();
        else peer.expect({ flags: "ack", ack: 1001 + i * 1000 });
      }
    });

    test("a burst in one batch is acknowledged once", () => {
      const bench = new KernelBench({ build });
      const { peer } = openPassive(bench);
      peer.sendAll(...pieces(pattern(20_000), 1, 1000));
      peer.expect({ flags: "ack", ack: 20_001 });
      peer.expectNothing();
    });

    test("an answer carries the ACK", () => {
      const bench = new KernelBench({ build });
      const { peer, handle } = openPassive(bench, { mss: 1460 });
      peer.send({ flags: "psh ack", payload: pattern(10) });
      bench.write(handle, pattern(20));
      peer.expect({ flags: "psh ack", seq: 1, ack: 11, payloadBytes: 20 });
      bench.advance(100);
      peer.expectNothing();
    });

    test("OPTION_QUICKACK, and delayedAckUs 0, acknowledge at once", () => {
      const quick = new KernelBench({ build });
      const first = openPassive(quick);
      quick.wasm.tcpSetOption(first.handle, OPTION_QUICKACK, 1);
      first.peer.send({ flags: "psh ack", payload: pattern(10) });
      first.peer.expect({ flags: "ack", ack: 11 });
      const undelayed = new KernelBench({ build, tuning: { delayedAckUs: 0 } });
      const second = openPassive(undelayed);
      second.peer.send({ flags: "psh ack", payload: pattern(10) });
      undelayed.advance(0.2);
      second.peer.expect({ flags: "ack", ack: 11 });
    });

    test("a segment that fills a hole is acknowledged at once, a FIN too", () => {
      const bench = new KernelBench({ build });
      const { peer } = openPassive(bench);
      peer.send({ flags: "ack", seq: 101, payload: pattern(100) });
      peer.expect({ flags: "ack", ack: 1 });
      peer.send({ flags: "ack", seq: 1, payload: pattern(100) });
      peer.expect({ flags: "ack", ack: 201 });
      peer.send({ flags: "fin ack", seq: 201 });
      peer.expect({ flags: "ack", ack: 202 });
    });
  });

  describe("probes of the peer (RFC 9293 3.8.4, 3.8.6.1)", () => {
    test.each([0, 1])(
      "keep-alive probes with %i bytes are answered, on thousands of connections in one second",
      (bytes) => {
        const bench = new KernelBench({ build, tuning: { connectionsMax: 2500, memoryBytes: 32 << 20 } });
        const listener = bench.listen(80);
        const peers = Array.from({ length: 2200 }, (_, i) => openPassive(bench, { port: 1000 + i }, listener).peer);
        bench.advance(10_000);
        for (const peer of peers) {
          const seq = peer.nxt - 1;
          peer.send({ flags: "ack", seq, payload: pattern(bytes) });
          peer.expect({ flags: "ack", seq: 1, ack: 1 });
        }
        expect(bench.counters()).toMatchObject({ tcpChallengeAcks: 0, tcpDuplicateAcks: 0 });
      },
    );

    test("ACKs one before RCV.NXT are answered a few times a second: two ends cannot keep each other busy", () => {
      const bench = new KernelBench({ build });
      const { peer } = openPassive(bench);
      bench.advance(1000);
      for (let i = 0; i < 1000; i++) {
        peer.send({ flags: "ack", seq: 0 });
        bench.advance(1);
      }
      const answers = peer.all().length;
      expect(answers).toBeGreaterThanOrEqual(3);
      expect(answers).toBeLessThanOrEqual(5);
    });

    test("probes that cross, each taken by the other side, do not lock both up", () => {
      const bench = new KernelBench(small);
      const { peer, handle } = openPassive(bench, { mss: 1460, window: 0 });
      bench.write(handle, pattern(100));
      bench.advance(1100);
      // The kernel's probe, which the peer takes; the peer's own, which the kernel takes.
      peer.expect({ flags: "psh ack", seq: 1, payloadBytes: 1 });
      peer.send({ flags: "psh ack", seq: 1, ack: 1, payload: pattern(1) });
      bench.advance(50);
      peer.all();
      // The peer's ACK of the kernel's byte still has the number of before its probe.
      peer.send({ flags: "ack", seq: 1, ack: 2, window: 5000 });
      expect(bench.info(handle).sndUna - peer.kernelIss).toBeGreaterThanOrEqual(2);
      bench.advance(1000);
      expect(peer.all().some(({ seq, payload }) => seq === 2 && payload.length === 99)).toBe(true);
    });
  });

  describe("the window offered (RFC 9293 3.8.6)", () => {
    test("shrinks as unread data comes, closes, opens by at least a segment (SWS, 3.8.6.2.2)", () => {
      const bench = new KernelBench(small);
      const { peer, handle } = openPassive(bench, { mss: 1000 });
      for (const [i, left] of [3096, 2096, 1096, 96].entries()) {
        peer.send({ flags: "ack", seq: 1 + i * 1000, payload: pattern(1000) });
        bench.advance(50);
        peer.expect({ flags: "ack", ack: 1001 + i * 1000, window: left });
      }
      peer.send({ flags: "ack", seq: 4001, payload: pattern(96) });
      bench.advance(50);
      peer.expect({ flags: "ack", ack: 4097, window: 0 });
      // Crumbs open nothing.
      for (let i = 0; i < 9; i++) {
        bench.read(handle, 100);
        bench.turn();
        peer.expectNothing();
      }
      bench.read(handle, 100);
      bench.turn();
      peer.expect({ flags: "ack", ack: 4097, window: 1000 });
      bench.read(handle);
      bench.turn();
      peer.expect({ flags: "ack", ack: 4097, window: 4096 });
      bench.advance(1000);
      peer.expectNothing();
    });

    test("its right edge never moves back, whatever is read, and never beyond the limit (RFC 7323 2.4)", () => {
      const limit = 128 * 1024;
      const bench = new KernelBench({ build, tuning: { rcvBufferBytesMax: limit } });
      const { peer, handle } = openPassive(bench, { mss: 1460, windowScale: 0 });
      const shift = 2;
      let edge = 65536;
      let sent = 0;
      let read = 0;
      const step = (bytes: number) => {
        peer.send({ flags: "ack", seq: 1 + sent, payload: pattern(bytes, sent) });
        bench.advance(45);
        sent += bytes;
        for (const segment of peer.all()) {
          expect(segment.ack).toBe(1 + sent);
          const right = sent + segment.window * 2 ** shift;
          // A field in units of 4 bytes can seem to step back by less than one unit.
          expect(right).toBeGreaterThan(edge - 2 ** shift);
          expect(right).toBeLessThanOrEqual(read + limit);
          edge = Math.max(edge, right);
        }
      };
      for (let i = 0; i < 40; i++) {
        step(1 + ((i * 37) % 1460));
        if (i % 3 === 0) read += bench.read(handle, 1 + i * 13).length;
      }
      // Nothing is read any more: the window must close.
      for (let i = 0; i < 1000 && edge > sent; i++) step(Math.min(edge - sent, 333));
      expect(edge).toBe(sent);
      expect(bench.info(handle).rcvQueuedBytes).toBeLessThanOrEqual(limit);
      expect(bench.counters().gaugeStreamBytes).toBeLessThanOrEqual(limit);
    });

    test("OPTION_RCV_BUFFER_BYTES limits it; a smaller limit takes nothing back", () => {
      const bench = new KernelBench({ build });
      const { peer, handle } = openPassive(bench, { mss: 1460 });
      expect(bench.wasm.tcpSetOption(handle, OPTION_RCV_BUFFER_BYTES, 8192)).toBe(0);
      peer.sendAll(...pieces(pattern(4000), 1, 1000));
      peer.expect({ flags: "ack", ack: 4001, window: 61_535 });
      bench.read(handle);
      peer.sendAll(...pieces(pattern(60_000), 4001, 1000));
      peer.expect({ flags: "ack", ack: 64_001, window: 1535 });
      expect(bench.info(handle).rcvQueuedBytes).toBe(60_000);
      bench.read(handle);
      bench.turn();
      peer.expect({ flags: "ack", ack: 64_001, window: 8192 });
    });
  });

  describe("timestamps (RFC 7323)", () => {
    test("PAWS: a segment with an older timestamp is dropped and answered (5.3 R1)", () => {
      const bench = new KernelBench({ build });
      const { peer, handle } = openPassive(bench, { timestamp: 1000 });
      peer.timestamp = 1010;
      peer.send({ flags: "ack", payload: pattern(10) });
      bench.advance(50);
      peer.expect({ flags: "ack", ack: 11 });
      peer.send({ flags: "ack", payload: pattern(10, 1), timestamps: [1010 - 65, peer.echo] });
      peer.expect({ flags: "ack", ack: 11 });
      expect(bench.counters().dropTcpPaws).toBe(1);
      expect(bench.read(handle).length).toBe(10);
    });

    test("PAWS: what was overtaken a moment before is taken; its timestamp is not kept (deviates from 5.3 R1)", () => {
      const bench = new KernelBench({ build });
      const { peer, handle } = openPassive(bench, { timestamp: 1000 });
      peer.timestamp = 1064;
      peer.send({ flags: "ack", payload: pattern(10) });
      bench.advance(50);
      peer.expect({ flags: "ack", ack: 11 });
      peer.send({ flags: "ack", payload: pattern(10, 10), timestamps: [1000, peer.echo] });
      bench.advance(50);
      expect(peer.expect({ flags: "ack", ack: 21 }).options.timestamps?.[1]).toBe(1064);
      expect(bench.counters().dropTcpPaws).toBe(0);
      expect([...bench.read(handle)]).toEqual([...pattern(10), ...pattern(10, 10)]);
    });

    test("the timestamp of a segment whose ACK is wrong is not kept (RFC 5961 5.2)", () => {
      const bench = new KernelBench({ build });
      const { peer, handle } = openPassive(bench, { timestamp: 1000 });
      peer.send({ flags: "ack", ack: 5000, payload: pattern(10), timestamps: [2_000_000, peer.echo] });
      peer.expect({ flags: "ack", ack: 1 });
      peer.send({ flags: "ack", seq: 1, payload: pattern(10) });
      expect(bench.read(handle).length).toBe(10);
      expect(bench.counters().dropTcpPaws).toBe(0);
    });

    test("a segment without the agreed timestamps is taken, as in Linux", () => {
      const bench = new KernelBench({ build });
      const { peer, handle } = openPassive(bench, { timestamp: 1000 });
      peer.send({ flags: "ack", payload: pattern(10), timestamps: null });
      expect(bench.read(handle).length).toBe(10);
      bench.advance(50);
      expect(peer.expect({ flags: "ack", ack: 11 }).options.timestamps?.[1]).toBe(1000);
    });

    test("PAWS does not judge RST (5.2)", () => {
      const bench = new KernelBench({ build });
      const { peer, handle } = openPassive(bench, { timestamp: 1000 });
      peer.send({ flags: "rst", timestamps: [1, 0] });
      expect(bench.events(handle)).toMatchObject([{ mask: "closed error" }]);
    });

    test("PAWS: after 24 days of silence any timestamp is taken (5.5)", () => {
      const bench = new KernelBench({ build });
      const { peer, handle } = openPassive(bench, { timestamp: 1000 });
      bench.advance(25 * 86400 * 1000);
      peer.timestamp = 5;
      peer.send({ flags: "ack", payload: pattern(10) });
      expect(bench.read(handle).length).toBe(10);
    });

    test("the echo is that of the first segment an ACK is for, and never of one out of order (4.3)", () => {
      const bench = new KernelBench({ build });
      const { peer } = openPassive(bench, { timestamp: 1000, mss: 1000 });
      peer.timestamp = 1001;
      peer.send({ flags: "ack", payload: pattern(500) });
      peer.timestamp = 1002;
      peer.send({ flags: "ack", payload: pattern(500) });
      expect(peer.expect({ flags: "ack", ack: 1001 }).options.timestamps?.[1]).toBe(1001);
      peer.timestamp = 1003;
      peer.send({ flags: "ack", seq: 2001, payload: pattern(500) });
      expect(peer.expect({ flags: "ack", ack: 1001 }).options.timestamps?.[1]).toBe(1001);
      peer.timestamp = 1004;
      peer.send({ flags: "ack", seq: 1001, payload: pattern(1000) });
      expect(peer.expect({ flags: "ack", ack: 2501 }).options.timestamps?.[1]).toBe(1004);
    });

    test("every segment carries them once they are agreed, RST aside; the clock ticks in ms (3.2, 5.4)", () => {
      const bench = new KernelBench({ build });
      const { peer, handle } = openPassive(bench, { timestamp: 1000, mss: 1460 });
      bench.write(handle, pattern(10));
      const first = peer.expect({ flags: "psh ack" }).options.timestamps?.[0] as number;
      peer.send({ flags: "ack" });
      bench.advance(1234);
      bench.write(handle, pattern(10));
      const second = peer.expect({ flags: "psh ack" }).options.timestamps?.[0] as number;
      expect((second - first) | 0).toBe(1234);
    });
  });
});

/** Consecutive segments of up to `size` bytes, the first at `seq`. */
function pieces(data: Uint8Array, seq: number, size: number): SegmentFields[] {
  const segments: SegmentFields[] = [];
  for (let at = 0; at < data.length; at += size) {
    segments.push({ flags: "ack", seq: seq + at, payload: data.subarray(at, at + size) });
  }
  return segments;
}
