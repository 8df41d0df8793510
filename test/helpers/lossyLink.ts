/**
 * A bad link between two namespaces: a TAP device in each, and frames carried over by this process with seeded loss,
 * delay and reordering. The same as `tc netem`, for hosts whose kernel has none.
 */
import type { Device, DevicePort, QueuePair } from "../../src/device/device.ts";
import { Prng } from "../../src/sim/prng.ts";
import { importBuilt } from "./dist.ts";
import type { Namespace } from "./namespace.ts";
import { createQueuePair } from "./queuePair.ts";

export type Impairment = {
  readonly lossPpm: number;
  readonly delayMs: number;
  /** Frames that overtake the delayed ones: as with netem, they go at once. */
  readonly reorderPpm: number;
};

const { openTap } = await importBuilt<typeof import("../../src/device/tap/device.ts")>("device/tap/device.js");

/** The interfaces are called `name` in both namespaces. */
export async function openLossyLink(
  name: string,
  [left, right]: readonly [Namespace, Namespace],
  impairment: Impairment,
  seed: number,
): Promise<LossyLink> {
  const open = (netns: string): Promise<Device> => openTap({ name, queues: 1, netns, offload: false });
  return new LossyLink([await open(left.name), await open(right.name)], impairment, seed);
}

export class LossyLink implements AsyncDisposable {
  /** Frames carried, lost and sent ahead, both ways together. */
  readonly counts = { carried: 0, lost: 0, reordered: 0 };
  readonly #ends: readonly [End, End];
  readonly #devices: readonly Device[];

  constructor(devices: readonly [Device, Device], impairment: Impairment, seed: number) {
    this.#devices = devices;
    const prng = new Prng(seed);
    const ends: [End, End] = [new End(devices[0]), new End(devices[1])];
    const carry = (to: End, frame: Uint8Array): void => {
      if (prng.chance(impairment.lossPpm)) {
        this.counts.lost += 1;
        return;
      }
      this.counts.carried += 1;
      const ahead = prng.chance(impairment.reorderPpm);
      if (ahead) this.counts.reordered += 1;
      to.send(frame, ahead ? 0 : impairment.delayMs);
    };
    ends[0].start((frame) => carry(ends[1], frame));
    ends[1].start((frame) => carry(ends[0], frame));
    this.#ends = ends;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const end of this.#ends) end.close();
    await Promise.all(this.#devices.map((device) => device.close()));
  }
}

class End {
  readonly #pair: QueuePair;
  readonly #port: DevicePort;
  readonly #timers = new Set<NodeJS.Timeout>();
  #take: (frame: Uint8Array) => void = () => undefined;
  #closed = false;

  constructor(device: Device) {
    this.#pair = createQueuePair(0, false, () => this.#turn());
    this.#port = device.openPort(0, this.#pair);
  }

  start(take: (frame: Uint8Array) => void): void {
    this.#take = take;
    this.#turn();
  }

  /** Timers of the same length fire in the order in which they were set, so only frames sent ahead overtake. */
  send(frame: Uint8Array, delayMs: number): void {
    const put = (): void => {
      this.#pair.tx.push(frame);
      this.#port.transmit(0);
    };
    if (delayMs === 0) {
      put();
      return;
    }
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      put();
    }, delayMs);
    this.#timers.add(timer);
  }

  close(): void {
    this.#closed = true;
    for (const timer of this.#timers) clearTimeout(timer);
    this.#port.close();
  }

  /** All that has come; then the device promises to ring, which brings us here again. */
  #turn(): void {
    if (this.#closed) return;
    do {
      this.#port.receive(0);
      for (let frame = this.#pair.rx[0]?.shift(); frame; frame = this.#pair.rx[0]?.shift()) this.#take(frame);
    } while (!this.#port.arm());
  }
}
