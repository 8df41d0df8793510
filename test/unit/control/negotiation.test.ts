/** What devices can do, and that every kernel learns it from the owner with its queue pair (docs/architecture.md). */
import { afterEach, describe, expect, it } from "vitest";
import type { CardOptions } from "../../../src/device/card/card.ts";
import { createSegment } from "../../../src/device/card/segment.ts";
import type { Device } from "../../../src/device/device.ts";
import { createFrameDevice } from "../../../src/device/frameDevice.ts";
import { steerInSoftware } from "../../../src/device/steered/device.ts";
import { createStack } from "../../../src/stack.ts";

const cleanUp: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of cleanUp.splice(0).reverse()) await close();
});

const LOCAL_PORTS = { first: 32768, last: 60999 };
const OFFLOADS = { checksumOffload: true, receiveCoalescing: true, tsoBytesMax: 60_000 };
const NO_OFFLOADS = { checksumOffload: false, receiveCoalescing: false, tsoBytesMax: 0 };
const CARD_TABLES = { retaEntries: 512, flowGroups: 4096, localPorts: LOCAL_PORTS, exactFilters: 8192 };

const card = (options: CardOptions) => async (): Promise<Device> => {
  const segment = await createSegment({ shared: false });
  cleanUp.push(() => segment.close());
  return segment.createCard(options);
};

const DEVICES: { name: string; create: () => Promise<Device>; has: Partial<Device["capabilities"]> }[] = [
  {
    name: "a card with more",
    create: card({ queues: 3 }),
    has: { queues: 3, steering: "card", mtuBytes: 1500, ...CARD_TABLES, ...NO_OFFLOADS },
  },
  {
    name: "a card with offloads, fewer groups and ports of its own",
    create: card({
      ...{ queues: 2, flowGroups: 16, retaEntries: 64, mtuBytes: 9000, localPorts: { first: 1024, last: 2047 } },
      ...{ checksumOffload: true, tsoBytesMax: 60_000 },
    }),
    has: { flowGroups: 16, retaEntries: 64, mtuBytes: 9000, localPorts: { first: 1024, last: 2047 }, ...OFFLOADS },
  },
  {
    name: "an 82599",
    create: card({ preset: "82599", queues: 3 }),
    has: { steering: "card", retaEntries: 128, flowGroups: 4096, exactFilters: 8192, ...NO_OFFLOADS },
  },
  { name: "a cable", create: card({}), has: { queues: 1, steering: "none", ...CARD_TABLES, ...NO_OFFLOADS } },
  {
    name: "a frame device",
    create: async () => createFrameDevice({ transmit: () => {} }),
    has: { queues: 1, steering: "none", retaEntries: 0, flowGroups: 0, exactFilters: 0, ...NO_OFFLOADS },
  },
  {
    name: "software before one queue",
    create: async () => steerInSoftware(await card({ checksumOffload: true, tsoBytesMax: 60_000 })(), { queues: 3 }),
    has: { queues: 3, steering: "software", ...CARD_TABLES, ...OFFLOADS },
  },
];

describe.each(DEVICES)("$name", ({ create, has }) => {
  it("can do this, and every kernel is told so", async () => {
    const device = await create();
    expect(device.capabilities).toMatchObject(has);
    const tuning = { memoryBytes: 32 << 20, connectionsMax: 64 };
    const stack = await createStack({ device, address: "10.7.0.2/24", drive: "manual", tuning });
    cleanUp.push(() => stack.close());
    expect(stack.kernels).toHaveLength(device.capabilities.queues);
    for (const { control } of stack.kernels) {
      expect(control.device.state).toBe("driving");
      expect(control.device.terms).toEqual({ exactFiltersV6: true, ...device.capabilities });
    }
  });
});

it("an 82599 has no group of the local port, 64 queues at most, and RSS for 16", async () => {
  const device = await card({ preset: "82599", queues: 64 })();
  expect(device.capabilities.localPorts).toBeUndefined();
  await expect(card({ preset: "82599", queues: 65 })()).rejects.toMatchObject({ code: "ERR_OPTION_RANGE" });
  const localPorts = { first: 1, last: 2 };
  await expect(card({ preset: "82599", localPorts })()).rejects.toThrow(/localPorts/);
  await expect(card({ preset: "82599", retaEntries: 256 })()).rejects.toMatchObject({ code: "ERR_OPTION_RANGE" });
  await expect(card({ preset: "82599", queuesRssMax: 17 })()).rejects.toMatchObject({ code: "ERR_OPTION_RANGE" });
  const named = new Set<number | undefined>();
  const { placement } = device;
  for (let entry = 0; entry < (placement?.entries ?? 0); entry++) named.add(placement?.queueOf(entry));
  expect([...named].filter((queue) => queue !== undefined).sort((a, b) => a - b)).toEqual(
    Array.from({ length: 16 }, (_, queue) => queue),
  );
});
