/** What TCP_INFO tells of a connection (src/layout/tcpInfo.ts). */
import { delayedAckUs } from "../config.ts";
import * as O from "../../src/layout/option.ts";
import { EBADF } from "../../src/layout/status.ts";
import * as I from "../../src/layout/tcpInfo.ts";
import { autoTuningRttTicks } from "../socket/autoTuning.ts";
import { sndBufferStart } from "../socket/buffers.ts";
import { nowTick, TICK_SHIFT } from "../time.ts";
import { ACCOUNT_SIZE_BYTES, Account, accountCount, hasAccount } from "./account.ts";
import { ECT_BYTES_INITIAL, accurateDeliveredCe, accurateOf, accurateReceivedCe } from "./accurateEcn.ts";
import { ipBytesOf } from "./addresses.ts";
import { congestionOf, CWND_BYTES_MAX } from "./algorithm.ts";
import { DUP_ACK_THRESHOLD } from "./congestion.ts";
import { FLIGHT_RATE_LIMITED, REORDERED_SHIFT, flightIsClean, flightOf } from "./flightRecord.ts";
import { announcedMss, ownMss } from "./sizes.ts";
import {
  History,
  hasHistory,
  historyBufferTicks,
  historyOf,
  historyTimeoutTicks,
  historyWindowTicks,
} from "./history.ts";
import { SYN_OPTION_WSCALE } from "./segment.ts";
import { seqLt, seqMax, seqMin } from "./seq.ts";
import * as T from "./tcb.ts";
import { Tcb, coldOf, tcbOfHandle } from "./tcb.ts";
import { rtoUs } from "./timers.ts";
import { windowMax } from "./window.ts";

/** As Linux's tcp_max_reordering. */
const REORDERING_MAX: u32 = 300;

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
  store<u32>(target, (tcb.sndMax - tcb.sndUna + mss - 1) / mss, I.TCPI_UNACKED);
  store<u32>(target, msSince(cold.lastRcvTick), I.TCPI_LAST_ACK_RECV_MS);
  store<u32>(target, ownMss(tcb.localIndex) + ipBytesOf(tcb.localIndex) + 20, I.TCPI_PMTU_BYTES);
  store<u32>(target, tcb.srttUs8 >> 3, I.TCPI_RTT_US);
  store<u32>(target, tcb.rttvarUs4 >> 2, I.TCPI_RTTVAR_US);
  store<u32>(target, tcb.ssthresh >= CWND_BYTES_MAX ? 0x7fffffff : tcb.ssthresh / mss, I.TCPI_SND_SSTHRESH);
  store<u32>(target, tcb.cwnd / mss, I.TCPI_SND_CWND);
  store<u32>(target, announcedMss(tcb), I.TCPI_ADVMSS_BYTES);
  store<u32>(target, <u32>(((<u64>autoTuningRttTicks(tcb)) << TICK_SHIFT) / 1000), I.TCPI_RCV_RTT_US);
  store<u32>(target, cold.retransmits, I.TCPI_TOTAL_RETRANS);
  store<u32>(target, seqLt(tcb.sndMax, tcb.sndBufEnd) ? tcb.sndBufEnd - tcb.sndMax : 0, I.TCPI_NOTSENT_BYTES);
  store<u32>(target, tcb.sndWnd, I.TCPI_SND_WND_BYTES);
  store<u32>(target, tcb.rcvAdv - tcb.rcvNxt, I.TCPI_RCV_WND_BYTES);
  store<u32>(target, congestionOf(tcb), I.TCPI_CONGESTION);
  const rcvLimit = (<u32>1) << cold.rcvLimitOrder;
  store<u32>(target, rcvLimit, I.TCPI_RCV_SPACE_BYTES);
  store<u32>(target, min(rcvLimit, windowMax(cold)), I.TCPI_RCV_SSTHRESH_BYTES);
  store<u32>(target, 0xffffffff, I.TCPI_MAX_PACING_RATE);
  ecnInfo(tcb, target);
  accountInfo(tcb, mss, target);
  flightInfo(tcb, mss, target);
  return 0;
}

