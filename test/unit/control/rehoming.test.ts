import { beforeEach, expect, it } from "vitest";
import { parseAddress } from "../../../src/ip/address.ts";
import { Rehoming } from "../../../src/control/rehoming.ts";
import type { Device, Placement } from "../../../src/device/device.ts";
import type { ReplyTuple } from "../../../src/device/replySteering.ts";
import {
  HEALTH_BASE,
  HEALTH_HEARTBEAT,
  HEALTH_WITHHOLD_RST,
  MAP_BASE,
  MAP_TCB_HIGH_WATER,
  MAP_TCBS,
  RX_CONTROL_BASE,
} from "../../../src/layout/kernelMemory.ts";
import { STATE_ESTABLISHED, STATE_FREE } from "../../../src/layout/option.ts";
import { TCB_PORTS, TCB_SIZE_BYTES, TCB_STATE } from "../../../src/layout/tcb.ts";
import { RING_BASE, RING_SIZE } from "../../../src/layout/frameRing.ts";
import { KernelMemory } from "../../../src/views/kernelMemory.ts";
import { createMemory } from "../../../src/wasm/load.ts";
import { ethernet, tcpPacket } from "../../helpers/packets.ts";

const QUEUES = 3;
const ENTRIES = 6;
const TCBS_AT = 32_768;
const SETTLE_MS = 10;
const LANE_AT = 40_960;
const LANE_BYTES = 1024;

/** A device that is nothing but its tables. An entry is the remote port, modulo their number. */
class FakeDevice {
  readonly capabilities = { exactFilters: 64, steering: "card" };
  rxLanes = 0;
  /** Of the filters; their owner, if it is slow, has written none yet. */
  writes = 0;
  written = Number.POSITIVE_INFINITY;
  readonly queues = Array.from({ length: ENTRIES }, (_, entry) => entry % QUEUES);
  /** Queue by remote port. */
  readonly filters = new Map<number, number>();
  readonly flows: ReplyTuple[] = [];
  readonly placement: Placement = {
    entries: ENTRIES,
    queueOf: (entry) => this.queues[entry],
    place: (entry, queue) => {
      this.queues[entry] = queue;
    },
    entryOf: (_source, sourcePort) => sourcePort % ENTRIES,
  };

  setFilter(flow: ReplyTuple, queue: number): boolean {
    const { remotePort } = flow;
    this.flows.push(flow);
    this.filters.set(remotePort, queue);
    this.writes++;
    return true;
  }

  hasWritten(writes: number): boolean {
    return writes <= this.written;
  }

  clearFilter({ remotePort }: ReplyTuple): void {
    this.filters.delete(remotePort);
  }
}

let device: FakeDevice;
let memories: KernelMemory[];
let rehoming: Rehoming;

beforeEach(() => {
  device = new FakeDevice();
  memories = Array.from({ length: QUEUES }, () => {
    const memory = new KernelMemory(createMemory(65_536, true));
    memory.words[(MAP_BASE + MAP_TCBS) >> 2] = TCBS_AT;
    memory.words[(MAP_BASE + MAP_TCB_HIGH_WATER) >> 2] = 1;
    return memory;
  });
  rehoming = new Rehoming({
    device: device as unknown as Device,
    queues: QUEUES,
    memoryOf: (queue) => memories[queue],
    addresses: [new Uint8Array(16)],
  });
});

/** The kernel has one connection, from this port; 0: none. */
function connect(queue: number, remotePort: number): void {
  const { bytes } = memories[queue] as KernelMemory;
  bytes[TCBS_AT + TCB_STATE] = remotePort === 0 ? STATE_FREE : STATE_ESTABLISHED;
  bytes[TCBS_AT + TCB_PORTS] = remotePort >> 8;
  bytes[TCBS_AT + TCB_PORTS + 1] = remotePort & 0xff;
}

