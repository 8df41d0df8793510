/**
 * Kernels on virtual cores: what a kernel does in a turn takes its core some virtual time, and until that is over the
 * kernel gets no turn. So kernels on one real thread are as fast, as late and as overloaded as on cores of their own.
 * The costs are arguments. A turn's output leaves at its start; turns are short (pollBudgetFrames), so this is little.
 */
import { RX_FRAMES, TX_FRAMES } from "../layout/counters.ts";
import type { KernelMemory } from "../views/kernelMemory.ts";

export type CoreCosts = {
  /** Time to receive or to send one frame. */
  readonly frameNs: number;
  /** Time of the application for one unit of its work, a connection for instance. */
  readonly workNs: number;
};

/** What runs on a core: a kernel and its application. */
export interface CoreTask {
  readonly memory: KernelMemory;
  /** One turn of the kernel. @returns true when something was done or is left to do. */
  turn(nowNs: number): boolean;
  /** Lets the application work after a turn. @returns units of work done. */
  work(): number;
  nextDeadlineNs(): number;
}

export class VirtualCore {
  readonly #task: CoreTask;
  readonly #costs: CoreCosts;
  #freeAtNs = 0;
  #frames = 0;
  /** Busy time not yet told to the kernel's memory, which counts microseconds. */
  #untoldNs = 0;

  constructor(task: CoreTask, costs: CoreCosts) {
    this.#task = task;
    this.#costs = costs;
  }

  /** When the core can do something again: the end of what it does, or its kernel's next deadline. */
  nextNs(nowNs: number): number {
    return this.#freeAtNs > nowNs ? this.#freeAtNs : this.#task.nextDeadlineNs();
  }

  /** A turn, if the core is free. @returns true when it has worked. */
  run(nowNs: number): boolean {
    if (this.#freeAtNs > nowNs) return false;
    this.#task.turn(nowNs);
    const worked = this.#task.work();
    const { memory } = this.#task;
    const frames = memory.counter(RX_FRAMES) + memory.counter(TX_FRAMES);
    const costNs = (frames - this.#frames) * this.#costs.frameNs + worked * this.#costs.workNs;
    this.#frames = frames;
    if (costNs === 0) return false;
    this.#freeAtNs = nowNs + costNs;
    this.#untoldNs += costNs;
    memory.addBusyUs(Math.floor(this.#untoldNs / 1000));
    this.#untoldNs %= 1000;
    return true;
  }
}