function ecnInfo(tcb: Tcb, target: usize): void {
  const traits = coldOf(tcb).traits;
  const mode: u32 = traits & T.TRAIT_ECN ? I.TCPI_ECN_MODE_RFC3168 : I.TCPI_ECN_MODE_DISABLED;
  const accurate = (traits & T.TRAIT_ACCURATE_ECN) != 0;
  store<u32>(target, accurate ? I.TCPI_ECN_MODE_ACCECN : mode, I.TCPI_ECN_MODE);
  store<u32>(target, accurate ? accurateDeliveredCe(tcb) : 0, I.TCPI_DELIVERED_CE);
  store<u32>(target, accurate ? accurateReceivedCe(tcb) : 0, I.TCPI_RECEIVED_CE);
  const a = accurateOf(tcb);
  store<u32>(target, accurate ? a.receivedE1Bytes - ECT_BYTES_INITIAL : 0, I.TCPI_RECEIVED_E1_BYTES);
  store<u32>(target, accurate ? a.receivedE0Bytes - ECT_BYTES_INITIAL : 0, I.TCPI_RECEIVED_E0_BYTES);
  store<u32>(target, accurate ? a.receivedCeBytes : 0, I.TCPI_RECEIVED_CE_BYTES);
  store<u32>(target, accurate ? a.deliveredCeBytes : 0, I.TCPI_DELIVERED_CE_BYTES);
}

/** Nothing has been accounted for or happened yet. */
const nothingAt: usize = memory.data(ACCOUNT_SIZE_BYTES, 16);

/** What account.ts has added up. */
function accountInfo(tcb: Tcb, mss: u32, target: usize): void {
  const cold = coldOf(tcb);
  const known = hasAccount(tcb);
  const account = known ? accountCount(tcb) : changetype<Account>(nothingAt);
  const rcvMss = <u32>account.rcvMss;
  store<u32>(target, rcvMss != 0 ? rcvMss : min<u32>(mss, 536), I.TCPI_RCV_MSS_BYTES);
  store<u32>(target, msSince(known ? account.lastReceivedTick : cold.lastRcvTick), I.TCPI_LAST_DATA_RECV_MS);
  store<u32>(target, msSince(known ? account.lastSentTick : cold.lastRcvTick), I.TCPI_LAST_DATA_SENT_MS);
  store<u32>(target, account.segmentsIn, I.TCPI_DATA_SEGS_IN);
  store<u32>(target, account.segmentsOut, I.TCPI_DATA_SEGS_OUT);
  store<u32>(target, account.aheadSegments, I.TCPI_RCV_OOOPACK);
  // Our FIN and the peer's are no bytes.
  const finAcked: u64 = tcb.flags & T.F_FIN_QUEUED && seqLt(tcb.sndBufEnd, tcb.sndUna) ? 1 : 0;
  const finReceived: u64 = tcb.flags & T.F_FIN_RECEIVED ? 1 : 0;
  const acked = known ? account.acked - finAcked : 0;
  store<u64>(target, acked, I.TCPI_BYTES_ACKED);
  store<u64>(target, known ? account.received - finReceived : 0, I.TCPI_BYTES_RECEIVED);
  // What is acknowledged was sent once, as was what is not, and the rest is repetition.
  const end = seqMin(tcb.sndMax, tcb.sndBufEnd);
  const begin = seqMax(tcb.sndUna, account.ackedSeq);
  const inFlight: u64 = known && seqLt(begin, end) ? end - begin : 0;
  const resent = historyInfo(tcb, target);
  store<u64>(target, acked + inFlight + resent, I.TCPI_BYTES_SENT);
  const isBusy = known && seqLt(sndBufferStart(tcb), tcb.sndBufEnd);
  store<u64>(target, usOf(account.busyTicks + (isBusy ? nowTick - account.busyTick : 0)), I.TCPI_BUSY_TIME_US);
  const sacked = tcb.flight != 0 ? flightOf(tcb).sackedBytes : 0;
  // The SYN counts, too.
  const delivered = tcb.state >= O.STATE_ESTABLISHED ? 1 + (acked + mss - 1) / mss + segments(sacked, mss) : 0;
  store<u32>(target, <u32>delivered, I.TCPI_DELIVERED);
  const before = account.minRttUs != 0 ? account.minRttUs : 0xffffffff;
  store<u32>(target, tcb.flight != 0 ? min(flightOf(tcb).minRttUs, before) : before, I.TCPI_MIN_RTT_US);
}

