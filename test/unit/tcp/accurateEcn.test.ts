/** Accurate ECN (RFC 9768); test/packet/ecn has the handshakes and the single rules as scripts. */
import { describe, expect, test } from "vitest";
import { TCP_ECN_REDUCTIONS } from "../../../src/layout/counters.ts";
import { RESULT_BASE } from "../../../src/layout/kernelMemory.ts";
import * as TCPI from "../../../src/layout/tcpInfo.ts";
import { Prng } from "../../../src/sim/prng.ts";
import { KERNEL_BUILDS, KernelBench, OWN_MAC, PEER_MAC, Peer } from "../../helpers/kernelBench.ts";
import { createPair, groupOf, move } from "../../helpers/migration.ts";
import {
  arp,
  ETHERTYPE_ARP,
  internetChecksum,
  macBytes,
  parseArp,
  parseEthernet,
  pattern,
} from "../../helpers/packets.ts";

const MSS = 1000;
const CE = 3;
const ACCURATE = { ecn: 3 };

/** AE, CWR and ECE as one number (3.2.1). */
function aceOf(flags: string): number {
  return (flags.includes("ae") ? 4 : 0) + (flags.includes("cwr") ? 2 : 0) + (flags.includes("ece") ? 1 : 0);
}

function aceFlags(ace: number): string {
  return `${ace & 1 ? " ece" : ""}${ace & 2 ? " cwr" : ""}${ace & 4 ? " ae" : ""}`;
}

function info(bench: KernelBench, handle: number, offset: number): number {
  expect(bench.wasm.tcpInfo(handle, RESULT_BASE)).toBe(0);
  return bench.memory.loadU32(RESULT_BASE + offset);
}

