/**
 * One real kernel on a workbench: virtual time, frames laid into its RX ring by hand, and what it sends taken apart.
 *
 *     const bench = new KernelBench();
 *     const { peer, handle } = openPassive(bench);
 *     peer.send({ flags: "psh ack", payload: pattern(100) });
 *     bench.advance(40);
 *     peer.expect({ flags: "ack", seq: 1, ack: 101 });
 *
 * A Peer writes sequence numbers relative to the two initial ones, as in the figures of RFC 9293: 0 is a SYN, 1 the
 * first byte. ARP is answered by the bench. Every segment that leaves the kernel has its checksums verified.
 */
import { readFileSync } from "node:fs";
import { expect } from "vitest";
import { parseCidr } from "../../src/ip/address.ts";
import { resolveTuning, type Tuning, writeConfig } from "../../src/kernel/config.ts";
import * as EVENT from "../../src/layout/event.ts";
import { MAP_BASE, MAP_EVENTS, RESULT_BASE, SCRATCH_BASE } from "../../src/layout/kernelMemory.ts";
import * as OPTION from "../../src/layout/option.ts";
import type { PortRange } from "../../src/rss/toeplitz.ts";
import type { FrameRing } from "../../src/views/frameRing.ts";
import { type Counters, KernelMemory } from "../../src/views/kernelMemory.ts";
import type { KernelExports } from "../../src/wasm/exports.ts";
import { instantiateKernel } from "../../src/wasm/load.ts";
import {
  arp,
  ETHERTYPE_ARP,
  ethernet,
  type Ipv4Fields,
  macBytes,
  PROTOCOL_TCP,
  parseArp,
  parseEthernet,
  parseIpv4,
  parseTcp,
  type Tcp,
  type TcpFields,
  type TcpOptions,
  tcpPacket,
  v4Mapped,
} from "./packets.ts";

export type KernelBuild = "debug" | "release";
export const KERNEL_BUILDS: readonly KernelBuild[] = ["debug", "release"];

export const OWN_MAC = "02:00:00:00:00:01";
export const PEER_MAC = "02:00:00:00:00:02";
export const OWN = "10.0.0.1";
export const PEER = "10.0.0.2";
const MIB = 1 << 20;
const PAGE_BYTES = 65536;

const STATE_NAMES = [
  "FREE",
  "SYN_SENT",
  "SYN_RECEIVED",
  "ESTABLISHED",
  "FIN_WAIT_1",
  "FIN_WAIT_2",
  "CLOSE_WAIT",
  "CLOSING",
  "LAST_ACK",
  "TIME_WAIT",
  "CLOSED",
] as const;
export type StateName = (typeof STATE_NAMES)[number];

export type BenchOptions = {
  readonly build?: KernelBuild;
  readonly addresses?: readonly string[];
  readonly gateway?: string;
  readonly mtuBytes?: number;
  readonly timestamps?: boolean;
  readonly noDelay?: boolean;
  readonly checksumOffload?: boolean;
  /** Own ports that have a part in the flow group. */
  readonly localPorts?: PortRange;
  readonly tsoBytesMax?: number;
  readonly seed?: number;
  /** What it shares with the other kernels of its stack. */
  readonly stackSeed?: number;
  readonly tuning?: Partial<Tuning>;
  /** Virtual time at boot. */
  readonly nowMs?: number;
};

export type BenchEvent = {
  readonly handle: number;
  /** Names of the bits, in order: "readable peerClosed". */
  readonly mask: string;
  readonly status: number;
  readonly readableBytes: number;
};

const EVENT_NAMES = [
  "connected",
  "readable",
  "writable",
  "peerClosed",
  "closed",
  "error",
  "acceptable",
  "datagram",
  "urgent",
] as const;

function eventMaskNames(mask: number): string {
  return EVENT_NAMES.filter((_, bit) => (mask >> bit) & 1).join(" ");
}

export type TcpInfo = {
  readonly state: StateName;
  readonly sndUna: number;
  readonly sndNxt: number;
  readonly sndWnd: number;
  readonly rcvNxt: number;
  readonly rcvWnd: number;
  readonly cwndBytes: number;
  readonly ssthreshBytes: number;
  readonly srttUs: number;
  readonly rttvarUs: number;
  readonly rtoUs: number;
  readonly sndMssBytes: number;
  readonly retransmits: number;
  readonly sndQueuedBytes: number;
  readonly rcvQueuedBytes: number;
  readonly localPort: number;
  readonly remotePort: number;
  readonly urgentBytes: number;
  readonly softError: number;
};

