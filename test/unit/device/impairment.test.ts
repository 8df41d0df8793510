import { describe, expect, it } from "vitest";
import type { Card } from "../../../src/device/card/card.ts";
import { completeImpairments, type Impairments } from "../../../src/device/card/impairment.ts";
import { createSegment } from "../../../src/device/card/segment.ts";
import { CardKernel } from "../../helpers/cardKernel.ts";
import { pattern } from "../../helpers/packets.ts";

const MS = 1e6;

type Arrival = { readonly atNs: number; readonly frame: Uint8Array };

/** Sends `frames` at their instants over an impaired cable in virtual time; every arrival with its instant. */
async function play(
  impairments: Impairments,
  seed: number,
  frames: readonly Arrival[],
): Promise<{ arrivals: Arrival[]; card: Card }> {
  const segment = await createSegment({ shared: false, portsMax: 2, seed, impairments });
  const kernels = [0, 1].map((index) => {
    const kernel = new CardKernel(index, { rxLanes: 2, ringBytes: 1 << 17 });
    kernel.port = segment.createCard().openPort(0, kernel.pair);
    return kernel;
  });
  const [a, b] = kernels as [CardKernel, CardKernel];
  const arrivals: Arrival[] = [];
  const queue = [...frames];
  for (let nowNs = 0; nowNs !== Number.POSITIVE_INFINITY; ) {
    while (queue[0] && queue[0].atNs <= nowNs) a.pair.tx.push((queue.shift() as Arrival).frame);
    a.port?.transmit(nowNs);
    arrivals.push(...b.frames().map((frame) => ({ atNs: nowNs, frame })));
    nowNs = Math.min(a.port?.nextDeadlineNs() ?? 0, queue[0]?.atNs ?? Number.POSITIVE_INFINITY);
  }
  return { arrivals, card: segment.cards[0] as Card };
}

function burst(count: number, everyNs: number, bytes = 200): Arrival[] {
  return Array.from({ length: count }, (_, i) => {
    const frame = pattern(bytes, i);
    frame.set([0xff, i >> 8, i & 255]);
    return { atNs: i * everyNs, frame };
  });
}

const numberOf = ({ frame }: Arrival): number => (frame[1] as number) * 256 + (frame[2] as number);

