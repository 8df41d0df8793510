/** The owner's side of the tables, alone: what the whole of it does is test/property/device.test.ts's. */
import { expect, test } from "vitest";
import { decodeFilterBlock, encodeFilterBlock, encodeWriteBatch } from "../../../src/control/deviceMessages.ts";
import { DeviceOwner } from "../../../src/control/deviceOwner.ts";
import { CONTROL_VERSION, Endpoint } from "../../../src/control/endpoint.ts";
import { questionCorrelation } from "../../../src/control/questions.ts";
import type { DeviceCapabilities } from "../../../src/device/device.ts";
import type { DeviceTables } from "../../../src/device/device.ts";
import {
  MESSAGE_TYPE_FILTERS_ASK,
  MESSAGE_TYPE_FILTERS_GRANT,
  MESSAGE_TYPE_FILTERS_LEAD,
} from "../../../src/layout/message.ts";
import { MessageKernel } from "../../helpers/messageKernels.ts";

const TERMS: DeviceCapabilities = {
  queues: 1,
  mtuBytes: 1500,
  checksumOffload: false,
  receiveCoalescing: false,
  tsoBytesMax: 0,
  steering: "card",
  retaEntries: 8,
  flowGroups: 0,
  exactFilters: 8,
};

/** Of a service, on our side too: no packet is sent. */
const ADDRESS = new Uint8Array(16);
const SERVICE = { queue: 0, remote: ADDRESS, remotePort: 80, local: ADDRESS };

function createOwner() {
  const { memory } = new MessageKernel(0, { kernels: 1, ringBytes: 4096, life: 0 });
  const onError = (error: unknown) => {
    throw error;
  };
  const endpoint = new Endpoint({ kernelId: 0, life: 0, memory, onWork: () => {}, onError });
  const owner = new DeviceOwner(endpoint, memory, onError);
  const placed: number[] = [];
  /** Queue of each local port. */
  const filters = new Map<number, number>();
  const grants: (readonly number[])[] = [];
  endpoint.on(MESSAGE_TYPE_FILTERS_GRANT, CONTROL_VERSION, ({ payload }) => {
    grants.push(decodeFilterBlock(payload)?.localPorts ?? []);
  });
  /** As kernel 0 does, which is the owner itself. */
  const send = (type: number, correlation: number, queue: number, localPorts: readonly number[]) => {
    endpoint.tell(0, type, CONTROL_VERSION, correlation, encodeFilterBlock({ ...SERVICE, queue, localPorts }));
    while (endpoint.poll() > 0);
  };
  const ask = (...ports: number[]) => send(MESSAGE_TYPE_FILTERS_ASK, questionCorrelation(1, 1), 0, ports);
  const lead = (to: number, ...ports: number[]) => send(MESSAGE_TYPE_FILTERS_LEAD, 1, to, ports);
  let open = (_tables: DeviceTables) => {};
  const opening = new Promise<DeviceTables>((resolve) => {
    open = resolve;
  });
  owner.provide({ terms: TERMS, open: () => opening, stackWrites: true });
  owner.setView({
    term: 1,
    owner: 0,
    ownerSince: 1,
    members: [{ kernelId: 0, life: 0, memory: memory.memory }],
    former: [],
  });
  const answers: Uint8Array[] = [];
  owner.write(
    encodeWriteBatch({
      sequence: 1,
      offered: false,
      complete: true,
      writes: [{ op: "place", entry: 3, queue: 0 }],
    }),
    (answer) => answers.push(answer),
  );
  const opened = async () => {
    open({
      place: (entry) => void placed.push(entry),
      setFilter: ({ localPort }, queue) => {
        filters.set(localPort, queue);
        return true;
      },
      clearFilter: ({ localPort }) => void filters.delete(localPort),
    });
    await opening;
    await Promise.resolve();
  };
  return { memory, placed, answers, opened, filters, grants, ask, lead };
}

test("writes wait until the tables are open, and are answered", async () => {
  const { answers, opened, placed } = createOwner();
  expect(answers).toHaveLength(0);
  await opened();
  expect(placed).toEqual([3]);
  expect(answers).toHaveLength(1);
});

test("an owner that is given up while the tables open neither writes nor answers: the next one is asked", async () => {
  const { answers, memory, opened, placed } = createOwner();
  memory.fence();
  await opened();
  expect(placed).toEqual([]);
  expect(answers).toHaveLength(0);
});

test("a filter that leads to a kernel that has died is cleared, not set", async () => {
  const { ask, filters, grants, lead, opened } = createOwner();
  await opened();
  ask(40_000);
  expect([...filters]).toEqual([[40_000, 0]]);
  // The view without kernel 1 was handled first.
  lead(1, 40_000, 40_001);
  expect([...filters]).toEqual([]);
  ask(40_000);
  expect(grants).toEqual([[40_000], [40_000]]);
});

test("an owner that is given up does not answer that what it was told is done", async () => {
  const { ask, filters, grants, lead, memory, opened } = createOwner();
  await opened();
  ask();
  expect(grants).toEqual([[]]);
  memory.fence();
  lead(0, 40_000);
  ask();
  expect([...filters]).toEqual([]);
  expect(grants).toHaveLength(1);
});
