import { readFileSync } from "node:fs";
import { parseCidr } from "../../src/ip/address.ts";
import { resolveTuning, writeConfig } from "../../src/kernel/config.ts";
import { KernelMemory } from "../../src/views/kernelMemory.ts";
import { instantiateModule } from "../../src/wasm/load.ts";
import { macBytes } from "./packets.ts";

/** What assembly/probeTcp.ts exports; u32 results come back as i32. */
export type TcpProbeExports = {
  boot(streamPoolBytes: number, tick: number): number;
  setNowNs(nowNs: number): void;
  connectionCreate(remote: number, local: number, ports: number): number;
  flowFind(remote: number, local: number, ports: number): number;
  flowInsert(hash: number, index: number): number;
  flowRemove(hash: number, index: number): number;
  flowCandidate(hash: number): number;
  armTimer(index: number, tick: number): void;
  removeTimer(index: number): void;
  takeTimer(tick: number): number;
  nextTimer(tick: number): number;
  rangeInsert(index: number, start: number, end: number): number;
  rangeAdvance(index: number, rcvNxt: number): number;
  rangeNoteFin(index: number, finSeq: number): void;
  rangeFinReached(index: number): number;
  rangeHolds(index: number): number;
  rangeRelease(index: number): void;
  accountBegin(index: number, sndSeq: number, rcvSeq: number): void;
  accountMove(index: number, acked: number, received: number): void;
  accountRead(index: number): number;
  rttEnter(index: number, us: number): void;
  rtoOf(index: number, backoff: number): number;
  placeSegment(header: number, segmentBytes: number, remote: number, local: number): number;
  cookieSeq(): number;
  cookieCheck(): number;
  cookieIsRecent(): number;
  cookieTsVal(): number;
  cookieWscale(): number;
  seqLt(a: number, b: number): number;
  seqLeq(a: number, b: number): number;
  seqGt(a: number, b: number): number;
  seqGeq(a: number, b: number): number;
  seqMax(a: number, b: number): number;
  seqMin(a: number, b: number): number;
  streamAlloc(order: number): number;
  streamFree(block: number, order: number): void;
  streamFreeBytes(): number;
  streamOrderFor(bytes: number): number;
  arenaAlloc(bytes: number, align: number): number;
};

export type TcpProbeBuild = "debug" | "release";
export const TCP_PROBE_BUILDS: readonly TcpProbeBuild[] = ["debug", "release"];

export type TcpProbeOptions = {
  readonly memoryBytes?: number;
  readonly connectionsMax?: number;
  readonly streamPoolBytes?: number;
  /** Where the timer wheel begins. */
  readonly tick?: number;
  readonly seed?: number;
};

const PAGE_BYTES = 65_536;
const modules = new Map<string, WebAssembly.Module>();

function moduleOf(build: TcpProbeBuild): WebAssembly.Module {
  let module = modules.get(build);
  if (!module) {
    module = new WebAssembly.Module(readFileSync(new URL(`../../build/probeTcp.${build}.wasm`, import.meta.url)));
    modules.set(build, module);
  }
  return module;
}

export type TcpProbe = { readonly wasm: TcpProbeExports; readonly memory: KernelMemory };

/** The parts of TCP, booted on a memory of their own. */
export function createTcpProbe(build: TcpProbeBuild, options: TcpProbeOptions = {}): TcpProbe {
  const memoryBytes = options.memoryBytes ?? 8 << 20;
  const pages = memoryBytes / PAGE_BYTES;
  const memory = new KernelMemory(new WebAssembly.Memory({ initial: pages, maximum: pages }));
  const seed = options.seed ?? 1;
  writeConfig(memory, {
    kernelId: 0,
    seed: Uint32Array.of(seed, seed * 7 + 1, seed * 13 + 5, seed * 29 + 3),
    mac: macBytes("02:00:00:00:00:01"),
    addresses: [parseCidr("10.0.0.1/24")],
    gateway: new Uint8Array(16),
    mtuBytes: 1500,
    rxLanes: 1,
    tsoBytesMax: 0,
    checksumOffload: false,
    timestamps: true,
    noDelay: false,
    tuning: resolveTuning({ memoryBytes, connectionsMax: options.connectionsMax ?? 1024 }, 1),
  });
  const wasm = instantiateModule(moduleOf(build), memory.memory) as TcpProbeExports;
  if (wasm.boot(options.streamPoolBytes ?? 1 << 20, options.tick ?? 0) !== 1) throw new Error("the arena is too small");
  return { wasm, memory };
}
