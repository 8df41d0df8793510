/** Congestion control: CUBIC against a plain model (RFC 9438), HyStart++ (RFC 9406), BBR's pacing, pauses. */
import { describe, expect, test } from "vitest";
import type { Tuning } from "../../../src/kernel/config.ts";
import { RESULT_BASE } from "../../../src/layout/kernelMemory.ts";
import { CONGESTION_BBR, CONGESTION_CUBIC, CONGESTION_RENO, OPTION_CONGESTION } from "../../../src/layout/option.ts";
import { EINVAL } from "../../../src/layout/status.ts";
import * as TCPI from "../../../src/layout/tcpInfo.ts";
import { KERNEL_BUILDS, KernelBench, type KernelBuild, Peer } from "../../helpers/kernelBench.ts";
import { pattern } from "../../helpers/packets.ts";
import { CubicModel } from "../../model/cubic.ts";

const MSS = 1000;
const RTT_MS = 100;
/** More than any window here. */
const PLENTY = pattern(1 << 20);

/** A sender with plenty to send, and a peer that acknowledges what it is told to. */
class Sender {
  readonly bench: KernelBench;
  readonly peer: Peer;
  readonly handle: number;

  constructor(build: KernelBuild, congestionControl: number, more: Partial<Tuning> = {}) {
    const tuning = { congestionControl, sndBufferBytesMax: 1 << 20, ...more };
    this.bench = new KernelBench({ build, noDelay: true, tuning });
    const listener = this.bench.listen(80);
    this.peer = new Peer(this.bench, { mss: MSS, sack: true, windowScale: 7, window: 16_384 });
    this.peer.send({ flags: "syn" });
    this.peer.expect({ flags: "syn ack" });
    this.bench.advance(RTT_MS);
    this.peer.send({ flags: "ack" });
    this.handle = this.bench.wasm.tcpAccept(listener);
  }

  info(offset: number): number {
    expect(this.bench.wasm.tcpInfo(this.handle, RESULT_BASE)).toBe(0);
    return this.bench.memory.loadU32(RESULT_BASE + offset);
  }

  cwnd(): number {
    return this.bench.info(this.handle).cwndBytes / MSS;
  }

  /** Everything that has left; the buffer is filled first. */
  round(): number {
    this.bench.queue(this.handle, PLENTY);
    this.bench.turn();
    return this.peer.all().length;
  }

  /** A round trip later all is acknowledged, two segments at a time. @param delayMs of the queue. */
  acknowledge(delayMs = 0): void {
    this.bench.advance(RTT_MS + delayMs);
    const { peer } = this;
    const una = (this.bench.info(this.handle).sndUna - peer.kernelIss) >>> 0;
    const end = peer.rcvNxt;
    for (let ack = Math.min(una + 2 * MSS, end); ; ack = Math.min(ack + 2 * MSS, end)) {
      peer.send({ flags: "ack", ack });
      if (ack >= end) return;
    }
  }

  /** The first segment of a round is lost, reported and sent again. */
  lose(): void {
    this.round();
    this.bench.advance(RTT_MS);
    const una = (this.bench.info(this.handle).sndUna - this.peer.kernelIss) >>> 0;
    this.peer.sendSack(una, [una + MSS, this.peer.rcvNxt]);
    this.peer.all();
    this.bench.advance(RTT_MS);
    this.peer.send({ flags: "ack" });
  }

  /** What is left in the buffer leaves and is acknowledged. */
  drain(): void {
    for (let i = 0; i < 40 && this.bench.info(this.handle).sndQueuedBytes > 0; i++) {
      this.bench.turn();
      this.peer.all();
      this.acknowledge();
    }
    expect(this.bench.info(this.handle).sndQueuedBytes).toBe(0);
  }
}

