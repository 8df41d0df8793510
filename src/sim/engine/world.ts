/** What all parts of a simulated server share. */
import { NetPopcornError } from "../../errors.ts";
import { FRAME_LENGTH } from "../../layout/frameRing.ts";
import { recordBytes } from "../../views/frameRing.ts";
import type { Design } from "../designs/design.ts";
import type { Costs } from "../machines/index.ts";
import { CONSTANT_NAMES, CONSTANT_UNITS, type ConstantName } from "../machines/machine.ts";
import type { OsTraits } from "../osTraits.ts";
import type { SimPoint } from "../types.ts";
import { ActorHeap } from "./actorHeap.ts";
import * as F from "./connectionFields.ts";
import { CACHE_MISS, CoreAccounts, LOCK_SPIN, STACK } from "./core.ts";
import type { Connections } from "./connections.ts";
import { Distance } from "./distance.ts";
import { ZERO } from "./doubles.ts";
import { FrameQueue } from "./frameQueue.ts";
import { Link } from "./link.ts";
import { SpinLock } from "./lock.ts";
import type { Listener, Process } from "./process.ts";
import type { ServerKernel } from "./serverKernel.ts";
import { Tally } from "./tally.ts";
import { TransmitSteering } from "./transmitSteering.ts";
import { Steering } from "./wire.ts";

/**
 * A short connection's lines change hands four times: at accept, with its first read, and back with the packets after
 * the application's answer and close.
 */
const VISIT_PART = 0.25;
/** Frames of full size that a TX ring of the engine holds at least. */
export const RING_FRAMES_MIN = 64;
/** Linux's net.core.netdev_max_backlog. */
const HANDED_ON_MAX = 1000;
/** Lines of a packet that the card has written next to its own socket. */
const PACKET_LINES = 2;

/** The machine's constants with cycles as nanoseconds; others as they are. */
export type CostsNs = Readonly<Record<ConstantName, number>>;

function toNs(costs: Costs): CostsNs {
  const ns: Partial<Record<ConstantName, number>> = {};
  for (const name of CONSTANT_NAMES) {
    ns[name] = CONSTANT_UNITS[name] === "cycles" ? costs[name] / costs.clockGhz : costs[name];
  }
  // A copy: an object that was filled name by name is a dictionary, and each look-up in it a call.
  return { ...(ns as CostsNs) };
}

export type WorldOptions = {
  readonly point: SimPoint;
  readonly design: Design;
  readonly traits: OsTraits;
  readonly costs: Costs;
  readonly connections: Connections;
  readonly tickNs: number;
};

export class World {
  readonly point: SimPoint;
  readonly design: Design;
  readonly traits: OsTraits;
  readonly costs: Costs;
  readonly ns: CostsNs;
  readonly distance: Distance;
  readonly connections: Connections;
  readonly accounts: CoreAccounts;
  /** Cores, then the clients, then what happens at intervals. */
  readonly heap: ActorHeap;
  readonly clientActor: number;
  readonly intervalActor: number;
  readonly steering: Steering;
  /** The card's driver steers by what cores send. */
  readonly transmitSteering: TransmitSteering | undefined;
  readonly link: Link;
  /** End of the present window: what begins later belongs to the next. */
  untilNs = ZERO;
  /** End of what each core does now. */
  readonly freeNs: Float64Array;
  /** The card's receive rings, served by the core of the same number. */
  readonly rxQueues: readonly FrameQueue[];
  /** Packets handed on by other cores (RPS, RFD), by core. */
  readonly handedOn: readonly FrameQueue[];
  /** What each core has sent, with the instant at which the clients have it. */
  readonly txQueues: readonly FrameQueue[];
  /** Arrival of the oldest frame in each of these. */
  readonly rxHeadsNs: Float64Array;
  readonly handedOnHeadsNs: Float64Array;
  readonly txHeadsNs: Float64Array;
  readonly locks: SpinLock[] = [];
  kernels: readonly ServerKernel[] = [];
  listeners: readonly Listener[] = [];
  processes: readonly Process[] = [];
  readonly tally = new Tally();
  readonly #tickNs: number;