it("entries of a queue without a kernel name others, and come home where no connection lives", () => {
  rehoming.retire(0, 0);
  expect(device.queues).toEqual([1, 1, 2, 2, 1, 2]);
  // Entry 0 has a connection at its stand-in.
  connect(1, 600);
  rehoming.restore(0, 1000);
  expect(device.queues).toEqual([1, 1, 2, 0, 1, 2]);
  connect(1, 0);
  for (let ms = 1000; ms < 2000; ms++) if (rehoming.deadlineMs <= ms) rehoming.step(ms);
  expect(device.queues).toEqual([0, 1, 2, 0, 1, 2]);
  expect(rehoming.displacedEntries).toBe(0);
});

it("behind a device that lends queues, all that named one goes to the kernel that reads it while it is there", () => {
  const loans: [queue: number, to: number | undefined][] = [];
  Object.assign(device, { lendQueue: (queue: number, to: number | undefined) => loans.push([queue, to]) });
  rehoming.retire(2, 0);
  expect(device.queues).toEqual([0, 1, 0, 0, 1, 0]);
  rehoming.restore(2, 1000);
  for (let ms = 1000; ms < 1100; ms++) if (rehoming.deadlineMs <= ms) rehoming.step(ms);
  rehoming.retire(1, 2000);
  expect(device.queues).toEqual([0, 2, 2, 0, 2, 2]);
  // It ends, too: then another reads both.
  rehoming.retire(2, 2001);
  expect(device.queues).toEqual([0, 0, 0, 0, 0, 0]);
  rehoming.restore(2, 2002);
  expect(loans).toEqual([
    [2, 0],
    [2, undefined],
    [1, 2],
    [1, 0],
    [2, 0],
    [2, undefined],
  ]);
});

it("a connection that was late at the stand-in stays there by a filter, wherever its entry has gone since", () => {
  for (const third of [0, 2]) {
    rehoming.retire(0, 0);
    rehoming.restore(0, 1000);
    // Entry 0 was queue 1's meanwhile, goes home, and at once to whoever the balancer says.
    expect(device.queues[0]).toBe(0);
    device.placement.place(0, third);
    connect(1, 600);
    rehoming.step(1000 + SETTLE_MS);
    expect([...device.filters]).toEqual([[600, 1]]);
    expect(device.queues[0]).toBe(third);
    connect(1, 0);
    device.placement.place(0, 0);
    rehoming.unpinAll();
    for (let ms = 1100; ms < 2000; ms++) if (rehoming.deadlineMs <= ms) rehoming.step(ms);
    expect(device.filters.size).toBe(0);
  }
});

/** Kernel 0 answers segments that it does not know with silence. */
const isSilent = () => (memories[0] as KernelMemory).loadU32(HEALTH_BASE + HEALTH_WITHHOLD_RST) !== 0;

it("a kernel that is back stays silent until filters for late connections are written, however late that is", () => {
  device.written = 0;
  rehoming.retire(0, 0);
  rehoming.restore(0, 1000);
  connect(1, 600);
  rehoming.step(1000 + SETTLE_MS);
  expect(device.writes).toBe(1);
  for (let ms = 1011; ms < 1150; ms++) if (rehoming.deadlineMs <= ms) rehoming.step(ms);
  expect(isSilent()).toBe(true);
  device.written = 1;
  for (let ms = 1150; ms < 1200; ms++) if (rehoming.deadlineMs <= ms) rehoming.step(ms);
  expect(isSilent()).toBe(false);
});

