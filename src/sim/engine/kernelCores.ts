/**
 * Cores under an operating system's kernel: interrupts with moderation, softirqs, a run queue of processes. What is
 * ready first in this order runs: packets, then processes; after netdev_budget packets in a row a process gets a step.
 */
import { STACK, SWITCH } from "./core.ts";
import type { FrameQueue } from "./frameQueue.ts";
import { type Process, RUNNABLE, type RunQueue } from "./process.ts";
import type { Processes } from "./processes.ts";
import type { Softirq } from "./softirq.ts";
import type { World } from "./world.ts";

/** Linux's net.core.netdev_budget. */
const NETDEV_BUDGET = 300;
/** A time slice of the scheduler while others wait. */
const SLICE_NS = 3e6;
/** Frames in one poll at most, however large the machine's budget: they lie in a kernel's ring together. */
export const BURST_FRAMES_MAX = 2048;

export class KernelCores {
  readonly #world: World;
  readonly #softirq: Softirq;
  readonly #processes: Processes;
  /** The card's queue of the core is polled, its interrupt is off. */
  readonly #polling: Uint8Array;
  readonly #interruptedNs: Float64Array;
  /** Packets since a process has had a step. */
  readonly #inARow: Int32Array;
  readonly #runQueues: readonly RunQueue[];
  /** Cores share nothing, and each has one listener: packets may be processed in bursts. */
  readonly #alone: boolean;
  /** Processes accept from their own listener only. */
  readonly #ownOnly: boolean;
  readonly #current: (Process | undefined)[];
  readonly #sliceEndNs: Float64Array;

  constructor(world: World, softirq: Softirq, processes: Processes, runQueues: readonly RunQueue[]) {
    const { cores } = world.point;
    this.#world = world;
    this.#softirq = softirq;
    this.#processes = processes;
    this.#runQueues = runQueues;
    this.#alone = world.design.tables === "core" && world.listeners.length === world.kernels.length;
    this.#ownOnly = world.design.acceptFrom === "own" && world.design.balancer !== "affinity";
    this.#polling = new Uint8Array(cores);
    this.#interruptedNs = new Float64Array(cores).fill(Number.NEGATIVE_INFINITY);
    this.#inARow = new Int32Array(cores);
    this.#current = new Array(cores).fill(undefined);
    this.#sliceEndNs = new Float64Array(cores);
  }

