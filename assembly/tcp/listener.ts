/**
 * This kernel's replica of the listening sockets: look-up by port and address, the count of half-open connections (SYN
 * queue) and the FIFO of completed ones (accept queue). Both are bounded by the backlog.
 */
import { addressIsV6 } from "../ip/address.ts";
import { ADDRESS_ANY, ADDRESS_ANY_V6, addressIsBindable, bindsOverlap } from "../ip/bind.ts";
import { fastOpenMode, listenersMax } from "../config.ts";
import { FAST_OPEN_ALL_LISTENERS } from "../../src/layout/config.ts";
import * as E from "../../src/layout/event.ts";
import { EADDRINUSE, EADDRNOTAVAIL, EAGAIN, EBADF, EINVAL, ENOBUFS } from "../../src/layout/status.ts";
import { GAUGE_ACCEPT_QUEUE, GAUGE_ACCEPT_QUEUE_MAX, TCP_ACCEPTED } from "../../src/layout/counters.ts";
import { arenaAlloc } from "../mem/arena.ts";
import { readyPush } from "../socket/ready.ts";
import { count, countBy } from "../stats.ts";
import { nowUs } from "../time.ts";
import * as T from "./tcb.ts";
import { Tcb, coldOf } from "./tcb.ts";

const BACKLOG_MAX: u32 = 65535;

@unmanaged
export class Listener {
  /** Index of the local address, or ADDRESS_ANY*. */
  addressIndex: i32;
  /** Host order; 0: the slot is free. */
  port: u16;
  /** Next listener on the same port. */
  next: u16;
  generation: u8;
  ready: u8;
  /** SYN cookies have been sent: since when, ms. */
  cookiesActive: u8;
  unused: u8;
  backlog: u32;
  synCount: u32;
  acceptCount: u32;
  acceptHead: u32;
  acceptTail: u32;
  cookieMs: u32;
  /** Bits 1 << OPTION_*: set for the connections to come (socket/tcpOptions.ts has the values). */
  optionMask: u32;
  /** 0: a connection is handed out when its handshake is over. */
  deferAcceptMs: u32;
  /** Fast open: connections that may be open before their handshake is over, and how many are. */
  fastOpenMax: u32;
  fastOpenCount: u32;
  /** Of those: reset by the peer, and counted on for a while; the last one when, ms. */
  fastOpenResets: u32;
  fastOpenResetMs: u32;
}

const LISTENER_SIZE_BYTES: u32 = 64;
if (offsetof<Listener>() > LISTENER_SIZE_BYTES) ERROR("Listener does not fit its record");

let base: usize = 0;
/** u16 per port: first listener on it, plus one. */
let byPort: usize = 0;

export function listenerBoot(): bool {
  base = arenaAlloc(<usize>listenersMax * LISTENER_SIZE_BYTES, 64);
  byPort = arenaAlloc(65536 * 2, 64);
  return base != 0 && byPort != 0;
}

export function listenerAt(index: u32): Listener {
  return changetype<Listener>(base + <usize>index * LISTENER_SIZE_BYTES);
}

/** @returns -1: no such listener. */
export function listenerIndexOf(handle: i32): i32 {
  const listener = ofHandle(handle);
  return changetype<usize>(listener) == 0 ? -1 : <i32>listenerIndex(listener);
}

export function listenerIndex(listener: Listener): u32 {
  return <u32>((changetype<usize>(listener) - base) / LISTENER_SIZE_BYTES);
}

function handleOf(listener: Listener): i32 {
  return (
    listenerIndex(listener) |
    ((<u32>listener.generation) << E.HANDLE_GENERATION_SHIFT) |
    (E.HANDLE_KIND_LISTENER << E.HANDLE_KIND_SHIFT)
  );
}

function ofHandle(handle: i32): Listener {
  const index = <u32>handle & E.HANDLE_INDEX_MASK;
  if (handle < 0 || <u32>handle >> E.HANDLE_KIND_SHIFT != E.HANDLE_KIND_LISTENER || index >= listenersMax) {
    return changetype<Listener>(0);
  }
  const listener = listenerAt(index);
  if (listener.port == 0 || handleOf(listener) != handle) return changetype<Listener>(0);
  return listener;
}

/** The listener for a local port and address: the specific one before the wildcard. Null: none. */
export function listenerFind(port: u32, addressIndex: u32): Listener {
  let found = changetype<Listener>(0);
  let at = <u32>load<u16>(byPort + (port << 1));
  while (at != 0) {
    const listener = listenerAt(at - 1);
    const bound = listener.addressIndex;
    if (bound == <i32>addressIndex) return listener;
    if (bound == ADDRESS_ANY || (bound < 0 && (bound == ADDRESS_ANY_V6) == addressIsV6(addressIndex))) found = listener;
    at = listener.next;
  }
  return found;
}

