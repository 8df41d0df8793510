/** UDP clients in the threads of several kernels: each hears the answers to its own questions. */
import { afterEach, expect, it } from "vitest";
import type * as Api from "../../src/index.ts";
import { importBuilt } from "../helpers/dist.ts";

const { createSegment, createStack } = await importBuilt<typeof Api>("index.js");
const askApp = new URL("../fixtures/askApp.mjs", import.meta.url);
const tuning = { memoryBytes: 64 << 20, connectionsMax: 1024 };
const KERNELS = 3;
const SOCKETS = 25;
const SERVICES = ["10.7.0.1", "10.7.0.3"];

const cleanUp: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of cleanUp.splice(0).reverse()) await close();
});

// The last: groups of the balancer's, as it has dealt them out, instead of the hash.
it.each([
  ["by the hash", "static"],
  ["by flow groups", "angel"],
] as const)(
  "%s",
  async (_, balancer) => {
    const segment = await createSegment({ portsMax: 8 });
    const device = segment.createCard({ queues: KERNELS });
    const server = await createStack({
      device: segment.createCard(),
      address: SERVICES.map((address) => `${address}/24`),
      sharedMemory: true,
      tuning,
    });
    cleanUp.push(() => server.close({ drainMs: 0 }));
    for (const service of SERVICES) {
      const echo = await server.bindUdp({ port: 53, address: service });
      void (async () => {
        for await (const { data, address, port } of echo) echo.send(data, { address, port });
      })();
    }
    const clients = await createStack({
      mode: "threads",
      device,
      address: "10.7.0.2/24",
      app: askApp,
      balancer,
      tuning,
    });
    cleanUp.push(() => clients.close({ drainMs: 0 }));
    const heard: unknown[] = [];
    clients.on("message", ({ data }) => heard.push(data));
    clients.postMessage({ addresses: SERVICES, port: 53 });
    await expect.poll(() => heard.length, { timeout: 30_000 }).toBe(KERNELS);
    const all = Array.from({ length: KERNELS }, (_, kernelId) => ({ kernelId, udp: SOCKETS, dgram: SOCKETS }));
    expect(heard).toEqual(expect.arrayContaining(all));
  },
  60_000,
);
