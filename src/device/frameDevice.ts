/**
 * A device whose frames the program carries itself: into an emulated PC, over a WebSocket, a MessagePort, a tunnel.
 * One queue, no offloads. First and last step of the data path where nothing but JavaScript is at hand.
 *
 * ```
 *  kernel's TX ring ──▶ transmit(frame)      a copy, the program's own
 *  kernel's RX ring ◀── receive(frame)       copied at once
 * ```
 */
import { checkOptions, type Shape } from "../checks.ts";
import { NetPopcornError } from "../errors.ts";
import { parseMac } from "../ip/address.ts";
import { FRAME_OFFSET } from "../layout/frameRing.ts";
import { type FrameRing, recordBytes } from "../views/frameRing.ts";
import type { Device, DeviceCapabilities, DevicePort, PortDescription, QueuePair } from "./device.ts";

const ETHERNET_BYTES = 14;
const MTU_BYTES_MIN = 576;
const MTU_BYTES_MAX = 65_535;
const MTU_BYTES_DEFAULT = 1500;
/** In one turn, so that what the kernel has to do otherwise gets its time. */
const BURST_FRAMES = 64;

/** Options of createFrameDevice(). */
export type FrameDeviceOptions = {
  /**
   * Takes a frame that the stack sends: an Ethernet frame without its checksum (FCS), 14 to `mtuBytes` + 14 bytes, in
   * an array of its own that may be kept, changed, transferred. Called while a kernel has its turn: not for long work.
   * @returns `false`: not taken. The frame stays first in the queue, and all others behind it, until `resume()`; a
   * stream's `write()`, whose false means taken but enough, must not be returned as it is. Anything else: taken.
   */
  readonly transmit: (frame: Uint8Array<ArrayBuffer>) => unknown;
  /** Ethernet address, "02:00:5e:10:00:01" or 6 bytes. Default: drawn at random, locally administered. */
  readonly mac?: string | Uint8Array;
  /** IP packet size without the Ethernet header, 576..65535. Default 1500. */
  readonly mtuBytes?: number;
};

/** All since the device was made; frames without their FCS. */
export type FrameDeviceStatistics = {
  /** Given to kernels. */
  readonly rxFrames: number;
  readonly rxBytes: number;
  /** Not taken: shorter than an Ethernet header, or longer than the MTU allows. */
  readonly rxBadLength: number;
  /** Not taken: no kernel drives the device (no stack yet, or closed), or its ring was full. */
  readonly rxDropped: number;
  /** Given to `transmit`. */
  readonly txFrames: number;
  readonly txBytes: number;
  /** Lost: `transmit` threw. */
  readonly txFailed: number;
};

/** A device whose frames the program itself brings and takes. Made by createFrameDevice(). */
export interface FrameDevice extends Device {
  /**
   * Brings a frame to the stack; it is copied at once.
   * @returns false: not taken, and counted. The senders of what it carried will repeat it, as over any lossy link.
   * @throws NetPopcornError EINVAL when it is no Uint8Array.
   */
  receive(frame: Uint8Array): boolean;
  /** `transmit` takes frames again. */
  resume(): void;
  statistics(): FrameDeviceStatistics;
}

const OPTIONS: Shape<FrameDeviceOptions> = { transmit: "any", mac: "mac", mtuBytes: "any" };

/**
 * For a stack with one kernel on this thread; with `steerInSoftware` before it for several, in threads, too.
 * @throws NetPopcornError EINVAL for a bad address, ERR_OPTION_RANGE.
 */
export function createFrameDevice(options: FrameDeviceOptions): FrameDevice {
  checkOptions("createFrameDevice", options, OPTIONS);
  const { transmit, mtuBytes = MTU_BYTES_DEFAULT } = options;
  if (typeof transmit !== "function") {
    throw new NetPopcornError("ERR_OPTION_RANGE", "option transmit must be a function that takes a frame");
  }
  if (!Number.isInteger(mtuBytes) || mtuBytes < MTU_BYTES_MIN || mtuBytes > MTU_BYTES_MAX) {
    const range = `${MTU_BYTES_MIN}..${MTU_BYTES_MAX}`;
    throw new NetPopcornError("ERR_OPTION_RANGE", `option mtuBytes is ${mtuBytes}; it must be an integer ${range}`);
  }
  return new ProgramDevice(transmit, macOf(options.mac), mtuBytes);
}

function macOf(mac: string | Uint8Array | undefined): Uint8Array {
  if (typeof mac === "string") return parseMac(mac);
  if (mac === undefined) {
    const drawn = globalThis.crypto.getRandomValues(new Uint8Array(6));
    // Locally administered, and of one host (IEEE 802, 8.2).
    drawn[0] = ((drawn[0] as number) & 0xfc) | 2;
    return drawn;
  }
  if (mac.length !== 6) throw new NetPopcornError("EINVAL", `an Ethernet address has 6 bytes, this one ${mac.length}`);
  return mac.slice();
}

class ProgramDevice implements FrameDevice {
  readonly capabilities: DeviceCapabilities;
  readonly mac: Uint8Array;
  readonly rxLanes = 1;
  readonly #transmit: FrameDeviceOptions["transmit"];
  #port: ProgramPort | undefined;
  #isClosed = false;
  #rxFrames = 0;
  #rxBytes = 0;
  #rxBadLength = 0;
  #rxDropped = 0;
  #txFrames = 0;
  #txBytes = 0;
  #txFailed = 0;

