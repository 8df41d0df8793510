/**
 * The accept queues of a stack against a plain model: of each connection whose handshake is over, which kernel has
 * completed it, and when. An accept must return one than which none that waits in the same kernel is older; no
 * connection is returned twice, and none is lost but with its kernel or its listener. A steal takes the oldest that can
 * go, a flow group takes its own along; wherever they come, or come back, they are as old as they were.
 */

import { affinityAccept } from "../../../src/balancer/affinityAccept.ts";
import type { Policy, StealMove } from "../../../src/balancer/policy.ts";
import { groupOfPorts, groupRuleOf } from "../../../src/device/flowGroups.ts";
import { NetPopcornError } from "../../../src/errors.ts";
import { parseAddress } from "../../../src/ip/address.ts";
import type { EventSink, KernelHost } from "../../../src/kernel/host.ts";
import { LATE_FRAMES_FORWARDED, MIGRATION_FRAMES_HELD, SYN_COOKIES_ACCEPTED } from "../../../src/layout/counters.ts";
import { EVENT_CLOSED, EVENT_CONNECTED } from "../../../src/layout/event.ts";
import { MAP_BASE, MAP_TCB_HIGH_WATER, MAP_TCBS, SCRATCH_BASE } from "../../../src/layout/kernelMemory.ts";
import {
  INFO_LOCAL_PORT,
  OPTION_KEEPALIVE,
  STATE_CLOSED,
  STATE_ESTABLISHED,
  STATE_FREE,
} from "../../../src/layout/option.ts";
import { TCB_FLAG_APP, TCB_FLAGS, TCB_PORTS, TCB_SIZE_BYTES, TCB_STATE } from "../../../src/layout/tcb.ts";
import { Prng } from "../../../src/sim/prng.ts";
import type { Connection, OpenConnection } from "../../../src/socket/connection.ts";
import type { Listener } from "../../../src/socket/listener.ts";
import type { Sockets } from "../../../src/socket/sockets.ts";
import type { ModuleBuild } from "../../../src/wasm/load.ts";
import { type Blow, drawRun, type RunPlan, thievishPolicy } from "./plan.ts";
import { isStart, sideOptions, strike } from "./run.ts";
import { ADDRESSES, CLIENT, SERVER, type Side, type SideOptions, Stage } from "./stage.ts";

const MS = 1e6;
const PORT = 80;
const LIMIT_NS = 3600e9;
/** After the last event of the plan accepts go on at this pace until nobody waits any more. */
const LAST_ACCEPTS_NS = 5 * MS;

type Step = { readonly atNs: number } & (
  | { readonly what: "open" | "accept" | "acceptWaiting" | "abort" | "unlisten" | "listen" }
  | { readonly what: "blow"; readonly blow: Blow; readonly side: number; readonly draw: number; readonly forNs: number }
);

/** A client's connection and what is known of it. */
class Visitor implements EventSink, OpenConnection {
  readonly handle: number;
  readonly host: KernelHost;
  readonly port: number;
  isConnected = false;
  isOver = false;
  /** It, its kernel or its listener has gone before it was accepted. */
  isExcused = false;
  accepted = 0;
  readonly #sockets: Sockets;

  constructor(sockets: Sockets, host: KernelHost, handle: number) {
    this.#sockets = sockets;
    this.host = host;
    this.handle = handle;
    this.port = host.memory.loadU32(host.handles.info(handle) + INFO_LOCAL_PORT);
    host.handles.setOption(handle, OPTION_KEEPALIVE, 1);
    host.addSink(this);
    sockets.connectionOpened(this);
  }

  get kernelId(): number {
    return this.host.kernelId;
  }

  onEvent(mask: number): void {
    if (mask & EVENT_CONNECTED) {
      this.isConnected = true;
      // A byte, so that a server that has forgotten the handshake hears of it again.
      this.host.handles.send(this.handle, SCRATCH_BASE, 1);
    }
    if (mask & EVENT_CLOSED) this.#end(() => this.host.handles.close(this.handle));
  }

  abort(): void {
    this.#end(() => this.host.handles.abort(this.handle));
  }

  lost(): void {
    this.isExcused = true;
    this.#end(() => {});
  }

  #end(release: () => void): void {
    if (this.isOver) return;
    this.isOver = true;
    release();
    this.host.removeSink(this);
    this.#sockets.connectionOver(this);
  }
}

