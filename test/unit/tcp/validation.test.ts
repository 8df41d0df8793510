/** Validation of the congestion window where `slowStartAfterIdle` is 2 (RFC 7661). */
import { describe, expect, test } from "vitest";
import { CONFIG_SLOW_START_AFTER_IDLE } from "../../../src/layout/config.ts";
import { CONFIG_BASE, RESULT_BASE } from "../../../src/layout/kernelMemory.ts";
import { CONGESTION_CUBIC, CONGESTION_RENO } from "../../../src/layout/option.ts";
import * as TCPI from "../../../src/layout/tcpInfo.ts";
import { KERNEL_BUILDS, KernelBench, type KernelBuild, Peer } from "../../helpers/kernelBench.ts";
import { pattern } from "../../helpers/packets.ts";

const MSS = 1000;
const RTT_MS = 100;
const MINUTE_MS = 60_000;

/** A sender whose application writes what a test says, and a peer that acknowledges. */
class Sender {
  readonly bench: KernelBench;
  readonly peer: Peer;
  readonly handle: number;

  constructor(build: KernelBuild, congestionControl: number, slowStartAfterIdle = 2) {
    const tuning = { congestionControl, slowStartAfterIdle, sndBufferBytesMax: 1 << 20 };
    this.bench = new KernelBench({ build, noDelay: true, tuning });
    const listener = this.bench.listen(80);
    this.peer = new Peer(this.bench, { mss: MSS, sack: true, windowScale: 7, window: 16_384 });
    this.peer.send({ flags: "syn" });
    this.peer.expect({ flags: "syn ack" });
    this.bench.advance(RTT_MS);
    this.peer.send({ flags: "ack" });
    this.handle = this.bench.wasm.tcpAccept(listener);
  }

  get cwnd(): number {
    return this.bench.info(this.handle).cwndBytes / MSS;
  }

  /** Segments. */
  get ssthresh(): number {
    expect(this.bench.wasm.tcpInfo(this.handle, RESULT_BASE)).toBe(0);
    return this.bench.memory.loadU32(RESULT_BASE + TCPI.TCPI_SND_SSTHRESH);
  }

  /** @returns segments that leave at once. */
  write(segments: number): number {
    this.bench.queue(this.handle, pattern(segments * MSS));
    this.bench.turn();
    return this.peer.all().length;
  }

  /** Sends so much, as fast as it goes, and has it acknowledged two segments at a time. */
  transfer(segments: number): void {
    this.write(segments);
    while (this.bench.info(this.handle).sndQueuedBytes > 0) {
      const una = (this.bench.info(this.handle).sndUna - this.peer.kernelIss) >>> 0;
      this.bench.advance(RTT_MS);
      this.peer.all();
      const end = this.peer.rcvNxt;
      for (let ack = Math.min(una + 2 * MSS, end); ; ack = Math.min(ack + 2 * MSS, end)) {
        this.peer.send({ flags: "ack", ack });
        if (ack >= end) break;
      }
      this.peer.all();
    }
  }
}

