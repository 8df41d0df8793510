/** Kernels that die in their threads, on the built package: what is lost, how fast the rest goes on, what is left. */
import { readdirSync } from "node:fs";
import { describe, expect, it } from "vitest";
import type * as Api from "../../src/index.ts";
import type { KernelEvent } from "../../src/types.ts";
import { readAll, testBytes, writeAll } from "../helpers/stacks.ts";
import { cleanUpAfterEach, startThreadedPair } from "../helpers/threadedPair.ts";

const echoApp = new URL("../fixtures/echoApp.mjs", import.meta.url);
const tuning = { memoryBytes: 32 << 20, connectionsMax: 8192, timeWaitMs: 100 };
const KERNELS = 3;
/** From the change of the card's tables to the event, on a machine that is busy with other things. */
const TOLD_MS_MAX = 100;
const VISITORS = 16;
const KILLS = 6;
/** Before a dead kernel is started again: long enough for the others to be seen serving. */
const OUTAGE_MS = 1500;
/** Far above what an exchange takes. */
const SILENT_MS = 4000;

const cleanUp = cleanUpAfterEach();

async function start(options: Partial<Api.StackOptions> = {}) {
  const {
    device: card,
    server,
    client,
  } = await startThreadedPair(cleanUp, {
    queues: KERNELS,
    tuning,
    // The balancer moves groups as it sees fit; here nothing but faults is to move anything.
    server: { app: echoApp, appArguments: { port: 7 }, balancer: "static", ...options },
  });
  const events: KernelEvent[] = [];
  server.on("kernel", (event) => events.push(event));
  const connect = () => client.connect({ address: "10.7.0.2", port: 7 });
  return { card, server, client, events, connect };
}

type Setup = Awaited<ReturnType<typeof start>>;

const asBytes = (last: number) => Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 10, 7, 0, last);

/** The queue to which the card brings a connection's segments. */
function homeOf({ card }: Setup, { localPort }: Api.Connection): number {
  return card.queueFor(asBytes(1), localPort, asBytes(2), 7);
}

/** Entries of the card's tables that name each queue. */
function entriesOf({ card: { placement } }: Setup): number[] {
  const entries = new Array<number>(KERNELS).fill(0);
  for (let entry = 0; entry < placement.entries; entry++) {
    const queue = placement.queueOf(entry);
    if (queue !== undefined) entries[queue] = (entries[queue] as number) + 1;
  }
  return entries;
}

async function exchange(connection: Api.Connection): Promise<void> {
  const bytes = testBytes(1000);
  const [echoed] = await Promise.all([readAll(connection.readable), writeAll(connection, bytes)]);
  expect(Buffer.compare(echoed, bytes)).toBe(0);
  await connection.closed;
}

const backUp = ({ events }: Setup, kernelId: number) =>
  expect
    .poll(() => events.filter((event) => event.kernelId === kernelId).at(-1)?.state, { timeout: 10_000 })
    .toBe("up");

describe("a kernel in a thread", () => {
  it.each([
    { way: "an exception that nobody catches", message: { throw: "the application's own mistake" }, reason: "error" },
    { way: "process.exit", message: { exit: true }, reason: "exit" },
    { way: "a trap", message: { trap: true }, reason: "trap" },
    { way: "a callback that never returns", message: { spin: true }, reason: "hang" },
  ])("that ends by $way is replaced; the others' connections live on", async ({ message, reason }) => {
    const setup = await start({ hangMs: 300 });
    const before = entriesOf(setup);
    const connections = await Promise.all(Array.from({ length: 30 }, setup.connect));
    const homes = connections.map((connection) => homeOf(setup, connection));
    setup.server.postMessage({ kernelId: 1, ...message });
    await new Promise((resolve) => setTimeout(resolve, 100));
    // A kernel that hangs is missed when somebody wants something of it.
    const outcomes = Promise.allSettled(connections.map(exchange));
    await expect.poll(() => setup.events[0], { timeout: 10_000 }).toMatchObject({ kernelId: 1, state: "down", reason });
    expect(entriesOf(setup)[1]).toBe(0);
    for (const [i, outcome] of (await outcomes).entries()) {
      if (homes[i] !== 1) expect(outcome.status).toBe("fulfilled");
      else if (outcome.status === "rejected") expect(outcome.reason).toMatchObject({ code: "ECONNRESET" });
    }
    expect(homes).toContain(1);
    await backUp(setup, 1);
    await expect.poll(() => entriesOf(setup), { timeout: 5000 }).toEqual(before);
    for (let i = 0; i < 30; i++) await exchange(await setup.connect());
    expect((await setup.server.stats()).statuses[1]).toEqual({ state: "up", restarts: 1 });
  });

  it("is not taken for dead while it is idle, or busy for less than hangMs", async () => {
    const setup = await start({ hangMs: 400 });
    const connections = await Promise.all(Array.from({ length: 12 }, setup.connect));
    setup.server.postMessage({ block: 200 });
    await Promise.all(connections.map(exchange));
    await new Promise((resolve) => setTimeout(resolve, 2000));
    expect(setup.events).toEqual([]);
  });
});

