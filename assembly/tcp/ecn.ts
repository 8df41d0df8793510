/**
 * Explicit congestion notification (RFC 3168): negotiation of its two kinds, what a segment that leaves carries of it,
 * and what one that comes says. The counters of accurate ECN (RFC 9768) are in accurateEcn.ts.
 */
import { ecnMode } from "../config.ts";
import { ECN_ACCURATE, ECN_ASK, ECN_OFF } from "../../src/layout/config.ts";
import { TCP_ECN_REDUCTIONS } from "../../src/layout/counters.ts";
import { count } from "../stats.ts";
import {
  accurateAcked,
  accurateEcho,
  accurateFlags,
  accurateMayMark,
  accurateReceived,
  accurateStart,
  accurateStartFromCookie,
} from "./accurateEcn.ts";
import { congestionReduce } from "./congestion.ts";
import { ackDelivered, ackSacked, flightAckBegin } from "./flight.ts";
import { recoveryCongestionEcho, recoveryEchoOver } from "./recovery.ts";
import * as S from "./segment.ts";
import { seqLt } from "./seq.ts";
import * as T from "./tcb.ts";
import { Tcb, coldOf } from "./tcb.ts";
import { CE, ECT_0 } from "../wire/headers.ts";

/** ECN_ACCURATE + 1, Linux's number: accurate ECN is agreed to, RFC 3168's asked for. */
const MODE_ACCURATE_AND_ASK: u32 = 4;

/** What a SYN may ask for, and a SYN-ACK agree to. */
const KIND_NONE: u32 = 0;
const KIND_CLASSIC: u32 = 1;
const KIND_ACCURATE: u32 = 2;
/** AE, CWR and ECE of a SYN that asks for each, and of a SYN-ACK that agrees to classic ECN. */
const ACE_ASKS_CLASSIC: u32 = 3;
const ACE_ASKS_ACCURATE: u32 = 7;
const ACE_AGREES_CLASSIC: u32 = 1;

/** Codepoint for the IP header of the segment that ecnFlags was asked about last. */
export let ecnCodepoint: u32 = 0;

/** Neither codepoint nor flags: what most segments of most connections carry. */
export function ecnNone(): void {
  ecnCodepoint = 0;
}

/**
 * TCP flags that a segment of a connection with ECN carries besides its own. Sets ecnCodepoint.
 * @param own those of its own.
 */
export function ecnFlags(tcb: Tcb, seq: u32, bytes: u32, own: u32): u32 {
  const cold = coldOf(tcb);
  const accurate = (cold.traits & T.TRAIT_ACCURATE_ECN) != 0;
  let flags: u32 = cold.traits & T.TRAIT_ECE ? S.FLAG_ECE : 0;
  if (accurate) flags = accurateFlags(tcb, bytes == 0 && own == S.FLAG_ACK);
  ecnCodepoint = 0;
  // Neither pure ACKs nor retransmissions nor window probes may be marked (RFC 3168 6.1.4 to 6.1.6).
  if (bytes == 0 || seqLt(seq, tcb.sndMax) || tcb.flags & T.F_PROBE) return flags;
  if (accurate) {
    if (accurateMayMark(tcb)) ecnCodepoint = ECT_0;
    return flags;
  }
  ecnCodepoint = ECT_0;
  if (cold.traits & T.TRAIT_CWR) {
    cold.traits &= ~T.TRAIT_CWR;
    flags |= S.FLAG_CWR;
  }
  return flags;
}

/** Flags of a SYN of ours that ask for ECN. @param tries how often it has gone unanswered. */
export function ecnAskFlags(tries: u32): u32 {
  // A second SYN still asks for accurate ECN, later ones do not (RFC 9768 3.1.4.1).
  if (ecnMode == <u32>ECN_ACCURATE) return tries <= 1 ? ACE_ASKS_ACCURATE << 6 : 0;
  // A SYN that is sent again asks no more: there are paths that drop those that do (RFC 3168 6.1.1.1).
  const asks = ecnMode == <u32>ECN_ASK || ecnMode == MODE_ACCURATE_AND_ASK;
  return asks && tries == 0 ? ACE_ASKS_CLASSIC << 6 : 0;
}

/** The kind of ECN that the SYN in segment.ts asks for, as far as we agree. */
function kindAsked(): u32 {
  const ace = S.segmentAce();
  if (ecnMode == ECN_OFF || ace == 0) return KIND_NONE;
  // Values that have no meaning yet ask for what we know (RFC 9768 3.1.3).
  if (ecnMode >= <u32>ECN_ACCURATE && ace != ACE_ASKS_CLASSIC) return KIND_ACCURATE;
  // A SYN is not marked itself (RFC 3168 6.1.1). AE is the nonce's bit there, and says nothing.
  return (ace & ACE_ASKS_CLASSIC) == ACE_ASKS_CLASSIC && S.segmentCodepoint() == 0 ? KIND_CLASSIC : KIND_NONE;
}

