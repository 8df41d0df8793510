/** One point: builds the server, runs it until it has settled, measures, reports. */
import { NetPopcornError } from "../errors.ts";
import { createSeedSource } from "../kernel/seed.ts";
import { loadModule } from "../wasm/load.ts";
import { designOf } from "./designs/design.ts";
import { MIGRATE_NS } from "./designs/affinity.ts";
import { Connections } from "./engine/connections.ts";
import { meanShares, STACK } from "./engine/core.ts";
import { RUNNABLE } from "./engine/process.ts";
import { ZERO } from "./engine/doubles.ts";
import { createServer, delay, needsLittle, type Server } from "./engine/server.ts";
import { FiniteRun } from "./engine/finiteRun.ts";
import { relativeHalfWidth, WarmUp } from "./engine/statistics.ts";
import { World } from "./engine/world.ts";
import { costsOf, machineNamed } from "./machines/index.ts";
import type { Machine } from "./machines/machine.ts";
import { osTraits } from "./osTraits.ts";
import type { LockReport, PointResult, RunHooks, SimPoint } from "./types.ts";

const START_NS = 2e9;
/** The kernels' timers run as often as those of a Linux with HZ=250. */
const TIMER_NS = 4e6;
/** Below so many connections in flight the clients' clock goes in finer steps. */
const FEW_CONNECTIONS = 64;
const WINDOW_NS = 10e6;
const WARM_UP_MIN_NS = 150e6;
/** A run in which SYNs were lost has not settled before they have been sent again (RFC 6298: after a second). */
const WARM_UP_LOSS_NS = 1200e6;
const WARM_UP_MAX_NS = 4e9;
const WARM_UP_TOLERANCE = 0.02;
/** Without a duration: until the rate's interval is so narrow, but at least and at most so long. */
const HALF_WIDTH = 0.01;
const MEASURE_MIN_NS = 250e6;
const MEASURE_MAX_NS = 2e9;
const COMPLETIONS_MIN = 10_000;
/** A finite run that does not come to its end. */
const AB_MAX_NS = 600e9;
const LATENCY_POINTS = 200;

/**
 * The last small run of this thread, and while another one runs, that one. V8 compiles code for the very functions and
 * shapes of objects that it has seen, and throws it away when the last of these is collected: each point would have
 * the engine compiled again.
 */
const kept: Run[] = [];

/** @throws NetPopcornError ERR_SIM_ABORTED, ERR_SIM. */
export async function runPoint(point: SimPoint, hooks: RunHooks = {}): Promise<PointResult> {
  const machine = typeof point.machine === "string" ? machineNamed(point.machine) : point.machine;
  const module = await loadModule("kernel", false);
  const options = { point, machine, module, hooks, startWallNs: hooks.wallNs?.() ?? 0 };
  if (needsLittle(point)) {
    const run = new Run({ ...options, roomy: false });
    kept.push(run);
    try {
      return run.run();
    } catch (error) {
      // While no kernel is full, more memory would have changed nothing.
      if (!run.isFull) throw error;
    } finally {
      kept.splice(0, kept.length - 1);
    }
  }
  return new Run({ ...options, roomy: true }).run();
}

type RunOptions = {
  readonly point: SimPoint;
  readonly machine: Machine;
  readonly module: WebAssembly.Module;
  readonly hooks: RunHooks;
  readonly startWallNs: number;
  /** Kernels have room for any number of connections. */
  readonly roomy: boolean;
};

class Run {
  readonly #point: SimPoint;
  readonly #machine: Machine;
  readonly #hooks: RunHooks;
  readonly #world: World;
  readonly #server: Server;
  readonly #startWallNs: number;
  readonly #roomy: boolean;
  readonly #windowNs: number;
  #nextTimerNs = ZERO;
  #nextMigrateNs = ZERO;
  readonly #toldBusyUs: number[];
  // At the start of the measured span.
  #fromNs = ZERO;
  #dropsBefore = 0;
  #retransmitsBefore = 0;
  #nowNs = ZERO;
  /** Something was lost, whether or not it has been sent again yet. */
  #lossy = false;
  /** Completions of a finite run that were not simulated. */
  #leftOut = 0;