/** A segment that the kernel has sent. */
export type Sent = Tcp & {
  readonly source: string;
  readonly destination: string;
  /** ECN codepoint of its IP header (RFC 3168 5): 0 none, 1 ECT(1), 2 ECT(0), 3 CE. */
  readonly codepoint: number;
};

const modules = new Map<KernelBuild, WebAssembly.Module>();

function moduleOf(build: KernelBuild): WebAssembly.Module {
  let module = modules.get(build);
  if (!module) {
    module = new WebAssembly.Module(readFileSync(new URL(`../../build/kernel.${build}.wasm`, import.meta.url)));
    modules.set(build, module);
  }
  return module;
}

export class KernelBench {
  readonly wasm: KernelExports;
  readonly memory: KernelMemory;
  readonly rx: FrameRing;
  readonly tx: FrameRing;
  /** 64 KiB of the application's memory. */
  readonly area: number;
  nowNs: number;
  /** False: ARP requests stay unanswered. */
  answersArp = true;
  /** False: sent frames stay in the TX ring, as with a device that has stalled. */
  takesFrames = true;
  readonly #sent: Sent[] = [];
  /** Sent frames that are not TCP. */
  readonly otherFrames: Uint8Array[] = [];
  readonly #events: BenchEvent[] = [];

  constructor(options: BenchOptions = {}) {
    const tuning = resolveTuning(
      {
        memoryBytes: 24 * MIB,
        connectionsMax: 256,
        streamPoolBytes: 8 * MIB,
        rxRingBytes: MIB,
        txRingBytes: MIB,
        rcvBufferBytesMax: 64 * 1024,
        sndBufferBytesMax: 64 * 1024,
        neighborsMax: 64,
        udpSocketsMax: 16,
        reassemblyBytesMax: 128 * 1024,
        listenersMax: 16,
        ...options.tuning,
      },
      1,
    );
    const pages = tuning.memoryBytes / PAGE_BYTES;
    this.memory = new KernelMemory(new WebAssembly.Memory({ initial: pages, maximum: pages }));
    const seed = options.seed ?? 1;
    writeConfig(this.memory, {
      kernelId: 0,
      seed: Uint32Array.of(seed, seed * 7 + 1, seed * 13 + 5, seed * 29 + 3),
      ...(options.stackSeed === undefined ? {} : { stackSeed: Uint32Array.of(options.stackSeed, 2, 3, 4) }),
      mac: macBytes(OWN_MAC),
      addresses: (options.addresses ?? [`${OWN}/24`]).map(parseCidr),
      gateway: options.gateway ? v4Mapped(options.gateway) : new Uint8Array(16),
      mtuBytes: options.mtuBytes ?? 1500,
      rxLanes: 1,
      tsoBytesMax: options.tsoBytesMax ?? 0,
      checksumOffload: options.checksumOffload ?? false,
      ...(options.localPorts && { localPorts: options.localPorts }),
      timestamps: options.timestamps ?? true,
      noDelay: options.noDelay ?? false,
      tuning,
    });
    this.wasm = instantiateKernel(moduleOf(options.build ?? "release"), this.memory.memory);
    expect(this.wasm.boot(), "boot").toBe(0);
    this.rx = this.memory.rxRing(0);
    this.tx = this.memory.txRing();
    this.area = this.wasm.allocAppBytes(65536);
    this.nowNs = (options.nowMs ?? 10_000) * 1e6;
    this.turn();
  }

  get nowMs(): number {
    return this.nowNs / 1e6;
  }

  get bytes(): Uint8Array<ArrayBuffer> {
    return this.memory.bytes;
  }

  // Time and frames.

