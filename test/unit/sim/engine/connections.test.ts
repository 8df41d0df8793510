import { expect, test } from "vitest";
import * as F from "../../../../src/sim/engine/connectionFields.ts";
import { Connections } from "../../../../src/sim/engine/connections.ts";

test("every field of every slot has a place of its own", () => {
  const connections = new Connections(7, 3);
  const fields = Object.entries(F).filter(([name]) => !["LINE_WORDS", "RECORD_WORDS"].includes(name));
  expect(fields.length).toBe(22);
  const isTime = (name: string) => name.endsWith("_NS");
  fields.forEach(([name, field], i) => {
    for (let slot = 0; slot < 10; slot++) {
      if (isTime(name)) connections.setNs(slot, field, i * 100 + slot + 0.5);
      else connections.set(slot, field, i * 100 + slot + 1);
    }
  });
  fields.forEach(([name, field], i) => {
    for (let slot = 0; slot < 10; slot++) {
      if (isTime(name)) expect(connections.getNs(slot, field)).toBe(i * 100 + slot + 0.5);
      else expect(connections.get(slot, field)).toBe(i * 100 + slot + 1);
    }
  });
});

test("slots of active connections lie above the clients', go round, and begin anew", () => {
  const connections = new Connections(4, 2);
  expect([connections.takeActive(), connections.takeActive(), connections.takeActive()]).toEqual([4, 5, -1]);
  connections.set(4, F.HANDLE, 17);
  connections.giveActive(4);
  expect(connections.takeActive()).toBe(4);
  expect(connections.get(4, F.HANDLE)).toBe(-1);
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
