/**
 * Goal: what chaosMinute.test.ts shows on the model card holds over a TAP, with Linux at the other end: a kernel killed
 * every second costs its own connections and nothing else. Method: as there; the client is a process in a namespace.
 */
import { once } from "node:events";
import { readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, expect, it } from "vitest";
import type * as Api from "../../src/index.ts";
import { Prng } from "../../src/sim/prng.ts";
import { importBuilt } from "../helpers/dist.ts";
import { missing, Namespace } from "../helpers/namespace.ts";

const { createStack, openTap } = await importBuilt<typeof Api>("index.js");
const chaosApp = new URL("../fixtures/chaosApp.mjs", import.meta.url);
const CLIENT = fileURLToPath(new URL("../fixtures/chaosClient.mjs", import.meta.url));
const KERNELS = 3;
const PORT = 7;
const SEED = Number(process.env.SEED ?? 1);
const SECONDS = Number(process.env.TAP_CHAOS_SECONDS ?? 15);
const STREAMS = 6;
const VISITORS = 6;
const quiet = { timeout: 20_000 };

type Ended = {
  /** Of the kernel that answered. */
  readonly thread?: number;
  readonly sent: number;
  readonly received: number;
  readonly wrong: number;
  readonly code: string;
  readonly beganMs: number;
  readonly endedMs: number;
};

const cleanUp: (() => Promise<unknown>)[] = [];
let namespace: Namespace;

beforeEach((context) => {
  const reason = missing();
  if (reason !== undefined) context.skip(reason);
  namespace = new Namespace();
  cleanUp.push(() => namespace[Symbol.asyncDispose]());
});

afterEach(async () => {
  for (const close of cleanUp.splice(0).reverse()) await close();
});

/** As the clients' own process counts. */
function nowMs(): number {
  return performance.timeOrigin + performance.now();
}

function held(): { threads: number; descriptors: number } {
  return { threads: readdirSync("/proc/self/task").length, descriptors: readdirSync("/proc/self/fd").length };
}

async function pools(stack: Api.Stack) {
  const { kernels, statuses } = await stack.stats();
  return kernels.map((counters, kernelId) => ({
    state: statuses[kernelId]?.state,
    connections: counters.gaugeConnections,
    flows: counters.gaugeFlows,
    streamBytes: counters.gaugeStreamBytes,
    listeners: counters.gaugeAcceptQueueMax,
  }));
}

async function start() {
  const device = await openTap({ name: "pop0", queues: KERNELS, netns: namespace.name, hostAddress: "10.7.0.1/24" });
  cleanUp.push(() => device.close());
  const server = await createStack({
    mode: "threads",
    device,
    address: "10.7.0.2/24",
    app: chaosApp,
    appArguments: { port: PORT },
    restart: { delayMs: 50, delayMsMax: 200 },
    hangMs: 30_000,
    tuning: { memoryBytes: 32 << 20, connectionsMax: 8192, timeWaitMs: 100, keepaliveIdleMs: 1000 },
  });
  cleanUp.push(() => server.close({ drainMs: 0 }));
  return server;
}

it(`a kernel behind a TAP is killed every second for ${SECONDS} s: only its connections are lost`, async () => {
  const heldBefore = held();
  const server = await start();
  const threads = new Map<number, number>();
  const up = new Set([0, 1, 2]);
  server.on("message", ({ data }) => {
    const { kernelId, lifeId } = data as { kernelId: number; lifeId: number };
    threads.set(kernelId, lifeId);
  });
  /** `goneMs`: when it was told that its packets go elsewhere. */
  const kills: { readonly kernelId: number; readonly thread: number; readonly atMs: number; goneMs: number }[] = [];
  server.on("kernel", ({ kernelId, state }) => {
    if (state === "up") up.add(kernelId);
    else up.delete(kernelId);
    const kill = kills.findLast((one) => one.kernelId === kernelId);
    if (state === "down" && kill) kill.goneMs = Math.min(kill.goneMs, nowMs());
  });
  await expect.poll(() => threads.size, quiet).toBe(KERNELS);
  const idle = { held: held(), pools: await pools(server) };

  const client = namespace.start(process.execPath, [CLIENT, "10.7.0.2", `${PORT}`, `${STREAMS}`, `${VISITORS}`], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  let printed = "";
  client.stdout?.setEncoding("utf8").on("data", (text: string) => {
    printed += text;
  });
  const prng = new Prng(SEED, 1);
  for (let second = 0; second < SECONDS; second++) {
    const victims = [...up].sort();
    const victim = victims[prng.below(victims.length)] as number;
    if (victims.length > 1) {
      up.delete(victim);
      const thread = threads.get(victim) as number;
      kills.push({ kernelId: victim, thread, atMs: nowMs(), goneMs: Number.POSITIVE_INFINITY });
      server.killKernel(victim);
    }
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
  client.stdin?.write("stop\n");
  // Not just its end: what it has printed last may still be in the pipe.
  if (client.exitCode === null || !client.stdout?.readableEnded) await once(client, "close");
  const ended = printed
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as Ended);
  const whole = ended.filter(({ code, sent, received }) => code === "" && received === sent);
  const failed = ended.filter((one) => !whole.includes(one));
  // Whoever has not heard from a kernel may have been that one's that was just going.
  const isExcused = ({ thread, beganMs, endedMs }: Ended) =>
    thread === undefined
      ? kills.some(({ atMs, goneMs }) => atMs <= endedMs && goneMs >= beganMs)
      : kills.some((kill) => kill.thread === thread);
  const bytes = ended.reduce((sum, { received }) => sum + received, 0);
  console.log(JSON.stringify({ kills: kills.length, whole: whole.length, failed: failed.length, bytes }));
  expect(ended.filter(({ wrong }) => wrong > 0)).toEqual([]);
  expect(failed.filter((one) => !isExcused(one))).toEqual([]);
  expect(kills.filter(({ goneMs }) => goneMs === Number.POSITIVE_INFINITY)).toEqual([]);
  expect(failed.length).toBeLessThanOrEqual(kills.length * (STREAMS + VISITORS));
  expect(kills.length).toBeGreaterThan(SECONDS / 2);
  expect(whole.length).toBeGreaterThan(SECONDS);
  // Nothing is left of the dead.
  await expect.poll(() => up.size, quiet).toBe(KERNELS);
  await expect.poll(() => pools(server), quiet).toEqual(idle.pools);
  await expect.poll(held, quiet).toEqual(idle.held);
  for (const close of cleanUp.splice(0).reverse()) await close();
  await expect.poll(() => held().descriptors, quiet).toBeLessThanOrEqual(heldBefore.descriptors);
}, 180_000);