  /** One poll and one flush at the present time. */
  turn(budgetFrames = 4096): void {
    const count = this.wasm.poll(this.nowNs, budgetFrames);
    const view = new DataView(this.memory.memory.buffer);
    const base = this.memory.loadU32(MAP_BASE + MAP_EVENTS);
    for (let at = base; at < base + count * EVENT.EVENT_SIZE_BYTES; at += EVENT.EVENT_SIZE_BYTES) {
      this.#events.push({
        handle: view.getInt32(at + EVENT.EVENT_HANDLE, true),
        mask: eventMaskNames(view.getUint16(at + EVENT.EVENT_MASK, true)),
        status: view.getInt16(at + EVENT.EVENT_STATUS, true),
        readableBytes: view.getUint32(at + EVENT.EVENT_READABLE_BYTES, true),
      });
    }
    this.wasm.flush();
    if (this.takesFrames) this.#collect();
  }

  /** Turns until nothing is left to do at this instant; one turn while the device has stalled. */
  settle(): void {
    for (let turns = 0; turns < 1000; turns++) {
      this.turn();
      // With a full TX ring there is always something left.
      if (this.wasm.hasWork() === 0 || !this.takesFrames) return;
    }
    throw new Error("the kernel always has work left");
  }

  /** Lets virtual time pass, with a turn at every deadline that the kernel announces and one at the end. */
  advance(ms: number): void {
    const end = this.nowNs + Math.round(ms * 1e6);
    for (let turns = 0; turns < 1_000_000; turns++) {
      const next = this.wasm.nextDeadlineNs();
      if (next >= end) {
        this.nowNs = end;
        this.settle();
        return;
      }
      this.nowNs = Math.max(next, this.nowNs);
      this.turn();
    }
    throw new Error("a deadline that does not go away");
  }

  /** Lays a frame into the RX ring; the kernel sees it with the next turn. */
  inject(frame: Uint8Array): void {
    if (!this.rx.push(frame)) throw new Error("the RX ring is full");
  }

  #collect(): void {
    for (let frame = this.tx.shift(); frame; frame = this.tx.shift()) this.#take(frame);
  }

  #take(frame: Uint8Array): void {
    const { etherType, payload } = parseEthernet(frame);
    if (etherType === ETHERTYPE_ARP) {
      const { operation, targetV4, senderMac, senderV4 } = parseArp(frame);
      if (operation !== "request" || !this.answersArp || targetV4 === senderV4) return;
      this.inject(
        arp({ operation: "reply", senderMac: PEER_MAC, senderV4: targetV4, targetMac: senderMac, targetV4: senderV4 }),
      );
      this.wasm.poll(this.nowNs, 16);
      this.wasm.flush();
      return;
    }
    const ip = parseIpv4(payload);
    expect(ip.checksumValid, "IPv4 header checksum").toBe(true);
    if (ip.protocol !== PROTOCOL_TCP) {
      this.otherFrames.push(frame);
      return;
    }
    const segment = parseTcp(ip);
    expect(segment.checksumValid, "TCP checksum").toBe(true);
    expect(ip.dontFragment, "DF (RFC 1191)").toBe(true);
    this.#sent.push({ ...segment, source: ip.source, destination: ip.destination, codepoint: ip.tos & 3 });
  }

  /** Segments sent and not yet taken, perhaps only those to one port. */
  sent(toPort?: number): Sent[] {
    if (toPort === undefined) return this.#sent.splice(0);
    const taken = this.#sent.filter((segment) => segment.destinationPort === toPort);
    const rest = this.#sent.filter((segment) => segment.destinationPort !== toPort);
    this.#sent.splice(0, this.#sent.length, ...rest);
    return taken;
  }

  /** The oldest segment not yet taken that was sent to this port. */
  shiftSent(toPort: number): Sent | undefined {
    const index = this.#sent.findIndex((segment) => segment.destinationPort === toPort);
    return index < 0 ? undefined : this.#sent.splice(index, 1)[0];
  }

  // What the application does.

  /** Events since the last call, perhaps only those of one handle. */
  events(handle?: number): BenchEvent[] {
    const all = this.#events.splice(0);
    return handle === undefined ? all : all.filter((event) => event.handle === handle);
  }

  listen(port = 80, backlog = 16, addressIndex = -1): number {
    const listener = this.wasm.tcpListen(addressIndex, port, backlog);
    expect(listener, "tcpListen").toBeGreaterThan(0);
    return listener;
  }

  connect(remotePort: number, options: { readonly remote?: string; readonly localPort?: number } = {}): number {
    this.bytes.set(v4Mapped(options.remote ?? PEER), SCRATCH_BASE);
    return this.wasm.tcpConnect(-1, options.localPort ?? 0, SCRATCH_BASE, remotePort);
  }

  /** Queues bytes and gives the kernel a turn. @returns bytes taken, or a status. */
  write(handle: number, payload: Uint8Array): number {
    const taken = this.queue(handle, payload);
    this.turn();
    return taken;
  }

  /** tcpSend without a turn. */
  queue(handle: number, payload: Uint8Array): number {
    let taken = 0;
    while (taken < payload.length) {
      const piece = payload.subarray(taken, taken + 65536);
      this.bytes.set(piece, this.area);
      const status = this.wasm.tcpSend(handle, this.area, piece.length);
      if (status <= 0) return taken === 0 ? status : taken;
      taken += status;
    }
    return taken;
  }

  /** All readable bytes, up to a limit. */
  read(handle: number, bytesMax = Number.POSITIVE_INFINITY): Uint8Array {
    const pieces: Uint8Array[] = [];
    let total = 0;
    while (total < bytesMax) {
      const taken = this.wasm.tcpRecv(handle, this.area, Math.min(65536, bytesMax - total));
      if (taken <= 0) break;
      pieces.push(this.bytes.slice(this.area, this.area + taken));
      total += taken;
    }
    return Buffer.concat(pieces);
  }

  info(handle: number): TcpInfo {
    expect(this.wasm.tcpGetInfo(handle, RESULT_BASE), "tcpGetInfo").toBe(0);
    const at = (offset: number) => this.memory.loadU32(RESULT_BASE + offset);
    return {
      state: STATE_NAMES[at(OPTION.INFO_STATE)] as StateName,
      sndUna: at(OPTION.INFO_SND_UNA),
      sndNxt: at(OPTION.INFO_SND_NXT),
      sndWnd: at(OPTION.INFO_SND_WND),
      rcvNxt: at(OPTION.INFO_RCV_NXT),
      rcvWnd: at(OPTION.INFO_RCV_WND),
      cwndBytes: at(OPTION.INFO_CWND_BYTES),
      ssthreshBytes: at(OPTION.INFO_SSTHRESH_BYTES),
      srttUs: at(OPTION.INFO_SRTT_US),
      rttvarUs: at(OPTION.INFO_RTTVAR_US),
      rtoUs: at(OPTION.INFO_RTO_US),
      sndMssBytes: at(OPTION.INFO_SND_MSS_BYTES),
      retransmits: at(OPTION.INFO_RETRANSMITS),
      sndQueuedBytes: at(OPTION.INFO_SND_QUEUED_BYTES),
      rcvQueuedBytes: at(OPTION.INFO_RCV_QUEUED_BYTES),
      localPort: at(OPTION.INFO_LOCAL_PORT),
      remotePort: at(OPTION.INFO_REMOTE_PORT),
      urgentBytes: at(OPTION.INFO_URGENT_BYTES),
      softError: at(OPTION.INFO_SOFT_ERROR) | 0,
    };
  }

  state(handle: number): StateName {
    return this.info(handle).state;
  }

  counters(): Counters {
    return this.memory.counters();
  }

  /** By how much each counter that has changed has grown during `action`. */
  counted(action: () => void): Counters {
    const before = this.counters();
    action();
    const changed: Counters = {};
    for (const [name, value] of Object.entries(this.counters())) {
      const growth = value - (before[name] ?? 0);
      if (growth !== 0) changed[name] = growth;
    }
    return changed;
  }
}

