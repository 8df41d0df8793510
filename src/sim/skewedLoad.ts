/**
 * The balancer's test bench: one server of several kernels, each on a virtual core, and clients without cost that keep
 * a number of connections in flight, or come at a rate, most of them in few flow groups. Real kernels, real frames,
 * virtual time.
 */
import { Balancer, type BalancerOptions, type BalancerStats } from "../balancer/balancer.ts";
import type { Policy } from "../balancer/policy.ts";
import { createSegment, type Segment } from "../device/card/segment.ts";
import type { Device } from "../device/device.ts";
import { initialQueue } from "../device/flowGroups.ts";
import { NetPopcornError, statusError } from "../errors.ts";
import { parseAddress, parseCidr } from "../ip/address.ts";
import { resolveTuning, type Tuning, writeConfig } from "../kernel/config.ts";
import type { Handles } from "../kernel/handles.ts";
import { KernelHost } from "../kernel/host.ts";
import { createSeedSource, PortRandom } from "../kernel/seed.ts";
import {
  EVENT_CLOSED,
  EVENT_CONNECTED,
  EVENT_ERROR,
  EVENT_PEER_CLOSED,
  EVENT_READABLE,
  EVENT_SIZE_BYTES,
  HANDLE_INDEX_MASK,
} from "../layout/event.ts";
import { FLOW_GROUPS } from "../layout/flowGroup.ts";
import { EADDRINUSE } from "../layout/status.ts";
import type { MigrationAgent } from "../migration/agent.ts";
import { CallCarrier } from "../migration/carrier.ts";
import { Migrator } from "../migration/migrator.ts";
import { KernelMemory } from "../views/kernelMemory.ts";
import { createMemory, loadModule } from "../wasm/load.ts";
import { Prng } from "./prng.ts";
import { type CoreCosts, type CoreTask, VirtualCore } from "./virtualCores.ts";

export type SkewedLoadOptions = {
  readonly policy: Policy;
  readonly seed: number;
  readonly kernels: number;
  readonly costs: CoreCosts;
  /** Short connections at a time: always (closed loop), or at most. */
  readonly inFlight: number;
  /** Connections come at random, so many per second, whatever the server does (open loop). Default: closed loop. */
  readonly arrivalsPerSecond?: number;
  /** Length of the accept queue of each kernel. */
  readonly backlog: number;
  /** Flow groups that get `hotShare` of the new connections; all of them are kernel 0's at first. 0: uniform. */
  readonly hotGroups: number;
  readonly hotShare: number;
  /** Every flow group has a connection that stays open for the whole run. */
  readonly pinned: boolean;
  /** Exact filters for the balancer. Default: half of the card's. */
  readonly pinsMax?: number;
  /**
   * Long connections, one in each of so many of kernel 0's flow groups, that send and get messages as fast as they can.
   * Default 0.
   */
  readonly busyLong?: number;
  /**
   * The balancer may move groups with their connections. What that, and stealing, costs the cores is not charged.
   * Default false.
   */
  readonly migrate?: boolean;
  readonly warmUpNs: number;
  readonly measureNs: number;
};

export type SkewedLoadResult = {
  readonly policy: string;
  /** Completed in the measured time, per second. */
  readonly connsPerSec: number;
  /** Of messages and answers on the busy long connections. */
  readonly exchangesPerSec: number;
  /** From the SYN to the answer. */
  readonly latencyMs: { readonly mean: number; readonly p50: number; readonly p99: number };
  /** Arrivals in the measured time that found `inFlight` connections there, and were none. */
  readonly turnedAway: number;
  /** Connections that ended in an error, long ones too. */
  readonly failed: number;
  /** Long connections that are still there at the end. */
  readonly longLived: number;
  /** Mean busy share of each core in the measured time. */
  readonly loads: readonly number[];
  readonly balancer: BalancerStats;
};

