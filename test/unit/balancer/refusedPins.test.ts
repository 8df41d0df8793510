/** A card whose exact filters are all in use: groups with connections stay, and nothing is torn. */
import { afterEach, expect, it } from "vitest";
import type { Move } from "../../../src/balancer/policy.ts";
import { createSegment } from "../../../src/device/card/segment.ts";
import { parseAddress } from "../../../src/ip/address.ts";
import { createStack } from "../../../src/stack.ts";
import type { BalanceEvent, Stack } from "../../../src/index.ts";

const tuning = { memoryBytes: 32 << 20, connectionsMax: 1024 };
const PORT = 80;
const STRANGER = parseAddress("10.7.0.77");
const SERVER = parseAddress("10.7.0.2");

const cleanUp: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of cleanUp.splice(0).reverse()) await close();
});

/** Two kernels on one thread, with a policy that makes the moves wanted. */
async function start() {
  const segment = await createSegment({ shared: false, portsMax: 4 });
  cleanUp.push(() => segment.close());
  const card = segment.createCard({ queues: 2 });
  const wanted: Move[] = [];
  const pinsFree: number[] = [];
  const server = await createStack({
    device: card,
    address: "10.7.0.2/24",
    tuning,
    balancer: {
      name: "by hand",
      periodNs: 1e6,
      decide: (observation, state) => {
        pinsFree.push(observation.pinsFree);
        return { moves: wanted.splice(0), state };
      },
    },
  });
  cleanUp.push(() => server.close({ drainMs: 0 }));
  const client = await createStack({ device: segment.createCard(), address: "10.7.0.1/24", tuning });
  cleanUp.push(() => client.close({ drainMs: 0 }));
  const events: BalanceEvent[] = [];
  server.on("balance", (event) => events.push(event));
  await server.listen(PORT, {
    onConnection: ({ readable, writable }) => void readable.pipeTo(writable).catch(() => {}),
  });
  return { card, server, client, wanted, events, pinsFree };
}

async function connect(client: Stack, localPort: number) {
  const { readable, writable } = await client.connect({ address: "10.7.0.2", port: PORT, localPort });
  const reader = readable.getReader();
  const writer = writable.getWriter();
  return async (byte: number) => {
    await writer.write(Uint8Array.of(byte));
    return (await reader.read()).value;
  };
}

it("a group stays where its connection is, and moves as soon as there is a filter for it", async () => {
  const { card, server, client, wanted, events, pinsFree } = await start();
  const localPort = 33_000;
  const group = localPort & 4095;
  const echo = await connect(client, localPort);
  const from = card.flowGroupQueue(group) as number;
  const stranger = (localPortOf: number) => ({
    ...{ remote: STRANGER, remotePort: 1 + localPortOf, local: SERVER, localPort: PORT },
  });
  let filled = 0;
  while (card.setFilter(stranger(filled), 0)) filled++;
  expect(filled).toBe(card.capabilities.exactFilters);

  const move = { group, from, to: 1 - from, reason: "test", pin: true };
  wanted.push(move);
  await expect.poll(() => events).toMatchObject([{ moves: [], refused: [{ group, refusal: "filters" }] }]);
  expect(card.flowGroupQueue(group)).toBe(from);
  expect(await echo(1)).toEqual(Uint8Array.of(1));
  const stats = await server.stats();
  expect(stats.filtersRefused).toBe(1);
  expect(stats.balancer).toMatchObject({ moves: {}, pinned: 0, strays: 0, refusals: { filters: 1, offer: 0 } });

  // The policy is told for a while that there are none.
  expect(pinsFree[0]).toBe(filled >> 1);
  await expect.poll(() => pinsFree.includes(0)).toBe(true);
  await expect.poll(() => pinsFree.at(-1), { timeout: 10_000 }).toBe(filled >> 1);

  card.clearFilter(stranger(7));
  wanted.push(move);
  await expect.poll(() => events.at(-1)).toMatchObject({ moves: [{ group }], refused: [] });
  expect(card.flowGroupQueue(group)).toBe(1 - from);
  expect(await echo(2)).toEqual(Uint8Array.of(2));
  const after = await server.stats();
  expect(after.balancer).toMatchObject({ moves: { test: 1 }, pinned: 1, strays: 0 });
  expect(after.total.tcpRstSent).toBe(0);
  for (let i = 0; i < filled; i++) card.clearFilter(stranger(i));
});
