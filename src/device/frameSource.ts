/** A queue pair without a kernel: sends given frames into a device and takes what comes back, for replays. */
import { RING_BASE, RING_CONTROL_SIZE_BYTES, RING_SIZE } from "../layout/frameRing.ts";
import { RX_CONTROL_BASE, STATIC_DATA_BASE, TX_CONTROL_BASE } from "../layout/kernelMemory.ts";
import { FrameRing, recordBytes } from "../views/frameRing.ts";
import type { Device, DevicePort, QueuePair } from "./device.ts";

const RING_BYTES = 1 << 18;

export class FrameSource {
  readonly #pair: QueuePair;
  readonly #port: DevicePort;

  /** @param device of which this becomes queue 0. */
  constructor(device: Device) {
    const pages = Math.ceil((STATIC_DATA_BASE + (device.rxLanes + 1) * RING_BYTES) / 65536);
    const memory = new WebAssembly.Memory({ initial: pages, maximum: pages });
    const words = new Int32Array(memory.buffer);
    const lay = (control: number, index: number): FrameRing => {
      words[(control + RING_SIZE) >> 2] = RING_BYTES;
      words[(control + RING_BASE) >> 2] = STATIC_DATA_BASE + index * RING_BYTES;
      return new FrameRing(memory, control);
    };
    const rx = Array.from({ length: device.rxLanes }, (_, i) => lay(RX_CONTROL_BASE + i * RING_CONTROL_SIZE_BYTES, i));
    this.#pair = { kernelId: 0, memory, rx, tx: lay(TX_CONTROL_BASE, device.rxLanes), ring: () => {} };
    this.#port = device.openPort(0, this.#pair);
  }

  /** Queues a frame. @returns false: too large, or the ring is full until `transmit` has emptied it. */
  send(frame: Uint8Array): boolean {
    return recordBytes(frame.length) <= RING_BYTES / 2 && this.#pair.tx.push(frame);
  }

  /** Hands queued frames to the device, as far as it takes them. */
  transmit(nowNs: number): void {
    this.#port.transmit(nowNs);
  }

  /** Throws away what has come. @returns how many frames. */
  drain(nowNs: number): number {
    this.#port.receive(nowNs);
    let frames = 0;
    for (const ring of this.#pair.rx) {
      while (ring.shift() !== undefined) frames++;
    }
    return frames;
  }

  close(): void {
    this.#port.close();
  }
}
