/**
 * An in-memory Ethernet segment: a switch with model cards. Frames for a known address go to its card, all others to
 * every card but the sender's; two cards are a cable. The segment lives on the thread that creates it, the owner's;
 * its ports run on their kernels' threads and need the owner only to learn of each other.
 */
import { checkOptions, type Shape } from "../../checks.ts";
import { NetPopcornError } from "../../errors.ts";
import {
  CARD_MACS_BASE,
  CARDS_BASE,
  CARD_SIZE_BYTES,
  DELIVERED_BASE,
  PORT_OPEN,
  PORT_RECORD_SIZE_BYTES,
  PORT_WAITING,
  PORTS_BASE,
  REGION_DROP_BROKEN_RUN,
  REGION_DROP_GSO,
  REGION_DROP_NO_PORT,
  REGION_DROP_NO_ROOM,
  REGION_DROP_OWN_CARD,
  REGION_IMPAIRMENT_COUNTS,
  REGION_INPUT_BYTES,
  REGION_OUTPUT,
  REGION_RECORD_BYTES_MAX,
  SEGMENT_BASE,
  SEGMENT_CARD_COUNT,
  SEGMENT_PORT_REGION_BYTES,
  SEGMENT_PORT_REGIONS,
  SEGMENT_PORTS_MAX,
} from "../../layout/card.ts";
import { createMemory, instantiateModule, loadModule } from "../../wasm/load.ts";
import type { DevicePort, PortDescription, QueuePair } from "../device.ts";
import { Card, type CardOptions, type CardSegment, type CardStatistics } from "./card.ts";
import { completeImpairments, type Impairments } from "./impairment.ts";
import {
  CardPort,
  type CardPortDescriptor,
  type Overflow,
  type PortMessage,
  type PortReport,
  type Receiver,
  type Receivers,
  remoteReceiver,
} from "./port.ts";
import type { CardExports } from "./registers.ts";

/** Options of createSegment(). */
export type SegmentOptions = {
  /** Kernels that can be attached at a time, 2..64; each needs one RX lane in every kernel. Default 16. */
  readonly portsMax?: number;
  /** What happens when a receiver's lane is full. Default "pause": the sender waits, nothing is lost. */
  readonly overflow?: Overflow;
  /**
   * With "pause": how long a receiver may take nothing at all, 1..3,600,000; then its frames are dropped, and counted
   * (noRoom), until it goes on. A kernel that hangs holds up its neighbours for so long. Default 200.
   */
  readonly pauseMsMax?: number;
  /** False: kernels of one thread only. Default: whether this place has shared memories. */
  readonly shared?: boolean;
  /** Of everything random: impairments, default addresses. Default 1. */
  readonly seed?: number;
  /** Conditions of all links; none: perfect. */
  readonly impairments?: Impairments;
};

const PAUSE_MS_DEFAULT = 200;

/** Counters in a port's region. */
const STATISTICS: Readonly<Record<keyof CardStatistics, number>> = {
  noKernel: REGION_DROP_NO_PORT,
  noRoom: REGION_DROP_NO_ROOM,
  ownAddress: REGION_DROP_OWN_CARD,
  badSegmentation: REGION_DROP_GSO,
  brokenRuns: REGION_DROP_BROKEN_RUN,
  lost: REGION_IMPAIRMENT_COUNTS,
  duplicated: REGION_IMPAIRMENT_COUNTS + 4,
  corrupted: REGION_IMPAIRMENT_COUNTS + 8,
  reordered: REGION_IMPAIRMENT_COUNTS + 12,
  queueDropped: REGION_IMPAIRMENT_COUNTS + 16,
};

/** One attached kernel. */
type Attachment = {
  readonly card: number;
  readonly queue: number;
  readonly receiver: Receiver;
  /** On this thread. */
  local: CardPort | undefined;
  /** To the port on another thread. */
  readonly channel: MessagePort | undefined;
};

const OPTIONS: Shape<SegmentOptions> = {
  portsMax: "any",
  overflow: "any",
  pauseMsMax: "any",
  shared: "boolean",
  seed: "any",
  impairments: "object",
};

/**
 * @throws NetPopcornError ERR_INVALID_ARG_TYPE, ERR_OPTION_UNKNOWN, ERR_OPTION_RANGE, ERR_MODULE_LOAD, ENOMEM.
 */
