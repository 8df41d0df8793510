/** Buffers begin small and follow what a connection moves. */
import { describe, expect, test } from "vitest";
import { RESULT_BASE } from "../../../src/layout/kernelMemory.ts";
import { OPTION_RCV_BUFFER_BYTES, OPTION_SND_BUFFER_BYTES } from "../../../src/layout/option.ts";
import { TCPI_RCV_RTT_US, TCPI_RCV_SPACE_BYTES } from "../../../src/layout/tcpInfo.ts";
import type { Tuning } from "../../../src/kernel/config.ts";
import { KERNEL_BUILDS, KernelBench, type KernelBuild, Peer } from "../../helpers/kernelBench.ts";
import { pattern } from "../../helpers/packets.ts";

const KIB = 1024;
const MIB = 1024 * KIB;
const RTT_MS = 50;
const MSS = 1448;
const START = MIB;
const SEND_START = 2 * MIB;

/** A connection whose handshake took RTT_MS. */
function open(build: KernelBuild, tuning: Partial<Tuning> = {}) {
  const big = {
    rcvBufferBytesMax: 4 * MIB,
    sndBufferBytesMax: 4 * MIB,
    memoryBytes: 48 * MIB,
    streamPoolBytes: 24 * MIB,
  };
  const bench = new KernelBench({ build, noDelay: true, tuning: { ...big, ...tuning } });
  const listener = bench.listen(80, 200);
  const peer = new Peer(bench, { mss: 1460, windowScale: 10, timestamp: 1, sack: true });
  peer.send({ flags: "syn" });
  peer.expect({ flags: "syn ack" });
  bench.advance(RTT_MS);
  peer.send({ flags: "ack" });
  const handle = bench.wasm.tcpAccept(listener);
  const info = (offset: number): number => {
    expect(bench.wasm.tcpInfo(handle, RESULT_BASE)).toBe(0);
    return bench.memory.loadU32(RESULT_BASE + offset);
  };
  return { bench, peer, handle, limit: () => info(TCPI_RCV_SPACE_BYTES), rttUs: () => info(TCPI_RCV_RTT_US) };
}

/** A round trip in which the peer sends `bytes`, which are read at once where `reads` says so. */
function round({ bench, peer, handle }: ReturnType<typeof open>, bytes: number, reads = true, offered = reads): void {
  for (let at = 0; at < bytes; at += MSS) {
    // As a sender clocked by ACKs: what leaves now fits into what has been offered by now.
    if (offered) expect(bench.info(handle).rcvWnd, `byte ${at} of ${bytes}`).toBeGreaterThanOrEqual(21 * MSS);
    peer.post({ flags: "ack psh", payload: pattern(Math.min(MSS, bytes - at)) });
    if (at % (20 * MSS) === 0) bench.turn();
    if (reads) bench.read(handle);
  }
  bench.turn();
  if (reads) bench.read(handle);
  bench.turn();
  bench.advance(RTT_MS);
  peer.all();
}

