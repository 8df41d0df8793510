/** Which connections a kernel has, read out of its memory (layout/tcb.ts) from any thread, whatever state it is in. */
import { MAP_BASE, MAP_TCB_HIGH_WATER, MAP_TCBS } from "../layout/kernelMemory.ts";
import { STATE_CLOSED, STATE_CLOSING, STATE_FREE, STATE_LAST_ACK, STATE_TIME_WAIT } from "../layout/option.ts";
import {
  TCB_FLAG_IN_FLOW_TABLE,
  TCB_FLAGS,
  TCB_RCV_NXT,
  TCB_SND_UNA,
  TCB_LOCAL_INDEX,
  TCB_PORTS,
  TCB_REMOTE_ADDRESS,
  TCB_SIZE_BYTES,
  TCB_STATE,
} from "../layout/tcb.ts";
import type { KernelMemory } from "./kernelMemory.ts";

/**
 * @param remote 16 bytes, IPv4 as ::ffff:a.b.c.d, valid during the call only.
 * @param localIndex which of the kernel's own addresses.
 * @param isDying both ends have closed: it waits for the last ACK only (CLOSING, LAST-ACK).
 * @returns true: no more need be told.
 */
export type VisitConnection = (
  remote: Uint8Array,
  remotePort: number,
  localIndex: number,
  localPort: number,
  isDying: boolean,
) => boolean | undefined;

/**
 * Calls `visit` for each connection that would break if its segments went elsewhere: not those in TIME-WAIT. The kernel
 * may be at work meanwhile, so a connection that comes or goes just now may be missed or told with mixed values.
 * @param isWanted by the ports: what nobody wants costs half as much as the rest.
 */
export function forEachConnection(
  kernel: KernelMemory,
  visit: VisitConnection,
  isWanted: (remotePort: number, localPort: number) => boolean = () => true,
): void {
  const { bytes } = kernel;
  const first = kernel.loadU32(MAP_BASE + MAP_TCBS);
  if (first === 0) return;
  const end = first + kernel.loadU32(MAP_BASE + MAP_TCB_HIGH_WATER) * TCB_SIZE_BYTES;
  for (let at = first; at < end; at += TCB_SIZE_BYTES) {
    const state = bytes[at + TCB_STATE] as number;
    if (state === STATE_FREE || state === STATE_TIME_WAIT || state === STATE_CLOSED) continue;
    const remotePort = portAt(bytes, at + TCB_PORTS);
    const localPort = portAt(bytes, at + TCB_PORTS + 2);
    if (!isWanted(remotePort, localPort)) continue;
    const remote = bytes.subarray(at + TCB_REMOTE_ADDRESS, at + TCB_REMOTE_ADDRESS + 16);
    const isDying = state === STATE_CLOSING || state === STATE_LAST_ACK;
    if (visit(remote, remotePort, bytes[at + TCB_LOCAL_INDEX] as number, localPort, isDying) === true) return;
  }
}

/**
 * Calls `visit` for each connection in the flow table with the sum of its RCV.NXT and SND.UNA. As approximate as
 * forEachConnection.
 */
export function forEachProgress(
  kernel: KernelMemory,
  visit: (remotePort: number, localPort: number, progress: number) => void,
): void {
  const { bytes } = kernel;
  const first = kernel.loadU32(MAP_BASE + MAP_TCBS);
  const end = first + kernel.loadU32(MAP_BASE + MAP_TCB_HIGH_WATER) * TCB_SIZE_BYTES;
  for (let at = first; at < end; at += TCB_SIZE_BYTES) {
    if ((kernel.loadU32(at + TCB_FLAGS) & TCB_FLAG_IN_FLOW_TABLE) === 0) continue;
    const progress = (kernel.loadU32(at + TCB_RCV_NXT) + kernel.loadU32(at + TCB_SND_UNA)) >>> 0;
    visit(portAt(bytes, at + TCB_PORTS), portAt(bytes, at + TCB_PORTS + 2), progress);
  }
}

function portAt(bytes: Uint8Array, at: number): number {
  return ((bytes[at] as number) << 8) | (bytes[at + 1] as number);
}
