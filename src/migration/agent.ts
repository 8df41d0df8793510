/**
 * A kernel's side of live migration, on the kernel's thread. It does what the owner asks (request.ts), one move at a
 * time, a bounded part of it in each turn; and it takes frames that come after their group has left to where it is.
 */
import type { Endpoint } from "../control/endpoint.ts";
import type { ActiveOpener } from "../kernel/activeOpener.ts";
import type { KernelExports } from "../wasm/exports.ts";
import { HANDLE_INDEX_MASK } from "../layout/event.ts";
import { FLOW_GROUPS } from "../layout/flowGroup.ts";
import { FRAME_QUEUE } from "../layout/frameRing.ts";
import { MAP_BASE, MAP_TCBS, RESULT_BASE } from "../layout/kernelMemory.ts";
import {
  GROUP_ARRIVING,
  GROUP_HERE,
  GROUP_LEFT,
  GROUP_STEADY,
  MIGRATION_LIST_FLAGS,
  MIGRATION_LIST_HANDLE,
  MIGRATION_LIST_SIZE_BYTES,
  MIGRATION_LIST_SOURCE_HANDLE,
  MIGRATION_LISTED_APP,
} from "../layout/migration.ts";
import { ENOMEM, EOPNOTSUPP, EPROTO, OK } from "../layout/status.ts";
import { TCB_LOCAL_INDEX, TCB_PORTS, TCB_REMOTE_ADDRESS, TCB_SIZE_BYTES } from "../layout/tcb.ts";
import { type Carrier, MessageCarrier, type Parcels } from "./carrier.ts";
import type {
  Arrival,
  Flow,
  HandedOver,
  MigrationAnswer,
  MigrationRequest,
  MoveId,
  Reply,
  StealRequest,
} from "./request.ts";
import { GroupSurvey, type SurveyedHost, WALK_BUDGET } from "./survey.ts";

/** How long frames that come too late are forwarded. */
export const LATE_NS = 50e6;
/** A device that always brings more is not waited for any longer: what it brings then is forwarded. */
const DRAIN_TURNS_MAX = 32;
/** List entries read at once. */
const LIST_MAX = 1024;
/** Of a kernel's memory for pieces and late frames: the largest record, and a piece. */
const AREA_BYTES = 68 * 1024;

type Surveying = { readonly survey: GroupSurvey; readonly reply: Reply };

/** What an agent needs of its kernel (src/kernel/host.ts). */
export interface MigratingHost extends SurveyedHost {
  readonly kernelId: number;
  readonly exports: KernelExports;
  readonly nowNs: number;
  readonly messages: Endpoint;
  readonly opener: ActiveOpener | undefined;
  requestTurn(): void;
  /** Calls a hook of the application. @returns undefined when it throws. */
  guardApplication<T>(call: () => T): T | undefined;
}

type Draining = { readonly reply: Reply; turns: number };
type Freezing = { readonly group: number; readonly to: number; readonly reply: Reply; first: number };
type Leaving = {
  /** What was cancelled, until the device's tables are written; then, and of what has gone, undefined. */
  unwritten: MoveId | undefined;
  /** Undefined until the first turn after that: a kernel that sleeps does not know what time it is. */
  untilNs: number | undefined;
  readonly reply: Reply;
  /** Its frames are as all others again. */
  readonly over: () => void;
  frames: number;
  turnsOver: number;
};
type Transfer = {
  readonly move: MoveId;
  readonly to: number;
  readonly reply: Reply;
  bytes: number;
  first: number;
  /** A piece that found no room yet. */
  waiting: Uint8Array | undefined;
};
type Received = { readonly handles: Map<number, number>; readonly status: number };
type Listed = { readonly sourceHandle: number; readonly handle: number; readonly flags: number };

