/**
 * Opening connections: SYNs for listeners (RFC 9293 3.10.7.2), the ACK that ends the handshake, active opens (3.10.1),
 * and a new connection in place of one in TIME-WAIT (RFC 6191).
 */
import {
  congestionDefault,
  connectionsMax,
  ephemeralPortFirst,
  ephemeralPortLast,
  nodelayDefault,
  rtoInitialUs,
  sackEnabled,
  timestamps,
} from "../config.ts";
import { groupOpened } from "../flow/groups.ts";
import { sipHash } from "../flow/hash.ts";
import { flowInsert } from "../flow/table.ts";
import { isHostV6, isLoopbackV6, isV4Mapped } from "../wire/addressKind.ts";
import { TCP_HEADER_BYTES } from "../wire/headers.ts";
import { nextHopV4, nextHopV6, sourceForV4, sourceForV6 } from "../ip/nextHop.ts";
import { addressAt, addressCount, addressFind, addressIsV6, isHostV4 } from "../ip/address.ts";
import * as C from "../../src/layout/counters.ts";
import { COOKIES_TRUSTED_MS, HEALTH_BASE, HEALTH_COOKIES_UNTIL_MS } from "../../src/layout/kernelMemory.ts";
import { STATE_SYN_RECEIVED, STATE_SYN_SENT } from "../../src/layout/option.ts";
import { EADDRINUSE, EADDRNOTAVAIL, EINVAL, ENETUNREACH, ENOBUFS } from "../../src/layout/status.ts";
import { autoTuningStart } from "../socket/autoTuning.ts";
import { optionsInherit } from "../socket/tcpOptions.ts";
import { count } from "../stats.ts";
import { nowMs, nowNs } from "../time.ts";
import { accountSynReceived } from "./account.ts";
import { addressPair, flowFind, flowHash, ipBytesOf, learnWayBack, mtuTo, remoteAt, segmentPair } from "./addresses.ts";
import { tcpDrop } from "./close.ts";
import { congestionChoose } from "./algorithm.ts";
import { congestionStart } from "./congestion.ts";
import { cookieCheck, cookieEcn, cookieIsRecent, cookieSack, cookieSeq, cookieTsVal, cookieWscale } from "./cookies.ts";
import { ecnCookieFlags, ecnFromCookie, ecnStart } from "./ecn.ts";
import { established } from "./established.ts";
import {
  FAST_OPEN_OFFER,
  FAST_OPEN_TAKE,
  fastOpenJudge,
  fastOpenOver,
  fastOpenTake,
  isFastOpenChild,
} from "./fastOpen.ts";
import {
  Listener,
  listenerAcceptAdd,
  listenerAcceptRoom,
  listenerFind,
  listenerIndex,
  listenerSynAdd,
  listenerSynDone,
  listenerSynRoom,
} from "./listener.ts";
import { announcedMss, ownMss, ownWscale, mssDefault } from "./sizes.ts";
import { emitSyn, sendResetForSegment } from "./plainOutput.ts";
import { outputMark } from "./outputQueue.ts";
import * as S from "./segment.ts";
import { seqGt, seqLeq, seqLt } from "./seq.ts";
import { settingsFind } from "./settings.ts";
import { syn, synBegin, synTimestamps } from "./syn.ts";
import * as T from "./tcb.ts";
import { Tcb, coldOf } from "./tcb.ts";
import { rtoArm } from "./timers.ts";
import { userTimeoutReceived } from "./userTimeout.ts";
import { windowOfCookie, windowRoom } from "./window.ts";
import { loadOrdered } from "../mem/ordered.ts";

/** Smaller announcements are taken for this: a few bytes per packet would be an attack on us (CVE-2019-11479). */
const MSS_MIN: u32 = 64;
/** RSTs per kernel and second for SYNs to closed ports. */
const RST_PER_SECOND: u32 = 1000;
/**
 * ISN of RFC 6528: a clock of 4 us per step plus a secret function of the connection.
 * @param pair both addresses (tcp/addresses.ts).
 */
