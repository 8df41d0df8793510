/**
 * The owner's side of live migration: the order of a move, one at a time (docs/migration.md has the state machine).
 *
 *   survey → arrive → steer → drain → freeze → transfer → commit → gone
 *
 * Until the new kernel has committed, a refusal or a dead kernel undoes all: the device's table, the frozen
 * connections, the frames laid aside. From then on nothing can fail.
 */
import { NetPopcornError, statusError } from "../errors.ts";
import { checkInteger } from "../optionRange.ts";
import { FLOW_GROUPS } from "../layout/flowGroup.ts";
import { EOPNOTSUPP, OK } from "../layout/status.ts";
import type { PinnedFlow } from "../balancer/pins.ts";
import type { Arrival, MigrationAnswer, MigrationRequest, MoveId, PinnedTo } from "./request.ts";
import { Steal, type StealOptions, type StealOrder, tellWritten } from "./steal.ts";

const MOVE_ID_MAX = 0xffffffff;

/** What a move of a flow group with its connections has done. */
export type MigrationResult = {
  /** 0..4095. */
  readonly group: number;
  /** Kernel that has it now. */
  readonly to: number;
  /** Connections that live in the new kernel now, those in TIME-WAIT and half-open ones, too. */
  readonly connections: number;
  /** Of their records: TCBs and buffers. */
  readonly bytes: number;
  /** Frames that came to the new kernel first, and waited. */
  readonly heldFrames: number;
  /** Frames that came to the old kernel afterwards, and were forwarded. */
  readonly lateFrames: number;
  /** From the change of the device's table until the connections went on. */
  readonly durationUs: number;
};

export type MigratorOptions = StealOptions & {
  /** Numbers of kernels are below; some may not be there. */
  readonly kernels: () => number;
  readonly nowNs: () => number;
  /**
   * Takes away what keeps connections of the group in other kernels than the device's table says.
   * @returns what puts it back.
   */
  readonly unpin?: (group: number) => () => void;
  /** What unpin() takes away. */
  readonly pinned?: (group: number) => readonly PinnedFlow[];
  /** Own addresses, 16 bytes each, in the order of the kernels' configuration. Default: none, and nothing is pinned. */
  readonly addresses?: readonly Uint8Array[];
};

type Phase = "survey" | "arrive" | "drain" | "freeze" | "transfer" | "commit" | "gone";

type MoveState = {
  readonly id: number;
  readonly group: number;
  readonly to: number;
  readonly resolve: (result: MigrationResult) => void;
  readonly reject: (error: NetPopcornError) => void;
  readonly committed: () => void;
  phase: Phase;
  /** Kernels that have connections of the group, or had it. */
  sources: number[];
  /** Kernels whose answer in this phase is awaited. */
  readonly waiting: Set<number>;
  arrivals: Arrival[];
  steered:
    | {
        readonly before: number | undefined;
        readonly atNs: number;
        readonly pinned: readonly PinnedFlow[];
        readonly repin: () => void;
      }
    | undefined;
  commitsBefore: number;
  figures: { connections: number; bytes: number; heldFrames: number; lateFrames: number; durationUs: number };
};

/** Of a move that has been undone: the kernel that forwards, and those that have not said yet that all is as before. */
type Undone = {
  readonly id: MoveId;
  readonly group: number;
  readonly kernelId: number;
  readonly staying: Set<number>;
};

export class Migrator {
  readonly #options: MigratorOptions;
  /** Kernels do one thing at a time, be it a move or a steal. */
  readonly #queue: (MoveState | Steal)[] = [];
  #active: MoveState | undefined;
  #stealing: Steal | undefined;
  /** Committed moves whose late frames are still forwarded. */
  readonly #ending = new Set<MoveState>();
  /** Steals that are over, but for late frames that are still forwarded; and the same of moves that were undone. */
  #forwarding: Steal[] = [];
  readonly #undone = new Set<Undone>();
  #lastId = 0;
  #closed = false;

