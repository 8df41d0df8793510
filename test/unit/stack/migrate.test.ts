/** stack.migrate on kernels of this thread: connections, listeners and objects of the application go on. */
import { expect, test } from "vitest";
import { LATE_NS } from "../../../src/migration/agent.ts";
import type { Connection } from "../../../src/socket/connection.ts";
import { createStackPair, readAll, testBytes, writeAll } from "../../helpers/stacks.ts";

function groupOf(connection: Connection): number {
  return connection.remotePort & 4095;
}

test.each([
  ["IPv4", "10.7.0.2"],
  ["IPv6", "fd07::2"],
])("%s: a connection goes on in another kernel, with the same object, in both directions", async (_family, address) => {
  const { client, server, close } = await createStackPair({
    serverKernels: 3,
    client: { address: ["10.7.0.1/24", "fd07::1/64"] },
    server: { address: ["10.7.0.2/24", "fd07::2/64"] },
  });
  const listener = await server.listen(80);
  const theirs = await client.connect({ address, port: 80 });
  const ours = (await listener.accept()) as Connection;
  const reading = readAll(ours.readable);
  const writer = theirs.writable.getWriter();
  const sent = testBytes(400_000);
  const kernels = new Set([ours.kernelId]);
  for (let round = 0; round < 8; round++) {
    await writer.write(sent.slice(round * 50_000, (round + 1) * 50_000));
    const to = (ours.kernelId + 1) % 3;
    const result = await server.migrate(groupOf(ours), to);
    expect(result).toMatchObject({ to, connections: 1 });
    expect(ours.kernelId).toBe(to);
    kernels.add(to);
  }
  await writer.close();
  expect(Buffer.from(await reading).equals(sent)).toBe(true);
  expect(kernels.size).toBe(3);
  const answer = readAll(theirs.readable);
  await writeAll(ours, sent);
  expect(Buffer.from(await answer).equals(sent)).toBe(true);
  await Promise.all([ours.closed, theirs.closed]);
  const { total } = await server.stats();
  expect(total).toMatchObject({ tcpRstSent: 0, migratedIn: 8, migratedOut: 8, migrationLost: 0 });
  await close();
});

test.each([4096, 64])("new connections of a group, of %i, land in the kernel it was moved to", async (flowGroups) => {
  const { client, segment, close } = await createStackPair();
  const { createStack } = await import("../../../src/stack.ts");
  const device = segment.createCard({ queues: 4, flowGroups });
  const tuning = { memoryBytes: 80 << 20 };
  const server = await createStack({ device, address: "10.7.0.4/24", balancer: "angel", tuning });
  const listener = await server.listen(80);
  for (const [to, localPort] of [
    [2, 40_000],
    [0, 44_096],
    [3, 48_192],
  ] as const) {
    await server.migrate(40_000 % flowGroups, to);
    const theirs = await client.connect({ address: "10.7.0.4", port: 80, localPort });
    const ours = (await listener.accept()) as Connection;
    expect(ours.kernelId).toBe(to);
    // With fewer groups than that others share it, and go with it.
    const together = await client.connect({ address: "10.7.0.4", port: 80, localPort: localPort + 8192 + flowGroups });
    const other = (await listener.accept()) as Connection;
    expect(other.kernelId).toBe(to);
    await server.migrate(40_000 % flowGroups, (to + 1) % 4);
    expect([ours.kernelId, other.kernelId]).toEqual([(to + 1) % 4, (to + 1) % 4]);
    await Promise.all([theirs.close(), ours.close(), together.close(), other.close()]);
  }
  expect((await server.stats()).balancer?.groups.reduce((sum, count) => sum + count, 0)).toBe(flowGroups);
  await expect(server.migrate(flowGroups, 0)).rejects.toMatchObject({ code: "ERR_OPTION_RANGE" });
  await server.close({ drainMs: 0 });
  await close();
});

