/** Packets that a script injects, as bytes. Sequence numbers and timestamps have been mapped to the kernel's. */
import { type AddressFamily, addressFamily } from "../ip/address.ts";
import { concatBytes, fromHex, internetChecksum, pseudoHeader, viewOf } from "./bytes.ts";
import { ScriptError } from "./errors.ts";
import { icmpNumbers } from "./icmpNames.ts";
import * as P from "./packet.ts";
import { optionBytes } from "./parsePacket.ts";

export const PROTOCOL_ICMP = 1;
export const PROTOCOL_TCP = 6;
export const PROTOCOL_UDP = 17;
export const PROTOCOL_ICMPV6 = 58;

const TTL_DEFAULT = 255;
const WINDOW_DEFAULT = 0;

/** Addresses are 16 bytes, IPv4 as ::ffff:a.b.c.d. */
export type Endpoint = { readonly address: Uint8Array; readonly port: number };

/** What the kernel last sent, for ICMP errors that quote it. */
export type Quoted = { readonly source: Endpoint; readonly destination: Endpoint; readonly seq: number };

/** @param payload at least as long as the packet's; what is quoted for ICMP errors. */
export function encodePacket(
  packet: P.Packet,
  source: Endpoint,
  destination: Endpoint,
  payload: Uint8Array,
  quoted: Quoted,
): Uint8Array<ArrayBuffer> {
  const family = addressFamily(destination.address);
  const { transport } = packet;
  switch (transport.kind) {
    case "tcp": {
      const segment = encodeTcp(transport, source, destination, payload.subarray(0, transport.payloadBytes));
      return encodeIp(packet.ip, PROTOCOL_TCP, source.address, destination.address, segment);
    }
    case "udp": {
      const datagram = encodeUdp(source, destination, payload.subarray(0, transport.payloadBytes));
      return encodeIp(packet.ip, PROTOCOL_UDP, source.address, destination.address, datagram);
    }
    case "icmp": {
      const protocol = family === 4 ? PROTOCOL_ICMP : PROTOCOL_ICMPV6;
      const message = encodeIcmp(transport, family, source, destination, quoted);
      return encodeIp(packet.ip, protocol, source.address, destination.address, message);
    }
  }
}

/** The address in its family's own length. */
function wireAddress(address: Uint8Array): Uint8Array {
  return addressFamily(address) === 4 ? address.subarray(12) : address;
}

function encodeIp(ip: P.IpInfo, protocol: number, source: Uint8Array, destination: Uint8Array, payload: Uint8Array) {
  const ecn = ip.ecn === undefined || ip.ecn === "ect01" ? 0 : P.ECN_CODEPOINTS[ip.ecn];
  const tos = ip.tos ?? ecn;
  const ttl = ip.ttl ?? TTL_DEFAULT;
  const addresses = concatBytes(wireAddress(source), wireAddress(destination));
  if (addressFamily(destination) === 4) {
    const header = new Uint8Array(20);
    const view = viewOf(header);
    view.setUint16(0, 0x4500 | tos);
    view.setUint16(2, 20 + payload.length);
    view.setUint16(8, (ttl << 8) | protocol);
    header.set(addresses, 12);
    view.setUint16(10, internetChecksum(header));
    return concatBytes(header, payload);
  }
  const header = new Uint8Array(8);
  const view = viewOf(header);
  view.setUint32(0, ((6 << 28) | (tos << 20) | (ip.flowLabel ?? 0)) >>> 0);
  view.setUint16(4, payload.length);
  view.setUint16(6, (protocol << 8) | ttl);
  return concatBytes(header, addresses, payload);
}

function checksum(protocol: number, source: Uint8Array, destination: Uint8Array, segment: Uint8Array): number {
  const pseudo = pseudoHeader(wireAddress(source), wireAddress(destination), protocol, segment.length);
  return internetChecksum(pseudo, segment);
}

/** Bits of the ECN fields for a counter written as `P.5`. */
function aceBits(ace: number): number {
  return (ace & 4 ? P.AE : 0) | (ace & 2 ? P.CWR : 0) | (ace & 1 ? P.ECE : 0);
}

function encodeTcp(tcp: P.TcpPart, source: Endpoint, destination: Endpoint, payload: Uint8Array): Uint8Array {
  const options = concatBytes(...(tcp.options ?? []).map(encodeOption));
  const headerBytes = 20 + Math.ceil(options.length / 4) * 4;
  const segment = new Uint8Array(headerBytes + payload.length);
  const view = viewOf(segment);
  const flags = tcp.ace === undefined ? tcp.flags : (tcp.flags & ~P.ACE_BITS) | aceBits(tcp.ace);
  view.setUint16(0, source.port);
  view.setUint16(2, destination.port);
  view.setUint32(4, tcp.seq);
  view.setUint32(8, tcp.ack);
  view.setUint16(12, ((headerBytes / 4) << 12) | flags);
  view.setUint16(14, tcp.win ?? WINDOW_DEFAULT);
  view.setUint16(18, tcp.urgentPointer);
  segment.set(options, 20);
  segment.set(payload, headerBytes);
  view.setUint16(16, checksum(PROTOCOL_TCP, source.address, destination.address, segment));
  return segment;
}

