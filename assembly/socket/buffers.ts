/**
 * Send and receive buffers of a connection: power-of-two rings indexed by sequence number (the byte with sequence
 * number s lies at s modulo the size), taken from the stream pool when there is something to keep and given back when
 * there is not. They grow by doubling up to the connection's limit.
 */
import { streamPoolBytes } from "../config.ts";
import { copyBytes } from "../mem/copy.ts";
import { autoTuningWrite } from "./autoTuning.ts";
import {
  STREAM_ORDER_MAX,
  STREAM_ORDER_MIN,
  streamAlloc,
  streamFree,
  streamFreeBytes,
  streamOrderFor,
} from "../mem/streamPool.ts";
import { STATE_ESTABLISHED } from "../../src/layout/option.ts";
import { coldOf, F_RCV_RING_USED, F_SND_RING_USED, Tcb } from "../tcp/tcb.ts";

/** Copies between a ring and linear memory; at most two pieces. */
export function ringWrite(ring: usize, order: u32, seq: u32, source: usize, bytes: u32): void {
  const at = seq & ((1 << order) - 1);
  const first = min(bytes, (1 << order) - at);
  copyBytes(ring + at, source, first);
  if (first < bytes) copyBytes(ring, source + first, bytes - first);
}

export function ringRead(ring: usize, order: u32, seq: u32, target: usize, bytes: u32): void {
  const at = seq & ((1 << order) - 1);
  const first = min(bytes, (1 << order) - at);
  copyBytes(target, ring + at, first);
  if (first < bytes) copyBytes(target + first, ring, bytes - first);
}

/**
 * Moves `bytes` from `seq` on into a larger ring.
 * @returns the new ring, or 0: the pool is at its limit, nothing changed.
 */
function grow(ring: usize, order: u32, newOrder: u32, seq: u32, bytes: u32): usize {
  const larger = streamAlloc(newOrder);
  if (larger == 0) return 0;
  const at = seq & ((1 << order) - 1);
  const first = min(bytes, (1 << order) - at);
  ringWrite(larger, newOrder, seq, ring + at, first);
  if (first < bytes) ringWrite(larger, newOrder, seq + first, ring, bytes - first);
  streamFree(ring, order);
  return larger;
}

/**
 * Order for a fresh buffer: what is needed, or what the last one had, so that a busy stream does not grow again and
 * again.
 */
function freshOrder(needed: u32, last: u32, limit: u32): u32 {
  return min(max(needed, max(last, STREAM_ORDER_MIN)), limit);
}

/**
 * Room in the receive ring for all bytes up to `end`.
 * @returns false when the pool is at its limit. Preconditions: end is within the receive window.
 */
export function rcvBufferFor(tcb: Tcb, end: u32): bool {
  const bytes = end - tcb.rcvRead;
  const size = (<u32>1) << tcb.rcvBufOrder;
  if (bytes << 2 > size) tcb.flags |= F_RCV_RING_USED;
  if (tcb.rcvBuf != 0 && bytes <= size) return true;
  return rcvBufferGrow(tcb, bytes);
}

function rcvBufferGrow(tcb: Tcb, bytes: u32): bool {
  const needed = streamOrderFor(bytes);
  if (tcb.rcvBuf == 0) {
    const order = max(needed, freshOrder(needed, tcb.rcvBufOrder, coldOf(tcb).rcvLimitOrder));
    let buffer = streamAlloc(order);
    if (buffer == 0 && order > needed) {
      buffer = streamAlloc(needed);
      if (buffer != 0) tcb.rcvBufOrder = <u8>needed;
    } else {
      tcb.rcvBufOrder = <u8>order;
    }
    tcb.rcvBuf = <u32>buffer;
    return buffer != 0;
  }
  // Everything the old ring can hold is moved: bytes that came out of order may lie anywhere in it.
  const larger = grow(tcb.rcvBuf, tcb.rcvBufOrder, needed, tcb.rcvRead, 1 << tcb.rcvBufOrder);
  if (larger == 0) return false;
  tcb.rcvBuf = <u32>larger;
  tcb.rcvBufOrder = <u8>needed;
  return true;
}

