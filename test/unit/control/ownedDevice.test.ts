import { beforeEach, expect, it } from "vitest";
import {
  decodeWriteBatch,
  encodeWriteAnswer,
  type TableWrite,
  type WriteBatch,
} from "../../../src/control/deviceMessages.ts";
import { type GroupRefusal, OwnedDevice } from "../../../src/control/ownedDevice.ts";
import type { Device } from "../../../src/device/device.ts";
import type { ReplyTuple } from "../../../src/device/replySteering.ts";

const GROUPS = 8;

/** The group is the remote port's, and so is the entry. All name queue 0. */
const queues = new Array<number>(GROUPS).fill(0);
const device = {
  capabilities: { exactFilters: 64, exactFiltersV6: true, flowGroups: GROUPS },
  placement: {
    entries: GROUPS,
    queueOf: (entry: number) => queues[entry],
    place: () => {},
    entryOf: (_source: Uint8Array, sourcePort: number) => sourcePort % GROUPS,
    entryOfGroup: (group: number) => group,
    dropFilters: () => {},
  },
  flowGroupQueue: (group: number) => queues[group],
  moveFlowGroup: () => {},
  setFilter: () => true,
  clearFilter: () => {},
} as unknown as Device;

const flow = (remotePort: number): ReplyTuple => ({
  remote: new Uint8Array(16),
  remotePort,
  local: new Uint8Array(16),
  localPort: 7,
});

type Sent = WriteBatch & { readonly answer: (filters?: readonly number[], groups?: readonly number[]) => void };

let owned: OwnedDevice;
let sent: Sent[];
let refused: [readonly number[], GroupRefusal | "filter"][];

/** Batches are answered when the test says so. */
function attach(): void {
  owned.attach((payload, onWritten) => {
    const batch = decodeWriteBatch(payload) as WriteBatch;
    const answer: Sent["answer"] = (filters = [], groups = []) =>
      onWritten(encodeWriteAnswer({ sequence: batch.sequence, filters: filters.map(flow), groups }));
    sent.push({ ...batch, answer });
  });
}

beforeEach(() => {
  queues.fill(0);
  owned = new OwnedDevice(device);
  sent = [];
  refused = [];
  owned.onGroupsRefused = (groups, why) => refused.push([groups, why]);
  owned.onFiltersRefused = (flows) => refused.push([flows.map(({ remotePort }) => remotePort), "filter"]);
  attach();
  // It tells a new owner what it has: nothing.
  for (const { answer } of sent.splice(0)) answer();
});

/** What has been sent since the last time. */
function writes(): TableWrite["op"][][] {
  return sent.map((batch) => batch.writes.map(({ op }) => op));
}

it("an offer waits for the filters of its group, and for no other's", () => {
  owned.setFilter?.(flow(3), 0);
  owned.setFilter?.(flow(4), 0);
  owned.moveFlowGroup?.(3, 1, true);
  owned.moveFlowGroup?.(5, 1, true);
  owned.commitTables();
  expect(writes()).toEqual([["set", "set"], ["group"]]);
  expect(sent[1]?.writes[0]).toMatchObject({ group: 5 });
  expect(owned.flowGroupQueue?.(3)).toBe(1);
  expect(owned.pendingWrites).toBe(3);
  sent[0]?.answer();
  expect(sent[2]).toMatchObject({ offered: true, writes: [{ op: "group", group: 3, queue: 1 }] });
  for (const batch of sent.slice(1)) batch.answer();
  expect([owned.pendingWrites, refused]).toEqual([0, []]);
});

it("without its filter a group does not move, and both are told", () => {
  owned.setFilter?.(flow(3), 0);
  owned.moveFlowGroup?.(3, 1, true);
  owned.commitTables();
  sent[0]?.answer([3]);
  expect(refused).toEqual([
    [[3], "filters"],
    [[3], "filter"],
  ]);
  expect([sent.length, owned.pendingWrites, owned.filtersRefused]).toEqual([1, 0, 1]);
  expect(owned.flowGroupQueue?.(3)).toBe(0);
  // It can be tried again.
  owned.setFilter?.(flow(3), 0);
  owned.moveFlowGroup?.(3, 1, true);
  owned.commitTables();
  sent[1]?.answer();
  expect(sent[2]?.writes).toMatchObject([{ op: "group", group: 3 }]);
});

it("what a death decides waits only where a filter still keeps a flow with a kernel that lives", () => {
  owned.setFilter?.(flow(3), 0);
  owned.moveFlowGroup?.(3, 1, true);
  owned.commitTables();
  // Kernel 1 dies: the group is on its way there, but its packets still come to kernel 0.
  owned.placement?.place(3, 2);
  owned.placement?.place(6, 2);
  owned.commitTables();
  expect(writes().slice(1)).toEqual([["place"]]);
  sent[0]?.answer();
  expect(sent[2]?.writes).toMatchObject([{ op: "place", entry: 3, queue: 2 }]);
  // Kernel 0 dies: nothing is left to wait for.
  owned.setFilter?.(flow(4), 0);
  owned.moveFlowGroup?.(4, 1, true);
  owned.placement?.dropFilters?.(0);
  owned.commitTables();
  expect(writes().slice(3)).toEqual([["set"], ["drop"], ["group"]]);
});

it("nobody waits for filters but what they guard", () => {
  let waited = 0;
  owned.setFilter?.(flow(3), 0);
  owned.placement?.place(6, 2);
  owned.commitTables(() => waited++);
  expect([writes(), waited]).toEqual([[["set"], ["place"]], 0]);
  sent[1]?.answer();
  expect(waited).toBe(1);
  owned.placement?.place(3, 1, true);
  owned.commitTables();
  expect(sent.length).toBe(2);
  sent[0]?.answer();
  expect(sent[2]?.writes).toMatchObject([{ op: "place", entry: 3 }]);
});

it("who waits for all that has been written waits for filters, too, and for nothing later", () => {
  const told: string[] = [];
  owned.setFilter?.(flow(3), 0);
  owned.clearFilter?.(flow(4));
  owned.commitTables(() => told.push("tables"));
  owned.whenWritten(() => told.push("all"));
  expect(told).toEqual(["tables"]);
  owned.setFilter?.(flow(5), 0);
  owned.commitTables();
  sent[0]?.answer();
  expect(told).toEqual(["tables", "all"]);
  owned.whenWritten(() => told.push("the rest"));
  // Refused is answered, too.
  sent[1]?.answer([5]);
  owned.whenWritten(() => told.push("nothing is left"));
  expect(told).toEqual(["tables", "all", "the rest", "nothing is left"]);
});

it("a new owner hears of the filters first; what a refusal was about has been told anew", () => {
  owned.setFilter?.(flow(3), 0);
  owned.moveFlowGroup?.(3, 1, true);
  owned.commitTables();
  const late = sent[0];
  attach();
  late?.answer([3]);
  expect(refused).toEqual([]);
  expect(sent[1]).toMatchObject({ complete: true, writes: [{ op: "set" }] });
  owned.clearFilter?.(flow(3));
  owned.setFilter?.(flow(3), 0);
  owned.commitTables();
  sent[1]?.answer([3]);
  expect(refused).toEqual([]);
  sent
    .slice(2)
    .find(({ complete, writes: [first] }) => !complete && first?.op === "set")
    ?.answer();
  expect(sent.at(-1)?.writes).toMatchObject([{ op: "group", group: 3 }]);
});
