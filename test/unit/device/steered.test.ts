/** Many kernels behind a device with one queue: steerInSoftware. */
import { afterEach, describe, expect, it } from "vitest";
import type { CardOptions } from "../../../src/device/card/card.ts";
import { createSegment } from "../../../src/device/card/segment.ts";
import { type SoftwareSteeringOptions, steerInSoftware } from "../../../src/device/steered/device.ts";
import { captureDevice, MemorySink } from "../../../src/device/capture.ts";
import { createStack } from "../../../src/stack.ts";
import type { Stack, StackOptions } from "../../../src/types.ts";
import { CardKernel } from "../../helpers/cardKernel.ts";
import { ETHERTYPE_IPV4, ethernet, pattern, udpPacket } from "../../helpers/packets.ts";
import { readAll, testBytes, writeAll } from "../../helpers/stacks.ts";

const KERNELS = 4;

/** 1,000 bytes of payload. */
function udpFrame(sourcePort: number): Uint8Array {
  const addresses = { source: "10.7.0.1", destination: "10.7.0.2" };
  return ethernet(
    { destination: "02:00:00:00:00:02", source: "02:00:00:00:00:01", etherType: ETHERTYPE_IPV4 },
    udpPacket({ ...addresses, sourcePort, destinationPort: 9 }, pattern(1000)),
  );
}

const tuning = { memoryBytes: 64 << 20, connectionsMax: 4096 };

const cleanUp: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of cleanUp.splice(0).reverse()) await close();
});

type World = {
  readonly card?: CardOptions;
  readonly steering?: Partial<SoftwareSteeringOptions>;
  readonly server?: Partial<StackOptions>;
  readonly client?: Partial<StackOptions>;
};

/** A client on a cable to a card with one queue, behind which the server has its kernels. */
async function createWorld({ card, steering, server: serverOptions, client: clientOptions }: World = {}) {
  const segment = await createSegment({ shared: false, portsMax: 2 });
  const oneQueue = segment.createCard({ queues: 1, ...card });
  const device = await steerInSoftware(oneQueue, { queues: KERNELS, shared: false, pauseMsMax: 60_000, ...steering });
  cleanUp.push(() => device.close());
  const start = async (options: StackOptions): Promise<Stack> => {
    const stack = await createStack({ tuning, ...options });
    cleanUp.push(() => stack.close({ drainMs: 0 }));
    return stack;
  };
  const server = await start({ device, address: "10.7.0.2/24", seed: 2, ...serverOptions });
  const clientCard = segment.createCard({ ...card });
  const client = await start({ device: clientCard, address: "10.7.0.1/24", seed: 1, ...clientOptions });
  return { device, server, client, oneQueue };
}

async function listenEcho(stack: Stack, port: number): Promise<void> {
  await stack.listen(port, {
    onConnection: ({ readable, writable }) => void readable.pipeTo(writable).catch(() => {}),
  });
}

async function echo(stack: Stack, address: string, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
  const connection = await stack.connect({ address, port: 7 });
  const [echoed] = await Promise.all([readAll(connection.readable), writeAll(connection, bytes)]);
  expect(Buffer.compare(echoed, bytes)).toBe(0);
  await connection.closed;
}

const OFFLOADS: readonly (readonly [string, CardOptions])[] = [
  ["without offloads", {}],
  ["with checksum offload", { checksumOffload: true }],
  ["that segments and coalesces", { checksumOffload: true, tsoBytesMax: 65483 }],
  ["that segments only", { checksumOffload: true, tsoBytesMax: 65483, largeReceive: false }],
];