/** What a process holds that must not grow: threads, file descriptors, and the segment's ports. */
function held(): { threads: number; descriptors: number } {
  return { threads: readdirSync("/proc/self/task").length, descriptors: readdirSync("/proc/self/fd").length };
}

describe.runIf(process.platform === "linux")("one kernel killed after the other, under load", () => {
  it("loses the flows of the killed kernels only, never stops listening, and leaks nothing", async () => {
    const before = held();
    const setup = await start({ restart: { delayMs: OUTAGE_MS, delayMsMax: OUTAGE_MS } });
    const running = held();
    const { card, server, events } = setup;
    let killed = 0;
    /** Exchanges that began and ended while a kernel was down. */
    let servedMeanwhile = 0;
    /** When each kernel was last found dead. */
    const deadAt = new Array<number>(KERNELS).fill(Number.NEGATIVE_INFINITY);
    let downSince = Number.POSITIVE_INFINITY;
    /** By outage, what servedMeanwhile was at its end. */
    const served: number[] = [];
    server.on("kernel", ({ kernelId, state }) => {
      if (state === "down") {
        deadAt[kernelId] = downSince = performance.now();
        servedMeanwhile = 0;
      } else {
        downSince = Number.POSITIVE_INFINITY;
        served.push(servedMeanwhile);
      }
    });
    const tally = { served: 0, lost: 0, refused: 0, wrong: [] as unknown[] };
    let loading = true;
    const visit = async () => {
      while (loading) {
        const openedAt = performance.now();
        const connection = await setup.connect().catch((error: { code: string }) => {
          // It had got as far as a kernel that died then; the others answer RST to its next segment.
          tally.refused++;
          if (error.code !== "ECONNREFUSED" && error.code !== "ECONNRESET") tally.wrong.push(error);
          return undefined;
        });
        if (!connection) continue;
        const home = homeOf(setup, connection);
        const connectedAt = performance.now();
        // Who waits for a dead kernel and has nothing to send, waits for ever: as with any host that has crashed.
        const timer = setTimeout(() => connection.abort(), SILENT_MS);
        await exchange(connection).then(
          () => {
            tally.served++;
            if (downSince <= openedAt) servedMeanwhile++;
          },
          (error: unknown) => {
            tally.lost++;
            // Its kernel may have died while it was opened: then the card named the one that stands in, and the owner
            // had written that shortly before anybody is told.
            const unsure = deadAt.some((at) => at >= openedAt && at <= connectedAt + TOLD_MS_MAX);
            if (!unsure && (deadAt[home] as number) < openedAt) tally.wrong.push({ home, error });
          },
        );
        clearTimeout(timer);
      }
    };
    await exchange(await setup.connect());
    const visits = Array.from({ length: VISITORS }, visit);
    for (; killed < KILLS; killed++) {
      server.killKernel(killed % KERNELS);
      await expect.poll(() => served.length, { timeout: 10_000 }).toBe(killed + 1);
      await new Promise((resolve) => setTimeout(resolve, 500));
    }
    loading = false;
    await Promise.all(visits);
    // The others serve on, at whatever speed the machine allows.
    expect(Math.min(...served)).toBeGreaterThan(VISITORS);
    await expect
      .poll(async () => (await server.stats()).statuses.map(({ state }) => state), { timeout: 10_000 })
      .toEqual(["up", "up", "up"]);
    expect(tally.wrong).toEqual([]);
    expect(tally.lost + tally.refused).toBeLessThanOrEqual(killed * VISITORS);
    expect(events.filter(({ state }) => state === "down")).toHaveLength(killed);
    // Nothing is left of the dead.
    await expect.poll(() => held().threads).toBeLessThanOrEqual(running.threads);
    expect(held().descriptors).toBeLessThanOrEqual(running.descriptors + 2);
    const { total } = await server.stats();
    await expect.poll(async () => (await server.stats()).total.gaugeConnections).toBe(0);
    expect(total.tcpAccepted).toBeGreaterThanOrEqual(tally.served);
    expect(card.registers.filterCount).toBe(0);
    for (const close of cleanUp.splice(0).reverse()) await close();
    await expect.poll(() => held().threads).toBeLessThanOrEqual(before.threads + 1);
  }, 120_000);
});
