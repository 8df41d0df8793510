/** Goal: counters that no other test looks at count what their names say. Method: one cause each, all changes seen. */
import { describe, expect, test } from "vitest";
import { OPTION_FAST_OPEN_CONNECT } from "../../src/layout/option.ts";
import {
  KERNEL_BUILDS,
  KernelBench,
  openActive,
  openPassive,
  OWN,
  OWN_MAC,
  Peer,
  PEER,
  PEER_MAC,
} from "../helpers/kernelBench.ts";
import { ethernet, ipv4, pattern } from "../helpers/packets.ts";

const MSS = 1000;

describe.each(KERNEL_BUILDS)("counters, %s build", (build) => {
  test("a frame without a whole Ethernet header", () => {
    const bench = new KernelBench({ build });
    const counted = bench.counted(() => {
      bench.inject(new Uint8Array(13));
      bench.turn();
    });
    expect(counted).toMatchObject({ dropFrameShort: 1 });
  });

  test("a protocol above IP that nobody speaks", () => {
    const bench = new KernelBench({ build });
    const counted = bench.counted(() => {
      bench.inject(
        ethernet(
          { destination: OWN_MAC, source: PEER_MAC },
          ipv4({ source: PEER, destination: OWN, protocol: 99 }, pattern(8)),
        ),
      );
      bench.turn();
    });
    expect(counted).toMatchObject({ dropIpProtocol: 1, icmpErrorsSent: 1 });
  });

  test("segments sent: SYN-ACK, data, ACK of data, FIN; nothing else", () => {
    const bench = new KernelBench({ build, noDelay: true });
    let peer: Peer | undefined;
    const counted = bench.counted(() => {
      const opened = openPassive(bench, { mss: MSS });
      peer = opened.peer;
      bench.write(opened.handle, pattern(3 * MSS));
      peer.send({ flags: "ack", ack: 1 + 3 * MSS, payload: pattern(10) });
      bench.advance(500);
      bench.wasm.tcpShutdownSend(opened.handle);
      bench.turn();
    });
    expect(peer?.all().length).toBe(5);
    // The SYN-ACK was taken by openPassive.
    expect(counted.tcpSegmentsSent).toBe(6);
  });

  test("a connection that was refused", () => {
    const bench = new KernelBench({ build });
    const refused = bench.counted(() => {
      const handle = bench.connect(7000);
      bench.turn();
      const peer = new Peer(bench, { port: 7000, kernelPort: bench.info(handle).localPort });
      peer.expect({ flags: "syn" });
      peer.send({ flags: "rst ack" });
    });
    expect(refused).toMatchObject({ tcpConnectFailed: 1, tcpRstReceived: 1 });
    const made = bench.counted(() => openActive(bench));
    expect(made).not.toHaveProperty("tcpConnectFailed");
  });

  test("what the lane to ourselves has no room for", () => {
    const bench = new KernelBench({ build, noDelay: true });
    const listener = bench.listen(80, 16);
    const handle = bench.connect(80, { remote: OWN });
    for (let i = 0; i < 10; i++) bench.turn();
    expect(bench.wasm.tcpAccept(listener)).toBeGreaterThanOrEqual(0);
    expect(bench.counters().dropLoopFull).toBe(0);
    const many = Array.from({ length: 100 }, () => bench.connect(80, { remote: OWN }));
    for (let i = 0; i < 10; i++) bench.turn();
    const counted = bench.counted(() => {
      for (const each of [handle, ...many]) bench.queue(each, pattern(20_000));
      bench.turn();
    });
    expect(counted.dropLoopFull).toBeGreaterThan(0);
  });

  test("more holes than the account of what is in flight holds", () => {
    const bench = new KernelBench({ build, noDelay: true, tuning: { sndBufferBytesMax: 1 << 20 } });
    const { peer, handle } = openPassive(bench, { mss: MSS, sack: true, windowScale: 7 });
    // The window grows, so that hundreds of thousands of bytes are in flight.
    const small = pattern(64_000);
    for (let i = 0; i < 12; i++) {
      bench.write(handle, small);
      peer.all();
      bench.advance(10);
      peer.send({ flags: "ack" });
      peer.all();
    }
    for (let i = 0; i < 6; i++) bench.write(handle, small);
    peer.all();
    const { sndUna, sndNxt } = bench.info(handle);
    const first = 1 + ((sndUna - peer.kernelIss - 1) | 0);
    const counted = bench.counted(() => {
      // Every other run of 100 bytes is reported.
      for (let at = first + 100; at + 100 < first + (sndNxt - sndUna); at += 200) peer.sendSack(first, [at, at + 100]);
    });
    expect(counted.dropTcpSackLimit).toBeGreaterThan(0);
    expect(bench.state(handle)).toBe("ESTABLISHED");
  });

  test("fast open, client: data that was taken with the SYN, and data that was not", () => {
    const bench = new KernelBench({ build, noDelay: true });
    const cookie = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8);
    const open = (port: number, bytes: number, answer: { ack: number; options: object }) => {
      const handle = bench.connect(port);
      expect(bench.wasm.tcpSetOption(handle, OPTION_FAST_OPEN_CONNECT, 2)).toBeGreaterThanOrEqual(0);
      if (bytes > 0) bench.queue(handle, pattern(bytes));
      bench.turn();
      const peer = new Peer(bench, { port, kernelPort: bench.info(handle).localPort });
      peer.expect({ flags: "syn" });
      peer.send({ flags: "syn ack", ack: answer.ack, options: answer.options });
      expect(bench.state(handle)).toBe("ESTABLISHED");
      bench.sent();
    };
    open(7000, 0, { ack: 1, options: { mss: MSS, cookie } });
    const taken = bench.counted(() => open(7000, 50, { ack: 51, options: { mss: MSS } }));
    expect(taken).toMatchObject({ tcpFastOpenActive: 1 });
    expect(taken).not.toHaveProperty("tcpFastOpenActiveFailed");
    const refused = bench.counted(() => open(7000, 50, { ack: 1, options: { mss: MSS } }));
    expect(refused).toMatchObject({ tcpFastOpenActiveFailed: 1, tcpFastOpenRefusalsNoted: 1 });
    expect(refused).not.toHaveProperty("tcpFastOpenActive");
  });
});
