/**
 * 5. Output: segments built from plain values, for which there need be no connection: SYN, SYN-ACK (also a cookie) and
 * RST.
 */
import { sackEnabled, timestamps } from "../config.ts";
import { loopSend } from "../device/loop.ts";
import { txReserve } from "../device/tx.ts";
import { flowLabel } from "../flow/hash.ts";
import { addressAt, addressIsV6, addressV4 } from "../ip/address.ts";
import { ipv4WriteHeader } from "../ip/ipv4.ts";
import { ipv6WriteHeader } from "../ip/ipv6Header.ts";
import { NEIGHBOR_OWN, neighborSend } from "../ip/neighbor.ts";
import { TCP_RETRANSMITS, TCP_RST_SENT, TCP_RST_WITHHELD, TCP_SEGMENTS_SENT } from "../../src/layout/counters.ts";
import { HEALTH_BASE, HEALTH_WITHHOLD_RST } from "../../src/layout/kernelMemory.ts";
import { STATE_SYN_SENT } from "../../src/layout/option.ts";
import { count } from "../stats.ts";
import { storeBe16, storeBe32 } from "../wire/bytes.ts";
import { checksumOf, pseudoHeaderSumV4, pseudoHeaderSumV6, sumAdd, sumBytes } from "../wire/checksum.ts";
import {
  ETHERNET_BYTES,
  IPV4_HEADER_BYTES,
  PROTOCOL_TCP,
  TCP_HEADER_BYTES,
  TIMESTAMPS_ALONE,
  TIMESTAMP_BYTES,
} from "../wire/headers.ts";
import { accountSent } from "./account.ts";
import { ipBytesOf, neighborTo, remoteAt } from "./addresses.ts";
import {
  accurateHandshakeAgain,
  accurateOf,
  accurateOffers,
  accurateEcho,
  accurateWrite,
  ACCURATE_SYN_OPTION_BYTES,
} from "./accurateEcn.ts";
import { ecnAskFlags } from "./ecn.ts";
import { fastOpenOffer, fastOpenWrite } from "./fastOpen.ts";
import { fastOpenSyn, fastOpenWaits } from "./fastOpenClient.ts";
import * as S from "./segment.ts";
import { seqLt, seqMax } from "./seq.ts";
import { settingsCount } from "./settings.ts";
import { marksApply, marksOf } from "./marks.ts";
import { syn, synBegin, synIsCrowded, synTimestamps } from "./syn.ts";
import * as T from "./tcb.ts";
import { Tcb, coldOf } from "./tcb.ts";
import { rtoArm, rttTimingStart } from "./timers.ts";
import { USER_TIMEOUT_OPTION_BYTES, userTimeoutSynWord } from "./userTimeout.ts";
import { announcedMss, ownWscale, pureSeq, timestampOf } from "./sizes.ts";
import { copyPayload } from "./emit.ts";
import { windowRoom } from "./window.ts";

/** SACK-permitted(2) TIMESTAMPS(10). */
const TIMESTAMPS_AND_SACK_PERMITTED: u32 = 0x0a080204;

/** SYN or SYN-ACK with its options. @returns false: the TX ring is full. */
export function sendSyn(tcb: Tcb): bool {
  const active = tcb.state == STATE_SYN_SENT;
  const cold = coldOf(tcb);
  if (active && fastOpenWaits(tcb)) return true;
  synBegin(tcb.localIndex, remoteAt(tcb), tcb.ports);
  // What a SYN of ours has offered stands (it has no RCV.NXT yet: startFromSyn moves the edge).
  const wnd = min<u32>(max(windowRoom(tcb), tcb.rcvAdv - tcb.rcvNxt), 65535);
  syn.seq = cold.recover;
  syn.wndField = wnd;
  syn.mss = announcedMss(tcb);
  syn.marks = marksOf(tcb);
  if (active) enterSyn(tcb);
  else enterSynAck(tcb);
  if (settingsCount != 0 && !synIsCrowded()) syn.timeoutWord = userTimeoutSynWord(tcb);
  if (!emitSyn()) return false;
  const dataBytes = syn.dataBytes;
  if (dataBytes != 0) accountSent(tcb, 1);
  tcb.flags &= ~(T.F_SYN_DUE | T.F_ACK_NOW | T.F_ACK_PENDING);
  // What a fast open child has offered behind its SYN-ACK stands.
  tcb.rcvAdv = seqMax(tcb.rcvAdv, tcb.rcvNxt + wnd);
  const synEnd = cold.recover + 1 + dataBytes;
  // A SYN-ACK that goes again has perhaps data behind it already (RFC 7413).
  if (tcb.flags & T.F_ACTIVE_OPEN || seqLt(tcb.sndNxt, synEnd)) tcb.sndNxt = synEnd;
  // A SYN-ACK that goes again for a SYN that has come again is not timed (Karn: input.ts, synAgain). A SYN of ours
  // without back-off is: it goes again where the one before has never left.
  const isTimed = tcb.backoff == 0 && (active || seqLt(tcb.sndMax, synEnd));
  if (seqLt(tcb.sndMax, synEnd)) tcb.sndMax = synEnd;
  if (isTimed) rttTimingStart(tcb, tcb.sndNxt);
  else count(TCP_RETRANSMITS);
  if (!(tcb.flags & T.F_TIMER_RTO)) rtoArm(tcb);
  return true;
}

