/** A device whose frames the program carries itself. */
import { afterEach, describe, expect, it, vi } from "vitest";
import { createFrameDevice, type FrameDevice, type FrameDeviceOptions } from "../../../src/device/frameDevice.ts";
import { steerInSoftware } from "../../../src/device/steered/device.ts";
import { createStack } from "../../../src/stack.ts";
import type { Stack, StackOptions } from "../../../src/types.ts";
import { readAll, testBytes, writeAll } from "../../helpers/stacks.ts";

const tuning = { memoryBytes: 64 << 20, connectionsMax: 4096 };

const cleanUp: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of cleanUp.splice(0).reverse()) await close();
});

async function start(options: StackOptions): Promise<Stack> {
  const stack = await createStack({ seed: 1, tuning, ...options });
  cleanUp.push(() => stack.close({ drainMs: 0 }));
  return stack;
}

/** Two devices, each the other's outside. `toServer` may do something else with a frame, and say that it refuses it. */
function cross(toServer: (frame: Uint8Array, give: () => boolean) => boolean | undefined = (_, give) => void give()) {
  const client: FrameDevice = createFrameDevice({
    mac: "02:00:00:00:00:01",
    transmit: (frame) => toServer(frame, () => server.receive(frame)),
  });
  const server: FrameDevice = createFrameDevice({
    mac: Uint8Array.of(2, 0, 0, 0, 0, 2),
    transmit: (frame) => void client.receive(frame),
  });
  return { client, server };
}

async function startEcho(device: Parameters<typeof createStack>[0]["device"], kernels = 1): Promise<Stack> {
  const server = await start({ device, kernels, address: "10.7.0.2/24" });
  await server.listen(7, {
    onConnection: ({ readable, writable }) => void readable.pipeTo(writable).catch(() => {}),
  });
  return server;
}

async function echo(client: Stack, bytes: Uint8Array): Promise<Uint8Array> {
  const connection = await client.connect({ address: "10.7.0.2", port: 7 });
  const [, received] = await Promise.all([writeAll(connection, bytes), readAll(connection.readable)]);
  return received;
}