  constructor({ point, machine, module, hooks, startWallNs, roomy }: RunOptions) {
    this.#point = point;
    this.#machine = machine;
    this.#hooks = hooks;
    this.#startWallNs = startWallNs;
    this.#roomy = roomy;
    const thinkMs = point.thinkMs.reduce((sum, ms) => sum + ms, 0);
    this.#windowNs = Math.max(WINDOW_NS, (thinkMs * 1e6) / 4);
    const few = point.arrivalsPerSec === 0 && point.concurrency <= FEW_CONNECTIONS;
    const tickNs = few ? 1000 : 10_000;
    const active = point.workload === "proxy" ? Math.min(point.concurrency, 65536) : 0;
    // Handles of connections that are closing are still in use; back ends' connections are the clients' too.
    const slots = Math.min(1 << 21, Math.ceil(point.concurrency * 1.25) + 65536 + active * 2);
    const connections = new Connections(slots, active + (active > 0 ? 65536 : 0));
    this.#world = new World({
      point,
      design: designOf(point),
      traits: osTraits(point.os),
      costs: costsOf(machine, point.scale),
      connections,
      tickNs,
    });
    this.#server = createServer({ world: this.#world, module, seeds: createSeedSource(point.seed), tickNs, roomy });
    this.#toldBusyUs = this.#world.kernels.map(() => 0);
  }

  /** A kernel has come near the end of its memory. */
  get isFull(): boolean {
    return this.#world.kernels.some((kernel) => kernel.isFull);
  }

  /** @throws NetPopcornError ERR_SIM: for instance when it isFull, and was not to be. */
  run(): PointResult {
    const { clients } = this.#server;
    const { heap } = this.#world;
    for (let core = 0; core < this.#point.cores; core++) heap.set(core, START_NS);
    this.#nowNs = START_NS;
    this.#nextTimerNs = START_NS + TIMER_NS;
    this.#nextMigrateNs = START_NS + MIGRATE_NS;
    heap.set(this.#world.intervalActor, START_NS);
    clients.start(START_NS);
    heap.set(this.#world.clientActor, START_NS);
    return this.#point.protocol === "ab" ? this.#runAb() : this.#runSteady();
  }

  #runSteady(): PointResult {
    for (;;) {
      const fromNs = this.#warmUp();
      this.#startMeasuring(fromNs);
      const counts: number[] = [];
      const wasLossy = this.#lossy;
      let nowNs = fromNs;
      do nowNs = this.#measureWindow(nowNs, counts);
      while (wasLossy === this.#lossy && !this.#isEnough(nowNs - fromNs, counts));
      // Losses that begin only now: what they lead to has to settle first.
      if (wasLossy !== this.#lossy) continue;
      const { clients } = this.#server;
      clients.countOpenRequests(nowNs);
      const warmUpS = (fromNs - START_NS) / 1e9;
      return this.#report(nowNs, warmUpS, clients.completed / ((nowNs - fromNs) / 1e9));
    }
  }

  /** @returns when the rate has settled. */
  #warmUp(): number {
    const warmUp = new WarmUp(WARM_UP_TOLERANCE);
    const thinkNs = this.#point.thinkMs.reduce((sum, ms) => sum + ms, 0) * 1e6;
    let nowNs = this.#nowNs;
    for (;;) {
      const counts: number[] = [];
      nowNs = this.#measureWindow(nowNs, counts);
      const settled = warmUp.add(counts[0] as number, this.#server.clients.inFlight);
      const spent = nowNs - START_NS;
      const minNs = this.#lossy ? WARM_UP_LOSS_NS : WARM_UP_MIN_NS;
      if ((settled && spent >= minNs + 2 * thinkNs) || spent >= WARM_UP_MAX_NS) return nowNs;
    }
  }

  /** Adds the requests completed in it. @returns the window's end. */
  #measureWindow(fromNs: number, counts: number[]): number {
    const { clients } = this.#server;
    const before = clients.requests;
    this.#nowNs = this.#runWindow(fromNs);
    counts.push(clients.requests - before);
    this.#lossy ||= this.#losses() > 0;
    return this.#nowNs;
  }

  #isEnough(spentNs: number, counts: readonly number[]): boolean {
    const { durationS } = this.#point;
    if (durationS > 0) {
      this.#hooks.onProgress?.(Math.min(1, spentNs / (durationS * 1e9)));
      return spentNs >= durationS * 1e9;
    }
    this.#hooks.onProgress?.(Math.min(0.95, spentNs / MEASURE_MAX_NS));
    if (spentNs < MEASURE_MIN_NS) return false;
    if (spentNs >= MEASURE_MAX_NS) return true;
    return this.#server.clients.requests >= COMPLETIONS_MIN && relativeHalfWidth(counts) < HALF_WIDTH;
  }

  /**
   * A finite run, from the first SYN to the last completion. Its beginning and its end are simulated, and as much of
   * its middle as it takes to know the rate there; the rest of the middle goes on like that.
   */
  #runAb(): PointResult {
    const { clients } = this.#server;
    this.#startMeasuring(START_NS);
    const middle = new FiniteRun(clients);
    let nowNs = START_NS;
    while (!clients.done && nowNs - START_NS < AB_MAX_NS) {
      nowNs = this.#runWindow(nowNs);
      const total = clients.completedEver + clients.failed + clients.left;
      this.#hooks.onProgress?.((clients.completedEver + clients.failed) / total);
      if (middle.skippedNs === 0) middle.look(nowNs - START_NS, this.#windowNs, this.#losses());
    }
    const lastS = (clients.lastCompletionNs - START_NS + middle.skippedNs) / 1e9;
    this.#leftOut = middle.skippedCompleted;
    return this.#report(Math.max(nowNs, START_NS + 1), 0, lastS > 0 ? clients.completedEver / lastS : 0);
  }

  #startMeasuring(nowNs: number): void {
    const world = this.#world;
    this.#server.clients.startMeasuring();
    world.accounts.startMeasuring(nowNs);
    for (const lock of world.locks) lock.resetStatistics();
    world.tally.startMeasuring();
    this.#fromNs = nowNs;
    this.#dropsBefore = this.#drops();
    this.#retransmitsBefore = this.#server.clients.retransmits;
    if (this.#point.traceMs > 0) world.accounts.traceBetween(nowNs, nowNs + this.#point.traceMs * 1e6);
  }

  /** Packets lost, or sent again; in a finite run, since the start. */
  #losses(): number {
    const { backlogFull, ringFull } = this.#world.tally;
    return this.#server.clients.retransmits + ringFull + backlogFull + this.#drops();
  }

  #drops(): number {
    return this.#world.kernels.reduce((sum, kernel) => sum + kernel.acceptQueueDrops, 0);
  }

  /** @returns the window's end. */
  #runWindow(fromNs: number): number {
    if (this.#hooks.signal?.aborted) throw new NetPopcornError("ERR_SIM_ABORTED", "the simulation was stopped");
    const untilNs = fromNs + this.#windowNs;
    this.#world.untilNs = untilNs;
    const { clientActor, freeNs, heap, txHeadsNs, txQueues } = this.#world;
    const { clients, cores } = this.#server;
    const count = this.#point.cores;
    for (;;) {
      const nowNs = heap.firstNs;
      if (nowNs >= untilNs) return untilNs;
      const actor = heap.first;
      if (actor < count) {
        const next = cores.step(actor, nowNs);
        heap.set(actor, Math.max(next, freeNs[actor] as number));
      } else if (actor === clientActor) {
        heap.set(actor, Number.POSITIVE_INFINITY);
        heap.atLatest(actor, clients.tick(nowNs, txQueues, txHeadsNs));
      } else {
        heap.set(actor, this.#atIntervals(nowNs));
      }
    }
  }

  #atIntervals(nowNs: number): number {
    const { affinity, balancer } = this.#server;
    if (nowNs >= this.#nextTimerNs) {
      this.#checkRoom();
      this.#server.runTimers(nowNs);
      this.#nextTimerNs = nowNs + TIMER_NS;
    }
    if (affinity && nowNs >= this.#nextMigrateNs) {
      const { ns, steering } = this.#world;
      const moved = affinity.migrate(this.#world.listeners, steering);
      this.#charge(0, nowNs, moved * ns.steerWriteCycles);
      this.#nextMigrateNs = nowNs + MIGRATE_NS;
    }
    if (balancer && nowNs >= balancer.deadlineNs) this.#balance(nowNs);
    return Math.min(
      this.#nextTimerNs,
      affinity ? this.#nextMigrateNs : Number.POSITIVE_INFINITY,
      balancer ? Math.max(balancer.deadlineNs, nowNs + 1) : Number.POSITIVE_INFINITY,
    );
  }

  #checkRoom(): void {
    if (!this.#roomy && this.isFull) throw new NetPopcornError("ERR_SIM", "a kernel of a small run is full");
  }

  /** The balancer reads the kernels' own counters; a move costs both kernels messages and one of them a register. */
  #balance(nowNs: number): void {
    const { accounts, kernels, ns } = this.#world;
    kernels.forEach((kernel, id) => {
      const us = Math.floor(accounts.everBusyNs(id) / 1000);
      kernel.memory.addBusyUs(us - (this.#toldBusyUs[id] as number));
      this.#toldBusyUs[id] = us;
    });
    const event = this.#server.balancer?.step(nowNs);
    for (const { from, to } of event?.moves ?? []) {
      this.#charge(from, nowNs, 2 * ns.messageCycles + ns.steerWriteCycles);
      this.#charge(to, nowNs, 2 * ns.messageCycles);
    }
  }

  #charge(core: number, nowNs: number, ns: number): void {
    if (ns > 0) delay(this.#world, core, nowNs, this.#world.accounts.spend(core, STACK, ns));
  }

  #report(nowNs: number, warmUpS: number, connsPerSec: number): PointResult {
    const world = this.#world;
    this.#checkRoom();
    checkWaiters(world);
    const { clients } = this.#server;
    const { accounts, costs, tally } = world;
    const point = this.#point;
    const spanNs = nowNs - this.#fromNs;
    const coreShares = Array.from({ length: point.cores }, (_, core) => accounts.sharesOf(core, nowNs));
    const simulated = clients.completed - this.#leftOut;
    let busyNs = 0;
    for (let core = 0; core < point.cores; core++) busyNs += accounts.busyNs(core);
    return {
      design: point.design,
      cores: point.cores,
      workload: point.workload,
      machine: this.#machine.name,
      protocol: point.protocol,
      seed: point.seed,
      connsPerSec,
      requestsPerSec: connsPerSec > 0 ? (connsPerSec * clients.requests) / Math.max(clients.completed, 1) : 0,
      latencyUs: clients.latency.latencyUs(),
      failedConnections: clients.failed,
      utilization: coreShares.map((shares) => 1 - shares.idle),
      shares: meanShares(coreShares),
      coreShares,
      locks: this.#lockReports(spanNs),
      latencyCdf: clients.latency.cdf(LATENCY_POINTS),
      losses: {
        ringFull: tally.ringFull,
        backlogFull: tally.backlogFull,
        acceptQueueFull: this.#drops() - this.#dropsBefore,
        synRetransmits: clients.retransmits - this.#retransmitsBefore,
        connectionsReset: tally.connectionsReset,
      },
      localPacketShare: tally.packets > 0 ? tally.localPackets / tally.packets : 0,
      softirqShare: tally.softirqNs / (spanNs * point.cores),
      lookUpShare: tally.lookUpNs / (spanNs * point.cores),
      cyclesPerConn: simulated > 0 ? (busyNs * costs.clockGhz) / simulated : 0,
      warmUpS,
      measuredS: spanNs / 1e9,
      simulatedPackets: tally.simulatedPackets,
      wallMs: ((this.#hooks.wallNs?.() ?? 0) - this.#startWallNs) / 1e6,
      trace: accounts.trace.sort((a, b) => a.ts - b.ts || a.tid - b.tid),
    };
  }

  /** Locks that matter, most first; those of one kind together where there are many. */
  #lockReports(spanNs: number): LockReport[] {
    const byName = new Map<string, { acquisitions: number; contended: number; spinNs: number }>();
    for (const lock of this.#world.locks) {
      const name = lock.name.split(" ")[0] as string;
      const sum = byName.get(name) ?? { acquisitions: 0, contended: 0, spinNs: 0 };
      sum.acquisitions += lock.acquisitions;
      sum.contended += lock.contended;
      sum.spinNs += lock.spinNs;
      byName.set(name, sum);
    }
    return [...byName]
      .map(([name, { acquisitions, contended, spinNs }]) => ({
        name,
        acquisitions,
        contended,
        spinShare: spinNs / (spanNs * this.#point.cores),
      }))
      .sort((a, b) => b.spinShare - a.spinShare);
  }
}

/** @throws NetPopcornError ERR_SIM: processes wait for a listener's lock that is free, and nobody is to wake them. */
function checkWaiters({ listeners, processes }: World): void {
  listeners.forEach(({ owned, waiters }, index) => {
    if (owned || waiters.length === 0) return;
    if (processes.some(({ state, waitsFor }) => state === RUNNABLE && waitsFor === index)) return;
    throw new NetPopcornError("ERR_SIM", `${waiters.length} processes wait for the free lock of listener ${index}`);
  });
}
