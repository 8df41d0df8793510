/**
 * The ICMPv6 packets of the control path, to bytes and back: router solicitation and advertisement, the probes of
 * duplicate address detection (RFC 4861, RFC 4862), listener reports (RFC 3810). The kernel has checked what comes in:
 * lengths, checksum, hop limit, options that fit (assembly/ip/ndp.ts).
 */
import { ADDRESS_BYTES } from "./address.ts";
import type { LinkParameters } from "./networkChange.ts";

const HEADER_BYTES = 40;
const ICMPV6 = 58;
const SOURCE = 8;
const DESTINATION = 24;

export const ROUTER_SOLICITATION = 133;
export const ROUTER_ADVERTISEMENT = 134;
export const NEIGHBOR_SOLICITATION = 135;
export const NEIGHBOR_ADVERTISEMENT = 136;
export const LISTENER_QUERY = 130;
const LISTENER_REPORT_V2 = 143;

const OPTION_SOURCE_MAC = 1;
const OPTION_PREFIX = 3;
const PREFIX_OPTION_BYTES = 32;
const OPTION_MTU = 5;
const MTU_OPTION_BYTES = 8;
const FLAG_ON_LINK = 0x80;
const FLAG_AUTONOMOUS = 0x40;
const FLAG_ROUTER = 0x80;
/** Record type "change to exclude": we listen to the group, whoever sends (RFC 3810 5.2.12). */
const CHANGE_TO_EXCLUDE = 4;

/** Hop-by-hop options with a router alert (RFC 2711), padded, before ICMPv6. */
export const ROUTER_ALERT_EXTENSION = Uint8Array.of(ICMPV6, 0, 5, 2, 0, 0, 1, 0);

export const UNSPECIFIED = new Uint8Array(ADDRESS_BYTES);
const ALL_ROUTERS = group(0x02);
const ALL_MLDV2_ROUTERS = group(0x16);

/** ff02::`last`. */
function group(last: number): Uint8Array {
  const address = new Uint8Array(ADDRESS_BYTES);
  address.set([0xff, 0x02]);
  address[15] = last;
  return address;
}

/** The group that asks for `address` are sent to (RFC 4291 2.7.1). */
export function solicitedNodeGroup(address: Uint8Array): Uint8Array {
  const solicited = group(0);
  solicited.set([0x01, 0xff], 11);
  solicited.set(address.subarray(13), 13);
  return solicited;
}

/** Ones' complement sum over the pseudo-header and the message (RFC 8200 8.1). */
function checksum(source: Uint8Array, destination: Uint8Array, message: Uint8Array): number {
  let sum = ICMPV6 + message.length;
  for (const part of [source, destination, message]) {
    for (let i = 0; i < part.length; i++) sum += i & 1 ? (part[i] as number) : (part[i] as number) << 8;
  }
  while (sum > 0xffff) sum = (sum & 0xffff) + Math.floor(sum / 0x10000);
  return ~sum & 0xffff;
}

/** @param extension headers between the two, whose first is of type `nextHeader`. */
export function icmp6Packet(
  source: Uint8Array,
  destination: Uint8Array,
  hopLimit: number,
  message: Uint8Array,
  extension: Uint8Array = new Uint8Array(0),
  nextHeader = ICMPV6,
): Uint8Array {
  const sum = checksum(source, destination, message);
  message[2] = sum >> 8;
  message[3] = sum & 0xff;
  const whole = new Uint8Array(HEADER_BYTES + extension.length + message.length);
  const length = extension.length + message.length;
  whole.set([0x60, 0, 0, 0, length >> 8, length & 0xff, nextHeader, hopLimit]);
  whole.set(source, SOURCE);
  whole.set(destination, DESTINATION);
  whole.set(extension, HEADER_BYTES);
  whole.set(message, HEADER_BYTES + extension.length);
  return whole;
}

/** @param source own address. */
export function routerSolicitation(source: Uint8Array, mac: Uint8Array): Uint8Array {
  const message = new Uint8Array(16);
  message[0] = ROUTER_SOLICITATION;
  message.set([OPTION_SOURCE_MAC, 1, ...mac], 8);
  return icmp6Packet(source, ALL_ROUTERS, 255, message);
}

/** Does anybody have `address` (RFC 4862 5.4.2)? */
export function duplicateProbe(address: Uint8Array): Uint8Array {
  const message = new Uint8Array(24);
  message[0] = NEIGHBOR_SOLICITATION;
  message.set(address, 8);
  return icmp6Packet(UNSPECIFIED, solicitedNodeGroup(address), 255, message);
}

/** We listen to these groups (RFC 3810 5.2). @param source link-local, or UNSPECIFIED. */
export function listenerReport(source: Uint8Array, groups: readonly Uint8Array[]): Uint8Array {
  const message = new Uint8Array(8 + 20 * groups.length);
  message[0] = LISTENER_REPORT_V2;
  message[7] = groups.length;
  groups.forEach((address, index) => {
    message[8 + 20 * index] = CHANGE_TO_EXCLUDE;
    message.set(address, 12 + 20 * index);
  });
  return icmp6Packet(source, ALL_MLDV2_ROUTERS, 1, message, ROUTER_ALERT_EXTENSION, 0);
}

