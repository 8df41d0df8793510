/**
 * Software steering: N kernels behind a device with one queue. The frames of that queue are placed by the program that
 * places those of the model card (assembly/card), so tables, moves, filters and counters are the card's.
 *
 * ```
 *  given device, queue 0 ═ patch ═ uplink ──┐ two cards: a cable, by lanes in memory
 *                                  kernels' card: queue 0 … queue N-1
 * ```
 * What it costs: one thread, the caller's, through which all frames go, and two or three copies of each on the way.
 */
import { checkKind, checkOptions, type Shape } from "../../checks.ts";
import { NetPopcornError } from "../../errors.ts";
import { type Clock, realClock } from "../../kernel/clock.ts";
import { TUNING_RANGES } from "../../kernel/config.ts";
import { type Reactor, reactorOf } from "../../kernel/reactor.ts";
import type { Card, CardOptions, CardStatistics } from "../card/card.ts";
import { createSegment, type Segment, type SegmentOptions } from "../card/segment.ts";
import type {
  Device,
  DeviceCapabilities,
  DevicePort,
  PlacedFilter,
  Placement,
  PortDescription,
  QueuePair,
  TablesDescriptor,
} from "../device.ts";
import type { ReplyTuple } from "../replySteering.ts";
import { PatchEnd, PatchRings } from "./patchEnd.ts";

/** Ports of a segment, less the uplink's. */
const QUEUES_MAX = 63;

type TableOptions = Pick<
  CardOptions,
  "preset" | "retaEntries" | "queuesRssMax" | "rssKey" | "rssUdpPorts" | "flowGroups" | "localPorts"
>;

/** Options of steerInSoftware(). */
export type SoftwareSteeringOptions = TableOptions &
  Pick<SegmentOptions, "overflow" | "pauseMsMax" | "shared"> & {
    /** Queue pairs for kernels, 1..63. */
    readonly queues: number;
    /** The stack's, if it was given one. Default: real time. */
    readonly clock?: Clock;
    /** "manual": frames move in turn() only; for virtual time. Default "auto": by the thread that has called. */
    readonly drive?: "auto" | "manual";
    /** How long the thread polls before it sleeps, 0..1,000,000; with shared memories only. Default 50, as kernels. */
    readonly spinUs?: number;
  };

const OPTIONS: Shape<SoftwareSteeringOptions> = {
  queues: "any",
  preset: "any",
  retaEntries: "any",
  queuesRssMax: "any",
  rssKey: "octets",
  rssUdpPorts: "boolean",
  flowGroups: "any",
  localPorts: "object",
  overflow: "any",
  pauseMsMax: "any",
  shared: "boolean",
  clock: "clock",
  drive: "any",
  spinUs: "any",
};

/** A device with one queue behind which software steers. Made by steerInSoftware(). */
export interface SteeredDevice extends Device {
  /** Frames that software has placed in kernels' queues, all queues together. */
  softwareSteered(): number;
  /** What has become of other frames that the given device has received. */
  statistics(): CardStatistics;
  /** With `drive: "manual"`. @returns true when frames have moved. */
  turn(nowNs: number): boolean;
  /** With `drive: "manual"`: when the next turn is due without outside input, ns; Infinity: never. */
  nextDeadlineNs(): number;
}

/**
 * The same device, with `queues` queues. It takes the device's one queue at once; closing it closes the device, too.
 * Checksums and segmentation are left to the device as far as it does them.
 * @throws NetPopcornError ERR_OPTION_COMBINATION for a device that has several queues, ERR_OPTION_RANGE, ENOMEM, and
 * what the device throws when its queue is opened (EBUSY).
 */
export async function steerInSoftware(device: Device, options: SoftwareSteeringOptions): Promise<SteeredDevice> {
  checkKind("the device of steerInSoftware", "device", device);
  checkOptions("steerInSoftware", options, OPTIONS);
  const { queues, drive = "auto", spinUs = TUNING_RANGES.spinUs.default } = options;
  requireRange("queues", queues, 1, QUEUES_MAX);
  requireRange("spinUs", spinUs, TUNING_RANGES.spinUs.min, TUNING_RANGES.spinUs.max);
  if (drive !== "auto" && drive !== "manual") {
    throw new NetPopcornError("ERR_OPTION_RANGE", `option drive is "${drive}"; it must be "auto" or "manual"`);
  }
  if (device.capabilities.queues !== 1) {
    throw new NetPopcornError(
      "ERR_OPTION_COMBINATION",
      `the device has ${device.capabilities.queues} queues and places packets itself; open it with queues: 1`,
    );
  }
  const shared = options.shared ?? typeof SharedArrayBuffer !== "undefined";
  const { overflow, pauseMsMax } = options;
  const segment = await createSegment({
    portsMax: queues + 1,
    shared,
    ...(overflow !== undefined && { overflow }),
    ...(pauseMsMax !== undefined && { pauseMsMax }),
  });
  const reactor = drive === "manual" ? undefined : reactorOf(options.clock ?? realClock);
  return new SoftwareSteering(device, segment, { ...options, shared, spinUs }, reactor);
}

function requireRange(name: string, value: number, min: number, max: number): void {
  if (Number.isInteger(value) && value >= min && value <= max) return;
  throw new NetPopcornError("ERR_OPTION_RANGE", `option ${name} is ${value}; it must be an integer ${min}..${max}`);
}

