/**
 * The flow table: 4-tuple -> TCB index, by linear hashing (Litwin 1980). It grows one bucket at a time as flows arrive,
 * so it never stops to rehash, stays small and warm while flows are few, and touches only the memory it needs.
 *
 * ```
 * bucket, one cache line:   +0 u32 x 7 hashes   +28 u32 overflow bucket (address)   +32 u32 x 7 TCB indices   +60 u32
 * count
 * ```
 * Whole hashes stand in the bucket: a look-up reads one line and then the TCB, and splitting a bucket reads no TCB.
 */
import { connectionsMax } from "../config.ts";
import { GAUGE_FLOWS } from "../../src/layout/counters.ts";
import { arenaAlloc } from "../mem/arena.ts";
import { counterSet } from "../stats.ts";
import { Tcb, tcbAt } from "../tcp/tcb.ts";
import { V4_MAPPED } from "../wire/headers.ts";

const BUCKET_SHIFT: u32 = 6;
const ENTRIES_MAX: u32 = 7;
const OVERFLOW: usize = 28;
const INDICES: usize = 32;
const COUNT: usize = 60;
/** Flows per bucket on average: the table splits a bucket when there are more. */
const LOAD: u32 = 4;
const BUCKETS_MIN: u32 = 64;
const OVERFLOW_RESERVE: u32 = 32;

let base: usize = 0;
let bucketsMax: u32 = 0;
let buckets: u32 = 0;
/** Buckets at the start of the present round of splits, minus one; a power of two minus one. */
let lowMask: u32 = 0;
let overflowBase: usize = 0;
let overflowMax: u32 = 0;
let overflowUsed: u32 = 0;
let overflowFree: u32 = 0;
let flows: u32 = 0;

export function flowTableBoot(): bool {
  bucketsMax = max<u32>(BUCKETS_MIN, connectionsMax / LOAD + 1);
  // With LOAD flows per bucket on average, fewer than one bucket in five overflows; half is ample.
  overflowMax = bucketsMax / 2 + 64;
  base = arenaAlloc((<usize>bucketsMax) << BUCKET_SHIFT, 4096);
  overflowBase = arenaAlloc((<usize>overflowMax) << BUCKET_SHIFT, 64);
  buckets = BUCKETS_MIN;
  lowMask = BUCKETS_MIN - 1;
  return base != 0 && overflowBase != 0;
}

function bucketOf(hash: u32): usize {
  let number = hash & ((lowMask << 1) | 1);
  if (number >= buckets) number &= lowMask;
  return base + ((<usize>number) << BUCKET_SHIFT);
}

/** Brings the flow's bucket into the cache. */
export function flowTouch(hash: u32): void {
  load<u8>(bucketOf(hash));
}

/** Bit i is set where entry i has this hash. */
function matches(bucket: usize, hash: u32): u32 {
  const wanted = i32x4.splat(hash);
  const low = <u32>i32x4.bitmask(i32x4.eq(v128.load(bucket), wanted));
  const high = <u32>i32x4.bitmask(i32x4.eq(v128.load(bucket, 16), wanted));
  return (low | (high << 4)) & ((1 << load<u32>(bucket, COUNT)) - 1);
}

/** TCB index of the first entry with this hash, unverified; -1: none. */
export function flowCandidate(hash: u32): i32 {
  let bucket = bucketOf(hash);
  do {
    const found = matches(bucket, hash);
    if (found != 0) return load<i32>(bucket + (ctz(found) << 2), INDICES);
    bucket = load<u32>(bucket, OVERFLOW);
  } while (bucket != 0);
  return -1;
}

/** The flow's TCB or null. */
export function flowFindV4(hash: u32, remote: u32, localIndex: u32, ports: u32): Tcb {
  let bucket = bucketOf(hash);
  do {
    let found = matches(bucket, hash);
    while (found != 0) {
      const tcb = tcbAt(load<u32>(bucket + (ctz(found) << 2), INDICES));
      if (isFlowV4(tcb, remote, localIndex, ports)) return tcb;
      found &= found - 1;
    }
    bucket = load<u32>(bucket, OVERFLOW);
  } while (bucket != 0);
  return changetype<Tcb>(0);
}

export function isFlowV4(tcb: Tcb, remote: u32, localIndex: u32, ports: u32): bool {
  return tcb.ports == ports && tcb.remoteV4 == remote && tcb.localIndex == <u8>localIndex && tcb.remoteMid == V4_MAPPED;
}

/** Likewise for IPv6. @param remote where its 16 bytes lie. */
export function flowFindV6(hash: u32, remote: usize, localIndex: u32, ports: u32): Tcb {
  let bucket = bucketOf(hash);
  do {
    let found = matches(bucket, hash);
    while (found != 0) {
      const tcb = tcbAt(load<u32>(bucket + (ctz(found) << 2), INDICES));
      if (isFlowV6(tcb, remote, localIndex, ports)) return tcb;
      found &= found - 1;
    }
    bucket = load<u32>(bucket, OVERFLOW);
  } while (bucket != 0);
  return changetype<Tcb>(0);
}

