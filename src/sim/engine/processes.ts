/**
 * The server's processes: an event loop around epoll_wait, or one connection at a time with blocking calls. Each call
 * of step() is one system call, or one lock of it, on the process's core.
 */
import { NetPopcornError } from "../../errors.ts";
import type { Affinity } from "../designs/affinity.ts";
import type { ActiveOpens } from "./activeOpens.ts";
import type { Clients } from "./clients.ts";
import * as F from "./connectionFields.ts";
import { APP, STACK, VFS } from "./core.ts";
import type { SpinLock } from "./lock.ts";
import * as P from "./process.ts";
import type { Listener, Process } from "./process.ts";
import type { ServerKernel } from "./serverKernel.ts";
import type { Softirq } from "./softirq.ts";
import type { World } from "./world.ts";

const AREA_BYTES = 65536;
/** A step that has taken so long ends, so that packets get their turn. */
const STEP_NS = 10_000;
/** Lines of the descriptor table that an allocation writes. */
const FD_TABLE_LINES = 3;
/** Of the listener and of the request that it gives away. */
const ACCEPT_LINES = 3;
/** Part of a descriptor's cost that is spent under the table's lock. */
const FD_TABLE_PART = 0.2;
/** Line of a dentry, a mount or a list head, beside the lock's own. */
const PATH_LINES = 1;
/**
 * Parts of accept4 (net/socket.c): the new socket and its file are made first, before anybody knows whether there is a
 * connection for them, and nobody waits for that; then the listener's owner takes one from the queue; the rest joins
 * the two. A call that finds nothing destroys what it has made.
 */
const EMPTY_PART = 0.4;
const OWNED_PART = 0.2;
const JOIN_PART = 1 - EMPTY_PART - OWNED_PART;

/** Locks of creating and of destroying a socket, and of opening a file. */
export type LockPlans = {
  readonly create: readonly SpinLock[];
  readonly destroy: readonly SpinLock[];
  readonly file: readonly SpinLock[];
  /** Locks among them that are held for a moment only. */
  readonly path: ReadonlySet<SpinLock>;
  /** The descriptor table that threads of one process share. */
  readonly fdTable: SpinLock | undefined;
};

export type ProcessesOptions = {
  readonly world: World;
  readonly softirq: Softirq;
  readonly clients: Clients;
  readonly plans: LockPlans;
  readonly affinity: Affinity | undefined;
  readonly opens: ActiveOpens;
};

export class Processes {
  readonly #world: World;
  readonly #softirq: Softirq;
  readonly #clients: Clients;
  readonly #plans: LockPlans;
  readonly #affinity: Affinity | undefined;
  readonly #blocking: boolean;
  /** Locks are nobody else's: their order cannot be wrong. */
  readonly #alone: boolean;
  readonly #acceptsPerEvent: number;
  readonly #callBatch: number;
  /** A descriptor, or what a design that does without has to pay. */
  readonly #fdNs: number;
  readonly #opens: ActiveOpens;
  /** Listeners of a process, side by side. */
  readonly #addresses: number;
  #roundRobin = 0;

  constructor(options: ProcessesOptions) {
    this.#world = options.world;
    this.#softirq = options.softirq;
    this.#clients = options.clients;
    this.#plans = options.plans;
    this.#affinity = options.affinity;
    const { point } = options.world;
    this.#alone = options.world.design.tables === "core" && !point.sharedFdTable;
    this.#blocking = point.workload === "web-accept";
    this.#acceptsPerEvent = point.acceptsPerEvent;
    const { design, ns } = options.world;
    this.#callBatch = design.callBatch;
    this.#fdNs = design.socketFiles ? ns.fdCycles : 0;
    this.#opens = options.opens;
    this.#addresses = point.listenAddresses;
  }

  /** The process's next call on its core. @returns when it is done; the process may wait for something then. */
  step(process: Process, now: number): number {
    let t = now;
    // Calls without a lock run on in one step: they would only come back here after nothing else on this core.
    const { accounts } = this.#world;
    for (;;) {
      const from = t;
      const name = P.OP_NAMES[process.op] as string;
      t = this.#call(process, from);
      accounts.note(process.core, name, "process", from, t);
      const { op } = process;
      const unlocked =
        this.#alone || op === P.OP_ACCEPTED || op === P.OP_SERVE || op === P.OP_RESPOND || op === P.OP_CLOSED;
      if (process.state !== P.RUNNABLE || !unlocked) return t;
      if (t - now > STEP_NS && process.owns < 0) return t;
    }
  }

