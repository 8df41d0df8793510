import { describe, expect, it } from "vitest";
import type { Card } from "../../../src/device/card/card.ts";
import { createSegment, type Segment, type SegmentOptions } from "../../../src/device/card/segment.ts";
import { parseAddress } from "../../../src/ip/address.ts";
import { Prng } from "../../../src/sim/prng.ts";
import { recordBytes } from "../../../src/views/frameRing.ts";
import { CardKernel, type CardKernelOptions } from "../../helpers/cardKernel.ts";
import { BROADCAST_MAC, ethernet, macText, pattern, udpPacket } from "../../helpers/packets.ts";

const code = (name: string): unknown => expect.objectContaining({ code: name });

function attach(card: Card, queue = 0, options: CardKernelOptions = {}): CardKernel {
  const kernel = new CardKernel(queue, { rxLanes: card.rxLanes, ...options });
  kernel.port = card.openPort(queue, kernel.pair);
  return kernel;
}

async function cable(
  options: SegmentOptions = {},
  ring: CardKernelOptions = {},
): Promise<[CardKernel, CardKernel, Segment]> {
  const segment = await createSegment({ shared: false, portsMax: 4, ...options });
  return [attach(segment.createCard(), 0, ring), attach(segment.createCard(), 0, ring), segment];
}

function frameTo(destination: string, seed: number, payloadBytes = 64): Uint8Array {
  const fields = { source: "10.0.0.9", destination: "10.0.0.1", sourcePort: seed & 0xffff, destinationPort: 7 };
  return ethernet(
    { destination, source: "02:00:00:00:00:63", etherType: 0x0800 },
    udpPacket(fields, pattern(payloadBytes, seed)),
  );
}

