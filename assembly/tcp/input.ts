/**
 * 4. Input: what an arriving segment does, in the order of RFC 9293 3.10.7. The segment stands in segment.ts.
 */
import { migrationTakes } from "../flow/migration.ts";
import { isFlowV4, isFlowV6 } from "../flow/table.ts";
import * as C from "../../src/layout/counters.ts";
import * as E from "../../src/layout/event.ts";
import * as ST from "../../src/layout/option.ts";
import { ECONNREFUSED, ECONNRESET } from "../../src/layout/status.ts";
import { autoTuningAhead, autoTuningSample } from "../socket/autoTuning.ts";
import { ringWrite, rcvBufferFor } from "../socket/buffers.ts";
import { count } from "../stats.ts";
import { nowMs } from "../time.ts";
import { Account, accountAhead, accountReceived } from "./account.ts";
import { accurateHandshakeAgain } from "./accurateEcn.ts";
import { ackProcess } from "./ack.ts";
import { flowOfSegment, timestampOffsetOfSegment } from "./addresses.ts";
import { challengeAck, challengePureAck, probeAck } from "./challenge.ts";
import { eventPost } from "./events.ts";
import { enterTimeWait, finWait2Arm, tcpDrop } from "./close.ts";
import { ecnReceived } from "./ecn.ts";
import { established } from "./established.ts";
import { fastOpenOver, fastOpenSynAgain, isFastOpenChild } from "./fastOpen.ts";
import { fastOpenAnswered } from "./fastOpenClient.ts";
import { handshakeAck, listenInput, startFromSyn, timeWaitSyn } from "./open.ts";
import { sendResetForSegment } from "./plainOutput.ts";
import { announcedMss, ownMss } from "./sizes.ts";
import { outputMark } from "./outputQueue.ts";
import { reassemblyAdvance, reassemblyFinReached, reassemblyInsert, reassemblyNoteFin } from "./reassembly.ts";
import { sackDuplicate, sackOverlap } from "./sack.ts";
import * as S from "./segment.ts";
import { seqGeq, seqGt, seqLeq, seqLt } from "./seq.ts";
import { settingsCount, settingsFind } from "./settings.ts";
import * as T from "./tcb.ts";
import { Tcb, coldOf, tcbAt } from "./tcb.ts";
import { lingerArm } from "./timers.ts";
import { urgentReceived } from "./urgent.ts";
import { userTimeoutReceived } from "./userTimeout.ts";
import { timeWaitMs, timestamps } from "../config.ts";

/** RFC 7323 5.5: a timestamp older than 24 days says nothing. */
const PAWS_IDLE_MS: u32 = 24 * 86400 * 1000;
/** So far behind TS.Recent, in ticks of the peer's clock (milliseconds in practice), a segment may come late. */
const PAWS_LATE_TICKS: u32 = 64;

/** Longer than any SYN waits for its answer: 127 retransmissions (TCP_SYNCNT), two minutes each. */
const SYN_AGE_MS_MAX: u32 = 5 * 3600 * 1000;

/**
 * Processes the segment placed in segment.ts.
 * @param candidate TCB index from the staged look-up, unverified, or -1.
 */
export function tcpInput(segmentBytes: u32, candidate: i32): void {
  count(C.TCP_SEGMENTS_RECEIVED);
  if (!S.segmentParse(segmentBytes)) {
    count(C.DROP_TCP_OPTION);
    return;
  }
  let tcb = changetype<Tcb>(0);
  if (candidate >= 0) {
    tcb = tcbAt(candidate);
    // The staged look-up is a hint: earlier frames of the batch may have changed the table.
    if (!(tcb.flags & T.F_IN_FLOW_TABLE) || !isFlowOfSegment(tcb)) {
      tcb = changetype<Tcb>(0);
    }
  }
  if (changetype<usize>(tcb) == 0) tcb = flowOfSegment();
  if (changetype<usize>(tcb) == 0) {
    if (migrationTakes()) return;
    listenInput();
    // A SYN cookie that came back may bring more than its ACK.
    if (S.segLen == 0 || (S.segFlags & (S.FLAG_ACK | S.FLAG_SYN | S.FLAG_RST)) != S.FLAG_ACK) return;
    tcb = flowOfSegment();
    if (changetype<usize>(tcb) != 0) synchronizedInput(tcb);
    return;
  }
  if (tcb.state == ST.STATE_SYN_SENT) synSentInput(tcb);
  else synchronizedInput(tcb);
}

