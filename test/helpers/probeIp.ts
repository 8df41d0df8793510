import { readFileSync } from "node:fs";
import { parseAddress, parseCidr } from "../../src/ip/address.ts";
import { resolveTuning, type Tuning, writeConfig } from "../../src/kernel/config.ts";
import { RESULT_BASE, SCRATCH_BASE, SCRATCH_SIZE_BYTES } from "../../src/layout/kernelMemory.ts";
import type { FrameRing } from "../../src/views/frameRing.ts";
import { type Counters, KernelMemory } from "../../src/views/kernelMemory.ts";
import { instantiateModule } from "../../src/wasm/load.ts";
import * as EVENT from "../../src/layout/event.ts";
import { macBytes, v4Mapped, v4Text } from "./packets.ts";

/** What assembly/probeIp.ts exports; addresses and IPv4 words are u32 that come back as i32. */
type ProbeExports = {
  boot(): number;
  setNowNs(nowNs: number): void;
  arenaAlloc(bytes: number, align: number): number;
  inputFrame(frame: number, frameBytes: number): void;
  sendPacket(index: number, packet: number, packetBytes: number): number;
  txPublish(): void;
  neighborFind(v4: number): number;
  /** 16 bytes. */
  controlOpen(): number;
  gatewayAdd(address: number): number;
  neighborAddress(index: number): number;
  neighborAnnounce(v4: number): void;
  neighborConfirm(index: number): void;
  neighborIsFailed(index: number): number;
  neighborSeen(v4: number, mac: number): number;
  neighborSeenV6(address: number, mac: number): number;
  neighborTimes(reachableMs: number, retransMs: number): void;
  linkAdvertise(bytes: number, limit: number): void;
  /** Of the 16 bytes at `address`. */
  neighborChainLength(address: number): number;
  neighborInput(frame: number, frameBytes: number): void;
  neighborTimers(): void;
  neighborHasDeadline(): number;
  neighborNextDeadlineTick(): number;
  ipv4Check(packet: number, bytesAvailable: number): number;
  ipv4WriteHeader(
    packet: number,
    total: number,
    protocol: number,
    source: number,
    destination: number,
    tos: number,
  ): void;
  ipv4Send(addressIndex: number, destination: number, protocol: number, payload: number, bytes: number): number;
  reassemblyInput(packet: number, headerBytes: number, totalBytes: number): number;
  reassemblyTimers(): void;
  reassemblyHasDeadline(): number;
  reassemblyNextDeadlineTick(): number;
  icmpSendUnreachable(packet: number, headerBytes: number, totalBytes: number, code: number): void;
  readyCount(): number;
  readyShift(): number;
  udpBind(addressIndex: number, port: number): number;
  addressDeprecate(address: number, deprecated: number): number;
  udpSetOption(handle: number, option: number, value: number): number;
  udpLocalPort(handle: number): number;
  udpSendTo(handle: number, source: number, bytes: number, remoteAddress: number, remotePort: number): number;
  udpRecvPeek(handle: number): number;
  udpRecvConsume(handle: number): number;
  udpClose(handle: number): number;
  udpTakeEvent(handle: number, record: number): number;
};

export type ProbeBuild = "debug" | "release";
export const PROBE_BUILDS: readonly ProbeBuild[] = ["debug", "release"];

export type ProbeOptions = {
  readonly build?: ProbeBuild;
  readonly addresses?: readonly string[];
  readonly gateway?: string;
  readonly mtuBytes?: number;
  readonly checksumOffload?: boolean;
  readonly seed?: number;
  readonly tuning?: Partial<Tuning>;
};

export type Datagram = { readonly payload: Uint8Array; readonly remote: string; readonly remotePort: number };
export type UdpEvent = {
  readonly handle: number;
  readonly mask: number;
  readonly status: number;
  readonly readableBytes: number;
};

export const OWN_MAC = "02:00:00:00:00:01";
export const TICK_NS = 65536;
const PAGE_BYTES = 65536;
const ARENA_BYTES = 16 * 1024 * 1024;

const modules = new Map<ProbeBuild, WebAssembly.Module>();

function moduleOf(build: ProbeBuild): WebAssembly.Module {
  let module = modules.get(build);
  if (!module) {
    module = new WebAssembly.Module(readFileSync(new URL(`../../build/probeIp.${build}.wasm`, import.meta.url)));
    modules.set(build, module);
  }
  return module;
}

/**
 * The layers around TCP (assembly/probeIp.ts) on a memory of their own, without a kernel's poll: frames go in one at a
 * time, what was sent comes out as bytes. Each frame is laid at the very end of memory, so that reading one byte more
 * than the frame has traps.
 */
export class IpProbe {
  readonly wasm: ProbeExports;
  readonly memory: KernelMemory;
  readonly #tx: FrameRing;
  readonly #end: number;
  nowMs = 0;

