/**
 * What a core does with a received packet in a kernel: protocol processing under the locks of the release, and waking
 * who waits for it. The kernel itself processes the frame; here is only what that costs and what follows.
 */
import {
  EVENT_CLOSED,
  EVENT_CONNECTED,
  EVENT_ERROR,
  EVENT_PEER_CLOSED,
  EVENT_READABLE,
  HANDLE_INDEX_MASK,
  HANDLE_KIND_SHIFT,
} from "../../layout/event.ts";
import * as F from "./connectionFields.ts";
import { CACHE_MISS, LOCK_SPIN, STACK, SWITCH } from "./core.ts";
import type { FrameQueue } from "./frameQueue.ts";
import type { SpinLock } from "./lock.ts";
import { IN_ACCEPT, IN_EPOLL, IN_READ, type Listener, type Process, RUNNABLE } from "./process.ts";
import { EVENT_WORDS, type ServerKernel } from "./serverKernel.ts";
import { KIND_ACK, KIND_DATA, KIND_SHIFT, KIND_SYN, SLOT_MASK } from "./wire.ts";
import type { World } from "./world.ts";

/** Heads of the wheel's lists. */
const TIME_WAIT_LINES = 2;
/** Head of the port's list of sockets, and the neighbour of the one that joins or leaves. */
const BIND_LINES = 2;
/** A packet's sk_buff (four lines) and its headers, which a core that has not received it fetches. */
const PACKET_LINES = 6;
/** A request_sock, which goes from the core that has processed the SYN to the one that makes a child of it. */
const REQUEST_LINES = 5;
/** An ACK that a listener defers: the request is looked up, the options are read, and that is all. */
const DEFERRED_CYCLES_SHARE = 0.3;
/** Queueing a frame to a socket's backlog. */
const BACKLOG_CYCLES_SHARE = 0.1;

export class Softirq {
  readonly #world: World;
  /** Makes a process runnable on its core at `t`. */
  readonly #enqueue: (process: Process, t: number) => void;
  /** Where a hash sends packets of a core without a queue. */
  readonly #spread: boolean;
  /** TCP_DEFER_ACCEPT. */
  readonly #defers: boolean;
  readonly #timeWaitLock: SpinLock | undefined;
  /** Of the hash bucket that lists all sockets of the service's port. */
  readonly #bindLock: SpinLock | undefined;
  /** Connections of a burst whose handshake may be complete. */
  readonly #burstAcks: Int32Array;

  constructor(world: World, enqueue: (process: Process, t: number) => void) {
    this.#world = world;
    this.#enqueue = enqueue;
    this.#spread = world.design.rps;
    this.#defers = world.point.deferAccept;
    this.#burstAcks = new Int32Array(Math.max(1, Math.ceil(world.ns.napiBudget)));
    const shared = world.design.tables === "shared";
    this.#timeWaitLock = world.traits.timeWaitLocked && shared ? world.createLock("tw_death_row") : undefined;
    this.#bindLock = shared ? world.createLock("bind_bucket") : undefined;
  }