const SERVER = "10.7.255.1";
const PORT = 80;
const MESSAGE_BYTES = 64;
/** First byte of the messages of a busy long connection. */
const BUSY = 255;
const CLIENT_ADDRESSES = 32;
/** Ports of one group that a client address uses: 32768 + group, and every 4096 from there. */
const PORTS_PER_GROUP = 8;
const PORT_FIRST = 32768;
/** Streams of the seed source: the kernels' own, then one for each stack. */
const KERNELS_MAX = 64;
const EVENT_WORDS = EVENT_SIZE_BYTES >> 2;
const TUNING: Partial<Tuning> = {
  memoryBytes: 64 << 20,
  connectionsMax: 16384,
  // The same addresses and ports come again soon.
  timeWaitMs: 0,
  pollBudgetFrames: 16,
  // A queue never loses a frame here, so a retransmission would only tell that a core is slow.
  rtoInitialUs: 60_000_000,
  rtoMinUs: 60_000_000,
};

export async function runSkewedLoad(options: SkewedLoadOptions): Promise<SkewedLoadResult> {
  const bench = new SkewedLoad(options, await createSegment({ shared: false, portsMax: 8 }));
  try {
    return await bench.run();
  } finally {
    await bench.close();
  }
}

class SkewedLoad {
  readonly #options: SkewedLoadOptions;
  readonly #segment: Segment;
  readonly #hosts: KernelHost[] = [];
  #nowNs = 1e9;

  constructor(options: SkewedLoadOptions, segment: Segment) {
    this.#options = options;
    this.#segment = segment;
  }

