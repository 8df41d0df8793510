import { describe, expect, test } from "vitest";
import { BegunList } from "../../../../src/sim/engine/begunList.ts";
import * as F from "../../../../src/sim/engine/connectionFields.ts";
import { Connections } from "../../../../src/sim/engine/connections.ts";

function connections(slots: number) {
  return new Connections(slots, 0);
}

describe("BegunList", () => {
  test("the oldest connection that has not ended comes first, however many were begun since", () => {
    const of = connections(5000);
    const list = new BegunList(of);
    expect(list.oldest()).toBe(-1);
    for (let slot = 0; slot < 5000; slot++) {
      of.setNs(slot, F.STARTED_NS, 100 + slot);
      list.push(slot, 100 + slot);
    }
    expect(list.oldest()).toBe(0);
    expect(list.oldestNs).toBe(100);
    for (let slot = 0; slot < 4321; slot++) of.set(slot, F.FINISHED, 1);
    expect(list.oldest()).toBe(4321);
    expect(list.oldestNs).toBe(4421);
    expect(list.count).toBe(5000 - 4321);
  });

  test("a slot's second life is not taken for its first", () => {
    const of = connections(2);
    const list = new BegunList(of);
    of.setNs(0, F.STARTED_NS, 10);
    list.push(0, 10);
    of.setNs(1, F.STARTED_NS, 20);
    list.push(1, 20);
    of.setNs(0, F.STARTED_NS, 30);
    list.push(0, 30);
    expect(list.oldest()).toBe(1);
    of.set(1, F.FINISHED, 1);
    expect(list.oldest()).toBe(0);
    expect(list.oldestNs).toBe(30);
  });

  test("those that end are dropped as they become the oldest: the list is as long as the oldest is old", () => {
    const of = connections(1 << 16);
    const list = new BegunList(of);
    let longest = 0;
    for (let i = 0; i < 1 << 16; i++) {
      of.setNs(i, F.STARTED_NS, i);
      list.push(i, i);
      if (i >= 700) of.set(i - 700, F.FINISHED, 1);
      list.oldest();
      longest = Math.max(longest, list.count);
    }
    expect(longest).toBeLessThanOrEqual(701);
  });
});
