/**
 * Selective acknowledgment (RFC 2018) and D-SACK (RFC 2883), both ways: the option of our ACKs, and what the peer's
 * option says about what is in flight (flight.ts).
 */
import { DROP_TCP_SACK_INVALID, TCP_DSACK_RECEIVED, TCP_DSACK_SENT } from "../../src/layout/counters.ts";
import { count } from "../stats.ts";
import { loadBe32, storeBe32 } from "../wire/bytes.ts";
import { TCP_OPTION_BYTES_MAX } from "../wire/headers.ts";
import { duplicateTold } from "./duplicates.ts";
import { FLIGHT_DSACK, FLIGHT_UNDO, flightOf } from "./flightRecord.ts";
import { flightSacked } from "./flight.ts";
import {
  reassemblyBlock,
  reassemblyBlockEnd,
  reassemblyBlocks,
  reassemblyBlockStart,
  reassemblyNoteDuplicate,
  reassemblyOverlaps,
  reassemblyTold,
} from "./reassembly.ts";
import { historyDsack } from "./history.ts";
import * as S from "./segment.ts";
import { seqGeq, seqGt, seqLeq, seqLt } from "./seq.ts";
import { TRAIT_SACK, Tcb, coldOf } from "./tcb.ts";

/** The ACK being processed has a D-SACK block. */
export let ackHasDsack: bool = false;
/** That block ends where the tail loss probe does. */
export let ackDsackEnd: u32 = 0;

/**
 * Bytes that the SACK option takes in a segment that has `optionBytes` of others: NOP NOP kind length, and as many
 * blocks as there is room for.
 */
export function sackOptionBytes(tcb: Tcb, optionBytes: u32): u32 {
  if (tcb.ext == 0 || !(coldOf(tcb).traits & TRAIT_SACK)) return 0;
  const blocks = min(reassemblyBlocks(tcb), (TCP_OPTION_BYTES_MAX - optionBytes - 4) >> 3);
  return blocks == 0 ? 0 : 4 + (blocks << 3);
}

/** Writes the option. @param bytes as told by sackOptionBytes, not 0. */
export function sackWrite(tcb: Tcb, at: usize, bytes: u32): void {
  const blocks = (bytes - 4) >> 3;
  storeBe32(at, 0x01010500 | (bytes - 2));
  for (let n: u32 = 0; n < blocks; n++) {
    const block = at + 4 + (n << 3);
    reassemblyBlock(tcb, n);
    storeBe32(block, reassemblyBlockStart());
    storeBe32(block + 4, reassemblyBlockEnd());
  }
  reassemblyTold(tcb);
}

/** [start, end) has come before. */
export function sackDuplicate(tcb: Tcb, start: u32, end: u32): void {
  if (!(coldOf(tcb).traits & TRAIT_SACK) || start == end) return;
  reassemblyNoteDuplicate(tcb, start, end);
  count(TCP_DSACK_SENT);
}

/** Of [start, end) some may wait for what comes before it: that has come twice. Preconditions: there is a block. */
export function sackOverlap(tcb: Tcb, start: u32, end: u32): void {
  if (reassemblyOverlaps(tcb, start, end)) sackDuplicate(tcb, reassemblyBlockStart(), reassemblyBlockEnd());
}

/**
 * Enters the blocks of the segment in segment.ts. Preconditions: there is a flight block; SND.UNA has been moved.
 * @param unaBefore SND.UNA before this segment.
 */
export function sackReceived(tcb: Tcb, unaBefore: u32): void {
  ackHasDsack = false;
  for (let n: u32 = 0; n < S.segSackBlocks; n++) {
    const block = S.segSack + (n << 3);
    const start = loadBe32(block);
    const end = loadBe32(block + 4);
    if (n == 0 && isDuplicateReport(start, end)) {
      duplicateReported(tcb, start, end, unaBefore);
      continue;
    }
    // What has been acknowledged meanwhile needs no report; the peer's ACKs may have overtaken each other.
    if (seqLeq(end, tcb.sndUna)) continue;
    if (seqGeq(start, end) || seqGt(end, tcb.sndMax) || seqLt(start, tcb.sndUna)) {
      count(DROP_TCP_SACK_INVALID);
      continue;
    }
    flightSacked(tcb, start, end);
  }
}

/** RFC 2883 4: the first block tells of a duplicate when it lies below the ACK or within the second block. */
function isDuplicateReport(start: u32, end: u32): bool {
  if (seqLt(start, S.segAck)) return true;
  if (S.segSackBlocks < 2) return false;
  return seqGeq(start, loadBe32(S.segSack + 8)) && seqLeq(end, loadBe32(S.segSack + 12));
}

function duplicateReported(tcb: Tcb, start: u32, end: u32, unaBefore: u32): void {
  const length = end - start;
  // Of what was never sent, or long ago: a stray, or made up (as in Linux's tcp_is_sackblock_valid).
  if (<i32>length <= 0 || seqGt(end, tcb.sndMax) || seqLt(start, unaBefore - coldOf(tcb).sndWndMax - 1)) {
    count(DROP_TCP_SACK_INVALID);
    return;
  }
  count(TCP_DSACK_RECEIVED);
  historyDsack(tcb);
  const f = flightOf(tcb);
  // More than we have sent twice: that says nothing of our judgement.
  if (!duplicateTold(f)) return;
  ackHasDsack = true;
  ackDsackEnd = end;
  f.flags |= FLIGHT_DSACK;
  // Of what was in flight when the window was reduced; what has been sent since is not sent again for that.
  const ours = seqGeq(start, f.undoMarker) && seqLeq(end, coldOf(tcb).recover);
  if (f.flags & FLIGHT_UNDO && ours) f.undoRetrans -= <i32>length;
}
