/** Pool and queue, with stand-ins for simulations (test/fixtures/simTask.mjs) and a real Redis server. */
import { type ChildProcess, spawn } from "node:child_process";
import { createServer } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { parsePoint } from "../../src/sim/point.ts";
import type { CellResult } from "../../src/sim/sweep/combine.ts";
import type { Executor } from "../../src/sim/sweep/executor.ts";
import { planCells } from "../../src/sim/sweep/plan.ts";
import type * as pools from "../../src/sim/sweep/pool.ts";
import type * as queues from "../../src/sim/sweep/queue.ts";
import type * as connections from "../../src/sim/sweep/queueConnection.ts";
import { runSweep } from "../../src/sim/sweep/runSweep.ts";
import { ENDS_THREAD, NEVER_ENDS, THROWS } from "../fixtures/simTask.mjs";
import { importBuilt } from "../helpers/dist.ts";
import { RedisServer, redisMissing } from "../helpers/redis.ts";

const { PoolExecutor } = await importBuilt<typeof pools>("sim/sweep/pool.js");
const { QueueExecutor } = await importBuilt<typeof queues>("sim/sweep/queue.js");
const { parseQueueAddress } = await importBuilt<typeof connections>("sim/sweep/queueConnection.js");
const taskFile = new URL("../fixtures/simTask.mjs", import.meta.url);
const workerFile = fileURLToPath(new URL("../fixtures/simQueueWorker.mjs", import.meta.url));

function cellsOf(count: number, change: Readonly<Record<string, unknown>> = {}) {
  const points = Array.from({ length: count }, (_, index) =>
    parsePoint({ design: "mtcp", cores: 1 + (index % 8), workload: "web-epoll", seed: index, ...change }),
  );
  return planCells(points, 1, "test");
}

/** @param notes what the sweep says comes here, as it is said. */
async function sweep(
  executor: Executor,
  cells: ReturnType<typeof cellsOf>,
  signal = new AbortController().signal,
  notes: string[] = [],
) {
  const told: CellResult[] = [];
  const events = {
    onCell: (cell: CellResult) => told.push(cell),
    onProgress: () => {},
    onNote: (text: string) => notes.push(text),
    nowMs: () => 0,
  };
  await runSweep(cells, executor, undefined, events, signal);
  return { rates: told.map(({ result }) => result.connsPerSec) };
}

const expected = (cells: ReturnType<typeof cellsOf>) => cells.map(({ point: { cores, seed } }) => 1000 * cores + seed);

describe("threads", () => {
  test("do every task, side by side, in whatever order; the result has the plan's order", async () => {
    const executor = new PoolExecutor(4, taskFile);
    const cells = cellsOf(24);
    expect((await sweep(executor, cells)).rates).toEqual(expected(cells));
    await executor.close();
  });

  test.each([
    ["that throws", THROWS, "a bug in the model"],
    ["that ends its thread", ENDS_THREAD, "exit"],
  ])("a simulation %s is an error with its name; others go on", async (_, messageBytes, reason) => {
    const executor = new PoolExecutor(2, taskFile);
    const bad = cellsOf(1, { messageBytes });
    const good = cellsOf(5);
    const told: number[] = [];
    const events = {
      onCell: ({ result }: CellResult) => told.push(result.seed),
      onProgress: () => {},
      onNote: () => {},
      nowMs: () => 0,
    };
    const run = runSweep([...bad, ...good], executor, undefined, events, new AbortController().signal);
    await expect(run).rejects.toMatchObject({
      code: "ERR_SIM_CRASH",
      message: expect.stringMatching(new RegExp(`^mtcp at 1 core: .*${reason}`)),
    });
    expect(told).toEqual([0, 1, 2, 3, 4]);
    await executor.close();
  });

  test("an interrupt ends simulations that look at nothing", async () => {
    const executor = new PoolExecutor(2, taskFile);
    const controller = new AbortController();
    setTimeout(() => controller.abort(new Error("ended by SIGINT")), 500);
    await expect(sweep(executor, cellsOf(3, { messageBytes: NEVER_ENDS }), controller.signal)).rejects.toThrow(
      "ended by SIGINT",
    );
    await executor.close();
  });
});

