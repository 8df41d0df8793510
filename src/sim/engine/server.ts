/** Puts a simulated server together: kernels, listeners, locks, processes, cores, and who balances them. */
import { Balancer } from "../../balancer/balancer.ts";
import { choosePolicy } from "../../balancer/choosePolicy.ts";
import { parseAddress } from "../../ip/address.ts";
import { initialQueue } from "../../device/flowGroups.ts";
import { FLOW_GROUPS } from "../../layout/flowGroup.ts";
import type { SeedSource } from "../../kernel/seed.ts";
import type { FrameRing } from "../../views/frameRing.ts";
import { Affinity } from "../designs/affinity.ts";
import { Prng } from "../prng.ts";
import type { SimPoint } from "../types.ts";
import { ActiveOpens } from "./activeOpens.ts";
import { buffersBytes, memoryFor, ringBytesFor } from "./boot.ts";
import { CLIENT_MAC, Clients, peerAddresses, SERVER_MAC, SERVER_PORT, serverAddress } from "./clients.ts";
import * as F from "./connectionFields.ts";
import { STACK } from "./core.ts";
import { FrameQueue } from "./frameQueue.ts";
import { introduce } from "./introductions.ts";
import { BURST_FRAMES_MAX, KernelCores } from "./kernelCores.ts";
import type { SpinLock } from "./lock.ts";
import { IN_ACCEPT, type Listener, OP_ACCEPT, OP_WAIT, Process, RUNNABLE, RunQueue } from "./process.ts";
import { type LockPlans, Processes } from "./processes.ts";
import { ServerKernel } from "./serverKernel.ts";
import { Softirq } from "./softirq.ts";
import { SteeringDevice } from "./steeringDevice.ts";
import { ROUND_PACKETS, UserCores } from "./userCores.ts";
import { UserProxy } from "./userProxy.ts";
import { KIND_OTHER, KIND_SHIFT, SLOT_MASK } from "./wire.ts";
import { RING_FRAMES_MIN, type World } from "./world.ts";

/** TCBs of all the server's kernels together: those in TIME-WAIT too. */
const SERVER_CONNECTIONS = 1 << 20;
const SERVER_CONNECTIONS_MIN = 1 << 16;
/** Likewise where needsLittle(). */
const SERVER_CONNECTIONS_FEW = 1 << 19;
const CONNECTIONS_FEW_MIN = 20_480;
const CONCURRENCY_FEW = 1 << 16;
/** The rings of fewer kernels stay in the caches anyway. */
const REWINDING_KERNELS_MIN = 4;
const BUFFERS_BYTES_FEW = 1024;
const RAMP_NS = 100e6;
/** What Apache asks for. */
const DEFER_ACCEPT_MS = 30_000;
/** TX rings of all kernels together. */
const TX_RINGS_BYTES = 1 << 20;

export interface Cores {
  step(core: number, now: number): number;
}

export type Server = {
  readonly cores: Cores;
  readonly clients: Clients;
  readonly balancer: Balancer | undefined;
  readonly affinity: Affinity | undefined;
  /** Runs the kernels' timers. */
  runTimers(nowNs: number): void;
};

export type ServerOptions = {
  readonly world: World;
  readonly module: WebAssembly.Module;
  readonly seeds: SeedSource;
  readonly tickNs: number;
  /** Kernels with room for any number of connections. */
  readonly roomy: boolean;
};

export function createServer(options: ServerOptions): Server {
  const { module, seeds, tickNs, world } = options;
  const { connections, design, point } = world;
  const perKernel = design.listeners === "process" ? point.procsPerCore : 1;
  const listenersPerKernel = perKernel * point.listenAddresses;
  world.kernels = bootKernels(options, listenersPerKernel);
  world.listeners = createListeners(world, listenersPerKernel);
  world.processes = createProcesses(world, perKernel);
  const choose = new Prng(point.seed, 23);
  const clients = new Clients({
    point,
    module,
    seed: seeds(500),
    connections,
    steering: world.steering,
    serverAddresses: listenersPerKernel,
    framesPerSecMax: world.costs.clientFramesPerSecMax,
    linkGbps: world.costs.linkGbps,
    tickNs,
    rampNs: point.protocol === "ab" ? 0 : RAMP_NS,
    hotGroups: hotGroups(point, world.steering.queues),
    rewinds: fillsNoRing(point),
    send: (words, at, leavesNs, entry) => toServer(world, words, at, leavesNs, entry),
    onOpen: (slot, index) => {
      const kernel = design.choice === "hash" && world.kernels.length > 1 ? choose.below(world.kernels.length) : 0;
      connections.set(slot, F.LISTENER, kernel * listenersPerKernel + index);
      // The members of a SO_REUSEPORT group are told apart by address here, which the clients draw, not by a hash.
      if (design.choice === "hash" && world.kernels.length > 1) connections.set(slot, F.KERNEL, kernel);
    },
  });
  const affinity = design.balancer === "affinity" ? new Affinity(point.cores, backlogOf(world)) : undefined;
  const opens = new ActiveOpens(world, clients.activeSlots);
  const { cores, softirq } = createCores(world, clients, opens, affinity);
  const server: Server = {
    cores,
    clients,
    affinity,
    balancer: design.balancer === "policy" ? createBalancer(world, clients) : undefined,
    runTimers: (nowNs) => runTimers(world, softirq, nowNs),
  };
  resolveAddresses(world, clients);
  return server;
}

