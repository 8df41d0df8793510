import { describe, expect, test } from "vitest";
import type { Tuning } from "../../../src/kernel/config.ts";
import { OPTION_KEEPALIVE } from "../../../src/layout/option.ts";
import { ETIMEDOUT } from "../../../src/layout/status.ts";
import {
  KERNEL_BUILDS,
  KernelBench,
  type KernelBuild,
  openPassive,
  Peer,
  type PeerOptions,
} from "../../helpers/kernelBench.ts";
import { ETHERTYPE_ARP, parseEthernet, pattern } from "../../helpers/packets.ts";

const MSS = 1000;

/** A kernel with NewReno, whose windows can be reckoned in the head. */
function renoBench(build: KernelBuild, tuning: Partial<Tuning> = {}): KernelBench {
  return new KernelBench({ build, tuning: { congestionControl: 0, ...tuning } });
}

/** A connection whose handshake took `rttMs`. */
function openSlow(bench: KernelBench, rttMs: number, options: PeerOptions = {}): { peer: Peer; handle: number } {
  const listener = bench.listen(80);
  const peer = new Peer(bench, { mss: MSS, ...options });
  peer.send({ flags: "syn" });
  peer.expect({ flags: "syn ack" });
  bench.advance(rttMs);
  if (peer.timestamp !== undefined) peer.timestamp += rttMs;
  peer.send({ flags: "ack" });
  return { peer, handle: bench.wasm.tcpAccept(listener) };
}

/** When segments with payload leave, in ms from now, while nobody answers. */
function sendTimes(bench: KernelBench, peer: Peer, ms: number): number[] {
  const times: number[] = [];
  for (let at = 10; at <= ms; at += 10) {
    bench.advance(10);
    for (const segment of peer.all()) if (segment.payload.length > 0) times.push(at);
  }
  return times;
}

