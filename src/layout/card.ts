/**
 * Memory of an in-memory Ethernet segment: the registers of its cards and the packet buffers of its ports. Every
 * sending port runs its own instance of card.wasm on this memory: all read the registers, each writes its own region.
 *
 * ```
 *      0 ┌────────────────────────────┐ never written
 *   1024 │ segment registers          │ written by the segment's creator
 *   2048 │ Ethernet addresses of cards│ u64 each, the six bytes in memory order, by the creator
 *   4096 │ port records               │ written by the port's thread; masks by senders, atomically
 *  12288 │ scratch of the creator     │ arguments of register calls
 *  16384 │ delivered frames           │ f64 [sending port][receiving port], written by the sender
 *  65536 │ static data of the module  │
 * 131072 │ cards, CARD_SIZE_BYTES each│ written at first by the creator, then by the device's owner
 *        └ port regions               ┘ packet buffers, each written by its port only
 * ```
 * Portable: read by asc and tsc; integer constants, + and * only.
 */
export const SEGMENT_BASE = 1024;
/** u32: cards on the segment. */
export const SEGMENT_CARD_COUNT = 0;
/** u32: address of the first port region. */
export const SEGMENT_PORT_REGIONS = 4;
/** u32: size of a port region. */
export const SEGMENT_PORT_REGION_BYTES = 8;

export const CARD_MACS_BASE = 2048;
export const SEGMENT_PORTS_MAX = 64;
/** Marks a queue that no kernel drives. */
export const PORT_NONE = 255;

export const PORTS_BASE = 4096;
export const PORT_RECORD_SIZE_BYTES = 64;
/** i32, atomic: 1 while a kernel drives this port's queue pair. */
export const PORT_OPEN = 0;
/** Two i32, atomic: set of sending ports that wait until this port's lanes have room. */
export const PORT_WAITING = 4;

export const SEGMENT_SCRATCH_BASE = 12288;
export const DELIVERED_BASE = 16384;
export const CARDS_BASE = 131072;

/** One card's registers. */
export const CARD_FLAGS = 0;
/** u32: queue pairs, 1..CARD_QUEUES_MAX. */
export const CARD_QUEUES = 4;
/** u32: entries of the RETA in use minus one; the entries are a power of two. */
export const CARD_RETA_MASK = 8;
/** u32: filters set. */
export const CARD_FILTER_COUNT = 12;
/** u32 each: own ports that have a part in the flow group (src/device/flowGroups.ts). First > last: none. */
export const CARD_LOCAL_PORT_FIRST = 16;
export const CARD_LOCAL_PORT_LAST = 20;
/** 52 bytes. */
export const CARD_RSS_KEY = 24;
export const RSS_KEY_BYTES_MAX = 52;
/** u32: queue for what is no IP packet, ARP requests above all (the 82599's EtherType queue filter). */
export const CARD_OTHER_QUEUE = 80;
/** u32: bits of a port that name its flow group. */
export const CARD_FLOW_GROUP_MASK = 84;
/** u32: cards that have had this place before. Who knows a card by another number writes nothing here any more. */
export const CARD_GENERATION = 88;
/** u8 each: port that drives the queue, or PORT_NONE. */
export const CARD_QUEUE_PORTS = 128;
export const CARD_QUEUES_MAX = 128;
/** u16 each: hash bucket -> queue. */
export const CARD_RETA = 256;
export const RETA_ENTRIES_MAX = 512;
/** u16 each: flow group (the low bits of a port, at most 12) -> queue, or FLOW_GROUP_NONE. */
export const CARD_FLOW_GROUPS = 2048;
export const FLOW_GROUPS = 4096;
export const FLOW_GROUP_NONE = 65535;
/** Toeplitz tables made from the key. */
export const CARD_RSS_TABLES = 12288;
/** A filter record, argument of the owner's calls: it may be on another thread than the creator. */
export const CARD_SCRATCH = 49152;
/** Hash table of exact filters, FILTER_SLOTS records. */
export const CARD_FILTERS = 65536;
export const FILTER_SLOTS = 16384;
/** At most half of the slots, so that look-ups stay short. */
export const FILTERS_MAX = 8192;
export const CARD_SIZE_BYTES = 1114112;

