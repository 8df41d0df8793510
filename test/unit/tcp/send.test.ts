import { describe, expect, test } from "vitest";
import { FRAME_VNET } from "../../../src/layout/frameRing.ts";
import { OPTION_NODELAY, OPTION_SND_BUFFER_BYTES } from "../../../src/layout/option.ts";
import { EPIPE, ETIMEDOUT } from "../../../src/layout/status.ts";
import { KERNEL_BUILDS, KernelBench, openPassive, Peer } from "../../helpers/kernelBench.ts";
import { concat, internetChecksum, parseEthernet, parseIpv4, parseTcp, pattern } from "../../helpers/packets.ts";

/** Lets the time run in steps of 10 ms; `answer` sees each segment. @returns when segments came, ms from now. */
function watch(bench: KernelBench, peer: Peer, ms: number, answer: () => void = () => undefined): number[] {
  const times: number[] = [];
  for (let at = 10; at <= ms; at += 10) {
    bench.advance(10);
    for (let segment = peer.receive(); segment; segment = peer.receive()) {
      times.push(at);
      answer();
    }
  }
  return times;
}

describe.each(KERNEL_BUILDS)("TCP sending, %s build", (build) => {
  describe("Nagle (RFC 9293 3.7.4)", () => {
    test("a small segment waits while something is unacknowledged; what is written meanwhile joins it", () => {
      const bench = new KernelBench({ build });
      const { peer, handle } = openPassive(bench, { mss: 1000 });
      bench.write(handle, pattern(10));
      peer.expect({ flags: "psh ack", seq: 1, payloadBytes: 10 });
      bench.write(handle, pattern(20, 1));
      bench.write(handle, pattern(30, 2));
      peer.expectNothing();
      peer.send({ flags: "ack" });
      peer.expect({ flags: "psh ack", seq: 11, payload: concat(pattern(20, 1), pattern(30, 2)) });
    });

    test("the end of a large write does not wait for its beginning; the next small segment does", () => {
      const bench = new KernelBench({ build });
      const { peer, handle } = openPassive(bench, { mss: 1000 });
      bench.write(handle, pattern(2500));
      peer.expect({ flags: "ack", seq: 1, payloadBytes: 1000 });
      peer.expect({ flags: "psh ack", seq: 1001, payloadBytes: 1000 });
      peer.expect({ flags: "psh ack", seq: 2001, payloadBytes: 500 });
      bench.write(handle, pattern(1100));
      peer.expect({ flags: "ack", seq: 2501, payloadBytes: 1000 });
      peer.expectNothing();
      peer.send({ flags: "ack" });
      peer.expect({ flags: "psh ack", seq: 3501, payloadBytes: 100 });
    });

    test("whole segments that left room for a SACK block hold nothing back, small ones that sum to a whole do", () => {
      const bench = new KernelBench({ build });
      const { peer, handle } = openPassive(bench, { mss: 1000, sack: true });
      // A block is owed: 12 bytes less in each segment, until the gap is filled.
      peer.send({ flags: "ack", seq: 101, payload: pattern(100) });
      peer.expect({ flags: "ack" });
      bench.write(handle, pattern(2 * 988));
      peer.expect({ seq: 1, payloadBytes: 988 });
      peer.expect({ seq: 989, payloadBytes: 988 });
      peer.send({ flags: "ack", seq: 1, ack: 1, payload: pattern(100) });
      peer.expect({ flags: "ack", ack: 201 });
      bench.write(handle, pattern(500));
      peer.expect({ flags: "psh ack", seq: 1977, payloadBytes: 500 });
      peer.send({ flags: "ack", seq: 201 });
      // Two halves in flight.
      bench.wasm.tcpSetOption(handle, OPTION_NODELAY, 1);
      for (const seq of [2477, 2977]) {
        bench.write(handle, pattern(500));
        peer.expect({ seq, payloadBytes: 500 });
      }
      bench.wasm.tcpSetOption(handle, OPTION_NODELAY, 0);
      bench.write(handle, pattern(10));
      peer.expectNothing();
      peer.send({ flags: "ack", seq: 201 });
      peer.expect({ flags: "psh ack", seq: 3477, payloadBytes: 10 });
    });

    test.each(["OPTION_NODELAY", "configured"])("%s: nothing waits", (how) => {
      const bench = new KernelBench({ build, noDelay: how === "configured" });
      const { peer, handle } = openPassive(bench, { mss: 1000 });
      if (how !== "configured") bench.wasm.tcpSetOption(handle, OPTION_NODELAY, 1);
      for (let i = 0; i < 5; i++) {
        bench.write(handle, pattern(10));
        peer.expect({ flags: "psh ack", seq: 1 + 10 * i, payloadBytes: 10 });
      }
    });

    test("switching it off sends what was held back", () => {
      const bench = new KernelBench({ build });
      const { peer, handle } = openPassive(bench, { mss: 1000 });
      bench.write(handle, pattern(10));
      bench.write(handle, pattern(10));
      peer.expect({ seq: 1 });
      peer.expectNothing();
      bench.wasm.tcpSetOption(handle, OPTION_NODELAY, 1);
      bench.turn();
      peer.expect({ seq: 11 });
    });

    test("a FIN takes the rest along", () => {
      const bench = new KernelBench({ build });
      const { peer, handle } = openPassive(bench, { mss: 1000 });
      bench.write(handle, pattern(10));
      bench.write(handle, pattern(10));
      peer.expect({ seq: 1 });
      bench.wasm.tcpShutdownSend(handle);
      bench.turn();
      peer.expect({ flags: "fin psh ack", seq: 11, payloadBytes: 10 });
    });

    test("writes of one turn go out together", () => {
      const bench = new KernelBench({ build });
      const { peer, handle } = openPassive(bench, { mss: 1000 });
      for (let i = 0; i < 5; i++) bench.queue(handle, pattern(50, i));
      bench.turn();
      peer.expect({ flags: "psh ack", payloadBytes: 250 });
      peer.expectNothing();
    });
  });

  describe("the peer's window (RFC 9293 3.8.6)", () => {
    test("no more than it offers, scaled (RFC 7323 2.3)", () => {
      const bench = new KernelBench({ build });
      const { peer, handle } = openPassive(bench, { mss: 1000, windowScale: 2, window: 1000 });
      bench.write(handle, pattern(10_000));
      expect(peer.all().map((segment) => [segment.seq, segment.payload.length])).toEqual([
        [1, 1000],
        [1001, 1000],
        [2001, 1000],
        [3001, 1000],
      ]);
    });

    test("silly windows are left alone until half the largest or a segment is open (3.8.6.2.1)", () => {
      const bench = new KernelBench({ build });
      const { peer, handle } = openPassive(bench, { mss: 1000, window: 800 });
      bench.write(handle, pattern(5000));
      peer.expect({ seq: 1, payloadBytes: 800 });
      peer.send({ flags: "ack", window: 399 });
      peer.expectNothing();
      peer.send({ flags: "ack", window: 400 });
      peer.expect({ seq: 801, payloadBytes: 400 });
    });

    test("a window that stays silly is used after a while (the override time-out)", () => {
      const bench = new KernelBench({ build });
      const { peer, handle } = openPassive(bench, { mss: 1000, window: 800 });
      bench.write(handle, pattern(5000));
      peer.expect({ seq: 1, payloadBytes: 800 });
      peer.send({ flags: "ack", window: 100 });
      peer.expectNothing();
      expect(watch(bench, peer, 1000).length).toBeGreaterThan(0);
      expect(bench.info(handle).sndNxt - bench.info(handle).sndUna).toBeLessThanOrEqual(100);
    });

    test("an old segment does not change it (SND.WL1, SND.WL2)", () => {
      const bench = new KernelBench({ build });
      const { peer, handle } = openPassive(bench, { mss: 1000, window: 5000 });
      peer.send({ flags: "ack", payload: pattern(10), window: 3000 });
      peer.send({ flags: "ack", seq: 1, window: 50 });
      expect(bench.info(handle).sndWnd).toBe(3000);
      bench.write(handle, pattern(100));
      peer.receive();
      peer.send({ flags: "ack", ack: 101, window: 2000 });
      peer.send({ flags: "ack", ack: 1, window: 60 });
      expect(bench.info(handle).sndWnd).toBe(2000);
    });

    test("numbers from outside the window change neither window nor SND.UNA", () => {
      const bench = new KernelBench({ build });
      const { peer, handle } = openPassive(bench, { mss: 1000, window: 5000 });
      bench.write(handle, pattern(1000));
      peer.post({ flags: "ack", seq: 2 ** 30, ack: 501, window: 7 });
      peer.post({ flags: "ack", seq: -(2 ** 30), ack: 501, window: 7, payload: pattern(10) });
      bench.turn();
      expect(bench.info(handle)).toMatchObject({ sndWnd: 5000, sndQueuedBytes: 1000 });
      peer.send({ flags: "ack", ack: 1001, window: 6000 });
      expect(bench.info(handle)).toMatchObject({ sndWnd: 6000, sndQueuedBytes: 0 });
    });
  });

  describe("a closed window (RFC 9293 3.8.6.1)", () => {
    function closed(options: { readonly retriesMax?: number } = {}) {
      const bench = new KernelBench({ build, tuning: { rtoMaxUs: 5_000_000, ...options } });
      const opened = openPassive(bench, { mss: 1000, window: 1000 });
      bench.write(opened.handle, pattern(3000));
      opened.peer.expect({ seq: 1, payloadBytes: 1000 });
      opened.peer.send({ flags: "ack", window: 0 });
      opened.peer.expectNothing();
      return { bench, ...opened };
    }

    test("is probed with one byte, less and less often", () => {
      const { bench, peer } = closed();
      const times: number[] = [];
      for (let at = 10; at <= 20_000; at += 10) {
        bench.advance(10);
        for (let segment = peer.receive(); segment; segment = peer.receive()) {
          expect(segment).toMatchObject({ seq: 1001 });
          expect(Buffer.from(segment.payload)).toEqual(Buffer.from(pattern(3000).subarray(1000, 1001)));
          times.push(at);
          peer.send({ flags: "ack", ack: 1001, window: 0 });
        }
      }
      const gaps = times.map((time, i) => time - (times[i - 1] ?? 0));
      expect(gaps.length).toBe(7);
      for (const [i, gap] of gaps.entries()) {
        expect(gap).toBeGreaterThanOrEqual(Math.min(200 * 2 ** i, 5000) - 10);
        expect(gap).toBeLessThanOrEqual(Math.min(200 * 2 ** i, 5000) + 20);
      }
      // None of the answers is a duplicate ACK in the sense of RFC 5681.
      expect(bench.counters()).toMatchObject({ tcpDuplicateAcks: 0, tcpFastRetransmits: 0 });
    });

    test("stays open for as long as the peer answers (MUST-37)", () => {
      const { bench, peer, handle } = closed({ retriesMax: 3 });
      const times = watch(bench, peer, 300_000, () => peer.send({ flags: "ack", ack: 1001, window: 0 }));
      expect(times.length).toBeGreaterThan(50);
      expect(bench.state(handle)).toBe("ESTABLISHED");
      peer.send({ flags: "ack", ack: 1001, window: 5000 });
      expect(peer.all().reduce((sum, segment) => sum + segment.payload.length, 0)).toBe(2000);
    });

    test("silence ends it with ETIMEDOUT", () => {
      const { bench, peer, handle } = closed({ retriesMax: 3 });
      expect(watch(bench, peer, 60_000).length).toBe(3);
      expect(bench.events(handle)).toMatchObject([{ mask: "closed error", status: ETIMEDOUT }]);
    });

    test("a peer that keeps it closed cannot keep a connection that the application has closed", () => {
      const { bench, peer, handle } = closed({ retriesMax: 3 });
      bench.wasm.tcpClose(handle);
      watch(bench, peer, 60_000, () => peer.send({ flags: "ack", ack: 1001, window: 0 }));
      expect(bench.counters()).toMatchObject({ gaugeConnections: 0, gaugeStreamBytes: 0 });
    });

    test("the probe's byte may be taken", () => {
      const { bench, peer } = closed();
      bench.advance(250);
      peer.expect({ seq: 1001, payloadBytes: 1 });
      peer.send({ flags: "ack", ack: 1002, window: 0 });
      bench.advance(250);
      peer.expect({ seq: 1002, payloadBytes: 1 });
      peer.send({ flags: "ack", ack: 1003, window: 3000 });
      peer.expect({ seq: 1003, payloadBytes: 1000 });
    });

    test("a window update lets everything go at once", () => {
      const { bench, peer } = closed();
      bench.advance(250);
      peer.expect({ seq: 1001, payloadBytes: 1 });
      peer.send({ flags: "ack", ack: 1001, window: 5000 });
      peer.expect({ flags: "ack", seq: 1001, payloadBytes: 1000 });
      peer.expect({ flags: "psh ack", seq: 2001, payloadBytes: 1000 });
      peer.send({ flags: "ack" });
      bench.advance(10_000);
      peer.expectNothing();
    });

    test("taken back with data in flight, it is probed and not given up (3.8.6: shrinking)", () => {
      const bench = new KernelBench({ build, tuning: { retriesMax: 3, rtoMaxUs: 2_000_000 } });
      const { peer, handle } = openPassive(bench, { mss: 1000, window: 5000 });
      const data = pattern(5000);
      bench.write(handle, data);
      expect(peer.all().length).toBe(5);
      peer.send({ flags: "ack", ack: 1001, window: 0 });
      const times = watch(bench, peer, 60_000, () => peer.send({ flags: "ack", ack: 1001, window: 0 }));
      expect(times.length).toBeGreaterThan(10);
      expect(bench.state(handle)).toBe("ESTABLISHED");
      peer.send({ flags: "ack", ack: 1001, window: 5000 });
      const received: Uint8Array[] = [];
      let next = 1001;
      for (let i = 0; i < 50 && next < 5001; i++) {
        for (const segment of peer.all()) {
          if (segment.seq !== next) continue;
          received.push(segment.payload);
          next += segment.payload.length;
        }
        peer.send({ flags: "ack", ack: next, window: 5000 });
        bench.advance(50);
      }
      expect(concat(...received)).toEqual(data.subarray(1000));
    });

    test("a FIN does not wait for the window", () => {
      const bench = new KernelBench({ build });
      const { peer, handle } = openPassive(bench, { mss: 1000, window: 1000 });
      bench.write(handle, pattern(1000));
      peer.receive();
      peer.send({ flags: "ack", window: 0 });
      bench.wasm.tcpClose(handle);
      bench.turn();
      peer.expect({ flags: "fin ack", seq: 1001 });
    });
  });

  describe("the send buffer", () => {
    test("takes up to its limit, then says 0, then EVENT_WRITABLE when an eighth is free", () => {
      const bench = new KernelBench({ build });
      const peer = new Peer(bench, { mss: 1000, window: 65535 });
      const listener = bench.listen(80);
      peer.send({ flags: "syn" });
      peer.expect({ flags: "syn ack" });
      bench.advance(100);
      peer.send({ flags: "ack" });
      const handle = bench.wasm.tcpAccept(listener);
      bench.events();
      bench.wasm.tcpSetOption(handle, OPTION_SND_BUFFER_BYTES, 8192);
      expect(bench.write(handle, pattern(10_000))).toBe(8192);
      expect(bench.queue(handle, pattern(1))).toBe(0);
      peer.all();
      peer.send({ flags: "ack", ack: 1001 });
      expect(bench.events(handle)).toEqual([]);
      peer.send({ flags: "ack", ack: 2001 });
      expect(bench.events(handle)).toMatchObject([{ mask: "writable" }]);
      expect(bench.queue(handle, pattern(5000))).toBe(2000);
    });

    test("is given back when all is acknowledged", () => {
      const bench = new KernelBench({ build });
      const { peer, handle } = openPassive(bench, { mss: 1000 });
      bench.write(handle, pattern(1000));
      peer.receive();
      expect(bench.counters().gaugeStreamBytes).toBe(1024);
      peer.send({ flags: "ack" });
      expect(bench.counters().gaugeStreamBytes).toBe(0);
      bench.wasm.tcpSend(handle, bench.area, 0);
      expect(bench.counters().gaugeStreamBytes).toBe(0);
    });

    test("wraps around its end with every byte in place", () => {
      const bench = new KernelBench({ build });
      const { peer, handle } = openPassive(bench, { mss: 1460, window: 65535 });
      bench.wasm.tcpSetOption(handle, OPTION_SND_BUFFER_BYTES, 4096);
      const data = pattern(50_000);
      let written = 0;
      const received: Uint8Array[] = [];
      for (let i = 0; i < 500 && received.reduce((sum, piece) => sum + piece.length, 0) < data.length; i++) {
        written += Math.max(0, bench.queue(handle, data.subarray(written, written + 999)));
        bench.turn();
        for (const segment of peer.all()) received.push(segment.payload);
        peer.send({ flags: "ack" });
        for (const segment of peer.all()) received.push(segment.payload);
      }
      expect(concat(...received)).toEqual(data);
    });

    test("takes nothing after tcpShutdownSend (EPIPE)", () => {
      const bench = new KernelBench({ build });
      const { handle } = openPassive(bench);
      bench.wasm.tcpShutdownSend(handle);
      expect(bench.write(handle, pattern(1))).toBe(EPIPE);
      expect(bench.wasm.tcpSendReserve(handle, 10)).toBe(EPIPE);
      expect(bench.wasm.tcpSendCommit(handle, 10)).toBe(EPIPE);
      expect(bench.wasm.tcpShutdownSend(handle)).toBe(0);
    });
  });

  describe("segmentation offload", () => {
    test("one frame carries whole segments for the device to cut up, its checksum left to the device", () => {
      const bench = new KernelBench({ build, tsoBytesMax: 65_000, checksumOffload: true });
      const listener = bench.listen(80);
      const peer = new Peer(bench, { mss: 1460 });
      // The bench verifies checksums, which are not there yet: the frames are taken from the ring by hand.
      bench.takesFrames = false;
      peer.send({ flags: "syn" });
      const synAck = bench.tx.shift() as Uint8Array;
      peer.kernelIss = new DataView(synAck.buffer).getUint32(14 + 20 + 4);
      peer.rcvNxt = 1;
      peer.send({ flags: "ack" });
      bench.write(bench.wasm.tcpAccept(listener), pattern(9000));
      const record = bench.tx.peekRun();
      expect(bench.tx.recordLength(record)).toBe(14 + 20 + 20 + 9000);
      // NEEDS_CSUM; GSO TCPv4; header 54 bytes; 1460 bytes a segment; checksum at 34 + 16.
      const vnet = Array.from(bench.bytes.subarray(record + FRAME_VNET, record + FRAME_VNET + 10));
      expect(vnet).toEqual([1, 1, 54, 0, 1460 & 0xff, 1460 >> 8, 34, 0, 16, 0]);
      const frame = bench.tx.shift() as Uint8Array;
      expect(frame.subarray(54)).toEqual(pattern(9000));
      // What the device does: it sums from 34 on, with what is in the field, to have the checksum.
      new DataView(frame.buffer, frame.byteOffset).setUint16(34 + 16, internetChecksum(frame.subarray(34)));
      expect(parseTcp(parseIpv4(parseEthernet(frame).payload)).checksumValid).toBe(true);
    });

    test("a frame holds whole segments, whatever the device would take", () => {
      const bench = new KernelBench({ build, tsoBytesMax: 8000, noDelay: true });
      const { peer, handle } = openPassive(bench, { mss: 1460 });
      bench.write(handle, pattern(9000));
      expect(peer.all().map(({ payload }) => payload.length)).toEqual([5 * 1460, 9000 - 5 * 1460]);
    });
  });
});