  async run(): Promise<SkewedLoadResult> {
    const { costs, kernels, measureNs, pinsMax, policy, seed, warmUpNs } = this.#options;
    const module = await loadModule("kernel", false);
    const seeds = createSeedSource(seed);
    const device = this.#segment.createCard({ queues: kernels });
    const clientDevice = this.#segment.createCard({ queues: 1 });
    const clientCidrs = Array.from({ length: CLIENT_ADDRESSES }, (_, i) => `10.7.0.${i + 1}/16`);
    const boot = (on: Device, queue: number, addresses: string[], kernelSeed: Uint32Array) =>
      this.#boot(module, on, queue, addresses, kernelSeed);
    const servers = Array.from({ length: kernels }, (_, id) => boot(device, id, [`${SERVER}/16`], seeds(id)));
    const client = new Client(boot(clientDevice, 0, clientCidrs, seeds(kernels)), this.#options);
    const tasks = servers.map((host) => new ServerTask(host, this.#options.backlog));
    const cores = tasks.map((task) => new VirtualCore(task, costs));
    const balancer = new Balancer({
      device,
      policy,
      kernels,
      rxLanes: device.rxLanes,
      memoryOf: (kernel) => servers[kernel]?.memory,
      addresses: [parseAddress(SERVER)],
      // The server opens no connections: all ports are the clients'.
      ...(pinsMax === undefined ? {} : { pinsMax }),
      ...this.#createMigration(device, servers),
    });
    // The first connection finds out the server's Ethernet address: SYNs beyond a few would not wait for that.
    client.fill(this.#nowNs);
    this.#runUntil(this.#nowNs + 10e6, client, cores, undefined);
    client.begin(this.#nowNs);
    if (client.completed !== 1) throw new NetPopcornError("ERR_SIM", "the server does not answer");
    if (this.#options.pinned) this.#openLong(client, cores);
    this.#openBusy(client, cores);
    const startNs = this.#nowNs;
    this.#runUntil(startNs + warmUpNs, client, cores, balancer);
    const busyUs = servers.map(({ memory }) => memory.busyUs);
    client.startMeasuring();
    const fromNs = this.#nowNs;
    this.#runUntil(fromNs + measureNs, client, cores, balancer);
    const spanNs = this.#nowNs - fromNs;
    const result = {
      policy: policy.name,
      connsPerSec: (client.completed * 1e9) / spanNs,
      exchangesPerSec: (client.exchanges * 1e9) / spanNs,
      latencyMs: { mean: client.meanLatencyMs(), p50: client.latencyMs(0.5), p99: client.latencyMs(0.99) },
      turnedAway: client.turnedAway,
      failed: client.failed,
      longLived: client.longLived,
      loads: servers.map(({ memory }, id) => (1000 * (memory.busyUs - (busyUs[id] as number))) / spanNs),
      balancer: balancer.stats(),
    };
    balancer.close();
    return result;
  }

  async close(): Promise<void> {
    for (const host of this.#hosts) host.close();
    await this.#segment.close();
  }

  #boot(
    module: WebAssembly.Module,
    device: Device,
    queue: number,
    addresses: readonly string[],
    seed: Uint32Array,
  ): KernelHost {
    const tuning = resolveTuning({ ...TUNING, rxRingBytes: 1 << 20 }, device.rxLanes);
    const memory = new KernelMemory(createMemory(tuning.memoryBytes, false));
    const config = {
      kernelId: queue,
      seed,
      stackSeed: createSeedSource(this.#options.seed)(device.capabilities.queues + KERNELS_MAX),
      mac: device.mac,
      addresses: addresses.map(parseCidr),
      gateway: new Uint8Array(16),
      mtuBytes: 1500,
      rxLanes: device.rxLanes,
      tsoBytesMax: 0,
      checksumOffload: false,
      timestamps: true,
      noDelay: true,
      tuning,
    };
    writeConfig(memory, config);
    const onApplicationError = (error: unknown): never => {
      throw new NetPopcornError("ERR_SIM", "the simulated application failed", { cause: error });
    };
    const host = new KernelHost({ module, memory, config, onApplicationError, onWork: () => {} });
    const port = device.openPort(
      queue,
      memory.queuePair(queue, device.rxLanes, () => {}),
    );
    host.attach(port, new PortRandom(seed));
    this.#hosts.push(host);
    return host;
  }

  #createMigration(device: Device, servers: readonly KernelHost[]): Pick<BalancerOptions, "migrate" | "steal"> {
    const agentOf = (id: number): MigrationAgent | undefined =>
      servers[id]?.migrationAgent(new CallCarrier(id, agentOf));
    const migrator = new Migrator({
      device,
      kernels: () => servers.length,
      isUp: () => true,
      isRunning: () => true,
      ask: (id, request, reply) => agentOf(id)?.handle(request, reply),
      commitsOf: () => 0,
      nowNs: () => this.#nowNs,
    });
    const steal: BalancerOptions["steal"] = (order) => migrator.steal(order);
    if (this.#options.migrate !== true) return { steal };
    return { steal, migrate: (group, to, settled) => void migrator.migrate(group, to, settled).catch(() => {}) };
  }

  /** In groups that follow each other in kernel 0's share, so that each has one. */
  #openBusy(client: Client, cores: readonly VirtualCore[]): void {
    const { busyLong = 0, kernels } = this.#options;
    const groups = Array.from({ length: FLOW_GROUPS }, (_, group) => group).filter(
      (g) => initialQueue(g, kernels) === 0,
    );
    for (const group of groups.slice(0, busyLong)) {
      client.openBusy(group);
      this.#runUntil(this.#nowNs + 1e6, client, cores, undefined);
    }
  }

  #openLong(client: Client, cores: readonly VirtualCore[]): void {
    for (let group = 0; group < FLOW_GROUPS; group += 64) {
      client.openLong(group, Math.min(group + 64, FLOW_GROUPS));
      this.#runUntil(this.#nowNs + 40e6, client, cores, undefined);
    }
    if (client.longLived !== FLOW_GROUPS) {
      throw new NetPopcornError("ERR_SIM", `only ${client.longLived} of ${FLOW_GROUPS} long connections came about`);
    }
  }

  #runUntil(endNs: number, client: Client, cores: readonly VirtualCore[], balancer: Balancer | undefined): void {
    while (this.#nowNs < endNs) {
      const nowNs = this.#nowNs;
      if (balancer && nowNs >= balancer.deadlineNs) balancer.step(nowNs);
      if (balancer) client.fill(nowNs);
      let busy = client.host.turn(nowNs);
      for (const core of cores) if (core.run(nowNs)) busy = true;
      if (busy) continue;
      const next = Math.min(...cores.map((core) => core.nextNs(nowNs)), client.host.nextDeadlineNs());
      const due = balancer ? Math.min(balancer.deadlineNs, client.nextArrivalNs) : endNs;
      this.#nowNs = Math.max(nowNs + 1, Math.min(next, due, endNs));
    }
  }
}

/** Accepts one connection after each turn, reads its request, answers, closes. Long connections just stay. */
class ServerTask implements CoreTask {
  readonly memory: KernelMemory;
  readonly #host: KernelHost;
  readonly #listener: number;
  readonly #area: number;

  constructor(host: KernelHost, backlog: number) {
    this.#host = host;
    this.memory = host.memory;
    const { handles } = host;
    this.#area = handles.alloc(MESSAGE_BYTES);
    // A connection's state is in the kernel, all of it.
    handles.onHandOver({ leave: () => true, arrive: () => {} });
    this.#listener = handles.listen(PORT, backlog);
    if (this.#listener < 0) throw statusError(this.#listener, `listen ${PORT}`);
    handles.onEvents((words, first, count) => {
      for (let at = first, end = first + count * EVENT_WORDS; at < end; at += EVENT_WORDS) {
        const handle = words[at] as number;
        const mask = (words[at + 1] as number) & 0xffff;
        if (handle === this.#listener) continue;
        if (mask & EVENT_READABLE && handles.receive(handle, this.#area, MESSAGE_BYTES) === MESSAGE_BYTES) {
          handles.send(handle, this.#area, MESSAGE_BYTES);
          if (handles.bytes[this.#area] !== BUSY) handles.close(handle);
        } else if (mask & (EVENT_ERROR | EVENT_PEER_CLOSED)) handles.close(handle);
      }
    });
  }

  turn(nowNs: number): boolean {
    return this.#host.turn(nowNs);
  }

  work(): number {
    return this.#host.handles.accept(this.#listener) >= 0 ? 1 : 0;
  }

  nextDeadlineNs(): number {
    return this.#host.nextDeadlineNs();
  }
}

/** All clients, behind one card. */
class Client {
  readonly host: KernelHost;
  completed = 0;
  failed = 0;
  longLived = 0;
  /** Messages of busy connections that were answered. */
  exchanges = 0;
  turnedAway = 0;
  /** Infinity: connections do not come by themselves. */
  nextArrivalNs = Number.POSITIVE_INFINITY;
  readonly #busyMessage: number;
  readonly #hotShare: number;
  readonly #meanGapNs: number;
  /** Connections that may be there now: the first alone. */
  #inFlightMax = 1;
  readonly #options: SkewedLoadOptions;
  readonly #handles: Handles;
  readonly #server = parseAddress(SERVER);
  readonly #random: Prng;
  readonly #hot: readonly number[];
  readonly #message: number;
  readonly #area: number;
  /** By index of the handle: when the SYN was sent, ns; negative: a long connection. */
  readonly #startedNs: number[] = [];
  /** Where each group's search for a free address and port goes on. */
  readonly #cursor = new Uint32Array(FLOW_GROUPS);
  #latenciesNs: number[] = [];
  #inFlight = 0;

  constructor(host: KernelHost, options: SkewedLoadOptions) {
    this.host = host;
    this.#options = options;
    this.#hotShare = options.hotShare;
    this.#meanGapNs = 1e9 / (options.arrivalsPerSecond ?? 0);
    this.#handles = host.handles;
    this.#random = new Prng(options.seed, 1);
    this.#hot = chooseHot(options, this.#random);
    this.#message = this.#handles.alloc(MESSAGE_BYTES);
    this.#area = this.#handles.alloc(MESSAGE_BYTES);
    this.#busyMessage = this.#handles.alloc(MESSAGE_BYTES);
    this.#handles.bytes[this.#busyMessage] = BUSY;
    for (let i = 0; i < MESSAGE_BYTES; i++) this.#handles.bytes[this.#message + i] = i;
    this.#handles.onEvents((words, first, count) => {
      for (let at = first, end = first + count * EVENT_WORDS; at < end; at += EVENT_WORDS) {
        this.#onEvent(words[at] as number, (words[at + 1] as number) & 0xffff);
      }
    });
  }

  /** From now on as the options say. */
  begin(nowNs: number): void {
    this.#inFlightMax = this.#options.inFlight;
    if (this.#options.arrivalsPerSecond !== undefined) this.nextArrivalNs = nowNs;
  }

  startMeasuring(): void {
    this.completed = 0;
    this.turnedAway = 0;
    this.exchanges = 0;
    this.#latenciesNs = [];
  }

  latencyMs(quantile: number): number {
    const sorted = this.#latenciesNs.sort((a, b) => a - b);
    return (sorted[Math.floor(sorted.length * quantile)] ?? Number.NaN) / 1e6;
  }

  meanLatencyMs(): number {
    const sumNs = this.#latenciesNs.reduce((sum, latencyNs) => sum + latencyNs, 0);
    return sumNs / Math.max(this.#latenciesNs.length, 1) / 1e6;
  }

  /** Opens connections: those that have come by now, or until as many are there as shall be. */
  fill(nowNs: number): void {
    while (this.nextArrivalNs <= nowNs) {
      this.nextArrivalNs += -Math.log(1 - this.#random.fraction()) * this.#meanGapNs;
      if (this.#inFlight < this.#inFlightMax) this.#openShort(nowNs);
      else this.turnedAway++;
    }
    if (this.nextArrivalNs < Number.POSITIVE_INFINITY) return;
    while (this.#inFlight < this.#inFlightMax) this.#openShort(nowNs);
  }

  #openShort(nowNs: number): void {
    this.#open(this.#drawGroup(), nowNs);
    this.#inFlight++;
  }

  /** One connection in each of the groups, that stays. */
  openLong(first: number, end: number): void {
    for (let group = first; group < end; group++) this.#open(group, -1);
  }

  openBusy(group: number): void {
    this.#open(group, Number.NEGATIVE_INFINITY);
  }

  #drawGroup(): number {
    const hot = this.#random.fraction() < this.#hotShare;
    if (hot && this.#hot.length > 0) return this.#hot[this.#random.below(this.#hot.length)] as number;
    return this.#random.below(FLOW_GROUPS);
  }

  #open(group: number, startedNs: number): void {
    for (let tries = 0; tries < CLIENT_ADDRESSES * PORTS_PER_GROUP; tries++) {
      const place = this.#cursor[group] as number;
      this.#cursor[group] = (place + 1) % (CLIENT_ADDRESSES * PORTS_PER_GROUP);
      const port = PORT_FIRST + (place % PORTS_PER_GROUP) * FLOW_GROUPS + group;
      const handle = this.#handles.connect(this.#server, PORT, port, Math.floor(place / PORTS_PER_GROUP));
      if (handle === EADDRINUSE) continue;
      if (handle < 0) throw statusError(handle, "connect");
      this.#startedNs[handle & HANDLE_INDEX_MASK] = startedNs;
      return;
    }
    throw new NetPopcornError("ERR_SIM", `group ${group} has no free port left`);
  }

  #onEvent(handle: number, mask: number): void {
    const handles = this.#handles;
    const startedNs = this.#startedNs[handle & HANDLE_INDEX_MASK] as number;
    const long = startedNs < 0;
    if (mask & EVENT_CONNECTED) {
      if (long) this.longLived++;
      if (startedNs === Number.NEGATIVE_INFINITY) handles.send(handle, this.#busyMessage, MESSAGE_BYTES);
      else if (!long) handles.send(handle, this.#message, MESSAGE_BYTES);
    }
    if (mask & EVENT_READABLE && !(mask & EVENT_ERROR)) {
      if (handles.receive(handle, this.#area, MESSAGE_BYTES) !== MESSAGE_BYTES) {
        throw new NetPopcornError("ERR_SIM", "an answer came in pieces");
      }
      if (long) {
        this.exchanges++;
        handles.send(handle, this.#busyMessage, MESSAGE_BYTES);
      } else this.#latenciesNs.push(this.host.nowNs - startedNs);
    }
    if (mask & (EVENT_PEER_CLOSED | EVENT_ERROR)) handles.close(handle);
    if (!(mask & EVENT_CLOSED)) return;
    if (mask & EVENT_ERROR) this.failed++;
    else this.completed++;
    if (long) this.longLived--;
    else this.#inFlight--;
  }
}

/** Hot groups are drawn among those that kernel 0 gets at first: the worst case. */
function chooseHot({ hotGroups, kernels }: SkewedLoadOptions, random: Prng): number[] {
  const own = Array.from({ length: FLOW_GROUPS }, (_, group) => group).filter((g) => initialQueue(g, kernels) === 0);
  for (let i = own.length - 1; i > 0; i--) {
    const j = random.below(i + 1);
    [own[i], own[j]] = [own[j] as number, own[i] as number];
  }
  return own.slice(0, hotGroups);
}
