/**
 * Live migration of connections with their flow group (docs/migration.md). One that moves is *frozen*: out of the flow
 * table, the timer wheel and the listeners' queues, unknown to the application, so that nothing happens to it. It is
 * written as a record (src/layout/migration.ts), and read by another kernel, where it comes to be frozen, too. Then one
 * of the two thaws its copy and the other discards it: until the very end either can.
 *
 * While a connection is frozen these fields have another meaning:
 *   state CLOSED, flags only F_DIRTY and F_READY   so that queues which still name the slot skip it
 *   timerNext      next frozen connection
 *   timerPrev      its true state, pending events << 8
 *   wheelTick      its true flags
 *   hash           its handle in the kernel that it comes from
 *
 * The whole TCB, its cold record, its extension block, its flight block, its settings, account and history travel. Made
 * anew in the other kernel, because they point into a kernel's own memory or tables: sndBuf, rcvBuf, ext, flight, the
 * wheel's links, hash, neighbor, generation, a listener and a place in its accept queue. Clocks of a stack's kernels
 * count from one instant, so deadlines travel as they are. Timestamps, SYN cookies and initial sequence numbers come
 * from a secret that all kernels share (flow/hash.ts).
 */
import { connectionsMax, flowGroupMask, listenersMax } from "../config.ts";
import { groupArrived, groupClosed } from "../flow/groups.ts";
import {
  held,
  isInGroup,
  late,
  Shelf,
  shelfDrop,
  shelfFrames,
  shelfGroup,
  shelfRecord,
  shelfRotate,
} from "../flow/migration.ts";
import { flowInsert, flowRemove } from "../flow/table.ts";
import { addressCount } from "../ip/address.ts";
import { rxReplay } from "../ip/input.ts";
import { MIGRATED_IN, MIGRATED_OUT, GAUGE_TIME_WAIT, MIGRATION_LOST } from "../../src/layout/counters.ts";
import * as E from "../../src/layout/event.ts";
import { HEALTH_BASE, HEALTH_MIGRATIONS } from "../../src/layout/kernelMemory.ts";
import * as M from "../../src/layout/migration.ts";
import {
  STATE_CLOSED,
  STATE_ESTABLISHED,
  STATE_SYN_RECEIVED,
  STATE_SYN_SENT,
  STATE_TIME_WAIT,
} from "../../src/layout/option.ts";
import { EADDRINUSE, ECONNABORTED, EINVAL, ENOBUFS, EPROTO, OK } from "../../src/layout/status.ts";
import { ringRead, ringWrite } from "../socket/buffers.ts";
import { streamAlloc, streamFree, streamOrderFor } from "../mem/streamPool.ts";
import { storeOrdered } from "../mem/ordered.ts";
import { count, countBy } from "../stats.ts";
import { nowMs, nowTick } from "../time.ts";
import { resetIfSynchronized } from "./abort.ts";
import { ACCOUNT_SIZE_BYTES, accountOf, hasAccount } from "./account.ts";
import { accurateOf, accurateRecordBytes } from "./accurateEcn.ts";
import { eventPost } from "./events.ts";
import { readableBytes, tcpDrop } from "./close.ts";
import { HISTORY_SIZE_BYTES, hasHistory, historyOf } from "./history.ts";
import { linkMtuKeep } from "./link.ts";
import {
  Listener,
  listenerAcceptPlace,
  listenerAcceptRemove,
  listenerAt,
  listenerFind,
  listenerSynAdd,
  listenerSynDone,
} from "./listener.ts";
import { outputMark } from "./outputQueue.ts";
import { flowFind, flowHash, remoteAt } from "./addresses.ts";
import { fastOpenArrived, fastOpenOver, isFastOpenChild } from "./fastOpen.ts";
import { FLIGHT_HEADER_BYTES, FLIGHT_ORDER_MAX, FLIGHT_ORDER_MIN, flightOf } from "./flightRecord.ts";
import { flightRelease } from "./flight.ts";
import {
  reassemblyBytes,
  reassemblyCreate,
  reassemblyFill,
  reassemblyIsSize,
  reassemblyRelease,
} from "./reassembly.ts";
import { settingsFind, settingsOf, SETTINGS_PART_BYTES, settingsPartAt } from "./settings.ts";
import * as T from "./tcb.ts";
import { Tcb, coldOf } from "./tcb.ts";
import { wheelArm, wheelRemove } from "./wheel.ts";

