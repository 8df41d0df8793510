/**
 * All clients behind one kernel: the same stack as the server's, so that SYN retransmission, acknowledgements and
 * closing are real. They cost no virtual time but what the machine's constants say of the client machines. Time on this
 * side goes in ticks: what has arrived since the last one is processed in one poll.
 */
import { NetPopcornError, statusError } from "../../errors.ts";
import { parseAddress } from "../../ip/address.ts";
import {
  EVENT_ACCEPTABLE,
  EVENT_CLOSED,
  EVENT_CONNECTED,
  EVENT_ERROR,
  EVENT_PEER_CLOSED,
  EVENT_READABLE,
  HANDLE_INDEX_MASK,
} from "../../layout/event.ts";
import { FLOW_GROUPS } from "../../layout/flowGroup.ts";
import { FRAME_LENGTH } from "../../layout/frameRing.ts";
import { COUNTERS_BASE, MAP_BASE, MAP_EVENTS, SCRATCH_BASE } from "../../layout/kernelMemory.ts";
import { EADDRINUSE, ENOBUFS } from "../../layout/status.ts";
import { TCP_RETRANSMITS } from "../../layout/counters.ts";
import { type FrameRing, recordBytes } from "../../views/frameRing.ts";
import type { KernelMemory } from "../../views/kernelMemory.ts";
import type { KernelExports } from "../../wasm/exports.ts";
import { Prng } from "../prng.ts";
import type { SimPoint, WorkloadName } from "../types.ts";
import { bootKernel, memoryFor, ringBytesFor } from "./boot.ts";
import { BegunList } from "./begunList.ts";
import * as F from "./connectionFields.ts";
import type { Connections } from "./connections.ts";
import { ZERO } from "./doubles.ts";
import type { FrameQueue } from "./frameQueue.ts";
import { EVENT_WORDS, REWIND_BYTES } from "./serverKernel.ts";
import { Histogram } from "./statistics.ts";
import { ThinkTimes } from "./thinkTimes.ts";
import {
  destinationPort,
  frameKind,
  KIND_OTHER,
  KIND_SHIFT,
  KIND_SYN,
  type Steering,
  sourceByte,
  sourceNet,
  sourcePort,
  wireBytes,
} from "./wire.ts";

export const SERVER_PORT = 80;
export const BACKEND_PORT = 8080;
export const SERVER_MAC = Uint8Array.of(2, 0, 0, 0, 1, 1);
export const CLIENT_MAC = Uint8Array.of(2, 0, 0, 0, 2, 1);
const CLIENTS = 24;
export const BACKENDS = 8;
/** Client ports are 4096 x (1..15) + flow group: none below 4096. */
const PORT_ROUNDS = 15;
const PLACES = CLIENTS * PORT_ROUNDS;
/** Flow groups that are tried for a connection. */
const DRAWS_MAX = 64;
/** Where the address for tcpConnect is put. */
const ADDRESS_AT = SCRATCH_BASE + 2048;
const AREA_BYTES = 65536;
/** In `startedNs`: a connection to a back end that waits for its request, and one whose answer is on its way. */
const BACKEND = -2;
const BACKEND_ANSWERS = -3;
const RETRANSMITS_WORD = (COUNTERS_BASE + 8 * TCP_RETRANSMITS) >> 2;
/** Frames taken in one poll at most; the rest follows in the same tick. */
const POLL_FRAMES = 512;

export function serverAddress(index: number): string {
  return `10.7.255.${index + 1}`;
}

export function backendAddress(index: number): string {
  return `10.7.1.${index + 1}`;
}

/** Addresses of the clients, and of the back ends if the workload has some. */
export function peerAddresses(workload: WorkloadName): string[] {
  const clients = Array.from({ length: CLIENTS }, (_, i) => `10.7.0.${i + 1}`);
  return workload === "proxy"
    ? [...clients, ...Array.from({ length: BACKENDS }, (_, i) => backendAddress(i))]
    : clients;
}

