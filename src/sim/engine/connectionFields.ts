/**
 * The record of a connection (connections.ts): what stands in which of its words. Two cache lines, the first one for
 * the server's side, the second one for the clients' and for what the card looks at.
 */
export const LINE_WORDS = 16;
export const RECORD_WORDS = 2 * LINE_WORDS;

// Server side. What a slot holds before begin() or takeActive() says nothing.
/** Kernel that has it, and its handle there; -1: none. */
export const KERNEL = 0;
export const HANDLE = 1;
/** Process that serves it, -1: none yet. */
export const PROCESS = 2;
/** Core that has written last what opening and closing write, and what data write; -1: none. */
export const LAST_CORE = 3;
export const LAST_DATA_CORE = 4;
/** Listener that its SYN goes to. */
export const LISTENER = 5;
/** The server has seen its SYN and not yet the ACK that completes the handshake. */
export const HALF_OPEN = 6;
/** Bytes of the present request (or of a back end's response) that have arrived. */
export const SERVER_BYTES = 7;
export const REQUESTS_SERVED = 8;
/** Proxy: the connection on the other side, -1: none. */
export const PEER = 9;
/** The peer has closed or reset it. */
export const ENDED = 10;
/** In its process's list of readable connections. */
export const QUEUED = 11;

// Client side, and what the card looks at. Instants take two words each and are counted in such pairs.
/** When its SYN was sent; not positive: the slot is not in use. */
export const STARTED_NS = LINE_WORDS / 2;
export const REQUEST_NS = LINE_WORDS / 2 + 1;
export const CLIENT_BYTES = LINE_WORDS + 4;
export const REQUESTS_LEFT = LINE_WORDS + 5;
export const FINISHED = LINE_WORDS + 6;
/** Client's address (last byte) and port: whose life the slot has now. */
export const TUPLE = LINE_WORDS + 7;
/** RSS hash and flow group of its packets. */
export const HASH = LINE_WORDS + 8;
export const GROUP = LINE_WORDS + 9;
/** Exact filter of the card, -1: none. */
export const FILTER = LINE_WORDS + 10;
/** Core that opened it, for connections of the server's own. */
export const HOME = LINE_WORDS + 11;