/** Flags that belong to a slot's places in queues, not to the connection. */
const SLOT_FLAGS: u32 = T.F_DIRTY | T.F_READY;
const TABLE_FLAGS: u32 = T.F_IN_WHEEL | T.F_IN_FLOW_TABLE;
const HEADER: u32 = M.MIGRATION_HEADER_SIZE_BYTES;

/** Parts of a record, in their order. */
const PART_HEADER: u32 = 0;
const PART_TCB: u32 = 1;
const PART_COLD: u32 = 2;
const PART_EXT: u32 = 3;
const PART_FLIGHT: u32 = 4;
const PART_SETTINGS: u32 = 5;
const PART_ECN: u32 = 6;
const PART_ACCOUNT: u32 = 7;
const PART_HISTORY: u32 = 8;
const PART_SND: u32 = 9;
const PART_RCV: u32 = 10;
const PARTS: u32 = PART_RCV + 1;

let frozenHead: u32 = T.TCB_NONE;
let frozenTail: u32 = T.TCB_NONE;
let frozenCount: u32 = 0;

// Freezing and thawing.

let scanGroup: u32 = 0;
let scanNext: u32 = 0;

/** See KernelExports.migrationFreeze. */
export function migrationFreeze(group: u32, first: i32, budget: u32): i32 {
  if (group > flowGroupMask) return EINVAL;
  if (first != 0) {
    scanGroup = group;
    scanNext = 0;
    freezeAcceptQueues();
  }
  const high = T.tcbHighWater();
  const end = min(high, scanNext + budget);
  for (; scanNext < end; scanNext++) {
    const tcb = T.tcbAt(scanNext);
    if (tcb.flags & T.F_IN_FLOW_TABLE && isInGroup(tcb, scanGroup)) freeze(tcb);
  }
  return <i32>(high - scanNext);
}

/** First, and oldest first: so each finds its place in the other kernel's queue near the one before. */
function freezeAcceptQueues(): void {
  for (let i: u32 = 0; i < listenersMax; i++) {
    const listener = listenerAt(i);
    if (listener.port == 0) continue;
    let index = listener.acceptHead;
    while (index != T.TCB_NONE) {
      const tcb = T.tcbAt(index);
      index = coldOf(tcb).acceptNext;
      if (tcb.flags & T.F_IN_FLOW_TABLE && isInGroup(tcb, scanGroup)) freeze(tcb);
    }
  }
}

/** Preconditions: it is in the flow table. */
export function freeze(tcb: Tcb): void {
  const flags = tcb.flags;
  const handle = T.handleOf(tcb);
  wheelRemove(tcb);
  flowRemove(tcb.hash, T.tcbIndex(tcb));
  if (tcb.state == STATE_TIME_WAIT) countBy(GAUGE_TIME_WAIT, -1);
  else groupClosed(tcb);
  if (flags & T.F_IN_SYN_QUEUE) listenerSynDone(tcb);
  if (tcb.state == STATE_SYN_RECEIVED && isFastOpenChild(tcb)) {
    fastOpenOver(tcb, false);
    coldOf(tcb).traits |= T.TRAIT_FAST_OPEN_CHILD;
  }
  if (flags & T.F_IN_ACCEPT_QUEUE) listenerAcceptRemove(tcb);
  hide(tcb, <u32>tcb.state, <u32>tcb.events, flags);
  tcb.hash = handle;
}

/** Gives the fields their frozen meaning, and a place at the end of the list. */
function hide(tcb: Tcb, state: u32, events: u32, flags: u32): void {
  tcb.timerPrev = state | (events << 8);
  tcb.wheelTick = flags & ~(SLOT_FLAGS | TABLE_FLAGS);
  tcb.flags &= SLOT_FLAGS;
  tcb.state = STATE_CLOSED;
  tcb.events = 0;
  tcb.timerNext = T.TCB_NONE;
  const index = T.tcbIndex(tcb);
  if (frozenTail == T.TCB_NONE) frozenHead = index;
  else T.tcbAt(frozenTail).timerNext = index;
  frozenTail = index;
  frozenCount++;
}

function takeFrozen(): Tcb {
  const tcb = T.tcbAt(frozenHead);
  frozenHead = tcb.timerNext;
  if (frozenHead == T.TCB_NONE) frozenTail = T.TCB_NONE;
  frozenCount--;
  return tcb;
}