describe.for(OFFLOADS)("four kernels behind a device %s", ([_name, card]) => {
  it("share the connections, and the frames are counted", async () => {
    const { device, server, client, oneQueue } = await createWorld({ card });
    expect(device.capabilities).toMatchObject({ ...oneQueue.capabilities, queues: KERNELS, steering: "software" });
    await listenEcho(server, 7);
    const bytes = testBytes(200_000);
    await Promise.all(Array.from({ length: 40 }, () => echo(client, "10.7.0.2", bytes)));
    const { kernels, queues, softwareSteered, total } = await server.stats();
    for (const counters of kernels) expect(counters.tcpAccepted).toBeGreaterThan(2);
    expect(total).toMatchObject({ tcpAccepted: 40, tcpNoListener: 0 });
    expect(queues.reduce((sum, frames) => sum + frames)).toBe(softwareSteered);
    // An ARP reply is for all kernels, and counts in each; each of them may have asked once.
    const copies = () => device.softwareSteered() - (oneQueue.queueFrames()[0] as number);
    await expect.poll(copies).toBeGreaterThanOrEqual(0);
    expect(copies()).toBeLessThanOrEqual((KERNELS - 1) * KERNELS);
    expect(Object.values(device.statistics()).every((count) => count === 0)).toBe(true);
    expect((await client.stats()).softwareSteered).toBe(0);
  });

  it("open connections whose replies come home", async () => {
    const { server, client } = await createWorld({ card });
    await listenEcho(client, 7);
    const bytes = testBytes(100_000);
    await Promise.all(Array.from({ length: 20 }, () => echo(server, "10.7.0.1", bytes)));
    const { kernels, total } = await server.stats();
    expect(total).toMatchObject({ tcpActiveOpens: 20, tcpNoListener: 0 });
    expect(kernels.filter(({ tcpActiveOpens }) => (tcpActiveOpens ?? 0) > 0).length).toBeGreaterThan(1);
  });
});

describe("behind a device with one queue", () => {
  it("a flow group goes where it is moved, with its connections when it migrates", async () => {
    const { device, server, client } = await createWorld();
    await listenEcho(server, 7);
    const port = 40_000;
    const group = port & 4095;
    device.moveFlowGroup?.(group, 3);
    expect(device.flowGroupQueue?.(group)).toBe(3);
    const connection = await client.connect({ address: "10.7.0.2", port: 7, localPort: port });
    const writer = connection.writable.getWriter();
    const reader = connection.readable.getReader();
    await writer.write(Uint8Array.of(1));
    expect((await reader.read()).value).toEqual(Uint8Array.of(1));
    expect((await server.stats()).kernels.map(({ tcpAccepted }) => tcpAccepted)).toEqual([0, 0, 0, 1]);
    await server.migrate(group, 1);
    const before = device.queueFrames();
    await writer.write(Uint8Array.of(2));
    expect((await reader.read()).value).toEqual(Uint8Array.of(2));
    const after = device.queueFrames();
    // The new kernel has asked for the neighbour; the reply is for all.
    const growth = after.map((frames, queue) => frames - (before[queue] as number));
    expect(growth[3]).toBe(growth[0]);
    expect(growth[1]).toBeGreaterThan(growth[0] as number);
    await writer.close();
  });

  it("kernels leave and join; a dead one's packets go to the others", async () => {
    const { server, client } = await createWorld({ server: { restart: false } });
    await listenEcho(server, 7);
    server.on("error", () => {});
    const bytes = testBytes(1000);
    const all = (count: number) => Promise.all(Array.from({ length: count }, () => echo(client, "10.7.0.2", bytes)));
    await server.removeKernel(2, { drain: false });
    await all(20);
    expect((await server.stats()).total.tcpAccepted).toBe(20);
    expect(await server.addKernel()).toBe(2);
    // Its entries come when nothing on its way to the others depends on them any more: soon, but not at once.
    let opened = 20;
    const accepted = async () => (await server.stats()).kernels[2]?.tcpAccepted ?? 0;
    for (; (await accepted()) === 0 && opened < 2000; opened += 20) await all(20);
    expect(await accepted()).toBeGreaterThan(0);
    server.killKernel(0);
    await all(20);
    expect((await server.stats()).total.tcpAccepted).toBe(opened + 20);
  });

  it("a kernel that takes nothing holds up the others for pauseMsMax only, and its frames are counted", async () => {
    const segment = await createSegment({ shared: false, portsMax: 2 });
    const oneQueue = segment.createCard();
    const device = await steerInSoftware(oneQueue, { queues: 2, drive: "manual", pauseMsMax: 10, shared: false });
    cleanUp.push(() => device.close());
    const [stuck, healthy] = [0, 1].map((queue) => {
      const kernel = new CardKernel(queue, { rxLanes: device.rxLanes, ringBytes: 1 << 18 });
      kernel.port = device.openPort(queue, kernel.pair);
      return kernel;
    }) as [CardKernel, CardKernel];
    const { pair } = new CardKernel(0, { rxLanes: 2, ringBytes: 1 << 19 });
    const wire = segment.createCard().openPort(0, pair);
    // The group is that of the source port.
    for (const queue of [0, 1]) device.moveFlowGroup?.(queue, queue);
    let nowNs = 0;
    let sent = 0;
    let taken = 0;
    const step = (): void => {
      wire.transmit(nowNs);
      device.turn(nowNs);
      taken += healthy.received().length;
      healthy.port?.receive(nowNs);
      nowNs += 1e6;
    };
    for (let round = 0; round < 100; round++) {
      for (let i = 0; i < 40; i++) if (pair.tx.push(udpFrame(4096 + (i & 1)))) sent++;
      for (let i = 0; i < 4; i++) step();
    }
    for (let i = 0; i < 100; i++) step();
    const { noRoom } = device.statistics();
    const inLanes = stuck.received().length;
    expect(inLanes).toBeGreaterThan(10);
    expect(sent).toBe(4000);
    expect({ taken, noRoom, queues: device.queueFrames(), all: device.softwareSteered() }).toEqual({
      taken: 2000,
      noRoom: 2000 - inLanes,
      queues: [inLanes, 2000],
      all: 2000 + inLanes,
    });
  });

  it("runs in virtual time, the same each time", async () => {
    const run = async () => {
      const manual = { drive: "manual" } as const;
      const { device, server, client } = await createWorld({ steering: manual, server: manual, client: manual });
      let nowNs = 0;
      const drive = async () => {
        for (let step = 0; step < 400; step++) {
          for (let i = 0; i < 3; i++) for (const one of [client, device, server]) one.turn(nowNs);
          nowNs += 1e5;
          await Promise.resolve();
        }
      };
      await listenEcho(server, 7);
      const echoes = Promise.all(Array.from({ length: 8 }, () => echo(client, "10.7.0.2", testBytes(5000))));
      let done = false;
      void echoes.finally(() => {
        done = true;
      });
      for (let round = 0; round < 100 && !done; round++) {
        await drive();
        await new Promise((resolve) => setImmediate(resolve));
      }
      await echoes;
      return device.queueFrames();
    };
    const frames = await run();
    expect(frames.filter((count) => count > 0).length).toBeGreaterThan(1);
    expect(await run()).toEqual(frames);
  });

  it("a capture may stand before or behind the steering", async () => {
    const segment = await createSegment({ shared: false, portsMax: 2 });
    const before = new MemorySink();
    const behind = new MemorySink();
    const steered = await steerInSoftware(captureDevice(segment.createCard(), before), { queues: 2, shared: false });
    const device = captureDevice(steered, behind);
    cleanUp.push(() => device.close());
    const server = await createStack({ device, address: "10.7.0.2/24", tuning });
    cleanUp.push(() => server.close({ drainMs: 0 }));
    const client = await createStack({ device: segment.createCard(), address: "10.7.0.1/24", tuning });
    cleanUp.push(() => client.close({ drainMs: 0 }));
    await listenEcho(server, 7);
    await echo(client, "10.7.0.2", testBytes(10_000));
    expect((await server.stats()).softwareSteered).toBeGreaterThan(5);
    for (const sink of [before, behind]) expect(sink.bytes().length).toBeGreaterThan(20_000);
  });
});