export class MigrationAgent implements Parcels {
  readonly #host: MigratingHost;
  readonly #carrier: Carrier;
  #areaAt = 0;
  // As the old kernel.
  #surveying: Surveying | undefined;
  #draining: Draining | undefined;
  #freezing: Freezing | undefined;
  #transfer: Transfer | undefined;
  /** What the application's hook has been told to let go. */
  #handedOver: HandedOver[] = [];
  #filters: Arrival["filters"] = [];
  /** Those who want to know when connections that have not gone are reached here again. */
  readonly #staying: Reply[] = [];
  /** Groups, and steals (stealKey), whose late frames are forwarded. */
  readonly #left = new Map<number, Leaving>();
  /** Late frames wait: the kernel that they are for does not know yet of what is being stolen. */
  #isHolding = false;
  /** Bytes of the oldest late frame that are sent already. */
  #lateSent = 0;
  // As the new kernel.
  /** Late frames of which only the beginning has come, by sender. */
  readonly #lateParts = new Map<number, { readonly frame: Uint8Array; bytes: number }>();
  #move: MoveId = 0;
  #status = OK;
  #bytes = 0;
  #listed = 0;
  readonly #received = new Map<number, Received>();
  readonly #receiving = new Map<number, Reply>();

  /** @param carrier default: the message rings. */
  constructor(host: MigratingHost, carrier?: Carrier) {
    this.#host = host;
    if (!carrier && !host.messages) throw new RangeError("a kernel without others has nowhere to migrate to");
    this.#carrier = carrier ?? new MessageCarrier(host.messages as NonNullable<typeof host.messages>, this);
  }

