import { readFileSync } from "node:fs";
import { parseCidr } from "../../src/ip/address.ts";
import { resolveTuning, writeConfig } from "../../src/kernel/config.ts";
import { KernelMemory } from "../../src/views/kernelMemory.ts";
import { instantiateModule } from "../../src/wasm/load.ts";

/** What assembly/probeTcp.ts exports for benchmarks. */
export type TcpBatches = {
  boot(streamPoolBytes: number, tick: number): number;
  arenaAlloc(bytes: number, align: number): number;
  lookupPrepare(flows: number, seed: number): number;
  lookupSerial(flows: number, count: number, seed: number): number;
  lookupStaged(flows: number, count: number, seed: number): number;
  connectionCreate(remote: number, local: number, ports: number): number;
  inputBatch(index: number, count: number, bytes: number, header: number): number;
  callMe(value: number): number;
};

const PAGE_BYTES = 65_536;
/** TCB, cold record, account, history, look-up tuple and share of the flow table; and some for all. */
const BYTES_PER_CONNECTION = 384;
const BYTES_FIXED = 16 << 20;

/** The parts of TCP, booted on a memory of their own with room for `connections`. */
export function createTcpProbe(connections: number): TcpBatches {
  const pages = Math.ceil((BYTES_FIXED + connections * BYTES_PER_CONNECTION) / PAGE_BYTES);
  const memory = new KernelMemory(new WebAssembly.Memory({ initial: pages, maximum: pages }));
  const memoryBytes = pages * PAGE_BYTES;
  writeConfig(memory, {
    kernelId: 0,
    seed: Uint32Array.of(1, 2, 3, 4),
    mac: Uint8Array.of(2, 0, 0, 0, 0, 1),
    addresses: [parseCidr("10.7.0.1/24")],
    gateway: new Uint8Array(16),
    mtuBytes: 1500,
    rxLanes: 1,
    tsoBytesMax: 0,
    checksumOffload: false,
    timestamps: true,
    noDelay: false,
    tuning: resolveTuning({ memoryBytes, connectionsMax: connections }, 1),
  });
  const file = new URL("build/probeTcp.release.wasm", `file://${process.cwd()}/`);
  const wasm = instantiateModule(new WebAssembly.Module(readFileSync(file)), memory.memory) as TcpBatches;
  if (wasm.boot(1 << 20, 0) !== 1) throw new Error("the arena is too small for these connections");
  return wasm;
}
