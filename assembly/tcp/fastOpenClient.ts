/**
 * TCP Fast Open (RFC 7413), the client's side: cookies that servers have given us, kept by pair of hosts, and what the
 * SYN brings. A path that loses SYNs with the option is left alone for a while, longer each time (RFC 7413 4.1.3,
 * "negative responses"). Each kernel learns for itself.
 *
 * ```
 * cache: SETS sets of WAYS records, chosen by the hash of both addresses; the oldest of a set makes room
 * ```
 */
import { fastOpenMode } from "../config.ts";
import { FAST_OPEN_CLIENT, FAST_OPEN_CLIENT_NO_COOKIE } from "../../src/layout/config.ts";
import * as C from "../../src/layout/counters.ts";
import { EVENT_WRITABLE } from "../../src/layout/event.ts";
import { STATE_SYN_SENT } from "../../src/layout/option.ts";
import { EINVAL, EOPNOTSUPP } from "../../src/layout/status.ts";
import {
  TCPI_FAST_OPEN_COOKIE_UNAVAILABLE,
  TCPI_FAST_OPEN_DATA_NOT_ACKED,
  TCPI_FAST_OPEN_SYN_RETRANSMITTED,
} from "../../src/layout/tcpInfo.ts";
import { arenaAlloc } from "../mem/arena.ts";
import { sndBufferRelease } from "../socket/buffers.ts";
import { count } from "../stats.ts";
import { nowMs } from "../time.ts";
import { accountDrained } from "./account.ts";
import { addressPair, ipBytesOf, mtuTo, remoteAt } from "./addresses.ts";
import { eventPost } from "./events.ts";
import { historyFastOpenFailed, historyResent } from "./history.ts";
import { mssDefault, announcedMss } from "./sizes.ts";
import { outputMark } from "./outputQueue.ts";
import * as S from "./segment.ts";
import { seqGt, seqLt } from "./seq.ts";
import { synFastOpen } from "./syn.ts";
import * as T from "./tcb.ts";
import { Tcb, coldOf } from "./tcb.ts";
import { TCP_HEADER_BYTES, TCP_OPTION_BYTES_MAX } from "../wire/headers.ts";

const SETS: u32 = 128;
const WAYS: u32 = 4;
const ENTRY_SIZE_BYTES: u32 = 64;
/** A host that refused is not asked for one, two, four, … minutes, a day at most. */
const REFUSAL_MS: u32 = 60000;
const REFUSAL_DOUBLINGS_MAX: u32 = 10;
/** One lost SYN may be chance; with the second in a row the host is left alone (as in Linux). */
const REFUSALS_CHANCE: u32 = 1;

@unmanaged
class Entry {
  /** Remote address; 0 in all of it: free. */
  remoteHigh: u64;
  remoteLow: u64;
  cookieHigh: u64;
  cookieLow: u64;
  /** Count of all writes when it was last written. */
  written: u32;
  /** Not before this, where refusals says so. */
  untilMs: u32;
  mss: u16;
  localIndex: u8;
  /** Of the cookie, 0: none. */
  cookieBytes: u8;
  refusals: u8;
  experimental: u8;
}
if (offsetof<Entry>() > ENTRY_SIZE_BYTES) ERROR("Entry does not fit its record");

let cache: usize = 0;
let writes: u32 = 0;

export function fastOpenBoot(): bool {
  cache = arenaAlloc(SETS * WAYS * ENTRY_SIZE_BYTES, 64);
  return cache != 0;
}

/** See KernelExports.fastOpenForget. */
export function fastOpenForget(): void {
  memory.fill(cache, 0, SETS * WAYS * ENTRY_SIZE_BYTES);
}

function setOf(remote: usize, localIndex: u32): usize {
  const pair = addressPair(remote, localIndex) * 0x9fb21c651e98df25;
  return cache + <usize>(pair >> 57) * WAYS * ENTRY_SIZE_BYTES;
}

/** What is known of this host, or null. */
function find(remote: usize, localIndex: u32): Entry {
  const set = setOf(remote, localIndex);
  for (let way: u32 = 0; way < WAYS; way++) {
    const entry = changetype<Entry>(set + way * ENTRY_SIZE_BYTES);
    if (<u32>entry.localIndex != localIndex || entry.remoteHigh != load<u64>(remote)) continue;
    if (entry.remoteLow == load<u64>(remote, 8)) return entry;
  }
  return changetype<Entry>(0);
}

