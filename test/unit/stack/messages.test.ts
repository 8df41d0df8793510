/** What kernels tell each other, and that it has nothing to do with packets. */
import { afterEach, describe, expect, it } from "vitest";
import { parseAddress } from "../../../src/ip/address.ts";
import { EVENT_HANDLE, EVENT_MASK, EVENT_READABLE, EVENT_SIZE_BYTES } from "../../../src/layout/event.ts";
import { createSegment } from "../../../src/device/card/segment.ts";
import { createStack } from "../../../src/stack.ts";
import type { Stack } from "../../../src/types.ts";
import { createStackPair } from "../../helpers/stacks.ts";

const PACKETS = 1_000_000;
const CONNECTIONS = 64;
const MESSAGE_BYTES = 65536;
const EVENT_WORDS = EVENT_SIZE_BYTES / 4;

const cleanUp: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of cleanUp.splice(0).reverse()) await close();
});

/** Takes what comes, at the handle level. */
function consumeAll({ kernels }: Stack, onAcceptable: (kernel: number, handle: number) => void): void {
  for (const { handles, kernelId } of kernels) {
    handles.onEvents((words, first, count) => {
      for (let i = 0, at = first; i < count; i++, at += EVENT_WORDS) {
        const handle = words[at + EVENT_HANDLE / 4] as number;
        if (((words[at + EVENT_MASK / 4] as number) & EVENT_READABLE) === 0) onAcceptable(kernelId, handle);
        else while (handles.peek(handle) > 0) handles.consume(handle, handles.available);
      }
    });
  }
}

describe("messages between kernels", () => {
  it("are none for a million packets through four kernels", async () => {
    const tuning = { memoryBytes: 64 << 20, connectionsMax: 1024 };
    const segment = await createSegment({ shared: false, portsMax: 8 });
    const create = (address: string, queues: number) =>
      createStack({ device: segment.createCard({ queues, mtuBytes: 576 }), address, drive: "manual", tuning });
    const server = await create("10.7.0.2/24", 4);
    const client = await create("10.7.0.1/24", 1);
    cleanUp.push(
      () => segment.close(),
      () => server.close(),
      () => client.close(),
    );
    const listener = server.kernels.map(({ handles }) => handles.listen(7));
    consumeAll(server, (kernel, handle) => {
      if (handle === listener[kernel]) while ((server.kernels[kernel]?.handles.accept(handle) ?? -1) >= 0);
    });
    const handles = (client.kernels[0] as Stack["kernels"][number]).handles;
    const area = handles.alloc(MESSAGE_BYTES);
    const connections = Array.from({ length: CONNECTIONS }, () => handles.connect(parseAddress("10.7.0.2"), 7));
    let nowNs = 1e9;
    const turn = () => {
      nowNs += 10_000;
      client.turn(nowNs);
      server.turn(nowNs);
    };
    for (let i = 0; i < 100; i++) turn();
    // Starting and listening is done; what is told about that has been told.
    await new Promise((resolve) => setImmediate(resolve));
    const before = (await server.stats()).messages;
    const frames = async () => (await server.stats()).total.rxFrames as number;
    for (let turns = 0; turns < 1e6 && (turns % 256 !== 0 || (await frames()) < PACKETS); turns++) {
      for (const handle of connections) handles.send(handle, area, MESSAGE_BYTES);
      turn();
    }
    const { total, kernels, messages } = await server.stats();
    expect(total.rxFrames).toBeGreaterThanOrEqual(PACKETS);
    for (const { rxFrames } of kernels) expect(rxFrames).toBeGreaterThan(PACKETS / 100);
    const rates = { sentPerSecond: 0, sentPerSecondByType: {} };
    expect({ ...messages, ...rates }).toEqual({ ...before, ...rates });
    expect([messages.sentPerSecond, messages.sentPerSecondByType]).toEqual([0, {}]);
    expect(messages.sent.holds).toBe(3);
  }, 120_000);

  it("are counted by type, over all lives of the kernels", async () => {
    const pair = await createStackPair({ serverKernels: 3 });
    cleanUp.push(pair.close);
    pair.server.on("kernel", () => {});
    await pair.server.listen(80);
    const { sent } = (await pair.server.stats()).messages;
    // The others tell the owner that they have nothing; the stack's own claims are made through the owner itself.
    expect(sent).toMatchObject({ reset: 2, reclaimed: 2 });
    pair.server.killKernel(0);
    await expect.poll(async () => (await pair.server.stats()).statuses[0]).toEqual({ state: "up", restarts: 1 });
    const after = (await pair.server.stats()).messages;
    expect(after.sent.reclaimed).toBeGreaterThanOrEqual(4);
    expect(after.received).toEqual(after.sent);
    expect([after.corrupt, after.unknown, after.refused]).toEqual([0, 0, 0]);
  });
});

describe("a balancer policy that throws", () => {
  it("is reported once, and nothing moves any more", async () => {
    const decide = () => {
      throw new Error("no idea");
    };
    const balancer = { name: "mine", periodNs: 1e6, decide };
    const pair = await createStackPair({ serverKernels: 2, server: { drive: "manual", balancer } });
    cleanUp.push(pair.close);
    const errors: unknown[] = [];
    pair.server.on("error", ({ error, fatal }) => errors.push([(error as { code?: string }).code, fatal]));
    // Listeners hear of what happens once createStack has returned.
    await new Promise((resolve) => setTimeout(resolve, 5));
    for (let nowNs = 1e9; nowNs < 1.1e9; nowNs += 1e6) pair.server.turn(nowNs);
    expect(errors).toEqual([["ERR_BALANCER_POLICY", false]]);
    expect((await pair.server.stats()).balancer).toMatchObject({ policy: "static", moves: {} });
  });
});
