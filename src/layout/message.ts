/**
 * Messages between kernels: typed, versioned records on rings with one producer and one consumer. Every kernel has in
 * its own memory one ring for each kernel that may send to it; the sender writes there, and only there.
 *
 * A ring's control record is that of a frame ring (layout/frameRing.ts): RING_TAIL written by the sender, RING_HEAD by
 * the receiver, RING_BASE and RING_SIZE by boot(); RING_BASE is 0 until the receiver has booted. Two words more:
 * MESSAGE_WAITING, and MESSAGE_BELL_BASE for all rings of a kernel together.
 *
 * A record, a multiple of MESSAGE_ALIGN_BYTES, never wraps; one of type MESSAGE_TYPE_PAD fills the end of the ring:
 * ```
 *  +0  u32 payload bytes
 *  +4  u16 type, MESSAGE_TYPE_*   +6 u16 version of that type's payload
 *  +8  u32 correlation: an answer has its question's; 0: none
 *  +12 u32 life of the sender: how often its kernel has been started before; a record of an earlier life is ignored
 *  +16 the payload, little-endian
 * ```
 * Portable: read by asc and tsc; integer constants, + and * only.
 */
import { MESSAGE_CONTROL_BASE } from "./kernelMemory.ts";

/** Kernels that can exchange messages: kernel ids are below. */
export const MESSAGE_KERNELS_MAX = 64;
/** Control record of the ring for kernel `sender`: MESSAGE_CONTROL_BASE + sender * MESSAGE_CONTROL_SIZE_BYTES. */
export const MESSAGE_CONTROL_SIZE_BYTES = 256;
/** i32, atomic, in a ring's control record: 1 while the sender waits for room; the receiver clears it and rings. */
export const MESSAGE_WAITING = 196;

/** i32, atomic, on a line of its own: raised by every sender once for each batch. The receiver looks at it alone. */
export const MESSAGE_BELL_BASE = MESSAGE_CONTROL_BASE + MESSAGE_KERNELS_MAX * MESSAGE_CONTROL_SIZE_BYTES;

/**
 * f64 each, written by this kernel's host: records sent by type, received by type, then MESSAGE_COUNT_*; read by
 * statistics on any thread.
 */
export const MESSAGE_COUNTS_BASE = MESSAGE_BELL_BASE + 64;
export const MESSAGE_COUNTS_SENT = 0;
export const MESSAGE_COUNTS_RECEIVED = 64;
/** Records that were no records: the rest of that batch is dropped. */
export const MESSAGE_COUNT_CORRUPT = 128;
/** Records of a type or version that this kernel does not know. */
export const MESSAGE_COUNT_UNKNOWN = 129;
/** Records of a life of the sender that is over, or of a kernel that is not there. */
export const MESSAGE_COUNT_STALE = 130;
/** Records that had to wait for room in the receiver's ring. */
export const MESSAGE_COUNT_HELD = 131;
/** Records refused because too much waits already; the caller was told. */
export const MESSAGE_COUNT_REFUSED = 132;
/** Records that waited for a kernel that has gone. */
export const MESSAGE_COUNT_ABANDONED = 133;
export const MESSAGE_COUNTS = 136;

export const MESSAGE_PAYLOAD_BYTES = 0;
export const MESSAGE_TYPE = 4;
export const MESSAGE_VERSION = 6;
export const MESSAGE_CORRELATION = 8;
export const MESSAGE_LIFE = 12;
export const MESSAGE_HEADER_BYTES = 16;
export const MESSAGE_ALIGN_BYTES = 16;
/** Types are below. */
export const MESSAGE_TYPES_MAX = 64;

/** Fills the end of a ring. */
export const MESSAGE_TYPE_PAD = 0;

/** Ports (docs/messages.md): a kernel asks the owner for a port; its answer. */
export const MESSAGE_TYPE_CLAIM = 1;
export const MESSAGE_TYPE_CLAIMED = 2;
export const MESSAGE_TYPE_RELEASE = 3;
/** The owner is told what a holder has: forget all, one port, one draw; then that this was all of a kernel. */
export const MESSAGE_TYPE_RESET = 4;
export const MESSAGE_TYPE_HOLDS = 5;
export const MESSAGE_TYPE_DRAWN = 6;
export const MESSAGE_TYPE_RECLAIMED = 7;
/** A kernel could not open what it had got; the owner has the others give it back. */
export const MESSAGE_TYPE_FAILED = 8;
export const MESSAGE_TYPE_REVOKED = 9;

/** A kernel that joins asks what others listen on and it does not; one of them each; that was all. */
export const MESSAGE_TYPE_LISTENERS_ASK = 33;
export const MESSAGE_TYPE_LISTENER = 34;
export const MESSAGE_TYPE_LISTENERS_END = 35;

/** Queue pairs (docs/messages.md): a kernel asks the owner for its own, drives it, gives it back. */
export const MESSAGE_TYPE_QUEUE_ASK = 10;
export const MESSAGE_TYPE_QUEUE_GRANT = 11;
export const MESSAGE_TYPE_QUEUE_CONFIRM = 12;
export const MESSAGE_TYPE_QUEUE_RELEASE = 13;
/** The last of what a kernel tells a new owner of the device: the queue pair that it has, or none. */
export const MESSAGE_TYPE_QUEUE_HOLDS = 14;
/** A new owner has heard of all kernels: it serves. */
export const MESSAGE_TYPE_OWNER_SERVES = 15;
/** Writes to the device's tables, decided by the stack; the owner's answer when they have taken effect. */
export const MESSAGE_TYPE_TABLES_WRITE = 16;
export const MESSAGE_TYPE_TABLES_WRITTEN = 17;

/** Flow groups: the owner offers them to a kernel, that answers, and all concerned are told of the move. */
export const MESSAGE_TYPE_GROUPS_OFFER = 20;
export const MESSAGE_TYPE_GROUPS_ANSWER = 21;
export const MESSAGE_TYPE_GROUPS_MOVED = 22;

/** Exact filters in blocks: leased for connections to one service, given back, led to another kernel, told of. */
export const MESSAGE_TYPE_FILTERS_ASK = 24;
export const MESSAGE_TYPE_FILTERS_GRANT = 25;
export const MESSAGE_TYPE_FILTERS_RETURN = 26;
export const MESSAGE_TYPE_FILTERS_LEAD = 27;
export const MESSAGE_TYPE_FILTERS_HOLDS = 28;
/** There are none left: the owner wants back what is not in use; the last of what a kernel has given back. */
export const MESSAGE_TYPE_FILTERS_RECALL = 29;
export const MESSAGE_TYPE_FILTERS_RECALLED = 30;

/** Live migration (docs/migration.md): a piece of a stream of records, the end of one, a part of a late frame. */
export const MESSAGE_TYPE_MIGRATION_PIECE = 40;
export const MESSAGE_TYPE_MIGRATION_END = 41;
export const MESSAGE_TYPE_MIGRATION_LATE = 42;

/** End of what this file lays out; below STATIC_DATA_BASE. */
export const MESSAGE_AREA_END = MESSAGE_COUNTS_BASE + MESSAGE_COUNTS * 8;
