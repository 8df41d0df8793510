import { describe, expect, test } from "vitest";
import { formatAddress, parseAddress } from "../../../src/ip/address.ts";
import { RESULT_BASE, SCRATCH_BASE } from "../../../src/layout/kernelMemory.ts";
import { ECONNREFUSED, EMSGSIZE, ENETUNREACH } from "../../../src/layout/status.ts";
import { concat, macText, parseEthernet, pattern } from "../../helpers/packets.ts";
import {
  checked,
  checksum6,
  extension,
  FRAGMENT,
  fragmentHeader,
  fragmentIpv6,
  frame6,
  icmp6,
  icmp6Bytes,
  ICMPV6,
  ipv6,
  type Ipv6Fields,
  neighborMessage,
  parseIpv6,
  udp6Bytes,
} from "../../helpers/packets6.ts";
import { IpProbe, OWN_MAC, PROBE_BUILDS } from "../../helpers/probeIp.ts";

const OWN = "fd00::1";
const PEER = "fd00::2";
const OWN_LOCAL = "fe80::1";
const PEER_MAC = "02:00:00:00:00:02";
const OTHER_MAC = "02:00:00:00:00:03";
const OWN_GROUP = "ff02::1:ff00:1";
const SOLICITED = 0x40000000;
const OVERRIDE = 0x20000000;
const UDP = 17;
const between = { source: PEER, destination: OWN };