function isFlowOfSegment(tcb: Tcb): bool {
  if (S.segRemoteV6 != 0) return isFlowV6(tcb, S.segRemoteV6, S.segLocalIndex, S.segPorts);
  return isFlowV4(tcb, S.segRemote, S.segLocalIndex, S.segPorts);
}

/** RFC 9293 3.10.7.3. */
function synSentInput(tcb: Tcb): void {
  const flags = S.segFlags;
  if (flags & S.FLAG_ACK && (seqLeq(S.segAck, coldOf(tcb).recover) || seqGt(S.segAck, tcb.sndMax))) {
    sendResetForSegment();
    return;
  }
  if (flags & S.FLAG_ACK && !echoesOurs()) {
    // As in Linux: an answer to a SYN that this connection has never sent.
    sendResetForSegment();
    return;
  }
  if (flags & S.FLAG_RST) {
    count(C.TCP_RST_RECEIVED);
    // Only a reset that acknowledges our SYN is believed.
    if (flags & S.FLAG_ACK) {
      count(C.TCP_CONNECT_FAILED);
      tcpDrop(tcb, ECONNREFUSED);
    }
    return;
  }
  if (!(flags & S.FLAG_SYN)) return;
  startFromSyn(tcb);
  if (!(flags & S.FLAG_ACK)) {
    // Simultaneous open.
    tcb.state = ST.STATE_SYN_RECEIVED;
    tcb.flags |= T.F_SYN_DUE;
    outputMark(tcb);
    // What it brings besides waits until the handshake is over.
    S.segmentTrimFront(1);
    const room = tcb.rcvAdv - tcb.rcvNxt;
    if (S.segDataBytes > room) S.segmentTrimBack(room);
    if (S.segLen > 0) receiveAhead(tcb);
    return;
  }
  if (coldOf(tcb).traits & T.TRAIT_FAST_OPEN_ASK) fastOpenAnswered(tcb);
  tcb.sndUna = S.segAck;
  tcb.sndWnd = S.segWndField;
  tcb.sndWl1 = S.segSeq;
  coldOf(tcb).sndWndMax = tcb.sndWnd;
  established(tcb, true);
  tcb.flags |= T.F_ACK_NOW;
  outputMark(tcb);
  S.segmentTrimFront(1);
  const wnd = tcb.rcvAdv - tcb.rcvNxt;
  if (S.segDataBytes > wnd) {
    S.segmentTrimBack(wnd);
    count(C.DROP_TCP_OUT_OF_WINDOW);
  }
  if (S.segLen > 0) receive(tcb);
}

/**
 * Is the timestamp that the segment echoes, if any, one of the last hours? The SYN's lies no further back.
 * Deviates: RFC 7323 asks for no such check; as in Linux.
 */
function echoesOurs(): bool {
  if (!S.segHasTimestamps || S.segTsEcr == 0 || !timestamps) return true;
  return nowMs + timestampOffsetOfSegment() - S.segTsEcr <= SYN_AGE_MS_MAX;
}

