/**
 * Cores with a user-level stack (mTCP): a stack thread and an application thread on each, which hand batches to each
 * other. A round: up to 64 packets, timers, what the application has asked for since the last round; then, if there are
 * events, one switch, the application handles all of them, and a switch back. What the application asks for leaves with
 * the next round: when a packet comes, or when the stack thread's wait for packets times out.
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
import type { Clients } from "./clients.ts";
import * as F from "./connectionFields.ts";
import { APP, STACK, SWITCH, VFS } from "./core.ts";
import type { FrameQueue } from "./frameQueue.ts";
import { type Listener, type Process, SlotList } from "./process.ts";
import { EVENT_WORDS, type ServerKernel } from "./serverKernel.ts";
import type { UserProxy } from "./userProxy.ts";
import { KIND_SHIFT, KIND_SYN, SLOT_MASK } from "./wire.ts";
import type { World } from "./world.ts";

/** mTCP's source: packets of one round. */
export const ROUND_PACKETS = 64;
const AREA_BYTES = 65536;
/** Reading a batch costs this part of what handling its packets costs, once. */
const EMPTY_ROUND_NS = 100;

export class UserCores {
  readonly #world: World;
  readonly #clients: Clients;
  readonly #proxy: UserProxy | undefined;
  /** Connections with events for the application, by core. */
  readonly #events: readonly SlotList[];
  /** The application has asked for something that the stack has not seen. */
  readonly #asked: Uint8Array;
  /** The application runs next. */
  readonly #inApp: Uint8Array;
  readonly #roundAtNs: Float64Array;

  constructor(world: World, clients: Clients, proxy: UserProxy | undefined) {
    const { cores } = world.point;
    this.#world = world;
    this.#clients = clients;
    this.#proxy = proxy;
    this.#events = Array.from({ length: cores }, () => new SlotList());
    this.#asked = new Uint8Array(cores);
    this.#inApp = new Uint8Array(cores);
    this.#roundAtNs = new Float64Array(cores).fill(Number.POSITIVE_INFINITY);
  }

  readyNs(core: number): number {
    const headNs = this.#world.rxHeadsNs[core] ?? Number.POSITIVE_INFINITY;
    return Math.min(headNs, this.#roundAtNs[core] as number);
  }

  /** @returns when the core acts next; Infinity: when it is called. */
  step(core: number, now: number): number {
    const { accounts, freeNs } = this.#world;
    if (this.#inApp[core] === 1) {
      const end = this.#application(core, now);
      freeNs[core] = end;
      accounts.note(core, "application", "process", now, end);
      return end;
    }
    if (this.readyNs(core) > now) return this.readyNs(core);
    const end = this.#round(core, now);
    freeNs[core] = end;
    accounts.note(core, "round", "stack", now, end);
    return end;
  }

  /** One round of the stack thread. */
  #round(core: number, now: number): number {
    const world = this.#world;
    const { accounts, ns } = world;
    const kernel = world.kernels[core] as ServerKernel;
    const queue = world.rxQueues[core] as FrameQueue;
    const count = queue.arrived(now, ROUND_PACKETS);
    let opened = 0;
    for (let i = 0; i < count; i++) {
      const entry = queue.headSlot;
      if (entry >>> KIND_SHIFT === KIND_SYN) opened++;
      world.notePacket(entry & SLOT_MASK, core);
      kernel.stage(queue);
    }
    world.tally.simulatedPackets += count;
    let t = now + accounts.spend(core, STACK, EMPTY_ROUND_NS + count * ns.userRxPacketCycles);
    for (let i = 0; i < count; i++) t = world.readPacket(core, t);
    t += accounts.spend(core, STACK, opened * ns.userConnCycles);
    const events = kernel.poll(now, count);
    const woken = this.#note(kernel, core, events);
    const frames = world.emit(kernel, core, t);
    // Sending goes through the same batches as receiving.
    t += accounts.spend(core, STACK, frames * ns.userRxPacketCycles);
    this.#asked[core] = 0;
    this.#roundAtNs[core] = Number.POSITIVE_INFINITY;
    if (woken) {
      this.#inApp[core] = 1;
      t += accounts.spend(core, SWITCH, ns.userSwitchCycles);
    }
    return t;
  }