/** What a SYN of ours offers. */
function enterSyn(tcb: Tcb): void {
  syn.dataBytes = fastOpenSyn(tcb);
  syn.dataOf = tcb;
  syn.flags = S.FLAG_SYN | ecnAskFlags(tcb.backoff);
  syn.wscale = ownWscale();
  syn.sackPermitted = sackEnabled;
  if (timestamps) synTimestamps(timestampOf(tcb), tcb.tsRecent);
}

/** What our SYN-ACK agrees to, and offers. */
function enterSynAck(tcb: Tcb): void {
  fastOpenOffer(tcb);
  syn.flags = S.FLAG_SYN | S.FLAG_ACK | synAckEcn(tcb);
  syn.ack = tcb.rcvNxt;
  if (<u32>coldOf(tcb).synOptions & S.SYN_OPTION_WSCALE) syn.wscale = ownWscale();
  syn.sackPermitted = (coldOf(tcb).traits & T.TRAIT_SACK) != 0;
  if (tcb.flags & T.F_TIMESTAMPS) synTimestamps(timestampOf(tcb), tcb.tsRecent);
}

/** Flags with which a SYN-ACK agrees to ECN, and whether its option goes with it. */
function synAckEcn(tcb: Tcb): u32 {
  const traits = coldOf(tcb).traits;
  if (!(traits & T.TRAIT_ACCURATE_ECN)) return traits & T.TRAIT_ECN ? S.FLAG_ECE : 0;
  if (tcb.backoff > 0) accurateHandshakeAgain(tcb);
  if (accurateOffers(tcb) && !synIsCrowded()) syn.accurateOf = tcb;
  // From the second repetition on nothing: the path may be what drops it (RFC 9768 3.1.4.2).
  return tcb.backoff > 1 ? 0 : accurateEcho(accurateOf(tcb).synCodepoint) << 6;
}

/** Builds and sends the segment that `syn` describes. @returns false: the TX ring is full. */
export function emitSyn(): bool {
  const accurateBytes = changetype<usize>(syn.accurateOf) == 0 ? 0 : ACCURATE_SYN_OPTION_BYTES;
  const timeoutBytes = syn.timeoutWord == 0 ? 0 : USER_TIMEOUT_OPTION_BYTES;
  const optionBytes: u32 =
    4 +
    (syn.withTimestamps ? TIMESTAMP_BYTES : syn.sackPermitted ? 4 : 0) +
    (syn.wscale >= 0 ? 4 : 0) +
    syn.fastOpenBytes +
    accurateBytes +
    timeoutBytes;
  const headerBytes = TCP_HEADER_BYTES + optionBytes;
  const tcpBytes = headerBytes + syn.dataBytes;
  const neighbor = neighborTo(syn.localIndex, syn.remote, (syn.flags & S.FLAG_ACK) != 0);
  const ipBytes = ipBytesOf(syn.localIndex);
  const frame = txReserve(ETHERNET_BYTES + ipBytes + tcpBytes);
  if (frame == 0) return false;
  const tcp = frame + ETHERNET_BYTES + ipBytes;
  writeHeader(tcp, rotl<u32>(syn.ports, 16), syn.seq, syn.ack, headerBytes, syn.flags, syn.wndField);
  const end = writeSynOptions(tcp + TCP_HEADER_BYTES, accurateBytes);
  if (syn.dataBytes != 0) copyPayload(syn.dataOf, end, syn.seq + 1, syn.dataBytes);
  sealPlain(neighbor, frame, syn.localIndex, syn.remote, tcpBytes, syn.marks);
  return true;
}

/** In Linux's order, which packs SACK-permitted and timestamps into twelve bytes. @returns where they end. */
function writeSynOptions(at: usize, accurateBytes: u32): usize {
  let option = at;
  storeBe32(option, 0x02040000 | syn.mss);
  option += 4;
  if (syn.withTimestamps) {
    store<u32>(option, syn.sackPermitted ? TIMESTAMPS_AND_SACK_PERMITTED : TIMESTAMPS_ALONE);
    storeBe32(option + 4, syn.tsVal);
    storeBe32(option + 8, syn.tsEcr);
    option += TIMESTAMP_BYTES;
  } else if (syn.sackPermitted) {
    storeBe32(option, 0x01010402);
    option += 4;
  }
  if (syn.wscale >= 0) {
    storeBe32(option, 0x01030300 | <u32>syn.wscale);
    option += 4;
  }
  if (syn.fastOpenBytes != 0) {
    fastOpenWrite(option);
    option += syn.fastOpenBytes;
  }
  if (accurateBytes != 0) {
    accurateWrite(syn.accurateOf, option, accurateBytes);
    option += accurateBytes;
  }
  if (syn.timeoutWord != 0) {
    storeBe32(option, syn.timeoutWord);
    option += USER_TIMEOUT_OPTION_BYTES;
  }
  return option;
}