export type ClientsOptions = {
  readonly point: SimPoint;
  readonly module: WebAssembly.Module;
  readonly seed: Uint32Array;
  readonly connections: Connections;
  readonly steering: Steering;
  /** Addresses of the server that connections go to in turn at random; all one service. */
  readonly serverAddresses: number;
  /** Frames per second, in and out, that the client machines can process; 0: any number. */
  readonly framesPerSecMax: number;
  readonly linkGbps: number;
  readonly tickNs: number;
  /** Initial connections are begun over this time. */
  readonly rampNs: number;
  /** Groups that hot connections come from. */
  readonly hotGroups: readonly number[];
  /** As for ServerKernel. */
  readonly rewinds: boolean;
  /** A frame leaves for the server. @param at word of its record in `words`. @param entry slot and kind. */
  readonly send: (words: Int32Array, at: number, leavesNs: number, entry: number) => void;
  /** A connection begins; `index` of the server's address. Before its SYN leaves. */
  readonly onOpen: (slot: number, index: number) => void;
};

export class Clients {
  /** In the measured span. */
  completed = 0;
  requests = 0;
  failed = 0;
  /** Since the start. */
  completedEver = 0;
  lastCompletionNs = ZERO;
  inFlight = 0;
  readonly latency = new Histogram();
  /** Slot of a server's connection, by back end and the server's port. */
  readonly activeSlots: Int32Array;
  readonly #options: ClientsOptions;
  readonly #memory: KernelMemory;
  readonly #exports: KernelExports;
  readonly #rx: FrameRing;
  readonly #tx: FrameRing;
  readonly #eventsAt: number;
  readonly #area: number;
  readonly #random: Prng;
  readonly #servers: readonly Uint8Array[];
  readonly #slotAt = new Int32Array(256 * 65536);
  readonly #cursor = new Uint16Array(FLOW_GROUPS);
  readonly #think = new ThinkTimes();
  /** Begun connections in order, for the time-out: slot and start. */
  readonly #begun: BegunList;
  /** Instant at which the first frame comes of those that have not arrived yet. */
  #arrivalNs = Number.POSITIVE_INFINITY;
  #nowNs = ZERO;
  #linkFreeNs = ZERO;
  #gateNs = ZERO;
  #rampedNs = ZERO;
  #nextArrivalNs = Number.POSITIVE_INFINITY;
  /** Connections that are to be begun. */
  #wanted = 0;
  #toOpen: number;
  #stopped = false;

