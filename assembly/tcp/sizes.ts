/** How large segments may be, and what stands in their headers. */
import { mtuBytes, rcvBufferBytesMax } from "../config.ts";
import { addressIsV6 } from "../ip/address.ts";
import { linkMtuV6 } from "../ip/link.ts";
import { ipBytesOf, remoteAt, timestampOffsetTo } from "./addresses.ts";
import { sackOptionBytes } from "./sack.ts";
import { seqMax, seqMin } from "./seq.ts";
import { settingsFind } from "./settings.ts";
import * as T from "./tcb.ts";
import { Tcb } from "./tcb.ts";
import { nowMs } from "../time.ts";
import { TCP_HEADER_BYTES, TIMESTAMP_BYTES } from "../wire/headers.ts";

/** MSS that we announce: what fits into a packet without options (RFC 9293 3.7.1, RFC 6691). */
export function ownMss(localIndex: u32): u32 {
  return (addressIsV6(localIndex) ? linkMtuV6() : mtuBytes) - ipBytesOf(localIndex) - TCP_HEADER_BYTES;
}

/** Likewise for this connection, which may have been told a smaller one (TCP_MAXSEG). */
export function announcedMss(tcb: Tcb): u32 {
  const settings = settingsFind(T.tcbIndex(tcb));
  const mss = ownMss(tcb.localIndex);
  return changetype<usize>(settings) == 0 || settings.mssBytes == 0 ? mss : min<u32>(mss, settings.mssBytes);
}

/** Shift for our window: the smallest that can express the largest buffer. */
export function ownWscale(): u32 {
  let shift: u32 = 0;
  while (shift < 14 && (<u64>65535) << shift < rcvBufferBytesMax) shift++;
  return shift;
}

/** Payload of a full segment that leaves now: SACK blocks need room. */
export function segmentMss(tcb: Tcb): u32 {
  const mss = <u32>tcb.sndMss;
  return tcb.ext == 0 ? mss : mss - sackOptionBytes(tcb, tcb.flags & T.F_TIMESTAMPS ? TIMESTAMP_BYTES : 0);
}

/** Our timestamp value now. */
export function timestampOf(tcb: Tcb): u32 {
  return nowMs + timestampOffsetTo(remoteAt(tcb), tcb.localIndex);
}

/**
 * Sequence number of a segment without data: SND.NXT as RFC 9293 means it, the highest sent, also while we have gone
 * back after a time-out (an older number would be unacceptable); but not beyond the peer's window.
 */
export function pureSeq(tcb: Tcb): u32 {
  return seqMin(tcb.sndMax, seqMax(tcb.sndNxt, tcb.sndUna + tcb.sndWnd));
}

const MSS_DEFAULT_V4: u32 = 536;
const MSS_DEFAULT_V6: u32 = 1220;

/** What a peer that announces no MSS takes (RFC 9293 3.7.1). */
export function mssDefault(localIndex: u32): u32 {
  return addressIsV6(localIndex) ? MSS_DEFAULT_V6 : MSS_DEFAULT_V4;
}
