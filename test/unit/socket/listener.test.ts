import { afterEach, describe, expect, it } from "vitest";
import type { Connection } from "../../../src/socket/connection.ts";
import { createStackPair, readAll, type StackPair, type StackPairOptions, writeAll } from "../../helpers/stacks.ts";

let pair: StackPair;

async function start(options?: StackPairOptions): Promise<StackPair> {
  pair = await createStackPair(options);
  return pair;
}

afterEach(() => pair.close());

function connectTo(port: number): Promise<Connection> {
  return pair.client.connect({ address: "10.7.0.2", port });
}

describe("Listener", () => {
  it("gives connections in the order in which they came", async () => {
    const { server } = await start();
    const listener = await server.listen(80);
    const ports: number[] = [];
    for (let i = 0; i < 5; i++) ports.push((await connectTo(80)).localPort);
    await new Promise((resolve) => setTimeout(resolve, 10));
    for (const port of ports) expect((await listener.accept())?.remotePort).toBe(port);
  });

  it("can be iterated, and ends when it is closed", async () => {
    const { server } = await start();
    const listener = await server.listen(80);
    const seen: number[] = [];
    const iterating = (async () => {
      for await (const connection of listener) seen.push(connection.remotePort);
    })();
    const clients = await Promise.all([connectTo(80), connectTo(80), connectTo(80)]);
    await expect.poll(() => seen.length).toBe(3);
    await listener.close();
    await iterating;
    expect(seen.sort()).toEqual(clients.map(({ localPort }) => localPort).sort());
    await expect(connectTo(80)).rejects.toMatchObject({ code: "ECONNREFUSED" });
  });

  it("calls onConnection at once, and goes on when that throws", async () => {
    const errors: unknown[] = [];
    const { server } = await start();
    server.on("error", (event) => errors.push(event));
    let calls = 0;
    await server.listen(80, {
      onConnection: (connection) => {
        if (++calls === 1) throw new Error("bad handler");
        void writeAll(connection, Uint8Array.of(42));
      },
    });
    await connectTo(80);
    const second = await connectTo(80);
    expect([...(await readAll(second.readable))]).toEqual([42]);
    expect(errors).toMatchObject([{ error: { message: "bad handler" }, kernelId: 0, fatal: false }]);
  });

  it("has a port once", async () => {
    const { server } = await start({ serverKernels: 2 });
    const listener = await server.listen(80);
    await expect(server.listen(80)).rejects.toMatchObject({ code: "EADDRINUSE" });
    await listener.close();
    const again = await server.listen(80);
    expect(again.port).toBe(80);
  });

  it("listens on its own address beside the wildcard", async () => {
    const { server } = await start({ server: { address: ["10.7.0.2/24", "10.7.0.3/24"] } });
    const any = await server.listen(80);
    const one = await server.listen({ port: 80, address: "10.7.0.3" });
    const client = await pair.client.connect({ address: "10.7.0.3", port: 80 });
    expect((await one.accept())?.remotePort).toBe(client.localPort);
    const other = await connectTo(80);
    expect((await any.accept())?.remotePort).toBe(other.localPort);
    await expect(server.listen({ port: 81, address: "10.7.0.9" })).rejects.toMatchObject({ code: "EADDRNOTAVAIL" });
  });

  it("undoes everything when one kernel refuses", async () => {
    const { server } = await start({ serverKernels: 2 });
    // Behind the registry's back, at the handle level.
    const taken = server.kernels[1]?.exports.tcpListen(-1, 80, 16) as number;
    expect(taken).toBeGreaterThanOrEqual(0);
    await expect(server.listen(80)).rejects.toMatchObject({ code: "EADDRINUSE" });
    server.kernels[1]?.exports.tcpListenClose(taken);
    await server.listen(80);
  });

  it("draws a port for port 0, the same in all kernels", async () => {
    const { server } = await start({ serverKernels: 2 });
    const listener = await server.listen(0);
    const other = await server.listen(0);
    expect(listener.port).toBeGreaterThanOrEqual(32768);
    expect(other.port).not.toBe(listener.port);
    await Promise.all(Array.from({ length: 20 }, () => connectTo(listener.port)));
  });

  it.each([-1, 65536, 1.5, Number.NaN])("refuses port %d", async (port) => {
    const { server } = await start();
    await expect(server.listen(port)).rejects.toMatchObject({ code: "ERR_OPTION_RANGE" });
  });

  it("closes when its signal is aborted", async () => {
    const { server } = await start();
    const controller = new AbortController();
    const listener = await server.listen({ port: 80, signal: controller.signal });
    const waiting = listener.accept();
    controller.abort();
    expect(await waiting).toBeUndefined();
    const late = await server.listen({ port: 80, signal: controller.signal });
    expect(await late.accept()).toBeUndefined();
    await server.listen(80);
  });

  it("keeps no more connections waiting than its backlog", async () => {
    const { server } = await start();
    await server.listen(80, { backlog: 4 });
    const controller = new AbortController();
    let open = 0;
    const attempts = Array.from({ length: 12 }, () =>
      pair.client.connect({ address: "10.7.0.2", port: 80, signal: controller.signal }).then(() => open++),
    );
    await expect.poll(async () => (await server.stats()).total.dropAcceptQueueFull).toBeGreaterThan(0);
    await expect.poll(() => open).toBeGreaterThanOrEqual(4);
    expect((await server.stats()).total.tcpPassiveOpens).toBeLessThanOrEqual(4);
    controller.abort(new Error("done"));
    await Promise.allSettled(attempts);
  });
});

