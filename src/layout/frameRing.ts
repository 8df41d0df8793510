/**
 * The frame ring: descriptor ring and frame buffers in one, so that a run of frames moves in one copy.
 *
 * A byte ring of a power-of-two size, one producer, one consumer. `head` and `tail` are free-running u32 byte
 * counters; a record's place is its counter modulo the size. Records are multiples of FRAME_ALIGN_BYTES and never
 * wrap: where a frame does not fit before the end of the ring, the producer puts a pad record there and goes on at 0.
 * A pad carries its own size, so that a run of records stays valid when it is copied to another place.
 *
 * ```
 *  +0  i32 frame length in bytes; negative: a pad record of that many bytes in all, skip it
 *  +4  u16 queue chosen by the card (RX), otherwise 0
 *  +6  virtio_net_hdr_v1, 12 bytes, little-endian: u8 flags, u8 gso_type, u16 hdr_len, gso_size,
 *      csum_start, csum_offset, num_buffers (VIRTIO 1.2, 5.1.6); a TAP queue reads and writes from +6 on
 *  +18 the Ethernet frame (so that the IP header is 32-byte aligned)
 * ```
 *
 * Ring control, one record per ring, at a fixed address (layout/kernelMemory.ts): `tail` is written by the producer
 * only, `head` by the consumer only, each on its own cache line; base and size are constants after boot().
 * Portable: read by asc and tsc.
 */
export const RING_TAIL = 0;
export const RING_HEAD = 64;
/** u32: address of the ring's bytes; 0 until the kernel has booted. */
export const RING_BASE = 128;
/** u32: size of the ring, a power of two. */
export const RING_SIZE = 132;
/** u32, written by the producer: frames that did not fit and were dropped. */
export const RING_MISSED = 192;
export const RING_CONTROL_SIZE_BYTES = 256;

export const FRAME_LENGTH = 0;
export const FRAME_QUEUE = 4;
export const FRAME_VNET = 6;
export const FRAME_VNET_FLAGS = 6;
export const FRAME_VNET_GSO_TYPE = 7;
export const FRAME_VNET_HDR_LEN = 8;
export const FRAME_VNET_GSO_SIZE = 10;
export const FRAME_VNET_CSUM_START = 12;
export const FRAME_VNET_CSUM_OFFSET = 14;
export const FRAME_VNET_NUM_BUFFERS = 16;
/** Bytes before the frame in a record. */
export const FRAME_OFFSET = 18;
export const FRAME_VNET_SIZE_BYTES = 12;
export const FRAME_ALIGN_BYTES = 32;
/** Largest frame a record may carry: a 64 KiB TSO frame with its Ethernet header. */
export const FRAME_BYTES_MAX = 65550;

/** virtio_net_hdr flags and gso_type values. */
export const VNET_NEEDS_CSUM = 1;
export const VNET_DATA_VALID = 2;
export const VNET_GSO_NONE = 0;
export const VNET_GSO_TCPV4 = 1;
export const VNET_GSO_TCPV6 = 4;
