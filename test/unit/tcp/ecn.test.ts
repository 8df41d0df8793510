/** Explicit congestion notification (RFC 3168). */
import { describe, expect, test } from "vitest";
import { RESULT_BASE } from "../../../src/layout/kernelMemory.ts";
import * as TCPI from "../../../src/layout/tcpInfo.ts";
import { KERNEL_BUILDS, KernelBench, Peer } from "../../helpers/kernelBench.ts";
import { pattern } from "../../helpers/packets.ts";

const MSS = 1000;
const ECT_0 = 2;
const CE = 3;

describe.each(KERNEL_BUILDS)("ECN, %s build", (build) => {
  /** A connection for which the peer has asked for ECN. */
  function open(ecn: number, sack = true): { bench: KernelBench; peer: Peer; handle: number; synAck: string } {
    const bench = new KernelBench({ build, noDelay: true, tuning: { ecn } });
    const listener = bench.listen(80);
    const peer = new Peer(bench, { mss: MSS, sack });
    peer.send({ flags: "syn ece cwr" });
    const synAck = peer.expect({}).flags;
    bench.advance(100);
    peer.send({ flags: "ack" });
    return { bench, peer, handle: bench.wasm.tcpAccept(listener), synAck };
  }
  const info = (bench: KernelBench, handle: number, offset: number): number => {
    expect(bench.wasm.tcpInfo(handle, RESULT_BASE)).toBe(0);
    return bench.memory.loadU32(RESULT_BASE + offset);
  };

  describe("negotiation (6.1.1)", () => {
    test.each([
      { ecn: 0, answer: "syn ack" },
      { ecn: 1, answer: "syn ack ece" },
      { ecn: 2, answer: "syn ack ece" },
    ])("tuning.ecn $ecn: a SYN that asks is answered with $answer", ({ ecn, answer }) => {
      const { bench, peer, handle, synAck } = open(ecn);
      expect(synAck).toBe(answer);
      bench.write(handle, pattern(MSS));
      expect(peer.expect({ payloadBytes: MSS }).codepoint).toBe(ecn === 0 ? 0 : ECT_0);
    });

    test("a SYN that does not ask, or is marked itself, is answered without", () => {
      const bench = new KernelBench({ build, tuning: { ecn: 1 } });
      bench.listen(80);
      for (const [port, flags, tos] of [
        [1000, "syn", 0],
        [1001, "syn ece", 0],
        [1002, "syn ece cwr", CE],
      ] as const) {
        const peer = new Peer(bench, { port });
        peer.send({ flags, ip: { tos } });
        peer.expect({ flags: "syn ack" });
      }
    });

    test("our SYN asks with tuning.ecn 1, once; a SYN-ACK with ECE alone agrees", () => {
      for (const [flags, agreed] of [
        ["syn ack ece", true],
        ["syn ack ece cwr", false],
        ["syn ack", false],
      ] as const) {
        const bench = new KernelBench({ build, tuning: { ecn: 1 } });
        const peer = new Peer(bench, { port: 7000, mss: MSS });
        const handle = bench.connect(7000);
        bench.turn();
        peer.kernelPort = bench.info(handle).localPort;
        const syn = peer.expect({ flags: "syn ece cwr" });
        expect(syn.codepoint).toBe(0);
        bench.advance(1100);
        peer.expect({ flags: "syn" });
        peer.send({ flags });
        expect(peer.expect({ flags: "ack" }).codepoint).toBe(0);
        bench.write(handle, pattern(MSS));
        expect(peer.expect({ payloadBytes: MSS }).codepoint).toBe(agreed ? ECT_0 : 0);
      }
    });
  });

  describe("sending (6.1.2, 6.1.4, 6.1.5)", () => {
    test.each([true, false])("ECE shrinks the window once per round trip, and CWR says so; SACK %s", (sack) => {
      const { bench, peer, handle } = open(2, sack);
      bench.write(handle, pattern(20 * MSS));
      expect(peer.all().every((segment) => segment.flags.includes("cwr"))).toBe(false);
      bench.advance(100);
      let cwr = 0;
      for (let i = 1; i <= 10; i++) {
        peer.send({ flags: "ack ece", ack: 1 + i * MSS });
        cwr += peer.all().filter((segment) => segment.flags.includes("cwr")).length;
      }
      expect(cwr).toBe(1);
      expect(bench.counters().tcpEcnReductions).toBe(1);
      expect(info(bench, handle, TCPI.TCPI_SND_SSTHRESH)).toBe(7);
      peer.send({ flags: "ack" });
      expect(info(bench, handle, TCPI.TCPI_CA_STATE)).toBe(TCPI.TCPI_CA_OPEN);
      expect(info(bench, handle, TCPI.TCPI_SND_CWND)).toBe(7);
      expect(bench.counters().tcpRetransmits).toBe(0);
    });

    test("what is sent again is not marked", () => {
      const { bench, peer, handle } = open(2);
      bench.write(handle, pattern(MSS));
      expect(peer.expect({ payloadBytes: MSS }).codepoint).toBe(ECT_0);
      bench.advance(2000);
      const again = peer.all();
      expect(again.length).toBeGreaterThan(0);
      for (const segment of again) expect(segment.codepoint).toBe(0);
    });
  });

  describe("receiving (6.1.3)", () => {
    test("CE is answered at once with ECE, in every ACK until CWR comes", () => {
      const { bench, peer, handle } = open(2);
      const send = (tos: number, flags = "ack"): string => {
        peer.send({ flags, payload: pattern(MSS), ip: { tos } });
        bench.advance(50);
        return peer.all().at(-1)?.flags ?? "";
      };
      expect(send(ECT_0)).toBe("ack");
      peer.send({ flags: "ack", payload: pattern(MSS), ip: { tos: CE } });
      peer.expect({ flags: "ack ece" });
      expect(send(ECT_0)).toBe("ack ece");
      expect(send(ECT_0)).toBe("ack ece");
      expect(send(ECT_0, "ack cwr")).toBe("ack");
      expect(send(ECT_0)).toBe("ack");
      expect(info(bench, handle, TCPI.TCPI_OPTIONS) & TCPI.TCPI_OPT_ECN_SEEN).not.toBe(0);
    });

    test("without agreement CE and ECE say nothing", () => {
      const { bench, peer, handle } = open(0);
      peer.send({ flags: "ack", payload: pattern(MSS), ip: { tos: CE } });
      bench.advance(50);
      expect(peer.all().at(-1)?.flags).toBe("ack");
      bench.write(handle, pattern(5 * MSS));
      peer.all();
      peer.send({ flags: "ack ece", ack: 1 + MSS });
      expect(bench.counters().tcpEcnReductions).toBe(0);
    });
  });
});