function initialSeq(pair: u64, ports: u32): u32 {
  const f = sipHash(pair, <u64>ports);
  return <u32>f + <u32>(nowNs / 4000);
}

function localPortOf(ports: u32): u32 {
  return <u32>bswap<u16>(<u16>(ports >> 16));
}

/**
 * A connection record for the flow, entered in the table; null (counted) when a limit is reached.
 * @param remote where the 16 bytes lie. @param active F_ACTIVE_OPEN or 0.
 */
function create(remote: usize, localIndex: u32, ports: u32, hash: u32, iss: u32, active: u32): Tcb {
  const tcb = T.tcbAlloc();
  if (changetype<usize>(tcb) == 0) {
    count(C.DROP_NO_CONNECTION_SLOT);
    return tcb;
  }
  if (!flowInsert(hash, T.tcbIndex(tcb))) {
    T.tcbRetire(tcb);
    T.tcbReturn(tcb);
    count(C.DROP_NO_CONNECTION_SLOT);
    return changetype<Tcb>(0);
  }
  v128.store(remoteAt(tcb), v128.load(remote));
  tcb.ports = ports;
  tcb.hash = hash;
  tcb.localIndex = <u8>localIndex;
  tcb.flags |= T.F_IN_FLOW_TABLE | active | (nodelayDefault ? T.F_NODELAY : 0);
  groupOpened(tcb);
  const cold = coldOf(tcb);
  autoTuningStart(cold);
  congestionChoose(tcb, congestionDefault);
  setIss(tcb, iss);
  return tcb;
}

function setIss(tcb: Tcb, iss: u32): void {
  const cold = coldOf(tcb);
  cold.recover = iss;
  tcb.sndUna = iss;
  tcb.sndNxt = iss;
  tcb.sndMax = iss;
  tcb.sndBufEnd = iss + 1;
}

/** Takes the peer's ISN, MSS, window scale and timestamps from the SYN in segment.ts. */
export function startFromSyn(tcb: Tcb): void {
  const cold = coldOf(tcb);
  // By our SYN; 0: there has been none.
  const offered = tcb.rcvAdv - tcb.rcvNxt;
  tcb.rcvNxt = S.segSeq + 1;
  tcb.rcvRead = tcb.rcvNxt;
  accountSynReceived(tcb);
  tcb.rcvAdv = tcb.rcvNxt + (offered != 0 ? offered : min<u32>(windowRoom(tcb), 65535));
  cold.synOptions = <u8>S.segOptions;
  if (S.segOptions & S.SYN_OPTION_WSCALE) {
    cold.sndWscale = <u8>S.segWscale;
    cold.rcvWscale = <u8>ownWscale();
  }
  if (S.segHasTimestamps && timestamps) {
    tcb.flags |= T.F_TIMESTAMPS;
    tcb.tsRecent = S.segTsVal;
    cold.tsRecentMs = nowMs;
  }
  if (S.segOptions & S.SYN_OPTION_SACK && sackEnabled) cold.traits |= T.TRAIT_SACK;
  ecnStart(tcb);
  if (S.segOptions & S.OPTION_SEEN_USER_TIMEOUT) {
    const settings = settingsFind(T.tcbIndex(tcb));
    if (changetype<usize>(settings) != 0) userTimeoutReceived(settings);
  }
  setMss(tcb, S.segOptions & S.SYN_OPTION_MSS ? S.segMss : mssDefault(tcb.localIndex));
}

function setMss(tcb: Tcb, announced: u32): void {
  const options: u32 = tcb.flags & T.F_TIMESTAMPS ? 12 : 0;
  // What the path is known to carry counts as what the peer announces.
  const pathMss = mtuTo(remoteAt(tcb), tcb.localIndex) - ipBytesOf(tcb.localIndex) - TCP_HEADER_BYTES;
  tcb.sndMss = <u16>(min(min(max(announced, MSS_MIN), announcedMss(tcb)), pathMss) - options);
  congestionStart(tcb);
}

