/** Booting a kernel for the simulator: no device, no host; the engine calls its exports itself. */
import { NetPopcornError, statusError } from "../../errors.ts";
import { parseCidr } from "../../ip/address.ts";
import { resolveTuning, type Tuning, writeConfig } from "../../kernel/config.ts";
import { LAYOUT_VERSION, MAP_BASE, MAP_LAYOUT_VERSION } from "../../layout/kernelMemory.ts";
import { recordBytes } from "../../views/frameRing.ts";
import { KernelMemory } from "../../views/kernelMemory.ts";
import type { KernelExports } from "../../wasm/exports.ts";
import { createMemory } from "../../wasm/load.ts";
import type { SimPoint } from "../types.ts";

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
  // A copy: an exports object is a dictionary, and each look-up in it a call. Without the loader of AssemblyScript,
  // which looks at all names first: there may be many kernels, and a point takes a second.
  const { exports: raw } = new WebAssembly.Instance(options.module, { env: { memory: memory.memory } });
  const exports = { ...raw } as KernelExports;
  const status = exports.boot();
  if (status < 0) throw statusError(status, `boot of simulated kernel ${options.kernelId}`);
  if (memory.loadU32(MAP_BASE + MAP_LAYOUT_VERSION) !== LAYOUT_VERSION) {
    throw new NetPopcornError("ERR_LAYOUT_VERSION", "the kernel module has another memory layout; build both again");
  }
  return { memory, exports };
}

/** A frame of Ethernet, and what of it is no data: Ethernet, IPv4, and TCP with all its options. */
const FRAME_BYTES_MAX = 1514;
const HEADERS_BYTES_MAX = 14 + 20 + 60;

/** Bytes of a ring with room for so many frames with up to `dataBytes`, wherever in it the first one lies. */
export function ringBytesFor(frames: number, dataBytes: number): number {
  const record = recordBytes(Math.min(FRAME_BYTES_MAX, HEADERS_BYTES_MAX + dataBytes));
  // One more: the pad where a record would cross the ring's end.
  return 2 ** Math.ceil(Math.log2((frames + 1) * record));
}

/** Bytes of a send or receive buffer for a message (assembly/mem/streamPool.ts). */
function bufferBytes(messageBytes: number): number {
  return Math.max(256, 2 ** Math.ceil(Math.log2(messageBytes)));
}

/** Of records and tables, for each connection and in all. */
const CONNECTION_BYTES = 448;
const TABLES_BYTES = 4 << 20;
/** A connection whose buffers take more is not reckoned with: then there is room for more of them than one each. */
const BUFFERS_BYTES_MAX = 2048;

export type MemoryNeeds = {
  /** Connections of the kernel, and those of them at most that have buffers: not in TIME-WAIT. */
  readonly connectionsMax: number;
  readonly open: number;
  readonly rxRingBytes: number;
  readonly txRingBytes: number;
};

/** Buffers of one connection. */
export function buffersBytes({
  messageBytes,
  responseBytes,
}: Pick<SimPoint, "messageBytes" | "responseBytes">): number {
  return bufferBytes(messageBytes) + bufferBytes(responseBytes);
}

/**
 * How a kernel's memory, a multiple of 64 KiB, is divided: records, tables, rings, and streams. The larger it is, the
 * more often the JavaScript engine collects garbage, though hardly any of it is ever touched.
 */
export function memoryFor(
  needs: MemoryNeeds,
  point: Pick<SimPoint, "messageBytes" | "responseBytes">,
): Partial<Tuning> & Pick<Tuning, "streamPoolBytes"> {
  const { connectionsMax, open, rxRingBytes, txRingBytes } = needs;
  const streamBytes = Math.min(connectionsMax, open) * Math.min(BUFFERS_BYTES_MAX, buffersBytes(point));
  const streamPoolBytes = Math.min(2 ** 30, Math.max(8 << 20, 2 ** Math.ceil(Math.log2(streamBytes))));
  const tables = connectionsMax * CONNECTION_BYTES + TABLES_BYTES + rxRingBytes + txRingBytes;
  return {
    memoryBytes: Math.ceil((tables + streamPoolBytes) / 65536) * 65536,
    streamPoolBytes,
    connectionsMax,
    rxRingBytes,
    txRingBytes,
    // No kernel of a simulation uses them.
    messageRingBytes: 4096,
    udpSocketsMax: 0,
  };
}
