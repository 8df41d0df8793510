/**
 * What decides over a stack's kernels, the same in each way to run them: in threads, on the calling thread, in virtual
 * time. How kernels are reached, and by which clock, is the stack's (StackKernels).
 *
 * ```
 *  balancing ──moves, steals──▶ migrator ──requests──▶ kernels
 *      │                           │                      ▲
 *      │ groups, filters           │ groups               │ started, ended, told who is there
 *      ▼                           ▼                      │
 *     owned device ◀──entries── rehoming ◀────────── supervision
 * ```
 * All three write the device's tables, so each asks the others what is theirs before it does, and takes its filters
 * away where another moves a whole group.
 */
import { Balancing } from "../balancer/balancing.ts";
import { OwnedDevice } from "../control/ownedDevice.ts";
import { NetPopcornError } from "../errors.ts";
import { Migrator, type MigratorOptions } from "../migration/migrator.ts";
import { HEALTH_BASE, HEALTH_MIGRATIONS } from "../layout/kernelMemory.ts";
import type { StackEvents, StackStats } from "../types.ts";
import { sumCounters } from "../views/kernelMemory.ts";
import { StackNetwork } from "./stackNetwork.ts";
import type { StackPlan } from "./stackPlan.ts";
import { type KernelRunner, Supervision } from "./supervision.ts";

/** What differs between the ways to run kernels. A record of functions. */
export type StackKernels = Omit<KernelRunner, "announce"> & {
  /** See MigratorOptions. */
  readonly ask: MigratorOptions["ask"];
  /** Ends the kernel as a crash would, and reports this as the cause. */
  readonly kill: (kernelId: number, error: NetPopcornError) => void;
};

/** Where the stack's events go. */
export type ControlEvents = {
  readonly address: (event: StackEvents["address"]) => void;
  readonly balance: (event: StackEvents["balance"]) => void;
  readonly kernel: (event: StackEvents["kernel"]) => void;
  readonly error: (error: NetPopcornError, kernelId: number) => void;
};

export class ControlPlane {
  /** Its device is the one below. */
  readonly plan: StackPlan;
  /** As its owner, one of the kernels, lets the stack see it. */
  readonly device: OwnedDevice;
  readonly network: StackNetwork;
  readonly supervision: Supervision;
  readonly migrator: Migrator;
  readonly #balancing: Balancing;
  readonly #kernels: StackKernels;

  constructor(given: StackPlan, kernels: StackKernels, events: ControlEvents) {
    this.device = new OwnedDevice(given.device);
    this.plan = { ...given, device: this.device };
    this.#kernels = kernels;
    this.network = new StackNetwork(given.configs[0], events.address);
    this.supervision = new Supervision(this.plan, this.#createRunner(events));
    this.#balancing = this.#createBalancing(events);
    this.migrator = this.#createMigrator();
    this.supervision.rehoming.others = {
      isMigrating: (entry) => this.migrator.isMovingEntry(entry),
      isGroupMoving: (entry) => this.migrator.isGroupMovingEntry(entry),
      isForwarding: (queue, entry) => this.migrator.forwardsEntry(queue, entry),
      isPinned: (flow) => this.#balancing.isPinned(flow),
      isStolenFrom: (queue) => this.migrator.isStealingFrom(queue),
    };
    this.device.onGroupsRefused = (groups, why) => {
      this.#balancing.refused(groups, why);
      this.supervision.groupsRefused();
    };
    this.device.onFiltersRefused = (flows) => {
      this.#balancing.filtersRefused(flows);
      this.supervision.filtersRefused(flows);
    };
  }

  /** All kernels have started. */
  begin(): void {
    this.supervision.begin();
    this.#balancing.begin();
  }

  /** Does what is due, where the caller's turns drive the stack. */
  step(nowNs: number): void {
    if (nowNs >= this.supervision.deadlineNs) this.supervision.step();
    this.#balancing.step(nowNs);
  }

  stats(): StackStats {
    // Counters are read out of the kernels' memories: no kernel is asked, so one that hangs has counters too.
    const kernels = this.supervision.counters();
    return {
      owner: this.supervision.view.owner,
      statuses: this.supervision.statuses(),
      kernels,
      queues: this.device.queueFrames(),
      softwareSteered: this.device.softwareSteered?.() ?? 0,
      filtersRefused: this.device.filtersRefused,
      total: sumCounters(kernels),
      balancer: this.#balancing.stats(),
      messages: this.supervision.messageStats(),
    };
  }

  /** @throws NetPopcornError ERR_NO_SUCH_KERNEL, ERR_STACK_CLOSED. */
  killKernel(kernelId: number): void {
    this.supervision.requirePresent(kernelId);
    const error = new NetPopcornError("ERR_KERNEL_EXIT", `kernel ${kernelId} was ended by killKernel()`);
    this.#kernels.kill(kernelId, error);
  }

  /** The stack begins to close: nothing is moved, started again or waited for any more. */
  stop(): void {
    this.supervision.close();
    this.#balancing.stop();
    this.migrator.close();
    this.network.close();
  }

  /** All kernels have ended: takes out of the device what the stack has set there. */
  release(): void {
    this.#balancing.unpinAll();
    this.supervision.rehoming.unpinAll();
    this.device.release();
  }

  /** Whoever waits for an answer of a kernel that is no more does not wait any longer. */
  #createRunner(events: ControlEvents): KernelRunner {
    const kernels = this.#kernels;
    return {
      ...kernels,
      lost: (kernelId, error) => {
        kernels.lost(kernelId, error);
        this.migrator.kernelDown(kernelId);
      },
      dismiss: async (kernelId) => {
        await kernels.dismiss(kernelId);
        this.migrator.kernelDown(kernelId);
      },
      announce: events.kernel,
    };
  }

  #createBalancing(events: ControlEvents): Balancing {
    const { supervision } = this;
    const { manual, nowNs } = this.#kernels;
    return new Balancing({
      plan: this.plan,
      isUp: (kernelId) => supervision.isUp(kernelId),
      isRunning: (kernelId) => supervision.isRunning(kernelId),
      onBalance: events.balance,
      onError: (error) => events.error(error, supervision.view.owner),
      clock: manual ? undefined : { nowNs },
      migrate: (group, to, settled) => void this.migrator.migrate(group, to, settled).catch(() => {}),
      isMigrating: (group) => this.migrator.isMoving(group),
      isGroupMoving: (group) => this.migrator.isGroupMoving(group),
      isForwarding: (kernelId, group) => this.migrator.forwards(kernelId, group),
      isPinnedElsewhere: (flow) => supervision.rehoming.isPinned(flow),
      steal: (order) => this.migrator.steal(supervision.rehoming.handPinsTo(order)),
    });
  }

  #createMigrator(): Migrator {
    const { supervision } = this;
    const { configs, memories } = this.plan;
    const { ask, nowNs } = this.#kernels;
    return new Migrator({
      device: this.device,
      addresses: configs[0]?.addresses.map(({ address }) => address) ?? [],
      kernels: () => memories.length,
      commitsOf: (kernelId) => memories[kernelId]?.loadU32(HEALTH_BASE + HEALTH_MIGRATIONS) ?? 0,
      isUp: (kernelId) => supervision.isUp(kernelId),
      isRunning: (kernelId) => supervision.isRunning(kernelId),
      ask,
      nowNs,
      unpin: (group) => {
        const repins = [this.#balancing.unpin(group), supervision.rehoming.unpin(group)];
        return () => {
          for (const repin of repins) repin();
        };
      },
      pinned: (group) => [...this.#balancing.pinnedOf(group), ...supervision.rehoming.pinnedOf(group)],
    });
  }
}
