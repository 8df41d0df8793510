/**
 * Index of each counter in the u64 array at COUNTERS_BASE. One counter per drop cause; names in `stack.stats()` are
 * these constants in camel case. Append only; COUNTER_COUNT is last. Portable: read by asc and tsc.
 */
export const RX_FRAMES = 0;
export const RX_BYTES = 1;
export const TX_FRAMES = 2;
export const TX_BYTES = 3;
export const TX_RING_FULL = 4;
export const POLLS = 5;
export const EVENTS_PUBLISHED = 6;
export const DROP_FRAME_SHORT = 7;
export const DROP_NOT_FOR_US = 9;
export const DROP_ETHERTYPE_UNKNOWN = 10;
export const DROP_ARP_MALFORMED = 11;
export const DROP_IP_HEADER = 12;
export const DROP_IP_CHECKSUM = 13;
export const DROP_IP_LENGTH = 14;
export const DROP_IP_OPTION = 15;
export const DROP_IP_SOURCE = 16;
export const DROP_IP_DESTINATION = 17;
export const DROP_IP_PROTOCOL = 18;
export const DROP_FRAGMENT_INVALID = 19;
export const DROP_FRAGMENT_LIMIT = 20;
export const DROP_FRAGMENT_TIMEOUT = 21;
export const FRAGMENTS_REASSEMBLED = 22;
export const DROP_ICMP_LENGTH = 23;
export const DROP_ICMP_CHECKSUM = 24;
export const DROP_ICMP_TYPE = 25;
export const DROP_ICMP_QUOTE = 26;
export const ICMP_ECHO_REPLIES = 27;
export const ICMP_ERRORS_RECEIVED = 28;
export const ICMP_ERRORS_SENT = 29;
export const ICMP_RATE_LIMITED = 30;
export const DROP_UDP_LENGTH = 31;
export const DROP_UDP_CHECKSUM = 32;
export const DROP_UDP_NO_SOCKET = 33;
export const DROP_UDP_QUEUE_FULL = 34;
export const UDP_RECEIVED = 35;
export const UDP_SENT = 36;
export const DROP_TCP_HEADER = 37;
export const DROP_TCP_CHECKSUM = 38;
export const DROP_TCP_OPTION = 39;
export const DROP_TCP_UNACCEPTABLE = 40;
export const DROP_TCP_PAWS = 41;
export const DROP_TCP_NO_ACK = 42;
export const DROP_TCP_OUT_OF_WINDOW = 43;
export const DROP_TCP_NO_BUFFER = 44;
export const DROP_TCP_REASSEMBLY_LIMIT = 45;
export const DROP_SYN_QUEUE_FULL = 46;
export const DROP_ACCEPT_QUEUE_FULL = 47;
export const DROP_NO_CONNECTION_SLOT = 48;
export const TCP_NO_LISTENER = 49;
export const TCP_SEGMENTS_RECEIVED = 50;
export const TCP_SEGMENTS_SENT = 51;
export const TCP_RST_RECEIVED = 52;
export const TCP_RST_SENT = 53;
export const TCP_CHALLENGE_ACKS = 54;
export const TCP_CHALLENGE_ACKS_LIMITED = 55;
export const TCP_RETRANSMITS = 56;
export const TCP_RETRANSMIT_TIMEOUTS = 57;
export const TCP_FAST_RETRANSMITS = 58;
export const TCP_DUPLICATE_ACKS = 59;
export const TCP_OUT_OF_ORDER = 60;
export const TCP_ZERO_WINDOW_PROBES = 61;
export const TCP_KEEPALIVE_PROBES = 62;
export const TCP_ACTIVE_OPENS = 63;
export const TCP_PASSIVE_OPENS = 64;
export const TCP_ACCEPTED = 65;
export const TCP_CONNECT_FAILED = 66;
export const TCP_TIME_WAIT_REUSED = 67;
export const TCP_TIMED_OUT = 68;
export const ARP_REQUESTS_SENT = 69;
export const ARP_REPLIES_SENT = 70;
export const DROP_NEIGHBOR_UNRESOLVED = 71;
export const DROP_NEIGHBOR_QUEUE_FULL = 72;
export const NEIGHBOR_EVICTED = 73;
export const DROP_NO_ROUTE = 74;
export const ICMP_RECEIVED = 75;
export const DROP_BROADCAST = 76;
/** No neighbour entry to be had: half the table already waits for answers. */
export const NEIGHBOR_REFUSED = 77;
/** Another station claims one of our addresses. */
export const ARP_CONFLICTS = 78;
export const SYN_COOKIES_SENT = 80;
export const SYN_COOKIES_ACCEPTED = 81;
export const SYN_COOKIES_INVALID = 82;
export const TCP_PATH_MTU_REDUCED = 83;
/** Segments without a connection that were not answered with RST (HEALTH_WITHHOLD_RST). */
export const TCP_RST_WITHHELD = 84;
/** Live migration (docs/migration.md): connections that have come and gone. */
export const MIGRATED_IN = 88;
export const MIGRATED_OUT = 89;
/** Connections reset because the new kernel's flow table had no room. */
export const MIGRATION_LOST = 90;
/** Frames of a group that was on its way here: processed when it had come. */
export const MIGRATION_FRAMES_HELD = 91;
/** Frames that came after their group had left, for the kernel that has it now. */
export const LATE_FRAMES_FORWARDED = 92;
/** Frames of either kind for which there was no room, or no time. */
export const DROP_MIGRATION_FRAMES = 93;
/** Gauges rather than counters: the present number. */
export const GAUGE_CONNECTIONS = 96;
export const GAUGE_TIME_WAIT = 97;
export const GAUGE_STREAM_BYTES = 98;
export const GAUGE_FLOWS = 99;
export const GAUGE_REASSEMBLY_BYTES = 100;
export const GAUGE_UDP_BYTES = 101;
/** Connections that wait to be accepted, of all listeners. */
export const GAUGE_ACCEPT_QUEUE = 102;
/** Sum of the listeners' backlogs. */
export const GAUGE_ACCEPT_QUEUE_MAX = 103;
/** A length in the IPv6 header or behind it that cannot be. */
export const DROP_IP6_LENGTH = 128;
/** Not version 6, or extension headers beyond the limits, out of order or with options that forbid delivery. */
export const DROP_IP6_HEADER = 129;
export const DROP_IP6_EXTENSION = 130;
/** Neighbour discovery (RFC 4861). */
export const ND_SOLICITATIONS_SENT = 131;
export const ND_ADVERTISEMENTS_SENT = 132;
export const DROP_ND_MALFORMED = 133;
/** Another station claims one of our IPv6 addresses. */
export const ND_CONFLICTS = 134;
/** A path turned out narrower than the link (RFC 1191, RFC 8201). */
export const PATH_MTU_LEARNT = 135;
/** Router advertisements and the like, handed to the control path; and those that found its queue full. */
export const CONTROL_PACKETS = 136;
export const DROP_CONTROL_QUEUE_FULL = 137;
/** Frames from the kernel to itself. */
export const LOOP_FRAMES = 138;
export const DROP_LOOP_FULL = 139;
/** SACK blocks not believed, for lack of room for what they say. */
export const DROP_TCP_SACK_LIMIT = 144;
/** Duplicates that the peer has reported (D-SACK, RFC 2883), and that we have. */
export const TCP_DSACK_RECEIVED = 145;
export const TCP_DSACK_SENT = 146;
/** Reductions of the window taken back: nothing was lost (RFC 5682, D-SACK, timestamps). */
export const TCP_SPURIOUS_RECOVERIES = 147;
/** Tail loss probes (RFC 8985 7). */
export const TCP_TAIL_LOSS_PROBES = 148;
/** SACK blocks that make no sense. */
export const DROP_TCP_SACK_INVALID = 149;
/** Window reductions for ECN's echo of congestion (RFC 3168). */
export const TCP_ECN_REDUCTIONS = 150;
/** SYNs for closed ports that were not answered with RST: more than RST_PER_SECOND of them in a second. */
export const TCP_RST_LIMITED = 151;
/** TCP Fast Open (RFC 7413). As client: SYNs whose data was taken, and whose data was not. */
export const TCP_FAST_OPEN_ACTIVE = 160;
export const TCP_FAST_OPEN_ACTIVE_FAILED = 161;
/** As server: connections opened by a SYN alone; cookies that were not ours; SYNs when as many as allowed were open. */
export const TCP_FAST_OPEN_PASSIVE = 162;
export const TCP_FAST_OPEN_PASSIVE_FAILED = 163;
export const TCP_FAST_OPEN_OVERFLOW = 164;
/** Cookies given out. */
export const TCP_FAST_OPEN_COOKIES_SENT = 165;
/** SYNs that asked and got no answer, where a plain one did: the second in a row makes us leave that host alone. */
export const TCP_FAST_OPEN_REFUSALS_NOTED = 166;
/** Buffers grown because their connection needs it, and not grown because the pool is nearly used up. */
export const TCP_BUFFERS_GROWN = 167;
export const TCP_BUFFERS_HELD = 168;
/** Segments that did not arrive made smaller; probes for a larger path MTU, and those that were lost (RFC 4821). */
export const TCP_BLACK_HOLES = 176;
export const TCP_MTU_PROBES = 177;
export const TCP_MTU_PROBES_FAILED = 178;
/** Segments that said nothing new but the next bytes, taken with the one before them (GRO). */
export const TCP_SEGMENTS_COALESCED = 179;
/** Multicast: queries for the groups that we are in (RFC 3376), and IGMP that is none, or damaged. */
export const IGMP_QUERIES = 180;
export const DROP_IGMP = 181;
/** Echo replies that nobody waits for, or for which there was no room. */
export const DROP_ECHO_REPLY = 182;
/** Redirects that were followed, and those that nobody may send us, or that name no neighbour. */
export const ICMP_REDIRECTS = 183;
export const DROP_ICMP_REDIRECT = 184;
export const COUNTER_COUNT = 192;
