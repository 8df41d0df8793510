/**
 * Writing pcapng (draft-ietf-opsawg-pcapng): blocks of a capture with nanosecond times, little-endian. The blocks are
 * plain bytes, so that ports on any thread can make theirs and hand them to whoever has the file.
 */
const BLOCK_SECTION_HEADER = 0x0a0d0d0a;
const BLOCK_INTERFACE = 1;
const BLOCK_ENHANCED_PACKET = 6;
const BYTE_ORDER_MAGIC = 0x1a2b3c4d;
const LINKTYPE_ETHERNET = 1;
const OPTION_END = 0;
const OPTION_IF_NAME = 2;
const OPTION_IF_TSRESOL = 9;
const OPTION_EPB_FLAGS = 2;
const OPTION_SHB_USERAPPL = 4;

/** As in epb_flags. */
export const CAPTURE_IN = 1;
export const CAPTURE_OUT = 2;
export type CaptureDirection = typeof CAPTURE_IN | typeof CAPTURE_OUT;

function padded(bytes: number): number {
  return (bytes + 3) & -4;
}

/** A block of `bodyBytes` with type and both lengths filled in; the body is zero. */
function block(type: number, bodyBytes: number): DataView<ArrayBuffer> {
  const total = 12 + padded(bodyBytes);
  const view = new DataView(new ArrayBuffer(total));
  view.setUint32(0, type, true);
  view.setUint32(4, total, true);
  view.setUint32(total - 4, total, true);
  return view;
}

function bytesOf(view: DataView<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  return new Uint8Array(view.buffer);
}

function writeOption(view: DataView<ArrayBuffer>, at: number, code: number, value: Uint8Array): number {
  view.setUint16(at, code, true);
  view.setUint16(at + 2, value.length, true);
  bytesOf(view).set(value, at + 4);
  return at + 4 + padded(value.length);
}

/** First block of a file. */
export function sectionHeader(application = "netpopcorn"): Uint8Array<ArrayBuffer> {
  const name = new TextEncoder().encode(application);
  const view = block(BLOCK_SECTION_HEADER, 16 + 4 + padded(name.length) + 4);
  view.setUint32(8, BYTE_ORDER_MAGIC, true);
  view.setUint16(12, 1, true);
  // Length of the section: not known.
  view.setBigInt64(16, -1n, true);
  writeOption(view, writeOption(view, 24, OPTION_SHB_USERAPPL, name), OPTION_END, new Uint8Array(0));
  return bytesOf(view);
}

/** Describes the next interface; they are numbered from 0 in the order of their blocks. */
export function interfaceBlock(name: string): Uint8Array<ArrayBuffer> {
  const text = new TextEncoder().encode(name);
  const view = block(BLOCK_INTERFACE, 8 + 4 + padded(text.length) + 8 + 4);
  view.setUint16(8, LINKTYPE_ETHERNET, true);
  // Snap length 0: whole frames.
  const at = writeOption(view, 16, OPTION_IF_NAME, text);
  // Times in units of 10^-9 seconds.
  writeOption(view, writeOption(view, at, OPTION_IF_TSRESOL, Uint8Array.of(9)), OPTION_END, new Uint8Array(0));
  return bytesOf(view);
}

/**
 * One frame.
 * @param timeNs since 1970. @param frame is copied.
 */
export function packetBlock(
  interfaceId: number,
  timeNs: bigint,
  frame: Uint8Array,
  direction: CaptureDirection,
): Uint8Array<ArrayBuffer> {
  const data = padded(frame.length);
  const view = block(BLOCK_ENHANCED_PACKET, 20 + data + 12);
  view.setUint32(8, interfaceId, true);
  view.setUint32(12, Number((timeNs >> 32n) & 0xffffffffn), true);
  view.setUint32(16, Number(timeNs & 0xffffffffn), true);
  view.setUint32(20, frame.length, true);
  view.setUint32(24, frame.length, true);
  bytesOf(view).set(frame, 28);
  writeOption(view, 28 + data, OPTION_EPB_FLAGS, Uint8Array.of(direction, 0, 0, 0));
  return bytesOf(view);
}
