/** The balancer of a stack: its option, its timer, its events. */
import type { GroupRefusal } from "../control/ownedDevice.ts";
import type { ReplyTuple } from "../device/replySteering.ts";
import type { PinnedFlow } from "./pins.ts";
import { NetPopcornError } from "../errors.ts";
import type { Clock } from "../kernel/clock.ts";
import type { StackPlan } from "../kernel/stackPlan.ts";
import { type BalanceEvent, Balancer, type BalancerOptions, type BalancerStats } from "./balancer.ts";
import { staticPolicy } from "./policy.ts";

const NS_PER_MS = 1e6;
/** While no kernel does anything, looks become rarer up to this. */
const IDLE_PERIOD_MS = 1000;

export type BalancingOptions = {
  readonly plan: StackPlan;
  readonly isUp: (kernelId: number) => boolean;
  /** Up, or leaving. */
  readonly isRunning: (kernelId: number) => boolean;
  readonly onBalance: (event: BalanceEvent) => void;
  /** The policy has thrown: nothing begins to move any more. */
  readonly onError: (error: NetPopcornError) => void;
  /** Undefined: the caller's turns drive the stack, and the balancer with it. */
  readonly clock: Clock | undefined;
  /** Of the stack's migrator. */
  readonly migrate: NonNullable<BalancerOptions["migrate"]>;
  readonly isMigrating: NonNullable<BalancerOptions["isMigrating"]>;
  readonly isGroupMoving: NonNullable<BalancerOptions["isGroupMoving"]>;
  readonly isForwarding: NonNullable<BalancerOptions["isForwarding"]>;
  readonly isPinnedElsewhere: NonNullable<BalancerOptions["isPinnedElsewhere"]>;
  readonly steal: NonNullable<BalancerOptions["steal"]>;
};

/** Runs a stack's balancer; with the static policy it does nothing at all. */
export class Balancing {
  readonly #options: BalancingOptions;
  #balancer: Balancer | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #heartbeats = -1;
  #idleMs = 0;
  #stopped = false;

  constructor(options: BalancingOptions) {
    this.#options = options;
    const { configs, device, memories, policy } = options.plan;
    const config = configs[0];
    if (policy === staticPolicy || !config) return;
    this.#balancer = new Balancer({
      device,
      policy,
      kernels: options.plan.kernelsMax,
      rxLanes: config.rxLanes,
      memoryOf: (kernel) => (options.isUp(kernel) ? memories[kernel] : undefined),
      runningMemoryOf: (kernel) => (options.isRunning(kernel) ? memories[kernel] : undefined),
      addresses: config.addresses.map(({ address }) => address),
      migrate: options.migrate,
      isMigrating: options.isMigrating,
      isGroupMoving: options.isGroupMoving,
      isForwarding: options.isForwarding,
      isPinnedElsewhere: options.isPinnedElsewhere,
      steal: options.steal,
    });
  }

  /** All kernels have started. */
  begin(): void {
    this.#schedule();
  }

  /** Does what is due. */
  step(nowNs: number): void {
    let event: BalanceEvent | undefined;
    if (this.#stopped) return;
    try {
      event = this.#balancer?.step(nowNs);
    } catch (cause) {
      this.#giveUp(cause);
    }
    this.#options.plan.device.commitTables?.();
    if (event) this.#options.onBalance(event);
  }

  /** A policy of the user's may throw: connections must not suffer, so all stays where it is, and pinned if it was. */
  #giveUp(cause: unknown): void {
    const { name } = this.#options.plan.policy;
    this.#balancer?.keepStill();
    const why = cause instanceof Error ? cause.message : String(cause);
    const text = `balancer policy "${name}" has thrown, so nothing is moved any more: ${why}`;
    this.#options.onError(new NetPopcornError("ERR_BALANCER_POLICY", text, { cause }));
  }

  /** Undefined with the static policy. */
  stats(): BalancerStats | undefined {
    return this.#balancer?.stats();
  }

  /** See Balancer.refused. */
  refused(groups: readonly number[], why: GroupRefusal): void {
    this.#balancer?.refused(groups, why);
  }

  /** See Balancer.filtersRefused. */
  filtersRefused(flows: readonly ReplyTuple[]): void {
    this.#balancer?.filtersRefused(flows);
  }

  /** See Balancer.isPinned. */
  isPinned(flow: PinnedFlow): boolean {
    return this.#balancer?.isPinned(flow) ?? false;
  }

  /** See MigratorOptions.unpin. */
  unpin(group: number): () => void {
    return this.#balancer?.unpin(group) ?? (() => {});
  }

  /** See MigratorOptions.pinned. */
  pinnedOf(group: number): readonly PinnedFlow[] {
    return this.#balancer?.pinnedOf(group) ?? [];
  }

  /** Nothing is moved any more; what is pinned stays so, for connections that come to their end. */
  stop(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#stopped = true;
  }

  /** Takes its filters out of the device. */
  unpinAll(): void {
    this.#balancer?.close();
  }

  #schedule(): void {
    const { clock } = this.#options;
    const balancer = this.#balancer;
    if (!clock || !balancer || this.#stopped) return;
    const dueMs = Math.ceil((balancer.deadlineNs - clock.nowNs()) / NS_PER_MS);
    this.#timer = setTimeout(
      () => {
        this.#watchActivity();
        this.step(clock.nowNs());
        this.#schedule();
      },
      Math.max(dueMs, balancer.isSettling ? 1 : this.#idleMs, 1),
    );
    // Balancing is no reason for the process to stay. Browsers return a number.
    if (typeof this.#timer === "object") this.#timer.unref();
  }

  #watchActivity(): void {
    const { memories } = this.#options.plan;
    const heartbeats = memories.reduce((sum, { heartbeat }) => sum + heartbeat, 0);
    const idle = heartbeats === this.#heartbeats;
    this.#heartbeats = heartbeats;
    this.#idleMs = idle ? Math.min(Math.max(2 * this.#idleMs, 20), IDLE_PERIOD_MS) : 0;
  }
}
