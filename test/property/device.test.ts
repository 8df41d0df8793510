/** The device, whoever dies: queue pairs, tables, offers and filters while owners come and go; all by hand. */
import fc from "../helpers/property.ts";
import { expect, test } from "vitest";
import { DeviceWorld, flow, flowKey, WORLD_KERNELS } from "../helpers/deviceWorld.ts";

const SERVICES = [80, 81];
const kernelId = fc.nat(WORLD_KERNELS - 1);
const kind = <Name extends string>(name: Name, weight: number, number = fc.nat(15)) => ({
  weight,
  arbitrary: fc.record({ do: fc.constant(name), id: kernelId, number }),
});
const action = fc.oneof(
  kind("poll", 8, fc.integer({ min: 1, max: 5 })),
  kind("place", 2, fc.nat(7)),
  kind("offer", 3),
  kind("pin", 2),
  kind("unpin", 2),
  kind("ask", 3),
  kind("giveBack", 1),
  kind("commit", 3),
  kind("kill", 1),
  kind("revive", 1),
  kind("abdicate", 1),
);

async function act(world: DeviceWorld, what: string, id: number, number: number, pins: Map<string, number>) {
  const kernel = world.kernels[id];
  // For kill, revive and abdicate, `number` is the set of kernels that hear of it at once.
  const hears = (other: number) => (number & (1 << other)) !== 0;
  const pinned = flow(9000 + number, 7);
  const alive = kernel !== undefined;
  if (what === "poll") await world.poll(id, number);
  else if (what === "place" && alive) world.owned.placement?.place(number, id);
  else if (what === "offer" && alive) world.owned.moveFlowGroup?.(number, id, true);
  else if (what === "pin" && alive && world.owned.setFilter?.(pinned, id)) pins.set(flowKey(pinned), id);
  else if (what === "unpin") {
    world.owned.clearFilter?.(pinned);
    pins.delete(flowKey(pinned));
  } else if (what === "ask") kernel?.ask(SERVICES[number & 1] as number, 1 + (number >> 1));
  else if (what === "giveBack") kernel?.filters.giveBack(0);
  else if (what === "commit") world.owned.commitTables();
  else if (what === "revive") world.revive(id, hears);
  else if (what === "abdicate") world.abdicate(hears);
  else if (what === "kill") {
    const victim = number < 8 ? world.ownerId : id;
    const before = world.kernels[victim];
    world.kill(victim, hears);
    if (before && !world.kernels[victim]) for (const [key, queue] of pins) if (queue === victim) pins.delete(key);
  }
}

test("the tables come to what was wanted, every kernel gets its queue, and no filter is lost or left", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(action, { minLength: 20, maxLength: 150, size: "max" }), async (actions) => {
      const world = new DeviceWorld();
      const pins = new Map<string, number>();
      for (const { do: what, id, number } of actions) await act(world, what, id, number, pins);
      await world.settle();
      expect(world.owned.pendingWrites).toBe(0);
      const live = world.kernels.filter((kernel) => kernel);
      for (const kernel of live) {
        expect(kernel?.errors).toEqual([]);
        expect(kernel?.control.device.state).toBe("driving");
      }
      // Nothing names a queue without a kernel.
      for (const queue of world.device.queueOfEntry) expect(world.kernels[queue]).toBeDefined();
      expect(world.owner?.control.deviceOwner.queues).toEqual({ granted: live.length, driven: live.length });
      const wanted = [...pins.keys(), ...live.flatMap((kernel) => kernel?.held(SERVICES) ?? [])];
      expect([...world.device.filterTable.keys()].sort()).toEqual(wanted.sort());
      expect(world.owner?.control.deviceOwner.filterCount).toBe(wanted.length);
      for (const [key, queue] of pins) expect(world.device.filterTable.get(key)?.queue).toBe(queue);
    }),
    { numRuns: 300 },
  );
}, 120_000);