function localPortOf(tcb: Tcb): u32 {
  return <u32>bswap<u16>(<u16>(tcb.ports >> 16));
}

/** The connection that was put into an accept queue last: the next one's place is near, for they come in order. */
let placedLast: u32 = T.TCB_NONE;

/** See KernelExports.migrationThaw. */
export function migrationThaw(arrived: i32): i32 {
  const thawed = frozenCount;
  placedLast = T.TCB_NONE;
  while (frozenCount > 0) thaw(takeFrozen(), arrived != 0);
  if (arrived != 0) {
    countBy(MIGRATED_IN, thawed);
    // The commit point: from here on these connections live here, whatever happens to either kernel.
    const migrations: usize = HEALTH_BASE + HEALTH_MIGRATIONS;
    storeOrdered(migrations, load<u32>(migrations) + 1);
  }
  return <i32>thawed;
}

function thaw(tcb: Tcb, arrived: bool): void {
  const flags = tcb.wheelTick;
  const state = tcb.timerPrev & 0xff;
  const events = tcb.timerPrev >> 8;
  tcb.hash = flowHash(remoteAt(tcb), tcb.localIndex, tcb.ports);
  tcb.state = <i32>state;
  tcb.flags |= flags & ~(T.F_IN_SYN_QUEUE | T.F_IN_ACCEPT_QUEUE);
  if (!flowInsert(tcb.hash, T.tcbIndex(tcb))) {
    // The table's overflow is used up (flow/table.ts): the one place where a move can cost a connection.
    count(MIGRATION_LOST);
    resetIfSynchronized(tcb);
    tcpDrop(tcb, ECONNABORTED);
    return;
  }
  tcb.flags |= T.F_IN_FLOW_TABLE;
  if (state == STATE_TIME_WAIT) countBy(GAUGE_TIME_WAIT, 1);
  else groupArrived(tcb);
  if (state == STATE_SYN_RECEIVED && isFastOpenChild(tcb)) fastOpenArrived(tcb);
  const listener = listenerFind(localPortOf(tcb), tcb.localIndex);
  if (flags & T.F_IN_ACCEPT_QUEUE && !toAcceptQueue(tcb, listener)) return;
  // Half-open without a listener: its ACK will find that nobody listens any more.
  if (flags & T.F_IN_SYN_QUEUE && changetype<usize>(listener) != 0) listenerSynAdd(listener, tcb);
  // At the next tick timeouts.ts looks at all of its timers, whichever they are, and links it for the next one.
  wheelArm(tcb, nowTick);
  // The link's MTU may have fallen meanwhile.
  linkMtuKeep(tcb);
  outputMark(tcb);
  tellAgain(tcb, events, arrived);
}

/** @returns false when the listener is closed here already: the connection is reset, as it would have been there. */
function toAcceptQueue(tcb: Tcb, listener: Listener): bool {
  if (changetype<usize>(listener) != 0) {
    // The backlog is no reason to refuse: the connection has been let in before.
    listenerAcceptPlace(listener, tcb, placedLast);
    placedLast = T.tcbIndex(tcb);
    return true;
  }
  resetIfSynchronized(tcb);
  tcpDrop(tcb, 0);
  return false;
}

/** An application that has just got the connection has not heard what there is to read: it is told once more. */
function tellAgain(tcb: Tcb, events: u32, arrived: bool): void {
  let mask = events;
  if (arrived && tcb.flags & T.F_APP && !(tcb.flags & T.F_APP_CLOSED)) {
    if (readableBytes(tcb) > 0) mask |= E.EVENT_READABLE;
    if (tcb.flags & T.F_FIN_RECEIVED) mask |= E.EVENT_PEER_CLOSED;
    if (tcb.state >= STATE_ESTABLISHED) {
      mask |= E.EVENT_WRITABLE;
      tcb.flags &= ~T.F_WANT_WRITABLE;
    }
  }
  // Before accept they wait in the TCB.
  if (mask != 0) eventPost(tcb, mask);
}