export async function createSegment(options: SegmentOptions = {}): Promise<Segment> {
  checkOptions("createSegment", options, OPTIONS);
  const shared = options.shared ?? typeof SharedArrayBuffer !== "undefined";
  return new Segment(options, await loadModule("card", shared), shared);
}

function isShared(memory: WebAssembly.Memory): boolean {
  return typeof SharedArrayBuffer !== "undefined" && memory.buffer instanceof SharedArrayBuffer;
}

/** An in-memory Ethernet segment: a switch with model cards. Made by createSegment(). */
export class Segment implements CardSegment {
  readonly portsMax: number;
  readonly overflow: Overflow;
  readonly pauseMsMax: number;
  readonly seed: number;
  /** In the order of their creation, but for those that have got the place of a closed one. */
  readonly cards: Card[] = [];
  readonly memory: WebAssembly.Memory;
  readonly exports: CardExports;
  readonly module: WebAssembly.Module;
  readonly #words: Int32Array;
  readonly #delivered: Float64Array;
  readonly #attachments: (Attachment | undefined)[];
  readonly #receivers: Receivers = new Array(SEGMENT_PORTS_MAX).fill(undefined);
  /** By place: cards that have had it, less one. */
  readonly #generations: number[] = [];
  #settings: Required<Impairments>;
  #isClosed = false;

  /** Use createSegment(). */
  constructor(options: SegmentOptions, module: WebAssembly.Module, shared: boolean) {
    const portsMax = options.portsMax ?? 16;
    if (!(Number.isInteger(portsMax) && portsMax >= 2 && portsMax <= SEGMENT_PORTS_MAX)) {
      throw new NetPopcornError("ERR_OPTION_RANGE", `portsMax is ${portsMax}; it must be 2..${SEGMENT_PORTS_MAX}`);
    }
    this.portsMax = portsMax;
    this.overflow = options.overflow ?? "pause";
    if (this.overflow !== "pause" && this.overflow !== "drop") {
      throw new NetPopcornError("ERR_OPTION_RANGE", `overflow is "${this.overflow}"; it must be "pause" or "drop"`);
    }
    this.pauseMsMax = options.pauseMsMax ?? PAUSE_MS_DEFAULT;
    if (!(Number.isInteger(this.pauseMsMax) && this.pauseMsMax >= 1 && this.pauseMsMax <= 3_600_000)) {
      throw new NetPopcornError("ERR_OPTION_RANGE", `pauseMsMax is ${this.pauseMsMax}; it must be 1..3600000`);
    }
    this.seed = options.seed ?? 1;
    this.#settings = completeImpairments(options.impairments ?? {});
    this.#attachments = new Array(portsMax).fill(undefined);
    const regions = CARDS_BASE + portsMax * CARD_SIZE_BYTES;
    const regionBytes = (REGION_OUTPUT + REGION_INPUT_BYTES + portsMax * REGION_RECORD_BYTES_MAX + 63) & -64;
    this.memory = createMemory((regions + portsMax * regionBytes + 65535) & -65536, shared);
    this.#words = new Int32Array(this.memory.buffer);
    this.#delivered = new Float64Array(this.memory.buffer, DELIVERED_BASE, SEGMENT_PORTS_MAX * SEGMENT_PORTS_MAX);
    this.#words[(SEGMENT_BASE + SEGMENT_PORT_REGIONS) >> 2] = regions;
    this.#words[(SEGMENT_BASE + SEGMENT_PORT_REGION_BYTES) >> 2] = regionBytes;
    this.module = module;
    this.exports = instantiateModule(module, this.memory) as CardExports;
  }

