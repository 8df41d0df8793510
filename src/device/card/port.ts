/**
 * A card's queue pair, driven on its kernel's thread. Sending is the model's DMA: a run of frames goes from the
 * kernel's TX ring through this port's packet buffer, where card.wasm switches and steers it, into the RX lanes of the
 * receiving kernels. Each receiver has one lane per sending port, so no two threads ever write one ring.
 *
 * Back-pressure: when a lane is full the port keeps what it has sorted, takes no more from the TX ring, and leaves its
 * number in the receiver's waiting set; the receiver's port rings it when it has made room. Nothing is lost (as with
 * IEEE 802.3x pause), unless the segment was created with `overflow: "drop"`. A receiver that takes nothing at all for
 * pauseMsMax does not hold up its senders any longer: what is for it is dropped, and counted there, until it goes on.
 */
import {
  CARD_FLAG_CHECKSUM_OFFLOAD,
  CARD_FLAG_LARGE_RECEIVE,
  CARD_FLAG_SEGMENTATION,
  CARD_FLAGS,
  CARD_QUEUE_PORTS,
  CARD_QUEUES,
  CARD_SIZE_BYTES,
  CARDS_BASE,
  DELIVERED_BASE,
  PORT_NONE,
  PORT_OPEN,
  PORT_RECORD_SIZE_BYTES,
  PORT_WAITING,
  PORTS_BASE,
  REGION_CUT,
  REGION_DROP_BROKEN_RUN,
  REGION_DROP_NO_PORT,
  REGION_DROP_NO_ROOM,
  REGION_IMPAIRMENT_COUNTS,
  REGION_INPUT,
  REGION_INPUT_BYTES,
  REGION_RECORD_BYTES_MAX,
  REGION_SCRATCH,
  REGION_SECTIONS,
  REGION_STOP,
  SECTION_ADDRESS,
  SECTION_BYTES,
  SECTION_FRAMES,
  SECTION_PORT,
  SECTION_SIZE_BYTES,
  SEGMENT_BASE,
  SEGMENT_CARD_COUNT,
  SEGMENT_PORT_REGION_BYTES,
  SEGMENT_PORT_REGIONS,
  SEGMENT_PORTS_MAX,
} from "../../layout/card.ts";
import { FRAME_LENGTH, FRAME_OFFSET, FRAME_VNET_GSO_TYPE } from "../../layout/frameRing.ts";
import { type FrameRing, moveRun, recordBytes } from "../../views/frameRing.ts";
import { KernelMemory } from "../../views/kernelMemory.ts";
import { instantiateModule } from "../../wasm/load.ts";
import type { DevicePort, PortDescriptor, QueuePair } from "../device.ts";
import { type Impairments, ImpairedLink, isPerfect } from "./impairment.ts";
import { type CardExports, PROTOCOL_TCP, PROTOCOL_UDP, TUPLE_FRAME_BYTES, writeTupleFrame } from "./registers.ts";
import { CardReplySteering } from "./replySteering.ts";

/** Full lanes: hold the sender back, or drop as a card without flow control does. */
export type Overflow = "pause" | "drop";

/** What the owner tells a port on another thread, at the start and later. */
export type PortMessage =
  | { readonly kind: "attach"; readonly port: number; readonly memory: WebAssembly.Memory }
  | { readonly kind: "detach"; readonly port: number }
  | { readonly kind: "impair"; readonly settings: Required<Impairments> };

/** What a port tells the owner. */
export type PortReport = { readonly kind: "closed" };

export type CardPortDescriptor = PortDescriptor & {
  readonly kind: "card";
  readonly module: WebAssembly.Module;
  /** The segment's memory, shared. */
  readonly memory: WebAssembly.Memory;
  readonly card: number;
  readonly port: number;
  readonly overflow: Overflow;
  readonly pauseMsMax: number;
  readonly seed: number;
  readonly settings: Required<Impairments>;
  readonly attached: readonly { readonly port: number; readonly memory: WebAssembly.Memory }[];
  readonly channel: MessagePort;
};

