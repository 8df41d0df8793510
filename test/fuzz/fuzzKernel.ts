/**
 * A small kernel whose whole state (memory and globals) is saved after boot and put back before each program, so that
 * a program's outcome depends on nothing but its bytes. Compiled with coverage counters (instrument.ts).
 */
import { parseAddress, parseCidr } from "../../src/ip/address.ts";
import { resolveTuning, writeConfig } from "../../src/kernel/config.ts";
import { MAP_ARENA_FREE, MAP_BASE } from "../../src/layout/kernelMemory.ts";
import type { FrameRing } from "../../src/views/frameRing.ts";
import { KernelMemory } from "../../src/views/kernelMemory.ts";
import type { KernelExports } from "../../src/wasm/exports.ts";
import { instantiateKernel } from "../../src/wasm/load.ts";
import { type Instrumented, instrument } from "./instrument.ts";

const KIB = 1024;
const MEMORY_BYTES = 4096 * KIB;
const PAGE_BYTES = 65536;
/** Coverage counters: behind the kernel's memory. */
const COVERAGE_BASE = MEMORY_BYTES;
export const OWN_MAC = Uint8Array.of(2, 0, 0, 0, 0, 1);
export const PEER_MAC = Uint8Array.of(2, 0, 0, 0, 0, 2);
/** 10.0.0.1 */
export const OWN_V4 = Uint8Array.of(10, 0, 0, 1);
/** fd00::1 */
export const OWN_V6 = Uint8Array.of(0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1);
export const CONNECTIONS_MAX = 12;

/** The variants of configuration that programs run on. */
export type Variant = { readonly checksumOffload: boolean; readonly timestamps: boolean };
export const VARIANTS: readonly Variant[] = [
  { checksumOffload: true, timestamps: true },
  { checksumOffload: true, timestamps: false },
  { checksumOffload: false, timestamps: true },
];

export type FuzzModule = Instrumented;

export function fuzzModule(wasm: Uint8Array): FuzzModule {
  return instrument(wasm, COVERAGE_BASE);
}

export class FuzzKernel {
  readonly wasm: KernelExports;
  readonly memory: KernelMemory;
  readonly rx: FrameRing;
  readonly tx: FrameRing;
  readonly checksumOffload: boolean;
  /** 64 KiB of the application's memory. */
  readonly area: number;
  readonly coverage: Uint8Array;
  readonly #saved: Uint8Array;
  readonly #globals: readonly WebAssembly.Global[];
  readonly #values: readonly unknown[];

  constructor(compiled: FuzzModule, variant: Variant) {
    const tuning = resolveTuning(
      {
        memoryBytes: MEMORY_BYTES,
        connectionsMax: CONNECTIONS_MAX,
        streamPoolBytes: 128 * KIB,
        rxRingBytes: 32 * KIB,
        txRingBytes: 64 * KIB,
        rcvBufferBytesMax: 16 * KIB,
        sndBufferBytesMax: 16 * KIB,
        neighborsMax: 8,
        udpSocketsMax: 4,
        reassemblyBytesMax: 16 * KIB,
        listenersMax: 4,
        eventSlots: 64,
        timeWaitMs: 5000,
        retriesMax: 4,
        synRetriesMax: 2,
        keepaliveIdleMs: 5000,
        keepaliveIntervalMs: 1000,
        keepaliveProbesMax: 2,
      },
      1,
    );
    // One page more than the kernel is told of, for the coverage counters.
    const pages = MEMORY_BYTES / PAGE_BYTES + 1;
    this.memory = new KernelMemory(new WebAssembly.Memory({ initial: pages, maximum: pages }));
    writeConfig(this.memory, {
      kernelId: 0,
      seed: Uint32Array.of(1, 2, 3, 4),
      mac: OWN_MAC,
      addresses: [parseCidr("10.0.0.1/24"), parseCidr("fd00::1/64")],
      // One of the remotes.
      gateway: parseAddress("10.0.0.20"),
      mtuBytes: 1500,
      rxLanes: 1,
      tsoBytesMax: 0,
      checksumOffload: variant.checksumOffload,
      timestamps: variant.timestamps,
      noDelay: false,
      tuning,
    });
    this.checksumOffload = variant.checksumOffload;
    this.wasm = instantiateKernel(compiled.module, this.memory.memory);
    const status = this.wasm.boot();
    if (status !== 0) throw new Error(`boot: ${status}`);
    this.rx = this.memory.rxRing(0);
    this.tx = this.memory.txRing();
    this.area = this.wasm.allocAppBytes(PAGE_BYTES);
    this.wasm.controlOpen();
    this.wasm.echoWait(1);
    this.coverage = this.memory.bytes.subarray(COVERAGE_BASE, COVERAGE_BASE + compiled.blocks);
    const exported = this.wasm as unknown as Record<string, WebAssembly.Global>;
    this.#globals = compiled.globals.map((name) => exported[name] as WebAssembly.Global);
    this.#values = this.#globals.map((global) => global.value);
    this.#saved = this.memory.bytes.slice(0, this.memory.loadU32(MAP_BASE + MAP_ARENA_FREE));
  }

  /** Back to the moment after boot; coverage counters to zero. */
  restore(): void {
    this.memory.bytes.set(this.#saved);
    this.#globals.forEach((global, index) => {
      global.value = this.#values[index];
    });
    this.coverage.fill(0);
  }
}
