/**
 * Explicit congestion notification (RFC 3168): what a segment that leaves carries of it, and what one that comes says.
 * Negotiation is in open.ts and output.ts (RFC 3168 6.1.1).
 */
import { ecnMode } from "../config.ts";
import { ECN_OFF } from "../../src/layout/config.ts";
import { TCP_ECN_REDUCTIONS } from "../../src/layout/counters.ts";
import { count } from "../stats.ts";
import { congestionReduce } from "./congestion.ts";
import { recoveryCongestionEcho } from "./recovery.ts";
import * as S from "./segment.ts";
import { seqLt } from "./seq.ts";
import * as T from "./tcb.ts";
import { Tcb, coldOf } from "./tcb.ts";

const ECT_0: u32 = 2;
const CE: u32 = 3;

/** Codepoint for the IP header of the segment that ecnFlags was asked about last. */
export let ecnCodepoint: u32 = 0;

/** Neither codepoint nor flags: what most segments of most connections carry. */
export function ecnNone(): void {
  ecnCodepoint = 0;
}

/** TCP flags that a segment of a connection with ECN carries besides its own. Sets ecnCodepoint. */
export function ecnFlags(tcb: Tcb, seq: u32, bytes: u32): u32 {
  const cold = coldOf(tcb);
  let flags: u32 = cold.traits & T.TRAIT_ECE ? S.FLAG_ECE : 0;
  ecnCodepoint = 0;
  // Neither pure ACKs nor retransmissions nor window probes may be marked (RFC 3168 6.1.4 to 6.1.6).
  if (bytes == 0 || seqLt(seq, tcb.sndMax) || tcb.flags & T.F_PROBE) return flags;
  ecnCodepoint = ECT_0;
  if (cold.traits & T.TRAIT_CWR) {
    cold.traits &= ~T.TRAIT_CWR;
    flags |= S.FLAG_CWR;
  }
  return flags;
}

/** The SYN in segment.ts asks for ECN, and we agree. A SYN is not marked itself (RFC 3168 6.1.1). */
export function ecnAgreed(): bool {
  const both = S.FLAG_ECE | S.FLAG_CWR;
  return ecnMode != ECN_OFF && (S.segFlags & both) == both && S.segmentCodepoint() == 0;
}

/** An acceptable segment of a connection with ECN: marks of the way here (RFC 3168 6.1.3). */
export function ecnReceived(tcb: Tcb): void {
  const cold = coldOf(tcb);
  if (S.segFlags & S.FLAG_CWR) cold.traits &= ~T.TRAIT_ECE;
  const codepoint = S.segmentCodepoint();
  if (codepoint == 0) return;
  cold.traits |= T.TRAIT_ECN_SEEN;
  if (codepoint != CE) return;
  // At once, and not delayed: the peer's window may be small (as in Linux).
  cold.traits |= T.TRAIT_ECE;
  tcb.flags |= T.F_ACK_NOW;
}

/** An acceptable ACK with ECE: once per round trip the window is reduced as for a loss (RFC 3168 6.1.2). */
export function ecnEchoed(tcb: Tcb): void {
  const cold = coldOf(tcb);
  if (tcb.sndMax == tcb.sndUna || tcb.flags & (T.F_RECOVERY | T.F_RTO_RECOVERY) || cold.traits & T.TRAIT_CWR_STATE)
    return;
  count(TCP_ECN_REDUCTIONS);
  if (cold.traits & T.TRAIT_SACK && recoveryCongestionEcho(tcb)) return;
  tcb.ssthresh = congestionReduce(tcb);
  tcb.cwnd = tcb.ssthresh;
  cold.recover = tcb.sndMax;
  cold.traits |= T.TRAIT_CWR_STATE | T.TRAIT_CWR;
}
