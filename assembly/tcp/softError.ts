/**
 * Soft errors (RFC 9293 3.9.2.2, RFC 1122 4.2.3.5, 4.2.3.9): what ICMP tells of an open connection, or three time-outs
 * in a row, end nothing. They are kept until the peer acknowledges something, can be asked for (INFO_SOFT_ERROR), and
 * are what the application is told if the connection is given up (as in Linux).
 */
import { ECONNREFUSED, EHOSTUNREACH, ENETUNREACH, ETIMEDOUT } from "../../src/layout/status.ts";
import { TRAIT_SOFT_ERROR, TRAIT_SOFT_ERROR_MASK, Tcb, coldOf } from "./tcb.ts";

const SOFT_NET: u32 = 1;
const SOFT_HOST: u32 = 2;
const SOFT_REFUSED: u32 = 3;
const SOFT_TIMEOUT: u32 = 4;

export function softErrorNote(tcb: Tcb, status: i32): void {
  let kind = SOFT_HOST;
  if (status == ENETUNREACH) kind = SOFT_NET;
  else if (status == ECONNREFUSED) kind = SOFT_REFUSED;
  else if (status == ETIMEDOUT) kind = SOFT_TIMEOUT;
  const cold = coldOf(tcb);
  // Three time-outs say less than what ICMP has told.
  if (kind == SOFT_TIMEOUT && cold.traits & TRAIT_SOFT_ERROR_MASK) return;
  cold.traits = (cold.traits & ~TRAIT_SOFT_ERROR_MASK) | (kind * TRAIT_SOFT_ERROR);
}

/** The peer has acknowledged something. */
export function softErrorForget(tcb: Tcb): void {
  coldOf(tcb).traits &= ~TRAIT_SOFT_ERROR_MASK;
}

/** 0: none. */
export function softErrorOf(tcb: Tcb): i32 {
  switch ((coldOf(tcb).traits & TRAIT_SOFT_ERROR_MASK) / TRAIT_SOFT_ERROR) {
    case SOFT_NET:
      return ENETUNREACH;
    case SOFT_HOST:
      return EHOSTUNREACH;
    case SOFT_REFUSED:
      return ECONNREFUSED;
    case SOFT_TIMEOUT:
      return ETIMEDOUT;
    default:
      return 0;
  }
}