  /**
   * @param rxLanes internal: less than the default where only the first ports of the segment ever send to this card.
   * @throws NetPopcornError ERR_SEGMENT_FULL, ERR_OPTION_UNKNOWN, ERR_OPTION_RANGE, EBADF (closed), EADDRINUSE for
   *   an Ethernet address that is taken.
   */
  createCard(options: CardOptions = {}, rxLanes = this.portsMax): Card {
    if (this.#isClosed) throw new NetPopcornError("EBADF", "the segment is closed; create another");
    const closed = this.cards.findIndex(({ isClosed }) => isClosed);
    const index = this.cards.length < this.portsMax ? this.cards.length : closed;
    if (index < 0) {
      throw new NetPopcornError(
        "ERR_SEGMENT_FULL",
        `a segment of ${this.portsMax} ports has no more cards; raise portsMax`,
      );
    }
    const generation = (this.#generations[index] ?? -1) + 1;
    const card = new Card({ segment: this, index, generation, settings: this.#settings, rxLanes }, options);
    this.#generations[index] = generation;
    const macs = new Uint8Array(this.memory.buffer);
    for (const other of this.cards) {
      if (other.index === index || !other.mac.every((byte, i) => byte === card.mac[i])) continue;
      if (!other.isClosed) {
        throw new NetPopcornError("EADDRINUSE", `Ethernet address ${[...card.mac]} is already on this segment`);
      }
      // The closed one must not be found first.
      macs.fill(0, CARD_MACS_BASE + other.index * 8, CARD_MACS_BASE + other.index * 8 + 6);
    }
    macs.set(card.mac, CARD_MACS_BASE + index * 8);
    this.cards[index] = card;
    // Last: from now on senders look at the card's registers.
    Atomics.store(this.#words, (SEGMENT_BASE + SEGMENT_CARD_COUNT) >> 2, this.cards.length);
    return card;
  }

  /** Conditions of the links of all cards, present and future. Frames that are on the way keep theirs. */
  impair(impairments: Impairments): void {
    this.#settings = completeImpairments(impairments);
    for (const card of this.cards) card.impair(impairments);
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    for (const card of this.cards) await card.close();
  }

  // What follows is for Card.

  /** A port for a kernel on this thread. */
  openPort(card: Card, queue: number, pair: QueuePair): DevicePort {
    if (pair.rx.length < card.rxLanes) {
      throw new NetPopcornError(
        "ERR_OPTION_RANGE",
        `a kernel on this segment needs ${card.rxLanes} RX lanes, not ${pair.rx.length}; see Device.rxLanes`,
      );
    }
    const receiver: Receiver = {
      memory: pair.memory,
      lane: (sender) => pair.rx[sender] as (typeof pair.rx)[number],
      ring: () => pair.ring(),
    };
    const port = this.#attach({ card: card.index, queue, receiver, local: undefined, channel: undefined });
    const opened = new CardPort({
      memory: this.memory,
      exports: instantiateModule(this.module, this.memory) as CardExports,
      card: card.index,
      port,
      overflow: this.overflow,
      pauseMsMax: this.pauseMsMax,
      seed: this.seed,
      settings: card.settings,
      receivers: this.#receivers,
      pair,
      onClose: () => this.#detach(port, opened),
    });
    (this.#attachments[port] as Attachment).local = opened;
    return opened;
  }

  /** A port for a kernel on another thread. */
  describePort(card: Card, queue: number, memory: WebAssembly.Memory): PortDescription {
    if (!isShared(this.memory)) throw notShared("this segment was created for one thread (shared: false)");
    if (!isShared(memory)) throw notShared("the kernel's memory is not shared");
    const { port1, port2 } = new MessageChannel();
    const attached = [...this.#receivers.entries()].flatMap(([port, receiver]) =>
      receiver ? [{ port, memory: receiver.memory }] : [],
    );
    const port = this.#attach({
      card: card.index,
      queue,
      receiver: remoteReceiver(memory),
      local: undefined,
      channel: port1,
    });
    port1.onmessage = (event: MessageEvent<PortReport>) => {
      if (event.data.kind === "closed") this.#release(port, port1);
    };
    // The other end also closes when its worker dies.
    port1.addEventListener("close", () => this.#release(port, port1));
    (port1 as { unref?: () => void }).unref?.();
    const descriptor: CardPortDescriptor = {
      kind: "card",
      module: this.module,
      memory: this.memory,
      card: card.index,
      port,
      overflow: this.overflow,
      pauseMsMax: this.pauseMsMax,
      seed: this.seed,
      settings: card.settings,
      attached: [...attached, { port, memory }],
      channel: port2,
    };
    return { descriptor, transfer: [port2] };
  }

  /** Tells all ports of a card, wherever they run, about new conditions. */
  impairPorts(card: number, settings: Required<Impairments>): void {
    for (const attachment of this.#attachments) {
      if (attachment?.card !== card) continue;
      attachment.local?.impair(settings);
      attachment.channel?.postMessage({ kind: "impair", settings } satisfies PortMessage);
    }
  }

  /** Takes a queue pair away from its kernel, alive or dead. Frames for it are dropped until another takes it. */
  releaseQueue(card: number, queue: number): void {
    this.#attachments.forEach((attachment, port) => {
      if (attachment?.card !== card || attachment.queue !== queue) return;
      if (attachment.local) attachment.local.close();
      else if (attachment.channel) this.#release(port, attachment.channel);
    });
  }

  /** Frames that have been put into the lanes of `port` since the segment began. */
  deliveredTo(port: number): number {
    let frames = 0;
    for (let sender = 0; sender < SEGMENT_PORTS_MAX; sender++) {
      frames += this.#delivered[sender * SEGMENT_PORTS_MAX + port] as number;
    }
    return frames;
  }

  /** Sums over the present ports of a card. */
  statisticsOf(card: number): CardStatistics {
    const sums: Record<string, number> = {};
    for (const name of Object.keys(STATISTICS)) sums[name] = 0;
    const regions = this.#words[(SEGMENT_BASE + SEGMENT_PORT_REGIONS) >> 2] as number;
    const regionBytes = this.#words[(SEGMENT_BASE + SEGMENT_PORT_REGION_BYTES) >> 2] as number;
    this.#attachments.forEach((attachment, port) => {
      if (attachment?.card !== card) return;
      for (const [name, offset] of Object.entries(STATISTICS)) {
        const value = this.#words[(regions + port * regionBytes + offset) >> 2] as number;
        sums[name] = (sums[name] as number) + (value >>> 0);
      }
    });
    return sums as CardStatistics;
  }

  #attach(attachment: Attachment): number {
    const { card, queue, receiver } = attachment;
    const others = this.#attachments.filter((other) => other !== undefined);
    if (others.some((other) => other.card === card && other.queue === queue)) {
      throw new NetPopcornError(
        "EBUSY",
        `queue ${queue} already has a kernel; close its port or release the queue first`,
      );
    }
    const acrossThreads = attachment.channel !== undefined || others.some((other) => other.channel !== undefined);
    if (acrossThreads && [attachment, ...others].some((other) => !isShared(other.receiver.memory))) {
      throw notShared("a kernel of this segment has a memory of its own");
    }
    const port = this.#attachments.indexOf(undefined);
    if (port < 0) {
      throw new NetPopcornError(
        "ERR_SEGMENT_FULL",
        `all ${this.portsMax} ports of the segment are taken; raise portsMax`,
      );
    }
    this.#attachments[port] = attachment;
    this.#receivers[port] = receiver;
    // Ports on other threads must know the memory before the first frame is steered to it.
    this.#announce({ kind: "attach", port, memory: receiver.memory }, port);
    (this.cards[card] as Card).attached(queue, port);
    return port;
  }

