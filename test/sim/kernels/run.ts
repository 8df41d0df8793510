/** One run: what its plan says, carried out, checked after every instant, and judged at its end. */

import { NetPopcornError } from "../../../src/errors.ts";
import { parseAddress } from "../../../src/ip/address.ts";
import type { KernelHost } from "../../../src/kernel/host.ts";
import type { KernelReason } from "../../../src/kernel/supervisor.ts";
import { GAUGE_CONNECTIONS, GAUGE_REASSEMBLY_BYTES, SYN_COOKIES_ACCEPTED } from "../../../src/layout/counters.ts";
import { FLOW_GROUPS } from "../../../src/layout/flowGroup.ts";
import { INFO_LOCAL_PORT, INFO_REMOTE_PORT } from "../../../src/layout/option.ts";
import { ECONNRESET } from "../../../src/layout/status.ts";
import { Prng } from "../../../src/sim/prng.ts";
import type { Listener } from "../../../src/socket/listener.ts";
import type { Stack } from "../../../src/types.ts";
import type { ModuleBuild } from "../../../src/wasm/load.ts";
import { PATTERN_BYTES } from "../endpoint.ts";
import { Datagrams } from "./datagrams.ts";
import { End, type Fate, isLive, isOrderly } from "./ends.ts";
import * as INVARIANT from "./invariants.ts";
import { balancerOf, DRAIN_ENOUGH_MS, type Event, PORTS, type RunPlan, type SidePlan } from "./plan.ts";
import { ADDRESSES, CLIENT, SERVER, type Side, type SideOptions, Stage } from "./stage.ts";

const SECOND = 1e9;
/** Virtual time until all connections are over, and then until nothing moves any more. */
const LIMIT_NS = 3600 * SECOND;
/** Virtual time in which an owner must know all ports: longer than it takes to find a kernel that hangs. */
const PORTS_NS = 60 * SECOND;
/** Without kernel: when to try again. */
const RETRY_NS = 20e6;
/** A policy that moves groups is asked this often while something begins, and while what there is ends. */
const BALANCE_STEP_NS = 20e6;
const BALANCE_IDLE_STEP_NS = 1e9;

/** In these runs we wait for kernels to have no deadline at all. */
const FULL_SILENCE_EVERY = 16;

export type Verdict = {
  readonly digest: string;
  readonly frames: number;
  readonly virtualNs: number;
  readonly bytes: number;
  readonly delivered: number;
  readonly hit: number;
  /** Kernels that have ended, by reason; moves of the balancers; sums of counters of the living. */
  readonly reached: Readonly<Record<string, number>>;
};

export async function runPlan(plan: RunPlan, build: ModuleBuild, trace?: (line: string) => void): Promise<Verdict> {
  const sides = plan.sides.map((side, index) => sideOptions(plan, side, index)) as [SideOptions, SideOptions];
  const stage = await Stage.create({ seed: plan.seed, build, impairments: plan.impairments, sides, trace });
  return new Run(plan, stage).go();
}

export function isStart(reason: KernelReason): boolean {
  return reason === "restarted" || reason === "added";
}

export function sideOptions({ seed, timestamps }: RunPlan, side: SidePlan, index: number): SideOptions {
  const { card, kernels, balancer, restart, hangMs, tuning } = side;
  return {
    card,
    stack: {
      kernels,
      kernelsMax: card.queues ?? kernels,
      balancer: balancerOf(balancer, new Prng(seed, 500 + index)),
      restart,
      timestamps,
      tuning,
      ...(hangMs === undefined ? {} : { hangMs }),
    },
  };
}

type Strike = Omit<Extract<Event, { what: "blow" }>, "atNs" | "what">;

/** @param sparesNone the last kernel of a side may be struck, too. */
export function strike(stage: Stage, { blow, side, draw, forNs }: Strike, nowNs: number, sparesNone: boolean): void {
  const hosts = stage.hostsUp(side);
  const host = hosts[draw % Math.max(hosts.length, 1)];
  if (!host || (blow !== "pause" && hosts.length === 1 && !sparesNone)) return;
  stage.trace(`${(stage.sides[side] as Side).name}${host.kernelId}`, blow);
  if (blow === "kill") stage.kill(side, host.kernelId);
  else if (blow === "trap") stage.trapSoon(host);
  else stage.holdStill(host, blow === "hang" ? Infinity : nowNs + forNs);
}