function writeHeader(tcp: usize, ports: u32, seq: u32, ack: u32, headerBytes: u32, flags: u32, wndField: u32): void {
  store<u32>(tcp, ports);
  storeBe32(tcp + 4, seq);
  storeBe32(tcp + 8, ack);
  store<u16>(tcp, <u16>((headerBytes << 2) | (flags << 8) | (flags >> 8)), 12);
  storeBe16(tcp + 14, wndField);
  store<u32>(tcp, 0, 16);
}

/** Checksum and IP header of a segment of `tcpBytes` that has, perhaps, no TCB; sends it. */
function sealPlain(neighbor: i32, frame: usize, localIndex: u32, remote: usize, tcpBytes: u32, marks: u32): void {
  const isV6 = addressIsV6(localIndex);
  const packet = frame + ETHERNET_BYTES;
  const tcp = packet + ipBytesOf(localIndex);
  let pseudo: u32;
  if (isV6) {
    const local = addressAt(localIndex);
    pseudo = pseudoHeaderSumV6(local, remote, PROTOCOL_TCP, tcpBytes);
    const label = flowLabel(remote, local, rotl<u32>(load<u32>(tcp), 16));
    ipv6WriteHeader(packet, tcpBytes, PROTOCOL_TCP, local, remote, label);
  } else {
    const local = addressV4(localIndex);
    const remoteV4 = load<u32>(remote, 12);
    pseudo = pseudoHeaderSumV4(local, remoteV4, PROTOCOL_TCP, tcpBytes);
    ipv4WriteHeader(packet, IPV4_HEADER_BYTES + tcpBytes, PROTOCOL_TCP, local, remoteV4, 0);
  }
  marksApply(marks, packet, isV6);
  store<u16>(tcp, checksumOf(sumAdd(pseudo, sumBytes(tcp, tcpBytes))), 16);
  count(TCP_SEGMENTS_SENT);
  const frameBytes = <u32>(tcp - frame) + tcpBytes;
  if (neighbor >= 0) neighborSend(neighbor, frame, frameBytes);
  else if (neighbor == NEIGHBOR_OWN) loopSend(frame, frameBytes, isV6);
}

/** RST for a connection that we give up (RFC 9293 3.10.5). Best effort: lost when the TX ring is full. */
export function sendReset(tcb: Tcb): void {
  count(TCP_RST_SENT);
  const flags = S.FLAG_RST | S.FLAG_ACK;
  // Agreed timestamps go with a reset, too (RFC 7323 3.2).
  const optionBytes = tcb.flags & T.F_TIMESTAMPS ? TIMESTAMP_BYTES : 0;
  emitPlain(tcb.localIndex, remoteAt(tcb), tcb.ports, pureSeq(tcb), tcb.rcvNxt, flags, optionBytes, tcb);
}

/** RST in answer to the present segment, which belongs to no connection (RFC 9293 3.10.7.1). */
export function sendResetForSegment(): void {
  if (S.segFlags & S.FLAG_RST) return;
  // Deviates: silent for some milliseconds while flow groups change hands; the peer sends the segment again.
  if (load<u32>(HEALTH_BASE, HEALTH_WITHHOLD_RST) != 0) {
    count(TCP_RST_WITHHELD);
    return;
  }
  count(TCP_RST_SENT);
  if (S.segFlags & S.FLAG_ACK) {
    emitPlain(S.segLocalIndex, S.segmentRemoteAt(), S.segPorts, S.segAck, 0, S.FLAG_RST, 0, changetype<Tcb>(0));
  } else {
    const ack = S.segSeq + S.segLen;
    const flags = S.FLAG_RST | S.FLAG_ACK;
    emitPlain(S.segLocalIndex, S.segmentRemoteAt(), S.segPorts, 0, ack, flags, 0, changetype<Tcb>(0));
  }
}

/** @param optionBytes 0, or those of `tcb`'s timestamps. */
function emitPlain(
  localIndex: u32,
  remote: usize,
  ports: u32,
  seq: u32,
  ack: u32,
  flags: u32,
  optionBytes: u32,
  tcb: Tcb,
): void {
  const neighbor = neighborTo(localIndex, remote, true);
  const ipBytes = ipBytesOf(localIndex);
  const headerBytes = TCP_HEADER_BYTES + optionBytes;
  const frame = txReserve(ETHERNET_BYTES + ipBytes + headerBytes);
  if (frame == 0) return;
  const tcp = frame + ETHERNET_BYTES + ipBytes;
  writeHeader(tcp, rotl<u32>(ports, 16), seq, ack, headerBytes, flags, 0);
  if (optionBytes != 0) {
    store<u32>(tcp, TIMESTAMPS_ALONE, 20);
    storeBe32(tcp + 24, timestampOf(tcb));
    storeBe32(tcp + 28, tcb.tsRecent);
  }
  const marks = changetype<usize>(tcb) == 0 ? 0 : marksOf(tcb);
  sealPlain(neighbor, frame, localIndex, remote, headerBytes, marks);
}
