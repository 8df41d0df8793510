/** What a flow group has in a kernel, before anything is touched. */
import { groupOfPorts } from "../device/flowGroups.ts";
import type { KernelHost } from "../kernel/host.ts";
import { HANDLE_GENERATION_SHIFT } from "../layout/event.ts";
import { MAP_BASE, MAP_TCB_HIGH_WATER, MAP_TCBS } from "../layout/kernelMemory.ts";
import {
  TCB_FLAG_APP,
  TCB_FLAG_IN_FLOW_TABLE,
  TCB_FLAGS,
  TCB_GENERATION,
  TCB_PORTS,
  TCB_SIZE_BYTES,
} from "../layout/tcb.ts";

export type Survey = {
  readonly connections: number;
  /** Of those, the ones that cannot go, because neither an object nor a hook of the application can go with them. */
  readonly pinned: number;
};

/** @param sameThread the application's objects can go with their connections. */
export function surveyGroup(host: KernelHost, group: number, sameThread: boolean): Survey {
  const { bytes } = host.memory;
  const first = host.memory.loadU32(MAP_BASE + MAP_TCBS);
  const count = host.memory.loadU32(MAP_BASE + MAP_TCB_HIGH_WATER);
  let connections = 0;
  let pinned = 0;
  for (let index = 0, at = first; index < count; index++, at += TCB_SIZE_BYTES) {
    const flags = host.memory.loadU32(at + TCB_FLAGS);
    if ((flags & TCB_FLAG_IN_FLOW_TABLE) === 0) continue;
    const ports = at + TCB_PORTS;
    const remotePort = ((bytes[ports] as number) << 8) | (bytes[ports + 1] as number);
    const localPort = ((bytes[ports + 2] as number) << 8) | (bytes[ports + 3] as number);
    if (groupOfPorts(remotePort, localPort, host.groupRule) !== group) continue;
    connections++;
    if ((flags & TCB_FLAG_APP) === 0) continue;
    const handle = index | ((bytes[at + TCB_GENERATION] as number) << HANDLE_GENERATION_SHIFT);
    const sink = host.sinkOf(handle);
    const goes = sink ? sameThread && sink.moveTo !== undefined : host.handles.handOver !== undefined;
    if (!goes) pinned++;
  }
  return { connections, pinned };
}