let resetSecond: u32 = 0;
let resetsSent: u32 = 0;

/**
 * Whether a SYN for a closed port may still be answered in this second: a scan or a flood must not make us send as much
 * as it does. Deviates: RFC 9293 3.10.7.1 answers each; FreeBSD limits them likewise (net.inet.icmp.icmplim).
 */
function closedPortReset(): bool {
  const present = nowMs / 1000;
  if (present != resetSecond) {
    resetSecond = present;
    resetsSent = 0;
  }
  if (++resetsSent <= RST_PER_SECOND) return true;
  count(C.TCP_RST_LIMITED);
  return false;
}

/** A segment for which there is no connection (RFC 9293 3.10.7.1, 3.10.7.2). */
export function listenInput(): void {
  const flags = S.segFlags;
  if (flags & S.FLAG_RST) return;
  learnWayBack();
  const listener = listenerFind(localPortOf(S.segPorts), S.segLocalIndex);
  if (changetype<usize>(listener) == 0) {
    count(C.TCP_NO_LISTENER);
    // Only SYNs are limited: the RST for anything else ends a connection whose other end has nobody any more.
    if (flags & S.FLAG_ACK || closedPortReset()) sendResetForSegment();
    return;
  }
  if (flags & S.FLAG_ACK) {
    if (!(flags & S.FLAG_SYN) && cookieInput(listener)) return;
    sendResetForSegment();
    return;
  }
  if (flags & S.FLAG_SYN) synInput(listener, initialSeq(segmentPair(), S.segPorts));
}

/** A new connection in SYN-RECEIVED, or the defined refusal. */
function synInput(listener: Listener, iss: u32): void {
  if (!listenerAcceptRoom(listener)) {
    count(C.DROP_ACCEPT_QUEUE_FULL);
    return;
  }
  // A cookie of fast open shows that the peer has its address: it needs no place in the SYN queue.
  const opening = fastOpenJudge(listener);
  if (!(opening & FAST_OPEN_TAKE) && !listenerSynRoom(listener)) {
    sendCookie(listener);
    return;
  }
  const tcb = create(S.segmentRemoteAt(), S.segLocalIndex, S.segPorts, S.segHash, iss, 0);
  if (changetype<usize>(tcb) == 0) return;
  tcb.state = STATE_SYN_RECEIVED;
  inherit(listener, tcb);
  startFromSyn(tcb);
  // A SYN's window is not scaled.
  tcb.sndWnd = S.segWndField;
  tcb.sndWl1 = S.segSeq;
  coldOf(tcb).sndWndMax = S.segWndField;
  if (opening & FAST_OPEN_OFFER) coldOf(tcb).traits |= fastOpenOfferTraits();
  if (opening & FAST_OPEN_TAKE) fastOpenTake(tcb, listener);
  else listenerSynAdd(listener, tcb);
  tcb.flags |= T.F_SYN_DUE;
  outputMark(tcb);
  count(C.TCP_PASSIVE_OPENS);
}

/** The SYN-ACK offers a cookie, in the form in which the SYN has asked. */
function fastOpenOfferTraits(): u32 {
  const experimental = (S.segOptions & S.SYN_OPTION_FAST_OPEN_EXPERIMENTAL) != 0;
  return T.TRAIT_FAST_OPEN_OFFER | (experimental ? T.TRAIT_FAST_OPEN_EXPERIMENTAL : 0);
}

/** What was set on the listener counts for its connections from their first segment on. */
function inherit(listener: Listener, tcb: Tcb): void {
  if (listener.optionMask != 0) optionsInherit(tcb, listenerIndex(listener), listener.optionMask);
}

