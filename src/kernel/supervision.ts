/** What the supervisor decides, done: for both kinds of stack. */
import type { Member, View } from "../control/view.ts";
import { Rehoming } from "../control/rehoming.ts";
import type { StackPlan } from "../stack.ts";
import type { KernelStatus } from "../types.ts";
import { addCounters, type Counters, type KernelMemory } from "../views/kernelMemory.ts";
import type { KernelConfig } from "./config.ts";
import { type KernelEvent, type KernelReason, type SupervisedKernels, Supervisor } from "./supervisor.ts";

/** What one life of a kernel starts with. */
export type KernelLife = {
  readonly config: KernelConfig;
  /** Configuration written, not booted. */
  readonly memory: KernelMemory;
  /** Seed of the host side's own draws. */
  readonly hostSeed: Uint32Array;
  /** How often the kernel has been started before. */
  readonly life: number;
};

/** What differs between threads and one thread. */
export interface KernelRunner {
  /** Kernels run on threads of their own, so that they can hang and be ended from outside. */
  readonly apart: boolean;
  /** Nobody but the caller's turns drives the stack. */
  readonly manual: boolean;
  nowNs(): number;
  /** The kernel is lost: whoever waits for it must not wait any longer. */
  lost(kernelId: number, error: Error): void;
  /** Fulfilled when nothing of the kernel runs any more. */
  end(kernelId: number): Promise<void>;
  /** Fulfilled when the application has started. */
  start(kernelId: number, life: KernelLife): Promise<void>;
  announce(event: KernelEvent): void;
  /** Kernels have come or gone, or another is the owner. */
  viewChanged(view: View): void;
  /** The last kernel is gone for good. */
  giveUp(): void;
}

const NS_PER_MS = 1e6;
/** Longest time a timer can be set to. */
const TIMER_MS_MAX = 0x3fffffff;

export class Supervision implements SupervisedKernels {
  readonly supervisor: Supervisor;
  readonly rehoming: Rehoming;
  readonly #plan: StackPlan;
  readonly #runner: KernelRunner;
  /** Counters of the lives before. */
  readonly #past: (Counters | undefined)[];
  /** Kernels that run or are being started. */
  readonly #members = new Map<number, Member>();
  #view: View = { term: 0, owner: 0, members: [] };
  #timer: ReturnType<typeof setTimeout> | undefined;
  #closed = false;

  constructor(plan: StackPlan, runner: KernelRunner) {
    this.#plan = plan;
    this.#runner = runner;
    this.#past = plan.memories.map(() => undefined);
    this.rehoming = new Rehoming({
      device: plan.device,
      queues: plan.configs.length,
      memoryOf: (queue) => plan.memories[queue],
      addresses: plan.configs[0]?.addresses.map(({ address }) => address) ?? [],
    });
    const { restart, hangMs } = plan;
    this.supervisor = new Supervisor({ kernels: this, count: plan.configs.length, restart, hangMs });
    for (const [kernelId, { memory }] of plan.memories.entries()) {
      this.#members.set(kernelId, { kernelId, life: 0, memory });
    }
    this.#view = { term: 1, owner: 0, members: [...this.#members.values()] };
  }

  /** The kernels as of now. */
  get view(): View {
    return this.#view;
  }

  /** All kernels have started. */
  begin(): void {
    this.supervisor.begin();
  }

  /** From now on kernels end because they are told to. */
  close(): void {
    this.#closed = true;
    this.supervisor.close();
    clearTimeout(this.#timer);
  }

  isUp(kernelId: number): boolean {
    return this.supervisor.isUp(kernelId);
  }

  down(kernelId: number, reason: KernelReason, error: Error): void {
    this.supervisor.down(kernelId, reason, error);
  }

  step(): void {
    if (this.#closed) return;
    this.supervisor.step();
    this.rehoming.step(this.nowMs());
    this.reschedule();
  }

  /** When step() has something to do, ns; Infinity: never. */
  get deadlineNs(): number {
    if (this.#closed) return Number.POSITIVE_INFINITY;
    return Math.ceil(Math.min(this.supervisor.deadlineMs, this.rehoming.deadlineMs) * NS_PER_MS);
  }

  /** Counters of every kernel, over all its lives; gauges of a kernel that is down are 0. */
  counters(): Counters[] {
    return this.#plan.memories.map((memory, kernelId) => {
      const present = memory.counters();
      const past = this.#past[kernelId];
      if (!this.supervisor.isUp(kernelId)) clearGauges(present);
      return past ? addCounters(past, present) : present;
    });
  }

  statuses(): KernelStatus[] {
    return this.#plan.memories.map((_, kernelId) => ({
      state: this.supervisor.isUp(kernelId) ? "up" : "down",
      restarts: this.supervisor.restarts(kernelId),
    }));
  }

  // What follows is for the supervisor.

  nowMs(): number {
    return this.#runner.nowNs() / NS_PER_MS;
  }

  watchedMemory(kernelId: number): KernelMemory | undefined {
    return this.#runner.apart ? this.#plan.memories[kernelId] : undefined;
  }

  retire(kernelId: number, error: Error): void {
    this.rehoming.retire(kernelId, this.nowMs());
    this.#members.delete(kernelId);
    this.#runner.lost(kernelId, error);
    this.#changeView();
  }

  async end(kernelId: number): Promise<void> {
    await this.#runner.end(kernelId);
    this.#plan.device.releaseQueue(kernelId);
  }

  async start(kernelId: number, restarts: number): Promise<void> {
    const life = this.#plan.renewKernel(kernelId, restarts);
    const last = (this.#plan.memories[kernelId] as KernelMemory).counters();
    clearGauges(last);
    const past = this.#past[kernelId];
    this.#past[kernelId] = past ? addCounters(past, last) : last;
    this.#plan.memories[kernelId] = life.memory;
    this.#members.set(kernelId, { kernelId, life: life.life, memory: life.memory.memory });
    this.#changeView();
    await this.#runner.start(kernelId, life);
  }

  /** The owner stays as long as it lives; then the one with the lowest number that is up, or else is coming up. */
  #changeView(): void {
    const members = [...this.#members.values()];
    const { owner, term } = this.#view;
    const heirs = members.map(({ kernelId }) => kernelId).sort((a, b) => a - b);
    const heir = heirs.find((kernelId) => this.supervisor.isUp(kernelId)) ?? heirs[0] ?? owner;
    this.#view = { term: term + 1, owner: this.#members.has(owner) ? owner : heir, members };
    this.#runner.viewChanged(this.#view);
  }

  restore(kernelId: number): void {
    this.rehoming.restore(kernelId, this.nowMs());
  }

  announce(event: KernelEvent): void {
    this.#runner.announce(event);
  }

  giveUp(): void {
    this.#runner.giveUp();
  }

  reschedule(): void {
    clearTimeout(this.#timer);
    const atNs = this.deadlineNs;
    if (this.#runner.manual || atNs === Number.POSITIVE_INFINITY) return;
    const delayMs = Math.max(0, Math.ceil(atNs / NS_PER_MS - this.nowMs()));
    this.#timer = setTimeout(() => this.step(), Math.min(delayMs, TIMER_MS_MAX));
    // Watching is no reason for the process to stay; bringing a kernel back is. Browsers return a number.
    if (typeof this.#timer === "object" && !this.supervisor.isRestarting) this.#timer.unref();
  }
}

function clearGauges(counters: Counters): void {
  for (const name of Object.keys(counters)) if (name.startsWith("gauge")) counters[name] = 0;
}
