/** Where the host's steering program brings TCP connections, read back from the kernels' own counters. */
import { afterEach, beforeEach, describe, expect, it, type TestContext } from "vitest";
import type * as Tap from "../../src/device/tap/device.ts";
import type * as Api from "../../src/index.ts";
import { importBuilt } from "../helpers/dist.ts";
import { missing, Namespace } from "../helpers/namespace.ts";

const { createStack, parseAddress } = await importBuilt<typeof Api>("index.js");
const { openTap } = await importBuilt<typeof Tap>("device/tap/device.js");
const echoApp = new URL("../fixtures/echoApp.mjs", import.meta.url);
const tuning = { memoryBytes: 64 << 20, connectionsMax: 4096, timeWaitMs: 100 };
const KERNELS = 3;
const PORT = 7;
const SERVER = "10.7.0.2";
const CLIENT = "10.7.0.1";
/** Of the clients; outside of our own ephemeral range. */
const FIRST_PORT = 20_000;

let namespace: Namespace;
const cleanUp: (() => Promise<unknown>)[] = [];

beforeEach((context: TestContext) => {
  const reason = missing("curl");
  if (reason !== undefined) context.skip(reason);
  namespace = new Namespace();
});

afterEach(async () => {
  for (const close of cleanUp.splice(0).reverse()) await close();
  await namespace?.[Symbol.asyncDispose]();
});

async function start(flowGroups = 4096, port = PORT) {
  const device = await openTap({
    name: "pop0",
    queues: KERNELS,
    flowGroups,
    hostAddress: `${CLIENT}/24`,
    netns: namespace.name,
  });
  cleanUp.push(() => device.close());
  const server = await createStack({
    mode: "threads",
    device,
    address: `${SERVER}/24`,
    app: echoApp,
    appArguments: { port },
    balancer: "static",
    tuning,
  });
  cleanUp.push(() => server.close({ drainMs: 0 }));
  /** Connects from `localPort`, and hangs up. @returns in which kernel the connection was accepted. */
  const visit = async (localPort: number): Promise<number> => {
    const before = (await server.stats()).kernels.map(({ tcpAccepted }) => tcpAccepted ?? 0);
    const url = `telnet://${SERVER}:${port}`;
    await namespace.run(
      "curl",
      ["-s", "--local-port", String(localPort), "--max-time", "1", url],
      10_000,
      Buffer.from("x"),
    );
    const after = (await server.stats()).kernels.map(({ tcpAccepted }) => tcpAccepted ?? 0);
    return after.findIndex((accepted, kernel) => accepted > (before[kernel] as number));
  };
  return { device, server, visit };
}

describe("TCP over a TAP", () => {
  it.each([4096, 16])("goes to the kernel that its flow group, of %i, has been moved to", async (flowGroups) => {
    const { device, visit } = await start(flowGroups);
    expect(device.capabilities.flowGroups).toBe(flowGroups);
    for (let i = 0; i < 6; i++) {
      const port = FIRST_PORT + i;
      const group = port % flowGroups;
      expect(await visit(port)).toBe(device.flowGroupQueue(group));
      const target = ((device.flowGroupQueue(group) as number) + 1 + (i % 2)) % KERNELS;
      device.moveFlowGroup(group, target);
      // The same group by another port: the first is in TIME-WAIT at the client.
      expect(await visit(port + 8192)).toBe(target);
    }
  });

  it("goes by both ports to a service whose port is one of those that connect() uses", async () => {
    const service = 50_051;
    const { device, visit } = await start(4096, service);
    const seen = new Set<number>();
    for (let i = 0; i < 12; i++) {
      const port = FIRST_PORT + i;
      const kernel = await visit(port);
      expect(kernel).toBe(device.flowGroupQueue((port ^ service) & 4095));
      seen.add(kernel);
    }
    expect(seen.size).toBe(KERNELS);
  });

  it("goes where an exact filter says, whatever its group, until the filter is cleared", async () => {
    const { device, visit } = await start();
    const port = FIRST_PORT + 100;
    const home = device.flowGroupQueue(port & 4095) as number;
    const other = (home + 1) % KERNELS;
    const flow = (remotePort: number) => ({
      remote: parseAddress(CLIENT),
      remotePort,
      local: parseAddress(SERVER),
      localPort: PORT,
    });
    expect(device.setFilter?.(flow(port), other)).toBe(true);
    expect(await visit(port)).toBe(other);
    // Another flow of the same group, which has a filter now.
    expect(await visit(port + 8192)).toBe(home);
    expect(device.setFilter?.(flow(port + 4096), other)).toBe(true);
    device.clearFilter?.(flow(port + 4096));
    expect(await visit(port + 4096)).toBe(home);
    expect(device.setFilter?.({ ...flow(port), remote: parseAddress("fd00::1") }, other)).toBe(false);
  });
});