function sendCookie(listener: Listener): void {
  listener.cookiesActive = 1;
  listener.cookieMs = nowMs;
  synBegin(S.segLocalIndex, S.segmentRemoteAt(), S.segPorts);
  syn.seq = cookieSeq();
  syn.ack = S.segSeq + 1;
  syn.flags = S.FLAG_SYN | S.FLAG_ACK;
  syn.wndField = windowOfCookie();
  syn.mss = ownMss(S.segLocalIndex);
  if (timestamps && S.segHasTimestamps) {
    // Without timestamps there is no place to remember the window scale, SACK and ECN.
    synTimestamps(cookieTsVal(), S.segTsVal);
    syn.flags |= ecnCookieFlags();
    if (S.segOptions & S.SYN_OPTION_WSCALE) syn.wscale = ownWscale();
    syn.sackPermitted = sackEnabled && (S.segOptions & S.SYN_OPTION_SACK) != 0;
  }
  // A listener's marks are its connections'; a cookie has none yet.
  count(emitSyn() ? C.SYN_COOKIES_SENT : C.DROP_SYN_QUEUE_FULL);
}

/** True while this kernel has sent cookies lately, or another may have whose connections come here now. */
function cookiesTrusted(listener: Listener): bool {
  if (listener.cookiesActive) {
    if (nowMs - listener.cookieMs <= <u32>COOKIES_TRUSTED_MS) return true;
    listener.cookiesActive = 0;
  }
  const untilMs = loadOrdered(HEALTH_BASE + HEALTH_COOKIES_UNTIL_MS);
  return untilMs != 0 && <i32>(untilMs - nowMs) >= 0;
}

/** An ACK for a listener may answer a cookie. @returns false when it does not. */
function cookieInput(listener: Listener): bool {
  if (!cookiesTrusted(listener)) return false;
  const mss = cookieCheck();
  if (mss == 0) {
    count(C.SYN_COOKIES_INVALID);
    return cookieIsRecent();
  }
  if (!listenerAcceptRoom(listener)) {
    count(C.DROP_ACCEPT_QUEUE_FULL);
    return true;
  }
  const tcb = create(S.segmentRemoteAt(), S.segLocalIndex, S.segPorts, S.segHash, S.segAck - 1, 0);
  if (changetype<usize>(tcb) == 0) return true;
  inherit(listener, tcb);
  const cold = coldOf(tcb);
  tcb.rcvNxt = S.segSeq;
  tcb.rcvRead = S.segSeq;
  tcb.rcvAdv = S.segSeq + min<u32>((<u32>1) << cold.rcvLimitOrder, windowOfCookie());
  if (timestamps && S.segHasTimestamps) {
    tcb.flags |= T.F_TIMESTAMPS;
    tcb.tsRecent = S.segTsVal;
    cold.tsRecentMs = nowMs;
    if (cookieEcn()) ecnFromCookie(tcb);
    if (sackEnabled && cookieSack()) cold.traits |= T.TRAIT_SACK;
    const wscale = cookieWscale();
    if (wscale >= 0) {
      cold.sndWscale = <u8>wscale;
      cold.rcvWscale = <u8>ownWscale();
      cold.synOptions |= <u8>S.SYN_OPTION_WSCALE;
    }
  }
  setMss(tcb, mss);
  tcb.sndNxt = S.segAck;
  tcb.sndMax = S.segAck;
  tcb.sndUna = S.segAck;
  tcb.sndWnd = S.segWndField << cold.sndWscale;
  cold.sndWndMax = tcb.sndWnd;
  tcb.sndWl1 = S.segSeq;
  established(tcb, false);
  listenerAcceptAdd(listener, tcb);
  count(C.SYN_COOKIES_ACCEPTED);
  return true;
}

/**
 * The ACK for our SYN (RFC 9293 3.10.7.4, fifth check, SYN-RECEIVED).
 * @returns false when the segment is done with: refused, or no room in the accept queue.
 */
