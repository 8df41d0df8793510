/**
 * What only TCP_INFO asks for (info.ts): bytes in both directions as Linux counts them, in 64 bits, and when data moved
 * last. Records lie in an array of their own, and a connection's is made with its first byte of data: one that has only
 * been opened touches no page for it.
 *
 * Bytes acknowledged and received are not added up per segment. A record has two marks in the sequence spaces, up to
 * which it has counted; the distance to SND.UNA and RCV.NXT is added when somebody asks, and before it could come near
 * 2^32: receiving when it is a quarter of that, sending whenever SND.UNA enters the other half of its space, which
 * takes no look at the record to see.
 */
import { connectionsMax } from "../config.ts";
import { STATE_ESTABLISHED } from "../../src/layout/option.ts";
import { arenaAlloc } from "../mem/arena.ts";
import { clearBytes } from "../mem/copy.ts";
import { nowTick } from "../time.ts";
import { TRAIT_ACCOUNT, Tcb, coldOf, tcbIndex } from "./tcb.ts";

/** Bytes received after which they are counted at the latest. */
const UNCOUNTED_BYTES_MAX: u32 = 1 << 30;

@unmanaged
export class Account {
  // Bytes: acknowledged by the peer and received in order (up to the marks, FINs among them).
  acked: u64;
  received: u64;
  /** How long anything was unacknowledged, in ticks; and since when something is. */
  busyTicks: u64;
  /** The marks. */
  ackedSeq: u32;
  receivedSeq: u32;
  /** When data came last, and was sent last. */
  lastReceivedTick: u32;
  lastSentTick: u32;
  /** Segments with data, as the device brings them; those that it will cut up count as what they are cut into. */
  segmentsIn: u32;
  segmentsOut: u32;
  /** The least of the flight blocks that were given back; 0: none. */
  minRttUs: u32;
  busyTick: u32;
  /** Largest segment of the peer, an estimate; 0: none yet. */
  rcvMss: u16;
  /** Segments that came ahead of a gap; stays at 65535. */
  aheadSegments: u16;
}

export const ACCOUNT_SIZE_BYTES: u32 = 64;
if (offsetof<Account>() > ACCOUNT_SIZE_BYTES) ERROR("Account does not fit its record");

let records: usize = 0;

export function accountBoot(): bool {
  records = arenaAlloc(<usize>connectionsMax * ACCOUNT_SIZE_BYTES, 64);
  return records != 0;
}

/** A flight block goes, and with it its shortest round trip. */
export function accountMinRtt(tcb: Tcb, rttUs: u32): void {
  const account = accountOf(tcb);
  if (account.minRttUs == 0 || rttUs < account.minRttUs) account.minRttUs = rttUs;
}

/** The connection's record. Preconditions to what is in it: hasAccount. */
export function accountOf(tcb: Tcb): Account {
  return changetype<Account>(records + <usize>tcbIndex(tcb) * ACCOUNT_SIZE_BYTES);
}

export function hasAccount(tcb: Tcb): bool {
  return (coldOf(tcb).traits & TRAIT_ACCOUNT) != 0;
}

/** Likewise, made if need be. To be called before the first byte is queued, and before the first one is read. */
export function accountEnsure(tcb: Tcb): Account {
  const account = accountOf(tcb);
  if (!hasAccount(tcb)) start(tcb, account);
  return account;
}

function start(tcb: Tcb, account: Account): void {
  coldOf(tcb).traits |= TRAIT_ACCOUNT;
  clearBytes(changetype<usize>(account), ACCOUNT_SIZE_BYTES);
  // Nothing has been queued or read: both stand at the first byte, behind the SYNs.
  account.ackedSeq = tcb.sndBufEnd;
  account.receivedSeq = tcb.rcvRead;
  account.lastReceivedTick = nowTick;
  account.lastSentTick = nowTick;
  account.busyTick = nowTick;
}

/** The peer's SYN has told where its bytes begin: RCV.NXT. What was queued before has begun the record (RFC 7413). */
export function accountSynReceived(tcb: Tcb): void {
  if (hasAccount(tcb)) accountOf(tcb).receivedSeq = tcb.rcvNxt;
}

/** Bytes are about to be queued. Preconditions: hasAccount. */
export function accountQueue(tcb: Tcb): void {
  // Before the handshake SND.UNA may be our SYN's.
  const before = <u32>(tcb.state < STATE_ESTABLISHED);
  if (tcb.sndBufEnd - tcb.sndUna <= before) accountOf(tcb).busyTick = nowTick;
}

/** All that was queued has been acknowledged. */
export function accountDrained(tcb: Tcb): void {
  const account = accountOf(tcb);
  account.busyTicks += nowTick - account.busyTick;
}

/** Data leaves in so many segments. Bytes that have left before are told to historyResent. */
export function accountSent(tcb: Tcb, segments: u32): void {
  const account = accountOf(tcb);
  account.segmentsOut += segments;
  account.lastSentTick = nowTick;
}

/** A segment has brought data. */
export function accountReceived(tcb: Tcb): Account {
  const account = accountOf(tcb);
  // Once in a connection's life: what every segment does stands here, without another call.
  if (!hasAccount(tcb)) start(tcb, account);
  account.lastReceivedTick = nowTick;
  account.segmentsIn++;
  if (tcb.rcvNxt - account.receivedSeq >= UNCOUNTED_BYTES_MAX) countReceived(tcb, account);
  return account;
}

/** A segment has come ahead of a gap. */
export function accountAhead(tcb: Tcb): void {
  const account = accountEnsure(tcb);
  if (account.aheadSegments < 0xffff) account.aheadSegments++;
}

/** SND.UNA has moved from `una`. */
export function accountAcked(tcb: Tcb, una: u32): void {
  if (<i32>(una ^ tcb.sndUna) < 0 && hasAccount(tcb)) countAcked(tcb, accountOf(tcb));
}

/** Brings both sums up to now. Preconditions: hasAccount. */
export function accountCount(tcb: Tcb): Account {
  const account = accountOf(tcb);
  countAcked(tcb, account);
  countReceived(tcb, account);
  return account;
}

function countAcked(tcb: Tcb, account: Account): void {
  // Our SYN, which comes before the first byte, is not acknowledged yet.
  if (tcb.sndUna + 1 == account.ackedSeq) return;
  account.acked += tcb.sndUna - account.ackedSeq;
  account.ackedSeq = tcb.sndUna;
}

function countReceived(tcb: Tcb, account: Account): void {
  account.received += tcb.rcvNxt - account.receivedSeq;
  account.receivedSeq = tcb.rcvNxt;
}
