/**
 * Two kernels on this thread, joined by moving runs of frames from one's TX ring to the other's RX lane: the frame path
 * of the one-core benchmarks (docs/benchmarking.md). Nothing else lies between them.
 */
import type { DevicePort } from "../device/device.ts";
import { NetPopcornError } from "../errors.ts";
import { parseCidr } from "../ip/address.ts";
import { resolveTuning, type Tuning, writeConfig } from "../kernel/config.ts";
import { KernelHost } from "../kernel/host.ts";
import { createSeedSource } from "../kernel/seed.ts";
import { type FrameRing, moveRun } from "../views/frameRing.ts";
import { KernelMemory } from "../views/kernelMemory.ts";
import { createMemory, loadModule } from "../wasm/load.ts";

export type PairOptions = {
  readonly seed: number | string;
  readonly tuning?: Partial<Tuning>;
  /** Client addresses: a 4-tuple space of 28,232 ports each. */
  readonly clientAddresses?: number;
  /** Makes the server's memory larger than the client's; a multiple of 64 KiB. */
  readonly serverExtraBytes?: number;
  /** A socket has given one of the kernels work outside a turn. */
  readonly onWork?: () => void;
};

export type KernelPair = {
  readonly client: KernelHost;
  readonly server: KernelHost;
  /** Address of the server, 16 bytes. */
  readonly serverAddress: Uint8Array;
  /** One turn of both kernels. */
  turn(nowNs: number): void;
};

const MTU_BYTES = 1500;

/** What a kernel sends lands in the other's RX lane at the end of its turn; a full lane leaves it in the TX ring. */
function directPort(from: FrameRing, to: FrameRing): DevicePort {
  return {
    receive: () => 0,
    transmit: () => {
      const moved = moveRun(from, to);
      // A second run lies at the start of the ring when the first went to its end.
      return moved > 0 && from.usedBytes > 0 ? moved + moveRun(from, to) : moved;
    },
    nextDeadlineNs: () => Number.POSITIVE_INFINITY,
    arm: () => true,
    close: () => {},
  };
}

export async function createKernelPair(options: PairOptions): Promise<KernelPair> {
  const module = await loadModule("kernel", false);
  const seeds = createSeedSource(options.seed);
  const tuning = resolveTuning({ memoryBytes: 512 << 20, ...options.tuning }, 1);
  const boot = (kernelId: number, addresses: string[], extraBytes = 0): KernelHost => {
    const memory = new KernelMemory(createMemory(tuning.memoryBytes + extraBytes, false));
    const config = {
      kernelId,
      seed: seeds(kernelId),
      mac: Uint8Array.of(0x02, 0, 0, 0, 0, kernelId + 1),
      addresses: addresses.map(parseCidr),
      gateway: new Uint8Array(16),
      mtuBytes: MTU_BYTES,
      rxLanes: 1,
      tsoBytesMax: 0,
      checksumOffload: false,
      timestamps: true,
      noDelay: true,
      tuning,
    };
    writeConfig(memory, config);
    const fail = (error: unknown): never => {
      throw new NetPopcornError("ERR_BENCH", "the workload failed", { cause: error });
    };
    return new KernelHost({ module, memory, config, onApplicationError: fail, onWork: options.onWork ?? (() => {}) });
  };
  const clientCidrs = Array.from(
    { length: options.clientAddresses ?? 1 },
    (_, i) => `10.7.${i >> 7}.${2 + (i & 127)}/16`,
  );
  const client = boot(0, clientCidrs);
  const server = boot(1, ["10.7.255.1/16"], options.serverExtraBytes);
  client.attach(directPort(client.memory.txRing(), server.memory.rxRing(0)));
  server.attach(directPort(server.memory.txRing(), client.memory.rxRing(0)));
  return {
    client,
    server,
    serverAddress: parseCidr("10.7.255.1/16").address,
    turn: (nowNs) => {
      client.turn(nowNs);
      server.turn(nowNs);
    },
  };
}
