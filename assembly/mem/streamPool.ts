/**
 * Memory for send and receive buffers: a binary buddy allocator over one region, blocks of 256 B to 16 MiB.
 *
 * Freed blocks first go to a short last-in-first-out cache per size, so that request/response traffic keeps using the
 * same warm memory; only what overflows the cache is merged with its buddy. Memory above `frontier` has never been
 * touched, so a large pool costs nothing until it is used.
 *
 * ```
 * state byte, one per 256 B unit, valid at the first unit of a block:
 *   0 not the start of a block     0x80 | order: free, in the list of its order     0x40 | order: handed out or cached
 * ```
 */
import { GAUGE_STREAM_BYTES } from "../../src/layout/counters.ts";
import { counterSet } from "../stats.ts";
import { arenaAlloc } from "./arena.ts";

export const STREAM_ORDER_MIN: u32 = 8;
export const STREAM_ORDER_MAX: u32 = 24;
const ORDERS: u32 = 25;
const FREE: u8 = 0x80;
const USED: u8 = 0x40;
/** Blocks up to 64 KiB are cached up to this many per order, larger ones up to two. */
const CACHE_MAX: u32 = 64;
const CACHE_ORDER_MAX: u32 = 16;

let base: usize = 0;
let sizeBytes: u32 = 0;
let frontier: u32 = 0;
let usedBytes: u32 = 0;
let states: usize = 0;
/** Per order: u32 first free block (offset + 1, 0: none), u32 first cached block (address), u32 cached count. */
let lists: usize = 0;

export function streamPoolBoot(bytes: u32): bool {
  sizeBytes = bytes & ~((1 << STREAM_ORDER_MIN) - 1);
  base = arenaAlloc(sizeBytes, 4096);
  states = arenaAlloc(sizeBytes >> STREAM_ORDER_MIN, 64);
  lists = arenaAlloc(ORDERS * 12, 64);
  return base != 0 && states != 0 && lists != 0;
}

/** Smallest order whose block holds `bytes`. */
export function streamOrderFor(bytes: u32): u32 {
  if (bytes <= 1 << STREAM_ORDER_MIN) return STREAM_ORDER_MIN;
  return 32 - clz<u32>(bytes - 1);
}

/** Bytes not handed out (they may lie in pieces). */
export function streamFreeBytes(): u32 {
  return sizeBytes - usedBytes;
}

/** @returns a block of 2^order bytes with undefined content, or 0: the pool is at its limit. */
export function streamAlloc(order: u32): usize {
  if (order > STREAM_ORDER_MAX) return 0;
  const list = lists + order * 12;
  const cached = load<u32>(list, 4);
  if (cached != 0) {
    store<u32>(list, load<u32>(cached), 4);
    store<u32>(list, load<u32>(list, 8) - 1, 8);
    account(1 << order);
    return cached;
  }
  const offset = takeFree(order);
  if (offset < 0) return 0;
  store<u8>(states + (<u32>offset >> STREAM_ORDER_MIN), USED | <u8>order);
  account(1 << order);
  return base + <u32>offset;
}

export function streamFree(block: usize, order: u32): void {
  account(-(1 << order));
  const list = lists + order * 12;
  const cachedCount = load<u32>(list, 8);
  if (cachedCount < (order <= CACHE_ORDER_MAX ? CACHE_MAX : 2)) {
    store<u32>(block, load<u32>(list, 4));
    store<u32>(list, <u32>block, 4);
    store<u32>(list, cachedCount + 1, 8);
    return;
  }
  merge(<u32>(block - base), order);
}

function account(bytes: i32): void {
  usedBytes += bytes;
  counterSet(GAUGE_STREAM_BYTES, usedBytes);
}

