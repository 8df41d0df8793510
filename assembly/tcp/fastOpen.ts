/**
 * TCP Fast Open (RFC 7413), the server's side: a SYN that brings a cookie we have given its sender opens a connection
 * at once, with the data in it. A cookie is SipHash-2-4 of both addresses, as in Linux, so hosts that are given the
 * same key (CONFIG_FAST_OPEN_KEYS) take each other's; without one the key is drawn from the stack's seed, which all
 * kernels share, and changes every six hours; the one before is still taken, and replaced.
 *
 * The cookie shows that the peer has its address. Nothing protects from a SYN that comes twice: the application must
 * bear to see a request again (RFC 7413 2.1), which is why each listener has to ask for it (OPTION_FAST_OPEN).
 */
import { fastOpenKeyWord, fastOpenMode } from "../config.ts";
import { sipHash, sipHashWords } from "../flow/hash.ts";
import { addressAt, addressIsV6, addressV4 } from "../ip/address.ts";
import { FAST_OPEN_SERVER, FAST_OPEN_SERVER_NO_COOKIE } from "../../src/layout/config.ts";
import * as C from "../../src/layout/counters.ts";
import { EVENT_READABLE } from "../../src/layout/event.ts";
import { ringWrite, rcvBufferFor } from "../socket/buffers.ts";
import { count } from "../stats.ts";
import { nowMs } from "../time.ts";
import { accountReceived } from "./account.ts";
import { remoteAt } from "./addresses.ts";
import { eventPost } from "./events.ts";
import { Listener, listenerAcceptAdd, listenerFind } from "./listener.ts";
import * as S from "./segment.ts";
import { syn, synFastOpen } from "./syn.ts";
import * as T from "./tcb.ts";
import { Tcb, coldOf } from "./tcb.ts";

/** Length of the cookies that we give out. */
const FAST_OPEN_COOKIE_BYTES: u32 = 8;
const ROTATION_MS: u32 = 6 * 3600 * 1000;
/** Keeps these keys apart from what else is drawn from the stack's seed. */
const KEY_LABEL: u64 = 0x66617374206f706e;
/** A connection reset before its handshake was over counts on for so long (RFC 7413 5.1). */
const RESET_MS: u32 = 60000;

/** What fastOpenJudge says: bits. */
export const FAST_OPEN_TAKE: u32 = 1;
export const FAST_OPEN_OFFER: u32 = 2;

const addresses: usize = memory.data(32, 8);

/** The cookie of this pair of hosts. @param age 0: by the present key, 1: by the one before. */
export function fastOpenCookie(remote: usize, localIndex: u32, age: u32): u64 {
  let k0 = keyWord(age << 2) | (keyWord((age << 2) + 1) << 32);
  let k1 = keyWord((age << 2) + 2) | (keyWord((age << 2) + 3) << 32);
  if ((keyWord(0) | keyWord(1) | keyWord(2) | keyWord(3)) == 0) {
    const period = <u64>(nowMs / ROTATION_MS - age);
    k0 = sipHash(KEY_LABEL, period << 1);
    k1 = sipHash(KEY_LABEL, (period << 1) | 1);
  }
  if (!addressIsV6(localIndex)) {
    store<u64>(addresses, <u64>load<u32>(remote, 12) | ((<u64>addressV4(localIndex)) << 32));
    return sipHashWords(k0, k1, addresses, 1);
  }
  v128.store(addresses, v128.load(remote));
  v128.store(addresses + 16, v128.load(addressAt(localIndex)));
  return sipHashWords(k0, k1, addresses, 4);
}

function keyWord(index: u32): u64 {
  return <u64>fastOpenKeyWord(index);
}

/** True when there is a second key: rotation always has one, a given set may have. */
function hasEarlierKey(): bool {
  const given = (keyWord(0) | keyWord(1) | keyWord(2) | keyWord(3)) != 0;
  return !given || (keyWord(4) | keyWord(5) | keyWord(6) | keyWord(7)) != 0;
}

/** What to do with the SYN in segment.ts: FAST_OPEN_* bits, 0: an ordinary handshake. */
export function fastOpenJudge(listener: Listener): u32 {
  const asked = (S.segOptions & S.SYN_OPTION_FAST_OPEN) != 0;
  const free = S.segDataBytes > 0 && (fastOpenMode & FAST_OPEN_SERVER_NO_COOKIE) != 0;
  if (!(asked || free) || !(fastOpenMode & FAST_OPEN_SERVER) || listener.fastOpenMax == 0) return 0;
  if (!hasRoom(listener)) {
    count(C.TCP_FAST_OPEN_OVERFLOW);
    return 0;
  }
  if (free) return FAST_OPEN_TAKE;
  if (S.segCookieBytes == FAST_OPEN_COOKIE_BYTES) {
    const given = load<u64>(S.segCookie);
    const remote = S.segmentRemoteAt();
    if (given == fastOpenCookie(remote, S.segLocalIndex, 0)) return FAST_OPEN_TAKE;
    if (hasEarlierKey() && given == fastOpenCookie(remote, S.segLocalIndex, 1)) return FAST_OPEN_TAKE | FAST_OPEN_OFFER;
  }
  if (S.segCookieBytes != 0) count(C.TCP_FAST_OPEN_PASSIVE_FAILED);
  return FAST_OPEN_OFFER;
}

