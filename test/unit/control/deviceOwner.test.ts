/** The owner's side of the tables, alone: what the whole of it does is test/property/device.test.ts's. */
import { expect, test } from "vitest";
import { encodeWriteBatch } from "../../../src/control/deviceMessages.ts";
import { DeviceOwner } from "../../../src/control/deviceOwner.ts";
import { Endpoint } from "../../../src/control/endpoint.ts";
import type { DeviceCapabilities } from "../../../src/device/device.ts";
import type { DeviceTables } from "../../../src/device/device.ts";
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
  exactFilters: 0,
};

function createOwner() {
  const { memory } = new MessageKernel(0, { kernels: 1, ringBytes: 4096, life: 0 });
  const onError = (error: unknown) => {
    throw error;
  };
  const endpoint = new Endpoint({ kernelId: 0, life: 0, memory, onWork: () => {}, onError });
  const owner = new DeviceOwner(endpoint, memory, onError);
  const placed: number[] = [];
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
    open({ place: (entry) => void placed.push(entry) });
    await opening;
    await Promise.resolve();
  };
  return { memory, placed, answers, opened };
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
