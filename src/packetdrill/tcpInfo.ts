/** What assertions can ask about a connection: TCP_INFO by the names of Linux's struct tcp_info. */
import * as INFO from "../layout/tcpInfo.ts";
import type { Machine } from "./machine.ts";
import type { Descriptor } from "./sockets.ts";

const TCP_LISTEN = 10;

/** Of every script, whatever its sockets do. FreeBSD's dialect has the names that begin with TCPI_. */
export const INFO_CONSTANTS: ReadonlyMap<string, number> = new Map([
  ...Object.entries({
    ESTABLISHED: INFO.TCP_STATE_ESTABLISHED,
    SYN_SENT: INFO.TCP_STATE_SYN_SENT,
    SYN_RECV: INFO.TCP_STATE_SYN_RECV,
    SYN_RECEIVED: INFO.TCP_STATE_SYN_RECV,
    FIN_WAIT1: INFO.TCP_STATE_FIN_WAIT1,
    FIN_WAIT_1: INFO.TCP_STATE_FIN_WAIT1,
    FIN_WAIT2: INFO.TCP_STATE_FIN_WAIT2,
    FIN_WAIT_2: INFO.TCP_STATE_FIN_WAIT2,
    TIME_WAIT: INFO.TCP_STATE_TIME_WAIT,
    CLOSE: INFO.TCP_STATE_CLOSE,
    CLOSED: INFO.TCP_STATE_CLOSE,
    CLOSE_WAIT: INFO.TCP_STATE_CLOSE_WAIT,
    LAST_ACK: INFO.TCP_STATE_LAST_ACK,
    LISTEN: TCP_LISTEN,
    CLOSING: INFO.TCP_STATE_CLOSING,
  }).flatMap(([name, value]): [string, number][] => [
    [`TCP_${name}`, value],
    [`TCPI_${name}`, value],
  ]),
  ["TCP_CA_Open", INFO.TCPI_CA_OPEN],
  ["TCP_CA_Disorder", INFO.TCPI_CA_DISORDER],
  ["TCP_CA_CWR", INFO.TCPI_CA_CWR],
  ["TCP_CA_Recovery", INFO.TCPI_CA_RECOVERY],
  ["TCP_CA_Loss", INFO.TCPI_CA_LOSS],
  ["TCPI_OPT_TIMESTAMPS", INFO.TCPI_OPT_TIMESTAMPS],
  ["TCPI_OPT_SACK", INFO.TCPI_OPT_SACK],
  ["TCPI_OPT_WSCALE", INFO.TCPI_OPT_WSCALE],
  ["TCPI_OPT_ECN", INFO.TCPI_OPT_ECN],
  ["TCPI_OPT_ECN_SEEN", INFO.TCPI_OPT_ECN_SEEN],
  ["TCPI_OPT_SYN_DATA", INFO.TCPI_OPT_SYN_DATA],
]);

const FIELDS: Readonly<Record<string, number>> = {
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
};

/** Variables of the socket; none without one. */
export function infoVariables(machine: Machine, socket: Descriptor | undefined): Map<string, number> {
  const variables = new Map<string, number>();
  if (socket?.kind !== "tcp") return variables;
  if (socket.listener !== undefined) return variables.set("tcpi_state", TCP_LISTEN);
  const status = socket.handle === undefined ? -1 : machine.exports.tcpInfo(socket.handle, machine.area);
  if (status < 0) return variables.set("tcpi_state", INFO.TCP_STATE_CLOSE);
  const at = (offset: number) => machine.memory.loadU32(machine.area + offset);
  for (const [name, offset] of Object.entries(FIELDS)) variables.set(name, at(offset));
  // Counted in bytes here, in segments there.
  const mssBytes = Math.max(1, at(INFO.TCPI_SND_MSS_BYTES));
  variables.set("tcpi_delivered", Math.ceil(at(INFO.TCPI_DELIVERED_BYTES) / mssBytes));
  variables.set("tcpi_delivered_ce", Math.ceil(at(INFO.TCPI_DELIVERED_CE_BYTES) / mssBytes));
  return variables;
}
