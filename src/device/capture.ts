/**
 * A capture at any device: what the kernels send and receive, as pcapng, one interface per queue. Ports on other
 * threads make their own blocks and post them to the thread that has the sink.
 */

import { NetPopcornError } from "../errors.ts";
import {
  FRAME_BYTES_MAX,
  FRAME_OFFSET,
  FRAME_VNET_CSUM_OFFSET,
  FRAME_VNET_CSUM_START,
  FRAME_VNET_FLAGS,
  VNET_NEEDS_CSUM,
} from "../layout/frameRing.ts";
import { type FrameRing, recordBytes } from "../views/frameRing.ts";
import type {
  Device,
  DeviceCapabilities,
  DevicePort,
  Placement,
  PortDescription,
  PortDescriptor,
  QueuePair,
} from "./device.ts";
import {
  CAPTURE_IN,
  CAPTURE_OUT,
  type CaptureDirection,
  interfaceBlock,
  packetBlock,
  sectionHeader,
} from "./pcapng.ts";

/** Where a capture goes. Whoever makes a sink closes it, after the device. */
export interface CaptureSink {
  /** Takes the bytes, or a copy of them. */
  write(bytes: Uint8Array): void;
  /** @throws NetPopcornError ERR_CAPTURE_FILE when what was written has not reached its place. */
  close(): Promise<void>;
}

/** A capture in memory. */
export class MemorySink implements CaptureSink {
  readonly #parts: Uint8Array[] = [];

  write(bytes: Uint8Array): void {
    this.#parts.push(bytes);
  }

  /** The file so far. */
  bytes(): Uint8Array {
    const whole = new Uint8Array(this.#parts.reduce((sum, part) => sum + part.length, 0));
    let at = 0;
    for (const part of this.#parts) {
      whole.set(part, at);
      at += part.length;
    }
    return whole;
  }

  async close(): Promise<void> {}
}

const FILE_BUFFER_BYTES = 1 << 18;
/** How long closing waits for the last blocks of ports on other threads, ms. */
const FINISH_MS = 500;

/**
 * A capture in a file, which is truncated first. Written in large pieces, so at most one is missing after a crash.
 * @throws NetPopcornError ERR_CAPTURE_FILE when the file cannot be opened.
 */
export async function openFileSink(path: string): Promise<CaptureSink> {
  const fs = await import("node:fs");
  const fail = (cause: unknown): NetPopcornError =>
    new NetPopcornError("ERR_CAPTURE_FILE", `capture file ${path}: ${cause instanceof Error ? cause.message : cause}`, {
      cause,
    });
  let fd: number;
  try {
    fd = fs.openSync(path, "w");
  } catch (cause) {
    throw fail(cause);
  }
  const buffer = new Uint8Array(FILE_BUFFER_BYTES);
  let used = 0;
  let failure: NetPopcornError | undefined;
  const put = (bytes: Uint8Array): void => {
    if (failure) return;
    try {
      for (let at = 0; at < bytes.length; ) at += fs.writeSync(fd, bytes, at);
    } catch (cause) {
      // A full disk must not stop the network: the capture ends here, and close() says so.
      failure = fail(cause);
    }
  };
  const flush = (): void => {
    put(buffer.subarray(0, used));
    used = 0;
  };
  return {
    write(bytes) {
      if (used + bytes.length > buffer.length) flush();
      if (bytes.length > buffer.length) put(bytes);
      else {
        buffer.set(bytes, used);
        used += bytes.length;
      }
    },
    async close() {
      flush();
      fs.closeSync(fd);
      if (failure) throw failure;
    },
  };
}

export type CaptureOptions = {
  /** Name of the interfaces in the file; the queue's number follows. Default "queue". */
  readonly name?: string;
  /** Where 0 ns of the kernels' clock is, milliseconds since 1970. Default 0, for virtual time. */
  readonly epochMs?: number;
};

/** What a port on another thread needs to capture there. */
export type CapturePortDescriptor = PortDescriptor & {
  readonly kind: "capture";
  readonly inner: PortDescriptor;
  readonly queue: number;
  readonly epochMs: number;
  readonly channel: MessagePort;
};

/** The same device, with every frame of its ports written to `sink`. */
export function captureDevice(device: Device, sink: CaptureSink, options: CaptureOptions = {}): Device {
  return new CapturedDevice(device, sink, options);
}

/** Opens a captured port on its kernel's thread. @param openPort opens the port inside it. */
export async function openCapturePort(
  descriptor: CapturePortDescriptor,
  pair: QueuePair,
  openPort: (inner: PortDescriptor, pair: QueuePair) => Promise<DevicePort>,
): Promise<DevicePort> {
  const { channel, epochMs, inner, queue } = descriptor;
  const port = await openPort(inner, pair);
  const post = (block: Uint8Array<ArrayBuffer>): void => channel.postMessage(block, [block.buffer]);
  // The device is being closed: what has been posted is all.
  channel.onmessage = () => channel.close();
  (channel as { unref?: () => void }).unref?.();
  return new CapturePort(port, pair, queue, epochMs, post, () => channel.close());
}

class CapturedDevice implements Device {
  readonly mac: Uint8Array;
  readonly rxLanes: number;
  readonly capabilities: DeviceCapabilities;
  readonly queueFor?: NonNullable<Device["queueFor"]>;
  readonly flowGroupQueue?: NonNullable<Device["flowGroupQueue"]>;
  readonly moveFlowGroup?: NonNullable<Device["moveFlowGroup"]>;
  readonly setFilter?: NonNullable<Device["setFilter"]>;
  readonly clearFilter?: NonNullable<Device["clearFilter"]>;
  readonly filters?: NonNullable<Device["filters"]>;
  readonly rssKey?: NonNullable<Device["rssKey"]>;
  readonly setRssKey?: NonNullable<Device["setRssKey"]>;
  readonly describeTables?: NonNullable<Device["describeTables"]>;
  readonly placement?: Placement;
  readonly lendQueue?: NonNullable<Device["lendQueue"]>;
  readonly softwareSteered?: NonNullable<Device["softwareSteered"]>;
  readonly #device: Device;
  readonly #sink: CaptureSink;
  readonly #epochMs: number;
  readonly #channels = new Set<MessagePort>();