  /**
   * A poll of a kernel that shares nothing: `count` frames that have arrived are processed in one go, as NAPI does, and
   * their answers leave together. Nobody else sees what they change, so that no lock's order can be wrong.
   * @returns when they are done.
   */
  burst(core: number, now: number, queue: FrameQueue, count: number): number {
    const world = this.#world;
    const { accounts, connections, ns } = world;
    const kernel = world.kernels[core] as ServerKernel;
    const listener = world.listeners[core] as Listener;
    const lockNs = ns.lockUncontendedCycles;
    const own = this.#burstAcks;
    let t = world.readPackets(core, count, now);
    let stackNs = count * ns.rxPacketCycles;
    let locks = 0;
    let acks = 0;
    for (let i = 0; i < count; i++) {
      const entry = queue.headSlot;
      const slot = entry & SLOT_MASK;
      if (entry >>> KIND_SHIFT === KIND_SYN) {
        connections.set(slot, F.KERNEL, core);
        connections.set(slot, F.LISTENER, core);
        connections.set(slot, F.HALF_OPEN, 1);
        stackNs += ns.synCycles;
        locks++;
      } else if (connections.get(slot, F.HALF_OPEN) === 1) {
        locks++;
        const kind = entry >>> KIND_SHIFT;
        const deferred = this.#defers && kind === KIND_ACK;
        if (deferred) {
          stackNs += ns.segmentCycles * DEFERRED_CYCLES_SHARE;
        } else {
          // What comes behind it in the same burst finds the child.
          connections.set(slot, F.HALF_OPEN, 0);
          own[acks++] = slot;
          stackNs += ns.childCycles;
          if (kind === KIND_DATA) stackNs += ns.segmentCycles;
        }
      } else {
        stackNs += ns.segmentCycles;
        world.notePacket(slot, core);
      }
      kernel.stage(queue);
    }
    world.tally.simulatedPackets += count;
    t += accounts.spend(core, STACK, stackNs);
    if (locks > 0 && world.traits.listenerLocked) {
      listener.spin.acquisitions += locks;
      t += accounts.spend(core, LOCK_SPIN, locks * lockNs);
    }
    const before = kernel.acceptQueue;
    const events = kernel.poll(now, count);
    const accepted = Math.min(kernel.acceptQueue - before, acks);
    for (let i = 0; i < accepted; i++) {
      const slot = own[i] as number;
      connections.set(slot, F.LAST_CORE, core);
      connections.set(slot, F.LAST_DATA_CORE, core);
      listener.acceptCount++;
      t = this.#wakeAcceptors(listener, core, t);
    }
    for (let i = accepted; i < acks; i++) connections.set(own[i] as number, F.HALF_OPEN, 1);
    return this.#follow(kernel, events, core, t, -1);
  }

  /** Processes the queue's oldest frame on `core`. @returns when it is done. */
  frame(core: number, now: number, queue: FrameQueue, handedOn: boolean): number {
    const world = this.#world;
    const entry = queue.headSlot;
    const slot = entry & SLOT_MASK;
    const kind = entry >>> KIND_SHIFT;
    let t = now;
    if (this.#spread && !handedOn) {
      const target = this.#targetOf(slot, core);
      if (target !== core) return this.#handOn(core, target, t, queue);
    }
    world.tally.simulatedPackets++;
    t += world.accounts.spend(core, STACK, world.ns.rxPacketCycles);
    t = world.readPacket(core, t);
    if (kind === KIND_SYN) return this.#syn(slot, core, t, queue, false);
    if (world.connections.get(slot, F.HALF_OPEN) === 1) return this.#child(slot, kind, core, t, queue, false);
    return this.#segment(slot, kind, core, t, queue);
  }

  /** The owner of a listener's lock processes what came meanwhile, wherever it came. */
  backlogFrame(core: number, now: number, queue: FrameQueue): number {
    const { connections } = this.#world;
    const entry = queue.headSlot;
    const slot = entry & SLOT_MASK;
    const from = this.#world.queueOf(slot);
    const t = this.#world.fetch(core, from, PACKET_LINES, now);
    const kind = entry >>> KIND_SHIFT;
    if (kind === KIND_SYN) return this.#syn(slot, core, t, queue, true);
    if (connections.get(slot, F.HALF_OPEN) === 1) return this.#child(slot, kind, core, t, queue, true);
    return this.#segment(slot, kind, core, t, queue);
  }

