/** ICMP errors about TCP connections (RFC 5927: believed only when the quoted sequence number is in flight). */
import { flowHashV4 } from "../flow/hash.ts";
import { flowFindV4 } from "../flow/table.ts";
import { addressFindV4 } from "../ip/address.ts";
import { pathMtuLearn } from "../ip/pathMtu.ts";
import { TCP_CONNECT_FAILED, TCP_PATH_MTU_REDUCED } from "../../src/layout/counters.ts";
import { STATE_ESTABLISHED, STATE_SYN_SENT } from "../../src/layout/option.ts";
import { ECONNREFUSED, EHOSTUNREACH, ENETUNREACH } from "../../src/layout/status.ts";
import { count } from "../stats.ts";
import { flowFind, flowHash, ipBytesOf, remoteAt } from "./addresses.ts";
import { tcpDrop } from "./close.ts";
import { mtuTold } from "./mtuProbe.ts";
import { outputMark } from "./outputQueue.ts";
import { recoveryResegment } from "./recovery.ts";
import { seqGeq, seqLt } from "./seq.ts";
import { softErrorNote } from "./softError.ts";
import * as T from "./tcb.ts";
import { Tcb } from "./tcb.ts";
import { goBack } from "./timeouts.ts";
import { IPV6_MTU_MIN } from "../wire/headers.ts";

const DESTINATION_UNREACHABLE: u32 = 3;
const FRAGMENTATION_NEEDED: u32 = 4;
/** IPv4's smallest MTU that we go down to (RFC 1191 7.1 allows 68; Linux's min_pmtu is 552). */
const PATH_MTU_MIN: u32 = 552;

/** @param seq sequence number of the quoted segment. @param mtuBytes next-hop MTU of "fragmentation needed", else 0. */
export function tcpIcmpError(
  localV4: u32,
  localPort: u32,
  remoteV4: u32,
  remotePort: u32,
  seq: u32,
  type: u32,
  code: u32,
  mtuBytes: u32,
): void {
  const tcb = flowOfQuote(localV4, localPort, remoteV4, remotePort, seq);
  if (changetype<usize>(tcb) == 0) return;
  if (type == DESTINATION_UNREACHABLE && code == FRAGMENTATION_NEEDED) {
    pathMtuReduced(tcb, max(mtuBytes, PATH_MTU_MIN));
    return;
  }
  if (type != DESTINATION_UNREACHABLE) return;
  refused(tcb, code == 0 ? ENETUNREACH : code == 2 || code == 3 ? ECONNREFUSED : EHOSTUNREACH);
}

/** The connection that has sent the quoted segment, still in flight, or null. */
function flowOfQuote(localV4: u32, localPort: u32, remoteV4: u32, remotePort: u32, seq: u32): Tcb {
  const localIndex = addressFindV4(localV4);
  if (localIndex < 0) return changetype<Tcb>(0);
  const ports = <u32>bswap<u16>(<u16>remotePort) | ((<u32>bswap<u16>(<u16>localPort)) << 16);
  const tcb = flowFindV4(flowHashV4(remoteV4, localV4, ports), remoteV4, localIndex, ports);
  return changetype<usize>(tcb) != 0 && isInFlight(tcb, seq) ? tcb : changetype<Tcb>(0);
}

/** Is this a segment of ours that is in flight? Ports in host order. */
export function tcpIsInFlight(localV4: u32, localPort: u32, remoteV4: u32, remotePort: u32, seq: u32): bool {
  return changetype<usize>(flowOfQuote(localV4, localPort, remoteV4, remotePort, seq)) != 0;
}

/**
 * Likewise for IPv6.
 * @param ports as they stand in the segment that we sent. @param seq its sequence number. @param status what it means
 *   for a connection not yet open. @param pathMtu of "packet too big", at least 1280; else 0.
 */
export function tcpIcmpErrorV6(localIndex: u32, remote: usize, ports: u32, seq: u32, status: i32, pathMtu: u32): void {
  const asReceived = rotl<u32>(ports, 16);
  const tcb = flowFind(flowHash(remote, localIndex, asReceived), remote, localIndex, asReceived);
  if (changetype<usize>(tcb) == 0 || !isInFlight(tcb, seq)) return;
  if (pathMtu != 0) pathMtuReduced(tcb, max(pathMtu, IPV6_MTU_MIN));
  else if (status == ENETUNREACH || status == ECONNREFUSED || status == EHOSTUNREACH) refused(tcb, status);
}

function isInFlight(tcb: Tcb, seq: u32): bool {
  return seqGeq(seq, tcb.sndUna) && seqLt(seq, tcb.sndMax);
}

/** RFC 1122 4.2.3.9: unreachable is a hint, not an end, once the connection is established. */
function refused(tcb: Tcb, status: i32): void {
  if (tcb.state != STATE_SYN_SENT) {
    softErrorNote(tcb, status);
    return;
  }
  count(TCP_CONNECT_FAILED);
  tcpDrop(tcb, status);
}

function pathMtuReduced(tcb: Tcb, mtuBytes: u32): void {
  pathMtuLearn(remoteAt(tcb), mtuBytes);
  segmentsShrink(tcb, mtuBytes);
}

/** RFC 1191, RFC 8201: smaller segments from now on, and what was too large again at once. */
export function segmentsShrink(tcb: Tcb, mtuBytes: u32): void {
  const overhead: u32 = ipBytesOf(tcb.localIndex) + 20 + (tcb.flags & T.F_TIMESTAMPS ? 12 : 0);
  const mss = mtuBytes - overhead;
  mtuTold(tcb, mss);
  if (tcb.state < STATE_ESTABLISHED || mss >= <u32>tcb.sndMss) return;
  count(TCP_PATH_MTU_REDUCED);
  tcb.sndMss = <u16>mss;
  if (tcb.sndMax == tcb.sndUna) return;
  // All that is in flight was too large; nothing of it is lost to congestion, so the window stays (RFC 1191 6.5).
  tcb.flags &= ~T.F_RTT_TIMING;
  if (!recoveryResegment(tcb)) goBack(tcb);
  outputMark(tcb);
}
