/**
 * Events from kernel to application: `poll` publishes them as an array (not a ring) and returns their number; they
 * stay valid until the next `poll`. A connection stands in the array at most once per poll, and its index is not used
 * for another one before the next poll.
 *
 * ```
 *  +0 u32 handle   +4 u16 mask of EVENT_*   +6 i16 status code, 0 or negative   +8 u32 readable bytes (a listener:
 *  connections)   +12 u32 reserved
 * ```
 * A handle is `index | generation << 24 | kind << 29`; it is never negative, so calls return either a handle or a
 * status. Portable: read by asc and tsc.
 */
export const EVENT_HANDLE = 0;
export const EVENT_MASK = 4;
export const EVENT_STATUS = 6;
export const EVENT_READABLE_BYTES = 8;
export const EVENT_RESERVED = 12;
export const EVENT_SIZE_BYTES = 16;

/** An active open has completed. */
export const EVENT_CONNECTED = 1;
/** Bytes have arrived since the last event. */
export const EVENT_READABLE = 2;
/** A send that was cut short can go on. */
export const EVENT_WRITABLE = 4;
/** The peer's FIN has arrived: after the readable bytes there are no more. */
export const EVENT_PEER_CLOSED = 8;
/**
 * The connection is over. The handle is gone if tcpClose was called before; otherwise tcpClose must still be called.
 */
export const EVENT_CLOSED = 16;
/** The connection failed; `status` says why. Comes with EVENT_CLOSED. */
export const EVENT_ERROR = 32;
/** A listener has a connection to accept. */
export const EVENT_ACCEPTABLE = 64;
/** A UDP socket has a datagram, or (with status) an ICMP error. */
export const EVENT_DATAGRAM = 128;
/** With EVENT_READABLE: INFO_URGENT_BYTES is not 0 (OPTION_URGENT_TOLD). */
export const EVENT_URGENT = 256;

export const HANDLE_INDEX_MASK = 0xffffff;
export const HANDLE_GENERATION_SHIFT = 24;
export const HANDLE_GENERATION_MASK = 0x1f;
export const HANDLE_KIND_SHIFT = 29;
export const HANDLE_KIND_TCP = 0;
export const HANDLE_KIND_LISTENER = 1;
export const HANDLE_KIND_UDP = 2;
