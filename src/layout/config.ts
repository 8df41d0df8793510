/**
 * Kernel configuration, written by the host at CONFIG_BASE before boot(). All u32 unless said otherwise.
 * Defaults and ranges are in src/kernel/config.ts. Portable: read by asc and tsc.
 */
export const CONFIG_LAYOUT_VERSION = 0;
export const CONFIG_KERNEL_ID = 4;
export const CONFIG_MEMORY_BYTES = 8;
/** u32 x 4: everything random in the kernel is drawn from this seed (ISNs, hash keys, ports). */
export const CONFIG_SEED = 12;
/** u8 x 6 */
export const CONFIG_MAC = 28;
/** u16: IP packet size without the Ethernet header. */
export const CONFIG_MTU_BYTES = 34;
export const CONFIG_CONNECTIONS_MAX = 36;
export const CONFIG_EVENT_SLOTS = 40;
export const CONFIG_RX_LANES = 44;
export const CONFIG_RX_RING_BYTES = 48;
export const CONFIG_TX_RING_BYTES = 52;
/** Bytes of memory for send and receive buffers together. */
export const CONFIG_STREAM_POOL_BYTES = 56;
/** Largest TCP payload handed to the device in one frame; 0: the device has no TSO. */
export const CONFIG_TSO_BYTES_MAX = 60;
/** Bit set of CONFIG_FLAG_*. */
export const CONFIG_FLAGS = 64;
export const CONFIG_TIME_WAIT_MS = 68;
export const CONFIG_RTO_MIN_US = 72;
export const CONFIG_RTO_INITIAL_US = 76;
export const CONFIG_RTO_MAX_US = 80;
export const CONFIG_DELAYED_ACK_US = 84;
/** Limit on one connection's receive buffer: the window that can be offered. */
export const CONFIG_RCV_BUFFER_BYTES_MAX = 88;
export const CONFIG_SND_BUFFER_BYTES_MAX = 92;
export const CONFIG_SYN_RETRIES_MAX = 96;
export const CONFIG_RETRIES_MAX = 100;
export const CONFIG_KEEPALIVE_IDLE_MS = 104;
export const CONFIG_KEEPALIVE_INTERVAL_MS = 108;
export const CONFIG_KEEPALIVE_PROBES_MAX = 112;
export const CONFIG_EPHEMERAL_PORT_FIRST = 116;
export const CONFIG_EPHEMERAL_PORT_LAST = 120;
export const CONFIG_LISTENERS_MAX = 124;
export const CONFIG_UDP_SOCKETS_MAX = 128;
export const CONFIG_NEIGHBORS_MAX = 132;
/** Bytes of all fragments waiting for the rest of their packet. */
export const CONFIG_REASSEMBLY_BYTES_MAX = 136;
export const CONFIG_ADDRESS_COUNT = 140;
/**
 * CONFIG_ADDRESS_COUNT records of ADDRESS_SIZE_BYTES: +0 16 bytes address (IPv4 as ::ffff:a.b.c.d), +16 u8 prefix
 * length in the family's own bits, +17 u8 ADDRESS_* flags.
 */
export const CONFIG_ADDRESSES = 160;
export const ADDRESS_SIZE_BYTES = 20;
export const ADDRESS_PREFIX_LENGTH = 16;
export const ADDRESS_FLAGS = 17;
/** No longer ours; the index stays, for sockets may be bound to it. */
export const ADDRESS_REMOVED = 1;
/** Not for new connections while there is another (RFC 4862 5.5.4). */
export const ADDRESS_DEPRECATED = 2;
export const ADDRESSES_MAX = 32;
/** In place of an address's index: any of both families, of IPv4, of IPv6. */
export const ADDRESS_ANY = -1;
export const ADDRESS_ANY_V4 = -2;
export const ADDRESS_ANY_V6 = -3;
/** 16 bytes: default gateway, IPv4 as ::ffff:a.b.c.d, all zero when there is none. */
export const CONFIG_GATEWAY = 144;
/** Kernels that may send messages to this one; their ids are below. */
export const CONFIG_KERNELS_MAX = 800;
/** Size of each message ring, a power of two. */
export const CONFIG_MESSAGE_RING_BYTES = 804;
/** u32 x 4: what all kernels of a stack must agree on is drawn from this one (cookies, timestamps); 0: from SEED. */
export const CONFIG_STACK_SEED = 808;
/** 1: permit SACK. */
export const CONFIG_SACK = 896;
/** CONGESTION_* (layout/option.ts) of new connections. */
export const CONFIG_CONGESTION = 900;
/** ECN_*: what to do about ECN, by Linux's numbers. */
export const CONFIG_ECN = 904;
/** TTL and hop limit of packets that nothing else is said about. */
export const CONFIG_HOP_LIMIT = 908;
/** Delayed ACKs of a new connection that wait a millisecond only. */
export const CONFIG_QUICK_ACKS = 912;
/** 1: the congestion window shrinks while a connection is idle. */
export const CONFIG_SLOW_START_AFTER_IDLE = 916;
/** FAST_OPEN_*: bits by Linux's numbers. */
export const CONFIG_FAST_OPEN = 960;
/** u32 x 4, twice: key of the cookies given out, and one that is still taken; all 0: drawn from CONFIG_STACK_SEED. */
export const CONFIG_FAST_OPEN_KEYS = 964;
/** 1: find the path MTU where routers are silent (RFC 4821). */
export const CONFIG_MTU_PROBING = 1016;
/** When an unconfirmed neighbour is forgotten (RFC 1122 2.3.2.1). */
export const CONFIG_NEIGHBOR_EXPIRY_MS = 920;
/** 1: redirects are followed (RFC 1122 3.2.2.2, RFC 4861 8.3). */
export const CONFIG_ACCEPT_REDIRECTS = 924;
/** Bits of a port that name its flow group. */
export const CONFIG_FLOW_GROUP_MASK = 928;
/** Own ports that have a part in it; first > last: none. */
export const CONFIG_LOCAL_PORT_FIRST = 932;
export const CONFIG_LOCAL_PORT_LAST = 936;
export const CONFIG_SIZE_BYTES = 1024;

/** Connections may ask for fast open; listeners may offer it. */
export const FAST_OPEN_CLIENT = 1;
export const FAST_OPEN_SERVER = 2;
/** Data goes in the SYN, and is taken from it, without a cookie: for networks whose hosts trust each other. */
export const FAST_OPEN_CLIENT_NO_COOKIE = 4;
export const FAST_OPEN_SERVER_NO_COOKIE = 512;
/** Every listener offers it. */
export const FAST_OPEN_ALL_LISTENERS = 1024;
export const FAST_OPEN_MAX = 1543;

/** Neither asked for nor agreed to; asked for and agreed to; agreed to when the peer asks. */
export const ECN_OFF = 0;
export const ECN_ASK = 1;
export const ECN_AGREE = 2;
/** Accurate ECN (RFC 9768): asked for and agreed to; only agreed to, with nothing asked for. */
export const ECN_ACCURATE = 3;
export const ECN_ACCURATE_AGREE = 5;

/** The device checks and fills TCP/UDP checksums (virtio NEEDS_CSUM); otherwise the kernel does both. */
export const CONFIG_FLAG_CHECKSUM_OFFLOAD = 1;
/** Send timestamps (RFC 7323) when the peer does. */
export const CONFIG_FLAG_TIMESTAMPS = 2;
/** Turn Nagle's algorithm off for new connections. */
export const CONFIG_FLAG_NODELAY = 4;
