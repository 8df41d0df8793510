import type { DevicePort, QueuePair } from "../../src/device/device.ts";
import {
  FRAME_OFFSET,
  FRAME_QUEUE,
  RING_BASE,
  RING_CONTROL_SIZE_BYTES,
  RING_SIZE,
} from "../../src/layout/frameRing.ts";
import { RX_CONTROL_BASE, STATIC_DATA_BASE, TX_CONTROL_BASE } from "../../src/layout/kernelMemory.ts";
import { FrameRing, recordBytes } from "../../src/views/frameRing.ts";

export type Received = {
  readonly lane: number;
  readonly queue: number;
  readonly vnet: Uint8Array;
  readonly frame: Uint8Array;
};

export type CardKernelOptions = { readonly rxLanes?: number; readonly ringBytes?: number; readonly shared?: boolean };

/** A queue pair with several RX lanes in a memory of its own, as a kernel would lay it out, and what was done to it. */
export class CardKernel {
  readonly pair: QueuePair;
  rings = 0;
  port: DevicePort | undefined;

  constructor(kernelId: number, options: CardKernelOptions = {}) {
    const { rxLanes = 16, ringBytes = 1 << 16, shared = false } = options;
    const pages = Math.ceil((STATIC_DATA_BASE + (rxLanes + 1) * ringBytes) / 65536);
    const memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared });
    const words = new Int32Array(memory.buffer);
    const lay = (control: number, index: number): FrameRing => {
      words[(control + RING_SIZE) >> 2] = ringBytes;
      words[(control + RING_BASE) >> 2] = STATIC_DATA_BASE + index * ringBytes;
      return new FrameRing(memory, control);
    };
    const rx = Array.from({ length: rxLanes }, (_, lane) =>
      lay(RX_CONTROL_BASE + lane * RING_CONTROL_SIZE_BYTES, lane),
    );
    const tx = lay(TX_CONTROL_BASE, rxLanes);
    const ring = (): void => {
      this.rings++;
    };
    this.pair = { kernelId, memory, rx, tx, ring };
  }

  /** All frames that have come, lane by lane. */
  received(): Received[] {
    return this.pair.rx.flatMap((ring, lane) => {
      const frames: Received[] = [];
      for (let at = ring.peekRun(); at !== 0; at = ring.peekRun()) {
        const length = ring.recordLength(at);
        if (length >= 0) {
          const vnet = ring.bytes.slice(at + FRAME_QUEUE + 2, at + FRAME_OFFSET);
          const queue = (ring.bytes[at + FRAME_QUEUE] as number) + 256 * (ring.bytes[at + FRAME_QUEUE + 1] as number);
          frames.push({ lane, queue, vnet, frame: ring.bytes.slice(at + FRAME_OFFSET, at + FRAME_OFFSET + length) });
        }
        ring.consume(length < 0 ? -length : recordBytes(length));
      }
      return frames;
    });
  }

  frames(): Uint8Array[] {
    return this.received().map(({ frame }) => frame);
  }
}
