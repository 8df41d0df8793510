/** ICMP errors that we send over IPv4 (RFC 792, RFC 1122 3.2.2), and the limit for those of both families. */
import { txReserve } from "../device/tx.ts";
import { addressFindV4, isHostV4 } from "./address.ts";
import { ipv4Problem, ipv4Route, ipv4Transmit, ipv4WriteHeader } from "./ipv4.ts";
import { count } from "../stats.ts";
import { nowNs } from "../time.ts";
import { loadBe16 } from "../wire/bytes.ts";
import { checksumOf, copyAndSum, sumAdd } from "../wire/checksum.ts";
import {
  ETHERNET_BYTES,
  FRAGMENT_OFFSET_MASK,
  ICMP_CHECKSUM,
  ICMP_HEADER_BYTES,
  IPV4_HEADER_BYTES,
  IP_DESTINATION,
  IP_FRAGMENT,
  IP_PROTOCOL,
  IP_SOURCE,
  IP_TOTAL_LENGTH,
  PROTOCOL_ICMP,
} from "../wire/headers.ts";
import { ICMP_ERRORS_SENT, ICMP_RATE_LIMITED } from "../../src/layout/counters.ts";
import { OK } from "../../src/layout/status.ts";

export const ICMP_UNREACHABLE: u32 = 3;
export const ICMP_TIME_EXCEEDED: u32 = 11;
export const ICMP_PARAMETER_PROBLEM: u32 = 12;

/** Codes of ICMP_UNREACHABLE. */
export const CODE_PROTOCOL_UNREACHABLE: u32 = 2;
export const CODE_PORT_UNREACHABLE: u32 = 3;
export const CODE_FRAGMENTATION_NEEDED: u32 = 4;
const CODE_REASSEMBLY_TIME: u32 = 1;

/** RFC 1812 4.3.2.3: as much of the packet as fits in 576 bytes. */
const QUOTE_BYTES_MAX: u32 = 548;

/** Errors that we send: 1,000 per second, 50 at once (RFC 1812 4.3.2.8). */
const ERROR_INTERVAL_NS: u64 = 1000000;
const ERROR_BURST: u64 = 50;
/** Instant at which the bucket is full again. */
let bucketFullNs: u64 = 0;

/**
 * Reports a packet for us that nobody takes (CODE_*), unless RFC 1122 3.2.2 forbids it or the rate is used up.
 * The caller knows of Ethernet broadcasts and does not call for them.
 */
export function icmpSendUnreachable(packet: usize, headerBytes: u32, totalBytes: u32, code: u32): void {
  sendError(packet, headerBytes, totalBytes, ICMP_UNREACHABLE, code, 0);
}

/** Reports a packet of which fragments never came. @param totalBytes of what is there, without a gap. */
export function icmpSendReassemblyTimeout(packet: usize, headerBytes: u32, totalBytes: u32): void {
  sendError(packet, headerBytes, totalBytes, ICMP_TIME_EXCEEDED, CODE_REASSEMBLY_TIME, 0);
}

/** The packet that ipv4Check has just refused: is what is wrong with it to be reported (RFC 1122 3.2.2.5)? */
export function icmpReportProblem(packet: usize, toGroup: bool): void {
  if (ipv4Problem == 0 || toGroup) return;
  const headerBytes = (<u32>load<u8>(packet) & 0xf) << 2;
  sendError(packet, headerBytes, loadBe16(packet + IP_TOTAL_LENGTH), ICMP_PARAMETER_PROBLEM, 0, ipv4Problem);
}

/** @param pointer of a parameter problem, else 0. */
function sendError(packet: usize, headerBytes: u32, totalBytes: u32, type: u32, code: u32, pointer: u32): void {
  if (!mayBeReported(packet, headerBytes, totalBytes)) return;
  const source = load<u32>(packet, IP_DESTINATION);
  const destination = load<u32>(packet, IP_SOURCE);
  const addressIndex = addressFindV4(source);
  if (addressIndex < 0) return;
  if (!icmpTakeToken()) {
    count(ICMP_RATE_LIMITED);
    return;
  }
  if (ipv4Route(addressIndex, destination) != OK) return;
  const quoteBytes = min(totalBytes, QUOTE_BYTES_MAX);
  const frameBytes = ETHERNET_BYTES + IPV4_HEADER_BYTES + ICMP_HEADER_BYTES + quoteBytes;
  const frame = txReserve(frameBytes);
  if (frame == 0) return;
  // RFC 1812 4.3.2.5: precedence 6, internetwork control.
  const tos: u32 = 0xc0;
  const length = frameBytes - ETHERNET_BYTES;
  ipv4WriteHeader(frame + ETHERNET_BYTES, length, PROTOCOL_ICMP, source, destination, tos);
  const icmp = frame + ETHERNET_BYTES + IPV4_HEADER_BYTES;
  store<u64>(icmp, <u64>(type | (code << 8)) | ((<u64>pointer) << 32));
  const sum = copyAndSum(icmp + ICMP_HEADER_BYTES, packet, quoteBytes);
  store<u16>(icmp, checksumOf(sumAdd(sum, (type | (code << 8)) + pointer)), ICMP_CHECKSUM);
  ipv4Transmit(frame, frameBytes);
  count(ICMP_ERRORS_SENT);
}

/** RFC 1122 3.2.2: never about an ICMP error, a group address, a later fragment, a source that is no single host. */
function mayBeReported(packet: usize, headerBytes: u32, totalBytes: u32): bool {
  if ((loadBe16(packet + IP_FRAGMENT) & FRAGMENT_OFFSET_MASK) != 0) return false;
  if (!isHostV4(load<u32>(packet, IP_SOURCE))) return false;
  if (<u32>load<u8>(packet, IP_PROTOCOL) != PROTOCOL_ICMP) return true;
  return totalBytes > headerBytes && isQuery(load<u8>(packet + headerBytes));
}

/** Echo, timestamp, information, address mask (RFC 792, RFC 950); anything unknown counts as an error. */
function isQuery(type: u8): bool {
  return type == 0 || type == 8 || (type >= 13 && type <= 18);
}

/** One of the errors that may be sent now, of both families. @returns false: the rate is used up. */
export function icmpTakeToken(): bool {
  if (bucketFullNs < nowNs) bucketFullNs = nowNs;
  if (bucketFullNs - nowNs > (ERROR_BURST - 1) * ERROR_INTERVAL_NS) return false;
  bucketFullNs += ERROR_INTERVAL_NS;
  return true;
}
