import { describe, expect, test } from "vitest";
import { KERNEL_BUILDS, KernelBench, openPassive, Peer, type SegmentFields } from "../../helpers/kernelBench.ts";
import { pattern } from "../../helpers/packets.ts";
import { createStackPair, readAll, testBytes, writeAll } from "../../helpers/stacks.ts";

const BYTES = 1000;
const STREAM = pattern(20 * BYTES, 3);
const piece = (n: number, more: Partial<SegmentFields> = {}): SegmentFields => ({
  flags: "ack",
  seq: 1 + n * BYTES,
  payload: STREAM.subarray(n * BYTES, (n + 1) * BYTES),
  ...more,
});
const pieces = (count: number) => Array.from({ length: count }, (_, n) => piece(n));

describe.each(KERNEL_BUILDS)("receive coalescing, %s build", (build) => {
  function open(timestamp?: number) {
    const bench = new KernelBench({ build });
    return { bench, ...openPassive(bench, { mss: 1460, ...(timestamp === undefined ? {} : { timestamp }) }) };
  }

  test.each([undefined, 7000])("segments behind the first only bring bytes (timestamps: %s)", (timestamp) => {
    const { bench, peer, handle } = open(timestamp);
    const counted = bench.counted(() => peer.sendAll(...pieces(10)));
    expect(counted).toMatchObject({ tcpSegmentsReceived: 10, tcpSegmentsCoalesced: 9 });
    peer.expect({ flags: "ack", ack: 1 + 10 * BYTES });
    peer.expectNothing();
    expect(bench.events(handle)).toMatchObject([{ mask: "readable", readableBytes: 10 * BYTES }]);
    expect(bench.read(handle)).toEqual(Buffer.from(STREAM.subarray(0, 10 * BYTES)));
  });

  test("ECN: those that may be marked are, those that are marked are not (RFC 3168 6.1.3)", () => {
    const bench = new KernelBench({ build, tuning: { ecn: 1 } });
    const { peer } = openPassive(bench, { mss: 1460 });
    const marked = (n: number, tos: number) => piece(n, { ip: { tos } });
    expect(bench.counted(() => peer.sendAll(...[0, 1, 2].map((n) => marked(n, 2))))).toMatchObject({
      tcpSegmentsCoalesced: 2,
    });
    const tos = [2, 2, 3, 3, 2, 2];
    const counted = bench.counted(() => peer.sendAll(...tos.map((codepoint, i) => marked(3 + i, codepoint))));
    expect(counted).toMatchObject({ tcpSegmentsCoalesced: 2 });
    peer.all();
  });

  test("two are acknowledged at once, as two full segments are (RFC 9293 3.8.6.3)", () => {
    const { peer } = open();
    peer.sendAll(piece(0), piece(1, { flags: "psh ack" }));
    peer.expect({ flags: "ack", ack: 1 + 2 * BYTES });
  });

  test.each<{ name: string; second: Partial<SegmentFields> }>([
    { name: "another acknowledgement", second: { ack: 0 } },
    { name: "another window", second: { window: 1000 } },
    { name: "another TOS", second: { ip: { tos: 3 } } },
    { name: "FIN", second: { flags: "fin ack" } },
    { name: "another timestamp", second: { timestamps: [7001, 0] } },
    { name: "SACK", second: { options: { sack: [[1, 2]] } } },
    { name: "no payload", second: { payload: new Uint8Array(0) } },
  ])("$name: the whole way, and the end of the run", ({ second }) => {
    const { bench, peer, handle } = open(7000);
    const counted = bench.counted(() => peer.sendAll(piece(0), piece(1, second)));
    expect(counted.tcpSegmentsCoalesced).toBeUndefined();
    expect(bench.info(handle).rcvQueuedBytes).toBe(second.payload ? BYTES : 2 * BYTES);
  });

  test.each(["urg ack", "cwr ack", "ece ack"])("%s: what each of them says is heard", (flags) => {
    const { bench, peer, handle } = open();
    const said: Partial<SegmentFields> = { flags, ...(flags.startsWith("urg") ? { tcp: { urgent: BYTES } } : {}) };
    expect(bench.counted(() => peer.sendAll(piece(0, said), piece(1, said))).tcpSegmentsCoalesced).toBeUndefined();
    expect(bench.info(handle).rcvQueuedBytes).toBe(2 * BYTES);
  });

  test.each([
    { name: "port", other: { port: 42000 } },
    { name: "address", other: { address: "10.0.0.3" } },
    { name: "port of ours", other: { kernelPort: 81 } },
  ])("what would continue it but for another $name does not", ({ other }) => {
    const { bench, peer, handle } = open();
    const stranger = new Peer(bench, { port: peer.port, iss: peer.iss, ...other });
    stranger.kernelIss = peer.kernelIss;
    peer.post(piece(0));
    stranger.post(piece(1, { ack: 1 }));
    expect(bench.counted(() => bench.turn())).toMatchObject({ tcpRstSent: 1 });
    expect(bench.info(handle).rcvQueuedBytes).toBe(BYTES);
  });

  test("a wrong checksum drops its segment alone; what comes behind it waits", () => {
    const { bench, peer, handle } = open();
    const wrong = peer.frame(piece(2));
    wrong[100] = (wrong[100] as number) ^ 1;
    for (const n of [0, 1]) peer.post(piece(n));
    bench.inject(wrong);
    for (const n of [3, 4]) peer.post(piece(n));
    const counted = bench.counted(() => bench.turn());
    expect(counted).toMatchObject({ dropTcpChecksum: 1, tcpSegmentsCoalesced: 1, tcpOutOfOrder: 2 });
    expect(bench.info(handle).rcvQueuedBytes).toBe(2 * BYTES);
    peer.send(piece(2));
    expect(bench.read(handle)).toEqual(Buffer.from(STREAM.subarray(0, 5 * BYTES)));
  });

  test("the end of the window and of the ring", () => {
    const bench = new KernelBench({ build, tuning: { rcvBufferBytesMax: 4096 } });
    const { peer, handle } = openPassive(bench, { mss: 1460 });
    const read: Uint8Array[] = [];
    for (let n = 0; n < 20; n += 4) {
      peer.sendAll(...[0, 1, 2, 3].map((i) => piece(n + i)));
      read.push(bench.read(handle));
      // The window opens.
      bench.turn();
    }
    expect(Buffer.concat(read)).toEqual(Buffer.from(STREAM));
    expect(bench.counters().tcpSegmentsCoalesced).toBe(15);
    peer.sendAll(...Array.from({ length: 5 }, (_, i) => piece(i, { seq: 1 + 20 * BYTES + i * BYTES })));
    // The last of them does not fit the window whole.
    expect(bench.info(handle).rcvQueuedBytes).toBe(4096);
  });

  test("segments of two connections in turn are nobody's continuation", () => {
    const bench = new KernelBench({ build });
    const listener = bench.listen();
    const [one, two] = [41000, 42000].map((port) => openPassive(bench, { port, mss: 1460 }, listener));
    for (let n = 0; n < 5; n++) {
      one?.peer.post(piece(n));
      two?.peer.post(piece(n));
    }
    expect(bench.counted(() => bench.turn()).tcpSegmentsCoalesced).toBeUndefined();
    for (const flow of [one, two]) expect(bench.read(flow?.handle ?? -1).length).toBe(5 * BYTES);
  });
});

test.each([
  { address: "10.7.0.2", family: 4 },
  { address: "fd07::2", family: 6 },
])("streams over IPv$family on a wire that damages, loses and reorders", async ({ address }) => {
  const impairments = { lossPpm: 2000, corruptPpm: 2000, reorderPpm: 5000 };
  const pair = await createStackPair({
    segment: { seed: 5, impairments },
    client: { address: ["10.7.0.1/24", "fd07::1/64"] },
    server: { address: ["10.7.0.2/24", "fd07::2/64"] },
  });
  try {
    const received: Promise<Uint8Array>[] = [];
    await pair.server.listen(9, { onConnection: ({ readable }) => void received.push(readAll(readable)) });
    const sent = testBytes(4 << 20);
    await writeAll(await pair.client.connect({ address, port: 9 }), sent);
    await expect.poll(() => received.length).toBe(1);
    expect(Buffer.compare((await received[0]) as Uint8Array, sent)).toBe(0);
    const { total } = await pair.server.stats();
    expect(total.tcpSegmentsCoalesced).toBeGreaterThan(300);
    expect(total.dropTcpChecksum).toBeGreaterThan(0);
  } finally {
    await pair.close();
  }
});