  /** Queues events for the application. @returns whether there are any. */
  #note(kernel: ServerKernel, core: number, count: number): boolean {
    const { connections } = this.#world;
    const { slotOf, words } = kernel;
    const list = this.#events[core] as SlotList;
    for (let i = 0, at = kernel.eventsAt; i < count; i++, at += EVENT_WORDS) {
      const handle = words[at] as number;
      if (handle >>> HANDLE_KIND_SHIFT !== 0) continue;
      const index = handle & HANDLE_INDEX_MASK;
      const slot = slotOf[index] as number;
      if (slot < 0) continue;
      const mask = (words[at + 1] as number) & 0xffff;
      if (connections.get(slot, F.HANDLE) !== handle) {
        if (mask & EVENT_CLOSED) slotOf[index] = -1;
        continue;
      }
      if (mask & (EVENT_ERROR | EVENT_PEER_CLOSED)) connections.set(slot, F.ENDED, 1);
      if (mask & EVENT_ERROR) this.#world.tally.connectionsReset++;
      const readable = (mask & EVENT_READABLE) !== 0 && (words[at + 2] as number) > 0;
      if (!readable && !(mask & (EVENT_ERROR | EVENT_PEER_CLOSED | EVENT_CONNECTED))) continue;
      if (connections.get(slot, F.QUEUED) === 1) continue;
      connections.set(slot, F.QUEUED, 1);
      list.push(slot);
    }
    return list.count > 0 || kernel.acceptQueue > 0;
  }

  /** The application handles all its events. */
  #application(core: number, now: number): number {
    const world = this.#world;
    const { accounts, connections, ns } = world;
    const list = this.#events[core] as SlotList;
    let t = this.#acceptAll(core, now);
    for (let slot = list.shift(); slot >= 0; slot = list.shift()) {
      connections.set(slot, F.QUEUED, 0);
      t += accounts.spend(core, STACK, ns.userEventCycles);
      t = this.#serve(core, slot, t);
    }
    this.#inApp[core] = 0;
    if (this.#asked[core] === 1) this.#roundAtNs[core] = t + ns.userPollUs * 1000;
    return t;
  }

  #acceptAll(core: number, now: number): number {
    const world = this.#world;
    const { accounts, connections, ns } = world;
    const kernel = world.kernels[core] as ServerKernel;
    const listener = world.listeners[core] as Listener;
    const process = world.processes[core] as Process;
    let t = now;
    while (kernel.acceptQueue > 0) {
      const handle = kernel.exports.tcpAccept(listener.handle);
      if (handle < 0) break;
      t += accounts.spend(core, STACK, ns.userEventCycles);
      const slot = this.#clients.slotOfPeer(kernel.peerByte(handle), kernel.peerPort(handle));
      if (slot < 0) {
        kernel.exports.tcpAbort(handle);
        continue;
      }
      kernel.slotOf[handle & HANDLE_INDEX_MASK] = slot;
      connections.set(slot, F.HANDLE, handle);
      connections.set(slot, F.PROCESS, process.id);
      connections.set(slot, F.KERNEL, core);
      t = this.#serve(core, slot, t);
    }
    return t;
  }

  /** Reads, and answers a whole request. */
  #serve(core: number, slot: number, now: number): number {
    const world = this.#world;
    const { accounts, connections, costs, ns, point } = world;
    const handle = connections.get(slot, F.HANDLE);
    if (handle < 0) return now;
    if (slot >= connections.clientSlots) {
      this.#asked[core] = 1;
      return this.#proxy ? this.#proxy.serveActive(core, slot, now) : now;
    }
    const kernel = world.kernels[core] as ServerKernel;
    const received = Math.max(kernel.exports.tcpRecv(handle, kernel.area, AREA_BYTES), 0);
    let t = now + accounts.spend(core, STACK, received / ns.copyBytesPerCycle / costs.clockGhz);
    connections.set(slot, F.SERVER_BYTES, connections.get(slot, F.SERVER_BYTES) + received);
    if (connections.get(slot, F.SERVER_BYTES) < point.messageBytes) {
      if (connections.get(slot, F.ENDED) === 1) this.#close(core, slot, kernel);
      return t;
    }
    connections.set(slot, F.SERVER_BYTES, 0);
    t += accounts.spend(core, APP, point.appCycles / costs.clockGhz);
    this.#asked[core] = 1;
    if (this.#proxy) return this.#proxy.connect(core, slot, t);
    t += accounts.spend(core, VFS, point.fileOpensPerRequest * ns.fileOpenCycles);
    t += accounts.spend(core, STACK, ns.userEventCycles + point.responseBytes / ns.copyBytesPerCycle / costs.clockGhz);
    kernel.send(handle, point.responseBytes);
    const served = connections.get(slot, F.REQUESTS_SERVED) + 1;
    connections.set(slot, F.REQUESTS_SERVED, served);
    if (served >= point.requestsPerConn && point.workload !== "rpc") {
      t += accounts.spend(core, STACK, ns.userEventCycles);
      this.#close(core, slot, kernel);
    }
    return t;
  }

  #close(core: number, slot: number, kernel: ServerKernel): void {
    const { connections } = this.#world;
    kernel.exports.tcpClose(connections.get(slot, F.HANDLE));
    connections.set(slot, F.HANDLE, -1);
    this.#asked[core] = 1;
  }
}