  constructor(device: Device, sink: CaptureSink, options: CaptureOptions) {
    this.#device = device;
    this.#sink = sink;
    this.#epochMs = options.epochMs ?? 0;
    this.mac = device.mac;
    this.rxLanes = device.rxLanes;
    this.capabilities = device.capabilities;
    if (device.queueFor) this.queueFor = device.queueFor.bind(device);
    if (device.flowGroupQueue) this.flowGroupQueue = device.flowGroupQueue.bind(device);
    if (device.moveFlowGroup) this.moveFlowGroup = device.moveFlowGroup.bind(device);
    if (device.setFilter) this.setFilter = device.setFilter.bind(device);
    if (device.clearFilter) this.clearFilter = device.clearFilter.bind(device);
    if (device.filters) this.filters = device.filters.bind(device);
    if (device.rssKey) this.rssKey = device.rssKey.bind(device);
    if (device.setRssKey) this.setRssKey = device.setRssKey.bind(device);
    if (device.describeTables) this.describeTables = device.describeTables.bind(device);
    if (device.placement) this.placement = device.placement;
    if (device.lendQueue) this.lendQueue = device.lendQueue.bind(device);
    if (device.softwareSteered) this.softwareSteered = device.softwareSteered.bind(device);
    sink.write(sectionHeader());
    for (let queue = 0; queue < this.capabilities.queues; queue++) {
      sink.write(interfaceBlock(`${options.name ?? "queue"}${queue}`));
    }
  }

  openPort(queue: number, pair: QueuePair): DevicePort {
    const port = this.#device.openPort(queue, pair);
    return new CapturePort(
      port,
      pair,
      queue,
      this.#epochMs,
      (block) => this.#sink.write(block),
      () => undefined,
    );
  }