describe.each(KERNEL_BUILDS)("auto-tuning of buffers, %s build", (build) => {
  test("a sender in slow start never meets the window, up to the limit", () => {
    const connection = open(build);
    expect(connection.limit()).toBe(START);
    for (let bytes = 10 * MSS; bytes < 2 * MIB; bytes *= 2) {
      round(connection, bytes);
      expect(connection.bench.counters().dropTcpOutOfWindow, `${bytes} bytes`).toBe(0);
    }
    expect(connection.limit()).toBe(4 * MIB);
    expect(connection.rttUs()).toBeGreaterThanOrEqual(RTT_MS * 1000);
    expect(connection.rttUs()).toBeLessThan((RTT_MS + 5) * 1000);
    expect(connection.bench.counters().tcpBuffersGrown).toBeGreaterThan(0);
  });

  test("an application that does not read gets no more than the start, however long it is sent to", () => {
    const connection = open(build);
    const { bench, peer, handle } = connection;
    for (let sent = 0; sent < 4 * START; sent += 20 * MSS) round(connection, 20 * MSS, false);
    expect(connection.limit()).toBe(START);
    expect(bench.info(handle)).toMatchObject({ rcvWnd: 0 });
    expect(bench.info(handle).rcvQueuedBytes).toBeLessThanOrEqual(START);
    peer.all();
  });

  test("a stream that needs no more does not grow", () => {
    const connection = open(build);
    for (let i = 0; i < 50; i++) round(connection, 20 * 1024);
    expect(connection.limit()).toBe(START);
  });

  test.each([10_000, 300])("reading in pieces of %i B earns a share of a short pool after a pause, too", (piece) => {
    const connection = open(build, { streamPoolBytes: 8 * MIB, memoryBytes: 32 * MIB });
    const { bench, peer, handle } = connection;
    // What the peer sends after a pause echoes an ACK of before: the pause is not the path's round trip.
    for (let i = 0; i < 2; i++) {
      round(connection, 20 * MSS);
      bench.advance(10_000);
    }
    const windows: number[] = [];
    for (let bytes = 20 * MSS; windows.length < 6; bytes = Math.min(2 * bytes, bench.info(handle).rcvWnd)) {
      for (let at = 0; at < bytes; at += MSS) {
        peer.post({ flags: "ack psh", payload: pattern(Math.min(MSS, bytes - at)) });
        bench.turn();
        while (bench.info(handle).rcvQueuedBytes > 0) bench.read(handle, piece);
      }
      bench.turn();
      bench.advance(RTT_MS);
      peer.all();
      windows.push(bench.info(handle).rcvWnd);
    }
    expect(windows.at(-1)).toBeGreaterThan(900 * KIB);
    // Each pause may have doubled it.
    expect(connection.rttUs()).toBeLessThan(4.4 * RTT_MS * 1000);
    expect(bench.counters().dropTcpOutOfWindow).toBe(0);
  });

  test("a limit that the application has set stays", () => {
    const connection = open(build);
    expect(connection.bench.wasm.tcpSetOption(connection.handle, OPTION_RCV_BUFFER_BYTES, 256 * KIB)).toBe(0);
    for (let i = 0; i < 6; i++) round(connection, 200 * KIB);
    expect(connection.limit()).toBe(256 * KIB);
  });

  test("with the pool nearly used up nothing grows, and is counted", () => {
    const connection = open(build, { streamPoolBytes: 8 * MIB, memoryBytes: 32 * MIB });
    const { bench } = connection;
    // It has its window before the pool is short.
    for (let i = 0; i < 2; i++) round(connection, 100 * KIB);
    // Others hold nearly all of it: bytes that nobody reads.
    for (let port = 50000; (bench.counters().gaugeStreamBytes ?? 0) < 7.1 * MIB; port++) {
      const other = new Peer(bench, { port, mss: 1460, windowScale: 10 });
      other.send({ flags: "syn" });
      other.expect({ flags: "syn ack" });
      other.send({ flags: "ack" });
      for (let at = 0; at < 63 * KIB; at += 1460) other.post({ flags: "ack", payload: pattern(1460) });
      bench.turn();
    }
    for (let i = 0; i < 6; i++) round(connection, 300 * KIB, true, false);
    expect(connection.limit()).toBe(START);
    expect(bench.counters().tcpBuffersHeld).toBeGreaterThan(0);
  });

  test("what waits behind a hole is not the application's fault: the limit grows with it", () => {
    const connection = open(build);
    const { bench, peer, handle } = connection;
    // More than a 64th of the pool has to be earned by reading.
    for (let bytes = 25 * KIB; bytes <= 200 * KIB; bytes *= 2) round(connection, bytes);
    round(connection, 200 * KIB);
    expect(connection.limit()).toBe(START);
    const hole = peer.nxt;
    peer.nxt += MSS;
    for (let at = 0; at < 700 * KIB; at += MSS) {
      peer.post({ flags: "ack", payload: pattern(MSS) });
      if (at % (20 * MSS) === 0) bench.turn();
    }
    bench.turn();
    expect(connection.limit()).toBe(2 * START);
    peer.send({ flags: "ack", seq: hole, payload: pattern(MSS) });
    expect(bench.read(handle).length).toBeGreaterThan(700 * KIB);
  });

  test("the send buffer is twice the congestion window, and what the start is at least", () => {
    const { bench, peer, handle } = open(build);
    const big = pattern(4 * MIB);
    expect(bench.queue(handle, big)).toBe(SEND_START);
    let queued = SEND_START;
    for (let i = 0; i < 14; i++) {
      bench.turn();
      bench.advance(RTT_MS);
      peer.all();
      peer.send({ flags: "ack" });
      const taken = bench.queue(handle, big);
      queued = bench.info(handle).sndQueuedBytes;
      if (taken > 0) expect(queued).toBeLessThanOrEqual(Math.max(SEND_START, 4 * bench.info(handle).cwndBytes));
    }
    expect(queued).toBeGreaterThan(2 * MIB);
    expect(bench.wasm.tcpSetOption(handle, OPTION_SND_BUFFER_BYTES, 64 * KIB)).toBe(0);
    expect(bench.queue(handle, big)).toBe(0);
  });
});
