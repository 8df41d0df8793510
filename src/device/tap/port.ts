/**
 * A kernel's TAP queue: frames are read straight into its RX ring and written straight from its TX ring, with no copy
 * in JavaScript and no shared state with other queues. First and last step of the data path on Linux.
 *
 * A queue's file descriptor belongs to the process, so a port on any thread can drive any queue by its number.
 */
import {
  FRAME_BYTES_MAX,
  FRAME_LENGTH,
  FRAME_QUEUE,
  FRAME_VNET,
  FRAME_VNET_SIZE_BYTES,
} from "../../layout/frameRing.ts";
import { NetPopcornError } from "../../errors.ts";
import type { FrameRing } from "../../views/frameRing.ts";
import { recordBytes } from "../../views/frameRing.ts";
import type { DevicePort, PortDescriptor, QueuePair } from "../device.ts";
import { queueLookup, type SteeringView } from "./ebpf.ts";
import { groupSteering, learnedSteering } from "./replySteering.ts";
import { Mailbox } from "./relay.ts";
import {
  EAGAIN,
  EBADFD,
  EPOLL_CTL_MOD,
  EPOLLIN,
  EPOLLONESHOT,
  EPOLLOUT,
  loadSyscalls,
  type Syscalls,
} from "./syscalls.ts";

/** What a thread needs to drive one queue. */
export type TapPortDescriptor = PortDescriptor & {
  readonly kind: "tap";
  readonly queue: number;
  /** Of all the device's queues, in order; a port drives its own, and takes in what comes to those lent to it. */
  readonly queueFds: readonly number[];
  /** The waker's epoll, in which each queue is registered under its token and disarmed. */
  readonly epollFd: number;
  readonly tokens: readonly number[];
  /** Largest frame that the host may hand over, with its Ethernet header. */
  readonly frameBytesMax: number;
  /** All queues' statistics: TAP_STATISTICS_SLOTS numbers each, written by the queue's port only. */
  readonly statistics: SharedArrayBuffer;
  /** Queues of the device. */
  readonly queues: number;
  /** Undefined where the host steers by itself, or there is one queue. */
  readonly steering: SteeringView | undefined;
  /** Frames for all kernels come by it (relay.ts); undefined where they come by a queue. */
  readonly mailbox: SharedArrayBuffer | undefined;
};

// Statistics of a queue, in f64 so that they need no carry; one cache line per queue.
export const STAT_RX_FRAMES = 0;
export const STAT_RX_BYTES = 1;
export const STAT_TX_FRAMES = 2;
export const STAT_TX_BYTES = 3;
/** Reads that failed for another reason than an empty queue. */
export const STAT_RX_ERRORS = 4;
/** Frames that the host refused (malformed virtio header, interface down): dropped, as by a card without a link. */
export const STAT_TX_ERRORS = 5;
/** 1 once the owner closes the device: the queue's file descriptor must not be used any more. */
export const STAT_CLOSED = 6;
/** Which queue's port takes in what comes to this one, plus 1; 0: its own does. Written by the owner. */
export const STAT_LENT_TO = 7;
/** Raised by the owner after changes of STAT_LENT_TO that concern this queue's port. */
export const STAT_LOANS_VERSION = 8;
/** Two cache lines. */
export const TAP_STATISTICS_SLOTS = 16;

/** Frames moved per call and direction, so that one direction cannot starve the other or the kernel. */
const BURST_FRAMES = 64;

/**
 * Opens a queue on the calling thread.
 * @throws NetPopcornError ERR_OPTION_RANGE when the kernel's RX ring cannot hold two of the largest frames.
 */
export function openTapPort(descriptor: TapPortDescriptor, pair: QueuePair): DevicePort {
  return new TapPort(descriptor, pair);
}