/** See KernelExports.migrationDiscard. */
export function migrationDiscard(left: i32): i32 {
  const discarded = frozenCount;
  while (frozenCount > 0) {
    const tcb = takeFrozen();
    releaseBuffers(tcb);
    T.tcbRetire(tcb);
    T.tcbReturn(tcb);
  }
  resetImport();
  if (left != 0) countBy(MIGRATED_OUT, discarded);
  return <i32>discarded;
}

function releaseBuffers(tcb: Tcb): void {
  if (tcb.sndBuf != 0) streamFree(tcb.sndBuf, tcb.sndBufOrder);
  if (tcb.rcvBuf != 0) streamFree(tcb.rcvBuf, tcb.rcvBufOrder);
  reassemblyRelease(tcb);
  flightRelease(tcb);
  tcb.sndBuf = 0;
  tcb.rcvBuf = 0;
}

/** See KernelExports.migrationList. */
export function migrationList(skip: u32, target: usize, entriesMax: u32): i32 {
  let index = frozenHead;
  for (let i: u32 = 0; i < skip && index != T.TCB_NONE; i++) index = T.tcbAt(index).timerNext;
  let listed: u32 = 0;
  while (listed < entriesMax && index != T.TCB_NONE) {
    const tcb = T.tcbAt(index);
    const at = target + listed * M.MIGRATION_LIST_SIZE_BYTES;
    const known = tcb.wheelTick & T.F_APP ? M.MIGRATION_LISTED_APP : 0;
    const closed = tcb.wheelTick & T.F_APP_CLOSED ? M.MIGRATION_LISTED_APP_CLOSED : 0;
    store<u32>(at, tcb.hash, M.MIGRATION_LIST_SOURCE_HANDLE);
    store<u32>(at, T.handleOf(tcb), M.MIGRATION_LIST_HANDLE);
    store<u32>(at, known | closed, M.MIGRATION_LIST_FLAGS);
    listed++;
    index = tcb.timerNext;
  }
  return <i32>listed;
}

/** See KernelExports.migrationReplay. */
export function migrationReplay(record: usize): void {
  rxReplay(record);
}

/** See KernelExports.migrationReplayHeld. */
export function migrationReplayHeld(group: u32): i32 {
  return replayShelf(held, group);
}

/** See KernelExports.migrationReplayLate. */
export function migrationReplayLate(group: u32): i32 {
  return replayShelf(late, group);
}

/** Processes what lies on a shelf for a group, or for flows that go by themselves. @returns how many frames. */
function replayShelf(shelf: Shelf, group: u32): i32 {
  let replayed: i32 = 0;
  // Each frame once: what a replay lays aside again comes behind these.
  for (let left = shelfFrames(shelf); left > 0; left--) {
    if (shelfGroup(shelf) != group) {
      shelfRotate(shelf);
      continue;
    }
    rxReplay(shelfRecord(shelf));
    shelfDrop(shelf);
    replayed++;
  }
  return replayed;
}

/** See KernelExports.migrationDropHeld. */
export function migrationDropHeld(group: u32): i32 {
  let dropped: i32 = 0;
  for (let left = shelfFrames(held); left > 0; left--) {
    if (shelfGroup(held) == group) {
      shelfDrop(held);
      dropped++;
    } else shelfRotate(held);
  }
  return dropped;
}

// Writing records.

/** The record in hand: its header, the connection (null: cookies), the part and how much of it is written. */
const exportHeader: usize = memory.data(M.MIGRATION_HEADER_SIZE_BYTES, 16);
let exportNext: u32 = T.TCB_NONE;
let exportTcb: Tcb = changetype<Tcb>(0);
let exportListener: u32 = 0;
let exportPart: u32 = PARTS;
let exportDone: u32 = 0;

/** See KernelExports.migrationExport. */
export function migrationExport(first: i32, target: usize, bytesMax: u32): u32 {
  if (first != 0) {
    exportNext = frozenHead;
    exportListener = 0;
    exportPart = PARTS;
  }
  let written: u32 = 0;
  while (written < bytesMax) {
    if (exportPart == PARTS && !nextRecord()) break;
    const bytes = min(partBytes(exportHeader, exportPart) - exportDone, bytesMax - written);
    readPart(exportPart, exportDone, target + written, bytes);
    written += bytes;
    exportDone += bytes;
    while (exportPart < PARTS && exportDone == partBytes(exportHeader, exportPart)) {
      exportPart++;
      exportDone = 0;
    }
  }
  return written;
}

