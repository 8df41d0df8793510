import { describe, expect, test } from "vitest";
import { ECONNREFUSED, EHOSTUNREACH, EMSGSIZE, ENETUNREACH } from "../../../src/layout/status.ts";
import {
  arp,
  concat,
  ETHERTYPE_IPV4,
  ethernet,
  fragmentIpv4,
  hex,
  type IcmpFields,
  type Ipv4Fields,
  icmp,
  ipv4,
  parseEthernet,
  parseIcmp,
  parseIpv4,
  pattern,
  tcp,
  udp,
  udpPacket,
} from "../../helpers/packets.ts";
import { IpProbe, OWN_MAC, PROBE_BUILDS } from "../../helpers/probeIp.ts";

const PEER_MAC = "02:00:00:00:00:02";
const PEER = "10.0.0.2";
const OWN = "10.0.0.1";
const fromPeer = { destination: OWN_MAC, source: PEER_MAC };

describe.each(PROBE_BUILDS)("ICMP, %s build", (build) => {
  /** A probe that knows PEER already. */
  function connected(mtuBytes = 1500): IpProbe {
    const probe = new IpProbe({ build, mtuBytes });
    probe.input(arp({ operation: "request", senderMac: PEER_MAC, senderV4: PEER, targetV4: OWN }));
    probe.sent();
    return probe;
  }
  function inputIcmp(probe: IpProbe, fields: IcmpFields, payload: Uint8Array, ip: Partial<Ipv4Fields> = {}): void {
    const packet = ipv4({ source: PEER, destination: OWN, protocol: 1, ...ip }, icmp(fields, payload));
    probe.input(ethernet(fromPeer, packet));
  }
  /** IPv4 packets sent since the last call; ARP is left out. */
  const packets = (probe: IpProbe) =>
    probe
      .sent()
      .map(parseEthernet)
      .filter((frame) => frame.etherType === ETHERTYPE_IPV4)
      .map((frame) => parseIpv4(frame.payload));

  describe("echo", () => {
    test.each([0, 1, 56, 57, 1472])("%i bytes come back as they are, odd or even", (bytes) => {
      const probe = connected();
      inputIcmp(probe, { type: 8, rest: 0x12340007 }, pattern(bytes), { tos: 0x20, ttl: 3 });
      const [reply] = packets(probe);
      expect(reply).toMatchObject({ source: OWN, destination: PEER, ttl: 64, tos: 0x20, checksumValid: true });
      expect(parseIcmp((reply as { payload: Uint8Array }).payload)).toMatchObject({
        type: 0,
        code: 0,
        rest: 0x12340007,
        checksumValid: true,
        payload: pattern(bytes),
      });
      expect(probe.counters()).toMatchObject({ icmpReceived: 1, icmpEchoReplies: 1 });
    });

    /** The time that the kernel enters for this peer. */
    function enteredTime(probe: IpProbe, source = PEER): number {
      inputIcmp(probe, { type: 8, rest: 1 }, pattern(8), { source, options: hex("44 08 05 00 00000000") });
      const options = packets(probe)[0]?.options as Uint8Array;
      return new DataView(options.buffer, options.byteOffset).getUint32(4);
    }

    // RFC 1122 3.2.2.6. Timestamps are of no universal time: the upper bit is set (RFC 791 3.1).
    test.each([
      ["a record route with room", "07 0b 04 00000000 00000000 00", "07 0b 08 0a000001 00000000 00"],
      ["a record route", "07 0b 08 0a000007 00000000 00", "07 0b 0c 0a000007 0a000001 00"],
      ["a full record route", "07 07 08 0a000007 00", "07 07 08 0a000007 00"],
      ["a record route whose pointer shows nowhere", "07 07 02 00000000 00", "07 07 02 00000000 00"],
      ["timestamps", "44 08 05 00 00000000", "44 08 09 00 TIME"],
      ["full timestamps, the overflow counted", "44 08 09 10 00000001", "44 08 09 20 00000001"],
      ["full timestamps, the overflow at its end", "44 08 09 f0 00000001", "44 08 09 f0 00000001"],
      ["timestamps with addresses", "44 0c 05 01 00000000 00000000", "44 0c 0d 01 0a000001 TIME"],
      ["the timestamp of us by name", "44 0c 05 03 0a000001 00000000", "44 0c 0d 03 0a000001 TIME"],
      ["the timestamp of another by name", "44 0c 05 03 0a000009 00000000", "44 0c 05 03 0a000009 00000000"],
      ["timestamps with an unknown flag", "44 08 05 02 00000000", "44 08 05 02 00000000"],
      ["both, and nothing else", "01 94 04 0000 44 04 05 00 07 03 04", "44 04 05 10 07 03 04 00"],
      ["neither", "94 04 0000", ""],
    ])("with the reply goes %s", (_name, options, reflected) => {
      const probe = connected();
      const time = enteredTime(probe).toString(16).padStart(8, "0");
      inputIcmp(probe, { type: 8, rest: 0x12340007 }, pattern(33), { options: hex(options) });
      const [reply] = packets(probe);
      expect(reply).toMatchObject({ source: OWN, checksumValid: true, options: hex(reflected.replace("TIME", time)) });
      const answer = parseIcmp(reply?.payload as Uint8Array);
      expect(answer).toMatchObject({ type: 0, checksumValid: true, payload: pattern(33) });
    });

    test("timestamps go with time and say nothing of the clock: each host has an offset of its own", () => {
      const probe = connected();
      const first = enteredTime(probe);
      probe.advance(1234);
      expect(((enteredTime(probe) - first) & 0x7fffffff) >>> 0).toBe(1234);
      const hosts = Array.from({ length: 32 }, (_, n) => `10.0.0.${2 + n}`);
      const offsets = hosts.map((source) => {
        probe.input(arp({ operation: "request", senderMac: PEER_MAC, senderV4: source, targetV4: OWN }));
        probe.sent();
        const entered = enteredTime(probe, source);
        expect(entered >>> 31).toBe(1);
        return ((entered - probe.nowMs) & 0x7fffffff) >>> 0;
      });
      expect(new Set(offsets).size).toBe(hosts.length);
      for (const quarter of [0, 1, 2, 3])
        expect(offsets.filter((offset) => offset >>> 29 === quarter).length).toBeGreaterThan(0);
      expect(offsets).not.toContain(0);
    });

    test("options do not make fragments of a reply", () => {
      const probe = connected();
      inputIcmp(probe, { type: 8, rest: 1 }, pattern(1464), { options: hex("07 07 04 00000000 00") });
      inputIcmp(probe, { type: 8, rest: 1 }, pattern(1465), { options: hex("07 07 04 00000000 00") });
      expect(packets(probe).map(({ options, payload }) => [options.length, payload.length])).toEqual([
        [8, 1472],
        [0, 1473],
      ]);
    });

    test("the changed checksum is right for every value that it can have", () => {
      const probe = connected();
      for (let value = 0; value < 0x10000; value += 251) {
        inputIcmp(probe, { type: 8, rest: value }, new Uint8Array(0));
        const [reply] = packets(probe);
        expect(parseIcmp(reply?.payload as Uint8Array)).toMatchObject({ type: 0, rest: value, checksumValid: true });
      }
    });

    test.each([4000, 65507])("%i bytes in fragments are answered in fragments", (bytes) => {
      const probe = connected();
      const request = icmp({ type: 8, rest: 1 }, pattern(bytes));
      for (const piece of fragmentIpv4(
        { source: PEER, destination: OWN, protocol: 1, identification: 9 },
        request,
        1480,
      )) {
        probe.input(ethernet(fromPeer, piece));
      }
      const pieces = packets(probe);
      expect(pieces.length).toBe(Math.ceil((bytes + 8) / 1480));
      const reply = parseIcmp(concat(...pieces.map((piece) => piece.payload)));
      expect(reply).toMatchObject({ type: 0, checksumValid: true });
      expect(reply.payload).toEqual(pattern(bytes));
    });

    test("a ping to everybody is not answered", () => {
      const probe = connected();
      for (const destination of ["10.0.0.255", "255.255.255.255"])
        inputIcmp(probe, { type: 8 }, pattern(8), { destination });
      expect(packets(probe)).toEqual([]);
      expect(probe.counters()).toMatchObject({ dropBroadcast: 2 });
    });
  });

  describe("what is wrong is dropped and counted", () => {
    test("checksum", () => {
      const probe = connected();
      inputIcmp(probe, { type: 8, checksum: 0xbeef }, pattern(8));
      expect(packets(probe)).toEqual([]);
      expect(probe.counters()).toMatchObject({ dropIcmpChecksum: 1, icmpReceived: 0 });
    });

    test("every message shorter than its header", () => {
      const probe = connected();
      for (let bytes = 0; bytes < 8; bytes++) {
        const packet = ipv4(
          { source: PEER, destination: OWN, protocol: 1 },
          icmp({ type: 8 }, new Uint8Array(0)).slice(0, bytes),
        );
        probe.input(ethernet(fromPeer, packet));
      }
      expect(packets(probe)).toEqual([]);
      expect(probe.counters()).toMatchObject({ dropIcmpLength: 8 });
    });

    test.each([
      ["echo reply that nobody waits for", 0, "dropEchoReply"],
      ["source quench", 4, "dropIcmpType"],
      ["redirect about no packet of ours", 5, "dropIcmpRedirect"],
      ["timestamp", 13, "dropIcmpType"],
      ["unassigned", 200, "dropIcmpType"],
    ])("type: %s", (_name, type, counter) => {
      const probe = connected();
      inputIcmp(probe, { type }, pattern(40));
      expect(packets(probe)).toEqual([]);
      expect(probe.counters()).toMatchObject({ [counter]: 1 });
    });
  });

  describe("errors about our packets", () => {
    const quoted = udpPacket({ source: OWN, destination: PEER, sourcePort: 5000, destinationPort: 7 }, pattern(8));

    test.each([
      ["port unreachable", 3, 3, ECONNREFUSED],
      ["protocol unreachable", 3, 2, ECONNREFUSED],
      ["net unreachable", 3, 0, ENETUNREACH],
      ["host unreachable", 3, 1, EHOSTUNREACH],
      ["fragmentation needed", 3, 4, EMSGSIZE],
      ["time exceeded", 11, 0, EHOSTUNREACH],
    ])("%s reaches the socket once", (_name, type, code, status) => {
      const probe = connected();
      const handle = probe.wasm.udpBind(-1, 5000);
      inputIcmp(probe, { type, code }, quoted.slice(0, 28));
      expect(probe.events()).toEqual([{ handle, mask: 128, status, readableBytes: 0 }]);
      expect(probe.events()).toEqual([]);
      expect(probe.counters()).toMatchObject({ icmpErrorsReceived: 1, dropIcmpQuote: 0 });
    });

    test("an error about a TCP connection that does not exist does nothing", () => {
      const probe = connected();
      const segment = tcp({ source: OWN, destination: PEER, sourcePort: 80, destinationPort: 4000 });
      inputIcmp(
        probe,
        { type: 3, code: 1 },
        ipv4({ source: OWN, destination: PEER, protocol: 6 }, segment).slice(0, 28),
      );
      expect(probe.events()).toEqual([]);
      expect(packets(probe)).toEqual([]);
      expect(probe.counters()).toMatchObject({ icmpErrorsReceived: 1, dropIcmpQuote: 0 });
    });

    const transport = udp({ source: OWN, destination: PEER, sourcePort: 5000, destinationPort: 7 }, pattern(8));
    const quote = (fields: Partial<Ipv4Fields>) =>
      ipv4({ source: OWN, destination: PEER, protocol: 17, ...fields }, transport);
    test.each([
      ["not from our address", quote({ source: "10.0.0.9" })],
      ["not IPv4", quote({ version: 6 })],
      ["a header that is too short", quote({ headerBytes: 16 })],
      ["a later fragment", quote({ fragmentOffset: 8 })],
      ["another protocol", quote({ protocol: 253 })],
      ["no ports", quote({}).slice(0, 27)],
      ["ports behind the end, says the header length", quote({ headerBytes: 60 })],
      ["half a header", quote({}).slice(0, 19)],
      ["nothing", new Uint8Array(0)],
    ])("a quote is not believed: %s", (_name, bytes) => {
      const probe = connected();
      probe.wasm.udpBind(-1, 5000);
      inputIcmp(probe, { type: 3, code: 3 }, bytes);
      expect(probe.events()).toEqual([]);
      expect(probe.counters()).toMatchObject({ icmpErrorsReceived: 1, dropIcmpQuote: 1 });
    });

    test("the quoted packet may have options", () => {
      const probe = connected();
      const handle = probe.wasm.udpBind(-1, 5000);
      inputIcmp(probe, { type: 3, code: 3 }, quote({ options: pattern(8) }).slice(0, 36));
      expect(probe.events()).toMatchObject([{ handle, status: ECONNREFUSED }]);
    });
  });

  describe("errors that we send", () => {
    const unwanted = (ip: Partial<Ipv4Fields> = {}, bytes = 20) =>
      udpPacket({ source: PEER, destination: OWN, sourcePort: 4000, destinationPort: 9 }, pattern(bytes), ip);

    test("no socket: port unreachable quotes the packet, at most 548 bytes", () => {
      const probe = connected();
      for (const bytes of [0, 20, 519, 520, 521, 1400]) {
        const packet = unwanted({ options: new Uint8Array(0) }, bytes);
        probe.input(ethernet(fromPeer, packet));
        const [error] = packets(probe);
        expect(error).toMatchObject({ source: OWN, destination: PEER, protocol: 1, tos: 0xc0 });
        const message = parseIcmp(error?.payload as Uint8Array);
        expect(message).toMatchObject({ type: 3, code: 3, rest: 0, checksumValid: true });
        expect(message.payload).toEqual(packet.slice(0, 548));
      }
      expect(probe.counters()).toMatchObject({ icmpErrorsSent: 6, dropUdpNoSocket: 6 });
    });

    test("unknown protocol: protocol unreachable", () => {
      const probe = connected();
      probe.input(ethernet(fromPeer, ipv4({ source: PEER, destination: OWN, protocol: 200 }, pattern(4))));
      expect(parseIcmp(packets(probe)[0]?.payload as Uint8Array)).toMatchObject({ type: 3, code: 2 });
    });

    test("1,000 per second, 50 at once", () => {
      const probe = connected();
      const burst = (n: number) => {
        for (let i = 0; i < n; i++) probe.input(ethernet(fromPeer, unwanted()));
        return packets(probe).length;
      };
      probe.advance(100);
      expect(burst(80)).toBe(50);
      expect(probe.counters()).toMatchObject({ icmpErrorsSent: 50, icmpRateLimited: 30 });
      probe.nowMs += 10;
      probe.wasm.setNowNs(probe.nowMs * 1e6);
      expect(burst(80)).toBe(10);
      probe.advance(10_000);
      expect(burst(80)).toBe(50);
    });

    test("never to everybody, about everybody, about a later fragment or another error (RFC 1122 3.2.2)", () => {
      const probe = connected();
      const report = (packet: Uint8Array) => {
        probe.wasm.icmpSendUnreachable(probe.place(packet), 20, packet.length, 3);
        return packets(probe).length;
      };
      expect(report(unwanted())).toBe(1);
      expect(report(unwanted({ source: "0.0.0.0" }))).toBe(0);
      expect(report(unwanted({ source: "10.0.0.255" }))).toBe(0);
      expect(report(unwanted({ source: "224.1.2.3" }))).toBe(0);
      expect(report(unwanted({ destination: "10.0.0.255" }))).toBe(0);
      expect(report(unwanted({ fragmentOffset: 8 }))).toBe(0);
      const message = (type: number) =>
        ipv4({ source: PEER, destination: OWN, protocol: 1 }, icmp({ type }, pattern(30)));
      for (const type of [3, 4, 5, 11, 12, 100]) expect(report(message(type))).toBe(0);
      expect(report(message(8))).toBe(1);
      expect(report(ipv4({ source: PEER, destination: OWN, protocol: 1 }, new Uint8Array(0)))).toBe(0);
    });

    test.each([
      ["the length of an option is 0", "9e 00 0000", 21],
      ["an option reaches beyond the header", "01 01 9e 09", 23],
      ["an option without length in the last byte", "01 01 01 9e", 23],
    ])("parameter problem with a pointer: %s (RFC 1122 3.2.2.5)", (_name, options, pointer) => {
      const probe = connected();
      const packet = unwanted({ options: hex(options) });
      probe.input(ethernet(fromPeer, packet));
      const [report] = packets(probe);
      expect(report).toMatchObject({ source: OWN, destination: PEER, protocol: 1, checksumValid: true });
      const problem = parseIcmp(report?.payload as Uint8Array);
      expect(problem).toMatchObject({ type: 12, code: 0, rest: pointer * 2 ** 24, checksumValid: true });
      expect(problem.payload).toEqual(packet);
      expect(probe.counters()).toMatchObject({ dropIpOption: 1, icmpErrorsSent: 1 });
    });

    test("no parameter problem of what came to everybody, or asks to be routed", () => {
      const probe = connected();
      const toAll = { destination: "ff:ff:ff:ff:ff:ff", source: PEER_MAC };
      probe.input(ethernet(toAll, unwanted({ options: hex("9e 00 0000") })));
      probe.input(ethernet(fromPeer, unwanted({ options: hex("83 07 04 0a000003 00") })));
      probe.input(ethernet(fromPeer, unwanted({ destination: "10.0.0.255", options: hex("9e 00 0000") })));
      expect(probe.sent()).toEqual([]);
      expect(probe.counters()).toMatchObject({ dropIpOption: 3 });
    });

    test("a datagram to everybody that nobody takes is silent", () => {
      const probe = connected();
      const toAll = { destination: "ff:ff:ff:ff:ff:ff", source: PEER_MAC };
      for (const destination of ["10.0.0.255", OWN]) {
        const fields = { source: PEER, destination, sourcePort: 4000, destinationPort: 9 };
        probe.input(ethernet(toAll, udpPacket(fields, pattern(20))));
      }
      expect(probe.sent()).toEqual([]);
      expect(probe.counters()).toMatchObject({ dropUdpNoSocket: 2 });
    });

    test("the report goes back the way that the packet has come: nobody is asked first", () => {
      const probe = new IpProbe({ build });
      probe.input(ethernet(fromPeer, unwanted()));
      const sent = probe.sent();
      expect(sent.map((frame) => parseEthernet(frame).destination)).toEqual([PEER_MAC]);
      expect(parseIpv4(parseEthernet(sent[0] as Uint8Array).payload)).toMatchObject({ protocol: 1, destination: PEER });
    });
  });
});
