/** Packets that the kernel has sent: from bytes to the model of packet.ts, with every checksum verified. */
import { concatBytes, internetChecksum, pseudoHeader, toHex, viewOf } from "./bytes.ts";
import { FAST_OPEN_MAGIC, PROTOCOL_ICMP, PROTOCOL_ICMPV6, PROTOCOL_TCP, PROTOCOL_UDP } from "./encode.ts";
import { ICMP_V4_UNREACHABLE, ICMP_V6_PACKET_TOO_BIG, icmpNames } from "./icmpNames.ts";
import * as P from "./packet.ts";

/** A packet that the kernel has sent. */
export type Sent = {
  readonly packet: P.Packet;
  /** 16 bytes each, IPv4 as ::ffff:a.b.c.d. */
  readonly source: Uint8Array;
  readonly destination: Uint8Array;
  /** 0 where the protocol has none. */
  readonly sourcePort: number;
  readonly destinationPort: number;
  /** Of TCP and UDP. */
  readonly payload: Uint8Array;
  readonly timeNs: number;
};

export type IpPacket = {
  readonly family: 4 | 6;
  readonly source: Uint8Array;
  readonly destination: Uint8Array;
  readonly protocol: number;
  readonly ip: P.IpInfo;
  readonly payload: Uint8Array;
  /** Undefined: the packet is whole. */
  readonly fragment: { readonly id: number; readonly offset: number; readonly more: boolean } | undefined;
};

const V6_FRAGMENT = 44;

/** What is wrong with the packet that the kernel has sent. */
export class MalformedPacket extends Error {}

function mapped(v4: Uint8Array): Uint8Array {
  return concatBytes(new Uint8Array(10), Uint8Array.of(255, 255), v4);
}

/** @param bytes from the IP header on. */
export function decodeIp(bytes: Uint8Array): IpPacket {
  const view = viewOf(bytes);
  if (bytes.length < 20) throw new MalformedPacket(`an IP packet of ${bytes.length} bytes`);
  return view.getUint8(0) >> 4 === 4 ? decodeIpv4(bytes, view) : decodeIpv6(bytes, view);
}

function ecnName(tos: number): P.EcnName {
  return (["noecn", "ect1", "ect0", "ce"] as const)[tos & 3] as P.EcnName;
}

function decodeIpv4(bytes: Uint8Array, view: DataView): IpPacket {
  const headerBytes = (view.getUint8(0) & 15) * 4;
  const totalBytes = view.getUint16(2);
  if (headerBytes < 20 || totalBytes < headerBytes || totalBytes > bytes.length) {
    throw new MalformedPacket(`IPv4 header of ${headerBytes} bytes, total length ${totalBytes}, ${bytes.length} sent`);
  }
  if (internetChecksum(bytes.subarray(0, headerBytes)) !== 0) throw new MalformedPacket("bad IPv4 header checksum");
  const tos = view.getUint8(1);
  const fragment = view.getUint16(6);
  const offset = (fragment & 0x1fff) * 8;
  const more = (fragment & 0x2000) !== 0;
  return {
    family: 4,
    source: mapped(bytes.subarray(12, 16)),
    destination: mapped(bytes.subarray(16, 20)),
    protocol: view.getUint8(9),
    ip: { tos, ecn: ecnName(tos), ttl: view.getUint8(8) },
    payload: bytes.subarray(headerBytes, totalBytes),
    fragment: more || offset > 0 ? { id: view.getUint16(4), offset, more } : undefined,
  };
}

function decodeIpv6(bytes: Uint8Array, view: DataView): IpPacket {
  const end = 40 + view.getUint16(4);
  if (bytes.length < 40 || end > bytes.length) throw new MalformedPacket(`IPv6 length ${end}, ${bytes.length} sent`);
  const word = view.getUint32(0);
  const tos = (word >>> 20) & 255;
  let protocol = view.getUint8(6);
  let payload = bytes.subarray(40, end);
  let fragment: IpPacket["fragment"];
  if (protocol === V6_FRAGMENT && payload.length >= 8) {
    const header = viewOf(payload);
    const word2 = header.getUint16(2);
    fragment = { id: header.getUint32(4), offset: word2 & 0xfff8, more: (word2 & 1) !== 0 };
    protocol = header.getUint8(0);
    payload = payload.subarray(8);
  }
  return {
    family: 6,
    source: bytes.slice(8, 24),
    destination: bytes.slice(24, 40),
    protocol,
    ip: { tos, ecn: ecnName(tos), ttl: view.getUint8(7), flowLabel: word & 0xfffff },
    payload,
    fragment,
  };
}

/** @returns undefined for protocols that scripts cannot speak of. */
export function decodeTransport(ip: IpPacket, timeNs: number): Sent | undefined {
  const { source, destination, payload } = ip;
  const base = { source, destination, timeNs };
  if (ip.protocol === PROTOCOL_TCP) return { ...base, ...decodeTcp(ip, payload) };
  if (ip.protocol === PROTOCOL_UDP) {
    if (payload.length < 8) throw new MalformedPacket(`UDP datagram of ${payload.length} bytes`);
    const view = viewOf(payload);
    if (ip.family === 6 || view.getUint16(6) !== 0) verifyChecksum(ip, "UDP");
    return {
      ...base,
      packet: { ip: ip.ip, transport: { kind: "udp", payloadBytes: payload.length - 8 } },
      sourcePort: view.getUint16(0),
      destinationPort: view.getUint16(2),
      payload: payload.subarray(8),
    };
  }
  if (ip.protocol !== (ip.family === 4 ? PROTOCOL_ICMP : PROTOCOL_ICMPV6)) return undefined;
  const transport = decodeIcmp(ip);
  return { ...base, packet: { ip: ip.ip, transport }, sourcePort: 0, destinationPort: 0, payload: new Uint8Array(0) };
}

