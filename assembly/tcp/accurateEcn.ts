/**
 * Accurate ECN (RFC 9768): both ends count the packets with CE, and payload bytes by codepoint, and tell each other.
 * The count goes as the ACE field (three bits) with every segment, the bytes as an option with those that have room.
 * Negotiation is in ecn.ts. A kernel whose configuration does not know it spends nothing on it: records, one per TCB,
 * are only carved where it does.
 */
import { connectionsMax, ecnMode } from "../config.ts";
import { ECN_ACCURATE } from "../../src/layout/config.ts";
import { arenaAlloc } from "../mem/arena.ts";
import { loadBe16, storeBe16 } from "../wire/bytes.ts";
import { CE, ECT_0, ECT_1 } from "../wire/headers.ts";
import { announcedMss } from "./sizes.ts";
import { outputMark } from "./outputQueue.ts";
import * as S from "./segment.ts";
import { Tcb, coldOf, tcbIndex } from "./tcb.ts";
import * as T from "./tcb.ts";

const NOT_ECT: u32 = 0;

/** r.cep and s.cep begin with this (RFC 9768 3.2.1). */
const CE_PACKETS_INITIAL: u32 = 5;
/** The byte counters of ECT(0) and ECT(1) begin with 1, that of CE with 0 (RFC 9768 3.2.1). */
export const ECT_BYTES_INITIAL: u32 = 1;
const ACE_MASK: u32 = 7;
/** Width of the option's counters. */
const COUNTER_MASK: u32 = 0xffffff;
/** Packets with CE after which an ACK does not wait (RFC 9768 3.2.2.5.1): of data, and of pure ACKs. */
const CE_ACK_DATA: u8 = 2;
const CE_ACK_PURE: u8 = 3;
/** Where ACKs usually cover more packets than this, one that does has not lost others before it (as in Linux). */
const STRETCH_PACKETS: u32 = 4;
const ACK_PACKETS_SHIFT: u32 = 6;

/** The first feedback after the handshake has not come: it shows whether the path clears the field. */
const BIT_FIRST: u8 = 1;
/** A pure ACK may be that of our SYN-ACK: its ACE field tells what codepoint that had (RFC 9768 3.2.2.1). */
const BIT_SYN_ACK_ECHO: u8 = 2;
/** Our next pure ACK tells the same of the peer's SYN-ACK. */
const BIT_ECHO_DUE: u8 = 4;
/** The path changes marks, or clears the counter: what we send is not ECN-capable, and feedback does not count. */
const BIT_MANGLED: u8 = 8;
/** A counter of the option has changed since it went last. */
const BIT_OPTION_DUE: u8 = 16;
/** The peer's first option has been looked at; it is not to be believed; the path may not take ours. */
const BIT_OPTION_SEEN: u8 = 32;
const BIT_OPTION_WRONG: u8 = 64;
const BIT_OPTION_OFF: u8 = 128;

@unmanaged
class AccurateEcn {
  /** Packets received with CE (r.cep), and payload bytes by codepoint. */
  receivedCe: u32;
  receivedE0Bytes: u32;
  receivedCeBytes: u32;
  receivedE1Bytes: u32;
  /** Ours that the peer has received with CE (s.cep, s.ceb), as far as it has told. */
  deliveredCe: u32;
  deliveredCeBytes: u32;
  /** Smoothed packets per ACK, << ACK_PACKETS_SHIFT; 0: none yet. */
  ackPackets: u16;
  /** BIT_*. */
  bits: u8;
  /** Codepoint of the SYN or SYN-ACK that has come. */
  synCodepoint: u8;
  /** Of the last packet with data. */
  lastCodepoint: u8;
  /** Packets with CE since our last segment. */
  cePending: u8;
}

const ACCURATE_SIZE_BYTES: u32 = 32;
if (offsetof<AccurateEcn>() > ACCURATE_SIZE_BYTES) ERROR("AccurateEcn does not fit its record");

let records: usize = 0;

export function accurateBoot(): bool {
  if (ecnMode < <u32>ECN_ACCURATE) return true;
  records = arenaAlloc(<usize>connectionsMax * ACCURATE_SIZE_BYTES, 64);
  return records != 0;
}

