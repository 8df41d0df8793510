/**
 * Messages between hosts that are in groups and routers and switches that want to know: IGMP (RFC 2236, RFC 3376) and
 * MLD (RFC 2710, RFC 3810), to bytes and back. The kernel has checked what comes in: lengths and checksums
 * (assembly/ip/igmp.ts, icmp6.ts).
 */
import { ADDRESS_BYTES, type AddressFamily, parseAddress } from "./address.ts";
import { icmp6Packet, LISTENER_QUERY, ROUTER_ALERT_EXTENSION } from "./controlPackets.ts";

/** How groups are told of: as in the present version (IGMPv3, MLDv2), in the one before, or as in IGMPv1. */
export type GroupVersion = "current" | "previous" | "first";

export type GroupQuery = {
  readonly family: AddressFamily;
  readonly version: GroupVersion;
  /** 16 bytes; undefined: all groups are asked for. */
  readonly group: Uint8Array | undefined;
  /** Within this time the answer is to come. */
  readonly responseMs: number;
};

/** Record types of a report (RFC 3376 4.2.12, RFC 3810 5.2.12). */
export type GroupRecord = {
  /** "is": we are in the group; "joined", "left": since now. Whoever sends to it, that is "exclude nobody". */
  readonly type: "is" | "joined" | "left";
  readonly group: Uint8Array;
};
const RECORD_TYPES = { is: 2, left: 3, joined: 4 } as const;

const IGMP = 2;
const IGMP_QUERY = 0x11;
const IGMP_V1_REPORT = 0x12;
const IGMP_V2_REPORT = 0x16;
const IGMP_V2_LEAVE = 0x17;
const IGMP_V3_REPORT = 0x22;
const MLD_V1_REPORT = 131;
const MLD_V1_DONE = 132;
const MLD_V2_REPORT = 143;
const IPV4_HEADER_BYTES = 24;
const IPV6_HEADER_BYTES = 40;
const ICMPV6 = 58;
/** RFC 3376 8.3: an IGMPv1 query has no time in it. */
const V1_RESPONSE_MS = 10_000;

const ALL_ROUTERS_V4 = parseAddress("224.0.0.2");
const ALL_V3_ROUTERS = parseAddress("224.0.0.22");
const ALL_ROUTERS_V6 = parseAddress("ff02::2");
const ALL_MLDV2_ROUTERS = parseAddress("ff02::16");

/** RFC 1071 over bytes of even number. */
function internetChecksum(bytes: Uint8Array): number {
  let sum = 0;
  for (let i = 0; i < bytes.length; i += 2) sum += ((bytes[i] as number) << 8) | (bytes[i + 1] as number);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}

function fillChecksum(bytes: Uint8Array, at: number): void {
  new DataView(bytes.buffer, bytes.byteOffset).setUint16(at, internetChecksum(bytes));
}

/** TTL 1, precedence 6, and a router alert (RFC 3376 4). Addresses are 16 bytes. */
function igmpPacket(source: Uint8Array, destination: Uint8Array, message: Uint8Array): Uint8Array {
  fillChecksum(message, 2);
  const header = new Uint8Array(IPV4_HEADER_BYTES);
  const length = IPV4_HEADER_BYTES + message.length;
  header.set([0x46, 0xc0, length >> 8, length & 0xff, 0, 0, 0x40, 0, 1, IGMP]);
  header.set(source.subarray(12), 12);
  header.set(destination.subarray(12), 16);
  header.set([0x94, 4, 0, 0], 20);
  fillChecksum(header, 10);
  const packet = new Uint8Array(length);
  packet.set(header);
  packet.set(message, IPV4_HEADER_BYTES);
  return packet;
}

function mldPacket(source: Uint8Array, destination: Uint8Array, message: Uint8Array): Uint8Array {
  return icmp6Packet(source, destination, 1, message, ROUTER_ALERT_EXTENSION, 0);
}

/** A report of the present version. @param source own address; all zero: there is none yet. */
export function groupReport(family: AddressFamily, source: Uint8Array, records: readonly GroupRecord[]): Uint8Array {
  const addressBytes = family === 4 ? 4 : ADDRESS_BYTES;
  const recordBytes = 4 + addressBytes;
  const message = new Uint8Array(8 + recordBytes * records.length);
  message[0] = family === 4 ? IGMP_V3_REPORT : MLD_V2_REPORT;
  message[7] = records.length;
  records.forEach(({ type, group }, index) => {
    const at = 8 + recordBytes * index;
    message[at] = RECORD_TYPES[type];
    message.set(group.subarray(ADDRESS_BYTES - addressBytes), at + 4);
  });
  return family === 4 ? igmpPacket(source, ALL_V3_ROUTERS, message) : mldPacket(source, ALL_MLDV2_ROUTERS, message);
}

