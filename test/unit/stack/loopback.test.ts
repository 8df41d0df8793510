/** 127.0.0.1 and ::1: whole stacks with several kernels that talk to themselves, and what comes from outside. */
import { afterEach, describe, expect, test } from "vitest";
import type { Stack } from "../../../src/types.ts";
import { KERNEL_BUILDS, KernelBench, OWN, OWN_MAC, PEER, PEER_MAC } from "../../helpers/kernelBench.ts";
import { arp, ethernet, pattern, tcpPacket } from "../../helpers/packets.ts";
import { createStackPair, readAll, type StackPair, writeAll } from "../../helpers/stacks.ts";

let pair: StackPair | undefined;

afterEach(async () => {
  await pair?.close();
  pair = undefined;
});

async function create(kernels: number): Promise<Stack> {
  pair = await createStackPair({
    serverKernels: kernels,
    segment: { portsMax: 16 },
    server: { address: ["10.7.0.2/24", "fd07::2/64", "127.0.0.9/32"] },
  });
  return pair.server;
}

async function echoed(stack: Stack, address: string, bytes: number): Promise<Uint8Array> {
  const connection = await stack.connect({ address, port: 7 });
  expect(connection.remoteAddress).toBe(address);
  // RFC 6724, rule 1.
  expect(connection.localAddress).toBe(address);
  const reading = readAll(connection.readable);
  await writeAll(connection, pattern(bytes));
  return reading;
}

const echo = ({ readable, writable }: { readable: ReadableStream; writable: WritableStream }): void => {
  void readable.pipeTo(writable);
};

describe.each([1, 3])("a stack of %i kernels", (kernels) => {
  test.each(["127.0.0.1", "::1", "127.0.0.9", "10.7.0.2", "fd07::2"])(
    "talks to itself by %s, and nothing of it is on the wire",
    async (address) => {
      const stack = await create(kernels);
      await stack.listen(7, { onConnection: echo });
      const before = (await stack.stats()).total.txFrames ?? 0;
      // As many as there are kernels, so that each has opened one.
      for (let i = 0; i < kernels; i++) expect(await echoed(stack, address, 70_000)).toEqual(pattern(70_000));
      expect(((await stack.stats()).total.txFrames ?? 0) - before).toBeLessThanOrEqual(4);
      expect(stack.addresses.map(String).some((text) => text.includes("127.0.0.1"))).toBe(false);
    },
  );

  test("what listens on 127.0.0.1 is there for the stack alone", async () => {
    const stack = await create(kernels);
    await stack.listen(7, { address: "127.0.0.1", onConnection: echo });
    expect(await echoed(stack, "127.0.0.1", 100)).toEqual(pattern(100));
    await expect(pair?.client.connect({ address: "10.7.0.2", port: 7 })).rejects.toMatchObject({
      code: "ECONNREFUSED",
    });
  });

  test("the rest of 127/8 is unreachable", async () => {
    const stack = await create(kernels);
    await expect(stack.connect({ address: "127.0.0.2", port: 7 })).rejects.toMatchObject({ code: "ENETUNREACH" });
  });
});

describe.each(KERNEL_BUILDS)("from outside, %s build", (build) => {
  const syn = (source: string, destination: string): Uint8Array => {
    const fields = { source, destination, sourcePort: 5000, destinationPort: 80, flags: "syn" };
    return ethernet({ destination: OWN_MAC, source: PEER_MAC }, tcpPacket(fields));
  };

  test.each([
    ["to 127.0.0.1", PEER, "127.0.0.1", "dropIpDestination"],
    ["from 127.0.0.1", "127.0.0.1", OWN, "dropIpSource"],
    ["to and from 127.0.0.1", "127.0.0.1", "127.0.0.1", "dropIpSource"],
  ])("a packet %s is dropped (RFC 1122 3.2.1.3)", (_name, source, destination, counter) => {
    const bench = new KernelBench({ build });
    bench.listen(80);
    bench.inject(syn(source, destination));
    const counted = bench.counted(() => bench.turn());
    expect(counted[counter]).toBe(1);
    expect(bench.sent()).toEqual([]);
  });

  test("nobody is told who has 127.0.0.1", () => {
    const bench = new KernelBench({ build });
    bench.inject(arp({ operation: "request", senderMac: PEER_MAC, senderV4: PEER, targetV4: "127.0.0.1" }));
    expect(bench.counted(() => bench.turn()).arpRepliesSent).toBeUndefined();
  });
});
