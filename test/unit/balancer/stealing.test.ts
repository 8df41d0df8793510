/** A balancer's steals: what the policy is told of them, and filters that are refused on the way. */
import { describe, expect, it } from "vitest";
import { flowKey, type PinnedFlow, Pins } from "../../../src/balancer/pins.ts";
import { Stealing } from "../../../src/balancer/stealing.ts";
import type { Device } from "../../../src/device/device.ts";
import type { StealOrder } from "../../../src/migration/steal.ts";

const REMOTE = new Uint8Array(16).fill(1);
const LOCAL = new Uint8Array(16).fill(2);

function start(pinsMax = 8) {
  const orders: StealOrder[] = [];
  const lost: PinnedFlow[] = [];
  const device = { setFilter: () => true, clearFilter: () => true } as unknown as Device;
  const pins = new Pins(device, pinsMax);
  const stealing = new Stealing({
    kernels: 3,
    pins,
    addresses: [LOCAL],
    steal: (order) => void orders.push(order),
    isHere: (kernel) => kernel < 3,
    groupOf: ({ remotePort }) => remotePort & 4095,
    pinBack: (flow) => pins.remove(flow),
    lost: (flow) => void lost.push(flow),
  });
  const pin = (order: StealOrder, remotePort: number): PinnedFlow => {
    const flow = order.nameFlow({ remote: REMOTE, remotePort, localIndex: 0, localPort: 80 }, order.to);
    expect(order.pin(flow)).toBe(true);
    return flow;
  };
  return { stealing, orders, lost, pins, pin };
}

const WANTED = { from: 0, to: 1, connections: 5 };

describe("Stealing", () => {
  it("tells what is under way, and what was stolen and refused; asking again meanwhile is no refusal", () => {
    const { stealing, orders } = start();
    stealing.begin([WANTED], 0, false);
    expect(stealing.observe()).toEqual([{ from: 0, to: 1, stolen: 0, refused: 0, underWay: 5 }]);
    stealing.begin([WANTED, { ...WANTED, to: 2 }], 0, false);
    expect(orders.map(({ to }) => to)).toEqual([1, 2]);
    expect(stealing.hasNews).toBe(false);
    orders[0]?.settled({ connections: 3 });
    orders[1]?.settled({ connections: 0, refusal: "migration" });
    expect(stealing.observe()).toEqual([
      { from: 0, to: 1, stolen: 3, refused: 0, underWay: 0 },
      { from: 0, to: 2, stolen: 0, refused: 1, underWay: 0 },
    ]);
    expect(stealing.news()).toEqual({
      steals: [{ from: 0, to: 1, connections: 3 }],
      stealsRefused: [{ from: 0, to: 2, connections: 5, refusal: "migration" }],
    });
    stealing.begin([WANTED], 0, false);
    expect(orders.length).toBe(3);
  });

  it("orders no more than there are filters", () => {
    const { stealing, orders } = start(2);
    stealing.begin([WANTED], 0, false);
    expect(orders[0]?.connections).toBe(2);
    expect(stealing.observe()[0]?.underWay).toBe(2);
    stealing.begin([{ ...WANTED, to: 2 }], 0, true);
    expect(stealing.news().stealsRefused).toMatchObject([{ to: 2, refusal: "filters" }]);
  });

  it("a filter that is lost on the way counts only if the connection arrives", () => {
    const { stealing, orders, lost, pins, pin } = start();
    for (const connections of [0, 2]) {
      stealing.begin([WANTED], 0, false);
      const order = orders.at(-1) as StealOrder;
      const flows = [pin(order, 33_000), pin(order, 33_001)];
      expect(flows.every((flow) => stealing.isOnTheWay(flow))).toBe(true);
      pins.refused(flows[1] as PinnedFlow);
      expect(lost).toEqual([]);
      if (connections === 0) for (const flow of flows) order.unpin(flow);
      order.settled(connections === 0 ? { connections, refusal: "filters" } : { connections });
      expect(flows.some((flow) => stealing.isOnTheWay(flow))).toBe(false);
      expect(lost.map(({ remotePort }) => remotePort)).toEqual(connections === 0 ? [] : [33_001]);
    }
    expect(pins.count).toBe(1);
  });

  it("a flow that was stolen twice is forwarded until both old kernels have ceased to", () => {
    const { stealing, orders, pin } = start();
    const keys = [WANTED, { from: 1, to: 2, connections: 1 }].map((wanted) => {
      stealing.begin([wanted], 0, false);
      const order = orders.at(-1) as StealOrder;
      const key = flowKey(pin(order, 33_000));
      order.settled({ connections: 1 });
      return key;
    });
    const isForwarded = () => keys.map((key) => stealing.isForwarded(key));
    expect(isForwarded()).toEqual([true, true]);
    orders[0]?.released();
    expect(isForwarded()).toEqual([true, true]);
    orders[1]?.released();
    expect(isForwarded()).toEqual([false, false]);
  });
});
