import { afterEach, describe, expect, test } from "vitest";
import { createStackPair, type StackPair } from "../../helpers/stacks.ts";

let pair: StackPair | undefined;
afterEach(async () => {
  await pair?.close();
  pair = undefined;
});

async function create(kernels: number, delayNs = 0): Promise<StackPair> {
  pair = await createStackPair({
    clientKernels: kernels,
    serverKernels: kernels,
    segment: { portsMax: 8, impairments: { delayNs } },
    client: { address: ["10.7.0.1/24", "fd07::1/64"], gateway: "10.7.0.2" },
    server: { address: ["10.7.0.2/24", "fd07::2/64"] },
  });
  return pair;
}

describe.each([1, 3])("ping, %i kernels", (kernels) => {
  test.each(["10.7.0.2", "fd07::2", "10.7.0.1", "127.0.0.1", "::1"])("%s answers", async (address) => {
    const { client } = await create(kernels);
    for (const bytes of [0, 56, 1472, 4000]) {
      const reply = await client.ping(address, { bytes });
      expect(reply).toMatchObject({ address, bytes, ttl: 64 });
      expect(reply.rttMs).toBeGreaterThanOrEqual(0);
    }
    const many = await Promise.all(Array.from({ length: 20 }, () => client.ping(address)));
    expect(many).toHaveLength(20);
  });

  test("nobody is there: the neighbour does not answer, or nobody in time", async () => {
    const { client } = await create(kernels);
    await expect(client.ping("10.7.0.99", { timeoutMs: 50 })).rejects.toMatchObject({ code: "ETIMEDOUT" });
    // The server is no router: what is not for it is dropped without a word.
    await expect(client.ping("198.51.100.1", { timeoutMs: 50 })).rejects.toMatchObject({ code: "ETIMEDOUT" });
    await expect(client.ping("2001:db8::1")).rejects.toMatchObject({ code: "ENETUNREACH" });
  });

  test("round trips count the wire", async () => {
    const { client } = await create(kernels, 5e6);
    await client.ping("10.7.0.2");
    const { rttMs } = await client.ping("10.7.0.2");
    expect(rttMs).toBeGreaterThanOrEqual(10);
  });
});

test("wrong use, and a stack that is closed meanwhile", async () => {
  const { client } = await create(1);
  await expect(client.ping("example.com")).rejects.toMatchObject({ code: "ERR_ADDRESS_FORMAT" });
  for (const options of [{ bytes: 8193 }, { ttl: 0 }, { timeoutMs: 0 }]) {
    await expect(client.ping("10.7.0.2", options)).rejects.toMatchObject({ code: "ERR_OPTION_RANGE" });
  }
  const waiting = client.ping("10.7.0.99", { timeoutMs: 60_000 });
  const refused = expect(waiting).rejects.toMatchObject({ code: "ERR_STACK_CLOSED" });
  await client.close({ drainMs: 0 });
  await refused;
  await expect(client.ping("10.7.0.2")).rejects.toMatchObject({ code: "ERR_STACK_CLOSED" });
});

test("replies that nobody has asked for are dropped", async () => {
  const { client } = await create(1, 20e6);
  await client.ping("10.7.0.2", { timeoutMs: 60_000 });
  const dropped = async () => (await client.stats()).total.dropEchoReply;
  expect(await dropped()).toBe(0);
  // The reply is on its way when nobody waits any more.
  await expect(client.ping("10.7.0.2", { timeoutMs: 1 })).rejects.toMatchObject({ code: "ETIMEDOUT" });
  await expect.poll(dropped).toBe(1);
});