/** RFC 9293 3.10.7.4, for SYN-RECEIVED and every later state. */
function synchronizedInput(tcb: Tcb): void {
  if (tcb.state == ST.STATE_TIME_WAIT && S.segFlags & S.FLAG_SYN && !(S.segFlags & (S.FLAG_ACK | S.FLAG_RST))) {
    if (timeWaitSyn(tcb)) return;
  }
  if (!timestampsAcceptable(tcb)) return;
  // RST and SYN are judged by the number that they came with, before anything is cut off (RFC 5961 3.2, 4.2).
  if (S.segFlags & S.FLAG_RST) {
    resetInput(tcb);
    return;
  }
  if (S.segFlags & S.FLAG_SYN && !synAgain(tcb)) return;
  if (!sequenceAcceptable(tcb)) return;
  if (!(S.segFlags & S.FLAG_ACK)) {
    count(C.DROP_TCP_NO_ACK);
    return;
  }
  const opening = tcb.state == ST.STATE_SYN_RECEIVED;
  if (opening && !handshakeAck(tcb)) return;
  if (!ackProcess(tcb)) return;
  const traits = coldOf(tcb).traits & (T.TRAIT_ECN | T.TRAIT_RCV_RTT);
  if (traits != 0) {
    if (traits & T.TRAIT_ECN) ecnReceived(tcb);
    if (traits & T.TRAIT_RCV_RTT) autoTuningSample(tcb);
  }
  if (
    S.segHasTimestamps &&
    (tcb.flags & (T.F_TIMESTAMPS | T.F_ACK_PENDING)) == T.F_TIMESTAMPS &&
    seqLeq(S.segSeq, tcb.rcvNxt) &&
    !cameLate(tcb)
  ) {
    // RFC 7323 4.3 (2): the segment that covers Last.ACK.sent. While an ACK is pending that is the first one it is for.
    tcb.tsRecent = S.segTsVal;
    coldOf(tcb).tsRecentMs = nowMs;
  }
  if (!afterAck(tcb)) return;
  if (settingsCount != 0) rareInput(tcb);
  if (S.segLen > 0) receive(tcb);
  if (opening && tcb.ext != 0) receiveQueued(tcb);
}

/** What only connections with settings look at in an acceptable segment. */
function rareInput(tcb: Tcb): void {
  const seen = (S.segFlags & S.FLAG_URG) | (S.segOptions & S.OPTION_SEEN_USER_TIMEOUT);
  if (seen == 0) return;
  const settings = settingsFind(T.tcbIndex(tcb));
  if (changetype<usize>(settings) == 0) return;
  if (seen & S.FLAG_URG) urgentReceived(tcb, settings);
  if (seen & S.OPTION_SEEN_USER_TIMEOUT) userTimeoutReceived(settings);
}

/**
 * PAWS (RFC 7323 5.3 R1).
 * Deviates: 3.2 asks to drop a segment that lacks the agreed timestamps. It is taken (as in Linux), for there are
 * middleboxes that strip them.
 */
function timestampsAcceptable(tcb: Tcb): bool {
  if (!S.segHasTimestamps || !(tcb.flags & T.F_TIMESTAMPS)) return true;
  if (<i32>(S.segTsVal - tcb.tsRecent) >= 0 || S.segFlags & S.FLAG_RST || cameLate(tcb)) return true;
  if (nowMs - coldOf(tcb).tsRecentMs > PAWS_IDLE_MS) return true;
  count(C.DROP_TCP_PAWS);
  answerUnacceptable(tcb);
  return false;
}

/**
 * Sent a moment before what TS.Recent is from, and overtaken. Preconditions: the segment has timestamps.
 * Deviates: RFC 7323 5.3 R1 drops these. Where the path reorders, each retransmission would then cost the data that it
 * has overtaken: it fills the hole at RCV.NXT, and so moves TS.Recent (4.3). Linux lets only ACKs come late, for a
 * time-out (tcp_disordered_ack). What PAWS is for, a segment from before the sequence numbers wrapped, is as young as
 * this at 500 Gbit/s with a clock of milliseconds, at 50 with one of 10 ms; with one of a second, the slowest that 5.4
 * allows and none that is known, at half a gigabit.
 */
function cameLate(tcb: Tcb): bool {
  return tcb.tsRecent - S.segTsVal - 1 < PAWS_LATE_TICKS;
}

/** A SYN for a connection that has seen one. @returns true when the rest of the segment is to be processed. */
function synAgain(tcb: Tcb): bool {
  if (tcb.state != ST.STATE_SYN_RECEIVED || (S.segSeq + 1 != tcb.rcvNxt && !fastOpenSynAgain(tcb))) {
    // The ACK of a SYN-ACK was lost, perhaps because of its option.
    const again = (S.segFlags & S.FLAG_ACK) != 0 && (tcb.flags & T.F_ACTIVE_OPEN) != 0;
    if (again && coldOf(tcb).traits & T.TRAIT_ACCURATE_ECN) accurateHandshakeAgain(tcb);
    // RFC 5961 4.2: whatever its sequence number.
    challengeAck(tcb);
    return false;
  }
  if (S.segFlags & S.FLAG_ACK && tcb.flags & T.F_ACTIVE_OPEN) {
    // Simultaneous open (RFC 9293 3.5, figure 8): the peer's SYN-ACK. Its SYN we have; its ACK is what we wait for.
    S.segmentTrimFront(1);
    return true;
  }
  // The peer has not seen our SYN-ACK. Which one it will acknowledge cannot be told: no RTT sample (Karn).
  tcb.flags = (tcb.flags | T.F_SYN_DUE) & ~T.F_RTT_TIMING;
  outputMark(tcb);
  return false;
}

