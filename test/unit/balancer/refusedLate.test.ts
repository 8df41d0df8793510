/** An owner that refuses filters of connections that were found late, after the group had left their kernel. */
import { expect, it } from "vitest";
import { Balancer } from "../../../src/balancer/balancer.ts";
import type { Move } from "../../../src/balancer/policy.ts";
import type { Device } from "../../../src/device/device.ts";
import type { ReplyTuple } from "../../../src/device/replySteering.ts";
import { GROUP_LIVE, GROUP_SIZE_BYTES } from "../../../src/layout/flowGroup.ts";
import {
  HEALTH_BASE,
  HEALTH_WITHHOLD_RST,
  MAP_BASE,
  MAP_BOOTED,
  MAP_FLOW_GROUPS,
  MAP_TCB_HIGH_WATER,
  MAP_TCBS,
} from "../../../src/layout/kernelMemory.ts";
import { STATE_ESTABLISHED } from "../../../src/layout/option.ts";
import { TCB_PORTS, TCB_STATE } from "../../../src/layout/tcb.ts";
import { KernelMemory } from "../../../src/views/kernelMemory.ts";
import { createMemory } from "../../../src/wasm/load.ts";

const KERNELS = 2;
const GROUPS = 8;
const GROUP = 3;
const TCBS_AT = 32_768;
const FLOW_GROUPS_AT = 65_536;

function createKernel(): KernelMemory {
  const memory = new KernelMemory(createMemory(131_072, true));
  memory.words[(MAP_BASE + MAP_TCBS) >> 2] = TCBS_AT;
  memory.words[(MAP_BASE + MAP_TCB_HIGH_WATER) >> 2] = 1;
  memory.words[(MAP_BASE + MAP_FLOW_GROUPS) >> 2] = FLOW_GROUPS_AT;
  memory.words[(MAP_BASE + MAP_BOOTED) >> 2] = 1;
  return memory;
}

/** The kernel has one connection of the group, from this port. */
function connect({ bytes, words }: KernelMemory, remotePort: number): void {
  bytes[TCBS_AT + TCB_STATE] = STATE_ESTABLISHED;
  bytes[TCBS_AT + TCB_PORTS] = remotePort >> 8;
  bytes[TCBS_AT + TCB_PORTS + 1] = remotePort & 0xff;
  words[(FLOW_GROUPS_AT + GROUP * GROUP_SIZE_BYTES + GROUP_LIVE) >> 2] = 1;
}

it.each(["refused", "impossible", "under way"])(
  "a connection without a filter is tried once while all settles, its group's live move being %s",
  (migration) => {
    const queues = new Array<number>(GROUPS).fill(0);
    const asked: ReplyTuple[] = [];
    let filters = 0;
    const device = {
      capabilities: { exactFilters: 64, flowGroups: GROUPS, steering: "card" },
      flowGroupQueue: (group: number) => queues[group],
      moveFlowGroup: (group: number, queue: number) => {
        queues[group] = queue;
      },
      setFilter: (flow: ReplyTuple) => {
        filters++;
        asked.push(flow);
        return true;
      },
      clearFilter: () => {},
      hasWritten: () => true,
    };
    const memories = Array.from({ length: KERNELS }, createKernel);
    const [old, home] = memories as [KernelMemory, KernelMemory];
    const moves: Move[] = [{ group: GROUP, from: 0, to: 1, reason: "test", pin: true }];
    let isMigrating = false;
    const balancer = new Balancer({
      device: device as unknown as Device,
      policy: { name: "by hand", periodNs: 1e6, decide: (_observation, state) => ({ moves: moves.splice(0), state }) },
      kernels: KERNELS,
      rxLanes: 0,
      memoryOf: (kernel) => memories[kernel],
      addresses: [new Uint8Array(16)],
      isMigrating: () => isMigrating,
      ...(migration === "refused" ? { migrate: (_group, _to, settled) => settled(new Error("pinned")) } : {}),
    });
    const isSilent = () => memories.map((memory) => memory.loadU32(HEALTH_BASE + HEALTH_WITHHOLD_RST) !== 0);
    balancer.step(1e9);
    expect([queues[GROUP], isSilent()]).toEqual([1, [true, true]]);
    // A SYN was on its way there; and the group has a connection at home already.
    connect(old, 600 * GROUPS + GROUP);
    connect(home, 601 * GROUPS + GROUP);
    isMigrating = migration === "under way";
    for (let nowNs = 1e9; nowNs < 2e9; nowNs += 1e6) {
      balancer.step(nowNs);
      // The owner takes its time.
      if (nowNs % 2e6 === 0) balancer.filtersRefused(asked.splice(0));
    }
    expect([filters, balancer.isSettling, isSilent()]).toEqual([1, false, [false, false]]);
    expect(balancer.stats()).toMatchObject({ pinned: 0, strays: migration === "under way" ? 0 : 1 });
  },
);
