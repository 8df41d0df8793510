/**
 * The far ends that fuzz programs speak for, and what the kernel has told each: enough to answer sensibly. Everything
 * is learnt from the frames that the kernel sends.
 */
import { FRAME_OFFSET } from "../../src/layout/frameRing.ts";
import { type FuzzKernel, OWN_V6 } from "./fuzzKernel.ts";
import { recordBytes } from "../../src/views/frameRing.ts";

export const REMOTES = 10;
/** From this one on they speak IPv6. */
export const REMOTES_V6 = 6;
export const HOST_FIRST = 20;
export const PORT_FIRST = 1000;
export const LISTEN_PORT = 80;

export const CLOSED = 0;
/** The kernel has sent a SYN. */
export const CALLED = 1;
const OPEN = 2;

/** One entry per remote: 10.0.0.(HOST_FIRST + index) or fd00::(HOST_FIRST + index), port PORT_FIRST + index. */
export class Remotes {
  readonly state = new Uint8Array(REMOTES);
  readonly kernelPort = new Uint16Array(REMOTES);
  /** Sequence number after the last byte that the kernel has sent. */
  readonly kernelNxt = new Uint32Array(REMOTES);
  /** What the kernel expects next. */
  readonly rcvNxt = new Uint32Array(REMOTES);
  /** What this remote has acknowledged. */
  readonly acked = new Uint32Array(REMOTES);
  readonly window = new Uint16Array(REMOTES);
  /** The kernel's last timestamp, to be echoed. */
  readonly tsVal = new Uint32Array(REMOTES);
  /** The last frame that the kernel has sent, for ICMP errors to quote. */
  readonly quote = new Uint8Array(128);
  quoteBytes = 0;
  /** FNV-1a over all that the kernel has sent; only kept when asked for. */
  digest = 0;
  digesting = false;
  framesSent = 0;
  /** What was wrong with a frame of the kernel; empty: nothing. */
  fault = "";

  reset(): void {
    this.state.fill(CLOSED);
    this.kernelPort.fill(LISTEN_PORT);
    this.window.fill(65535);
    this.kernelNxt.fill(0);
    this.rcvNxt.fill(0);
    this.acked.fill(0);
    this.tsVal.fill(0);
    this.quoteBytes = 0;
    this.digest = 0x811c9dc5 | 0;
    this.framesSent = 0;
    this.fault = "";
  }

  /** This remote has lost its connection: it turns to the listener again. */
  forget(index: number): void {
    this.state[index] = CLOSED;
    this.kernelPort[index] = LISTEN_PORT;
  }

  /** Takes all frames out of the TX ring. */
  collect(kernel: FuzzKernel): void {
    const { tx } = kernel;
    for (;;) {
      const at = tx.peekRun();
      if (at === 0) return;
      const length = tx.recordLength(at);
      if (length < 0) {
        tx.consume(-length);
        continue;
      }
      this.#observe(kernel, at + FRAME_OFFSET, length);
      tx.consume(recordBytes(length));
      this.framesSent++;
    }
  }

  #observe(kernel: FuzzKernel, at: number, length: number): void {
    const { bytes } = kernel.memory;
    if (this.digesting) {
      let digest = this.digest;
      for (let i = at; i < at + length; i++) digest = Math.imul(digest ^ (bytes[i] as number), 0x01000193);
      this.digest = digest;
    }
    const u8 = (offset: number) => bytes[at + offset] as number;
    const u16 = (offset: number) => (u8(offset) << 8) | u8(offset + 1);
    if (length < 42 || u8(6) !== 2 || u8(11) !== 1) this.fault ||= `a frame of ${length} bytes from someone else`;
    const v6 = u16(12) === 0x86dd;
    if (u16(12) !== 0x0800 && !v6) return;
    if (v6 ? !this.#isSaneV6(bytes, at, length) : !this.#isSaneV4(bytes, at, length)) {
      this.fault ||= `IP header ${Buffer.from(bytes.subarray(at + 14, at + 54)).toString("hex")} of ${length} bytes`;
    }
    this.quoteBytes = Math.min(length - 14, this.quote.length);
    this.quote.set(bytes.subarray(at + 14, at + 14 + this.quoteBytes));
    if (u8(v6 ? 20 : 23) !== 6) return;
    this.#segment(bytes, at + (v6 ? 20 : 0), length - (v6 ? 20 : 0), v6);
  }

  #isSaneV4(bytes: Uint8Array, at: number, length: number): boolean {
    const total = ((bytes[at + 16] as number) << 8) | (bytes[at + 17] as number);
    const own = bytes[at + 26] === 10 && bytes[at + 29] === 1;
    return bytes[at + 14] === 0x45 && total === length - 14 && own;
  }

  #isSaneV6(bytes: Uint8Array, at: number, length: number): boolean {
    const payloadBytes = ((bytes[at + 18] as number) << 8) | (bytes[at + 19] as number);
    // From fd00::1, from a link-local address, or from :: (duplicate address detection).
    const source = bytes[at + 22] as number;
    const own = source === 0xfe || source === 0 || bytes[at + 37] === OWN_V6[15];
    return (bytes[at + 14] as number) >> 4 === 6 && payloadBytes === length - 54 && own;
  }

  /** A TCP segment; `at` is such that its header starts at +34. */
  #segment(bytes: Uint8Array, at: number, length: number, v6: boolean): void {
    const u8 = (offset: number) => bytes[at + offset] as number;
    const u16 = (offset: number) => (u8(offset) << 8) | u8(offset + 1);
    const u32 = (offset: number) => u16(offset) * 65536 + u16(offset + 2);
    const index = u16(36) - PORT_FIRST;
    if (index < 0 || index >= REMOTES || v6 !== index >= REMOTES_V6) return;
    if (u8(33) !== HOST_FIRST + index || this.kernelPort[index] !== u16(34)) return;
    const flags = u8(47);
    if (flags & 4) {
      this.forget(index);
      return;
    }
    const seq = u32(38);
    const headerBytes = (u8(46) >> 4) * 4;
    const payloadBytes = length - 34 - headerBytes;
    if (payloadBytes < 0) this.fault ||= `TCP header of ${headerBytes} bytes in ${length}`;
    const next = (seq + payloadBytes + (flags & 1) + ((flags >> 1) & 1)) >>> 0;
    if (flags & 2) {
      this.acked[index] = next;
      if ((flags & 16) === 0) this.state[index] = CALLED;
    }
    if (flags & 2 || ((next - (this.kernelNxt[index] as number)) | 0) > 0) this.kernelNxt[index] = next;
    if (flags & 16) {
      this.rcvNxt[index] = u32(42);
      this.state[index] = OPEN;
    }
    if (headerBytes >= 32 && u32(54) === 0x0101080a) this.tsVal[index] = u32(58);
  }
}
