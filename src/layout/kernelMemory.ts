/**
 * Fixed addresses in a kernel's linear memory. Page 0 holds the records that the host finds without asking;
 * static data of the module follows at STATIC_DATA_BASE (asc --memoryBase), then the arena that `boot` carves.
 *
 * ```
 *      0 ┌──────────────────────────────┐ never written: a null pointer lands here
 *   1024 │ kernel configuration         │ written by the host before boot()      layout/config.ts
 *   2048 │ arena map                    │ written by boot(): where regions are
 *   3072 │ doorbell and health          │ shared between threads
 *   4096 │ counters, u64 each           │ written by the kernel                  layout/counters.ts
 *   8192 │ call arguments and results   │ scratch, valid for one call
 *  16384 │ RX ring controls, 64 lanes   │                                        layout/frameRing.ts
 *  32768 │ TX ring control              │
 *  33024 │ message ring controls, counts│                                        layout/message.ts
 *  65536 └ static data, then the arena ─┘
 * ```
 * Portable: read by asc and tsc; integer constants, + and * only.
 */
export const LAYOUT_VERSION = 1;

export const CONFIG_BASE = 1024;

export const MAP_BASE = 2048;
/** u32: address of the event array (layout/event.ts), CONFIG_EVENT_SLOTS records. */
export const MAP_EVENTS = 0;
/** u32: first byte of the arena that is still free. */
export const MAP_ARENA_FREE = 4;
/** u32: end of the arena. */
export const MAP_ARENA_END = 8;
/** u32: 1 once boot() has returned OK; read atomically by other threads. */
export const MAP_BOOTED = 12;
/** u32: LAYOUT_VERSION as compiled into the module. */
export const MAP_LAYOUT_VERSION = 16;
/** u32: address of the flow-group table (layout/flowGroup.ts). */
export const MAP_FLOW_GROUPS = 20;
/** u32: address of the TCBs (layout/tcb.ts). */
export const MAP_TCBS = 24;
/** u32: TCBs below this index have been in use. */
export const MAP_TCB_HIGH_WATER = 28;

export const HEALTH_BASE = 3072;
/** i32, atomic: raised by whoever gives this kernel work; the kernel's thread sleeps on it. */
export const HEALTH_DOORBELL = 0;
/** i32, atomic: 1 while the kernel's thread sleeps and must be notified. */
export const HEALTH_SLEEPING = 4;
/** u32, atomic: polls so far; stands still when the kernel hangs. */
export const HEALTH_HEARTBEAT = 8;
/**
 * u32, atomic, bits: not 0 while the device's steering changes, or this kernel is about to end: a segment that belongs
 * to no connection here may belong to one elsewhere, so it is dropped instead of answered with RST. Written by the
 * stack.
 */
export const HEALTH_WITHHOLD_RST = 12;
export const WITHHOLD_RST_REHOMING = 1;
export const WITHHOLD_RST_BALANCER = 2;
export const WITHHOLD_RST_ENDING = 4;
/** u32, microseconds, wraps: time that the kernel's thread has worked for it. Written by whoever drives the kernel. */
export const HEALTH_BUSY_US = 16;
/**
 * u32, milliseconds of the kernels' clock, atomic: until then SYN cookies are believed that this kernel has not sent
 * itself, because another kernel may have, whose connections come here now. 0: none. Written by the owner.
 */
export const HEALTH_COOKIES_UNTIL_MS = 20;
/** RFC 4987: cookies are believed for this long after the last one was, or may have been, sent. */
export const COOKIES_TRUSTED_MS = 128000;
/** u32, atomic: migrations into this kernel that have been committed (docs/migration.md). Written by the kernel. */
export const HEALTH_MIGRATIONS = 24;
/**
 * i32, atomic: 1 once the stack has given this kernel up. If it was the device's owner and still runs (it hung, and is
 * about to be ended), it must not write the device's tables any more: another owner does. Written by the supervisor.
 */
export const HEALTH_FENCED = 28;

export const COUNTERS_BASE = 4096;

export const SCRATCH_BASE = 8192;
export const SCRATCH_SIZE_BYTES = 4096;
/** u32 results of calls that return more than one number (see each export). */
export const RESULT_BASE = 12288;

export const RX_CONTROL_BASE = 16384;
export const RX_LANES_MAX = 64;
export const TX_CONTROL_BASE = 32768;
/** Controls of the message rings, one for each sending kernel: layout/message.ts. */
export const MESSAGE_CONTROL_BASE = 33024;

export const STATIC_DATA_BASE = 65536;