export function isFlowV6(tcb: Tcb, remote: usize, localIndex: u32, ports: u32): bool {
  const own = changetype<usize>(tcb) + offsetof<Tcb>("remoteHigh");
  return (
    tcb.ports == ports &&
    tcb.localIndex == <u8>localIndex &&
    load<u64>(own, 8) == load<u64>(remote, 8) &&
    tcb.remoteHigh == load<u64>(remote)
  );
}

/** @returns false when the table is at its limit. Preconditions: the flow is not in the table. */
export function flowInsert(hash: u32, index: u32): bool {
  // A split may need two overflow buckets for the one that it frees: some are kept back, so that it cannot fail.
  if (overflowFree == 0 && overflowUsed + OVERFLOW_RESERVE >= overflowMax) return false;
  if (!put(bucketOf(hash), hash, index)) return false;
  flows++;
  counterSet(GAUGE_FLOWS, flows);
  if (flows > buckets * LOAD && buckets < bucketsMax) split();
  return true;
}

/** Takes an entry out. @returns false when it was not there. */
export function flowRemove(hash: u32, index: u32): bool {
  let previous: usize = 0;
  let bucket = bucketOf(hash);
  do {
    let found = matches(bucket, hash);
    while (found != 0) {
      const slot = ctz(found);
      if (load<u32>(bucket + (slot << 2), INDICES) == index) {
        removeSlot(previous, bucket, slot);
        flows--;
        counterSet(GAUGE_FLOWS, flows);
        return true;
      }
      found &= found - 1;
    }
    previous = bucket;
    bucket = load<u32>(bucket, OVERFLOW);
  } while (bucket != 0);
  return false;
}

function put(first: usize, hash: u32, index: u32): bool {
  let bucket = first;
  while (load<u32>(bucket, COUNT) == ENTRIES_MAX) {
    let next: usize = load<u32>(bucket, OVERFLOW);
    if (next == 0) {
      next = overflowTake();
      if (next == 0) return false;
      store<u32>(bucket, <u32>next, OVERFLOW);
    }
    bucket = next;
  }
  const count = load<u32>(bucket, COUNT);
  store<u32>(bucket + (count << 2), hash);
  store<u32>(bucket + (count << 2), index, INDICES);
  store<u32>(bucket, count + 1, COUNT);
  return true;
}

function removeSlot(previous: usize, bucket: usize, slot: u32): void {
  const last = load<u32>(bucket, COUNT) - 1;
  store<u32>(bucket + (slot << 2), load<u32>(bucket + (last << 2)));
  store<u32>(bucket + (slot << 2), load<u32>(bucket + (last << 2), INDICES), INDICES);
  store<u32>(bucket, last, COUNT);
  if (last == 0 && previous != 0) {
    store<u32>(previous, load<u32>(bucket, OVERFLOW), OVERFLOW);
    overflowGive(bucket);
  }
}

/** Divides the entries of the next bucket in line between it and a new one. */
function split(): void {
  const low = buckets & lowMask;
  const bit = lowMask + 1;
  const from = base + ((<usize>low) << BUCKET_SHIFT);
  const to = base + ((<usize>(low + bit)) << BUCKET_SHIFT);
  memory.fill(to, 0, 64);
  buckets++;
  if (buckets == bit << 1) lowMask = (lowMask << 1) | 1;
  // Take the chain apart and put every entry where it now belongs.
  let bucket: usize = from;
  let chain: usize = load<u32>(from, OVERFLOW);
  let kept: u32 = 0;
  const count = load<u32>(from, COUNT);
  for (let i: u32 = 0; i < count; i++) {
    const hash = load<u32>(from + (i << 2));
    const index = load<u32>(from + (i << 2), INDICES);
    if ((hash & bit) != 0) {
      put(to, hash, index);
    } else {
      store<u32>(from + (kept << 2), hash);
      store<u32>(from + (kept << 2), index, INDICES);
      kept++;
    }
  }
  store<u32>(from, kept, COUNT);
  store<u32>(from, 0, OVERFLOW);
  while (chain != 0) {
    bucket = chain;
    chain = load<u32>(bucket, OVERFLOW);
    const entries = load<u32>(bucket, COUNT);
    // Copied out first: the overflow bucket is given back before its entries are put, so putting cannot run out of
    // room.
    memory.copy(spare, bucket, 64);
    overflowGive(bucket);
    for (let i: u32 = 0; i < entries; i++) {
      const hash = load<u32>(spare + (i << 2));
      put((hash & bit) != 0 ? to : from, hash, load<u32>(spare + (i << 2), INDICES));
    }
  }
}

const spare: usize = memory.data(64, 64);

function overflowTake(): usize {
  let bucket: usize = overflowFree;
  if (bucket != 0) {
    overflowFree = load<u32>(bucket, OVERFLOW);
  } else {
    if (overflowUsed == overflowMax) return 0;
    bucket = overflowBase + ((<usize>overflowUsed) << BUCKET_SHIFT);
    overflowUsed++;
  }
  store<u32>(bucket, 0, OVERFLOW);
  store<u32>(bucket, 0, COUNT);
  return bucket;
}

function overflowGive(bucket: usize): void {
  store<u32>(bucket, overflowFree, OVERFLOW);
  overflowFree = <u32>bucket;
}
