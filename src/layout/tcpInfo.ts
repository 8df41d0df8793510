/**
 * tcpInfo(handle, address): what TCP knows of a connection, u32 each but where u64 is said, under the names of Linux's
 * struct tcp_info. Units are the names'; a count of segments is bytes divided by the present MSS, rounded up, where
 * Linux counts buffers.
 * Portable: read by asc and tsc.
 */
/** TCP_STATE_*: the states by Linux's numbers. */
export const TCPI_STATE = 0;
/** TCPI_CA_*. */
export const TCPI_CA_STATE = 4;
/** Retransmission time-outs in a row. */
export const TCPI_RETRANSMITS = 8;
/** Unanswered keep-alive or window probes. */
export const TCPI_PROBES = 12;
export const TCPI_BACKOFF = 16;
/** Bits TCPI_OPT_*. */
export const TCPI_OPTIONS = 20;
export const TCPI_SND_WSCALE = 24;
export const TCPI_RCV_WSCALE = 28;
export const TCPI_RTO_US = 32;
/** How long an ACK may wait. */
export const TCPI_ATO_US = 36;
export const TCPI_SND_MSS_BYTES = 40;
/** Largest segment that the peer has sent; before the first one an estimate. */
export const TCPI_RCV_MSS_BYTES = 44;
/** Segments sent and not acknowledged cumulatively. */
export const TCPI_UNACKED = 48;
/** Of those: reported in SACK blocks. */
export const TCPI_SACKED = 52;
/** Of those: judged lost, whether sent again or not. */
export const TCPI_LOST = 56;
/** Of those: sent again and not acknowledged yet. */
export const TCPI_RETRANS = 60;
/** Since an acceptable ACK came. */
export const TCPI_LAST_ACK_RECV_MS = 64;
export const TCPI_PMTU_BYTES = 68;
export const TCPI_RTT_US = 72;
export const TCPI_RTTVAR_US = 76;
/** Segments; 0x7fffffff: none yet. */
export const TCPI_SND_SSTHRESH = 80;
/** Segments. */
export const TCPI_SND_CWND = 84;
export const TCPI_ADVMSS_BYTES = 88;
/** Segments, 3..300: the largest displacement seen. RACK itself counts in time (RFC 8985 6.2). */
export const TCPI_REORDERING = 92;
/** As the receive buffer's tuning has measured it last; 0: not. */
export const TCPI_RCV_RTT_US = 96;
/** Bytes that the receive buffer may hold now. */
export const TCPI_RCV_SPACE_BYTES = 100;
/** Retransmissions in the connection's life; stays at 65535. */
export const TCPI_TOTAL_RETRANS = 104;
/** Bytes per second, 0xffffffff: not limited. */
export const TCPI_PACING_RATE = 108;
/**
 * Segments delivered, cumulatively or by SACK, with the SYN. Deviates from Linux's, which only grows: the connection's
 * bytes by the MSS of now.
 */
export const TCPI_DELIVERED = 112;
/** With accurate ECN (RFC 9768): packets of ours that arrived with ECN's congestion mark, as the peer tells; else 0. */
export const TCPI_DELIVERED_CE = 116;
/**
 * 0xffffffff: no sample. Of data that was sent. Deviates from Linux's, which forgets after five minutes: the least of
 * the connection's life. It is kept with what is in flight, once that is looked at one by one (SACK, recovery, BBR),
 * and begins with the smoothed one; samples before and between only move that.
 */
export const TCPI_MIN_RTT_US = 120;
/** Queued and not sent yet. */
export const TCPI_NOTSENT_BYTES = 124;
/** The peer's window, in bytes. */
export const TCPI_SND_WND_BYTES = 128;
/** Window that we offer, in bytes. */
export const TCPI_RCV_WND_BYTES = 132;
/** Bytes per second, the latest sample; 0: none. */
export const TCPI_DELIVERY_RATE = 136;
/** D-SACK reports received. */
export const TCPI_DSACK_DUPS = 140;
/** ACKs that have told of reordering. */
export const TCPI_REORD_SEEN = 144;
/** CONGESTION_* (layout/option.ts). */
export const TCPI_CONGESTION = 148;
/** Likewise the peer's that came here with it. */
export const TCPI_RECEIVED_CE = 152;
/** Since a segment with data came; without any, since anything did. */
export const TCPI_LAST_DATA_RECV_MS = 156;
/** u64: bytes acknowledged by the peer, bytes received in order. */
export const TCPI_BYTES_ACKED = 160;
export const TCPI_BYTES_RECEIVED = 168;
/** u64: bytes sent, repetitions among them; and these alone. */
export const TCPI_BYTES_SENT = 176;
export const TCPI_BYTES_RETRANS = 184;
/** Segments that came ahead of a gap; stays at 65535. */
export const TCPI_RCV_OOOPACK = 192;
/** Since data was sent; before, as TCPI_LAST_DATA_RECV_MS. */
export const TCPI_LAST_DATA_SENT_MS = 196;
/** Segments with data: as the device brings them, which may take some together; as they leave, repetitions included. */
export const TCPI_DATA_SEGS_IN = 200;
export const TCPI_DATA_SEGS_OUT = 204;
/**
 * u64, microseconds, exact to a tick of 66: with anything unacknowledged; and of that, with the next segment kept back
 * by the peer's window, or with all sent and the application waiting for room in the send buffer. Any one stretch
 * counts modulo 78 hours.
 */
