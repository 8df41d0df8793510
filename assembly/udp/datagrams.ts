/**
 * Memory for received datagrams that wait for the application. Each lies in one piece, so that the application can
 * read it where it is. Chunks of 64 KiB are cut into slots of one size class, and are free again when their last slot
 * is: small datagrams cannot leave the pool useless for large ones for longer than they wait.
 *
 * ```
 *  +0 u32 next datagram   +4 u32 payload bytes   +8 u16 remote port   +10 u8 TOS   +11 u8 TTL   +12 u32 chunk
 *  +16 16 bytes remote address, IPv4-mapped   +32 likewise the address that it was sent to   +48 payload
 * ```
 */
import { arenaAlloc, arenaFreeBytes } from "../mem/arena.ts";
import { counterSet } from "../stats.ts";
import { GAUGE_UDP_BYTES } from "../../src/layout/counters.ts";

export const DATAGRAM_NEXT: usize = 0;
export const DATAGRAM_BYTES: usize = 4;
export const DATAGRAM_REMOTE_PORT: usize = 8;
/** TOS and TTL, or traffic class and hop limit. */
export const DATAGRAM_TOS: usize = 10;
export const DATAGRAM_HOP_LIMIT: usize = 11;
const DATAGRAM_CHUNK: usize = 12;
export const DATAGRAM_REMOTE_ADDRESS: usize = 16;
export const DATAGRAM_LOCAL_ADDRESS: usize = 32;
export const DATAGRAM_PAYLOAD: usize = 48;

/** One cache line more than 64 KiB: the largest datagram, 65,507 bytes, and its record fit. */
const CHUNK_SIZE_BYTES: u32 = 65600;
/** Slots of 256 bytes, of 2 KiB (an Ethernet frame's worth), or the whole chunk. */
const CLASS_COUNT: u32 = 3;
const NONE: u32 = 0xffffffff;

@unmanaged
class Chunk {
  slotBytes: u32;
  slotClass: u32;
  /** Slots in use, and slots that were in use at least once. */
  slotsUsed: u32;
  slotsTouched: u32;
  /** Free slots that were in use before, chained by their first word. */
  freeSlot: usize;
  /** Chunks of the same class that have a free slot; or free chunks. */
  previous: u32;
  next: u32;
}
const CHUNK_RECORD_BYTES: usize = 32;
if (offsetof<Chunk>() > CHUNK_RECORD_BYTES) ERROR("Chunk does not fit its record");

/** Head of the list of chunks with a free slot, per class. */
const partial: usize = memory.data(4 * 3, 4);

let records: usize = 0;
let chunks: usize = 0;
let chunkCount: u32 = 0;
let freeChunk: u32 = NONE;
let heldBytes: u32 = 0;

/** @param bytes of the pool; rounded up to chunks. @returns false when the arena is too small. */
export function datagramBoot(bytes: u32): bool {
  chunkCount = (bytes + CHUNK_SIZE_BYTES - 1) / CHUNK_SIZE_BYTES;
  records = arenaAlloc(<usize>chunkCount * CHUNK_RECORD_BYTES, 64);
  chunks = arenaAlloc(<usize>chunkCount * CHUNK_SIZE_BYTES, 64);
  if (records == 0 || chunks == 0) return false;
  for (let i: u32 = 0; i < CLASS_COUNT; i++) store<u32>(partial + (i << 2), NONE);
  for (let i = chunkCount; i > 0; i--) {
    at(i - 1).next = freeChunk;
    freeChunk = i - 1;
  }
  return true;
}

/** Bytes that the pool has. */
export function datagramPoolSize(): u32 {
  return chunkCount * CHUNK_SIZE_BYTES;
}

function at(chunk: u32): Chunk {
  return changetype<Chunk>(records + <usize>chunk * CHUNK_RECORD_BYTES);
}

function classOf(recordBytes: u32): u32 {
  return recordBytes <= 256 ? 0 : recordBytes <= 2048 ? 1 : 2;
}

function slotBytesOf(slotClass: u32): u32 {
  return slotClass == 0 ? 256 : slotClass == 1 ? 2048 : CHUNK_SIZE_BYTES;
}

function unlink(chunk: u32): void {
  const record = at(chunk);
  if (record.previous == NONE) store<u32>(partial + (record.slotClass << 2), record.next);
  else at(record.previous).next = record.next;
  if (record.next != NONE) at(record.next).previous = record.previous;
}

function link(chunk: u32): void {
  const record = at(chunk);
  const head = partial + (record.slotClass << 2);
  record.previous = NONE;
  record.next = load<u32>(head);
  if (record.next != NONE) at(record.next).previous = chunk;
  store<u32>(head, chunk);
}

/** Memory that a datagram of `payloadBytes` takes: what limits are charged with. */
export function datagramCharge(payloadBytes: u32): u32 {
  return slotBytesOf(classOf(payloadBytes + <u32>DATAGRAM_PAYLOAD));
}

/** Room for a datagram. @param payloadBytes 0..65507. @returns 0 when the pool is full. */
export function datagramTake(payloadBytes: u32): usize {
  const slotClass = classOf(payloadBytes + <u32>DATAGRAM_PAYLOAD);
  let chunk = load<u32>(partial + (slotClass << 2));
  if (chunk == NONE) {
    chunk = freeChunk;
    if (chunk == NONE) return 0;
    const fresh = at(chunk);
    freeChunk = fresh.next;
    fresh.slotClass = slotClass;
    fresh.slotBytes = slotBytesOf(slotClass);
    fresh.slotsUsed = 0;
    fresh.slotsTouched = 0;
    fresh.freeSlot = 0;
    link(chunk);
  }
  const record = at(chunk);
  let slot = record.freeSlot;
  if (slot != 0) record.freeSlot = load<usize>(slot);
  else {
    slot = chunks + <usize>chunk * CHUNK_SIZE_BYTES + <usize>record.slotsTouched * record.slotBytes;
    record.slotsTouched++;
  }
  record.slotsUsed++;
  if (record.slotsUsed == CHUNK_SIZE_BYTES / record.slotBytes) unlink(chunk);
  store<u32>(slot, chunk, DATAGRAM_CHUNK);
  store<u32>(slot, payloadBytes, DATAGRAM_BYTES);
  store<u32>(slot, 0, DATAGRAM_NEXT);
  heldBytes += record.slotBytes;
  counterSet(GAUGE_UDP_BYTES, heldBytes);
  return slot;
}

/** Gives a datagram's memory back. */
export function datagramGive(datagram: usize): void {
  const chunk = load<u32>(datagram, DATAGRAM_CHUNK);
  const record = at(chunk);
  const wasFull = record.slotsUsed == CHUNK_SIZE_BYTES / record.slotBytes;
  store<usize>(datagram, record.freeSlot);
  record.freeSlot = datagram;
  record.slotsUsed--;
  heldBytes -= record.slotBytes;
  counterSet(GAUGE_UDP_BYTES, heldBytes);
  if (record.slotsUsed > 0) {
    if (wasFull) link(chunk);
    return;
  }
  if (!wasFull) unlink(chunk);
  record.next = freeChunk;
  freeChunk = chunk;
}

/**
 * Bytes for the pool of `sockets` sockets: room for 64 KiB each, 256 KiB at least, 16 MiB and an eighth of what is
 * left of the arena at most.
 */
export function datagramPoolBytes(sockets: u32): u32 {
  const wanted = max<u64>((<u64>sockets) << 16, 262144);
  return <u32>min<u64>(min<u64>(wanted, 16777216), max<u64>(arenaFreeBytes() >> 3, CHUNK_SIZE_BYTES));
}
