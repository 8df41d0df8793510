import { beforeEach, expect, it } from "vitest";
import { filterKey } from "../../../src/control/deviceMessages.ts";
import { FilterTable } from "../../../src/control/filterTable.ts";
import { HOLDER_STACK } from "../../../src/control/ports.ts";
import type { ReplyTuple } from "../../../src/device/replySteering.ts";
import type { PlacedFilter } from "../../../src/device/device.ts";

const CAPACITY = 8;
const KERNELS = [0, 1];

const flow = (remotePort: number): ReplyTuple => ({
  remote: new Uint8Array(16),
  remotePort,
  local: new Uint8Array(16),
  localPort: 7,
});

let placed: Map<string, PlacedFilter>;
let rounds: number;
let table: FilterTable;
let told: string[];
const errors: unknown[] = [];

beforeEach(() => {
  placed = new Map();
  rounds = 0;
  told = [];
  table = new FilterTable({
    tables: () => ({
      setFilter: (tuple, queue) => {
        if (queue > 9) throw new Error("no such queue");
        if (!placed.has(filterKey(tuple)) && placed.size >= CAPACITY) return false;
        placed.set(filterKey(tuple), { flow: tuple, queue });
        return true;
      },
      clearFilter: (tuple) => void placed.delete(filterKey(tuple)),
      filters: () => [...placed.values()],
    }),
    capacity: () => CAPACITY,
    recall: () => {
      rounds++;
      return KERNELS;
    },
    onError: (error) => errors.push(error),
  });
  table.begin();
});

/** Kernel `holder` leases filters of the remote ports from `first` on. */
function lease(holder: number, first: number, count: number): void {
  for (let port = first; port < first + count; port++) expect(table.set(flow(port), holder, holder)).toBe(true);
}

function want(port: number, queue = 1): void {
  table.setWhenFree(flow(port), queue, HOLDER_STACK, (isSet) => told.push(`${port} ${isSet}`));
  table.serve();
}

function recalled(): void {
  for (const kernelId of KERNELS) table.recalled(kernelId, rounds);
}

const ports = () => [...placed.values()].map(({ flow: { remotePort } }) => remotePort).sort((a, b) => a - b);

it("the stack's filters wait for what kernels give back, in their order, and are refused when that was all", () => {
  lease(0, 1, CAPACITY);
  for (const port of [101, 102, 103]) want(port);
  expect([told, rounds]).toEqual([[], 1]);
  table.clear(flow(1));
  table.serve();
  expect(told).toEqual(["101 true"]);
  table.clear(flow(2));
  recalled();
  expect(told).toEqual(["101 true", "102 true"]);
  recalled();
  expect(told).toEqual(["101 true", "102 true", "103 false"]);
  expect(ports()).toEqual([3, 4, 5, 6, 7, 8, 101, 102]);
});

it("who comes while kernels are being asked has a round of its own", () => {
  lease(0, 1, CAPACITY);
  want(101);
  table.recalled(0, rounds);
  // It has answered already, and this is of an earlier time.
  table.recalled(1, rounds - 1);
  expect(told).toEqual([]);
  // Kernel 0 may have given back before this one came.
  want(102);
  table.recalled(1, rounds);
  expect([told, rounds]).toEqual([["101 false"], 2]);
  table.clear(flow(3));
  recalled();
  expect(told).toEqual(["101 false", "102 true"]);
});

it("a kernel that does not answer holds up nothing but those who wait, until it is gone", () => {
  lease(0, 1, CAPACITY);
  want(101);
  table.recalled(0, rounds);
  expect(table.set(flow(8), 3, 0)).toBe(true);
  want(7, 2);
  expect(told).toEqual(["7 true"]);
  table.forget([1]);
  expect(told).toEqual(["7 true", "101 false"]);
});

it("later writes of a flow decide for earlier ones", () => {
  lease(0, 1, CAPACITY);
  want(101, 1);
  want(101, 0);
  expect(told).toEqual(["101 true"]);
  want(102);
  table.clear(flow(102));
  want(103, 1);
  table.drop(1);
  expect(told).toEqual(["101 true", "102 true", "103 true"]);
  table.clear(flow(1));
  recalled();
  expect(told.slice(3)).toEqual(["101 true"]);
  expect(ports()).not.toContain(102);
  expect(ports()).not.toContain(103);
  // A wish for a queue that is not the one dropped stands, also where the table names the old one.
  table.clear(flow(2));
  want(104, 1);
  lease(0, 200, CAPACITY - placed.size);
  table.setWhenFree(flow(104), 2, HOLDER_STACK, () => {});
  table.drop(1);
  expect([...placed.values()].find(({ flow: { remotePort } }) => remotePort === 104)?.queue).toBe(2);
});

it("room is shared out among those who wait", () => {
  lease(0, 1, CAPACITY);
  const got: number[] = [];
  for (const kernelId of [2, 3]) {
    const take = (share: number) => {
      let taken = 0;
      while (taken < share && table.set(flow(1000 * kernelId + taken), kernelId, kernelId)) taken++;
      if (taken > 0) got.push(taken);
      return taken > 0;
    };
    table.want({ take, refuse: () => got.push(0), kernelId });
  }
  want(101);
  expect(rounds).toBe(1);
  for (let port = 1; port <= 6; port++) table.clear(flow(port));
  recalled();
  expect([got, told]).toEqual([[2, 2], ["101 true"]]);
});

it("a kernel that is gone wants nothing; what the device refuses is told", () => {
  lease(0, 1, CAPACITY);
  const answers: string[] = [];
  table.want({ take: () => false, refuse: () => answers.push("refused"), kernelId: 1 });
  table.serve();
  table.forget([1]);
  recalled();
  expect(answers).toEqual([]);
  expect(table.isFree).toBe(true);
  want(101, 10);
  expect([told, errors.length]).toEqual([["101 false"], 1]);
});
