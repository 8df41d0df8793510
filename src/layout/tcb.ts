/**
 * What others than the kernel may read of its TCBs (assembly/tcp/tcb.ts has them whole): which connections there are.
 * MAP_TCB_HIGH_WATER records of TCB_SIZE_BYTES at MAP_TCBS, written by the kernel. Portable: read by asc and tsc.
 */
/** 16 bytes, IPv4 as ::ffff:a.b.c.d. */
export const TCB_REMOTE_ADDRESS = 0;
/** Both ports as they stand in a received segment: u16 remote, u16 local, network order. */
export const TCB_PORTS = 16;
/** u32 */
export const TCB_FLAGS = 24;
/** Bits of TCB_FLAGS: the application knows the handle; the connection stands in the flow table. */
export const TCB_FLAG_APP = 4;
export const TCB_FLAG_IN_FLOW_TABLE = 268435456;
/** u8: index of the local address. */
export const TCB_LOCAL_INDEX = 28;
/** u8: STATE_* (layout/option.ts). */
export const TCB_STATE = 29;
/** u8: with the index it makes the handle (layout/event.ts). */
export const TCB_GENERATION = 30;
/** u32 each: RCV.NXT and SND.UNA, whose progress is the bytes that a connection has carried. */
export const TCB_RCV_NXT = 32;
export const TCB_SND_UNA = 36;
export const TCB_SIZE_BYTES = 128;