export const TCPI_BUSY_TIME_US = 208;
export const TCPI_RWND_LIMITED_US = 216;
export const TCPI_SNDBUF_LIMITED_US = 224;
/**
 * Retransmission time-outs, those of SYNs among them; rows of them without an ACK between that would end the back-off;
 * and the time from the first of a recovery until that is over. Counts stay at 65535.
 */
export const TCPI_TOTAL_RTO = 232;
export const TCPI_TOTAL_RTO_RECOVERIES = 236;
export const TCPI_TOTAL_RTO_TIME_MS = 240;
/** Largest window that the receive buffer's limit of now lets us offer. */
export const TCPI_RCV_SSTHRESH_BYTES = 244;
/** 0xffffffff: none. Nothing sets one here. */
export const TCPI_MAX_PACING_RATE = 248;
/** 1: TCPI_DELIVERY_RATE was measured while the application had nothing more to send, or was not measured. */
export const TCPI_DELIVERY_RATE_APP_LIMITED = 252;
/** TCPI_FAST_OPEN_*: why the SYN's data did not go through. */
export const TCPI_FASTOPEN_CLIENT_FAIL = 256;
/** TCPI_ECN_MODE_*. Deviates from Linux's: 0 also before the handshake has decided. */
export const TCPI_ECN_MODE = 260;
/** With accurate ECN, payload bytes modulo 2^32: received by codepoint; and ours that have arrived with CE. Else 0. */
export const TCPI_RECEIVED_E1_BYTES = 264;
export const TCPI_RECEIVED_E0_BYTES = 268;
export const TCPI_RECEIVED_CE_BYTES = 272;
export const TCPI_DELIVERED_CE_BYTES = 276;
export const TCPI_SIZE_BYTES = 280;

/** TCPI_FASTOPEN_CLIENT_FAIL: nothing failed; it had to ask for a cookie; the SYN-ACK was for the SYN alone. */
export const TCPI_FAST_OPEN_UNSPECIFIED = 0;
export const TCPI_FAST_OPEN_COOKIE_UNAVAILABLE = 1;
export const TCPI_FAST_OPEN_DATA_NOT_ACKED = 2;
/** Likewise, and the SYN had to go twice. */
export const TCPI_FAST_OPEN_SYN_RETRANSMITTED = 3;

export const TCPI_ECN_MODE_DISABLED = 0;
export const TCPI_ECN_MODE_RFC3168 = 1;
export const TCPI_ECN_MODE_ACCECN = 2;

/** TCPI_CA_STATE: Linux's states of congestion control. */
export const TCPI_CA_OPEN = 0;
export const TCPI_CA_DISORDER = 1;
export const TCPI_CA_CWR = 2;
export const TCPI_CA_RECOVERY = 3;
export const TCPI_CA_LOSS = 4;

export const TCPI_OPT_TIMESTAMPS = 1;
export const TCPI_OPT_SACK = 2;
export const TCPI_OPT_WSCALE = 4;
export const TCPI_OPT_ECN = 8;
/** At least one packet with ECT was received. */
export const TCPI_OPT_ECN_SEEN = 16;
/** Data in a SYN was taken, ours or the peer's (RFC 7413). */
export const TCPI_OPT_SYN_DATA = 32;

/** TCPI_STATE. */
export const TCP_STATE_ESTABLISHED = 1;
export const TCP_STATE_SYN_SENT = 2;
export const TCP_STATE_SYN_RECV = 3;
export const TCP_STATE_FIN_WAIT1 = 4;
export const TCP_STATE_FIN_WAIT2 = 5;
export const TCP_STATE_TIME_WAIT = 6;
export const TCP_STATE_CLOSE = 7;
export const TCP_STATE_CLOSE_WAIT = 8;
export const TCP_STATE_LAST_ACK = 9;
export const TCP_STATE_CLOSING = 11;