describe("an impaired link", () => {
  it("delays every frame by exactly the delay and reports when it is due", async () => {
    const sent = burst(20, 3 * MS);
    const { arrivals } = await play({ delayNs: 10 * MS }, 1, sent);
    expect(arrivals).toEqual(sent.map(({ atNs, frame }) => ({ atNs: atNs + 10 * MS, frame })));
  });

  it("adds jitter within its range and keeps the order", async () => {
    const sent = burst(300, MS);
    const { arrivals } = await play({ delayNs: 10 * MS, jitterNs: 5 * MS }, 2, sent);
    expect(arrivals.map(numberOf)).toEqual(sent.map((_, i) => i));
    const delays = arrivals.map(({ atNs }, i) => atNs - (sent[i] as Arrival).atNs);
    expect(Math.min(...delays)).toBeGreaterThanOrEqual(10 * MS);
    expect(Math.max(...delays)).toBeLessThanOrEqual(15 * MS);
    expect(new Set(delays).size).toBeGreaterThan(100);
  });

  it("sends no faster than its rate and drops what its queue cannot hold", async () => {
    // 1000 bytes at 8 Mbit/s take 1 ms; 10 kB of queue hold ten of them and the one being sent.
    const sent = burst(50, 0, 1000);
    const { arrivals, card } = await play({ rateBitsPerSecond: 8e6, queueBytes: 10_000 }, 3, sent);
    expect(arrivals.map(({ atNs }) => atNs)).toEqual(Array.from({ length: 10 }, (_, i) => (i + 1) * MS));
    expect(card.statistics().queueDropped).toBe(40);
  });

  it("loses, duplicates and corrupts at the given rates, one bit each", async () => {
    const sent = burst(4000, 1000, 64);
    const { arrivals, card } = await play({ lossPpm: 100_000, duplicatePpm: 50_000, corruptPpm: 20_000 }, 4, sent);
    const counts = card.statistics();
    expect(arrivals).toHaveLength(4000 - counts.lost + counts.duplicated);
    // Five standard deviations around the expected numbers.
    expect(Math.abs(counts.lost - 400)).toBeLessThan(5 * Math.sqrt(360));
    expect(Math.abs(counts.duplicated - 180)).toBeLessThan(5 * Math.sqrt(180));
    expect(Math.abs(counts.corrupted - 72)).toBeLessThan(5 * Math.sqrt(72));
    const originals = new Set(sent.map(({ frame }) => Buffer.from(frame).toString("hex")));
    const broken = new Set<string>();
    for (const { frame } of arrivals) {
      const text = Buffer.from(frame).toString("hex");
      if (!originals.has(text)) broken.add(text);
    }
    expect(broken.size).toBe(counts.corrupted);
    const bits = (a: Uint8Array, b: Uint8Array): number =>
      a.reduce((sum, byte, i) => sum + (byte ^ (b[i] as number)).toString(2).replaceAll("0", "").length, 0);
    for (const text of broken) {
      const frame = Buffer.from(text, "hex");
      expect(Math.min(...sent.map((original) => bits(frame, original.frame)))).toBe(1);
    }
  });

  it("holds reordered frames back so that others overtake them, and no others", async () => {
    const sent = burst(1000, MS / 10);
    const { arrivals, card } = await play({ reorderPpm: 50_000, reorderNs: MS }, 5, sent);
    expect(arrivals).toHaveLength(1000);
    const late = arrivals.filter(
      ({ atNs }, i) =>
        arrivals.slice(0, i).some((other) => numberOf(other) > numberOf(arrivals[i] as Arrival)) && atNs >= 0,
    );
    expect(card.statistics().reordered).toBeGreaterThan(20);
    expect(late).toHaveLength(card.statistics().reordered);
  });

  it("does the same to the byte with the same seed, and something else with another", async () => {
    const everything = {
      delayNs: 2 * MS,
      jitterNs: MS,
      rateBitsPerSecond: 1e8,
      queueBytes: 20_000,
      lossPpm: 20_000,
      duplicatePpm: 20_000,
      corruptPpm: 20_000,
      reorderPpm: 20_000,
    };
    const sent = burst(500, 20_000);
    const first = await play(everything, 6, sent);
    const again = await play(everything, 6, sent);
    const other = await play(everything, 7, sent);
    expect(again.arrivals).toEqual(first.arrivals);
    expect(again.card.statistics()).toEqual(first.card.statistics());
    expect(other.arrivals.map(numberOf)).not.toEqual(first.arrivals.map(numberOf));
  });

  it("takes new conditions while frames are on the way, and becomes a plain cable again", async () => {
    const segment = await createSegment({ shared: false, portsMax: 2 });
    const [a, b] = [0, 1].map((index) => {
      const kernel = new CardKernel(index, { rxLanes: 2 });
      kernel.port = segment.createCard().openPort(0, kernel.pair);
      return kernel;
    }) as [CardKernel, CardKernel];
    const send = (value: number, nowNs: number): void => {
      a.pair.tx.push(new Uint8Array(60).fill(value));
      a.port?.transmit(nowNs);
    };
    segment.impair({ delayNs: 5 * MS });
    send(1, 0);
    segment.impair({});
    send(2, MS);
    // The second waits behind the first: a link does not reorder by itself.
    expect(b.frames()).toEqual([]);
    expect(a.port?.nextDeadlineNs()).toBe(5 * MS);
    a.port?.transmit(5 * MS);
    expect(b.frames().map((frame) => frame[0])).toEqual([1, 2]);
    expect(a.port?.nextDeadlineNs()).toBe(Number.POSITIVE_INFINITY);
    send(3, 6 * MS);
    expect(b.frames().map((frame) => frame[0])).toEqual([3]);
    (segment.cards[0] as Card).impair({ lossPpm: 1_000_000 });
    send(4, 7 * MS);
    expect(b.frames()).toEqual([]);
    b.pair.tx.push(new Uint8Array(60));
    b.port?.transmit(7 * MS);
    expect(a.frames()).toHaveLength(1);
  });

  it.each(["delayNs", "jitterNs", "lossPpm", "queueBytes", "rateBitsPerSecond"] as const)(
    "refuses a wrong %s",
    (name) => {
      const refusal = expect.objectContaining({ code: "ERR_OPTION_RANGE", message: expect.stringContaining(name) });
      for (const value of [-1, Number.NaN, 1e17]) expect(() => completeImpairments({ [name]: value })).toThrow(refusal);
    },
  );
});
