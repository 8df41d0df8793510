/**
 * Goal: the window is CUBIC's (RFC 9438), ACK by ACK, whatever the round-trip time, how many segments an ACK covers,
 * and when losses come. Method: a sender that always has more, a peer that loses the first segment of a round now and
 * then; the kernel's window against test/model/cubic.ts, which is never set right by it.
 */
import fc from "../helpers/property.ts";
import { describe, expect, test } from "vitest";
import { CONGESTION_CUBIC } from "../../src/layout/option.ts";
import { KERNEL_BUILDS, KernelBench, type KernelBuild, Peer } from "../helpers/kernelBench.ts";
import { pattern } from "../helpers/packets.ts";
import { CubicModel } from "../model/cubic.ts";

const MSS = 1000;
const PLENTY = pattern(1 << 20);
const SLOW_START_ROUNDS = 3;
/** Segments; the send buffer takes twice as many. */
const WINDOW_MAX = 500;
/** Segments, and of the window: the kernel counts whole bytes, and its round-trip time is a mean. */
const ERROR_MAX = 0.25;
const ERROR_RATIO_MAX = 0.01;

const plan = fc.record({
  rttMs: fc.integer({ min: 10, max: 300 }),
  segmentsPerAck: fc.integer({ min: 1, max: 4 }),
  /** Rounds from one loss to the next. */
  epochs: fc.array(fc.integer({ min: 1, max: 25 }), { minLength: 1, maxLength: 5, size: "max" }),
});

/** One connection, its slow start ended by a first loss at `before` segments. */
class Sender {
  readonly bench: KernelBench;
  readonly peer: Peer;
  readonly handle: number;
  readonly #rttMs: number;

  constructor(build: KernelBuild, rttMs: number) {
    this.#rttMs = rttMs;
    const tuning = { congestionControl: CONGESTION_CUBIC, sndBufferBytesMax: 1 << 20 };
    this.bench = new KernelBench({ build, noDelay: true, tuning });
    const listener = this.bench.listen(80);
    this.peer = new Peer(this.bench, { mss: MSS, sack: true, windowScale: 7, window: 16_384 });
    this.peer.send({ flags: "syn" });
    this.peer.expect({ flags: "syn ack" });
    this.bench.advance(rttMs);
    this.peer.send({ flags: "ack" });
    this.handle = this.bench.wasm.tcpAccept(listener);
  }

  cwnd(): number {
    return this.bench.info(this.handle).cwndBytes / MSS;
  }

  /** Sends what the window lets go; a round trip later `perAck` segments after the other are acknowledged. */
  round(perAck: number, acked: (segments: number) => void): void {
    this.#send();
    this.bench.advance(this.#rttMs);
    const end = this.peer.rcvNxt;
    let una = this.#una();
    while (una < end) {
      const ack = Math.min(una + perAck * MSS, end);
      this.peer.send({ flags: "ack", ack });
      acked((ack - una) / MSS);
      una = ack;
    }
  }

  /**
   * A round whose first segment is lost, and the round trip that repairs it.
   * @returns segments that the ACK which ends recovery has told of: that one, and what was sent meanwhile.
   */
  loss(): number {
    this.#send();
    this.bench.advance(this.#rttMs);
    const una = this.#una();
    const end = this.peer.rcvNxt;
    this.peer.sendSack(una, [una + MSS, end]);
    this.peer.all();
    this.bench.advance(this.#rttMs);
    this.peer.send({ flags: "ack" });
    return 1 + (this.peer.rcvNxt - end) / MSS;
  }

  #send(): void {
    this.bench.queue(this.handle, PLENTY);
    this.bench.turn();
    this.peer.all();
  }

  #una(): number {
    return (this.bench.info(this.handle).sndUna - this.peer.kernelIss) >>> 0;
  }
}

describe.each(KERNEL_BUILDS)("CUBIC, %s build", (build) => {
  test("the window is the model's after every round", () => {
    let compared = 0;
    let plateaus = 0;
    fc.assert(
      fc.property(plan, ({ rttMs, segmentsPerAck, epochs }) => {
        const sender = new Sender(build, rttMs);
        for (let i = 0; i < SLOW_START_ROUNDS; i++) sender.round(2, () => {});
        const model = new CubicModel(sender.cwnd());
        for (const rounds of epochs) {
          const acked = (segments: number) => model.acked(segments, sender.bench.nowMs / 1000, rttMs / 1000);
          // Just at the plateau a byte decides about fast convergence.
          if (Math.abs(model.cwnd - model.wMax) < ERROR_MAX) return;
          const delivered = sender.loss();
          model.lost();
          // Congestion avoidance begins with the ACK that ends recovery.
          acked(delivered);
          expect(Math.abs(sender.cwnd() - model.cwnd)).toBeLessThan(ERROR_MAX + ERROR_RATIO_MAX * model.cwnd);
          for (let round = 0; round < rounds && model.cwnd < WINDOW_MAX; round++) {
            sender.round(segmentsPerAck, acked);
            expect(Math.abs(sender.cwnd() - model.cwnd)).toBeLessThan(ERROR_MAX + ERROR_RATIO_MAX * model.cwnd);
            compared++;
            if (model.cwnd > model.wMax) plateaus++;
          }
        }
      }),
      { numRuns: 20 },
    );
    expect(compared).toBeGreaterThan(200);
    expect(plateaus).toBeGreaterThan(20);
  });

  test("beyond the plateau no round trip adds more than half (4.4), which a small window on a long path would", () => {
    const rttMs = 900;
    const sender = new Sender(build, rttMs);
    const model = new CubicModel(sender.cwnd());
    const acked = (segments: number) => model.acked(segments, sender.bench.nowMs / 1000, rttMs / 1000);
    for (let i = 0; i < 2; i++) {
      const delivered = sender.loss();
      model.lost();
      acked(delivered);
    }
    let most = 0;
    for (let round = 0; round < 12; round++) {
      const before = model.cwnd;
      sender.round(1, acked);
      most = Math.max(most, model.cwnd / before);
      expect(Math.abs(sender.cwnd() - model.cwnd)).toBeLessThan(ERROR_MAX + ERROR_RATIO_MAX * model.cwnd);
    }
    expect(most).toBeGreaterThan(1.4);
  });
});