/** Order to remember for the next ring: one step smaller when less than a quarter of this one was ever in use. */
function rememberedOrder(tcb: Tcb, order: u32, used: u32): u8 {
  const wasUsed = (tcb.flags & used) != 0;
  tcb.flags &= ~used;
  return <u8>(wasUsed || order == STREAM_ORDER_MIN ? order : order - 1);
}

/** Gives an empty receive ring back. */
export function rcvBufferRelease(tcb: Tcb): void {
  if (tcb.rcvBuf == 0) return;
  streamFree(tcb.rcvBuf, tcb.rcvBufOrder);
  tcb.rcvBuf = 0;
  tcb.rcvBufOrder = rememberedOrder(tcb, tcb.rcvBufOrder, F_RCV_RING_USED);
}

/** First sequence number in the send ring. Before the handshake SND.UNA may be our SYN's, which takes no room. */
export function sndBufferStart(tcb: Tcb): u32 {
  return tcb.state < STATE_ESTABLISHED ? coldOf(tcb).recover + 1 : tcb.sndUna;
}

/**
 * Largest ring that a connection may have for sending now. While half of the pool is free, any; then an eighth of what
 * is free for what its path takes (twice the window, or what is in flight, as far as the peer's window lets it), a 64th
 * for what only waits. So what is left shrinks with each peer that does not read, and the next one gets its share of
 * that (dynamic thresholds: Choudhury, Hahne 1998).
 */
function sndOrderMax(tcb: Tcb): u32 {
  const free = streamFreeBytes();
  if (free > streamPoolBytes >> 1) return STREAM_ORDER_MAX;
  const path = (<u64>min(max(tcb.cwnd, tcb.sndMax - tcb.sndUna), tcb.sndWnd)) << 1;
  const share = max(free >> 6, <u32>min<u64>(path, free >> 3));
  return max(31 - clz(share | 1), STREAM_ORDER_MIN);
}

/**
 * Room in the send ring for `bytes` more.
 * @returns bytes that fit: limited by the connection's limit and by the pool.
 */
export function sndBufferFor(tcb: Tcb, bytes: u32): u32 {
  const start = sndBufferStart(tcb);
  const queued = tcb.sndBufEnd - start;
  let limit = (<u32>1) << coldOf(tcb).sndLimitOrder;
  if (queued >= limit || bytes > limit - queued) {
    autoTuningWrite(tcb);
    limit = (<u32>1) << coldOf(tcb).sndLimitOrder;
    if (queued >= limit) return 0;
  }
  const wanted = min(bytes, limit - queued);
  const size = (<u32>1) << tcb.sndBufOrder;
  if ((queued + wanted) << 2 > size) tcb.flags |= F_SND_RING_USED;
  if (tcb.sndBuf != 0) {
    if (queued + wanted <= size) return wanted;
    const order = min(streamOrderFor(queued + wanted), sndOrderMax(tcb));
    if (order <= <u32>tcb.sndBufOrder) return size - queued;
    const larger = grow(tcb.sndBuf, tcb.sndBufOrder, order, start, queued);
    if (larger == 0) return size - queued;
    tcb.sndBuf = <u32>larger;
    tcb.sndBufOrder = <u8>order;
    return min(wanted, ((<u32>1) << order) - queued);
  }
  const needed = streamOrderFor(wanted);
  let order = max(needed, freshOrder(needed, tcb.sndBufOrder, coldOf(tcb).sndLimitOrder));
  order = min(order, sndOrderMax(tcb));
  let buffer = streamAlloc(order);
  // Short of memory: take what there is, down to the smallest block.
  while (buffer == 0 && order > STREAM_ORDER_MIN) buffer = streamAlloc(--order);
  if (buffer == 0) return 0;
  tcb.sndBuf = <u32>buffer;
  tcb.sndBufOrder = <u8>order;
  return min(wanted, 1 << order);
}

/** Gives an empty send ring back. */
export function sndBufferRelease(tcb: Tcb): void {
  if (tcb.sndBuf == 0) return;
  streamFree(tcb.sndBuf, tcb.sndBufOrder);
  tcb.sndBuf = 0;
  tcb.sndBufOrder = rememberedOrder(tcb, tcb.sndBufOrder, F_SND_RING_USED);
}
