/**
 * SYN cookies (RFC 4987 3.6): when the SYN queue is full the SYN-ACK carries all that must be remembered, in its
 * sequence number and, where the peer sends timestamps, in the low bits of ours. Nothing is stored until the ACK comes
 * back.
 *
 * ```
 * sequence number:  24 bits of SipHash(addresses, ports, peer's ISN, period, MSS index)
 *                   | 5 bits period | 3 bits MSS index
 * timestamp value:  low 6 bits, as in Linux: 1 bit ECN | 1 bit SACK permitted | 4 bits window scale, 15: none
 * ```
 */
import { sipHash } from "../flow/hash.ts";
import { arenaAlloc } from "../mem/arena.ts";
import { nowMs } from "../time.ts";
import { timestampOffsetOfSegment, segmentPair } from "./addresses.ts";
import { ECN_OFF } from "../../src/layout/config.ts";
import { ecnAgreed } from "./ecn.ts";
import { mssDefault } from "./sizes.ts";
import { ecnMode } from "../config.ts";
import * as S from "./segment.ts";

const PERIOD_MS: u32 = 64000;
/** A cookie counts in its own period and the next. */
const PERIODS_VALID: u32 = 1;
/** Keeps cookies apart from the other uses of the same key: initial sequence numbers, ports. */
const COOKIE: u32 = 0x80000000;
/** Cookies remembered: buckets by flow hash, of so many each, u32, the latest first. */
const RECENT_BUCKETS_MASK: u32 = 1023;
const RECENT_PER_BUCKET: u32 = 4;
const RECENT_BUCKET_BYTES: u32 = RECENT_PER_BUCKET << 2;
const TS_BITS: u32 = 6;
const TS_WSCALE_MASK: u32 = 15;
const TS_SACK: u32 = 16;
const TS_ECN: u32 = 32;

/** MSS values that a cookie can express (Linux's and FreeBSD's choices are alike: common path MTUs). */
function mssOfIndex(index: u32): u32 {
  switch (index) {
    case 0:
      return 216;
    case 1:
      return 536;
    case 2:
      return 1200;
    case 3:
      return 1360;
    case 4:
      return 1400;
    case 5:
      return 1440;
    case 6:
      return 1452;
    default:
      return 1460;
  }
}

function connectionHash(period: u32, mssIndex: u32): u64 {
  return sipHash(segmentPair(), ((<u64>S.segPorts) << 32) | COOKIE | (period << 3) | mssIndex);
}

let recent: usize = 0;

export function cookiesBoot(): bool {
  recent = arenaAlloc((RECENT_BUCKETS_MASK + 1) * RECENT_BUCKET_BYTES, 64);
  return recent != 0;
}

function recentBucket(): usize {
  return recent + <usize>(S.segHash & RECENT_BUCKETS_MASK) * RECENT_BUCKET_BYTES;
}

function isRecent(cookie: u32): bool {
  const bucket = recentBucket();
  for (let at: u32 = 0; at < RECENT_BUCKET_BYTES; at += 4) if (load<u32>(bucket + at) == cookie) return true;
  return false;
}

/** The oldest of its bucket is forgotten. */
function remember(cookie: u32): void {
  // A repeated SYN has the same cookie again.
  if (isRecent(cookie)) return;
  const bucket = recentBucket();
  memory.copy(bucket + 4, bucket, RECENT_BUCKET_BYTES - 4);
  store<u32>(bucket, cookie);
}

/** The ISN goes into a hash of its own: beside the period, one could be changed to make up for the other. */
function cookieOf(irs: u32, period: u32, mssIndex: u32): u32 {
  const hash = connectionHash(period, mssIndex);
  return ((<u32>(sipHash(hash, irs) >> 40)) << 8) | ((period & 31) << 3) | mssIndex;
}

/** Sequence number of the SYN-ACK for the SYN in segment.ts. */
export function cookieSeq(): u32 {
  const mss = S.segOptions & S.SYN_OPTION_MSS ? S.segMss : mssDefault(S.segLocalIndex);
  let index: u32 = 7;
  while (index > 0 && mssOfIndex(index) > mss) index--;
  const cookie = cookieOf(S.segSeq, nowMs / PERIOD_MS, index);
  remember(cookie);
  return cookie;
}

/** Timestamp value of that SYN-ACK: never ahead of the clock. */
export function cookieTsVal(): u32 {
  const clock = nowMs + timestampOffsetOfSegment();
  const wscale = S.segOptions & S.SYN_OPTION_WSCALE ? S.segWscale : TS_WSCALE_MASK;
  const bits = wscale | (S.segOptions & S.SYN_OPTION_SACK ? TS_SACK : 0) | (ecnAgreed() ? TS_ECN : 0);
  let value = ((clock >> TS_BITS) << TS_BITS) | bits;
  if (<i32>(value - clock) > 0) value -= 1 << TS_BITS;
  return value;
}

/**
 * True when the ACK in segment.ts acknowledges a cookie that we have sent lately, whatever its own sequence number: a
 * later segment of a connection whose first one was lost or overtaken. It cannot be accepted, for nobody knows the
 * peer's ISN; but RST would end a connection whose first segment is about to come again. Only a hint: many others
 * overwrite it.
 */
export function cookieIsRecent(): bool {
  return isRecent(S.segAck - 1);
}

/** MSS that the peer announced, when the ACK in segment.ts answers one of our cookies; 0: it does not. */
export function cookieCheck(): u32 {
  const cookie = S.segAck - 1;
  const period = nowMs / PERIOD_MS;
  const age = (period - (cookie >> 3)) & 31;
  if (age > PERIODS_VALID) return 0;
  return cookieOf(S.segSeq - 1, period - age, cookie & 7) == cookie ? mssOfIndex(cookie & 7) : 0;
}

/** The peer's window scale as it came back in the timestamp echo; -1: none. */
export function cookieWscale(): i32 {
  if (!S.segHasTimestamps) return -1;
  const wscale = S.segTsEcr & TS_WSCALE_MASK;
  return wscale <= 14 ? <i32>wscale : -1;
}

/** The peer permits SACK, as it came back likewise. */
export function cookieSack(): bool {
  return S.segHasTimestamps && (S.segTsEcr & TS_SACK) != 0;
}

/** ECN was agreed on, as it came back likewise. */
export function cookieEcn(): bool {
  return S.segHasTimestamps && (S.segTsEcr & TS_ECN) != 0 && ecnMode != ECN_OFF;
}