  constructor(options: WorldOptions) {
    const { connections, costs, design, point, traits } = options;
    this.point = point;
    this.design = design;
    this.traits = traits;
    this.costs = costs;
    this.ns = toNs(costs);
    this.connections = connections;
    this.distance = new Distance(costs, point.cores);
    this.accounts = new CoreAccounts(point.cores, point.background.cores, point.background.share);
    this.heap = new ActorHeap(point.cores + 2);
    this.clientActor = point.cores;
    this.intervalActor = point.cores + 1;
    const byGroup = design.steering === "flow-groups";
    const queuesMax = byGroup ? costs.nicRings : costs.rssQueues;
    const queues = Math.max(1, Math.min(point.cores, Math.round(queuesMax)));
    this.steering = new Steering(queues, byGroup);
    const rings = Math.max(queues, Math.min(point.cores, Math.round(costs.nicRings)));
    const sampled = Math.round(costs.steerSamplePackets);
    if (design.driverSteers && sampled > 0 && point.cores > 1) {
      const filters = Math.round(costs.steerFilters);
      this.transmitSteering = new TransmitSteering(connections, point.cores, rings, sampled, filters);
    }
    // Flow Director reaches rings beyond those of RSS.
    const rxRings = this.transmitSteering ? rings : queues;
    this.freeNs = new Float64Array(point.cores);
    const slots = Math.round(costs.nicRingSlots);
    this.rxHeadsNs = new Float64Array(rxRings);
    this.handedOnHeadsNs = new Float64Array(point.cores);
    this.txHeadsNs = new Float64Array(point.cores);
    this.rxQueues = Array.from(this.rxHeadsNs, (_, i) => new FrameQueue(slots, this.rxHeadsNs, i));
    this.handedOn = Array.from(this.handedOnHeadsNs, (_, i) => new FrameQueue(HANDED_ON_MAX, this.handedOnHeadsNs, i));
    this.txQueues = Array.from(this.txHeadsNs, (_, i) => new FrameQueue(undefined, this.txHeadsNs, i));
    this.#tickNs = options.tickNs;
    this.link = new Link({ ...costs, clientUs: point.clientUs });
  }

  /** A lock of the kind that the release has. */
  createLock(name: string): SpinLock {
    const lock = new SpinLock(
      name,
      {
        kind: this.traits.spinLock,
        uncontendedNs: this.ns.lockUncontendedCycles,
        linesPerWaiter: this.ns.ticketLinesPerWaiter,
      },
      this.distance,
    );
    this.locks.push(lock);
    return lock;
  }

  /** Takes a lock. @returns when `core` has it; it must release it. */
  lock(lock: SpinLock, core: number, t: number): number {
    const granted = lock.acquire(core, t);
    this.accounts.wait(core, LOCK_SPIN, granted - t);
    return granted;
  }

  /** The core writes the lines that opening and closing write. @returns the time after it has them. */
  touch(slot: number, core: number, t: number): number {
    return this.#touch(F.LAST_CORE, slot, core, t);
  }

  /** The same for the lines that data write. */
  touchData(slot: number, core: number, t: number): number {
    return this.#touch(F.LAST_DATA_CORE, slot, core, t);
  }

