/** What TCP_INFO tells of a connection (src/layout/tcpInfo.ts). */
import { delayedAckUs } from "../config.ts";
import * as O from "../../src/layout/option.ts";
import { EBADF } from "../../src/layout/status.ts";
import * as I from "../../src/layout/tcpInfo.ts";
import { nowTick, TICK_SHIFT } from "../time.ts";
import { ipBytesOf } from "./addresses.ts";
import { CWND_BYTES_MAX } from "./congestion.ts";
import { ownMss } from "./output.ts";
import { SYN_OPTION_WSCALE } from "./segment.ts";
import { seqLt } from "./seq.ts";
import * as T from "./tcb.ts";
import { Tcb, coldOf, tcbOfHandle } from "./tcb.ts";
import { rtoUs } from "./timers.ts";

/** See KernelExports.tcpInfo. */
export function tcpInfo(handle: i32, target: usize): i32 {
  const tcb = tcbOfHandle(handle);
  if (changetype<usize>(tcb) == 0) return EBADF;
  const cold = coldOf(tcb);
  const mss = max<u32>(tcb.sndMss, 1);
  store<u32>(target, linuxState(tcb.state), I.TCPI_STATE);
  store<u32>(target, caState(tcb), I.TCPI_CA_STATE);
  store<u32>(target, tcb.backoff, I.TCPI_RETRANSMITS);
  store<u32>(target, cold.unanswered, I.TCPI_PROBES);
  store<u32>(target, tcb.backoff, I.TCPI_BACKOFF);
  store<u32>(target, optionBits(tcb), I.TCPI_OPTIONS);
  store<u32>(target, cold.sndWscale, I.TCPI_SND_WSCALE);
  store<u32>(target, cold.rcvWscale, I.TCPI_RCV_WSCALE);
  store<u32>(target, rtoUs(tcb), I.TCPI_RTO_US);
  store<u32>(target, delayedAckUs, I.TCPI_ATO_US);
  store<u32>(target, mss, I.TCPI_SND_MSS_BYTES);
  store<u32>(target, mss, I.TCPI_RCV_MSS_BYTES);
  store<u32>(target, (tcb.sndMax - tcb.sndUna + mss - 1) / mss, I.TCPI_UNACKED);
  store<u32>(target, 0, I.TCPI_SACKED);
  store<u32>(target, 0, I.TCPI_LOST);
  store<u32>(target, 0, I.TCPI_RETRANS);
  store<u32>(target, <u32>(((<u64>(nowTick - cold.lastRcvTick)) << TICK_SHIFT) / 1000000), I.TCPI_LAST_ACK_RECV_MS);
  store<u32>(target, ownMss(tcb.localIndex) + ipBytesOf(tcb.localIndex) + 20, I.TCPI_PMTU_BYTES);
  store<u32>(target, tcb.srttUs8 >> 3, I.TCPI_RTT_US);
  store<u32>(target, tcb.rttvarUs4 >> 2, I.TCPI_RTTVAR_US);
  store<u32>(target, tcb.ssthresh >= CWND_BYTES_MAX ? 0x7fffffff : tcb.ssthresh / mss, I.TCPI_SND_SSTHRESH);
  store<u32>(target, tcb.cwnd / mss, I.TCPI_SND_CWND);
  store<u32>(target, ownMss(tcb.localIndex), I.TCPI_ADVMSS_BYTES);
  store<u32>(target, 3, I.TCPI_REORDERING);
  store<u32>(target, 0, I.TCPI_RCV_RTT_US);
  store<u32>(target, (<u32>1) << cold.rcvLimitOrder, I.TCPI_RCV_SPACE_BYTES);
  store<u32>(target, cold.retransmits, I.TCPI_TOTAL_RETRANS);
  store<u32>(target, 0xffffffff, I.TCPI_PACING_RATE);
  store<u32>(target, 0, I.TCPI_DELIVERED_BYTES);
  store<u32>(target, 0, I.TCPI_DELIVERED_CE_BYTES);
  store<u32>(target, 0xffffffff, I.TCPI_MIN_RTT_US);
  store<u32>(target, seqLt(tcb.sndMax, tcb.sndBufEnd) ? tcb.sndBufEnd - tcb.sndMax : 0, I.TCPI_NOTSENT_BYTES);
  store<u32>(target, tcb.sndWnd, I.TCPI_SND_WND_BYTES);
  store<u32>(target, tcb.rcvAdv - tcb.rcvNxt, I.TCPI_RCV_WND_BYTES);
  store<u32>(target, 0, I.TCPI_DELIVERY_RATE);
  store<u32>(target, 0, I.TCPI_DSACK_DUPS);
  store<u32>(target, 0, I.TCPI_REORD_SEEN);
  store<u32>(target, O.CONGESTION_RENO, I.TCPI_CONGESTION);
  return 0;
}

function caState(tcb: Tcb): u32 {
  if (tcb.flags & T.F_RTO_RECOVERY) return I.TCPI_CA_LOSS;
  if (tcb.flags & T.F_RECOVERY) return I.TCPI_CA_RECOVERY;
  return tcb.dupAcks != 0 ? I.TCPI_CA_DISORDER : I.TCPI_CA_OPEN;
}

function optionBits(tcb: Tcb): u32 {
  const options = <u32>coldOf(tcb).synOptions;
  return (
    (tcb.flags & T.F_TIMESTAMPS ? I.TCPI_OPT_TIMESTAMPS : 0) | (options & SYN_OPTION_WSCALE ? I.TCPI_OPT_WSCALE : 0)
  );
}

function linuxState(state: i32): u32 {
  switch (state) {
    case O.STATE_SYN_SENT:
      return I.TCP_STATE_SYN_SENT;
    case O.STATE_SYN_RECEIVED:
      return I.TCP_STATE_SYN_RECV;
    case O.STATE_ESTABLISHED:
      return I.TCP_STATE_ESTABLISHED;
    case O.STATE_FIN_WAIT_1:
      return I.TCP_STATE_FIN_WAIT1;
    case O.STATE_FIN_WAIT_2:
      return I.TCP_STATE_FIN_WAIT2;
    case O.STATE_CLOSE_WAIT:
      return I.TCP_STATE_CLOSE_WAIT;
    case O.STATE_CLOSING:
      return I.TCP_STATE_CLOSING;
    case O.STATE_LAST_ACK:
      return I.TCP_STATE_LAST_ACK;
    case O.STATE_TIME_WAIT:
      return I.TCP_STATE_TIME_WAIT;
    default:
      return I.TCP_STATE_CLOSE;
  }
}