function encodeOption(option: P.TcpOption): Uint8Array {
  const numbers: Readonly<Record<P.TcpOption["kind"], number>> = {
    eol: 0,
    nop: 1,
    mss: 2,
    wscale: 3,
    sackOK: 4,
    sack: 5,
    TS: 8,
    FO: 34,
    FOEXP: 254,
    ECN: option.kind === "ECN" ? ecnNumber(option.counters[0]?.[0]) : 0,
    other: option.kind === "other" ? option.number : 0,
  };
  const bytes = new Uint8Array(optionBytes(option));
  const view = viewOf(bytes);
  bytes[0] = numbers[option.kind];
  if (option.kind === "nop" || option.kind === "eol") return bytes;
  bytes[1] = bytes.length;
  if (option.kind === "mss") view.setUint16(2, option.value);
  else if (option.kind === "wscale") bytes[2] = option.value;
  else if (option.kind === "sack")
    option.blocks.flat().forEach((edge, i) => {
      view.setUint32(2 + 4 * i, edge);
    });
  else if (option.kind === "TS") {
    view.setUint32(2, option.val);
    view.setUint32(6, option.ecr);
  } else if (option.kind === "FO") bytes.set(fromHex(option.cookie), 2);
  else if (option.kind === "FOEXP") {
    view.setUint16(2, FAST_OPEN_MAGIC);
    bytes.set(fromHex(option.cookie), 4);
  } else if (option.kind === "ECN") {
    option.counters.forEach(([, value], i) => {
      bytes.set([value >> 16, (value >> 8) & 255, value & 255], 2 + 3 * i);
    });
  } else if (option.kind === "other") bytes.set(fromHex(option.contents), 2);
  return bytes;
}

function ecnNumber(first: P.EcnCounter | undefined): number {
  return P.ECN_OPTIONS.find(({ counters }) => counters[0] === first)?.number ?? 172;
}

/** RFC 7413 A: says which experiment option 254 belongs to. */
export const FAST_OPEN_MAGIC = 0xf989;

function encodeUdp(source: Endpoint, destination: Endpoint, payload: Uint8Array): Uint8Array {
  const datagram = new Uint8Array(8 + payload.length);
  const view = viewOf(datagram);
  view.setUint16(0, source.port);
  view.setUint16(2, destination.port);
  view.setUint16(4, datagram.length);
  datagram.set(payload, 8);
  // RFC 768: a checksum that comes out as 0 is sent as all ones.
  view.setUint16(6, checksum(PROTOCOL_UDP, source.address, destination.address, datagram) || 0xffff);
  return datagram;
}

function encodeIcmp(
  icmp: P.IcmpPart,
  family: AddressFamily,
  source: Endpoint,
  destination: Endpoint,
  quoted: Quoted,
): Uint8Array {
  const numbers = icmpNumbers(family, icmp.type, icmp.code);
  if (!numbers) throw new ScriptError(0, `IPv${family} has no ICMP ${icmp.type} ${icmp.code ?? ""}`);
  const isEcho = icmp.type.startsWith("echo_");
  const body = isEcho || icmp.echoed?.kind === "raw" ? rawBody(icmp) : encodeQuote(icmp, family, quoted);
  const message = concatBytes(new Uint8Array(8), body);
  const view = viewOf(message);
  message[0] = numbers.type;
  message[1] = numbers.code;
  if (isEcho) view.setUint16(4, icmp.id ?? 0);
  else if (icmp.mtu !== undefined) view.setUint32(4, icmp.mtu);
  const sum =
    family === 4 ? internetChecksum(message) : checksum(PROTOCOL_ICMPV6, source.address, destination.address, message);
  view.setUint16(2, sum);
  return message;
}

/** `[raw(n)]`: n bytes of ICMP in all, the header too. */
function rawBody(icmp: P.IcmpPart): Uint8Array {
  return new Uint8Array(icmp.echoed?.kind === "raw" ? Math.max(0, icmp.echoed.payloadBytes - 8) : 0);
}

/** Header and first 8 payload bytes of the packet that the error is about (RFC 792). */
function encodeQuote(icmp: P.IcmpPart, family: AddressFamily, quoted: Quoted): Uint8Array {
  const { echoed } = icmp;
  const isUdp = echoed?.kind === "udp";
  const start = new Uint8Array(8);
  const view = viewOf(start);
  view.setUint16(0, quoted.source.port);
  view.setUint16(2, quoted.destination.port);
  const payloadBytes = echoed?.payloadBytes ?? 0;
  if (isUdp) view.setUint16(4, 8 + payloadBytes);
  else view.setUint32(4, quoted.seq);
  const protocol = isUdp ? PROTOCOL_UDP : PROTOCOL_TCP;
  const packet = encodeIp({}, protocol, quoted.source.address, quoted.destination.address, start);
  // The length in the quoted header is that of the whole packet.
  const lengthBytes = (isUdp ? 8 : 20) + payloadBytes;
  viewOf(packet).setUint16(family === 4 ? 2 : 4, family === 4 ? 20 + lengthBytes : lengthBytes);
  return packet;
}