describe.each(PROBE_BUILDS)("IPv6, %s build", (build) => {
  function create(options: { mtuBytes?: number; gateway?: string } = {}): IpProbe {
    return new IpProbe({ build, addresses: [`${OWN}/64`, `${OWN_LOCAL}/64`], ...options });
  }
  const input = (probe: IpProbe, packet: Uint8Array, to = OWN_MAC, from = PEER_MAC) =>
    probe.input(frame6(to, from, packet));
  const sent = (probe: IpProbe) =>
    probe.sent().map((frame) => {
      const { destination, payload } = parseEthernet(frame);
      const packet = parseIpv6(payload);
      return { mac: destination, ...packet, from: formatAddress(packet.source), to: formatAddress(packet.destination) };
    });
  /** ICMPv6 messages sent, with their checksums verified. */
  const messages = (probe: IpProbe) =>
    sent(probe)
      .filter(({ nextHeader }) => nextHeader === ICMPV6)
      .map((packet) => {
        expect(checksum6(packet.source, packet.destination, ICMPV6, packet.payload)).toBe(0);
        return { ...packet, type: packet.payload[0], code: packet.payload[1], rest: packet.payload.subarray(4, 8) };
      });
  /** A probe that knows PEER. */
  function connected(options = {}): IpProbe {
    const probe = create(options);
    input(probe, neighborMessage({ source: PEER, destination: OWN_GROUP }, 135, OWN, PEER_MAC), "33:33:ff:00:00:01");
    probe.sent();
    return probe;
  }
  function udpSend(probe: IpProbe, handle: number, payload: Uint8Array, to: string, port: number): number {
    probe.bytes.set(parseAddress(to), SCRATCH_BASE);
    return probe.wasm.udpSendTo(handle, probe.place(payload), payload.length, SCRATCH_BASE, port);
  }
  function udpReceive(probe: IpProbe, handle: number) {
    const at = probe.wasm.udpRecvPeek(handle);
    if (at <= 0) return undefined;
    const payload = probe.bytes.slice(at, at + probe.memory.loadU32(RESULT_BASE));
    const remote = formatAddress(probe.bytes.slice(RESULT_BASE + 8, RESULT_BASE + 24));
    probe.wasm.udpRecvConsume(handle);
    return { payload, remote };
  }
  const udp = (payload: Uint8Array, fields: Partial<Ipv6Fields> = {}) =>
    checked({ ...between, nextHeader: UDP, ...fields }, udp6Bytes(4000, 53, payload), 6);

  describe("neighbour discovery (RFC 4861)", () => {
    test("a solicitation is answered to the sender, which is learnt", () => {
      const probe = create();
      input(probe, neighborMessage({ source: PEER, destination: OWN_GROUP }, 135, OWN, PEER_MAC), "33:33:ff:00:00:01");
      const [advertisement, ...others] = messages(probe);
      expect(others).toEqual([]);
      expect(advertisement).toMatchObject({ mac: PEER_MAC, from: OWN, to: PEER, hopLimit: 255, type: 136 });
      expect(advertisement?.payload[4]).toBe(0x60);
      expect(formatAddress(advertisement?.payload.slice(8, 24) ?? new Uint8Array(16))).toBe(OWN);
      expect(macText(advertisement?.payload.slice(26, 32) ?? new Uint8Array(6))).toBe(OWN_MAC);
      input(probe, icmp6(between, 128));
      expect(messages(probe)).toMatchObject([{ mac: PEER_MAC, type: 129 }]);
      expect(probe.counters()).toMatchObject({ ndAdvertisementsSent: 1, ndSolicitationsSent: 0 });
    });

    test("a probe from :: for our address is answered to all nodes (RFC 4862 5.4.3)", () => {
      const probe = create();
      input(probe, neighborMessage({ source: "::", destination: OWN_GROUP }, 135, OWN), "33:33:ff:00:00:01");
      expect(messages(probe)).toMatchObject([{ mac: "33:33:00:00:00:01", to: "ff02::1", type: 136 }]);
    });

    test.each([
      ["has passed a router", neighborMessage({ source: PEER, destination: OWN_GROUP, hopLimit: 64 }, 135, OWN)],
      [
        "names its sender and is from ::",
        neighborMessage({ source: "::", destination: OWN_GROUP }, 135, OWN, PEER_MAC),
      ],
      ["asks for a group", neighborMessage({ source: PEER, destination: OWN_GROUP }, 135, "ff02::5")],
      ["is short", icmp6({ ...between, hopLimit: 255 }, 135, { body: pattern(8) })],
      ["has an option of no length", icmp6({ ...between, hopLimit: 255 }, 135, { body: new Uint8Array(24) })],
      [
        "is solicited and to all",
        neighborMessage({ source: PEER, destination: "ff02::1" }, 136, PEER, PEER_MAC, SOLICITED),
      ],
    ])("refused: %s", (_name, packet) => {
      const probe = create();
      input(probe, packet, "33:33:ff:00:00:01");
      expect(probe.sent()).toEqual([]);
      expect(probe.counters()).toMatchObject({ dropNdMalformed: 1 });
    });

    test("resolution: asked by group, answered, what waited goes out", () => {
      const probe = create();
      const handle = probe.wasm.udpBind(-1, 53);
      expect(udpSend(probe, handle, pattern(10), PEER, 99)).toBe(10);
      expect(messages(probe)).toMatchObject([
        { mac: "33:33:ff:00:00:02", from: OWN, to: "ff02::1:ff00:2", hopLimit: 255, type: 135 },
      ]);
      input(probe, neighborMessage(between, 136, PEER, PEER_MAC, SOLICITED | OVERRIDE));
      expect(sent(probe)).toMatchObject([{ mac: PEER_MAC, nextHeader: UDP, to: PEER }]);
    });

    test("no answer: three solicitations, then the neighbour counts as gone", () => {
      const probe = create();
      const handle = probe.wasm.udpBind(-1, 53);
      udpSend(probe, handle, pattern(10), PEER, 99);
      probe.advance(3500);
      expect(messages(probe).map(({ type }) => type)).toEqual([135, 135, 135]);
      expect(probe.counters()).toMatchObject({ ndAdvertisementsSent: 0, ndSolicitationsSent: 3 });
      expect(udpSend(probe, handle, pattern(10), PEER, 99)).toBe(-113);
    });

    test("reachable, stale, delay, probe: unicast solicitations, then the entry goes (7.3.3)", () => {
      const probe = create();
      const handle = probe.wasm.udpBind(-1, 53);
      udpSend(probe, handle, pattern(1), PEER, 99);
      input(probe, neighborMessage(between, 136, PEER, PEER_MAC, SOLICITED));
      probe.sent();
      probe.advance(29_000);
      udpSend(probe, handle, pattern(1), PEER, 99);
      probe.advance(500);
      expect(messages(probe)).toEqual([]);
      probe.advance(2000);
      // Stale: used all the same, and five seconds later asked whether it is still there.
      udpSend(probe, handle, pattern(1), PEER, 99);
      expect(sent(probe)).toMatchObject([{ mac: PEER_MAC, nextHeader: UDP }]);
      probe.advance(4900);
      expect(probe.sent()).toEqual([]);
      probe.advance(200);
      expect(messages(probe)).toMatchObject([{ mac: PEER_MAC, to: PEER, type: 135 }]);
      probe.advance(3200);
      udpSend(probe, handle, pattern(1), PEER, 99);
      expect(messages(probe).at(-1)).toMatchObject({ mac: "33:33:ff:00:00:02" });
    });

    test("an advertisement without override does not change an address, one with it does (7.2.5)", () => {
      const probe = connected();
      const handle = probe.wasm.udpBind(-1, 53);
      input(probe, neighborMessage(between, 136, PEER, OTHER_MAC, 0));
      udpSend(probe, handle, pattern(1), PEER, 99);
      expect(sent(probe)).toMatchObject([{ mac: PEER_MAC }]);
      input(probe, neighborMessage(between, 136, PEER, OTHER_MAC, OVERRIDE));
      udpSend(probe, handle, pattern(1), PEER, 99);
      expect(sent(probe)).toMatchObject([{ mac: OTHER_MAC }]);
    });

    test("nobody's advertisement makes an entry; one for our address is a conflict", () => {
      const probe = create();
      input(probe, neighborMessage(between, 136, PEER, PEER_MAC, SOLICITED | OVERRIDE));
      input(probe, neighborMessage(between, 136, OWN, PEER_MAC, OVERRIDE));
      expect(probe.counters()).toMatchObject({ ndConflicts: 1 });
      input(probe, icmp6(between, 128));
      expect(messages(probe)).toMatchObject([{ type: 135 }]);
    });
  });

  describe("headers (RFC 8200)", () => {
    test.each([
      ["version 5", icmp6({ ...between, version: 5 } as never, 128), "dropIp6Header"],
      [
        "longer than its frame",
        ipv6({ ...between, nextHeader: ICMPV6, payloadBytes: 100 }, pattern(8)),
        "dropIp6Length",
      ],
      ["from a group", icmp6({ ...between, source: "ff02::1" }, 128), "dropIpSource"],
      ["from ::1", icmp6({ ...between, source: "::1" }, 128), "dropIpSource"],
      ["to ::1", icmp6({ ...between, destination: "::1" }, 128), "dropIpDestination"],
      ["from an IPv4 address in disguise", ipv6({ ...between, nextHeader: UDP }, udp6Bytes(1, 53, pattern(4))), ""],
      ["from ourselves", icmp6({ ...between, source: OWN }, 128), "dropIpSource"],
      ["to another", icmp6({ ...between, destination: "fd00::9" }, 128), "dropIpDestination"],
      ["to a group that we are not in", icmp6({ ...between, destination: "ff02::5" }, 128), "dropIpDestination"],
      [
        "wrong ICMPv6 checksum",
        ipv6({ ...between, nextHeader: ICMPV6 }, icmp6Bytes(128, 0, 0, pattern(4))),
        "dropIcmpChecksum",
      ],
    ])("refused: %s", (name, packet, counter) => {
      const probe = connected();
      if (counter === "") packet.set(parseAddress("::ffff:0:0").fill(0, 0, 10), 8);
      input(probe, packet);
      expect(
        messages(probe).filter(({ type }) => type === 129),
        name,
      ).toEqual([]);
      expect(probe.counters()[counter === "" ? "dropIpSource" : counter]).toBe(1);
    });

    test("every truncation of a packet is refused, and nothing behind is read", () => {
      const whole = udp(pattern(20));
      for (let bytes = 0; bytes < whole.length; bytes++) {
        const probe = connected();
        const handle = probe.wasm.udpBind(-1, 53);
        input(probe, whole.slice(0, bytes));
        expect(udpReceive(probe, handle)).toBeUndefined();
      }
    });

    test("extension headers are passed over; an atomic fragment is whole (RFC 6946)", () => {
      const probe = connected();
      const handle = probe.wasm.udpBind(-1, 53);
      const inner = parseIpv6(udp(pattern(33))).payload;
      const chain = [
        extension(60, Uint8Array.of(5, 2, 0, 0, 1, 0)), // hop-by-hop: router alert, PadN
        extension(43, Uint8Array.of(1, 4, 0x1e, 0, 0, 0)), // destination: option 0x1e of 0 bytes, to be skipped
        extension(44, Uint8Array.of(0, 0, 0, 0, 0, 0)), // routing type 0, no segments left
        fragmentHeader(UDP, 0, false, 9),
      ];
      input(probe, ipv6({ ...between, nextHeader: 0 }, ...chain, inner));
      expect(udpReceive(probe, handle)).toEqual({ payload: pattern(33), remote: PEER });
    });

    test.each([
      // Hop-by-hop options alone may stand first; the others are destination options.
      { what: "extension headers", bodies: (n: number) => Array.from({ length: n }, () => new Uint8Array(6)) },
      // PadN without bytes of its own, then Pad1.
      {
        what: "options in one",
        bodies: (n: number) => [Uint8Array.from({ length: 22 }, (_, i) => +(i < 2 * n && !(i & 1)))],
      },
    ])("eight $what are passed over, nine are not", ({ bodies }) => {
      const probe = connected();
      const handle = probe.wasm.udpBind(-1, 53);
      const inner = parseIpv6(udp(pattern(33))).payload;
      for (const n of [8, 9]) {
        const chain = bodies(n).map((body, i, all) => extension(i + 1 < all.length ? 60 : UDP, body));
        input(probe, ipv6({ ...between, nextHeader: 60 }, ...chain, inner));
      }
      expect(udpReceive(probe, handle)?.payload).toEqual(pattern(33));
      expect(udpReceive(probe, handle)).toBeUndefined();
      expect(probe.counters()).toMatchObject({ dropIp6Extension: 1 });
    });

    test("an extension header that is longer than its packet is dropped and counted", () => {
      const probe = connected();
      const header = extension(UDP, new Uint8Array(6));
      header[1] = 2;
      input(probe, ipv6({ ...between, nextHeader: 60 }, header, new Uint8Array(8)));
      expect(probe.sent()).toEqual([]);
      expect(probe.counters()).toMatchObject({ dropIp6Length: 1 });
    });

    test.each([
      ["routing type 0 with segments left", 43, extension(UDP, Uint8Array.of(0, 1, 0, 0, 0, 0)), 0, 42],
      ["unknown next header", 200, new Uint8Array(8), 1, 6],
      ["hop-by-hop not first", 60, concat(extension(0, new Uint8Array(6)), extension(UDP, new Uint8Array(6))), 1, 40],
      ["option that must be known", 60, extension(UDP, Uint8Array.of(0x85, 0, 0, 0, 0, 0)), 2, 42],
      ["option that must be known, not for groups", 60, extension(UDP, Uint8Array.of(0xc5, 0, 0, 0, 0, 0)), 2, 42],
    ])("reported: %s", (_name, nextHeader, headers, code, pointer) => {
      const probe = connected();
      input(probe, ipv6({ ...between, nextHeader }, headers, udp6Bytes(1, 2, pattern(4))));
      const [problem, ...others] = messages(probe);
      expect(others).toEqual([]);
      expect(problem).toMatchObject({ to: PEER, type: 4, code });
      expect([...(problem?.rest ?? [])]).toEqual([0, 0, 0, pointer]);
    });

    test.each([
      ["nothing follows", 59, new Uint8Array(0)],
      ["an option that asks for silence", 60, extension(UDP, Uint8Array.of(0x45, 0, 0, 0, 0, 0))],
      ["nine headers", 60, concat(...Array.from({ length: 9 }, () => extension(60, new Uint8Array(6))))],
      ["an option beyond its header", 60, extension(UDP, Uint8Array.of(1, 60, 0, 0, 0, 0))],
    ])("dropped without a word: %s", (_name, nextHeader, headers) => {
      const probe = connected();
      input(probe, ipv6({ ...between, nextHeader }, headers, udp6Bytes(1, 2, pattern(4))));
      expect(probe.sent()).toEqual([]);
    });
  });

  describe("ICMPv6 (RFC 4443)", () => {
    test.each([0, 1, 57, 1452, 4000])("echo of %i bytes", (bytes) => {
      const probe = connected();
      const request = icmp6Bytes(128, 0, 0x12340007, pattern(bytes));
      const packet = checked({ ...between, nextHeader: ICMPV6 }, request, 2);
      if (bytes <= 1452) input(probe, packet);
      else {
        const whole = parseIpv6(packet).payload;
        for (const piece of fragmentIpv6({ ...between, nextHeader: ICMPV6 }, whole, 1448)) input(probe, piece);
      }
      const replies = sent(probe);
      if (bytes > 1452) {
        expect(replies.map(({ nextHeader }) => nextHeader)).toEqual([FRAGMENT, FRAGMENT, FRAGMENT]);
        return;
      }
      expect(replies).toMatchObject([{ from: OWN, to: PEER, hopLimit: 64, nextHeader: ICMPV6 }]);
      const [{ payload, source, destination }] = replies as [(typeof replies)[0]];
      expect(checksum6(source, destination, ICMPV6, payload)).toBe(0);
      expect(payload.subarray(8)).toEqual(pattern(bytes));
      expect(payload[0]).toBe(129);
    });

    test("a request to all nodes is not answered", () => {
      const probe = connected();
      input(probe, icmp6({ source: PEER, destination: "ff02::1" }, 128), "33:33:00:00:00:01");
      expect(probe.sent()).toEqual([]);
    });

    test("errors are limited, and none is about an error", () => {
      const probe = connected();
      for (let i = 0; i < 200; i++) input(probe, udp(pattern(1)));
      expect(messages(probe).length).toBe(50);
      expect(probe.counters()).toMatchObject({ icmpRateLimited: 150 });
      probe.advance(1000);
      const error = icmp6Bytes(1, 4, 0, new Uint8Array(48));
      input(probe, ipv6({ ...between, nextHeader: 60 }, extension(200, new Uint8Array(6)), error));
      input(
        probe,
        ipv6({ ...between, nextHeader: FRAGMENT }, fragmentHeader(ICMPV6, 0, true, 1), error.subarray(0, 13)),
      );
      expect(messages(probe).map(({ type }) => type)).toEqual([4]);
    });
  });

  describe("UDP over IPv6", () => {
    test("there and back, the port unreachable where nobody listens", () => {
      const probe = connected();
      const handle = probe.wasm.udpBind(-1, 53);
      input(probe, udp(pattern(33)));
      expect(udpReceive(probe, handle)).toEqual({ payload: pattern(33), remote: PEER });
      expect(udpSend(probe, handle, pattern(5), PEER, 4000)).toBe(5);
      const [reply] = sent(probe);
      expect(
        checksum6(reply?.source as Uint8Array, reply?.destination as Uint8Array, UDP, reply?.payload as Uint8Array),
      ).toBe(0);
      probe.wasm.udpClose(handle);
      input(probe, udp(pattern(33)));
      const [error] = messages(probe);
      expect(error).toMatchObject({ type: 1, code: 4 });
      expect(error?.payload.subarray(8)).toEqual(udp(pattern(33)));
    });

    test("without a checksum it is dropped (RFC 8200 8.1)", () => {
      const probe = connected();
      probe.wasm.udpBind(-1, 53);
      input(probe, ipv6({ ...between, nextHeader: UDP }, udp6Bytes(1, 53, pattern(4))));
      expect(probe.counters()).toMatchObject({ dropUdpChecksum: 1, udpReceived: 0 });
    });

    test("wildcards: dual, IPv4 only, IPv6 only, as in Linux", () => {
      const probe = new IpProbe({ build, addresses: ["10.0.0.1/24", `${OWN}/64`] });
      const v6 = probe.wasm.udpBind(-3, 53);
      const v4 = probe.wasm.udpBind(-2, 53);
      expect(v6).toBeGreaterThan(0);
      expect(v4).toBeGreaterThan(0);
      expect(probe.wasm.udpBind(-1, 53)).toBe(-98);
      input(probe, udp(pattern(3)));
      expect(udpReceive(probe, v6)).toMatchObject({ remote: PEER });
      expect(udpReceive(probe, v4)).toBeUndefined();
      expect(udpSend(probe, v4, pattern(1), PEER, 9)).toBe(ENETUNREACH);
      expect(udpSend(probe, v6, pattern(1), "10.0.0.2", 9)).toBe(ENETUNREACH);
    });

    test("a narrow path is learnt from a quoted datagram of ours, and not from others", () => {
      const probe = connected();
      const handle = probe.wasm.udpBind(-1, 53);
      const quote = checked({ source: OWN, destination: PEER, nextHeader: UDP }, udp6Bytes(53, 99, pattern(40)), 6);
      const foreign = checked({ source: OWN, destination: PEER, nextHeader: UDP }, udp6Bytes(54, 99, pattern(40)), 6);
      input(probe, icmp6(between, 2, { rest: 1300, body: foreign }));
      udpSend(probe, handle, pattern(1400), PEER, 99);
      expect(sent(probe).length).toBe(1);
      input(probe, icmp6(between, 2, { rest: 1300, body: quote }));
      expect(probe.events()).toMatchObject([{ handle, status: EMSGSIZE }]);
      udpSend(probe, handle, pattern(1400), PEER, 99);
      const pieces = sent(probe);
      expect(pieces.map(({ nextHeader }) => nextHeader)).toEqual([FRAGMENT, FRAGMENT]);
      expect(pieces.every(({ payload }) => payload.length + 40 <= 1300)).toBe(true);
      // RFC 8200 5: nothing is narrower than 1280.
      input(probe, icmp6(between, 2, { rest: 600, body: quote }));
      udpSend(probe, handle, pattern(1400), PEER, 99);
      expect(sent(probe)[0]?.payload.length).toBe(1280 - 40);
      probe.advance(600_100);
      udpSend(probe, handle, pattern(1400), PEER, 99);
      input(probe, neighborMessage(between, 136, PEER, PEER_MAC, SOLICITED));
      expect(sent(probe).filter(({ nextHeader }) => nextHeader === UDP).length).toBe(1);
    });

    test("port unreachable about our datagram reaches the socket", () => {
      const probe = connected();
      const handle = probe.wasm.udpBind(-1, 53);
      const quote = checked({ source: OWN, destination: PEER, nextHeader: UDP }, udp6Bytes(53, 99, pattern(4)), 6);
      input(probe, icmp6(between, 1, { code: 4, body: quote }));
      expect(probe.events()).toMatchObject([{ handle, status: ECONNREFUSED }]);
    });

    test("routes: none, by gateway, link-local from the link-local address", () => {
      const probe = create();
      const handle = probe.wasm.udpBind(-1, 53);
      expect(udpSend(probe, handle, pattern(1), "2001:db8::1", 9)).toBe(ENETUNREACH);
      expect(udpSend(probe, handle, pattern(1), "fe80::7", 9)).toBe(1);
      expect(messages(probe)).toMatchObject([{ from: OWN_LOCAL, to: "ff02::1:ff00:7" }]);
    });
  });

  describe("source address selection (RFC 6724 5)", () => {
    const [near, first, second] = [OWN, "2001:db8:1::1", "2001:db8:2::1"];
    function routed(): { probe: IpProbe; from: (to: string) => string } {
      const addresses = [second, first, near, OWN_LOCAL].map((address) => `${address}/64`);
      const probe = new IpProbe({ build, addresses, gateway: PEER });
      for (const who of [PEER, "fe80::7"]) {
        const whom = who === PEER ? { at: OWN, group: OWN_GROUP } : { at: OWN_LOCAL, group: OWN_GROUP };
        const asks = neighborMessage({ source: who, destination: whom.group }, 135, whom.at, PEER_MAC);
        input(probe, asks, "33:33:ff:00:00:01");
      }
      probe.sent();
      const handle = probe.wasm.udpBind(-1, 53);
      const from = (to: string) => {
        expect(udpSend(probe, handle, pattern(1), to, 9)).toBe(1);
        return sent(probe)
          .filter(({ nextHeader }) => nextHeader === UDP)
          .map((packet) => packet.from)
          .join();
      };
      return { probe, from };
    }

    test.each([
      ["rule 2, a neighbour on the link", "fe80::7", OWN_LOCAL],
      ["rule 2, a group on the link", "ff02::5", OWN_LOCAL],
      ["rule 8, on the same network", "fd00::2", near],
      ["rule 8, by the first bits", "2001:db8:1:5::9", first],
      ["rule 8, by the first bits", "2001:db8:2:5::9", second],
      ["rule 8, a prefix of 8 bits", "fd77::9", near],
    ])("%s: %s from %s", (_rule, to, source) => {
      expect(routed().from(to)).toBe(source);
    });

    test("rule 3: a deprecated address only where there is no other", () => {
      const { probe, from } = routed();
      const deprecate = (address: string) => {
        probe.bytes.set(parseAddress(address), SCRATCH_BASE);
        expect(probe.wasm.addressDeprecate(SCRATCH_BASE, 1)).toBeGreaterThanOrEqual(0);
      };
      deprecate(second);
      expect(from("2001:db8:2:5::9")).toBe(first);
      deprecate(first);
      deprecate(near);
      expect(from("2001:db8:2:5::9")).toBe(second);
    });

    test("rule 2 is before rule 3: a deprecated link-local address for the link", () => {
      const { probe, from } = routed();
      probe.bytes.set(parseAddress(OWN_LOCAL), SCRATCH_BASE);
      expect(probe.wasm.addressDeprecate(SCRATCH_BASE, 1)).toBeGreaterThanOrEqual(0);
      expect(from("fe80::7")).toBe(OWN_LOCAL);
    });
  });

  describe("fragments (RFC 8200 4.5, RFC 5722)", () => {
    const whole = udp(pattern(3000));
    const fields = { ...between, nextHeader: UDP };
    const pieces = fragmentIpv6(fields, parseIpv6(whole).payload, 1024);

    test.each([
      ["in order", [0, 1, 2]],
      ["backwards", [2, 1, 0]],
      ["with copies", [1, 1, 0, 0, 2]],
    ])("%s", (_name, order) => {
      const probe = connected();
      const handle = probe.wasm.udpBind(-1, 53);
      for (const index of order) input(probe, pieces[index] as Uint8Array);
      expect(udpReceive(probe, handle)?.payload).toEqual(pattern(3000));
    });

    test("an atomic one belongs to no other, whatever identification it has (RFC 6946 4)", () => {
      const probe = connected();
      const handle = probe.wasm.udpBind(-1, 53);
      const [first, ...others] = pieces as [Uint8Array, ...Uint8Array[]];
      input(probe, first);
      const atomic = fragmentHeader(UDP, 0, false, 7);
      input(probe, ipv6({ ...fields, nextHeader: FRAGMENT }, atomic, parseIpv6(udp(pattern(33))).payload));
      expect(udpReceive(probe, handle)?.payload).toEqual(pattern(33));
      for (const piece of others) input(probe, piece);
      expect(udpReceive(probe, handle)?.payload).toEqual(pattern(3000));
    });

    test("an overlap condemns the packet", () => {
      const probe = connected();
      const handle = probe.wasm.udpBind(-1, 53);
      input(probe, pieces[0] as Uint8Array);
      input(probe, ipv6({ ...fields, nextHeader: FRAGMENT }, fragmentHeader(UDP, 1016, true, 7), pattern(1024)));
      for (const piece of pieces) input(probe, piece);
      expect(udpReceive(probe, handle)).toBeUndefined();
      expect(probe.counters()).toMatchObject({ dropFragmentInvalid: 5, gaugeReassemblyBytes: 0 });
    });

    test.each([
      ["not whole eights", fragmentHeader(UDP, 0, true, 1), pattern(13), 0, 4],
      ["beyond the largest packet", fragmentHeader(UDP, 65528, false, 1), pattern(16), 0, 42],
      ["a first one without its headers (RFC 7112)", fragmentHeader(6, 0, true, 1), pattern(16), 3, 0],
    ])("reported: %s", (_name, header, payload, code, pointer) => {
      const probe = connected();
      input(probe, ipv6({ ...fields, nextHeader: FRAGMENT }, header, payload));
      const [problem] = messages(probe);
      expect(problem).toMatchObject({ type: 4, code });
      expect(problem?.rest[3]).toBe(pointer);
    });

    test("after 60 seconds the sender of the first fragment is told", () => {
      const probe = connected();
      input(probe, pieces[0] as Uint8Array);
      probe.advance(59_000);
      expect(probe.counters()).toMatchObject({ dropFragmentTimeout: 0 });
      probe.advance(1200);
      expect(messages(probe).filter(({ type }) => type === 3)).toMatchObject([{ code: 1, to: PEER }]);
      expect(probe.counters()).toMatchObject({ dropFragmentTimeout: 1 });
    });

    test("what is sent in fragments is put together again", () => {
      const probe = connected({ mtuBytes: 1280 });
      const handle = probe.wasm.udpBind(-1, 53);
      expect(udpSend(probe, handle, pattern(5000), PEER, 9)).toBe(5000);
      const out = sent(probe).map(({ payload }) => payload);
      expect(out.length).toBe(5);
      const joined = concat(...out.map((payload) => payload.subarray(8)));
      expect(joined.subarray(8)).toEqual(pattern(5000));
      expect(checksum6(parseAddress(OWN), parseAddress(PEER), UDP, joined)).toBe(0);
    });
  });
});

test("a stack with IPv4 addresses only does not speak IPv6", () => {
  const probe = new IpProbe({ addresses: ["10.0.0.1/24"] });
  probe.input(frame6(OWN_MAC, PEER_MAC, icmp6(between, 128)));
  expect(probe.sent()).toEqual([]);
  expect(probe.counters()).toMatchObject({ dropEthertypeUnknown: 1 });
});