describe.each(KERNEL_BUILDS)("congestion window validation, %s build", (build) => {
  test.each([
    { name: "CUBIC", algorithm: CONGESTION_CUBIC },
    { name: "Reno", algorithm: CONGESTION_RENO },
  ])("$name: slow start is as fast as without", ({ algorithm }) => {
    const [validated, plain] = [2, 1].map((mode) => {
      const sender = new Sender(build, algorithm, mode);
      sender.transfer(300);
      return sender.cwnd;
    });
    expect(validated).toBe(plain);
    expect(validated).toBeGreaterThan(100);
  });

  test("the window outlives a pause, and its first burst is paced (4.4.2)", () => {
    const sender = new Sender(build, CONGESTION_RENO);
    sender.transfer(300);
    const before = sender.cwnd;
    sender.bench.advance(4 * MINUTE_MS);
    const atOnce = sender.write(100);
    expect(sender.cwnd).toBe(before);
    expect(atOnce).toBeGreaterThan(0);
    expect(atOnce).toBeLessThan(30);
    let later = 0;
    for (let ms = 0; ms < RTT_MS; ms++) {
      sender.bench.advance(1);
      later += sender.peer.all().length;
    }
    // All of it within a round trip, though: as much as an initial window would be ten.
    expect(atOnce + later).toBe(100);
  });

  test("switched off while a burst is paced: the rest is not paced any more", () => {
    const sender = new Sender(build, CONGESTION_RENO);
    sender.transfer(300);
    sender.bench.advance(MINUTE_MS);
    const atOnce = sender.write(100);
    expect(atOnce).toBeLessThan(30);
    const pacingRate = () => {
      expect(sender.bench.wasm.tcpInfo(sender.handle, RESULT_BASE)).toBe(0);
      return sender.bench.memory.loadU32(RESULT_BASE + TCPI.TCPI_PACING_RATE);
    };
    expect(pacingRate()).toBeLessThan(0xffffffff);
    const kernel = new DataView(sender.bench.memory.memory.buffer);
    kernel.setUint32(CONFIG_BASE + CONFIG_SLOW_START_AFTER_IDLE, 1, true);
    sender.bench.wasm.tuningReload();
    sender.bench.advance(2);
    expect(atOnce + sender.peer.all().length).toBe(100);
    expect(pacingRate()).toBe(0xffffffff);
  });

  test("after five minutes half is left, in the end an initial window (4.4.3)", () => {
    const sender = new Sender(build, CONGESTION_RENO);
    sender.transfer(300);
    const before = sender.cwnd;
    sender.bench.advance(6 * MINUTE_MS);
    sender.transfer(1);
    expect(sender.cwnd).toBe(before / 2);
    sender.bench.advance(60 * MINUTE_MS);
    sender.transfer(1);
    expect(sender.cwnd).toBe(10);
  });

  test("a window of which little is used neither grows nor shrinks, and is halved after five minutes of that", () => {
    const sender = new Sender(build, CONGESTION_RENO);
    sender.transfer(300);
    const before = sender.cwnd;
    for (let second = 0; second < 240; second += 2) {
      sender.transfer(4);
      sender.bench.advance(2000);
    }
    expect(sender.cwnd).toBe(before);
    for (let second = 0; second < 80; second += 2) {
      sender.transfer(4);
      sender.bench.advance(2000);
    }
    expect(sender.cwnd).toBe(before / 2);
  });

  test("used again it grows again", () => {
    const sender = new Sender(build, CONGESTION_RENO);
    sender.transfer(300);
    const before = sender.cwnd;
    sender.bench.advance(MINUTE_MS);
    sender.transfer(1000);
    expect(sender.cwnd).toBeGreaterThan(before);
  });

  test.each([
    { name: "CUBIC", algorithm: CONGESTION_CUBIC },
    { name: "Reno", algorithm: CONGESTION_RENO },
  ])("$name: a loss is answered from what was in use, not from the window (4.4.1)", ({ algorithm }) => {
    const sender = new Sender(build, algorithm);
    sender.transfer(300);
    const { bench, peer } = sender;
    expect(sender.cwnd).toBeGreaterThan(100);
    bench.advance(MINUTE_MS);
    const atOnce = sender.write(12);
    bench.advance(RTT_MS);
    expect(atOnce + peer.all().length).toBe(12);
    const una = (bench.info(sender.handle).sndUna - peer.kernelIss) >>> 0;
    peer.sendSack(una, [una + MSS, una + 12 * MSS]);
    expect(peer.all()).toHaveLength(1);
    expect(sender.ssthresh).toBe(6);
    bench.advance(RTT_MS);
    peer.send({ flags: "ack", ack: una + 12 * MSS });
    // Eleven of the twelve arrived: (12 - 1) / 2.
    expect(sender.cwnd).toBe(5.5);
  });

  test("so is a loss that a tail loss probe has repaired, less what it sent again (4.4.1)", () => {
    const sender = new Sender(build, CONGESTION_CUBIC);
    sender.transfer(300);
    const { bench, peer } = sender;
    bench.advance(MINUTE_MS);
    const atOnce = sender.write(12);
    bench.advance(RTT_MS);
    expect(atOnce + peer.all().length).toBe(12);
    const una = (bench.info(sender.handle).sndUna - peer.kernelIss) >>> 0;
    peer.send({ flags: "ack", ack: una + 11 * MSS });
    bench.advance(3 * RTT_MS);
    expect(bench.counters().tcpTailLossProbes).toBe(1);
    expect(peer.all()).toHaveLength(1);
    sender.write(1);
    peer.send({ flags: "ack", ack: una + 12 * MSS });
    peer.send({ flags: "ack", ack: una + 13 * MSS });
    expect(sender.ssthresh).toBe(6);
    expect(sender.cwnd).toBe(5.5);
  });
});
