/**
 * 5. Output: what a socket has asked its packets to be marked with: TOS or traffic class (RFC 9293, MUST-48), TTL or
 * hop limit (MUST-49). Few have; the IP header is written without and changed afterwards.
 */
import { checksumOf, sumBytes } from "../wire/checksum.ts";
import { IPV4_HEADER_BYTES, IP_CHECKSUM, IP_TOS, IP_TTL, V6_HOP_LIMIT } from "../wire/headers.ts";
import { settingsCount, settingsFind } from "./settings.ts";
import { Tcb, tcbIndex } from "./tcb.ts";

/** TOS in bits 0 to 7, TTL in 8 to 15; 0: nothing was asked for. */
export function marksOf(tcb: Tcb): u32 {
  if (settingsCount == 0) return 0;
  const settings = settingsFind(tcbIndex(tcb));
  return changetype<usize>(settings) == 0 ? 0 : <u32>settings.tos | ((<u32>settings.hopLimit) << 8);
}

/** @param packet whose header is complete; ECN's bits stay as they are. */
export function marksApply(marks: u32, packet: usize, isV6: bool): void {
  if (marks == 0) return;
  const tos = marks & 255;
  const hopLimit = marks >> 8;
  if (isV6) {
    // Version, class and label stand in this order.
    const first = load<u8>(packet) | <u8>(tos >> 4);
    store<u8>(packet, first);
    store<u8>(packet, load<u8>(packet, 1) | <u8>(tos << 4), 1);
    if (hopLimit != 0) store<u8>(packet, <u8>hopLimit, V6_HOP_LIMIT);
    return;
  }
  store<u8>(packet, load<u8>(packet, IP_TOS) | <u8>tos, IP_TOS);
  if (hopLimit != 0) store<u8>(packet, <u8>hopLimit, IP_TTL);
  store<u16>(packet, 0, IP_CHECKSUM);
  store<u16>(packet, checksumOf(sumBytes(packet, IPV4_HEADER_BYTES)), IP_CHECKSUM);
}