/** Preconditions: TRAIT_ACCURATE_ECN. */
export function accurateOf(tcb: Tcb): AccurateEcn {
  return changetype<AccurateEcn>(records + <usize>tcbIndex(tcb) * ACCURATE_SIZE_BYTES);
}

/** Bytes of a record that moves to another kernel (migration.ts); 0: such a connection cannot live here. */
export function accurateRecordBytes(): u32 {
  return records != 0 ? ACCURATE_SIZE_BYTES : 0;
}

/** What the peer of a SYN or SYN-ACK with this codepoint is told of it (RFC 9768, tables 2 and 3). */
export function accurateEcho(codepoint: u32): u32 {
  return codepoint + (codepoint == CE ? 3 : 2);
}

/** The SYN or SYN-ACK in segment.ts begins a connection with accurate ECN. */
export function accurateStart(tcb: Tcb): void {
  const a = accurateOf(tcb);
  memory.fill(changetype<usize>(a), 0, ACCURATE_SIZE_BYTES);
  const codepoint = S.segmentCodepoint();
  const isAnswer = (S.segFlags & S.FLAG_ACK) != 0;
  // CE of a SYN is told and not counted; of a SYN-ACK both (RFC 9768 3.2.2.1).
  a.receivedCe = CE_PACKETS_INITIAL + (isAnswer && codepoint == CE ? 1 : 0);
  a.receivedE0Bytes = ECT_BYTES_INITIAL;
  a.receivedE1Bytes = ECT_BYTES_INITIAL;
  a.deliveredCe = CE_PACKETS_INITIAL;
  a.synCodepoint = <u8>codepoint;
  a.bits = BIT_FIRST | BIT_OPTION_DUE | (isAnswer ? BIT_ECHO_DUE : BIT_SYN_ACK_ECHO);
  // Our SYN was not ECT: whatever has come of it, the path has changed it (RFC 9768 3.2.2.4).
  if (isAnswer && S.segmentAce() != accurateEcho(NOT_ECT) && S.segmentAce() != 5) a.bits |= BIT_MANGLED;
  coldOf(tcb).traits |= T.TRAIT_ECN | T.TRAIT_ACCURATE_ECN;
}

/** Likewise one whose SYN-ACK was a cookie, brought back by the segment in segment.ts: that is the first feedback. */
export function accurateStartFromCookie(tcb: Tcb): void {
  accurateStart(tcb);
  const a = accurateOf(tcb);
  a.receivedCe = CE_PACKETS_INITIAL;
  a.bits = BIT_SYN_ACK_ECHO | BIT_OPTION_OFF;
  firstFeedback(a, S.segmentAce(), 0);
}

/** SYN or SYN-ACK have to go again: perhaps because of the option (RFC 9768 3.2.3.2.2). */
export function accurateHandshakeAgain(tcb: Tcb): void {
  accurateOf(tcb).bits |= BIT_OPTION_OFF;
}

/** May what we send be marked as ECN-capable? */
export function accurateMayMark(tcb: Tcb): bool {
  return !(accurateOf(tcb).bits & BIT_MANGLED);
}

/** The ACE field of a segment that leaves, as flags. @param pure it is an ACK and nothing else. */
export function accurateFlags(tcb: Tcb, pure: bool): u32 {
  const a = accurateOf(tcb);
  let ace = a.receivedCe & ACE_MASK;
  if (a.bits & BIT_ECHO_DUE) {
    a.bits &= ~BIT_ECHO_DUE;
    if (pure) ace = accurateEcho(a.synCodepoint);
  }
  a.cePending = 0;
  return ace << 6;
}

/** Devices that cut a large frame clear CWR, now a bit of the counter, in all segments but the first. */
export function accurateForbidsCutting(tcb: Tcb): bool {
  return (accurateOf(tcb).receivedCe & 2) != 0;
}

/** Packets that `bytes` of payload have come, or gone, in. @param mss the largest in that direction. */
function packetsOf(mss: u32, bytes: u32): u32 {
  return bytes <= mss ? 1 : (bytes + mss - 1) / mss;
}