/** First check of RFC 9293 3.10.7.4; trims the segment to the window. */
function sequenceAcceptable(tcb: Tcb): bool {
  const rcvNxt = tcb.rcvNxt;
  const wnd = tcb.rcvAdv - rcvNxt;
  // The case of nearly every segment.
  if (S.segSeq == rcvNxt && S.segDataBytes <= wnd) return true;
  const end = S.segSeq + S.segLen;
  if (S.segLen == 0) {
    // Deviates: RCV.NXT + RCV.WND itself is let in too, like Linux: a peer that has filled the window ACKs from there.
    if (seqGeq(S.segSeq, rcvNxt) && seqLeq(S.segSeq, rcvNxt + wnd)) return true;
  } else if (wnd == 0) {
    // Special allowance for a closed window: the ACK and RST count, the payload does not.
    if (S.segSeq == rcvNxt) {
      S.segmentTrimBack(0);
      tcb.flags |= T.F_ACK_NOW;
      outputMark(tcb);
      count(C.DROP_TCP_OUT_OF_WINDOW);
      return true;
    }
  } else if (seqLt(S.segSeq, rcvNxt + wnd) && seqGt(end, rcvNxt)) {
    if (seqLt(S.segSeq, rcvNxt)) {
      sackDuplicate(tcb, S.segSeq, rcvNxt);
      S.segmentTrimFront(rcvNxt - S.segSeq);
    }
    if (seqGt(S.segSeq + S.segDataBytes, rcvNxt + wnd)) {
      S.segmentTrimBack(rcvNxt + wnd - S.segSeq);
      count(C.DROP_TCP_OUT_OF_WINDOW);
    }
    return true;
  }
  unacceptable(tcb);
  return false;
}

function unacceptable(tcb: Tcb): void {
  count(C.DROP_TCP_UNACCEPTABLE);
  // RFC 9293 3.10.7.4: a retransmitted FIN starts TIME-WAIT anew.
  if (tcb.state == ST.STATE_TIME_WAIT && S.segFlags & S.FLAG_FIN && S.segSeq + S.segLen == tcb.rcvNxt) {
    lingerArm(tcb, timeWaitMs);
  }
  if (S.segSeq + 1 == tcb.rcvNxt && S.segLen <= 1 && !(S.segFlags & S.FLAG_FIN)) probed(tcb);
  else answerUnacceptable(tcb);
}

/**
 * One before RCV.NXT stands a keep-alive or window probe (RFC 9293 3.8.4, 3.8.6.1), which must be answered; and every
 * ACK of a peer that does not know yet that we have taken the byte of its probe.
 * Deviates: such a segment's ACK counts. When probes cross, neither side may have anything else to tell the other.
 */
function probed(tcb: Tcb): void {
  const open = tcb.state >= ST.STATE_ESTABLISHED && tcb.state < ST.STATE_TIME_WAIT;
  if (open && S.segFlags & S.FLAG_ACK && seqGt(S.segAck, tcb.sndUna) && seqLeq(S.segAck, tcb.sndMax)) {
    if (!ackProcess(tcb) || !afterAck(tcb)) return;
  }
  if (S.segLen == 0) {
    probeAck(tcb);
  } else {
    tcb.flags |= T.F_ACK_NOW;
    outputMark(tcb);
  }
}

/**
 * An ACK with the present numbers. Data that we have seen is answered always (the peer retransmits), the rest within
 * limits.
 */