export type PeerOptions = {
  readonly address?: string;
  readonly port?: number;
  readonly kernelPort?: number;
  readonly kernelAddress?: string;
  /** Initial sequence number. */
  readonly iss?: number;
  /** Options of the SYN or SYN-ACK. */
  readonly mss?: number;
  readonly windowScale?: number;
  /** SACK-permitted (RFC 2018). */
  readonly sack?: boolean;
  /** Value of the peer's timestamp clock at the start; undefined: sends none. */
  readonly timestamp?: number;
  readonly window?: number;
};

export type SegmentFields = {
  readonly flags: string;
  /** Relative to the peer's initial sequence number. Default: after what it has sent. */
  readonly seq?: number;
  /** Relative to the kernel's. Default: what it has received in order. */
  readonly ack?: number;
  readonly payload?: Uint8Array;
  readonly window?: number;
  readonly options?: TcpOptions;
  /** Instead of the present timestamp value and echo; null: no timestamps. */
  readonly timestamps?: readonly [number, number] | null;
  /** Anything else of the segment or the packet, for wrong ones. */
  readonly tcp?: Partial<TcpFields>;
  readonly ip?: Partial<Ipv4Fields>;
};

export type Expected = {
  readonly flags?: string;
  readonly seq?: number;
  readonly ack?: number;
  readonly window?: number;
  readonly payload?: Uint8Array;
  readonly payloadBytes?: number;
};

