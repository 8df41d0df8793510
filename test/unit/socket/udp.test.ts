import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Datagram } from "../../../src/socket/udp.ts";
import { createStackPair, type StackPair, testBytes } from "../../helpers/stacks.ts";

let pair: StackPair;
beforeAll(async () => {
  pair = await createStackPair({ serverKernels: 2 });
});
afterAll(() => pair.close());

describe("UdpSocket", () => {
  it("sends and receives datagrams with their addresses", async () => {
    await using server = await pair.server.bindUdp(53);
    await using client = await pair.client.bindUdp(0);
    client.send(testBytes(100, 1), { address: "10.7.0.2", port: 53 });
    const request = (await server.receive()) as Datagram;
    expect(request).toMatchObject({ address: "10.7.0.1", port: client.port });
    expect(request.data).toEqual(testBytes(100, 1));
    server.send(testBytes(200, 2), request);
    expect(await client.receive()).toMatchObject({ data: testBytes(200, 2), address: "10.7.0.2", port: 53 });
  });

  it("carries the empty datagram and one that needs fragments", async () => {
    await using server = await pair.server.bindUdp({ port: 54 });
    await using client = await pair.client.bindUdp(0);
    client.send(new Uint8Array(0), { address: "10.7.0.2", port: 54 });
    expect((await server.receive())?.data.length).toBe(0);
    client.send(testBytes(20_000, 3), { address: "10.7.0.2", port: 54 });
    expect((await server.receive())?.data).toEqual(testBytes(20_000, 3));
  });

  it("tells of a port where nobody is", async () => {
    await using client = await pair.client.bindUdp(0);
    client.send(testBytes(1), { address: "10.7.0.2", port: 9999 });
    await expect(client.receive()).rejects.toMatchObject({ code: "ECONNREFUSED" });
    // It goes on.
    await using server = await pair.server.bindUdp(9999);
    client.send(testBytes(3), { address: "10.7.0.2", port: 9999 });
    expect((await server.receive())?.data.length).toBe(3);
  });

  it("has a port once, and ends its iteration when closed", async () => {
    const server = await pair.server.bindUdp(55);
    await expect(pair.server.bindUdp(55)).rejects.toMatchObject({ code: "EADDRINUSE" });
    const iterating = (async () => {
      for await (const _datagram of server) throw new Error("nobody sends");
    })();
    await server.close();
    await iterating;
    expect(() => server.send(testBytes(1), { address: "10.7.0.1", port: 1 })).toThrow(
      expect.objectContaining({ code: "EBADF" }),
    );
    await (await pair.server.bindUdp(55)).close();
  });

  it("keeps what setRecvBufferSize allows, drops and counts the rest", async () => {
    await using server = await pair.server.bindUdp(56);
    await using client = await pair.client.bindUdp(0);
    const { total } = await pair.server.stats();
    const arrived = async () => {
      const { udpReceived = 0, dropUdpQueueFull = 0 } = (await pair.server.stats()).total;
      return {
        kept: udpReceived - (total.udpReceived ?? 0),
        dropped: dropUdpQueueFull - (total.dropUdpQueueFull ?? 0),
      };
    };
    for (const bytes of [0, 2047, 16 * 2 ** 20 + 1]) {
      expect(() => server.setRecvBufferSize(bytes)).toThrow(expect.objectContaining({ code: "ERR_OPTION_RANGE" }));
    }
    const fill = () => {
      for (let i = 0; i < 64; i++) client.send(testBytes(100, i), { address: "10.7.0.2", port: 56 });
    };
    fill();
    await expect.poll(arrived).toEqual({ kept: 64, dropped: 0 });
    // What waits already is not lost.
    server.setRecvBufferSize(4096);
    for (let i = 0; i < 64; i++) expect((await server.receive())?.data).toEqual(testBytes(100, i));
    fill();
    // Datagrams of 100 bytes take 256 each of the pool.
    await expect.poll(arrived).toEqual({ kept: 64 + 16, dropped: 48 });
  });

  it("refuses what no packet can hold", async () => {
    await using client = await pair.client.bindUdp(0);
    const to = { address: "10.7.0.2", port: 53 };
    expect(() => client.send(new Uint8Array(65508), to)).toThrow(expect.objectContaining({ code: "EMSGSIZE" }));
    expect(() => client.send(testBytes(1), { ...to, port: 0 })).toThrow(
      expect.objectContaining({ code: "ERR_OPTION_RANGE" }),
    );
  });
});
