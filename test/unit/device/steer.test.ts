import { describe, expect, it } from "vitest";
import type { CardOptions, Card } from "../../../src/device/card/card.ts";
import { PROTOCOL_TCP, PROTOCOL_UDP, type Tuple } from "../../../src/device/card/registers.ts";
import { createSegment } from "../../../src/device/card/segment.ts";
import { parseAddress } from "../../../src/ip/address.ts";
import { FILTERS_MAX } from "../../../src/layout/card.ts";
import { TOEPLITZ_KEY_DEFAULT, toeplitz, toeplitzBuild } from "../../../src/rss/toeplitz.ts";
import { Prng } from "../../../src/sim/prng.ts";
import { CardKernel } from "../../helpers/cardKernel.ts";
import {
  arp,
  BROADCAST_MAC,
  concat,
  ethernet,
  hex,
  macText,
  tcpPacket,
  udpPacket,
  v4Bytes,
} from "../../helpers/packets.ts";

const CLIENT = "10.0.0.9";
const SERVER = "10.0.0.1";
const tables = toeplitzBuild(TOEPLITZ_KEY_DEFAULT);

/** A card with a kernel behind every queue, at the end of a cable. */
class Bench {
  readonly card: Card;
  readonly sender = new CardKernel(99);
  readonly kernels: readonly CardKernel[];

  private constructor(card: Card, sender: Card) {
    this.card = card;
    this.sender.port = sender.openPort(0, this.sender.pair);
    this.kernels = Array.from({ length: card.capabilities.queues }, (_, queue) => {
      const kernel = new CardKernel(queue);
      kernel.port = card.openPort(queue, kernel.pair);
      return kernel;
    });
  }

  static async create(options: CardOptions): Promise<Bench> {
    const segment = await createSegment({ shared: false });
    const card = segment.createCard(options);
    return new Bench(card, segment.createCard());
  }

  /** Sends a frame and finds it again, whole, behind exactly one queue. @returns that queue. */
  queueOf(frame: Uint8Array): number {
    this.sender.pair.tx.push(frame);
    this.sender.port?.transmit(0);
    const got = this.kernels.flatMap((kernel, queue) => kernel.received().map((one) => ({ ...one, kernel: queue })));
    expect(got).toHaveLength(1);
    const [one] = got as [(typeof got)[0]];
    expect(one.frame).toEqual(frame);
    // What the card says in the record is where it has put it.
    expect(one.queue).toBe(one.kernel);
    return one.queue;
  }

  frame(payload: Uint8Array, etherType = 0x0800): Uint8Array {
    return ethernet({ destination: macText(this.card.mac), source: "02:00:00:00:00:63", etherType }, payload);
  }

  tcp(sourcePort: number, destinationPort = 80): Uint8Array {
    return this.frame(tcpPacket({ source: CLIENT, destination: SERVER, sourcePort, destinationPort }, hex("01 02 03")));
  }

  udp(sourcePort: number, destinationPort = 53): Uint8Array {
    return this.frame(udpPacket({ source: CLIENT, destination: SERVER, sourcePort, destinationPort }, hex("01 02 03")));
  }

  /** Queue by the indirection table for these hash input bytes. */
  byHash(...input: readonly Uint8Array[]): number {
    return this.card.registers.retaEntry(toeplitz(tables, concat(...input)) & (this.card.registers.retaEntries - 1));
  }
}

const addresses = concat(v4Bytes(CLIENT), v4Bytes(SERVER));
const ports = (source: number, destination: number): Uint8Array =>
  Uint8Array.of(source >> 8, source & 255, destination >> 8, destination & 255);
const tuple = (sourcePort: number, protocol: Tuple["protocol"] = PROTOCOL_TCP): Tuple => ({
  protocol,
  source: parseAddress(CLIENT),
  sourcePort,
  destination: parseAddress(SERVER),
  destinationPort: protocol === PROTOCOL_TCP ? 80 : 53,
});