  constructor(options: ClientsOptions) {
    this.#options = options;
    const { connections, module, point } = options;
    this.#begun = new BegunList(connections);
    this.#random = new Prng(point.seed, 17);
    const backends = point.workload === "proxy" ? BACKENDS : 0;
    this.activeSlots = new Int32Array(backends * 65536).fill(-1);
    const addresses = peerAddresses(point.workload).map((address) => `${address}/16`);
    const { exports, memory } = bootKernel({
      module,
      kernelId: 200,
      seed: options.seed,
      mac: CLIENT_MAC,
      addresses,
      tuning: {
        ...memoryFor(
          {
            connectionsMax: connections.slots,
            open: connections.slots,
            rxRingBytes: ringBytesFor(POLL_FRAMES, Math.max(point.messageBytes, point.responseBytes)),
            txRingBytes: 1 << 20,
          },
          point,
        ),
        timeWaitMs: 0,
        eventSlots: 8192,
        listenersMax: 32,
      },
    });
    this.#memory = memory;
    this.#exports = exports;
    this.#rx = memory.rxRing(0);
    this.#tx = memory.txRing();
    if (!this.#rx.ready || !this.#tx.ready) throw new NetPopcornError("ERR_SIM", "the clients have no rings");
    this.#eventsAt = memory.loadU32(MAP_BASE + MAP_EVENTS) >>> 2;
    this.#area = exports.allocAppBytes(AREA_BYTES) >>> 0;
    this.#servers = Array.from({ length: options.serverAddresses }, (_, i) => parseAddress(serverAddress(i)));
    for (let i = 0; i < backends; i++) {
      const listener = exports.tcpListen(CLIENTS + i, BACKEND_PORT, 65535);
      if (listener < 0) throw statusError(listener, "listen of a back end");
    }
    this.#toOpen = point.protocol === "ab" ? point.abConnections : Number.POSITIVE_INFINITY;
  }

  /** Begins: opens connections over the ramp, or lets them arrive. */
  start(nowNs: number): void {
    const { point, rampNs } = this.#options;
    this.#gateNs = nowNs;
    if (point.arrivalsPerSec > 0) this.#nextArrivalNs = nowNs + this.#drawGapNs();
    else {
      this.#wanted = point.concurrency;
      this.#rampedNs = nowNs + rampNs;
    }
  }

  /** All connections of a finite run have ended. */
  get done(): boolean {
    return this.#toOpen === 0 && this.inFlight === 0;
  }

  get concurrency(): number {
    return this.#options.point.concurrency;
  }

  /** Connections of a finite run that are still to be begun. */
  get left(): number {
    return this.#toOpen;
  }

  /** Leaves out so many connections of a finite run. Preconditions: count <= left. */
  skip(count: number): void {
    this.#toOpen -= count;
  }

  /** Retransmissions since the start, nearly all of SYNs. */
  get retransmits(): number {
    return this.#memory.words[RETRANSMITS_WORD] as number;
  }

  startMeasuring(): void {
    this.completed = 0;
    this.requests = 0;
    this.failed = 0;
    this.latency.reset();
  }

  /** No new connections from now on. */
  stop(): void {
    this.#stopped = true;
  }

  /** Has the addresses of the server resolved: SYNs beyond a few would not wait for that. */
  greet(nowNs: number, answer: (words: Int32Array, at: number, into: FrameRing) => void): void {
    for (const address of this.#servers) {
      this.#memory.bytes.set(address, ADDRESS_AT);
      const handle = this.#exports.tcpConnect(0, 4000, ADDRESS_AT, SERVER_PORT);
      if (handle < 0) throw statusError(handle, "connect");
      this.#exports.poll(nowNs, 0);
      this.#exports.flush();
      this.#forEachSent((at) => answer(this.#tx.words, at >> 2, this.#rx));
      this.#exports.poll(nowNs, POLL_FRAMES);
      this.#exports.tcpAbort(handle);
      this.#exports.poll(nowNs, POLL_FRAMES);
      this.#exports.flush();
      this.#forEachSent(() => {});
    }
  }

  /**
   * Takes in what has arrived, answers, begins connections.
   * @param headsNs arrival of the oldest frame in each queue of `arriving`.
   * @returns when it acts next: by itself, or because a frame of `arriving` comes.
   */
  tick(nowNs: number, arriving: readonly FrameQueue[], headsNs: Float64Array): number {
    this.#nowNs = nowNs;
    let waiting = true;
    while (waiting) {
      waiting = this.#takeIn(arriving, headsNs);
      this.#turn();
    }
    let calls = this.#openDue() + this.#giveUpLate();
    for (let slot = this.#think.due(nowNs); slot >= 0; slot = this.#think.due(nowNs)) {
      this.#ask(slot);
      calls++;
    }
    if (calls > 0) {
      this.#exports.flush();
      this.#sendAll();
    }
    return this.#nextNs();
  }

  /** @returns true: there is more. */
  #takeIn(arriving: readonly FrameQueue[], headsNs: Float64Array): boolean {
    const nowNs = this.#nowNs;
    this.#rx.rewind();
    let taken = 0;
    let arrivalNs = Number.POSITIVE_INFINITY;
    for (let i = 0; i < headsNs.length; i++) {
      let headNs = headsNs[i] as number;
      if (headNs <= nowNs) {
        const queue = arriving[i] as FrameQueue;
        do {
          if (taken >= POLL_FRAMES || !queue.moveTo(this.#rx)) {
            this.#catchUp(taken);
            return true;
          }
          taken++;
          headNs = queue.headNs;
        } while (headNs <= nowNs);
      }
      if (headNs < arrivalNs) arrivalNs = headNs;
    }
    this.#arrivalNs = arrivalNs;
    this.#catchUp(taken);
    return false;
  }

  /** One poll: acknowledgements leave before the application answers, as from a kernel that does not wait for it. */
  #turn(): void {
    let events = this.#exports.turn(this.#nowNs, POLL_FRAMES);
    for (;;) {
      const { words } = this.#memory;
      for (let i = 0, at = this.#eventsAt; i < events; i++, at += EVENT_WORDS) {
        this.#onEvent(words[at] as number, (words[at + 1] as number) & 0xffff);
      }
      if (events > 0) this.#exports.flush();
      this.#sendAll();
      if (this.#exports.hasWork() === 0) return;
      events = this.#exports.turn(this.#nowNs, POLL_FRAMES);
    }
  }

  #onEvent(handle: number, mask: number): void {
    const exports = this.#exports;
    if (mask & EVENT_ACCEPTABLE) {
      for (let fresh = exports.tcpAccept(handle); fresh >= 0; fresh = exports.tcpAccept(handle)) {
        const index = fresh & HANDLE_INDEX_MASK;
        this.#options.connections.setNs(index, F.STARTED_NS, BACKEND);
        this.#options.connections.set(index, F.CLIENT_BYTES, 0);
        // What has come before it was accepted is told by no event.
        this.#backend(fresh, index, EVENT_READABLE);
      }
      return;
    }
    const slot = handle & HANDLE_INDEX_MASK;
    const { connections } = this.#options;
    const startedNs = connections.getNs(slot, F.STARTED_NS);
    if (startedNs === BACKEND_ANSWERS) {
      this.#answer(handle, slot, mask);
      return;
    }
    if (startedNs === BACKEND) {
      this.#backend(handle, slot, mask);
      return;
    }
    // What was closed before has no one waiting for it.
    if (startedNs <= 0 || connections.get(slot, F.FINISHED) === 1) return;
    if (mask & EVENT_ERROR) {
      exports.tcpClose(handle);
      this.#end(slot, false);
      return;
    }
    if (mask & EVENT_CONNECTED) this.#request(slot, handle);
    if (mask & EVENT_READABLE) this.#receive(slot, handle);
    if (mask & (EVENT_PEER_CLOSED | EVENT_CLOSED) && connections.get(slot, F.FINISHED) === 0) {
      exports.tcpClose(handle);
      this.#end(slot, connections.get(slot, F.REQUESTS_LEFT) === 0);
    }
  }