describe.each(KERNEL_BUILDS)("TCP loss recovery, %s build", (build) => {
  describe("the retransmission timer (RFC 6298)", () => {
    test("SRTT, RTTVAR and RTO follow the samples (2.2, 2.3)", () => {
      const bench = renoBench(build);
      const { peer, handle } = openSlow(bench, 500);
      let srtt = 500_000;
      let rttvar = 250_000;
      const check = () => {
        const info = bench.info(handle);
        expect(Math.abs(info.srttUs - srtt)).toBeLessThan(10);
        expect(Math.abs(info.rttvarUs - rttvar)).toBeLessThan(10);
        expect(Math.abs(info.rtoUs - (srtt + 4 * rttvar))).toBeLessThan(30);
      };
      check();
      for (const rtt of [700_000, 300_000, 300_000, 900_000, 450_000]) {
        bench.write(handle, pattern(100));
        peer.expect({ payloadBytes: 100 });
        bench.advance(rtt / 1000);
        peer.send({ flags: "ack" });
        rttvar += (Math.abs(srtt - rtt) - rttvar) / 4;
        srtt += (rtt - srtt) / 8;
        check();
      }
    });

    test("one segment at a time is timed, the ACK that covers it gives the sample (3)", () => {
      const bench = renoBench(build);
      const { peer, handle } = openSlow(bench, 100);
      bench.write(handle, pattern(MSS));
      bench.advance(60);
      bench.write(handle, pattern(MSS));
      bench.advance(40);
      peer.all();
      peer.send({ flags: "ack", ack: 2 * MSS + 1 });
      expect(bench.info(handle).srttUs).toBe(100_000);
    });

    test("never runs out less than rtoMinUs after a round trip, nor later than rtoMaxUs (2.4, 2.5)", () => {
      const bench = renoBench(build, { rtoMaxUs: 2_000_000 });
      const { peer, handle } = openSlow(bench, 1);
      expect(bench.info(handle).rtoUs).toBe(201_000);
      bench.write(handle, pattern(10));
      peer.receive();
      const times = sendTimes(bench, peer, 12_000);
      const gaps = times.map((time, i) => time - (times[i - 1] ?? 0));
      for (const [i, gap] of gaps.entries()) {
        const expected = Math.min(201 * 2 ** i, 2000);
        expect(gap).toBeGreaterThanOrEqual(expected - 10);
        expect(gap).toBeLessThanOrEqual(expected + 20);
      }
      expect(gaps.length).toBe(8);
    });

    test("doubles each time and gives up after retriesMax with ETIMEDOUT (5.5; RFC 9293 3.8.3)", () => {
      const bench = renoBench(build, { retriesMax: 4 });
      const { peer, handle } = openSlow(bench, 100);
      bench.write(handle, pattern(10));
      peer.receive();
      // RTO 300 ms: 300, 900, 2100, 4500, end at 9300.
      const times = sendTimes(bench, peer, 20_000).map((time) => Math.round(time / 100) * 100);
      expect(times).toEqual([300, 900, 2100, 4500]);
      expect(bench.events(handle)).toMatchObject([{ mask: "closed error", status: ETIMEDOUT }]);
      expect(bench.queue(handle, pattern(1))).toBe(ETIMEDOUT);
      bench.wasm.tcpClose(handle);
      expect(bench.counters()).toMatchObject({ gaugeConnections: 0, gaugeStreamBytes: 0, tcpTimedOut: 1 });
    });

    test("starts anew when new data is acknowledged, and stops when all is (5.2, 5.3)", () => {
      const bench = renoBench(build);
      const { peer, handle } = openSlow(bench, 100);
      bench.write(handle, pattern(2 * MSS));
      expect(peer.all().length).toBe(2);
      bench.advance(250);
      peer.send({ flags: "ack", ack: MSS + 1 });
      const { rtoUs } = bench.info(handle);
      bench.advance(rtoUs / 1000 - 10);
      peer.expectNothing();
      bench.advance(20);
      peer.expect({ seq: MSS + 1 });
      peer.send({ flags: "ack", ack: 2 * MSS + 1 });
      bench.advance(60_000);
      peer.expectNothing();
    });

    test("a retransmitted segment gives no sample, and its back-off stays until one comes (Karn; 5, last note)", () => {
      const bench = renoBench(build);
      const { peer, handle } = openSlow(bench, 100);
      const { srttUs, rtoUs } = bench.info(handle);
      bench.write(handle, pattern(10));
      peer.expect({ seq: 1 });
      bench.advance(310);
      peer.expect({ seq: 1 });
      bench.advance(50);
      peer.send({ flags: "ack" });
      expect(bench.info(handle)).toMatchObject({ srttUs, rtoUs: 2 * rtoUs });
      bench.write(handle, pattern(10));
      peer.expect({ seq: 11 });
      bench.advance(100);
      peer.send({ flags: "ack" });
      expect(bench.info(handle).srttUs).toBe(srttUs);
      expect(bench.info(handle).rtoUs).toBeLessThanOrEqual(rtoUs);
    });

    test("a round trip longer than the initial RTO is learnt in the end, without timestamps", () => {
      const bench = renoBench(build);
      const listener = bench.listen(80);
      const peer = new Peer(bench, { mss: MSS });
      const rttMs = 1500;
      peer.send({ flags: "syn" });
      bench.advance(rttMs);
      peer.all();
      peer.send({ flags: "ack" });
      const handle = bench.wasm.tcpAccept(listener);
      for (let i = 0; i < 6; i++) {
        bench.write(handle, pattern(10));
        bench.advance(rttMs);
        peer.all();
        peer.send({ flags: "ack" });
      }
      const spurious = bench.counters().tcpRetransmits;
      for (let i = 0; i < 6; i++) {
        bench.write(handle, pattern(10));
        bench.advance(rttMs);
        peer.all();
        peer.send({ flags: "ack" });
      }
      expect(bench.counters().tcpRetransmits).toBe(spurious);
    });

    test("with timestamps the echo tells which copy was acknowledged (RFC 7323 4.1)", () => {
      const bench = renoBench(build);
      const { peer, handle } = openSlow(bench, 100, { timestamp: 1 });
      bench.write(handle, pattern(10));
      const first = peer.expect({ seq: 1 }).options.timestamps?.[0] as number;
      bench.advance(310);
      peer.expect({ seq: 1 });
      bench.advance(90);
      // The first copy had only been slow: 400 ms.
      peer.send({ flags: "ack", timestamps: [500, first] });
      const { srttUs } = bench.info(handle);
      expect(srttUs).toBe(100_000 + (400_000 - 100_000) / 8);
    });

    test("after a time-out everything in flight is sent again, in slow start (5.4; RFC 5681 3.1)", () => {
      const bench = renoBench(build);
      const { peer, handle } = openSlow(bench, 100);
      bench.write(handle, pattern(8 * MSS));
      expect(peer.all().length).toBe(8);
      bench.advance(310);
      peer.expect({ seq: 1, payloadBytes: MSS });
      peer.expectNothing();
      expect(bench.info(handle)).toMatchObject({ cwndBytes: MSS, ssthreshBytes: 4 * MSS });
      peer.send({ flags: "ack", ack: MSS + 1 });
      expect(peer.all().map((segment) => segment.seq)).toEqual([MSS + 1, 2 * MSS + 1]);
      peer.send({ flags: "ack", ack: 3 * MSS + 1 });
      expect(peer.all().map((segment) => segment.seq)).toEqual([3, 4, 5, 6].map((i) => i * MSS + 1));
      peer.send({ flags: "ack", ack: 8 * MSS + 1 });
      peer.expectNothing();
      expect(bench.info(handle).sndQueuedBytes).toBe(0);
    });

    test("ssthresh is halved once for all that was in flight, however many time-outs it takes (RFC 5681 3.1)", () => {
      const bench = renoBench(build);
      const { peer, handle } = openSlow(bench, 100);
      bench.write(handle, pattern(8 * MSS));
      bench.advance(5000);
      expect(peer.all().length).toBeGreaterThan(10);
      expect(bench.info(handle).ssthreshBytes).toBe(4 * MSS);
      // Some arrive, and then there are time-outs again before all of the old flight is acknowledged.
      peer.send({ flags: "ack", ack: 4 * MSS + 1 });
      peer.all();
      bench.advance(20_000);
      expect(peer.all()[0]).toMatchObject({ seq: 4 * MSS + 1 });
      expect(bench.info(handle).ssthreshBytes).toBe(4 * MSS);
    });

    test("a lost FIN is sent again", () => {
      const bench = renoBench(build);
      const { peer, handle } = openSlow(bench, 100);
      bench.wasm.tcpClose(handle);
      bench.turn();
      peer.expect({ flags: "fin ack", seq: 1 });
      bench.advance(310);
      peer.expect({ flags: "fin ack", seq: 1 });
      peer.send({ flags: "ack" });
      bench.advance(5000);
      peer.expectNothing();
    });

    test("lost data before a FIN: both again, the FIN in its place", () => {
      const bench = renoBench(build);
      const { peer, handle } = openSlow(bench, 100);
      bench.queue(handle, pattern(1500));
      bench.wasm.tcpClose(handle);
      bench.turn();
      expect(peer.all().map(({ flags }) => flags)).toEqual(["ack", "fin psh ack"]);
      bench.advance(310);
      peer.expect({ flags: "ack", seq: 1, payloadBytes: MSS });
      peer.send({ flags: "ack", ack: MSS + 1 });
      peer.expect({ flags: "fin psh ack", seq: MSS + 1, payloadBytes: 500 });
    });
  });

  describe("fast retransmit and NewReno (RFC 5681 3.2, RFC 6582)", () => {
    /** Ten segments in flight, two more waiting. */
    function tenInFlight() {
      const bench = renoBench(build);
      const opened = openSlow(bench, 100);
      bench.write(opened.handle, pattern(14 * MSS));
      expect(opened.peer.all().map((segment) => segment.seq)).toEqual(
        Array.from({ length: 10 }, (_, i) => i * MSS + 1),
      );
      const duplicate = (ack = 1) => opened.peer.send({ flags: "ack", ack });
      return { bench, duplicate, ...opened };
    }

    test("the initial window is ten segments, 14,600 bytes at most (RFC 6928)", () => {
      const cwnd = (mss: number, mtuBytes = 9000) => {
        const bench = new KernelBench({ build, mtuBytes });
        return bench.info(openPassive(bench, { mss }).handle).cwndBytes;
      };
      expect([536, 1000, 1460, 4000, 8000].map((mss) => cwnd(mss))).toEqual([5360, 10_000, 14_600, 14_600, 16_000]);
    });

    test("two duplicate ACKs let one new segment each out (limited transmit, RFC 3042)", () => {
      const { peer, duplicate } = tenInFlight();
      duplicate();
      peer.expect({ seq: 10 * MSS + 1 });
      duplicate();
      peer.expect({ seq: 11 * MSS + 1 });
      peer.expectNothing();
    });

    test("the third sends the first segment again at once and halves the window", () => {
      const { bench, peer, handle, duplicate } = tenInFlight();
      duplicate();
      duplicate();
      peer.all();
      duplicate();
      peer.expect({ seq: 1, payloadBytes: MSS });
      peer.expectNothing();
      expect(bench.info(handle)).toMatchObject({ ssthreshBytes: 6 * MSS, cwndBytes: 9 * MSS });
      expect(bench.counters()).toMatchObject({ tcpFastRetransmits: 1, tcpRetransmitTimeouts: 0 });
      // Each further one inflates the window by a segment; new data goes out when it is larger than the flight.
      for (let i = 0; i < 3; i++) duplicate();
      peer.expectNothing();
      duplicate();
      peer.expect({ seq: 12 * MSS + 1 });
    });

    test("a full ACK ends recovery with the halved window", () => {
      const { bench, peer, handle, duplicate } = tenInFlight();
      for (let i = 0; i < 3; i++) duplicate();
      peer.all();
      peer.send({ flags: "ack", ack: 12 * MSS + 1 });
      expect(peer.all().map((segment) => segment.seq)).toEqual([12 * MSS + 1, 13 * MSS + 1]);
      // RFC 6582 3.2 (3), option 1: min(ssthresh, max(FlightSize, SMSS) + SMSS); nothing was in flight.
      expect(bench.info(handle)).toMatchObject({ ssthreshBytes: 6 * MSS, cwndBytes: 2 * MSS });
    });

    test("each partial ACK sends the next hole at once, without a time-out", () => {
      const { bench, peer, duplicate } = tenInFlight();
      for (let i = 0; i < 3; i++) duplicate();
      peer.all();
      for (const hole of [2, 5, 9]) {
        peer.send({ flags: "ack", ack: hole * MSS + 1 });
        expect(peer.all()[0]).toMatchObject({ seq: hole * MSS + 1 });
      }
      expect(bench.counters()).toMatchObject({ tcpFastRetransmits: 1, tcpRetransmitTimeouts: 0 });
    });

    test("not for ACKs with data, with another window, or when nothing is in flight", () => {
      const { bench, peer, handle } = tenInFlight();
      for (let i = 0; i < 5; i++) peer.send({ flags: "ack", ack: 1, payload: pattern(10) });
      for (let i = 0; i < 5; i++) peer.send({ flags: "ack", ack: 1, window: 60_000 + i });
      expect(bench.counters().tcpDuplicateAcks).toBe(0);
      peer.all();
      peer.send({ flags: "ack" });
      peer.all();
      peer.send({ flags: "ack" });
      expect(bench.info(handle).sndQueuedBytes).toBe(0);
      for (let i = 0; i < 5; i++) peer.send({ flags: "ack" });
      expect(bench.counters()).toMatchObject({ tcpDuplicateAcks: 0, tcpRetransmits: 0 });
    });

    test("not for duplicates of what a time-out has sent again (RFC 6582 3.2, step 2)", () => {
      const { bench, peer, duplicate } = tenInFlight();
      bench.advance(310);
      peer.all();
      for (let i = 0; i < 6; i++) duplicate();
      expect(bench.counters().tcpFastRetransmits).toBe(0);
    });

    test("a time-out during recovery starts over from the first segment", () => {
      const { bench, peer, handle, duplicate } = tenInFlight();
      for (let i = 0; i < 3; i++) duplicate();
      peer.all();
      bench.advance(310);
      peer.expect({ seq: 1 });
      expect(bench.info(handle).cwndBytes).toBe(MSS);
    });

    test("slow start doubles, congestion avoidance adds about a segment per round trip (RFC 5681 3.1)", () => {
      const bench = renoBench(build, { sndBufferBytesMax: 1 << 20 });
      const { peer, handle } = openSlow(bench, 100, { windowScale: 6, window: 65535 });
      bench.write(handle, pattern(600 * MSS));
      // Acknowledges all that is in flight, segment by segment.
      const round = () => {
        bench.advance(20);
        for (const segment of peer.all()) peer.send({ flags: "ack", ack: segment.seq + segment.payload.length });
        return bench.info(handle).cwndBytes;
      };
      expect([round(), round(), round()]).toEqual([20 * MSS, 40 * MSS, 80 * MSS]);
      // A loss: three duplicates, then everything arrives.
      const { seq } = peer.all()[0] ?? { seq: 0 };
      for (let i = 0; i < 3; i++) peer.send({ flags: "ack", ack: seq });
      peer.all();
      peer.send({ flags: "ack" });
      const { ssthreshBytes } = bench.info(handle);
      let before = round();
      while (before < ssthreshBytes) before = round();
      for (let i = 0; i < 3; i++) {
        const after = round();
        expect(after - before).toBeGreaterThan(0.7 * MSS);
        expect(after - before).toBeLessThan(1.3 * MSS);
        before = after;
      }
    });
  });

  describe("keep-alive (RFC 9293 3.8.4)", () => {
    const tuning = { keepaliveIdleMs: 10_000, keepaliveIntervalMs: 1000, keepaliveProbesMax: 3 };

    test("an idle connection is probed with an old number; silence ends it", () => {
      const bench = renoBench(build, tuning);
      const { peer, handle } = openPassive(bench);
      bench.wasm.tcpSetOption(handle, OPTION_KEEPALIVE, 1);
      bench.advance(9990);
      peer.expectNothing();
      bench.advance(20);
      peer.expect({ flags: "ack", seq: 0, ack: 1, payloadBytes: 0 });
      for (let i = 0; i < 2; i++) {
        bench.advance(1000);
        peer.expect({ flags: "ack", seq: 0, ack: 1, payloadBytes: 0 });
      }
      bench.advance(1000);
      peer.expectNothing();
      expect(bench.events(handle)).toMatchObject([{ mask: "closed error", status: ETIMEDOUT }]);
      expect(bench.counters().tcpKeepaliveProbes).toBe(3);
    });

    test("a peer that answers is left alone for another idle time, for as long as it answers", () => {
      const bench = renoBench(build, tuning);
      const { peer, handle } = openPassive(bench);
      bench.wasm.tcpSetOption(handle, OPTION_KEEPALIVE, 1);
      for (let i = 0; i < 20; i++) {
        bench.advance(10_010);
        peer.expect({ flags: "ack", seq: 0 });
        peer.expectNothing();
        peer.send({ flags: "ack" });
      }
      expect(bench.state(handle)).toBe("ESTABLISHED");
    });

    test("traffic puts it off", () => {
      const bench = renoBench(build, tuning);
      const { peer, handle } = openPassive(bench, { mss: MSS });
      bench.wasm.tcpSetOption(handle, OPTION_KEEPALIVE, 1);
      for (let i = 0; i < 10; i++) {
        bench.advance(5000);
        peer.send({ flags: "psh ack", payload: pattern(10) });
        bench.read(handle);
        bench.advance(50);
        peer.expect({ flags: "ack" });
        peer.expectNothing();
        bench.write(handle, pattern(10));
        peer.expect({ flags: "psh ack" });
        peer.send({ flags: "ack" });
      }
      expect(bench.counters().tcpKeepaliveProbes).toBe(0);
      bench.advance(10_010);
      peer.expect({ flags: "ack", seq: 100 });
    });

    test("switched off again, nothing is sent", () => {
      const bench = renoBench(build, tuning);
      const { peer, handle } = openPassive(bench);
      bench.wasm.tcpSetOption(handle, OPTION_KEEPALIVE, 1);
      bench.wasm.tcpSetOption(handle, OPTION_KEEPALIVE, 0);
      bench.advance(100_000);
      peer.expectNothing();
    });

    test("set before the handshake it runs after it, also when half-closed", () => {
      const bench = renoBench(build, tuning);
      const handle = bench.connect(7000);
      bench.wasm.tcpSetOption(handle, OPTION_KEEPALIVE, 1);
      bench.turn();
      const peer = new Peer(bench, { port: 7000, kernelPort: bench.info(handle).localPort });
      peer.expect({ flags: "syn" });
      peer.send({ flags: "syn ack" });
      peer.expect({ flags: "ack" });
      bench.wasm.tcpShutdownSend(handle);
      bench.turn();
      peer.expect({ flags: "fin ack", seq: 1 });
      peer.send({ flags: "ack" });
      bench.advance(10_010);
      peer.expect({ flags: "ack", seq: 1, ack: 1 });
    });
  });

  test("after three time-outs the neighbour is asked whether it is there (RFC 1122 4.2.3.5: R1, 2.3.2.1)", () => {
    for (const answers of [true, false]) {
      const bench = new KernelBench({ build });
      const { peer, handle } = openPassive(bench);
      bench.write(handle, pattern(10));
      if (answers) peer.send({ flags: "ack", ack: 11 });
      bench.takesFrames = false;
      let asked = 0;
      // By itself it would be asked after 20 s: 15 s of trust at least, and 5 s of patience.
      for (let seconds = 0; seconds < 12; seconds++) {
        bench.advance(1000);
        for (let frame = bench.tx.shift(); frame; frame = bench.tx.shift()) {
          if (parseEthernet(frame).etherType === ETHERTYPE_ARP) asked++;
        }
      }
      expect(asked > 0).toBe(!answers);
    }
  });
});
