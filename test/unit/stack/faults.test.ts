/** What a dead kernel does to the rest of an inline stack: nothing but the loss of its own connections. */
import { afterEach, describe, expect, it } from "vitest";
import type { Card } from "../../../src/device/card/card.ts";
import { GAUGE_CONNECTIONS } from "../../../src/layout/counters.ts";
import type { Connection } from "../../../src/socket/connection.ts";
import type { KernelEvent, Stack, StackOptions } from "../../../src/types.ts";
import { createStackPair, readAll, type StackPair, testBytes, writeAll } from "../../helpers/stacks.ts";

const echoApp = new URL("../../fixtures/echoApp.mjs", import.meta.url);
const KERNELS = 3;

const cleanUp: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of cleanUp.splice(0).reverse()) await close();
});

type Setup = StackPair & { readonly card: Card; readonly events: KernelEvent[] };

async function setUp(server: Partial<StackOptions> = {}): Promise<Setup> {
  const pair = await createStackPair({ serverKernels: KERNELS, server: { balancer: "static", ...server } });
  cleanUp.push(pair.close);
  const events: KernelEvent[] = [];
  pair.server.on("kernel", (event) => events.push(event));
  return { ...pair, card: pair.segment.cards[1] as Card, events };
}

/** Queues named by the card's tables: entries of each. */
function entriesOf({ placement }: Card): number[] {
  const entries = new Array<number>(KERNELS).fill(0);
  for (let entry = 0; entry < placement.entries; entry++) {
    const queue = placement.queueOf(entry);
    if (queue !== undefined) entries[queue] = (entries[queue] as number) + 1;
  }
  return entries;
}

async function exchange(connection: Connection, bytes = testBytes(5000)): Promise<void> {
  const [echoed] = await Promise.all([readAll(connection.readable), writeAll(connection, bytes)]);
  expect(Buffer.compare(echoed, bytes)).toBe(0);
  await connection.closed;
}

const connectTo = (pair: StackPair) => pair.client.connect({ address: "10.7.0.2", port: 7 });
const backUp = (events: readonly KernelEvent[], kernelId: number) =>
  expect.poll(() => events.filter((event) => event.kernelId === kernelId).at(-1)?.state).toBe("up");

function echo(stack: Stack): Promise<unknown> {
  return stack.listen(7, {
    onConnection: ({ readable, writable }) => void readable.pipeTo(writable).catch(() => {}),
  });
}

/** The kernel of the server in which the client's connection lives. */
function homeOf(setup: Setup, connection: Connection): number {
  const { localPort } = connection;
  const asBytes = (last: number) => Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 10, 7, 0, last);
  return setup.card.queueFor(asBytes(1), localPort, asBytes(2), 7);
}