function answerUnacceptable(tcb: Tcb): void {
  const age = tcb.rcvNxt - S.segSeq;
  const seen = age != 0 && age <= (<u32>1) << coldOf(tcb).rcvLimitOrder;
  if (seen && S.segLen > 0 && !(S.segFlags & S.FLAG_SYN)) {
    if (S.segDataBytes > 0 && !seqGt(S.segSeq + S.segDataBytes, tcb.rcvNxt)) {
      sackDuplicate(tcb, S.segSeq, S.segSeq + S.segDataBytes);
    }
    tcb.flags |= T.F_ACK_NOW;
    outputMark(tcb);
  } else {
    challengePureAck(tcb);
  }
}

/** RFC 5961 3.2: only a reset at exactly RCV.NXT ends the connection; one elsewhere in the window is challenged. */
function resetInput(tcb: Tcb): void {
  if (S.segSeq != tcb.rcvNxt) {
    if (S.segSeq - tcb.rcvNxt < tcb.rcvAdv - tcb.rcvNxt) challengeAck(tcb);
    else count(C.DROP_TCP_UNACCEPTABLE);
    return;
  }
  count(C.TCP_RST_RECEIVED);
  // RFC 1337: TIME-WAIT is not assassinated.
  if (tcb.state == ST.STATE_TIME_WAIT) return;
  if (tcb.state == ST.STATE_SYN_RECEIVED && isFastOpenChild(tcb)) fastOpenOver(tcb, true);
  tcpDrop(tcb, tcb.state == ST.STATE_SYN_RECEIVED && tcb.flags & T.F_ACTIVE_OPEN ? ECONNREFUSED : ECONNRESET);
}

/** State changes that follow from our FIN being acknowledged. @returns false when the connection is gone. */
function afterAck(tcb: Tcb): bool {
  if (!(tcb.flags & T.F_FIN_QUEUED) || tcb.sndUna != tcb.sndBufEnd + 1) return true;
  switch (tcb.state) {
    case ST.STATE_FIN_WAIT_1:
      tcb.state = ST.STATE_FIN_WAIT_2;
      if (tcb.flags & T.F_APP_CLOSED) finWait2Arm(tcb);
      return true;
    case ST.STATE_CLOSING:
      enterTimeWait(tcb);
      return tcb.state == ST.STATE_TIME_WAIT;
    case ST.STATE_LAST_ACK:
      tcpDrop(tcb, 0);
      return false;
    default:
      return true;
  }
}

/** Sixth to eighth check: payload and FIN of an acceptable segment. */
function receive(tcb: Tcb): void {
  if (tcb.state >= ST.STATE_CLOSE_WAIT && tcb.state != ST.STATE_CLOSED) {
    // The peer has sent its FIN: nothing may follow. A retransmitted FIN has been answered above.
    if (tcb.state == ST.STATE_TIME_WAIT) lingerArm(tcb, timeWaitMs);
    tcb.flags |= T.F_ACK_NOW;
    outputMark(tcb);
    return;
  }
  if (S.segDataBytes > 0 && tcb.flags & T.F_APP_CLOSED) {
    // RFC 9293 3.10.4, RFC 2525 2.17: nobody will read this; the peer must know. As in Linux with its own number:
    // while our FIN is on its way SND.NXT is not what the peer believes at once (RFC 5961 3.2).
    sendResetForSegment();
    tcpDrop(tcb, ECONNRESET);
    return;
  }
  outputMark(tcb);
  if (S.segSeq == tcb.rcvNxt) receiveInOrder(tcb);
  else receiveAhead(tcb);
}

function receiveInOrder(tcb: Tcb): void {
  const bytes = S.segDataBytes;
  const before = tcb.rcvNxt;
  if (bytes > 0) {
    const end = tcb.rcvNxt + bytes;
    if (!rcvBufferFor(tcb, end)) {
      count(C.DROP_TCP_NO_BUFFER);
      return;
    }
    ringWrite(tcb.rcvBuf, tcb.rcvBufOrder, tcb.rcvNxt, S.segData, bytes);
    tcb.rcvNxt = end;
    noteData(tcb, bytes);
    // Every second segment is acknowledged at once (RFC 9293 3.8.6.3), and so is a merged burst.
    const now = (tcb.flags & (T.F_ACK_PENDING | T.F_QUICKACK)) != 0 || bytes > <u32>tcb.sndMss;
    tcb.flags |= now ? T.F_ACK_NOW | T.F_ACK_PENDING : T.F_ACK_PENDING;
  }
  let fin = (S.segFlags & S.FLAG_FIN) != 0;
  if (tcb.ext != 0) {
    if (bytes > 0) sackOverlap(tcb, before, tcb.rcvNxt);
    tcb.rcvNxt = reassemblyAdvance(tcb, tcb.rcvNxt);
    if (reassemblyFinReached(tcb)) fin = true;
    // RFC 5681 4.2: a segment that fills a hole is acknowledged at once.
    tcb.flags |= T.F_ACK_NOW;
  }
  const moved = tcb.rcvNxt != before;
  if (fin) finReceived(tcb);
  if (moved) eventPost(tcb, E.EVENT_READABLE);
}

