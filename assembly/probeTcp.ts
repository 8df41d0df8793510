/** Test and benchmark entry for the parts of TCP: what no product module exports. Never shipped. */
import { configLoad, connectionsMax, memoryBytes } from "./config.ts";
import { flowHashV4, hashBoot, sipHash } from "./flow/hash.ts";
import { flowCandidate, flowFindV4, flowInsert, flowRemove, flowTableBoot, flowTouch } from "./flow/table.ts";
import { arenaAlloc, arenaBoot } from "./mem/arena.ts";
import { streamAlloc, streamFree, streamFreeBytes, streamOrderFor, streamPoolBoot } from "./mem/streamPool.ts";
import { STATE_ESTABLISHED } from "../src/layout/option.ts";
import { readyBoot, readyCount, readyShift } from "./socket/ready.ts";
import { setNow } from "./time.ts";
import { accountAcked, accountBoot, accountCount, accountEnsure, accountReceived } from "./tcp/account.ts";
import { cookieCheck, cookieIsRecent, cookieSeq, cookieTsVal, cookieWscale, cookiesBoot } from "./tcp/cookies.ts";
import { congestionStart } from "./tcp/congestion.ts";
import { historyBoot } from "./tcp/history.ts";
import { tcpInput } from "./tcp/input.ts";
import { outputCount, outputQueueBoot, outputShift } from "./tcp/outputQueue.ts";
import {
  reassemblyAdvance,
  reassemblyFinReached,
  reassemblyHolds,
  reassemblyInsert,
  reassemblyNoteFin,
  reassemblyRelease,
} from "./tcp/reassembly.ts";
import { segmentParse, segmentPlace } from "./tcp/segment.ts";
import { seqGeq, seqGt, seqLeq, seqLt, seqMax, seqMin } from "./tcp/seq.ts";
import { F_APP, F_IN_FLOW_TABLE, Tcb, coldOf, tcbAlloc, tcbAt, tcbBoot, tcbIndex } from "./tcp/tcb.ts";
import { rtoUs, rttSample } from "./tcp/timers.ts";
import { wheelArm, wheelBoot, wheelNextTick, wheelRemove, wheelTake } from "./tcp/wheel.ts";
import { storeBe16, storeBe32 } from "./wire/bytes.ts";
import { V4_MAPPED } from "./wire/headers.ts";

const HEADER_BYTES: u32 = 20;
const FLAG_ACK: u32 = 16;

/** @param tick where the timer wheel begins. @returns false when the arena is too small for the configuration. */
export function boot(streamPoolBytes: u32, tick: u32): bool {
  configLoad();
  arenaBoot(memoryBytes);
  hashBoot();
  return (
    readyBoot(connectionsMax) &&
    outputQueueBoot() &&
    tcbBoot() &&
    flowTableBoot() &&
    accountBoot() &&
    historyBoot() &&
    wheelBoot(tick) &&
    cookiesBoot() &&
    streamPoolBoot(streamPoolBytes)
  );
}

export function setNowNs(nowNs: f64): void {
  setNow(<u64>nowNs);
}

/** A fresh TCB in ESTABLISHED, in the flow table when it has room. @returns its index, -1: none. */
export function connectionCreate(remote: u32, local: u32, ports: u32): i32 {
  const tcb = tcbAlloc();
  if (changetype<usize>(tcb) == 0) return -1;
  tcb.remoteMid = V4_MAPPED;
  tcb.remoteV4 = remote;
  tcb.ports = ports;
  tcb.hash = flowHashV4(remote, local, ports);
  tcb.state = STATE_ESTABLISHED;
  tcb.sndMss = 1460;
  congestionStart(tcb);
  const cold = coldOf(tcb);
  cold.rcvLimitOrder = 16;
  cold.sndLimitOrder = 16;
  tcb.flags |= F_APP;
  if (!flowInsert(tcb.hash, tcbIndex(tcb))) return -1;
  tcb.flags |= F_IN_FLOW_TABLE;
  return <i32>tcbIndex(tcb);
}

/** @returns index of the connection or -1. */
export function flowFind(remote: u32, local: u32, ports: u32): i32 {
  const tcb = flowFindV4(flowHashV4(remote, local, ports), remote, 0, ports);
  return changetype<usize>(tcb) == 0 ? -1 : <i32>tcbIndex(tcb);
}

export function armTimer(index: u32, tick: u32): void {
  wheelArm(tcbAt(index), tick);
}

export function removeTimer(index: u32): void {
  wheelRemove(tcbAt(index));
}

