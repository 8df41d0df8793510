import { describe, expect, test } from "vitest";
import { RESULT_BASE } from "../../../src/layout/kernelMemory.ts";
import { ECONNREFUSED, EINVAL, ENETUNREACH, ETIMEDOUT } from "../../../src/layout/status.ts";
import { KERNEL_BUILDS, KernelBench, openActive, openPassive, Peer } from "../../helpers/kernelBench.ts";
import { pattern, type TcpOptions } from "../../helpers/packets.ts";

describe.each(KERNEL_BUILDS)("TCP handshake, %s build", (build) => {
  type Offer = { name: string; mss?: number; windowScale?: number; timestamp?: number; mssUsed: number };
  const offers: Offer[] = [
    { name: "no options", mssUsed: 536 },
    { name: "MSS", mss: 1000, mssUsed: 1000 },
    { name: "MSS above ours", mss: 9000, mssUsed: 1460 },
    { name: "MSS of 0, taken for the least we go down to", mss: 0, mssUsed: 64 },
    { name: "window scale", mss: 1460, windowScale: 7, mssUsed: 1460 },
    { name: "timestamps", mss: 1460, timestamp: 77, mssUsed: 1448 },
    { name: "all", mss: 1460, windowScale: 2, timestamp: 77, mssUsed: 1448 },
  ];

  test.each(offers)(
    "passive open answers exactly what the SYN offers: $name (RFC 9293 3.5, RFC 7323 2.2, 3.2)",
    (offer) => {
      const bench = new KernelBench({ build, tuning: { rcvBufferBytesMax: 1 << 20 } });
      bench.listen(80);
      const peer = new Peer(bench, { ...offer, window: 1000 });
      peer.send({ flags: "syn" });
      const synAck = peer.expect({ flags: "syn ack", seq: 0, ack: 1, window: 65535, payloadBytes: 0 });
      const expected: TcpOptions = {
        mss: 1460,
        ...(offer.windowScale === undefined ? {} : { windowScale: 5 }),
        ...(offer.timestamp === undefined ? {} : { timestamps: [expect.any(Number), 77] }),
      };
      expect(synAck.options).toEqual(expected);
      peer.send({ flags: "ack" });
      peer.expectNothing();
      const [listening] = bench.events();
      expect(listening).toMatchObject({ mask: "acceptable", readableBytes: 1 });
      const handle = bench.wasm.tcpAccept(listening?.handle ?? -1);
      expect(bench.info(handle)).toMatchObject({
        state: "ESTABLISHED",
        sndMssBytes: offer.mssUsed,
        sndWnd: 1000 << (offer.windowScale ?? 0),
      });
    },
  );

  test.each(offers)("active open offers all and uses what the SYN-ACK takes: $name (RFC 9293 3.10.7.3)", (offer) => {
    const bench = new KernelBench({ build, tuning: { rcvBufferBytesMax: 1 << 20 } });
    const handle = bench.connect(7000);
    bench.turn();
    const peer = new Peer(bench, { ...offer, port: 7000, kernelPort: bench.info(handle).localPort, window: 1000 });
    const syn = peer.expect({ flags: "syn", seq: 0, ack: 0, window: 65535 });
    expect(syn.options).toEqual({
      mss: 1460,
      sackPermitted: true,
      windowScale: 5,
      timestamps: [expect.any(Number), 0],
    });
    expect(bench.state(handle)).toBe("SYN_SENT");
    peer.timestampsOn = offer.timestamp !== undefined;
    peer.send({ flags: "syn ack" });
    const ack = peer.expect({ flags: "ack", seq: 1, ack: 1, payloadBytes: 0 });
    expect(ack.options.timestamps?.[1]).toBe(offer.timestamp);
    // A SYN-ACK's window is never scaled.
    expect(bench.info(handle)).toMatchObject({ state: "ESTABLISHED", sndMssBytes: offer.mssUsed, sndWnd: 1000 });
    expect(bench.events(handle)).toEqual([{ handle, mask: "connected writable", status: 0, readableBytes: 0 }]);
  });

  test("timestamps are not offered when configured off (RFC 7323 3.2)", () => {
    const bench = new KernelBench({ build, timestamps: false });
    const { peer } = openPassive(bench, { timestamp: 5 });
    expect(peer.timestampsOn).toBe(false);
  });

  test("a window scale above 14 counts as 14 (RFC 7323 2.3)", () => {
    const bench = new KernelBench({ build });
    const { handle } = openPassive(bench, { windowScale: 255, window: 2 });
    expect(bench.info(handle).sndWnd).toBe(2 << 14);
  });

  test("data in the ACK that completes the handshake is delivered (RFC 9293 3.10.7.4)", () => {
    const bench = new KernelBench({ build });
    const listener = bench.listen(80);
    const peer = new Peer(bench);
    peer.send({ flags: "syn" });
    peer.expect({ flags: "syn ack" });
    peer.send({ flags: "psh ack", payload: pattern(100) });
    const handle = bench.wasm.tcpAccept(listener);
    bench.turn();
    expect(bench.events(handle)).toEqual([{ handle, mask: "readable", status: 0, readableBytes: 100 }]);
    expect(bench.read(handle)).toEqual(Buffer.from(pattern(100)));
  });

  test("data and FIN in a SYN-ACK are delivered (RFC 9293 3.10.7.3, seventh and eighth check)", () => {
    const bench = new KernelBench({ build });
    const handle = bench.connect(7000);
    bench.turn();
    const peer = new Peer(bench, { port: 7000, kernelPort: bench.info(handle).localPort });
    peer.expect({ flags: "syn" });
    peer.send({ flags: "fin syn ack", payload: pattern(10) });
    peer.expect({ flags: "ack", seq: 1, ack: 12 });
    expect(bench.state(handle)).toBe("CLOSE_WAIT");
    expect(bench.read(handle)).toEqual(Buffer.from(pattern(10)));
  });

  test("data in a SYN-ACK beyond the window offered is cut off (RFC 9293 3.10.7.3)", () => {
    const bench = new KernelBench({ build, mtuBytes: 9000, tuning: { rcvBufferBytesMax: 2048 } });
    const handle = bench.connect(7000);
    bench.turn();
    const peer = new Peer(bench, { port: 7000, kernelPort: bench.info(handle).localPort });
    peer.expect({ flags: "syn", window: 2048 });
    peer.send({ flags: "syn ack", payload: pattern(3000) });
    peer.expect({ flags: "ack", seq: 1, ack: 2049, window: 0 });
    expect(bench.info(handle)).toMatchObject({ rcvQueuedBytes: 2048, rcvWnd: 0 });
  });

  test("what was written before the handshake ended goes out after it (RFC 9293 3.10.2)", () => {
    const bench = new KernelBench({ build });
    const handle = bench.connect(7000);
    expect(bench.queue(handle, pattern(256))).toBe(256);
    expect(bench.queue(handle, pattern(300, 1))).toBe(300);
    bench.turn();
    const peer = new Peer(bench, { port: 7000, kernelPort: bench.info(handle).localPort, mss: 1460 });
    peer.expect({ flags: "syn", payloadBytes: 0 });
    peer.send({ flags: "syn ack" });
    peer.expect({ flags: "psh ack", seq: 1, ack: 1, payload: Buffer.concat([pattern(256), pattern(300, 1)]) });
    peer.expectNothing();
  });

  test("room that tcpSendReserve gives before the handshake can be committed in full", () => {
    const bench = new KernelBench({ build });
    const handle = bench.connect(7000);
    for (let left = 256, pieces = 0; left > 0; pieces++) {
      expect(bench.wasm.tcpSendReserve(handle, left)).toBeGreaterThan(0);
      const room = bench.memory.loadU32(RESULT_BASE);
      expect(bench.wasm.tcpSendCommit(handle, room)).toBe(room);
      left -= room;
      expect(pieces).toBeLessThan(2);
    }
  });

  test("simultaneous open ends in one connection on both sides (RFC 9293 3.5, figure 8)", () => {
    const bench = new KernelBench({ build });
    const handle = bench.connect(7000);
    bench.turn();
    const peer = new Peer(bench, { port: 7000, kernelPort: bench.info(handle).localPort, mss: 1460, timestamp: 9 });
    peer.expect({ flags: "syn", seq: 0 });
    peer.send({ flags: "syn" });
    peer.expect({ flags: "syn ack", seq: 0, ack: 1 });
    expect(bench.state(handle)).toBe("SYN_RECEIVED");
    peer.send({ flags: "syn ack", seq: 0 });
    expect(bench.state(handle)).toBe("ESTABLISHED");
    expect(bench.events(handle)).toMatchObject([{ mask: "connected writable" }]);
    bench.write(handle, pattern(5));
    const data = peer.all().filter((segment) => segment.payload.length > 0);
    expect(data).toMatchObject([{ seq: 1, ack: 1, flags: "psh ack" }]);
  });

  test("simultaneous open completes by a plain ACK too (RFC 9293 3.10.7.4)", () => {
    const bench = new KernelBench({ build });
    const handle = bench.connect(7000);
    bench.turn();
    const peer = new Peer(bench, { port: 7000, kernelPort: bench.info(handle).localPort });
    peer.expect({ flags: "syn" });
    peer.send({ flags: "syn" });
    peer.expect({ flags: "syn ack" });
    peer.send({ flags: "ack" });
    expect(bench.state(handle)).toBe("ESTABLISHED");
  });

  test("a SYN-ACK that acknowledges another SYN gets RST and is ignored (RFC 9293 3.5, figure 9)", () => {
    const bench = new KernelBench({ build });
    const handle = bench.connect(7000);
    bench.turn();
    const peer = new Peer(bench, { port: 7000, kernelPort: bench.info(handle).localPort });
    peer.expect({ flags: "syn" });
    peer.send({ flags: "syn ack", ack: 77, seq: 0 });
    peer.expect({ flags: "rst", seq: 77 });
    expect(bench.state(handle)).toBe("SYN_SENT");
  });

  test.each([
    ["with an ACK of our SYN refuses the connection", { flags: "rst ack", ack: 1 }, "closed error"],
    ["with a wrong ACK is ignored", { flags: "rst ack", ack: 2 }, undefined],
    ["without ACK is ignored", { flags: "rst" }, undefined],
  ])("RST in SYN_SENT %s (RFC 9293 3.10.7.3)", (_name, segment, mask) => {
    const bench = new KernelBench({ build });
    const handle = bench.connect(7000);
    bench.turn();
    const peer = new Peer(bench, { port: 7000, kernelPort: bench.info(handle).localPort });
    peer.expect({ flags: "syn" });
    peer.send(segment);
    peer.expectNothing();
    expect(bench.state(handle)).toBe(mask === undefined ? "SYN_SENT" : "CLOSED");
    expect(bench.events(handle)).toMatchObject(mask === undefined ? [] : [{ mask, status: ECONNREFUSED }]);
  });

  test("a lost SYN is sent again after 1, 2, 4 … s and given up with ETIMEDOUT (RFC 6298 2.1, 5.5)", () => {
    const bench = new KernelBench({ build, tuning: { synRetriesMax: 3 } });
    const handle = bench.connect(7000);
    const start = bench.nowMs;
    bench.turn();
    const times: number[] = [];
    for (let ms = 0; ms < 20_000; ms += 10) {
      for (const segment of bench.sent()) {
        expect(segment.flags).toBe("syn");
        times.push(Math.round((bench.nowMs - start) / 100) * 100);
      }
      bench.advance(10);
    }
    expect(times).toEqual([0, 1000, 3000, 7000]);
    expect(bench.events(handle)).toEqual([{ handle, mask: "closed error", status: ETIMEDOUT, readableBytes: 0 }]);
    expect(bench.wasm.tcpClose(handle)).toBe(0);
    expect(bench.counters()).toMatchObject({ gaugeConnections: 0, gaugeStreamBytes: 0, tcpTimedOut: 1 });
  });

  test("a lost SYN-ACK is sent again, also when the SYN comes again; then given up silently (RFC 9293 3.8.1)", () => {
    const bench = new KernelBench({ build, tuning: { synRetriesMax: 2 } });
    bench.listen(80);
    const peer = new Peer(bench);
    peer.send({ flags: "syn" });
    peer.expect({ flags: "syn ack", seq: 0, ack: 1 });
    bench.advance(900);
    peer.expectNothing();
    bench.advance(200);
    peer.expect({ flags: "syn ack", seq: 0, ack: 1 });
    peer.send({ flags: "syn", seq: 0 });
    peer.expect({ flags: "syn ack", seq: 0, ack: 1 });
    bench.advance(20_000);
    expect(peer.all().every((segment) => segment.flags === "syn ack")).toBe(true);
    expect(bench.counters()).toMatchObject({ gaugeConnections: 0, gaugeFlows: 0 });
  });

  test("a SYN and the ACK that follows it in one batch make one connection and no stray SYN-ACK", () => {
    const bench = new KernelBench({ build });
    const listener = bench.listen(80);
    const peer = new Peer(bench, { mss: 1460 });
    peer.send({ flags: "syn" });
    peer.expect({ flags: "syn ack" });
    // The peer's SYN again, and then its ACK with data, both before the kernel has its next turn.
    peer.sendAll({ flags: "syn", seq: 0 }, { flags: "psh ack", payload: pattern(20) });
    const handle = bench.wasm.tcpAccept(listener);
    expect(bench.read(handle)).toEqual(Buffer.from(pattern(20)));
    bench.advance(60);
    for (const segment of peer.all()) expect(segment).toMatchObject({ flags: "ack", seq: 1, ack: 21 });
    bench.write(handle, pattern(30));
    peer.expect({ flags: "psh ack", seq: 1, ack: 21, payloadBytes: 30 });
    bench.advance(150);
    expect(bench.counters().tcpRetransmitTimeouts).toBe(0);
  });

  test("SYN-RECEIVED answers an unacceptable segment with an ACK (RFC 9293 3.10.7.4)", () => {
    const bench = new KernelBench({ build });
    bench.listen(80);
    const peer = new Peer(bench);
    peer.send({ flags: "syn" });
    peer.expect({ flags: "syn ack" });
    peer.send({ flags: "ack", seq: 200_000, payload: pattern(3) });
    peer.expect({ flags: "ack", seq: 1, ack: 1 });
  });

  test("SYN-RECEIVED answers an ACK of what was never sent with RST and stays (RFC 9293 3.10.7.4)", () => {
    const bench = new KernelBench({ build });
    const listener = bench.listen(80);
    const peer = new Peer(bench);
    peer.send({ flags: "syn" });
    peer.expect({ flags: "syn ack" });
    peer.send({ flags: "ack", ack: 5000 });
    peer.expect({ flags: "rst", seq: 5000 });
    peer.send({ flags: "ack" });
    expect(bench.wasm.tcpAccept(listener)).toBeGreaterThanOrEqual(0);
  });

  test("initial sequence numbers differ per connection, grow by one each 4 us, differ per seed (RFC 6528)", () => {
    const isnOf = (seed: number, nowMs: number, port: number) => {
      const bench = new KernelBench({ build, seed, nowMs });
      bench.listen(80);
      const peer = new Peer(bench, { port });
      peer.send({ flags: "syn" });
      return bench.sent()[0]?.seq as number;
    };
    const first = isnOf(1, 10_000, 40_000);
    expect((isnOf(1, 10_001, 40_000) - first) | 0).toBe(250);
    expect((isnOf(1, 14_000, 40_000) - first) | 0).toBe(1_000_000);
    const others = new Set([first, isnOf(1, 10_000, 40_001), isnOf(1, 10_000, 40_002), isnOf(2, 10_000, 40_000)]);
    expect(others.size).toBe(4);
    // Neighbouring ports are not at neighbouring numbers.
    expect(Math.abs((isnOf(1, 10_000, 40_001) - first) | 0)).toBeGreaterThan(100_000);
  });

  test.each([
    ["a broadcast address", "10.0.0.255"],
    ["the limited broadcast", "255.255.255.255"],
    ["a multicast group", "224.0.0.1"],
    ["no address", "0.0.0.0"],
  ])("connecting to %s is refused at once (RFC 9293 3.9.2.3)", (_name, remote) => {
    const bench = new KernelBench({ build, gateway: "10.0.0.254" });
    expect(bench.connect(80, { remote })).toBe(ENETUNREACH);
    expect(bench.counters().gaugeConnections).toBe(0);
  });

  test("connecting to port 0 is refused; without a route too", () => {
    const bench = new KernelBench({ build });
    expect(bench.connect(0)).toBe(EINVAL);
    expect(bench.connect(80, { remote: "192.0.2.1" })).toBe(ENETUNREACH);
  });

  test("ports begin at a secret place for each peer, and count on from there (RFC 6056 3.3.3)", () => {
    const portsOf = (seed: number): number[] => {
      const bench = new KernelBench({ build, seed });
      const remotes = ["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.2", "10.0.0.2"];
      return remotes.map((remote) => bench.info(bench.connect(7000, { remote })).localPort);
    };
    const [toOne, toTwo, toThree, again, andAgain] = portsOf(1) as [number, number, number, number, number];
    expect(again).toBe(toOne + 3);
    expect(andAgain).toBe(again + 1);
    // Who sees one peer's ports cannot tell another's, nor who knows the algorithm.
    expect(toTwo - toOne).not.toBe(1);
    expect(toThree - toTwo).not.toBe(1);
    expect(new Set([1, 2, 3, 4].map((seed) => portsOf(seed)[0])).size).toBe(4);
  });

  test("active opens use different ports, and each its own connection", () => {
    const bench = new KernelBench({ build });
    const handles = [openActive(bench).handle, openActive(bench).handle, openActive(bench, { port: 7001 }).handle];
    const ports = handles.map((handle) => bench.info(handle).localPort);
    expect(new Set(ports.slice(0, 2)).size).toBe(2);
    for (const port of ports) expect(port).toBeGreaterThanOrEqual(32768);
  });
});
