/**
 * What is checked on every frame that any kernel of a simulation sends, and the trace of them all.
 * Windows are RFC 9293 3.8.6's: no byte may be sent beyond the largest right edge that its receiver ever offered, but
 * for one byte of a window probe.
 */
import { createHash } from "node:crypto";
import { FRAME_OFFSET } from "../../src/layout/frameRing.ts";
import { type FrameRing, recordBytes } from "../../src/views/frameRing.ts";

const ETHERNET_BYTES = 14;
const SYN = 2;
const RST = 4;
const ACK = 16;
const FLAG_NAMES = ["FIN", "SYN", "RST", "PSH", "ACK", "URG"] as const;

/** What one direction of a connection has shown of itself. */
type Direction = {
  /** Initial sequence number of the SYN last seen. */
  iss: number;
  /** Shift offered in that SYN; -1: none. */
  wscale: number;
  /** Largest right edge that this side has offered, as a sequence number of the other side; undefined: none yet. */
  edge: number | undefined;
};

type Segment = {
  readonly flow: string;
  readonly reverse: string;
  readonly seq: number;
  readonly ack: number;
  readonly flags: number;
  readonly windowField: number;
  readonly payloadBytes: number;
  readonly wscale: number;
};

/** a - b as a signed 32-bit distance. */
function distance(a: number, b: number): number {
  return (a - b) | 0;
}

function wscaleOf(bytes: DataView, from: number, end: number): number {
  for (let at = from; at < end; ) {
    const kind = bytes.getUint8(at);
    if (kind === 0) break;
    if (kind === 1) {
      at++;
      continue;
    }
    if (kind === 3) return bytes.getUint8(at + 2);
    at += bytes.getUint8(at + 1);
  }
  return -1;
}

function parse(bytes: DataView, at: number): Segment | undefined {
  if (bytes.getUint16(at + 12) !== 0x0800) return undefined;
  const ip = at + ETHERNET_BYTES;
  const headerBytes = (bytes.getUint8(ip) & 15) * 4;
  if (bytes.getUint8(ip + 9) !== 6 || (bytes.getUint16(ip + 6) & 0x1fff) !== 0) return undefined;
  const tcp = ip + headerBytes;
  const source = `${bytes.getUint32(ip + 12)}:${bytes.getUint16(tcp)}`;
  const target = `${bytes.getUint32(ip + 16)}:${bytes.getUint16(tcp + 2)}`;
  const tcpHeaderBytes = (bytes.getUint8(tcp + 12) >> 4) * 4;
  const flags = bytes.getUint8(tcp + 13);
  return {
    flow: `${source}>${target}`,
    reverse: `${target}>${source}`,
    seq: bytes.getUint32(tcp + 4),
    ack: bytes.getUint32(tcp + 8),
    flags,
    windowField: bytes.getUint16(tcp + 14),
    payloadBytes: bytes.getUint16(ip + 2) - headerBytes - tcpHeaderBytes,
    wscale: flags & SYN ? wscaleOf(bytes, tcp + 20, tcp + tcpHeaderBytes) : -1,
  };
}

/** Sees every frame in the order of sending. Throws an Error at the first that breaks a rule. */
export class FrameChecker {
  frames = 0;
  readonly #hash = createHash("sha1");
  readonly #directions = new Map<string, Direction>();
  readonly #trace: ((line: string) => void) | undefined;
  readonly #checksWindows: boolean;

  /**
   * @param trace gets one line per TCP segment.
   * @param checksWindows false: both ends of a connection may change in mid-flow, because kernels die.
   */
  constructor(trace?: (line: string) => void, checksWindows = true) {
    this.#trace = trace;
    this.#checksWindows = checksWindows;
  }

  /** Of all frames and the instants of their sending. */
  digest(): string {
    return this.#hash.copy().digest("hex");
  }

  /** @param at where the frame lies in `memory`. */
  see(nowNs: number, sender: string, memory: Uint8Array, at: number, frameBytes: number): void {
    this.frames++;
    this.#hash.update(String(nowNs)).update(memory.subarray(at, at + frameBytes));
    const segment = parse(new DataView(memory.buffer), at);
    if (!segment) return;
    this.#trace?.(describe(nowNs, sender, segment));
    if (this.#checksWindows) this.#check(segment);
  }

  #check(segment: Segment): void {
    const { flow, reverse, seq, ack, flags, payloadBytes } = segment;
    let own = this.#directions.get(flow);
    if (!own || (flags & SYN && own.iss !== seq)) {
      own = { iss: seq, wscale: -1, edge: undefined };
      this.#directions.set(flow, own);
    }
    if (flags & SYN) own.wscale = segment.wscale;
    if (flags & RST) return;
    const peer = this.#directions.get(reverse);
    if (flags & ACK) {
      const scaled = !(flags & SYN) && own.wscale >= 0 && (peer?.wscale ?? -1) >= 0;
      const edge = (ack + segment.windowField * (scaled ? 2 ** own.wscale : 1)) >>> 0;
      if (own.edge === undefined || distance(edge, own.edge) > 0) own.edge = edge;
    } else if (flags & SYN) {
      // Where the window of a SYN ends is known when the peer's ISN is: 64 KiB at most, checked from the first ACK on.
      own.edge = undefined;
    }
    if (payloadBytes === 0 || peer?.edge === undefined) return;
    const beyond = distance(seq + payloadBytes, peer.edge);
    if (beyond > 1 || (beyond === 1 && payloadBytes > 1)) {
      throw new Error(`${flow}: ${payloadBytes} bytes at ${seq} end ${beyond} beyond the offered window`);
    }
  }
}

/** Addresses as one reads them; the key of a flow has them as numbers. */
function readable(flow: string): string {
  return flow
    .replace(/\d+(?=:)/g, (address) => [24, 16, 8, 0].map((shift) => (Number(address) >>> shift) & 255).join("."))
    .replace(">", " > ");
}

function describe(nowNs: number, sender: string, segment: Segment): string {
  const flags = FLAG_NAMES.filter((_, bit) => segment.flags & (1 << bit)).join("|");
  const { seq, ack, windowField, payloadBytes } = segment;
  const flow = readable(segment.flow);
  const time = (nowNs / 1e6).toFixed(3).padStart(12);
  return `${time} ms ${sender} ${flow} ${flags} seq=${seq} ack=${ack} wnd=${windowField} bytes=${payloadBytes}`;
}

/** Shows the frames that a kernel has put on its TX ring since the last call, before the device takes them. */
export class RingObserver {
  readonly #ring: FrameRing;
  readonly #see: (memory: Uint8Array, at: number, frameBytes: number) => void;
  #seen = 0;

  constructor(ring: FrameRing, see: (memory: Uint8Array, at: number, frameBytes: number) => void) {
    this.#ring = ring;
    this.#see = see;
  }

  observe(): void {
    const ring = this.#ring;
    if (!ring.ready) return;
    const tail = ring.tail;
    while (this.#seen !== tail) {
      const at = ring.addressOf(this.#seen);
      const length = ring.recordLength(at);
      if (length >= 0) this.#see(ring.bytes, at + FRAME_OFFSET, length);
      this.#seen = (this.#seen + (length < 0 ? -length : recordBytes(length))) >>> 0;
    }
  }
}