class TapPort implements DevicePort {
  readonly #syscalls: Syscalls;
  readonly #descriptor: TapPortDescriptor;
  readonly #fd: number;
  readonly #allStatistics: Float64Array;
  /** Queues whose kernels are gone. */
  #lent: { readonly fd: number; readonly token: number }[] = [];
  #loansVersion = 0;
  readonly #rx: FrameRing;
  readonly #tx: FrameRing;
  readonly #statistics: Float64Array;
  readonly #mailbox: Mailbox | undefined;
  readonly queueFor?: NonNullable<DevicePort["queueFor"]>;
  readonly replySteering?: NonNullable<DevicePort["replySteering"]>;
  /** Address of byte 0 of the kernel's memory in this process. */
  readonly #memory: number;
  /** Room taken in the RX ring for a frame whose size is not known yet. */
  readonly #recordBytesMax: number;
  /** The host took no more: wait until it does. */
  #txBlocked = false;
  /** Closed, or the interface has been deleted by somebody: there is nothing to move any more. */
  #gone = false;

  constructor(descriptor: TapPortDescriptor, pair: QueuePair) {
    this.#syscalls = loadSyscalls();
    this.#descriptor = descriptor;
    this.#fd = descriptor.queueFds[descriptor.queue] as number;
    this.#rx = pair.rx[0] as FrameRing;
    this.#tx = pair.tx;
    const from = descriptor.queue * TAP_STATISTICS_SLOTS;
    this.#allStatistics = new Float64Array(descriptor.statistics);
    this.#statistics = this.#allStatistics.subarray(from, from + TAP_STATISTICS_SLOTS);
    this.#findLoans();
    const { steering, queues, mailbox } = descriptor;
    this.#mailbox = mailbox && new Mailbox(mailbox);
    if (steering !== undefined) {
      this.queueFor = queueLookup(steering);
    } else if (queues === 1) {
      this.queueFor = () => 0;
    }
    if (queues > 1) this.replySteering = steering ? groupSteering(steering, queues) : learnedSteering(queues);
    this.#memory = this.#syscalls.addressOf(this.#rx.bytes);
    this.#recordBytesMax = recordBytes(Math.min(descriptor.frameBytesMax, FRAME_BYTES_MAX));
    if (this.#rx.sizeBytes < 2 * this.#recordBytesMax) {
      throw new NetPopcornError(
        "ERR_OPTION_RANGE",
        `rxRingBytes is ${this.#rx.sizeBytes}, but this TAP device hands over frames of up to ` +
          `${descriptor.frameBytesMax} bytes; set it to ${2 ** Math.ceil(Math.log2(2 * this.#recordBytesMax))} ` +
          "or more, or open with offload: false",
      );
    }
  }