/** What history.ts has noted. @returns the bytes that were sent again. */
function historyInfo(tcb: Tcb, target: usize): u64 {
  const history = hasHistory(tcb) ? historyOf(tcb) : changetype<History>(nothingAt);
  store<u64>(target, history.resent, I.TCPI_BYTES_RETRANS);
  store<u32>(target, history.dsacks, I.TCPI_DSACK_DUPS);
  store<u32>(target, history.reorderings, I.TCPI_REORD_SEEN);
  store<u64>(target, usOf(historyWindowTicks(history)), I.TCPI_RWND_LIMITED_US);
  store<u64>(target, usOf(historyBufferTicks(history)), I.TCPI_SNDBUF_LIMITED_US);
  store<u32>(target, history.timeouts, I.TCPI_TOTAL_RTO);
  store<u32>(target, history.timeoutRecoveries, I.TCPI_TOTAL_RTO_RECOVERIES);
  store<u32>(target, <u32>(usOf(historyTimeoutTicks(history)) / 1000), I.TCPI_TOTAL_RTO_TIME_MS);
  store<u32>(target, history.fastOpenFailure, I.TCPI_FASTOPEN_CLIENT_FAIL);
  return history.resent;
}

function usOf(ticks: u64): u64 {
  return (ticks << TICK_SHIFT) / 1000;
}

function msSince(tick: u32): u32 {
  return <u32>(usOf(nowTick - tick) / 1000);
}

/** What the flight block knows; without one nothing is amiss. */
function flightInfo(tcb: Tcb, mss: u32, target: usize): void {
  const known = tcb.flight != 0;
  const f = flightOf(tcb);
  store<u32>(target, known ? segments(f.sackedBytes, mss) : 0, I.TCPI_SACKED);
  store<u32>(target, known ? segments(f.lostBytes, mss) : 0, I.TCPI_LOST);
  store<u32>(target, known ? segments(f.retransBytes, mss) : 0, I.TCPI_RETRANS);
  const reordered = known ? min(segments((<u32>f.reordered) << REORDERED_SHIFT, mss), REORDERING_MAX) : 0;
  store<u32>(target, max(reordered, DUP_ACK_THRESHOLD), I.TCPI_REORDERING);
  store<u32>(target, known && f.pacingRate != 0 ? f.pacingRate : 0xffffffff, I.TCPI_PACING_RATE);
  store<u32>(target, known ? f.deliveryRate : 0, I.TCPI_DELIVERY_RATE);
  const isMeasured = known && f.deliveryRate != 0 && !(f.flags & FLIGHT_RATE_LIMITED);
  store<u32>(target, isMeasured ? 0 : 1, I.TCPI_DELIVERY_RATE_APP_LIMITED);
}

function segments(bytes: u32, mss: u32): u32 {
  return (bytes + mss - 1) / mss;
}

function caState(tcb: Tcb): u32 {
  if (tcb.flags & T.F_RTO_RECOVERY) return I.TCPI_CA_LOSS;
  if (tcb.flags & T.F_RECOVERY) return I.TCPI_CA_RECOVERY;
  if (coldOf(tcb).traits & T.TRAIT_CWR_STATE) return I.TCPI_CA_CWR;
  return tcb.dupAcks != 0 || !flightIsClean(tcb) ? I.TCPI_CA_DISORDER : I.TCPI_CA_OPEN;
}

function optionBits(tcb: Tcb): u32 {
  const options = <u32>coldOf(tcb).synOptions;
  const traits = coldOf(tcb).traits;
  return (
    (traits & T.TRAIT_SACK ? I.TCPI_OPT_SACK : 0) |
    (traits & T.TRAIT_ECN ? I.TCPI_OPT_ECN : 0) |
    (traits & T.TRAIT_SYN_DATA ? I.TCPI_OPT_SYN_DATA : 0) |
    (traits & T.TRAIT_ECN_SEEN ? I.TCPI_OPT_ECN_SEEN : 0) |
    (tcb.flags & T.F_TIMESTAMPS ? I.TCPI_OPT_TIMESTAMPS : 0) |
    (options & SYN_OPTION_WSCALE ? I.TCPI_OPT_WSCALE : 0)
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
