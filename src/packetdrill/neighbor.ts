/** The gateway that a script's kernel sends everything to: it answers ARP requests, and neighbour solicitations. */
import { concatBytes, internetChecksum, pseudoHeader, viewOf } from "./bytes.ts";
import { PROTOCOL_ICMPV6 } from "./encode.ts";

export const ETHERNET_BYTES = 14;
export const ETHERTYPE_IPV4 = 0x0800;
export const ETHERTYPE_ARP = 0x0806;
export const ETHERTYPE_IPV6 = 0x86dd;

export const KERNEL_MAC = Uint8Array.of(2, 0, 0, 0, 0, 1);
const GATEWAY_MAC = Uint8Array.of(2, 0, 0, 0, 0, 2);

/** A frame from the gateway to the kernel. */
export function frameToKernel(etherType: number, payload: Uint8Array): Uint8Array<ArrayBuffer> {
  return concatBytes(KERNEL_MAC, GATEWAY_MAC, Uint8Array.of(etherType >> 8, etherType & 255), payload);
}

/** @returns the reply's frame; undefined for what needs none (RFC 826). */
export function answerArp(packet: Uint8Array): Uint8Array<ArrayBuffer> | undefined {
  if (packet.length < 28 || viewOf(packet).getUint16(6) !== 1) return undefined;
  const sender = packet.subarray(14, 18);
  const target = packet.subarray(24, 28);
  const isProbe = sender.every((byte) => byte === 0);
  const isAnnouncement = sender.every((byte, i) => byte === target[i]);
  // Nobody else has the kernel's address.
  if (isProbe || isAnnouncement) return undefined;
  const reply = concatBytes(packet.subarray(0, 6), Uint8Array.of(0, 2), GATEWAY_MAC, target, KERNEL_MAC, sender);
  return frameToKernel(ETHERTYPE_ARP, reply);
}

const ICMPV6_AT = 40;
const NEIGHBOR_SOLICITATION = 135;
const NEIGHBOR_ADVERTISEMENT = 136;

/** Is this neighbour discovery (RFC 4861), about which scripts say nothing? @param packet from the IP header on. */
export function isNeighborDiscovery(packet: Uint8Array): boolean {
  const type = packet[ICMPV6_AT] ?? 0;
  return packet.length > ICMPV6_AT && packet[6] === PROTOCOL_ICMPV6 && type >= 133 && type <= 137;
}

/** Multicast listener reports (RFC 3810) start with a hop-by-hop header. */
export function isListenerReport(packet: Uint8Array): boolean {
  return packet.length > ICMPV6_AT && packet[6] === 0;
}

/** @returns the advertisement's frame; undefined for what needs none: other messages, duplicate address detection. */
export function answerSolicitation(packet: Uint8Array): Uint8Array<ArrayBuffer> | undefined {
  if (packet[ICMPV6_AT] !== NEIGHBOR_SOLICITATION || packet.length < ICMPV6_AT + 24) return undefined;
  const source = packet.subarray(8, 24);
  if (source.every((byte) => byte === 0)) return undefined;
  const target = packet.subarray(ICMPV6_AT + 8, ICMPV6_AT + 24);
  // Flags: solicited, override. Option 2: target's link-layer address.
  const message = concatBytes(
    Uint8Array.of(NEIGHBOR_ADVERTISEMENT, 0, 0, 0, 0x60, 0, 0, 0),
    target,
    Uint8Array.of(2, 1),
    GATEWAY_MAC,
  );
  const sum = internetChecksum(pseudoHeader(target, source, PROTOCOL_ICMPV6, message.length), message);
  viewOf(message).setUint16(2, sum);
  const header = Uint8Array.of(0x60, 0, 0, 0, 0, message.length, PROTOCOL_ICMPV6, 255);
  return frameToKernel(ETHERTYPE_IPV6, concatBytes(header, target, source, message));
}
