/** Options of tcpSetOption(handle, option, value). Portable: read by asc and tsc. */
/** 1: send small segments at once (Nagle off). */
export const OPTION_NODELAY = 1;
/** 1: probe an idle connection (RFC 9293 3.8.4). */
export const OPTION_KEEPALIVE = 2;
/** Bytes, 2048..: limit of the receive buffer. */
export const OPTION_RCV_BUFFER_BYTES = 3;
/** Bytes, 2048..: limit of the send buffer. */
export const OPTION_SND_BUFFER_BYTES = 4;
/** 1: acknowledge at once. */
export const OPTION_QUICKACK = 5;
/** 1: hold segments smaller than the MSS back (TCP_CORK), for at most 200 ms. */
export const OPTION_CORK = 6;
/** Milliseconds that data may stay unacknowledged (RFC 5482); 0: only the number of retransmissions is limited. */
export const OPTION_USER_TIMEOUT_MS = 7;
/** Milliseconds of silence before the first keep-alive probe (TCP_KEEPIDLE), between two of them (TCP_KEEPINTVL). */
export const OPTION_KEEPALIVE_IDLE_MS = 8;
export const OPTION_KEEPALIVE_INTERVAL_MS = 9;
/** Unanswered probes before the connection is given up (TCP_KEEPCNT). */
export const OPTION_KEEPALIVE_PROBES = 10;
/** Bytes, 64..: largest segment to announce, while the SYN has not been sent, and to send (TCP_MAXSEG). */
export const OPTION_MSS_BYTES = 11;
/** CONGESTION_*: congestion control from now on (TCP_CONGESTION). */
export const OPTION_CONGESTION = 12;

/** 1: tcpClose resets the connection (SO_LINGER with 0 seconds). */
export const OPTION_LINGER_RESET = 13;
/** Of a listener: milliseconds for which a connection without data is not handed out (TCP_DEFER_ACCEPT). */
export const OPTION_DEFER_ACCEPT_MS = 14;
/** Of a listener: SYNs that may have opened connections whose handshake is not over (TCP_FASTOPEN); 0: none. */
export const OPTION_FAST_OPEN = 16;
/**
 * Before the SYN has left: ask for a cookie, or send the first bytes with the SYN (RFC 7413). 0: no; 1: where a cookie
 * is known the SYN waits for the first bytes (TCP_FASTOPEN_CONNECT); 2: the SYN takes what is queued when it leaves.
 * tcpSetOption returns how many bytes the SYN will take, 0 where no cookie is known, EOPNOTSUPP where the configuration
 * forbids it.
 */
export const OPTION_FAST_OPEN_CONNECT = 17;
/** 0..255: TOS of IPv4, traffic class of IPv6; the two bits of ECN are the stack's (IP_TOS, IPV6_TCLASS). */
export const OPTION_TOS = 18;
/** 1..255: TTL of IPv4, hop limit of IPv6; 0: as configured (IP_TTL, IPV6_UNICAST_HOPS). */
export const OPTION_HOP_LIMIT = 19;
/**
 * Milliseconds, 1000..86400000: tell the peer that data may stay unacknowledged for so long, and heed what it tells, at
 * least 100 s and at most a day, unless OPTION_USER_TIMEOUT_MS has been set (RFC 5482). 0: neither. Before the SYN
 * leaves, that brings it.
 */
export const OPTION_USER_TIMEOUT_OPTION_MS = 20;
/** All that is queued now is urgent (send with MSG_OOB, RFC 9293 3.8.5); the value is not looked at. */
export const OPTION_URGENT = 21;
/** 1: tell of the peer's urgent data: EVENT_URGENT, INFO_URGENT_BYTES. The bytes stay in their place (SO_OOBINLINE). */
export const OPTION_URGENT_TOLD = 22;
/** 1..127: SYNs, or SYN-ACKs, that are sent again before a connection that opens is given up (TCP_SYNCNT). */
export const OPTION_SYN_RETRIES = 23;
export const OPTION_COUNT = 24;

/** Congestion control algorithms. */
export const CONGESTION_RENO = 0;
export const CONGESTION_CUBIC = 1;
export const CONGESTION_BBR = 2;

/**
 * Of a UDP socket (udpSetOption), besides OPTION_TOS and OPTION_HOP_LIMIT. 0..255: of datagrams to groups, at first 1
 * (IP_MULTICAST_TTL).
 */
export const OPTION_MULTICAST_HOP_LIMIT = 40;
/** 1: datagrams to a group come to our own sockets in it, too; at first 1 (IP_MULTICAST_LOOP). */
export const OPTION_MULTICAST_LOOP = 41;

/** tcpGetInfo(handle, address): u32 fields written there. */
export const INFO_STATE = 0;
export const INFO_SND_UNA = 4;
export const INFO_SND_NXT = 8;
export const INFO_SND_WND = 12;
export const INFO_RCV_NXT = 16;
export const INFO_RCV_WND = 20;
export const INFO_CWND_BYTES = 24;
export const INFO_SSTHRESH_BYTES = 28;
export const INFO_SRTT_US = 32;
export const INFO_RTTVAR_US = 36;
export const INFO_RTO_US = 40;
export const INFO_SND_MSS_BYTES = 44;
export const INFO_RETRANSMITS = 48;
export const INFO_SND_QUEUED_BYTES = 52;
export const INFO_RCV_QUEUED_BYTES = 56;
export const INFO_LOCAL_PORT = 60;
export const INFO_REMOTE_PORT = 64;
/** 16 bytes each, IPv4-mapped. */
export const INFO_LOCAL_ADDRESS = 68;
export const INFO_REMOTE_ADDRESS = 84;
/** With OPTION_URGENT_TOLD: bytes up to and with the last urgent one, arrived or not; 1: SIOCATMARK; 0: none. */
export const INFO_URGENT_BYTES = 100;
/**
 * i32: what has gone wrong on the way since the peer acknowledged something last, and ended nothing: ENETUNREACH,
 * EHOSTUNREACH, ECONNREFUSED as ICMP tells, ETIMEDOUT after three time-outs in a row; 0: nothing.
 */
export const INFO_SOFT_ERROR = 104;
export const INFO_SIZE_BYTES = 108;

/** TCP states (RFC 9293 3.3.2), as in INFO_STATE. */
export const STATE_FREE = 0;
export const STATE_SYN_SENT = 1;
export const STATE_SYN_RECEIVED = 2;
export const STATE_ESTABLISHED = 3;
export const STATE_FIN_WAIT_1 = 4;
export const STATE_FIN_WAIT_2 = 5;
export const STATE_CLOSE_WAIT = 6;
export const STATE_CLOSING = 7;
export const STATE_LAST_ACK = 8;
export const STATE_TIME_WAIT = 9;
/** No longer on the wire; kept until the application calls tcpClose. */
export const STATE_CLOSED = 10;