  /** When the core's packets are ready for it. */
  readyNs(core: number): number {
    const { handedOnHeadsNs, rxHeadsNs } = this.#world;
    const handedOnNs = handedOnHeadsNs[core] as number;
    return core >= rxHeadsNs.length ? handedOnNs : Math.min(handedOnNs, this.#cardReadyNs(core));
  }

  #cardReadyNs(core: number): number {
    const headNs = this.#world.rxHeadsNs[core] as number;
    if (this.#polling[core] === 1) return headNs;
    const moderatedNs = (this.#interruptedNs[core] as number) + this.#world.ns.interruptUs * 1000;
    return Math.max(headNs, moderatedNs);
  }

  /** What the core does at `now`. @returns when it acts next; Infinity: when it is called. */
  step(core: number, now: number): number {
    const world = this.#world;
    const readyNs = this.readyNs(core);
    if (
      readyNs <= now &&
      !this.#softirqsOff(core) &&
      ((this.#inARow[core] as number) < NETDEV_BUDGET || !this.#runnable(core))
    ) {
      const end = this.#packet(core, now);
      world.freeNs[core] = end;
      world.tally.softirqNs += end - now;
      world.accounts.note(core, "packet", "softirq", now, end);
      return end;
    }
    this.#inARow[core] = 0;
    const process = this.#pick(core);
    if (!process) return readyNs;
    let end = this.#run(core, process, now);
    if (this.#alone) end = this.#runIdlers(core, now, end);
    world.freeNs[core] = end;
    return end;
  }

  /**
   * Processes that were woken for nothing: they look, find nothing, and sleep again. Nobody else can see when, so they
   * need no steps of their own as long as nothing can come to the core before they run.
   */
  #runIdlers(core: number, now: number, from: number): number {
    const queue = this.#runQueues[core] as RunQueue;
    if (queue.count === 0 || this.#current[core] !== undefined) return from;
    const { clientActor, heap, intervalActor, link, untilNs } = this.#world;
    // What the clients send from now on arrives no earlier than this. Idlers themselves change none of these instants.
    const undisturbedNs = Math.min(heap.timeNs[clientActor] as number, now + link.quietNs) + link.quietNs;
    const beforeNs = Math.min(undisturbedNs, untilNs, this.readyNs(core));
    const intervalNs = heap.timeNs[intervalActor] as number;
    let end = from;
    while (end < beforeNs && end <= intervalNs && this.#current[core] === undefined) {
      const process = queue.first;
      if (process === undefined || !this.#processes.findsNothing(process)) break;
      end = this.#sleepAgain(core, queue, process, end);
    }
    return end;
  }

  #sleepAgain(core: number, queue: RunQueue, process: Process, now: number): number {
    if (!this.#ownOnly) return this.#run(core, process, now);
    const { accounts, ns } = this.#world;
    queue.shift();
    const t = now + accounts.spend(core, SWITCH, ns.contextSwitchCycles);
    const end = this.#processes.sleepAgain(process, t);
    accounts.note(core, "switch", "process", now, t);
    accounts.note(core, "epoll_wait", "process", t, end);
    return end;
  }

  #packet(core: number, now: number): number {
    const world = this.#world;
    this.#inARow[core] = (this.#inARow[core] as number) + 1;
    if ((world.handedOnHeadsNs[core] as number) <= now) {
      return this.#softirq.frame(core, now, world.handedOn[core] as FrameQueue, true);
    }
    const queue = world.rxQueues[core] as FrameQueue;
    let t = now;
    if (this.#polling[core] === 0) {
      this.#polling[core] = 1;
      this.#interruptedNs[core] = now;
      t += world.accounts.spend(core, STACK, world.ns.interruptCycles);
    }
    if (this.#alone) {
      const count = Math.max(1, queue.arrived(t, Math.min(BURST_FRAMES_MAX, Math.ceil(world.ns.napiBudget))));
      this.#inARow[core] = (this.#inARow[core] as number) + count - 1;
      t = this.#softirq.burst(core, t, queue, count);
    } else {
      t = this.#softirq.frame(core, t, queue, false);
    }
    // Nothing more there: back to interrupts.
    if (queue.headNs > t) this.#polling[core] = 0;
    return t;
  }

  /** The process of the core is in release_sock: packets wait. */
  #softirqsOff(core: number): boolean {
    return this.#current[core]?.releasing === true;
  }

  #runnable(core: number): boolean {
    return this.#current[core] !== undefined || (this.#runQueues[core] as RunQueue).count > 0;
  }

  #pick(core: number): Process | undefined {
    return this.#current[core] ?? (this.#runQueues[core] as RunQueue).first;
  }

  #run(core: number, process: Process, now: number): number {
    const world = this.#world;
    const queue = this.#runQueues[core] as RunQueue;
    let t = now;
    if (this.#current[core] !== process) {
      queue.shift();
      this.#current[core] = process;
      this.#sliceEndNs[core] = now + SLICE_NS;
      t += world.accounts.spend(core, SWITCH, world.ns.contextSwitchCycles);
      world.accounts.note(core, "switch", "process", now, t);
    }
    const end = this.#processes.step(process, t);
    if (process.state !== RUNNABLE) this.#current[core] = undefined;
    else if (end >= (this.#sliceEndNs[core] as number) && queue.count > 0) {
      queue.push(process);
      this.#current[core] = undefined;
    }
    return end;
  }
}