/** Begins a connection's record, or, after those, a listener's. @returns false when there are no more. */
function nextRecord(): bool {
  memory.fill(exportHeader, 0, HEADER);
  store<u32>(exportHeader, M.MIGRATION_VERSION, M.MIGRATION_RECORD_VERSION);
  exportPart = PART_HEADER;
  exportDone = 0;
  if (exportNext != T.TCB_NONE) {
    exportTcb = T.tcbAt(exportNext);
    exportNext = exportTcb.timerNext;
    connectionHeader(exportTcb);
    return true;
  }
  exportTcb = changetype<Tcb>(0);
  while (exportListener < listenersMax) {
    const listener = listenerAt(exportListener++);
    if (listener.port == 0 || !listener.cookiesActive) continue;
    store<u32>(exportHeader, M.MIGRATION_KIND_COOKIES, M.MIGRATION_RECORD_KIND);
    store<u32>(exportHeader, listener.port, M.MIGRATION_COOKIE_PORT);
    store<i32>(exportHeader, listener.addressIndex, M.MIGRATION_COOKIE_ADDRESS_INDEX);
    store<u32>(exportHeader, listener.cookieMs, M.MIGRATION_COOKIE_MS);
    return true;
  }
  exportPart = PARTS;
  return false;
}

function connectionHeader(tcb: Tcb): void {
  // Before the handshake SND.UNA is our SYN's number, which takes no room (socket/buffers.ts).
  const sndSeq = (tcb.timerPrev & 0xff) < <u32>STATE_ESTABLISHED ? coldOf(tcb).recover + 1 : tcb.sndUna;
  // Bytes that came ahead of their turn may lie anywhere in the ring.
  const rcvBytes = tcb.ext != 0 ? (<u32>1) << tcb.rcvBufOrder : tcb.rcvNxt - tcb.rcvRead;
  const fin: u32 = tcb.ext == 0 && tcb.wheelTick & T.F_FIN_RECEIVED ? 1 : 0;
  store<u32>(exportHeader, M.MIGRATION_KIND_CONNECTION, M.MIGRATION_RECORD_KIND);
  store<u32>(exportHeader, T.TCB_SIZE_BYTES, M.MIGRATION_TCB_BYTES);
  store<u32>(exportHeader, T.TCB_COLD_SIZE_BYTES, M.MIGRATION_COLD_BYTES);
  store<u32>(exportHeader, tcb.ext != 0 ? reassemblyBytes(tcb) : 0, M.MIGRATION_EXT_BYTES);
  store<u32>(exportHeader, tcb.flight != 0 ? flightBytes(tcb) : 0, M.MIGRATION_FLIGHT_BYTES);
  const settings = settingsFind(T.tcbIndex(tcb));
  store<u32>(exportHeader, changetype<usize>(settings) != 0 ? SETTINGS_PART_BYTES : 0, M.MIGRATION_SETTINGS_BYTES);
  const accurate = (coldOf(tcb).traits & T.TRAIT_ACCURATE_ECN) != 0;
  store<u32>(exportHeader, accurate ? accurateRecordBytes() : 0, M.MIGRATION_ECN_BYTES);
  store<u32>(exportHeader, hasAccount(tcb) ? ACCOUNT_SIZE_BYTES : 0, M.MIGRATION_ACCOUNT_BYTES);
  store<u32>(exportHeader, hasHistory(tcb) ? HISTORY_SIZE_BYTES : 0, M.MIGRATION_HISTORY_BYTES);
  store<u32>(exportHeader, tcb.sndBuf != 0 ? tcb.sndBufEnd - sndSeq : 0, M.MIGRATION_SND_BYTES);
  store<u32>(exportHeader, tcb.rcvBuf != 0 ? rcvBytes - fin : 0, M.MIGRATION_RCV_BYTES);
  store<u32>(exportHeader, sndSeq, M.MIGRATION_SND_SEQ);
  store<u32>(exportHeader, tcb.rcvRead, M.MIGRATION_RCV_SEQ);
}

/** Length of a part of the record with this header. */
function partBytes(header: usize, part: u32): u32 {
  if (part == PART_HEADER) return HEADER;
  if (load<u32>(header, M.MIGRATION_RECORD_KIND) != M.MIGRATION_KIND_CONNECTION) return 0;
  return load<u32>(header + M.MIGRATION_TCB_BYTES + ((part - PART_TCB) << 2));
}