  /** A port on another thread is gone, or is to go. */
  #release(port: number, channel: MessagePort): void {
    if (this.#attachments[port]?.channel !== channel) return;
    Atomics.store(this.#words, (PORTS_BASE + port * PORT_RECORD_SIZE_BYTES + PORT_OPEN) >> 2, 0);
    this.#detach(port, undefined);
    this.#ringWaiting(port);
    channel.close();
  }

  #detach(port: number, local: CardPort | undefined): void {
    const attachment = this.#attachments[port];
    if (!attachment || attachment.local !== local) return;
    (this.cards[attachment.card] as Card).detached(attachment.queue, port);
    this.#attachments[port] = undefined;
    this.#receivers[port] = undefined;
    this.#announce({ kind: "detach", port }, port);
  }

  /** Senders that waited for room at `port` may go on: it is gone. */
  #ringWaiting(port: number): void {
    for (let half = 0; half < 2; half++) {
      const word = (PORTS_BASE + port * PORT_RECORD_SIZE_BYTES + PORT_WAITING) / 4 + half;
      const waiting = Atomics.exchange(this.#words, word, 0);
      for (let bit = 0; bit < 32; bit++) if (waiting & (1 << bit)) this.#receivers[half * 32 + bit]?.ring();
    }
  }

  #announce(message: PortMessage, except: number): void {
    this.#attachments.forEach((attachment, port) => {
      if (port !== except) attachment?.channel?.postMessage(message);
    });
  }
}

function notShared(why: string): NetPopcornError {
  return new NetPopcornError(
    "ERR_MEMORY_NOT_SHARED",
    `${why}, so a kernel on another thread cannot reach it; use mode "threads" for all stacks on a segment or none`,
  );
}
