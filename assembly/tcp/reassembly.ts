/**
 * Bytes that arrived ahead of RCV.NXT. They are written straight to their place in the receive ring; what is kept here
 * is only which ranges are there: sorted, disjoint, not touching; and what the next ACK tells of them (sack.ts). All in
 * the extension block, which exists only while something is missing or to be told.
 *
 * ```
 * extension block, 256 B to 4 KiB:
 *   +0 u32 ranges   +4 u32 sequence number of the peer's FIN   +8 u32 1: that FIN is known   +12 u32 order of the size
 *   +16 u32 x 4 what came last, newest first: a sequence number in its range   +32 u32 how many of them
 *   +36 u32 1: D-SACK is due   +40 u32 start, u32 end of the duplicate
 *   +48 ranges: u32 start, u32 end (exclusive)
 * ```
 * No pointers in it: it can be copied as it is.
 */
import { DROP_TCP_REASSEMBLY_LIMIT } from "../../src/layout/counters.ts";
import { STREAM_ORDER_MIN, streamAlloc, streamFree } from "../mem/streamPool.ts";
import { count } from "../stats.ts";
import { seqGeq, seqGt, seqLeq, seqLt, seqMax, seqMin } from "./seq.ts";
import { Tcb } from "./tcb.ts";

const FIN_SEQ: usize = 4;
const FIN_KNOWN: usize = 8;
const ORDER: usize = 12;
const RECENT: usize = 16;
const RECENT_COUNT: usize = 32;
const DSACK_DUE: usize = 36;
const DSACK_START: usize = 40;
const DSACK_END: usize = 44;
const RANGES: usize = 48;
const RECENT_MAX: u32 = 4;
/** The block doubles up to this; more holes at once (506) are refused: the sender will send again. */
const ORDER_MAX: u32 = 12;

/**
 * Enters the range [start, end).
 * @returns false when it cannot be kept (pool or list at its limit); then nothing has changed.
 */
export function reassemblyInsert(tcb: Tcb, start: u32, end: u32): bool {
  if (tcb.ext == 0 && !create(tcb)) return false;
  let ext: usize = tcb.ext;
  const ranges = load<u32>(ext);
  // First range that ends at or after our start; all before it stay untouched.
  let i: u32 = 0;
  let high = ranges;
  while (i < high) {
    const middle = (i + high) >> 1;
    if (seqLt(rangeEnd(ext, middle), start)) i = middle + 1;
    else high = middle;
  }
  if (i == ranges || seqGt(rangeStart(ext, i), end)) {
    if (RANGES + ((ranges + 1) << 3) > (<usize>1) << load<u32>(ext, ORDER) && !grow(tcb)) {
      count(DROP_TCP_REASSEMBLY_LIMIT);
      return false;
    }
    ext = tcb.ext;
    const at = ext + RANGES + (i << 3);
    memory.copy(at + 8, at, (ranges - i) << 3);
    setRange(ext, i, start, end);
    store<u32>(ext, ranges + 1);
    noteRecent(ext, start);
    return true;
  }
  // Grows range i, and swallows those after it that it now reaches.
  let last = i;
  while (last + 1 < ranges && seqLeq(rangeStart(ext, last + 1), end)) last++;
  setRange(ext, i, seqMin(start, rangeStart(ext, i)), seqMax(end, rangeEnd(ext, last)));
  memory.copy(ext + RANGES + ((i + 1) << 3), ext + RANGES + ((last + 1) << 3), (ranges - last - 1) << 3);
  store<u32>(ext, ranges - (last - i));
  noteRecent(ext, start);
  return true;
}

/** What came last is told first (RFC 2018 4). */
function noteRecent(ext: usize, seq: u32): void {
  const told = load<u32>(ext, RECENT_COUNT);
  memory.copy(ext + RECENT + 4, ext + RECENT, min(told, RECENT_MAX - 1) << 2);
  store<u32>(ext, seq, RECENT);
  if (told < RECENT_MAX) store<u32>(ext, told + 1, RECENT_COUNT);
}

/** Bytes wait for others before them, or a FIN does. */
export function reassemblyHolds(tcb: Tcb): bool {
  return tcb.ext != 0 && (load<u32>(tcb.ext) | load<u32>(tcb.ext, FIN_KNOWN)) != 0;
}

/** Is any of [start, end) kept already? The first piece of it that is: reassemblyBlockStart and -End. */
export function reassemblyOverlaps(tcb: Tcb, start: u32, end: u32): bool {
  const ext: usize = tcb.ext;
  const i = rangeAfter(ext, start);
  if (i == load<u32>(ext) || seqGeq(rangeStart(ext, i), end)) return false;
  blockStart = seqMax(start, rangeStart(ext, i));
  blockEnd = seqMin(end, rangeEnd(ext, i));
  return true;
}

