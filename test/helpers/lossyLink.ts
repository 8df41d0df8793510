/**
 * A bad link between two namespaces: a TAP device in each, and frames carried over by this process with seeded loss,
 * delay, rate and reordering (src/device/card/impairment.ts). The same as `tc netem`, for hosts whose kernel has none.
 */
import type { Device, DevicePort, QueuePair } from "../../src/device/device.ts";
import { completeImpairments, ImpairedLink, type Impairments } from "../../src/device/card/impairment.ts";
import { recordBytes } from "../../src/views/frameRing.ts";
import { importBuilt } from "./dist.ts";
import type { Namespace } from "./namespace.ts";
import { createQueuePair } from "./queuePair.ts";

const { openTap } = await importBuilt<typeof import("../../src/device/tap/device.ts")>("device/tap/device.js");

const FRAME_BYTES_MAX = 1514;
/** Until the device has taken what it was given. */
const RETRY_NS = 1e6;

const nowNs = (): number => Number(process.hrtime.bigint());

/** The interfaces are called `name` in both namespaces. */
export async function openLossyLink(
  name: string,
  [left, right]: readonly [Namespace, Namespace],
  impairments: Impairments,
  seed: number,
): Promise<LossyLink> {
  const open = (netns: string): Promise<Device> => openTap({ name, queues: 1, netns, offload: false });
  return new LossyLink([await open(left.name), await open(right.name)], impairments, seed);
}

class LossyLink implements AsyncDisposable {
  readonly #ways: readonly ImpairedLink[];
  readonly #ends: readonly [End, End];
  readonly #devices: readonly Device[];

  constructor(devices: readonly [Device, Device], impairments: Impairments, seed: number) {
    this.#devices = devices;
    const settings = completeImpairments(impairments);
    this.#ways = [0, 1].map((way) => new ImpairedLink(settings, seed, way));
    const [there, back] = this.#ways as [ImpairedLink, ImpairedLink];
    this.#ends = [new End(devices[0], there, back), new End(devices[1], back, there)];
    this.#ends[0].start(this.#ends[1]);
    this.#ends[1].start(this.#ends[0]);
  }

  /** New conditions, both ways, for frames from now on. */
  impair(impairments: Impairments): void {
    for (const way of this.#ways) way.settings = completeImpairments(impairments);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const end of this.#ends) end.close();
    await Promise.all(this.#devices.map((device) => device.close()));
  }
}

class End {
  readonly #pair: QueuePair;
  readonly #port: DevicePort;
  readonly #out: ImpairedLink;
  readonly #in: ImpairedLink;
  #peer: End | undefined;
  #timer: NodeJS.Timeout | undefined;
  #timerDueNs = Number.POSITIVE_INFINITY;
  #closed = false;

  constructor(device: Device, out: ImpairedLink, into: ImpairedLink) {
    this.#out = out;
    this.#in = into;
    this.#pair = createQueuePair(0, false, () => this.#turn());
    this.#port = device.openPort(0, this.#pair);
  }

  start(peer: End): void {
    this.#peer = peer;
    this.#turn();
  }

  /** Puts what is due on the wire, and sets a timer for the rest. */
  deliver(): void {
    if (this.#closed) return;
    const { tx } = this.#pair;
    // A pad where the largest frame would cross the ring's end.
    const room = tx.reserve(recordBytes(FRAME_BYTES_MAX)) === 0 ? 0 : tx.room();
    const { roomAddress } = tx;
    const end = this.#in.takeDue(nowNs(), tx.bytes, tx.words, roomAddress, roomAddress + room);
    if (end > roomAddress) {
      tx.publish(end - roomAddress);
      this.#port.transmit(nowNs());
    }
    const nextDueNs = room === 0 ? nowNs() + RETRY_NS : this.#in.nextDueNs;
    if (nextDueNs === this.#timerDueNs || nextDueNs === Number.POSITIVE_INFINITY) return;
    clearTimeout(this.#timer);
    this.#timerDueNs = nextDueNs;
    this.#timer = setTimeout(
      () => {
        this.#timerDueNs = Number.POSITIVE_INFINITY;
        this.deliver();
      },
      Math.max(0, (nextDueNs - nowNs()) / 1e6),
    );
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#port.close();
  }

  /** All that has come; then the device promises to ring, which brings us here again. */
  #turn(): void {
    if (this.#closed) return;
    do {
      this.#port.receive(nowNs());
      const now = nowNs();
      for (let frame = this.#pair.rx[0]?.shift(); frame; frame = this.#pair.rx[0]?.shift()) this.#out.send(frame, now);
    } while (!this.#port.arm());
    this.#peer?.deliver();
  }
}