  #call(process: Process, now: number): number {
    if (process.slot >= 0 && this.#isGone(process)) {
      this.#next(process);
      return now;
    }
    switch (process.op) {
      case P.OP_WAIT:
        return this.#wait(process, now);
      case P.OP_EMPTY:
        return this.#destroyed(process, now);
      case P.OP_ACCEPT:
        return this.#accept(process, now);
      case P.OP_RELEASE:
        return this.#release(process, now);
      case P.OP_PLAN:
        return this.#takeLock(process, now);
      case P.OP_ACCEPTED:
        return this.#accepted(process, now);
      case P.OP_SERVE:
        return this.#serve(process, now);
      case P.OP_RESPOND:
        return this.#respond(process, now);
      case P.OP_CONNECT:
        return this.#connect(process, now);
      case P.OP_CLOSE:
        return this.#close(process, now);
      case P.OP_CLOSED:
        return this.#closed(process, now);
      default:
        throw new NetPopcornError("ERR_SIM", `a process has nothing to do: ${P.OP_NAMES[process.op]}`);
    }
  }

  /** The client has given the process's connection up, and its slot has another life or none. */
  #isGone(process: Process): boolean {
    const { op, slot } = process;
    if (op !== P.OP_SERVE && op !== P.OP_RESPOND && op !== P.OP_CLOSE && op !== P.OP_CONNECT) return false;
    const { connections } = this.#world;
    return connections.get(slot, F.HANDLE) < 0 || connections.get(slot, F.PROCESS) !== process.id;
  }

  #stack(process: Process, ns: number): number {
    return this.#world.accounts.spend(process.core, STACK, ns);
  }

  /** A system call: it enters the kernel, unless others are to enter with it. @returns what that costs. */
  #enter(process: Process): number {
    process.calls++;
    if (process.calls < this.#callBatch) return 0;
    process.calls = 0;
    return this.#world.ns.syscallCycles;
  }

  #kernelOf(slot: number): ServerKernel {
    const { connections, kernels } = this.#world;
    return kernels[connections.get(slot, F.KERNEL)] as ServerKernel;
  }

  /** epoll_wait: reports what is ready, or sleeps. */
  #wait(process: Process, now: number): number {
    const { listeners, ns } = this.#world;
    process.calls = 0;
    const t = now + this.#stack(process, ns.syscallCycles + ns.epollWaitCycles);
    process.epollCore = process.core;
    // Level-triggered: the listener stays in the ready list as long as there is somebody to accept.
    if (process.listenerReady) process.listenerReady = this.#acceptable(process);
    process.batch = process.readable.count;
    process.listenerReported = process.listenerReady;
    if (process.batch === 0 && !process.listenerReported) {
      process.state = P.IN_EPOLL;
      this.#affinity?.idle(process.core, listeners);
      return t;
    }
    this.#next(process);
    return t;
  }

  /** Is there a connection that accept() would give this process? */
  #acceptable(process: Process): boolean {
    return this.#chooseListener(process, false) >= 0;
  }

  /** Would the next call of the process find nothing and sleep? */
  findsNothing(process: Process): boolean {
    if (process.op !== P.OP_WAIT || process.readable.count > 0) return false;
    if (!process.listenerReady) return true;
    return this.#addresses === 1 && (this.#world.listeners[process.listener] as Listener).acceptCount === 0;
  }

  /** What #wait does then. Preconditions: findsNothing(process), which accepts from its own listener only. */
  sleepAgain(process: Process, now: number): number {
    const { ns } = this.#world;
    process.calls = 0;
    process.epollCore = process.core;
    process.listenerReady = false;
    process.batch = 0;
    process.listenerReported = false;
    process.state = P.IN_EPOLL;
    return now + this.#stack(process, ns.syscallCycles + ns.epollWaitCycles);
  }

  /** The next of the reported events; none left: epoll_wait, or a blocking accept. */
  #next(process: Process): void {
    process.slot = -1;
    if (this.#blocking) {
      process.op = P.OP_ACCEPT;
      return;
    }
    if (process.batch > 0) {
      process.batch--;
      const slot = this.#nextReadable(process);
      if (slot >= 0) {
        process.slot = slot;
        process.op = P.OP_SERVE;
        return;
      }
    }
    if (process.listenerReported) {
      process.listenerReported = false;
      process.accepts = this.#acceptsPerEvent;
      process.op = P.OP_ACCEPT;
      return;
    }
    process.op = P.OP_WAIT;
  }

  /** -1: none. Connections to back ends that were closed while they stood in the list are free from now on. */
  #nextReadable(process: Process): number {
    const { connections } = this.#world;
    for (;;) {
      const slot = process.readable.shift();
      if (slot < 0) return slot;
      connections.set(slot, F.QUEUED, 0);
      if (slot < connections.clientSlots || connections.get(slot, F.HANDLE) >= 0) return slot;
      connections.giveActive(slot);
      if (process.batch === 0) return -1;
      process.batch--;
    }
  }

  /** After a connection that was just accepted: another one, unless it has been enough. */
  #nextAfterAccept(process: Process): void {
    if (!this.#blocking && process.accepts > 0) process.op = P.OP_ACCEPT;
    else this.#next(process);
  }

  /** Listener whose queue accept() takes from. @param really the choice is made, not only asked for. */
  #chooseListener(process: Process, really: boolean): number {
    const { design, listeners } = this.#world;
    const own = listeners[process.listener] as Listener;
    if (design.acceptFrom === "own") {
      if (this.#addresses === 1) return own.acceptCount > 0 ? process.listener : -1;
      return this.#anyAddress(process);
    }
    if (this.#affinity) return this.#affinity.choose(process.core, listeners, really);
    for (let i = 0; i < listeners.length; i++) {
      const index = (this.#roundRobin + i) % listeners.length;
      if ((listeners[index] as Listener).acceptCount === 0) continue;
      if (really) this.#roundRobin = (index + 1) % listeners.length;
      return index;
    }
    return -1;
  }

  /** The service has several addresses: the next one that somebody has connected to. */
  #anyAddress(process: Process): number {
    this.#roundRobin++;
    for (let i = 0; i < this.#addresses; i++) {
      const index = process.listener + ((this.#roundRobin + i) % this.#addresses);
      if ((this.#world.listeners[index] as Listener).acceptCount > 0) return index;
    }
    return -1;
  }

  /** Who was woken because a listener's lock is free takes that one, and wakes the next: nobody else would. */
  #listenerFor(process: Process): number {
    const { waitsFor } = process;
    process.waitsFor = -1;
    if (waitsFor >= 0) return waitsFor;
    const chosen = this.#chooseListener(process, true);
    return chosen < 0 ? process.listener : chosen;
  }

  /** accept4: takes the socket's lock, or sleeps while another process owns it; then a connection, if there is one. */
  #accept(process: Process, now: number): number {
    const world = this.#world;
    const { connections, ns } = world;
    let t = now;
    if (!process.inAccept) {
      process.inAccept = true;
      t += this.#stack(process, this.#enter(process) + ns.acceptCycles * EMPTY_PART);
      t += world.accounts.spend(process.core, VFS, this.#fdNs);
      this.#plan(process, this.#plans.create, P.OP_ACCEPT);
      if (process.op === P.OP_PLAN) return t;
    }
    const index = this.#listenerFor(process);
    const listener = world.listeners[index] as Listener;
    t = world.lock(listener.spin, process.core, t);
    if (listener.owned && process.owns !== index) {
      listener.waiters.push(process);
      process.waitsFor = index;
      process.state = P.IN_LOCK;
      listener.spin.release(process.core, t);
      return t;
    }
    listener.owned = true;
    process.owns = index;
    listener.spin.release(process.core, t);
    t = world.fetch(process.core, listener.lastCore, ACCEPT_LINES, t);
    listener.lastCore = process.core;
    const kernel = world.kernels[listener.kernel] as ServerKernel;
    const handle = listener.acceptCount > 0 ? kernel.exports.tcpAccept(listener.handle) : -1;
    process.op = P.OP_RELEASE;
    process.slot = -1;
    if (handle < 0) return t;
    listener.acceptCount--;
    t += this.#stack(process, ns.acceptCycles * OWNED_PART);
    const slot = this.#clients.slotOfPeer(kernel.peerByte(handle), kernel.peerPort(handle));
    process.accepts--;
    if (slot < 0) {
      // It has waited in the queue for longer than its client would.
      kernel.exports.tcpAbort(handle);
      return t;
    }
    kernel.slotOf[handle & 0xffffff] = slot;
    connections.set(slot, F.HANDLE, handle);
    connections.set(slot, F.PROCESS, process.id);
    connections.set(slot, F.KERNEL, listener.kernel);
    process.slot = slot;
    return t;
  }

  /** release_sock: the owner processes what came meanwhile, one packet a step, and wakes the next. */
  #release(process: Process, now: number): number {
    const world = this.#world;
    const listener = world.listeners[process.owns] as Listener;
    if (listener.backlog.count > 0) {
      process.releasing = true;
      return this.#softirq.backlogFrame(process.core, now, listener.backlog);
    }
    process.releasing = false;
    let t = world.lock(listener.spin, process.core, now);
    listener.owned = false;
    listener.backlogged = 0;
    process.owns = -1;
    const next = listener.waiters.shift();
    if (next) t = this.#softirq.wake(next, process.core, t);
    listener.spin.release(process.core, t);
    if (process.slot < 0 && this.#blocking) {
      this.#sleepInAccept(process);
      return t;
    }
    process.inAccept = false;
    if (process.slot >= 0) process.op = P.OP_ACCEPTED;
    else this.#plan(process, this.#plans.destroy, P.OP_EMPTY);
    return t;
  }

  /** accept4 has found nothing, and what it had made is gone again. */
  #destroyed(process: Process, now: number): number {
    this.#next(process);
    return now + this.#world.accounts.spend(process.core, VFS, this.#fdNs);
  }

  /** inet_csk_wait_for_connect: woken one at a time; a connection that has come meanwhile is not slept on. */
  #sleepInAccept(process: Process): void {
    process.op = P.OP_ACCEPT;
    if (this.#chooseListener(process, false) >= 0) return;
    process.state = P.IN_ACCEPT;
    (this.#world.listeners[process.listener] as Listener).sleepers.push(process);
  }

  #plan(process: Process, locks: readonly SpinLock[], after: number): void {
    process.after = after;
    process.plan = locks;
    process.planAt = 0;
    process.op = locks.length > 0 ? P.OP_PLAN : after;
  }

  /** One lock of the VFS, or of the descriptor table. */
  #takeLock(process: Process, now: number): number {
    const world = this.#world;
    const lock = process.plan[process.planAt++] as SpinLock;
    const from = lock.lastCore;
    let t = world.lock(lock, process.core, now);
    const { fdTable, path } = this.#plans;
    const { ns } = world;
    let lines = ns.vfsLockLines;
    let holdNs = ns.vfsLockHoldCycles;
    if (lock === fdTable) {
      lines = FD_TABLE_LINES;
      holdNs = ns.fdCycles * FD_TABLE_PART;
    } else if (path.has(lock)) {
      lines = PATH_LINES;
      holdNs = ns.pathLockHoldCycles;
    }
    t = world.fetch(process.core, from, lines, t);
    t += world.accounts.spend(process.core, VFS, holdNs);
    lock.release(process.core, t);
    if (process.planAt === process.plan.length) process.op = process.after;
    return t;
  }

  /** What the new socket holds is touched when the listener's lock is free again (sock_graft). */
  #accepted(process: Process, now: number): number {
    const { ns } = this.#world;
    let t = this.#world.touch(process.slot, process.core, now);
    t += this.#stack(process, ns.acceptCycles * JOIN_PART);
    process.op = P.OP_SERVE;
    return t;
  }

  /** Reads what there is; a whole request is answered, a part waited for. */
  #serve(process: Process, now: number): number {
    const world = this.#world;
    const { connections, ns, point } = world;
    const { slot } = process;
    const handle = connections.get(slot, F.HANDLE);
    if (handle < 0) {
      this.#next(process);
      return now;
    }
    const active = slot >= connections.clientSlots;
    if (active && connections.get(slot, F.REQUESTS_SERVED) === 0) return this.#askBackend(process, now);
    const kernel = this.#kernelOf(slot);
    let t = now + this.#stack(process, this.#enter(process) + ns.recvCycles);
    t = world.touchData(slot, process.core, t);
    const received = Math.max(kernel.exports.tcpRecv(handle, kernel.area, AREA_BYTES), 0);
    t += this.#stack(process, received / ns.copyBytesPerCycle / world.costs.clockGhz);
    const bytes = connections.get(slot, F.SERVER_BYTES) + received;
    connections.set(slot, F.SERVER_BYTES, bytes);
    if (bytes >= (active ? point.responseBytes : point.messageBytes)) {
      connections.set(slot, F.SERVER_BYTES, 0);
      if (active) return this.#backendAnswered(process, t);
      if (point.workload === "proxy") this.#plan(process, this.#plans.create, P.OP_CONNECT);
      else this.#plan(process, point.fileOpensPerRequest > 0 ? this.#plans.file : [], P.OP_RESPOND);
      return t;
    }
    if (connections.get(slot, F.ENDED) === 1) {
      process.op = P.OP_CLOSE;
      return t;
    }
    return this.#waitForMore(process, t);
  }

  /** Not all there yet: a blocking read sleeps, an event loop goes on. */
  #waitForMore(process: Process, now: number): number {
    const { connections, ns } = this.#world;
    if (this.#blocking) {
      process.state = P.IN_READ;
      process.op = P.OP_SERVE;
      return now;
    }
    // epoll_ctl of a new connection; a read that was asked for in a batch tells when it is done.
    const fresh = connections.get(process.slot, F.REQUESTS_SERVED) === 0 && this.#callBatch === 1;
    const t = fresh ? now + this.#stack(process, this.#enter(process) + ns.epollWaitCycles) : now;
    this.#nextAfterAccept(process);
    return t;
  }

  #respond(process: Process, now: number): number {
    const world = this.#world;
    const { accounts, connections, ns, point } = world;
    const { core, slot } = process;
    let t = now;
    if (slot < connections.clientSlots && point.workload !== "proxy") {
      t += accounts.spend(core, APP, point.appCycles / world.costs.clockGhz);
      t += accounts.spend(core, VFS, point.fileOpensPerRequest * ns.fileOpenCycles);
    }
    t = this.#send(process, slot, point.responseBytes, t);
    const served = connections.get(slot, F.REQUESTS_SERVED) + 1;
    connections.set(slot, F.REQUESTS_SERVED, served);
    if (served < point.requestsPerConn || point.workload === "rpc") return this.#keep(process, t);
    process.op = P.OP_CLOSE;
    return t;
  }

  /** The client may ask again. A proxy's connection to the back end has served its request, and is closed. */
  #keep(process: Process, now: number): number {
    const { connections } = this.#world;
    const active = connections.get(process.slot, F.PEER);
    if (active < 0) return this.#waitForMore(process, now);
    connections.set(process.slot, F.PEER, -1);
    connections.set(active, F.PEER, -1);
    process.slot = active;
    process.op = P.OP_CLOSE;
    return now;
  }

  #send(process: Process, slot: number, bytes: number, now: number): number {
    const world = this.#world;
    const { accounts, connections, costs, ns } = world;
    const { core } = process;
    const kernel = this.#kernelOf(slot);
    let t = now + accounts.spend(core, STACK, this.#enter(process) + ns.sendCycles);
    t += accounts.spend(core, STACK, bytes / ns.copyBytesPerCycle / costs.clockGhz);
    t = world.touchData(slot, core, t);
    kernel.sendNow(connections.get(slot, F.HANDLE), bytes);
    const frames = world.emit(kernel, core, t);
    t += accounts.spend(core, STACK, frames * ns.txPacketCycles);
    return world.steerSent(core, slot, frames, false, t);
  }

  #close(process: Process, now: number): number {
    const world = this.#world;
    const { connections, ns } = world;
    const { slot } = process;
    const kernel = this.#kernelOf(slot);
    let t = now + this.#stack(process, this.#enter(process) + ns.closeCycles);
    t = world.touch(slot, process.core, t);
    kernel.exports.tcpCloseNow(connections.get(slot, F.HANDLE));
    connections.set(slot, F.HANDLE, -1);
    // Once it is closed, a client's slot may have another life.
    process.peer = connections.get(slot, F.PEER);
    connections.set(slot, F.PEER, -1);
    // Without a TIME-WAIT: the client has closed first. Ports of connections to back ends are in other buckets.
    if (slot < connections.clientSlots && connections.get(slot, F.ENDED) === 1)
      t = this.#softirq.changePort(process.core, t);
    const frames = world.emit(kernel, process.core, t);
    t += this.#stack(process, frames * ns.txPacketCycles);
    world.transmitSteering?.sentLast(process.core, frames);
    this.#plan(process, this.#plans.destroy, P.OP_CLOSED);
    return t;
  }

  /** The descriptor, dentry and inode are gone. */
  #closed(process: Process, now: number): number {
    const { accounts, connections } = this.#world;
    const t = now + accounts.spend(process.core, VFS, this.#fdNs);
    const { peer, slot } = process;
    // One that stands in a list of readable connections is taken off there before it has another life.
    if (slot >= connections.clientSlots && connections.get(slot, F.QUEUED) === 0) connections.giveActive(slot);
    if (peer >= 0 && connections.get(peer, F.HANDLE) >= 0) {
      // A proxy closes both sides.
      connections.set(peer, F.PEER, -1);
      process.slot = peer;
      process.op = P.OP_CLOSE;
    } else {
      this.#nextAfterAccept(process);
    }
    return t;
  }

  /** A proxy opens a connection to a back end for the request that it has read. */
  #connect(process: Process, now: number): number {
    const world = this.#world;
    const { accounts, connections, ns, point } = world;
    const { core, slot } = process;
    let t = now + accounts.spend(core, APP, point.appCycles / world.costs.clockGhz);
    t += accounts.spend(core, VFS, this.#fdNs);
    t += this.#stack(process, this.#enter(process) + ns.connectCycles);
    const kernelId = connections.get(slot, F.KERNEL);
    const kernel = world.kernels[kernelId] as ServerKernel;
    const active = connections.takeActive();
    const handle = active < 0 ? -1 : this.#opens.open(kernel, kernelId, active, core);
    if (handle < 0) {
      // No port or no record is left: the client sees the connection closed.
      if (active >= 0) connections.giveActive(active);
      process.op = P.OP_CLOSE;
      return t;
    }
    kernel.slotOf[handle & 0xffffff] = active;
    connections.set(active, F.HANDLE, handle);
    connections.set(active, F.PROCESS, process.id);
    connections.set(active, F.KERNEL, kernelId);
    connections.set(active, F.LAST_CORE, core);
    connections.set(active, F.LAST_DATA_CORE, core);
    connections.set(active, F.PEER, slot);
    connections.set(slot, F.PEER, active);
    const frames = world.flush(kernel, core, t);
    t += this.#stack(process, frames * ns.txPacketCycles);
    t = world.steerSent(core, active, frames, true, t);
    this.#nextAfterAccept(process);
    return t;
  }

  /** The back end has taken the connection: the request goes there. */
  #askBackend(process: Process, now: number): number {
    const { connections, point } = this.#world;
    const { slot } = process;
    connections.set(slot, F.REQUESTS_SERVED, 1);
    if (connections.get(slot, F.ENDED) === 1) {
      process.op = P.OP_CLOSE;
      return now;
    }
    const t = this.#send(process, slot, point.messageBytes, now);
    this.#next(process);
    return t;
  }

  /** The back end's answer goes to the client, unless that has gone, and its slot has another life or none. */
  #backendAnswered(process: Process, now: number): number {
    const { connections } = this.#world;
    const client = connections.get(process.slot, F.PEER);
    if (client < 0 || connections.get(client, F.HANDLE) < 0 || connections.get(client, F.PEER) !== process.slot) {
      connections.set(process.slot, F.PEER, -1);
      process.op = P.OP_CLOSE;
      return now;
    }
    process.slot = client;
    process.op = P.OP_RESPOND;
    return now;
  }
}