/** A receiving port as its senders see it. */
export type Receiver = {
  /** Memory of the receiving kernel; plain ones can only be reached from their own thread. */
  readonly memory: WebAssembly.Memory;
  lane(sender: number): FrameRing;
  ring(): void;
};

/** Receivers by port number: the segment's own table, or a port's copy of it on another thread. */
export type Receivers = (Receiver | undefined)[];

export type CardPortOptions = {
  readonly memory: WebAssembly.Memory;
  readonly exports: CardExports;
  readonly card: number;
  readonly port: number;
  readonly overflow: Overflow;
  readonly pauseMsMax: number;
  readonly seed: number;
  readonly settings: Required<Impairments>;
  readonly receivers: Receivers;
  readonly pair: QueuePair;
  onClose(): void;
};

/** Runs taken per call of transmit(), so that sending cannot starve the kernel. */
const ROUNDS_MAX = 8;
/** Frame bytes that may be on the way on an impaired link; more waits in the TX ring. */
const FLIGHT_BYTES_MAX = 64 * 1024 * 1024;
/** Not a head of a ring: no lane was full; the lane is not known here yet. */
const HEAD_NONE = -1;
const HEAD_UNKNOWN = -2;
/** classify(): the first record is a large frame that must be cut. */
const CUT_FIRST = -1;

/** A kernel on another thread, as a receiver. */
export function remoteReceiver(memory: WebAssembly.Memory): Receiver {
  const kernel = new KernelMemory(memory);
  return { memory, lane: (sender) => kernel.rxRing(sender), ring: () => kernel.ringDoorbell() };
}

/** Opens the port that `Card.describePort` described, on the kernel's own thread. */
export function openCardPort(descriptor: CardPortDescriptor, pair: QueuePair): DevicePort {
  const { channel, memory } = descriptor;
  const receivers: Receivers = new Array(SEGMENT_PORTS_MAX).fill(undefined);
  for (const known of descriptor.attached) receivers[known.port] = remoteReceiver(known.memory);
  const exports = instantiateModule(descriptor.module, memory) as CardExports;
  const port = new CardPort({
    ...descriptor,
    exports,
    receivers,
    pair,
    onClose: () => {
      // Nobody hears it when the owner has closed the channel first.
      channel.postMessage({ kind: "closed" } satisfies PortReport);
      channel.close();
    },
  });
  channel.onmessage = (event: MessageEvent<PortMessage>) => {
    const message = event.data;
    if (message.kind === "impair") port.impair(message.settings);
    else if (message.kind === "detach") receivers[message.port] = undefined;
    else receivers[message.port] = remoteReceiver(message.memory);
    // What had to wait for this news can go on.
    pair.ring();
  };
  // The owner has taken the queue pair away.
  channel.addEventListener("close", () => port.close());
  // A port alone is no reason for the process to stay.
  (channel as { unref?: () => void }).unref?.();
  return port;
}

export class CardPort implements DevicePort {
  readonly replySteering: CardReplySteering;
  readonly #bytes: Uint8Array;
  readonly #words: Int32Array;
  readonly #delivered: Float64Array;
  readonly #exports: CardExports;
  readonly #card: number;
  readonly #port: number;
  readonly #region: number;
  readonly #overflow: Overflow;
  readonly #seed: number;
  readonly #receivers: Receivers;
  readonly #lanes: (FrameRing | undefined)[] = new Array(SEGMENT_PORTS_MAX).fill(undefined);
  readonly #lanesOf: (Receiver | undefined)[] = new Array(SEGMENT_PORTS_MAX).fill(undefined);
  readonly #pair: QueuePair;
  readonly #onClose: () => void;
  /** Sections of the last classify() that are not delivered yet: port, address, bytes, frames of each. */
  readonly #sections: number[] = [];
  /** Records in the packet buffer that are not classified yet. */
  #stagedAt = 0;
  #stagedEnd = 0;
  readonly #pauseNs: number;
  /** How far each receiver had got when its lane was found full, and since when it has been so. */
  readonly #pauseHeads = new Float64Array(SEGMENT_PORTS_MAX).fill(HEAD_NONE);
  readonly #pausedSinceNs = new Float64Array(SEGMENT_PORTS_MAX);
  /** When the first of those that hold us up has done so for too long. */
  #pauseEndsNs = Number.POSITIVE_INFINITY;
  #nowNs = 0;
  #link: ImpairedLink | undefined;
  #perfect = true;
  #closed = false;

