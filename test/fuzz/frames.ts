/** Writes frames straight into a kernel's RX ring: one pass, no objects, so that fuzzing is not bound by its frames. */
import { FRAME_LENGTH, FRAME_OFFSET, FRAME_VNET_FLAGS, VNET_DATA_VALID } from "../../src/layout/frameRing.ts";
import { recordBytes } from "../../src/views/frameRing.ts";
import { type FuzzKernel, OWN_MAC, OWN_V4, OWN_V6, PEER_MAC } from "./fuzzKernel.ts";

export const ETHERNET_BYTES = 14;
export const IPV4_BYTES = 20;
export const IPV6_BYTES = 40;
const FRAME_BYTES_MAX = 2048;
/** Bytes around a frame that a wrong read would see. */
const POISON_BYTES = 64;

/** Adds big-endian 16-bit words (RFC 1071), an odd last byte padded with zero. */
function sumWords(bytes: Uint8Array, at: number, end: number, start: number): number {
  let sum = start;
  for (; at + 1 < end; at += 2) sum += ((bytes[at] as number) << 8) | (bytes[at + 1] as number);
  if (at < end) sum += (bytes[at] as number) << 8;
  return sum;
}

function fold(sum: number): number {
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}

export class FrameWriter {
  readonly bytes: Uint8Array;
  readonly #kernel: FuzzKernel;
  /** Address of the frame being written; 0: none, the ring is full. */
  at = 0;
  /** Bytes around each frame get this value: outcomes that differ between two values have read outside a frame. */
  poison = 0;
  framesWritten = 0;

  constructor(kernel: FuzzKernel) {
    this.#kernel = kernel;
    this.bytes = kernel.memory.bytes;
  }

  /** Room for a frame; false: the ring is full. */
  begin(): boolean {
    const record = this.#kernel.rx.reserve(recordBytes(FRAME_BYTES_MAX));
    this.at = record === 0 ? 0 : record + FRAME_OFFSET;
    return record !== 0;
  }

  set16(offset: number, value: number): void {
    this.bytes[this.at + offset] = value >>> 8;
    this.bytes[this.at + offset + 1] = value;
  }

  set32(offset: number, value: number): void {
    this.set16(offset, value >>> 16);
    this.set16(offset + 2, value & 0xffff);
  }

  ethernet(etherType: number): void {
    this.bytes.set(OWN_MAC, this.at);
    this.bytes.set(PEER_MAC, this.at + 6);
    this.set16(12, etherType);
  }

  /** An IPv4 header for `payloadBytes` behind it; the last octet of the sender is `host`. */
  ipv4(host: number, protocol: number, payloadBytes: number, fragment = 0, identification = 0): void {
    this.ethernet(0x0800);
    this.set16(14, 0x4500);
    this.set16(16, IPV4_BYTES + payloadBytes);
    this.set16(18, identification);
    this.set16(20, fragment);
    this.set16(22, (64 << 8) | protocol);
    this.set16(24, 0);
    this.set16(26, 0x0a00);
    this.set16(28, host);
    this.bytes.set(OWN_V4, this.at + 30);
    this.ipv4Checksum();
  }

  /** An IPv6 header for `payloadBytes` behind it; the last octet of the sender, fd00::, is `host`. */
  ipv6(host: number, nextHeader: number, payloadBytes: number, hopLimit = 64): void {
    this.ethernet(0x86dd);
    this.set32(14, 0x60000000);
    this.set16(18, payloadBytes);
    this.set16(20, (nextHeader << 8) | hopLimit);
    this.bytes.set(OWN_V6, this.at + 22);
    this.bytes[this.at + 37] = host;
    this.bytes.set(OWN_V6, this.at + 38);
  }

  ipv4Checksum(): void {
    this.set16(24, 0);
    this.set16(24, fold(sumWords(this.bytes, this.at + 14, this.at + 34, 0)));
  }

  /**
   * Checksum of `segmentBytes` of TCP, UDP or ICMPv6 at `start` of the frame; its field lies at `field` of them. The
   * addresses of the pseudo header are the packet's own.
   */
  transportChecksum(protocol: number, start: number, segmentBytes: number, field: number): void {
    this.set16(start + field, 0);
    const v6 = this.bytes[this.at + 12] === 0x86;
    const [from, to] = v6 ? [this.at + 22, this.at + 54] : [this.at + 26, this.at + 34];
    const addresses = sumWords(this.bytes, from, to, protocol + segmentBytes);
    const end = this.at + start + segmentBytes;
    this.set16(start + field, fold(sumWords(this.bytes, this.at + start, end, addresses)));
  }

  /** Internet checksum of `count` bytes from `from`, stored at `field`; offsets from the start of the frame. */
  plainChecksum(from: number, count: number, field: number): void {
    this.set16(field, 0);
    this.set16(field, fold(sumWords(this.bytes, this.at + from, this.at + from + count, 0)));
  }

  /** `count` bytes of a pattern that depends on `seed`. */
  fill(offset: number, count: number, seed: number): void {
    for (let i = 0; i < count; i++) this.bytes[this.at + offset + i] = i + seed;
  }

  /** Hands the frame to the kernel. @param valid the device says that the transport checksum is right. */
  end(frameBytes: number, valid: boolean): void {
    const record = this.at - FRAME_OFFSET;
    const bytes = recordBytes(frameBytes);
    const view = this.#kernel.memory.words;
    view[(record + FRAME_LENGTH) >>> 2] = frameBytes;
    this.bytes.fill(0, record + 4, this.at);
    if (valid) this.bytes[record + FRAME_VNET_FLAGS] = VNET_DATA_VALID;
    if (this.poison !== 0) this.bytes.fill(this.poison, this.at + frameBytes, record + bytes + POISON_BYTES);
    this.#kernel.rx.publish(bytes);
    this.framesWritten++;
  }
}
