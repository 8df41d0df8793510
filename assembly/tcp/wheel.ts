/**
 * Timers: a hierarchical timing wheel (Varghese, Lauck 1987), five levels of 64 slots, one entry per connection.
 *
 * Deadlines are lazy. A connection is linked under `wheelTick`; when its true deadline moves later (as with every ACK)
 * only a field in the TCB changes, and when the slot falls due early the entry is simply linked again. So the common
 * case, arming the retransmission timer, is one store.
 */
import { arenaAlloc } from "../mem/arena.ts";
import { tickReached } from "../time.ts";
import { F_IN_WHEEL, TCB_NONE, Tcb, tcbAt, tcbIndex } from "./tcb.ts";

const LEVELS: u32 = 5;
const SLOT_BITS: u32 = 6;
const SLOTS: u32 = 64;
/** Deadlines further ahead than this (9.7 hours) are linked here and looked at again. */
const HORIZON_TICKS: u32 = (1 << (LEVELS * SLOT_BITS - 1)) - 1;

let heads: usize = 0;
/** One bit per slot that is not empty, u64 per level. */
let occupied: usize = 0;
/** The tick up to which the wheel has been turned. */
let current: u32 = 0;
let entries: u32 = 0;

export function wheelBoot(tick: u32): bool {
  heads = arenaAlloc(LEVELS * SLOTS * 4, 64);
  occupied = arenaAlloc(64, 64);
  if (heads == 0 || occupied == 0) return false;
  memory.fill(heads, 0xff, LEVELS * SLOTS * 4);
  current = tick;
  return true;
}

/** Level and slot of a tick, as level * 64 + slot: the level is where it first differs from the present. */
function slotOf(tick: u32): u32 {
  const differing = tick ^ current;
  let level: u32 = differing == 0 ? 0 : (31 - clz<u32>(differing)) / SLOT_BITS;
  if (level >= LEVELS) level = LEVELS - 1;
  return level * SLOTS + ((tick >> (level * SLOT_BITS)) & (SLOTS - 1));
}

/** Makes sure that the connection is looked at no later than at `tick`. */
export function wheelArm(tcb: Tcb, tick: u32): void {
  if (tcb.flags & F_IN_WHEEL) {
    if (tickReached(tcb.wheelTick, tick)) return;
    wheelRemove(tcb);
  }
  let when = tick;
  // The present slot has been emptied already: nothing may be linked at or before it.
  if (tickReached(when, current)) when = current + 1;
  if (when - current > HORIZON_TICKS) when = current + HORIZON_TICKS;
  link(tcb, when);
}

function link(tcb: Tcb, when: u32): void {
  tcb.wheelTick = when;
  tcb.flags |= F_IN_WHEEL;
  const slot = slotOf(when);
  const head = heads + (slot << 2);
  const first = load<u32>(head);
  const index = tcbIndex(tcb);
  tcb.timerNext = first;
  tcb.timerPrev = TCB_NONE;
  if (first != TCB_NONE) tcbAt(first).timerPrev = index;
  store<u32>(head, index);
  const word = occupied + ((slot >> 6) << 3);
  store<u64>(word, load<u64>(word) | ((<u64>1) << (slot & 63)));
  entries++;
}

export function wheelRemove(tcb: Tcb): void {
  if (!(tcb.flags & F_IN_WHEEL)) return;
  tcb.flags &= ~F_IN_WHEEL;
  entries--;
  if (tcb.timerNext != TCB_NONE) tcbAt(tcb.timerNext).timerPrev = tcb.timerPrev;
  if (tcb.timerPrev != TCB_NONE) {
    tcbAt(tcb.timerPrev).timerNext = tcb.timerNext;
    return;
  }
  // First of its slot. `current` may have moved on since it was linked, so the slot is found by looking at the heads.
  const index = tcbIndex(tcb);
  for (let level: u32 = 0; level < LEVELS; level++) {
    const slot = level * SLOTS + ((tcb.wheelTick >> (level * SLOT_BITS)) & (SLOTS - 1));
    const head = heads + (slot << 2);
    if (load<u32>(head) == index) {
      store<u32>(head, tcb.timerNext);
      if (tcb.timerNext == TCB_NONE) clearBit(slot);
      return;
    }
  }
}

function clearBit(slot: u32): void {
  const word = occupied + ((slot >> 6) << 3);
  store<u64>(word, load<u64>(word) & ~((<u64>1) << (slot & 63)));
}

/**
 * Turns the wheel to `tick`, slot by slot over occupied slots only.
 * @returns a due connection, already unlinked, or null when there is none left.
 */
export function wheelTake(tick: u32): Tcb {
  while (entries > 0 && tickReached(current, tick)) {
    const slot = current & (SLOTS - 1);
    const index = load<u32>(heads + (slot << 2));
    if (index != TCB_NONE) {
      const tcb = tcbAt(index);
      wheelRemove(tcb);
      // A turn of the lowest level may have passed an entry by: only what is due is handed out.
      if (tickReached(tcb.wheelTick, tick)) return tcb;
      link(tcb, tcb.wheelTick);
      continue;
    }
    if (current == tick) return changetype<Tcb>(0);
    advance(tick);
  }
  if (entries == 0) current = tick;
  return changetype<Tcb>(0);
}

/**
 * Moves `current` to the next slot that has entries, at most to `tick`, and deals out that slot if it is an upper one.
 */
function advance(tick: u32): void {
  const distance = <u32>wheelNextTick(current);
  // Slots that are passed over are empty on every level, so nothing has to be dealt out for them.
  if (distance > tick - current) {
    current = tick;
    return;
  }
  current += distance;
  if ((current & (SLOTS - 1)) == 0) cascade();
}

/** A turn of the lowest level is complete: the present slot of the level above is dealt out, and so on upwards. */
function cascade(): void {
  for (let level: u32 = 1; level < LEVELS; level++) {
    const slot = (current >> (level * SLOT_BITS)) & (SLOTS - 1);
    const head = heads + ((level * SLOTS + slot) << 2);
    let index = load<u32>(head);
    store<u32>(head, TCB_NONE);
    clearBit(level * SLOTS + slot);
    while (index != TCB_NONE) {
      const tcb = tcbAt(index);
      index = tcb.timerNext;
      entries--;
      link(tcb, tcb.wheelTick);
    }
    if (slot != 0) return;
  }
}

/**
 * Ticks from `tick` until something may fall due, 0: now; -1: nothing is linked. Never later than the first deadline.
 */
export function wheelNextTick(tick: u32): i64 {
  if (entries == 0) return -1;
  for (let level: u32 = 0; level < LEVELS; level++) {
    const bits = load<u64>(occupied + (level << 3));
    if (bits == 0) continue;
    const shift = level * SLOT_BITS;
    const slot = (current >> shift) & (SLOTS - 1);
    const turned = rotr<u64>(bits, slot);
    // On level 0 the present slot counts; above it, the present slot has been dealt out.
    const distance = level == 0 ? <u32>ctz(turned) : <u32>ctz(turned & ~1) & 63;
    const when = level == 0 ? current + distance : ((current >> shift) + (distance == 0 ? SLOTS : distance)) << shift;
    return tickReached(when, tick) ? 0 : <i64>(when - tick);
  }
  return -1;
}
