/** Payloads of the messages about the device (docs/messages.md). All integers little-endian. */
import type { DeviceCapabilities } from "../device/device.ts";
import type { ReplyTuple } from "../device/replySteering.ts";
import type { PortRange } from "../rss/toeplitz.ts";

/** Questions are counted up to this, and then from 1 on. */
export const CORRELATION_MAX = 0x7fffffff;

/** What a kernel learns of the device with its queue pair. */
export type DeviceTerms = DeviceCapabilities;

const STEERING = ["card", "ebpf", "learned", "software", "none"] as const satisfies DeviceCapabilities["steering"][];
const TERMS_BYTES = 28;
const FLAG_CHECKSUM = 1;
const FLAG_FILTERS_V6 = 2;
const FLAG_COALESCING = 4;
/** First > last: none. */
const NO_LOCAL_PORTS: PortRange = { first: 1, last: 0 };

export type QueueMessage = {
  readonly queue: number;
  /** Of an answer: 0 or a negative errno. Of HOLDS: 1 when the kernel has the queue pair, 0 when it has none. */
  readonly status: number;
  /** With a grant. */
  readonly terms: DeviceTerms | undefined;
};

function viewOf(payload: Uint8Array): DataView {
  return new DataView(payload.buffer, payload.byteOffset, payload.length);
}

/** u16 queue, i16 status, and with a grant the terms. */
export function encodeQueueMessage(queue: number, status = 0, terms?: DeviceTerms): Uint8Array {
  const payload = new Uint8Array(terms ? 4 + TERMS_BYTES : 4);
  const view = viewOf(payload);
  view.setUint16(0, queue, true);
  view.setInt16(2, status, true);
  if (!terms) return payload;
  view.setUint16(4, terms.queues, true);
  view.setUint16(6, STEERING.indexOf(terms.steering), true);
  view.setUint32(8, terms.mtuBytes, true);
  view.setUint32(12, terms.tsoBytesMax, true);
  view.setUint16(16, terms.retaEntries, true);
  view.setUint16(18, terms.flowGroups, true);
  view.setUint32(20, terms.exactFilters, true);
  view.setUint32(
    24,
    (terms.checksumOffload ? FLAG_CHECKSUM : 0) |
      (terms.exactFiltersV6 === false ? 0 : FLAG_FILTERS_V6) |
      (terms.receiveCoalescing ? FLAG_COALESCING : 0),
    true,
  );
  const { first, last } = terms.localPorts ?? NO_LOCAL_PORTS;
  view.setUint16(28, first, true);
  view.setUint16(30, last, true);
  return payload;
}

/** undefined: it is no such payload. */
export function decodeQueueMessage(payload: Uint8Array): QueueMessage | undefined {
  if (payload.length !== 4 && payload.length !== 4 + TERMS_BYTES) return undefined;
  const view = viewOf(payload);
  const queue = view.getUint16(0, true);
  const status = view.getInt16(2, true);
  if (payload.length === 4) return { queue, status, terms: undefined };
  const steering = STEERING[view.getUint16(6, true)];
  if (!steering) return undefined;
  const flags = view.getUint32(24, true);
  const localPorts = { first: view.getUint16(28, true), last: view.getUint16(30, true) };
  const terms = {
    queues: view.getUint16(4, true),
    steering,
    mtuBytes: view.getUint32(8, true),
    tsoBytesMax: view.getUint32(12, true),
    retaEntries: view.getUint16(16, true),
    flowGroups: view.getUint16(18, true),
    exactFilters: view.getUint32(20, true),
    checksumOffload: (flags & FLAG_CHECKSUM) !== 0,
    ...(localPorts.first <= localPorts.last && { localPorts }),
    exactFiltersV6: (flags & FLAG_FILTERS_V6) !== 0,
    receiveCoalescing: (flags & FLAG_COALESCING) !== 0,
  };
  return { queue, status, terms };
}

/** One change of the device's tables. Entries are those of Device.placement. */
export type TableWrite =
  | { readonly op: "place"; readonly entry: number; readonly queue: number }
  | {
      readonly op: "group";
      readonly group: number;
      /** Of the placement; ENTRY_NONE: the device has none. */
      readonly entry: number;
      /** Queue that it comes from; QUEUE_NONE: the hash. */
      readonly from: number;
      /** QUEUE_NONE: left to the hash. */
      readonly queue: number;
    }
  | { readonly op: "set"; readonly flow: ReplyTuple; readonly queue: number }
  | { readonly op: "clear"; readonly flow: ReplyTuple }
  | { readonly op: "drop"; readonly queue: number };

export const ENTRY_NONE = 0xffffffff;
export const QUEUE_NONE = 0xffff;