  describePort(queue: number, memory: WebAssembly.Memory): PortDescription {
    const { descriptor: inner, transfer } = this.#device.describePort(queue, memory);
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = (event: MessageEvent<Uint8Array>) => this.#sink.write(event.data);
    port1.addEventListener("close", () => this.#channels.delete(port1));
    (port1 as { unref?: () => void }).unref?.();
    this.#channels.add(port1);
    const descriptor: CapturePortDescriptor = { kind: "capture", inner, queue, epochMs: this.#epochMs, channel: port2 };
    return { descriptor, transfer: [...transfer, port2] };
  }

  releaseQueue(queue: number): void {
    this.#device.releaseQueue(queue);
  }

  queueFrames(): number[] {
    return this.#device.queueFrames();
  }

  async close(): Promise<void> {
    await this.#device.close();
    await Promise.all([...this.#channels].map(finish));
  }
}

/** Brings in what a port has posted and ends its channel. A thread that does not answer has nothing more to say. */
async function finish(channel: MessagePort): Promise<void> {
  await new Promise<void>((resolve) => {
    const timer = setTimeout(resolve, FINISH_MS);
    // The end comes behind all blocks.
    channel.addEventListener("close", () => {
      clearTimeout(timer);
      resolve();
    });
    channel.postMessage(null);
  });
  channel.close();
}

class CapturePort implements DevicePort {
  readonly queueFor?: NonNullable<DevicePort["queueFor"]>;
  readonly replySteering?: NonNullable<DevicePort["replySteering"]>;
  readonly #port: DevicePort;
  readonly #pair: QueuePair;
  readonly #queue: number;
  readonly #epochNs: bigint;
  readonly #write: (block: Uint8Array<ArrayBuffer>) => void;
  readonly #onClose: () => void;
  /** Tail up to which each lane has been written. */
  readonly #seen: number[];

  constructor(
    port: DevicePort,
    pair: QueuePair,
    queue: number,
    epochMs: number,
    write: (block: Uint8Array<ArrayBuffer>) => void,
    onClose: () => void,
  ) {
    this.#port = port;
    this.#pair = pair;
    this.#queue = queue;
    this.#epochNs = BigInt(Math.round(epochMs * 1e6));
    this.#write = write;
    this.#onClose = onClose;
    this.#seen = pair.rx.map((ring) => ring.tail);
    if (port.queueFor) this.queueFor = port.queueFor.bind(port);
    if (port.replySteering) this.replySteering = port.replySteering;
  }

  receive(nowNs: number): number {
    const received = this.#port.receive(nowNs);
    this.#captureReceived(nowNs);
    return received;
  }

  transmit(nowNs: number): number {
    // First what has come since: the kernel may be answering it.
    this.#captureReceived(nowNs);
    const { tx } = this.#pair;
    const from = tx.head;
    const sent = this.#port.transmit(nowNs);
    // The kernel writes to its ring on this thread only, so what was just sent still lies there.
    if (tx.ready) this.#captureRange(tx, from, tx.head, nowNs, CAPTURE_OUT);
    return sent;
  }

  nextDeadlineNs(): number {
    return this.#port.nextDeadlineNs();
  }

  arm(): boolean {
    return this.#port.arm();
  }

  close(): void {
    this.#port.close();
    this.#onClose();
  }

  #captureReceived(nowNs: number): void {
    this.#pair.rx.forEach((ring, lane) => {
      const seen = this.#seen[lane] as number;
      const tail = ring.tail;
      if (tail === seen || !ring.ready) return;
      this.#seen[lane] = tail;
      // Frames that the kernel has already given back lie there until a producer comes round to them, which it may
      // be doing just now; then only those that the kernel still has are certain.
      const intact = (tail - seen) >>> 0 <= ring.sizeBytes - recordBytes(FRAME_BYTES_MAX);
      const head = ring.head;
      const given = (tail - head) >>> 0 < (tail - seen) >>> 0;
      this.#captureRange(ring, given && !intact ? head : seen, tail, nowNs, CAPTURE_IN);
    });
  }

  #captureRange(ring: FrameRing, from: number, to: number, nowNs: number, direction: CaptureDirection): void {
    const timeNs = this.#epochNs + BigInt(Math.round(nowNs));
    for (let left = (to - from) >>> 0; left > 0; ) {
      const at = ring.addressOf((to - left) >>> 0);
      const length = ring.recordLength(at);
      if (length < 0) {
        left += length;
        continue;
      }
      const size = recordBytes(length);
      if (size > left) return;
      this.#write(packetBlock(this.#queue, timeNs, wireFrame(ring, at, length), direction));
      left -= size;
    }
  }
}

/** The frame of a record as it would be on a wire: with the checksum that was left to the card. */
function wireFrame(ring: FrameRing, record: number, length: number): Uint8Array {
  const { bytes } = ring;
  const frame = bytes.subarray(record + FRAME_OFFSET, record + FRAME_OFFSET + length);
  if (!((bytes[record + FRAME_VNET_FLAGS] as number) & VNET_NEEDS_CSUM)) return frame;
  const half = (at: number): number => (bytes[record + at] as number) + 256 * (bytes[record + at + 1] as number);
  const start = half(FRAME_VNET_CSUM_START);
  const field = start + half(FRAME_VNET_CSUM_OFFSET);
  if (field + 2 > length) return frame;
  const filled = frame.slice();
  let sum = 0;
  for (let i = start; i < length; i++) sum += (i - start) & 1 ? (frame[i] as number) : 256 * (frame[i] as number);
  while (sum > 0xffff) sum = (sum & 0xffff) + Math.floor(sum / 65536);
  const checksum = sum === 0xffff ? 0xffff : ~sum & 0xffff;
  filled[field] = checksum >> 8;
  filled[field + 1] = checksum & 0xff;
  return filled;
}
