/**
 * Options of IPv4 (RFC 791 3.1, RFC 1122 3.2.1.8): are they well-formed, and which of a request for an echo go back
 * with the reply. Everything else is skipped (RFC 7126 tells what of them is used at all).
 */
import { sipHash } from "../flow/hash.ts";
import { nowMs } from "../time.ts";
import { storeBe32 } from "../wire/bytes.ts";
import { IP_SOURCE } from "../wire/headers.ts";

const HEADER_BYTES: u32 = 20;
export const OPTIONS_BYTES_MAX: u32 = 40;
const OPTION_END: u32 = 0;
const OPTION_NOP: u32 = 1;
const OPTION_RECORD_ROUTE: u32 = 7;
const OPTION_TIMESTAMP: u32 = 68;
const OPTION_LSRR: u32 = 131;
const OPTION_SSRR: u32 = 137;

/** Bytes before the first slot, of a record route and of a timestamp option. */
const ROUTE_HEADER_BYTES: u32 = 3;
const TIMESTAMP_HEADER_BYTES: u32 = 4;
/** Flags of the timestamp option: timestamps alone, with addresses, only of the addresses named. */
const TIMES_ALONE: u32 = 0;
const TIMES_AND_ADDRESSES: u32 = 1;
const TIMES_OF_NAMED: u32 = 3;
/** A timestamp that is not milliseconds since midnight UT (RFC 791 3.1). */
const NOT_UNIVERSAL_TIME: u32 = 0x80000000;
/** Separates the offset from what else is hashed of a pair: low words of ports, labels or protocols are not 0. */
const TIME_LABEL: u64 = 0x74696d6500000000;

export const OPTIONS_FINE: i32 = 0;
export const OPTIONS_ROUTE: i32 = -1;

/**
 * @returns OPTIONS_FINE, OPTIONS_ROUTE: they route (RFC 7126 4.3, 4.4), else where in the header one is malformed.
 * Preconditions: the header is there.
 */
export function optionsCheck(packet: usize, headerBytes: u32): i32 {
  let offset = HEADER_BYTES;
  while (offset < headerBytes) {
    const kind = <u32>load<u8>(packet + offset);
    if (kind == OPTION_END) return OPTIONS_FINE;
    if (kind == OPTION_NOP) {
      offset++;
      continue;
    }
    if (kind == OPTION_LSRR || kind == OPTION_SSRR) return OPTIONS_ROUTE;
    if (offset + 1 >= headerBytes) return <i32>offset;
    const length = <u32>load<u8>(packet + offset + 1);
    if (length < 2 || length > headerBytes - offset) return <i32>(offset + 1);
    offset += length;
  }
  return OPTIONS_FINE;
}

/**
 * Writes what goes back with the reply to an echo request: its record route and timestamps, with our entry (RFC 1122
 * 3.2.2.6). @param local our address, in memory order. @returns bytes written, a multiple of four.
 * Preconditions: optionsCheck found the options fine; room for OPTIONS_BYTES_MAX.
 */
export function optionsReflect(packet: usize, headerBytes: u32, local: u32, target: usize): u32 {
  const pair = ((<u64>load<u32>(packet, IP_SOURCE)) << 32) | local;
  let written: u32 = 0;
  let offset = HEADER_BYTES;
  while (offset < headerBytes) {
    const kind = <u32>load<u8>(packet + offset);
    if (kind == OPTION_END) break;
    const length = kind == OPTION_NOP ? 1 : <u32>load<u8>(packet + offset + 1);
    if (kind == OPTION_RECORD_ROUTE || kind == OPTION_TIMESTAMP) {
      memory.copy(target + written, packet + offset, length);
      if (kind == OPTION_RECORD_ROUTE) enterRoute(target + written, length, local);
      else enterTime(target + written, length, local, pair);
      written += length;
    }
    offset += length;
  }
  while (written & 3) store<u8>(target + written++, <u8>OPTION_END);
  return written;
}

/** Where the option's pointer shows, counted from 0; `length`: there is no room for `bytes`, or it shows nowhere. */
function slotOf(option: usize, length: u32, headerBytes: u32, bytes: u32): u32 {
  if (length < headerBytes) return length;
  const at = <u32>load<u8>(option, 2) - 1;
  return at >= headerBytes && at <= length && bytes <= length - at ? at : length;
}

function enterRoute(option: usize, length: u32, local: u32): void {
  const at = slotOf(option, length, ROUTE_HEADER_BYTES, 4);
  if (at == length) return;
  store<u32>(option + at, local);
  store<u8>(option, <u8>(at + 5), 2);
}

/**
 * Time since a moment that is secret, another for each pair of hosts, as in TCP (RFC 7323 7.1): strangers learn nothing
 * of the clock. @param pair the addresses.
 */
function enterTime(option: usize, length: u32, local: u32, pair: u64): void {
  if (length < TIMESTAMP_HEADER_BYTES) return;
  const flag = <u32>load<u8>(option, 3) & 15;
  if (flag != TIMES_ALONE && flag != TIMES_AND_ADDRESSES && flag != TIMES_OF_NAMED) return;
  const bytes: u32 = flag == TIMES_ALONE ? 4 : 8;
  let at = slotOf(option, length, TIMESTAMP_HEADER_BYTES, bytes);
  if (at == length) {
    // Hosts that have found no room are counted, up to fifteen.
    const overflow = <u32>load<u8>(option, 3) >> 4;
    if (flag != TIMES_OF_NAMED && overflow < 15) store<u8>(option, <u8>(((overflow + 1) << 4) | flag), 3);
    return;
  }
  if (flag == TIMES_OF_NAMED && load<u32>(option + at) != local) return;
  if (flag != TIMES_ALONE) {
    store<u32>(option + at, local);
    at += 4;
  }
  storeBe32(option + at, (nowMs + <u32>sipHash(pair, TIME_LABEL)) | NOT_UNIVERSAL_TIME);
  store<u8>(option, <u8>(at + 5), 2);
}