/** @returns index of a due connection, -1: none (any more). */
export function takeTimer(tick: u32): i32 {
  const tcb = wheelTake(tick);
  return changetype<usize>(tcb) == 0 ? -1 : <i32>tcbIndex(tcb);
}

/** Ticks until something may be due; -1: nothing is linked. */
export function nextTimer(tick: u32): f64 {
  return <f64>wheelNextTick(tick);
}

export function rangeInsert(index: u32, start: u32, end: u32): bool {
  return reassemblyInsert(tcbAt(index), start, end);
}

/** Receives in order up to `rcvNxt`. @returns RCV.NXT after what had come ahead. */
export function rangeAdvance(index: u32, rcvNxt: u32): u32 {
  const tcb = tcbAt(index);
  tcb.rcvNxt = tcb.ext == 0 ? rcvNxt : reassemblyAdvance(tcb, rcvNxt);
  return tcb.rcvNxt;
}

export function rangeNoteFin(index: u32, finSeq: u32): void {
  reassemblyNoteFin(tcbAt(index), finSeq);
}

/** True when the peer's FIN stands at RCV.NXT. */
export function rangeFinReached(index: u32): bool {
  const tcb = tcbAt(index);
  return tcb.ext != 0 && reassemblyFinReached(tcb);
}

/** True while ranges or a FIN are remembered. */
export function rangeHolds(index: u32): bool {
  return reassemblyHolds(tcbAt(index));
}

export function rangeRelease(index: u32): void {
  reassemblyRelease(tcbAt(index));
}

export function rttEnter(index: u32, us: u32): void {
  rttSample(tcbAt(index), us);
}

export function rtoOf(index: u32, backoff: u32): u32 {
  const tcb = tcbAt(index);
  tcb.backoff = <u8>backoff;
  return rtoUs(tcb);
}

/** Makes the TCP segment at `header` the present one. @returns false: malformed. */
export function placeSegment(header: usize, segmentBytes: u32, remote: u32, local: u32): bool {
  segmentPlace(0, 0, header, remote, local, 0, flowHashV4(remote, local, load<u32>(header)), 0);
  return segmentParse(segmentBytes);
}

// Benchmarks.

/** Looks up `count` of the flows 0..flows-1 at random, each after the one before. @returns sum of the indices. */
export function lookupSerial(flows: u32, count: u32, seed: u32): u32 {
  let state = seed;
  let sum: u32 = 0;
  for (let i: u32 = 0; i < count; i++) {
    state = state * 1664525 + 1013904223;
    const tuple = tuples + ((<usize>(<u32>((<u64>state * flows) >> 32))) << 3);
    const remote = load<u32>(tuple);
    const ports = load<u32>(tuple, 4);
    const found = tcbIndex(flowFindV4(flowHashV4(remote, LOCAL, ports), remote, 0, ports));
    sum += found;
    // Adds nothing, but the processor cannot know: each look-up waits for the one before.
    state += found >> 31;
  }
  return sum;
}

/** The same, staged as ip/input.ts does it: 32 hashes, 32 buckets, 32 candidates, 32 TCBs. */
export function lookupStaged(flows: u32, count: u32, seed: u32): u32 {
  let state = seed;
  let sum: u32 = 0;
  for (let first: u32 = 0; first < count; first += BATCH) {
    for (let i: u32 = 0; i < BATCH; i++) {
      state = state * 1664525 + 1013904223;
      const tuple = tuples + ((<usize>(<u32>((<u64>state * flows) >> 32))) << 3);
      const remote = load<u32>(tuple);
      const ports = load<u32>(tuple, 4);
      const at = stage + (i << 4);
      store<u32>(at, remote);
      store<u32>(at, ports, 4);
      store<u32>(at, flowHashV4(remote, LOCAL, ports), 8);
    }
    for (let i: u32 = 0; i < BATCH; i++) flowTouch(load<u32>(stage + (i << 4), 8));
    for (let i: u32 = 0; i < BATCH; i++)
      store<i32>(stage + (i << 4), flowCandidate(load<u32>(stage + (i << 4), 8)), 12);
    for (let i: u32 = 0; i < BATCH; i++) load<u8>(changetype<usize>(tcbAt(load<u32>(stage + (i << 4), 12))));
    for (let i: u32 = 0; i < BATCH; i++) sum += verified(stage + (i << 4));
  }
  return sum;
}

const BATCH: u32 = 32;
const LOCAL: u32 = 0x0100070a;
let tuples: usize = 0;
let stage: usize = 0;