function createCores(
  world: World,
  clients: Clients,
  opens: ActiveOpens,
  affinity: Affinity | undefined,
): { cores: Cores; softirq: Softirq } {
  const { cores } = world.point;
  const runQueues = Array.from({ length: cores }, () => new RunQueue(Math.ceil(world.processes.length / cores)));
  const softirq = new Softirq(world, (process, t) => {
    (runQueues[process.core] as RunQueue).push(process);
    const idle = world.isIdle(process.core, t);
    world.callCore(process.core, idle ? t + world.ns.idleExitUs * 1000 : t);
  });
  if (world.design.stack === "user") {
    const proxy = world.point.workload === "proxy" ? new UserProxy(world, opens) : undefined;
    return { cores: new UserCores(world, clients, proxy), softirq };
  }
  const plans = lockPlans(world);
  const processes = new Processes({ world, softirq, clients, plans, affinity, opens });
  for (const process of world.processes) {
    if (process.state === RUNNABLE) (runQueues[process.core] as RunQueue).push(process);
  }
  return { cores: new KernelCores(world, softirq, processes, runQueues), softirq };
}

/** Connections that each of `count` kernels has room for, if there may be any number. */
function roomFor(count: number): number {
  const share = 2 ** Math.ceil(Math.log2((SERVER_CONNECTIONS * 2) / count));
  return Math.min(SERVER_CONNECTIONS, Math.max(SERVER_CONNECTIONS_MIN, share));
}

/**
 * Whether little memory will probably do: most points have a second's worth of connections in TIME-WAIT and few others,
 * with small buffers, so that one of each fits for as many connections as there may be. Kernels that fill it say so.
 */
export function needsLittle(point: SimPoint): boolean {
  const { arrivalsPerSec, concurrency, timeWaitS } = point;
  return (
    timeWaitS <= 1 && arrivalsPerSec === 0 && concurrency <= CONCURRENCY_FEW && buffersBytes(point) <= BUFFERS_BYTES_FEW
  );
}

/** Nobody sends so much at a time that a TX ring is full, which puts who finds it so behind all others. */
function fillsNoRing(point: SimPoint): boolean {
  return needsLittle(point) && point.protocol === "steady";
}

function bootKernels({ module, roomy, seeds, world }: ServerOptions, addresses: number): ServerKernel[] {
  const { connections, design, point } = world;
  const count = design.listeners === "one" ? 1 : point.cores;
  const few = Math.max(CONNECTIONS_FEW_MIN, Math.ceil(SERVER_CONNECTIONS_FEW / count));
  const connectionsMax = roomy ? roomFor(count) : few;
  const rings = { rxRingBytes: rxRingBytes(world), txRingBytes: txRingBytes(world, count) };
  const memory = memoryFor({ connectionsMax, open: connections.slots, ...rings }, point);
  const rewinds = fillsNoRing(point) && design.tables === "core" && count >= REWINDING_KERNELS_MIN;
  return Array.from({ length: count }, (_, kernelId) => {
    const kernel = new ServerKernel(
      {
        module,
        kernelId: kernelId & 127,
        seed: seeds(kernelId),
        mac: SERVER_MAC,
        addresses: Array.from({ length: addresses }, (_unused, i) => `${serverAddress(i)}/16`),
        tuning: {
          ...memory,
          timeWaitMs: Math.round(point.timeWaitS * 1000),
          listenersMax: 64,
        },
      },
      connectionsMax,
      rewinds,
    );
    return kernel;
  });
}

// Rings are as small as may be, so that they stay in the caches of the machine that simulates.

