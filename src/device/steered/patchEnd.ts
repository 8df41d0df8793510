/**
 * One end of a patch between two device ports: what one receives, the other sends. Each end has rings of its own, laid
 * out as a kernel's, because other threads find them that way.
 *
 * ```
 *        end A                          end B
 *  port ──▶ RX lanes ──runs of frames──▶ TX ring ──▶ port
 *  port ◀── TX ring ◀──runs of frames── RX lanes ◀── port
 * ```
 * Where an end has one lane, that lane is the other end's TX ring, and nothing is copied.
 */
import type { Drivable } from "../../kernel/reactor.ts";
import { RING_BASE, RING_CONTROL_SIZE_BYTES, RING_SIZE } from "../../layout/frameRing.ts";
import { RX_CONTROL_BASE, STATIC_DATA_BASE, TX_CONTROL_BASE } from "../../layout/kernelMemory.ts";
import { type FrameRing, moveRun } from "../../views/frameRing.ts";
import { KernelMemory } from "../../views/kernelMemory.ts";
import { createMemory } from "../../wasm/load.ts";
import type { DevicePort, QueuePair } from "../device.ts";

/** As kernels have them unless configured: a single lane carries everything, each of many a share. */
const LANE_BYTES_SINGLE = 1 << 20;
const LANE_BYTES = 256 << 10;
const TX_RING_BYTES = 1 << 20;

/** Rings of an end that has no port yet. */
export class PatchRings {
  readonly memory: KernelMemory;
  /** As the consumer of what the port receives. */
  readonly lanes: readonly FrameRing[];
  /** As the producer of what the port sends. */
  readonly tx: FrameRing;

  /** @throws NetPopcornError ENOMEM. */
  constructor(lanes: number, shared: boolean) {
    const laneBytes = lanes === 1 ? LANE_BYTES_SINGLE : LANE_BYTES;
    this.memory = new KernelMemory(createMemory(STATIC_DATA_BASE + lanes * laneBytes + TX_RING_BYTES, shared));
    const { words } = this.memory;
    const place = (control: number, base: number, size: number): void => {
      words[(control + RING_SIZE) >> 2] = size;
      words[(control + RING_BASE) >> 2] = base;
    };
    for (let lane = 0; lane < lanes; lane++) {
      place(RX_CONTROL_BASE + lane * RING_CONTROL_SIZE_BYTES, STATIC_DATA_BASE + lane * laneBytes, laneBytes);
    }
    place(TX_CONTROL_BASE, STATIC_DATA_BASE + lanes * laneBytes, TX_RING_BYTES);
    this.lanes = Array.from({ length: lanes }, (_, lane) => this.memory.rxRing(lane));
    this.tx = this.memory.txRing();
  }

  /** For the port. @param tx what it sends, if that is not this end's own ring. */
  pair(ring: () => void, tx?: FrameRing): QueuePair {
    const pair = this.memory.queuePair(0, this.lanes.length, ring);
    return tx ? { ...pair, tx } : pair;
  }
}

export type PatchEndOptions = {
  readonly rings: PatchRings;
  /** Driven by this end from now on. */
  readonly port: DevicePort;
  /** What the port sends, as its observer. */
  readonly tx: FrameRing;
  /** Where the frames of this end's lanes go: the other end's TX ring; undefined: it sends from the lane itself. */
  readonly target: FrameRing | undefined;
  /** How long the thread may poll before it sleeps. */
  readonly spinUs: number;
};

export class PatchEnd implements Drivable {
  readonly memory: KernelMemory;
  readonly spinUs: number;
  socketsWoken = false;
  readonly #port: DevicePort;
  readonly #lanes: readonly FrameRing[];
  readonly #tx: FrameRing;
  readonly #target: FrameRing | undefined;
  /** The lane that is served first next time: when the target is full, each gets its turn. */
  #laneFirst = 0;
  /** How far the TX ring was filled when the port last looked. */
  #tailSeen = 0;

  constructor({ rings, port, tx, target, spinUs }: PatchEndOptions) {
    this.memory = rings.memory;
    this.spinUs = spinUs;
    this.#lanes = rings.lanes;
    this.#port = port;
    this.#tx = tx;
    this.#target = target;
  }

  /** Frames from the port to the other end's TX ring, and from this end's TX ring to the port. @returns true: some. */
  turn(nowNs: number): boolean {
    const received = this.#port.receive(nowNs) > 0;
    const moved = this.#moveLanes();
    this.#tailSeen = this.#tx.tail;
    const sent = this.#port.transmit(nowNs) > 0;
    return received || moved || sent;
  }

  nextTimerNs(): number {
    return Number.POSITIVE_INFINITY;
  }

  nextPortDeadlineNs(): number {
    return this.#port.nextDeadlineNs();
  }

  /** The port has not taken all: full lanes ahead, or a host that takes no more. */
  get transmitPending(): boolean {
    return this.#tx.usedBytes > 0;
  }

  /** The order is that of KernelHost.prepareSleep, for the same reasons. */
  prepareSleep(): boolean {
    if (!this.#isBackedUp() && !this.#port.arm()) return false;
    this.memory.setSleeping(true);
    return this.#tx.tail === this.#tailSeen && !this.#canMove();
  }

  endSleep(): void {
    this.memory.setSleeping(false);
  }

  close(): void {
    this.#port.close();
  }

  /** One run of each lane; what finds no room stays, so that its sender waits. */
  #moveLanes(): boolean {
    if (!this.#target) return false;
    const lanes = this.#lanes.length;
    let moved = 0;
    for (let i = 0; i < lanes; i++) {
      const lane = this.#lanes[(this.#laneFirst + i) % lanes] as FrameRing;
      if (lane.usedBytes > 0) moved += moveRun(lane, this.#target);
    }
    this.#laneFirst = (this.#laneFirst + 1) % lanes;
    return moved > 0;
  }

  /**
   * The other end does not get rid of what this port has brought. A host's queue would ring at once, and again, for
   * frames that find no room; whoever makes room rings the other end.
   */
  #isBackedUp(): boolean {
    const lane = this.#lanes[0] as FrameRing;
    return !this.#target && lane.usedBytes * 2 > lane.sizeBytes;
  }

  /** Frames have come since the last turn. While the target is not empty, its port has to get further first. */
  #canMove(): boolean {
    if (!this.#target || this.#target.usedBytes > 0) return false;
    return this.#lanes.some((lane) => lane.usedBytes > 0);
  }
}
