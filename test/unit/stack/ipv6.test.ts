/** IPv6 through whole stacks: model cards, several kernels, Web level and node:net. */
import { once } from "node:events";
import { afterEach, describe, expect, test } from "vitest";
import { createNet } from "../../../src/net/index.ts";
import type { Stack } from "../../../src/types.ts";
import { createStackPair, readAll, type StackPair, writeAll } from "../../helpers/stacks.ts";
import { pattern } from "../../helpers/packets.ts";

const CLIENT = ["10.7.0.1/24", "fd07::1/64"];
const SERVER = ["10.7.0.2/24", "fd07::2/64"];

let pair: StackPair | undefined;

afterEach(async () => {
  await pair?.close();
  pair = undefined;
});

async function create(kernels: number, server: readonly string[] = SERVER): Promise<StackPair> {
  pair = await createStackPair({
    clientKernels: kernels,
    serverKernels: kernels,
    segment: { portsMax: 16 },
    client: { address: CLIENT },
    server: { address: server },
  });
  return pair;
}

async function echoed(client: Stack, address: string, bytes: number): Promise<Uint8Array> {
  const connection = await client.connect({ address, port: 7 });
  const reading = readAll(connection.readable);
  await writeAll(connection, pattern(bytes));
  return reading;
}

function listenEcho(server: Stack, options: { address?: string; ipv6Only?: boolean } = {}) {
  return server.listen({
    port: 7,
    ...options,
    onConnection: ({ readable, writable }) => void readable.pipeTo(writable).catch(() => {}),
  });
}

describe.each([1, 3])("IPv6 with %i kernels", (kernels) => {
  test("connections to both families on one listener, in every kernel", async () => {
    const { client, server } = await create(kernels);
    await listenEcho(server);
    for (let i = 0; i < 3 * kernels; i++) {
      expect(await echoed(client, "fd07::2", 100_000)).toEqual(pattern(100_000));
      expect(await echoed(client, "10.7.0.2", 10_000)).toEqual(pattern(10_000));
    }
    const { kernels: counters } = await server.stats();
    // Connections are opened by the client's kernels in turn; replies come home without a reset.
    expect(counters.reduce((sum, { tcpRstSent = 0 }) => sum + tcpRstSent, 0)).toBe(0);
  });

  test("to the stack itself, by IPv4 and IPv6", async () => {
    const { server } = await create(kernels);
    await listenEcho(server);
    expect(await echoed(server, "fd07::2", 50_000)).toEqual(pattern(50_000));
    expect(await echoed(server, "10.7.0.2", 50_000)).toEqual(pattern(50_000));
    expect((await server.stats()).total.loopFrames).toBeGreaterThan(20);
  });

  test("datagrams, whole and in fragments, whichever kernel gets them", async () => {
    const { client, server } = await create(kernels);
    const to = await server.bindUdp(53);
    const from = await client.bindUdp(0);
    for (const bytes of [0, 1, 1452, 1453, 20_000]) {
      from.send(pattern(bytes), { address: "fd07::2", port: 53 });
      const datagram = await to.receive();
      expect(datagram).toMatchObject({ address: "fd07::1", port: from.port, data: pattern(bytes) });
    }
  });
});

describe("what a socket is bound to", () => {
  test("nothing is both families; 0.0.0.0 and ipv6Only are one each and share a port", async () => {
    const { client, server } = await create(1);
    const v4 = await listenEcho(server, { address: "0.0.0.0" });
    await expect(client.connect({ address: "fd07::2", port: 7 })).rejects.toMatchObject({ code: "ECONNREFUSED" });
    await expect(listenEcho(server)).rejects.toMatchObject({ code: "EADDRINUSE" });
    const v6 = await listenEcho(server, { address: "::", ipv6Only: true });
    expect(await echoed(client, "fd07::2", 10)).toEqual(pattern(10));
    await Promise.all([v4.close(), v6.close()]);
    const both = await listenEcho(server);
    expect(both.address).toBe("::");
    expect(await echoed(client, "10.7.0.2", 10)).toEqual(pattern(10));
  });

  test("an own address; one that is not ours", async () => {
    const { client, server } = await create(1);
    await listenEcho(server, { address: "fd07::2" });
    expect(await echoed(client, "fd07::2", 10)).toEqual(pattern(10));
    await expect(client.connect({ address: "10.7.0.2", port: 7 })).rejects.toMatchObject({ code: "ECONNREFUSED" });
    await expect(server.listen({ port: 9, address: "fd07::9" })).rejects.toMatchObject({ code: "EADDRNOTAVAIL" });
  });

  test("an address is the same however it is written", async () => {
    const { client, server } = await create(3);
    const mapped = await listenEcho(server, { address: "::ffff:10.7.0.2" });
    expect(await echoed(client, "10.7.0.2", 10)).toEqual(pattern(10));
    await expect(listenEcho(server, { address: "10.7.0.2" })).rejects.toMatchObject({ code: "EADDRINUSE" });
    await mapped.close();
    const any = await listenEcho(server, { address: "0:0:0:0:0:0:0:0" });
    expect(await echoed(client, "fd07::2", 10)).toEqual(pattern(10));
    for (const address of ["::", "0.0.0.0", "::ffff:0.0.0.0"]) {
      await expect(listenEcho(server, { address })).rejects.toMatchObject({ code: "EADDRINUSE" });
    }
    await any.close();
    await listenEcho(server, { address: "::ffff:0.0.0.0" });
    expect(await echoed(client, "10.7.0.2", 10)).toEqual(pattern(10));
  });

  test("no route, a group, a host that is not there", async () => {
    const { client } = await create(1);
    await expect(client.connect({ address: "2001:db8::1", port: 7 })).rejects.toMatchObject({ code: "ENETUNREACH" });
    await expect(client.connect({ address: "ff02::1", port: 7 })).rejects.toMatchObject({ code: "ENETUNREACH" });
  });

  test("node:net: the address of a server, the family of a socket", async () => {
    const { client, server } = await create(1);
    const listening = createNet(server).createServer((socket) => socket.end(`${socket.remoteFamily}`));
    await once(listening.listen(80), "listening");
    expect(listening.address()).toEqual({ address: "::", family: "IPv6", port: 80 });
    for (const [host, family] of [
      ["fd07::2", "IPv6"],
      ["10.7.0.2", "IPv4"],
    ] as const) {
      const socket = createNet(client).connect({ host, port: 80 });
      const [data] = await once(socket, "data");
      expect(String(data)).toBe(family);
      expect(socket.remoteFamily).toBe(family);
      await once(socket, "close");
    }
    listening.close();
  });
});

test("options: mixed families are refused", async () => {
  const { segment } = await create(1);
  const { createStack } = await import("../../../src/stack.ts");
  const device = segment.createCard();
  const refused = { code: "ERR_OPTION_COMBINATION" };
  const address = "10.7.0.9/24";
  await expect(createStack({ device, address, gateway: "fd07::1" })).rejects.toMatchObject(refused);
  const tooMany = Array.from({ length: 10 }, (_, i) => `10.7.0.${i + 3}`);
  await expect(createStack({ device, address, gateway: tooMany })).rejects.toMatchObject(refused);
  const routes = [{ to: "fd08::/64", via: "10.7.0.1" }];
  await expect(createStack({ device, address, routes })).rejects.toMatchObject(refused);
});