describe("a segment of two cards", () => {
  it("carries frames both ways, whole and in order, into the lane of the sender", async () => {
    const [a, b] = await cable();
    const sent = Array.from({ length: 40 }, (_, i) => frameTo(BROADCAST_MAC, i, i * 30));
    for (const frame of sent) a.pair.tx.push(frame);
    expect(a.port?.transmit(0)).toBeGreaterThan(0);
    expect(b.rings).toBeGreaterThan(0);
    const got = b.received();
    expect(got.map(({ frame }) => frame)).toEqual(sent);
    expect(new Set(got.map(({ lane }) => lane))).toEqual(new Set([0]));
    b.pair.tx.push(sent[3] as Uint8Array);
    b.port?.transmit(0);
    expect(a.received()).toMatchObject([{ lane: 1, frame: sent[3] }]);
  });

  it.each(["one queue", "two queues"])("loses nothing when lanes are full, to a card with %s", async (kind) => {
    const segment = await createSegment({ shared: false, portsMax: 4 });
    const server = segment.createCard({ queues: kind === "one queue" ? 1 : 2, flowGroups: false });
    const a = attach(segment.createCard());
    const kernels = Array.from({ length: server.capabilities.queues }, (_, queue) =>
      attach(server, queue, { ringBytes: 1 << 13 }),
    );
    const prng = new Prng(3);
    const sent: Uint8Array[] = [];
    const got: Uint8Array[] = [];
    let stalls = 0;
    for (let round = 0; round < 2000 && got.length < 1500; round++) {
      while (sent.length < 1500 && sent.length < got.length + 60 + prng.below(40)) {
        const frame = frameTo(BROADCAST_MAC, sent.length, prng.below(1400));
        if (a.pair.tx.sizeBytes - a.pair.tx.usedBytes < 2 * recordBytes(frame.length)) break;
        expect(a.pair.tx.push(frame)).toBe(true);
        sent.push(frame);
      }
      const moved = a.port?.transmit(0);
      if (moved === 0 && a.pair.tx.usedBytes > 0) {
        stalls++;
        // The sender may sleep; the receiver's next turn rings it.
        expect(a.port?.arm()).toBe(true);
        const rings = a.rings;
        for (const kernel of kernels) got.push(...kernel.frames());
        for (const kernel of kernels) kernel.port?.receive(0);
        expect(a.rings).toBeGreaterThan(rings);
      } else if (prng.below(4) === 0) {
        for (const kernel of kernels) got.push(...kernel.frames());
      }
    }
    for (let i = 0; i < 20; i++) {
      a.port?.transmit(0);
      for (const kernel of kernels) got.push(...kernel.frames());
    }
    const order = (frame: Uint8Array): number => (frame[34] as number) * 256 + (frame[35] as number);
    expect(stalls).toBeGreaterThan(3);
    got.sort((x, y) => order(x) - order(y));
    expect(got).toHaveLength(sent.length);
    expect(got.findIndex((frame, i) => Buffer.compare(frame, sent[i] as Uint8Array) !== 0)).toBe(-1);
    expect(server.queueFrames().reduce((x, y) => x + y)).toBe(1500);
    expect(kernels.every((kernel) => kernel.pair.rx[0]?.missed === 0)).toBe(true);
  });

  it.each([1, 2])("drops and counts at a full lane with overflow: drop (%d queues)", async (queues) => {
    const segment = await createSegment({ shared: false, portsMax: 4, overflow: "drop" });
    const server = segment.createCard({ queues, flowGroups: false });
    const a = attach(segment.createCard());
    const kernels = Array.from({ length: queues }, (_, queue) => attach(server, queue, { ringBytes: 1 << 12 }));
    for (let i = 0; i < 40; i++) a.pair.tx.push(frameTo(BROADCAST_MAC, i, 500));
    for (let i = 0; i < 40; i++) a.port?.transmit(0);
    expect(a.pair.tx.usedBytes).toBe(0);
    const missed = kernels.reduce(
      (sum, kernel) => sum + (kernel.pair.rx[1]?.missed ?? 0) + (kernel.pair.rx[0]?.missed ?? 0),
      0,
    );
    const got = kernels.flatMap((kernel) => kernel.frames()).length;
    expect(missed).toBeGreaterThan(0);
    expect(got + missed).toBe(40);
    expect(server.queueFrames().reduce((x, y) => x + y)).toBe(got);
  });

  it.each([1, 2])(
    "a receiver that takes nothing holds its sender up for pauseMsMax only (%d queues)",
    async (queues) => {
      const segment = await createSegment({ shared: false, portsMax: 4, pauseMsMax: 50 });
      const server = segment.createCard({ queues, flowGroups: false });
      const other = segment.createCard();
      const a = attach(segment.createCard());
      const kernels = Array.from({ length: queues }, (_, queue) => attach(server, queue, { ringBytes: 1 << 12 }));
      const bystander = attach(other);
      const [toServer, toOther] = [macText(server.mac), macText(other.mac)];
      // As many as the lanes cannot take, then one for somebody else.
      for (let i = 0; i < 40; i++) a.pair.tx.push(frameTo(toServer, i, 500));
      for (let i = 0; i < 10; i++) a.port?.transmit(1e9);
      a.pair.tx.push(frameTo(toOther, 99, 500));
      a.port?.transmit(1e9);
      expect(bystander.frames()).toHaveLength(0);
      expect(a.port?.nextDeadlineNs()).toBe(1e9 + 50e6);
      for (let i = 0; i < 10; i++) a.port?.transmit(1e9 + 49e6);
      expect(bystander.frames()).toHaveLength(0);
      for (let i = 0; i < 60; i++) a.port?.transmit(1e9 + 50e6);
      expect(bystander.frames()).toHaveLength(1);
      const lanes = kernels.flatMap(({ pair }) => pair.rx);
      const missed = lanes.reduce((sum, lane) => sum + lane.missed, 0);
      const got = kernels.flatMap((kernel) => kernel.frames()).length;
      expect(missed).toBeGreaterThan(0);
      expect(segment.cards[2]?.statistics().noRoom).toBe(missed);
      expect(got + missed).toBe(40);
      // It goes on: so does the sender.
      a.pair.tx.push(frameTo(toServer, 7, 500));
      a.port?.transmit(1e9 + 60e6);
      expect(kernels.flatMap((kernel) => kernel.frames())).toHaveLength(1);
      expect(a.port?.nextDeadlineNs()).toBe(Number.POSITIVE_INFINITY);
    },
  );

  it("never hangs on a frame that a lane cannot hold", async () => {
    const [a, b] = await cable({}, { ringBytes: 1 << 17 });
    const tiny = await cable({}, { ringBytes: 1 << 17 });
    const small = new CardKernel(0, { rxLanes: 4, ringBytes: 1 << 12 });
    tiny[1].port?.close();
    small.port = (tiny[2].cards[1] as Card).openPort(0, small.pair);
    for (const sender of [a, tiny[0]]) {
      sender.pair.tx.push(new Uint8Array(9000).fill(0xff));
      sender.pair.tx.push(frameTo(BROADCAST_MAC, 1));
      for (let i = 0; i < 4; i++) sender.port?.transmit(0);
    }
    expect(b.frames()).toHaveLength(2);
    expect(small.frames()).toEqual([frameTo(BROADCAST_MAC, 1)]);
    expect(small.pair.rx[0]?.missed).toBe(1);
  });

  it("drops frames for a queue without a kernel, and serves the kernel that takes it over", async () => {
    const [a, b, segment] = await cable();
    const card = segment.cards[1] as Card;
    a.pair.tx.push(frameTo(BROADCAST_MAC, 1));
    a.port?.transmit(0);
    b.port?.close();
    a.pair.tx.push(frameTo(BROADCAST_MAC, 2));
    a.port?.transmit(0);
    expect(a.pair.tx.usedBytes).toBe(0);
    const next = attach(card);
    a.pair.tx.push(frameTo(BROADCAST_MAC, 3));
    a.port?.transmit(0);
    expect(b.frames()).toEqual([frameTo(BROADCAST_MAC, 1)]);
    expect(next.frames()).toEqual([frameTo(BROADCAST_MAC, 3)]);
    expect(card.queueFrames()).toEqual([2]);
    expect(() => card.openPort(0, next.pair)).toThrow(code("EBUSY"));
    card.releaseQueue(0);
    expect(attach(card).frames()).toEqual([]);
  });

  it("drops a run that is no run of records and goes on", async () => {
    const segment = await createSegment({ shared: false, portsMax: 4 });
    const a = attach(segment.createCard());
    const b = attach(segment.createCard({ queues: 2 }), 0);
    const { tx } = a.pair;
    const at = tx.reserve(64);
    tx.words[at >> 2] = 0x7fffffff;
    tx.publish(64);
    for (let i = 0; i < 3; i++) a.port?.transmit(0);
    expect(tx.usedBytes).toBe(0);
    tx.push(new Uint8Array(60));
    a.port?.transmit(0);
    expect(b.frames()).toHaveLength(1);
  });
});

