import { describe, expect, test } from "vitest";
import { RESULT_BASE } from "../../../src/layout/kernelMemory.ts";
import { OPTION_RCV_BUFFER_BYTES } from "../../../src/layout/option.ts";
import { EBADF, ECONNREFUSED, ECONNRESET, EINVAL, EADDRINUSE, EPIPE } from "../../../src/layout/status.ts";
import { KERNEL_BUILDS, KernelBench, openActive, openPassive, type SegmentFields } from "../../helpers/kernelBench.ts";
import { pattern } from "../../helpers/packets.ts";
import { reach, reachSynSent, SYNCHRONIZED_STATES } from "../../helpers/tcpStates.ts";

/** Every call that takes a connection's handle. */
function calls(bench: KernelBench, handle: number): Record<string, number> {
  const { wasm, area } = bench;
  return {
    tcpSend: wasm.tcpSend(handle, area, 1),
    tcpSendReserve: wasm.tcpSendReserve(handle, 1),
    tcpSendCommit: wasm.tcpSendCommit(handle, 1),
    tcpRecv: wasm.tcpRecv(handle, area, 1),
    tcpRecvPeek: wasm.tcpRecvPeek(handle),
    tcpRecvConsume: wasm.tcpRecvConsume(handle, 0),
    tcpShutdownSend: wasm.tcpShutdownSend(handle),
    tcpSetOption: wasm.tcpSetOption(handle, 1, 1),
    tcpGetInfo: wasm.tcpGetInfo(handle, area),
    tcpInfo: wasm.tcpInfo(handle, area),
    tcpClose: wasm.tcpClose(handle),
    tcpAbort: wasm.tcpAbort(handle),
  };
}

