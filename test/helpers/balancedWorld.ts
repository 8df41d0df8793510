/** Kernels and flow groups as numbers: what a policy sees if each opening costs the same and its moves are made. */
import type { Decision, Move, Observation, Policy } from "../../src/balancer/policy.ts";

export type WorldOptions = {
  readonly kernels: number;
  /** Openings per second of each group. */
  readonly rates: readonly number[];
  /** Connections that stay open in each group. */
  readonly live: readonly number[];
  readonly owner: readonly number[];
  /** Load that an opening per second makes. */
  readonly cost: number;
  readonly pinsFree: number;
  readonly acceptQueueMax?: number;
  /** Bytes per second that each group's connections carry, and the load that a byte per second makes. Default: none. */
  readonly traffic?: readonly number[];
  readonly byteCost?: number;
};

export class BalancedWorld {
  readonly options: WorldOptions;
  readonly owner: Uint16Array;
  readonly live: Uint32Array;
  readonly opened: Float64Array;
  readonly progress: Float64Array;
  readonly alive: boolean[];
  nowNs = 1e9;
  #state: unknown;

  constructor(options: WorldOptions) {
    this.options = options;
    this.owner = Uint16Array.from(options.owner);
    this.live = Uint32Array.from(options.live);
    this.opened = new Float64Array(options.rates.length);
    this.progress = new Float64Array(options.rates.length);
    this.alive = new Array(options.kernels).fill(true);
  }

  /** Load that each kernel is offered; above 1 it cannot keep up. */
  demands(): number[] {
    const demands: number[] = new Array(this.options.kernels).fill(0);
    this.options.rates.forEach((rate, group) => {
      const kernel = this.owner[group] as number;
      demands[kernel] = (demands[kernel] as number) + rate * this.options.cost;
    });
    this.options.traffic?.forEach((bytes, group) => {
      const kernel = this.owner[group] as number;
      demands[kernel] = (demands[kernel] as number) + bytes * (this.options.byteCost ?? 0);
    });
    return demands;
  }

  observation(): Observation {
    const { acceptQueueMax = 100, kernels, pinsFree } = this.options;
    const demands = this.demands();
    const open: number[] = new Array(kernels).fill(0);
    const begun: number[] = new Array(kernels).fill(0);
    this.live.forEach((live, group) => {
      const kernel = this.owner[group] as number;
      open[kernel] = (open[kernel] as number) + live;
      begun[kernel] = (begun[kernel] as number) + (this.opened[group] as number);
    });
    return {
      kernels: demands.map((demand, id) => ({
        alive: this.alive[id] as boolean,
        load: Math.min(demand, 1),
        openConnections: open[id] as number,
        openedConnections: Math.floor(begun[id] as number),
        queueFill: Math.min(Math.max(demand - 1, 0), 1),
        acceptQueueMax,
        pendingConnections: 0,
        acceptedConnections: 0,
      })),
      groups: {
        owner: this.owner.slice(),
        live: this.live.slice(),
        apart: new Uint8Array(this.live.length),
        opened: Uint32Array.from(this.opened, (opened) => Math.floor(opened)),
        progress: Uint32Array.from(this.progress, (bytes) => Math.floor(bytes) % 2 ** 32),
      },
      pinsFree,
      steals: [],
      canMigrate: this.options.traffic !== undefined,
    };
  }

  /** One period: time passes, the policy is asked, its moves are made. @returns those that were. */
  step(policy: Policy): readonly Move[] {
    this.nowNs += policy.periodNs;
    this.options.rates.forEach((rate, group) => {
      this.opened[group] = (this.opened[group] as number) + (rate * policy.periodNs) / 1e9;
    });
    this.options.traffic?.forEach((bytes, group) => {
      this.progress[group] = (this.progress[group] as number) + (bytes * policy.periodNs) / 1e9;
    });
    const decision: Decision = policy.decide(this.observation(), this.#state, this.nowNs);
    this.#state = decision.state;
    const made = decision.moves.filter(({ group, wait }) => wait !== true || this.live[group] === 0);
    for (const { group, to } of made) this.owner[group] = to;
    return made;
  }
}
