/**
 * Two stacks of several kernels each on one segment, in virtual time: the real kernels under the real supervisor,
 * re-homing, balancer, port registry and sockets, driven by hand. Kernels can be made to stand still, to trap and to
 * be killed. What happens, and when, is a function of the seed.
 */
import type { StealMove } from "../../../src/balancer/policy.ts";
import type { Card, CardOptions } from "../../../src/device/card/card.ts";
import type { Impairments } from "../../../src/device/card/impairment.ts";
import { createSegment, type Segment } from "../../../src/device/card/segment.ts";
import type { DevicePort } from "../../../src/device/device.ts";
import { NetPopcornError } from "../../../src/errors.ts";
import type { KernelHost } from "../../../src/kernel/host.ts";
import type { KernelReason } from "../../../src/kernel/supervisor.ts";
import { Prng } from "../../../src/sim/prng.ts";
import type { Sockets } from "../../../src/socket/sockets.ts";
import { createStack } from "../../../src/stack.ts";
import type { Stack, StackOptions } from "../../../src/types.ts";
import type { ModuleBuild } from "../../../src/wasm/load.ts";
import { FrameChecker, RingObserver } from "../checkers.ts";

export const CLIENT = 0;
export const SERVER = 1;
export const ADDRESSES = ["10.7.0.1", "10.7.0.2"] as const;
const NAMES = ["client", "server"] as const;
/** More than the longest chain of promises between the end of a kernel and its next life. */
const PROMISE_HOPS = 12;
/** Turns at one instant; more means that the kernels keep each other awake without end. */
const TURNS_PER_INSTANT_MAX = 50_000;

export type SideOptions = {
  readonly card: CardOptions;
  readonly stack: Omit<StackOptions, "device" | "address" | "drive" | "mode">;
};

export type StageOptions = {
  readonly seed: number;
  readonly build: ModuleBuild;
  readonly impairments: Impairments;
  /** The client's, then the server's. */
  readonly sides: readonly [SideOptions, SideOptions];
  /** One line per event. */
  readonly trace: ((line: string) => void) | undefined;
};

/** One of the two stacks. */
export type Side = {
  readonly name: string;
  readonly stack: Stack;
  readonly sockets: Sockets;
  readonly card: Card;
  /** Kernels that have ended so far, by reason. */
  readonly ended: Record<string, number>;
  /** How many of them owned the device and the registry of ports. */
  readonly ownersEnded: () => number;
};

/** How one life of a kernel is driven. */
type Drive = {
  /** It takes no turn before this instant. */
  stillUntilNs: number;
  trapDue: boolean;
};

export class Stage {
  nowNs = 0;
  readonly segment: Segment;
  readonly sides: Side[] = [];
  readonly checker: FrameChecker;
  /** Called after every turn of a kernel. */
  onTurn: ((side: number, host: KernelHost) => void) | undefined;
  /** Called when connections have been stolen, before any kernel's turn. */
  onSteal: ((side: number, steal: StealMove) => void) | undefined;
  /** Called when a kernel has ended, and when one is back. */
  onKernel: ((side: number, kernelId: number, reason: KernelReason, host: KernelHost) => void) | undefined;
  readonly #options: StageOptions;
  readonly #order: Prng;
  readonly #drives = new WeakMap<KernelHost, Drive>();
  /** Kernels of each side that are down. */
  readonly #ended: readonly Set<number>[] = [new Set(), new Set()];
  /** What has been driven last in each place. */
  readonly #known: KernelHost[][] = [[], []];
  /** The first thing that an application has thrown. */
  #failure: unknown;
  /** Something was asked for that goes on in promises. */
  #promisesDue = true;

  private constructor(options: StageOptions, segment: Segment) {
    this.#options = options;
    this.segment = segment;
    this.#order = new Prng(options.seed, 900);
    this.checker = new FrameChecker(options.trace, false);
  }

  static async create(options: StageOptions): Promise<Stage> {
    const queues = options.sides.map(({ card }) => card.queues ?? 1);
    const segment = await createSegment({
      shared: false,
      // No port to spare: one that a dead kernel keeps would be missed by the next.
      portsMax: Math.max(2, (queues[0] as number) + (queues[1] as number)),
      seed: options.seed,
      impairments: options.impairments,
    });
    const stage = new Stage(options, segment);
    for (const side of options.sides.keys()) await stage.#addSide(side);
    // Events are held back until those who create a stack can have attached listeners.
    await new Promise((resolve) => setTimeout(resolve));
    return stage;
  }

  trace(who: string, what: string): void {
    this.#options.trace?.(`${(this.nowNs / 1e6).toFixed(3).padStart(12)} ms ${who} ${what}`);
  }

