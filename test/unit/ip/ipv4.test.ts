import { describe, expect, test } from "vitest";
import { EADDRNOTAVAIL, EHOSTUNREACH, EMSGSIZE, ENETUNREACH, ENOBUFS } from "../../../src/layout/status.ts";
import {
  arp,
  concat,
  hex,
  type Ipv4Fields,
  ipv4,
  parseArp,
  parseEthernet,
  parseIpv4,
  pattern,
  v4Word,
} from "../../helpers/packets.ts";
import { IpProbe, OWN_MAC, PROBE_BUILDS } from "../../helpers/probeIp.ts";

const PEER_MAC = "02:00:00:00:00:02";
const PEER = "10.0.0.2";
const OWN = "10.0.0.1";
const basic: Ipv4Fields = { source: PEER, destination: OWN, protocol: 253 };

describe.each(PROBE_BUILDS)("IPv4, %s build", (build) => {
  describe("ipv4Check", () => {
    const probe = new IpProbe({ build });
    const check = (packet: Uint8Array) => probe.wasm.ipv4Check(probe.place(packet), packet.length);

    /** Checks a packet that must be refused. @returns names of the counters that went up. */
    function refusal(packet: Uint8Array): string[] {
      const before = probe.counters();
      expect(check(packet)).toBe(-1);
      return Object.entries(probe.counters()).flatMap(([name, n]) =>
        n === before[name] ? [] : `${name}+${n - (before[name] ?? 0)}`,
      );
    }

    test("a header without options", () => {
      expect(check(ipv4(basic, pattern(100)))).toBe(20);
      expect(check(ipv4(basic, new Uint8Array(0)))).toBe(20);
    });

    test("a header with a checksum that somebody else computed", () => {
      // 45 00 0073, id 0, DF, TTL 64, UDP, checksum b861, 192.168.0.1 > 192.168.0.199
      const header = hex("4500 0073 0000 4000 4011 b861 c0a8 0001 c0a8 00c7");
      expect(check(concat(header, new Uint8Array(0x73 - 20)))).toBe(20);
    });

    test("Ethernet padding behind the packet is fine", () => {
      expect(check(concat(ipv4(basic, pattern(4)), new Uint8Array(22)))).toBe(20);
    });

    test.each([
      ["none to the end", "00000000", 24],
      ["NOPs", "01010101 01010100", 28],
      ["record route, 4 addresses long", `07 13 04 ${"00".repeat(16)} 00`, 40],
      ["timestamp", "44 0c 05 00 00000000 00000000", 32],
      ["router alert", "94 04 0000", 24],
      ["unknown, at the very end", "01 01 9e 02", 24],
      ["anything behind the end of options", "00 83 83 83", 24],
      ["40 bytes", "01".repeat(40), 60],
    ])("options are skipped: %s", (_name, options, headerBytes) => {
      expect(check(ipv4({ ...basic, options: hex(options) }, pattern(8)))).toBe(headerBytes);
    });

    test.each([
      ["loose source route", "83 07 04 0a000003 00"],
      ["strict source route", "89 07 04 0a000003 00"],
      ["length 0", "9e 00 0000"],
      ["length 1", "9e 01 0000"],
      ["length beyond the header", "9e 05 0000"],
      ["kind without length in the last byte", "01 01 01 9e"],
    ])("options are refused: %s", (_name, options) => {
      expect(refusal(ipv4({ ...basic, options: hex(options) }, pattern(8)))).toEqual(["dropIpOption+1"]);
      // And with nothing behind the header, where reading on would trap.
      expect(refusal(ipv4({ ...basic, options: hex(options) }, new Uint8Array(0)))).toEqual(["dropIpOption+1"]);
    });

    test.each([
      ["version 6", { version: 6 }, "dropIpHeader+1"],
      ["header of 16 bytes", { headerBytes: 16 }, "dropIpHeader+1"],
      ["header longer than the packet's length", { headerBytes: 60 }, "dropIpLength+1"],
      ["length shorter than the header", { totalBytes: 19 }, "dropIpLength+1"],
      ["length one byte beyond the frame", { totalBytes: 20 + 31 }, "dropIpLength+1"],
      ["wrong checksum", { checksum: 0x1234 }, "dropIpChecksum+1"],
      ["source 0.0.0.0", { source: "0.0.0.0" }, "dropIpSource+1"],
      ["source in 0/8", { source: "0.1.2.3" }, "dropIpSource+1"],
      ["source loopback", { source: "127.0.0.1" }, "dropIpSource+1"],
      ["source multicast", { source: "224.0.0.1" }, "dropIpSource+1"],
      ["source in class E", { source: "240.0.0.1" }, "dropIpSource+1"],
      ["source broadcast", { source: "255.255.255.255" }, "dropIpSource+1"],
      ["source directed broadcast", { source: "10.0.0.255" }, "dropIpSource+1"],
      ["source is our own address", { source: OWN }, "dropIpSource+1"],
    ] as [string, Partial<Ipv4Fields>, string][])("refused: %s", (_name, fields, counter) => {
      expect(refusal(ipv4({ ...basic, ...fields }, pattern(30)))).toEqual([counter]);
    });

    test("0.0.0.0 may speak to everybody only", () => {
      expect(check(ipv4({ ...basic, source: "0.0.0.0", destination: "255.255.255.255" }, pattern(8)))).toBe(20);
    });

    test("every truncation is refused, and nothing behind the bytes is read", () => {
      const whole = ipv4({ ...basic, options: hex("07 07 04 00000000 00") }, new Uint8Array(0));
      // place() puts the packet at the end of memory: one byte too many would trap.
      for (let bytes = 0; bytes < whole.length; bytes++) expect(check(whole.slice(0, bytes))).toBe(-1);
      expect(check(whole)).toBe(28);
    });

    test("every one-bit error is found", () => {
      const header = ipv4({ ...basic, identification: 0x1234, ttl: 17 }, new Uint8Array(0));
      for (let bit = 0; bit < 160; bit++) {
        const wrong = header.slice();
        wrong[bit >> 3] = (wrong[bit >> 3] as number) ^ (1 << (bit & 7));
        expect(check(wrong)).toBe(-1);
      }
    });
  });

  describe("ipv4WriteHeader", () => {
    const probe = new IpProbe({ build });
    test.each([
      [20, 6, "10.0.0.1", "10.0.0.2", 0],
      [1500, 6, "192.168.1.1", "8.8.8.8", 0xb8],
      [65535, 17, "255.255.255.255", "255.255.255.255", 0xff],
      [40, 1, "0.0.0.0", "0.0.0.1", 1],
      // The sum folds to all ones: the checksum is 0.
      [20, 0, "255.255.255.255", "0.0.58.235", 0],
    ])("%i bytes, protocol %i, %s > %s, tos %i", (totalBytes, protocol, source, destination, tos) => {
      const at = probe.place(new Uint8Array(20));
      probe.wasm.ipv4WriteHeader(at, totalBytes, protocol, v4Word(source), v4Word(destination), tos);
      const payload = new Uint8Array(totalBytes - 20);
      const expected = ipv4({ source, destination, protocol, tos, dontFragment: true }, payload).slice(0, 20);
      expect(probe.bytes.slice(at, at + 20)).toEqual(expected);
    });
  });

  describe("ipv4Send", () => {
    function connected(options: { mtuBytes?: number; gateway?: string; addresses?: string[] } = {}): IpProbe {
      const probe = new IpProbe({ build, ...options });
      probe.input(arp({ operation: "request", senderMac: PEER_MAC, senderV4: PEER, targetV4: OWN }));
      probe.sent();
      return probe;
    }
    const send = (probe: IpProbe, destination: string, payload: Uint8Array, addressIndex = -1) =>
      probe.wasm.ipv4Send(addressIndex, v4Word(destination), 253, probe.place(payload), payload.length);
    const packets = (probe: IpProbe) => probe.sent().map((frame) => parseIpv4(parseEthernet(frame).payload));

    test("one packet with DF and identification 0", () => {
      const probe = connected();
      expect(send(probe, PEER, pattern(1480))).toBe(1480);
      expect(packets(probe)).toMatchObject([
        {
          source: OWN,
          destination: PEER,
          protocol: 253,
          ttl: 64,
          identification: 0,
          dontFragment: true,
          totalBytes: 1500,
          checksumValid: true,
          payload: pattern(1480),
        },
      ]);
    });

    test("a datagram larger than the MTU goes in fragments that make up the whole", () => {
      const probe = connected({ mtuBytes: 577 }); // 557 payload bytes, of which 552 can be used
      const payload = pattern(2000);
      expect(send(probe, PEER, payload)).toBe(2000);
      const pieces = packets(probe);
      expect(pieces.map((piece) => [piece.fragmentOffset, piece.payload.length, piece.moreFragments])).toEqual([
        [0, 552, true],
        [552, 552, true],
        [1104, 552, true],
        [1656, 344, false],
      ]);
      expect(concat(...pieces.map((piece) => piece.payload))).toEqual(payload);
      expect(new Set(pieces.map((piece) => piece.identification)).size).toBe(1);
      expect(pieces.every((piece) => piece.checksumValid && !piece.dontFragment)).toBe(true);
    });

    test("identifications differ from datagram to datagram and from seed to seed", () => {
      const idents = (seed: number) => {
        const probe = new IpProbe({ build, seed, mtuBytes: 576 });
        probe.input(arp({ operation: "request", senderMac: PEER_MAC, senderV4: PEER, targetV4: OWN }));
        for (let i = 0; i < 20; i++) send(probe, PEER, pattern(600));
        return probe
          .sent()
          .slice(1)
          .map((frame) => parseIpv4(parseEthernet(frame).payload).identification);
      };
      const first = idents(1);
      expect(new Set(first).size).toBe(20);
      expect(idents(1)).toEqual(first);
      expect(idents(2)).not.toEqual(first);
    });

    test("the largest datagram, and one byte more", () => {
      const probe = connected();
      expect(send(probe, PEER, new Uint8Array(65515))).toBe(65515);
      expect(concat(...packets(probe).map((piece) => piece.payload)).length).toBe(65515);
      expect(send(probe, PEER, new Uint8Array(65516))).toBe(EMSGSIZE);
      expect(probe.sent()).toEqual([]);
    });

    test("no route, no such address, own address", () => {
      const probe = connected({ addresses: ["10.0.0.1/24", "fd00::1/64"] });
      expect(send(probe, "8.8.8.8", pattern(8))).toBe(ENETUNREACH);
      expect(probe.counters()).toMatchObject({ dropNoRoute: 1 });
      expect(send(probe, PEER, pattern(8), 1)).toBe(EADDRNOTAVAIL);
      // Behind the own addresses are 127.0.0.1 and ::1.
      expect(send(probe, PEER, pattern(8), 2)).toBe(ENETUNREACH);
      expect(send(probe, PEER, pattern(8), 4)).toBe(EADDRNOTAVAIL);
      expect(send(probe, "127.0.0.2", pattern(8))).toBe(ENETUNREACH);
      expect(send(probe, "127.0.0.1", pattern(8), 0)).toBe(8);
      expect(send(probe, OWN, pattern(8))).toBe(8);
      expect(probe.counters()).toMatchObject({ loopFrames: 2 });
      expect(probe.sent()).toEqual([]);
    });

    test("a host that does not answer", () => {
      const probe = connected();
      expect(send(probe, "10.0.0.77", pattern(8))).toBe(8);
      probe.advance(3500);
      expect(send(probe, "10.0.0.77", pattern(8))).toBe(EHOSTUNREACH);
    });

    test("broadcast and multicast need no neighbour", () => {
      const probe = connected();
      for (const v4 of ["255.255.255.255", "10.0.0.255", "239.129.2.3"]) send(probe, v4, pattern(8));
      const frames = probe.sent().map(parseEthernet);
      expect(frames.map((frame) => frame.destination)).toEqual([
        "ff:ff:ff:ff:ff:ff",
        "ff:ff:ff:ff:ff:ff",
        "01:00:5e:01:02:03",
      ]);
      expect(frames.every((frame) => frame.source === OWN_MAC && frame.etherType === 0x0800)).toBe(true);
      const parsed = frames.map((frame) => parseIpv4(frame.payload));
      expect(parsed.map((packet) => packet.ttl)).toEqual([64, 64, 1]);
      expect(parsed.every((packet) => packet.checksumValid)).toBe(true);
    });

    test("from the address in the destination's network, or the one that was asked for", () => {
      const probe = connected({ addresses: ["10.0.0.1/24", "192.168.5.7/24"], gateway: "10.0.0.2" });
      send(probe, "192.168.5.9", pattern(8));
      expect(probe.sent().map(parseArp)).toMatchObject([{ senderV4: "192.168.5.7", targetV4: "192.168.5.9" }]);
      send(probe, "8.8.8.8", pattern(8));
      send(probe, "8.8.8.8", pattern(8), 1);
      expect(packets(probe).map((packet) => packet.source)).toEqual([OWN, "192.168.5.7"]);
    });

    test("a full TX ring is said, and nothing is half written", () => {
      const probe = new IpProbe({ build, tuning: { txRingBytes: 16384 } });
      probe.input(arp({ operation: "request", senderMac: PEER_MAC, senderV4: PEER, targetV4: OWN }));
      let sent = 0;
      while (send(probe, PEER, pattern(1400)) > 0) sent++;
      expect(send(probe, PEER, pattern(1400))).toBe(ENOBUFS);
      expect(probe.sent()).toHaveLength(1 + sent); // the ARP reply first
      expect(probe.counters().txRingFull).toBeGreaterThan(0);
      expect(send(probe, PEER, pattern(1400))).toBe(1400);
    });
  });
});