/** Likewise, made when nothing is. */
function ensure(remote: usize, localIndex: u32): Entry {
  const found = find(remote, localIndex);
  if (changetype<usize>(found) != 0) return found;
  const set = setOf(remote, localIndex);
  let oldest = changetype<Entry>(set);
  for (let way: u32 = 0; way < WAYS; way++) {
    const entry = changetype<Entry>(set + way * ENTRY_SIZE_BYTES);
    if ((entry.remoteHigh | entry.remoteLow) == 0) {
      oldest = entry;
      break;
    }
    if (<i32>(entry.written - oldest.written) < 0) oldest = entry;
  }
  memory.fill(changetype<usize>(oldest), 0, ENTRY_SIZE_BYTES);
  oldest.remoteHigh = load<u64>(remote);
  oldest.remoteLow = load<u64>(remote, 8);
  oldest.localIndex = <u8>localIndex;
  return oldest;
}

function mayAsk(entry: Entry): bool {
  return changetype<usize>(entry) == 0 || entry.refusals <= REFUSALS_CHANCE || <i32>(nowMs - entry.untilMs) >= 0;
}

function hasCookie(entry: Entry): bool {
  return changetype<usize>(entry) != 0 && entry.cookieBytes != 0;
}

/** Bytes of data that may go in the SYN to this host; 0: none may. */
function synRoom(tcb: Tcb, entry: Entry): u32 {
  if (!mayAsk(entry) || (!hasCookie(entry) && !(fastOpenMode & FAST_OPEN_CLIENT_NO_COOKIE))) return 0;
  const remote = remoteAt(tcb);
  let mss = min(announcedMss(tcb), mtuTo(remote, tcb.localIndex) - ipBytesOf(tcb.localIndex) - TCP_HEADER_BYTES);
  // The server's last one (RFC 7413 4.1.3.1).
  if (changetype<usize>(entry) != 0 && entry.mss != 0) mss = min<u32>(mss, entry.mss);
  return mss - TCP_OPTION_BYTES_MAX;
}

/**
 * OPTION_FAST_OPEN_CONNECT.
 * @returns how many of the first bytes will go with the SYN; 0: it asks for a cookie at most; EINVAL once the SYN has
 * left, EOPNOTSUPP where the configuration forbids it.
 */
export function fastOpenAsk(tcb: Tcb, value: u32): i32 {
  const cold = coldOf(tcb);
  if (tcb.state != STATE_SYN_SENT || tcb.sndMax != cold.recover) return EINVAL;
  cold.traits &= ~(T.TRAIT_FAST_OPEN_ASK | T.TRAIT_FAST_OPEN_WAIT);
  if (value == 0) return 0;
  if (!(fastOpenMode & FAST_OPEN_CLIENT)) return EOPNOTSUPP;
  cold.traits |= T.TRAIT_FAST_OPEN_ASK;
  outputMark(tcb);
  const room = synRoom(tcb, find(remoteAt(tcb), tcb.localIndex));
  if (room == 0) return 0;
  if (value == 1) {
    // As in Linux, where connect() is over at once then.
    cold.traits |= T.TRAIT_FAST_OPEN_WAIT;
    eventPost(tcb, EVENT_WRITABLE);
  }
  return <i32>room;
}

/** True while the SYN waits for the first bytes. */
export function fastOpenWaits(tcb: Tcb): bool {
  const cold = coldOf(tcb);
  if (!(cold.traits & T.TRAIT_FAST_OPEN_WAIT)) return false;
  return tcb.sndBufEnd == cold.recover + 1 && !(tcb.flags & T.F_FIN_QUEUED);
}

/**
 * What the SYN about to be built brings: sets the option.
 * @returns bytes of data to go with it.
 */