/** The kind of ECN that the SYN-ACK in segment.ts agrees to (RFC 9768, table 2). */
function kindAgreed(): u32 {
  const ace = S.segmentAce();
  if (ecnMode == <u32>ECN_ACCURATE) {
    if (ace == 0 || ace == 7) return KIND_NONE;
    return ace == ACE_AGREES_CLASSIC ? KIND_CLASSIC : KIND_ACCURATE;
  }
  const asks = ecnMode == <u32>ECN_ASK || ecnMode == MODE_ACCURATE_AND_ASK;
  return asks && (ace & 3) == ACE_AGREES_CLASSIC ? KIND_CLASSIC : KIND_NONE;
}

/** The SYN or SYN-ACK in segment.ts begins this connection. */
export function ecnStart(tcb: Tcb): void {
  const kind = S.segFlags & S.FLAG_ACK ? kindAgreed() : kindAsked();
  if (kind == KIND_CLASSIC) coldOf(tcb).traits |= T.TRAIT_ECN;
  else if (kind == KIND_ACCURATE) accurateStart(tcb);
}

/** The SYN in segment.ts asks for ECN of some kind, and we agree. */
export function ecnAgreed(): bool {
  return kindAsked() != KIND_NONE;
}

/** Flags of the SYN-ACK that is a cookie. */
export function ecnCookieFlags(): u32 {
  const kind = kindAsked();
  if (kind == KIND_ACCURATE) return accurateEcho(S.segmentCodepoint()) << 6;
  return kind == KIND_CLASSIC ? S.FLAG_ECE : 0;
}

/** A cookie has come back that remembers ECN: the ACE field shows which kind (RFC 9768 3.2.2.1, note 3). */
export function ecnFromCookie(tcb: Tcb): void {
  if (ecnMode >= <u32>ECN_ACCURATE && S.segmentAce() > ACE_AGREES_CLASSIC) accurateStartFromCookie(tcb);
  else coldOf(tcb).traits |= T.TRAIT_ECN;
}

/** An acceptable segment of a connection with ECN: marks of the way here (RFC 3168 6.1.3). */
export function ecnReceived(tcb: Tcb): void {
  const cold = coldOf(tcb);
  if (cold.traits & T.TRAIT_ACCURATE_ECN) {
    accurateReceived(tcb);
    return;
  }
  if (S.segFlags & S.FLAG_CWR) cold.traits &= ~T.TRAIT_ECE;
  const codepoint = S.segmentCodepoint();
  if (codepoint == 0) return;
  cold.traits |= T.TRAIT_ECN_SEEN;
  if (codepoint != CE) return;
  // At once, and not delayed: the peer's window may be small (as in Linux).
  cold.traits |= T.TRAIT_ECE;
  tcb.flags |= T.F_ACK_NOW;
}

/** SND.UNA before the ACK being processed, and whether there was a flight block: it knows what is delivered. */
let unaBefore: u32 = 0;
let hadFlight: bool = false;

/** An acceptable ACK of a connection with ECN is about to be processed. */
export function ecnAckBegin(tcb: Tcb): void {
  if (coldOf(tcb).traits & T.TRAIT_ACCURATE_ECN) {
    unaBefore = tcb.sndUna;
    hadFlight = tcb.flight != 0;
    // What is known of the ACK before this one must not be taken for what this one says.
    flightAckBegin(tcb);
  } else if (S.segFlags & S.FLAG_ECE && tcb.sndMax != tcb.sndUna) {
    flightAckBegin(tcb);
    reduce(tcb, tcb.sndMax - tcb.sndUna);
  }
}

/**
 * The peer tells of congestion: once per round trip the window is reduced as for a loss (RFC 3168 6.1.2).
 * @param flightBytes sent and not acknowledged before the ACK that tells.
 */
function reduce(tcb: Tcb, flightBytes: u32): void {
  const cold = coldOf(tcb);
  if (tcb.flags & (T.F_RECOVERY | T.F_RTO_RECOVERY) || cold.traits & T.TRAIT_CWR_STATE) return;
  count(TCP_ECN_REDUCTIONS);
  if (cold.traits & T.TRAIT_SACK && recoveryCongestionEcho(tcb, flightBytes)) return;
  tcb.ssthresh = congestionReduce(tcb, flightBytes);
  tcb.cwnd = tcb.ssthresh;
  cold.recover = tcb.sndMax;
  cold.traits |= T.TRAIT_CWR_STATE;
}

/** An acceptable ACK of a connection with accurate ECN has been processed. */
export function ecnAcked(tcb: Tcb): void {
  const known = hadFlight && tcb.flight != 0;
  const advanced = tcb.sndUna != unaBefore;
  const later = S.segHasTimestamps && <i32>(S.segTsVal - tcb.tsRecent) > 0;
  const delivered = known ? ackDelivered : tcb.sndUna - unaBefore;
  if (!accurateAcked(tcb, delivered, advanced || later || (known && ackSacked != 0))) return;
  // Late news, or a peer's invention: nothing of ours was on its way.
  if (tcb.sndMax == unaBefore) return;
  if (!known) flightAckBegin(tcb);
  reduce(tcb, tcb.sndMax - unaBefore);
  // Nothing is left in flight whose delivery could bring the window down.
  if (tcb.sndUna == tcb.sndMax) recoveryEchoOver(tcb);
}
