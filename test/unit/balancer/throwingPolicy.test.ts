/** A policy that throws: nothing moves any more, and pinned connections live on where they are. */
import { afterEach, expect, it } from "vitest";
import type { Move } from "../../../src/balancer/policy.ts";
import { createSegment } from "../../../src/device/card/segment.ts";
import type { NetPopcornError } from "../../../src/errors.ts";
import { createStack } from "../../../src/stack.ts";

const tuning = { memoryBytes: 32 << 20, connectionsMax: 1024, timeWaitMs: 0 };
const LOCAL_PORT = 33_000;
const GROUP = LOCAL_PORT & 4095;

const cleanUp: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of cleanUp.splice(0).reverse()) await close();
});

it("keeps pinned connections pinned, and their filters go when they end", async () => {
  const segment = await createSegment({ shared: false, portsMax: 4 });
  cleanUp.push(() => segment.close());
  const card = segment.createCard({ queues: 2 });
  const wanted: Move[] = [];
  let isBroken = false;
  const server = await createStack({
    device: card,
    address: "10.7.0.2/24",
    tuning,
    balancer: {
      name: "fragile",
      periodNs: 1e6,
      decide: (_observation, state) => {
        if (isBroken) throw new Error("boom");
        return { moves: wanted.splice(0), state };
      },
    },
  });
  cleanUp.push(() => server.close({ drainMs: 0 }));
  const client = await createStack({ device: segment.createCard(), address: "10.7.0.1/24", tuning });
  cleanUp.push(() => client.close({ drainMs: 0 }));
  const errors: unknown[] = [];
  server.on("error", ({ error }) => errors.push((error as NetPopcornError).code));
  await server.listen(80, { onConnection: ({ readable, writable }) => void readable.pipeTo(writable).catch(() => {}) });
  const { readable, writable } = await client.connect({ address: "10.7.0.2", port: 80, localPort: LOCAL_PORT });
  const [reader, writer] = [readable.getReader(), writable.getWriter()];
  const echo = async (byte: number) => {
    await writer.write(Uint8Array.of(byte));
    return (await reader.read()).value;
  };
  expect(await echo(1)).toEqual(Uint8Array.of(1));
  const from = card.flowGroupQueue(GROUP) as number;
  wanted.push({ group: GROUP, from, to: 1 - from, reason: "test", pin: true });
  await expect.poll(() => card.flowGroupQueue(GROUP)).toBe(1 - from);

  isBroken = true;
  await expect.poll(() => errors).toEqual(["ERR_BALANCER_POLICY"]);
  expect(await echo(2)).toEqual(Uint8Array.of(2));
  expect(card.registers.filterCount).toBe(1);
  const { balancer, total } = await server.stats();
  expect(balancer).toMatchObject({ policy: "static", pinned: 1, moves: { test: 1 } });
  expect(total.tcpRstSent).toBe(0);

  await writer.close();
  await reader.read();
  await expect.poll(() => card.registers.filterCount, { timeout: 10_000 }).toBe(0);
  expect(errors.length).toBe(1);
});