function drawSteps(seed: number, { events }: RunPlan): Step[] {
  const prng = new Prng(seed, 40);
  const spanNs = [5 * MS, 100 * MS, 1000 * MS][prng.below(3)] as number;
  const at = () => Math.floor(prng.fraction() * spanNs);
  const steps: Step[] = [{ atNs: 0, what: "listen" }];
  const add = (what: Exclude<Step["what"], "blow">, count: number) => {
    for (let i = 0; i < count; i++) steps.push({ atNs: 1 + at(), what });
  };
  const visitors = 2 + prng.below(60);
  add("open", visitors);
  add("accept", prng.below(visitors));
  add("acceptWaiting", prng.below(2) * prng.below(visitors));
  add("abort", prng.below(2) * prng.below(visitors >> 1));
  for (let closings = prng.below(3); closings > 0; closings--) {
    const atNs = 1 + at();
    steps.push({ atNs, what: "unlisten" }, { atNs: atNs + prng.below(10 * MS), what: "listen" });
  }
  for (const event of events) if (event.what === "blow") steps.push({ ...event, atNs: at() });
  return steps.sort((a, b) => a.atNs - b.atNs);
}

/** @returns how many connections were accepted, and how many of the visitors were. */
export async function runAccepts(
  seed: number,
  build: ModuleBuild,
  trace?: (line: string) => void,
): Promise<Record<string, number>> {
  const plan = drawRun(seed);
  const sides = plan.sides.map((side, index) =>
    // One frame per turn, so that no two handshakes complete between two looks.
    withThieves(plan, sideOptions(plan, { ...side, tuning: { ...side.tuning, pollBudgetFrames: 1 } }, index), index),
  );
  const stage = await Stage.create({ ...plan, build, trace, sides: sides as [(typeof sides)[0], (typeof sides)[0]] });
  return new AcceptRun(plan, stage).go();
}

/** Half of the servers that can have their kernels steal from each other. */
function withThieves({ seed }: RunPlan, options: SideOptions, index: number): SideOptions {
  const prng = new Prng(seed, 46);
  if (index !== SERVER || options.card.flowGroups === false || prng.below(2) === 0) return options;
  const balancer = prng.below(4) === 0 ? publishedPolicy(prng) : thievishPolicy(prng);
  return { card: options.card, stack: { ...options.stack, balancer } };
}

/** Affinity-Accept's, in a hurry; and for no reason a group moves with its connections, if no other is about to. */
function publishedPolicy(prng: Prng): Policy {
  const policy = affinityAccept({ busyFill: 0.2, migrateNs: 20 * MS, periodNs: 2 * MS });
  return {
    ...policy,
    decide: (observation, state, nowNs) => {
      const decision = policy.decide(observation, state, nowNs);
      const { groups, kernels } = observation;
      const to = prng.below(kernels.length);
      const busy = [...groups.live.keys()].filter((group) => groups.live[group] !== 0 && groups.owner[group] !== to);
      if (decision.moves.length > 0 || busy.length === 0 || prng.below(4) !== 0) return decision;
      const group = busy[prng.below(busy.length)] as number;
      const from = groups.owner[group] as number;
      return { ...decision, moves: [{ group, from, to, reason: "for no reason", live: true }] };
    },
  };
}

/** One that waits, and when its handshake was completed. */
type Waiting = {
  readonly port: number;
  readonly completedBy: KernelHost;
  /** Of those of one kernel; what nobody has seen the order of has the same. */
  readonly rank: number;
  readonly earliestNs: number;
  readonly latestNs: number;
  /** The look at which it has come to the kernel where it is. */
  joined: number;
  /** Who has given it to the application, which may hear of it later. */
  acceptedBy: KernelHost | undefined;
};
/** A connection of a kernel's table. */
type Entry = { readonly slot: number; readonly port: number; readonly state: number; readonly isAccepted: boolean };
/** Each handshake of a kernel has an instant of its own: those of one moment run ahead of the clock. */
const AHEAD_NS = 0.1 * MS;

