import { describe, expect, test } from "vitest";
import { EBADF, ECONNRESET } from "../../../src/layout/status.ts";
import { KERNEL_BUILDS, KernelBench, openActive, openPassive, Peer } from "../../helpers/kernelBench.ts";
import { pattern } from "../../helpers/packets.ts";
import { reach, reachSynReceived, SYNCHRONIZED_STATES } from "../../helpers/tcpStates.ts";

describe.each(KERNEL_BUILDS)("TCP states, %s build", (build) => {
  describe("the transitions of RFC 9293 figure 5", () => {
    test("we close first: FIN-WAIT-1, FIN-WAIT-2, TIME-WAIT, gone after 2 MSL", () => {
      const bench = new KernelBench({ build, tuning: { timeWaitMs: 60_000 } });
      const { peer, handle } = openPassive(bench);
      expect(bench.wasm.tcpClose(handle)).toBe(0);
      bench.turn();
      peer.expect({ flags: "fin ack", seq: 1, ack: 1 });
      expect(bench.events(handle)).toEqual([]);
      peer.send({ flags: "ack" });
      peer.expectNothing();
      peer.send({ flags: "fin ack" });
      peer.expect({ flags: "ack", seq: 2, ack: 2 });
      expect(bench.events(handle)).toEqual([{ handle, mask: "closed", status: 0, readableBytes: 0 }]);
      expect(bench.counters()).toMatchObject({ gaugeTimeWait: 1, gaugeConnections: 1, gaugeFlows: 1 });
      bench.advance(59_990);
      expect(bench.counters().gaugeTimeWait).toBe(1);
      bench.advance(20);
      expect(bench.counters()).toMatchObject({ gaugeTimeWait: 0, gaugeConnections: 0, gaugeFlows: 0 });
      expect(bench.events()).toEqual([]);
    });

    test("FIN-WAIT-1 to TIME-WAIT by a FIN that acknowledges ours", () => {
      const bench = new KernelBench({ build });
      const { peer, handle } = reach(bench, "FIN_WAIT_1");
      peer.send({ flags: "fin ack" });
      peer.expect({ flags: "ack", seq: 2, ack: 2 });
      expect(bench.state(handle)).toBe("TIME_WAIT");
      expect(bench.events(handle)).toMatchObject([{ mask: "peerClosed closed", status: 0 }]);
    });

    test("the peer closes first: CLOSE-WAIT, LAST-ACK, gone", () => {
      const bench = new KernelBench({ build });
      const { peer, handle } = openPassive(bench);
      peer.send({ flags: "fin ack" });
      peer.expect({ flags: "ack", seq: 1, ack: 2 });
      expect(bench.state(handle)).toBe("CLOSE_WAIT");
      expect(bench.events(handle)).toMatchObject([{ mask: "peerClosed", readableBytes: 0 }]);
      expect(bench.wasm.tcpClose(handle)).toBe(0);
      bench.turn();
      peer.expect({ flags: "fin ack", seq: 1, ack: 2 });
      peer.send({ flags: "ack" });
      peer.expectNothing();
      expect(bench.events(handle)).toMatchObject([{ mask: "closed", status: 0 }]);
      expect(bench.counters()).toMatchObject({ gaugeConnections: 0, gaugeTimeWait: 0, gaugeFlows: 0 });
    });

    test("both close at once: FIN-WAIT-1, CLOSING, TIME-WAIT", () => {
      const bench = new KernelBench({ build });
      const { peer, handle } = reach(bench, "CLOSING");
      peer.send({ flags: "ack" });
      peer.expectNothing();
      expect(bench.state(handle)).toBe("TIME_WAIT");
      expect(bench.events(handle)).toMatchObject([{ mask: "closed", status: 0 }]);
    });

    test("half-closed by us, the peer still sends (RFC 9293 3.6)", () => {
      const bench = new KernelBench({ build });
      const { peer, handle } = reach(bench, "FIN_WAIT_2");
      bench.advance(600_000);
      peer.send({ flags: "psh ack", payload: pattern(1000) });
      bench.advance(50);
      peer.expect({ flags: "ack", seq: 2, ack: 1001 });
      expect(bench.read(handle)).toEqual(Buffer.from(pattern(1000)));
      peer.send({ flags: "fin psh ack", payload: pattern(10, 1) });
      peer.expect({ flags: "ack", seq: 2, ack: 1012 });
      expect(bench.state(handle)).toBe("TIME_WAIT");
      expect(bench.read(handle)).toEqual(Buffer.from(pattern(10, 1)));
    });

    test("half-closed by the peer, we still send (RFC 9293 3.6)", () => {
      const bench = new KernelBench({ build });
      const { peer, handle } = reach(bench, "CLOSE_WAIT", { mss: 1460 });
      bench.advance(600_000);
      bench.write(handle, pattern(1000));
      peer.expect({ flags: "psh ack", seq: 1, ack: 2, payload: pattern(1000) });
      peer.send({ flags: "ack" });
      bench.wasm.tcpClose(handle);
      bench.turn();
      peer.expect({ flags: "fin ack", seq: 1001, ack: 2 });
      peer.send({ flags: "ack" });
      expect(bench.counters().gaugeConnections).toBe(0);
    });

    test("a FIN goes behind the data that is queued, on its last segment (RFC 9293 3.6, case 1)", () => {
      const bench = new KernelBench({ build });
      const { peer, handle } = openPassive(bench, { mss: 1000 });
      bench.queue(handle, pattern(1500));
      bench.wasm.tcpClose(handle);
      bench.turn();
      peer.expect({ flags: "ack", seq: 1, payloadBytes: 1000 });
      peer.expect({ flags: "fin psh ack", seq: 1001, payloadBytes: 500 });
      peer.send({ flags: "ack" });
      peer.send({ flags: "fin ack" });
      peer.expect({ flags: "ack", seq: 1502, ack: 2 });
    });

    test("a listener goes back to LISTEN when a half-open connection is reset (RFC 9293 3.10.7.4)", () => {
      const bench = new KernelBench({ build });
      const { peer, listener } = reachSynReceived(bench);
      peer.send({ flags: "rst", seq: 1 });
      peer.expectNothing();
      expect(bench.counters()).toMatchObject({ gaugeConnections: 0, tcpRstReceived: 1 });
      openPassive(bench, { port: 41000 }, listener);
    });

    test("shutdown before the handshake has ended sends the FIN after it: SYN-SENT to FIN-WAIT-1", () => {
      const bench = new KernelBench({ build });
      const handle = bench.connect(7000);
      bench.queue(handle, pattern(5));
      bench.wasm.tcpShutdownSend(handle);
      bench.turn();
      const peer = new Peer(bench, { port: 7000, kernelPort: bench.info(handle).localPort });
      peer.expect({ flags: "syn" });
      peer.send({ flags: "syn ack" });
      peer.expect({ flags: "fin psh ack", seq: 1, ack: 1, payload: pattern(5) });
      expect(bench.state(handle)).toBe("FIN_WAIT_1");
    });

    test("closing in SYN-SENT sends nothing and ends at once (RFC 9293 3.10.4)", () => {
      const bench = new KernelBench({ build });
      const handle = bench.connect(7000);
      bench.turn();
      bench.sent();
      expect(bench.wasm.tcpClose(handle)).toBe(0);
      bench.turn();
      expect(bench.sent()).toEqual([]);
      expect(bench.events(handle)).toMatchObject([{ mask: "closed", status: 0 }]);
      expect(bench.counters().gaugeConnections).toBe(0);
    });

    test("a connection that was shut down at both ends before tcpClose waits for it, also past TIME-WAIT", () => {
      const bench = new KernelBench({ build, tuning: { timeWaitMs: 1000 } });
      const { handle } = reach(bench, "TIME_WAIT");
      bench.advance(2000);
      expect(bench.state(handle)).toBe("CLOSED");
      expect(bench.events()).toEqual([]);
      expect(bench.wasm.tcpClose(handle)).toBe(0);
      expect(bench.wasm.tcpClose(handle)).toBe(EBADF);
      expect(bench.counters().gaugeConnections).toBe(0);
    });

    test("FIN-WAIT-2 ends by itself once the application has gone, and not before (Linux: tcp_fin_timeout)", () => {
      const bench = new KernelBench({ build, tuning: { timeWaitMs: 60_000 } });
      const { peer, handle } = reach(bench, "FIN_WAIT_2");
      bench.advance(120_000);
      expect(bench.state(handle)).toBe("FIN_WAIT_2");
      bench.wasm.tcpClose(handle);
      bench.advance(59_000);
      expect(bench.counters().gaugeConnections).toBe(1);
      bench.advance(2000);
      expect(bench.events(handle)).toMatchObject([{ mask: "closed", status: 0 }]);
      expect(bench.counters().gaugeConnections).toBe(0);
      peer.send({ flags: "fin ack" });
      peer.expect({ flags: "rst" });
    });

    test("without TIME-WAIT (timeWaitMs 0) the last ACK is sent all the same", () => {
      const bench = new KernelBench({ build, tuning: { timeWaitMs: 0 } });
      const { peer, handle } = reach(bench, "FIN_WAIT_2");
      peer.send({ flags: "fin ack" });
      peer.expect({ flags: "ack", seq: 2, ack: 2 });
      expect(bench.events(handle)).toMatchObject([{ mask: "peerClosed closed", status: 0 }]);
      bench.wasm.tcpClose(handle);
      expect(bench.counters().gaugeConnections).toBe(0);
    });
  });

  describe("TIME-WAIT", () => {
    test("a retransmitted FIN is acknowledged and starts 2 MSL anew (RFC 9293 3.10.7.4)", () => {
      const bench = new KernelBench({ build, tuning: { timeWaitMs: 10_000 } });
      const { peer } = reach(bench, "TIME_WAIT");
      bench.advance(8000);
      peer.send({ flags: "fin ack", seq: 1 });
      peer.expect({ flags: "ack", seq: 2, ack: 2 });
      bench.advance(8000);
      expect(bench.counters().gaugeTimeWait).toBe(1);
      bench.advance(2100);
      expect(bench.counters().gaugeTimeWait).toBe(0);
    });

    test("a SYN that finds the accept queue full does not end it", () => {
      const bench = new KernelBench({ build });
      const { peer } = reach(bench, "TIME_WAIT");
      for (let i = 0; i < 16; i++) {
        const waiting = new Peer(bench, { port: 100 + i });
        waiting.send({ flags: "syn" });
        waiting.expect({ flags: "syn ack" });
        waiting.send({ flags: "ack" });
      }
      const counted = bench.counted(() => peer.send({ flags: "syn", seq: 1000 }));
      expect(counted.dropAcceptQueueFull).toBe(1);
      peer.expectNothing();
      expect(bench.counters().gaugeTimeWait).toBe(1);
    });

    test("an RST does not end it early (RFC 1337)", () => {
      const bench = new KernelBench({ build });
      const { peer } = reach(bench, "TIME_WAIT");
      peer.send({ flags: "rst", seq: 2 });
      peer.expectNothing();
      expect(bench.counters().gaugeTimeWait).toBe(1);
    });

    test.each([
      { name: "a newer timestamp", timestamp: 100, next: { timestamp: 101, iss: 5 }, reused: true },
      {
        name: "the same timestamp and a newer number",
        timestamp: 100,
        next: { timestamp: 100, delta: 10 },
        reused: true,
      },
      {
        name: "the same timestamp, no newer number",
        timestamp: 100,
        next: { timestamp: 100, delta: 0 },
        reused: false,
      },
      { name: "an older timestamp, a newer number", timestamp: 100, next: { timestamp: 99, delta: 10 }, reused: false },
      { name: "no timestamps, a newer number", next: { delta: 10 }, reused: true },
      { name: "no timestamps, no newer number", next: { delta: 0 }, reused: false },
      { name: "no timestamps, an older number", next: { delta: -1000 }, reused: false },
    ])("a SYN with $name: new connection $reused (RFC 6191 2)", ({ timestamp, next, reused }) => {
      const bench = new KernelBench({ build });
      const { peer, listener, kernelNxt } = reach(bench, "TIME_WAIT", timestamp === undefined ? {} : { timestamp });
      const iss = next.iss ?? peer.iss + 2 + (next.delta ?? 0);
      const again = new Peer(bench, { iss, ...(next.timestamp === undefined ? {} : { timestamp: next.timestamp }) });
      again.kernelIss = peer.kernelIss;
      again.post({ flags: "syn" });
      bench.turn();
      const [answer] = bench.sent();
      expect(bench.counters().tcpTimeWaitReused).toBe(reused ? 1 : 0);
      if (reused) {
        expect(answer).toMatchObject({ flags: "syn ack", ack: iss + 1 });
        // Beyond all numbers of the old connection.
        expect(((answer?.seq ?? 0) - peer.kernelIss - kernelNxt) | 0).toBeGreaterThan(65535);
        again.kernelIss = answer?.seq ?? 0;
        again.rcvNxt = 1;
        again.echo = answer?.options.timestamps?.[0] ?? 0;
        again.timestampsOn = again.timestamp !== undefined;
        again.send({ flags: "ack" });
        expect(bench.wasm.tcpAccept(listener)).toBeGreaterThanOrEqual(0);
      } else {
        expect(answer).toMatchObject({ flags: "ack", ack: (peer.iss + 2) >>> 0 });
        expect(bench.counters().gaugeTimeWait).toBe(1);
      }
    });
  });

  describe.each(SYNCHRONIZED_STATES)("in %s", (state) => {
    test("RST at RCV.NXT ends the connection (RFC 5961 3.2)", () => {
      const bench = new KernelBench({ build });
      const { peer, handle, kernelRcvNxt } = reach(bench, state);
      peer.send({ flags: "rst", seq: kernelRcvNxt });
      peer.expectNothing();
      if (state === "TIME_WAIT") {
        expect(bench.state(handle)).toBe("TIME_WAIT");
        return;
      }
      expect(bench.events(handle)).toEqual([{ handle, mask: "closed error", status: ECONNRESET, readableBytes: 0 }]);
      expect(bench.wasm.tcpRecv(handle, bench.area, 10)).toBe(ECONNRESET);
      bench.wasm.tcpClose(handle);
      expect(bench.counters()).toMatchObject({ gaugeConnections: 0, gaugeFlows: 0, gaugeStreamBytes: 0 });
    });

    test.each([
      ["bare", 0],
      ["with payload that reaches back to RCV.NXT", 100],
    ])("RST elsewhere, %s, is challenged in the window and ignored outside (RFC 5961 3.2)", (_name, bytes) => {
      const bench = new KernelBench({ build });
      const { peer, handle, kernelNxt, kernelRcvNxt } = reach(bench, state);
      const payload = pattern(bytes);
      // After the peer's FIN the window is of no use to it; a stack may close it.
      if (kernelRcvNxt === 1) {
        peer.send({ flags: "rst", seq: kernelRcvNxt + 1, payload });
        peer.expect({ flags: "ack", seq: kernelNxt, ack: kernelRcvNxt, payloadBytes: 0 });
        peer.send({ flags: "rst ack", seq: kernelRcvNxt + 20_000, payload });
        peer.expect({ flags: "ack", seq: kernelNxt, ack: kernelRcvNxt });
      }
      for (const seq of [kernelRcvNxt - 1, kernelRcvNxt - 50, kernelRcvNxt + 70_000]) {
        peer.send({ flags: "rst", seq, payload });
        peer.expectNothing();
      }
      expect(bench.state(handle)).toBe(state);
    });

    test.each([
      ["at RCV.NXT", 0],
      ["the first SYN again", -1],
      ["in the window", 1000],
      ["far outside", 1_000_000],
    ])("a SYN %s is answered with a challenge ACK (RFC 5961 4.2)", (where, offset) => {
      const bench = new KernelBench({ build });
      const { peer, handle, kernelNxt, kernelRcvNxt } = reach(bench, state);
      const seq = where === "the first SYN again" ? 0 : kernelRcvNxt + offset;
      // In TIME-WAIT a bare SYN may open a new connection (RFC 6191): here one that acknowledges.
      peer.send({ flags: state === "TIME_WAIT" ? "syn ack" : "syn", seq });
      peer.expect({ flags: "ack", seq: kernelNxt, ack: kernelRcvNxt, payloadBytes: 0 });
      peer.expectNothing();
      expect(bench.state(handle)).toBe(state);
      expect(bench.counters().tcpChallengeAcks).toBe(1);
    });

    test("a SYN with payload is challenged, and nothing of it is read (RFC 5961 4.2)", () => {
      const bench = new KernelBench({ build });
      const { peer, handle, kernelNxt, kernelRcvNxt } = reach(bench, state);
      peer.send({ flags: "syn ack", seq: kernelRcvNxt - 1, payload: pattern(10) });
      peer.expect({ flags: "ack", seq: kernelNxt, ack: kernelRcvNxt });
      expect(bench.info(handle)).toMatchObject({ state, rcvQueuedBytes: 0 });
    });

    test.each([
      ["of what was never sent", 1],
      ["older than any window", -70_000],
    ])("an ACK %s is challenged and its data dropped (RFC 5961 5.2)", (_name, offset) => {
      const bench = new KernelBench({ build });
      const { peer, handle, kernelNxt, kernelRcvNxt } = reach(bench, state);
      peer.send({ flags: "psh ack", seq: kernelRcvNxt, ack: kernelNxt + offset, payload: pattern(10) });
      peer.expect({ flags: "ack", seq: kernelNxt, ack: kernelRcvNxt });
      peer.expectNothing();
      expect(bench.info(handle)).toMatchObject({ state, rcvQueuedBytes: 0 });
    });

    test("a segment without ACK, SYN and RST is dropped and counted (RFC 9293 3.10.7.4)", () => {
      const bench = new KernelBench({ build });
      const { peer, handle, kernelRcvNxt } = reach(bench, state);
      peer.send({ flags: "psh", seq: kernelRcvNxt, payload: pattern(10) });
      peer.expectNothing();
      expect(bench.counters().dropTcpNoAck).toBe(1);
      expect(bench.info(handle)).toMatchObject({ state, rcvQueuedBytes: 0 });
    });

    test("data outside the window is answered with an ACK and dropped (RFC 9293 3.10.7.4)", () => {
      const bench = new KernelBench({ build });
      const { peer, handle, kernelNxt, kernelRcvNxt } = reach(bench, state);
      for (const seq of [kernelRcvNxt + 70_000, kernelRcvNxt - 10]) {
        peer.send({ flags: "psh ack", seq, payload: pattern(10) });
        peer.expect({ flags: "ack", seq: kernelNxt, ack: kernelRcvNxt, payloadBytes: 0 });
      }
      expect(bench.info(handle)).toMatchObject({ state, rcvQueuedBytes: 0 });
      expect(bench.counters().dropTcpUnacceptable).toBe(2);
    });

    test("tcpAbort sends RST where the peer still has to know, and the handle is gone (RFC 9293 3.10.5)", () => {
      const bench = new KernelBench({ build });
      const { peer, handle, kernelNxt, kernelRcvNxt } = reach(bench, state);
      expect(bench.wasm.tcpAbort(handle)).toBe(0);
      bench.turn();
      if (state === "TIME_WAIT") peer.expectNothing();
      else peer.expect({ flags: "rst ack", seq: kernelNxt, ack: kernelRcvNxt });
      expect(bench.wasm.tcpAbort(handle)).toBe(EBADF);
      expect(bench.events()).toEqual([]);
      bench.advance(61_000);
      expect(bench.counters()).toMatchObject({ gaugeConnections: 0, gaugeFlows: 0, gaugeTimeWait: 0 });
    });
  });

  describe("no connection (RFC 9293 3.10.7.1, 3.10.7.2)", () => {
    test("a scan of closed ports gets 1000 RSTs a second; segments of lost connections are all answered", () => {
      const bench = new KernelBench({ build });
      const peer = new Peer(bench, { kernelPort: 81 });
      for (let syns = 0; syns < 1100; syns++) peer.send({ flags: "syn" });
      expect(bench.counters()).toMatchObject({ tcpRstSent: 1000, tcpRstLimited: 100, tcpNoListener: 1100 });
      bench.sent();
      peer.send({ flags: "ack", ack: 1234 });
      peer.expect({ flags: "rst", seq: 1234 });
      bench.advance(1000);
      peer.send({ flags: "syn" });
      peer.expect({ flags: "rst ack" });
    });

    test.each([
      ["SYN to a port where nobody listens", { flags: "syn" }, { flags: "rst ack", seq: 0, ack: 1 }],
      ["data without ACK", { flags: "psh", payload: pattern(9) }, { flags: "rst ack", seq: 0, ack: 9 }],
      ["SYN with FIN and data", { flags: "fin syn", payload: pattern(9) }, { flags: "rst ack", seq: 0, ack: 11 }],
      ["ACK", { flags: "ack", ack: 1234 }, { flags: "rst", seq: 1234 }],
      ["SYN-ACK", { flags: "syn ack", ack: 77 }, { flags: "rst", seq: 77 }],
      ["RST", { flags: "rst" }, undefined],
      ["RST-ACK", { flags: "rst ack" }, undefined],
    ])("%s", (_name, segment, answer) => {
      const bench = new KernelBench({ build });
      const peer = new Peer(bench, { kernelPort: 81 });
      peer.send(segment);
      if (answer) peer.expect({ ...answer, window: 0 });
      peer.expectNothing();
    });

    test.each([
      ["ACK", { flags: "ack", ack: 1234 }, { flags: "rst", seq: 1234 }],
      ["SYN-ACK", { flags: "syn ack", ack: 77 }, { flags: "rst", seq: 77 }],
      ["RST", { flags: "rst" }, undefined],
      ["RST with SYN", { flags: "syn rst" }, undefined],
      ["nothing at all", { flags: "" }, undefined],
      ["FIN alone", { flags: "fin" }, undefined],
    ])("a listener's port: %s", (_name, segment, answer) => {
      const bench = new KernelBench({ build });
      bench.listen(80);
      const peer = new Peer(bench);
      peer.send(segment);
      if (answer) peer.expect(answer);
      peer.expectNothing();
      expect(bench.counters().gaugeConnections).toBe(0);
    });
  });

  test("challenge ACKs are limited per second, and the limit is not the same each second (RFC 5961 7)", () => {
    const bench = new KernelBench({ build });
    const { peer } = openPassive(bench);
    const answered = (): number => {
      const before = bench.counters().tcpChallengeAcks ?? 0;
      for (let i = 0; i < 2500; i++) peer.send({ flags: "rst", seq: peer.nxt + 5 });
      peer.all();
      return (bench.counters().tcpChallengeAcks ?? 0) - before;
    };
    const counts = [0, 1, 2].map(() => {
      bench.advance(1000);
      return answered();
    });
    for (const count of counts) {
      expect(count).toBeGreaterThanOrEqual(1000);
      expect(count).toBeLessThan(2000);
    }
    expect(new Set(counts).size).toBeGreaterThan(1);
    expect(bench.counters().tcpChallengeAcksLimited).toBe(7500 - counts.reduce((sum, count) => sum + count, 0));
  });

  test("many connections at once close without a trace", () => {
    const bench = new KernelBench({ build });
    const opened = Array.from({ length: 20 }, (_, i) => openActive(bench, { port: 7000 + i }));
    for (const { handle } of opened) bench.write(handle, pattern(100));
    for (const { peer, handle } of opened) {
      bench.wasm.tcpClose(handle);
      bench.turn();
      peer.all();
      peer.send({ flags: "ack" });
      peer.send({ flags: "fin ack" });
    }
    bench.advance(61_000);
    expect(bench.counters()).toMatchObject({
      gaugeConnections: 0,
      gaugeFlows: 0,
      gaugeStreamBytes: 0,
      gaugeTimeWait: 0,
    });
  });
});