test("connections opened here keep their kernel's filters, or get the new kernel's", async () => {
  for (const preset of ["generic", "82599"] as const) {
    const { segment, client, close } = await createStackPair();
    const { createStack } = await import("../../../src/stack.ts");
    const card = segment.createCard({ queues: 2, preset });
    const stack = await createStack({ device: card, address: "10.7.0.3/24", tuning: { memoryBytes: 80 << 20 } });
    const listener = await client.listen(80);
    const ours = await stack.connect({ address: "10.7.0.1", port: 80 });
    const theirs = (await listener.accept()) as Connection;
    const group = (preset === "generic" ? ours.localPort ^ 80 : 80) & 4095;
    for (let round = 0; round < 3; round++) {
      const to = 1 - ours.kernelId;
      const { connections } = await stack.migrate(group, to);
      expect({ preset, connections, kernelId: ours.kernelId }).toEqual({ preset, connections: 1, kernelId: to });
      const writer = theirs.writable.getWriter();
      await writer.write(testBytes(1000));
      writer.releaseLock();
      const reader = ours.readable.getReader();
      expect((await reader.read()).value?.length).toBe(1000);
      reader.releaseLock();
    }
    await Promise.all([ours.close(), theirs.close()]);
    await stack.close({ drainMs: 0 });
    await close();
  }
});

test("a refused move leaves everything as it was", async () => {
  const { client, server, close } = await createStackPair({ serverKernels: 2 });
  const host = server.kernels[0] as (typeof server.kernels)[0];
  const handles: number[] = [];
  for (const kernel of server.kernels) {
    const listener = kernel.handles.listen(80);
    kernel.handles.onEvents(() => {
      const handle = kernel.handles.accept(listener);
      if (handle >= 0) handles.push(kernel.kernelId);
    });
  }
  const theirs = await client.connect({ address: "10.7.0.2", port: 80 });
  const group = theirs.localPort & 4095;
  await expect.poll(() => handles.length).toBe(1);
  const from = handles[0] as number;
  // The handle level has no hook: its connections cannot follow.
  await expect(server.migrate(group, 1 - from)).rejects.toMatchObject({ code: "ERR_MIGRATION_PINNED" });
  const states: unknown[] = [];
  for (const kernel of server.kernels) {
    kernel.handles.onHandOver({
      leave: (handle) => ({ handle, from: kernel.kernelId }),
      arrive: (handle, state, kernelId) => void states.push({ handle: handle >= 0, state, kernelId }),
    });
  }
  await server.migrate(group, 1 - from);
  expect(states).toEqual([{ handle: true, state: { handle: expect.any(Number), from }, kernelId: 1 - from }]);
  await expect(server.migrate(4096, 0)).rejects.toMatchObject({ code: "ERR_OPTION_RANGE" });
  await expect(server.migrate(1, 2)).rejects.toMatchObject({ code: "ERR_OPTION_RANGE" });
  expect(host.memory.counters().tcpRstSent).toBe(0);
  await close();
});

test("driven by hand: the move takes turns, and ends in virtual time", async () => {
  const { client, server, close } = await createStackPair({
    serverKernels: 2,
    client: { drive: "manual" },
    server: { drive: "manual" },
  });
  let nowNs = 1e9;
  const run = async (untilNs: number) => {
    while (nowNs < untilNs) {
      const busy = [client.turn(nowNs), server.turn(nowNs)].includes(true);
      await Promise.resolve();
      if (busy) nowNs += 1000;
      else nowNs = Math.max(nowNs + 1, Math.min(untilNs, client.nextDeadlineNs(), server.nextDeadlineNs()));
    }
  };
  const listener = await server.listen(80);
  const opening = client.connect({ address: "10.7.0.2", port: 80 });
  await run(nowNs + 5e6);
  const theirs = await opening;
  const ours = (await listener.accept()) as Connection;
  const to = 1 - ours.kernelId;
  let result: unknown;
  void server.migrate(theirs.localPort & 4095, to).then((figures) => {
    result = figures;
  });
  await run(nowNs + 1e6);
  expect(ours.kernelId).toBe(to);
  expect(result).toBeUndefined();
  await run(nowNs + LATE_NS + 1e6);
  expect(result).toMatchObject({ connections: 1, lateFrames: 0 });
  await close();
});