export function fastOpenSyn(tcb: Tcb): u32 {
  const cold = coldOf(tcb);
  // A SYN that is sent again is a plain one: the option, or the data, may be what was dropped (RFC 7413 4.2.1).
  if (!(cold.traits & T.TRAIT_FAST_OPEN_ASK) || tcb.backoff != 0) return 0;
  const entry = find(remoteAt(tcb), tcb.localIndex);
  if (!mayAsk(entry)) return 0;
  // As in Linux: where none is needed, none is shown.
  const needsCookie = !(fastOpenMode & FAST_OPEN_CLIENT_NO_COOKIE);
  if (needsCookie && hasCookie(entry)) {
    const cookie = changetype<usize>(entry) + offsetof<Entry>("cookieHigh");
    synFastOpen(cookie, entry.cookieBytes, entry.experimental != 0);
  } else if (needsCookie) {
    synFastOpen(0, 0, false);
    historyFastOpenFailed(tcb, TCPI_FAST_OPEN_COOKIE_UNAVAILABLE);
    return 0;
  }
  return min(tcb.sndBufEnd - (cold.recover + 1), synRoom(tcb, entry));
}

/** The SYN-ACK in segment.ts answers a SYN of ours that asked. SND.MAX is still that of the SYN. */
export function fastOpenAnswered(tcb: Tcb): void {
  const cold = coldOf(tcb);
  const first = cold.recover + 1;
  const taken = S.segAck - first;
  const isMalformed = (S.segOptions & S.SYN_OPTION_FAST_OPEN_MALFORMED) != 0;
  const gaveCookie = (S.segOptions & S.SYN_OPTION_FAST_OPEN) != 0 && S.segCookieBytes != 0;
  if (gaveCookie && !(fastOpenMode & FAST_OPEN_CLIENT_NO_COOKIE)) {
    remember(tcb);
  } else if (!gaveCookie && taken == 0 && (isMalformed || tcb.backoff != 0 || seqGt(tcb.sndMax, first))) {
    // The SYN with the option, or with data, did not get through, and this one did; or the data was not taken
    // (RFC 7413 4.1.3.1). Where a cookie comes that can be none, something on the path spoils them: that is no chance.
    refused(tcb, isMalformed);
  }
  const entry = find(remoteAt(tcb), tcb.localIndex);
  if (changetype<usize>(entry) != 0) rememberMss(entry, tcb);
  if (taken > 0) {
    cold.traits |= T.TRAIT_SYN_DATA;
    count(C.TCP_FAST_OPEN_ACTIVE);
    if (changetype<usize>(entry) != 0) entry.refusals = 0;
    else rememberMss(ensure(remoteAt(tcb), tcb.localIndex), tcb);
  }
  if (seqLt(S.segAck, tcb.sndMax)) {
    // What was not taken has not been sent: it goes again with the handshake's end.
    count(C.TCP_FAST_OPEN_ACTIVE_FAILED);
    historyResent(tcb, tcb.sndMax - S.segAck);
    historyFastOpenFailed(tcb, tcb.backoff != 0 ? TCPI_FAST_OPEN_SYN_RETRANSMITTED : TCPI_FAST_OPEN_DATA_NOT_ACKED);
    tcb.sndMax = S.segAck;
  }
  tcb.sndNxt = S.segAck;
  if (seqGt(tcb.sndBufEnd, S.segAck)) return;
  tcb.sndUna = S.segAck;
  if (tcb.sndBuf != 0) accountDrained(tcb);
  sndBufferRelease(tcb);
}

function remember(tcb: Tcb): void {
  const entry = ensure(remoteAt(tcb), tcb.localIndex);
  memory.copy(changetype<usize>(entry) + offsetof<Entry>("cookieHigh"), S.segCookie, S.segCookieBytes);
  entry.cookieBytes = <u8>S.segCookieBytes;
  entry.experimental = S.segOptions & S.SYN_OPTION_FAST_OPEN_EXPERIMENTAL ? 1 : 0;
  entry.written = ++writes;
  entry.refusals = 0;
}

function rememberMss(entry: Entry, tcb: Tcb): void {
  entry.mss = <u16>max<u32>(S.segOptions & S.SYN_OPTION_MSS ? S.segMss : mssDefault(tcb.localIndex), 536);
}

/** @param isCertain it needs no second time. */
function refused(tcb: Tcb, isCertain: bool): void {
  const entry = ensure(remoteAt(tcb), tcb.localIndex);
  if (isCertain) entry.refusals = <u8>max<u32>(entry.refusals, REFUSALS_CHANCE);
  entry.untilMs = nowMs + (REFUSAL_MS << min<u32>(entry.refusals, REFUSAL_DOUBLINGS_MAX));
  if (entry.refusals < 255) entry.refusals++;
  entry.written = ++writes;
  count(C.TCP_FAST_OPEN_REFUSALS_NOTED);
}