/** Index of the first range that ends after `seq`; their number: none. */
function rangeAfter(ext: usize, seq: u32): u32 {
  let low: u32 = 0;
  let high = load<u32>(ext);
  while (low < high) {
    const middle = (low + high) >> 1;
    if (seqLeq(rangeEnd(ext, middle), seq)) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Index of the range that contains the byte `seq`, -1: none. */
function rangeOf(ext: usize, seq: u32): i32 {
  const i = rangeAfter(ext, seq);
  return i < load<u32>(ext) && seqLeq(rangeStart(ext, i), seq) ? <i32>i : -1;
}

/**
 * [start, end) has come twice: the next ACK says so (RFC 2883). One report fits: what touches the one that is due is
 * added to it, anything else forgotten, as all is when there is no memory.
 */
export function reassemblyNoteDuplicate(tcb: Tcb, start: u32, end: u32): void {
  if (tcb.ext == 0 && !create(tcb)) return;
  if (load<u32>(tcb.ext, DSACK_DUE) != 0) {
    const dueStart = load<u32>(tcb.ext, DSACK_START);
    const dueEnd = load<u32>(tcb.ext, DSACK_END);
    if (seqGt(start, dueEnd) || seqLt(end, dueStart)) return;
    store<u32>(tcb.ext, seqMin(start, dueStart), DSACK_START);
    store<u32>(tcb.ext, seqMax(end, dueEnd), DSACK_END);
    return;
  }
  store<u32>(tcb.ext, 1, DSACK_DUE);
  store<u32>(tcb.ext, start, DSACK_START);
  store<u32>(tcb.ext, end, DSACK_END);
}

/** How many SACK blocks the next ACK has to tell. */
export function reassemblyBlocks(tcb: Tcb): u32 {
  return tcb.ext == 0 ? 0 : load<u32>(tcb.ext) + load<u32>(tcb.ext, DSACK_DUE);
}

let blockStart: u32 = 0;
let blockEnd: u32 = 0;
/** What reassemblyBlock found. */
export function reassemblyBlockStart(): u32 {
  return blockStart;
}
export function reassemblyBlockEnd(): u32 {
  return blockEnd;
}

/** Ranges told in the present option: their starts. */
const told: usize = memory.data(16, 4);
let toldCount: u32 = 0;

/**
 * SACK block `n` of the next ACK: the duplicate, then what came last, newest first, then the rest from the left.
 * Called with n = 0, 1, … in a row. @returns false: there is none.
 */
export function reassemblyBlock(tcb: Tcb, n: u32): bool {
  const ext: usize = tcb.ext;
  if (n == 0) {
    toldCount = 0;
    if (load<u32>(ext, DSACK_DUE) != 0) {
      blockStart = load<u32>(ext, DSACK_START);
      blockEnd = load<u32>(ext, DSACK_END);
      return true;
    }
  }
  const recent = load<u32>(ext, RECENT_COUNT);
  for (let k: u32 = 0; k < recent; k++) {
    const i = rangeOf(ext, load<u32>(ext + RECENT + (k << 2)));
    if (i >= 0 && tell(ext, i)) return true;
  }
  const ranges = load<u32>(ext);
  for (let i: u32 = 0; i < ranges; i++) {
    if (tell(ext, i)) return true;
  }
  return false;
}

/** Takes range i for the present block, unless it has been told. */
function tell(ext: usize, i: u32): bool {
  const start = rangeStart(ext, i);
  for (let k: u32 = 0; k < toldCount; k++) {
    if (load<u32>(told + (k << 2)) == start) return false;
  }
  if (toldCount < 4) store<u32>(told + (toldCount++ << 2), start);
  blockStart = start;
  blockEnd = rangeEnd(ext, i);
  return true;
}

/** The ACK with the duplicate has left. */
export function reassemblyTold(tcb: Tcb): void {
  store<u32>(tcb.ext, 0, DSACK_DUE);
  if (!reassemblyHolds(tcb)) reassemblyRelease(tcb);
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
  if (reached) store<u32>(ext, 0, FIN_KNOWN);
  if (!reassemblyHolds(tcb) && load<u32>(ext, DSACK_DUE) == 0) reassemblyRelease(tcb);
  return reached;
}

export function reassemblyRelease(tcb: Tcb): void {
  if (tcb.ext == 0) return;
  streamFree(tcb.ext, load<u32>(tcb.ext, ORDER));
  tcb.ext = 0;
}

function create(tcb: Tcb): bool {
  return reassemblyCreate(tcb, STREAM_ORDER_MIN);
}

/** An empty block of this size. @returns false: the pool is used up. */
export function reassemblyCreate(tcb: Tcb, order: u32): bool {
  const ext = streamAlloc(order);
  if (ext == 0) return false;
  memory.fill(ext, 0, RANGES);
  store<u32>(ext, order, ORDER);
  tcb.ext = <u32>ext;
  return true;
}

// For migration.ts, which copies the block as it is.

/** Size of the block. */
export function reassemblyBytes(tcb: Tcb): u32 {
  return (<u32>1) << load<u32>(tcb.ext, ORDER);
}

/** Can a block have this size, or be absent? */
export function reassemblyIsSize(bytes: u32): bool {
  return (bytes & (bytes - 1)) == 0 && (bytes == 0 || (bytes >= 1 << STREAM_ORDER_MIN && bytes <= 1 << ORDER_MAX));
}

/** Writes a piece of another block's copy; the size stays this one's. */
export function reassemblyFill(tcb: Tcb, offset: u32, source: usize, bytes: u32): void {
  const order = load<u32>(tcb.ext, ORDER);
  memory.copy(<usize>tcb.ext + offset, source, bytes);
  store<u32>(tcb.ext, order, ORDER);
}

/** A block of twice the size. @returns false at the limit. */
function grow(tcb: Tcb): bool {
  const order = load<u32>(tcb.ext, ORDER);
  if (order >= ORDER_MAX) return false;
  const larger = streamAlloc(order + 1);
  if (larger == 0) return false;
  memory.copy(larger, tcb.ext, 1 << order);
  streamFree(tcb.ext, order);
  store<u32>(larger, order + 1, ORDER);
  tcb.ext = <u32>larger;
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