describe.each(KERNEL_BUILDS)("the application's calls, %s build", (build) => {
  describe("handles", () => {
    test("of nothing, of other kinds, and made up, are EBADF in every call", () => {
      const bench = new KernelBench({ build });
      const { handle, listener } = openPassive(bench);
      const udp = bench.wasm.udpBind(-1, 53);
      expect(udp).toBeGreaterThan(0);
      const wrong = [-1, -9, 0x7fffffff, 0xffffff, handle + 1, handle + 0x1000000, handle ^ 0x20000000, listener, udp];
      for (const bad of wrong) expect(new Set(Object.values(calls(bench, bad)))).toEqual(new Set([EBADF]));
      expect(bench.wasm.tcpAccept(handle)).toBe(EBADF);
      expect(bench.wasm.tcpListenClose(handle)).toBe(EBADF);
      expect(bench.state(handle)).toBe("ESTABLISHED");
    });

    test.each([...SYNCHRONIZED_STATES])(
      "stale ones are EBADF after tcpAbort in %s, also when the slot lives again",
      (state) => {
        const bench = new KernelBench({ build, tuning: { connectionsMax: 1, timeWaitMs: 1 } });
        const { handle, listener } = reach(bench, state);
        expect(bench.wasm.tcpAbort(handle)).toBe(0);
        bench.advance(2);
        bench.sent();
        const again = openPassive(bench, { port: 41_000 }, listener);
        expect(again.handle & 0xffffff).toBe(handle & 0xffffff);
        expect(new Set(Object.values(calls(bench, handle)))).toEqual(new Set([EBADF]));
        expect(bench.state(again.handle)).toBe("ESTABLISHED");
      },
    );

    test("after tcpClose the handle is the kernel's: only tcpAbort still works, until EVENT_CLOSED", () => {
      const bench = new KernelBench({ build });
      const { peer, handle } = openPassive(bench);
      expect(bench.wasm.tcpClose(handle)).toBe(0);
      bench.turn();
      peer.expect({ flags: "fin ack" });
      const { tcpAbort, ...others } = calls(bench, handle);
      expect(new Set(Object.values(others))).toEqual(new Set([EBADF]));
      expect(tcpAbort).toBe(0);
      bench.turn();
      peer.expect({ flags: "rst ack", seq: 2 });
      expect(bench.wasm.tcpAbort(handle)).toBe(EBADF);
      expect(bench.counters()).toMatchObject({ gaugeConnections: 0, gaugeFlows: 0 });
    });
  });

  describe("EVENT_CLOSED", () => {
    const ways: { name: string; run: (bench: KernelBench) => number; status: number }[] = [
      {
        name: "orderly, we first",
        run: (bench) => {
          const { peer, handle } = reach(bench, "FIN_WAIT_2");
          peer.send({ flags: "fin ack" });
          return handle;
        },
        status: 0,
      },
      {
        name: "orderly, the peer first",
        run: (bench) => {
          const { peer, handle } = reach(bench, "LAST_ACK");
          peer.send({ flags: "ack" });
          return handle;
        },
        status: 0,
      },
      {
        name: "reset",
        run: (bench) => {
          const { peer, handle } = openPassive(bench);
          peer.send({ flags: "rst" });
          return handle;
        },
        status: ECONNRESET,
      },
      {
        name: "refused",
        run: (bench) => {
          const { peer, handle } = reachSynSent(bench);
          peer.send({ flags: "rst ack", ack: 1 });
          return handle;
        },
        status: ECONNREFUSED,
      },
    ];

    test.each(ways)("$name: comes once, and not again after tcpClose", ({ run, status }) => {
      const bench = new KernelBench({ build, tuning: { timeWaitMs: 5000 } });
      const handle = run(bench);
      const told = bench.events(handle).filter(({ mask }) => mask.includes("closed"));
      expect(told).toMatchObject([{ status }]);
      expect(bench.wasm.tcpClose(handle)).toBe(0);
      bench.advance(20_000);
      expect(bench.events()).toEqual([]);
      expect(bench.counters()).toMatchObject({ gaugeConnections: 0, gaugeFlows: 0, gaugeStreamBytes: 0 });
    });

    test("still told when tcpClose comes between the end and its event", () => {
      const bench = new KernelBench({ build, tuning: { eventSlots: 1 } });
      const listener = bench.listen(80);
      const first = openPassive(bench, { port: 1 }, listener);
      const second = openPassive(bench, { port: 2 }, listener);
      first.peer.post({ flags: "psh ack", payload: pattern(1) });
      second.peer.post({ flags: "rst" });
      bench.turn();
      expect(bench.events()).toMatchObject([{ handle: first.handle, mask: "readable" }]);
      // The second connection is over, but the application does not know yet and closes it.
      expect(bench.wasm.tcpClose(second.handle)).toBe(0);
      bench.turn();
      expect(bench.events()).toMatchObject([{ handle: second.handle, mask: "closed error", status: ECONNRESET }]);
      expect(bench.wasm.tcpClose(second.handle)).toBe(EBADF);
      expect(bench.counters().gaugeConnections).toBe(1);
    });
  });

  describe("events", () => {
    test("a connection stands in the array at most once per poll, its events together", () => {
      const bench = new KernelBench({ build });
      const { peer, handle } = openPassive(bench);
      const segments: SegmentFields[] = Array.from({ length: 10 }, (_, i) => ({
        flags: "ack",
        payload: pattern(10, i),
      }));
      peer.sendAll(...segments, { flags: "fin ack", seq: 101 });
      expect(bench.events()).toEqual([{ handle, mask: "readable peerClosed", status: 0, readableBytes: 100 }]);
    });

    test("more events than slots: the rest comes with the next polls, oldest first", () => {
      const bench = new KernelBench({ build, tuning: { eventSlots: 2 } });
      const listener = bench.listen(80);
      const opened = [1, 2, 3, 4, 5].map((port) => openPassive(bench, { port }, listener));
      for (const { peer } of opened) peer.post({ flags: "psh ack", payload: pattern(1) });
      const order: number[] = [];
      for (const expected of [2, 2, 1, 0]) {
        bench.turn();
        const events = bench.events();
        expect(events.length).toBe(expected);
        order.push(...events.map(({ handle }) => handle));
      }
      expect(order).toEqual(opened.map(({ handle }) => handle));
    });

    test("after tcpClose nothing is told but the end", () => {
      const bench = new KernelBench({ build });
      const { peer, handle } = openPassive(bench);
      bench.wasm.tcpClose(handle);
      bench.turn();
      peer.receive();
      peer.send({ flags: "ack" });
      expect(bench.events()).toEqual([]);
      peer.send({ flags: "fin ack" });
      expect(bench.events()).toEqual([{ handle, mask: "closed", status: 0, readableBytes: 0 }]);
    });

    test("EVENT_PEER_CLOSED once, although the FIN comes again", () => {
      const bench = new KernelBench({ build });
      const { peer } = openPassive(bench);
      peer.send({ flags: "fin ack" });
      peer.send({ flags: "fin ack", seq: 1 });
      expect(bench.events().map(({ mask }) => mask)).toEqual(["peerClosed"]);
    });
  });

  describe("tcpClose", () => {
    test("with unread bytes sends RST (RFC 2525 2.17, RFC 1122 4.2.2.13)", () => {
      const bench = new KernelBench({ build });
      const { peer, handle } = openPassive(bench);
      peer.send({ flags: "psh ack", payload: pattern(10) });
      expect(bench.wasm.tcpClose(handle)).toBe(0);
      bench.turn();
      peer.expect({ flags: "rst ack", seq: 1, ack: 11 });
      expect(bench.events(handle).at(-1)).toMatchObject({ mask: "closed", status: 0 });
      expect(bench.counters()).toMatchObject({ gaugeConnections: 0, gaugeStreamBytes: 0 });
    });

    test("data that comes after it is answered with RST", () => {
      const bench = new KernelBench({ build });
      const { peer, handle } = openPassive(bench);
      bench.wasm.tcpClose(handle);
      bench.turn();
      peer.expect({ flags: "fin ack" });
      // The peer has not seen the FIN: the reset stands where it expects the next octet (RFC 5961 3.2).
      peer.send({ flags: "psh ack", ack: 1, payload: pattern(10) });
      peer.expect({ flags: "rst", seq: 1 });
      expect(bench.events(handle)).toMatchObject([{ mask: "closed error", status: ECONNRESET }]);
      expect(bench.counters().gaugeConnections).toBe(0);
    });

    test("what is still queued is sent", () => {
      const bench = new KernelBench({ build });
      const { peer, handle } = openPassive(bench, { mss: 1000, window: 1000 });
      bench.queue(handle, pattern(3000));
      bench.wasm.tcpClose(handle);
      bench.turn();
      const received: number[] = [];
      for (let i = 0; i < 10; i++) {
        for (const segment of peer.all()) if (segment.payload.length > 0) received.push(segment.seq);
        peer.send({ flags: "ack" });
        bench.advance(10);
      }
      expect(received).toEqual([1, 1001, 2001]);
      expect(bench.events(handle)).toEqual([]);
      peer.send({ flags: "fin ack" });
      expect(bench.events(handle)).toMatchObject([{ mask: "closed", status: 0 }]);
    });
  });

  describe("reading", () => {
    test("tcpRecvPeek and tcpRecvConsume show the bytes in place", () => {
      const bench = new KernelBench({ build });
      const { peer, handle } = openPassive(bench);
      expect(bench.wasm.tcpRecvPeek(handle)).toBe(0);
      peer.send({ flags: "psh ack", payload: pattern(200) });
      const read: number[] = [];
      for (let i = 0; i < 10 && read.length < 200; i++) {
        const at = bench.wasm.tcpRecvPeek(handle);
        const length = bench.memory.loadU32(RESULT_BASE);
        expect(at).toBeGreaterThan(0);
        read.push(...bench.bytes.subarray(at, at + Math.min(length, 30)));
        expect(bench.wasm.tcpRecvConsume(handle, Math.min(length, 30))).toBe(0);
      }
      expect(read).toEqual([...pattern(200)]);
      expect(bench.wasm.tcpRecvConsume(handle, 1)).toBe(EINVAL);
    });

    test("after the peer's FIN: what is left, then 0; after its RST: what is left, then the error", () => {
      const bench = new KernelBench({ build });
      const { peer, handle, listener } = openPassive(bench);
      peer.send({ flags: "fin ack", payload: pattern(10) });
      expect(bench.read(handle).length).toBe(10);
      expect(bench.wasm.tcpRecv(handle, bench.area, 10)).toBe(0);
      const second = openPassive(bench, { port: 2 }, listener);
      second.peer.send({ flags: "psh ack", payload: pattern(10) });
      second.peer.send({ flags: "rst" });
      expect(bench.read(second.handle).length).toBe(10);
      expect(bench.wasm.tcpRecv(second.handle, bench.area, 10)).toBe(ECONNRESET);
    });
  });

  describe("wrong use", () => {
    test("sending after the end says why", () => {
      const bench = new KernelBench({ build });
      const { peer, handle } = openPassive(bench);
      peer.send({ flags: "rst" });
      expect(bench.queue(handle, pattern(1))).toBe(ECONNRESET);
      expect(bench.wasm.tcpShutdownSend(handle)).toBe(ECONNRESET);
    });

    test("tcpSendCommit of more than was reserved, or of nothing reserved, is EINVAL", () => {
      const bench = new KernelBench({ build });
      const { handle } = openPassive(bench);
      expect(bench.wasm.tcpSendCommit(handle, 1)).toBe(EINVAL);
      expect(bench.wasm.tcpSendReserve(handle, 100)).toBeGreaterThan(0);
      expect(bench.wasm.tcpSendCommit(handle, 100_000)).toBe(EINVAL);
      expect(bench.wasm.tcpSendCommit(handle, 2 ** 32 - 1)).toBe(EINVAL);
      expect(bench.info(handle).sndQueuedBytes).toBe(0);
    });

    test("options that do not exist or are out of range are EINVAL", () => {
      const bench = new KernelBench({ build });
      const { handle } = openPassive(bench);
      expect(bench.wasm.tcpSetOption(handle, 0, 1)).toBe(EINVAL);
      expect(bench.wasm.tcpSetOption(handle, 99, 1)).toBe(EINVAL);
      expect(bench.wasm.tcpSetOption(handle, OPTION_RCV_BUFFER_BYTES, 2047)).toBe(EINVAL);
      expect(bench.wasm.tcpSetOption(handle, OPTION_RCV_BUFFER_BYTES, 2 ** 32 - 1)).toBe(0);
    });

    test("a local port that is in use towards the same peer is EADDRINUSE; shutdown twice is fine", () => {
      const bench = new KernelBench({ build });
      const first = bench.connect(7000, { localPort: 5000 });
      expect(first).toBeGreaterThanOrEqual(0);
      expect(bench.connect(7000, { localPort: 5000 })).toBe(EADDRINUSE);
      expect(bench.connect(7001, { localPort: 5000 })).toBeGreaterThanOrEqual(0);
      const { handle } = openActive(bench, { port: 7002 });
      expect([bench.wasm.tcpShutdownSend(handle), bench.wasm.tcpShutdownSend(handle)]).toEqual([0, 0]);
      expect(bench.queue(handle, pattern(1))).toBe(EPIPE);
    });
  });
});