describe("what is refused", () => {
  it("more kernels than queues: the error names steerInSoftware", async () => {
    const segment = await createSegment({ shared: false });
    const stack = createStack({ device: segment.createCard(), kernels: 2, address: "10.7.0.2/24" });
    await expect(stack).rejects.toMatchObject({
      code: "ERR_OPTION_COMBINATION",
      message: expect.stringContaining("steerInSoftware(device"),
    });
  });

  it("bad options, devices that steer themselves, queues that are taken", async () => {
    const segment = await createSegment({ shared: false });
    const card = segment.createCard();
    const refused: readonly Partial<SoftwareSteeringOptions>[] = [
      { queues: 0 },
      { queues: 64 },
      { queues: 1.5 },
      { spinUs: -1 },
      { drive: "never" as "manual" },
      { pauseMsMax: 0 },
      { retaEntries: 3 },
    ];
    for (const options of refused) {
      await expect(steerInSoftware(card, { queues: 2, shared: false, ...options })).rejects.toMatchObject({
        code: "ERR_OPTION_RANGE",
      });
    }
    await expect(steerInSoftware(segment.createCard({ queues: 2 }), { queues: 4 })).rejects.toMatchObject({
      code: "ERR_OPTION_COMBINATION",
    });
    const device = await steerInSoftware(card, { queues: 2, shared: false });
    await expect(steerInSoftware(card, { queues: 2, shared: false })).rejects.toMatchObject({ code: "EBUSY" });
    await device.close();
  });
});
