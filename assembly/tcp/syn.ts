/**
 * 5. Output: what a segment with SYN says, before it is built (plainOutput.ts). SYN cookies have no TCB, so it is a
 * record of plain values; there is one, for one is built at a time, and synBegin starts it over.
 */
import { clearBytes } from "../mem/copy.ts";
import { Tcb } from "./tcb.ts";

@unmanaged
export class Syn {
  /** Where the 16 bytes of the remote address lie. */
  remote: usize;
  localIndex: u32;
  /** As in a segment from the peer. */
  ports: u32;
  seq: u32;
  ack: u32;
  flags: u32;
  wndField: u32;
  mss: u32;
  /** Window scale; -1: the option is left out. */
  wscale: i32;
  sackPermitted: bool;
  withTimestamps: bool;
  tsVal: u32;
  tsEcr: u32;
  /** User timeout option; 0: none. */
  timeoutWord: u32;
  /** See marksOf. */
  marks: u32;
  /** The connection whose accurate ECN option goes with it, or null. */
  accurateOf: Tcb;
  /** Data that goes with it (RFC 7413), and whose. */
  dataBytes: u32;
  dataOf: Tcb;
  /** Fast open option: bytes with its padding, 0: none. Its cookie, where it lies and its bytes, 0: a request. */
  fastOpenBytes: u32;
  cookie: usize;
  cookieBytes: u32;
  cookieIsExperimental: bool;
}

const SYN_RECORD_BYTES: u32 = 96;
if (offsetof<Syn>() > SYN_RECORD_BYTES) ERROR("Syn does not fit its record");

export const syn = changetype<Syn>(memory.data(96, 16));

/** Starts over: to this host, with no option but the MSS, and no data. */
export function synBegin(localIndex: u32, remote: usize, ports: u32): void {
  clearBytes(changetype<usize>(syn), SYN_RECORD_BYTES);
  syn.localIndex = localIndex;
  syn.remote = remote;
  syn.ports = ports;
  syn.wscale = -1;
}

export function synTimestamps(tsVal: u32, tsEcr: u32): void {
  syn.withTimestamps = true;
  syn.tsVal = tsVal;
  syn.tsEcr = tsEcr;
}

/** The fast open option. @param cookie where it lies. @param bytes of it, 0: a request. */
export function synFastOpen(cookie: usize, bytes: u32, experimental: bool): void {
  syn.cookie = cookie;
  syn.cookieBytes = bytes;
  syn.cookieIsExperimental = experimental;
  syn.fastOpenBytes = ((experimental ? 4 : 2) + bytes + 3) & ~3;
}

/** A fast open option that leaves no room for others besides. */
export function synIsCrowded(): bool {
  return syn.fastOpenBytes > 4;
}