export type WriteBatch = {
  /** Counts up; a batch that is sent again has the same. */
  readonly sequence: number;
  /** Groups move only if the kernels that get them accept. */
  readonly offered: boolean;
  /** With this batch a new owner knows all filters that the stack has. */
  readonly complete: boolean;
  readonly writes: readonly TableWrite[];
};

const BATCH_HEADER_BYTES = 8;
const FLAG_OFFERED = 1;
const FLAG_COMPLETE = 2;
const OPS = ["place", "group", "set", "clear", "drop"] as const;
const OP_BYTES = { place: 7, group: 11, set: 39, clear: 37, drop: 3 } as const;
const FLOW_BYTES = 36;

/** Bytes that a write takes in a batch. */
export function tableWriteBytes({ op }: TableWrite): number {
  return OP_BYTES[op];
}

/** Bytes of a batch without its writes. */
export const WRITE_BATCH_BYTES = BATCH_HEADER_BYTES;

/** u32 sequence, u32 flags, then the writes: u8 kind and fields each. */
export function encodeWriteBatch({ sequence, offered, complete, writes }: WriteBatch): Uint8Array {
  const bytes = writes.reduce((sum, write) => sum + tableWriteBytes(write), BATCH_HEADER_BYTES);
  const payload = new Uint8Array(bytes);
  const view = viewOf(payload);
  view.setUint32(0, sequence, true);
  view.setUint32(4, (offered ? FLAG_OFFERED : 0) | (complete ? FLAG_COMPLETE : 0), true);
  let at = BATCH_HEADER_BYTES;
  for (const write of writes) {
    payload[at] = OPS.indexOf(write.op);
    encodeWrite(payload, view, at + 1, write);
    at += tableWriteBytes(write);
  }
  return payload;
}

function encodeWrite(payload: Uint8Array, view: DataView, at: number, write: TableWrite): void {
  switch (write.op) {
    case "place":
      view.setUint32(at, write.entry, true);
      view.setUint16(at + 4, write.queue, true);
      break;
    case "group":
      view.setUint16(at, write.group, true);
      view.setUint32(at + 2, write.entry, true);
      view.setUint16(at + 6, write.from, true);
      view.setUint16(at + 8, write.queue, true);
      break;
    case "set":
      encodeFlow(payload, at, write.flow);
      view.setUint16(at + FLOW_BYTES, write.queue, true);
      break;
    case "clear":
      encodeFlow(payload, at, write.flow);
      break;
    case "drop":
      view.setUint16(at, write.queue, true);
      break;
  }
}

/** undefined: it is no such payload. */
export function decodeWriteBatch(payload: Uint8Array): WriteBatch | undefined {
  if (payload.length < BATCH_HEADER_BYTES) return undefined;
  const view = viewOf(payload);
  const flags = view.getUint32(4, true);
  const writes: TableWrite[] = [];
  for (let at = BATCH_HEADER_BYTES; at < payload.length; ) {
    const op = OPS[payload[at] as number];
    if (!op || at + OP_BYTES[op] > payload.length) return undefined;
    writes.push(decodeWrite(payload, view, at + 1, op));
    at += OP_BYTES[op];
  }
  return {
    sequence: view.getUint32(0, true),
    offered: (flags & FLAG_OFFERED) !== 0,
    complete: (flags & FLAG_COMPLETE) !== 0,
    writes,
  };
}

function decodeWrite(payload: Uint8Array, view: DataView, at: number, op: TableWrite["op"]): TableWrite {
  switch (op) {
    case "place":
      return { op, entry: view.getUint32(at, true), queue: view.getUint16(at + 4, true) };
    case "group":
      return {
        op,
        group: view.getUint16(at, true),
        entry: view.getUint32(at + 2, true),
        from: view.getUint16(at + 6, true),
        queue: view.getUint16(at + 8, true),
      };
    case "set":
      return { op, flow: decodeFlow(payload, at), queue: view.getUint16(at + FLOW_BYTES, true) };
    case "clear":
      return { op, flow: decodeFlow(payload, at) };
    case "drop":
      return { op, queue: view.getUint16(at, true) };
  }
}

/** 16 bytes remote address, 16 bytes local address, u16 remote port, u16 local port. */
function encodeFlow(payload: Uint8Array, at: number, { remote, remotePort, local, localPort }: ReplyTuple): void {
  payload.set(remote, at);
  payload.set(local, at + 16);
  const view = viewOf(payload);
  view.setUint16(at + 32, remotePort, true);
  view.setUint16(at + 34, localPort, true);
}