  constructor(transmit: FrameDeviceOptions["transmit"], mac: Uint8Array, mtuBytes: number) {
    this.#transmit = transmit;
    this.mac = mac;
    this.capabilities = {
      queues: 1,
      mtuBytes,
      checksumOffload: false,
      receiveCoalescing: false,
      tsoBytesMax: 0,
      steering: "none",
      retaEntries: 0,
      flowGroups: 0,
      exactFilters: 0,
    };
  }

  openPort(queue: number, pair: QueuePair): DevicePort {
    if (this.#isClosed) throw new NetPopcornError("EBADF", "the device is closed");
    if (queue !== 0) throw new NetPopcornError("EINVAL", `the device has one queue, and no queue ${queue}`);
    if (this.#port) throw new NetPopcornError("EBUSY", "the device is another stack's; close that first");
    const port = new ProgramPort(pair, {
      take: (frame) => this.#take(frame),
      frameBytesMax: this.capabilities.mtuBytes + ETHERNET_BYTES,
      onClose: () => {
        if (this.#port === port) this.#port = undefined;
      },
    });
    this.#port = port;
    return port;
  }

  describePort(): PortDescription {
    throw new NetPopcornError(
      "ERR_OPTION_COMBINATION",
      "a frame device is driven by the thread that has made it; for kernels in threads put steerInSoftware before it",
    );
  }

  queueFor(): number {
    return 0;
  }

  releaseQueue(): void {
    this.#port?.close();
  }

  queueFrames(): number[] {
    return [this.#rxFrames];
  }

  receive(frame: Uint8Array): boolean {
    if (!(frame instanceof Uint8Array)) {
      const text = "receive: a frame must be a Uint8Array; of an ArrayBuffer make new Uint8Array(buffer)";
      throw new NetPopcornError("EINVAL", text);
    }
    if (frame.length < ETHERNET_BYTES || frame.length > this.capabilities.mtuBytes + ETHERNET_BYTES) {
      this.#rxBadLength++;
      return false;
    }
    if (!this.#port?.receiveFrame(frame)) {
      this.#rxDropped++;
      return false;
    }
    this.#rxFrames++;
    this.#rxBytes += frame.length;
    return true;
  }

  resume(): void {
    this.#port?.resume();
  }

  statistics(): FrameDeviceStatistics {
    return {
      rxFrames: this.#rxFrames,
      rxBytes: this.#rxBytes,
      rxBadLength: this.#rxBadLength,
      rxDropped: this.#rxDropped,
      txFrames: this.#txFrames,
      txBytes: this.#txBytes,
      txFailed: this.#txFailed,
    };
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.#port?.close();
  }

  /** @returns false: the program takes no more. */
  #take(frame: Uint8Array<ArrayBuffer>): boolean {
    const { length } = frame;
    try {
      if (this.#transmit(frame) === false) return false;
    } catch (error) {
      this.#txFailed++;
      // As of an event listener: it must not end the kernel whose turn this is.
      queueMicrotask(() => {
        throw error;
      });
      return true;
    }
    this.#txFrames++;
    this.#txBytes += length;
    return true;
  }
}

type Line = {
  readonly take: (frame: Uint8Array<ArrayBuffer>) => boolean;
  readonly frameBytesMax: number;
  readonly onClose: () => void;
};

class ProgramPort implements DevicePort {
  readonly #pair: QueuePair;
  readonly #rx: FrameRing;
  readonly #line: Line;
  /** The program has refused the first frame of the ring. */
  #isPaused = false;
  #isClosed = false;

  constructor(pair: QueuePair, line: Line) {
    const rx = pair.rx[0] as FrameRing;
    const wantedBytes = 2 * recordBytes(line.frameBytesMax);
    if (rx.sizeBytes < wantedBytes) {
      throw new NetPopcornError(
        "ERR_OPTION_RANGE",
        `rxRingBytes is ${rx.sizeBytes}, but frames have up to ${line.frameBytesMax} bytes; ` +
          `set it to ${2 ** Math.ceil(Math.log2(wantedBytes))} or more`,
      );
    }
    this.#pair = pair;
    this.#rx = rx;
    this.#line = line;
  }

  receiveFrame(frame: Uint8Array): boolean {
    if (this.#isClosed || !this.#rx.push(frame)) return false;
    this.#pair.ring();
    return true;
  }

  resume(): void {
    if (!this.#isPaused) return;
    this.#isPaused = false;
    this.#pair.ring();
  }

  /** Frames come by `receiveFrame`. */
  receive(): number {
    return 0;
  }

  transmit(): number {
    const { tx } = this.#pair;
    let frames = 0;
    while (frames < BURST_FRAMES && !this.#isPaused && !this.#isClosed) {
      const record = tx.peekRun();
      if (record === 0) break;
      const frameBytes = tx.recordLength(record);
      if (frameBytes < 0) {
        tx.consume(-frameBytes);
        continue;
      }
      const from = record + FRAME_OFFSET;
      // First, since the program may resume before it has returned.
      this.#isPaused = true;
      // A copy is what a program can keep and transfer; it may also close the device meanwhile.
      if (!this.#line.take(new Uint8Array(tx.bytes.subarray(from, from + frameBytes)))) break;
      this.#isPaused = false;
      tx.consume(recordBytes(frameBytes));
      frames += 1;
    }
    return frames;
  }

  nextDeadlineNs(): number {
    return Number.POSITIVE_INFINITY;
  }

  /** Whatever comes is put into the ring by this thread, which rings. */
  arm(): boolean {
    return true;
  }

  close(): void {
    this.#isClosed = true;
    this.#line.onClose();
  }
}