describe("a kernel that is killed", () => {
  it("loses its connections by RST, the others keep theirs, and listening never stops", async () => {
    const setup = await setUp();
    await echo(setup.server);
    const connections = await Promise.all(Array.from({ length: 30 }, () => connectTo(setup)));
    const homes = connections.map((connection) => homeOf(setup, connection));
    setup.server.killKernel(1);
    // At once: the next connection, whichever it is, is answered by another kernel.
    expect(entriesOf(setup.card)[1]).toBe(0);
    for (let i = 0; i < 30; i++) await exchange(await connectTo(setup));
    const outcomes = await Promise.allSettled(connections.map((connection) => exchange(connection)));
    for (const [i, outcome] of outcomes.entries()) {
      if (homes[i] !== 1) expect(outcome.status).toBe("fulfilled");
      else expect(outcome).toMatchObject({ status: "rejected", reason: { code: "ECONNRESET" } });
    }
    expect(homes).toContain(1);
  });

  it("is back soon, with its share of the packets, and what the stack listens on", async () => {
    const setup = await setUp();
    await echo(setup.server);
    const before = entriesOf(setup.card);
    for (const kernelId of [0, 2]) setup.server.killKernel(kernelId);
    await backUp(setup.events, 0);
    await backUp(setup.events, 2);
    await expect.poll(() => entriesOf(setup.card)).toEqual(before);
    for (let i = 0; i < 40; i++) await exchange(await connectTo(setup));
    const { kernels, statuses } = await setup.server.stats();
    for (const counters of kernels) expect(counters.tcpAccepted).toBeGreaterThan(3);
    expect(statuses.map(({ restarts }) => restarts)).toEqual([1, 0, 1]);
  });

  it("starts with another seed: sequence numbers of its last life are worth nothing", async () => {
    const setup = await setUp({ seed: 1 });
    const seedOf = () => setup.server.kernels[1]?.config.seed.join();
    const first = seedOf();
    setup.server.killKernel(1);
    await backUp(setup.events, 1);
    expect(seedOf()).not.toBe(first);
    const memories = new Set(setup.server.kernels.map(({ memory }) => memory.memory));
    expect(memories.size).toBe(KERNELS);
  });

  it("takes back no entry that others' new connections need, until they end", async () => {
    const setup = await setUp();
    await echo(setup.server);
    const before = entriesOf(setup.card);
    setup.server.killKernel(1);
    const meanwhile = await Promise.all(Array.from({ length: 30 }, () => connectTo(setup)));
    await backUp(setup.events, 1);
    // Time enough to give everything back that is free, twice.
    await new Promise((resolve) => setTimeout(resolve, 500));
    const held = entriesOf(setup.card);
    expect(held[1]).toBeGreaterThan(0);
    expect(held[1]).toBeLessThan(before[1] as number);
    for (const connection of meanwhile) await exchange(connection);
    await expect.poll(() => entriesOf(setup.card), { timeout: 5000 }).toEqual(before);
  });

  it("counts on in the statistics of its next life", async () => {
    const setup = await setUp();
    await echo(setup.server);
    for (let i = 0; i < 20; i++) await exchange(await connectTo(setup));
    const accepted = async () => (await setup.server.stats()).total.tcpAccepted;
    expect(await accepted()).toBe(20);
    setup.server.killKernel(0);
    expect(await accepted()).toBe(20);
    expect((await setup.server.stats()).statuses[0]).toEqual({ state: "down", restarts: 0 });
    await backUp(setup.events, 0);
    expect(await accepted()).toBe(20);
  });

  it("runs the application again, with its port", async () => {
    const setup = await setUp({ app: echoApp, appArguments: { port: 7 } });
    const started: unknown[] = [];
    setup.server.on("message", ({ data }) => started.push((data as { kernelId: number }).kernelId));
    setup.server.killKernel(2);
    await backUp(setup.events, 2);
    await expect.poll(() => started).toEqual([0, 1, 2, 2]);
    for (let i = 0; i < 40; i++) await exchange(await connectTo(setup));
    const last = setup.server.kernels[2];
    expect(last?.memory.counters().tcpAccepted).toBeGreaterThan(3);
    await expect.poll(() => last?.memory.counter(GAUGE_CONNECTIONS)).toBe(0);
  });

  it("may be the only one: what comes meanwhile is answered when it is back", async () => {
    const pair = await createStackPair({ server: { restart: { delayMs: 20 } } });
    cleanUp.push(pair.close);
    pair.server.on("kernel", () => {});
    await echo(pair.server);
    await exchange(await connectTo(pair));
    pair.server.killKernel(0);
    await exchange(await connectTo(pair));
  });

  it("may be the only one, and gone while somebody listens: it listens when it is back", async () => {
    const pair = await createStackPair({ server: { restart: { delayMs: 20 } } });
    cleanUp.push(pair.close);
    pair.server.on("kernel", () => {});
    pair.server.killKernel(0);
    await echo(pair.server);
    await exchange(await connectTo(pair));
  });

  it("stays down with restart: false, and no entry is left to it", async () => {
    const setup = await setUp({ restart: false });
    await echo(setup.server);
    setup.server.killKernel(0);
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(entriesOf(setup.card)[0]).toBe(0);
    for (let i = 0; i < 20; i++) await exchange(await connectTo(setup));
    expect(setup.events).toHaveLength(1);
    expect(setup.events[0]).not.toHaveProperty("restartMs");
  });
});

describe("driven by hand", () => {
  it("comes back in virtual time", async () => {
    const pair = await createStackPair({
      serverKernels: KERNELS,
      client: { drive: "manual" },
      server: { drive: "manual", seed: 3 },
    });
    cleanUp.push(pair.close);
    const states: string[] = [];
    pair.server.on("kernel", ({ kernelId, state }) => states.push(`${kernelId} ${state}`));
    pair.server.turn(1e9);
    pair.server.killKernel(1);
    await new Promise((resolve) => setImmediate(resolve));
    expect(pair.server.nextDeadlineNs()).toBeLessThanOrEqual(1.1e9);
    pair.server.turn(1.05e9);
    await new Promise((resolve) => setImmediate(resolve));
    expect((await pair.server.stats()).statuses[1]).toEqual({ state: "down", restarts: 0 });
    pair.server.turn(1.1e9);
    await new Promise((resolve) => setImmediate(resolve));
    expect((await pair.server.stats()).statuses[1]).toEqual({ state: "up", restarts: 1 });
    await expect.poll(() => states).toEqual(["1 down", "1 up"]);
  });

  it("asks for a neighbour again when its request was lost, however late its turn comes", async () => {
    const pair = await createStackPair({ client: { drive: "manual" }, server: { drive: "manual" } });
    cleanUp.push(pair.close);
    pair.client.turn(1e9);
    pair.client.connect({ address: "10.7.0.9", port: 7 }).catch(() => {});
    await new Promise((resolve) => setImmediate(resolve));
    const requests = async () => (await pair.client.stats()).total.arpRequestsSent;
    pair.client.turn(1.001e9);
    expect(await requests()).toBe(1);
    // Due after a second: a turn comes milliseconds later, as it does in real time.
    pair.client.turn(2.0071e9);
    expect(await requests()).toBe(2);
  });
});
