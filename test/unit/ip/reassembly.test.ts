import { describe, expect, test } from "vitest";
import {
  arp,
  ethernet,
  fragmentIpv4,
  type Ipv4Fields,
  ipv4,
  parseEthernet,
  parseIcmp,
  parseIpv4,
  pattern,
  tcp,
} from "../../helpers/packets.ts";
import { IpProbe, OWN_MAC, PROBE_BUILDS } from "../../helpers/probeIp.ts";

const PEER_MAC = "02:00:00:00:00:02";
const PEER = "10.0.0.2";
const OWN = "10.0.0.1";
const datagram: Ipv4Fields = { source: PEER, destination: OWN, protocol: 253, identification: 77 };

describe.each(PROBE_BUILDS)("reassembly, %s build", (build) => {
  /** @returns the whole packet when this fragment completes it. */
  function take(probe: IpProbe, fragment: Uint8Array): Uint8Array | undefined {
    const { headerBytes, totalBytes } = parseIpv4(fragment);
    const at = probe.wasm.reassemblyInput(probe.place(fragment), headerBytes, totalBytes) >>> 0;
    if (at === 0) return undefined;
    const total = ((probe.bytes[at + 2] as number) << 8) | (probe.bytes[at + 3] as number);
    return probe.bytes.slice(at, at + total);
  }
  const takeAll = (probe: IpProbe, fragments: readonly Uint8Array[]) =>
    fragments.map((fragment) => take(probe, fragment));
  const fragment = (offset: number, bytes: number, more: boolean, fields: Partial<Ipv4Fields> = {}) =>
    ipv4({ ...datagram, fragmentOffset: offset, moreFragments: more, ...fields }, pattern(bytes, offset));

  test("in order, reversed, and any way in between", () => {
    const payload = pattern(4000);
    const pieces = fragmentIpv4(datagram, payload, 1480);
    const [a, b, c] = pieces as [Uint8Array, Uint8Array, Uint8Array];
    for (const order of [
      [a, b, c],
      [c, b, a],
      [b, c, a],
      [b, a, c],
      [c, a, b],
      [a, c, b],
    ]) {
      const probe = new IpProbe({ build });
      const results = takeAll(probe, order);
      expect(results.slice(0, 2)).toEqual([undefined, undefined]);
      const whole = parseIpv4(results[2] as Uint8Array);
      expect(whole).toMatchObject({
        ...datagram,
        totalBytes: 4020,
        moreFragments: false,
        fragmentOffset: 0,
        checksumValid: true,
      });
      expect(whole.payload).toEqual(payload);
      expect(probe.counters()).toMatchObject({ fragmentsReassembled: 3, gaugeReassemblyBytes: 0 });
      expect(probe.wasm.reassemblyHasDeadline()).toBe(0);
    }
  });

  test("the header is the first fragment's, options included", () => {
    const probe = new IpProbe({ build });
    const options = pattern(8).fill(1);
    take(probe, fragment(16, 5, false, { ttl: 9 }));
    const whole = parseIpv4(take(probe, fragment(0, 16, true, { options, ttl: 17 })) as Uint8Array);
    expect(whole).toMatchObject({ headerBytes: 28, totalBytes: 28 + 21, ttl: 17, checksumValid: true, options });
  });

  test("packets that differ in one of address, identification or protocol are not mixed", () => {
    const probe = new IpProbe({ build });
    const keys: Partial<Ipv4Fields>[] = [
      {},
      { source: "10.0.0.3" },
      { destination: "10.0.0.7" },
      { identification: 78 },
      { protocol: 254 },
    ];
    for (const key of keys) expect(take(probe, fragment(0, 8, true, key))).toBeUndefined();
    for (const key of keys) {
      expect(parseIpv4(take(probe, fragment(8, 8, false, key)) as Uint8Array)).toMatchObject({ ...datagram, ...key });
    }
  });

  test("the largest packet, in fragments larger than a block and in the smallest", () => {
    for (const pieceBytes of [1480, 65512, 8192, 2032, 2040]) {
      const probe = new IpProbe({ build });
      const payload = pattern(65515);
      const whole = takeAll(probe, fragmentIpv4(datagram, payload, pieceBytes)).at(-1);
      expect(parseIpv4(whole as Uint8Array).payload).toEqual(payload);
    }
  });

  test("exact duplicates are ignored", () => {
    const probe = new IpProbe({ build });
    const pieces = fragmentIpv4(datagram, pattern(9000), 3000);
    const [a, b, c] = pieces as [Uint8Array, Uint8Array, Uint8Array];
    const results = takeAll(probe, [a, a, c, c, a, b]);
    expect(parseIpv4(results[5] as Uint8Array).payload).toEqual(pattern(9000));
    expect(results.slice(0, 5)).toEqual(Array(5).fill(undefined));
    expect(probe.counters()).toMatchObject({ dropFragmentInvalid: 0 });
  });

  describe("contradictions condemn the packet, late fragments included", () => {
    test.each<[string, [number, number, boolean][]]>([
      [
        "overlap with the one before",
        [
          [0, 16, true],
          [8, 16, true],
        ],
      ],
      [
        "overlap with the one after",
        [
          [16, 16, true],
          [8, 16, true],
        ],
      ],
      [
        "inside another",
        [
          [0, 64, true],
          [16, 8, true],
        ],
      ],
      [
        "around another",
        [
          [16, 8, true],
          [0, 64, true],
        ],
      ],
      [
        "same start, other length",
        [
          [0, 16, true],
          [0, 24, true],
        ],
      ],
      [
        "same range, but now the last",
        [
          [8, 8, true],
          [8, 8, false],
        ],
      ],
      [
        "second end, shorter",
        [
          [64, 8, false],
          [32, 8, false],
        ],
      ],
      [
        "second end, longer",
        [
          [32, 8, false],
          [64, 8, false],
        ],
      ],
      [
        "beyond the end",
        [
          [32, 8, false],
          [40, 8, true],
        ],
      ],
      [
        "an end before what is there",
        [
          [64, 8, true],
          [32, 8, false],
        ],
      ],
    ])("%s", (_name, pieces) => {
      const probe = new IpProbe({ build });
      for (const [offset, bytes, more] of pieces) expect(take(probe, fragment(offset, bytes, more))).toBeUndefined();
      expect(probe.counters()).toMatchObject({ dropFragmentInvalid: pieces.length, gaugeReassemblyBytes: 0 });
      // A whole and valid set of the same packet does not bring it back …
      expect(takeAll(probe, fragmentIpv4(datagram, pattern(48), 24))).toEqual([undefined, undefined]);
      // … until its time is over.
      probe.advance(15_200);
      expect(takeAll(probe, fragmentIpv4(datagram, pattern(48), 24)).at(-1)).toBeDefined();
    });
  });

  describe("fragments that are wrong in themselves", () => {
    const tcpFields = { protocol: 6 };
    test.each<[string, Uint8Array]>([
      ["no payload", fragment(8, 0, true)],
      ["no payload, last", fragment(8, 0, false)],
      ["not the last, no multiple of 8", fragment(8, 13, true)],
      ["one byte beyond 65535", fragment(65512, 4, false)],
      ["far beyond 65535 (ping of death)", fragment(65528, 1480, false)],
      ["TCP header cut (RFC 1858): 8 bytes", fragment(0, 8, true, tcpFields)],
      ["TCP header cut: 16 bytes", fragment(0, 16, true, tcpFields)],
      ["TCP fragment at offset 8 (RFC 3128)", fragment(8, 64, true, tcpFields)],
      ["TCP fragment at offset 16", fragment(16, 64, false, tcpFields)],
    ])("%s", (_name, bytes) => {
      const probe = new IpProbe({ build });
      expect(take(probe, bytes)).toBeUndefined();
      expect(probe.counters()).toMatchObject({ dropFragmentInvalid: 1, gaugeReassemblyBytes: 0 });
      expect(probe.wasm.reassemblyHasDeadline()).toBe(0);
    });

    test("TCP whose first fragment holds the header is put together", () => {
      const probe = new IpProbe({ build });
      const segment = tcp({ source: PEER, destination: OWN, sourcePort: 1, destinationPort: 2 }, pattern(100));
      const whole = takeAll(probe, fragmentIpv4({ ...datagram, protocol: 6 }, segment, 24)).at(-1);
      expect(parseIpv4(whole as Uint8Array).payload).toEqual(segment);
    });

    test("together they would be longer than 65535 because of the first one's options", () => {
      const probe = new IpProbe({ build });
      take(probe, fragment(65496, 19, false));
      let last: Uint8Array | undefined;
      for (let offset = 0; offset < 65496; offset += 8184) {
        const bytes = Math.min(8184, 65496 - offset);
        last = take(probe, fragment(offset, bytes, true, offset === 0 ? { options: new Uint8Array(40).fill(1) } : {}));
      }
      expect(last).toBeUndefined();
      expect(probe.counters()).toMatchObject({ gaugeReassemblyBytes: 0, fragmentsReassembled: 0 });
    });
  });

  describe("congestion marks (RFC 3168 5.3)", () => {
    const together = (first: number, second: number) => {
      const probe = new IpProbe({ build });
      take(probe, fragment(0, 8, true, { tos: first }));
      const whole = take(probe, fragment(8, 8, false, { tos: second }));
      return whole && parseIpv4(whole);
    };
    test("survive on any fragment", () => {
      expect(together(2, 3)).toMatchObject({ tos: 3, checksumValid: true });
      expect(together(3, 2)).toMatchObject({ tos: 3, checksumValid: true });
      expect(together(2, 2)).toMatchObject({ tos: 2, checksumValid: true });
    });
    test("beside a fragment that is not capable of them: forged", () => {
      expect(together(0, 3)).toBeUndefined();
    });
  });

  describe("limits", () => {
    test("memory: the packet that waits longest goes, and its fragments are counted", () => {
      const probe = new IpProbe({ build, tuning: { reassemblyBytesMax: 8 * 2048 } });
      for (let id = 0; id < 5; id++) {
        take(probe, fragment(0, 1480, true, { identification: id }));
        take(probe, fragment(1480, 1480, true, { identification: id }));
        probe.advance(100);
      }
      expect(probe.counters()).toMatchObject({ dropFragmentLimit: 2, gaugeReassemblyBytes: 8 * 2048 });
      expect(take(probe, fragment(2960, 8, false, { identification: 4 }))).toBeDefined();
      expect(take(probe, fragment(2960, 8, false, { identification: 0 }))).toBeUndefined();
    });

    test("memory: a packet that needs all of it and more is dropped whole", () => {
      const probe = new IpProbe({ build, tuning: { reassemblyBytesMax: 4 * 2048 } });
      for (let i = 0; i < 5; i++) take(probe, fragment(i * 1480, 1480, true));
      expect(probe.counters()).toMatchObject({ dropFragmentLimit: 5, gaugeReassemblyBytes: 0 });
    });

    test("no memory at all: no reassembly, no trap", () => {
      const probe = new IpProbe({ build, tuning: { reassemblyBytesMax: 0 } });
      takeAll(probe, fragmentIpv4(datagram, pattern(3000), 1480));
      expect(probe.counters()).toMatchObject({ dropFragmentLimit: 3, gaugeReassemblyBytes: 0 });
    });

    test("64 packets at once", () => {
      const probe = new IpProbe({ build });
      for (let id = 0; id < 65; id++) take(probe, fragment(0, 8, true, { identification: id }));
      expect(probe.counters()).toMatchObject({ dropFragmentLimit: 1 });
      expect(take(probe, fragment(8, 8, false, { identification: 64 }))).toBeDefined();
      expect(take(probe, fragment(8, 8, false, { identification: 1 }))).toBeDefined();
      expect(take(probe, fragment(8, 8, false, { identification: 0 }))).toBeUndefined();
    });

    test("256 fragments per packet", () => {
      const probe = new IpProbe({ build });
      for (let i = 0; i < 256; i++) take(probe, fragment(i * 8, 8, true));
      expect(probe.counters()).toMatchObject({ dropFragmentLimit: 0, gaugeReassemblyBytes: 256 * 2048 });
      take(probe, fragment(256 * 8, 8, false));
      expect(probe.counters()).toMatchObject({ dropFragmentLimit: 257, gaugeReassemblyBytes: 0 });
    });
  });

  describe("after 15 s", () => {
    test("what is incomplete goes", () => {
      const probe = new IpProbe({ build });
      take(probe, fragment(8, 8, true));
      take(probe, fragment(32, 8, true));
      probe.advance(10_000);
      take(probe, fragment(8, 8, true, { identification: 5 }));
      probe.advance(4900);
      expect(probe.counters()).toMatchObject({ dropFragmentTimeout: 0 });
      probe.advance(300);
      expect(probe.counters()).toMatchObject({ dropFragmentTimeout: 2, gaugeReassemblyBytes: 2048 });
      probe.advance(10_000);
      expect(probe.counters()).toMatchObject({ dropFragmentTimeout: 3, gaugeReassemblyBytes: 0 });
      expect(probe.sent()).toEqual([]); // no first fragment, nobody to tell what
      expect(probe.wasm.reassemblyHasDeadline()).toBe(0);
    });

    test("the sender is told when the first fragment was there", () => {
      const probe = new IpProbe({ build });
      probe.input(arp({ operation: "request", senderMac: PEER_MAC, senderV4: PEER, targetV4: OWN }));
      probe.sent();
      const first = fragment(0, 64, true);
      probe.input(ethernet({ destination: OWN_MAC, source: PEER_MAC }, first));
      take(probe, fragment(128, 64, true));
      probe.advance(15_200);
      // The report; the neighbour is asked to confirm its address behind it.
      const error = parseIpv4(parseEthernet(probe.sent()[0] as Uint8Array).payload);
      const message = parseIcmp(error.payload);
      expect(message).toMatchObject({ type: 11, code: 1, checksumValid: true });
      expect(message.payload).toEqual(first);
    });
  });
});