  receive(_nowNs: number): number {
    if (this.#isGone()) return 0;
    let frames = this.#receiveFrom(this.#fd);
    if (this.#statistics[STAT_LOANS_VERSION] !== this.#loansVersion) this.#findLoans();
    for (let i = 0; i < this.#lent.length; i += 1) frames += this.#receiveFrom((this.#lent[i] as { fd: number }).fd);
    if (this.#mailbox !== undefined && !this.#mailbox.isEmpty) frames += this.#receiveMail(this.#mailbox);
    return frames;
  }

  #receiveFrom(fd: number): number {
    const rx = this.#rx;
    const bytesMax = this.#recordBytesMax - FRAME_VNET;
    let frames = 0;
    let bytes = 0;
    while (frames < BURST_FRAMES) {
      const record = rx.reserve(this.#recordBytesMax);
      // A full ring is back-pressure, not loss: frames wait in the host's queue.
      if (record === 0) break;
      const got = this.#syscalls.read(fd, this.#memory + record + FRAME_VNET, bytesMax);
      if (got < 0) {
        if (got !== -EAGAIN) this.#countError(STAT_RX_ERRORS, got);
        break;
      }
      const frameBytes = got - FRAME_VNET_SIZE_BYTES;
      rx.words[(record + FRAME_LENGTH) >> 2] = frameBytes;
      rx.bytes[record + FRAME_QUEUE] = this.#descriptor.queue & 0xff;
      rx.bytes[record + FRAME_QUEUE + 1] = this.#descriptor.queue >> 8;
      rx.publish(recordBytes(frameBytes));
      frames += 1;
      bytes += frameBytes;
    }
    if (frames !== 0) this.#count(STAT_RX_FRAMES, frames, bytes);
    return frames;
  }

  #receiveMail(mailbox: Mailbox): number {
    let frames = 0;
    let bytes = 0;
    mailbox.drain((frame) => {
      frames += 1;
      bytes += frame.length;
      this.#rx.push(frame, this.#descriptor.queue);
    });
    this.#count(STAT_RX_FRAMES, frames, bytes);
    return frames;
  }

  #findLoans(): void {
    const { queue, queueFds, tokens } = this.#descriptor;
    // Read before what it announces.
    this.#loansVersion = this.#statistics[STAT_LOANS_VERSION] as number;
    this.#lent = [];
    queueFds.forEach((fd, other) => {
      const lentTo = this.#allStatistics[other * TAP_STATISTICS_SLOTS + STAT_LENT_TO];
      if (lentTo === queue + 1) this.#lent.push({ fd, token: tokens[other] as number });
    });
  }

  transmit(_nowNs: number): number {
    if (this.#isGone()) return 0;
    const tx = this.#tx;
    let frames = 0;
    let bytes = 0;
    while (frames < BURST_FRAMES) {
      const record = tx.peekRun();
      if (record === 0) break;
      const frameBytes = tx.recordLength(record);
      if (frameBytes < 0) {
        tx.consume(-frameBytes);
        continue;
      }
      const address = this.#memory + record + FRAME_VNET;
      const put = this.#syscalls.write(this.#fd, address, FRAME_VNET_SIZE_BYTES + frameBytes);
      this.#txBlocked = put === -EAGAIN;
      if (this.#txBlocked) break;
      if (put < 0) this.#countError(STAT_TX_ERRORS, put);
      else bytes += frameBytes;
      tx.consume(recordBytes(frameBytes));
      frames += 1;
    }
    if (frames !== 0) this.#count(STAT_TX_FRAMES, frames, bytes);
    return frames;
  }

  nextDeadlineNs(): number {
    return Number.POSITIVE_INFINITY;
  }

  /** The epoll reports a queue that is ready already, so nothing is lost between the last read and this call. */
  arm(): boolean {
    if (this.#isGone()) return true;
    if (this.#statistics[STAT_LOANS_VERSION] !== this.#loansVersion) return false;
    const { epollFd, queue, tokens } = this.#descriptor;
    const events = EPOLLONESHOT | EPOLLIN | (this.#txBlocked ? EPOLLOUT : 0);
    const token = tokens[queue] as number;
    // Refused only once the owner has closed the device: nothing will ever arrive.
    if (this.#syscalls.epollControl(epollFd, EPOLL_CTL_MOD, this.#fd, events, token) < 0) this.#gone = true;
    for (const lent of this.#lent) {
      this.#syscalls.epollControl(epollFd, EPOLL_CTL_MOD, lent.fd, EPOLLONESHOT | EPOLLIN, lent.token);
    }
    return true;
  }

  close(): void {
    this.#gone = true;
  }

  #isGone(): boolean {
    return this.#gone || this.#statistics[STAT_CLOSED] !== 0;
  }

  #count(framesSlot: number, frames: number, bytes: number): void {
    this.#statistics[framesSlot] = (this.#statistics[framesSlot] as number) + frames;
    this.#statistics[framesSlot + 1] = (this.#statistics[framesSlot + 1] as number) + bytes;
  }

  #countError(slot: number, status: number): void {
    this.#statistics[slot] = (this.#statistics[slot] as number) + 1;
    if (status === -EBADFD) this.#gone = true;
  }
}
