/** ICMP errors about TCP connections (RFC 5927: believed only when the quoted sequence number is in flight). */
import { flowHashV4 } from "../flow/hash.ts";
import { flowFindV4 } from "../flow/table.ts";
import { addressFindV4 } from "../ip/address.ts";
import { TCP_CONNECT_FAILED, TCP_PATH_MTU_REDUCED } from "../../src/layout/counters.ts";
import { STATE_ESTABLISHED, STATE_SYN_SENT } from "../../src/layout/option.ts";
import { ECONNREFUSED, EHOSTUNREACH, ENETUNREACH } from "../../src/layout/status.ts";
import { count } from "../stats.ts";
import { tcpDrop } from "./close.ts";
import { outputMark } from "./outputQueue.ts";
import { seqGeq, seqLt } from "./seq.ts";
import * as T from "./tcb.ts";
import { Tcb } from "./tcb.ts";

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
  const localIndex = addressFindV4(localV4);
  if (localIndex < 0) return;
  const ports = <u32>bswap<u16>(<u16>remotePort) | ((<u32>bswap<u16>(<u16>localPort)) << 16);
  const tcb = flowFindV4(flowHashV4(remoteV4, localV4, ports), remoteV4, localIndex, ports);
  if (changetype<usize>(tcb) == 0 || !(seqGeq(seq, tcb.sndUna) && seqLt(seq, tcb.sndMax))) return;
  if (type == DESTINATION_UNREACHABLE && code == FRAGMENTATION_NEEDED) {
    pathMtuReduced(tcb, mtuBytes);
    return;
  }
  // RFC 1122 4.2.3.9: unreachable is a hint, not an end, once the connection is established.
  if (type != DESTINATION_UNREACHABLE || tcb.state != STATE_SYN_SENT) return;
  count(TCP_CONNECT_FAILED);
  tcpDrop(tcb, code == 0 ? ENETUNREACH : code == 2 || code == 3 ? ECONNREFUSED : EHOSTUNREACH);
}

/** RFC 1191: smaller segments from now on, and what was too large again at once. */
function pathMtuReduced(tcb: Tcb, mtuBytes: u32): void {
  const overhead: u32 = 40 + (tcb.flags & T.F_TIMESTAMPS ? 12 : 0);
  const mss = max(mtuBytes, PATH_MTU_MIN) - overhead;
  if (tcb.state < STATE_ESTABLISHED || mss >= <u32>tcb.sndMss) return;
  count(TCP_PATH_MTU_REDUCED);
  tcb.sndMss = <u16>mss;
  // All that is in flight was too large; nothing of it is lost to congestion, so the window stays (RFC 1191 6.5).
  tcb.flags &= ~T.F_RTT_TIMING;
  tcb.sndNxt = tcb.sndUna;
  outputMark(tcb);
}