describe("steering", () => {
  it("hashes TCP with ports and goes through the indirection table", async () => {
    const bench = await Bench.create({ queues: 8, flowGroups: false });
    const seen = new Set<number>();
    for (let port = 1; port <= 64; port++) {
      const queue = bench.queueOf(bench.tcp(port * 977));
      expect(queue).toBe(bench.byHash(addresses, ports(port * 977, 80)));
      seen.add(queue);
    }
    expect(seen.size).toBe(8);
    // A changed entry takes effect for the next frame.
    const entry = toeplitz(tables, concat(addresses, ports(977, 80))) & 511;
    const other = (bench.card.registers.retaEntry(entry) + 3) % 8;
    bench.card.registers.setRetaEntry(entry, other);
    expect(bench.queueOf(bench.tcp(977))).toBe(other);
  });

  it("hashes IPv6 like IPv4", async () => {
    const bench = await Bench.create({ queues: 4, flowGroups: false });
    const both = concat(parseAddress("2001:db8::9"), parseAddress("2001:db8::1"));
    for (let port = 2000; port < 2032; port++) {
      const header = concat(hex("60 00 00 00 00 14 06 40"), both);
      const packet = concat(header, ports(port, 80), new Uint8Array(16));
      expect(bench.queueOf(bench.frame(packet, 0x86dd))).toBe(bench.byHash(both, ports(port, 80)));
      header[6] = 58;
      const icmp = concat(header, new Uint8Array(20));
      expect(bench.queueOf(bench.frame(icmp, 0x86dd))).toBe(bench.byHash(both));
    }
  });

  it("keeps fragments of a datagram together: addresses only", async () => {
    const bench = await Bench.create({ queues: 8, flowGroups: true });
    const fields = { source: CLIENT, destination: SERVER, sourcePort: 1234, destinationPort: 53 };
    for (const ip of [{ moreFragments: true }, { fragmentOffset: 8 }, { fragmentOffset: 1480, moreFragments: true }]) {
      expect(bench.queueOf(bench.frame(udpPacket(fields, new Uint8Array(32), ip)))).toBe(bench.byHash(addresses));
    }
  });

  it("hashes UDP by addresses on the 82599, with ports on the generic card", async () => {
    const intel = await Bench.create({ preset: "82599", queues: 8, flowGroups: false });
    const generic = await Bench.create({ queues: 8, flowGroups: false });
    for (let port = 5000; port < 5016; port++) {
      expect(intel.queueOf(intel.udp(port))).toBe(intel.byHash(addresses));
      expect(generic.queueOf(generic.udp(port))).toBe(generic.byHash(addresses, ports(port, 53)));
    }
    expect(intel.card.capabilities.retaEntries).toBe(128);
  });

  it("spreads RSS of an 82599 over 16 queues at most; flow groups reach the others", async () => {
    const bench = await Bench.create({ preset: "82599", queues: 15 });
    const wide = (await createSegment({ shared: false })).createCard({ preset: "82599", queues: 64 });
    const named = new Set(Array.from({ length: 128 }, (_, entry) => wide.registers.retaEntry(entry)));
    expect(Math.max(...named)).toBe(15);
    bench.card.registers.setFlowGroup(1234, 14);
    expect(bench.queueOf(bench.tcp(1234))).toBe(14);
  });

  it("places flow groups by the 12 low bits of the source port", async () => {
    const bench = await Bench.create({ queues: 4 });
    const registers = bench.card.registers;
    for (let group = 0; group < 4096; group++) registers.setFlowGroup(group, group % 4);
    for (const port of [0, 1, 4095, 4096, 4098, 40000, 65535]) {
      expect(bench.queueOf(bench.tcp(port))).toBe(port % 4);
      expect(bench.queueOf(bench.udp(port))).toBe(port % 4);
    }
    registers.setFlowGroup(1, 2);
    expect(bench.queueOf(bench.tcp(8193))).toBe(2);
    registers.setFlowGroup(1, undefined);
    expect(registers.flowGroup(1)).toBeUndefined();
    expect(bench.queueOf(bench.tcp(8193))).toBe(bench.byHash(addresses, ports(8193, 80)));
  });

  it("groups packets for local ports of the range by both ports, and 32768 to 60999 is the range", async () => {
    const bench = await Bench.create({ queues: 4 });
    for (let group = 0; group < 4096; group++) bench.card.registers.setFlowGroup(group, group % 4);
    expect(bench.queueOf(bench.tcp(443, 32769))).toBe((443 ^ 1) % 4);
    expect(bench.queueOf(bench.tcp(443, 60998))).toBe((443 ^ 60998) % 4);
    expect(bench.queueOf(bench.tcp(443, 32767))).toBe(443 % 4);
    expect(bench.queueOf(bench.tcp(443, 61001))).toBe(443 % 4);
  });

  it("spreads the clients of a port in the range over all groups, as those of any other", async () => {
    const bench = await Bench.create({ queues: 4 });
    for (let group = 0; group < 4096; group++) bench.card.registers.setFlowGroup(group, group % 4);
    for (const service of [80, 50_051]) {
      const queues = Array.from({ length: 4096 }, (_, i) => bench.queueOf(bench.tcp(32_768 + i, service)));
      for (let queue = 0; queue < 4; queue++) expect(queues.filter((q) => q === queue)).toHaveLength(1024);
    }
  });

  it("refuses a range that is none, and any where the masks are fixed", async () => {
    for (const localPorts of [
      { first: 9, last: 8 },
      { first: 0, last: 8 },
      { first: 1, last: 65_536 },
    ]) {
      await expect(Bench.create({ localPorts })).rejects.toMatchObject({ code: "ERR_OPTION_RANGE" });
    }
    const localPorts = { first: 1, last: 2 };
    await expect(Bench.create({ preset: "82599", localPorts })).rejects.toMatchObject({ code: "EOPNOTSUPP" });
  });

  it.each([1, 16, 1024])("has %i flow groups when made so, and refuses others", async (flowGroups) => {
    const bench = await Bench.create({ queues: 4, flowGroups, localPorts: { first: 32768, last: 60999 } });
    const { capabilities, placement, registers } = bench.card;
    expect(capabilities.flowGroups).toBe(flowGroups);
    expect(placement.entries).toBe(1 + capabilities.retaEntries + flowGroups);
    for (let group = 0; group < flowGroups; group++) registers.setFlowGroup(group, (group * 7) % 4);
    for (const port of [1, 443, 1023, 1024, 8193, 65535]) {
      expect(bench.queueOf(bench.tcp(port))).toBe(((port % flowGroups) * 7) % 4);
      expect(bench.queueOf(bench.tcp(443, 32768 + (port >> 2)))).toBe((((443 ^ (port >> 2)) % flowGroups) * 7) % 4);
    }
    expect(() => registers.setFlowGroup(flowGroups, 0)).toThrow(`flow group must be 0..${flowGroups - 1}`);
    for (const wrong of [3, 8192, -1, 0.5]) {
      await expect(Bench.create({ flowGroups: wrong })).rejects.toMatchObject({ code: "ERR_OPTION_RANGE" });
    }
  });

  it("lets an exact filter beat the flow group, and forgets it when it is cleared", async () => {
    const bench = await Bench.create({ queues: 4 });
    const registers = bench.card.registers;
    registers.setFlowGroup(1000, 1);
    registers.setFilter(tuple(1000), 3);
    expect(bench.queueOf(bench.tcp(1000))).toBe(3);
    expect(bench.queueOf(bench.udp(1000))).toBe(1);
    registers.setFilter(tuple(1000), 2);
    expect(registers.filterCount).toBe(1);
    expect(bench.queueOf(bench.tcp(1000))).toBe(2);
    expect(registers.clearFilter(tuple(1000))).toBe(true);
    expect(registers.clearFilter(tuple(1000))).toBe(false);
    expect(bench.queueOf(bench.tcp(1000))).toBe(1);
  });

  it("refuses the filter after the last, and finds every one of a full table after churn", async () => {
    const card = (await createSegment({ shared: false })).createCard({ queues: 128, flowGroups: false });
    const registers = card.registers;
    const prng = new Prng(7);
    const filters = new Map<number, number>();
    const v6 = (port: number): Tuple => ({
      ...tuple(port),
      source: parseAddress(`2001:db8::${(port >> 3).toString(16)}`),
    });
    const make = (port: number): Tuple => (port & 1 ? v6(port) : tuple(port, port & 2 ? PROTOCOL_UDP : PROTOCOL_TCP));
    for (let step = 0; step < 60_000; step++) {
      const port = prng.below(20_000);
      const queue = prng.below(128);
      if (filters.has(port) && prng.chance(600_000)) {
        expect(registers.clearFilter(make(port))).toBe(true);
        filters.delete(port);
      } else if (filters.size < FILTERS_MAX || filters.has(port)) {
        registers.setFilter(make(port), queue);
        filters.set(port, queue);
      } else {
        expect(registers.setFilter(make(port), queue)).toBe(false);
      }
    }
    expect(registers.filterCount).toBe(filters.size);
    for (const [port, queue] of filters) {
      // IPv4 source and IPv6 destination cannot be mixed in a packet, so the IPv6 form needs both.
      expect(registers.queueFor(make(port))).toBe(queue);
    }
  });

  it("brings what it cannot parse to queue 0, unjudged", async () => {
    const bench = await Bench.create({ queues: 4, flowGroups: false });
    const mac = macText(bench.card.mac);
    const request = arp({ operation: "request", senderMac: "02:00:00:00:00:63", senderV4: CLIENT, targetV4: SERVER });
    expect(bench.queueOf(request)).toBe(0);
    const whole = bench.tcp(1000);
    // Version 6 in an IPv4 frame, header length 16, cut at every place up to the ports.
    for (const [offset, value] of [
      [14, 0x65],
      [14, 0x44],
    ] as const) {
      const bad = whole.slice();
      bad[offset] = value;
      expect(bench.queueOf(bad)).toBe(0);
    }
    for (let length = 1; length < 34; length++) expect(bench.queueOf(whole.slice(0, length))).toBe(0);
    expect(bench.queueOf(whole.slice(0, 36))).toBe(bench.byHash(addresses));
    const tagged = ethernet(
      { destination: mac, source: BROADCAST_MAC, etherType: 0x8100 },
      concat(hex("00 05 08 00"), whole.slice(14)),
    );
    expect(bench.queueOf(tagged)).toBe(0);
  });

  it("copies ARP replies to every queue, because any kernel may have asked; not what only looks like one", async () => {
    const bench = await Bench.create({ queues: 4 });
    const mac = macText(bench.card.mac);
    const fields = { senderMac: "02:00:00:00:00:63", senderV4: CLIENT, targetMac: mac, targetV4: SERVER } as const;
    const reply = arp({ ...fields, operation: "reply" });
    bench.sender.pair.tx.push(bench.tcp(5));
    bench.sender.pair.tx.push(reply);
    bench.sender.port?.transmit(0);
    const got = bench.kernels.map((kernel) => kernel.received().filter(({ frame }) => frame[13] === 6));
    expect(got.map((frames) => frames.map(({ frame, queue }) => ({ frame, queue })))).toEqual(
      [0, 1, 2, 3].map((queue) => [{ frame: reply, queue }]),
    );
    expect(bench.queueOf(concat(reply, new Uint8Array(20_000)))).toBe(0);
  });

  it("answers queueFor as it steers", async () => {
    const bench = await Bench.create({ queues: 8 });
    bench.card.registers.setFlowGroup(77, 5);
    for (const port of [77, 78, 4000, 50000]) {
      const { source, destination } = tuple(port);
      const queue = bench.queueOf(bench.tcp(port));
      expect(bench.card.queueFor(source, port, destination, 80)).toBe(queue);
      expect(bench.kernels[0]?.port?.queueFor?.(source, port, destination, 80)).toBe(queue);
    }
  });

  it("refuses queues, groups and entries that it does not have", async () => {
    const { registers } = (await createSegment({ shared: false })).createCard({
      queues: 4,
      flowGroups: false,
      retaEntries: 64,
    });
    const invalid = expect.objectContaining({ code: "EINVAL" });
    expect(() => registers.setRetaEntry(0, 4)).toThrow(invalid);
    expect(() => registers.setRetaEntry(64, 0)).toThrow(invalid);
    expect(() => registers.setFlowGroup(4096, 0)).toThrow(invalid);
    expect(() => registers.setFlowGroup(0, 0)).toThrow(expect.objectContaining({ code: "EOPNOTSUPP" }));
  });
});