export type AdvertisedPrefix = {
  /** 16 bytes. */
  readonly prefix: Uint8Array;
  readonly prefixLength: number;
  readonly onLink: boolean;
  readonly autonomous: boolean;
  /** Seconds; Infinity: for ever. */
  readonly validS: number;
  readonly preferredS: number;
};

export type ControlMessage =
  | {
      readonly type: typeof ROUTER_ADVERTISEMENT;
      readonly source: Uint8Array;
      /** Seconds as a default router; 0: it is none (any more). */
      readonly routerS: number;
      /** RFC 4191 2.1: 1 high, 0 medium, -1 low. */
      readonly preference: number;
      /** About the link, 0: unspecified. What is to be believed of it is decided elsewhere. */
      readonly link: LinkParameters;
      readonly prefixes: readonly AdvertisedPrefix[];
    }
  | { readonly type: typeof NEIGHBOR_SOLICITATION; readonly target: Uint8Array }
  | { readonly type: typeof NEIGHBOR_ADVERTISEMENT; readonly target: Uint8Array; readonly isRouter: boolean }
  | { readonly type: typeof LISTENER_QUERY; readonly responseMs: number };

/** Lifetimes count in seconds, all ones is for ever (RFC 4861 4.6.2). */
function lifetime(seconds: number): number {
  return seconds === 0xffff_ffff ? Number.POSITIVE_INFINITY : seconds;
}

function parsePrefix(option: DataView): AdvertisedPrefix {
  const flags = option.getUint8(3);
  return {
    prefix: new Uint8Array(option.buffer, option.byteOffset + 16, ADDRESS_BYTES).slice(),
    prefixLength: option.getUint8(2),
    onLink: (flags & FLAG_ON_LINK) !== 0,
    autonomous: (flags & FLAG_AUTONOMOUS) !== 0,
    validS: lifetime(option.getUint32(4)),
    preferredS: lifetime(option.getUint32(8)),
  };
}

function parseOptions(message: DataView): { prefixes: readonly AdvertisedPrefix[]; link: LinkParameters } {
  const prefixes: AdvertisedPrefix[] = [];
  let mtuBytes = 0;
  for (let at = 16; at + 8 <= message.byteLength; ) {
    const bytes = message.getUint8(at + 1) * 8;
    if (bytes === 0 || at + bytes > message.byteLength) break;
    if (message.getUint8(at) === OPTION_PREFIX && bytes === PREFIX_OPTION_BYTES) {
      prefixes.push(parsePrefix(new DataView(message.buffer, message.byteOffset + at, bytes)));
    }
    if (message.getUint8(at) === OPTION_MTU && bytes === MTU_OPTION_BYTES) mtuBytes = message.getUint32(at + 4);
    at += bytes;
  }
  const hopLimit = message.getUint8(4);
  return {
    prefixes,
    link: { mtuBytes, hopLimit, reachableMs: message.getUint32(8), retransMs: message.getUint32(12) },
  };
}

/** RFC 4191 2.1: two bits, of which 10 is reserved and counts as medium. */
function preferenceOf(flags: number): number {
  const bits = (flags >> 3) & 3;
  return bits === 1 ? 1 : bits === 3 ? -1 : 0;
}

/** RFC 3810 5.1.3: above 32,767 a floating-point form. */
function responseMs(code: number): number {
  return code < 32768 ? code : ((code & 0xfff) | 0x1000) << (((code >> 12) & 7) + 3);
}

/** @returns what a packet from the kernel's control queue says; undefined: nothing that concerns us. */
export function parseControl(bytes: Uint8Array): ControlMessage | undefined {
  if (bytes.length < HEADER_BYTES + 8) return undefined;
  // Queries come with a router alert before them; nothing else comes with a header that matters.
  const isOptions = bytes[6] === 0;
  const at = HEADER_BYTES + (isOptions ? ((bytes[HEADER_BYTES + 1] as number) + 1) * 8 : 0);
  if ((isOptions ? bytes[HEADER_BYTES] : bytes[6]) !== ICMPV6 || at + 8 > bytes.length) return undefined;
  const message = new DataView(bytes.buffer, bytes.byteOffset + at, bytes.length - at);
  const type = message.getUint8(0);
  if (type === ROUTER_ADVERTISEMENT && message.byteLength >= 16) {
    return {
      type,
      source: bytes.slice(SOURCE, SOURCE + ADDRESS_BYTES),
      routerS: message.getUint16(6),
      preference: preferenceOf(message.getUint8(5)),
      ...parseOptions(message),
    };
  }
  if ((type === NEIGHBOR_SOLICITATION || type === NEIGHBOR_ADVERTISEMENT) && message.byteLength >= 24) {
    const target = bytes.slice(at + 8, at + 8 + ADDRESS_BYTES);
    if (type === NEIGHBOR_SOLICITATION) return { type, target };
    return { type, target, isRouter: (message.getUint8(4) & FLAG_ROUTER) !== 0 };
  }
  return type === LISTENER_QUERY ? { type, responseMs: responseMs(message.getUint16(4)) } : undefined;
}