/** An acceptable segment has come. */
export function accurateReceived(tcb: Tcb): void {
  const codepoint = S.segmentCodepoint();
  const bytes = S.segDataBytes;
  const a = accurateOf(tcb);
  const changed = bytes > 0 && <u32>a.lastCodepoint != codepoint;
  if (bytes > 0) a.lastCodepoint = <u8>codepoint;
  if (codepoint == NOT_ECT) return;
  coldOf(tcb).traits |= T.TRAIT_ECN_SEEN;
  if (bytes > 0) {
    a.bits |= BIT_OPTION_DUE;
    if (codepoint == ECT_0) a.receivedE0Bytes += bytes;
    else if (codepoint == ECT_1) a.receivedE1Bytes += bytes;
    else a.receivedCeBytes += bytes;
  }
  if (codepoint != CE) return;
  // What a device has merged counts as what it was merged from: as little as that can be.
  const packets = packetsOf(announcedMss(tcb), bytes);
  a.receivedCe += packets;
  a.cePending = <u8>min<u32>(a.cePending + packets, 255);
  if (changed || a.cePending >= (bytes > 0 ? CE_ACK_DATA : CE_ACK_PURE)) {
    tcb.flags |= T.F_ACK_NOW;
    outputMark(tcb);
  }
}

/** A segment like the one before it, of which accurateReceived knows, has brought so many bytes; not with CE. */
export function accurateContinued(tcb: Tcb, bytes: u32): void {
  const a = accurateOf(tcb);
  if (<u32>a.lastCodepoint == ECT_0) a.receivedE0Bytes += bytes;
  else a.receivedE1Bytes += bytes;
}

/** Payload bytes of ours with CE that the option in segment.ts tells of and none before has; -1: it tells nothing. */
function optionCeBytes(a: AccurateEcn): i32 {
  const bytes = S.segAccurateBytes;
  if (!(S.segOptions & S.OPTION_SEEN_ACCURATE) || bytes < 3 || a.bits & BIT_OPTION_WRONG) return -1;
  if (!(a.bits & BIT_OPTION_SEEN)) {
    a.bits |= BIT_OPTION_SEEN;
    // Counters that begin with 1 are never 0 at first: the path clears the option (RFC 9768 3.2.3.2.4).
    const last = bytes >= 9 ? counterAt(6) : ECT_BYTES_INITIAL;
    if (counterAt(0) == 0 || last == 0) {
      a.bits |= BIT_OPTION_WRONG;
      return -1;
    }
  }
  // The counter of CE stands in the middle; a short option leaves it out as long as it is what it was.
  return bytes < 6 ? 0 : <i32>((counterAt(3) - a.deliveredCeBytes) & COUNTER_MASK);
}

function counterAt(offset: u32): u32 {
  const at = S.segAccurate + offset;
  return ((<u32>load<u8>(at)) << 16) | loadBe16(at + 1);
}

/**
 * An acceptable ACK has been processed.
 * @param deliveredBytes that it has newly reported. @param progress it is news, and not one overtaken on the way.
 * @returns true when it tells of congestion.
 */
export function accurateAcked(tcb: Tcb, deliveredBytes: u32, progress: bool): bool {
  const a = accurateOf(tcb);
  const ace = S.segmentAce();
  const packets = deliveredBytes > 0 ? packetsOf(max<u32>(tcb.sndMss, 1), deliveredBytes) : 0;
  if (a.bits & BIT_FIRST) {
    a.bits &= ~BIT_FIRST;
    if (firstFeedback(a, ace, packets)) return false;
  }
  if (!progress) return false;
  const ceBytes = optionCeBytes(a);
  const marked = markedPackets(a, ace, packets, ceBytes, <u32>tcb.sndMss);
  a.deliveredCe += marked;
  if (ceBytes > 0) a.deliveredCeBytes += <u32>ceBytes;
  notePackets(a, packets);
  return marked > 0 && !(a.bits & BIT_MANGLED);
}

/** @param packets that it reports. @returns true when its ACE field is not a counter, or says nothing. */
function firstFeedback(a: AccurateEcn, ace: u32, packets: u32): bool {
  const pure = S.segLen == 0 && S.segSackBlocks == 0;
  const echoes = (a.bits & BIT_SYN_ACK_ECHO) != 0 && pure;
  a.bits &= ~BIT_SYN_ACK_ECHO;
  // A counter that begins with 5 is not 0 so soon: the path clears it (RFC 9768 3.2.2.3).
  if (ace == 0 && packets < 8 - CE_PACKETS_INITIAL) {
    a.bits |= BIT_MANGLED;
    return true;
  }
  if (!echoes) return false;
  // Table 4. Our SYN-ACK was not ECT, so none of the codepoints is what it should be (3.2.2.4).
  if (ace == accurateEcho(CE)) a.deliveredCe++;
  if (ace == accurateEcho(ECT_1) || ace == accurateEcho(ECT_0) || ace == accurateEcho(CE)) a.bits |= BIT_MANGLED;
  return true;
}

