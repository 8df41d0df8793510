/** TCP_INFO: what tells of the past: times, time-outs, fast open (test/packet/options/tcp-info-limited.pkt). */
import { describe, expect, test } from "vitest";
import type { Tuning } from "../../../src/kernel/config.ts";
import {
  CONGESTION_BBR,
  OPTION_CONGESTION,
  OPTION_FAST_OPEN_CONNECT,
  OPTION_RCV_BUFFER_BYTES,
} from "../../../src/layout/option.ts";
import { RESULT_BASE } from "../../../src/layout/kernelMemory.ts";
import * as TCPI from "../../../src/layout/tcpInfo.ts";
import { readTcpInfo, type TcpInfo } from "../../../src/views/tcpInfo.ts";
import { KERNEL_BUILDS, KernelBench, type KernelBuild, Peer } from "../../helpers/kernelBench.ts";
import { createPair, groupOf, move } from "../../helpers/migration.ts";
import { pattern } from "../../helpers/packets.ts";

const MSS = 1000;
/** A timer tick: what times are exact to. */
const TICK_US = 65.536;

type Options = { readonly tuning?: Partial<Tuning>; readonly window?: number; readonly sack?: boolean };

class Connection {
  readonly bench: KernelBench;
  readonly peer: Peer;
  handle: number;

  constructor(build: KernelBuild, { tuning = {}, window = 60_000, sack = true }: Options = {}, bench?: KernelBench) {
    this.bench = bench ?? new KernelBench({ build, noDelay: true, tuning });
    const listener = this.bench.listen(80);
    this.peer = new Peer(this.bench, { mss: MSS, sack, window });
    this.peer.send({ flags: "syn" });
    this.peer.expect({ flags: "syn ack" });
    this.peer.send({ flags: "ack" });
    this.handle = this.bench.wasm.tcpAccept(listener);
  }

  info(): TcpInfo {
    return infoOf(this.bench, this.handle);
  }

  /** Acknowledges all that has come. */
  acknowledge(window?: number): void {
    this.peer.all();
    this.peer.send({ flags: "ack", ...(window === undefined ? {} : { window }) });
  }
}

function infoOf(bench: KernelBench, handle: number): TcpInfo {
  expect(bench.wasm.tcpInfo(handle, RESULT_BASE)).toBe(0);
  return readTcpInfo(bench.memory, RESULT_BASE);
}

/** @param ms expected; `stretches`: how many times a tick may have been lost or won. */
function expectTime(us: number, ms: number, stretches = 1): void {
  expect(Math.abs(us - ms * 1000)).toBeLessThanOrEqual(stretches * TICK_US);
}

