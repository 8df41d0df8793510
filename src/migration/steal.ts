/**
 * The owner's side of a steal: connections that wait to be accepted in one kernel move to another, while their groups
 * stay where they are (docs/migration.md, Stealing).
 *
 *   freeze → expect → pin → transfer → commit → gone
 *
 * As in a move of a group, a refusal or a dead kernel undoes all until the new kernel has committed; from then on
 * nothing can fail. Then the old kernel forwards late frames of these flows for a while, or, if all was undone, the
 * thief: until it has ceased to, nothing may bring the next connection of such a flow there (`released`, forwards()).
 */
import type { PinnedFlow } from "../balancer/pins.ts";
import { OK } from "../layout/status.ts";
import type { Device } from "../device/device.ts";
import type { Flow, MigrationAnswer, MigrationRequest, MoveId, Reply } from "./request.ts";

/** What a steal, as a move, needs of the stack. */
export type StealOptions = {
  readonly device: Device;
  /** It is there and stays: groups may go to it. */
  readonly isUp: (kernelId: number) => boolean;
  /** It takes turns: it is up, or about to leave. */
  readonly isRunning: (kernelId: number) => boolean;
  /** Has a kernel answer a request; without an answer where it dies. */
  readonly ask: (kernelId: number, request: MigrationRequest, reply: Reply) => void;
  /** Commits so far in a kernel, read out of its memory, dead or alive (HEALTH_MIGRATIONS). */
  readonly commitsOf: (kernelId: number) => number;
};

/** Why nothing was stolen: a kernel was not there, a connection has got no filter, or the thief did not take it. */
export type StealRefusal = "stale" | "filters" | "migration";

export type StealOutcome = { readonly connections: number; readonly refusal?: StealRefusal };

/** A steal, and what has the device bring its connections to the thief. */
export type StealOrder = {
  readonly from: number;
  readonly to: number;
  /** At most so many are stolen. */
  readonly connections: number;
  /** Of how many of the stack's addresses. */
  readonly addresses: number;
  /** What the stack calls a kernel's connection, pinned to the thief. */
  readonly nameFlow: (flow: Flow, to: number) => PinnedFlow;
  /** @returns false: there is no filter left. */
  readonly pin: (flow: PinnedFlow) => boolean;
  /** The connection stays after all, or has died with its kernel. */
  readonly unpin: (flow: PinnedFlow) => void;
  /** Called once, when the connections live in the thief or none do. */
  readonly settled: (outcome: StealOutcome) => void;
  /** Called once, later: no kernel forwards late frames of these flows any more. */
  readonly released: () => void;
};

type Phase = "freeze" | "expect" | "pin" | "transfer" | "commit" | "over";

export class Steal {
  readonly id: MoveId;
  readonly order: StealOrder;
  readonly #options: StealOptions;
  readonly #ended: () => void;
  #phase: Phase = "freeze";
  #flows: readonly PinnedFlow[] = [];
  #groups: ReadonlySet<number> = new Set();
  #pinned: PinnedFlow[] = [];
  /** Kernels whose answer in this phase is awaited. */
  readonly #waiting = new Set<number>();
  #commitsBefore = 0;
  /** The kernel that still forwards, or is asked to. */
  #forwarder: number | undefined;
  #isSettled = false;
  #isReleased = false;

  /** @param ended called when the next move can begin; what was stolen lives where it shall. */
  constructor(id: MoveId, order: StealOrder, options: StealOptions, ended: () => void) {
    this.id = id;
    this.order = order;
    this.#options = options;
    this.#ended = ended;
  }

  begin(): void {
    const { from, to, connections, addresses } = this.order;
    const { device, isUp } = this.#options;
    if (!isUp(from) || !isUp(to)) {
      this.#end({ connections: 0, refusal: "stale" });
      return;
    }
    const withV6 = device.capabilities.exactFiltersV6 !== false;
    this.#ask(from, { ask: "stealFreeze", move: this.id, to, connections, addresses, withV6 });
  }