describe("an address", () => {
  test("must be one of Redis", () => {
    for (const text of ["", "localhost", "http://127.0.0.1", "redis://", "redis:///1", "127.0.0.1:6379"]) {
      expect(() => parseQueueAddress(text)).toThrow(expect.objectContaining({ code: "ERR_QUEUE_ADDRESS" }));
    }
    expect(parseQueueAddress("redis://user:secret@host:7000/2").shown).toBe("host:7000");
    expect(parseQueueAddress("rediss://host").shown).toBe("host:6379");
  });

  test("where nobody listens, or nobody speaks Redis, is an error at once", async () => {
    const nobody = parseQueueAddress("redis://127.0.0.1:1");
    await expect(QueueExecutor.connect(nobody, "test")).rejects.toMatchObject({
      code: "ERR_QUEUE_UNREACHABLE",
      message: expect.stringContaining("127.0.0.1:1 (ECONNREFUSED)"),
    });
    const other = createServer((socket) => socket.end("HTTP/1.1 400 Bad Request\r\n\r\n"));
    await new Promise<void>((resolve) => other.listen(0, "127.0.0.1", resolve));
    const { port } = other.address() as { port: number };
    const wrong = QueueExecutor.connect(parseQueueAddress(`redis://127.0.0.1:${port}`), "test");
    await expect(wrong).rejects.toMatchObject({ code: "ERR_QUEUE_UNREACHABLE" });
    other.close();
  });
});

const missing = redisMissing();
/** The same for all: who looks for lost points does so for the whole queue, as often as it was told itself. */
const LOST_AFTER_MS = 3_000;

