/**
 * Bytes that arrived ahead of RCV.NXT. They are written straight to their place in the receive ring; what is kept here
 * is only which ranges are there: sorted, disjoint, not touching. The list lives in the extension block, which exists
 * only while something is missing.
 *
 * ```
 * extension block, 256 B:  +0 u32 ranges   +4 u32 sequence number of the peer's FIN   +8 u32 1: that FIN is known
 *                          +16 ranges: u32 start, u32 end (exclusive)
 * ```
 */
import { DROP_TCP_REASSEMBLY_LIMIT } from "../../src/layout/counters.ts";
import { STREAM_ORDER_MIN, streamAlloc, streamFree } from "../mem/streamPool.ts";
import { count } from "../stats.ts";
import { seqGeq, seqGt, seqLeq, seqLt, seqMax, seqMin } from "./seq.ts";
import { Tcb } from "./tcb.ts";

const FIN_SEQ: usize = 4;
const FIN_KNOWN: usize = 8;
const RANGES: usize = 16;
/** More holes than this at once are refused: the sender will send again. */
const RANGES_MAX: u32 = 30;

/**
 * Enters the range [start, end).
 * @returns false when it cannot be kept (pool or list at its limit); then nothing has changed.
 */
export function reassemblyInsert(tcb: Tcb, start: u32, end: u32): bool {
  if (tcb.ext == 0 && !create(tcb)) return false;
  const ext: usize = tcb.ext;
  const ranges = load<u32>(ext);
  // First range that ends at or after our start; all before it stay untouched.
  let i: u32 = 0;
  while (i < ranges && seqLt(rangeEnd(ext, i), start)) i++;
  if (i == ranges || seqGt(rangeStart(ext, i), end)) {
    if (ranges == RANGES_MAX) {
      count(DROP_TCP_REASSEMBLY_LIMIT);
      return false;
    }
    const at = ext + RANGES + (i << 3);
    memory.copy(at + 8, at, (ranges - i) << 3);
    setRange(ext, i, start, end);
    store<u32>(ext, ranges + 1);
    return true;
  }
  // Grows range i, and swallows those after it that it now reaches.
  let last = i;
  while (last + 1 < ranges && seqLeq(rangeStart(ext, last + 1), end)) last++;
  setRange(ext, i, seqMin(start, rangeStart(ext, i)), seqMax(end, rangeEnd(ext, last)));
  memory.copy(ext + RANGES + ((i + 1) << 3), ext + RANGES + ((last + 1) << 3), (ranges - last - 1) << 3);
  store<u32>(ext, ranges - (last - i));
  return true;
}

/** Remembers a FIN that came ahead of its time. */
export function reassemblyNoteFin(tcb: Tcb, finSeq: u32): void {
  if (tcb.ext == 0 && !create(tcb)) return;
  store<u32>(tcb.ext, finSeq, FIN_SEQ);
  store<u32>(tcb.ext, 1, FIN_KNOWN);
}

/**
 * RCV.NXT has moved: takes the ranges that it has reached.
 * @returns the new RCV.NXT, after all contiguous bytes.
 */
export function reassemblyAdvance(tcb: Tcb, rcvNxt: u32): u32 {
  const ext: usize = tcb.ext;
  const ranges = load<u32>(ext);
  let next = rcvNxt;
  let taken: u32 = 0;
  while (taken < ranges && seqLeq(rangeStart(ext, taken), next)) {
    next = seqMax(next, rangeEnd(ext, taken));
    taken++;
  }
  if (taken > 0) {
    memory.copy(ext + RANGES, ext + RANGES + (taken << 3), (ranges - taken) << 3);
    store<u32>(ext, ranges - taken);
  }
  return next;
}

/** True when the peer's FIN stands at RCV.NXT. Gives the block back when nothing is missing any more. */
export function reassemblyFinReached(tcb: Tcb): bool {
  const ext: usize = tcb.ext;
  const reached = load<u32>(ext, FIN_KNOWN) != 0 && seqGeq(tcb.rcvNxt, load<u32>(ext, FIN_SEQ));
  if (load<u32>(ext) == 0 && (reached || load<u32>(ext, FIN_KNOWN) == 0)) reassemblyRelease(tcb);
  return reached;
}

export function reassemblyRelease(tcb: Tcb): void {
  if (tcb.ext == 0) return;
  streamFree(tcb.ext, STREAM_ORDER_MIN);
  tcb.ext = 0;
}

function create(tcb: Tcb): bool {
  const ext = streamAlloc(STREAM_ORDER_MIN);
  if (ext == 0) return false;
  memory.fill(ext, 0, RANGES);
  tcb.ext = <u32>ext;
  return true;
}

function rangeStart(ext: usize, i: u32): u32 {
  return load<u32>(ext + RANGES + (i << 3));
}

function rangeEnd(ext: usize, i: u32): u32 {
  return load<u32>(ext + RANGES + (i << 3), 4);
}

function setRange(ext: usize, i: u32, start: u32, end: u32): void {
  store<u32>(ext + RANGES + (i << 3), start);
  store<u32>(ext + RANGES + (i << 3), end, 4);
}