export function handshakeAck(tcb: Tcb): bool {
  if (isFastOpenChild(tcb)) return fastOpenAck(tcb);
  const listener = tcb.flags & T.F_APP ? changetype<Listener>(0) : listenerFind(localPortOf(tcb.ports), tcb.localIndex);
  if (seqLeq(S.segAck, tcb.sndUna) || seqGt(S.segAck, tcb.sndMax)) {
    // The first copy of the SYN was answered with a cookie, and a later one found room: the peer has taken the cookie.
    const mayBeCookie = changetype<usize>(listener) != 0 && cookiesTrusted(listener);
    if (mayBeCookie && cookieCheck() != 0) {
      tcpDrop(tcb, 0);
      cookieInput(listener);
    } else if (!mayBeCookie || !cookieIsRecent()) {
      sendResetForSegment();
    }
    return false;
  }
  if (!(tcb.flags & T.F_APP)) {
    if (changetype<usize>(listener) == 0) {
      sendResetForSegment();
      tcpDrop(tcb, 0);
      return false;
    }
    if (isDeferred(listener, tcb)) {
      coldOf(tcb).ackRefused = true;
      return false;
    }
    if (!listenerAcceptRoom(listener)) {
      // The SYN-ACK will be sent again, and the peer will ACK again (as Linux does).
      count(C.DROP_ACCEPT_QUEUE_FULL);
      coldOf(tcb).ackRefused = true;
      return false;
    }
    listenerSynDone(tcb);
  }
  tcb.sndUna = S.segAck;
  tcb.sndWnd = S.segWndField << coldOf(tcb).sndWscale;
  coldOf(tcb).sndWndMax = max(coldOf(tcb).sndWndMax, tcb.sndWnd);
  tcb.sndWl1 = S.segSeq;
  established(tcb, true);
  if (changetype<usize>(listener) != 0) listenerAcceptAdd(listener, tcb);
  return true;
}

/** Likewise for a connection that its SYN has opened: what was sent meanwhile is left to ackProcess. */
function fastOpenAck(tcb: Tcb): bool {
  if (seqLt(S.segAck, tcb.sndUna) || seqGt(S.segAck, tcb.sndMax)) {
    sendResetForSegment();
    return false;
  }
  fastOpenOver(tcb, false);
  tcb.sndWnd = S.segWndField << coldOf(tcb).sndWscale;
  coldOf(tcb).sndWndMax = max(coldOf(tcb).sndWndMax, tcb.sndWnd);
  tcb.sndWl1 = S.segSeq;
  established(tcb, true);
  if (tcb.sndMax != tcb.sndUna) rtoArm(tcb);
  return true;
}

/**
 * TCP_DEFER_ACCEPT: an ACK without data is not enough while the SYN-ACK's retransmissions have not taken that long.
 * Deviates from Linux: meanwhile the SYN-ACK is sent again.
 */
function isDeferred(listener: Listener, tcb: Tcb): bool {
  if (listener.deferAcceptMs == 0 || S.segDataBytes > 0 || S.segFlags & S.FLAG_FIN) return false;
  const waitedUs = (((<u64>1) << min<u32>(tcb.backoff, 16)) - 1) * rtoInitialUs;
  return waitedUs < <u64>listener.deferAcceptMs * 1000;
}

/**
 * A SYN for a connection in TIME-WAIT (RFC 6191 2): accepted when its timestamp or its sequence number is newer.
 * @returns false when it is not; the segment then takes its ordinary way.
 */
export function timeWaitSyn(tcb: Tcb): bool {
  const listener = listenerFind(localPortOf(tcb.ports), tcb.localIndex);
  if (changetype<usize>(listener) == 0) return false;
  let newer = seqGt(S.segSeq, tcb.rcvNxt);
  if (S.segHasTimestamps && tcb.flags & T.F_TIMESTAMPS) {
    const age = <i32>(S.segTsVal - tcb.tsRecent);
    newer = age > 0 || (age == 0 && newer);
  }
  if (!newer) return false;
  if (!listenerAcceptRoom(listener)) {
    // Refused like any other; the old connection still guards its numbers.
    count(C.DROP_ACCEPT_QUEUE_FULL);
    return true;
  }
  // The new connection's numbers lie beyond anything of the old one still on its way (as in Linux).
  const iss = tcb.sndNxt + 65537;
  count(C.TCP_TIME_WAIT_REUSED);
  tcpDrop(tcb, 0);
  synInput(listener, iss);
  return true;
}

