/**
 * Goal: packets from addresses that nobody has fill the neighbour table, but not at the cost of neighbours that exist,
 * nor of the time of a look-up. Method: the table alone, filled far beyond its size.
 */
import { describe, expect, test } from "vitest";
import { parseCidr } from "../../src/ip/address.ts";
import { SCRATCH_BASE } from "../../src/layout/kernelMemory.ts";
import { arp, macBytes, pattern, ipv4, parseEthernet, v4Word } from "../helpers/packets.ts";
import { IpProbe, OWN_MAC, PROBE_BUILDS } from "../helpers/probeIp.ts";

const OWN = "10.0.0.1";
const PEER = "10.0.0.2";
const PEER_MAC = "02:00:00:00:00:02";
const NEIGHBORS_MAX = 256;

describe.each(PROBE_BUILDS)("the neighbour table under spoofed packets, %s build", (build) => {
  function create(neighborsMax = NEIGHBORS_MAX): IpProbe {
    const probe = new IpProbe({ build, addresses: [`${OWN}/8`, "fd07::1/64"], tuning: { neighborsMax } });
    probe.bytes.set(macBytes("02:00:00:00:66:66"), SCRATCH_BASE);
    return probe;
  }
  const spoof = (probe: IpProbe, i: number): number =>
    probe.wasm.neighborSeen(v4Word(`10.${1 + (i >> 16)}.${(i >> 8) & 255}.${i & 255}`), SCRATCH_BASE);

  test("a neighbour that has answered us stays, however long ago", () => {
    const probe = create();
    const index = probe.wasm.neighborFind(v4Word(PEER));
    probe.input(arp({ operation: "reply", senderMac: PEER_MAC, senderV4: PEER, targetMac: OWN_MAC, targetV4: OWN }));
    probe.sent();
    for (let i = 0; i < 20_000; i++) {
      if (i % 1000 === 0) probe.advance(100);
      spoof(probe, i);
    }
    expect(probe.counters().neighborEvicted).toBeGreaterThan(19_000);
    expect(probe.wasm.neighborFind(v4Word(PEER))).toBe(index);
    probe.send(index, ipv4({ source: OWN, destination: PEER, protocol: 253 }, pattern(20)));
    expect(parseEthernet(probe.sent()[0] as Uint8Array).destination).toBe(PEER_MAC);
  });

  test("so does one that an acknowledgement has confirmed (RFC 4861 7.3.1)", () => {
    const probe = create();
    const index = spoof(probe, 1_000_000);
    probe.wasm.neighborConfirm(index);
    for (let i = 0; i < 5000; i++) spoof(probe, i);
    expect(spoof(probe, 1_000_000)).toBe(index);
  });

  test("when all have answered, the one used longest ago still makes room", () => {
    const probe = create(16);
    const address = (i: number): string => `10.0.1.${1 + i}`;
    for (let i = 0; i < 17; i++) {
      probe.advance(10);
      const index = probe.wasm.neighborFind(v4Word(address(i)));
      expect(index).toBeGreaterThanOrEqual(0);
      const names = { senderMac: PEER_MAC, senderV4: address(i), targetMac: OWN_MAC, targetV4: OWN };
      probe.input(arp({ operation: "reply", ...names }));
    }
    expect(probe.counters().neighborEvicted).toBe(1);
  });

  test.each([
    { name: "one /24", address: (i: number) => `10.0.7.${1 + i}`, count: 250 },
    { name: "a /16, counted upwards", address: (i: number) => `10.7.${i >> 8}.${i & 255}`, count: 1024 },
    { name: "one host of each /24", address: (i: number) => `10.${1 + (i >> 8)}.${i & 255}.9`, count: 1024 },
    { name: "IPv6, counted upwards", address: (i: number) => `fd07::${(0x100 + i).toString(16)}`, count: 1024 },
    {
      name: "IPv6, as EUI-64 from one maker",
      address: (i: number) => `fd07::211:22ff:fe${(i >> 8).toString(16)}:${(i & 255).toString(16)}`,
      count: 1024,
    },
  ])("chains stay short: $name", ({ address, count }) => {
    const probe = create(1024);
    const target = SCRATCH_BASE + 64;
    let longest = 0;
    for (let i = 0; i < count; i++) {
      const text = address(i);
      const bytes = parseCidr(`${text}/${text.includes(":") ? 64 : 8}`).address;
      probe.bytes.set(bytes, target);
      if (text.includes(":")) probe.wasm.neighborSeenV6(target, SCRATCH_BASE);
      else probe.wasm.neighborSeen(v4Word(text), SCRATCH_BASE);
      longest = Math.max(longest, probe.wasm.neighborChainLength(target));
    }
    expect(longest).toBeLessThanOrEqual(12);
  });
});