/** Room for a whole burst. */
function rxRingBytes({ costs, design, point }: World): number {
  const largest = Math.max(point.messageBytes, point.workload === "proxy" ? point.responseBytes : 0);
  const burst = design.stack === "user" ? ROUND_PACKETS : Math.min(BURST_FRAMES_MAX, Math.ceil(costs.napiBudget));
  return Math.max(1 << 15, ringBytesFor(burst, largest));
}

/** Room for RING_FRAMES_MIN; more where kernels are few, or send in batches. */
function txRingBytes({ design, point }: World, kernels: number): number {
  if (design.stack === "user") return 1 << 18;
  const largest = Math.max(point.responseBytes, point.workload === "proxy" ? point.messageBytes : 0);
  const share = 2 ** Math.floor(Math.log2(TX_RINGS_BYTES / kernels));
  return Math.max(1 << 16, Math.min(1 << 18, share), ringBytesFor(RING_FRAMES_MIN, largest));
}

/** Affinity-Accept divides the backlog among its cores' queues; other listeners have all of it each. */
function backlogOf({ design, point }: World): number {
  const divided = design.acceptFrom !== "own";
  return divided ? Math.max(1, Math.floor(point.backlog / point.cores)) : point.backlog;
}

function createListeners(world: World, perKernel: number): Listener[] {
  const spin = (kernel: number, index: number) =>
    world.createLock(world.kernels.length * perKernel === 1 ? "listener" : `listener ${kernel}.${index}`);
  const deferAcceptMs = world.design.stack === "kernel" && world.point.deferAccept ? DEFER_ACCEPT_MS : 0;
  return world.kernels.flatMap((kernel, id) =>
    Array.from({ length: perKernel }, (_, index) => ({
      kernel: id,
      handle: kernel.listen(SERVER_PORT, backlogOf(world), perKernel === 1 ? -1 : index, deferAcceptMs),
      spin: spin(id, index),
      owned: false,
      lastCore: -1,
      waiters: [],
      backlog: new FrameQueue(),
      backlogged: 0,
      sleepers: [],
      watchers: [],
      acceptCount: 0,
      busy: false,
      average: 0,
    })),
  );
}

/** A process watches all addresses of its service; the first of its listeners stands for them. */
function createProcesses(world: World, perKernel: number): Process[] {
  const { design, point } = world;
  const perCore = design.stack === "user" ? 1 : point.procsPerCore;
  const blocking = point.workload === "web-accept";
  const processes: Process[] = [];
  for (let core = 0; core < point.cores; core++) {
    for (let i = 0; i < perCore; i++) {
      const kernel = design.listeners === "one" ? 0 : core;
      const first = (kernel * perKernel + (perKernel > 1 ? i : 0)) * point.listenAddresses;
      const process = new Process(processes.length, core, first, blocking ? OP_ACCEPT : OP_WAIT);
      processes.push(process);
      for (let k = 0; !blocking && k < point.listenAddresses; k++) {
        (world.listeners[first + k] as Listener).watchers.push(process);
      }
    }
  }
  if (blocking) putToSleep(world, processes, perCore);
  return processes;
}

/** A server that has been up for a while: its processes sleep in accept, those of all cores in turn. */
function putToSleep({ listeners }: World, processes: readonly Process[], perCore: number): void {
  for (let i = 0; i < perCore; i++) {
    for (let at = i; at < processes.length; at += perCore) {
      const process = processes[at] as Process;
      process.state = IN_ACCEPT;
      process.inAccept = true;
      (listeners[process.listener] as Listener).sleepers.push(process);
    }
  }
}

/** Which locks creating and destroying a socket and opening a file take, where the release still has global ones. */
function lockPlans(world: World): LockPlans {
  const { design, point, traits } = world;
  const fdTable = point.sharedFdTable && design.socketFiles ? world.createLock("files_struct") : undefined;
  const table: readonly SpinLock[] = fdTable ? [fdTable] : [];
  if (!traits.globalVfsLocks || design.tables === "core") {
    return { create: table, destroy: table, file: [], path: new Set(), fdTable };
  }
  const dcache = world.createLock("dcache_lock");
  const inode = world.createLock("inode_lock");
  const files = world.createLock("files_lock");
  const mounts = world.createLock("vfsmount_lock");
  const dentry = world.createLock("d_lock");
  // Socket: d_alloc, new_inode, d_instantiate; dput and iput undo it.
  const socket = design.vfsBypass && point.vfsBypass ? [] : [dcache, inode, dcache];
  // File: a server of static files looks at a path (stat) and opens it; all requests are for the same file.
  const once = [mounts, dentry, dentry, mounts, dentry, files, files, dentry];
  const file = Array.from({ length: point.fileOpensPerRequest }, () => once).flat();
  const path = new Set([files, mounts, dentry]);
  return { create: [...table, ...socket], destroy: [...table, ...socket], file, path, fdTable };
}