class SoftwareSteering implements SteeredDevice {
  readonly capabilities: DeviceCapabilities;
  readonly mac: Uint8Array;
  readonly rxLanes: number;
  readonly placement: Placement;
  readonly #device: Device;
  readonly #segment: Segment;
  /** Of the kernels. */
  readonly #card: Card;
  readonly #uplink: Card;
  readonly #ends: readonly [outside: PatchEnd, inside: PatchEnd];
  readonly #reactor: Reactor | undefined;
  #closed: Promise<void> | undefined;

  constructor(
    device: Device,
    segment: Segment,
    options: SoftwareSteeringOptions & { readonly shared: boolean; readonly spinUs: number },
    reactor: Reactor | undefined,
  ) {
    this.#device = device;
    this.#segment = segment;
    this.#reactor = reactor;
    const { mtuBytes, checksumOffload, receiveCoalescing, tsoBytesMax } = device.capabilities;
    const tables: TableOptions = tableOptions(options);
    const { queues } = options;
    this.mac = device.mac.slice();
    const terms = { mtuBytes, checksumOffload, tsoBytesMax };
    const kernelsCard = { ...tables, ...terms, queues, mac: this.mac, largeReceive: receiveCoalescing };
    // The uplink's port will be the segment's first, and the only one from which kernels get frames: one lane will do.
    this.#card = segment.createCard(kernelsCard, 1);
    this.#uplink = segment.createCard({ mac: otherMac(this.mac), ...terms, largeReceive: tsoBytesMax > 0 });
    // Last: from now on the device's queue is taken.
    this.#ends = this.#patch(options.shared, options.spinUs);
    this.capabilities = { ...this.#card.capabilities, steering: "software" };
    this.rxLanes = this.#card.rxLanes;
    this.placement = this.#card.placement;
    for (const end of this.#ends) reactor?.add(end, fail);
  }

  openPort(queue: number, pair: QueuePair): DevicePort {
    return this.#card.openPort(queue, pair);
  }

  describePort(queue: number, memory: WebAssembly.Memory): PortDescription {
    return this.#card.describePort(queue, memory);
  }

  releaseQueue(queue: number): void {
    this.#card.releaseQueue(queue);
  }

  queueFor(source: Uint8Array, sourcePort: number, destination: Uint8Array, destinationPort: number): number {
    return this.#card.queueFor(source, sourcePort, destination, destinationPort);
  }

  flowGroupQueue(group: number): number | undefined {
    return this.#card.flowGroupQueue(group);
  }

  moveFlowGroup(group: number, queue: number | undefined): void {
    this.#card.moveFlowGroup(group, queue);
  }

  setFilter(flow: ReplyTuple, queue: number): boolean {
    return this.#card.setFilter(flow, queue);
  }

  clearFilter(flow: ReplyTuple): void {
    this.#card.clearFilter(flow);
  }

  filters(): readonly PlacedFilter[] {
    return this.#card.filters();
  }

  rssKey(): Uint8Array {
    return this.#card.rssKey();
  }

  setRssKey(key: Uint8Array): void {
    this.#card.setRssKey(key);
  }

  describeTables(): TablesDescriptor {
    return this.#card.describeTables();
  }

  queueFrames(): number[] {
    return this.#card.queueFrames();
  }

  softwareSteered(): number {
    // The uplink is the one sender on the segment whose frames go to the kernels' card.
    return this.#card.queueFrames().reduce((sum, frames) => sum + frames, 0);
  }

  statistics(): CardStatistics {
    return this.#uplink.statistics();
  }

  turn(nowNs: number): boolean {
    const [outside, inside] = this.#ends;
    // Twice inside: what the kernels have sent goes out, and what has come in reaches them, in one turn.
    const out = inside.turn(nowNs);
    const through = outside.turn(nowNs);
    return inside.turn(nowNs) || out || through;
  }

  nextDeadlineNs(): number {
    return Math.min(...this.#ends.map((end) => end.nextPortDeadlineNs()));
  }

  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    for (const end of this.#ends) {
      this.#reactor?.remove(end);
      end.close();
    }
    await this.#segment.close();
    await this.#device.close();
  }

  /** Opens the device's queue and the uplink's, and connects the rings crosswise. */
  #patch(shared: boolean, spinUs: number): [PatchEnd, PatchEnd] {
    const wake = () => this.#reactor?.wake();
    const outside = new PatchRings(this.#device.rxLanes, shared);
    const inside = new PatchRings(this.#uplink.rxLanes, shared);
    const direct = outside.lanes.length === 1 ? outside.lanes[0] : undefined;
    const uplinkPort = this.#uplink.openPort(0, inside.pair(wake, direct));
    const outsidePort = this.#device.openPort(0, outside.pair(wake));
    return [
      new PatchEnd({
        rings: outside,
        port: outsidePort,
        tx: outside.tx,
        target: direct ? undefined : inside.tx,
        spinUs,
      }),
      new PatchEnd({ rings: inside, port: uplinkPort, tx: direct ?? inside.tx, target: outside.tx, spinUs }),
    ];
  }
}

function tableOptions(options: SoftwareSteeringOptions): TableOptions {
  const { queues, clock, drive, spinUs, overflow, pauseMsMax, shared, ...tables } = options;
  return tables;
}

/** The uplink's: nobody sends to it, but two cards of a segment cannot have one address. */
function otherMac(mac: Uint8Array): Uint8Array {
  const other = mac.slice();
  other[5] = (other[5] as number) ^ 1;
  return other;
}

/** A port that throws has been taken out by the reactor: nothing comes or goes any more, which must not be silent. */
function fail(error: unknown): void {
  queueMicrotask(() => {
    throw error;
  });
}
