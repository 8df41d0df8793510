/**
 * What a live migration costs in the kernels: freeze, write, copy, read, thaw, discard, on one thread. Connections are
 * active opens whose SYN is not answered: what an established one has, and a send buffer if it is asked for.
 */
import { parseAddress, parseCidr } from "../../src/ip/address.ts";
import { resolveTuning, writeConfig } from "../../src/kernel/config.ts";
import { SCRATCH_BASE } from "../../src/layout/kernelMemory.ts";
import { GROUP_LEFT, GROUP_STEADY } from "../../src/layout/migration.ts";
import { KernelMemory } from "../../src/views/kernelMemory.ts";
import type { KernelExports } from "../../src/wasm/exports.ts";
import { createMemory, instantiateKernel, loadModule } from "../../src/wasm/load.ts";
import type { MicroCase, MicroSuite } from "./harness.ts";

/** Of the peer, so of all connections; it alone names their group, as on a card with fixed masks. */
const REMOTE_PORT = 80;
const GROUP = REMOTE_PORT;
const PIECE_BYTES = 65_536;
const PEER = parseAddress("10.0.0.2");

type Side = { readonly wasm: KernelExports; readonly memory: KernelMemory; readonly area: number };

async function createSide(kernelId: number): Promise<Side> {
  const tuning = resolveTuning({ memoryBytes: 128 << 20, connectionsMax: 4096, sndBufferBytesMax: 1 << 20 }, 1);
  const memory = new KernelMemory(createMemory(tuning.memoryBytes, false));
  writeConfig(memory, {
    kernelId,
    seed: Uint32Array.of(kernelId + 1, 2, 3, 4),
    mac: Uint8Array.of(2, 0, 0, 0, 0, 1),
    addresses: [parseCidr("10.0.0.1/24")],
    gateway: new Uint8Array(16),
    mtuBytes: 1500,
    rxLanes: 1,
    tsoBytesMax: 0,
    checksumOffload: false,
    timestamps: true,
    noDelay: false,
    tuning,
  });
  const wasm = instantiateKernel(await loadModule("kernel", false), memory.memory);
  if (wasm.boot() < 0) throw new RangeError("the kernel does not boot");
  wasm.poll(1e9, 1);
  return { wasm, memory, area: wasm.allocAppBytes(PIECE_BYTES) };
}

/** Moves all connections. @returns how many, and bytes. */
function move(from: Side, to: Side): number {
  from.wasm.migrationSetGroup(GROUP, GROUP_LEFT);
  from.wasm.migrationFreeze(GROUP, 1, 1 << 20);
  let total = 0;
  for (let first = 1; ; first = 0) {
    const bytes = from.wasm.migrationExport(first, from.area, PIECE_BYTES);
    to.memory.bytes.set(from.memory.bytes.subarray(from.area, from.area + bytes), to.area);
    if (to.wasm.migrationImport(to.area, bytes) < 0) throw new RangeError("the kernel refuses the connections");
    total += bytes;
    if (bytes < PIECE_BYTES) break;
  }
  to.wasm.migrationSetGroup(GROUP, GROUP_STEADY);
  total += to.wasm.migrationThaw(1);
  from.wasm.migrationDiscard(1);
  return total;
}

async function createCase(name: string, items: number, connections: number, queuedBytes: number): Promise<MicroCase> {
  const sides = [await createSide(0), await createSide(1)] as const;
  const { wasm, memory, area } = sides[0];
  for (let port = 1; port <= connections; port++) {
    memory.bytes.set(PEER, SCRATCH_BASE);
    const handle = wasm.tcpConnect(-1, port, SCRATCH_BASE, REMOTE_PORT);
    if (handle < 0) throw new RangeError(`no connection: ${handle}`);
    for (let left = queuedBytes; left > 0; left -= PIECE_BYTES) wasm.tcpSend(handle, area, Math.min(left, PIECE_BYTES));
  }
  // There and back, so that every call finds the same.
  return { name, items, run: () => move(sides[0], sides[1]) + move(sides[1], sides[0]) };
}

export const suite: MicroSuite = {
  name: "live migration",
  cases: () =>
    Promise.all([
      createCase("per connection without data", 2 * 1024, 1024, 0),
      createCase("per connection with 1 KiB to send", 2 * 1024, 1024, 1024),
      createCase("per MiB of send buffers", 2 * 16, 16, 1 << 20),
    ]),
};