it.each([
  { turns: 0, sleeps: false, isAwaited: true },
  { turns: 19, sleeps: false, isAwaited: true },
  { turns: 20, sleeps: false, isAwaited: false },
  { turns: 0, sleeps: true, isAwaited: false },
])(
  "behind a TAP also until it has taken turns or slept: $turns turns, asleep: $sleeps",
  ({ turns, sleeps, isAwaited }) => {
    const take = (memory: KernelMemory | undefined, count: number) => {
      if (memory) memory.words[(HEALTH_BASE + HEALTH_HEARTBEAT) >> 2] = count;
    };
    device.capabilities.steering = "ebpf";
    rehoming.retire(0, 0);
    rehoming.restore(0, 1000);
    connect(1, 600);
    for (const giver of memories.slice(1)) take(giver, 20);
    rehoming.step(1000 + SETTLE_MS);
    expect([...device.filters]).toEqual([[600, 1]]);
    take(memories[0], turns);
    memories[0]?.setSleeping(sleeps);
    take(memories[1], 40);
    for (let ms = 1011; ms < 1150; ms++) if (rehoming.deadlineMs <= ms) rehoming.step(ms);
    expect(isSilent()).toBe(isAwaited);
    // Not for ever, should it never come to a turn.
    for (let ms = 1150; ms < 1600; ms++) if (rehoming.deadlineMs <= ms) rehoming.step(ms);
    expect(isSilent()).toBe(false);
  },
);

it("a connection that takes the place of a pinned one, by its filter, is pinned too", () => {
  rehoming.retire(0, 0);
  rehoming.restore(0, 1000);
  connect(1, 600);
  rehoming.step(1000 + SETTLE_MS);
  expect([...device.filters]).toEqual([[600, 1]]);
  connect(1, 0);
  for (let ms = 1011; device.filters.size > 0; ms++) if (rehoming.deadlineMs <= ms) rehoming.step(ms);
  // Its SYN was on its way there when the filter went.
  connect(1, 600);
  expect(isSilent()).toBe(true);
  for (let ms = 1300; ms < 1400; ms++) if (rehoming.deadlineMs <= ms) rehoming.step(ms);
  expect([...device.filters]).toEqual([[600, 1]]);
  expect(isSilent()).toBe(false);
});

it("a SYN that its kernel does not read for long gets a filter, which stays while it lies there", () => {
  device.rxLanes = 1;
  const memory = memories[1] as KernelMemory;
  memory.words[(RX_CONTROL_BASE + RING_BASE) >> 2] = LANE_AT;
  memory.words[(RX_CONTROL_BASE + RING_SIZE) >> 2] = LANE_BYTES;
  const ends = { source: "10.7.0.1", destination: "0.0.0.0", sourcePort: 600, destinationPort: 80 };
  const macs = { source: "02:00:00:00:00:01", destination: "02:00:00:00:00:02" };
  const lane = memory.rxRing(0);
  rehoming = new Rehoming({
    device: device as unknown as Device,
    queues: QUEUES,
    memoryOf: (queue) => memories[queue],
    addresses: [parseAddress("0.0.0.0")],
  });
  rehoming.retire(0, 0);
  expect(device.queues[0]).toBe(1);
  lane.push(ethernet(macs, tcpPacket({ ...ends, flags: "syn" })));
  rehoming.restore(0, 1000);
  // Longer than a kernel that stands still is waited for, and pins are swept several times.
  for (let ms = 1000; ms < 3000; ms++) {
    if (rehoming.deadlineMs <= ms) rehoming.step(ms);
    if (ms >= 1000 + SETTLE_MS) expect([...device.filters]).toEqual([[600, 1]]);
  }
  expect(device.queues[0]).toBe(0);
  // The kernel has read it, and opened nothing.
  lane.shift();
  for (let ms = 3000; ms < 4000; ms++) if (rehoming.deadlineMs <= ms) rehoming.step(ms);
  expect(device.filters.size).toBe(0);
});

it("likewise when the kernel that its entry had gone home to ends at once", () => {
  rehoming.retire(0, 0);
  rehoming.restore(0, 1000);
  connect(1, 600);
  rehoming.retire(0, 1005);
  device.placement.place(0, 2);
  rehoming.step(1000 + SETTLE_MS);
  expect([...device.filters]).toEqual([[600, 1]]);
});

