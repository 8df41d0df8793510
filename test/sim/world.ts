/** Kernels on one in-memory segment in virtual time: whoever has work runs, and time jumps to the next deadline. */
import type { Card } from "../../src/device/card/card.ts";
import { createSegment, type Segment } from "../../src/device/card/segment.ts";
import type { Impairments } from "../../src/device/card/impairment.ts";
import type { DevicePort } from "../../src/device/device.ts";
import { parseCidr } from "../../src/ip/address.ts";
import { type KernelConfig, resolveTuning, type Tuning, writeConfig } from "../../src/kernel/config.ts";
import { KernelHost } from "../../src/kernel/host.ts";
import { createSeedSource } from "../../src/kernel/seed.ts";
import { Prng } from "../../src/sim/prng.ts";
import { KernelMemory } from "../../src/views/kernelMemory.ts";
import { createMemory, loadModule, type ModuleBuild } from "../../src/wasm/load.ts";
import { FrameChecker, RingObserver } from "./checkers.ts";

export type WorldOptions = {
  readonly seed: number;
  readonly build: ModuleBuild;
  readonly impairments: Impairments;
  /** Everything is lost from one instant to the other, ns. */
  readonly blackout?: { readonly fromNs: number; readonly untilNs: number } | undefined;
  readonly mtuBytes: number;
  readonly checksumOffload: boolean;
  readonly tsoBytesMax: number;
  /** Kernels behind the server's card. */
  readonly serverKernels: number;
  readonly timestamps: boolean;
  readonly noDelay: boolean;
  /** Of a million packets that may be marked (RFC 3168: ECT) so many meet congestion. @default 0 */
  readonly cePpm?: number;
  /** One line per TCP segment, for reading. */
  readonly trace?: (line: string) => void;
};

/** A kernel and what it runs. */
export type WorldKernel = {
  readonly name: string;
  readonly host: Pick<KernelHost, "turn" | "nextDeadlineNs">;
  /** When the application wants a turn by itself, ns. */
  nextWakeNs(): number;
  /** Called when that instant has come, before the kernel's turn. */
  wake(nowNs: number): void;
};

export const SERVER_ADDRESS = "10.7.0.2";
const MEMORY_BYTES = 24 << 20;
/** Turns at one instant; more means that the kernels keep each other awake without end. */
const TURNS_PER_INSTANT_MAX = 20_000;

const ETH_BYTES = 14;
const IPV4_BYTES = 20;
const CE = 3;

/** What a router with a queue does to an IPv4 packet that may be marked (RFC 3168 5). */
function markCongestion(memory: Uint8Array, at: number, frameBytes: number): void {
  const packet = new DataView(memory.buffer, memory.byteOffset + at + ETH_BYTES, Math.max(frameBytes - ETH_BYTES, 0));
  if (packet.byteLength < IPV4_BYTES || packet.getUint8(0) !== 0x45 || (packet.getUint8(1) & CE) === 0) return;
  packet.setUint8(1, packet.getUint8(1) | CE);
  packet.setUint16(10, 0);
  let sum = 0;
  for (let offset = 0; offset < IPV4_BYTES; offset += 2) sum += packet.getUint16(offset);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  packet.setUint16(10, ~sum & 0xffff);
}

/** Sees what its kernel sends before the device does. */
function observed(port: DevicePort, observer: RingObserver): DevicePort {
  return {
    receive: (nowNs) => port.receive(nowNs),
    transmit: (nowNs) => {
      observer.observe();
      return port.transmit(nowNs);
    },
    nextDeadlineNs: () => port.nextDeadlineNs(),
    arm: () => port.arm(),
    close: () => port.close(),
  };
}

export class World {
  nowNs = 0;
  turns = 0;
  readonly segment: Segment;
  readonly checker: FrameChecker;
  readonly kernels: WorldKernel[] = [];
  readonly #options: WorldOptions;
  readonly #order: Prng;
  readonly #seeds: (kernelId: number) => Uint32Array;
  #failure: unknown;

  private constructor(options: WorldOptions, segment: Segment) {
    this.#options = options;
    this.segment = segment;
    this.checker = new FrameChecker(options.trace);
    this.#order = new Prng(options.seed, 900);
    this.#seeds = createSeedSource(options.seed);
  }

  static async create(options: WorldOptions): Promise<World> {
    const segment = await createSegment({
      shared: false,
      portsMax: 1 + options.serverKernels,
      seed: options.seed,
      impairments: options.impairments,
    });
    return new World(options, segment);
  }

  createCard(queues: number): Card {
    const { mtuBytes, checksumOffload, tsoBytesMax } = this.#options;
    return this.segment.createCard({ queues, mtuBytes, checksumOffload, tsoBytesMax, flowGroups: false });
  }