describe("one socket over several kernels", () => {
  it("has its backlog in each of them", async () => {
    const { server } = await start({ serverKernels: 3 });
    await server.listen(80, { backlog: 4 });
    const controller = new AbortController();
    const { signal } = controller;
    const attempts = Array.from({ length: 60 }, () => pair.client.connect({ address: "10.7.0.2", port: 80, signal }));
    const accepted = async () => (await server.stats()).kernels.map(({ tcpPassiveOpens }) => tcpPassiveOpens);
    await expect.poll(accepted).toEqual([4, 4, 4]);
    expect((await server.stats()).total.dropAcceptQueueFull).toBeGreaterThan(0);
    controller.abort(new Error("done"));
    await Promise.allSettled(attempts);
  });

  it("accepts in all kernels, where the card brings the connections", async () => {
    const { server, client } = await start({ serverKernels: 4, clientKernels: 2, segment: { portsMax: 8 } });
    const byKernel = [0, 0, 0, 0];
    await server.listen(80, {
      onConnection: async (connection) => {
        byKernel[connection.kernelId] = (byKernel[connection.kernelId] as number) + 1;
        await writeAll(connection, Uint8Array.of(connection.kernelId));
        await readAll(connection.readable);
      },
    });
    const homes = new Set<number>();
    await Promise.all(
      Array.from({ length: 80 }, async () => {
        const connection = await connectTo(80);
        homes.add(connection.kernelId);
        const [kernel] = await readAll(connection.readable);
        expect(kernel).toBeLessThan(4);
        await writeAll(connection);
        await connection.closed;
      }),
    );
    expect(byKernel.reduce((sum, count) => sum + count)).toBe(80);
    for (const count of byKernel) expect(count).toBeGreaterThan(0);
    // Active opens, too, stay in the kernel that has opened them: no kernel saw a segment without a connection.
    expect([...homes].sort()).toEqual([0, 1]);
    expect((await client.stats()).total.tcpNoListener).toBe(0);
    expect((await server.stats()).total.tcpNoListener).toBe(0);
    const { queues, kernels } = await server.stats();
    expect(queues.length).toBe(4);
    kernels.forEach((counters) => {
      expect(counters.tcpAccepted).toBeGreaterThan(0);
    });
  });
});