describe("a device whose frames the program carries", () => {
  it("joins two stacks, and counts", async () => {
    const { client, server } = cross();
    await startEcho(server);
    const stack = await start({ device: client, address: "10.7.0.1/24" });
    const bytes = testBytes(200_000);
    expect(await echo(stack, bytes)).toEqual(bytes);
    const statistics = client.statistics();
    expect(statistics.txBytes).toBeGreaterThan(bytes.length);
    expect(statistics.txFrames).toBe(server.statistics().rxFrames);
    expect(statistics).toMatchObject({ rxBadLength: 0, rxDropped: 0, txFailed: 0 });
    expect(client.queueFrames()).toEqual([statistics.rxFrames]);
  });

  it("keeps what is refused, in its order, until resume()", async () => {
    let calls = 0;
    // Every third call refuses; what was refused comes again, itself.
    const refused: Uint8Array[] = [];
    const { client, server } = cross((frame, give) => {
      const before = refused.pop();
      if (before) expect(frame).toEqual(before);
      else if (++calls % 3 === 0) {
        refused.push(frame.slice());
        setTimeout(() => client.resume(), 1);
        return false;
      }
      give();
      return undefined;
    });
    await startEcho(server);
    const stack = await start({ device: client, address: "10.7.0.1/24" });
    const bytes = testBytes(50_000);
    expect(await echo(stack, bytes)).toEqual(bytes);
    expect(calls).toBeGreaterThan(10);
  });

  it("goes on when it is resumed before transmit has refused", async () => {
    let calls = 0;
    const { client, server } = cross((_, give) => {
      if (++calls % 3 === 0) {
        client.resume();
        return false;
      }
      give();
      return undefined;
    });
    await startEcho(server);
    const stack = await start({ device: client, address: "10.7.0.1/24" });
    const bytes = testBytes(20_000);
    expect(await echo(stack, bytes)).toEqual(bytes);
  });

  it("loses a frame whose transmit throws, tells, and goes on", async () => {
    const errors: (() => void)[] = [];
    let calls = 0;
    const { client, server } = cross((_, give) => {
      if (++calls === 5) {
        vi.spyOn(globalThis, "queueMicrotask").mockImplementationOnce((task) => errors.push(task));
        throw new TypeError("no line");
      }
      give();
      return undefined;
    });
    await startEcho(server);
    const stack = await start({ device: client, address: "10.7.0.1/24" });
    const bytes = testBytes(20_000);
    expect(await echo(stack, bytes)).toEqual(bytes);
    expect(client.statistics().txFailed).toBe(1);
    expect(errors[0]).toThrow("no line");
    vi.restoreAllMocks();
  });

  it("drops what no kernel can take, and counts it", async () => {
    const device = createFrameDevice({ transmit: () => {} });
    expect(device.receive(new Uint8Array(60))).toBe(false);
    expect(() => device.receive(new ArrayBuffer(60) as never)).toThrow("new Uint8Array(buffer)");
    const stack = await start({ device, address: "10.7.0.1/24" });
    expect(device.receive(new Uint8Array(13))).toBe(false);
    expect(device.receive(new Uint8Array(1515))).toBe(false);
    expect(device.receive(new Uint8Array(1514))).toBe(true);
    // Nothing runs in between, so the ring must become full.
    let taken = 1;
    while (device.receive(new Uint8Array(1514))) taken++;
    await stack.close({ drainMs: 0 });
    expect(device.receive(new Uint8Array(60))).toBe(false);
    expect(device.statistics()).toMatchObject({ rxFrames: taken, rxBadLength: 2, rxDropped: 3 });
  });

  it("is steered by software for several kernels", async () => {
    const { client, server } = cross();
    const steered = await steerInSoftware(server, { queues: 3, shared: false });
    cleanUp.push(() => steered.close());
    const echoes = await startEcho(steered, 3);
    const stack = await start({ device: client, address: "10.7.0.1/24" });
    const bytes = testBytes(3000);
    for (const received of await Promise.all(Array.from({ length: 40 }, () => echo(stack, bytes)))) {
      expect(received).toEqual(bytes);
    }
    const { kernels } = await echoes.stats();
    for (const kernel of kernels) expect(kernel?.["tcpAccepted"]).toBeGreaterThan(0);
  });

  it("has an address of its own, and another takes it over when its stack is closed", async () => {
    const options: FrameDeviceOptions = { transmit: () => {} };
    const [one, other] = [createFrameDevice(options), createFrameDevice(options)];
    expect((one.mac[0] as number) & 3).toBe(2);
    expect(one.mac).not.toEqual(other.mac);
    const first = await start({ device: one, address: "10.7.0.1/24" });
    await expect(createStack({ device: one, address: "10.7.0.1/24", tuning })).rejects.toThrow("another stack's");
    await first.close({ drainMs: 0 });
    await start({ device: one, address: "10.7.0.1/24" });
  });

  it.each([
    [{ mtuBytes: 575 }, "576..65535"],
    [{ mtuBytes: 1500.5 }, "576..65535"],
    [{ mac: Uint8Array.of(1, 2) }, "6 bytes"],
    [{ mac: "02:00" }, "02:00"],
    [{ transmit: undefined as never }, "transmit"],
  ])("refuses %j", (wrong, text) => {
    expect(() => createFrameDevice({ transmit: () => {}, ...wrong })).toThrow(text);
  });

  it("says what to do for kernels in threads, and for a ring that is too small", async () => {
    const app = new URL("../../fixtures/shortApp.mjs", import.meta.url);
    const device = createFrameDevice({ transmit: () => {} });
    await expect(createStack({ device, mode: "threads", app, address: "10.7.0.1/24" })).rejects.toThrow(
      "steerInSoftware",
    );
    const jumbo = createFrameDevice({ transmit: () => {}, mtuBytes: 65_535 });
    await expect(
      createStack({ device: jumbo, address: "10.7.0.1/24", tuning: { ...tuning, rxRingBytes: 65_536 } }),
    ).rejects.toThrow("rxRingBytes");
  });
});
