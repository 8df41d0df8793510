import { describe, expect, test } from "vitest";
import { EADDRINUSE, EADDRNOTAVAIL, EAGAIN, EBADF, EINVAL, ENOBUFS } from "../../../src/layout/status.ts";
import {
  KERNEL_BUILDS,
  KernelBench,
  openPassive,
  Peer,
  type PeerOptions,
  type Sent,
} from "../../helpers/kernelBench.ts";
import { pattern } from "../../helpers/packets.ts";

/** Opens a connection up to the peer's ACK; the application has not accepted it. */
function knock(bench: KernelBench, options: PeerOptions): Peer {
  const peer = new Peer(bench, options);
  peer.send({ flags: "syn" });
  peer.expect({ flags: "syn ack" });
  peer.send({ flags: "ack" });
  return peer;
}

/** Half-open connections that will never be completed, from ports 1000 on. */
function fillSynQueue(bench: KernelBench, count: number, kernelPort = 80): void {
  for (let i = 0; i < count; i++) {
    new Peer(bench, { address: "10.0.0.66", port: 1000 + i, kernelPort }).post({ flags: "syn" });
  }
  bench.turn();
  bench.sent();
}

describe.each(KERNEL_BUILDS)("TCP listeners, %s build", (build) => {
  describe("tcpListen, tcpAccept, tcpListenClose", () => {
    test("refusals", () => {
      const bench = new KernelBench({ build, addresses: ["10.0.0.1/24", "10.1.0.1/24"], tuning: { listenersMax: 4 } });
      const { wasm } = bench;
      expect(wasm.tcpListen(-1, 0, 16)).toBe(EINVAL);
      expect(wasm.tcpListen(-1, 65536, 16)).toBe(EINVAL);
      expect(wasm.tcpListen(-1, 80, 0)).toBe(EINVAL);
      // Behind the own addresses is 127.0.0.1.
      expect(wasm.tcpListen(3, 80, 16)).toBe(EADDRNOTAVAIL);
      expect(wasm.tcpListen(-4, 80, 16)).toBe(EADDRNOTAVAIL);
      const listener = bench.listen(80);
      expect(wasm.tcpListen(-1, 80, 16)).toBe(EADDRINUSE);
      for (const address of [0, 1]) bench.listen(80, 16, address);
      expect(wasm.tcpListen(1, 80, 16)).toBe(EADDRINUSE);
      bench.listen(81);
      expect(wasm.tcpListen(-1, 82, 16)).toBe(ENOBUFS);
      expect(wasm.tcpAccept(listener)).toBe(EAGAIN);
      expect(wasm.tcpListenClose(listener)).toBe(0);
      expect(wasm.tcpListenClose(listener)).toBe(EBADF);
      expect(wasm.tcpAccept(listener)).toBe(EBADF);
      // The slot's next listener is not reached by the old handle.
      bench.listen(80);
      expect(wasm.tcpAccept(listener)).toBe(EBADF);
    });

    test("a listener for one address comes before the one for all", () => {
      const bench = new KernelBench({ build, addresses: ["10.0.0.1/24", "10.1.0.1/24"] });
      const all = bench.listen(80);
      const one = bench.listen(80, 16, 1);
      knock(bench, { port: 1 });
      knock(bench, { port: 2, kernelAddress: "10.1.0.1", address: "10.1.0.9" });
      const info = (listener: number) => bench.info(bench.wasm.tcpAccept(listener)).remotePort;
      expect([info(all), info(one)]).toEqual([1, 2]);
      expect([bench.wasm.tcpAccept(all), bench.wasm.tcpAccept(one)]).toEqual([EAGAIN, EAGAIN]);
    });

    test("connections are accepted oldest first, and told with their number", () => {
      const bench = new KernelBench({ build });
      const listener = bench.listen(80);
      const peers = [1, 2, 3].map((port) => {
        const peer = new Peer(bench, { port });
        peer.send({ flags: "syn" });
        peer.expect({ flags: "syn ack" });
        return peer;
      });
      for (const peer of peers.toReversed()) peer.post({ flags: "ack" });
      bench.turn();
      expect(bench.events()).toEqual([{ handle: listener, mask: "acceptable", status: 0, readableBytes: 3 }]);
      const ports = peers.map(() => bench.info(bench.wasm.tcpAccept(listener)).remotePort);
      expect(ports).toEqual([3, 2, 1]);
    });

    test("what happened before tcpAccept is told after it", () => {
      const bench = new KernelBench({ build });
      const listener = bench.listen(80);
      const peer = knock(bench, {});
      peer.send({ flags: "fin ack", payload: pattern(10) });
      expect(bench.events().map(({ mask }) => mask)).toEqual(["acceptable"]);
      const handle = bench.wasm.tcpAccept(listener);
      bench.turn();
      expect(bench.events()).toEqual([{ handle, mask: "readable peerClosed", status: 0, readableBytes: 10 }]);
    });

    test("a connection that is reset while it waits is still accepted, and told as closed", () => {
      const bench = new KernelBench({ build });
      const listener = bench.listen(80);
      knock(bench, {}).send({ flags: "rst" });
      const handle = bench.wasm.tcpAccept(listener);
      expect(handle).toBeGreaterThanOrEqual(0);
      bench.turn();
      expect(bench.events(handle)).toMatchObject([{ mask: "closed error" }]);
      bench.wasm.tcpClose(handle);
      expect(bench.counters().gaugeConnections).toBe(0);
    });

    test("closing resets what was not accepted; what was stays; half-open ones get RST with their ACK", () => {
      const bench = new KernelBench({ build });
      const listener = bench.listen(80);
      const { peer: accepted, handle } = openPassive(bench, { port: 1, mss: 1460 }, listener);
      const waiting = knock(bench, { port: 2 });
      const gone = knock(bench, { port: 3 });
      gone.send({ flags: "rst" });
      const halfOpen = new Peer(bench, { port: 4 });
      halfOpen.send({ flags: "syn" });
      halfOpen.expect({ flags: "syn ack" });
      bench.wasm.tcpListenClose(listener);
      bench.turn();
      waiting.expect({ flags: "rst ack", seq: 1, ack: 1 });
      gone.expectNothing();
      halfOpen.send({ flags: "ack" });
      halfOpen.expect({ flags: "rst", seq: 1 });
      new Peer(bench, { port: 5 }).send({ flags: "syn" });
      expect(bench.sent(5)).toMatchObject([{ flags: "rst ack" }]);
      bench.write(handle, pattern(10));
      accepted.expect({ payloadBytes: 10 });
      expect(bench.counters()).toMatchObject({ gaugeConnections: 1, gaugeFlows: 1 });
    });
  });

  describe("limits", () => {
    test("a full accept queue: SYNs and last ACKs are dropped and counted, and come through later", () => {
      const bench = new KernelBench({ build });
      const listener = bench.listen(80, 2);
      const early = new Peer(bench, { port: 9 });
      early.send({ flags: "syn" });
      early.expect({ flags: "syn ack" });
      knock(bench, { port: 1 });
      knock(bench, { port: 2 });
      const counted = bench.counted(() => {
        early.send({ flags: "ack" });
        new Peer(bench, { port: 3 }).send({ flags: "syn" });
      });
      expect(counted.dropAcceptQueueFull).toBe(2);
      expect(bench.sent()).toEqual([]);
      bench.wasm.tcpAccept(listener);
      // The SYN-ACK comes again, and the peer acknowledges it again.
      bench.advance(1100);
      early.expect({ flags: "syn ack", seq: 0, ack: 1 });
      early.send({ flags: "ack", payload: pattern(5) });
      bench.wasm.tcpAccept(listener);
      const handle = bench.wasm.tcpAccept(listener);
      expect(bench.info(handle)).toMatchObject({ remotePort: 9, rcvQueuedBytes: 5 });
    });

    test("connectionsMax: SYNs are dropped and counted, tcpConnect is ENOBUFS; a place that comes free is used", () => {
      const bench = new KernelBench({ build, tuning: { connectionsMax: 3 } });
      const listener = bench.listen(80);
      const opened = [1, 2, 3].map((port) => openPassive(bench, { port }, listener));
      const counted = bench.counted(() => new Peer(bench, { port: 4 }).send({ flags: "syn" }));
      expect(counted.dropNoConnectionSlot).toBe(1);
      expect(bench.sent()).toEqual([]);
      expect(bench.connect(7000)).toBe(ENOBUFS);
      bench.wasm.tcpAbort(opened[0]?.handle ?? -1);
      openPassive(bench, { port: 4 }, listener);
      bench.write(opened[1]?.handle ?? -1, pattern(10));
      opened[1]?.peer.expect({ payloadBytes: 10 });
    });
  });

  describe("SYN cookies (RFC 4987 3.6)", () => {
    const flooded = (options: { timestamps?: boolean; nowMs?: number } = {}) => {
      const bench = new KernelBench({ build, tuning: { rcvBufferBytesMax: 1 << 20 }, ...options });
      const listener = bench.listen(80, 4);
      fillSynQueue(bench, 4);
      return { bench, listener };
    };

    test("a full SYN queue answers with a cookie and keeps nothing", () => {
      const { bench } = flooded();
      const before = bench.counters().gaugeConnections;
      const peer = new Peer(bench, { mss: 1460, windowScale: 7, timestamp: 5 });
      const counted = bench.counted(() => peer.send({ flags: "syn" }));
      expect(counted).toMatchObject({ synCookiesSent: 1 });
      // Answered is not dropped.
      expect(counted).not.toHaveProperty("dropSynQueueFull");
      const synAck = peer.expect({ flags: "syn ack", seq: 0, ack: 1, window: 65535 });
      expect(synAck.options).toMatchObject({ mss: 1460, windowScale: 5, timestamps: [expect.any(Number), 5] });
      expect(bench.counters().gaugeConnections).toBe(before);
      bench.advance(900);
      peer.expectNothing();
    });

    test("a cookie promises no more than a 64th of the free stream pool, and two segments", () => {
      for (const { streamPoolBytes, window } of [
        { streamPoolBytes: 1 << 20, window: 16_384 },
        { streamPoolBytes: 1 << 17, window: 3000 },
      ]) {
        const bench = new KernelBench({ build, tuning: { streamPoolBytes } });
        const listener = bench.listen(80, 4);
        fillSynQueue(bench, 4);
        const peer = new Peer(bench, { mss: 1460 });
        peer.send({ flags: "syn" });
        peer.expect({ flags: "syn ack", seq: 0, ack: 1, window });
        peer.send({ flags: "ack" });
        expect(bench.info(bench.wasm.tcpAccept(listener))).toMatchObject({ state: "ESTABLISHED", rcvWnd: window });
      }
    });

    test("a full TX ring has no room for the cookie: that SYN is dropped, and counted as such", () => {
      const bench = new KernelBench({ build, tuning: { txRingBytes: 16_384 } });
      bench.listen(80, 4);
      fillSynQueue(bench, 4);
      bench.takesFrames = false;
      const counted = bench.counted(() => {
        for (let port = 1; port <= 300; port++) new Peer(bench, { port }).send({ flags: "syn" });
      });
      const { synCookiesSent = 0, dropSynQueueFull = 0 } = counted;
      expect(synCookiesSent).toBeGreaterThan(0);
      expect(dropSynQueueFull).toBeGreaterThan(0);
      expect(synCookiesSent + dropSynQueueFull).toBe(300);
    });

    test.each([
      { mss: undefined, known: 536 },
      { mss: 100, known: 216 },
      { mss: 535, known: 216 },
      { mss: 1300, known: 1200 },
      { mss: 1400, known: 1400 },
      { mss: 1460, known: 1460 },
      { mss: 9000, known: 1460 },
    ])("its ACK makes a connection with what it remembers: MSS $mss as $known", ({ mss, known }) => {
      const { bench, listener } = flooded();
      const peer = new Peer(bench, { ...(mss === undefined ? {} : { mss }), windowScale: 7, window: 500 });
      peer.send({ flags: "syn" });
      const synAck = peer.expect({ flags: "syn ack" });
      // Without timestamps there is no place for the window scale, so none is agreed.
      expect(synAck.options).toEqual({ mss: 1460 });
      peer.send({ flags: "ack" });
      expect(bench.counters().synCookiesAccepted).toBe(1);
      const handle = bench.wasm.tcpAccept(listener);
      expect(bench.info(handle)).toMatchObject({
        state: "ESTABLISHED",
        sndMssBytes: known,
        sndWnd: 500,
        rcvWnd: 65535,
      });
      peer.send({ flags: "psh ack", payload: pattern(100) });
      expect(bench.read(handle)).toEqual(Buffer.from(pattern(100)));
      bench.write(handle, pattern(50));
      peer.expect({ flags: "psh ack", seq: 1, ack: 101, payload: pattern(50) });
    });

    test.each([0, 2, 7, 14])("with timestamps also the window scale: %i", (windowScale) => {
      const { bench, listener } = flooded();
      const peer = new Peer(bench, { mss: 1460, windowScale, timestamp: 5, window: 100 });
      peer.send({ flags: "syn" });
      peer.expect({ flags: "syn ack" });
      peer.send({ flags: "ack" });
      const handle = bench.wasm.tcpAccept(listener);
      expect(bench.info(handle)).toMatchObject({ sndWnd: 100 << windowScale, sndMssBytes: 1448 });
      bench.write(handle, pattern(20));
      const segment = peer.expect({ flags: "psh ack", seq: 1, ack: 1 });
      expect(segment.options.timestamps?.[1]).toBe(5);
      // The window is scaled by what the cookie announced: 5.
      expect(segment.window * 32).toBeGreaterThan(60_000);
    });

    test("timestamps without window scale: none is used", () => {
      const { bench, listener } = flooded();
      const peer = new Peer(bench, { mss: 1460, timestamp: 5, window: 100 });
      peer.send({ flags: "syn" });
      expect(peer.expect({ flags: "syn ack" }).options.windowScale).toBeUndefined();
      peer.send({ flags: "ack" });
      expect(bench.info(bench.wasm.tcpAccept(listener))).toMatchObject({ sndWnd: 100, rcvWnd: 65535 });
    });

    test("the ACK that brings the cookie back may carry data", () => {
      const { bench, listener } = flooded();
      const peer = new Peer(bench, { mss: 1460 });
      peer.send({ flags: "syn" });
      peer.expect({ flags: "syn ack" });
      peer.send({ flags: "psh ack", payload: pattern(100) });
      const handle = bench.wasm.tcpAccept(listener);
      expect(bench.read(handle)).toEqual(Buffer.from(pattern(100)));
      bench.advance(50);
      peer.expect({ flags: "ack", seq: 1, ack: 101 });
    });

    test("a forged ACK is refused with RST and counted", () => {
      const { bench } = flooded();
      const peer = new Peer(bench);
      peer.send({ flags: "syn" });
      peer.expect({ flags: "syn ack" });
      for (let i = 0; i < 200; i++) {
        const forger = new Peer(bench, { port: 50_000 + i });
        forger.kernelIss = (peer.kernelIss + i * 0x01000000 + 1) >>> 0;
        forger.send({ flags: "ack", seq: 1, ack: 0 });
      }
      expect(bench.counters().synCookiesAccepted).toBe(0);
      expect(bench.counters().synCookiesInvalid).toBeGreaterThan(150);
      expect(bench.sent().every((segment: Sent) => segment.flags === "rst")).toBe(true);
    });

    test("another peer's cookie, or another sequence number, is refused", () => {
      const { bench } = flooded();
      const peer = new Peer(bench);
      peer.send({ flags: "syn" });
      peer.expect({ flags: "syn ack" });
      const thief = new Peer(bench, { port: peer.port + 1 });
      thief.kernelIss = peer.kernelIss;
      thief.send({ flags: "ack", seq: 1, ack: 1 });
      peer.send({ flags: "ack", seq: 2, ack: 1 });
      expect(bench.counters().synCookiesAccepted).toBe(0);
      peer.send({ flags: "ack" });
      expect(bench.counters().synCookiesAccepted).toBe(1);
    });

    test.each([
      { age: 60_000, valid: true },
      { age: 127_000, valid: false },
      { age: 200_000, valid: false },
    ])("a cookie of $age ms: $valid", ({ age, valid }) => {
      // The clock starts in the second half of a period of 64 s.
      const { bench } = flooded({ nowMs: 64_000 + 40_000 });
      const peer = new Peer(bench);
      peer.send({ flags: "syn" });
      peer.expect({ flags: "syn ack" });
      bench.advance(age);
      bench.sent();
      // The flood goes on, so cookies are still believed in general.
      fillSynQueue(bench, 5);
      peer.send({ flags: "ack", seq: 1 });
      expect(bench.counters().synCookiesAccepted).toBe(valid ? 1 : 0);
    });

    test("an old cookie does not come alive by changing the sequence number along with its period", () => {
      const { bench } = flooded({ nowMs: 64_000 });
      const peer = new Peer(bench);
      peer.send({ flags: "syn" });
      peer.expect({ flags: "syn ack" });
      const cookie = peer.kernelIss;
      bench.advance(10 * 64_000);
      bench.sent();
      fillSynQueue(bench, 5);
      for (let mss = 0; mss < 8; mss++) {
        const period = 11 & 31;
        const change = (1 << 8) ^ (11 << 8) ^ ((cookie & 7) << 3) ^ (mss << 3);
        const forged = new Peer(bench, { iss: (peer.iss ^ change) >>> 0 });
        forged.kernelIss = (((cookie & ~0xff) | (period << 3) | mss) >>> 0) as number;
        forged.send({ flags: "ack", seq: 1, ack: 1 });
      }
      expect(bench.counters().synCookiesAccepted).toBe(0);
    });

    test("when no cookies have been sent lately, none is believed", () => {
      const bench = new KernelBench({ build });
      bench.listen(80, 4);
      const peer = new Peer(bench);
      const counted = bench.counted(() => peer.send({ flags: "ack", seq: 1, ack: 1 }));
      expect(counted.synCookiesInvalid).toBeUndefined();
      peer.expect({ flags: "rst" });
    });

    test("a full accept queue holds back cookie ACKs too, counted, without RST", () => {
      const bench = new KernelBench({ build });
      const listener = bench.listen(80, 2);
      fillSynQueue(bench, 2);
      const peers = [1, 2, 3].map((port) => {
        const peer = new Peer(bench, { port, mss: 1460 });
        peer.send({ flags: "syn" });
        peer.expect({ flags: "syn ack" });
        return peer;
      });
      for (const peer of peers) peer.send({ flags: "ack" });
      expect(bench.counters()).toMatchObject({ synCookiesAccepted: 2, dropAcceptQueueFull: 1 });
      expect(bench.sent()).toEqual([]);
      bench.wasm.tcpAccept(listener);
      peers[2]?.send({ flags: "psh ack", payload: pattern(10) });
      expect(bench.counters().synCookiesAccepted).toBe(3);
    });

    test("the SYN queue drains by itself and cookies stop", () => {
      const { bench, listener } = flooded();
      bench.advance(300_000);
      bench.sent();
      const counted = bench.counted(() => openPassive(bench, { port: 2 }, listener));
      expect(counted).toMatchObject({ tcpPassiveOpens: 1 });
      expect(counted.synCookiesSent).toBeUndefined();
    });
  });
});