function readPart(part: u32, offset: u32, target: usize, bytes: u32): void {
  const tcb = exportTcb;
  if (part == PART_HEADER) memory.copy(target, exportHeader + offset, bytes);
  else if (part == PART_TCB) memory.copy(target, changetype<usize>(tcb) + offset, bytes);
  else if (part == PART_COLD) memory.copy(target, changetype<usize>(coldOf(tcb)) + offset, bytes);
  else if (part == PART_EXT) memory.copy(target, <usize>tcb.ext + offset, bytes);
  else if (part == PART_FLIGHT) memory.copy(target, <usize>tcb.flight + offset, bytes);
  else if (part == PART_SETTINGS) memory.copy(target, settingsPart(tcb) + offset, bytes);
  else if (part == PART_ECN) memory.copy(target, changetype<usize>(accurateOf(tcb)) + offset, bytes);
  else if (part == PART_ACCOUNT) memory.copy(target, changetype<usize>(accountOf(tcb)) + offset, bytes);
  else if (part == PART_HISTORY) memory.copy(target, changetype<usize>(historyOf(tcb)) + offset, bytes);
  else if (part == PART_SND) {
    ringRead(tcb.sndBuf, tcb.sndBufOrder, load<u32>(exportHeader, M.MIGRATION_SND_SEQ) + offset, target, bytes);
  } else {
    ringRead(tcb.rcvBuf, tcb.rcvBufOrder, load<u32>(exportHeader, M.MIGRATION_RCV_SEQ) + offset, target, bytes);
  }
}

/** Preconditions: the connection has settings. */
function settingsPart(tcb: Tcb): usize {
  return settingsPartAt(settingsFind(T.tcbIndex(tcb)));
}

// Reading records.

const importHeader: usize = memory.data(M.MIGRATION_HEADER_SIZE_BYTES, 16);
const importBlocks: usize = memory.data(512, 16);
if (T.TCB_SIZE_BYTES + T.TCB_COLD_SIZE_BYTES > 512) ERROR("importBlocks is too small");
let importTcb: Tcb = changetype<Tcb>(0);
let importPart: u32 = PART_HEADER;
let importDone: u32 = 0;
let importStatus: i32 = OK;

function resetImport(): void {
  importPart = PART_HEADER;
  importDone = 0;
  importStatus = OK;
}

/** See KernelExports.migrationImport. */
export function migrationImport(source: usize, bytes: u32): i32 {
  let read: u32 = 0;
  while (read < bytes && importStatus == OK) {
    const part = min(partBytes(importHeader, importPart) - importDone, bytes - read);
    writePart(importPart, importDone, source + read, part);
    read += part;
    importDone += part;
    while (importStatus == OK && importDone == partBytes(importHeader, importPart)) {
      importStatus = partComplete(importPart);
      importDone = 0;
      importPart++;
      if (importPart == PARTS) {
        importPart = PART_HEADER;
        break;
      }
    }
  }
  return importStatus;
}

/** See KernelExports.migrationImportEnd. */
export function migrationImportEnd(): i32 {
  return importStatus != OK || (importPart == PART_HEADER && importDone == 0) ? importStatus : EPROTO;
}

function writePart(part: u32, offset: u32, source: usize, bytes: u32): void {
  const tcb = importTcb;
  if (part == PART_HEADER) memory.copy(importHeader + offset, source, bytes);
  else if (part == PART_TCB) memory.copy(importBlocks + offset, source, bytes);
  else if (part == PART_COLD) memory.copy(importBlocks + T.TCB_SIZE_BYTES + offset, source, bytes);
  else if (part == PART_EXT) reassemblyFill(tcb, offset, source, bytes);
  else if (part == PART_FLIGHT) flightFill(tcb, offset, source, bytes);
  else if (part == PART_SETTINGS) memory.copy(settingsPart(tcb) + offset, source, bytes);
  else if (part == PART_ECN) memory.copy(changetype<usize>(accurateOf(tcb)) + offset, source, bytes);
  else if (part == PART_ACCOUNT) memory.copy(changetype<usize>(accountOf(tcb)) + offset, source, bytes);
  else if (part == PART_HISTORY) memory.copy(changetype<usize>(historyOf(tcb)) + offset, source, bytes);
  else if (part == PART_SND) {
    ringWrite(tcb.sndBuf, tcb.sndBufOrder, load<u32>(importHeader, M.MIGRATION_SND_SEQ) + offset, source, bytes);
  } else {
    ringWrite(tcb.rcvBuf, tcb.rcvBufOrder, load<u32>(importHeader, M.MIGRATION_RCV_SEQ) + offset, source, bytes);
  }
}