describe.each(KERNEL_BUILDS)("congestion control, %s build", (build) => {
  test("CUBIC follows its model after a loss, to the old plateau and beyond", () => {
    const sender = new Sender(build, CONGESTION_CUBIC);
    for (let i = 0; i < 3; i++) {
      sender.round();
      sender.acknowledge();
    }
    // One loss: the first segment of the round.
    const before = sender.cwnd();
    sender.round();
    sender.bench.advance(RTT_MS);
    const { peer, bench, handle } = sender;
    const una = (bench.info(handle).sndUna - peer.kernelIss) >>> 0;
    peer.sendSack(una, [una + MSS, peer.rcvNxt]);
    peer.all();
    bench.advance(RTT_MS);
    peer.send({ flags: "ack" });
    const start = sender.cwnd();
    expect(Math.abs(start / before - 0.7)).toBeLessThan(0.01);
    const model = new CubicModel(before);
    model.lost();
    let passed = false;
    for (let round = 0; round < 50; round++) {
      const sent = sender.round();
      sender.acknowledge();
      const now = bench.nowMs / 1000;
      for (let i = 0; i < sent; i += 2) model.acked(Math.min(2, sent - i), now, RTT_MS / 1000);
      expect(Math.abs(sender.cwnd() - model.cwnd) / model.cwnd).toBeLessThan(0.05);
      if (sender.cwnd() > before) passed = true;
    }
    expect(passed).toBe(true);
  });

  test("HyStart++ ends slow start when round trips grow, before anything is lost", () => {
    const sender = new Sender(build, CONGESTION_CUBIC);
    let queueMs = 0;
    for (let i = 0; i < 12; i++) {
      if (sender.round() >= 60) queueMs += 20;
      sender.acknowledge(queueMs);
    }
    expect(sender.info(TCPI.TCPI_SND_SSTHRESH)).toBeLessThan(0x7fffffff);
    expect(sender.bench.counters()).toMatchObject({ tcpRetransmits: 0 });
  });

  test("a delay that passes does not end slow start: it goes on at its full pace (RFC 9406 4.2)", () => {
    const sender = new Sender(build, CONGESTION_CUBIC);
    const grownBy = (delayMs: number): number => {
      const before = sender.cwnd();
      sender.round();
      sender.acknowledge(delayMs);
      return sender.cwnd() / before;
    };
    for (let i = 0; i < 2; i++) expect(grownBy(0)).toBe(2);
    // A quarter of the pace from the eighth sample on, and in the next round.
    expect(grownBy(50)).toBeLessThan(1.6);
    expect(grownBy(50)).toBeLessThan(1.3);
    // Eight samples say that the delay has gone.
    expect(grownBy(0)).toBeGreaterThan(1.6);
    expect(grownBy(0)).toBeGreaterThan(1.9);
    expect(sender.info(TCPI.TCPI_SND_SSTHRESH)).toBe(0x7fffffff);
  });

  test("CUBIC's clock stands still while the application has nothing to send (RFC 9438 5.8)", () => {
    // RFC 7661 keeps the window, and CUBIC's state with it.
    const sender = new Sender(build, CONGESTION_CUBIC, { slowStartAfterIdle: 2 });
    for (let i = 0; i < 2; i++) {
      sender.round();
      sender.acknowledge();
    }
    sender.lose();
    sender.drain();
    const before = sender.cwnd();
    expect(before).toBeGreaterThan(20);
    sender.bench.advance(20_000);
    for (let i = 0; i < 4; i++) {
      sender.round();
      sender.acknowledge();
    }
    expect(sender.cwnd()).toBeGreaterThanOrEqual(before);
    // With twenty seconds more the cubic would be far beyond 4.4's bound, half of the window in each round trip.
    expect(sender.cwnd() / before).toBeLessThan(1.2);
  });

  test("a window that was not used for a while shrinks to the initial one (RFC 2861)", () => {
    const sender = new Sender(build, CONGESTION_CUBIC);
    for (let i = 0; i < 4; i++) {
      sender.round();
      sender.acknowledge();
    }
    sender.drain();
    const before = sender.cwnd();
    expect(before).toBeGreaterThan(40);
    sender.bench.advance(60_000);
    expect(sender.round()).toBe(10);
    expect(sender.info(TCPI.TCPI_SND_SSTHRESH)).toBeGreaterThanOrEqual(Math.floor(0.75 * before));
  });

  test("OPTION_CONGESTION chooses by connection; what does not exist is EINVAL", () => {
    const sender = new Sender(build, CONGESTION_CUBIC);
    for (const algorithm of [CONGESTION_RENO, CONGESTION_BBR, CONGESTION_CUBIC]) {
      expect(sender.bench.wasm.tcpSetOption(sender.handle, OPTION_CONGESTION, algorithm)).toBe(0);
      expect(sender.info(TCPI.TCPI_CONGESTION)).toBe(algorithm);
    }
    expect(sender.bench.wasm.tcpSetOption(sender.handle, OPTION_CONGESTION, 3)).toBe(EINVAL);
  });

  describe("BBR", () => {
    test("spreads a window over the round trip and tells its rates", () => {
      const sender = new Sender(build, CONGESTION_BBR);
      for (let i = 0; i < 3; i++) {
        sender.round();
        sender.acknowledge();
        sender.peer.all();
      }
      const { bench, peer } = sender;
      bench.queue(sender.handle, PLENTY);
      const atOnce = sender.round();
      let later = 0;
      for (let ms = 0; ms < RTT_MS - 1; ms++) {
        bench.advance(1);
        later += peer.all().length;
      }
      expect(later).toBeGreaterThan(2 * atOnce);
      expect(sender.info(TCPI.TCPI_PACING_RATE)).toBeLessThan(0xffffffff);
      expect(sender.info(TCPI.TCPI_DELIVERY_RATE)).toBeGreaterThan(0);
      expect(sender.info(TCPI.TCPI_MIN_RTT_US)).toBeGreaterThanOrEqual(RTT_MS * 1000);
    });
  });
});
