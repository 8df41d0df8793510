/** The kernel that owns the device sets the key of its hash; who takes over sees to it that it is so. */
import { afterEach, expect, it } from "vitest";
import { createSegment } from "../../../src/device/card/segment.ts";
import { TOEPLITZ_KEY_DEFAULT } from "../../../src/rss/toeplitz.ts";
import { createStack } from "../../../src/stack.ts";
import type { Stack } from "../../../src/types.ts";
import { readAll, testBytes, writeAll } from "../../helpers/stacks.ts";

const KERNELS = 3;
const KEY = Uint8Array.from({ length: 40 }, (_, index) => (index * 73 + 41) & 255);
const tuning = { memoryBytes: 32 << 20, connectionsMax: 1024 };

const cleanUp: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of cleanUp.splice(0).reverse()) await close();
});

async function createWorld() {
  const segment = await createSegment({ shared: false, portsMax: KERNELS + 1 });
  cleanUp.push(() => segment.close());
  // Groups are left to the hash, so connections depend on its key.
  const card = segment.createCard({ queues: KERNELS, flowGroups: false });
  expect([...card.rssKey()].slice(0, 40)).toEqual(TOEPLITZ_KEY_DEFAULT);
  const stack = await createStack({ device: card, address: "10.7.0.1/24", tuning, rssKey: KEY });
  cleanUp.push(() => stack.close({ drainMs: 0 }));
  const server = await createStack({ device: segment.createCard(), address: "10.7.0.2/24", tuning });
  cleanUp.push(() => server.close({ drainMs: 0 }));
  await server.listen(7, { onConnection: ({ readable, writable }) => void readable.pipeTo(writable).catch(() => {}) });
  return { segment, card, stack };
}

const keyOf = (card: { rssKey(): Uint8Array }) => card.rssKey().slice(0, KEY.length);

/** Nine connections, by the kernels in turn: each has its reply only where the hash is the one it has counted on. */
async function echo(stack: Stack): Promise<void> {
  const bytes = testBytes(2000);
  for (let i = 0; i < 3 * KERNELS; i++) {
    const connection = await stack.connect({ address: "10.7.0.2", port: 7 });
    const [echoed] = await Promise.all([readAll(connection.readable), writeAll(connection, bytes)]);
    expect(Buffer.compare(echoed, bytes)).toBe(0);
  }
}

it("is set before any kernel has its queue, and connections come home by it", async () => {
  const { card, stack } = await createWorld();
  expect(keyOf(card)).toEqual(KEY);
  await echo(stack);
  const { kernels } = await stack.stats();
  expect(kernels.map(({ tcpActiveOpens }) => tcpActiveOpens)).toEqual(Array(KERNELS).fill(3));
});

it("is written again by a kernel that takes over, if the owner has died at it", async () => {
  const { card, stack } = await createWorld();
  stack.on("kernel", () => {});
  card.setRssKey(Uint8Array.from({ length: 40 }, (_, index) => (index < 20 ? (KEY[index] as number) : 0)));
  stack.killKernel(0);
  await expect.poll(async () => (await stack.stats()).owner).toBe(1);
  await expect.poll(() => keyOf(card)).toEqual(KEY);
  await echo(stack);
});

it("must have 40 or 52 bytes, and a hash that it is for", async () => {
  const { segment } = await createWorld();
  const device = segment.createCard();
  const create = (rssKey: readonly number[], given: object = device) =>
    createStack({ device: given as typeof device, address: "10.7.0.9/24", tuning, rssKey });
  await expect(create([1, 2, 3])).rejects.toMatchObject({ code: "ERR_RSS_KEY" });
  const { capabilities, mac, rxLanes } = device;
  const other = { capabilities, mac, rxLanes, openPort() {}, describePort() {} };
  await expect(create([...KEY], other)).rejects.toMatchObject({
    code: "ERR_OPTION_COMBINATION",
  });
});
