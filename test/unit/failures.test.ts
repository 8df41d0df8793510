/**
 * What the stack promises for the day when things go wrong, row by row: malformed frames, SYN floods, full pools, rings
 * and queues, blind injection, wrong use of the API. (Kernels that trap and owners that die have tests of their own.)
 */
import { describe, expect, test } from "vitest";
import { resolveTuning, type Tuning } from "../../src/kernel/config.ts";
import { EADDRINUSE, EBADF, EINVAL, ENETUNREACH, EPIPE } from "../../src/layout/status.ts";
import {
  KERNEL_BUILDS,
  KernelBench,
  type KernelBuild,
  openPassive,
  OWN,
  OWN_MAC,
  Peer,
  PEER,
  PEER_MAC,
} from "../helpers/kernelBench.ts";
import { concat, ethernet, type Ipv4Fields, ipv4, pattern, type TcpFields, tcp } from "../helpers/packets.ts";

type Wrong = { tcp?: Partial<TcpFields>; ip?: Partial<Ipv4Fields>; destinationMac?: string; etherType?: number };

/** A segment for port 80 with something wrong in it. */
function wrongFrame(wrong: Wrong, payload = pattern(20)): Uint8Array<ArrayBuffer> {
  const fields = { source: PEER, destination: OWN, sourcePort: 40_000, destinationPort: 80, flags: "syn", seq: 7 };
  const packet = ipv4(
    { source: PEER, destination: OWN, protocol: 6, ...wrong.ip },
    tcp({ ...fields, ...wrong.tcp }, payload),
  );
  return ethernet(
    { destination: wrong.destinationMac ?? OWN_MAC, source: PEER_MAC, etherType: wrong.etherType ?? 0x0800 },
    packet,
  );
}

const MALFORMED: { name: string; wrong: Wrong; counter: string }[] = [
  { name: "for another station", wrong: { destinationMac: "02:00:00:00:00:77" }, counter: "dropNotForUs" },
  { name: "of an unknown EtherType", wrong: { etherType: 0x1234 }, counter: "dropEthertypeUnknown" },
  { name: "IP version 5", wrong: { ip: { version: 5 } }, counter: "dropIpHeader" },
  { name: "IP header length 16", wrong: { ip: { headerBytes: 16 } }, counter: "dropIpHeader" },
  {
    name: "IP header longer than the packet",
    wrong: { ip: { headerBytes: 60, totalBytes: 40 } },
    counter: "dropIpLength",
  },
  { name: "IP checksum", wrong: { ip: { checksum: 0x1234 } }, counter: "dropIpChecksum" },
  { name: "IP total length beyond the frame", wrong: { ip: { totalBytes: 1000 } }, counter: "dropIpLength" },
  { name: "IP source 127.0.0.1", wrong: { ip: { source: "127.0.0.1" } }, counter: "dropIpSource" },
  { name: "IP source a multicast group", wrong: { ip: { source: "224.0.0.1" } }, counter: "dropIpSource" },
  { name: "IP source our own address", wrong: { ip: { source: OWN } }, counter: "dropIpSource" },
  { name: "IP destination not ours", wrong: { ip: { destination: "10.0.0.77" } }, counter: "dropIpDestination" },
  {
    name: "IP destination the broadcast address",
    wrong: { ip: { destination: "10.0.0.255" } },
    counter: "dropBroadcast",
  },
  { name: "Ethernet broadcast", wrong: { destinationMac: "ff:ff:ff:ff:ff:ff" }, counter: "dropBroadcast" },
  { name: "Ethernet multicast", wrong: { destinationMac: "01:00:5e:00:00:01" }, counter: "dropBroadcast" },
  { name: "TCP header length 0", wrong: { tcp: { headerBytes: 0 } }, counter: "dropTcpHeader" },
  { name: "TCP header length 16", wrong: { tcp: { headerBytes: 16 } }, counter: "dropTcpHeader" },
  { name: "TCP header longer than the segment", wrong: { tcp: { headerBytes: 60 } }, counter: "dropTcpHeader" },
  { name: "TCP checksum", wrong: { tcp: { checksum: 0x1234 } }, counter: "dropTcpChecksum" },
  { name: "TCP checksum 0 is no excuse", wrong: { tcp: { checksum: 0 } }, counter: "dropTcpChecksum" },
  { name: "source port 0", wrong: { tcp: { sourcePort: 0 } }, counter: "dropTcpHeader" },
  { name: "destination port 0", wrong: { tcp: { destinationPort: 0 } }, counter: "dropTcpHeader" },
  ...[
    ["length 0", [2, 0, 0, 0]],
    ["length 1", [8, 1, 0, 0]],
    ["beyond the header", [2, 40, 0, 0]],
    ["cut off after its kind", [1, 1, 1, 2]],
  ].map(([name, bytes]) => ({
    name: `TCP option ${name as string}`,
    wrong: { tcp: { optionBytes: Uint8Array.from(bytes as number[]) } },
    counter: "dropTcpOption",
  })),
];

