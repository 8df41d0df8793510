/** What must hold at every instant of a run, whatever kernels come and go, and what must be left when all is over. */

import type { KernelHost } from "../../../src/kernel/host.ts";
import * as COUNTER from "../../../src/layout/counters.ts";
import { MAP_BASE, MAP_TCB_HIGH_WATER, MAP_TCBS } from "../../../src/layout/kernelMemory.ts";
import { INFO_SND_NXT, INFO_SND_UNA, STATE_FREE, STATE_TIME_WAIT } from "../../../src/layout/option.ts";
import { TCB_SIZE_BYTES, TCB_STATE } from "../../../src/layout/tcb.ts";
import { forEachConnection } from "../../../src/views/connections.ts";
import type { End } from "./ends.ts";
import type { Side } from "./stage.ts";

/** A flow has one home: no two kernels of a stack have a connection with the same addresses and ports. */
export function checkHomes(side: Side, hosts: readonly KernelHost[]): void {
  const homes = new Map<string, number>();
  for (const host of hosts) {
    forEachConnection(host.memory, (remote, remotePort, localIndex, localPort) => {
      const flow = `${remote} ${remotePort} ${localIndex} ${localPort}`;
      const home = homes.get(flow);
      if (home !== undefined) {
        throw new Error(
          `${side.name}: the flow ${remotePort} → ${localPort} is in kernels ${home} and ${host.kernelId}`,
        );
      }
      homes.set(flow, host.kernelId);
    });
  }
}

/** What a kernel's gauges say of its pools is what its tables have. */
export function checkPools(side: Side, host: KernelHost): void {
  const { memory, config } = host;
  const first = memory.loadU32(MAP_BASE + MAP_TCBS);
  const highWater = memory.loadU32(MAP_BASE + MAP_TCB_HIGH_WATER);
  let used = 0;
  let waiting = 0;
  for (let index = 0; index < highWater; index++) {
    const state = memory.bytes[first + index * TCB_SIZE_BYTES + TCB_STATE];
    if (state !== STATE_FREE) used++;
    if (state === STATE_TIME_WAIT) waiting++;
  }
  const expect = (what: string, actual: number, wanted: number) => {
    if (actual !== wanted) throw new Error(`${side.name}${host.kernelId}: ${what} is ${actual}, not ${wanted}`);
  };
  expect("gaugeConnections", memory.counter(COUNTER.GAUGE_CONNECTIONS), used);
  expect("gaugeTimeWait", memory.counter(COUNTER.GAUGE_TIME_WAIT), waiting);
  const atMost = (what: string, actual: number, limit: number) => {
    if (actual > limit) throw new Error(`${side.name}${host.kernelId}: ${what} is ${actual}, above ${limit}`);
  };
  atMost("gaugeFlows", memory.counter(COUNTER.GAUGE_FLOWS), used);
  atMost("gaugeStreamBytes", memory.counter(COUNTER.GAUGE_STREAM_BYTES), config.tuning.streamPoolBytes);
  atMost("gaugeReassemblyBytes", memory.counter(COUNTER.GAUGE_REASSEMBLY_BYTES), config.tuning.reassemblyBytesMax);
  atMost(
    "gaugeAcceptQueue",
    memory.counter(COUNTER.GAUGE_ACCEPT_QUEUE),
    memory.counter(COUNTER.GAUGE_ACCEPT_QUEUE_MAX),
  );
}

/** A listener is in every kernel or in none. @param backlogSum of the listeners that are open. */
export function checkListeners(side: Side, host: KernelHost, backlogSum: number): void {
  const present = host.memory.counter(COUNTER.GAUGE_ACCEPT_QUEUE_MAX);
  if (present === backlogSum) return;
  throw new Error(`${side.name}${host.kernelId}: its listeners' backlogs are ${present} in all, not ${backlogSum}`);
}

/** SND.UNA <= SND.NXT. */
export function checkSequence({ host, handle, isOver, endpoint }: End): void {
  if (isOver || endpoint.closed) return;
  const at = host.handles.info(handle);
  if (at < 0) return;
  const ahead = (host.memory.loadU32(at + INFO_SND_NXT) - host.memory.loadU32(at + INFO_SND_UNA)) | 0;
  if (ahead < 0) throw new Error(`connection ${endpoint.id}: SND.NXT lies ${-ahead} before SND.UNA`);
}

/** Every entry of the card's tables names one kernel, and one that is up if there is any. */
export function checkPlacement(side: Side, up: ReadonlySet<number>): void {
  const { placement, capabilities } = side.card;
  for (let entry = 0; entry < placement.entries; entry++) {
    const queue = placement.queueOf(entry);
    if (queue === undefined) continue;
    if (queue >= capabilities.queues) throw new Error(`${side.name}: entry ${entry} names queue ${queue}`);
    if (up.size > 0 && !up.has(queue))
      throw new Error(`${side.name}: entry ${entry} names kernel ${queue}, which is down`);
  }
}

/** No exact filter leads a flow to a kernel that is down. With none up there is nobody who could have removed them. */
export function checkFilters({ name, card }: Side, up: ReadonlySet<number>): void {
  const { registers, capabilities } = card;
  if (registers.filterCount === 0 || up.size === 0) return;
  for (let queue = 0; queue < capabilities.queues; queue++) {
    if (up.has(queue)) continue;
    const left = registers.filtersTo(queue);
    if (left > 0) throw new Error(`${name}: ${left} exact filters name kernel ${queue}, which is down`);
  }
}

/** All kernels believe the same of who the owner is. @returns the owner; undefined: no kernel is up, or it is not. */
export function checkOwner({ name }: Side, hosts: readonly KernelHost[]): KernelHost | undefined {
  const [first] = hosts;
  if (!first) return undefined;
  for (const { kernelId, control } of hosts) {
    if (control.owner === first.control.owner) continue;
    const who = `kernel ${kernelId} takes ${control.owner} for the owner, kernel ${first.kernelId}`;
    throw new Error(`${name}: ${who} ${first.control.owner}`);
  }
  return hosts.find(({ kernelId }) => kernelId === first.control.owner);
}

/**
 * As many connections fit into an empty kernel as on its first day: gauges count what is in use, and say nothing of
 * slots that nobody finds any more. What is opened here never leaves: the kernel gets no further turn.
 */
export function checkSlots({ name }: Side, { kernelId, handles, config }: KernelHost, remote: Uint8Array): void {
  const { connectionsMax } = config.tuning;
  const opened: number[] = [];
  for (let handle = 0; handle >= 0 && opened.length <= connectionsMax; ) {
    handle = handles.connectFrom(remote, 9, FIRST_PORT + opened.length, -1);
    if (handle >= 0) opened.push(handle);
  }
  for (const handle of opened) handles.abort(handle);
  if (opened.length === connectionsMax) return;
  throw new Error(`${name}${kernelId}: room for ${opened.length} connections at the end, not for ${connectionsMax}`);
}

const FIRST_PORT = 1024;

const GAUGES = [
  "gaugeConnections",
  "gaugeTimeWait",
  "gaugeStreamBytes",
  "gaugeFlows",
  "gaugeReassemblyBytes",
  "gaugeUdpBytes",
  "gaugeAcceptQueue",
  "gaugeAcceptQueueMax",
] as const;

/** Nothing is left in a kernel when all connections and sockets are over. */
export function checkEmpty(side: Side, host: KernelHost): void {
  const counters = host.memory.counters();
  for (const gauge of GAUGES) {
    if (counters[gauge] !== 0)
      throw new Error(`${side.name}${host.kernelId}: ${gauge} is ${counters[gauge]} after the end`);
  }
}