  constructor(options: MigratorOptions) {
    this.#options = options;
  }

  /** Moves waiting or being made. */
  get pending(): number {
    return this.#queue.length + (this.#active || this.#stealing ? 1 : 0);
  }

  /** The group is on its way, or its old kernels still forward late frames, which must not be new ones. */
  isMoving(group: number): boolean {
    return this.#stealing?.touches(group) === true || this.isGroupMoving(group);
  }

  /** The same, but for steals: migrate() waits for their end. */
  isGroupMoving(group: number): boolean {
    if (this.#active?.group === group) return true;
    for (const move of this.#ending) if (move.group === group) return true;
    return false;
  }

  /**
   * True while the kernel would take a new connection of the group for a late frame of one that has gone elsewhere, or
   * has not come after all.
   */
  forwards(kernelId: number, group: number): boolean {
    for (const undone of this.#undone) if (undone.kernelId === kernelId && undone.group === group) return true;
    return this.#forwarding.some((steal) => steal.forwards(kernelId, group));
  }

  /** Connections of the kernel may be frozen, to be stolen. */
  isStealingFrom(kernelId: number): boolean {
    return this.#stealing?.order.from === kernelId;
  }

  /** As forwards(), by the group's entry of the device's placement. */
  forwardsEntry(kernelId: number, entry: number): boolean {
    const { placement } = this.#options.device;
    for (const undone of this.#undone) {
      if (undone.kernelId === kernelId && placement?.entryOfGroup?.(undone.group) === entry) return true;
    }
    return this.#forwarding.some((steal) => steal.forwardsEntry(kernelId, entry));
  }

  /** As isMoving() and isGroupMoving(), by the group's entry of the device's placement. */
  isMovingEntry(entry: number): boolean {
    return this.#stealing?.touchesEntry(entry) === true || this.isGroupMovingEntry(entry);
  }

  isGroupMovingEntry(entry: number): boolean {
    const { placement } = this.#options.device;
    for (const { group } of [...(this.#active ? [this.#active] : []), ...this.#ending]) {
      if (placement?.entryOfGroup?.(group) === entry) return true;
    }
    return false;
  }

  /**
   * Moves a flow group with all its connections to kernel `to`. Fulfilled when the old kernels no longer forward.
   * @throws NetPopcornError ERR_OPTION_RANGE, EOPNOTSUPP (the device has no flow groups), ERR_MIGRATION_PINNED
   * (a connection's application cannot follow), ENOBUFS (no room there), EADDRINUSE, ERR_KERNEL_DOWN,
   * ERR_STACK_CLOSED: everything is as it was.
   * @param settled called once the connections go on in the new kernel, or are not moved: before the promise settles.
   */
  migrate(group: number, to: number, settled?: (refusal?: Error) => void): Promise<MigrationResult> {
    const { device, kernels, isUp } = this.#options;
    return new Promise((resolve, reject) => {
      checkInteger("group", group, 0, (device.capabilities.flowGroups || FLOW_GROUPS) - 1);
      checkInteger("toKernel", to, 0, kernels() - 1);
      if (!device.moveFlowGroup || device.capabilities.flowGroups === 0) {
        throw new NetPopcornError("EOPNOTSUPP", "migrate: this device has no flow groups to move");
      }
      if (this.#closed) throw closedError();
      if (!isUp(to)) throw downError(to);
      this.#queue.push({
        id: this.#nextId(),
        group,
        to,
        resolve,
        reject: (error) => {
          settled?.(error);
          reject(error);
        },
        committed: () => settled?.(),
        phase: "survey",
        sources: [],
        waiting: new Set(),
        arrivals: [],
        steered: undefined,
        commitsBefore: 0,
        figures: { connections: 0, bytes: 0, heldFrames: 0, lateFrames: 0, durationUs: 0 },
      });
      this.#next();
    });
  }

  /** Connections that wait to be accepted move to another kernel (steal.ts). */
  steal(order: StealOrder): void {
    if (this.#closed) return;
    const steal = new Steal(this.#nextId(), order, this.#options, () => {
      if (this.#stealing === steal) this.#stealing = undefined;
      this.#forwarding = this.#forwarding.filter((other) => other.isForwarding);
      if (steal.isForwarding) this.#forwarding.push(steal);
      this.#next();
    });
    this.#queue.push(steal);
    this.#next();
  }

  #nextId(): MoveId {
    this.#lastId = this.#lastId < MOVE_ID_MAX ? this.#lastId + 1 : 1;
    return this.#lastId;
  }

  /** A kernel has ended: nothing more comes from it. */
  kernelDown(kernelId: number): void {
    this.#stealing?.kernelDown(kernelId);
    for (const steal of this.#forwarding) steal.kernelDown(kernelId);
    for (const undone of [...this.#undone]) {
      if (undone.kernelId === kernelId) this.#undone.delete(undone);
      else this.#stays(undone, kernelId);
    }
    for (const move of [...this.#ending]) this.#goneAnswer(move, kernelId, { status: OK });
    const move = this.#active;
    if (!move || (move.to !== kernelId && !move.sources.includes(kernelId) && !move.waiting.has(kernelId))) return;
    // The new kernel may have committed, and died before it could say so: its memory tells.
    if (move.to === kernelId && move.phase === "commit" && this.#hasCommitted(move)) {
      this.#committed(move, { status: OK });
      return;
    }
    if (move.phase === "commit" && move.to !== kernelId) {
      // A source is no longer needed: the answer to the commit decides.
      move.sources = move.sources.filter((source) => source !== kernelId);
      return;
    }
    this.#undo(move, downError(kernelId));
  }

  close(): void {
    this.#closed = true;
    this.#stealing?.close();
    for (const waiting of this.#queue.splice(0)) {
      if (waiting instanceof Steal) waiting.close();
      else waiting.reject(closedError());
    }
    const move = this.#active;
    this.#active = undefined;
    move?.reject(closedError());
    for (const { resolve, group, to, figures } of this.#ending) resolve({ group, to, ...figures });
    this.#ending.clear();
  }

  #next(): void {
    if (this.#active || this.#stealing) return;
    const move = this.#queue.shift();
    if (!move) return;
    if (move instanceof Steal) {
      this.#stealing = move;
      move.begin();
      return;
    }
    this.#active = move;
    if (!this.#options.isUp(move.to)) {
      this.#end(move, () => move.reject(downError(move.to)));
      return;
    }
    const others = this.#others(move.to);
    if (others.length === 0) {
      // Nobody else can have anything of the group.
      this.#options.device.moveFlowGroup?.(move.group, move.to);
      move.committed();
      this.#end(move, () => move.resolve({ group: move.group, to: move.to, ...move.figures }));
      return;
    }
    this.#askAll(move, "survey", others, () => ({ ask: "survey", group: move.group }));
  }

  #others(to: number): number[] {
    const { kernels, isRunning } = this.#options;
    // One that is about to leave has connections still.
    return Array.from({ length: kernels() }, (_, kernelId) => kernelId).filter((id) => id !== to && isRunning(id));
  }

  /** Enters a phase: all of `kernels` are asked, and advance() follows when all have answered. */
  #askAll(
    move: MoveState,
    phase: Phase,
    kernels: readonly number[],
    request: (kernelId: number) => MigrationRequest,
  ): void {
    move.phase = phase;
    for (const kernelId of kernels) move.waiting.add(kernelId);
    // Answers may come at once, and the move may be over before the loop is.
    for (const kernelId of kernels) {
      if (this.#active !== move || move.phase !== phase) return;
      this.#options.ask(kernelId, request(kernelId), (answer) => this.#answered(move, phase, kernelId, answer));
    }
    if (kernels.length === 0) this.#advance(move);
  }

  #answered(move: MoveState, phase: Phase, kernelId: number, answer: MigrationAnswer): void {
    // What has been given up is not gone on with.
    if (this.#active !== move || move.phase !== phase || !move.waiting.delete(kernelId)) return;
    if (answer.status < 0) {
      this.#undo(move, refusalError(answer.status, move));
      return;
    }
    if (phase === "survey" && this.#isSource(move, kernelId, answer)) move.sources.push(kernelId);
    if (phase === "freeze" && answer.arrival) move.arrivals.push(answer.arrival);
    if (phase === "transfer" && kernelId === move.to) {
      move.figures.connections += answer.connections ?? 0;
      move.figures.bytes = answer.bytes ?? 0;
    }
    if (phase === "commit") this.#committed(move, answer);
    else if (move.waiting.size === 0) this.#advance(move);
  }

  /** A group that the device leaves to its hash may have something on its way into any kernel. */
  #isSource({ group }: MoveState, kernelId: number, { connections = 0 }: MigrationAnswer): boolean {
    return connections > 0 || (this.#options.device.flowGroupQueue?.(group) ?? kernelId) === kernelId;
  }

  #advance(move: MoveState): void {
    const { group, id, sources, to } = move;
    switch (move.phase) {
      case "survey":
        this.#askAll(move, "arrive", [to], () => ({ ask: "arrive", move: id, group }));
        break;
      case "arrive":
        this.#steer(move, () => this.#askAll(move, "drain", sources, () => ({ ask: "drain", group })));
        break;
      case "drain":
        this.#askAll(move, "freeze", sources, () => ({ ask: "freeze", group, to }));
        break;
      case "freeze":
      case "transfer":
        this.#transferNext(move);
        break;
    }
  }

  /** @param then called when the device's tables are so, unless the move has been given up. */
  #steer(move: MoveState, then: () => void): void {
    const { device, isRunning, nowNs, pinned: pinnedOf, unpin } = this.#options;
    const before = device.flowGroupQueue?.(move.group);
    const pinned = (pinnedOf?.(move.group) ?? []).filter(({ kernel }) => isRunning(kernel));
    // A filter whose connection has ended may bring the next of its ports, after the survey.
    for (const { kernel } of pinned) {
      if (kernel !== move.to && !move.sources.includes(kernel)) move.sources.push(kernel);
    }
    // In this order nothing is brought home that lives elsewhere.
    device.moveFlowGroup?.(move.group, move.to);
    const repin = unpin?.(move.group) ?? (() => {});
    move.steered = { before, atNs: nowNs(), pinned, repin };
    if (!device.commitTables) then();
    else device.commitTables(() => this.#active === move && move.phase === "arrive" && then());
  }

  /** One source after the other: the new kernel reads one stream at a time. */
  #transferNext(move: MoveState): void {
    const { id, to, arrivals, group } = move;
    const done = move.phase === "freeze" ? 0 : this.#transferred + 1;
    this.#transferred = done;
    const source = move.sources[done];
    if (source === undefined) {
      move.commitsBefore = this.#options.commitsOf(to);
      this.#askAll(move, "commit", [to], () => ({ ask: "commit", group, arrivals }));
      return;
    }
    move.phase = "transfer";
    this.#askAll(move, "transfer", [to, source], (kernelId) =>
      kernelId === to ? { ask: "receive", move: id, from: source } : { ask: "transfer", move: id, to },
    );
  }

  /** Index of the source whose stream is on its way. */
  #transferred = 0;

  #hasCommitted({ to, commitsBefore }: MoveState): boolean {
    return this.#options.commitsOf(to) !== commitsBefore;
  }

  #committed(move: MoveState, { frames = 0 }: MigrationAnswer): void {
    const { nowNs, ask, unpin } = this.#options;
    // Somebody may have pinned a connection to its old kernel while it was on its way.
    unpin?.(move.group);
    move.figures.heldFrames = frames;
    move.figures.durationUs = (nowNs() - (move.steered?.atNs ?? nowNs())) / 1000;
    move.phase = "gone";
    move.waiting.clear();
    for (const source of move.sources) move.waiting.add(source);
    this.#ending.add(move);
    for (const source of move.sources) {
      ask(source, { ask: "gone", group: move.group }, (answer) => this.#goneAnswer(move, source, answer));
    }
    move.committed();
    this.#resolveIfOver(move);
    this.#end(move, () => {});
  }

  #goneAnswer(move: MoveState, kernelId: number, { frames = 0 }: MigrationAnswer): void {
    if (!this.#ending.has(move) || !move.waiting.delete(kernelId)) return;
    move.figures.lateFrames += frames;
    this.#resolveIfOver(move);
  }

  #resolveIfOver(move: MoveState): void {
    if (move.waiting.size > 0 || !this.#ending.delete(move)) return;
    move.resolve({ group: move.group, to: move.to, ...move.figures });
  }

  /** Everything as it was. */
  #undo(move: MoveState, error: NetPopcornError): void {
    const { device, isRunning, ask } = this.#options;
    const { id, group, to, steered } = move;
    move.waiting.clear();
    // Wherever it is now: if its new kernel has died, it is a stand-in's, but its connections stay where they were.
    const before = steered?.before;
    const goesBack = steered !== undefined && (before === undefined || isRunning(before));
    steered?.repin();
    if (goesBack) device.moveFlowGroup?.(group, before);
    if (move.phase !== "survey") {
      const undone = { id, group, kernelId: to, staying: new Set(move.sources.filter((source) => isRunning(source))) };
      for (const source of [...undone.staying]) {
        ask(source, { ask: "stay", group }, () => this.#stays(undone, source));
      }
      // A group that has nowhere to go back to is at home where it is.
      const back = goesBack ? before : undefined;
      const pinned = this.#named(steered?.pinned ?? []);
      if (isRunning(to)) {
        this.#undone.add(undone);
        ask(to, { ask: "cancel", move: id, group, back, pinned }, () => this.#undone.delete(undone));
        if (undone.staying.size === 0) tellWritten(this.#options, to, id);
      }
    }
    this.#end(move, () => move.reject(error));
  }

  /** Filters of the kernel's own lead to it again, or it has ended. */
  #stays(undone: Undone, kernelId: number): void {
    const { id, kernelId: to, staying } = undone;
    if (!staying.delete(kernelId) || staying.size > 0 || !this.#undone.has(undone)) return;
    tellWritten(this.#options, to, id);
  }

  /** As kernels call them, of those that are still there. */
  #named(flows: readonly PinnedFlow[]): PinnedTo[] {
    const { addresses = [], isRunning } = this.#options;
    const indexOf = (local: Uint8Array) => addresses.findIndex((own) => own.every((byte, i) => byte === local[i]));
    return flows
      .filter(({ kernel }) => isRunning(kernel))
      .map(({ remote, remotePort, local, localPort, kernel }) => {
        return { flow: { remote, remotePort, localIndex: indexOf(local), localPort }, kernel };
      })
      .filter(({ flow }) => flow.localIndex >= 0);
  }

  #end(move: MoveState, settle: () => void): void {
    if (this.#active === move) this.#active = undefined;
    settle();
    this.#next();
  }
}

function closedError(): NetPopcornError {
  return new NetPopcornError("ERR_STACK_CLOSED", "migrate: the stack is being closed");
}

function downError(kernelId: number): NetPopcornError {
  return new NetPopcornError("ERR_KERNEL_DOWN", `migrate: kernel ${kernelId} is down; everything else is as it was`);
}

function refusalError(status: number, { group, to }: MoveState): NetPopcornError {
  const what = `migrate flow group ${group} to kernel ${to}`;
  if (status !== EOPNOTSUPP) return statusError(status, what);
  return new NetPopcornError(
    "ERR_MIGRATION_PINNED",
    `${what}: a connection's application cannot follow; give its kernel a hook with handles.onHandOver`,
    { errno: status },
  );
}