describe("a queue", () => {
  let server: RedisServer;
  const children = new Set<ChildProcess>();

  beforeAll(async () => {
    if (missing === undefined) server = await RedisServer.start();
  });
  afterEach(() => {
    for (const child of children) child.kill("SIGKILL");
    children.clear();
  });
  afterAll(() => server?.stop());

  /** @returns the worker's process and its lines, which grow. */
  async function startWorker(lostAfterMs = LOST_AFTER_MS, ...words: string[]) {
    const child = spawn(process.execPath, [workerFile, server.address, String(lostAfterMs), ...words], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    children.add(child);
    const lines: string[] = [];
    child.stdout.setEncoding("utf8").on("data", (text: string) => lines.push(...text.split("\n").filter(Boolean)));
    const exited = new Promise<number | null>((resolve) => child.once("exit", resolve));
    for (let waits = 0; !lines.includes("ready"); waits++) {
      if (waits > 400) throw new Error("the worker does not start");
      await sleep(50);
    }
    return { child, lines, exited, done: () => lines.filter((line) => line.startsWith("done")).length };
  }

  const connect = () => QueueExecutor.connect(parseQueueAddress(server.address), "test");

  test("brings points to workers and results back, each once, in the plan's order", async (context) => {
    if (missing !== undefined) return context.skip(missing);
    const workers = [await startWorker(), await startWorker()];
    const executor = await connect();
    const cells = cellsOf(30, { durationS: 0.02, backlog: 100 });
    expect((await sweep(executor, cells)).rates).toEqual(expected(cells));
    await executor.close();
    const counts = workers.map((worker) => worker.done());
    expect(counts.reduce((sum, count) => sum + count, 0)).toBe(30);
    for (const count of counts) expect(count).toBeGreaterThan(0);
  });

  test("says that it waits for workers, and goes on when one comes", async (context) => {
    if (missing !== undefined) return context.skip(missing);
    const executor = await connect();
    const cells = cellsOf(3, { backlog: 101 });
    const notes: string[] = [];
    const running = sweep(executor, cells, undefined, notes);
    await expect.poll(() => notes.join()).toContain("no worker of this build");
    await startWorker();
    expect((await running).rates).toEqual(expected(cells));
    await executor.close();
  });

  test("gives the points of a killed worker to others", async (context) => {
    if (missing !== undefined) return context.skip(missing);
    const killed = await startWorker();
    const executor = await connect();
    const cells = cellsOf(6, { durationS: 0.3, backlog: 102 });
    const running = sweep(executor, cells);
    // It has done something and is in the middle of something else.
    while (killed.done() === 0) await sleep(10);
    killed.child.kill("SIGKILL");
    const other = await startWorker();
    expect((await running).rates).toEqual(expected(cells));
    expect(killed.done()).toBeLessThan(6);
    // What the killed one had in its two threads may be done again, nothing else.
    expect(killed.done() + other.done()).toBeGreaterThanOrEqual(6);
    expect(killed.done() + other.done()).toBeLessThanOrEqual(8);
    await executor.close();
  });

  test("keeps the results of a sweep whose collector was killed: nothing is done twice", async (context) => {
    if (missing !== undefined) return context.skip(missing);
    const cells = cellsOf(8, { durationS: 0.05, backlog: 103 });
    const first = await connect();
    const worker = await startWorker();
    const controller = new AbortController();
    // Gone without taking anything back, as a process that is killed: its connections just close.
    const lost = first.run(
      cells.flatMap(({ tasks }) => tasks),
      { onProgress: () => {}, onNote: () => {}, onOutcome: () => {} },
      controller.signal,
    );
    lost.catch(() => {});
    while (worker.done() < 2) await sleep(10);
    await first.close();
    while (worker.done() < 8) await sleep(20);
    const second = await connect();
    expect((await sweep(second, cells)).rates).toEqual(expected(cells));
    expect(worker.done()).toBe(8);
    await second.close();
  });

  test("an interrupted sweep takes back what nobody has begun", async (context) => {
    if (missing !== undefined) return context.skip(missing);
    const cells = cellsOf(20, { durationS: 0.2, backlog: 104 });
    const executor = await connect();
    const worker = await startWorker();
    const controller = new AbortController();
    const running = sweep(executor, cells, controller.signal);
    while (worker.done() === 0) await sleep(10);
    controller.abort(new Error("ended by SIGINT"));
    await expect(running).rejects.toThrow("ended by SIGINT");
    await executor.close();
    await sleep(1_000);
    expect(worker.done()).toBeLessThan(8);
  });

  test("tries again what kills its thread, then tells; a simulation's own error is told at once", async (context) => {
    if (missing !== undefined) return context.skip(missing);
    const worker = await startWorker();
    const executor = await connect();
    await expect(sweep(executor, cellsOf(1, { messageBytes: ENDS_THREAD }))).rejects.toMatchObject({
      code: "ERR_SIM_CRASH",
    });
    expect(worker.done()).toBe(3);
    await executor.close();
  });

  test("survives a server that goes away and comes back empty", async (context) => {
    if (missing !== undefined) return context.skip(missing);
    const cells = cellsOf(12, { durationS: 0.1, backlog: 105 });
    const worker = await startWorker();
    const executor = await connect();
    const running = sweep(executor, cells);
    while (worker.done() < 2) await sleep(10);
    await server.restart();
    expect((await running).rates).toEqual(expected(cells));
    await executor.close();
  });

  test("a worker drains the queue, or ends after what runs on SIGINT", async (context) => {
    if (missing !== undefined) return context.skip(missing);
    const cells = cellsOf(4, { durationS: 0.5, backlog: 106 });
    const executor = await connect();
    const running = sweep(executor, cells);
    const interrupted = await startWorker();
    await sleep(300);
    interrupted.child.kill("SIGINT");
    expect(await interrupted.exited).toBe(0);
    expect(interrupted.done()).toBeGreaterThan(0);
    expect(interrupted.done()).toBeLessThan(4);
    const draining = await startWorker(LOST_AFTER_MS, "drain");
    expect(await draining.exited).toBe(0);
    expect((await running).rates).toEqual(expected(cells));
    expect(interrupted.done() + draining.done()).toBe(4);
    await executor.close();
  });
});