describe("a segment of many cards", () => {
  async function lan(cards: number): Promise<{ segment: Segment; kernels: CardKernel[]; macs: string[] }> {
    const segment = await createSegment({ shared: false, portsMax: 8 });
    const kernels = Array.from({ length: cards }, () => attach(segment.createCard()));
    return { segment, kernels, macs: segment.cards.map((card) => macText(card.mac)) };
  }

  it("switches known addresses to their card and floods the rest to all others", async () => {
    const { kernels, macs } = await lan(4);
    const [a] = kernels as [CardKernel];
    const frames = [
      frameTo(macs[2] as string, 1),
      frameTo(BROADCAST_MAC, 2),
      frameTo("01:00:5e:00:00:01", 3),
      frameTo("02:99:99:99:99:99", 4),
      frameTo(macs[1] as string, 5),
      frameTo(macs[0] as string, 6),
      frameTo(macs[2] as string, 7),
    ];
    for (const frame of frames) a.pair.tx.push(frame);
    a.port?.transmit(0);
    const pick = (...indexes: number[]): Uint8Array[] => indexes.map((i) => frames[i] as Uint8Array);
    expect(kernels.map((kernel) => kernel.frames())).toEqual([
      [],
      pick(1, 2, 3, 4),
      pick(0, 1, 2, 3, 6),
      pick(1, 2, 3),
    ]);
  });

  it("floods the largest frames to the largest segment", async () => {
    const segment = await createSegment({ shared: false, portsMax: 64 });
    const kernels = Array.from({ length: 12 }, () => attach(segment.createCard(), 0, { ringBytes: 1 << 18 }));
    const big = new Uint8Array(65550).fill(0xff);
    for (let i = 0; i < 3; i++) kernels[0]?.pair.tx.push(big);
    for (let i = 0; i < 40; i++) kernels[0]?.port?.transmit(0);
    for (const kernel of kernels.slice(1)) {
      expect(kernel.frames().map((frame) => Buffer.compare(frame, big))).toEqual([0, 0, 0]);
    }
  });

  it("keeps a slow receiver's frames without losing others", async () => {
    const { segment, kernels, macs } = await lan(2);
    const slow = attach(segment.createCard(), 0, { ringBytes: 1 << 11 });
    const mac = macText((segment.cards[2] as Card).mac);
    const [a, b] = kernels as [CardKernel, CardKernel];
    for (let i = 0; i < 20; i++) {
      a.pair.tx.push(frameTo(mac, i, 300));
      a.pair.tx.push(frameTo(macs[1] as string, 100 + i, 300));
    }
    const got: Uint8Array[] = [];
    for (let i = 0; i < 30; i++) {
      a.port?.transmit(0);
      got.push(...slow.frames());
    }
    expect(got).toEqual(Array.from({ length: 20 }, (_, i) => frameTo(mac, i, 300)));
    expect(b.frames()).toHaveLength(20);
    expect(a.pair.tx.usedBytes).toBe(0);
  });

  it("gives the place of a closed card to another, whose tables the closed one cannot touch", async () => {
    const segment = await createSegment({ shared: false, portsMax: 2 });
    const sender = segment.createCard();
    const kernel = attach(sender, 0);
    const flow = { remote: parseAddress("10.0.0.1"), remotePort: 1000, local: parseAddress("10.0.0.2"), localPort: 80 };
    const spare = { ...flow, remotePort: 1001 };
    let last: Card | undefined;
    for (let round = 0; round < 10; round++) {
      const card = segment.createCard({ queues: 2, mac: Uint8Array.of(2, 0, 0, 0, 1, round % 3) });
      expect([card.filters().length, card.flowGroupQueue(7), card.isClosed]).toEqual([0, undefined, false]);
      const taken = attach(card, 1);
      card.setFilter(flow, 1);
      card.moveFlowGroup(7, 1);
      // Whoever still knows the card that was here writes nothing, and ends nobody.
      expect(last?.setFilter(spare, 0) ?? false).toBe(false);
      last?.clearFilter(flow);
      last?.moveFlowGroup(7, 0);
      last?.releaseQueue(1);
      await last?.close();
      expect([card.filters().length, card.flowGroupQueue(7), last?.filters().length ?? 0]).toEqual([1, 1, 0]);
      for (let entry = 0; entry < card.registers.retaEntries; entry++) card.registers.setRetaEntry(entry, 1);
      kernel.pair.tx.push(frameTo(macText(card.mac), round, 300));
      kernel.port?.transmit(0);
      expect(taken.frames()).toEqual([frameTo(macText(card.mac), round, 300)]);
      await card.close();
      last = card;
    }
    segment.createCard();
    expect(() => segment.createCard()).toThrow(code("ERR_SEGMENT_FULL"));
  });

  it("refuses more cards or kernels than it has room for, and addresses twice", async () => {
    const segment = await createSegment({ shared: false, portsMax: 2 });
    const first = segment.createCard({ queues: 3 });
    expect(() => segment.createCard({ mac: first.mac })).toThrow(code("EADDRINUSE"));
    segment.createCard();
    expect(() => segment.createCard()).toThrow(code("ERR_SEGMENT_FULL"));
    attach(first, 0);
    attach(first, 1);
    expect(() => attach(first, 2)).toThrow(code("ERR_SEGMENT_FULL"));
    const lanes = new CardKernel(0, { rxLanes: 1 });
    expect(() => first.openPort(0, lanes.pair)).toThrow(code("ERR_OPTION_RANGE"));
  });

  it.each([
    { queues: 0 },
    { queues: 65, preset: "82599" as const },
    { retaEntries: 100 },
    { retaEntries: 1024 },
    { mtuBytes: 500 },
    { tsoBytesMax: 9000 },
    { mac: Uint8Array.of(1, 2, 3, 4, 5, 6) },
    { preset: "e1000" as never },
  ])("refuses a card with %j", async (options) => {
    const segment = await createSegment({ shared: false });
    expect(() => segment.createCard(options)).toThrow(code("ERR_OPTION_RANGE"));
  });
});