/** The worst case: hot groups that all belong to the first queue at the start. */
function hotGroups({ seed, skew }: SimPoint, queues: number): number[] {
  const random = new Prng(seed, 29);
  const own = Array.from({ length: FLOW_GROUPS }, (_, group) => group).filter((g) => initialQueue(g, queues) === 0);
  for (let i = own.length - 1; i > 0; i--) {
    const j = random.below(i + 1);
    [own[i], own[j]] = [own[j] as number, own[i] as number];
  }
  return own.slice(0, skew.hotGroups);
}

/** A frame of the clients comes to the card, which puts it into a queue. */
function toServer(world: World, words: Int32Array, at: number, leavesNs: number, entry: number): void {
  if (entry >>> KIND_SHIFT === KIND_OTHER) {
    tellAll(world, words, at, leavesNs);
    return;
  }
  const slot = entry & SLOT_MASK;
  const arrivalNs = world.link.toServer(leavesNs);
  const queue = world.queueOf(slot);
  if (!(world.rxQueues[queue] as FrameQueue).push(words, at, arrivalNs, entry)) {
    world.tally.ringFull++;
    return;
  }
  world.callCore(queue, arrivalNs);
}

/** ARP belongs to no flow: every kernel learns of it, as behind the model card, at no cost. */
function tellAll(world: World, words: Int32Array, at: number, nowNs: number): void {
  const queue = new FrameQueue();
  world.kernels.forEach((kernel, id) => {
    queue.push(words, at, nowNs, 0);
    kernel.deliver(queue, nowNs);
    world.emit(kernel, id % world.point.cores, nowNs);
  });
}

/** Before time begins: the clients learn the server's Ethernet address, and its kernels theirs. */
function resolveAddresses(world: World, clients: Clients): void {
  const [first] = world.kernels;
  if (!first) return;
  const peers = peerAddresses(world.point.workload);
  introduce(world.kernels, serverAddress(0), peers, CLIENT_MAC);
  const queue = new FrameQueue();
  const answer = (words: Int32Array, at: number, into: FrameRing) => {
    queue.push(words, at, 0, 0);
    first.deliver(queue, 1e9);
    for (let reply = first.tx.peekRun(); reply !== 0; reply = first.tx.peekRun()) {
      const { runBytes } = first.tx;
      const replies = new FrameQueue();
      replies.push(first.words, reply >> 2, 0, 0);
      if (first.tx.recordLength(reply) >= 0) replies.moveTo(into);
      first.tx.consume(runBytes);
    }
  };
  clients.greet(1e9, answer);
}

/** Timers of all kernels; what they send costs the core of the kernel. */
function runTimers(world: World, softirq: Softirq, nowNs: number): void {
  world.kernels.forEach((kernel, id) => {
    const core = id % world.point.cores;
    const events = kernel.poll(nowNs, 0);
    let t = nowNs;
    if (events > 0 && world.design.stack === "kernel") t = softirq.events(kernel, events, core, nowNs);
    const frames = world.emit(kernel, core, t);
    if (frames === 0 && t === nowNs) return;
    t += world.accounts.spend(core, STACK, frames * world.ns.txPacketCycles);
    delay(world, core, nowNs, t - nowNs);
  });
}

/** Work that comes in between on a core. */
export function delay(world: World, core: number, nowNs: number, ns: number): void {
  const free = Math.max(world.freeNs[core] as number, nowNs) + ns;
  world.freeNs[core] = free;
  if ((world.heap.timeNs[core] as number) < free) world.heap.set(core, free);
}

function createBalancer(world: World, clients: Clients): Balancer {
  const { point } = world;
  const slotOf = (addressByte: number, port: number) => clients.slotOfPeer(addressByte, port);
  return new Balancer({
    device: new SteeringDevice(world.steering, world.connections, slotOf),
    policy: choosePolicy(point.policy),
    kernels: Math.min(world.kernels.length, world.steering.queues),
    rxLanes: 1,
    memoryOf: (kernel) => world.kernels[kernel]?.memory,
    addresses: [parseAddress(serverAddress(0))],
  });
}