/** A kernel that knows its neighbour and listens on port 80. */
function listening(build: KernelBuild): KernelBench {
  const bench = new KernelBench({ build });
  openPassive(bench, { port: 1 }, bench.listen(80));
  return bench;
}

describe.each(KERNEL_BUILDS)("when things go wrong, %s build", (build) => {
  describe("malformed frame, bad checksum, lying length, impossible option: one named counter per cause", () => {
    test.each(MALFORMED)("$name", ({ wrong, counter }) => {
      const bench = listening(build);
      const counted = bench.counted(() => {
        bench.inject(wrongFrame(wrong));
        bench.turn();
      });
      expect(counted[counter], JSON.stringify(counted)).toBe(1);
      expect(Object.keys(counted).filter((name) => name.startsWith("drop"))).toEqual([counter]);
      expect(bench.sent()).toEqual([]);
      expect(bench.counters().gaugeConnections).toBe(1);
    });

    test("frames cut at every length, whatever lies behind them in the ring: the same outcome", () => {
      const whole = [
        wrongFrame({ tcp: { options: { mss: 1460, windowScale: 7, timestamps: [1, 2] } } }),
        wrongFrame({ tcp: { flags: "ack", optionBytes: Uint8Array.of(1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2) } }),
        wrongFrame({ ip: { options: Uint8Array.of(7, 7, 4, 0, 0, 0, 0, 0) } }),
      ];
      const benches = [0x00, 0xff, 0x45].map((filler) => ({ filler, bench: listening(build) }));
      for (const frame of whole) {
        for (let length = 0; length <= frame.length; length++) {
          const outcomes = benches.map(({ bench, filler }) => {
            const { rx } = bench;
            const record = rx.addressOf(rx.tail);
            bench.inject(frame.subarray(0, length));
            // Everything behind the frame: the rest of its record, and what a next record would be.
            const end = Math.min(record + 18 + length + 256, rx.addressOf(0) + rx.sizeBytes);
            bench.bytes.fill(filler, record + 18 + length, end);
            const counted = bench.counted(() => bench.turn());
            bench.wasm.tcpAbortAll();
            return JSON.stringify([counted, bench.sent()]);
          });
          expect(new Set(outcomes).size, `${length} bytes`).toBe(1);
        }
      }
    });

    test("a frame at the very end of the ring is read to its last byte and no further", () => {
      const bench = new KernelBench({ build, tuning: { rxRingBytes: 16_384 } });
      const listener = bench.listen(80);
      const { peer, handle } = openPassive(bench, {}, listener);
      const data = pattern(60_000);
      const received: Uint8Array[] = [];
      // Records of odd lengths stop at every place before the end.
      for (let sent = 0, i = 0; sent < data.length; i++) {
        const piece = data.subarray(sent, sent + 1 + ((i * 97) % 1400));
        peer.send({ flags: "ack", payload: piece });
        sent += piece.length;
        received.push(bench.read(handle));
      }
      expect(concat(...received)).toEqual(data);
    });

    test("a record that says it is longer than any frame is not read", () => {
      const bench = listening(build);
      // The largest that fits into the ring.
      const counted = bench.counted(() => {
        bench.inject(concat(wrongFrame({}), new Uint8Array(60_000)));
        bench.turn();
      });
      // Ethernet padding behind the packet is ignored: this is a plain SYN.
      expect(counted.tcpPassiveOpens).toBe(1);
    });
  });

  describe("SYN flood: cookies; established connections keep their service", () => {
    test("10,000 spoofed SYNs in one second", () => {
      const bench = new KernelBench({ build, tuning: { connectionsMax: 300, neighborsMax: 64 } });
      const listener = bench.listen(80, 128);
      const { peer, handle } = openPassive(bench, { mss: 1460 }, listener);
      const data = pattern(100_000);
      const received: Uint8Array[] = [];
      let sent = 0;
      let client: Peer | undefined;
      let clientHandle = -1;
      for (let i = 0; i < 10_000; i++) {
        // From addresses beside our own that nobody has, thousands of them.
        const address = `10.0.${1 + (i % 250)}.${1 + ((i * 7) % 250)}`;
        new Peer(bench, { address, port: 1024 + (i % 60_000), iss: i * 7919 }).post({ flags: "syn" });
        if (i % 10 !== 0) continue;
        bench.advance(1);
        if (sent < data.length) {
          const piece = data.subarray(sent, sent + 1000);
          peer.post({ flags: "ack", payload: piece });
          sent += piece.length;
          bench.turn();
          received.push(bench.read(handle));
        }
        if (i === 5000) {
          client = new Peer(bench, { port: 50_001, mss: 1460 });
          client.send({ flags: "syn" });
          expect(client.expect({ flags: "syn ack", seq: 0, ack: 1 }).options).toEqual({ mss: 1460 });
          client.send({ flags: "ack" });
          clientHandle = bench.wasm.tcpAccept(listener);
          expect(clientHandle).toBeGreaterThanOrEqual(0);
        }
        bench.sent(50_002);
      }
      expect(concat(...received)).toEqual(data);
      client?.send({ flags: "psh ack", payload: pattern(50) });
      expect(bench.read(clientHandle)).toEqual(Buffer.from(pattern(50)));
      const counters = bench.counters();
      expect(counters.synCookiesAccepted).toBe(1);
      expect(counters.synCookiesSent).toBeGreaterThan(9000);
      expect(counters.dropSynQueueFull).toBe(0);
      expect(counters.gaugeConnections).toBeLessThanOrEqual(130);
      // When it is over nothing of it is left.
      bench.advance(300_000);
      expect(bench.counters().gaugeConnections).toBe(2);
    });
  });

  describe("a full pool, ring, accept queue: the defined refusal, counted; nothing established is lost", () => {
    test("stream pool, receiving: data is not taken and not acknowledged, and comes through when there is room", () => {
      const bench = new KernelBench({ build, tuning: { streamPoolBytes: 64 * 1024, rcvBufferBytesMax: 64 * 1024 } });
      const listener = bench.listen(80);
      // Two segments are everybody's; a pool of 64 KiB has those for 16.
      const opened = Array.from({ length: 20 }, (_, i) => openPassive(bench, { port: 1 + i, mss: 1460 }, listener));
      const data = pattern(30_000);
      const acked = opened.map(() => 0);
      const pass = () => {
        for (const [i, { peer }] of opened.entries()) {
          const from = acked[i] as number;
          for (let at = from; at < Math.min(from + 8000, data.length); at += 1000) {
            peer.post({ flags: "ack", seq: 1 + at, payload: data.subarray(at, at + 1000) });
          }
        }
        bench.turn();
        bench.advance(50);
        for (const [i, { peer }] of opened.entries()) {
          for (const { ack } of peer.all()) acked[i] = Math.max(acked[i] as number, ack - 1);
        }
      };
      for (let i = 0; i < 10; i++) pass();
      expect(bench.counters().dropTcpNoBuffer).toBeGreaterThan(0);
      expect(acked.some((bytes) => bytes < data.length)).toBe(true);
      const received = opened.map((): Uint8Array[] => []);
      for (let i = 0; i < 60 && acked.some((bytes) => bytes < data.length); i++) {
        for (const [k, { handle }] of opened.entries()) received[k]?.push(bench.read(handle));
        pass();
      }
      for (const [k, { handle }] of opened.entries()) {
        received[k]?.push(bench.read(handle));
        expect(concat(...(received[k] as Uint8Array[]))).toEqual(data);
      }
      expect(bench.counters().gaugeStreamBytes).toBe(0);
    });

    test("stream pool, sending: however many peers do not read, there is something left for the next one", () => {
      const tuning = { streamPoolBytes: 4 << 20, sndBufferBytesMax: 1 << 20, connectionsMax: 512 };
      const bench = new KernelBench({ build, tuning });
      const listener = bench.listen(80);
      const data = pattern(1 << 20);
      const taken = Array.from({ length: 500 }, (_, i) => {
        const { handle } = openPassive(bench, { port: 100 + i, mss: 1460, window: 100 }, listener);
        return bench.write(handle, data);
      });
      // Whole ones while half of the pool is free, then a share of what is left.
      expect(taken.slice(0, 2)).toEqual([1 << 20, 1 << 20]);
      for (const bytes of taken) expect(bytes).toBeGreaterThan(0);
      expect(bench.counters().gaugeStreamBytes).toBeLessThan(4 << 20);
      for (const [i, bytes] of taken.entries()) if (i > 2) expect(bytes).toBeLessThanOrEqual(taken[i - 1] as number);
    });

    test("stream pool, sending: tcpSend says 0, EVENT_WRITABLE comes when others have given memory back", () => {
      const bench = new KernelBench({ build, tuning: { streamPoolBytes: 64 * 1024 } });
      const listener = bench.listen(80);
      const open = (port: number) => openPassive(bench, { port, mss: 1460, window: 100 }, listener);
      // The last of them take the smallest pieces.
      const greedy = Array.from({ length: 200 }, (_, i) => open(100 + i));
      const modest = open(1);
      for (let taken = 1; taken > 0; ) {
        taken = 0;
        for (const { handle } of greedy) taken += Math.max(bench.write(handle, pattern(1000)), 0);
      }
      // An application that tries when it is told to, and only then.
      let told = true;
      let taken = 0;
      const run = (ms: number) => {
        for (let at = 0; at < ms && taken === 0; at += 100) {
          if (told) taken = bench.write(modest.handle, pattern(100));
          bench.advance(100);
          told = bench.events(modest.handle).some(({ mask }) => mask === "writable");
        }
      };
      run(20_000);
      expect(taken).toBe(0);
      expect(bench.state(modest.handle)).toBe("ESTABLISHED");
      for (const { handle } of greedy) bench.wasm.tcpAbort(handle);
      run(120_000);
      expect(taken).toBe(100);
      modest.peer.expect({ flags: "psh ack", seq: 1, payload: pattern(100) });
    });

    test("TX ring: what finds no room waits, in order, and nothing is lost", () => {
      const bench = new KernelBench({ build, noDelay: true, tuning: { txRingBytes: 16_384, rtoMinUs: 1_000_000 } });
      const listener = bench.listen(80);
      const opened = Array.from({ length: 8 }, (_, i) => openPassive(bench, { port: i + 1, mss: 1460 }, listener));
      bench.takesFrames = false;
      for (const [i, { handle }] of opened.entries()) bench.write(handle, pattern(10_000, i));
      for (const { peer } of opened) peer.post({ flags: "psh ack", payload: pattern(10) });
      for (let i = 0; i < 20; i++) bench.turn();
      expect(bench.counters().txRingFull).toBeGreaterThan(0);
      expect(bench.wasm.hasWork()).toBe(1);
      bench.takesFrames = true;
      bench.advance(50);
      for (const [i, { peer }] of opened.entries()) {
        const segments = peer.all();
        expect(concat(...segments.map(({ payload }) => payload))).toEqual(pattern(10_000, i));
        expect(segments.at(-1)?.ack).toBe(11);
      }
      expect(bench.counters()).toMatchObject({ tcpRetransmits: 0, tcpRetransmitTimeouts: 0 });
    });

    test("TX ring, in the handshake: the SYN-ACK goes out later, once", () => {
      const bench = new KernelBench({ build, tuning: { txRingBytes: 16_384 } });
      const listener = bench.listen(80);
      const { handle } = openPassive(bench, { port: 1, mss: 1460 }, listener);
      const { handle: other } = openPassive(bench, { port: 3, mss: 1460 }, listener);
      bench.takesFrames = false;
      bench.write(handle, pattern(10_000));
      bench.write(other, pattern(10_000));
      expect(bench.counters().txRingFull).toBeGreaterThan(0);
      const peer = new Peer(bench, { port: 2 });
      peer.send({ flags: "syn" });
      bench.turn();
      bench.takesFrames = true;
      bench.settle();
      peer.expect({ flags: "syn ack", seq: 0, ack: 1 });
      peer.expectNothing();
      peer.send({ flags: "ack" });
      expect(bench.wasm.tcpAccept(listener)).toBeGreaterThanOrEqual(0);
    });

    test("accept queue: SYNs are dropped and counted; those who wait and those who talk are not touched", () => {
      const bench = new KernelBench({ build });
      const listener = bench.listen(80, 1);
      const { peer, handle } = openPassive(bench, { port: 1, mss: 1460 }, listener);
      const waiting = new Peer(bench, { port: 2 });
      waiting.send({ flags: "syn" });
      waiting.expect({ flags: "syn ack" });
      waiting.send({ flags: "psh ack", payload: pattern(5) });
      const counted = bench.counted(() => {
        for (let i = 0; i < 100; i++) new Peer(bench, { port: 100 + i }).send({ flags: "syn" });
      });
      expect(counted.dropAcceptQueueFull).toBe(100);
      bench.write(handle, pattern(10));
      peer.expect({ payload: pattern(10) });
      expect(bench.read(bench.wasm.tcpAccept(listener))).toEqual(Buffer.from(pattern(5)));
    });
  });

  describe("blind RST, SYN and data injection: RFC 5961 challenge ACKs, rate-limited", () => {
    test("20,000 guesses do not end or change a connection", () => {
      const bench = new KernelBench({ build });
      const { peer, handle } = openPassive(bench, { mss: 1460 });
      bench.write(handle, pattern(5000));
      const sent = peer.all().length;
      expect(sent).toBeGreaterThan(2);
      const state = () => {
        const { rcvNxt, sndUna, sndWnd, rcvQueuedBytes, state: name } = bench.info(handle);
        return { rcvNxt, sndUna, sndWnd, rcvQueuedBytes, name };
      };
      const before = state();
      const injected = ["rst", "rst ack", "syn", "syn ack", "psh ack"];
      for (let i = 0; i < 20_000; i++) {
        // The attacker knows the tuple, steps through the sequence space by half a window, and guesses the ACK.
        const seq = (2 + i * 32_768) % 2 ** 32;
        const flags = injected[i % injected.length] as string;
        const payload = flags === "psh ack" ? pattern(100) : new Uint8Array(0);
        peer.post({ flags, seq, ack: -100_000 - i * 200_000, payload });
        if (i % 100 === 0) bench.turn();
      }
      bench.turn();
      expect(state()).toEqual(before);
      const counters = bench.counters();
      expect(counters.tcpChallengeAcks).toBeLessThan(2000);
      expect(counters.tcpRstReceived).toBe(0);
      peer.all();
      peer.send({ flags: "ack", seq: 1, payload: pattern(10) });
      expect(bench.read(handle)).toEqual(Buffer.from(pattern(10)));
    });
  });

  describe("wrong use of the API: an error with a stable code", () => {
    test("calls of the kernel return an errno", () => {
      const bench = new KernelBench({ build });
      const { handle } = openPassive(bench, { kernelPort: 90 }, bench.listen(90));
      expect(bench.wasm.tcpListen(-1, 90, 16)).toBe(EADDRINUSE);
      expect(bench.wasm.tcpListen(-1, 91, 0)).toBe(EINVAL);
      expect(bench.wasm.tcpSend(handle + 1, bench.area, 1)).toBe(EBADF);
      expect(bench.connect(80, { remote: "192.0.2.1" })).toBe(ENETUNREACH);
      bench.wasm.tcpShutdownSend(handle);
      expect(bench.wasm.tcpSend(handle, bench.area, 1)).toBe(EPIPE);
      bench.wasm.tcpClose(handle);
      expect(bench.wasm.tcpClose(handle)).toBe(EBADF);
    });

    test.each([
      ["a number out of range", { connectionsMax: 0 }, "ERR_OPTION_RANGE"],
      ["a ring that is no power of two", { txRingBytes: 100_000 }, "ERR_OPTION_RANGE"],
      ["a name that does not exist", { conectionsMax: 5 }, "ERR_OPTION_UNKNOWN"],
    ])("options: %s", (_name, tuning, code) => {
      expect(() => resolveTuning(tuning as Partial<Tuning>, 1)).toThrow(expect.objectContaining({ code }));
    });
  });
});