  /** Connections of the group are on their way, or may be. */
  touches(group: number): boolean {
    if (this.#phase === "over") return false;
    if (this.#phase !== "freeze") return this.#groups.has(group);
    return this.#options.device.flowGroupQueue?.(group) === this.order.from;
  }

  /** True while the kernel takes late frames of some flow of the group elsewhere. */
  forwards(kernelId: number, group: number): boolean {
    return this.#forwarder === kernelId && this.#groups.has(group);
  }

  /** As forwards(), by an entry of the device's placement. */
  forwardsEntry(kernelId: number, entry: number): boolean {
    return this.#forwarder === kernelId && this.#hasGroupOf(entry);
  }

  get isForwarding(): boolean {
    return this.#forwarder !== undefined;
  }

  /** As touches(), by an entry of the device's placement. */
  touchesEntry(entry: number): boolean {
    const { placement } = this.#options.device;
    if (this.#phase === "over") return false;
    if (this.#phase === "freeze") return placement?.queueOf(entry) === this.order.from;
    return this.#hasGroupOf(entry);
  }

  #hasGroupOf(entry: number): boolean {
    const { placement } = this.#options.device;
    for (const group of this.#groups) if (placement?.entryOfGroup?.(group) === entry) return true;
    return false;
  }

  /** A kernel has ended: nothing more comes from it. */
  kernelDown(kernelId: number): void {
    const { from, to } = this.order;
    if (kernelId === this.#forwarder) this.#ceased();
    if (this.#phase === "over" || (kernelId !== from && kernelId !== to)) return;
    if (this.#phase === "commit") {
      // What is to be committed is whole: its old kernel is not needed any more. The memory of the new one tells.
      if (kernelId === from) return;
      if (this.#options.commitsOf(to) !== this.#commitsBefore) {
        this.#committed({ status: OK, connections: this.#flows.length });
        return;
      }
    }
    this.#undo("stale");
  }

  /** The stack is being closed. */
  close(): void {
    if (this.#phase === "over") return;
    this.#phase = "over";
    this.order.settled({ connections: 0, refusal: "stale" });
  }

  #ask(kernelId: number, request: MigrationRequest): void {
    const phase = this.#phase;
    this.#waiting.add(kernelId);
    this.#options.ask(kernelId, request, (answer) => {
      if (this.#phase !== phase || !this.#waiting.delete(kernelId)) return;
      this.#answered(kernelId, answer);
    });
  }

  #answered(kernelId: number, answer: MigrationAnswer): void {
    if (answer.status < 0) {
      this.#undo("migration");
      return;
    }
    switch (this.#phase) {
      case "freeze":
        this.#frozen(answer.flows ?? []);
        break;
      case "expect":
        this.#pin();
        break;
      case "transfer":
        if (this.#waiting.size === 0) this.#commit();
        break;
      case "commit":
        if (kernelId === this.order.to) this.#committed(answer);
        break;
    }
  }

  #frozen(flows: readonly Flow[]): void {
    const { to, nameFlow } = this.order;
    // All have been accepted, or have ended, before it was asked.
    if (flows.length === 0) {
      this.#end({ connections: 0 });
      return;
    }
    this.#flows = flows.map((flow) => nameFlow(flow, to));
    this.#groups = new Set(this.#flows.map(({ group }) => group));
    this.#phase = "expect";
    this.#ask(to, { ask: "stealExpect", move: this.id, flows });
  }

  #pin(): void {
    const { device } = this.#options;
    this.#phase = "pin";
    for (const flow of this.#flows) {
      if (!this.order.pin(flow)) {
        this.#undo("filters");
        return;
      }
      this.#pinned.push(flow);
    }
    const decided = (areSet: boolean) => {
      if (this.#phase !== "pin") return;
      if (areSet) this.#transfer();
      else this.#undo("filters");
    };
    // Only then: what still came the old way after the forwarding has ended would be reset.
    if (device.whenFiltersSet) device.whenFiltersSet(this.#flows, decided);
    else decided(true);
  }

  #transfer(): void {
    const { from, to } = this.order;
    this.#phase = "transfer";
    // Both are awaited, whoever answers first.
    this.#waiting.add(from);
    this.#ask(to, { ask: "receive", move: this.id, from });
    if (this.#phase === "transfer") this.#ask(from, { ask: "transfer", move: this.id, to });
  }

  #commit(): void {
    const { from, to } = this.order;
    this.#phase = "commit";
    this.#commitsBefore = this.#options.commitsOf(to);
    this.#ask(to, { ask: "stealCommit", move: this.id, from });
  }

  #committed({ connections = 0 }: MigrationAnswer): void {
    const { from } = this.order;
    this.#phase = "over";
    if (this.#options.isRunning(from)) this.#forward(from, { ask: "stealGone", move: this.id });
    this.#end({ connections });
  }

  /** Everything as it was. */
  #undo(refusal: StealRefusal): void {
    const { from, to, unpin } = this.order;
    const { ask, isRunning } = this.#options;
    const thiefKnows = this.#phase !== "freeze";
    this.#phase = "over";
    const lives = isRunning(from);
    if (lives) ask(from, { ask: "stealStay", move: this.id }, () => {});
    for (const flow of this.#pinned) unpin(flow);
    if (thiefKnows && isRunning(to)) {
      this.#forward(to, { ask: "stealCancel", move: this.id, back: lives ? from : undefined });
      tellWritten(this.#options, to, this.id);
    }
    this.#end({ connections: 0, refusal });
  }

  /** @param request answered when the kernel forwards no longer. */
  #forward(kernelId: number, request: MigrationRequest): void {
    this.#forwarder = kernelId;
    this.#options.ask(kernelId, request, () => this.#forwarder === kernelId && this.#ceased());
  }

  #ceased(): void {
    this.#forwarder = undefined;
    this.#release();
  }

  /** After `settled`, whichever comes first. */
  #release(): void {
    if (!this.#isSettled || this.#isReleased || this.#forwarder !== undefined) return;
    this.#isReleased = true;
    this.order.released();
  }

  #end(outcome: StealOutcome): void {
    this.#phase = "over";
    this.order.settled(outcome);
    this.#isSettled = true;
    this.#release();
    this.#ended();
  }
}

/** The kernel forwards what comes for a cancelled move until the tables say so, and for a while after. */
export function tellWritten({ ask, device }: StealOptions, kernelId: number, move: MoveId): void {
  const tell = () => ask(kernelId, { ask: "written", move }, () => {});
  // Also the filters that the undoing has set again: until then the device still brings their flows to this kernel.
  if (device.whenWritten) device.whenWritten(tell);
  else tell();
}
