/**
 * A kernel's place at a device, without a kernel: rings in a memory of its own, a thread's turn that sleeps on the
 * doorbell as kernels do, and answers to ARP and ICMP echo. It keeps the frames that it has taken.
 */
import type { DevicePort, QueuePair } from "../../src/device/device.ts";
import { HEALTH_BASE, HEALTH_DOORBELL, HEALTH_SLEEPING } from "../../src/layout/kernelMemory.ts";
import { createQueuePair } from "./queuePair.ts";

type WaitAsync = (
  words: Int32Array,
  index: number,
  value: number,
) => { async: boolean; value: string | Promise<string> };

const DOORBELL = (HEALTH_BASE + HEALTH_DOORBELL) >> 2;
const SLEEPING = (HEALTH_BASE + HEALTH_SLEEPING) >> 2;

export class StandInKernel {
  readonly pair: QueuePair;
  /** Frames taken so far. */
  readonly frames: Uint8Array[] = [];
  /** Times that the thread was awake: stands still while nothing arrives. */
  turns = 0;
  readonly #mac: Uint8Array;
  readonly #words: Int32Array;
  readonly #shared: boolean;
  #wake: (() => void) | undefined;
  #running: Promise<void> | undefined;
  #stopped = false;

  constructor(kernelId: number, mac: Uint8Array, shared: boolean) {
    this.pair = createQueuePair(kernelId, shared, () => this.#ring());
    this.#words = new Int32Array(this.pair.memory.buffer);
    this.#mac = mac;
    this.#shared = shared;
  }

  /** Sends one frame with a zero virtio header. */
  send(frame: Uint8Array): void {
    this.pair.tx.push(frame);
    this.#ring();
  }

  run(port: DevicePort): void {
    this.#running = this.#loop(port);
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#ring();
    await this.#running;
  }

  async #loop(port: DevicePort): Promise<void> {
    while (!this.#stopped) {
      this.turns += 1;
      const doorbell = Atomics.load(this.#words, DOORBELL);
      let moved = port.receive(0);
      for (let frame = this.pair.rx[0]?.shift(); frame; frame = this.pair.rx[0]?.shift()) this.#take(frame);
      moved += port.transmit(0);
      if (moved === 0) await this.#sleep(port, doorbell);
    }
    port.close();
  }

  /** @param doorbell its value before the last look at the queues: if it has moved since, there is something. */
  async #sleep(port: DevicePort, doorbell: number): Promise<void> {
    const woken = new Promise<void>((resolve) => {
      this.#wake = resolve;
    });
    Atomics.store(this.#words, SLEEPING, 1);
    if (port.arm()) {
      if (this.#shared) {
        const wait = (Atomics as unknown as { waitAsync: WaitAsync }).waitAsync(this.#words, DOORBELL, doorbell);
        // waitAsync does not keep a process alive; a test that hangs is better than one that vanishes.
        const alive = setInterval(() => undefined, 1_000);
        await wait.value;
        clearInterval(alive);
      } else if (Atomics.load(this.#words, DOORBELL) === doorbell) {
        await woken;
      }
    }
    Atomics.store(this.#words, SLEEPING, 0);
  }

  #ring(): void {
    Atomics.add(this.#words, DOORBELL, 1);
    if (this.#shared) Atomics.notify(this.#words, DOORBELL);
    this.#wake?.();
  }

  #take(frame: Uint8Array): void {
    this.frames.push(frame);
    const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
    const etherType = view.getUint16(12);
    if (etherType === 0x0806 && view.getUint16(20) === 1) this.#answerArp(frame);
    if (etherType === 0x0800 && view.getUint8(23) === 1 && view.getUint8(34) === 8) this.#answerEcho(frame);
  }

  /** RFC 826: the addresses change places, and ours is filled in, whatever address is asked for. */
  #answerArp(request: Uint8Array): void {
    const reply = request.slice();
    reply.set(request.subarray(6, 12), 0);
    reply.set(this.#mac, 6);
    reply[21] = 2;
    reply.set(this.#mac, 22);
    reply.set(request.subarray(38, 42), 28);
    reply.set(request.subarray(22, 32), 32);
    this.pair.tx.push(reply);
  }

  /** RFC 792: type 8 becomes 0. That lowers one 16-bit word by 0x0800, so the checksum rises by it (RFC 1624). */
  #answerEcho(request: Uint8Array): void {
    const reply = request.slice();
    const view = new DataView(reply.buffer);
    reply.set(request.subarray(6, 12), 0);
    reply.set(request.subarray(0, 6), 6);
    reply.set(request.subarray(30, 34), 26);
    reply.set(request.subarray(26, 30), 30);
    reply[34] = 0;
    const sum = view.getUint16(36) + 0x0800;
    view.setUint16(36, (sum & 0xffff) + (sum >>> 16));
    this.pair.tx.push(reply);
  }
}