/** For TCP_INFO. */
function noteData(tcb: Tcb, bytes: u32): void {
  const account = accountReceived(tcb);
  if (bytes > <u32>account.rcvMss) noteLargest(tcb, account, bytes);
}

function noteLargest(tcb: Tcb, account: Account, bytes: u32): void {
  // Segments that were taken together are larger: nothing to be looked up for them once it is what it can be.
  if (<u32>account.rcvMss < ownMss(tcb.localIndex)) account.rcvMss = <u16>min<u32>(bytes, announcedMss(tcb));
}

/** What came with a SYN before the handshake was over (RFC 9293 3.10.7.3) and has waited as if it had come early. */
function receiveQueued(tcb: Tcb): void {
  const before = tcb.rcvNxt;
  tcb.rcvNxt = reassemblyAdvance(tcb, before);
  const fin = reassemblyFinReached(tcb);
  if (tcb.rcvNxt == before && !fin) return;
  if (tcb.flags & T.F_APP_CLOSED) {
    // As for data that comes now: nobody will read it.
    sendResetForSegment();
    tcpDrop(tcb, ECONNRESET);
    return;
  }
  tcb.flags |= tcb.flags & T.F_QUICKACK ? T.F_ACK_NOW | T.F_ACK_PENDING : T.F_ACK_PENDING;
  outputMark(tcb);
  if (fin) finReceived(tcb);
  eventPost(tcb, E.EVENT_READABLE);
}

/** Data ahead of RCV.NXT: kept in its place; the duplicate ACK tells the peer what is missing (RFC 5681 4.2). */
function receiveAhead(tcb: Tcb): void {
  count(C.TCP_OUT_OF_ORDER);
  tcb.flags |= T.F_ACK_NOW;
  accountAhead(tcb);
  if (S.segDataBytes > 0) noteData(tcb, S.segDataBytes);
  const end = S.segSeq + S.segDataBytes;
  if (S.segDataBytes > 0) {
    if (!rcvBufferFor(tcb, end)) {
      count(C.DROP_TCP_NO_BUFFER);
      return;
    }
    if (tcb.ext != 0) sackOverlap(tcb, S.segSeq, end);
    // Entered first: where the list is full, bytes already kept must not be overwritten by this segment's.
    if (!reassemblyInsert(tcb, S.segSeq, end)) return;
    autoTuningAhead(tcb, end);
    ringWrite(tcb.rcvBuf, tcb.rcvBufOrder, S.segSeq, S.segData, S.segDataBytes);
  }
  if (S.segFlags & S.FLAG_FIN) reassemblyNoteFin(tcb, end);
}

/** The peer's FIN stands at RCV.NXT. */
function finReceived(tcb: Tcb): void {
  tcb.rcvNxt++;
  // The FIN may stand just behind the window.
  if (seqLt(tcb.rcvAdv, tcb.rcvNxt)) tcb.rcvAdv = tcb.rcvNxt;
  tcb.flags |= T.F_FIN_RECEIVED | T.F_ACK_NOW;
  if (tcb.flags & T.F_FIN_QUEUED && tcb.sndUna == tcb.sndBufEnd + 1) {
    // FIN-WAIT-2: both directions are done.
    eventPost(tcb, E.EVENT_PEER_CLOSED);
    enterTimeWait(tcb);
    return;
  }
  if (tcb.state == ST.STATE_ESTABLISHED) tcb.state = ST.STATE_CLOSE_WAIT;
  else if (tcb.state == ST.STATE_FIN_WAIT_1) tcb.state = ST.STATE_CLOSING;
  eventPost(tcb, E.EVENT_PEER_CLOSED);
}
