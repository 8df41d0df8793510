/** The steals of a balancer: what a policy wants stolen becomes orders, and their outcomes numbers. */
import type { ReplyTuple } from "../device/replySteering.ts";
import type { Flow } from "../migration/request.ts";
import type { StealOrder, StealOutcome } from "../migration/steal.ts";
import { flowKey, type PinnedFlow, type Pins, pairKey } from "./pins.ts";
import type { StealMove, StealObservation } from "./policy.ts";

/** Kernels find no room for more detours than that at a time (assembly/flow/detours.ts). */
const CONNECTIONS_MAX = 256;

export type StealingOptions = {
  readonly kernels: number;
  readonly pins: Pins;
  readonly addresses: readonly Uint8Array[];
  /** Missing: nothing can be stolen. */
  readonly steal: ((order: StealOrder) => void) | undefined;
  readonly isHere: (kernel: number) => boolean;
  readonly groupOf: (flow: ReplyTuple) => number;
  /** The connection lives in its kernel after all. */
  readonly pinBack: (flow: PinnedFlow) => void;
  /** The connection lives in its new kernel, and has lost its filter meanwhile. */
  readonly lost: (flow: PinnedFlow) => void;
};

type Tally = { stolen: number; refused: number; underWay: number };

type RefusedSteal = StealMove & { readonly refusal: "stale" | "filters" | "migration" };

export class Stealing {
  /** By kernel: connections stolen by it, and from it. */
  readonly stolen: number[];
  readonly stolenFrom: number[];
  readonly #options: StealingOptions;
  /** What was to be stolen, by both kernels (pairKey): one steal at a time. */
  readonly #tallies = new Map<number, StealMove & Tally>();
  readonly #onTheWay = new Map<string, PinnedFlow>();
  /** Flows whose late frames are still forwarded, and by how many kernels. */
  readonly #forwarded = new Map<string, number>();
  #steals: StealMove[] = [];
  #refused: RefusedSteal[] = [];

  constructor(options: StealingOptions) {
    this.#options = options;
    this.stolen = new Array(options.kernels).fill(0);
    this.stolenFrom = new Array(options.kernels).fill(0);
  }

  get hasNews(): boolean {
    return this.#steals.length + this.#refused.length > 0;
  }

  /** What has ended since the last call. */
  news(): { steals: StealMove[]; stealsRefused: RefusedSteal[] } {
    return { steals: this.#steals.splice(0), stealsRefused: this.#refused.splice(0) };
  }

  /** Connections that are pinned to where they are not yet. */
  onTheWay(): Iterable<PinnedFlow> {
    return this.#onTheWay.values();
  }

  /** True when the flow is one of those. */
  isOnTheWay(flow: ReplyTuple): boolean {
    return this.#onTheWay.has(flowKey(flow));
  }

  /** True while some of the kernel's connections may be frozen, so that nobody sees that they live. */
  isVictim(kernel: number): boolean {
    for (const { from, underWay } of this.#tallies.values()) if (from === kernel && underWay > 0) return true;
    return false;
  }

  /**
   * True while some kernel forwards what comes late for the flow. Its filter has to outlive that: the peer's next
   * connection of the same port would be taken for something late.
   */
  isForwarded(key: string): boolean {
    return this.#forwarded.has(key);
  }

  /** What the policy is told. */
  observe(): StealObservation[] {
    return [...this.#tallies.values()].map(({ from, to, stolen, refused, underWay }) => {
      return { from, to, stolen, refused, underWay };
    });
  }

  /**
   * Between kernels where a steal goes on no other begins, which is no refusal.
   * @param isShort filters have been refused just now.
   */
  begin(steals: readonly StealMove[], nowNs: number, isShort: boolean): void {
    for (const wanted of steals) {
      if ((this.#tallies.get(pairKey(wanted.from, wanted.to))?.underWay ?? 0) > 0) continue;
      const refusal = this.#whyNot(wanted, isShort);
      if (refusal) this.#refused.push({ ...wanted, refusal });
      else this.#order(wanted, nowNs);
    }
  }

  #whyNot({ from, to, connections }: StealMove, isShort: boolean): RefusedSteal["refusal"] | undefined {
    const { isHere, pins, steal } = this.#options;
    if (!steal || from === to || !(connections > 0) || !isHere(from) || !isHere(to)) return "stale";
    return isShort || pins.free === 0 ? "filters" : undefined;
  }

  #order(wanted: StealMove, nowNs: number): void {
    const { addresses, groupOf, lost, pinBack, pins, steal } = this.#options;
    const { from, to } = wanted;
    const key = pairKey(from, to);
    const connections = Math.min(Math.max(Math.floor(wanted.connections), 1), pins.free, CONNECTIONS_MAX);
    const tally = this.#tallies.get(key) ?? { ...wanted, stolen: 0, refused: 0, underWay: 0 };
    const pinned = new Map<string, PinnedFlow>();
    tally.underWay = connections;
    this.#tallies.set(key, tally);
    steal?.({
      from,
      to,
      connections,
      addresses: addresses.length,
      nameFlow: ({ remote, remotePort, localIndex, localPort }: Flow): PinnedFlow => {
        const tuple = { remote, remotePort, local: addresses[localIndex] as Uint8Array, localPort };
        return { ...tuple, kernel: to, group: groupOf(tuple) };
      },
      pin: (flow) => {
        if (!pins.add(flow, nowNs)) return false;
        pinned.set(flowKey(flow), flow);
        this.#onTheWay.set(flowKey(flow), flow);
        return true;
      },
      unpin: (flow) => pinBack({ ...flow, kernel: from }),
      settled: (outcome) => {
        tally.underWay = 0;
        tally.stolen += outcome.connections;
        if (outcome.refusal === "migration") tally.refused++;
        for (const key of pinned.keys()) this.#onTheWay.delete(key);
        for (const key of pinned.keys()) this.#forwarded.set(key, (this.#forwarded.get(key) ?? 0) + 1);
        if (outcome.connections > 0) for (const flow of pinned.values()) if (!pins.holds(flow)) lost(flow);
        this.#settled(wanted, outcome);
      },
      released: () => {
        for (const key of pinned.keys()) {
          const left = (this.#forwarded.get(key) as number) - 1;
          if (left > 0) this.#forwarded.set(key, left);
          else this.#forwarded.delete(key);
        }
      },
    });
  }

  #settled(wanted: StealMove, { connections, refusal }: StealOutcome): void {
    const { from, to } = wanted;
    if (refusal) this.#refused.push({ ...wanted, refusal });
    if (connections === 0) return;
    this.#steals.push({ from, to, connections });
    this.stolen[to] = (this.stolen[to] as number) + connections;
    this.stolenFrom[from] = (this.stolenFrom[from] as number) + connections;
  }
}