function partComplete(part: u32): i32 {
  if (part == PART_HEADER) return headerComplete();
  const isConnection = load<u32>(importHeader, M.MIGRATION_RECORD_KIND) == M.MIGRATION_KIND_CONNECTION;
  return part == PART_COLD && isConnection ? createFrozen() : OK;
}

function settingsBytes(): u32 {
  return load<u32>(importHeader, M.MIGRATION_SETTINGS_BYTES);
}

function ecnBytes(): u32 {
  return load<u32>(importHeader, M.MIGRATION_ECN_BYTES);
}

function accountBytes(): u32 {
  return load<u32>(importHeader, M.MIGRATION_ACCOUNT_BYTES);
}

function historyBytes(): u32 {
  return load<u32>(importHeader, M.MIGRATION_HISTORY_BYTES);
}

function headerComplete(): i32 {
  if (load<u32>(importHeader, M.MIGRATION_RECORD_VERSION) != M.MIGRATION_VERSION) return EPROTO;
  const kind = load<u32>(importHeader, M.MIGRATION_RECORD_KIND);
  if (kind == M.MIGRATION_KIND_COOKIES) {
    takeCookies();
    return OK;
  }
  const fits =
    kind == M.MIGRATION_KIND_CONNECTION &&
    load<u32>(importHeader, M.MIGRATION_TCB_BYTES) == T.TCB_SIZE_BYTES &&
    load<u32>(importHeader, M.MIGRATION_COLD_BYTES) == T.TCB_COLD_SIZE_BYTES &&
    reassemblyIsSize(load<u32>(importHeader, M.MIGRATION_EXT_BYTES)) &&
    flightIsSize(load<u32>(importHeader, M.MIGRATION_FLIGHT_BYTES)) &&
    (settingsBytes() == 0 || settingsBytes() == SETTINGS_PART_BYTES) &&
    (ecnBytes() == 0 || ecnBytes() == accurateRecordBytes()) &&
    (accountBytes() == 0 || accountBytes() == ACCOUNT_SIZE_BYTES) &&
    (historyBytes() == 0 || historyBytes() == HISTORY_SIZE_BYTES);
  return fits ? OK : EPROTO;
}

/** Cookies that another kernel has sent will come back here. */
function takeCookies(): void {
  const port = load<u32>(importHeader, M.MIGRATION_COOKIE_PORT);
  const listener = listenerFind(port, load<u32>(importHeader, M.MIGRATION_COOKIE_ADDRESS_INDEX));
  if (changetype<usize>(listener) == 0) return;
  const sentMs = load<u32>(importHeader, M.MIGRATION_COOKIE_MS);
  if (listener.cookiesActive && <i32>(listener.cookieMs - sentMs) >= 0) return;
  listener.cookiesActive = 1;
  listener.cookieMs = <i32>(sentMs - nowMs) > 0 ? nowMs : sentMs;
}

