/**
 * The segment being processed, as globals of the instance: parsed once, read by every step of input processing.
 * Names are those of RFC 9293 3.3.1 (SEG.SEQ is `segSeq`).
 */
import { loadBe16, loadBe32 } from "../wire/bytes.ts";
import { TIMESTAMPS_ALONE, V4_MAPPED } from "../wire/headers.ts";

export const FLAG_FIN: u32 = 1;
export const FLAG_SYN: u32 = 2;
export const FLAG_RST: u32 = 4;
export const FLAG_PSH: u32 = 8;
export const FLAG_ACK: u32 = 16;
export const FLAG_URG: u32 = 32;
/** RFC 3168 6.1; with AE (RFC 9768 3.1.1), the lowest bit of the octet before, they are the ACE field. */
export const FLAG_ECE: u32 = 64;
export const FLAG_CWR: u32 = 128;
export const FLAG_AE: u32 = 256;

/** Options seen in a SYN. */
export const SYN_OPTION_MSS: u32 = 1;
export const SYN_OPTION_WSCALE: u32 = 2;
export const SYN_OPTION_SACK: u32 = 4;
export const SYN_OPTION_TIMESTAMPS: u32 = 8;
/** RFC 7413 4.1.1, and in its experimental form (RFC 6994) besides. */
export const SYN_OPTION_FAST_OPEN: u32 = 16;
export const SYN_OPTION_FAST_OPEN_EXPERIMENTAL: u32 = 32;
/** A fast open option with a cookie that can be none. */
export const SYN_OPTION_FAST_OPEN_MALFORMED: u32 = 256;

/** Where the TCP header lies, and the IP packet it came in. */
export let segHeader: usize = 0;
export let segPacket: usize = 0;
/** Source Ethernet address of the frame; 0 for a reassembled packet. */
export let segSourceMac: usize = 0;
/** Addresses in memory order (of IPv6 the last four bytes), local address index, ports as in the segment. */
export let segRemote: u32 = 0;
export let segLocal: u32 = 0;
/** Where the 16 bytes of an IPv6 source address lie; 0: the segment came over IPv4. */
export let segRemoteV6: usize = 0;
export let segLocalIndex: u32 = 0;
export let segPorts: u32 = 0;
export let segHash: u32 = 0;
export let segSeq: u32 = 0;
export let segAck: u32 = 0;
/** Window field as it stands in the header, unscaled. */
export let segWndField: u32 = 0;
export let segFlags: u32 = 0;
/** Payload. */
export let segData: usize = 0;
export let segDataBytes: u32 = 0;
/** Length in sequence space: payload plus one each for SYN and FIN. */
export let segLen: u32 = 0;
export let segHasTimestamps: bool = false;
export let segTsVal: u32 = 0;
export let segTsEcr: u32 = 0;
/** SYN_OPTION_* seen, and their values. */
export let segOptions: u32 = 0;
export let segMss: u32 = 0;
export let segWscale: u32 = 0;
/** SACK blocks (RFC 2018), where they lie and how many. */
export let segSack: usize = 0;
export let segSackBlocks: u32 = 0;
/** Fast open cookie, where it lies and its bytes, 0: a request for one. With SYN_OPTION_FAST_OPEN. */
export let segCookie: usize = 0;
export let segCookieBytes: u32 = 0;
/** Not of SYNs alone: options that few segments have. */
export const OPTION_SEEN_USER_TIMEOUT: u32 = 64;
export const OPTION_SEEN_ACCURATE: u32 = 128;
/** User timeout option: where its value lies. With OPTION_SEEN_USER_TIMEOUT. */
export let segUserTimeout: usize = 0;
/** Accurate ECN option, with OPTION_SEEN_ACCURATE: where its contents lie, and their bytes. */
export let segAccurate: usize = 0;
export let segAccurateBytes: u32 = 0;

/** RFC 5482 3. */
export const OPTION_USER_TIMEOUT: u32 = 28;
/** Accurate ECN (RFC 9768 3.2.3), by the counter that comes first. */
export const OPTION_ACCURATE_E0: u32 = 172;
export const OPTION_ACCURATE_E1: u32 = 174;
/** Experiment identifier of fast open in option 254. */
export const FAST_OPEN_MAGIC: u32 = 0xf989;

export function segmentPlace(
  packet: usize,
  sourceMac: usize,
  header: usize,
  remote: u32,
  local: u32,
  localIndex: u32,
  hash: u32,
  remoteV6: usize,
): void {
  segPacket = packet;
  segSourceMac = sourceMac;
  segHeader = header;
  segRemote = remote;
  segLocal = local;
  segLocalIndex = localIndex;
  segPorts = load<u32>(header);
  segHash = hash;
  segRemoteV6 = remoteV6;
}

/** ECN codepoint of its IP header (RFC 3168 5). */
export function segmentCodepoint(): u32 {
  const second = <u32>load<u8>(segPacket, 1);
  return (segRemoteV6 != 0 ? second >> 4 : second) & 3;
}

/** AE, CWR and ECE as one number (RFC 9768 3.2.1). */
export function segmentAce(): u32 {
  return segFlags >> 6;
}

