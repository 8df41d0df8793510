import { expect, test } from "vitest";
import { Connections } from "../../../../src/sim/engine/connections.ts";

test("every field of every slot has a place of its own", () => {
  const connections = new Connections(7, 3);
  const columns = Object.values(connections).filter((value) => typeof value === "object" && "get" in value);
  expect(columns.length).toBe(22);
  columns.forEach((column, i) => {
    for (let slot = 0; slot < 10; slot++) column.set(slot, i * 100 + slot + 1);
  });
  columns.forEach((column, i) => {
    for (let slot = 0; slot < 10; slot++) expect(column.get(slot)).toBe(i * 100 + slot + 1);
  });
});

test("slots of active connections lie above the clients', go round, and begin anew", () => {
  const connections = new Connections(4, 2);
  expect([connections.takeActive(), connections.takeActive(), connections.takeActive()]).toEqual([4, 5, -1]);
  connections.handle.set(4, 17);
  connections.giveActive(4);
  expect(connections.takeActive()).toBe(4);
  expect(connections.handle.get(4)).toBe(-1);
});

test("slots of active connections rest as long as there are fresh ones", () => {
  const connections = new Connections(4, 6000);
  const first = connections.takeActive();
  connections.giveActive(first);
  const taken = Array.from({ length: 6000 }, () => {
    const slot = connections.takeActive();
    connections.giveActive(slot);
    return slot;
  });
  expect(taken.indexOf(first)).toBe(4095);
});