class AcceptRun {
  readonly #plan: RunPlan;
  readonly #stage: Stage;
  readonly #steps: Step[];
  readonly #backlog: number;
  readonly #prng: Prng;
  readonly #visitors: Visitor[] = [];
  readonly #queues = new Map<KernelHost, Waiting[]>();
  #lastRank = 0;
  #looks = 0;
  /** Of the last two turns of each kernel. */
  readonly #turns = new WeakMap<KernelHost, readonly [beforeNs: number, lastNs: number]>();
  /** What has gone from kernel to kernel ("0 2") since a steal was told, and what cannot have gone with its group. */
  readonly #gone = new Map<string, { all: number; stolen: number }>();
  #moved = 0;
  /** Remote port of the connection in each slot that has completed its handshake. */
  readonly #seen = new WeakMap<KernelHost, Map<number, number>>();
  #listener: Listener | undefined;
  #isListening = false;
  #acceptAtNs = 0;
  #waits = 0;
  #accepted = 0;
  #stolen = 0;
  #failure: Error | undefined;

  constructor(plan: RunPlan, stage: Stage) {
    this.#plan = plan;
    this.#stage = stage;
    this.#prng = new Prng(plan.seed, 41);
    this.#steps = drawSteps(plan.seed, plan);
    this.#backlog = 1 + this.#prng.below(12);
    stage.onTurn = (side, host) => {
      if (side !== SERVER) return;
      this.#turns.set(host, [this.#turns.get(host)?.[1] ?? 0, stage.nowNs]);
      this.#look();
    };
    stage.onSteal = (side, steal) => {
      if (side === SERVER) this.#steal(steal);
    };
    stage.onKernel = (side, _kernelId, reason, host) => {
      if (side !== SERVER || isStart(reason)) return;
      this.#queues.delete(host);
      // Which of those that wait were the dead kernel's only it knew.
      for (const visitor of this.#visitors) if (visitor.accepted === 0 && !visitor.isOver) visitor.isExcused = true;
    };
  }

  async go(): Promise<Record<string, number>> {
    const stage = this.#stage;
    const clearFilters = this.#fillFilters();
    const next = () => this.#steps[0]?.atNs ?? this.#acceptAtNs;
    const isOver = () => {
      if (this.#failure) throw this.#failure;
      return this.#steps.length === 0 && this.#visitors.every(({ isOver: over }) => over);
    };
    const act = (nowNs: number) => this.#act(nowNs);
    if (!(await stage.run(isOver, LIMIT_NS, next, act))) {
      const left = this.#visitors.filter(({ isOver: over }) => !over);
      throw new Error(
        `not over: ${left.map(({ port, isConnected }) => `${port} connected ${isConnected}`).join(", ")}`,
      );
    }
    for (const { port, isConnected, isExcused, accepted } of this.#visitors) {
      if (accepted === 0 && isConnected && !isExcused)
        throw new Error(`the connection from ${port} was never accepted`);
    }
    const excused = this.#visitors.filter(({ isExcused }) => isExcused).length;
    const { balancer } = await (stage.sides[SERVER] as Side).stack.stats();
    const refused = balancer?.refusals.filters ?? 0;
    const untold = (balancer?.stolen ?? []).reduce((sum, count) => sum + count, -this.#stolen);
    const unnamed = [...this.#gone.values()].reduce((sum, gone) => sum + gone.stolen, 0);
    if (unnamed > untold) throw new Error(`${unnamed} have been stolen that no steal has counted, but for ${untold}`);
    await this.#listener?.close();
    clearFilters();
    await stage.close();
    return {
      accepted: this.#accepted,
      visitors: this.#visitors.length,
      excused,
      stolen: this.#stolen,
      "moved with their groups": this.#moved - this.#stolen,
      "refused filters": refused,
    };
  }

  /** In some runs nearly all of the card's filters are somebody else's. @returns what gives them back. */
  #fillFilters(): () => void {
    const { card } = this.#stage.sides[SERVER] as Side;
    const prng = new Prng(this.#plan.seed, 47);
    const { exactFilters } = card.capabilities;
    if (exactFilters === 0 || prng.below(4) !== 0) return () => {};
    const [remote, local] = [parseAddress("10.7.0.77"), parseAddress(ADDRESSES[SERVER])];
    const left = [0, 2, 8][prng.below(3)] as number;
    const strangers = Array.from({ length: exactFilters - left }, (_, i) => {
      return { remote, remotePort: 1 + i, local, localPort: PORT };
    });
    for (const flow of strangers) card.setFilter(flow, 0);
    return () => {
      for (const flow of strangers) card.clearFilter(flow);
    };
  }

  #act(nowNs: number): void {
    while ((this.#steps[0]?.atNs ?? Infinity) <= nowNs) this.#step(this.#steps.shift() as Step, nowNs);
    if (this.#steps.length > 0) return;
    if (this.#acceptAtNs <= nowNs) {
      if (this.#waits === 0) this.#accept();
      // What is left after a while waits for retransmissions, each later than the one before.
      this.#acceptAtNs = nowNs + Math.max(LAST_ACCEPTS_NS, Math.floor(nowNs / 20));
    }
  }

  #step(step: Step, nowNs: number): void {
    if (step.what === "blow") strike(this.#stage, step, nowNs, this.#plan.sparesNone);
    else if (step.what === "open") this.#open();
    else if (step.what === "accept") {
      if (this.#waits === 0) this.#accept();
    } else if (step.what === "acceptWaiting") this.#accept();
    else if (step.what === "abort") this.#abortOne();
    else if (step.what === "listen") void this.#listen();
    else this.#unlisten();
  }

  #open(): void {
    const { sockets } = this.#stage.sides[CLIENT] as Side;
    try {
      const { host, handle } = sockets.openHandle({ address: ADDRESSES[SERVER], port: PORT });
      const visitor = new Visitor(sockets, host, handle);
      this.#stage.trace(`client${host.kernelId}`, `opens ${visitor.port}`);
      if (this.#visitors.some(({ port }) => port === visitor.port)) visitor.abort();
      else this.#visitors.push(visitor);
      if (!this.#listener || this.#stage.hostsUp(SERVER).length === 0) visitor.isExcused = true;
    } catch (error) {
      if (!(error instanceof NetPopcornError && error.code === "ERR_NO_KERNEL")) throw error;
    }
  }

  #abortOne(): void {
    const left = this.#visitors.filter(({ isOver, host }) => !isOver && !this.#stage.isStill(host));
    const visitor = left[this.#prng.below(Math.max(left.length, 1))];
    if (!visitor) return;
    this.#stage.trace(`client${visitor.kernelId}`, `aborts ${visitor.port}`);
    visitor.isExcused = true;
    visitor.abort();
  }

  async #listen(): Promise<void> {
    if (this.#isListening) return;
    this.#isListening = true;
    const { sockets } = this.#stage.sides[SERVER] as Side;
    this.#stage.awaitPromises();
    this.#stage.trace("server", "listens");
    this.#listener = await sockets.listen({ port: PORT, backlog: this.#backlog });
    this.#waits = 0;
  }

  #unlisten(): void {
    this.#stage.trace("server", "closes");
    this.#isListening = false;
    void this.#listener?.close();
    this.#listener = undefined;
    this.#queues.clear();
    for (const visitor of this.#visitors) if (visitor.accepted === 0 && !visitor.isOver) visitor.isExcused = true;
    this.#stage.awaitPromises();
  }

  #accept(): void {
    const listener = this.#listener;
    if (!listener) return;
    this.#waits++;
    this.#stage.awaitPromises();
    listener.accept().then(
      (connection) => {
        if (listener === this.#listener) this.#waits--;
        if (connection) this.#take(connection);
        this.#stage.awaitPromises();
      },
      (error: unknown) => {
        this.#failure ??= error as Error;
      },
    );
  }

  /** The model's answer to an accept. */
  #take(connection: Connection): void {
    try {
      this.#accepted++;
      const { remotePort, kernelId } = connection;
      this.#stage.trace(`server${kernelId}`, `accepts ${remotePort}`);
      const host = (this.#stage.sides[SERVER] as Side).stack.kernels[kernelId] as KernelHost;
      this.#look();
      const queue = this.#queueOf(host);
      const at = queue.findIndex(({ port }) => port === remotePort);
      const [taken] = at >= 0 ? queue.splice(at, 1) : [];
      // Asked for and given in the turn in which its listener or its kernel has ended.
      const isGone = !this.#listener || !this.#stage.hostsUp(SERVER).includes(host);
      if (!taken && !isGone) throw new Error(`kernel ${kernelId} gives the connection from ${remotePort}: from where?`);
      // Those that were accepted in one kernel at one moment come in their order.
      if (taken)
        this.#checkAccepted(
          taken,
          queue.filter(({ acceptedBy }) => acceptedBy === taken.acceptedBy),
        );
      const visitor = this.#visitors.find(({ port }) => port === remotePort);
      if (!visitor) throw new Error(`a connection from ${remotePort}, which nobody has opened`);
      // The price of SYN cookies: a belated copy of a first segment opens its connection again.
      const isCookies = this.#stage.hostsUp(SERVER).some(({ memory }) => memory.counter(SYN_COOKIES_ACCEPTED) > 0);
      if (++visitor.accepted > 1 && !isCookies) throw new Error(`the connection from ${remotePort} is accepted again`);
      connection.abort();
    } catch (error) {
      this.#failure ??= error as Error;
    }
  }

  /** After a turn of a kernel, or what an accept has brought. */
  #look(): void {
    this.#looks++;
    const tables = new Map(this.#stage.hostsUp(SERVER).map((host) => [host, tableOf(host)]));
    this.#follow(tables);
    for (const [host, table] of tables) this.#scan(host, table);
    for (const [host, table] of tables) this.#noteAccepted(host, table);
  }

  /** Connections that have completed their handshake since the last look. */
  #scan(host: KernelHost, table: readonly Entry[]): void {
    const before = this.#seen.get(host);
    const seen = new Map<number, number>();
    this.#seen.set(host, seen);
    const queue = this.#queueOf(host);
    const rank = this.#lastRank + 1;
    const birth = { completedBy: host, rank, ...this.#sinceLast(host), joined: this.#looks, acceptedBy: undefined };
    for (const { slot, port, state } of table) {
      if (state < STATE_ESTABLISHED) continue;
      const isKnown = before?.get(slot) === port;
      if (!isKnown && state >= STATE_CLOSED) continue;
      seen.set(slot, port);
      // Come from another kernel, it is there already.
      if (isKnown || queue.some((waiting) => waiting.port === port)) continue;
      this.#lastRank = rank;
      queue.push({ port, ...birth });
    }
  }

  /** Connections that were accepted since the last look: of those that have come since, before or after they came. */
  #noteAccepted(host: KernelHost, table: readonly Entry[]): void {
    const queue = this.#queueOf(host);
    const waits = queue.filter(({ acceptedBy }) => !acceptedBy);
    const accepted = waits.filter(({ port }) => table.some((entry) => entry.port === port && entry.isAccepted));
    for (const waiting of accepted) waiting.acceptedBy = host;
    const left = waits.filter(({ acceptedBy, joined }) => !acceptedBy && joined < this.#looks);
    for (const waiting of accepted) this.#checkAccepted(waiting, left);
  }

  #checkAccepted(accepted: Waiting, others: readonly Waiting[]): void {
    const older = others.filter((other) => isOlder(other, accepted)).map(({ port }) => port);
    if (older.length === 0) return;
    const kernelId = accepted.acceptedBy?.kernelId;
    this.#failure ??= new Error(`kernel ${kernelId} gives the connection from ${accepted.port}, but older is ${older}`);
  }

  /** When something that is found in a kernel now may have happened, by its clock. */
  #sinceLast(host: KernelHost): { earliestNs: number; latestNs: number } {
    const { nowNs } = this.#stage;
    const [beforeNs, lastNs] = this.#turns.get(host) ?? [0, 0];
    // Frames that were laid aside are processed between turns, when the clock is that of the turn before.
    const laidAside = this.#stage.hostsUp(SERVER).some(({ memory }) => {
      return memory.counter(MIGRATION_FRAMES_HELD) + memory.counter(LATE_FRAMES_FORWARDED) > 0;
    });
    return { earliestNs: laidAside ? beforeNs : lastNs, latestNs: nowNs };
  }

  #queueOf(host: KernelHost): Waiting[] {
    const queue = this.#queues.get(host) ?? [];
    this.#queues.set(host, queue);
    return queue;
  }

  /** Connections that wait in another kernel than before change queues. */
  #follow(tables: ReadonlyMap<KernelHost, readonly Entry[]>): void {
    for (const [from, queue] of [...this.#queues]) {
      const there = new Set(tables.get(from)?.map(({ port }) => port) ?? tableOf(from).map(({ port }) => port));
      const left = queue.filter(({ port }) => !there.has(port));
      if (left.length === 0) continue;
      for (const [to, table] of tables) {
        const moved = left.filter(({ port }) => to !== from && table.some((entry) => entry.port === port));
        if (moved.length > 0) this.#moveTo(to, from, moved, table);
      }
    }
  }

  #moveTo(to: KernelHost, from: KernelHost, moved: readonly Waiting[], table: readonly Entry[]): void {
    const stolen = moved.filter(({ port }) => this.#homeOf(port) !== to.kernelId);
    this.#checkOldest(from, stolen);
    const key = `${from.kernelId} ${to.kernelId}`;
    const gone = this.#gone.get(key) ?? { all: 0, stolen: 0 };
    this.#gone.set(key, { all: gone.all + moved.length, stolen: gone.stolen + stolen.length });
    this.#moved += moved.length;
    const stay = this.#queueOf(from).filter((waiting) => !moved.includes(waiting));
    this.#queues.set(from, stay);
    for (const waiting of moved) {
      waiting.joined = this.#looks;
      const isAccepted = table.some((entry) => entry.port === waiting.port && entry.isAccepted);
      if (isAccepted) waiting.acceptedBy ??= from;
    }
    this.#queueOf(to).push(...moved);
  }

  #checkOldest(from: KernelHost, stolen: readonly Waiting[]): void {
    const isPassed = (waiting: Waiting) =>
      !stolen.includes(waiting) && stolen.some((other) => isOlder(waiting, other)) && this.#waitsIn(from, waiting.port);
    const passed = this.#queueOf(from).find(isPassed);
    if (!passed) return;
    throw new Error(`${stolen.map(({ port }) => port).join(", ")} are stolen, but ${passed.port} is older`);
  }

  /** What has gone on since the last look from one kernel to the next is known by where it was, and where it is. */
  #takeFromOthers(to: number, count: number, what: string): void {
    let missing = count;
    // What only a move with its group may have brought is what was stolen only if nothing else is.
    const likeliest = [...this.#gone].sort(([, one], [, other]) => other.stolen - one.stolen);
    for (const [key, gone] of likeliest) {
      const taken = key.endsWith(` ${to}`) ? Math.min(Math.max(gone.all, 0), missing) : 0;
      this.#gone.set(key, { all: gone.all - taken, stolen: Math.max(gone.stolen - taken, 0) });
      missing -= taken;
    }
    if (missing > 0) throw new Error(`${what} are said to be stolen, but ${missing} of them are not`);
  }

  #homeOf(remotePort: number): number | undefined {
    const { card } = this.#stage.sides[SERVER] as Side;
    return card.flowGroupQueue(groupOfPorts(remotePort, PORT, groupRuleOf(card.capabilities)));
  }

  #steal({ from, to, connections }: StealMove): void {
    this.#look();
    const key = `${from} ${to}`;
    const { all, stolen } = this.#gone.get(key) ?? { all: 0, stolen: 0 };
    // Those of a step of the balancer are told together: what is too much for this one is the next one's.
    this.#gone.set(key, { all: Math.max(all - connections, 0), stolen: Math.max(stolen - connections, 0) });
    if (all < connections) this.#takeFromOthers(to, connections - all, `${connections} of ${from} by ${to}`);
    this.#stolen += connections;
  }

