/**
 * Challenge ACKs (RFC 5961): the answer to segments that could be forged. Limited per kernel and second; the limit is
 * drawn anew each second, so that it cannot be used to count other connections' segments (CVE-2016-5696).
 */
import { TCP_CHALLENGE_ACKS, TCP_CHALLENGE_ACKS_LIMITED } from "../../src/layout/counters.ts";
import { sipHash } from "../flow/hash.ts";
import { count } from "../stats.ts";
import { nowMs } from "../time.ts";
import { outputMark } from "./outputQueue.ts";
import { F_ACK_NOW, F_IN_ACCEPT_QUEUE, F_IN_SYN_QUEUE, Tcb, coldOf } from "./tcb.ts";

/** Between one and two times this many per second. */
const LIMIT_PER_SECOND: u32 = 1000;

/** 256 ms. */
const PURE_PERIOD_SHIFT: u32 = 8;

let second: u32 = 0xffffffff;
let left: u32 = 0;

/**
 * Challenge to a segment without data. Two ends that disagree would answer each other's ACKs for ever; so at most one
 * goes out per connection and period (Linux: tcp_invalid_ratelimit).
 */
export function challengePureAck(tcb: Tcb): void {
  if (!answeredLately(tcb)) challengeAck(tcb);
}

/**
 * The answer to a keep-alive or window probe without data: limited likewise per connection, but not by the kernel's
 * limit, for all idle connections' probes may come in the same second and each must be answered.
 */
export function probeAck(tcb: Tcb): void {
  if (tcb.flags & (F_IN_SYN_QUEUE | F_IN_ACCEPT_QUEUE)) {
    challengeAck(tcb);
  } else if (!answeredLately(tcb)) {
    tcb.flags |= F_ACK_NOW;
    outputMark(tcb);
  }
}

/** True, and counted, for all but the first call in a period. */
function answeredLately(tcb: Tcb): bool {
  // In the place of the listener's number, which is of no use once the connection is accepted.
  if (tcb.flags & (F_IN_SYN_QUEUE | F_IN_ACCEPT_QUEUE)) return false;
  const cold = coldOf(tcb);
  const period = <u16>(nowMs >> PURE_PERIOD_SHIFT);
  if (cold.listener == period) {
    count(TCP_CHALLENGE_ACKS_LIMITED);
    return true;
  }
  cold.listener = period;
  return false;
}

export function challengeAck(tcb: Tcb): void {
  const present = nowMs / 1000;
  if (present != second) {
    second = present;
    left = LIMIT_PER_SECOND + <u32>(sipHash(0x6c696d6974, present) % LIMIT_PER_SECOND);
  }
  if (left == 0) {
    count(TCP_CHALLENGE_ACKS_LIMITED);
    return;
  }
  left--;
  count(TCP_CHALLENGE_ACKS);
  tcb.flags |= F_ACK_NOW;
  outputMark(tcb);
}