const EMPTY = new Uint8Array(0);

/** A remote TCP endpoint that does exactly what a test tells it to. */
export class Peer {
  /** The kernel that the card brings its segments to. */
  bench: KernelBench;
  readonly address: string;
  readonly port: number;
  kernelPort: number;
  readonly kernelAddress: string;
  readonly iss: number;
  readonly mss: number | undefined;
  readonly windowScale: number | undefined;
  readonly sack: boolean;
  readonly window: number;
  timestamp: number | undefined;
  /** Both sides use timestamps from now on. */
  timestampsOn = false;
  /** The kernel's initial sequence number, once its SYN has come. */
  kernelIss = 0;
  /** Relative: next to send, next expected. */
  nxt = 0;
  rcvNxt = 0;
  /** Timestamp to echo. */
  echo = 0;

  constructor(bench: KernelBench, options: PeerOptions = {}) {
    this.bench = bench;
    this.address = options.address ?? PEER;
    this.port = options.port ?? 40000;
    this.kernelPort = options.kernelPort ?? 80;
    this.kernelAddress = options.kernelAddress ?? OWN;
    this.iss = options.iss ?? 1_000_000;
    this.mss = options.mss;
    this.windowScale = options.windowScale;
    this.sack = options.sack ?? false;
    this.timestamp = options.timestamp;
    this.window = options.window ?? 65535;
  }

  /** The frame of a segment, without sending it. Does not move `nxt`. */
  frame(fields: SegmentFields): Uint8Array<ArrayBuffer> {
    const ack = fields.flags.includes("ack") || fields.ack !== undefined;
    const isSyn = fields.flags.includes("syn");
    const options: { -readonly [Name in keyof TcpOptions]: TcpOptions[Name] } = { ...fields.options };
    if (fields.options === undefined && isSyn) {
      if (this.mss !== undefined) options.mss = this.mss;
      if (this.windowScale !== undefined) options.windowScale = this.windowScale;
      if (this.sack) options.sackPermitted = true;
    }
    if (fields.timestamps) options.timestamps = fields.timestamps;
    else if (fields.timestamps === undefined && this.timestamp !== undefined && (isSyn || this.timestampsOn)) {
      options.timestamps = [this.timestamp >>> 0, this.echo];
    }
    const packet = tcpPacket(
      {
        source: this.address,
        destination: this.kernelAddress,
        sourcePort: this.port,
        destinationPort: this.kernelPort,
        seq: (this.iss + (fields.seq ?? this.nxt)) >>> 0,
        ack: ack ? (this.kernelIss + (fields.ack ?? this.rcvNxt)) >>> 0 : 0,
        flags: fields.flags,
        window: fields.window ?? this.window,
        options,
        ...fields.tcp,
      },
      fields.payload ?? EMPTY,
      fields.ip,
    );
    return ethernet({ destination: OWN_MAC, source: PEER_MAC }, packet);
  }

  /** An ACK with these SACK blocks, relative like all numbers. */
  sendSack(ack: number, ...blocks: readonly (readonly [number, number])[]): void {
    const absolute = (seq: number): number => (this.kernelIss + seq) >>> 0;
    const sack = blocks.map(([start, end]) => [absolute(start), absolute(end)] as const);
    this.send({ flags: "ack", ack, options: { sack } });
  }

  /** Lays a segment into the kernel's RX ring and moves on; the kernel sees it with the next turn. */
  post(fields: SegmentFields): void {
    this.bench.inject(this.frame(fields));
    const seq = fields.seq ?? this.nxt;
    const length =
      (fields.payload?.length ?? 0) + (fields.flags.includes("syn") ? 1 : 0) + (fields.flags.includes("fin") ? 1 : 0);
    if (seq === this.nxt && !fields.flags.includes("rst")) this.nxt += length;
  }

