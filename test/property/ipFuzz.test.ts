import fc from "../helpers/property.ts";
import { describe, expect, test } from "vitest";
import {
  arp,
  ethernet,
  fragmentIpv4,
  hex,
  icmp,
  ipv4,
  parseEthernet,
  parseIpv4,
  pattern,
  tcpPacket,
  udp,
  udpPacket,
} from "../helpers/packets.ts";
import { IpProbe, OWN_MAC, PROBE_BUILDS } from "../helpers/probeIp.ts";

const PEER_MAC = "02:00:00:00:00:02";
const fromPeer = { destination: OWN_MAC, source: PEER_MAC };
const ips = { source: "10.0.0.2", destination: "10.0.0.1" };
const ports = { ...ips, sourcePort: 4000, destinationPort: 53 };
const quoted = udpPacket(
  { source: ips.destination, destination: ips.source, sourcePort: 53, destinationPort: 9 },
  pattern(8),
);

/** Valid frames of every kind that this part of the kernel reads; mutations start from them. */
const corpus: readonly Uint8Array[] = [
  arp({ operation: "request", senderMac: PEER_MAC, senderV4: ips.source, targetV4: ips.destination }),
  arp({ operation: "reply", senderMac: PEER_MAC, senderV4: ips.source, targetMac: OWN_MAC, targetV4: ips.destination }),
  ethernet(fromPeer, udpPacket(ports, pattern(64))),
  ethernet(fromPeer, udpPacket({ ...ports, destinationPort: 9 }, pattern(20))),
  ethernet(fromPeer, udpPacket(ports, pattern(4), { options: hex("07 0b 04 0000000000000000 94 04 0000 01 00") })),
  ethernet(fromPeer, ipv4({ ...ips, protocol: 1 }, icmp({ type: 8, rest: 7 }, pattern(56)))),
  ethernet(fromPeer, ipv4({ ...ips, protocol: 1 }, icmp({ type: 3, code: 3 }, quoted))),
  ethernet(fromPeer, ipv4({ ...ips, protocol: 1 }, icmp({ type: 11 }, quoted.subarray(0, 28)))),
  ethernet(fromPeer, ipv4({ ...ips, protocol: 132 }, pattern(30))),
  ethernet(fromPeer, tcpPacket({ ...ports, flags: "syn" })),
  ...fragmentIpv4({ ...ips, protocol: 17, identification: 5 }, udp(ports, pattern(200)), 64).map((piece) =>
    ethernet(fromPeer, piece),
  ),
];

type Mutation = { readonly kind: number; readonly at: number; readonly value: number };

function mutate(frame: Uint8Array, mutations: readonly Mutation[]): Uint8Array {
  let bytes = frame.slice();
  for (const { kind, at, value } of mutations) {
    if (bytes.length === 0) break;
    const place = at % bytes.length;
    if (kind === 0) bytes[place] = value;
    else if (kind === 1) bytes[place] = (bytes[place] as number) ^ (1 << (value & 7));
    else if (kind === 2) bytes = bytes.slice(0, place);
    // The header's own fields are where the interesting lies are: version and length, total length, fragment, protocol.
    else bytes[Math.min(14 + (at % 24), bytes.length - 1)] = value;
  }
  return bytes;
}

/** Makes the IPv4 header checksum right again, so that mutations get past it. */
function repair(frame: Uint8Array): Uint8Array {
  const headerBytes = ((frame[14] ?? 0) & 15) * 4;
  if (frame.length < 14 + headerBytes || headerBytes < 20) return frame;
  frame.set([0, 0], 24);
  let sum = 0;
  for (let i = 14; i < 14 + headerBytes; i += 2) sum += ((frame[i] as number) << 8) | (frame[i + 1] as number);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  frame.set([(~sum >> 8) & 0xff, ~sum & 0xff], 24);
  return frame;
}

const mutation = fc.record({ kind: fc.nat(3), at: fc.nat(300), value: fc.nat(255) });
const step = fc.record({
  frame: fc.nat(corpus.length - 1),
  mutations: fc.array(mutation, { maxLength: 4 }),
  repaired: fc.boolean(),
  waitMs: fc.oneof({ weight: 9, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: fc.constant(1000) }),
});

describe.each(PROBE_BUILDS)("mutated frames, %s build", (build) => {
  test("never trap, never read outside the frame, never make us send a wrong packet", () => {
    fc.assert(
      fc.property(fc.array(step, { minLength: 1, maxLength: 60 }), (steps) => {
        const probe = new IpProbe({ build, tuning: { neighborsMax: 4, udpSocketsMax: 4, reassemblyBytesMax: 16384 } });
        const handle = probe.wasm.udpBind(-1, 53);
        for (const { frame, mutations, repaired, waitMs } of steps) {
          const bytes = mutate(corpus[frame] as Uint8Array, mutations);
          // Frames lie at the very end of memory: a read beyond one is a trap, which fails the test.
          probe.input(repaired ? repair(bytes) : bytes);
          probe.advance(waitMs);
        }
        for (const sent of probe.sent()) checkSent(sent);
        while (probe.udpReceive(handle)) {}
        probe.wasm.udpClose(handle);
        probe.events();
        probe.advance(20_000);
        expect(probe.counters()).toMatchObject({ gaugeUdpBytes: 0, gaugeReassemblyBytes: 0 });
        expect(probe.wasm.reassemblyHasDeadline()).toBe(0);
      }),
      { numRuns: 400 },
    );
  });

  test("random bytes behind a valid Ethernet header", () => {
    const probe = new IpProbe({ build });
    const frames = fc.record({ type: fc.constantFrom(0x0800, 0x0806), payload: fc.uint8Array({ maxLength: 200 }) });
    fc.assert(
      fc.property(frames, ({ type, payload }) => {
        probe.input(ethernet({ ...fromPeer, etherType: type }, payload));
        for (const sent of probe.sent()) checkSent(sent);
      }),
      { numRuns: 2000 },
    );
  });

  test("the same frames and seed give the same output, to the byte", () => {
    fc.assert(
      fc.property(fc.array(step, { minLength: 1, maxLength: 30 }), (steps) => {
        const run = () => {
          const probe = new IpProbe({ build });
          for (const { frame, mutations, waitMs } of steps) {
            probe.input(mutate(corpus[frame] as Uint8Array, mutations));
            probe.advance(waitMs);
          }
          return { sent: probe.sent(), counters: probe.counters() };
        };
        expect(run()).toEqual(run());
      }),
      { numRuns: 50 },
    );
  });
});

/** Whatever came in, what goes out is ours, addressed to one station, with a right header. */
function checkSent(frame: Uint8Array): void {
  const { source, destination, etherType, payload } = parseEthernet(frame);
  expect(source).toBe(OWN_MAC);
  if (etherType === 0x0806) return;
  expect(etherType).toBe(0x0800);
  expect(Number.parseInt(destination.slice(0, 2), 16) & 1).toBe(0);
  expect(parseIpv4(payload)).toMatchObject({ source: "10.0.0.1", checksumValid: true, ttl: 64 });
}
