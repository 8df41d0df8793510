/** What the supervisor decides, done: for both kinds of stack. */

import { MessageCounter, type MessageStats } from "../control/messageStats.ts";
import type { Member, View } from "../control/view.ts";
import { Rehoming } from "../control/rehoming.ts";
import type { ReplyTuple } from "../device/replySteering.ts";
import { NetPopcornError } from "../errors.ts";
import { GAUGE_CONNECTIONS, GAUGE_STREAM_BYTES, GAUGE_TIME_WAIT } from "../layout/counters.ts";
import type { KernelStatus } from "../types.ts";
import { addCounters, type Counters, type KernelMemory } from "../views/kernelMemory.ts";
import { checkInteger } from "../optionRange.ts";
import { firstNsOf } from "./deadline.ts";
import type { KernelLife, StackPlan } from "./stackPlan.ts";
import {
  type KernelEvent,
  type KernelReason,
  type RemoveOptions,
  type SupervisedKernels,
  Supervisor,
} from "./supervisor.ts";

/** What differs between threads and one thread. A record of functions. */
export type KernelRunner = {
  /** Kernels run on threads of their own, so that they can hang and be ended from outside. */
  readonly apart: boolean;
  /** Nobody but the caller's turns drives the stack. */
  readonly manual: boolean;
  readonly nowNs: () => number;
  /** The kernel is lost: whoever waits for it must not wait any longer. */
  readonly lost: (kernelId: number, error: Error) => void;
  /** Fulfilled when nothing of the kernel runs any more. */
  readonly end: (kernelId: number) => Promise<void>;
  /** Fulfilled when the application has started. */
  readonly start: (kernelId: number, life: KernelLife) => Promise<void>;
  /** Resets the connections that it has left, and ends it in order. Fulfilled when nothing of it runs any more. */
  readonly dismiss: (kernelId: number) => Promise<void>;
  readonly announce: (event: KernelEvent) => void;
  /** Kernels have come or gone, or another is the owner. */
  readonly viewChanged: (view: View) => void;
  /** The last kernel is gone for good. */
  readonly giveUp: () => void;
};

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
  readonly #messages: MessageCounter;
  /** Kernels that run or are being started. */
  readonly #members = new Map<number, Member>();
  #view: View = { term: 0, owner: 0, ownerSince: 0, members: [], former: [] };
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** Who waits for the tables to be written. */
  readonly #committing = new Set<() => void>();
  #closed = false;

  constructor(plan: StackPlan, runner: KernelRunner) {
    this.#plan = plan;
    this.#runner = runner;
    this.#messages = new MessageCounter(runner.nowNs());
    this.#past = plan.memories.map(() => undefined);
    this.rehoming = new Rehoming({
      device: plan.device,
      queues: plan.kernelsMax,
      memoryOf: (queue) => plan.memories[queue],
      addresses: plan.configs[0]?.addresses.map(({ address }) => address) ?? [],
    });
    const { restart, hangMs } = plan;
    this.supervisor = new Supervisor({ kernels: this, count: plan.memories.length, restart, hangMs });
    for (const [kernelId, { memory }] of plan.memories.entries()) {
      this.#members.set(kernelId, { kernelId, life: 0, memory });
    }
    this.#view = { term: 1, owner: 0, ownerSince: 1, members: [...this.#members.values()], former: [] };
  }

  /** The kernels as of now. */
  get view(): View {
    return this.#view;
  }

  /** Steers nothing to queues that have no kernel yet. Once, when all tables have been set. */
  retireAbsent(): void {
    for (let queue = this.#plan.memories.length; queue < this.#plan.kernelsMax; queue++) {
      this.rehoming.retire(queue, this.nowMs(), true);
    }
  }

  /** All kernels have started. */
  begin(): void {
    this.supervisor.begin();
  }

  /**
   * @throws NetPopcornError ERR_KERNELS_MAX, ERR_STACK_CLOSED, ERR_NO_SUCH_KERNEL (removed meanwhile), and what the
   * start throws. @returns its number.
   */
  async addKernel(): Promise<number> {
    this.#requireOpen();
    const { kernelsMax } = this.#plan;
    let kernelId = 0;
    while (this.supervisor.isPresent(kernelId)) kernelId++;
    if (kernelId >= kernelsMax) {
      const text = `the stack has ${kernelsMax} kernels; create it with a larger kernelsMax, and as many queues`;
      throw new NetPopcornError("ERR_KERNELS_MAX", text);
    }
    try {
      await this.supervisor.add(kernelId);
    } catch (cause) {
      this.#requireOpen(cause);
      throw cause;
    }
    this.#requireOpen();
    return kernelId;
  }

  #requireOpen(cause?: unknown): void {
    if (this.#closed) throw new NetPopcornError("ERR_STACK_CLOSED", "the stack is closed; create another", { cause });
  }

  /** @throws NetPopcornError ERR_NO_SUCH_KERNEL, ERR_LAST_KERNEL, ERR_OPTION_RANGE, ERR_STACK_CLOSED. */
  async removeKernel(kernelId: number, options: RemoveOptions = {}): Promise<void> {
    this.requirePresent(kernelId);
    checkInteger("drainMs", options.drainMs ?? 0, 0, 3_600_000);
    const others = this.#plan.memories.filter((_, id) => id !== kernelId && this.supervisor.isUp(id));
    if (others.length === 0) {
      throw new NetPopcornError("ERR_LAST_KERNEL", `no other kernel than ${kernelId} is up; close the stack instead`);
    }
    await this.supervisor.remove(kernelId, options);
  }

  /** @throws NetPopcornError ERR_NO_SUCH_KERNEL, ERR_STACK_CLOSED. */
  requirePresent(kernelId: number): void {
    this.#requireOpen();
    if (Number.isInteger(kernelId) && this.supervisor.isPresent(kernelId) && !this.supervisor.isLeaving(kernelId))
      return;
    throw new NetPopcornError("ERR_NO_SUCH_KERNEL", `there is no kernel ${kernelId}; see stats().statuses`);
  }

  /** From now on kernels end because they are told to. */
  close(): void {
    this.#closed = true;
    this.supervisor.close();
    for (const resolve of this.#committing) resolve();
    clearTimeout(this.#timer);
  }

  isUp(kernelId: number): boolean {
    return this.supervisor.isUp(kernelId);
  }

  /** It has been started and has not ended. */
  isLive(kernelId: number): boolean {
    return this.#members.has(kernelId);
  }

  /** It is up, or about to leave: its turns go on. */
  isRunning(kernelId: number): boolean {
    return this.supervisor.isUp(kernelId) || this.supervisor.isLeaving(kernelId);
  }

  down(kernelId: number, reason: KernelReason, error: Error): void {
    this.supervisor.down(kernelId, reason, error);
  }

  step(): void {
    if (this.#closed) return;
    this.supervisor.step();
    this.rehoming.step(this.nowMs());
    this.#commit();
    this.reschedule();
  }

  /** When step() has something to do, ns; Infinity: never. */
  get deadlineNs(): number {
    if (this.#closed) return Number.POSITIVE_INFINITY;
    return firstNsOf(Math.min(this.supervisor.deadlineMs, this.rehoming.deadlineMs));
  }

  /** Counters of every kernel, over all its lives; gauges of a kernel that is down are 0. */
  counters(): Counters[] {
    return this.#plan.memories.map((memory, kernelId) => {
      const present = memory.counters();
      const past = this.#past[kernelId];
      if (!this.isRunning(kernelId)) clearGauges(present);
      return past ? addCounters(past, present) : present;
    });
  }

  messageStats(): MessageStats {
    return this.#messages.stats(this.#plan.memories, this.#runner.nowNs());
  }

  statuses(): KernelStatus[] {
    return this.#plan.memories.map((_, kernelId) => ({
      state: this.isRunning(kernelId) ? "up" : this.supervisor.isPresent(kernelId) ? "down" : "removed",
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
    this.#plan.memories[kernelId]?.fence();
    this.rehoming.retire(kernelId, this.nowMs());
    this.#members.delete(kernelId);
    this.#runner.lost(kernelId, error);
    this.#changeView();
    this.#commit();
  }

  /** Groups that were to move stay where they are. */
  groupsRefused(): void {
    this.rehoming.refused();
    this.#commit();
  }

  /** Connections that were to stay with their kernels have no filters. */
  filtersRefused(flows: readonly ReplyTuple[]): void {
    this.rehoming.filtersRefused(flows);
    this.#commit();
  }

  /** Has the owner write what the re-homing has decided. */
  #commit(): void {
    this.#plan.device.commitTables?.();
  }

  async end(kernelId: number): Promise<void> {
    await this.#runner.end(kernelId);
    this.#plan.device.releaseQueue(kernelId);
  }

  async start(kernelId: number, lifeNumber: number): Promise<void> {
    const life = this.#plan.renewKernel(kernelId, lifeNumber);
    const last = this.#plan.memories[kernelId]?.counters();
    if (last) {
      this.#messages.retire(this.#plan.memories[kernelId] as KernelMemory);
      clearGauges(last);
      const past = this.#past[kernelId];
      this.#past[kernelId] = past ? addCounters(past, last) : last;
    }
    this.#plan.memories[kernelId] = life.memory;
    this.#members.set(kernelId, { kernelId, life: life.life, memory: life.memory.memory });
    this.#changeView();
    try {
      await this.#runner.start(kernelId, life);
    } catch (error) {
      // Nobody must wait for it, above all not as the owner.
      life.memory.fence();
      // It may have been removed meanwhile, and its number be another's.
      if (this.#members.get(kernelId)?.life === life.life) {
        this.#members.delete(kernelId);
        this.#changeView();
      }
      throw error;
    }
  }

  /** The owner stays as long as it is up; then the one with the lowest number that is up, or else is coming up. */
  #changeView(): void {
    const members = [...this.#members.values()];
    const { owner, ownerSince, term } = this.#view;
    const livedBefore = (kernelId: number) =>
      this.#view.members.some((member) => member.kernelId === kernelId && member === this.#members.get(kernelId));
    const heirs = members.map(({ kernelId }) => kernelId).sort((a, b) => a - b);
    const heir = heirs.find((kernelId) => this.supervisor.isUp(kernelId)) ?? heirs[0] ?? owner;
    const stays = livedBefore(owner) && !this.supervisor.isLeaving(owner);
    const next = stays ? { owner, ownerSince } : { owner: heir, ownerSince: term + 1 };
    const former = [...new Set([...this.#view.former, owner])].filter((id) => id !== next.owner && livedBefore(id));
    this.#view = { term: term + 1, ...next, members, former };
    this.#runner.viewChanged(this.#view);
  }

  leave(kernelId: number): void {
    this.rehoming.leave(kernelId, this.nowMs());
    this.#changeView();
    this.#commit();
  }

  isEmpty(kernelId: number): boolean {
    if (!this.rehoming.hasLeft(kernelId)) return false;
    const memory = this.#plan.memories[kernelId];
    // What has arrived may still have to be read when a connection is over on the wire.
    return (
      !memory ||
      (memory.counter(GAUGE_CONNECTIONS) <= memory.counter(GAUGE_TIME_WAIT) && memory.counter(GAUGE_STREAM_BYTES) === 0)
    );
  }

  async dismiss(kernelId: number): Promise<void> {
    this.rehoming.retire(kernelId, this.nowMs(), true);
    this.rehoming.silence(kernelId);
    await this.#committed(kernelId);
    await this.#runner.dismiss(kernelId);
    this.#plan.memories[kernelId]?.fence();
    this.#members.delete(kernelId);
    this.#changeView();
    this.#plan.device.releaseQueue(kernelId);
  }

  /** Fulfilled when the tables are as wanted; at once where none but this kernel is left to write them. */
  #committed(kernelId: number): Promise<void> {
    const { device } = this.#plan;
    const others = [...this.#members.keys()].some((id) => id !== kernelId);
    return new Promise((resolve) => {
      if (!device.commitTables || !others || this.#closed) return resolve();
      // Nobody may be left to answer when the stack closes.
      this.#committing.add(resolve);
      device.commitTables(() => {
        this.#committing.delete(resolve);
        resolve();
      });
    });
  }

  restore(kernelId: number): void {
    this.rehoming.restore(kernelId, this.nowMs());
    this.#commit();
  }

  /** Packets go where they belong before anybody is told; where no kernel lives, nobody can see to that. */
  announce(event: KernelEvent): void {
    const { device } = this.#plan;
    const announce = () => this.#runner.announce(event);
    if (device.commitTables && this.#members.size > 0) device.commitTables(announce);
    else announce();
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
