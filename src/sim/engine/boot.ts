/** Booting a kernel for the simulator: no device, no host; the engine calls its exports itself. */
import { NetPopcornError, statusError } from "../../errors.ts";
import { parseCidr } from "../../ip/address.ts";
import { resolveTuning, type Tuning, writeConfig } from "../../kernel/config.ts";
import { LAYOUT_VERSION, MAP_BASE, MAP_LAYOUT_VERSION } from "../../layout/kernelMemory.ts";
import { KernelMemory } from "../../views/kernelMemory.ts";
import type { KernelExports } from "../../wasm/exports.ts";
import { createMemory, instantiateKernel } from "../../wasm/load.ts";

export type BootOptions = {
  readonly module: WebAssembly.Module;
  readonly kernelId: number;
  readonly seed: Uint32Array;
  readonly mac: Uint8Array;
  /** Own addresses in CIDR notation. */
  readonly addresses: readonly string[];
  readonly tuning: Partial<Tuning>;
};

export type BootedKernel = { readonly memory: KernelMemory; readonly exports: KernelExports };

/** @throws NetPopcornError ENOMEM, ERR_LAYOUT_VERSION. */
export function bootKernel(options: BootOptions): BootedKernel {
  const tuning = resolveTuning(options.tuning, 1);
  const memory = new KernelMemory(createMemory(tuning.memoryBytes, false));
  writeConfig(memory, {
    kernelId: options.kernelId,
    seed: options.seed,
    mac: options.mac,
    addresses: options.addresses.map(parseCidr),
    gateway: new Uint8Array(16),
    mtuBytes: 1500,
    rxLanes: 1,
    tsoBytesMax: 0,
    // Checksums of TCP are the card's, as with the 82599; only those of IP headers are the kernels'.
    checksumOffload: true,
    timestamps: true,
    noDelay: true,
    tuning,
  });
  // A copy: an exports object is a dictionary, and each look-up in it a call.
  const exports = { ...instantiateKernel(options.module, memory.memory) };
  const status = exports.boot();
  if (status < 0) throw statusError(status, `boot of simulated kernel ${options.kernelId}`);
  if (memory.loadU32(MAP_BASE + MAP_LAYOUT_VERSION) !== LAYOUT_VERSION) {
    throw new NetPopcornError("ERR_LAYOUT_VERSION", "the kernel module has another memory layout; build both again");
  }
  return { memory, exports };
}

/** Memory for a kernel with so many connections, a multiple of 64 KiB: records, tables, rings, and 2 KiB of streams. */
export function memoryFor(connections: number): { memoryBytes: number; streamPoolBytes: number } {
  const streamPoolBytes = Math.min(2 ** 30, Math.max(8 << 20, 2 ** Math.ceil(Math.log2(connections * 2048))));
  const tables = connections * 640 + (16 << 20);
  return { memoryBytes: Math.ceil((tables + streamPoolBytes) / 65536) * 65536, streamPoolBytes };
}
