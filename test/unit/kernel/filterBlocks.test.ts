/** Ports whose connections have moved, in a world of nothing but controls (test/helpers/deviceWorld.ts). */
import { describe, expect, it } from "vitest";
import type { FilterBlocks, Service } from "../../../src/kernel/filterBlocks.ts";
import type { MovingTuple } from "../../../src/migration/request.ts";
import { DeviceWorld, flow, flowKey } from "../../helpers/deviceWorld.ts";

const [OWNER, FROM, TO] = [0, 1, 2] as const;
const PORT = 80;
const HANDLE = 7;
const TUPLE = flow(PORT, 1001);
const MOVING: readonly MovingTuple[] = [[HANDLE, TUPLE, true]];

async function createWorld() {
  const world = new DeviceWorld();
  await world.settle();
  const filtersOf = (id: number) => world.kernels[id]?.filters as FilterBlocks;
  const redirect = (id: number, to: number) => filtersOf(id).redirect(new Set([HANDLE]), MOVING, to);
  return {
    world,
    filtersOf,
    redirect,
    async move(from: number, to: number) {
      const moving = redirect(from, to);
      expect(moving).toEqual(MOVING);
      filtersOf(to).adopt(moving, 0);
      filtersOf(from).forget(moving);
      await world.settle();
      expect(filtersOf(from).isLeading).toBe(false);
    },
    /** @returns the ports of those asked for that the kernel has a filter for then. */
    async ask(id: number, ports: readonly number[]): Promise<{ ready: readonly number[]; service: Service }> {
      const filters = filtersOf(id);
      const service = filters.open(TUPLE.remote, TUPLE.remotePort, TUPLE.local, 0);
      filters.ask(service, ports, true);
      await world.settle();
      return { ready: service.ready, service };
    },
  };
}

describe("a connection without a filter that has moved", () => {
  it("keeps its port from all others, under the next owner too, until it is over", async () => {
    const { world, filtersOf, move, ask } = await createWorld();
    await move(FROM, TO);
    expect(world.device.filterTable.size).toBe(0);
    expect(filtersOf(TO).size).toBe(0);
    expect((await ask(FROM, [TUPLE.localPort, 1005])).ready).toEqual([1005]);

    const { ready, service } = await ask(FROM, [TUPLE.localPort]);
    expect(ready).toEqual([1005]);
    expect(filtersOf(FROM).isKnown(service, TUPLE.localPort)).toBe(true);
    // It is no shortage.
    expect([service.refused, filtersOf(FROM).isRefused(service)]).toEqual([false, false]);

    world.kill(OWNER, () => true);
    await world.settle();
    expect((await ask(FROM, [TUPLE.localPort])).ready).toEqual([1005]);

    world.kernels[TO]?.end(PORT);
    filtersOf(TO).giveBack(0);
    await world.settle();
    expect((await ask(FROM, [TUPLE.localPort])).ready).toContain(TUPLE.localPort);
    expect(filtersOf(TO).find(TUPLE.remote, PORT, TUPLE.local)).toBeUndefined();
  });

  it("keeps it when it moves on", async () => {
    const { filtersOf, move, ask } = await createWorld();
    await move(FROM, TO);
    await move(TO, 3);
    expect((await ask(TO, [TUPLE.localPort])).ready).toEqual([]);
    expect((await ask(FROM, [TUPLE.localPort])).ready).toEqual([]);
    expect(filtersOf(3).isLeading).toBe(false);
  });

  it("frees it when its kernel dies", async () => {
    const { world, move, ask } = await createWorld();
    await move(FROM, TO);
    world.kill(TO, () => true);
    await world.settle();
    expect((await ask(FROM, [TUPLE.localPort])).ready).toEqual([TUPLE.localPort]);
  });

  it("has nothing at the owner when its move was undone", async () => {
    const { world, filtersOf, redirect, ask } = await createWorld();
    filtersOf(FROM).restore(redirect(FROM, TO));
    await world.settle();
    expect(filtersOf(FROM).isLeading).toBe(false);
    expect((await ask(3, [TUPLE.localPort])).ready).toEqual([TUPLE.localPort]);
  });

  it("keeps it when its next move is undone", async () => {
    const { world, filtersOf, redirect, move, ask } = await createWorld();
    await move(FROM, TO);
    filtersOf(TO).restore(redirect(TO, 3));
    await world.settle();
    expect((await ask(FROM, [TUPLE.localPort])).ready).toEqual([]);
  });
});

describe("a filter that has moved with its connection", () => {
  it("is its kernel's alone, and is given back when that is over", async () => {
    const { world, filtersOf, ask } = await createWorld();
    await ask(FROM, [TUPLE.localPort]);
    const service = filtersOf(FROM).find(TUPLE.remote, PORT, TUPLE.local) as Service;
    filtersOf(FROM).use(service, TUPLE.localPort, HANDLE, 0);
    const moving = filtersOf(FROM).redirect(new Set([HANDLE]), MOVING, TO);
    expect(moving).toEqual([[HANDLE, TUPLE]]);
    filtersOf(TO).adopt(moving, 0);
    filtersOf(FROM).forget(moving);
    await world.settle();

    expect((await ask(FROM, [TUPLE.localPort])).ready).toEqual([]);
    expect(world.device.filterTable.get(flowKey(TUPLE))?.queue).toBe(TO);

    world.kernels[TO]?.end(PORT);
    filtersOf(TO).turn(2e9);
    await world.settle();
    expect(world.device.filterTable.size).toBe(0);
    expect((await ask(FROM, [TUPLE.localPort])).ready).toEqual([TUPLE.localPort]);
  });
});
