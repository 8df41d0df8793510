/** Kernels in threads behind a device with one queue, steered by software on the thread that owns the device. */
import { afterEach, describe, expect, test } from "vitest";
import type { openTap as openTapType } from "../../src/device/tap/device.ts";
import type * as Api from "../../src/index.ts";
import { importBuilt } from "../helpers/dist.ts";
import { missing, Namespace } from "../helpers/namespace.ts";
import { readAll, testBytes, writeAll } from "../helpers/stacks.ts";

const { createSegment, createStack, steerInSoftware } = await importBuilt<typeof Api>("index.js");
const { openTap } = await importBuilt<{ openTap: typeof openTapType }>("device/tap/device.js");
const app = new URL("../fixtures/echoApp.mjs", import.meta.url);
const tuning = { memoryBytes: 64 << 20, connectionsMax: 4096 };
const KERNELS = 2;

const cleanUp: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of cleanUp.splice(0).reverse()) await close();
});

/** Kernels in threads behind `device`, which has one queue. */
async function serve(device: Api.Device) {
  const steered = await steerInSoftware(device, { queues: KERNELS });
  cleanUp.push(() => steered.close());
  const server = await createStack({
    mode: "threads",
    device: steered,
    address: "10.7.0.2/24",
    app,
    appArguments: { port: 7 },
    tuning,
  });
  cleanUp.push(() => server.close({ drainMs: 0 }));
  return { steered, server };
}

describe("two kernels in threads, one queue", () => {
  test("on a segment: both accept and connect, bytes are equal, and all sleep when idle", async () => {
    const segment = await createSegment({ portsMax: 2 });
    const card = segment.createCard({ checksumOffload: true, tsoBytesMax: 60_000 });
    const { server } = await serve(card);
    const client = await createStack({
      device: segment.createCard({ checksumOffload: true, tsoBytesMax: 60_000 }),
      address: "10.7.0.1/24",
      sharedMemory: true,
      tuning,
    });
    cleanUp.push(() => client.close({ drainMs: 0 }));
    const bytes = testBytes(300_000);
    for (let round = 0; round < 3; round++) {
      await Promise.all(
        Array.from({ length: 16 }, async () => {
          const connection = await client.connect({ address: "10.7.0.2", port: 7 });
          const [echoed] = await Promise.all([readAll(connection.readable), writeAll(connection, bytes)]);
          expect(Buffer.compare(echoed, bytes)).toBe(0);
          await connection.closed;
        }),
      );
    }
    const { kernels, queues, softwareSteered, total } = await server.stats();
    expect(total).toMatchObject({ tcpAccepted: 48, tcpNoListener: 0 });
    for (const counters of kernels) expect(counters.tcpAccepted).toBeGreaterThan(5);
    expect(softwareSteered).toBe(queues.reduce((sum, frames) => sum + frames));

    const replies: unknown[] = [];
    server.on("message", ({ data }) => replies.push(data));
    await client.listen(80, {
      onConnection: ({ readable, writable }) => void readable.pipeTo(writable).catch(() => {}),
    });
    for (let i = 0; i < 5; i++) server.postMessage({ connect: { address: "10.7.0.1", port: 80 } });
    const answered = () => replies.filter((reply) => (reply as { bytes?: number }).bytes === 1).length;
    await expect.poll(answered, { timeout: 10_000 }).toBe(5 * KERNELS);

    // A connection that rests for a while finds everybody asleep, and wakes each of them.
    const connection = await client.connect({ address: "10.7.0.2", port: 7 });
    const writer = connection.writable.getWriter();
    const reader = connection.readable.getReader();
    for (let i = 0; i < 3; i++) {
      await new Promise((resolve) => setTimeout(resolve, 200));
      const before = (await server.stats()).total.polls as number;
      await new Promise((resolve) => setTimeout(resolve, 100));
      expect(((await server.stats()).total.polls as number) - before).toBeLessThan(50);
      await writer.write(Uint8Array.of(i));
      expect((await reader.read()).value).toEqual(Uint8Array.of(i));
    }
    await writer.close();
  });

  test("a kernel that dies comes back, and a moved flow group goes where it is moved", async () => {
    const segment = await createSegment({ portsMax: 2 });
    const { server, steered } = await serve(segment.createCard());
    server.on("error", () => {});
    const client = await createStack({
      device: segment.createCard(),
      address: "10.7.0.1/24",
      sharedMemory: true,
      tuning,
    });
    cleanUp.push(() => client.close({ drainMs: 0 }));
    const back = new Promise<void>((resolve) => {
      server.on("kernel", ({ kernelId, state }) => {
        if (kernelId === 1 && state === "up") resolve();
      });
    });
    server.killKernel(1);
    await back;
    for (const [index, kernel] of [1, 0, 1, 0].entries()) {
      const localPort = 40_000 + index;
      await server.migrate(localPort & 4095, kernel);
      expect(steered.flowGroupQueue?.(localPort & 4095)).toBe(kernel);
      const accepted = async () => (await server.stats()).kernels[kernel]?.tcpAccepted as number;
      const before = await accepted();
      const connection = await client.connect({ address: "10.7.0.2", port: 7, localPort });
      const bytes = testBytes(10_000);
      const [echoed] = await Promise.all([readAll(connection.readable), writeAll(connection, bytes)]);
      expect(Buffer.compare(echoed, bytes)).toBe(0);
      expect(await accepted()).toBe(before + 1);
    }
  });

  test("at a TAP with one queue: Linux reaches both", async (context) => {
    const reason = missing();
    if (reason !== undefined) context.skip(reason);
    const namespace = new Namespace();
    cleanUp.push(() => namespace[Symbol.asyncDispose]());
    const device = await openTap({ name: "pop0", queues: 1, netns: namespace.name, hostAddress: "10.7.0.1/24" });
    const { server, steered } = await serve(device);
    expect(steered.capabilities).toMatchObject({ steering: "software", queues: KERNELS, checksumOffload: true });
    const source = `
      const bytes = require("node:crypto").randomBytes(500000);
      let right = 0;
      for (let i = 0; i < 40; i++) {
        const socket = require("node:net").connect(7, "10.7.0.2", () => socket.end(bytes));
        const got = [];
        socket.on("data", (chunk) => got.push(chunk));
        socket.on("end", () => {
          if (Buffer.concat(got).equals(bytes) && ++right === 40) console.log("all right");
        });
      }`;
    const client = await namespace.run(process.execPath, ["-e", source], 60_000);
    expect(client).toMatchObject({ status: 0, stdout: "all right\n", stderr: "" });
    const { kernels, total } = await server.stats();
    expect(total).toMatchObject({ tcpAccepted: 40, tcpNoListener: 0 });
    for (const counters of kernels) expect(counters.tcpAccepted).toBeGreaterThan(3);
    // Linux speaks (router solicitations) before the kernels have their queues. ARP replies are copied to each kernel.
    const placed = () => steered.softwareSteered() + steered.statistics().noKernel;
    const copies = () => placed() - device.statistics(0).rxFrames;
    await expect.poll(copies).toBeGreaterThanOrEqual(0);
    expect((await server.stats()).softwareSteered).toBeGreaterThan(1000);
  });
});
