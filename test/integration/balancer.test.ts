/** The balancer over kernels in workers, on the built package: groups move while connections come and go. */
import { expect, it } from "vitest";
import type * as Api from "../../src/index.ts";
import { importBuilt } from "../helpers/dist.ts";
import { cleanUpAfterEach, startThreadedPair } from "../helpers/threadedPair.ts";

const { parseAddress } = await importBuilt<typeof Api>("index.js");
const shortApp = new URL("../fixtures/shortApp.mjs", import.meta.url);
const tuning = { memoryBytes: 64 << 20, connectionsMax: 16384, timeWaitMs: 0 };
const SERVER = parseAddress("10.7.0.2");
const PORT = 80;
const IN_FLIGHT = 48;

const cleanUp = cleanUpAfterEach();

it("angel takes groups from the busy kernel, the others accept, and no connection fails", async () => {
  const { device, server, client } = await startThreadedPair(cleanUp, {
    queues: 3,
    tuning,
    server: {
      app: shortApp,
      appArguments: { port: PORT, spinUs: 100 },
      // So that it acts however slow and busy the machine is.
      balancer: { policy: "angel", loadMin: 0.02, startGap: 0.01, stopGap: 0.005 },
    },
  });
  const events: Api.StackEvents["balance"][] = [];
  server.on("balance", (event) => events.push(event));

  // Every connection comes to kernel 0 at first.
  const hot = Array.from({ length: 4096 }, (_, group) => group).filter((group) => device.flowGroupQueue(group) === 0);
  const handles = client.kernels[0]?.handles;
  if (!handles) throw new Error("no kernel");
  const area = handles.alloc(64);
  let next = 0;
  let done = 0;
  let failed = 0;
  let stopping = false;
  const open = (): void => {
    if (stopping) return;
    const place = next++;
    const group = hot[place % 64] as number;
    const handle = handles.connect(SERVER, PORT, 32768 + group + 4096 * (Math.floor(place / 64) % 8));
    if (handle < 0) open();
  };
  handles.onEvents((words, first, count) => {
    for (let i = 0, at = first; i < count; i++, at += 4) {
      const handle = words[at] as number;
      const mask = (words[at + 1] as number) & 0xffff;
      if (mask & 1) handles.send(handle, area, 64);
      if (mask & 2) handles.receive(handle, area, 64);
      if (mask & (8 | 32)) handles.close(handle);
      if (!(mask & 16)) continue;
      if (mask & 32) failed++;
      else done++;
      open();
    }
  });
  open();
  handles.flush();
  await expect.poll(() => done, { timeout: 10_000 }).toBeGreaterThan(0);
  for (let i = 1; i < IN_FLIGHT; i++) open();
  handles.flush();

  const accepted = async () => (await server.stats()).kernels.map(({ tcpAccepted = 0 }) => tcpAccepted);
  await expect
    .poll(async () => Math.min(...(await accepted()).slice(1)), { timeout: 30_000, interval: 100 })
    .toBeGreaterThan(200);
  stopping = true;
  handles.flush();
  const { balancer } = await server.stats();
  expect(failed).toBe(0);
  expect(balancer?.policy).toBe("angel");
  expect(Object.values(balancer?.moves ?? {}).reduce((sum, moves) => sum + moves, 0)).toBeGreaterThan(10);
  expect(balancer?.groups.reduce((sum, groups) => sum + groups, 0)).toBe(4096);
  expect(Math.max(...(balancer?.loads ?? []))).toBeGreaterThan(0);
  expect(events.flatMap(({ moves }) => moves).every(({ from, to }) => from !== to)).toBe(true);
});