describe.each(KERNEL_BUILDS)("accurate ECN, %s build", (build) => {
  function open(bench: KernelBench): { peer: Peer; handle: number } {
    const listener = bench.listen(80);
    const peer = new Peer(bench, { mss: MSS, sack: true });
    peer.send({ flags: "syn ece cwr ae" });
    expect(aceOf(peer.expect({}).flags)).toBe(2);
    peer.send({ flags: `ack${aceFlags(2)}` });
    return { peer, handle: bench.wasm.tcpAccept(listener) };
  }

  describe("negotiation (3.1)", () => {
    test.each([
      { asked: 7, codepoint: 0, answer: 2 },
      { asked: 7, codepoint: 1, answer: 3 },
      { asked: 7, codepoint: 2, answer: 4 },
      { asked: 7, codepoint: 3, answer: 6 },
      { asked: 5, codepoint: 0, answer: 2 },
      { asked: 1, codepoint: 0, answer: 2 },
      { asked: 3, codepoint: 0, answer: 1 },
      { asked: 0, codepoint: 0, answer: 0 },
    ])("a SYN with ACE $asked and codepoint $codepoint is answered with $answer", ({ asked, codepoint, answer }) => {
      const bench = new KernelBench({ build, tuning: ACCURATE });
      bench.listen(80);
      const peer = new Peer(bench, { mss: MSS });
      peer.send({ flags: `syn${aceFlags(asked)}`, ip: { tos: codepoint } });
      expect(aceOf(peer.expect({}).flags)).toBe(answer);
    });

    test.each([
      { answer: 0, codepoint: 0, ack: 0, marks: 0 },
      { answer: 1, codepoint: 0, ack: 0, marks: 2 },
      { answer: 2, codepoint: 0, ack: 2, marks: 2 },
      { answer: 2, codepoint: 1, ack: 3, marks: 2 },
      { answer: 2, codepoint: 2, ack: 4, marks: 2 },
      { answer: 2, codepoint: 3, ack: 6, marks: 2 },
      // None of these can have become of a SYN that was not ECT.
      { answer: 3, codepoint: 0, ack: 2, marks: 0 },
      { answer: 4, codepoint: 0, ack: 2, marks: 0 },
      { answer: 6, codepoint: 0, ack: 2, marks: 0 },
      { answer: 5, codepoint: 0, ack: 2, marks: 2 },
      { answer: 7, codepoint: 0, ack: 0, marks: 0 },
    ])("a SYN-ACK with ACE $answer and codepoint $codepoint: our ACK has $ack, our data $marks", (row) => {
      const bench = new KernelBench({ build, noDelay: true, tuning: ACCURATE });
      const peer = new Peer(bench, { mss: MSS, port: 80, kernelPort: 5000 });
      const handle = bench.connect(80, { localPort: 5000 });
      bench.turn();
      expect(aceOf(peer.expect({}).flags)).toBe(7);
      peer.send({ flags: `syn ack${aceFlags(row.answer)}`, ip: { tos: row.codepoint } });
      expect(aceOf(peer.expect({ payloadBytes: 0 }).flags)).toBe(row.ack);
      bench.write(handle, pattern(MSS));
      expect(peer.expect({ payloadBytes: MSS }).codepoint).toBe(row.marks);
    });

    test("tuning.ecn 5 agrees and does not ask; 4 asks for RFC 3168's", () => {
      for (const [ecn, asked] of [
        [5, 0],
        [4, 3],
      ] as const) {
        const bench = new KernelBench({ build, tuning: { ecn } });
        bench.connect(80);
        bench.turn();
        expect(aceOf((bench.sent()[0] as { flags: string }).flags)).toBe(asked);
        open(bench);
      }
    });

    test("a SYN cookie remembers it, and the ACE field which kind it is", () => {
      for (const [asked, answer, ack, counted] of [
        [7, 2, 2, 6],
        [3, 1, 0, 1],
        [0, 0, 0, 0],
      ] as const) {
        const bench = new KernelBench({ build, tuning: ACCURATE });
        const listener = bench.listen(80, 1);
        new Peer(bench, { port: 41000 }).send({ flags: "syn" });
        bench.sent();
        const peer = new Peer(bench, { mss: MSS, timestamp: 5000, windowScale: 2 });
        peer.send({ flags: `syn${aceFlags(asked)}` });
        expect(aceOf(peer.expect({}).flags)).toBe(answer);
        peer.timestampsOn = true;
        peer.send({ flags: `ack${aceFlags(ack)}` });
        expect(bench.counters().synCookiesAccepted).toBe(1);
        expect(bench.wasm.tcpAccept(listener)).toBeGreaterThan(0);
        peer.send({ flags: `ack psh${aceFlags(ack === 2 ? 5 : 0)}`, payload: pattern(10), ip: { tos: CE } });
        bench.advance(100);
        expect(aceOf(peer.expect({ payloadBytes: 0 }).flags), `asked ${asked}`).toBe(counted);
      }
    });
  });

  test("bursts with one mark are coalesced, but not with CE, and all of them is counted", () => {
    const bench = new KernelBench({ build, tuning: ACCURATE });
    const { peer, handle } = open(bench);
    const prng = new Prng(8, 1);
    const bytesOf = [0, 1, 1, 0];
    let packets = 5;
    let coalesced = 0;
    for (let i = 0; i < 200; i++) {
      const codepoint = prng.below(4);
      const burst = Array.from({ length: 1 + prng.below(6) }, () => pattern(1 + prng.below(MSS)));
      const pieces = burst.map((payload) => ({ flags: "ack psh ae ece", payload, ip: { tos: codepoint } }));
      const counted = bench.counted(() => peer.sendAll(...pieces)).tcpSegmentsCoalesced ?? 0;
      expect(counted).toBe(codepoint === CE ? 0 : burst.length - 1);
      coalesced += counted;
      bytesOf[codepoint] = burst.reduce((sum, { length }) => sum + length, bytesOf[codepoint] as number);
      if (codepoint === CE) packets += burst.length;
      bench.advance(50);
      bench.read(handle);
      const last = peer.all().at(-1);
      expect(aceOf(last?.flags ?? "")).toBe(packets & 7);
      if (codepoint === 0) continue;
      expect(last?.options.accurate?.slice(0, 2)).toEqual([bytesOf[2], bytesOf[CE]]);
      expect(last?.options.accurate?.[2] ?? 1).toBe(bytesOf[1]);
    }
    expect(coalesced).toBeGreaterThan(200);
  });

  test("the field and the option tell exactly what has come, whatever the marks", () => {
    const bench = new KernelBench({ build, tuning: ACCURATE });
    const { peer, handle } = open(bench);
    const prng = new Prng(7, 1);
    const bytesOf = [0, 1, 1, 0];
    let packets = 5;
    for (let i = 0; i < 400; i++) {
      const codepoint = prng.below(4);
      const bytes = 1 + prng.below(MSS);
      peer.send({ flags: "ack psh ae ece", payload: pattern(bytes), ip: { tos: codepoint } });
      bytesOf[codepoint] = (bytesOf[codepoint] as number) + bytes;
      if (codepoint === CE) packets++;
      bench.advance(50);
      bench.read(handle);
      const acks = peer.all();
      expect(acks.length).toBeGreaterThan(0);
      const last = acks.at(-1) as (typeof acks)[0];
      expect(aceOf(last.flags)).toBe(packets & 7);
      const told = last.options.accurate;
      if (codepoint === 0) continue;
      expect(told?.slice(0, 2)).toEqual([bytesOf[2], bytesOf[CE]]);
      expect(told?.[2] ?? 1).toBe(bytesOf[1]);
    }
    expect(info(bench, handle, TCPI.TCPI_RECEIVED_CE)).toBe(packets - 5);
  });

  test("the option leaves SACK its room, and goes where both fit", () => {
    const bench = new KernelBench({ build, tuning: ACCURATE });
    const { peer } = open(bench);
    const seen: [blocks: number, option: boolean][] = [];
    for (let i = 1; i <= 4; i++) {
      peer.send({ flags: "ack psh ae ece", seq: 1 + 2000 * i, payload: pattern(MSS), ip: { tos: CE } });
      const { options, headerBytes } = peer.expect({ payloadBytes: 0 });
      expect(headerBytes).toBeLessThanOrEqual(60);
      seen.push([options.sack?.length ?? 0, options.accurate !== undefined]);
    }
    // Without timestamps: three blocks of eight bytes and two counters are 28 and 8.
    expect(seen).toEqual([
      [1, true],
      [2, true],
      [3, true],
      [4, false],
    ]);
  });

  test("devices may cut large frames only while CWR, a bit of the counter, is not set", () => {
    const bench = new KernelBench({
      build,
      noDelay: true,
      tsoBytesMax: 8 * MSS,
      checksumOffload: true,
      tuning: ACCURATE,
    });
    const { peer, handle } = open(bench);
    const sizes: number[] = [];
    bench.takesFrames = false;
    const largest = (): number => {
      let most = 0;
      for (let frame = bench.tx.shift(); frame; frame = bench.tx.shift()) most = Math.max(most, frame.length - 54);
      return most;
    };
    bench.write(handle, pattern(4 * MSS));
    sizes.push(largest());
    peer.send({ flags: "ack psh ae ece", payload: pattern(10), ack: 1 + 4 * MSS, ip: { tos: CE } });
    bench.write(handle, pattern(4 * MSS));
    sizes.push(largest());
    expect(sizes[0]).toBe(4 * MSS);
    expect(sizes[1]).toBeLessThanOrEqual(MSS + 12);
  });

  test("a connection that moves to another kernel takes its counters along", () => {
    const pair = createPair({ build, tuning: ACCURATE });
    const { peer, handle } = open(pair.source);
    for (let i = 0; i < 3; i++) {
      peer.send({ flags: "ack psh ae ece", payload: pattern(100), ip: { tos: CE } });
    }
    pair.source.advance(100);
    pair.source.sent();
    pair.target.nowNs = pair.source.nowNs;
    const { status, handles } = move(pair, groupOf(peer.port));
    expect(status).toBe(0);
    peer.bench = pair.target;
    expect(info(pair.target, handles.get(handle) as number, TCPI.TCPI_RECEIVED_CE)).toBe(3);
    peer.send({ flags: "ack psh ae ece", payload: pattern(100), ip: { tos: CE } });
    pair.target.advance(100);
    expect(peer.expect({ payloadBytes: 0 })).toMatchObject({ options: { accurate: [1, 400] } });
  });

  /** Two kernels, the one's packets marked on their way to the other. */
  describe("between two kernels", () => {
    /** @param mark of the n-th data packet. @returns how many were marked. */
    function carry(
      from: KernelBench,
      to: KernelBench,
      mark: (n: number) => boolean,
      count: { packets: number },
    ): number {
      let marked = 0;
      for (let frame = from.tx.shift(); frame; frame = from.tx.shift()) {
        if (parseEthernet(frame).etherType === ETHERTYPE_ARP) {
          const { senderMac, senderV4, targetV4 } = parseArp(frame);
          from.inject(
            arp({
              operation: "reply",
              senderMac: PEER_MAC,
              senderV4: targetV4,
              targetMac: senderMac,
              targetV4: senderV4,
            }),
          );
          continue;
        }
        const copy = Uint8Array.from(frame);
        copy.set(macBytes(OWN_MAC));
        copy.set(macBytes(PEER_MAC), 6);
        const isTcpData = ((copy[15] as number) & 3) === 2;
        if (isTcpData && mark(count.packets++)) {
          marked++;
          copy[15] = (copy[15] as number) | CE;
          copy.set([0, 0], 24);
          const sum = internetChecksum(copy.subarray(14, 34));
          copy.set([sum >> 8, sum & 255], 24);
        }
        to.inject(copy);
      }
      return marked;
    }

    test.each([0, 3, 25, 60])("%i of 100 packets marked: the sender knows all of them, and slows down", (percent) => {
      const options = { build, tuning: ACCURATE, noDelay: true };
      const client = new KernelBench({ ...options, addresses: ["10.0.0.1/24"], seed: 3 });
      const server = new KernelBench({ ...options, addresses: ["10.0.0.2/24"], seed: 4 });
      client.takesFrames = false;
      server.takesFrames = false;
      const listener = server.listen(80);
      const handle = client.connect(80, { remote: "10.0.0.2" });
      const prng = new Prng(11 + percent, 1);
      const count = { packets: 0 };
      let marked = 0;
      let accepted = -1;
      let sent = 0;
      let got = 0;
      const total = 600_000;
      for (let step = 0; step < 4000 && got < total; step++) {
        client.nowNs += 1e6;
        server.nowNs = client.nowNs;
        if (sent < total) sent += Math.max(0, client.queue(handle, pattern(Math.min(20_000, total - sent), sent)));
        client.turn();
        marked += carry(client, server, () => prng.below(100) < percent, count);
        server.turn();
        if (accepted < 0) accepted = server.wasm.tcpAccept(listener);
        if (accepted >= 0) got += server.read(accepted).length;
        server.turn();
        carry(server, client, () => false, { packets: 0 });
        client.turn();
      }
      expect(got).toBe(total);
      for (let i = 0; i < 3; i++) {
        client.advance(50);
        server.advance(50);
        carry(server, client, () => false, { packets: 0 });
      }
      expect(info(server, accepted, TCPI.TCPI_RECEIVED_CE)).toBe(marked);
      expect(info(client, handle, TCPI.TCPI_DELIVERED_CE)).toBe(marked);
      const reductions = client.memory.counter(TCP_ECN_REDUCTIONS);
      if (percent === 0) expect(reductions).toBe(0);
      else expect(reductions).toBeGreaterThan(0);
      expect(reductions).toBeLessThanOrEqual(marked);
    });
  });
});