  /** A back end answers each request of messageBytes with responseBytes. */
  #backend(handle: number, slot: number, mask: number): void {
    const { connections, point } = this.#options;
    if (mask & EVENT_READABLE && !(mask & EVENT_ERROR)) {
      const received = this.#exports.tcpRecv(handle, this.#area, AREA_BYTES);
      const bytes = connections.get(slot, F.CLIENT_BYTES) + Math.max(received, 0);
      connections.set(slot, F.CLIENT_BYTES, bytes);
      if (bytes >= point.messageBytes) {
        connections.setNs(slot, F.STARTED_NS, BACKEND_ANSWERS);
        connections.set(slot, F.CLIENT_BYTES, point.responseBytes);
        this.#answer(handle, slot, mask);
        return;
      }
    }
    if (mask & (EVENT_PEER_CLOSED | EVENT_ERROR | EVENT_CLOSED)) {
      connections.setNs(slot, F.STARTED_NS, -1);
      this.#exports.tcpClose(handle);
    }
  }

  /** Sends what is left of a back end's answer, as far as its send buffer takes it. */
  #answer(handle: number, slot: number, mask: number): void {
    const { connections } = this.#options;
    const left = connections.get(slot, F.CLIENT_BYTES);
    const sent = this.#exports.tcpSend(handle, this.#area, left);
    if (sent >= 0 && sent < left && !(mask & (EVENT_ERROR | EVENT_CLOSED))) {
      // The rest follows when there is room (EVENT_WRITABLE).
      connections.set(slot, F.CLIENT_BYTES, left - sent);
      return;
    }
    // Without keep-alive the back end closes after its answer, so that TIME-WAIT is its own.
    connections.setNs(slot, F.STARTED_NS, -1);
    this.#exports.tcpClose(handle);
  }

  #request(slot: number, handle: number): void {
    const { point } = this.#options;
    const sent = this.#exports.tcpSend(handle, this.#area, point.messageBytes);
    if (sent !== point.messageBytes) throw new NetPopcornError("ERR_SIM", "a request does not fit a send buffer");
    this.#options.connections.set(slot, F.CLIENT_BYTES, 0);
  }

  #receive(slot: number, handle: number): void {
    const { connections, point } = this.#options;
    const received = this.#exports.tcpRecv(handle, this.#area, AREA_BYTES);
    const bytes = connections.get(slot, F.CLIENT_BYTES) + Math.max(received, 0);
    connections.set(slot, F.CLIENT_BYTES, bytes);
    if (bytes < point.responseBytes) return;
    connections.set(slot, F.CLIENT_BYTES, 0);
    this.latency.add(this.#nowNs - connections.getNs(slot, F.REQUEST_NS));
    this.requests++;
    const left = connections.get(slot, F.REQUESTS_LEFT) - 1;
    connections.set(slot, F.REQUESTS_LEFT, left);
    if (left > 0) {
      const think = point.thinkMs[point.requestsPerConn - left - 1] ?? 0;
      connections.setNs(slot, F.REQUEST_NS, this.#nowNs + think * 1e6);
      if (think > 0) this.#think.add(slot, this.#nowNs + think * 1e6, handle);
      else this.#request(slot, handle);
    } else if (point.workload === "rpc") {
      this.#exports.tcpClose(handle);
      this.#end(slot, true);
    }
  }

  /** A pause is over. */
  #ask(slot: number): void {
    const { connections } = this.#options;
    if (connections.get(slot, F.FINISHED) === 0) this.#request(slot, this.#think.handle);
  }

  #end(slot: number, whole: boolean): void {
    const { connections, point } = this.#options;
    connections.set(slot, F.FINISHED, 1);
    this.inFlight--;
    if (whole) {
      this.completed++;
      this.completedEver++;
      this.lastCompletionNs = this.#nowNs;
    } else {
      this.failed++;
    }
    if (point.arrivalsPerSec === 0) this.#wanted++;
  }

  /**
   * Requests that are open count with their age once that is above the 99th percentile of those completed: a tail that
   * is longer than the measured span is a tail too.
   */
  countOpenRequests(nowNs: number): void {
    const { connections } = this.#options;
    const limitNs = this.latency.quantileNs(0.99);
    for (let slot = 0; slot < connections.clientSlots; slot++) {
      if (connections.getNs(slot, F.STARTED_NS) <= 0 || connections.get(slot, F.FINISHED) === 1) continue;
      const ageNs = nowNs - connections.getNs(slot, F.REQUEST_NS);
      if (ageNs > limitNs) this.latency.add(ageNs);
    }
  }

  #drawGapNs(): number {
    return (-Math.log(1 - this.#random.fraction()) * 1e9) / this.#options.point.arrivalsPerSec;
  }

  /** Begins what is due and what the client machines have time for. @returns connections. */
  #openDue(): number {
    const { framesPerSecMax, point } = this.#options;
    while (this.#nextArrivalNs <= this.#nowNs) {
      this.#wanted++;
      this.#nextArrivalNs += this.#drawGapNs();
    }
    const rampGapNs = this.#nowNs < this.#rampedNs ? this.#options.rampNs / point.concurrency : 0;
    // While the machines are behind with what they have begun, they begin nothing new.
    const gapNs = Math.max(rampGapNs, framesPerSecMax > 0 ? 1e9 / framesPerSecMax : 0);
    this.#catchUp(0);
    let opened = 0;
    while (this.#wanted > 0 && this.#toOpen > 0 && this.#gateNs <= this.#nowNs && !this.#stopped) {
      this.#gateNs += gapNs;
      this.#wanted--;
      this.#toOpen--;
      this.#open();
      opened++;
    }
    return opened;
  }

  /** ApacheBench begins all that it may have in flight before it looks at any of them. */
  get #isBeginning(): boolean {
    const { abConnections, concurrency, protocol } = this.#options.point;
    return protocol === "ab" && abConnections - this.#toOpen < concurrency;
  }

  /** Books frames to the client machines. What they do not use of their time is lost: they cannot work ahead. */
  #catchUp(frames: number): void {
    const { framesPerSecMax, tickNs } = this.#options;
    this.#gateNs = Math.max(this.#gateNs, this.#nowNs - tickNs);
    if (framesPerSecMax > 0 && !this.#isBeginning) this.#gateNs += (frames * 1e9) / framesPerSecMax;
  }

  /** A group whose ports are all in use, most of them by connections that are closing, is passed over. */
  #open(): void {
    for (let draws = 0; draws < DRAWS_MAX; draws++) if (this.#openFrom(this.#drawGroup())) return;
    throw new NetPopcornError("ERR_SIM", "no client port is left; lower concurrency or timeWaitS");
  }

  #openFrom(group: number): boolean {
    const { connections, point, serverAddresses, steering } = this.#options;
    const random = this.#random;
    const index = serverAddresses === 1 ? 0 : random.below(serverAddresses);
    const server = this.#servers[index] as Uint8Array;
    this.#memory.bytes.set(server, ADDRESS_AT);
    for (let tries = 0; tries < PLACES; tries++) {
      const place = this.#cursor[group] as number;
      this.#cursor[group] = (place + 1) % PLACES;
      const client = place % CLIENTS;
      const port = (1 + Math.floor(place / CLIENTS)) * FLOW_GROUPS + group;
      const handle = this.#exports.tcpConnect(client, port, ADDRESS_AT, SERVER_PORT);
      if (handle === EADDRINUSE) continue;
      if (handle === ENOBUFS && point.arrivalsPerSec > 0) {
        // More arrives than the server takes, until the clients' memory is full: whoever comes then is turned away.
        this.failed++;
        return true;
      }
      if (handle < 0) throw statusError(handle, "connect of a client");
      const slot = handle & HANDLE_INDEX_MASK;
      connections.begin(slot);
      const source = 10 | (7 << 8) | ((client + 1) << 24);
      const destination = 10 | (7 << 8) | (255 << 16) | ((index + 1) << 24);
      connections.set(slot, F.HASH, steering.hash(source, port, destination, SERVER_PORT) | 0);
      connections.set(slot, F.GROUP, group);
      connections.setNs(slot, F.STARTED_NS, this.#nowNs);
      connections.setNs(slot, F.REQUEST_NS, this.#nowNs);
      connections.set(slot, F.CLIENT_BYTES, 0);
      connections.set(slot, F.REQUESTS_LEFT, point.requestsPerConn);
      connections.set(slot, F.FINISHED, 0);
      const tuple = ((client + 1) << 16) | port;
      connections.set(slot, F.TUPLE, tuple);
      this.#slotAt[tuple] = slot;
      this.#begun.push(slot, this.#nowNs);
      this.inFlight++;
      this.#options.onOpen(slot, index);
      return true;
    }
    return false;
  }

  #drawGroup(): number {
    const { hotGroups, point } = this.#options;
    if (hotGroups.length > 0 && this.#random.fraction() < point.skew.hotShare) {
      return hotGroups[this.#random.below(hotGroups.length)] as number;
    }
    return this.#random.below(FLOW_GROUPS);
  }

  /** Connections that a client has waited for too long. @returns how many. */
  #giveUpLate(): number {
    const lateNs = this.#nowNs - this.#options.point.clientTimeoutS * 1e9;
    let late = 0;
    for (let slot = this.#begun.oldest(); slot >= 0 && this.#begun.oldestNs <= lateNs; slot = this.#begun.oldest()) {
      this.#exports.tcpAbort(this.#handleOf(slot));
      this.#end(slot, false);
      late++;
    }
    return late;
  }

  /** A handle is its index and a generation that only the kernel knows: tried in turn. */
  #handleOf(slot: number): number {
    for (let generation = 0; generation < 32; generation++) {
      const handle = slot | (generation << 24);
      if (this.#exports.tcpGetInfo(handle, ADDRESS_AT + 64) >= 0) return handle;
    }
    return slot;
  }

  #sendAll(): void {
    const { linkGbps, send } = this.#options;
    const nsPerByte = 8 / linkGbps;
    const { bytes, words } = this.#memory;
    const ring = this.#tx;
    let linkFreeNs = Math.max(this.#linkFreeNs, this.#nowNs);
    let frames = 0;
    for (let run = ring.peekRun(); run !== 0; run = ring.peekRun()) {
      const { runBytes } = ring;
      for (let at = run; at < run + runBytes; ) {
        const length = words[(at + FRAME_LENGTH) >> 2] as number;
        if (length < 0) {
          at -= length;
          continue;
        }
        const kind = frameKind(bytes, at);
        // A SYN was booked when its connection began.
        if (kind !== KIND_SYN) frames++;
        linkFreeNs += wireBytes(length) * nsPerByte;
        this.#linkFreeNs = linkFreeNs;
        send(words, at >> 2, linkFreeNs, (kind << KIND_SHIFT) | (kind === KIND_OTHER ? 0 : this.#slotOf(at)));
        at += recordBytes(length);
      }
      ring.consume(runBytes);
    }
    if (this.#options.rewinds && ring.head >= REWIND_BYTES) this.#exports.txRewind();
    this.#catchUp(frames);
  }

  #slotOf(at: number): number {
    const { bytes } = this.#memory;
    const byte = sourceByte(bytes, at);
    if (sourceNet(bytes, at) === 1) {
      return Math.max(this.activeSlots[((byte - 1) << 16) | destinationPort(bytes, at)] as number, 0);
    }
    return this.#slotAt[(byte << 16) | sourcePort(bytes, at)] as number;
  }

  /** Calls `visit` with the byte address of each record sent, and takes it off the ring. */
  #forEachSent(visit: (at: number) => void): void {
    const ring = this.#tx;
    for (let run = ring.peekRun(); run !== 0; run = ring.peekRun()) {
      const { runBytes } = ring;
      for (let at = run; at < run + runBytes; ) {
        const length = ring.recordLength(at);
        if (length >= 0) visit(at);
        at += length < 0 ? -length : recordBytes(length);
      }
      ring.consume(runBytes);
    }
  }

  #nextNs(): number {
    const { point, tickNs } = this.#options;
    let next = Math.min(this.#exports.nextDeadlineNs(), this.#think.nextNs, this.#nextArrivalNs);
    // Where nothing else happens any more, somebody may still be waiting.
    if (this.#begun.oldest() >= 0) next = Math.min(next, this.#begun.oldestNs + point.clientTimeoutS * 1e9);
    if (this.#wanted > 0 && this.#toOpen > 0 && !this.#stopped) next = Math.min(next, this.#gateNs);
    const ownNs = Math.max(Math.ceil(next / tickNs) * tickNs, this.#nowNs + tickNs);
    return Math.min(ownNs, Math.ceil(this.#arrivalNs / tickNs) * tickNs);
  }

  /** Slot of the connection from this client's address and port; -1: the client has given it up. */
  slotOfPeer(addressByte: number, port: number): number {
    const tuple = (addressByte << 16) | port;
    const slot = this.#slotAt[tuple] as number;
    return this.#options.connections.get(slot, F.TUPLE) === tuple ? slot : -1;
  }
}