/** See KernelExports.tcpConnect. */
export function tcpConnect(addressIndex: i32, localPort: u32, remoteAddress: usize, remotePort: u32): i32 {
  if (remotePort == 0 || remotePort > 65535 || localPort > 65535) return EINVAL;
  const isV6 = !isV4Mapped(remoteAddress);
  let source = addressIndex;
  if (source < 0) source = isV6 ? sourceForV6(remoteAddress) : sourceForV4(load<u32>(remoteAddress, 12));
  if (source < 0) return ENETUNREACH;
  if (source >= <i32>addressCount || addressIsV6(source) != isV6) return EADDRNOTAVAIL;
  if (!isReachable(remoteAddress, source, isV6)) return ENETUNREACH;
  if (T.tcbCount >= connectionsMax) return ENOBUFS;
  const remoteBits = <u32>bswap<u16>(<u16>remotePort);
  let ports = remoteBits | ((<u32>bswap<u16>(<u16>localPort)) << 16);
  if (localPort == 0) ports = pickPort(remoteAddress, source, remoteBits);
  if (ports == 0) return EADDRNOTAVAIL;
  // A connection to itself has both its ends in one place: nobody means that.
  if (ports >> 16 == remoteBits && memory.compare(remoteAddress, addressAt(source), 16) == 0) return EADDRNOTAVAIL;
  const hash = flowHash(remoteAddress, source, ports);
  if (localPort != 0 && changetype<usize>(flowFind(hash, remoteAddress, source, ports)) != 0) return EADDRINUSE;
  const iss = initialSeq(addressPair(remoteAddress, source), ports);
  const tcb = create(remoteAddress, source, ports, hash, iss, T.F_ACTIVE_OPEN);
  if (changetype<usize>(tcb) == 0) return ENOBUFS;
  tcb.state = STATE_SYN_SENT;
  tcb.flags |= T.F_APP | T.F_SYN_DUE;
  coldOf(tcb).rcvWscale = 0;
  outputMark(tcb);
  count(C.TCP_ACTIVE_OPENS);
  return <i32>T.handleOf(tcb);
}

/** Is there a way, and one host at its end? TCP does not speak to groups (RFC 9293 3.9.2.3). */
function isReachable(remote: usize, source: u32, isV6: bool): bool {
  if (addressFind(remote) >= 0) return true;
  if (isV6) return isHostV6(remote) && nextHopV6(remote) != 0 && !isLoopbackV6(addressAt(source));
  const v4 = load<u32>(remote, 12);
  return nextHopV4(source, v4) != 0 && isHostV4(v4);
}

let portCounter: u32 = 0;

/**
 * An ephemeral port that is free towards this peer (RFC 6056 3.3.3, algorithm 3: a secret offset per peer, then
 * counting).
 * @returns both ports as in a segment from the peer, 0: none is free.
 */
function pickPort(remote: usize, localIndex: u32, remoteBits: u32): u32 {
  const range = ephemeralPortLast - ephemeralPortFirst + 1;
  const offset = <u32>sipHash(addressPair(remote, localIndex), ((<u64>remoteBits) << 32) | 0x706f7274);
  for (let i: u32 = 0; i < range; i++) {
    const port = ephemeralPortFirst + ((offset + portCounter) % range);
    portCounter++;
    const ports = remoteBits | ((<u32>bswap<u16>(<u16>port)) << 16);
    const hash = flowHash(remote, localIndex, ports);
    if (changetype<usize>(flowFind(hash, remote, localIndex, ports)) == 0) return ports;
  }
  return 0;
}