class Run {
  readonly #plan: RunPlan;
  readonly #stage: Stage;
  readonly #pattern = new Uint8Array(PATTERN_BYTES);
  readonly #prng: Prng;
  readonly #fates: Fate[];
  readonly #byPort = new Map<number, Fate>();
  readonly #listeners = new Map<number, Listener>();
  readonly #datagrams: Datagrams;
  readonly #events: Event[];
  readonly #waiting: { atNs: number; fate: Fate }[];
  readonly #placements: (number | undefined)[][];
  #placementDue = true;
  #nextBalanceNs = 0;
  /** Kernels that leave, and whether they have time enough for all that they have. */
  readonly #leavers = new Map<KernelHost, boolean>();
  /** Times that a kernel has joined or left, so that the tables need not be as at first. */
  #changes = 0;
  readonly #asked: Record<string, number> = {};
  /** Sides that have lost their last kernel for good: their sockets have been closed then. */
  readonly #givenUp = new Set<number>();
  #failure: Error | undefined;

  constructor(plan: RunPlan, stage: Stage) {
    this.#plan = plan;
    this.#stage = stage;
    this.#prng = new Prng(plan.seed, 3);
    new Prng(plan.seed, 2).fill(this.#pattern);
    this.#events = [...plan.events];
    this.#fates = plan.plans.map((one) => ({
      plan: one,
      client: undefined,
      localPort: 0,
      server: undefined,
      refused: undefined,
      hit: false,
      unheard: false,
    }));
    this.#waiting = this.#fates.map((fate) => ({ atNs: fate.plan.startNs, fate }));
    this.#datagrams = new Datagrams(stage, this.#pattern, (plan.impairments.duplicatePpm ?? 0) > 0);
    this.#placements = stage.sides.map(({ card: { placement } }) =>
      Array.from({ length: placement.entries }, (_, entry) => placement.queueOf(entry)),
    );
    stage.onKernel = (side, kernelId, reason, host) => this.#onKernel(side, kernelId, reason, host);
    const onBalance = () => {
      this.#placementDue = true;
    };
    for (const { stack } of stage.sides) stack.on("balance", onBalance);
  }

  async go(): Promise<Verdict> {
    const stage = this.#stage;
    await this.#datagrams.open();
    if (
      !(await stage.run(
        () => this.#isOver(),
        LIMIT_NS,
        () => this.#nextNs(),
        (nowNs) => this.#act(nowNs),
      ))
    ) {
      throw new Error(`not over after ${LIMIT_NS / SECOND} s: ${this.#unfinished()}`);
    }
    const virtualNs = stage.nowNs;
    const { bytes, delivered } = this.#judge();
    await this.#finish();
    const reached = await this.#reached();
    const hit = this.#fates.filter((fate) => fate.hit).length;
    for (const index of [CLIENT, SERVER]) {
      const remote = parseAddress(ADDRESSES[1 - index] as string);
      for (const host of stage.hostsUp(index)) INVARIANT.checkSlots(stage.sides[index] as Side, host, remote);
    }
    await stage.close();
    for (const { name, card } of stage.sides) {
      const { filterCount } = card.registers;
      if (filterCount > 0) throw new Error(`${name}: ${filterCount} exact filters are left after the stack's end`);
    }
    return { digest: stage.checker.digest(), frames: stage.checker.frames, virtualNs, bytes, delivered, hit, reached };
  }

  // What goes on.

  #nextNs(): number {
    let next = Math.min(this.#events[0]?.atNs ?? Infinity, this.#waiting[0]?.atNs ?? Infinity);
    for (const { client, server } of this.#fates) {
      for (const end of [client, server]) {
        if (end && !this.#stage.isStill(end.host)) next = Math.min(next, end.wakeNs);
      }
    }
    const balanced = this.#plan.sides.some(({ balancer }) => balancer !== "static");
    return balanced ? Math.min(next, this.#nextBalanceNs) : next;
  }

  #act(nowNs: number): void {
    if (this.#nextBalanceNs <= nowNs) {
      const isLively = this.#waiting.length > 0 || this.#events.length > 0;
      this.#nextBalanceNs = nowNs + (isLively ? BALANCE_STEP_NS : BALANCE_IDLE_STEP_NS);
      this.#pretendLoad();
    }
    while ((this.#events[0]?.atNs ?? Infinity) <= nowNs) this.#happen(this.#events.shift() as Event, nowNs);
    while ((this.#waiting[0]?.atNs ?? Infinity) <= nowNs)
      this.#open((this.#waiting.shift() as { fate: Fate }).fate, nowNs);
    for (const { client, server } of this.#fates) {
      for (const end of [client, server]) {
        if (end && end.wakeNs <= nowNs && !this.#stage.isStill(end.host)) end.wake(nowNs);
      }
    }
  }

  /** Kernels of one thread do not measure their load; policies that go by it see some kernel busy now and then. */
  #pretendLoad(): void {
    for (const side of [CLIENT, SERVER]) {
      for (const { memory } of this.#stage.hostsUp(side)) {
        memory.addBusyUs(this.#prng.below(2) * Math.floor(BALANCE_STEP_NS / 1000));
      }
    }
  }

  #happen(event: Event, nowNs: number): void {
    if (event.what === "join") void this.#ask(event.side, "join", (stack) => stack.addKernel());
    else if (event.what === "leave") this.#leave(event);
    else if (event.what === "migrate") this.#migrate(event.draw);
    else if (event.what === "blow") strike(this.#stage, event, nowNs, this.#plan.sparesNone);
    else if (event.what === "datagram") this.#datagrams.send(event.index, event.bytes);
    else if (event.what === "listen") void this.#listen(event.port);
    else this.#unlisten(event.port);
  }

  async #ask(side: number, what: string, call: (stack: Stack) => Promise<unknown>): Promise<void> {
    this.#changes++;
    try {
      const { name } = this.#stage.sides[side] as Side;
      const outcome = `${what} ${(await this.#stage.ask(name, what, call, side)) || "done"}`;
      this.#asked[outcome] = (this.#asked[outcome] ?? 0) + 1;
    } catch (error) {
      this.#failure ??= error as Error;
    }
  }

  #leave({ side, draw, drainMs }: Extract<Event, { what: "leave" }>): void {
    const hosts = this.#stage.hostsUp(side);
    const host = hosts[draw % Math.max(hosts.length, 1)];
    if (!host) return;
    this.#stage.trace((this.#stage.sides[side] as Side).name, `kernel ${host.kernelId} is to leave in ${drainMs} ms`);
    const isFirst = !this.#leavers.has(host);
    if (isFirst) this.#leavers.set(host, drainMs >= DRAIN_ENOUGH_MS);
    void this.#ask(side, "leave", async (stack) => {
      try {
        await stack.removeKernel(host.kernelId, { drainMs });
      } catch (error) {
        if (isFirst) this.#leavers.delete(host);
        throw error;
      }
    });
  }

  /** Moves the flow group of some connection, with all that it has, to some kernel. */
  #migrate(draw: number): void {
    const hosts = this.#stage.hostsUp(SERVER);
    const to = hosts[(draw >>> 8) % Math.max(hosts.length, 1)];
    const live = this.#fates.filter((fate) => fate.client && isLive(fate));
    const fate = live[draw % Math.max(live.length, 1)];
    if (!to || !fate?.client || this.#stage.isStill(to)) return;
    const group = fate.localPort & (FLOW_GROUPS - 1);
    void this.#ask(SERVER, `migrate group ${group} to kernel ${to.kernelId}`, (stack) =>
      stack.migrate(group, to.kernelId),
    );
  }

  async #listen(port: number): Promise<void> {
    const stage = this.#stage;
    stage.awaitPromises();
    const backlog = this.#plan.backlogs[PORTS.indexOf(port as 80)] as number;
    try {
      const listener = await (stage.sides[SERVER] as Side).sockets.listenHandles({ port, backlog }, (host, handle) =>
        this.#accept(host, handle),
      );
      stage.trace("server", `listens on ${port}`);
      this.#listeners.set(port, listener);
    } catch (error) {
      this.#failure ??= error as Error;
    }
  }

  #unlisten(port: number): void {
    const listener = this.#listeners.get(port);
    if (!listener) return;
    this.#stage.trace("server", `closes ${port}`);
    this.#listeners.delete(port);
    for (const fate of this.#fates) if (fate.plan.port === port && !fate.server && isLive(fate)) fate.unheard = true;
    void listener.close();
    this.#stage.awaitPromises();
  }

  #open(fate: Fate, nowNs: number): void {
    const { sockets } = this.#stage.sides[CLIENT] as Side;
    const { id, port, client: behaviour } = fate.plan;
    if (!this.#listeners.has(port)) fate.unheard = true;
    // Nobody is there to answer, and nobody will be.
    if (this.#stage.hostsUp(SERVER).length === 0 && !this.#plan.sides[SERVER].restart) fate.hit = true;
    try {
      const { host, handle } = sockets.openHandle({ address: ADDRESSES[SERVER], port });
      const localPort = host.memory.loadU32(host.handles.info(handle) + INFO_LOCAL_PORT);
      this.#stage.trace(`client${host.kernelId}`, `opens ${id} from ${localPort} to ${port}`);
      if (this.#byPort.has(localPort)) {
        // The server tells connections apart by it.
        host.handles.abort(handle);
        fate.refused = "port used before";
        return;
      }
      this.#byPort.set(localPort, fate);
      fate.localPort = localPort;
      const options = {
        sockets,
        host,
        handle,
        pattern: this.#pattern,
        prng: this.#prng,
        id,
        isClient: true,
        behaviour,
      };
      fate.client = new End(options);
      fate.client.begin(nowNs, this.#prng.below(2) === 0);
    } catch (error) {
      if (!(error instanceof NetPopcornError)) throw error;
      // All kernels are down, or what is left of them has no way to bring the replies home: later, if ever.
      if (error.code === "ERR_NO_KERNEL" && this.#plan.sides[CLIENT].restart) {
        this.#waiting.push({ atNs: nowNs + RETRY_NS, fate });
        this.#waiting.sort((a, b) => a.atNs - b.atNs);
      } else fate.refused = error.code;
    }
  }

  #accept(host: KernelHost, handle: number): void {
    const stage = this.#stage;
    const { sockets } = stage.sides[SERVER] as Side;
    const remotePort = host.memory.loadU32(host.handles.info(handle) + INFO_REMOTE_PORT);
    const fate = this.#byPort.get(remotePort);
    if (!fate) throw new Error(`a connection from port ${remotePort}, which no client has opened`);
    const { id, server: behaviour } = fate.plan;
    stage.trace(`server${host.kernelId}`, `accepts ${id}`);
    if (fate.server) {
      // The price of SYN cookies: a belated copy of a first segment opens its connection again.
      const cookies = stage.hostsUp(SERVER).some(({ memory }) => memory.counter(SYN_COOKIES_ACCEPTED) > 0);
      if (!cookies) throw new Error(`connection ${id} is accepted a second time`);
      host.handles.abort(handle);
      return;
    }
    const options = { sockets, host, handle, pattern: this.#pattern, prng: this.#prng, id, isClient: false, behaviour };
    fate.server = new End(options);
    fate.server.begin(host.nowNs, true);
  }

  #onKernel(side: number, kernelId: number, reason: KernelReason, host: KernelHost): void {
    this.#placementDue = true;
    const { restart } = this.#plan.sides[side as 0 | 1];
    if (restart === false && this.#stage.hostsUp(side).length === 0) this.#givenUp.add(side);
    const isGraceful = reason === "removed" && this.#leavers.get(host) === true;
    // What it had has had time to end.
    if (isStart(reason) || isGraceful) return;
    // A kernel that had no time to let its connections end has reset them just now.
    const isCut = reason === "removed";
    for (const fate of this.#fates) {
      const end = side === CLIENT ? fate.client : fate.server;
      // Not accepted yet: it may have been the dead kernel's.
      if (
        end ? end.host === host && (end.isLost || isCut) : side === SERVER && fate.client && (isCut || isLive(fate))
      ) {
        fate.hit = true;
      }
    }
    this.#stage.trace((this.#stage.sides[side] as Side).name, `kernel ${kernelId} is gone`);
  }

  // What is checked.

  #isOver(): boolean {
    this.#check();
    return this.#waiting.length === 0 && this.#events.length === 0 && this.#fates.every((fate) => !isLive(fate));
  }

  #check(): void {
    if (this.#failure) throw this.#failure;
    this.#datagrams.check();
    for (const [index, side] of this.#stage.sides.entries()) {
      const hosts = this.#stage.hostsUp(index);
      INVARIANT.checkHomes(side, hosts);
      for (const host of hosts) INVARIANT.checkPools(side, host);
      INVARIANT.checkOwner(side, hosts);
      if (!this.#placementDue) continue;
      const up = new Set(hosts.map(({ kernelId }) => kernelId));
      INVARIANT.checkPlacement(side, up);
      INVARIANT.checkFilters(side, up);
    }
    this.#placementDue = false;
    this.#forgetListeners();
    const backlogSum = [...this.#listeners.keys()].reduce(
      (sum, port) => sum + (this.#plan.backlogs[PORTS.indexOf(port as 80)] as number),
      0,
    );
    const server = this.#stage.sides[SERVER] as Side;
    for (const host of this.#stage.hostsUp(SERVER)) INVARIANT.checkListeners(server, host, backlogSum);
    for (const { client, server: far } of this.#fates) {
      if (client) INVARIANT.checkSequence(client);
      if (far) INVARIANT.checkSequence(far);
    }
  }

  /** Of a stack whose last kernel has gone for good they are closed. */
  #forgetListeners(): void {
    for (const [port, { listening }] of this.#listeners) {
      if (listening) continue;
      if (!this.#givenUp.has(SERVER)) throw new Error(`the listener of port ${port} has been closed by nobody`);
      this.#stage.trace("server", `no longer listens on ${port}`);
      this.#listeners.delete(port);
    }
  }

  /** Orderly connections that no fault has hit delivered everything, both ways. */
  #judge(): { bytes: number; delivered: number } {
    let bytes = 0;
    let delivered = 0;
    for (const fate of this.#fates) {
      const { client, server, plan } = fate;
      const near = client?.endpoint;
      const far = server?.endpoint;
      bytes += (near?.received ?? 0) + (far?.received ?? 0);
      if (near && far && (near.received > far.sent || far.received > near.sent)) {
        throw new Error(`connection ${plan.id}: more was received than was sent`);
      }
      const whole = near?.received === plan.server.sendBytes && far?.received === plan.client.sendBytes;
      if (whole) delivered++;
      if (fate.hit || fate.unheard || !isOrderly(plan)) continue;
      // ERR_NO_KERNEL: the client's kernels are all gone, for good.
      if (fate.refused === "port used before" || fate.refused === "ERR_NO_KERNEL") continue;
      if (!whole || !endedWell(near) || !endedWell(far)) throw new Error(this.#describe(fate));
    }
    return { bytes, delivered };
  }

  /** Closes all sockets and waits until nothing moves: then nothing may be left. */
  async #finish(): Promise<void> {
    const stage = this.#stage;
    await this.#checkPorts([1, this.#listeners.size + 1]);
    for (const port of [...this.#listeners.keys()]) this.#unlisten(port);
    await this.#datagrams.close();
    const { sides } = stage;
    // Neighbours are forgotten after half an hour only, and kernels that are watched for hanging are never silent.
    const isSilent = (host: KernelHost) => host.nextDeadlineNs() === Infinity;
    const isEmpty = (host: KernelHost) =>
      host.memory.counter(GAUGE_CONNECTIONS) === 0 && host.memory.counter(GAUGE_REASSEMBLY_BYTES) === 0;
    const isQuiet = ([CLIENT, SERVER] as const).map((side) => {
      const { hangMs, restart } = this.#plan.sides[side];
      const isDone = hangMs === undefined && this.#plan.seed % FULL_SILENCE_EVERY === 0 ? isSilent : isEmpty;
      return () => {
        const hosts = stage.hostsUp(side);
        const all = restart === false || hosts.length === (sides[side] as Side).stack.kernelCount;
        return all && hosts.every((host) => !stage.isStill(host) && isDone(host));
      };
    });
    const quiet = await stage.run(
      () => isQuiet.every((one) => one()),
      stage.nowNs + LIMIT_NS,
      () => Infinity,
      () => {},
    );
    if (!quiet) throw new Error("not quiet an hour after the end");
    // Time for filters of ended connections and for entries that go home: both are looked at now and then.
    const untilNs = stage.nowNs + SECOND;
    const step = () => Math.min(untilNs, stage.nowNs + 50e6);
    await stage.run(
      () => stage.nowNs >= untilNs,
      untilNs,
      step,
      () => {},
    );
    for (const side of [CLIENT, SERVER]) await this.#checkEnd(side);
    await this.#checkPorts([0, 0]);
  }

  /** Waits until the owners know of so many ports, whoever has been the owner before: those in use, and no other. */
  async #checkPorts(expected: readonly [client: number, server: number]): Promise<void> {
    const stage = this.#stage;
    const known = (index: number) => {
      const hosts = stage.hostsUp(index);
      return INVARIANT.checkOwner(stage.sides[index] as Side, hosts)?.control.portOwner.portCount;
    };
    const isRight = (index: number) =>
      this.#givenUp.has(index) || stage.hostsUp(index).length === 0 || known(index) === expected[index as 0 | 1];
    const areRight = () => isRight(CLIENT) && isRight(SERVER);
    const step = () => stage.nowNs + RETRY_NS;
    if (await stage.run(areRight, stage.nowNs + PORTS_NS, step, () => {})) return;
    const counts = `${known(CLIENT)} of the client's ports, ${known(SERVER)} of the server's`;
    throw new Error(`the owners know of ${counts}, not ${expected.join(" and ")}`);
  }

  async #checkEnd(index: number): Promise<void> {
    const side = this.#stage.sides[index] as Side;
    const hosts = this.#stage.hostsUp(index);
    for (const host of hosts) INVARIANT.checkEmpty(side, host);
    const stats = await side.stack.stats();
    // Those of connections that were opened here outlive them, for a second FIN.
    const ownFilters = hosts.reduce((sum, { opener }) => sum + (opener?.filterCount ?? 0), 0);
    const filters = side.card.registers.filterCount - ownFilters;
    // With no kernel up there is nobody who could have removed them, until the stack is closed.
    if (filters > 0 && hosts.length > 0) throw new Error(`${side.name}: ${filters} exact filters are left in the card`);
    if (stats.balancer && stats.balancer.pinned > 0)
      throw new Error(`${side.name}: ${stats.balancer.pinned} pins are left`);
    const { balancer } = this.#plan.sides[index as 0 | 1];
    if (balancer !== "static" || this.#changes > 0 || hosts.length < side.stack.kernelCount) return;
    const { placement } = side.card;
    const before = this.#placements[index] as (number | undefined)[];
    const away = before.filter((queue, entry) => placement.queueOf(entry) !== queue).length;
    if (away > 0) throw new Error(`${side.name}: ${away} entries of the card are not where they were at first`);
  }

  async #reached(): Promise<Record<string, number>> {
    const sums: Record<string, number> = {};
    const add = (name: string, value: number) => {
      sums[name] = (sums[name] ?? 0) + value;
    };
    for (const [outcome, count] of Object.entries(this.#asked)) add(outcome.replace(/group .* /, ""), count);
    for (const { client, server } of this.#fates) add("migrated", (client?.moves ?? 0) + (server?.moves ?? 0));
    for (const { stack, ended, ownersEnded } of this.#stage.sides) {
      add("ended owner", ownersEnded());
      for (const [reason, count] of Object.entries(ended)) add(`ended ${reason}`, count);
      const { balancer, statuses, total } = await stack.stats();
      for (const { restarts } of statuses) add("restarts", restarts);
      for (const count of Object.values(balancer?.moves ?? {})) add("moves", count);
      for (const [refusal, count] of Object.entries(balancer?.refusals ?? {})) add(`refused ${refusal}`, count);
      add("strays", balancer?.strays ?? 0);
      for (const [name, count] of Object.entries(total)) add(name, count);
    }
    return sums;
  }

  #unfinished(): string {
    return this.#fates
      .filter(isLive)
      .map((fate) => this.#describe(fate))
      .join("; ");
  }

  #describe({ plan, client, server, refused, hit, unheard }: Fate): string {
    const of = (end: End | undefined, wanted: number) => {
      if (!end) return "none";
      const { received, status, closed, over } = end.endpoint;
      return `kernel ${end.kernelId}, status ${status}, ${received} of ${wanted} bytes, closed ${closed}, over ${over}`;
    };
    const notes = `${refused ? `, refused ${refused}` : ""}${hit ? ", hit" : ""}${unheard ? ", not heard" : ""}`;
    return (
      `connection ${plan.id}: client ${of(client, plan.server.sendBytes)}; ` +
      `server ${of(server, plan.client.sendBytes)}${notes}`
    );
  }
}

/** Without an error, or with a reset in place of the very last ACK, when nobody remembers the connection any more. */
function endedWell(end: { readonly status: number; readonly peerClosed: boolean } | undefined): boolean {
  return end !== undefined && (end.status === 0 || (end.status === ECONNRESET && end.peerClosed));
}
