/**
 * IGMP (RFC 1112, 2236, 3376): queries that come are checked here and go to the control path, which answers them
 * (src/ip/groupReports.ts). What other hosts report is their affair.
 */
import { count } from "../stats.ts";
import { sumBytes } from "../wire/checksum.ts";
import { DROP_IGMP, IGMP_QUERIES } from "../../src/layout/counters.ts";
import { controlQueueQuery } from "./control.ts";

const QUERY: u32 = 0x11;
const HEADER_BYTES: u32 = 8;

/** A whole, checked IPv4 packet of protocol 2 to us or to a group of ours. */
export function igmpInput(packet: usize, headerBytes: u32, totalBytes: u32): void {
  const igmp = packet + headerBytes;
  const bytes = totalBytes - headerBytes;
  if (bytes < HEADER_BYTES || <u32>load<u8>(igmp) != QUERY || sumBytes(igmp, bytes) != 0xffff) {
    count(DROP_IGMP);
    return;
  }
  count(IGMP_QUERIES);
  controlQueueQuery(packet, totalBytes);
}