/**
 * What an older version says of one group.
 * @returns undefined: it has no word for it (IGMPv1 cannot leave).
 */
export function olderReport(
  family: AddressFamily,
  version: GroupVersion,
  source: Uint8Array,
  { type, group }: GroupRecord,
): Uint8Array | undefined {
  const leaves = type === "left";
  if (family === 4) {
    if (version === "first" && leaves) return undefined;
    const message = new Uint8Array(8);
    message[0] = leaves ? IGMP_V2_LEAVE : version === "first" ? IGMP_V1_REPORT : IGMP_V2_REPORT;
    message.set(group.subarray(12), 4);
    return igmpPacket(source, leaves ? ALL_ROUTERS_V4 : group, message);
  }
  const message = new Uint8Array(8 + ADDRESS_BYTES);
  message[0] = leaves ? MLD_V1_DONE : MLD_V1_REPORT;
  message.set(group, 8);
  return mldPacket(source, leaves ? ALL_ROUTERS_V6 : group, message);
}

/** RFC 3376 4.1.1: above 127 a floating-point form, in tenths of a second. */
function igmpResponseMs(code: number): number {
  return 100 * (code < 128 ? code : ((code & 15) | 16) << (((code >> 4) & 7) + 3));
}

/** RFC 3810 5.1.3: above 32,767 a floating-point form, in milliseconds. */
function mldResponseMs(code: number): number {
  return code < 32768 ? code : ((code & 0xfff) | 0x1000) << (((code >> 12) & 7) + 3);
}

function mapped(v4: Uint8Array): Uint8Array {
  const address = new Uint8Array(ADDRESS_BYTES);
  address.set([0xff, 0xff], 10);
  address.set(v4, 12);
  return address;
}

function orAll(group: Uint8Array, bytes: Uint8Array): Uint8Array | undefined {
  return bytes.every((byte) => byte === 0) ? undefined : group;
}

/** @returns what a packet from the kernel's control queue asks; undefined: it is no query. */
export function parseGroupQuery(packet: Uint8Array): GroupQuery | undefined {
  if (packet.length < IPV4_HEADER_BYTES) return undefined;
  if ((packet[0] as number) >> 4 === 4) return parseIgmp(packet);
  const isExtended = packet[6] === 0;
  const at = IPV6_HEADER_BYTES + (isExtended ? ((packet[IPV6_HEADER_BYTES + 1] ?? 0) + 1) * 8 : 0);
  if ((isExtended ? packet[IPV6_HEADER_BYTES] : packet[6]) !== ICMPV6) return undefined;
  if (packet[at] !== LISTENER_QUERY || at + 24 > packet.length) return undefined;
  const code = new DataView(packet.buffer, packet.byteOffset + at).getUint16(4);
  const bytes = packet.slice(at + 8, at + 24);
  const isCurrent = packet.length - at >= 28;
  return {
    family: 6,
    // RFC 3810 8.1: by its length.
    version: isCurrent ? "current" : "previous",
    group: orAll(bytes, bytes),
    responseMs: isCurrent ? mldResponseMs(code) : code,
  };
}

function parseIgmp(packet: Uint8Array): GroupQuery | undefined {
  const at = ((packet[0] as number) & 15) * 4;
  const bytes = new DataView(packet.buffer, packet.byteOffset).getUint16(2) - at;
  if (packet[9] !== IGMP || bytes < 8 || at + 8 > packet.length || packet[at] !== IGMP_QUERY) return undefined;
  const code = packet[at + 1] as number;
  const v4 = packet.slice(at + 4, at + 8);
  // RFC 3376 7.1: by its length, and IGMPv1 by its lack of a time.
  const version = bytes >= 12 ? "current" : code === 0 ? "first" : "previous";
  const responseMs = version === "first" ? V1_RESPONSE_MS : version === "current" ? igmpResponseMs(code) : code * 100;
  return { family: 4, version, group: orAll(mapped(v4), v4), responseMs };
}