/** See KernelExports.tcpListen. */
export function tcpListen(addressIndex: i32, port: u32, backlog: u32): i32 {
  if (port == 0 || port > 65535 || backlog == 0) return EINVAL;
  if (!addressIsBindable(addressIndex)) return EADDRNOTAVAIL;
  const head = byPort + (port << 1);
  for (let at = <u32>load<u16>(head); at != 0; at = listenerAt(at - 1).next) {
    if (bindsOverlap(listenerAt(at - 1).addressIndex, addressIndex)) return EADDRINUSE;
  }
  for (let i: u32 = 0; i < listenersMax; i++) {
    const listener = listenerAt(i);
    if (listener.port != 0) continue;
    listener.addressIndex = addressIndex;
    listener.port = <u16>port;
    listener.generation = <u8>((listener.generation + 1) & E.HANDLE_GENERATION_MASK);
    listener.backlog = min(backlog, BACKLOG_MAX);
    countBy(GAUGE_ACCEPT_QUEUE_MAX, listener.backlog);
    listener.synCount = 0;
    listener.acceptCount = 0;
    listener.acceptHead = T.TCB_NONE;
    listener.acceptTail = T.TCB_NONE;
    listener.cookiesActive = 0;
    listener.optionMask = 0;
    listener.deferAcceptMs = 0;
    listener.fastOpenMax = fastOpenMode & FAST_OPEN_ALL_LISTENERS ? listener.backlog : 0;
    listener.fastOpenCount = 0;
    listener.fastOpenResets = 0;
    listener.next = load<u16>(head);
    store<u16>(head, <u16>(i + 1));
    return handleOf(listener);
  }
  return ENOBUFS;
}

/**
 * Takes a listener away; half-open connections of it fail when their ACK finds none.
 * @returns false when there is no such listener. Its accept queue is left in `unlinkedHead` for the caller to empty.
 */
export function listenerUnlink(handle: i32): bool {
  const listener = ofHandle(handle);
  if (changetype<usize>(listener) == 0) return false;
  let at = byPort + ((<u32>listener.port) << 1);
  const number = <u16>(listenerIndex(listener) + 1);
  while (load<u16>(at) != number) {
    at = changetype<usize>(listenerAt(load<u16>(at) - 1)) + offsetof<Listener>("next");
  }
  store<u16>(at, listener.next);
  listener.port = 0;
  countBy(GAUGE_ACCEPT_QUEUE, -(<i64>listener.acceptCount));
  countBy(GAUGE_ACCEPT_QUEUE_MAX, -(<i64>listener.backlog));
  unlinkedHead = listener.acceptHead;
  return true;
}

/** First connection of the accept queue of the listener that was unlinked last, TCB_NONE: it was empty. */
export let unlinkedHead: u32 = T.TCB_NONE;

/** See KernelExports.tcpAccept. */
export function tcpAccept(handle: i32): i32 {
  const listener = ofHandle(handle);
  if (changetype<usize>(listener) == 0) return EBADF;
  const index = listener.acceptHead;
  if (index == T.TCB_NONE) return EAGAIN;
  const tcb = T.tcbAt(index);
  listener.acceptHead = coldOf(tcb).acceptNext;
  if (listener.acceptHead == T.TCB_NONE) listener.acceptTail = T.TCB_NONE;
  listener.acceptCount--;
  countBy(GAUGE_ACCEPT_QUEUE, -1);
  coldOf(tcb).wMaxBytes = 0;
  tcb.flags = (tcb.flags & ~T.F_IN_ACCEPT_QUEUE) | T.F_APP;
  count(TCP_ACCEPTED);
  // What has happened since the handshake is told now.
  if (tcb.events != 0 && !(tcb.flags & T.F_READY)) {
    tcb.flags |= T.F_READY;
    readyPush(index);
  }
  return T.handleOf(tcb);
}

/** True when one more half-open connection may be kept. */
export function listenerSynRoom(listener: Listener): bool {
  return listener.synCount < listener.backlog;
}

export function listenerAcceptRoom(listener: Listener): bool {
  return listener.acceptCount < listener.backlog;
}

export function listenerSynAdd(listener: Listener, tcb: Tcb): void {
  listener.synCount++;
  tcb.flags |= T.F_IN_SYN_QUEUE;
  coldOf(tcb).listener = <u16>listenerIndex(listener);
}

/** The connection leaves the SYN queue: established, or gone. */
export function listenerSynDone(tcb: Tcb): void {
  tcb.flags &= ~T.F_IN_SYN_QUEUE;
  const listener = listenerAt(coldOf(tcb).listener);
  // The listener may be gone and its slot another's.
  if (listener.port == bswap<u16>(<u16>(tcb.ports >> 16)) && listener.synCount > 0) listener.synCount--;
}

