/**
 * Reading captures: pcap (micro- and nanoseconds) and pcapng, either byte order. Trusts nothing: every length is
 * checked against the file before it is used.
 */
import { NetPopcornError } from "../errors.ts";

export type CapturedFrame = {
  /** Nanoseconds since 1970; 0 where the format has no time (simple packet block). */
  readonly timeNs: bigint;
  readonly interfaceId: number;
  /** LINKTYPE_* number; 1: Ethernet. */
  readonly linkType: number;
  /** The bytes that were captured: a view into the file. */
  readonly frame: Uint8Array;
  /** Length of the frame on the wire. */
  readonly originalBytes: number;
  /** Where the format tells. */
  readonly direction: "in" | "out" | undefined;
};

const PCAP_MAGIC_US = 0xa1b2c3d4;
const PCAP_MAGIC_NS = 0xa1b23c4d;
const PCAP_HEADER_BYTES = 24;
const PCAP_RECORD_BYTES = 16;
const BLOCK_SECTION_HEADER = 0x0a0d0d0a;
const BLOCK_INTERFACE = 1;
const BLOCK_PACKET = 2;
const BLOCK_SIMPLE_PACKET = 3;
const BLOCK_ENHANCED_PACKET = 6;
const BYTE_ORDER_MAGIC = 0x1a2b3c4d;
const BLOCK_BYTES_MIN = 12;
const OPTION_IF_TSRESOL = 9;
const OPTION_IF_TSOFFSET = 14;
const OPTION_EPB_FLAGS = 2;
const NS_PER_S = 1_000_000_000n;

type Interface = {
  readonly linkType: number;
  readonly snapLength: number;
  readonly unitsPerS: bigint;
  readonly offsetNs: bigint;
};

function malformed(at: number, what: string): NetPopcornError {
  return new NetPopcornError("ERR_CAPTURE_FORMAT", `not a whole pcap or pcapng file: ${what} at byte ${at}`);
}

/**
 * The frames of a capture file, in file order.
 * @throws NetPopcornError ERR_CAPTURE_FORMAT, after the frames before the place that is wrong.
 */
export function* readCapture(file: Uint8Array): Generator<CapturedFrame, void, undefined> {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  if (file.length < 4) throw malformed(0, "no header");
  if (view.getUint32(0) === BLOCK_SECTION_HEADER) {
    yield* readPcapng(file, view);
    return;
  }
  for (const little of [true, false]) {
    const magic = view.getUint32(0, little);
    if (magic !== PCAP_MAGIC_US && magic !== PCAP_MAGIC_NS) continue;
    yield* readPcap(file, view, little, magic === PCAP_MAGIC_NS ? 1n : 1000n);
    return;
  }
  throw malformed(0, "unknown magic number");
}

function* readPcap(file: Uint8Array, view: DataView, little: boolean, unitNs: bigint): Generator<CapturedFrame> {
  if (file.length < PCAP_HEADER_BYTES) throw malformed(0, "short header");
  // The upper bits say whether and how frames end in their check sequence.
  const linkType = view.getUint32(20, little) & 0xffff;
  let at = PCAP_HEADER_BYTES;
  while (at < file.length) {
    if (file.length - at < PCAP_RECORD_BYTES) throw malformed(at, "short record header");
    const captured = view.getUint32(at + 8, little);
    const data = at + PCAP_RECORD_BYTES;
    if (captured > file.length - data) throw malformed(at, `record of ${captured} bytes`);
    yield {
      timeNs: BigInt(view.getUint32(at, little)) * NS_PER_S + BigInt(view.getUint32(at + 4, little)) * unitNs,
      interfaceId: 0,
      linkType,
      frame: file.subarray(data, data + captured),
      originalBytes: view.getUint32(at + 12, little),
      direction: undefined,
    };
    at = data + captured;
  }
}

function* readPcapng(file: Uint8Array, view: DataView): Generator<CapturedFrame> {
  let little = true;
  let interfaces: Interface[] = [];
  for (let at = 0; at < file.length; ) {
    if (file.length - at < BLOCK_BYTES_MIN) throw malformed(at, "short block");
    if (view.getUint32(at) === BLOCK_SECTION_HEADER) {
      little = byteOrder(view, at);
      interfaces = [];
    }
    const type = view.getUint32(at, little);
    const bytes = view.getUint32(at + 4, little);
    if (bytes < BLOCK_BYTES_MIN || bytes % 4 !== 0 || bytes > file.length - at) {
      throw malformed(at, `block of ${bytes} bytes`);
    }
    if (view.getUint32(at + bytes - 4, little) !== bytes) throw malformed(at, "block whose two lengths differ");
    const body = new Block(view, at, bytes, little);
    if (type === BLOCK_SECTION_HEADER) body.require(16);
    else if (type === BLOCK_INTERFACE) interfaces.push(readInterface(body));
    else if (type === BLOCK_ENHANCED_PACKET || type === BLOCK_PACKET) yield readPacket(file, body, type, interfaces);
    else if (type === BLOCK_SIMPLE_PACKET) yield readSimplePacket(file, body, interfaces);
    at += bytes;
  }
}