/** RFC 7413 5.1: a limit on connections whose peer may not be there, those that it has reset lately among them. */
function hasRoom(listener: Listener): bool {
  if (listener.fastOpenCount < listener.fastOpenMax) return true;
  if (listener.fastOpenResets == 0 || nowMs - listener.fastOpenResetMs < RESET_MS) return false;
  listener.fastOpenCount -= listener.fastOpenResets;
  listener.fastOpenResets = 0;
  return listener.fastOpenCount < listener.fastOpenMax;
}

/**
 * The new connection in SYN-RECEIVED is open: its data can be read, answers can be sent. The SYN stands in segment.ts.
 * SND.UNA counts our SYN as acknowledged, so that what is sent before the handshake ends is like any other data.
 */
export function fastOpenTake(tcb: Tcb, listener: Listener): void {
  const cold = coldOf(tcb);
  cold.traits |= T.TRAIT_FAST_OPEN_CHILD;
  tcb.sndUna = cold.recover + 1;
  listener.fastOpenCount++;
  count(C.TCP_FAST_OPEN_PASSIVE);
  S.segmentTrimFront(1);
  // A FIN comes again once the connection is open; so does what does not fit.
  S.segmentTrimBack(min<u32>(S.segDataBytes, tcb.rcvAdv - tcb.rcvNxt));
  const bytes = S.segDataBytes;
  if (bytes > 0 && rcvBufferFor(tcb, tcb.rcvNxt + bytes)) {
    ringWrite(tcb.rcvBuf, tcb.rcvBufOrder, tcb.rcvNxt, S.segData, bytes);
    tcb.rcvNxt += bytes;
    accountReceived(tcb);
    cold.traits |= T.TRAIT_SYN_DATA;
    eventPost(tcb, EVENT_READABLE);
  }
  listenerAcceptAdd(listener, tcb);
}

/** Opened by a SYN, and nobody knows yet whether the peer is there. */
export function isFastOpenChild(tcb: Tcb): bool {
  return (coldOf(tcb).traits & T.TRAIT_FAST_OPEN_CHILD) != 0;
}

/** True for a copy of the SYN that has opened it: its first data byte is no longer the next one that is expected. */
export function fastOpenSynAgain(tcb: Tcb): bool {
  return isFastOpenChild(tcb) && tcb.rcvNxt - (S.segSeq + 1) <= 65535;
}

function listenerOf(tcb: Tcb): Listener {
  return listenerFind(<u32>bswap<u16>(<u16>(tcb.ports >> 16)), tcb.localIndex);
}

/** The handshake of such a connection is over, or the connection is. @param byReset the peer has reset it. */
export function fastOpenOver(tcb: Tcb, byReset: bool): void {
  coldOf(tcb).traits &= ~T.TRAIT_FAST_OPEN_CHILD;
  const listener = listenerOf(tcb);
  // Another may listen there by now.
  if (changetype<usize>(listener) == 0 || listener.fastOpenCount <= listener.fastOpenResets) return;
  if (byReset) {
    listener.fastOpenResets++;
    listener.fastOpenResetMs = nowMs;
  } else {
    listener.fastOpenCount--;
  }
}

/** It has come from another kernel (migration.ts). */
export function fastOpenArrived(tcb: Tcb): void {
  const listener = listenerOf(tcb);
  if (changetype<usize>(listener) != 0) listener.fastOpenCount++;
}

/** Writes the option that `syn` has, NOPs behind it. */
export function fastOpenWrite(at: usize): void {
  const headBytes: u32 = syn.cookieIsExperimental ? 4 : 2;
  const end = headBytes + syn.cookieBytes;
  store<u8>(at, syn.cookieIsExperimental ? 254 : 34);
  store<u8>(at, <u8>end, 1);
  if (syn.cookieIsExperimental) store<u16>(at, bswap<u16>(<u16>S.FAST_OPEN_MAGIC), 2);
  if (syn.cookieBytes != 0) memory.copy(at + headBytes, syn.cookie, syn.cookieBytes);
  for (let i = end; i < syn.fastOpenBytes; i++) store<u8>(at + i, 1);
}

const offered: usize = memory.data(8, 8);

/** The cookie for the SYN-ACK, where the connection's SYN has asked for one. */
export function fastOpenOffer(tcb: Tcb): void {
  const traits = coldOf(tcb).traits;
  if (!(traits & T.TRAIT_FAST_OPEN_OFFER)) return;
  store<u64>(offered, fastOpenCookie(remoteAt(tcb), tcb.localIndex, 0));
  synFastOpen(offered, FAST_OPEN_COOKIE_BYTES, (traits & T.TRAIT_FAST_OPEN_EXPERIMENTAL) != 0);
  count(C.TCP_FAST_OPEN_COOKIES_SENT);
}
