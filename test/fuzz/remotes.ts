/**
 * The far ends that fuzz programs speak for, and what the kernel has told each: enough to answer sensibly. Everything
 * is learnt from the frames that the kernel sends.
 */
import { FRAME_OFFSET } from "../../src/layout/frameRing.ts";
import type { FuzzKernel } from "./fuzzKernel.ts";
import { recordBytes } from "../../src/views/frameRing.ts";

export const REMOTES = 8;
export const HOST_FIRST = 20;
export const PORT_FIRST = 1000;
export const LISTEN_PORT = 80;

export const CLOSED = 0;
/** The kernel has sent a SYN. */
export const CALLED = 1;
export const OPEN = 2;

/** One entry per remote; its address is 10.0.0.(HOST_FIRST + index), its port PORT_FIRST + index. */
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
    const u32 = (offset: number) => u16(offset) * 65536 + u16(offset + 2);
    if (length < 42 || u8(6) !== 2 || u8(11) !== 1) this.fault ||= `a frame of ${length} bytes from someone else`;
    if (u16(12) !== 0x0800) return;
    if (u8(14) !== 0x45 || u16(16) !== length - 14 || u32(26) !== 0x0a000001) {
      this.fault ||= `IPv4 header ${Buffer.from(bytes.subarray(at + 14, at + 34)).toString("hex")} of ${length} bytes`;
    }
    this.quoteBytes = Math.min(length - 14, this.quote.length);
    this.quote.set(bytes.subarray(at + 14, at + 14 + this.quoteBytes));
    if (u8(23) !== 6) return;
    const index = u16(36) - PORT_FIRST;
    if (index < 0 || index >= REMOTES || u8(33) !== HOST_FIRST + index || this.kernelPort[index] !== u16(34)) return;
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
