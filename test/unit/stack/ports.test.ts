/** One socket over all kernels: what may be bound, and who gets what. */
import { afterEach, describe, expect, it } from "vitest";
import type { Connection } from "../../../src/socket/connection.ts";
import type { Listener } from "../../../src/socket/listener.ts";
import type { Stack } from "../../../src/types.ts";
import { createStackPair, readAll, type StackPair, type StackPairOptions, writeAll } from "../../helpers/stacks.ts";

const KERNELS = 3;
const cleanUp: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of cleanUp.splice(0).reverse()) await close();
});

async function setUp(options: StackPairOptions = {}): Promise<StackPair> {
  const pair = await createStackPair({ serverKernels: KERNELS, ...options });
  cleanUp.push(pair.close);
  pair.server.on("kernel", () => {});
  return pair;
}

const refused = (listening: Promise<unknown>, code: string) => expect(listening).rejects.toMatchObject({ code });
const says = (stack: Stack, port: number, text: string, address?: string): Promise<Listener> =>
  stack.listen({
    port,
    ...(address === undefined ? {} : { address }),
    onConnection: (connection) => void writeAll(connection, new TextEncoder().encode(text)),
  });

async function hear(pair: StackPair, address: string, port: number): Promise<string> {
  const connection: Connection = await pair.client.connect({ address, port });
  const [bytes] = await Promise.all([readAll(connection.readable), connection.writable.close()]);
  return new TextDecoder().decode(bytes);
}

describe("the owner of the ports", () => {
  it("may die, at any time: ports that are held stay held, and claims are answered", async () => {
    const { server } = await setUp();
    const listener = await server.listen(80);
    const drawn = await server.listen(0);
    for (let owner = 0; owner < KERNELS - 1; owner++) {
      const pending = server.listen(1000 + owner);
      server.killKernel(owner);
      expect((await pending).port).toBe(1000 + owner);
      await refused(server.listen(80), "EADDRINUSE");
      await refused(server.listen(drawn.port), "EADDRINUSE");
    }
    await expect
      .poll(async () => (await server.stats()).statuses.map(({ state }) => state))
      .toEqual(["up", "up", "up"]);
    await listener.close();
    expect((await server.listen(80)).port).toBe(80);
    const owners = server.kernels.map(({ control }) => control.owner);
    expect(new Set(owners).size).toBe(1);
    expect(
      server.kernels.map(({ control }) => control.portOwner.portCount).filter((count) => count !== undefined),
    ).toEqual([4]);
  });

  it("is another after it has been removed", async () => {
    const { server } = await setUp();
    await server.listen(80);
    await server.removeKernel(0);
    expect(server.kernels[1]?.control.owner).toBe(1);
    await refused(server.listen(80), "EADDRINUSE");
    expect((await server.listen(81)).port).toBe(81);
  });

  it("is there in virtual time, where nothing runs but what is told to", async () => {
    const { server } = await setUp({ server: { drive: "manual" }, client: { drive: "manual" } });
    const listener = await server.listen(80);
    await refused(server.listen(80), "EADDRINUSE");
    server.killKernel(0);
    await refused(server.listen(80), "EADDRINUSE");
    await listener.close();
    expect((await server.listen(80)).port).toBe(80);
  });
});

describe("binding", () => {
  it("to all addresses and to one of them is possible together; the exact one gets its connections", async () => {
    const pair = await setUp({ server: { address: ["10.7.0.2/24", "10.7.0.3/24"] } });
    await says(pair.server, 80, "any");
    await says(pair.server, 80, "exact", "10.7.0.3");
    await refused(pair.server.listen({ port: 80, address: "10.7.0.3" }), "EADDRINUSE");
    for (let i = 0; i < 10; i++) {
      expect(await hear(pair, "10.7.0.2", 80)).toBe("any");
      expect(await hear(pair, "10.7.0.3", 80)).toBe("exact");
    }
  });

  it("is possible again while connections of the last listener are in TIME-WAIT", async () => {
    const pair = await setUp();
    const listener = await says(pair.server, 80, "first");
    for (let i = 0; i < 10; i++) expect(await hear(pair, "10.7.0.2", 80)).toBe("first");
    await listener.close();
    await says(pair.server, 80, "second");
    for (let i = 0; i < 10; i++) expect(await hear(pair, "10.7.0.2", 80)).toBe("second");
  });

  it("at the handle level is known to the whole stack", async () => {
    const { server } = await setUp();
    const handles = server.kernels[1]?.handles;
    const handle = handles?.listen(80) as number;
    expect(handle).toBeGreaterThanOrEqual(0);
    await refused(server.listen(80), "EADDRINUSE");
    handles?.closeListener(handle);
    // The owner hears of it with that kernel's next turn.
    await expect.poll(async () => server.listen(80).then(({ port }) => port, String)).toBe(80);
    const udp = handles?.udpBind(53) as number;
    await refused(server.bindUdp(53), "EADDRINUSE");
    handles?.udpClose(udp);
    await expect.poll(async () => server.bindUdp(53).then(({ port }) => port, String)).toBe(53);
  });

  it("one UDP port, every kernel receives", async () => {
    const pair = await setUp();
    const socket = await pair.server.bindUdp(53);
    const kernels = new Set<number>();
    for (let i = 0; i < 40; i++) {
      const from = await pair.client.bindUdp(0);
      from.send(Uint8Array.of(i), { address: "10.7.0.2", port: 53 });
      const datagram = await socket.receive();
      expect([...(datagram?.data ?? [])]).toEqual([i]);
      kernels.add(datagram?.kernelId ?? -1);
      await from.close();
    }
    expect([...kernels].sort()).toEqual([0, 1, 2]);
  });
});