/** Flow groups are enabled. */
export const CARD_FLAG_FLOW_GROUPS = 1;
/** UDP is hashed with its ports; otherwise by addresses only, so that fragments keep to their flow's queue. */
export const CARD_FLAG_RSS_UDP_PORTS = 2;
/** The card takes frames whose TCP/UDP checksum is not filled in (NEEDS_CSUM). */
export const CARD_FLAG_CHECKSUM_OFFLOAD = 4;
/** The card takes frames that its peer's card has not cut into segments. */
export const CARD_FLAG_LARGE_RECEIVE = 8;
/** The card cuts large frames of its kernels, or has its peer take them: its kernels send such. */
export const CARD_FLAG_SEGMENTATION = 16;

/**
 * An exact filter: 16 bytes source address, 16 bytes destination address (IPv4 in the first four, the rest zero),
 * u32 ports in memory order, u32 control word. Also the form of a tuple in CARD_SCRATCH.
 */
export const FILTER_SOURCE = 0;
export const FILTER_DESTINATION = 16;
export const FILTER_PORTS = 32;
/** u32, atomic: 0 empty, 1 deleted, else protocol << 24 | FILTER_V6 | queue. Protocol is TCP or UDP, never 0. */
export const FILTER_CONTROL = 36;
/** Set for IPv6 in the control word. */
export const FILTER_V6 = 1048576;
/** Multiplier of the protocol in the control word. */
export const FILTER_PROTOCOL_UNIT = 16777216;
export const FILTER_SIZE_BYTES = 64;
export const FILTER_EMPTY = 0;
export const FILTER_DELETED = 1;

/** A port's region: results of classify(), then the buffers. */
export const REGION_STOP = 0;
/** u32: frames for a queue that no kernel drives. */
export const REGION_DROP_NO_PORT = 64;
/** u32: frames for the card that sent them; a switch sends nothing back where it came from. */
export const REGION_DROP_OWN_CARD = 68;
/** u32: large frames whose segmentation request makes no sense. */
export const REGION_DROP_GSO = 72;
/** Sections: runs of records for one receiving port each. */
export const REGION_SECTIONS = 256;
export const SECTION_PORT = 0;
export const SECTION_ADDRESS = 4;
export const SECTION_BYTES = 8;
export const SECTION_FRAMES = 12;
export const SECTION_SIZE_BYTES = 16;
/** u32: runs that were no whole records; only a broken kernel makes such. */
export const REGION_DROP_BROKEN_RUN = 76;
/** u32: frames for which the receiver's lane had no room. */
export const REGION_DROP_NO_ROOM = 80;
/** u32 each: frames lost, duplicated, corrupted, reordered, dropped at the rate limit, on the port's impaired link. */
export const REGION_IMPAIRMENT_COUNTS = 96;
/** Room for a frame made up to ask where it would go. */
export const REGION_SCRATCH = 2048;
/** u32 per receiving port: bytes, then frames, then fill position. */
export const REGION_TALLY_BYTES = 1280;
export const REGION_TALLY_FRAMES = 1536;
export const REGION_TALLY_FILL = 1792;
/** u8 per record of the run: receiving port, PORT_NONE or TARGET_FLOOD. */
export const REGION_TARGETS = 4096;
export const TARGET_FLOOD = 254;
/** Target of a record that goes to every queue of its card. */
export const TARGET_ALL_QUEUES = 253;
export const REGION_RECORDS_MAX = 4096;
/** Records taken from the TX ring. */
export const REGION_INPUT = 8192;
export const REGION_INPUT_BYTES = 131072;
/** Segments cut from one large frame. */
export const REGION_CUT = 139264;
export const REGION_CUT_BYTES = 262144;
/** Records sorted by receiving port; REGION_INPUT_BYTES and, for each port of the segment, one largest record. */
export const REGION_OUTPUT = 401408;
export const REGION_RECORD_BYTES_MAX = 65600;