function connectPort(queue: number, index: number, port: number): void {
  const { bytes } = memories[queue] as KernelMemory;
  const at = TCBS_AT + index * TCB_SIZE_BYTES;
  bytes[at + TCB_STATE] = STATE_ESTABLISHED;
  bytes[at + TCB_PORTS] = port >> 8;
  bytes[at + TCB_PORTS + 1] = port & 0xff;
}

/** The kernel has so many connections, from ports one after the other. */
function connectMany(queue: number, firstPort: number, count: number): void {
  const memory = memories[queue] as KernelMemory;
  memory.words[(MAP_BASE + MAP_TCB_HIGH_WATER) >> 2] = count;
  for (let i = 0; i < count; i++) connectPort(queue, i, firstPort + i);
}

/** There may be a million: each look would hold up everything else on its thread. */
it("looks at few of many connections where all entries have some", () => {
  let looks = 0;
  const { placement } = device;
  const { entryOf } = placement;
  placement.entryOf = (...tuple) => {
    looks++;
    return entryOf(...tuple);
  };
  rehoming.retire(0, 0);
  expect(device.queues).toEqual([1, 1, 2, 2, 1, 2]);
  connectMany(1, 600, 200);
  connectMany(2, 600, 200);
  rehoming.restore(0, 1000);
  expect(device.queues).toEqual([1, 1, 2, 2, 1, 2]);
  expect(looks).toBeLessThan(2 * ENTRIES + 2);
  // What the ports tell is asked first: of entry 3 there is none.
  looks = 0;
  for (let i = 0; i < 200; i++) connectPort(2, i, 600 + 6 * i);
  Object.assign(placement, { entryOfPorts: (port: number) => port % ENTRIES });
  rehoming.step(1200);
  expect(device.queues).toEqual([1, 1, 2, 0, 1, 2]);
  expect(looks).toBe(1);
});

it("pins of a flow group are taken away, and put back when it stays", () => {
  rehoming.retire(0, 0);
  rehoming.restore(0, 1000);
  connect(1, 600);
  rehoming.step(1000 + SETTLE_MS);
  const repin = rehoming.unpin(600);
  expect(device.filters.size).toBe(0);
  repin();
  expect([...device.filters]).toEqual([[600, 1]]);
  rehoming.unpin(601);
  // Its kernel ends while the group is on its way.
  const late = rehoming.unpin(600);
  rehoming.retire(1, 1100);
  late();
  expect(device.filters.size).toBe(0);
  rehoming.restore(1, 1200);
  late();
  expect(device.filters.size).toBe(1);
  rehoming.unpinAll();
  expect(device.filters.size).toBe(0);
});

it("an entry comes back to a connection whose filter is refused, unless others are there too", () => {
  rehoming.retire(0, 0);
  rehoming.restore(0, 1000);
  // Entry 0 has gone home, and on to whom the balancer says; a connection was late at the stand-in.
  device.placement.place(0, 2);
  connect(1, 600);
  rehoming.step(1000 + SETTLE_MS);
  expect([...device.filters]).toEqual([[600, 1]]);
  const flows = device.flows.splice(0);
  connect(2, 606);
  rehoming.filtersRefused(flows);
  expect([device.queues[0], rehoming.displacedEntries, rehoming.tornEntries]).toEqual([2, 0, 1]);
  // Nothing is pinned any more.
  connect(2, 0);
  rehoming.filtersRefused(flows);
  expect(device.queues[0]).toBe(2);
});

it("a connection whose filter is refused is told once, and then all kernels speak again", () => {
  rehoming.retire(0, 0);
  rehoming.restore(0, 1000);
  // One of the entry is late at the stand-in, another is at home.
  connect(1, 600);
  connect(0, 606);
  for (let ms = 1000; ms < 1500; ms++) {
    if (rehoming.deadlineMs <= ms) rehoming.step(ms);
    // The owner takes its time.
    if (ms % 2 === 0) rehoming.filtersRefused(device.flows.splice(0));
  }
  expect([device.writes, rehoming.tornEntries, isSilent()]).toEqual([1, 1, false]);
});