describe.each(KERNEL_BUILDS)("TCP_INFO, %s build", (build) => {
  test("a new connection has no past", () => {
    const { tcpi_rcv_space, ...info } = new Connection(build).info();
    expect(info).toMatchObject({
      tcpi_busy_time: 0,
      tcpi_rwnd_limited: 0,
      tcpi_sndbuf_limited: 0,
      tcpi_total_rto: 0,
      tcpi_total_rto_recoveries: 0,
      tcpi_total_rto_time: 0,
      tcpi_max_pacing_rate: 0xffffffff,
      tcpi_delivery_rate_app_limited: 1,
      tcpi_fastopen_client_fail: TCPI.TCPI_FAST_OPEN_UNSPECIFIED,
      tcpi_ecn_mode: TCPI.TCPI_ECN_MODE_DISABLED,
    });
  });

  describe("tcpi_busy_time", () => {
    test("runs while anything is unacknowledged", () => {
      const c = new Connection(build);
      for (let i = 1; i <= 3; i++) {
        c.bench.write(c.handle, pattern(100));
        c.bench.advance(20);
        c.bench.write(c.handle, pattern(100));
        expectTime(c.info().tcpi_busy_time, 30 * (i - 1) + 20, i);
        c.bench.advance(10);
        expect(c.info().tcpi_unacked).toBe(1);
        c.acknowledge();
        c.bench.advance(500);
        expectTime(c.info().tcpi_busy_time, 30 * i, i);
      }
      expect(c.info()).toMatchObject({ tcpi_rwnd_limited: 0, tcpi_sndbuf_limited: 0 });
    });

    test("an ACK of a part does not end it, what is only reserved does not begin it, nor does a FIN", () => {
      const c = new Connection(build);
      expect(c.bench.wasm.tcpSendReserve(c.handle, 100)).toBeGreaterThan(0);
      c.bench.advance(50);
      expect(c.info().tcpi_busy_time).toBe(0);
      c.bench.write(c.handle, pattern(2 * MSS));
      c.bench.advance(10);
      c.peer.all();
      c.peer.send({ flags: "ack", ack: 1 + MSS });
      c.bench.advance(10);
      c.acknowledge();
      expectTime(c.info().tcpi_busy_time, 20);
      c.bench.wasm.tcpShutdownSend(c.handle);
      c.bench.advance(70);
      c.acknowledge();
      expectTime(c.info().tcpi_busy_time, 20);
    });

    test("begins with a write before the handshake is over", () => {
      const bench = new KernelBench({ build, noDelay: true });
      const peer = new Peer(bench, { mss: MSS, port: 80, kernelPort: 5000 });
      const handle = bench.connect(80, { localPort: 5000 });
      bench.turn();
      peer.expect({ flags: "syn" });
      bench.advance(30);
      bench.write(handle, pattern(100));
      bench.advance(40);
      peer.send({ flags: "syn ack" });
      bench.advance(10);
      expectTime(infoOf(bench, handle).tcpi_busy_time, 50);
      peer.all();
      peer.send({ flags: "ack" });
      bench.advance(10);
      expectTime(infoOf(bench, handle).tcpi_busy_time, 50);
    });
  });

  describe("tcpi_rwnd_limited", () => {
    test("runs while the peer's window keeps the next segment back, and is part of the busy time", () => {
      const c = new Connection(build, { window: 2 * MSS });
      c.bench.write(c.handle, pattern(5 * MSS));
      c.bench.advance(100);
      expectTime(c.info().tcpi_rwnd_limited, 100);
      // Room for all of the rest.
      c.acknowledge(60_000);
      c.bench.advance(100);
      expectTime(c.info().tcpi_rwnd_limited, 100);
      c.acknowledge(0);
      c.bench.advance(100);
      // A closed window alone keeps nothing back.
      expectTime(c.info().tcpi_rwnd_limited, 100);
      c.bench.write(c.handle, pattern(MSS));
      c.bench.advance(50);
      c.peer.all();
      c.peer.send({ flags: "ack", ack: 1 + 5 * MSS, window: 60_000 });
      expectTime(c.info().tcpi_rwnd_limited, 150, 2);
      c.bench.advance(30);
      expectTime(c.info().tcpi_busy_time, 280, 2);
      expectTime(c.info().tcpi_rwnd_limited, 150, 2);
    });

    test("not while the congestion window, or Nagle's algorithm, does", () => {
      const c = new Connection(build);
      c.bench.write(c.handle, pattern(40 * MSS));
      c.bench.advance(100);
      expect(c.info()).toMatchObject({ tcpi_rwnd_limited: 0, tcpi_sndbuf_limited: 0 });
      expect(c.info().tcpi_notsent_bytes).toBeGreaterThan(20 * MSS);
    });
  });

  describe("tcpi_sndbuf_limited", () => {
    test("runs while all is sent, the windows have room and the application waits for the buffer", () => {
      const c = new Connection(build, { tuning: { sndBufferBytesMax: 8192 } });
      expect(c.bench.write(c.handle, pattern(9000))).toBe(8192);
      c.bench.advance(100);
      expectTime(c.info().tcpi_sndbuf_limited, 100);
      // Enough room: the application is told.
      c.peer.all();
      c.peer.send({ flags: "ack", ack: 1 + 4 * MSS });
      c.bench.advance(100);
      expectTime(c.info().tcpi_sndbuf_limited, 100);
      expectTime(c.info().tcpi_busy_time, 200);
      expect(c.info().tcpi_rwnd_limited).toBe(0);
    });

    test("not while a window would keep back what more there were", () => {
      const c = new Connection(build, { window: 4 * MSS, tuning: { sndBufferBytesMax: 8192 } });
      expect(c.bench.write(c.handle, pattern(9000))).toBe(8192);
      c.bench.advance(100);
      expect(c.info().tcpi_sndbuf_limited).toBe(0);
      expectTime(c.info().tcpi_rwnd_limited, 100);
    });
  });

  describe.each([true, false])("time-outs, SACK %s", (sack) => {
    test("are counted, as are rows of them, and their time until the loss is repaired", () => {
      const c = new Connection(build, { sack });
      c.bench.write(c.handle, pattern(3 * MSS));
      const begun = c.bench.nowMs;
      while (c.info().tcpi_total_rto === 0) c.bench.advance(1);
      const first = c.bench.nowMs;
      expect(first - begun).toBeGreaterThan(100);
      expect(c.info()).toMatchObject({ tcpi_total_rto: 1, tcpi_total_rto_recoveries: 1 });
      while (c.info().tcpi_total_rto === 1) c.bench.advance(1);
      expect(c.info()).toMatchObject({ tcpi_total_rto: 2, tcpi_total_rto_recoveries: 1 });
      expect(Math.abs(c.info().tcpi_total_rto_time - (c.bench.nowMs - first))).toBeLessThanOrEqual(2);
      // What was in flight then has to be acknowledged whole.
      c.peer.all();
      c.peer.send({ flags: "ack", ack: 1 + MSS });
      c.bench.advance(20);
      c.acknowledge();
      const lasted = c.bench.nowMs - first;
      c.bench.advance(1000);
      expect(Math.abs(c.info().tcpi_total_rto_time - lasted)).toBeLessThanOrEqual(2);
      c.bench.write(c.handle, pattern(MSS));
      while (c.info().tcpi_total_rto === 2) c.bench.advance(1);
      expect(c.info()).toMatchObject({ tcpi_total_rto: 3, tcpi_total_rto_recoveries: 2 });
    });
  });

  test("time-outs of a SYN count, until the handshake is over", () => {
    const bench = new KernelBench({ build });
    const peer = new Peer(bench, { mss: MSS, port: 80, kernelPort: 5000 });
    const handle = bench.connect(80, { localPort: 5000 });
    bench.turn();
    bench.advance(1100);
    peer.all();
    peer.send({ flags: "syn ack" });
    bench.advance(700);
    const { tcpi_total_rto, tcpi_total_rto_recoveries, tcpi_total_rto_time } = infoOf(bench, handle);
    expect([tcpi_total_rto, tcpi_total_rto_recoveries]).toEqual([1, 1]);
    expect(Math.abs(tcpi_total_rto_time - 100)).toBeLessThanOrEqual(2);
  });

  test("tcpi_rcv_ssthresh is what the receive buffer's limit lets us offer", () => {
    const c = new Connection(build);
    expect(c.info().tcpi_rcv_ssthresh).toBe(65535);
    expect(c.bench.wasm.tcpSetOption(c.handle, OPTION_RCV_BUFFER_BYTES, 16384)).toBe(0);
    expect(c.info()).toMatchObject({ tcpi_rcv_ssthresh: 16384, tcpi_rcv_space: 16384 });
  });

  test("tcpi_delivery_rate_app_limited: 0 once a sample was taken with more to send, 1 where there was none", () => {
    const c = new Connection(build);
    expect(c.bench.wasm.tcpSetOption(c.handle, OPTION_CONGESTION, CONGESTION_BBR)).toBe(0);
    const transfer = (segments: number, rounds: number): void => {
      for (let i = 0; i < rounds; i++) {
        c.bench.queue(c.handle, pattern(segments * MSS));
        for (let ms = 0; ms < 20; ms++) c.bench.advance(1);
        c.acknowledge();
      }
    };
    transfer(50, 6);
    expect(c.info().tcpi_delivery_rate).toBeGreaterThan(0);
    expect(c.info().tcpi_delivery_rate_app_limited).toBe(0);
    for (let i = 0; i < 50 && c.info().tcpi_notsent_bytes + c.info().tcpi_unacked > 0; i++) transfer(0, 1);
    transfer(1, 10);
    expect(c.info().tcpi_delivery_rate_app_limited).toBe(1);
  });

  describe("tcpi_fastopen_client_fail", () => {
    const FIRST = pattern(100);

    /** A client that asks, and what it says at the end of the handshake. */
    function attempt(bench: KernelBench, localPort: number, answer: (peer: Peer) => void): TcpInfo {
      const peer = new Peer(bench, { mss: MSS, port: 80, kernelPort: localPort });
      const handle = bench.connect(80, { localPort });
      expect(bench.wasm.tcpSetOption(handle, OPTION_FAST_OPEN_CONNECT, 1)).toBeGreaterThanOrEqual(0);
      bench.write(handle, FIRST);
      answer(peer);
      bench.sent();
      return infoOf(bench, handle);
    }

    test("tells what became of the SYN's data", () => {
      const bench = new KernelBench({ build, noDelay: true });
      const cookie = { mss: MSS, cookie: Uint8Array.of(1, 2, 3, 4) };
      const asked = attempt(bench, 5000, (peer) => {
        peer.expect({ flags: "syn", payloadBytes: 0 });
        peer.send({ flags: "syn ack", options: cookie });
      });
      expect(asked.tcpi_fastopen_client_fail).toBe(TCPI.TCPI_FAST_OPEN_COOKIE_UNAVAILABLE);
      const taken = attempt(bench, 5001, (peer) => {
        peer.expect({ flags: "syn", payloadBytes: FIRST.length });
        peer.send({ flags: "syn ack", ack: 1 + FIRST.length, options: { mss: MSS } });
      });
      expect(taken.tcpi_fastopen_client_fail).toBe(TCPI.TCPI_FAST_OPEN_UNSPECIFIED);
      expect(taken.tcpi_options & TCPI.TCPI_OPT_SYN_DATA).not.toBe(0);
      const refused = attempt(bench, 5002, (peer) => {
        peer.expect({ flags: "syn", payloadBytes: FIRST.length });
        peer.send({ flags: "syn ack", ack: 1, options: { mss: MSS } });
      });
      expect(refused.tcpi_fastopen_client_fail).toBe(TCPI.TCPI_FAST_OPEN_DATA_NOT_ACKED);
      const repeated = attempt(bench, 5003, (peer) => {
        peer.expect({ flags: "syn", payloadBytes: FIRST.length });
        bench.advance(1500);
        peer.all();
        peer.send({ flags: "syn ack", ack: 1, options: { mss: MSS } });
      });
      expect(repeated.tcpi_fastopen_client_fail).toBe(TCPI.TCPI_FAST_OPEN_SYN_RETRANSMITTED);
    });
  });

  test("all of it moves with the connection to another kernel", () => {
    const pair = createPair({ build });
    const c = new Connection(build, { window: 2 * MSS }, pair.source);
    c.bench.write(c.handle, pattern(5 * MSS));
    c.bench.advance(3000);
    const before = c.info();
    expect(before.tcpi_total_rto).toBeGreaterThan(1);
    expect(before.tcpi_rwnd_limited).toBeGreaterThan(2_900_000);
    pair.target.nowNs = pair.source.nowNs;
    pair.target.turn();
    const { status, handles } = move(pair, groupOf(c.peer.port));
    expect(status).toBe(0);
    const after = infoOf(pair.target, handles.get(c.handle) as number);
    for (const name of Object.keys(before) as (keyof TcpInfo)[]) {
      if (name !== "tcpi_rcv_rtt") expect(after[name], name).toBe(before[name]);
    }
  });

  test("a slot's next connection has no past either", () => {
    const bench = new KernelBench({ build, noDelay: true, tuning: { connectionsMax: 1 } });
    const open = (port: number): { peer: Peer; handle: number } => {
      const peer = new Peer(bench, { mss: MSS, port: 80, kernelPort: port, window: MSS });
      const handle = bench.connect(80, { localPort: port });
      expect(handle).toBeGreaterThanOrEqual(0);
      bench.turn();
      peer.expect({ flags: "syn" });
      peer.send({ flags: "syn ack" });
      return { peer, handle };
    };
    const first = open(5000);
    bench.write(first.handle, pattern(5 * MSS));
    bench.advance(3000);
    expect(infoOf(bench, first.handle).tcpi_total_rto).toBeGreaterThan(0);
    bench.wasm.tcpAbort(first.handle);
    bench.turn();
    bench.sent();
    const second = open(5001);
    bench.write(second.handle, pattern(100));
    expect(infoOf(bench, second.handle)).toMatchObject({
      tcpi_busy_time: 0,
      tcpi_rwnd_limited: 0,
      tcpi_total_rto: 0,
      tcpi_bytes_retrans: 0,
    });
  });
});