  /** Sends a segment and gives the kernel a turn. */
  send(fields: SegmentFields): void {
    this.post(fields);
    this.bench.turn();
  }

  /** Several segments that the kernel finds in one batch. */
  sendAll(...segments: readonly SegmentFields[]): void {
    for (const fields of segments) this.post(fields);
    this.bench.turn();
  }

  /** The kernel's next segment to this peer, with its numbers made relative; undefined: none was sent. */
  receive(): Sent | undefined {
    const segment = this.bench.shiftSent(this.port);
    if (!segment) return undefined;
    if (segment.flags.includes("syn")) this.kernelIss = segment.seq;
    if (segment.options.timestamps && this.timestamp !== undefined) {
      this.echo = segment.options.timestamps[0];
      if (segment.flags === "syn ack") this.timestampsOn = true;
    }
    const relative = {
      ...segment,
      seq: (segment.seq - this.kernelIss) | 0,
      ack: segment.flags.includes("ack") ? (segment.ack - this.iss) | 0 : segment.ack,
    };
    const length =
      segment.payload.length + (segment.flags.includes("syn") ? 1 : 0) + (segment.flags.includes("fin") ? 1 : 0);
    if (relative.seq <= this.rcvNxt && relative.seq + length > this.rcvNxt && !segment.flags.includes("rst")) {
      this.rcvNxt = relative.seq + length;
    }
    return relative;
  }

  /** Takes the kernel's next segment and compares the fields that are given. */
  expect(expected: Expected): Sent {
    const segment = this.receive();
    if (!segment) throw new Error(`nothing was sent; expected ${JSON.stringify({ ...expected, payload: undefined })}`);
    const { payload, payloadBytes, ...plain } = expected;
    const actual: Record<string, unknown> = {};
    for (const name of Object.keys(plain)) actual[name] = segment[name as keyof Sent];
    expect(actual).toEqual(plain);
    if (payload !== undefined) expect(Buffer.from(segment.payload).equals(payload), "payload").toBe(true);
    else if (payloadBytes !== undefined) expect(segment.payload.length).toBe(payloadBytes);
    return segment;
  }

  expectNothing(): void {
    const segment = this.receive();
    if (segment) throw new Error(`unexpected segment ${describeSegment(segment)}`);
  }

  /** Everything that the kernel has sent to this peer. */
  all(): Sent[] {
    const segments: Sent[] = [];
    for (let segment = this.receive(); segment; segment = this.receive()) segments.push(segment);
    return segments;
  }
}

function describeSegment(segment: Sent): string {
  return `<${segment.flags}> seq ${segment.seq} ack ${segment.ack} win ${segment.window} ${segment.payload.length} B`;
}

export type Opened = { readonly peer: Peer; readonly handle: number; readonly listener: number };

/** A connection that the peer has opened and the application has accepted. */
export function openPassive(
  bench: KernelBench,
  options: PeerOptions = {},
  listener = bench.listen(options.kernelPort ?? 80),
): Opened {
  const peer = new Peer(bench, options);
  peer.send({ flags: "syn" });
  peer.expect({ flags: "syn ack", seq: 0, ack: 1 });
  peer.send({ flags: "ack" });
  const handle = bench.wasm.tcpAccept(listener);
  expect(handle, "tcpAccept").toBeGreaterThanOrEqual(0);
  bench.events();
  return { peer, handle, listener };
}

/** A connection that the application has opened. */
export function openActive(bench: KernelBench, options: PeerOptions = {}): Opened {
  const peer = new Peer(bench, { port: 7000, ...options });
  const handle = bench.connect(peer.port, { remote: peer.address });
  expect(handle, "tcpConnect").toBeGreaterThanOrEqual(0);
  bench.turn();
  peer.kernelPort = bench.info(handle).localPort;
  const syn = peer.expect({ flags: "syn", seq: 0 });
  peer.timestampsOn = syn.options.timestamps !== undefined && peer.timestamp !== undefined;
  peer.send({ flags: "syn ack" });
  peer.expect({ flags: "ack", seq: 1, ack: 1 });
  bench.events();
  return { peer, handle, listener: -1 };
}