  #touch(lastCore: number, slot: number, core: number, t: number): number {
    const from = this.connections.get(slot, lastCore);
    this.connections.set(slot, lastCore, core);
    if (from === core || from < 0) return t;
    const lines = this.ns.connectionLines * VISIT_PART;
    return t + this.accounts.spend(core, CACHE_MISS, lines * this.distance.lineNs(from, core));
  }

  /** The core reads or writes `lines` lines last written by `from`. */
  fetch(core: number, from: number, lines: number, t: number): number {
    if (from === core || from < 0) return t;
    return t + this.accounts.spend(core, CACHE_MISS, lines * this.distance.lineNs(from, core));
  }

  /** Reads a packet that the card, which is at socket 0, has written. */
  readPacket(core: number, t: number): number {
    return this.readPackets(core, 1, t);
  }

  readPackets(core: number, count: number, t: number): number {
    if (this.distance.socketOf(core) === 0) return t;
    return t + this.accounts.spend(core, CACHE_MISS, count * PACKET_LINES * this.distance.crossSocketNs);
  }

  /** Counts a packet that has come to `core`, if a process has its connection. */
  notePacket(slot: number, core: number): void {
    const process = this.processes[this.connections.get(slot, F.PROCESS)];
    if (!process) return;
    this.tally.packets++;
    if (process.core === core) this.tally.localPackets++;
  }

  /** True while the core has nothing to do. */
  isIdle(core: number, nowNs: number): boolean {
    return (this.freeNs[core] as number) <= nowNs && (this.heap.timeNs[core] as number) > nowNs;
  }

  /** Something for `core` to do at `atNs`, or as soon as it has time. */
  callCore(core: number, atNs: number): void {
    this.heap.atLatest(core, Math.max(atNs, this.freeNs[core] as number));
  }

  /** The driver looks at what `core` sends of a connection. @returns the time after it has. */
  steerSent(core: number, slot: number, frames: number, isSyn: boolean, t: number): number {
    if (!this.transmitSteering?.sent(core, slot, frames, isSyn)) return t;
    return t + this.accounts.spend(core, STACK, this.ns.steerWriteCycles);
  }

  /** Queue of the card that brings what the connection receives. */
  queueOf(slot: number): number {
    const { connections, design, steering, transmitSteering } = this;
    const filter = transmitSteering ? transmitSteering.queueOf(slot) : connections.get(slot, F.FILTER);
    if (filter >= 0) return filter;
    if (slot >= connections.clientSlots && design.ownPorts && !design.rps) {
      return connections.get(slot, F.HOME) % steering.queues;
    }
    return steering.queueOf(connections.get(slot, F.HASH) >>> 0, connections.get(slot, F.GROUP));
  }

  /** Has a kernel send what it can, and puts that on the link at `nowNs`. @returns frames. */
  flush(kernel: ServerKernel, core: number, nowNs: number): number {
    kernel.flush();
    return this.emit(kernel, core, nowNs);
  }

  /** Puts on the link at `nowNs` what a kernel has sent, and what then finds room in its ring. @returns frames. */
  emit(kernel: ServerKernel, core: number, nowNs: number): number {
    let sent = this.#take(kernel, core, nowNs);
    let frames = sent;
    // So many may have been all that the ring holds.
    while (sent >= RING_FRAMES_MIN) {
      kernel.flush();
      sent = this.#take(kernel, core, nowNs);
      frames += sent;
    }
    return frames;
  }

  /** Takes what a kernel has sent. @returns frames. */
  #take(kernel: ServerKernel, core: number, nowNs: number): number {
    const { tx } = kernel;
    let frames = 0;
    for (let run = tx.peekRun(); run !== 0; run = tx.peekRun()) {
      const { runBytes } = tx;
      for (let at = run; at < run + runBytes; ) {
        const length = tx.recordLength(at);
        if (length < 0) {
          at -= length;
          continue;
        }
        this.#send(kernel.words, at >> 2, core, nowNs);
        frames++;
        at += recordBytes(length);
      }
      kernel.taken(runBytes);
    }
    this.tally.simulatedPackets += frames;
    return frames;
  }

  #send(words: Int32Array, at: number, core: number, nowNs: number): void {
    const arrivalNs = this.link.toClient(nowNs, words[at + (FRAME_LENGTH >> 2)] as number);
    const queue = this.txQueues[core];
    if (!queue) throw new NetPopcornError("ERR_SIM", `there is no core ${core}`);
    queue.push(words, at, arrivalNs, 0);
    const { clientActor, heap } = this;
    // The clients act before it arrives, and then see when that is.
    if ((heap.timeNs[clientActor] as number) <= arrivalNs) return;
    heap.atLatest(clientActor, Math.ceil(arrivalNs / this.#tickNs) * this.#tickNs);
  }
}