/** Offset of a block of this order taken from the free lists or the frontier, splitting larger blocks; -1: none. */
function takeFree(order: u32): i32 {
  let at = order;
  while (at <= STREAM_ORDER_MAX && load<u32>(lists + at * 12) == 0) at++;
  let offset: u32;
  if (at <= STREAM_ORDER_MAX) {
    offset = load<u32>(lists + at * 12) - 1;
    unlink(offset, at);
  } else {
    at = frontierOrder(order);
    if (at == 0) {
      const merged = flushCaches();
      return alignFrontier(order) || merged ? takeFree(order) : -1;
    }
    offset = frontier;
    frontier += 1 << at;
  }
  while (at > order) {
    at--;
    link(offset + (1 << at), at);
  }
  return <i32>offset;
}

/** Brings the frontier to where a fresh block can start. @returns the block's order, at least `order`; 0: none fits. */
function frontierOrder(order: u32): u32 {
  // Fresh memory is taken 64 KiB at a time, or as much as is asked for, or what is left.
  let want = max<u32>(order, CACHE_ORDER_MAX);
  while (want > order && !fitsAtFrontier(want)) want--;
  if (!fitsAtFrontier(want)) return 0;
  alignFrontier(want);
  return want;
}

/**
 * Takes the frontier to the next multiple of a block's size. What is skipped goes to the free lists, merged with what
 * is free there already. @returns false when it stands there, or that would be beyond the pool.
 */
function alignFrontier(order: u32): bool {
  const mask = (1 << order) - 1;
  if ((frontier & mask) == 0 || <u64>(frontier | mask) >= <u64>sizeBytes) return false;
  while ((frontier & mask) != 0) {
    const step = ctz<u32>(frontier);
    const skipped = frontier;
    frontier += 1 << step;
    merge(skipped, step);
  }
  return true;
}

function fitsAtFrontier(order: u32): bool {
  const size = (<u64>1) << order;
  return ((<u64>frontier + size - 1) & ~(size - 1)) + size <= <u64>sizeBytes;
}

/** Returns all cached blocks to the free lists, to merge. @returns false when there were none. */
function flushCaches(): bool {
  let any = false;
  for (let order = STREAM_ORDER_MIN; order <= STREAM_ORDER_MAX; order++) {
    const list = lists + order * 12;
    let block = load<u32>(list, 4);
    store<u32>(list, 0, 4);
    store<u32>(list, 0, 8);
    while (block != 0) {
      const next = load<u32>(block);
      merge(block - <u32>base, order);
      block = next;
      any = true;
    }
  }
  return any;
}

function merge(start: u32, startOrder: u32): void {
  let offset = start;
  let order = startOrder;
  store<u8>(states + (offset >> STREAM_ORDER_MIN), 0);
  while (order < STREAM_ORDER_MAX) {
    const buddy = offset ^ (1 << order);
    if (buddy + (1 << order) > frontier) break;
    if (load<u8>(states + (buddy >> STREAM_ORDER_MIN)) != (FREE | <u8>order)) break;
    unlink(buddy, order);
    offset = min(offset, buddy);
    order++;
  }
  link(offset, order);
}

/** Free blocks are linked through their first 8 bytes: next and previous as offset + 1. */
function link(offset: u32, order: u32): void {
  const list = lists + order * 12;
  const first = load<u32>(list);
  const at = base + offset;
  store<u32>(at, first);
  store<u32>(at, 0, 4);
  if (first != 0) store<u32>(base + first - 1, offset + 1, 4);
  store<u32>(list, offset + 1);
  store<u8>(states + (offset >> STREAM_ORDER_MIN), FREE | <u8>order);
}

function unlink(offset: u32, order: u32): void {
  const at = base + offset;
  const next = load<u32>(at);
  const previous = load<u32>(at, 4);
  if (next != 0) store<u32>(base + next - 1, previous, 4);
  if (previous != 0) store<u32>(base + previous - 1, next);
  else store<u32>(lists + order * 12, next);
  store<u8>(states + (offset >> STREAM_ORDER_MIN), 0);
}