it("the next settling tries again", () => {
  rehoming.retire(0, 0);
  rehoming.restore(0, 1000);
  connect(1, 600);
  connect(0, 606);
  rehoming.step(1000 + SETTLE_MS);
  rehoming.filtersRefused(device.flows.splice(0));
  for (let ms = 1011; ms < 1500; ms++) if (rehoming.deadlineMs <= ms) rehoming.step(ms);
  expect(device.writes).toBe(1);
  rehoming.retire(0, 1500);
  connect(0, 0);
  connect(1, 0);
  rehoming.restore(0, 2000);
  for (let ms = 2000; ms < 2300; ms++) if (rehoming.deadlineMs <= ms) rehoming.step(ms);
  rehoming.retire(0, 3000);
  rehoming.restore(0, 4000);
  connect(1, 600);
  rehoming.step(4000 + SETTLE_MS);
  expect([device.writes, [...device.filters]]).toEqual([2, [[600, 1]]]);
});

it("what is due at its deadline is done then, however that is rounded", () => {
  const nsOf = (ms: number) => Math.round(ms * 1e6);
  let rounded = 0;
  for (let ns = 2_038_000_005; ns < 2_038_000_505; ns++) {
    rehoming.retire(0, ns / 1e6 - 1000);
    rehoming.restore(0, ns / 1e6);
    const dueMs = rehoming.deadlineMs;
    if (dueMs * 1e6 < nsOf(dueMs)) rounded++;
    rehoming.step(dueMs);
    expect(rehoming.deadlineMs).toBeGreaterThan(dueMs);
    for (let due = rehoming.deadlineMs; due < Infinity; due = rehoming.deadlineMs) rehoming.step(due);
  }
  expect(rounded).toBeGreaterThan(0);
});

it("and goes where it was as soon as that connection is over", () => {
  rehoming.retire(0, 0);
  rehoming.restore(0, 1000);
  device.placement.place(0, 2);
  connect(1, 600);
  rehoming.step(1000 + SETTLE_MS);
  rehoming.filtersRefused(device.flows.splice(0));
  expect([device.queues[0], rehoming.displacedEntries]).toEqual([1, 1]);
  connect(1, 0);
  for (let ms = 1000; ms < 2000; ms++) if (rehoming.deadlineMs <= ms) rehoming.step(ms);
  expect([device.queues[0], rehoming.displacedEntries]).toEqual([2, 0]);
});

it("an entry whose stand-in ends when its own kernel is back is at home, and is not moved again", () => {
  rehoming.retire(1, 0);
  const displaced = [1, 4];
  expect(displaced.map((entry) => device.queues[entry])).toEqual([0, 2]);
  // It is back, but a connection at the stand-in keeps the entry there, until that ends, too.
  connect(0, 1);
  rehoming.restore(1, 1);
  rehoming.retire(2, 2, true);
  rehoming.retire(0, 3, true);
  expect([...device.queues]).toEqual(new Array(ENTRIES).fill(1));
  for (let nowMs = 4; nowMs < 4 + 20 * SETTLE_MS; nowMs++) rehoming.step(nowMs);
  let moves = 0;
  const { place } = device.placement;
  Object.assign(device.placement, {
    place: (entry: number, queue: number) => {
      moves++;
      place(entry, queue);
    },
  });
  for (let nowMs = 4 + 20 * SETTLE_MS; nowMs < 3000; nowMs++) rehoming.step(nowMs);
  expect(moves).toBe(0);
  expect(device.queues).toEqual(new Array(ENTRIES).fill(1));
  // Only those of the kernels that have gone are elsewhere, and they are not expected back.
  expect(rehoming.displacedEntries).toBe(ENTRIES - displaced.length);
  expect(rehoming.deadlineMs).toBe(Number.POSITIVE_INFINITY);
});