  /** @param reply called once, at once or in a later turn. */
  handle(request: MigrationRequest, reply: Reply): void {
    switch (request.ask) {
      case "stealFreeze":
      case "stealExpect":
      case "stealCommit":
      case "stealGone":
      case "stealCancel":
      case "stealStay":
        this.#steal(request, reply);
        break;
      case "survey":
        // One move at a time: what an earlier one has asked for, nobody waits for any more.
        this.#surveying = { survey: new GroupSurvey(this.#host, request.group, this.#carrier.sameThread), reply };
        this.#surveyTurn();
        break;
      case "arrive":
        reply({ status: this.#arrive(request.move, request.group) });
        break;
      case "drain":
        this.#draining = { reply, turns: 0 };
        break;
      case "freeze":
        this.#freeze(request.group, request.to, reply);
        break;
      case "transfer":
        this.#transfer = { move: request.move, to: request.to, reply, bytes: 0, first: 1, waiting: undefined };
        this.#sendPieces();
        break;
      case "receive":
        this.#receiving.set(request.from, reply);
        this.#answerReceived(request.from);
        break;
      case "commit":
        reply(this.#commit(request.group, request.arrivals));
        break;
      case "gone":
        this.#gone(request.group, reply);
        break;
      case "cancel":
        this.#cancel(request, reply);
        break;
      case "stay":
        this.#stay(request.group);
        this.#staying.push(reply);
        this.#answerStaying();
        break;
      case "written":
        this.#written(request.move);
        reply({ status: OK });
        break;
    }
    this.#host.requestTurn();
  }

  /** When turn() has something to do, ns; Infinity: never. */
  get deadlineNs(): number {
    if (this.#isBusy) return this.#host.nowNs;
    let deadlineNs = Number.POSITIVE_INFINITY;
    // The owner's answer is a message, and wakes.
    if (this.#isLeading) return deadlineNs;
    if (this.#staying.length > 0) return this.#host.nowNs;
    for (const { unwritten, untilNs } of this.#left.values()) {
      if (unwritten === undefined) deadlineNs = Math.min(deadlineNs, untilNs ?? this.#host.nowNs);
    }
    return deadlineNs;
  }

  /**
   * Before each turn of the kernel.
   * @param quiet the last turn has found nothing in the device and in the lanes. @returns true: more is left to do.
   */
  turn(nowNs: number, quiet: boolean): boolean {
    if (this.#staying.length > 0) this.#answerStaying();
    if (this.#left.size > 0 && !this.#isHolding) this.#forwardLate(nowNs, quiet);
    if (this.#surveying) this.#surveyTurn();
    if (this.#draining) this.#drainTurn(quiet);
    if (this.#freezing) this.#freezeTurn();
    if (this.#transfer) this.#sendPieces();
    return this.#isBusy;
  }

  get #isBusy(): boolean {
    return (this.#surveying ?? this.#draining ?? this.#freezing ?? this.#transfer) !== undefined;
  }

  // The old kernel.

  #surveyTurn(): void {
    const { survey, reply } = this.#surveying as Surveying;
    if (!survey.walk()) return;
    this.#surveying = undefined;
    reply({ status: survey.pinned > 0 ? EOPNOTSUPP : OK, connections: survey.connections });
  }

  #drainTurn(quiet: boolean): void {
    const draining = this.#draining as Draining;
    // The turn in which it was asked for may have looked at the device before.
    if (draining.turns++ < 1 || !(quiet || draining.turns > DRAIN_TURNS_MAX)) return;
    this.#draining = undefined;
    draining.reply({ status: OK });
  }

  #freeze(group: number, to: number, reply: Reply): void {
    const left = this.#left.get(group);
    // It was here, went, came back, and goes again before all that was over.
    if (left) this.#endForwarding(group, left);
    this.#host.exports.migrationSetGroup(group, GROUP_LEFT + to);
    this.#freezing = { group, to, reply, first: 1 };
    // On one thread no turn may come in between: an application would find its connection gone.
    if (this.#carrier.sameThread) while (this.#freezing) this.#freezeTurn();
  }

  #freezeTurn(): void {
    const freezing = this.#freezing as Freezing;
    const { group, to, reply } = freezing;
    const rest = this.#host.exports.migrationFreeze(group, freezing.first, WALK_BUDGET);
    freezing.first = 0;
    if (rest > 0) return;
    this.#freezing = undefined;
    const frozen = this.#list(0);
    const handles = new Set(frozen.map(({ handle }) => handle));
    this.#filters = this.#host.opener?.redirectFilters(handles, to, (handle) => this.#flowOf(handle)) ?? [];
    const states = this.#leaveApplication(frozen, to);
    if (!states) {
      reply({ status: EOPNOTSUPP });
      return;
    }
    reply({
      status: this.#area() === 0 ? ENOMEM : OK,
      connections: frozen.length,
      arrival: { from: this.#host.kernelId, states, filters: this.#filters },
    });
  }

  /** @returns what goes with the connections; undefined: one of them cannot go. */
  #leaveApplication(frozen: readonly Listed[], to: number): HandedOver[] | undefined {
    const states: HandedOver[] = [];
    const hook = this.#host.handles.handOver;
    for (const { handle, flags } of frozen) {
      if ((flags & MIGRATION_LISTED_APP) === 0) continue;
      const sink = this.#host.sinkOf(handle);
      if (sink) {
        if (!this.#carrier.sameThread || !sink.moveTo) return undefined;
        states.push([handle, new Follower(sink.moveTo.bind(sink))]);
        continue;
      }
      const state = hook ? this.#host.guardApplication(() => hook.leave(handle, to)) : undefined;
      if (state === undefined) return undefined;
      states.push([handle, state]);
      this.#handedOver.push([handle, state]);
    }
    return states;
  }

  #sendPieces(): void {
    const transfer = this.#transfer as Transfer;
    const { exports, memory } = this.#host;
    const { to, move } = transfer;
    const at = this.#area();
    if (transfer.waiting && !this.#carrier.sendPiece(to, move, transfer.waiting)) return;
    transfer.waiting = undefined;
    for (;;) {
      const bytesMax = Math.min(this.#carrier.pieceBytesMax(to), AREA_BYTES);
      // A kernel that has gone: the owner will say so.
      if (bytesMax === 0) return;
      const bytes = exports.migrationExport(transfer.first, at, bytesMax);
      if (bytes === 0) break;
      transfer.first = 0;
      transfer.bytes += bytes;
      const piece = memory.bytes.subarray(at, at + bytes);
      if (this.#carrier.sendPiece(to, move, piece)) continue;
      transfer.waiting = piece.slice();
      return;
    }
    if (!this.#carrier.sendEnd(to, move)) return;
    this.#transfer = undefined;
    transfer.reply({ status: OK, bytes: transfer.bytes });
  }

  #gone(group: number, reply: Reply): void {
    this.#host.exports.migrationDiscard(1);
    this.#handedOver = [];
    this.#host.opener?.forgetFilters(this.#filters);
    this.#filters = [];
    this.#forward(group, reply, () => this.#host.exports.migrationSetGroup(group, GROUP_STEADY));
  }

  /** Late frames are forwarded for a while. @param unwritten which begins when that is written. */
  #forward(key: number, reply: Reply, over: () => void, unwritten?: MoveId): void {
    this.#left.set(key, { unwritten, untilNs: undefined, reply, over, frames: 0, turnsOver: 0 });
  }

  #written(move: MoveId): void {
    for (const leaving of this.#left.values()) if (leaving.unwritten === move) leaving.unwritten = undefined;
  }

  #stay(group: number): void {
    this.#draining = undefined;
    this.#freezing = undefined;
    this.#transfer = undefined;
    this.#host.exports.migrationSetGroup(group, GROUP_STEADY);
    this.#host.exports.migrationThaw(0);
    this.#replayLate(group);
    this.#host.opener?.restoreFilters(this.#filters);
    this.#filters = [];
    const hook = this.#host.handles.handOver;
    for (const [handle, state] of this.#handedOver.splice(0)) {
      this.#host.guardApplication(() => hook?.arrive(handle, state, this.#host.kernelId));
    }
  }

  /** Once filters lead here again. */
  #answerStaying(): void {
    if (this.#isLeading) return;
    for (const reply of this.#staying.splice(0)) reply({ status: OK });
  }

  get #isLeading(): boolean {
    return this.#host.opener?.isLeading === true;
  }

  /** What was late for connections that stay is for us after all. @param group FLOW_GROUPS: of single flows. */
  #replayLate(group: number): void {
    this.#host.exports.migrationReplayLate(group);
    // The oldest late frame is another one now: what has been sent of it is nothing.
    this.#lateSent = 0;
  }

  #forwardLate(nowNs: number, quiet: boolean): void {
    // Until the owner has them lead elsewhere, filters bring what is late.
    if (!this.#sendLate() || this.#isLeading) return;
    for (const [group, leaving] of this.#left) {
      if (leaving.unwritten !== undefined) continue;
      leaving.untilNs ??= nowNs + LATE_NS;
      if (nowNs < leaving.untilNs) continue;
      // A thread that was not run for long has frames before it that have come in time: they are looked at first.
      const turns = leaving.turnsOver++;
      if (turns > 0 && (quiet || turns > DRAIN_TURNS_MAX)) this.#endForwarding(group, leaving);
    }
  }

  /** @returns false: there is no room for the rest. */
  #sendLate(): boolean {
    const { exports, memory } = this.#host;
    for (let at = exports.migrationLatePeek() >>> 0; at !== 0; at = exports.migrationLatePeek() >>> 0) {
      const bytes = memory.loadU32(RESULT_BASE);
      const leaving = this.#left.get(memory.loadU32(RESULT_BASE + 4));
      const to = (memory.bytes[at + FRAME_QUEUE] as number) | ((memory.bytes[at + FRAME_QUEUE + 1] as number) << 8);
      const partMax = this.#carrier.pieceBytesMax(to);
      while (partMax > 0 && this.#lateSent < bytes) {
        const part = memory.bytes.subarray(at + this.#lateSent, at + Math.min(bytes, this.#lateSent + partMax));
        if (!this.#carrier.sendLate(to, part, this.#lateSent, bytes)) return false;
        this.#lateSent += part.length;
      }
      this.#lateSent = 0;
      exports.migrationLateDrop();
      if (leaving) leaving.frames++;
    }
    return true;
  }

  #endForwarding(key: number, { reply, over, frames }: Leaving): void {
    this.#left.delete(key);
    over();
    reply({ status: OK, frames });
  }

  // The new kernel.

  #arrive(move: MoveId, group: number): number {
    if (this.#area() === 0) return ENOMEM;
    const left = this.#left.get(group);
    if (left) this.#endForwarding(group, left);
    this.#beginReceiving(move);
    const status = this.#host.exports.migrationSetGroup(group, GROUP_ARRIVING);
    if (status === OK) this.#host.opener?.shutGroup(group);
    return status;
  }

  /** What comes for the group is as all else again, and its ports are this kernel's where the tables say so. */
  #settled(group: number): void {
    this.#host.exports.migrationSetGroup(group, GROUP_STEADY);
    this.#host.opener?.openGroup(group);
  }

  #beginReceiving(move: MoveId): void {
    this.#move = move;
    this.#status = OK;
    this.#bytes = 0;
    this.#listed = 0;
    this.#received.clear();
    this.#receiving.clear();
  }

  takePiece(_from: number, move: MoveId, bytes: Uint8Array): void {
    if (move !== this.#move || this.#status < 0) return;
    const { exports, memory } = this.#host;
    let at = bytes.byteOffset;
    if (bytes.buffer !== memory.memory.buffer) {
      at = this.#area();
      memory.bytes.set(bytes, at);
    }
    this.#bytes += bytes.length;
    this.#status = exports.migrationImport(at, bytes.length);
  }

  takeEnd(from: number, move: MoveId): void {
    if (move !== this.#move) return;
    if (this.#status === OK) this.#status = this.#host.exports.migrationImportEnd();
    const handles = new Map<number, number>();
    const listed = this.#list(this.#listed);
    for (const { sourceHandle, handle } of listed) handles.set(sourceHandle, handle);
    this.#listed += listed.length;
    this.#received.set(from, { handles, status: this.#status });
    this.#answerReceived(from);
  }

  #answerReceived(from: number): void {
    const received = this.#received.get(from);
    const reply = this.#receiving.get(from);
    if (!received || !reply) return;
    this.#receiving.delete(from);
    reply({ status: received.status, connections: received.handles.size, bytes: this.#bytes });
  }

  #commit(group: number, arrivals: readonly Arrival[]): MigrationAnswer {
    const { exports } = this.#host;
    this.#move = 0;
    const arrived: HandedOver[] = [];
    for (const { from, states, filters } of arrivals) {
      const handles = this.#received.get(from)?.handles;
      if (!handles) return { status: EPROTO };
      for (const [sourceHandle, state] of states) arrived.push([handles.get(sourceHandle) as number, state]);
      this.#host.opener?.adoptFilters(filters.map(([handle, ...rest]) => [handles.get(handle) as number, ...rest]));
    }
    this.#settled(group);
    exports.migrationThaw(1);
    const hook = this.#host.handles.handOver;
    for (const [handle, state] of arrived) {
      if (state instanceof Follower) state.moveTo(this.#host, handle);
      else this.#host.guardApplication(() => hook?.arrive(handle, state, this.#host.kernelId));
    }
    const frames = exports.migrationReplayHeld(group);
    return { status: OK, frames, bytes: this.#bytes };
  }

  #cancel({ move, group, back, pinned }: Extract<MigrationRequest, { ask: "cancel" }>, reply: Reply): void {
    const { exports } = this.#host;
    this.#move = 0;
    exports.migrationDiscard(0);
    if (back === undefined) {
      this.#settled(group);
      exports.migrationDropHeld(group);
      reply({ status: OK });
      return;
    }
    // What waited for the group is late where it will not be: it goes back, to where the device brings its flow again.
    for (const { flow, kernel } of pinned) {
      const state = kernel === this.#host.kernelId ? GROUP_HERE : GROUP_LEFT + kernel;
      // Without room for it, it goes where its group does: TCP sends again, or finds its peer gone.
      this.#withFlow(flow, (remote, ports) => exports.flowDetour(remote, flow.localIndex, ports, state, move));
    }
    exports.migrationSetGroup(group, GROUP_LEFT + back);
    exports.migrationReplayHeld(group);
    const over = () => {
      this.#settled(group);
      exports.stealDetour(move, GROUP_STEADY);
    };
    this.#forward(group, reply, over, move);
  }

  /** @param use gets where the remote address lies, and the ports as they stand in a segment. */
  #withFlow({ remote, remotePort, localPort }: Flow, use: (remote: number, ports: number) => number): number {
    const at = this.#area();
    if (at === 0) return ENOMEM;
    this.#host.memory.bytes.set(remote, at);
    return use(at, swapped(remotePort) | (swapped(localPort) << 16));
  }

  // Stealing: as the kernel that is stolen from, and as the thief.

  #steal(request: StealRequest, reply: Reply): void {
    const { exports } = this.#host;
    const { move } = request;
    const forgetFlows = () => exports.stealDetour(move, GROUP_STEADY);
    switch (request.ask) {
      case "stealFreeze":
        reply(this.#stealFreeze(request));
        break;
      case "stealExpect":
        reply({ status: this.#stealExpect(move, request.flows) });
        break;
      case "stealCommit": {
        this.#move = 0;
        const connections = this.#received.get(request.from)?.handles.size;
        if (connections === undefined) {
          reply({ status: EPROTO });
          break;
        }
        forgetFlows();
        exports.migrationThaw(1);
        reply({ status: OK, connections, frames: exports.migrationReplayHeld(FLOW_GROUPS) });
        break;
      }
      case "stealGone":
        this.#isHolding = false;
        exports.migrationDiscard(1);
        this.#forward(stealKey(move), reply, forgetFlows);
        break;
      case "stealCancel":
        this.#stealCancel(move, request.back, reply);
        break;
      case "stealStay":
        this.#isHolding = false;
        this.#transfer = undefined;
        forgetFlows();
        exports.migrationThaw(0);
        this.#replayLate(FLOW_GROUPS);
        reply({ status: OK });
        break;
    }
  }

  #stealFreeze({ move, to, connections, addresses, withV6 }: Extract<StealRequest, { ask: "stealFreeze" }>) {
    if (this.#area() === 0) return { status: ENOMEM };
    const { exports } = this.#host;
    // What lies there now is for kernels that know of it: it does not wait for this thief.
    if (this.#left.size > 0 && !this.#isHolding) this.#sendLate();
    const status = exports.stealFreeze(connections, addresses, withV6 ? 1 : 0, to, move);
    this.#isHolding = status > 0;
    return { status: Math.min(status, OK), flows: this.#list(0).map(({ handle }) => this.#flowOf(handle)) };
  }

  #stealExpect(move: MoveId, flows: readonly Flow[]): number {
    if (this.#area() === 0) return ENOMEM;
    const { exports } = this.#host;
    this.#beginReceiving(move);
    for (const flow of flows) {
      const status = this.#withFlow(flow, (at, ports) => exports.stealExpect(at, flow.localIndex, ports, move));
      if (status < 0) return status;
    }
    return OK;
  }

  #stealCancel(move: MoveId, back: number | undefined, reply: Reply): void {
    const { exports } = this.#host;
    this.#move = 0;
    exports.migrationDiscard(0);
    if (back === undefined) {
      exports.stealDetour(move, GROUP_STEADY);
      exports.migrationDropHeld(FLOW_GROUPS);
      reply({ status: OK });
      return;
    }
    exports.stealDetour(move, GROUP_LEFT + back);
    exports.migrationReplayHeld(FLOW_GROUPS);
    this.#forward(stealKey(move), reply, () => exports.stealDetour(move, GROUP_STEADY), move);
  }

  #flowOf(handle: number): Flow {
    const { memory } = this.#host;
    const { bytes } = memory;
    const at = memory.loadU32(MAP_BASE + MAP_TCBS) + (handle & HANDLE_INDEX_MASK) * TCB_SIZE_BYTES;
    const port = (offset: number) => ((bytes[at + offset] as number) << 8) | (bytes[at + offset + 1] as number);
    return {
      // A copy that is not shared, so that it can be posted alone.
      remote: Uint8Array.from(bytes.subarray(at + TCB_REMOTE_ADDRESS, at + TCB_REMOTE_ADDRESS + 16)),
      remotePort: port(TCB_PORTS),
      localIndex: bytes[at + TCB_LOCAL_INDEX] as number,
      localPort: port(TCB_PORTS + 2),
    };
  }

  takeLate(from: number, bytes: Uint8Array, offset: number, total: number): void {
    const at = this.#area();
    if (at === 0 || total > AREA_BYTES || offset + bytes.length > total) return;
    const frame = bytes.length === total ? bytes : this.#joined(from, bytes, offset, total);
    if (!frame) return;
    this.#host.memory.bytes.set(frame, at);
    this.#host.exports.migrationReplay(at);
    this.#host.requestTurn();
  }

  /** Parts of frames from several kernels come between each other. @returns the frame, with its last part. */
  #joined(from: number, part: Uint8Array, offset: number, total: number): Uint8Array | undefined {
    const begun = offset === 0 ? { frame: new Uint8Array(total), bytes: 0 } : this.#lateParts.get(from);
    // A sender that has begun anew sends from the first byte on.
    if (!begun || begun.bytes !== offset || begun.frame.length !== total) return undefined;
    begun.frame.set(part, offset);
    begun.bytes += part.length;
    if (begun.bytes < total) this.#lateParts.set(from, begun);
    else this.#lateParts.delete(from);
    return begun.bytes < total ? undefined : begun.frame;
  }

  /** Frozen connections from the `skip`-th on. */
  #list(skip: number): Listed[] {
    const { exports, memory } = this.#host;
    const at = this.#area();
    const listed: Listed[] = [];
    for (let count = LIST_MAX; at !== 0 && count === LIST_MAX; ) {
      count = exports.migrationList(skip + listed.length, at, LIST_MAX);
      for (let entry = at; entry < at + count * MIGRATION_LIST_SIZE_BYTES; entry += MIGRATION_LIST_SIZE_BYTES) {
        listed.push({
          sourceHandle: memory.loadU32(entry + MIGRATION_LIST_SOURCE_HANDLE),
          handle: memory.loadU32(entry + MIGRATION_LIST_HANDLE),
          flags: memory.loadU32(entry + MIGRATION_LIST_FLAGS),
        });
      }
    }
    return listed;
  }

  /** Of the kernel's memory, kept for good; 0: there is none left. */
  #area(): number {
    if (this.#areaAt === 0) this.#areaAt = this.#host.handles.alloc(AREA_BYTES);
    return this.#areaAt;
  }
}

/** Where a steal stands among the groups whose late frames are forwarded. */
function stealKey(move: MoveId): number {
  return FLOW_GROUPS + move;
}

/** A port as it stands in a segment, read by a little-endian load. */
function swapped(port: number): number {
  return ((port & 0xff) << 8) | (port >> 8);
}

/** A socket of this thread that goes with its connection. */
class Follower {
  readonly moveTo: (host: MigratingHost, handle: number) => void;

  constructor(moveTo: Follower["moveTo"]) {
    this.moveTo = moveTo;
  }
}