  /** Kernels of a side that are up. */
  hostsUp(side: number): KernelHost[] {
    const { stack } = this.sides[side] as Side;
    return stack.kernels.filter((host) => this.#isUp(side, host));
  }

  /** The kernel takes no turn before `untilNs`; Infinity: never again. */
  holdStill(host: KernelHost, untilNs: number): void {
    this.#drive(host).stillUntilNs = untilNs;
  }

  isStill(host: KernelHost): boolean {
    return this.#drive(host).stillUntilNs > this.nowNs;
  }

  /** The kernel traps when it next has an event to tell. */
  trapSoon(host: KernelHost): void {
    this.#drive(host).trapDue = true;
  }

  kill(side: number, kernelId: number): void {
    this.#promisesDue = true;
    try {
      (this.sides[side] as Side).stack.killKernel(kernelId);
    } catch (error) {
      // It is leaving already.
      if (!(error instanceof NetPopcornError && error.code === "ERR_NO_SUCH_KERNEL")) throw error;
    }
  }

  /** @returns what it has come to: "" when it was done, else the code of the refusal. */
  async ask(who: string, what: string, call: (stack: Stack) => Promise<unknown>, side: number): Promise<string> {
    this.#promisesDue = true;
    let outcome = "";
    try {
      await call((this.sides[side] as Side).stack);
    } catch (error) {
      if (!(error instanceof NetPopcornError)) throw error;
      outcome = error.code;
    }
    this.#promisesDue = true;
    this.trace(who, `${what}: ${outcome || "done"}`);
    return outcome;
  }

  /** Promises are to be given time: an asynchronous call of the API has been made. */
  awaitPromises(): void {
    this.#promisesDue = true;
  }

  /**
   * Runs until `done` or `limitNs`.
   * @param next when the caller has something to do, ns. @param act does it.
   * @returns false when the time was up. @throws what an application or a checker has thrown.
   */
  async run(done: () => boolean, limitNs: number, next: () => number, act: (nowNs: number) => void): Promise<boolean> {
    for (;;) {
      if (next() <= this.nowNs) act(this.nowNs);
      await this.#runInstant();
      if (done()) return true;
      const deadline = Math.min(next(), ...this.sides.map(({ stack }) => stack.nextDeadlineNs()));
      if (deadline > limitNs) return false;
      this.nowNs = Math.max(this.nowNs + 1, Math.ceil(deadline));
    }
  }

  /** Closes everything. Nothing of the stacks is left in the segment then, or this throws. */
  async close(): Promise<void> {
    await Promise.all(this.sides.map(({ stack }) => stack.close({ drainMs: 0 })));
    for (const { card, name } of this.sides) {
      await card.close();
      const { filterCount } = card.registers;
      if (filterCount > 0) throw new Error(`${name}: ${filterCount} exact filters are left in the card after the end`);
    }
    await this.segment.close();
  }

  async #addSide(index: number): Promise<void> {
    const { seed, build, sides } = this.#options;
    const { card: cardOptions, stack: stackOptions } = sides[index] as SideOptions;
    const name = NAMES[index] as string;
    const card = this.segment.createCard(cardOptions);
    const stack = await createStack({
      ...stackOptions,
      device: this.#observed(card, name),
      address: `${ADDRESSES[index]}/24`,
      seed: `${seed} ${name}`,
      drive: "manual",
      moduleBuild: build,
    });
    const { sockets } = stack;
    if (!sockets) throw new Error("inline stacks have sockets");
    let ownersEnded = 0;
    const side: Side = { name, stack, sockets, card, ended: {}, ownersEnded: () => ownersEnded };
    const ended = this.#ended[index] as Set<number>;
    this.sides.push(side);
    stack.on("kernel", ({ kernelId, state, reason, error }) => {
      this.trace(`${name}${kernelId}`, `${state} (${reason}${error ? `: ${error.message}` : ""})`);
      if (state === "down") side.ended[reason] = (side.ended[reason] ?? 0) + 1;
      // What the dead kernel has last heard: the others have got another view by now.
      const last = (this.#known[index] as KernelHost[])[kernelId];
      if (state === "down" && last?.control.owner === kernelId) ownersEnded++;
      if (state === "down") ended.add(kernelId);
      else ended.delete(kernelId);
      this.#promisesDue = true;
      this.onKernel?.(index, kernelId, reason, (this.#known[index] as KernelHost[])[kernelId] as KernelHost);
    });
    stack.on("error", ({ error, fatal }) => {
      if (!fatal) this.#failure ??= error;
    });
    stack.on("balance", ({ moves, refused, steals, stealsRefused }) => {
      for (const steal of steals) {
        this.trace(name, `kernel ${steal.to} steals ${steal.connections} of ${steal.from}`);
        this.onSteal?.(index, steal);
      }
      for (const { from, to, refusal } of stealsRefused) {
        this.trace(name, `kernel ${to} steals nothing of ${from}: ${refusal}`);
      }
      for (const { group, from, to, pin } of moves) {
        this.trace(name, `group ${group}: kernel ${from} → ${to}${pin ? ", connections pinned" : ""}`);
      }
      for (const { group, refusal } of refused) this.trace(name, `group ${group} stays: ${refusal}`);
    });
  }

  /** The card, with every frame shown to the checker before the card takes it. */
  #observed(card: Card, name: string): Card {
    const openPort: Card["openPort"] = (queue, pair) => {
      const port = card.openPort(queue, pair);
      const observer = new RingObserver(pair.tx, (bytes, at, length) =>
        this.checker.see(this.nowNs, `${name}${queue}`, bytes, at, length),
      );
      const transmit: DevicePort["transmit"] = (nowNs) => {
        observer.observe();
        return port.transmit(nowNs);
      };
      return withMembers(port, { transmit });
    };
    return withMembers(card, { openPort });
  }

  #isUp(side: number, host: KernelHost): boolean {
    const { stack } = this.sides[side] as Side;
    // A kernel that has ended stands in its place until the next has come.
    return stack.kernels[host.kernelId] === host && !(this.#ended[side] as Set<number>).has(host.kernelId);
  }

  #drive(host: KernelHost): Drive {
    const drive = this.#drives.get(host);
    if (!drive) throw new Error(`kernel ${host.kernelId} is not driven yet`);
    return drive;
  }

  /** Puts our hand on kernels that have come since the last time. @returns whether there were any. */
  #adopt(): boolean {
    let found = false;
    for (const [side, { stack }] of this.sides.entries()) {
      const known = this.#known[side] as KernelHost[];
      for (const [kernelId, host] of stack.kernels.entries()) {
        if (known[kernelId] === host) continue;
        known[kernelId] = host;
        this.#takeHold(side, host);
        found = true;
      }
    }
    return found;
  }