  /** Boots a kernel on queue `queue` of the card. @param gateway IPv4-mapped; by default there is none. */
  async boot(
    card: Card,
    queue: number,
    cidr: string,
    given: Partial<Tuning>,
    gateway = new Uint8Array(16),
  ): Promise<KernelHost> {
    const kernelId = this.kernels.length;
    const tuning = resolveTuning({ memoryBytes: MEMORY_BYTES, ...given }, card.rxLanes);
    const memory = new KernelMemory(createMemory(tuning.memoryBytes, false));
    const config: KernelConfig = {
      kernelId,
      seed: this.#seeds(kernelId),
      mac: card.mac,
      addresses: [parseCidr(cidr)],
      gateway,
      mtuBytes: card.capabilities.mtuBytes,
      rxLanes: card.rxLanes,
      tsoBytesMax: card.capabilities.tsoBytesMax,
      checksumOffload: card.capabilities.checksumOffload,
      timestamps: this.#options.timestamps,
      noDelay: this.#options.noDelay,
      tuning,
    };
    writeConfig(memory, config);
    const host = new KernelHost({
      module: await loadModule("kernel", false, this.#options.build),
      memory,
      config,
      onApplicationError: (error) => {
        this.#failure ??= error;
      },
      onWork: () => {},
    });
    const port = card.openPort(
      queue,
      memory.queuePair(kernelId, card.rxLanes, () => {}),
    );
    const name = `k${kernelId}`;
    const { cePpm = 0, seed } = this.#options;
    const marks = new Prng(seed, 910 + kernelId);
    const observer = new RingObserver(memory.txRing(), (bytes, at, length) => {
      this.checker.see(this.nowNs, name, bytes, at, length);
      if (cePpm > 0 && marks.chance(cePpm)) markCongestion(bytes, at, length);
    });
    host.attach(observed(port, observer));
    return host;
  }

  /**
   * Runs until `done` or `limitNs`.
   * @param check runs after every instant; throws when an invariant does not hold.
   * @returns false when the time was up. @throws what an application or a checker has thrown.
   */
  run(done: () => boolean, limitNs: number, check?: () => void): boolean {
    while (!done()) {
      this.#runInstant();
      check?.();
      if (done()) break;
      const next = Math.min(
        this.#nextConditionsNs(),
        ...this.kernels.map((k) => Math.min(k.host.nextDeadlineNs(), k.nextWakeNs())),
      );
      if (next === Number.POSITIVE_INFINITY) throw new Error("nothing will ever happen again, and it is not over");
      if (next > limitNs) return false;
      this.nowNs = Math.max(this.nowNs + 1, Math.ceil(next));
    }
    return true;
  }

  /** Runs until no kernel has a deadline any more. @returns the instant, ns. */
  runUntilQuiet(limitNs: number): number {
    for (;;) {
      this.#runInstant();
      const next = Math.min(...this.kernels.map((k) => k.host.nextDeadlineNs()));
      if (next === Number.POSITIVE_INFINITY) return this.nowNs;
      if (next > limitNs) throw new Error(`not quiet after ${limitNs} ns: the next deadline is ${next}`);
      this.nowNs = Math.max(this.nowNs + 1, Math.ceil(next));
    }
  }

  /** When the conditions of the link change next; Infinity: never. */
  #nextConditionsNs(): number {
    const { blackout } = this.#options;
    const instants = blackout ? [blackout.fromNs, blackout.untilNs] : [];
    return Math.min(...instants.filter((ns) => ns > this.nowNs));
  }

  #applyConditions(): void {
    const { blackout, impairments } = this.#options;
    if (blackout?.fromNs === this.nowNs) this.segment.impair({ ...impairments, lossPpm: 1_000_000 });
    if (blackout?.untilNs === this.nowNs) this.segment.impair(impairments);
  }

  /** All kernels in random order, until none has anything to do at this instant. */
  #runInstant(): void {
    this.#applyConditions();
    for (let turns = 0, busy = true; busy; turns++) {
      if (turns > TURNS_PER_INSTANT_MAX) throw new Error("the kernels keep each other busy without end");
      busy = false;
      const first = this.#order.below(this.kernels.length);
      for (let i = 0; i < this.kernels.length; i++) {
        const kernel = this.kernels[(first + i) % this.kernels.length] as WorldKernel;
        if (kernel.nextWakeNs() <= this.nowNs) kernel.wake(this.nowNs);
        if (kernel.host.turn(this.nowNs)) busy = true;
        this.turns++;
        if (this.#failure) throw this.#failure;
      }
    }
  }
}