function byteOrder(view: DataView, at: number): boolean {
  if (view.getUint32(at + 8, true) === BYTE_ORDER_MAGIC) return true;
  if (view.getUint32(at + 8, false) === BYTE_ORDER_MAGIC) return false;
  throw malformed(at, "section without byte-order magic");
}

/** The body of one block: offsets count from behind its type and length. */
class Block {
  readonly view: DataView;
  readonly at: number;
  /** Of the body. */
  readonly bytes: number;
  readonly #little: boolean;

  constructor(view: DataView, at: number, blockBytes: number, little: boolean) {
    this.view = view;
    this.at = at + 8;
    this.bytes = blockBytes - BLOCK_BYTES_MIN;
    this.#little = little;
  }

  require(bytes: number): void {
    if (bytes > this.bytes) throw malformed(this.at - 8, "block too short for its type");
  }

  u16(offset: number): number {
    return this.view.getUint16(this.at + offset, this.#little);
  }

  u32(offset: number): number {
    return this.view.getUint32(this.at + offset, this.#little);
  }

  u64(offset: number): bigint {
    return this.view.getBigUint64(this.at + offset, this.#little);
  }

  /** Options from `offset` to the end of the body: code, offset and length of each value. */
  *options(offset: number): Generator<{ code: number; value: number; length: number }> {
    for (let at = offset; at + 4 <= this.bytes; ) {
      const code = this.u16(at);
      const length = this.u16(at + 2);
      if (code === 0) return;
      if (at + 4 + length > this.bytes) throw malformed(this.at + at, `option of ${length} bytes`);
      yield { code, value: at + 4, length };
      at += 4 + ((length + 3) & -4);
    }
  }
}

function readInterface(block: Block): Interface {
  block.require(8);
  let unitsPerS = 1_000_000n;
  let offsetNs = 0n;
  for (const { code, value, length } of block.options(8)) {
    if (code === OPTION_IF_TSRESOL && length === 1) {
      const resolution = block.view.getUint8(block.at + value);
      unitsPerS = resolution & 0x80 ? 1n << BigInt(resolution & 0x7f) : 10n ** BigInt(resolution);
    } else if (code === OPTION_IF_TSOFFSET && length === 8) {
      offsetNs = BigInt.asIntN(64, block.u64(value)) * NS_PER_S;
    }
  }
  return { linkType: block.u16(0), snapLength: block.u32(4), unitsPerS, offsetNs };
}

function readPacket(file: Uint8Array, block: Block, type: number, interfaces: readonly Interface[]): CapturedFrame {
  block.require(20);
  // The obsolete packet block has a 16-bit interface number, and then a count of drops.
  const interfaceId = type === BLOCK_PACKET ? block.u16(0) : block.u32(0);
  const source = interfaces[interfaceId];
  if (!source) throw malformed(block.at - 8, `packet of interface ${interfaceId}, which is not described`);
  const units = (BigInt(block.u32(4)) << 32n) | BigInt(block.u32(8));
  const captured = block.u32(12);
  if (captured > block.bytes - 20) throw malformed(block.at - 8, `packet of ${captured} bytes`);
  let direction: CapturedFrame["direction"];
  for (const { code, value, length } of block.options(20 + ((captured + 3) & -4))) {
    if (code !== OPTION_EPB_FLAGS || length !== 4) continue;
    const bits = block.u32(value) & 3;
    if (bits === 1) direction = "in";
    else if (bits === 2) direction = "out";
  }
  return {
    timeNs: (units * NS_PER_S) / source.unitsPerS + source.offsetNs,
    interfaceId,
    linkType: source.linkType,
    frame: file.subarray(block.at + 20, block.at + 20 + captured),
    originalBytes: block.u32(16),
    direction,
  };
}

function readSimplePacket(file: Uint8Array, block: Block, interfaces: readonly Interface[]): CapturedFrame {
  block.require(4);
  const source = interfaces[0];
  if (!source) throw malformed(block.at - 8, "packet before the first interface");
  const originalBytes = block.u32(0);
  const snapped = source.snapLength === 0 ? originalBytes : Math.min(originalBytes, source.snapLength);
  if (snapped > block.bytes - 4) throw malformed(block.at - 8, `packet of ${snapped} bytes`);
  const frame = file.subarray(block.at + 4, block.at + 4 + snapped);
  return { timeNs: 0n, interfaceId: 0, linkType: source.linkType, frame, originalBytes, direction: undefined };
}