/** The candidate is a hint: the tuple decides. */
function verified(at: usize): u32 {
  const remote = load<u32>(at);
  const ports = load<u32>(at, 4);
  const candidate = tcbAt(load<u32>(at, 12));
  if (candidate.ports == ports && candidate.remoteV4 == remote) return load<u32>(at, 12);
  return tcbIndex(flowFindV4(load<u32>(at, 8), remote, 0, ports));
}

/** Fills the flow table with connections that differ in address and port. @returns false when there is no room. */
export function lookupPrepare(flows: u32, seed: u32): bool {
  tuples = arenaAlloc((<usize>flows) << 3, 64);
  stage = arenaAlloc(BATCH << 4, 64);
  if (tuples == 0 || stage == 0) return false;
  for (let i: u32 = 0; i < flows; i++) {
    // A bijection of i, so that no two are the same.
    const remote = (i * 2654435761) ^ seed;
    const ports = 0x50000000 | (i & 0xffff);
    store<u32>(tuples + ((<usize>i) << 3), remote);
    store<u32>(tuples + ((<usize>i) << 3), ports, 4);
    if (connectionCreate(remote, LOCAL, ports) < 0) return false;
  }
  return true;
}

/**
 * `count` segments in order on connection `index`, from parsing to the receive ring and the event; read at once and
 * not answered: output is another matter. @param bytes payload; 0: pure ACKs that acknowledge 1000 bytes each.
 * @returns sequence space covered.
 */
export function inputBatch(index: u32, count: u32, bytes: u32, header: usize): u32 {
  const tcb = tcbAt(index);
  const from = bytes == 0 ? tcb.sndUna : tcb.rcvNxt;
  store<u32>(header, tcb.ports);
  store<u16>(header, <u16>((HEADER_BYTES << 2) | (FLAG_ACK << 8)), 12);
  storeBe16(header + 14, 65535);
  for (let i: u32 = 0; i < count; i++) {
    prepareForInput(tcb, bytes);
    storeBe32(header + 4, tcb.rcvNxt);
    storeBe32(header + 8, bytes == 0 ? tcb.sndUna + 1000 : tcb.sndUna);
    segmentPlace(0, 0, header, tcb.remoteV4, LOCAL, 0, tcb.hash, 0);
    tcpInput(HEADER_BYTES + bytes, <i32>index);
  }
  for (let left = outputCount(); left > 0; left--) outputShift();
  for (let left = readyCount(); left > 0; left--) tcbAt(readyShift()).flags &= ~(<u32>2);
  return (bytes == 0 ? tcb.sndUna : tcb.rcvNxt) - from;
}

/** The window is open, what was received is read, and for pure ACKs there is always something in flight. */
function prepareForInput(tcb: Tcb, bytes: u32): void {
  tcb.rcvAdv = tcb.rcvNxt + 65535;
  tcb.rcvRead = tcb.rcvNxt;
  if (bytes != 0) return;
  tcb.sndNxt = tcb.sndUna + 20000;
  tcb.sndMax = tcb.sndNxt;
  tcb.sndBufEnd = tcb.sndNxt;
}

/** For the cost of a call: does next to nothing. */
export function callMe(value: u32): u32 {
  return value + 1;
}

/** SND.UNA and RCV.NXT move on by so much, as ACKs and data would move them. */
export function accountMove(index: u32, acked: u32, received: u32): void {
  const tcb = tcbAt(index);
  accountEnsure(tcb);
  const una = tcb.sndUna;
  tcb.sndUna += acked;
  accountAcked(tcb, una);
  tcb.rcvNxt += received;
  if (received != 0) accountReceived(tcb);
}

/** Begins at these numbers, behind the SYNs. */
export function accountBegin(index: u32, sndSeq: u32, rcvSeq: u32): void {
  const tcb = tcbAt(index);
  tcb.sndUna = sndSeq;
  tcb.sndBufEnd = sndSeq;
  tcb.rcvRead = rcvSeq;
  tcb.rcvNxt = rcvSeq;
}

/** @returns address of the record, its sums brought up to now. */
export function accountRead(index: u32): usize {
  return changetype<usize>(accountCount(tcbAt(index)));
}

export { cookieCheck, cookieIsRecent, cookieSeq, cookieTsVal, cookieWscale };
export { arenaAlloc, flowCandidate, flowInsert, flowRemove, sipHash };
export { seqGeq, seqGt, seqLeq, seqLt, seqMax, seqMin };
export { streamAlloc, streamFree, streamFreeBytes, streamOrderFor };