  constructor(options: ProbeOptions = {}) {
    const pages = ARENA_BYTES / PAGE_BYTES + 2;
    this.memory = new KernelMemory(new WebAssembly.Memory({ initial: pages, maximum: pages }));
    this.#end = pages * PAGE_BYTES;
    const seed = options.seed ?? 1;
    writeConfig(this.memory, {
      kernelId: 0,
      seed: Uint32Array.of(seed, seed * 7 + 1, seed * 13 + 5, seed * 29 + 3),
      mac: macBytes(OWN_MAC),
      addresses: (options.addresses ?? ["10.0.0.1/24"]).map(parseCidr),
      gateway: options.gateway ? parseAddress(options.gateway) : new Uint8Array(16),
      mtuBytes: options.mtuBytes ?? 1500,
      rxLanes: 1,
      tsoBytesMax: 0,
      checksumOffload: options.checksumOffload ?? false,
      timestamps: true,
      noDelay: false,
      tuning: { ...resolveTuning({ ...options.tuning }, 1), memoryBytes: ARENA_BYTES },
    });
    this.wasm = instantiateModule(moduleOf(options.build ?? "release"), this.memory.memory) as ProbeExports;
    if (this.wasm.boot() !== 1) throw new Error("the arena is too small for this configuration");
    this.#tx = this.memory.txRing();
  }

  get bytes(): Uint8Array {
    return this.memory.bytes;
  }

  /** Lets virtual time pass and runs the timers that fall due, in steps of 100 ms. */
  advance(ms: number): void {
    for (let left = ms; left > 0; left -= 100) {
      this.nowMs += Math.min(left, 100);
      this.wasm.setNowNs(this.nowMs * 1e6);
      if (this.wasm.neighborHasDeadline()) this.wasm.neighborTimers();
      if (this.wasm.reassemblyHasDeadline()) this.wasm.reassemblyTimers();
    }
  }

  /** Copies bytes to the very end of memory. @returns their address. */
  place(bytes: Uint8Array): number {
    const at = this.#end - bytes.length;
    this.bytes.set(bytes, at);
    return at;
  }

  input(frame: Uint8Array): void {
    this.wasm.inputFrame(this.place(frame), frame.length);
  }

  /** Sends an IPv4 packet to a neighbour entry as TCP does. */
  send(index: number, packet: Uint8Array): boolean {
    return this.wasm.sendPacket(index, this.place(packet), packet.length) === 1;
  }

  /** Frames sent since the last call. */
  sent(): Uint8Array[] {
    this.wasm.txPublish();
    const frames: Uint8Array[] = [];
    for (let frame = this.#tx.shift(); frame; frame = this.#tx.shift()) frames.push(frame);
    return frames;
  }

  /** Address of the record of the oldest frame not yet taken by sent(). */
  firstRecord(): number {
    this.wasm.txPublish();
    return this.#tx.peekRun();
  }

  counters(): Counters {
    return this.memory.counters();
  }

  /** Calls udpSendTo. @returns its status. */
  udpSend(handle: number, payload: Uint8Array, remote: string, remotePort: number): number {
    const source = this.place(payload);
    this.bytes.set(v4Mapped(remote), SCRATCH_BASE);
    return this.wasm.udpSendTo(handle, source, payload.length, SCRATCH_BASE, remotePort);
  }

  /** Takes the oldest datagram of a socket. */
  udpReceive(handle: number): Datagram | undefined {
    const at = this.wasm.udpRecvPeek(handle);
    if (at === 0) return undefined;
    if (at < 0) throw new Error(`udpRecvPeek: ${at}`);
    const length = this.memory.loadU32(RESULT_BASE);
    const datagram = {
      payload: this.bytes.slice(at, at + length),
      remotePort: this.memory.loadU32(RESULT_BASE + 4),
      remote: v4Text(this.bytes.subarray(RESULT_BASE + 20, RESULT_BASE + 24)),
    };
    this.wasm.udpRecvConsume(handle);
    return datagram;
  }

  /** What the end of a poll would publish. */
  events(): UdpEvent[] {
    const record = SCRATCH_BASE + SCRATCH_SIZE_BYTES - EVENT.EVENT_SIZE_BYTES;
    const view = new DataView(this.memory.memory.buffer);
    const events: UdpEvent[] = [];
    for (let left = this.wasm.readyCount(); left > 0; left--) {
      if (!this.wasm.udpTakeEvent(this.wasm.readyShift(), record)) continue;
      events.push({
        handle: view.getInt32(record + EVENT.EVENT_HANDLE, true),
        mask: view.getUint16(record + EVENT.EVENT_MASK, true),
        status: view.getInt16(record + EVENT.EVENT_STATUS, true),
        readableBytes: view.getUint32(record + EVENT.EVENT_READABLE_BYTES, true),
      });
    }
    return events;
  }
}