/** Since when the connection waits that was queued last. */
let lastSinceUs: u32 = 0;
/** So far may those instants, each of which is another, run ahead of the clock. */
const AHEAD_US_MAX: u32 = 1 << 20;

/**
 * The handshake is complete: to the end of the accept queue. No two begin to wait at one instant, so that their order
 * is known wherever they meet again. Preconditions: listenerAcceptRoom; nothing is being timed, but of fast open.
 */
export function listenerAcceptAdd(listener: Listener, tcb: Tcb): void {
  const index = T.tcbIndex(tcb);
  const later = lastSinceUs + 1;
  lastSinceUs = later - nowUs < AHEAD_US_MAX ? later : nowUs;
  const cold = coldOf(tcb);
  cold.waitsSinceUs = lastSinceUs;
  cold.listener = <u16>listenerIndex(listener);
  cold.acceptNext = T.TCB_NONE;
  if (listener.acceptTail == T.TCB_NONE) listener.acceptHead = index;
  else coldOf(T.tcbAt(listener.acceptTail)).acceptNext = index;
  listener.acceptTail = index;
  acceptable(listener, tcb);
}

/**
 * One that has waited in another kernel, or was about to, takes its place: behind all that have waited as long. Kernels
 * count time from one instant; what has waited 35 minutes longer than others may stand behind them.
 * @param near where to begin: TCB_NONE, or one that stands in some queue.
 */
export function listenerAcceptPlace(listener: Listener, tcb: Tcb, near: u32): void {
  const cold = coldOf(tcb);
  const sinceUs = cold.waitsSinceUs;
  cold.listener = <u16>listenerIndex(listener);
  let before = near != T.TCB_NONE && waitsHere(listener, near) && !waitsLonger(sinceUs, near) ? near : T.TCB_NONE;
  let next = before == T.TCB_NONE ? listener.acceptHead : coldOf(T.tcbAt(before)).acceptNext;
  while (next != T.TCB_NONE && !waitsLonger(sinceUs, next)) {
    before = next;
    next = coldOf(T.tcbAt(next)).acceptNext;
  }
  const index = T.tcbIndex(tcb);
  cold.acceptNext = next;
  if (before == T.TCB_NONE) listener.acceptHead = index;
  else coldOf(T.tcbAt(before)).acceptNext = index;
  if (next == T.TCB_NONE) listener.acceptTail = index;
  // What comes next here is younger, also where the other kernel's turn began later.
  if (sinceUs - lastSinceUs < AHEAD_US_MAX) lastSinceUs = sinceUs;
  acceptable(listener, tcb);
}

function waitsHere(listener: Listener, index: u32): bool {
  return coldOf(T.tcbAt(index)).listener == <u16>listenerIndex(listener);
}

/** Than the connection of this slot. */
function waitsLonger(sinceUs: u32, index: u32): bool {
  return <i32>(sinceUs - coldOf(T.tcbAt(index)).waitsSinceUs) < 0;
}

function acceptable(listener: Listener, tcb: Tcb): void {
  listener.acceptCount++;
  count(GAUGE_ACCEPT_QUEUE);
  tcb.flags |= T.F_IN_ACCEPT_QUEUE;
  if (listener.ready) return;
  listener.ready = 1;
  readyPush(handleOf(listener));
}

/** Takes a connection out of its accept queue, wherever it stands. Preconditions: it stands there. */
export function listenerAcceptRemove(tcb: Tcb): void {
  const cold = coldOf(tcb);
  const listener = listenerAt(cold.listener);
  const index = T.tcbIndex(tcb);
  let before = T.TCB_NONE;
  for (let at = listener.acceptHead; at != index; at = coldOf(T.tcbAt(at)).acceptNext) before = at;
  if (before == T.TCB_NONE) listener.acceptHead = cold.acceptNext;
  else coldOf(T.tcbAt(before)).acceptNext = cold.acceptNext;
  if (listener.acceptTail == index) listener.acceptTail = before;
  listener.acceptCount--;
  countBy(GAUGE_ACCEPT_QUEUE, -1);
  cold.acceptNext = T.TCB_NONE;
}

/** Writes the listener's event record. @returns false when there is nothing to accept (any more). */
export function listenerTakeEvent(handle: u32, record: usize): bool {
  const listener = listenerAt(handle & E.HANDLE_INDEX_MASK);
  listener.ready = 0;
  if (listener.port == 0 || listener.acceptCount == 0) return false;
  store<u32>(record, handleOf(listener), E.EVENT_HANDLE);
  store<u32>(record, E.EVENT_ACCEPTABLE, E.EVENT_MASK);
  store<u32>(record, listener.acceptCount, E.EVENT_READABLE_BYTES);
  store<u32>(record, 0, E.EVENT_RESERVED);
  return true;
}