  constructor(options: CardPortOptions) {
    this.#bytes = new Uint8Array(options.memory.buffer);
    this.#words = new Int32Array(options.memory.buffer);
    const row = DELIVERED_BASE + options.port * SEGMENT_PORTS_MAX * 8;
    this.#delivered = new Float64Array(options.memory.buffer, row, SEGMENT_PORTS_MAX);
    this.#exports = options.exports;
    this.#card = options.card;
    this.#port = options.port;
    const regions = this.#words[(SEGMENT_BASE + SEGMENT_PORT_REGIONS) >> 2] as number;
    const regionBytes = this.#words[(SEGMENT_BASE + SEGMENT_PORT_REGION_BYTES) >> 2] as number;
    this.#region = regions + options.port * regionBytes;
    this.#overflow = options.overflow;
    this.#pauseNs = options.pauseMsMax * 1e6;
    this.#seed = options.seed;
    this.#receivers = options.receivers;
    this.#pair = options.pair;
    this.#onClose = options.onClose;
    const queueFor = this.queueFor.bind(this);
    this.replySteering = new CardReplySteering(options.memory, options.card, queueFor);
    this.impair(options.settings);
    Atomics.store(this.#words, this.#portWord(options.port, PORT_WAITING), 0);
    Atomics.store(this.#words, this.#portWord(options.port, PORT_WAITING + 4), 0);
    Atomics.store(this.#words, this.#portWord(options.port, PORT_OPEN), 1);
  }

  /** Conditions of this port's link for frames sent from now on. */
  impair(settings: Required<Impairments>): void {
    this.#perfect = isPerfect(settings);
    if (this.#link) this.#link.settings = settings;
    else if (!this.#perfect) this.#link = new ImpairedLink(settings, this.#seed, this.#port);
  }

  /** Senders write into the lanes themselves; here the port only tells those that wait for room to go on. */
  receive(_nowNs: number): number {
    this.#wakeWaiting(0);
    this.#wakeWaiting(1);
    return 0;
  }

  transmit(nowNs: number): number {
    if (this.#closed) return 0;
    this.#nowNs = nowNs;
    this.#pauseEndsNs = Number.POSITIVE_INFINITY;
    const link = this.#link;
    if (link && (!this.#perfect || link.frames > 0)) return this.#transmitImpaired(link, nowNs);
    if (!this.#deliverStaged()) return 0;
    const peer = this.#cablePeer();
    return peer === PORT_NONE ? this.#transmitSteered() : this.#transmitDirect(peer);
  }

  nextDeadlineNs(): number {
    // While a lane is full its owner rings; before that time can only end the wait.
    if (this.#pauseEndsNs !== Number.POSITIVE_INFINITY) return this.#pauseEndsNs;
    return this.#link && this.#sections.length === 0 ? this.#link.nextDueNs : Number.POSITIVE_INFINITY;
  }

  arm(): boolean {
    if (this.#closed || this.#sections.length === 0) return true;
    return !this.#deliverSections();
  }

  queueFor(
    source: Uint8Array,
    sourcePort: number,
    destination: Uint8Array,
    destinationPort: number,
    isUdp = false,
  ): number {
    const at = this.#region + REGION_SCRATCH;
    const protocol = isUdp ? PROTOCOL_UDP : PROTOCOL_TCP;
    const tuple = { protocol, source, sourcePort, destination, destinationPort } as const;
    const bytes = writeTupleFrame(this.#bytes, at, tuple);
    return this.#exports.queueOf(this.#card, at, Math.min(bytes, TUPLE_FRAME_BYTES));
  }

  /** Frames that have not reached a lane yet are lost with the port. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    Atomics.store(this.#words, this.#portWord(this.#port, PORT_OPEN), 0);
    this.receive(0);
    this.#onClose();
  }

  /** Whole runs from ring to lane, when the segment is a cable to a card with one queue. */
  #transmitDirect(peer: number): number {
    const tx = this.#pair.tx;
    const lane = this.#lane(peer);
    if (!lane) return this.#isOpen(peer) && !this.#isStuck(peer, undefined) ? 0 : this.#discardAll();
    let moved = 0;
    for (let waited = false; ; ) {
      const from = tx.peekRun();
      if (from === 0) break;
      const before = tx.runBytes;
      const bytes = moveRun(tx, lane);
      if (bytes > 0) {
        moved += bytes;
        this.#countDelivered(peer, countFrames(tx.words, from, bytes));
        continue;
      }
      if (tx.peekRun() !== from || tx.runBytes !== before) continue;
      if (this.#overflow === "drop" || neverFits(lane, recordBytes(tx.recordLength(from)))) {
        this.#miss(lane, 1);
        tx.consume(recordBytes(tx.recordLength(from)));
        continue;
      }
      // Once more after the receiver knows that we wait: it may have made room in between.
      if (waited && this.#isStuck(peer, lane)) {
        this.#miss(lane, 1);
        tx.consume(recordBytes(tx.recordLength(from)));
        continue;
      }
      if (waited) break;
      this.#waitFor(peer);
      waited = true;
    }
    if (moved > 0) this.#receivers[peer]?.ring();
    return moved;
  }

  #transmitSteered(): number {
    const tx = this.#pair.tx;
    let moved = 0;
    for (let round = 0; round < ROUNDS_MAX; round++) {
      const from = tx.peekRun();
      if (from === 0) break;
      const bytes = Math.min(tx.runBytes, REGION_INPUT_BYTES);
      const input = this.#region + REGION_INPUT;
      this.#bytes.set(tx.bytes.subarray(from, from + bytes), input);
      let at = 0;
      while (at < bytes) {
        const sections = this.#exports.classify(this.#port, this.#card, input + at, bytes - at);
        let taken = this.#words[(this.#region + REGION_STOP) >> 2] as number;
        if (sections === CUT_FIRST) taken = this.#cut(input + at);
        else this.#takeSections(sections);
        if (taken === 0) break;
        tx.consume(taken);
        at += taken;
        moved += taken;
        if (!this.#deliverStaged()) return moved;
      }
      if (at === 0) moved += this.#dropBrokenRun(bytes);
    }
    return moved;
  }

  /** Everything goes through the link: TX ring -> link now, link -> lanes when due. */
  #transmitImpaired(link: ImpairedLink, nowNs: number): number {
    let moved = 0;
    for (let round = 0; round < ROUNDS_MAX; round++) {
      if (!this.#deliverStaged()) return moved;
      moved += this.#sendToLink(link, nowNs);
      const from = this.#region + REGION_INPUT;
      const end = link.takeDue(nowNs, this.#bytes, this.#words, from, from + REGION_INPUT_BYTES);
      if (end === from) break;
      moved += end - from;
      this.#stagedAt = from;
      this.#stagedEnd = end;
    }
    this.#deliverStaged();
    this.#publishCounts(link);
    return moved;
  }

  /** Takes frames from the TX ring as they would be on the wire: cut into segments, checksums filled in. */
  #sendToLink(link: ImpairedLink, nowNs: number): number {
    const tx = this.#pair.tx;
    let moved = 0;
    const input = this.#region + REGION_INPUT;
    for (let from = tx.peekRun(); from !== 0 && link.bytes < FLIGHT_BYTES_MAX; from = tx.peekRun()) {
      const length = tx.recordLength(from);
      if (length < 0) {
        tx.consume(-length);
        continue;
      }
      const size = recordBytes(length);
      if (size > tx.runBytes || size > REGION_RECORD_BYTES_MAX) return moved + this.#dropBrokenRun(tx.runBytes);
      this.#bytes.set(tx.bytes.subarray(from, from + size), input);
      tx.consume(size);
      moved += size;
      if (this.#bytes[input + FRAME_VNET_GSO_TYPE] !== 0) {
        const cut = this.#exports.cut(this.#port, input);
        this.#sendRecords(link, nowNs, this.#region + REGION_CUT, cut);
      } else {
        this.#exports.fill(input);
        this.#sendRecords(link, nowNs, input, size);
      }
    }
    return moved;
  }

  #sendRecords(link: ImpairedLink, nowNs: number, from: number, bytes: number): void {
    for (let at = from; at < from + bytes; ) {
      const length = this.#words[(at + FRAME_LENGTH) >> 2] as number;
      link.send(this.#bytes.subarray(at + FRAME_OFFSET, at + FRAME_OFFSET + length), nowNs);
      at += recordBytes(length);
    }
  }

  /** Cuts the large frame of `record`; its segments are staged. @returns bytes of the record. */
  #cut(record: number): number {
    const bytes = this.#exports.cut(this.#port, record);
    this.#stagedAt = this.#region + REGION_CUT;
    this.#stagedEnd = this.#stagedAt + bytes;
    return recordBytes(this.#words[(record + FRAME_LENGTH) >> 2] as number);
  }

  /** Classifies and delivers what is staged. @returns false when a full lane holds the rest back. */
  #deliverStaged(): boolean {
    for (;;) {
      if (this.#sections.length > 0) {
        this.#deliverSections();
        if (this.#sections.length > 0) return false;
      }
      if (this.#stagedAt === this.#stagedEnd) return true;
      const bytes = this.#stagedEnd - this.#stagedAt;
      const sections = this.#exports.classify(this.#port, this.#card, this.#stagedAt, bytes);
      const taken = this.#words[(this.#region + REGION_STOP) >> 2] as number;
      if (sections < 0 || taken === 0) {
        // Cannot happen with records that we have made ourselves; never loop on them.
        this.#stagedAt = this.#stagedEnd;
        this.#countInRegion(REGION_DROP_BROKEN_RUN, 1);
        continue;
      }
      this.#stagedAt += taken;
      this.#takeSections(sections);
    }
  }

  #takeSections(count: number): void {
    for (let i = 0; i < count; i++) {
      const at = (this.#region + REGION_SECTIONS + i * SECTION_SIZE_BYTES) >> 2;
      this.#sections.push(
        this.#words[at + SECTION_PORT / 4] as number,
        this.#words[at + SECTION_ADDRESS / 4] as number,
        this.#words[at + SECTION_BYTES / 4] as number,
        this.#words[at + SECTION_FRAMES / 4] as number,
      );
    }
  }

  /** Delivers sections as far as lanes have room; the rest stays. @returns true when something was moved. */
  #deliverSections(): boolean {
    const sections = this.#sections;
    let moved = false;
    let kept = 0;
    for (let i = 0; i < sections.length; i += 4) {
      const port = sections[i] as number;
      const at = sections[i + 1] as number;
      const bytes = sections[i + 2] as number;
      const frames = sections[i + 3] as number;
      const done = this.#deliver(port, at, bytes);
      if (done > 0) moved = true;
      const framesDone = done === bytes ? frames : countFrames(this.#words, at, done);
      this.#countDelivered(port, framesDone);
      if (done === bytes || this.#dropRest(port, frames - framesDone)) continue;
      sections[kept++] = port;
      sections[kept++] = at + done;
      sections[kept++] = bytes - done;
      sections[kept++] = frames - framesDone;
    }
    sections.length = kept;
    return moved;
  }

  /** @returns true when what the lane did not take is lost: no receiver any more, or a card without flow control. */
  #dropRest(port: number, frames: number): boolean {
    if (!this.#isOpen(port)) {
      this.#countInRegion(REGION_DROP_NO_PORT, frames);
      return true;
    }
    const lane = this.#lane(port);
    if (this.#overflow === "pause" && !this.#isStuck(port, lane)) return false;
    if (lane) this.#miss(lane, frames);
    else this.#countInRegion(REGION_DROP_NO_PORT, frames);
    return true;
  }

  /** Of a receiver whose lane has no room: it has taken nothing for pauseMsMax. A sender looks when it has frames. */
  #isStuck(port: number, lane: FrameRing | undefined): boolean {
    const head = lane ? lane.head : HEAD_UNKNOWN;
    if (this.#pauseHeads[port] !== head) {
      this.#pauseHeads[port] = head;
      this.#pausedSinceNs[port] = this.#nowNs;
    }
    const endsNs = (this.#pausedSinceNs[port] as number) + this.#pauseNs;
    if (this.#nowNs >= endsNs) return true;
    if (endsNs < this.#pauseEndsNs) this.#pauseEndsNs = endsNs;
    return false;
  }

  /** Copies records into the lane of `port`. @returns bytes that found room. */
  #deliver(port: number, at: number, bytes: number): number {
    // A kernel whose memory has not been announced here yet gets its frames when it has.
    const lane = this.#isOpen(port) ? this.#lane(port) : undefined;
    if (!lane) return 0;
    let done = this.#fillLane(lane, at, bytes);
    if (done < bytes && this.#overflow === "pause") {
      this.#waitFor(port);
      done += this.#fillLane(lane, at + done, bytes - done);
    }
    if (done > 0) this.#receivers[port]?.ring();
    return done;
  }

  #fillLane(lane: FrameRing, at: number, bytes: number): number {
    let done = 0;
    while (done < bytes) {
      const room = lane.room();
      let run = bytes - done;
      if (run > room) run = this.#prefixThatFits(at + done, run, room);
      if (run === 0) {
        const size = recordBytes(this.#words[(at + done + FRAME_LENGTH) >> 2] as number);
        if (lane.reserve(size) !== 0) continue;
        if (!lane.ready || !neverFits(lane, size)) break;
        this.#miss(lane, 1);
        done += size;
        continue;
      }
      lane.bytes.set(this.#bytes.subarray(at + done, at + done + run), lane.roomAddress);
      lane.publish(run);
      done += run;
    }
    return done;
  }

  #prefixThatFits(from: number, bytes: number, room: number): number {
    let at = 0;
    while (at < bytes) {
      const size = recordBytes(this.#words[(from + at + FRAME_LENGTH) >> 2] as number);
      if (at + size > room) break;
      at += size;
    }
    return at;
  }

  /** The one receiving port, when the segment is a cable to a card with one queue that takes frames as they are. */
  #cablePeer(): number {
    const words = this.#words;
    if (words[(SEGMENT_BASE + SEGMENT_CARD_COUNT) >> 2] !== 2) return PORT_NONE;
    const own = CARDS_BASE + this.#card * CARD_SIZE_BYTES;
    const peer = CARDS_BASE + (this.#card ^ 1) * CARD_SIZE_BYTES;
    if (words[(peer + CARD_QUEUES) >> 2] !== 1) return PORT_NONE;
    const ownFlags = words[(own + CARD_FLAGS) >> 2] as number;
    // What our kernel leaves to the card the peer must take, or be spared.
    const needed =
      (ownFlags & CARD_FLAG_CHECKSUM_OFFLOAD) | (ownFlags & CARD_FLAG_SEGMENTATION ? CARD_FLAG_LARGE_RECEIVE : 0);
    if ((needed & (words[(peer + CARD_FLAGS) >> 2] as number)) !== needed) return PORT_NONE;
    return this.#bytes[peer + CARD_QUEUE_PORTS] as number;
  }

  /** Our lane in the receiver's memory; undefined while it is unknown here or its kernel has not booted. */
  #lane(port: number): FrameRing | undefined {
    const receiver = this.#receivers[port];
    if (!receiver) return undefined;
    let lane = this.#lanes[port];
    if (this.#lanesOf[port] !== receiver) {
      lane = receiver.lane(this.#port);
      this.#lanes[port] = lane;
      this.#lanesOf[port] = receiver;
    }
    return lane?.ready ? lane : undefined;
  }

  #isOpen(port: number): boolean {
    return Atomics.load(this.#words, this.#portWord(port, PORT_OPEN)) === 1;
  }

  #portWord(port: number, field: number): number {
    return (PORTS_BASE + port * PORT_RECORD_SIZE_BYTES + field) >> 2;
  }

  #waitFor(port: number): void {
    const field = this.#port < 32 ? PORT_WAITING : PORT_WAITING + 4;
    Atomics.or(this.#words, this.#portWord(port, field), 1 << (this.#port & 31));
  }

  /** Lets senders go on whose lanes are half empty; earlier, they would wake for a frame or two. */
  #wakeWaiting(half: 0 | 1): void {
    const word = this.#portWord(this.#port, PORT_WAITING) + half;
    for (let waiting = Atomics.load(this.#words, word); waiting !== 0; ) {
      const bit = 31 - Math.clz32(waiting);
      waiting &= ~(1 << bit);
      const sender = half * 32 + bit;
      const lane = this.#pair.rx[sender];
      if (!this.#closed && lane && lane.usedBytes * 2 > lane.sizeBytes) continue;
      // Cleared first: a sender that finds the lane full again sets it again.
      Atomics.and(this.#words, word, ~(1 << bit));
      this.#receivers[sender]?.ring();
    }
  }

  /** No kernel is at the other end of the cable. */
  #discardAll(): number {
    const tx = this.#pair.tx;
    let discarded = 0;
    for (let from = tx.peekRun(); from !== 0; from = tx.peekRun()) {
      this.#countInRegion(REGION_DROP_NO_PORT, countFrames(tx.words, from, tx.runBytes));
      discarded += tx.runBytes;
      tx.consume(tx.runBytes);
    }
    return discarded;
  }

  /** A run that starts with no whole record although it is long enough for one: the kernel has written nonsense. */
  #dropBrokenRun(bytes: number): number {
    if (bytes < REGION_RECORD_BYTES_MAX && bytes < this.#pair.tx.runBytes) return 0;
    this.#countInRegion(REGION_DROP_BROKEN_RUN, 1);
    this.#pair.tx.consume(this.#pair.tx.runBytes);
    return bytes;
  }

  #countDelivered(port: number, frames: number): void {
    this.#delivered[port] = (this.#delivered[port] as number) + frames;
  }

  /** The owner reads what has happened on this link from the segment's memory, whatever thread the port is on. */
  #publishCounts(link: ImpairedLink): void {
    const at = (this.#region + REGION_IMPAIRMENT_COUNTS) >> 2;
    const { lost, duplicated, corrupted, reordered, queueDropped } = link.counts;
    this.#words[at] = lost;
    this.#words[at + 1] = duplicated;
    this.#words[at + 2] = corrupted;
    this.#words[at + 3] = reordered;
    this.#words[at + 4] = queueDropped;
  }

  /** Frames for which a lane has no room are lost. */
  #miss(lane: FrameRing, frames: number): void {
    lane.countMissed(frames);
    this.#countInRegion(REGION_DROP_NO_ROOM, frames);
  }

  #countInRegion(counter: number, n: number): void {
    const at = (this.#region + counter) >> 2;
    this.#words[at] = ((this.#words[at] as number) + n) | 0;
  }
}

/** Frames in a run of records. */
function countFrames(words: Int32Array, from: number, bytes: number): number {
  let frames = 0;
  for (let at = from; at < from + bytes; ) {
    const length = words[(at + FRAME_LENGTH) >> 2] as number;
    if (length < 0) {
      at -= length;
    } else {
      at += recordBytes(length);
      frames++;
    }
  }
  return frames;
}

/** A record of more than half a ring may find no place even in an empty one. */
function neverFits(lane: FrameRing, size: number): boolean {
  return size > lane.sizeBytes / 2 && lane.usedBytes === 0;
}
