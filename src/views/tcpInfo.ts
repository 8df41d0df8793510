/**
 * TCP_INFO: what TCP knows of a connection, under the names and in the units of Linux's struct tcp_info
 * (layout/tcpInfo.ts).
 */
import * as INFO from "../layout/tcpInfo.ts";
import type { KernelMemory } from "./kernelMemory.ts";

const FIELDS = {
  tcpi_state: INFO.TCPI_STATE,
  tcpi_ca_state: INFO.TCPI_CA_STATE,
  tcpi_retransmits: INFO.TCPI_RETRANSMITS,
  tcpi_probes: INFO.TCPI_PROBES,
  tcpi_backoff: INFO.TCPI_BACKOFF,
  tcpi_options: INFO.TCPI_OPTIONS,
  tcpi_snd_wscale: INFO.TCPI_SND_WSCALE,
  tcpi_rcv_wscale: INFO.TCPI_RCV_WSCALE,
  tcpi_rto: INFO.TCPI_RTO_US,
  tcpi_ato: INFO.TCPI_ATO_US,
  tcpi_snd_mss: INFO.TCPI_SND_MSS_BYTES,
  tcpi_rcv_mss: INFO.TCPI_RCV_MSS_BYTES,
  tcpi_unacked: INFO.TCPI_UNACKED,
  tcpi_sacked: INFO.TCPI_SACKED,
  tcpi_lost: INFO.TCPI_LOST,
  tcpi_retrans: INFO.TCPI_RETRANS,
  tcpi_last_ack_recv: INFO.TCPI_LAST_ACK_RECV_MS,
  tcpi_pmtu: INFO.TCPI_PMTU_BYTES,
  tcpi_rtt: INFO.TCPI_RTT_US,
  tcpi_rttvar: INFO.TCPI_RTTVAR_US,
  tcpi_snd_ssthresh: INFO.TCPI_SND_SSTHRESH,
  tcpi_snd_cwnd: INFO.TCPI_SND_CWND,
  tcpi_advmss: INFO.TCPI_ADVMSS_BYTES,
  tcpi_reordering: INFO.TCPI_REORDERING,
  tcpi_rcv_rtt: INFO.TCPI_RCV_RTT_US,
  tcpi_rcv_space: INFO.TCPI_RCV_SPACE_BYTES,
  tcpi_total_retrans: INFO.TCPI_TOTAL_RETRANS,
  tcpi_pacing_rate: INFO.TCPI_PACING_RATE,
  tcpi_min_rtt: INFO.TCPI_MIN_RTT_US,
  tcpi_notsent_bytes: INFO.TCPI_NOTSENT_BYTES,
  tcpi_snd_wnd: INFO.TCPI_SND_WND_BYTES,
  tcpi_rcv_wnd: INFO.TCPI_RCV_WND_BYTES,
  tcpi_delivery_rate: INFO.TCPI_DELIVERY_RATE,
  tcpi_dsack_dups: INFO.TCPI_DSACK_DUPS,
  tcpi_reord_seen: INFO.TCPI_REORD_SEEN,
  tcpi_delivered_ce: INFO.TCPI_DELIVERED_CE,
  tcpi_received_ce: INFO.TCPI_RECEIVED_CE,
  tcpi_delivered: INFO.TCPI_DELIVERED,
  tcpi_last_data_recv: INFO.TCPI_LAST_DATA_RECV_MS,
  tcpi_rcv_ooopack: INFO.TCPI_RCV_OOOPACK,
  tcpi_last_data_sent: INFO.TCPI_LAST_DATA_SENT_MS,
  tcpi_data_segs_in: INFO.TCPI_DATA_SEGS_IN,
  tcpi_data_segs_out: INFO.TCPI_DATA_SEGS_OUT,
  tcpi_total_rto: INFO.TCPI_TOTAL_RTO,
  tcpi_total_rto_recoveries: INFO.TCPI_TOTAL_RTO_RECOVERIES,
  tcpi_total_rto_time: INFO.TCPI_TOTAL_RTO_TIME_MS,
  tcpi_rcv_ssthresh: INFO.TCPI_RCV_SSTHRESH_BYTES,
  tcpi_max_pacing_rate: INFO.TCPI_MAX_PACING_RATE,
  tcpi_delivery_rate_app_limited: INFO.TCPI_DELIVERY_RATE_APP_LIMITED,
  tcpi_fastopen_client_fail: INFO.TCPI_FASTOPEN_CLIENT_FAIL,
  tcpi_ecn_mode: INFO.TCPI_ECN_MODE,
  tcpi_received_e1_bytes: INFO.TCPI_RECEIVED_E1_BYTES,
  tcpi_received_e0_bytes: INFO.TCPI_RECEIVED_E0_BYTES,
  tcpi_received_ce_bytes: INFO.TCPI_RECEIVED_CE_BYTES,
  tcpi_delivered_ce_bytes: INFO.TCPI_DELIVERED_CE_BYTES,
} as const;

/** Of 64 bits. As a number they are exact to 2^53. */
const WIDE_FIELDS = {
  tcpi_bytes_acked: INFO.TCPI_BYTES_ACKED,
  tcpi_bytes_received: INFO.TCPI_BYTES_RECEIVED,
  tcpi_bytes_sent: INFO.TCPI_BYTES_SENT,
  tcpi_bytes_retrans: INFO.TCPI_BYTES_RETRANS,
  tcpi_busy_time: INFO.TCPI_BUSY_TIME_US,
  tcpi_rwnd_limited: INFO.TCPI_RWND_LIMITED_US,
  tcpi_sndbuf_limited: INFO.TCPI_SNDBUF_LIMITED_US,
} as const;

/**
 * Numbers all. tcpi_state: TCP_STATE_*, tcpi_ca_state: TCPI_CA_*, tcpi_options: TCPI_OPT_* (layout/tcpInfo.ts); times
 * in microseconds but those of tcpi_last_… and tcpi_total_rto_time in milliseconds; tcpi_snd_cwnd, tcpi_unacked and
 * their likes in segments.
 */
export type TcpInfo = { readonly [Name in keyof typeof FIELDS | keyof typeof WIDE_FIELDS]: number };

/** @param at address of a record that tcpInfo() has written. */
export function readTcpInfo(memory: KernelMemory, at: number): TcpInfo {
  const load = (offset: number) => memory.loadU32(at + offset);
  const wide = (offset: number) => load(offset + 4) * 2 ** 32 + load(offset);
  const fields = Object.entries(FIELDS).map(([name, offset]) => [name, load(offset)]);
  const wideFields = Object.entries(WIDE_FIELDS).map(([name, offset]) => [name, wide(offset)]);
  return Object.fromEntries([...fields, ...wideFields]) as TcpInfo;
}
