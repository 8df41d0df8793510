/**
 * Exact filters ("flow director" filters): 5-tuple to queue, in a hash table with linear probing (layout/card.ts).
 * One writer, the device's owner; readers on other threads. A reader that meets a slot just being rewritten sees its
 * control word change and takes the frame as not matched, as it would have been a moment earlier.
 */
import {
  CARD_FILTERS,
  CARD_FILTER_COUNT,
  FILTERS_MAX,
  FILTER_CONTROL,
  FILTER_DELETED,
  FILTER_DESTINATION,
  FILTER_EMPTY,
  FILTER_PORTS,
  FILTER_SIZE_BYTES,
  FILTER_SLOTS,
  FILTER_SOURCE,
  FILTER_V6,
} from "../../src/layout/card.ts";
import { EINVAL, ENOBUFS, OK } from "../../src/layout/status.ts";
import { loadOrdered, storeOrdered } from "../mem/ordered.ts";

/** Protocol and IP version in a control word; the queue is below. */
const KIND_MASK: u32 = 0xfff00000;
const QUEUE_MASK: u32 = 0xfffff;
const SLOTS: u32 = FILTER_SLOTS;
const DELETED: u32 = FILTER_DELETED;
const USED_MAX: u32 = FILTERS_MAX;

function mix(hash: u32, word: u32): u32 {
  return rotl<u32>(hash ^ (word * 0xcc9e2d51), 15) * 0x85ebca6b;
}

function hashTuple(kind: u32, source: usize, destination: usize, ports: u32): u32 {
  let hash = mix(mix(mix(kind, ports), load<u32>(source)), load<u32>(destination));
  if (kind & FILTER_V6) {
    for (let i: usize = 4; i < 16; i += 4) hash = mix(mix(hash, load<u32>(source + i)), load<u32>(destination + i));
  }
  return hash ^ (hash >> 15);
}

function slotAt(card: usize, slot: u32): usize {
  return card + CARD_FILTERS + <usize>(slot & (SLOTS - 1)) * FILTER_SIZE_BYTES;
}

function sameTuple(at: usize, kind: u32, source: usize, destination: usize, ports: u32): bool {
  if (load<u32>(at, FILTER_PORTS) != ports) return false;
  if (kind & FILTER_V6) {
    const a = v128.xor(v128.load(at, FILTER_SOURCE), v128.load(source));
    const b = v128.xor(v128.load(at, FILTER_DESTINATION), v128.load(destination));
    return !v128.any_true(v128.or(a, b));
  }
  return (
    load<u32>(at, FILTER_SOURCE) == load<u32>(source) && load<u32>(at, FILTER_DESTINATION) == load<u32>(destination)
  );
}

/** Slot of the tuple, or 0. */
function findSlot(card: usize, kind: u32, source: usize, destination: usize, ports: u32): usize {
  let slot = hashTuple(kind, source, destination, ports);
  for (let probes: u32 = 0; probes < SLOTS; probes++) {
    const at = slotAt(card, slot++);
    const control = loadOrdered(at + FILTER_CONTROL);
    if (control == FILTER_EMPTY) return 0;
    if ((control & KIND_MASK) == kind && sameTuple(at, kind, source, destination, ports)) return at;
  }
  return 0;
}

/**
 * @param kind protocol and version as in a control word. @param source where the source address lies (4 or 16 bytes).
 * @param ports in memory order. @returns the queue, or -1: no filter.
 */
export function filterFind(card: usize, kind: u32, source: usize, destination: usize, ports: u32): i32 {
  const at = findSlot(card, kind, source, destination, ports);
  if (at == 0) return -1;
  const control = loadOrdered(at + FILTER_CONTROL);
  // The owner may have given the slot away between the two loads; then it no longer speaks of this tuple.
  if ((control & KIND_MASK) != kind || !sameTuple(at, kind, source, destination, ports)) return -1;
  return <i32>(control & QUEUE_MASK);
}

/** Adds the filter whose record lies at `tuple`, or changes its queue. @returns OK, EINVAL or ENOBUFS. */
export function filterSetAt(card: usize, tuple: usize, queue: u32): i32 {
  const kind = load<u32>(tuple, FILTER_CONTROL) & KIND_MASK;
  if (kind < 1 << 24) return EINVAL;
  const ports = load<u32>(tuple, FILTER_PORTS);
  let at = findSlot(card, kind, tuple + FILTER_SOURCE, tuple + FILTER_DESTINATION, ports);
  if (at == 0) {
    const used = load<u32>(card, CARD_FILTER_COUNT);
    if (used >= USED_MAX) return ENOBUFS;
    let slot = hashTuple(kind, tuple + FILTER_SOURCE, tuple + FILTER_DESTINATION, ports);
    do {
      at = slotAt(card, slot++);
    } while (load<u32>(at, FILTER_CONTROL) > DELETED);
    memory.copy(at, tuple, FILTER_CONTROL);
    storeOrdered(card + CARD_FILTER_COUNT, used + 1);
  }
  // Last, atomically: readers take the record as it is once the control word says so.
  storeOrdered(at + FILTER_CONTROL, kind | queue);
  return OK;
}

/** Removes the filter whose record lies at `tuple`. @returns 1, or 0: there was none. */
export function filterClearAt(card: usize, tuple: usize): i32 {
  const kind = load<u32>(tuple, FILTER_CONTROL) & KIND_MASK;
  const at = findSlot(card, kind, tuple + FILTER_SOURCE, tuple + FILTER_DESTINATION, load<u32>(tuple, FILTER_PORTS));
  if (at == 0) return 0;
  storeOrdered(at + FILTER_CONTROL, FILTER_DELETED);
  storeOrdered(card + CARD_FILTER_COUNT, load<u32>(card, CARD_FILTER_COUNT) - 1);
  // Deleted slots at the end of a chain are empty again, so that chains do not grow for ever.
  let slot = <u32>((at - card - CARD_FILTERS) / FILTER_SIZE_BYTES);
  if (load<u32>(slotAt(card, slot + 1), FILTER_CONTROL) == FILTER_EMPTY) {
    while (load<u32>(slotAt(card, slot), FILTER_CONTROL) == DELETED) {
      storeOrdered(slotAt(card, slot--) + FILTER_CONTROL, FILTER_EMPTY);
    }
  }
  return 1;
}
