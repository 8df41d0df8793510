/** Urgent data (RFC 9293 3.8.5), and soft errors: trouble that ends nothing (RFC 1122 4.2.3.5, 4.2.3.9). */
import { describe, expect, test } from "vitest";
import { OPTION_URGENT, OPTION_URGENT_TOLD } from "../../../src/layout/option.ts";
import { ETIMEDOUT } from "../../../src/layout/status.ts";
import { KERNEL_BUILDS, KernelBench, openPassive } from "../../helpers/kernelBench.ts";
import { pattern } from "../../helpers/packets.ts";

const MSS = 1000;

describe.each(KERNEL_BUILDS)("urgent data, %s build", (build) => {
  test("every segment before the mark carries the pointer to it, also when it goes again", () => {
    const bench = new KernelBench({ build });
    const { peer, handle } = openPassive(bench, { mss: MSS });
    bench.queue(handle, pattern(2 * MSS + 500));
    expect(bench.wasm.tcpSetOption(handle, OPTION_URGENT, 1)).toBe(0);
    bench.queue(handle, pattern(MSS));
    bench.turn();
    const sent = peer.all().map(({ seq, flags, urgent }) => [seq, flags.includes("urg"), urgent]);
    expect(sent).toEqual([
      [1, true, 2500],
      [1001, true, 1500],
      [2001, true, 500],
      [3001, false, 0],
    ]);
    bench.advance(400);
    const again = peer.all();
    expect(again.some(({ seq }) => seq === 1)).toBe(true);
    for (const { seq, urgent } of again) expect(urgent).toBe(seq < 2501 ? 2501 - seq : 0);
    peer.send({ flags: "ack", ack: 3501 });
    bench.write(handle, pattern(10));
    expect(peer.expect({ seq: 3501 }).flags).toBe("psh ack");
  });

  test("a mark farther than the pointer reaches is as far as that", () => {
    const bench = new KernelBench({ build, tuning: { sndBufferBytesMax: 1 << 18 } });
    const { peer, handle } = openPassive(bench, { mss: MSS });
    expect(bench.queue(handle, pattern(100_000))).toBe(100_000);
    bench.wasm.tcpSetOption(handle, OPTION_URGENT, 1);
    bench.turn();
    expect(peer.expect({})).toMatchObject({ urgent: 65535 });
  });

  test("a shut window does not keep the peer from being told", () => {
    const bench = new KernelBench({ build });
    const { peer, handle } = openPassive(bench, { mss: MSS });
    peer.send({ flags: "ack", window: 0 });
    bench.queue(handle, pattern(10));
    bench.wasm.tcpSetOption(handle, OPTION_URGENT, 1);
    bench.turn();
    expect(peer.expect({ payloadBytes: 0 })).toMatchObject({ flags: "ack urg", urgent: 10 });
  });

  test("devices do not cut frames with it", () => {
    const bench = new KernelBench({ build, tsoBytesMax: 60_000, checksumOffload: true });
    const { handle } = openPassive(bench, { mss: MSS });
    bench.takesFrames = false;
    bench.queue(handle, pattern(4 * MSS));
    bench.wasm.tcpSetOption(handle, OPTION_URGENT, 1);
    bench.turn();
    for (let frame = bench.tx.shift(); frame; frame = bench.tx.shift()) {
      expect(frame.length).toBeLessThanOrEqual(54 + MSS);
    }
  });

  describe("received", () => {
    function open() {
      const bench = new KernelBench({ build });
      const opened = openPassive(bench, { mss: MSS });
      return { bench, ...opened };
    }

    test("the application is told when it comes, how much is ahead, and when the mark moves on", () => {
      const { bench, peer, handle } = open();
      expect(bench.wasm.tcpSetOption(handle, OPTION_URGENT_TOLD, 1)).toBe(0);
      peer.send({ flags: "ack psh urg", payload: pattern(100), tcp: { urgent: 60 } });
      expect(bench.events(handle)).toMatchObject([{ mask: "readable urgent", readableBytes: 100 }]);
      expect(bench.info(handle).urgentBytes).toBe(60);
      bench.read(handle, 59);
      expect(bench.info(handle).urgentBytes).toBe(1);
      // Told by an ACK alone, before its bytes have come.
      peer.send({ flags: "ack urg", tcp: { urgent: 300 } });
      expect(bench.events(handle)).toMatchObject([{ mask: "readable urgent" }]);
      expect(bench.info(handle).urgentBytes).toBe(341);
      bench.read(handle);
      peer.send({ flags: "ack psh", payload: pattern(300, 1) });
      expect(bench.info(handle).urgentBytes).toBe(300);
      expect(bench.read(handle)).toEqual(Buffer.from(pattern(300, 1)));
      expect(bench.info(handle).urgentBytes).toBe(0);
      peer.send({ flags: "ack psh", payload: pattern(5) });
      expect(bench.events(handle).at(-1)).toMatchObject({ mask: "readable" });
    });

    test("an older mark does not take the place of a later one, nor one beyond anything that can come", () => {
      const { bench, peer, handle } = open();
      bench.wasm.tcpSetOption(handle, OPTION_URGENT_TOLD, 1);
      peer.send({ flags: "ack psh urg", payload: pattern(100), tcp: { urgent: 60 } });
      peer.send({ flags: "ack psh urg", seq: 1, payload: pattern(100), tcp: { urgent: 20 } });
      expect(bench.info(handle).urgentBytes).toBe(60);
    });

    test("nothing is kept where nobody wants to know", () => {
      const { bench, peer, handle } = open();
      peer.send({ flags: "ack psh urg", payload: pattern(100), tcp: { urgent: 60 } });
      expect(bench.events(handle)).toMatchObject([{ mask: "readable" }]);
      expect(bench.info(handle).urgentBytes).toBe(0);
    });
  });
});

describe.each(KERNEL_BUILDS)("soft errors, %s build", (build) => {
  test("three time-outs in a row can be seen, and are forgotten when the peer acknowledges", () => {
    const bench = new KernelBench({ build });
    const { peer, handle } = openPassive(bench, { mss: MSS });
    expect(bench.info(handle).softError).toBe(0);
    bench.write(handle, pattern(10));
    bench.advance(500);
    expect(bench.info(handle).softError).toBe(0);
    bench.advance(5000);
    expect(bench.info(handle).softError).toBe(ETIMEDOUT);
    peer.send({ flags: "ack", ack: 11 });
    expect(bench.info(handle).softError).toBe(0);
  });
});