/**
 * How many of the `packets` that an ACK reports had CE. The field counts modulo 8, so that ACKs that were lost may hide
 * a whole turn: what is safe to believe is the most that fits (RFC 9768 3.2.2.5.2, A.2).
 * @param ceBytes -1: unknown.
 */
function markedPackets(a: AccurateEcn, ace: u32, packets: u32, ceBytes: i32, mss: u32): u32 {
  const fewest = (ace - a.deliveredCe) & ACE_MASK;
  if (packets <= ACE_MASK) return fewest;
  const most = packets - ((packets - fewest) & ACE_MASK);
  if (ceBytes == 0) return fewest;
  if (ceBytes > 0) {
    if (<u32>ceBytes > fewest * mss) return most;
    if (<u32>ceBytes < (most * mss) >> 1) return fewest;
  }
  return <u32>a.ackPackets > STRETCH_PACKETS << ACK_PACKETS_SHIFT ? fewest : most;
}

function notePackets(a: AccurateEcn, packets: u32): void {
  if (packets == 0) return;
  const now = min<u32>(packets, 1023) << ACK_PACKETS_SHIFT;
  if (a.ackPackets == 0) a.ackPackets = <u16>now;
  else a.ackPackets = <u16>(<i32>a.ackPackets + ((<i32>now - <i32>a.ackPackets) >> 3));
}

/** Bytes of a SYN-ACK's option: all counters, so that the peer sees whether the path leaves them alone. */
export const ACCURATE_SYN_OPTION_BYTES: u32 = 12;

/** May the SYN-ACK of this connection bring the option? */
export function accurateOffers(tcb: Tcb): bool {
  return !(accurateOf(tcb).bits & BIT_OPTION_OFF);
}

/**
 * Bytes of the option in a segment that leaves, 0: none. It goes where a counter has changed and there is room; payload
 * is not made shorter for it.
 * @param usedBytes of the other options. @param roomBytes that the payload leaves of a full segment.
 */
export function accurateOptionBytes(tcb: Tcb, usedBytes: u32, roomBytes: u32): u32 {
  const a = accurateOf(tcb);
  if ((a.bits & (BIT_OPTION_DUE | BIT_OPTION_OFF)) != BIT_OPTION_DUE) return 0;
  // A counter that has never changed needs no place (RFC 9768 3.2.3); with two of them the option needs no padding.
  const bytes: u32 = a.receivedE1Bytes != ECT_BYTES_INITIAL ? 12 : 8;
  return usedBytes + bytes <= 40 && bytes <= roomBytes ? bytes : 0;
}

/** Writes the option. @param bytes as accurateOptionBytes says: 8, or 12 with a NOP at the end. */
export function accurateWrite(tcb: Tcb, at: usize, bytes: u32): void {
  const a = accurateOf(tcb);
  a.bits &= ~BIT_OPTION_DUE;
  store<u8>(at, <u8>S.OPTION_ACCURATE_E0);
  store<u8>(at, bytes == 8 ? 8 : 11, 1);
  counterWrite(at + 2, a.receivedE0Bytes);
  counterWrite(at + 5, a.receivedCeBytes);
  if (bytes == 8) return;
  counterWrite(at + 8, a.receivedE1Bytes);
  store<u8>(at, 1, 11);
}

function counterWrite(at: usize, value: u32): void {
  store<u8>(at, <u8>(value >> 16));
  storeBe16(at + 1, value);
}

/** Packets of ours that arrived with CE, and of the peer's. */
export function accurateDeliveredCe(tcb: Tcb): u32 {
  return accurateOf(tcb).deliveredCe - CE_PACKETS_INITIAL;
}

export function accurateReceivedCe(tcb: Tcb): u32 {
  return accurateOf(tcb).receivedCe - CE_PACKETS_INITIAL;
}