  #takeHold(side: number, host: KernelHost): void {
    const drive: Drive = { stillUntilNs: 0, trapDue: false };
    this.#drives.set(host, drive);
    const turn = host.turn.bind(host);
    const nextDeadlineNs = host.nextDeadlineNs.bind(host);
    host.turn = (nowNs) => {
      if (nowNs < drive.stillUntilNs) return false;
      const busy = turn(nowNs);
      this.onTurn?.(side, host);
      return busy;
    };
    host.nextDeadlineNs = () => (this.nowNs < drive.stillUntilNs ? drive.stillUntilNs : nextDeadlineNs());
    host.handles.onEvents((words, first) => {
      // An address far outside the memory, from inside the kernel: the engine traps.
      if (drive.trapDue) host.exports.tcpGetInfo(words[first] as number, 0xffffff00);
    });
  }

  /** Stacks, and kernels by themselves, in random order until none has anything to do at this instant. */
  async #runInstant(): Promise<void> {
    for (let turns = 0; ; turns++) {
      if (turns > TURNS_PER_INSTANT_MAX) throw new Error("the kernels keep each other busy without end");
      let busy = this.#adopt();
      const first = this.#order.below(2);
      for (const side of [first, 1 - first]) {
        if ((this.sides[side] as Side).stack.turn(this.nowNs)) busy = true;
      }
      if (this.#promisesDue) {
        this.#promisesDue = false;
        busy = true;
        await new Promise((resolve) => setImmediate(resolve));
      }
      // Kernels are ended and started again in promises.
      for (let hop = 0; hop < PROMISE_HOPS && !busy; hop++) await undefined;
      if (this.#failure) throw this.#failure;
      if (!busy && !this.#promisesDue && !this.#adopt()) return;
    }
  }
}

/** `target` with some of its members replaced. Not a Proxy: tables of the card are read entry by entry. */
function withMembers<T extends object>(target: T, replaced: Partial<T>): T {
  const copy: object = {};
  for (let level = target; level !== Object.prototype; level = Object.getPrototypeOf(level) as T) {
    for (const key of Object.getOwnPropertyNames(level)) {
      if (key === "constructor" || Object.hasOwn(copy, key)) continue;
      const value = Reflect.get(target, key) as unknown;
      if (typeof value === "function")
        Object.defineProperty(copy, key, { value: value.bind(target), configurable: true });
      else Object.defineProperty(copy, key, { get: () => Reflect.get(target, key) as unknown, configurable: true });
    }
  }
  for (const [key, value] of Object.entries(replaced)) Object.defineProperty(copy, key, { value });
  return copy as T;
}
