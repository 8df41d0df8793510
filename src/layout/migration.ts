/**
 * Live migration of a flow group (docs/migration.md): the stream of records in which connections travel, and the list
 * that tells which they are. Portable: read by asc and tsc; integer constants only.
 *
 * ```
 * record:  header │ TCB │ cold TCB │ extension block │ flight block │ settings │ ECN │ account │ history
 *          │ send bytes │ receive bytes
 * ```
 * The blocks are copied whole, so a new field of theirs travels without being named; what points into a kernel's own
 * memory or tables is named in assembly/tcp/migration.ts and made anew. Records follow each other without gaps and are
 * cut into pieces anywhere.
 */
/** u32: MIGRATION_VERSION. */
export const MIGRATION_RECORD_VERSION = 0;
/** u32: MIGRATION_KIND_*. */
export const MIGRATION_RECORD_KIND = 4;
/** u32 each: bytes of the parts that follow the header, in their order. */
export const MIGRATION_TCB_BYTES = 8;
export const MIGRATION_COLD_BYTES = 12;
export const MIGRATION_EXT_BYTES = 16;
export const MIGRATION_FLIGHT_BYTES = 20;
/** What the application has set that differs from the configuration (assembly/tcp/settings.ts). */
export const MIGRATION_SETTINGS_BYTES = 24;
/** Counters of accurate ECN (assembly/tcp/accurateEcn.ts). */
export const MIGRATION_ECN_BYTES = 28;
/** What TCP_INFO asks for (assembly/tcp/account.ts, history.ts). */
export const MIGRATION_ACCOUNT_BYTES = 32;
export const MIGRATION_HISTORY_BYTES = 36;
export const MIGRATION_SND_BYTES = 40;
export const MIGRATION_RCV_BYTES = 44;
/** u32 each: sequence numbers of the first send and receive byte. */
export const MIGRATION_SND_SEQ = 48;
export const MIGRATION_RCV_SEQ = 52;
/** A listener that answers with SYN cookies: u32 port, i32 address index, u32 ms of the last cookie. */
export const MIGRATION_COOKIE_PORT = 8;
export const MIGRATION_COOKIE_ADDRESS_INDEX = 12;
export const MIGRATION_COOKIE_MS = 16;
export const MIGRATION_HEADER_SIZE_BYTES = 56;

export const MIGRATION_VERSION = 6;
export const MIGRATION_KIND_CONNECTION = 1;
export const MIGRATION_KIND_COOKIES = 2;

/** migrationList: u32 handle in the kernel that it comes from, u32 handle here, u32 MIGRATION_LISTED_*. */
export const MIGRATION_LIST_SOURCE_HANDLE = 0;
export const MIGRATION_LIST_HANDLE = 4;
export const MIGRATION_LIST_FLAGS = 8;
export const MIGRATION_LIST_SIZE_BYTES = 12;
/** The application knows the handle. */
export const MIGRATION_LISTED_APP = 1;
/** It has called tcpClose. */
export const MIGRATION_LISTED_APP_CLOSED = 2;

/** What a kernel does with a segment of a group for which it has no connection. */
export const GROUP_STEADY = 0;
/** The group's connections are on their way here: segments wait for them. */
export const GROUP_ARRIVING = 1;
/** The group has left: segments are forwarded. To the kernel GROUP_LEFT + id. */
export const GROUP_LEFT = 2;
/** Of a single flow: whatever becomes of its group, its segments are for this kernel. */
export const GROUP_HERE = 255;