function verifyChecksum(ip: IpPacket, name: string): void {
  const wire = (address: Uint8Array) => (ip.family === 4 ? address.subarray(12) : address);
  const pseudo = pseudoHeader(wire(ip.source), wire(ip.destination), ip.protocol, ip.payload.length);
  if (internetChecksum(pseudo, ip.payload) !== 0) throw new MalformedPacket(`bad ${name} checksum`);
}

function decodeTcp(ip: IpPacket, bytes: Uint8Array) {
  if (bytes.length < 20) throw new MalformedPacket(`TCP segment of ${bytes.length} bytes`);
  const view = viewOf(bytes);
  const word = view.getUint16(12);
  const headerBytes = (word >> 12) * 4;
  if (headerBytes < 20 || headerBytes > bytes.length) throw new MalformedPacket(`TCP header of ${headerBytes} bytes`);
  if ((word & 0xe00) !== 0) throw new MalformedPacket("reserved bits of the TCP header are set");
  verifyChecksum(ip, "TCP");
  const payload = bytes.subarray(headerBytes);
  const transport: P.TcpPart = {
    kind: "tcp",
    flags: word & 0x1ff,
    seq: view.getUint32(4),
    payloadBytes: payload.length,
    ack: view.getUint32(8),
    isAbsoluteSeq: false,
    isAbsoluteAck: false,
    win: view.getUint16(14),
    urgentPointer: view.getUint16(18),
    options: decodeOptions(bytes.subarray(20, headerBytes)),
  };
  const ports = { sourcePort: view.getUint16(0), destinationPort: view.getUint16(2) };
  return { packet: { ip: ip.ip, transport }, ...ports, payload };
}

function decodeOptions(bytes: Uint8Array): P.TcpOption[] {
  const options: P.TcpOption[] = [];
  for (let at = 0; at < bytes.length; ) {
    const number = bytes[at] as number;
    if (number <= 1) {
      options.push({ kind: number === 0 ? "eol" : "nop" });
      at++;
      continue;
    }
    const length = bytes[at + 1] ?? 0;
    if (length < 2 || at + length > bytes.length) throw new MalformedPacket(`TCP option ${number} of length ${length}`);
    options.push(decodeOption(number, bytes.subarray(at + 2, at + length)));
    at += length;
  }
  return options;
}

function decodeOption(number: number, contents: Uint8Array): P.TcpOption {
  const view = viewOf(contents);
  const { length } = contents;
  if (number === 2 && length === 2) return { kind: "mss", value: view.getUint16(0) };
  if (number === 3 && length === 1) return { kind: "wscale", value: view.getUint8(0) };
  if (number === 4 && length === 0) return { kind: "sackOK" };
  if (number === 5 && length > 0 && length % 8 === 0) {
    const blocks = Array.from({ length: length / 8 }, (_, i): [number, number] => [
      view.getUint32(8 * i),
      view.getUint32(8 * i + 4),
    ]);
    return { kind: "sack", blocks };
  }
  if (number === 8 && length === 8) return { kind: "TS", val: view.getUint32(0), ecr: view.getUint32(4) };
  if (number === 34) return { kind: "FO", cookie: toHex(contents) };
  if (number === 254 && length >= 2 && view.getUint16(0) === FAST_OPEN_MAGIC) {
    return { kind: "FOEXP", cookie: toHex(contents.subarray(2)) };
  }
  const accurate = P.ECN_OPTIONS.find((option) => option.number === number);
  if (accurate && length <= 9 && length % 3 === 0) {
    const values = Array.from(
      { length: length / 3 },
      (_, i) => (view.getUint8(3 * i) << 16) | view.getUint16(3 * i + 1),
    );
    return { kind: "ECN", counters: values.map((value, i) => [accurate.counters[i] as P.EcnCounter, value]) };
  }
  return { kind: "other", number, contents: toHex(contents) };
}

function decodeIcmp(ip: IpPacket): P.IcmpPart {
  const bytes = ip.payload;
  if (bytes.length < 8) throw new MalformedPacket(`ICMP message of ${bytes.length} bytes`);
  if (ip.family === 6) verifyChecksum(ip, "ICMPv6");
  else if (internetChecksum(bytes) !== 0) throw new MalformedPacket("bad ICMP checksum");
  const view = viewOf(bytes);
  const type = view.getUint8(0);
  const names = icmpNames(ip.family, type, view.getUint8(1));
  if (names.type.startsWith("echo_")) return { kind: "icmp", ...names, id: view.getUint16(4) };
  const saysMtu = type === (ip.family === 4 ? ICMP_V4_UNREACHABLE : ICMP_V6_PACKET_TOO_BIG);
  const mtu = view.getUint32(4);
  return { kind: "icmp", ...names, ...(saysMtu && mtu > 0 && { mtu }) };
}