function decodeFlow(payload: Uint8Array, at: number): ReplyTuple {
  const view = viewOf(payload);
  return {
    // Copies: a payload is valid during its message only.
    remote: new Uint8Array(payload.subarray(at, at + 16)),
    local: new Uint8Array(payload.subarray(at + 16, at + 32)),
    remotePort: view.getUint16(at + 32, true),
    localPort: view.getUint16(at + 34, true),
  };
}

export type WriteAnswer = {
  readonly sequence: number;
  /** Filters for which there was no room. */
  readonly filters: readonly ReplyTuple[];
  /** Groups that stay where they are: their new kernel has refused, or is gone. */
  readonly groups: readonly number[];
};

/** u32 sequence, u32 filters refused, those filters, u16 for each group refused. */
export function encodeWriteAnswer({ sequence, filters, groups }: WriteAnswer): Uint8Array {
  const payload = new Uint8Array(8 + FLOW_BYTES * filters.length + 2 * groups.length);
  const view = viewOf(payload);
  view.setUint32(0, sequence, true);
  view.setUint32(4, filters.length, true);
  for (const [index, flow] of filters.entries()) encodeFlow(payload, 8 + FLOW_BYTES * index, flow);
  encodeNumbers(view, 8 + FLOW_BYTES * filters.length, groups);
  return payload;
}

export function decodeWriteAnswer(payload: Uint8Array): WriteAnswer | undefined {
  if (payload.length < 8) return undefined;
  const view = viewOf(payload);
  const count = view.getUint32(4, true);
  const groupsAt = 8 + FLOW_BYTES * count;
  if (groupsAt > payload.length || (payload.length - groupsAt) % 2 !== 0) return undefined;
  const filters = Array.from({ length: count }, (_, index) => decodeFlow(payload, 8 + FLOW_BYTES * index));
  return { sequence: view.getUint32(0, true), filters, groups: decodeNumbers(view, groupsAt) };
}

/** An offer, or the news of a move: u16 queue that gets the groups, then u16 each. */
export type GroupsMessage = { readonly queue: number; readonly groups: readonly number[] };

export function encodeGroups({ queue, groups }: GroupsMessage): Uint8Array {
  const payload = new Uint8Array(2 + 2 * groups.length);
  encodeNumbers(viewOf(payload), 0, [queue, ...groups]);
  return payload;
}

export function decodeGroups(payload: Uint8Array): GroupsMessage | undefined {
  if (payload.length < 2 || payload.length % 2 !== 0) return undefined;
  const [queue, ...groups] = decodeNumbers(viewOf(payload), 0);
  return { queue: queue as number, groups };
}

function encodeNumbers(view: DataView, at: number, numbers: readonly number[]): void {
  for (const [index, number] of numbers.entries()) view.setUint16(at + 2 * index, number, true);
}

function decodeNumbers(view: DataView, at: number): number[] {
  return Array.from({ length: (view.byteLength - at) >> 1 }, (_, index) => view.getUint16(at + 2 * index, true));
}

/** Exact filters for connections to one service: the tuples of some of our ports. */
export type FilterBlock = {
  /** Queue that they lead to. */
  readonly queue: number;
  readonly remote: Uint8Array;
  readonly remotePort: number;
  readonly local: Uint8Array;
  readonly localPorts: readonly number[];
  /**
   * Of an ask: somebody waits, so others are to give back what they do not use. Of a grant of none: others have
   * connections from all these ports. Of what the owner is told: connections that have no filter. Default false.
   */
  readonly flag?: boolean;
};

/** 36 bytes as of a flow, with the queue in the place of the local port, u16 flag, then u16 for each local port. */
export function encodeFilterBlock({ queue, remote, remotePort, local, localPorts, flag }: FilterBlock): Uint8Array {
  const payload = new Uint8Array(FLOW_BYTES + 2 + 2 * localPorts.length);
  encodeFlow(payload, 0, { remote, remotePort, local, localPort: queue });
  encodeNumbers(viewOf(payload), FLOW_BYTES, [flag ? 1 : 0, ...localPorts]);
  return payload;
}

export function decodeFilterBlock(payload: Uint8Array): FilterBlock | undefined {
  if (payload.length < FLOW_BYTES + 2 || payload.length % 2 !== 0) return undefined;
  const { remote, remotePort, local, localPort: queue } = decodeFlow(payload, 0);
  const [flag, ...localPorts] = decodeNumbers(viewOf(payload), FLOW_BYTES);
  return { queue, remote, remotePort, local, localPorts, flag: flag === 1 };
}

/** As text, to tell flows apart. */
export function filterKey({ remote, remotePort, local, localPort }: ReplyTuple): string {
  return `${remote} ${remotePort} ${local} ${localPort}`;
}