  /** It could have been stolen: it is not over, nor accepted (which the model hears of later). */
  #waitsIn(host: KernelHost, remotePort: number): boolean {
    return tableOf(host).some(({ port, state, isAccepted }) => port === remotePort && !isAccepted && isPending(state));
  }
}

/** For certain. */
function isOlder(one: Waiting, other: Waiting): boolean {
  if (one.completedBy === other.completedBy) return one.rank < other.rank;
  return one.latestNs + AHEAD_NS < other.earliestNs;
}

function isPending(state: number): boolean {
  return state >= STATE_ESTABLISHED && state < STATE_CLOSED;
}

function tableOf({ memory }: KernelHost): Entry[] {
  const { bytes } = memory;
  const first = memory.loadU32(MAP_BASE + MAP_TCBS);
  const table: Entry[] = [];
  for (let slot = 0; slot < memory.loadU32(MAP_BASE + MAP_TCB_HIGH_WATER); slot++) {
    const at = first + slot * TCB_SIZE_BYTES;
    const state = bytes[at + TCB_STATE] as number;
    if (state === STATE_FREE) continue;
    const port = ((bytes[at + TCB_PORTS] as number) << 8) | (bytes[at + TCB_PORTS + 1] as number);
    table.push({ slot, port, state, isAccepted: (memory.loadU32(at + TCB_FLAGS) & TCB_FLAG_APP) !== 0 });
  }
  return table;
}