/** Both blocks are here: a frozen connection with buffers as large as they were, or as what is in them needs. */
function createFrozen(): i32 {
  const blocks = changetype<Tcb>(importBlocks);
  const state = <i32>(blocks.timerPrev & 0xff);
  if (state < STATE_SYN_SENT || state > STATE_TIME_WAIT || blocks.localIndex >= addressCount) return EPROTO;
  const hash = flowHash(remoteAt(blocks), blocks.localIndex, blocks.ports);
  const old = flowFind(hash, remoteAt(blocks), blocks.localIndex, blocks.ports);
  if (changetype<usize>(old) != 0) {
    // Left from a time when the group lived here: what comes is younger.
    if (old.state != STATE_TIME_WAIT) return EADDRINUSE;
    tcpDrop(old, 0);
  }
  const cold = changetype<T.TcbCold>(importBlocks + T.TCB_SIZE_BYTES);
  if (((cold.traits & T.TRAIT_ACCURATE_ECN) != 0) != (ecnBytes() != 0)) return EPROTO;
  if (((cold.traits & T.TRAIT_ACCOUNT) != 0) != (accountBytes() != 0)) return EPROTO;
  if (((cold.traits & T.TRAIT_HISTORY) != 0) != (historyBytes() != 0)) return EPROTO;
  if (T.tcbCount >= connectionsMax) return ENOBUFS;
  const tcb = T.tcbAlloc();
  if (changetype<usize>(tcb) == 0) return ENOBUFS;
  importTcb = tcb;
  const generation = tcb.generation;
  const slotFlags = tcb.flags;
  memory.copy(changetype<usize>(tcb), importBlocks, T.TCB_SIZE_BYTES);
  memory.copy(changetype<usize>(coldOf(tcb)), importBlocks + T.TCB_SIZE_BYTES, T.TCB_COLD_SIZE_BYTES);
  tcb.generation = generation;
  tcb.flags = slotFlags;
  tcb.sndBuf = 0;
  tcb.rcvBuf = 0;
  tcb.ext = 0;
  tcb.flight = 0;
  tcb.neighbor = 0;
  hide(tcb, tcb.timerPrev & 0xff, tcb.timerPrev >> 8, tcb.wheelTick);
  return allocBuffers(tcb);
}

function allocBuffers(tcb: Tcb): i32 {
  const sndBytes = load<u32>(importHeader, M.MIGRATION_SND_BYTES);
  const rcvBytes = load<u32>(importHeader, M.MIGRATION_RCV_BYTES);
  if (sndBytes > 0) {
    if (sndBytes > (<u32>1) << tcb.sndBufOrder) return EPROTO;
    const order = orderFor(sndBytes, tcb.sndBufOrder);
    if (order == 0) return ENOBUFS;
    tcb.sndBuf = <u32>allocated;
    tcb.sndBufOrder = <u8>order;
  }
  if (rcvBytes > 0) {
    if (rcvBytes > (<u32>1) << tcb.rcvBufOrder) return EPROTO;
    const order = orderFor(rcvBytes, tcb.rcvBufOrder);
    if (order == 0) return ENOBUFS;
    tcb.rcvBuf = <u32>allocated;
    tcb.rcvBufOrder = <u8>order;
  }
  const extBytes = load<u32>(importHeader, M.MIGRATION_EXT_BYTES);
  if (extBytes != 0 && !reassemblyCreate(tcb, streamOrderFor(extBytes))) return ENOBUFS;
  if (settingsBytes() != 0 && changetype<usize>(settingsOf(T.tcbIndex(tcb))) == 0) return ENOBUFS;
  const bytesOfFlight = load<u32>(importHeader, M.MIGRATION_FLIGHT_BYTES);
  return bytesOfFlight == 0 || flightCreate(tcb, streamOrderFor(bytesOfFlight)) ? OK : ENOBUFS;
}

let allocated: usize = 0;

/** A buffer of this order, or of the smallest that will do. @returns its order, 0: there is no room. */
function orderFor(bytes: u32, order: u32): u32 {
  allocated = streamAlloc(order);
  if (allocated != 0) return order;
  const needed = streamOrderFor(bytes);
  if (needed < order) allocated = streamAlloc(needed);
  return allocated != 0 ? needed : 0;
}

/** Size of the flight block. */
function flightBytes(tcb: Tcb): u32 {
  return (<u32>1) << (<u32>flightOf(tcb).order);
}

/** Can a flight block have this size, or be absent? */
function flightIsSize(bytes: u32): bool {
  return (
    (bytes & (bytes - 1)) == 0 && (bytes == 0 || (bytes >= 1 << FLIGHT_ORDER_MIN && bytes <= 1 << FLIGHT_ORDER_MAX))
  );
}

/** An empty block of this size. @returns false: the pool is used up. */
function flightCreate(tcb: Tcb, order: u32): bool {
  const block = streamAlloc(order);
  if (block == 0) return false;
  memory.fill(block, 0, FLIGHT_HEADER_BYTES);
  tcb.flight = <u32>block;
  flightOf(tcb).order = <u8>order;
  return true;
}

/** Writes a piece of another block's copy; the size stays this one's. */
function flightFill(tcb: Tcb, offset: u32, source: usize, bytes: u32): void {
  const order = flightOf(tcb).order;
  memory.copy(<usize>tcb.flight + offset, source, bytes);
  flightOf(tcb).order = order;
}