  /** RFD brings active connections to the core that opened them; RPS spreads over all cores by hash. */
  #targetOf(slot: number, core: number): number {
    const { connections, point, processes, rxQueues } = this.#world;
    if (slot >= connections.clientSlots) {
      const process = processes[connections.get(slot, F.PROCESS)];
      return process ? process.core : core;
    }
    if (rxQueues.length >= point.cores) return core;
    return (connections.get(slot, F.HASH) >>> 8) % point.cores;
  }

  #handOn(core: number, target: number, now: number, queue: FrameQueue): number {
    const { accounts, handedOn, ns } = this.#world;
    // The packet is taken off the ring and queued to the other core, which gets an interrupt if it has none pending.
    const backlog = handedOn[target] as FrameQueue;
    const interrupt = backlog.count === 0 ? ns.interruptCycles : 0;
    const t = now + accounts.spend(core, STACK, ns.rxPacketCycles * 0.5 + interrupt);
    if (!queue.passOn(backlog, t)) this.#world.tally.backlogFull++;
    this.#world.callCore(target, t);
    return t;
  }

  #kernelOf(slot: number, core: number): number {
    const { connections, design, kernels } = this.#world;
    if (kernels.length === 1) return 0;
    const known = connections.get(slot, F.KERNEL);
    if (design.tables === "shared" && known >= 0) return known;
    return design.choice === "local" ? core : known >= 0 ? known : 0;
  }

  #syn(slot: number, core: number, now: number, queue: FrameQueue, owner: boolean): number {
    const world = this.#world;
    const { accounts, connections, ns } = world;
    const kernelId = this.#kernelOf(slot, core);
    const perKernel = world.listeners.length / world.kernels.length;
    const index = kernelId * perKernel + (connections.get(slot, F.LISTENER) % perKernel);
    connections.set(slot, F.KERNEL, kernelId);
    connections.set(slot, F.LISTENER, index);
    const listener = world.listeners[index] as Listener;
    const kernel = world.kernels[kernelId] as ServerKernel;
    let t = this.#lookUpListener(core, now);
    const locked = world.traits.listenerLocked && !owner;
    if (locked) {
      t = world.lock(listener.spin, core, t);
      if (listener.owned) return this.#toBacklog(listener, core, t, queue);
    }
    t = world.fetch(core, listener.lastCore, 2, t);
    listener.lastCore = core;
    t += accounts.spend(core, STACK, ns.synCycles);
    kernel.deliver(queue, now);
    const frames = world.emit(kernel, core, t + ns.txPacketCycles);
    t += accounts.spend(core, STACK, frames * ns.txPacketCycles);
    if (frames > 0) connections.set(slot, F.HALF_OPEN, 1);
    t = world.steerSent(core, slot, frames, true, t);
    connections.set(slot, F.LAST_CORE, core);
    if (locked) listener.spin.release(core, t);
    return t;
  }

  /** The ACK that completes a handshake, or the request that comes with it or behind it. */
  #child(slot: number, kind: number, core: number, now: number, queue: FrameQueue, owner: boolean): number {
    const world = this.#world;
    const { accounts, connections, ns } = world;
    const kernelId = this.#kernelOf(slot, core);
    const listener = world.listeners[connections.get(slot, F.LISTENER)] as Listener;
    const kernel = world.kernels[kernelId] as ServerKernel;
    let t = this.#lookUpListener(core, now);
    const locked = world.traits.listenerLocked && !owner;
    if (locked) {
      t = world.lock(listener.spin, core, t);
      if (listener.owned) return this.#toBacklog(listener, core, t, queue);
    }
    // tcp_check_req drops such an ACK, and notes it in the request.
    const deferred = this.#defers && kind === KIND_ACK;
    t = world.fetch(core, listener.lastCore, deferred ? 1 : 3, t);
    t = world.fetch(core, connections.get(slot, F.LAST_CORE), deferred ? 1 : REQUEST_LINES, t);
    listener.lastCore = core;
    const ofChild = ns.childCycles + (kind === KIND_DATA ? ns.segmentCycles : 0);
    t += accounts.spend(core, STACK, deferred ? ns.segmentCycles * DEFERRED_CYCLES_SHARE : ofChild);
    const before = kernel.acceptQueue;
    const events = kernel.deliver(queue, now);
    if (kernel.acceptQueue > before) {
      t = this.changePort(core, t);
      connections.set(slot, F.HALF_OPEN, 0);
      connections.set(slot, F.LAST_CORE, core);
      connections.set(slot, F.LAST_DATA_CORE, core);
      listener.acceptCount++;
      t = this.#wakeAcceptors(listener, core, t);
    }
    if (locked) listener.spin.release(core, t);
    return this.#follow(kernel, events, core, t, slot);
  }

  /** Until 4.5 every listener of a SO_REUSEPORT group is looked at, whichever core wrote it last. */
  #lookUpListener(core: number, now: number): number {
    const { accounts, design, listeners, ns, traits } = this.#world;
    if (design.listeners !== "process" || traits.reuseport === "index") return now;
    // Even in the own cache a line takes its time.
    const lineNs = Math.max(this.#meanLineNs(core), ns.lineLocalCycles);
    const spentNs = accounts.spend(core, CACHE_MISS, listeners.length * ns.listenerScanLines * lineNs);
    this.#world.tally.lookUpNs += spentNs;
    return now + spentNs;
  }

  #meanLineNs(core: number): number {
    const { distance, point } = this.#world;
    let sum = 0;
    for (let other = 0; other < point.cores; other++) sum += distance.lineNs(other, core);
    return sum / point.cores;
  }

  /** A process owns the socket: the packet waits for it. */
  #toBacklog(listener: Listener, core: number, now: number, queue: FrameQueue): number {
    const { accounts, ns } = this.#world;
    const t = now + accounts.spend(core, STACK, ns.segmentCycles * BACKLOG_CYCLES_SHARE);
    // What counts is not what waits, but what has come since the owner began to process it (sk_backlog.len).
    if (listener.backlogged < this.#world.traits.backlogFramesMax) {
      listener.backlogged++;
      queue.passOn(listener.backlog, t);
    } else {
      queue.drop();
      this.#world.tally.backlogFull++;
    }
    listener.lastCore = core;
    listener.spin.release(core, t);
    return t;
  }

  #segment(slot: number, kind: number, core: number, now: number, queue: FrameQueue): number {
    const world = this.#world;
    const { accounts, ns } = world;
    const kernelId = this.#kernelOf(slot, core);
    const kernel = world.kernels[kernelId] as ServerKernel;
    world.notePacket(slot, core);
    let t = world.touchData(slot, core, now);
    if (kind !== KIND_DATA) t = world.touch(slot, core, t);
    t += accounts.spend(core, STACK, ns.segmentCycles);
    const waiting = kernel.timeWait;
    const events = kernel.deliver(queue, now);
    if (kernel.timeWait > waiting) t = this.#enterTimeWait(core, t);
    return this.#follow(kernel, events, core, t, slot);
  }

  /** The connection joins the wheel of those in TIME-WAIT; in the port's list its short record takes its place. */
  #enterTimeWait(core: number, now: number): number {
    const { timeWaitLockHoldCycles } = this.#world.ns;
    const t = this.#holdShortly(this.#timeWaitLock, TIME_WAIT_LINES, timeWaitLockHoldCycles, core, now);
    return this.changePort(core, this.changePort(core, t));
  }

  /** A socket joins the list of its port, or leaves it (__inet_inherit_port, inet_put_port). */
  changePort(core: number, now: number): number {
    return this.#holdShortly(this.#bindLock, BIND_LINES, this.#world.ns.bindLockHoldCycles, core, now);
  }

  #holdShortly(lock: SpinLock | undefined, lines: number, holdNs: number, core: number, now: number): number {
    const world = this.#world;
    if (!lock) return now;
    const from = lock.lastCore;
    let t = world.lock(lock, core, now);
    t = world.fetch(core, from, lines, t);
    t += world.accounts.spend(core, STACK, holdNs);
    lock.release(core, t);
    return t;
  }

  /** Answers leave, and who waits for the events is woken. */
  #follow(kernel: ServerKernel, events: number, core: number, now: number, slot: number): number {
    const world = this.#world;
    let t = events > 0 ? this.events(kernel, events, core, now) : now;
    const frames = world.emit(kernel, core, t);
    if (frames === 0) return t;
    t += world.accounts.spend(core, STACK, frames * world.ns.txPacketCycles);
    return slot < 0 ? t : world.steerSent(core, slot, frames, false, t);
  }

  /** Hands a poll's events to the processes. */
  events(kernel: ServerKernel, count: number, core: number, now: number): number {
    const { connections } = this.#world;
    const { slotOf, words } = kernel;
    let t = now;
    for (let i = 0, at = kernel.eventsAt; i < count; i++, at += EVENT_WORDS) {
      const handle = words[at] as number;
      if (handle >>> HANDLE_KIND_SHIFT !== 0) continue;
      const index = handle & HANDLE_INDEX_MASK;
      const slot = slotOf[index] as number;
      if (slot < 0) continue;
      const mask = (words[at + 1] as number) & 0xffff;
      // The application has closed it: nobody waits any more.
      if (connections.get(slot, F.HANDLE) !== handle) {
        if (mask & EVENT_CLOSED) slotOf[index] = -1;
        continue;
      }
      if (mask & (EVENT_ERROR | EVENT_PEER_CLOSED)) connections.set(slot, F.ENDED, 1);
      if (mask & EVENT_ERROR) this.#world.tally.connectionsReset++;
      const readable = (mask & EVENT_READABLE) !== 0 && (words[at + 2] as number) > 0;
      if (readable || mask & (EVENT_ERROR | EVENT_PEER_CLOSED | EVENT_CONNECTED)) t = this.#readable(slot, core, t);
    }
    return t;
  }

  #readable(slot: number, core: number, now: number): number {
    const world = this.#world;
    const { accounts, connections, ns } = world;
    const process = world.processes[connections.get(slot, F.PROCESS)];
    if (!process) return now;
    if (process.state === IN_READ && process.slot === slot) return this.wake(process, core, now);
    if (world.point.workload === "web-accept" || connections.get(slot, F.QUEUED) === 1) return now;
    connections.set(slot, F.QUEUED, 1);
    process.readable.push(slot);
    let t = now + accounts.spend(core, STACK, ns.epollCallbackCycles);
    t = world.fetch(core, process.epollCore, 1, t);
    process.epollCore = core;
    return process.state === IN_EPOLL ? this.wake(process, core, t) : t;
  }

  /**
   * A connection is ready to be accepted. A blocking accept() is woken exclusively; epoll instances are told one and
   * all, which is the herd.
   */
  #wakeAcceptors(listener: Listener, core: number, now: number): number {
    const { sleepers, watchers } = listener;
    let t = now;
    while (sleepers.length > 0) {
      const process = sleepers.shift() as Process;
      if (process.state === IN_ACCEPT) return this.wake(process, core, t);
    }
    const { accounts, distance, ns } = this.#world;
    let callbackNs = 0;
    let lineNs = 0;
    for (let i = 0; i < watchers.length; i++) {
      const process = watchers[i] as Process;
      callbackNs += ns.epollCallbackCycles;
      if (process.epollCore !== core) {
        lineNs += distance.lineNs(process.epollCore, core);
        process.epollCore = core;
      }
      process.listenerReady = true;
      if (process.state === IN_EPOLL) t = this.wake(process, core, t);
    }
    if (callbackNs > 0) t += accounts.spend(core, STACK, callbackNs);
    if (lineNs > 0) t += accounts.spend(core, CACHE_MISS, lineNs);
    return t;
  }

  /** try_to_wake_up. */
  wake(process: Process, core: number, now: number): number {
    const { accounts, ns } = this.#world;
    const cost = process.core === core ? ns.wakeUpCycles : ns.wakeRemoteCycles;
    const t = now + accounts.spend(core, SWITCH, cost);
    process.state = RUNNABLE;
    this.#enqueue(process, t);
    return t;
  }
}