const mapped: usize = memory.data(16, 8);

/** Where the 16 bytes of the remote address lie, IPv4-mapped, for the time being. */
export function segmentRemoteAt(): usize {
  if (segRemoteV6 != 0) return segRemoteV6;
  store<u32>(mapped, V4_MAPPED, 8);
  store<u32>(mapped, segRemote, 12);
  return mapped;
}

/**
 * Parses the header at segHeader.
 * @param segmentBytes TCP header and payload; at least 20 and at least the header length (checked by the caller).
 * @returns false when an option lies about its length.
 */
export function segmentParse(segmentBytes: u32): bool {
  const header = segHeader;
  segSeq = loadBe32(header + 4);
  segAck = loadBe32(header + 8);
  const offsetAndFlags = <u32>load<u16>(header, 12);
  const headerBytes = ((offsetAndFlags >> 4) & 15) << 2;
  segFlags = (offsetAndFlags >> 8) | ((offsetAndFlags & 1) << 8);
  segWndField = loadBe16(header + 14);
  segData = header + headerBytes;
  segDataBytes = segmentBytes - headerBytes;
  segLen = segDataBytes + (segFlags & FLAG_FIN) + ((segFlags & FLAG_SYN) >> 1);
  segHasTimestamps = false;
  segOptions = 0;
  segSackBlocks = 0;
  if (headerBytes == 20) return true;
  if (headerBytes == 32 && load<u32>(header, 20) == TIMESTAMPS_ALONE) {
    segHasTimestamps = true;
    segTsVal = loadBe32(header + 24);
    segTsEcr = loadBe32(header + 28);
    return true;
  }
  return parseOptions(header + 20, header + headerBytes);
}

function parseOptions(from: usize, end: usize): bool {
  let at = from;
  while (at < end) {
    const kind = load<u8>(at);
    if (kind == 0) return true;
    if (kind == 1) {
      at++;
      continue;
    }
    if (at + 1 >= end) return false;
    const length = <u32>load<u8>(at, 1);
    if (length < 2 || at + length > end) return false;
    if (kind == 2 && length == 4) {
      segOptions |= SYN_OPTION_MSS;
      segMss = loadBe16(at + 2);
    } else if (kind == 3 && length == 3) {
      segOptions |= SYN_OPTION_WSCALE;
      // RFC 7323 2.3: a larger shift counts as 14.
      segWscale = min<u32>(load<u8>(at, 2), 14);
    } else if (kind == 4 && length == 2) {
      segOptions |= SYN_OPTION_SACK;
    } else if (kind == 5 && length >= 10 && ((length - 2) & 7) == 0) {
      segSack = at + 2;
      segSackBlocks = (length - 2) >> 3;
    } else if (kind == 8 && length == 10) {
      segOptions |= SYN_OPTION_TIMESTAMPS;
      segHasTimestamps = true;
      segTsVal = loadBe32(at + 2);
      segTsEcr = loadBe32(at + 6);
    } else if (kind == OPTION_USER_TIMEOUT && length == 4) {
      segOptions |= OPTION_SEEN_USER_TIMEOUT;
      segUserTimeout = at + 2;
    } else if ((kind == OPTION_ACCURATE_E0 || kind == OPTION_ACCURATE_E1) && length > 2) {
      segOptions |= OPTION_SEEN_ACCURATE;
      segAccurate = at + 2;
      segAccurateBytes = length - 2;
    } else if (kind == 34) {
      cookieParse(at + 2, length - 2, SYN_OPTION_FAST_OPEN);
    } else if (kind == 254 && length >= 4 && loadBe16(at + 2) == FAST_OPEN_MAGIC) {
      cookieParse(at + 4, length - 4, SYN_OPTION_FAST_OPEN | SYN_OPTION_FAST_OPEN_EXPERIMENTAL);
    }
    at += length;
  }
  return true;
}

/** RFC 7413 4.1.1: none, or 4 to 16 bytes, an even number; anything else is no cookie. */
function cookieParse(at: usize, bytes: u32, options: u32): void {
  if (bytes != 0 && (bytes < 4 || bytes > 16 || (bytes & 1) != 0)) {
    segOptions |= SYN_OPTION_FAST_OPEN_MALFORMED;
    return;
  }
  segOptions |= options;
  segCookie = at;
  segCookieBytes = bytes;
}

/** Drops the first `bytes` of the segment's sequence space: what has been received before. */
export function segmentTrimFront(bytes: u32): void {
  let drop = bytes;
  if (segFlags & FLAG_SYN) {
    segFlags &= ~FLAG_SYN;
    segSeq++;
    segLen--;
    drop--;
  }
  const data = min(drop, segDataBytes);
  segData += data;
  segDataBytes -= data;
  segSeq += data;
  segLen -= data;
}

/** Cuts the segment off after `bytes` of payload; a FIN behind them is lost too. */
export function segmentTrimBack(bytes: u32): void {
  if (segFlags & FLAG_FIN) {
    segFlags &= ~FLAG_FIN;
    segLen--;
  }
  segLen -= segDataBytes - bytes;
  segDataBytes = bytes;
}
