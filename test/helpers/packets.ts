/**
 * Builders and parsers for the packets that tests send and expect, in plain TypeScript and independent of assembly/:
 * slow and obvious. Layers are functions from a few named fields to bytes, so that they nest:
 *
 *     ethernet({ source, destination }, ipv4({ source: "10.0.0.1", destination: "10.0.0.2", protocol: 17 }, udp(…)))
 *
 * Fields that are left out get a valid value. Lengths and checksums are computed unless a test gives wrong ones on
 * purpose. Addresses are text ("10.0.0.1", "02:00:00:00:00:01"); ports, lengths and sequence numbers are numbers.
 */

export const ETHERTYPE_IPV4 = 0x0800;
export const ETHERTYPE_ARP = 0x0806;
export const PROTOCOL_ICMP = 1;
export const PROTOCOL_TCP = 6;
export const PROTOCOL_UDP = 17;
export const BROADCAST_MAC = "ff:ff:ff:ff:ff:ff";

const ETHERNET_HEADER_BYTES = 14;

// Bytes.

export function concat(...parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** "0800 4500 …" as bytes; spaces are ignored. */
export function hex(text: string): Uint8Array<ArrayBuffer> {
  const digits = text.replaceAll(/\s/g, "");
  return Uint8Array.from({ length: digits.length / 2 }, (_, i) => Number.parseInt(digits.slice(2 * i, 2 * i + 2), 16));
}

/** `bytes` bytes that differ from their neighbours and from each other's copies at other places. */
export function pattern(bytes: number, seed = 0): Uint8Array<ArrayBuffer> {
  return Uint8Array.from({ length: bytes }, (_, i) => (i * 31 + (i >> 8) * 7 + seed * 13 + 1) & 0xff);
}

function view(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

export function macBytes(text: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(text.split(":"), (part) => Number.parseInt(part, 16));
}

export function macText(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join(":");
}

export function v4Bytes(text: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(text.split("."), Number);
}

export function v4Text(bytes: Uint8Array): string {
  return bytes.join(".");
}

/** The address as the kernel keeps it: the u32 in memory order, the first octet the lowest byte. */
export function v4Word(text: string): number {
  return view(v4Bytes(text)).getUint32(0, true);
}

/** ::ffff:a.b.c.d, 16 bytes. */
export function v4Mapped(text: string): Uint8Array<ArrayBuffer> {
  return concat(new Uint8Array(10), hex("ffff"), v4Bytes(text));
}

/** Internet checksum (RFC 1071) over big-endian words, an odd last byte padded with zero. */
export function internetChecksum(...parts: readonly Uint8Array[]): number {
  const bytes = concat(...parts);
  let sum = 0;
  for (let i = 0; i < bytes.length; i++) sum += i % 2 === 0 ? (bytes[i] as number) << 8 : (bytes[i] as number);
  while (sum > 0xffff) sum = (sum & 0xffff) + Math.floor(sum / 0x10000);
  return ~sum & 0xffff;
}

function pseudoHeader(source: string, destination: string, protocol: number, lengthBytes: number): Uint8Array {
  const rest = new Uint8Array(4);
  rest[1] = protocol;
  view(rest).setUint16(2, lengthBytes);
  return concat(v4Bytes(source), v4Bytes(destination), rest);
}

// Ethernet.

export type EthernetFields = { readonly destination: string; readonly source: string; readonly etherType?: number };

export function ethernet(fields: EthernetFields, payload: Uint8Array): Uint8Array<ArrayBuffer> {
  const type = new Uint8Array(2);
  view(type).setUint16(0, fields.etherType ?? ETHERTYPE_IPV4);
  return concat(macBytes(fields.destination), macBytes(fields.source), type, payload);
}

export type Ethernet = Required<EthernetFields> & { readonly payload: Uint8Array };

export function parseEthernet(frame: Uint8Array): Ethernet {
  if (frame.length < ETHERNET_HEADER_BYTES) throw new Error(`frame of ${frame.length} bytes has no Ethernet header`);
  return {
    destination: macText(frame.subarray(0, 6)),
    source: macText(frame.subarray(6, 12)),
    etherType: view(frame).getUint16(12),
    payload: frame.subarray(ETHERNET_HEADER_BYTES),
  };
}

// ARP.

export type ArpFields = {
  readonly operation: "request" | "reply";
  readonly senderMac: string;
  readonly senderV4: string;
  readonly targetMac?: string;
  readonly targetV4: string;
};

/** An ARP packet in its Ethernet frame: requests go to everybody, replies to the target, or else to `destination`. */
export function arp(fields: ArpFields, destination?: string): Uint8Array<ArrayBuffer> {
  const targetMac = fields.targetMac ?? "00:00:00:00:00:00";
  const to = destination ?? (fields.operation === "request" ? BROADCAST_MAC : targetMac);
  const packet = concat(
    hex("0001 0800 06 04"), // Ethernet, IPv4, and the lengths of their addresses
    hex(fields.operation === "request" ? "0001" : "0002"),
    macBytes(fields.senderMac),
    v4Bytes(fields.senderV4),
    macBytes(targetMac),
    v4Bytes(fields.targetV4),
  );
  return ethernet({ destination: to, source: fields.senderMac, etherType: ETHERTYPE_ARP }, packet);
}

export type Arp = Required<ArpFields> & { readonly destination: string };

/** @param frame with its Ethernet header. */
export function parseArp(frame: Uint8Array): Arp {
  const { destination, etherType, payload } = parseEthernet(frame);
  if (etherType !== ETHERTYPE_ARP) throw new Error(`EtherType ${etherType.toString(16)} is not ARP`);
  if (payload.length < 28) throw new Error(`ARP packet of ${payload.length} bytes`);
  return {
    destination,
    operation: view(payload).getUint16(6) === 1 ? "request" : "reply",
    senderMac: macText(payload.subarray(8, 14)),
    senderV4: v4Text(payload.subarray(14, 18)),
    targetMac: macText(payload.subarray(18, 24)),
    targetV4: v4Text(payload.subarray(24, 28)),
  };
}

// IPv4.

export type Ipv4Fields = {
  readonly source: string;
  readonly destination: string;
  readonly protocol: number;
  readonly tos?: number;
  readonly ttl?: number;
  readonly identification?: number;
  readonly dontFragment?: boolean;
  readonly moreFragments?: boolean;
  /** Bytes, a multiple of 8. */
  readonly fragmentOffset?: number;
  /** Padded to a multiple of 4 bytes with "end of options". */
  readonly options?: Uint8Array;
  // Only for wrong packets:
  readonly version?: number;
  readonly headerBytes?: number;
  readonly totalBytes?: number;
  readonly checksum?: number;
};

export function ipv4(fields: Ipv4Fields, payload: Uint8Array): Uint8Array<ArrayBuffer> {
  const options = fields.options ?? new Uint8Array(0);
  const header = new Uint8Array(20 + Math.ceil(options.length / 4) * 4);
  const data = view(header);
  data.setUint8(0, ((fields.version ?? 4) << 4) | ((fields.headerBytes ?? header.length) / 4));
  data.setUint8(1, fields.tos ?? 0);
  data.setUint16(2, fields.totalBytes ?? header.length + payload.length);
  data.setUint16(4, fields.identification ?? 0);
  const flags = (fields.dontFragment ? 0x4000 : 0) | (fields.moreFragments ? 0x2000 : 0);
  data.setUint16(6, flags | ((fields.fragmentOffset ?? 0) / 8));
  data.setUint8(8, fields.ttl ?? 64);
  data.setUint8(9, fields.protocol);
  header.set(v4Bytes(fields.source), 12);
  header.set(v4Bytes(fields.destination), 16);
  header.set(options, 20);
  data.setUint16(10, fields.checksum ?? internetChecksum(header));
  return concat(header, payload);
}

export type Ipv4 = Required<Omit<Ipv4Fields, "version">> & {
  readonly checksumValid: boolean;
  /** Up to the total length: without Ethernet padding. */
  readonly payload: Uint8Array;
};

/** @param packet without its Ethernet header. */
export function parseIpv4(packet: Uint8Array): Ipv4 {
  const data = view(packet);
  if (packet.length < 20 || data.getUint8(0) >> 4 !== 4) throw new Error("not an IPv4 packet");
  const headerBytes = (data.getUint8(0) & 15) * 4;
  const totalBytes = data.getUint16(2);
  if (headerBytes < 20 || totalBytes < headerBytes || totalBytes > packet.length) {
    throw new Error(`IPv4 packet of ${packet.length} bytes says header ${headerBytes}, total ${totalBytes}`);
  }
  const fragment = data.getUint16(6);
  return {
    source: v4Text(packet.subarray(12, 16)),
    destination: v4Text(packet.subarray(16, 20)),
    protocol: data.getUint8(9),
    tos: data.getUint8(1),
    ttl: data.getUint8(8),
    identification: data.getUint16(4),
    dontFragment: (fragment & 0x4000) !== 0,
    moreFragments: (fragment & 0x2000) !== 0,
    fragmentOffset: (fragment & 0x1fff) * 8,
    options: packet.slice(20, headerBytes),
    headerBytes,
    totalBytes,
    checksum: data.getUint16(10),
    checksumValid: internetChecksum(packet.subarray(0, headerBytes)) === 0,
    payload: packet.subarray(headerBytes, totalBytes),
  };
}

/** Cuts a datagram into fragments of `pieceBytes` payload bytes (a multiple of 8), in order. */
export function fragmentIpv4(fields: Ipv4Fields, payload: Uint8Array, pieceBytes: number): Uint8Array<ArrayBuffer>[] {
  const fragments: Uint8Array<ArrayBuffer>[] = [];
  for (let offset = 0; offset < payload.length; offset += pieceBytes) {
    const moreFragments = offset + pieceBytes < payload.length;
    const piece = payload.subarray(offset, offset + pieceBytes);
    fragments.push(ipv4({ ...fields, fragmentOffset: offset, moreFragments }, piece));
  }
  return fragments;
}

// ICMP.

export type IcmpFields = {
  readonly type: number;
  readonly code?: number;
  /** Bytes 4..7, big-endian: identifier and sequence number of echo, next-hop MTU of "fragmentation needed". */
  readonly rest?: number;
  readonly checksum?: number;
};

export function icmp(fields: IcmpFields, payload: Uint8Array): Uint8Array<ArrayBuffer> {
  const header = new Uint8Array(8);
  const data = view(header);
  data.setUint8(0, fields.type);
  data.setUint8(1, fields.code ?? 0);
  data.setUint32(4, fields.rest ?? 0);
  data.setUint16(2, fields.checksum ?? internetChecksum(header, payload));
  return concat(header, payload);
}

export type Icmp = Required<IcmpFields> & { readonly checksumValid: boolean; readonly payload: Uint8Array };

export function parseIcmp(bytes: Uint8Array): Icmp {
  if (bytes.length < 8) throw new Error(`ICMP message of ${bytes.length} bytes`);
  const data = view(bytes);
  return {
    type: data.getUint8(0),
    code: data.getUint8(1),
    checksum: data.getUint16(2),
    rest: data.getUint32(4),
    checksumValid: internetChecksum(bytes) === 0,
    payload: bytes.subarray(8),
  };
}

// UDP and TCP: their checksums cover the addresses, so these are given too.

type TransportFields = {
  readonly source: string;
  readonly destination: string;
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly checksum?: number;
};

export type UdpFields = TransportFields & { readonly lengthBytes?: number };

export function udp(fields: UdpFields, payload: Uint8Array): Uint8Array<ArrayBuffer> {
  const header = new Uint8Array(8);
  const data = view(header);
  data.setUint16(0, fields.sourcePort);
  data.setUint16(2, fields.destinationPort);
  data.setUint16(4, fields.lengthBytes ?? 8 + payload.length);
  const pseudo = pseudoHeader(fields.source, fields.destination, PROTOCOL_UDP, 8 + payload.length);
  // RFC 768: a checksum that comes out as 0 is sent as all ones.
  data.setUint16(6, fields.checksum ?? (internetChecksum(pseudo, header, payload) || 0xffff));
  return concat(header, payload);
}

/** A UDP datagram in its IPv4 packet. */
export function udpPacket(
  fields: UdpFields,
  payload: Uint8Array,
  ip: Partial<Ipv4Fields> = {},
): Uint8Array<ArrayBuffer> {
  const { source, destination } = fields;
  return ipv4({ source, destination, protocol: PROTOCOL_UDP, ...ip }, udp(fields, payload));
}

export type Udp = {
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly lengthBytes: number;
  readonly checksum: number;
  readonly checksumValid: boolean;
  readonly payload: Uint8Array;
};

export function parseUdp(ip: Pick<Ipv4, "source" | "destination" | "payload">): Udp {
  const bytes = ip.payload;
  if (bytes.length < 8) throw new Error(`UDP datagram of ${bytes.length} bytes`);
  const data = view(bytes);
  const checksum = data.getUint16(6);
  const pseudo = pseudoHeader(ip.source, ip.destination, PROTOCOL_UDP, bytes.length);
  return {
    sourcePort: data.getUint16(0),
    destinationPort: data.getUint16(2),
    lengthBytes: data.getUint16(4),
    checksum,
    checksumValid: checksum === 0 || internetChecksum(pseudo, bytes) === 0,
    payload: bytes.subarray(8),
  };
}

/** In wire order: FIN is bit 0 (RFC 9293 3.1), AE of RFC 9768 stands in the octet before. */
const TCP_FLAGS = ["fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr", "ae"] as const;
export type TcpFlag = (typeof TCP_FLAGS)[number];

export type TcpOptions = {
  readonly mss?: number;
  readonly windowScale?: number;
  readonly sackPermitted?: boolean;
  /** [TSval, TSecr] */
  readonly timestamps?: readonly [number, number];
  /** Left and right edges. */
  readonly sack?: readonly (readonly [number, number])[];
  /** Fast open (RFC 7413): the cookie, empty: a request. */
  readonly cookie?: Uint8Array;
  /** Accurate ECN (RFC 9768), as far as it is there: bytes with ECT(0), CE, ECT(1). Only read. */
  readonly accurate?: readonly number[];
  /** User timeout option (RFC 5482): its 16 bits. */
  readonly userTimeout?: number;
};

export type TcpFields = TransportFields & {
  readonly seq?: number;
  readonly ack?: number;
  /** "syn ack", as tests write them; empty: none. */
  readonly flags?: string;
  readonly window?: number;
  readonly urgent?: number;
  readonly options?: TcpOptions;
  /** Instead of `options`, for wrong ones; padded with "end of options". */
  readonly optionBytes?: Uint8Array;
  readonly headerBytes?: number;
};

/** Options as Linux writes them: each 32-bit aligned with NOPs in front. */
function tcpOptionBytes(options: TcpOptions): Uint8Array<ArrayBuffer> {
  const parts: Uint8Array[] = [];
  const fixed = (head: string, size: number, write: (data: DataView) => void) => {
    const body = new Uint8Array(size);
    write(view(body));
    parts.push(hex(head), body);
  };
  if (options.mss !== undefined) fixed("02 04", 2, (data) => data.setUint16(0, options.mss as number));
  if (options.sackPermitted) parts.push(hex("01 01 04 02"));
  if (options.timestamps !== undefined) {
    const [value, echo] = options.timestamps;
    fixed("01 01 08 0a", 8, (data) => {
      data.setUint32(0, value);
      data.setUint32(4, echo);
    });
  }
  if (options.windowScale !== undefined)
    fixed("01 03 03", 1, (data) => data.setUint8(0, options.windowScale as number));
  if (options.sack !== undefined && options.sack.length > 0) {
    const edges = options.sack.flat();
    parts.push(Uint8Array.of(1, 1, 5, 2 + 4 * edges.length));
    for (const edge of edges) fixed("", 4, (data) => data.setUint32(0, edge));
  }
  if (options.userTimeout !== undefined) fixed("1c 04", 2, (data) => data.setUint16(0, options.userTimeout as number));
  if (options.cookie !== undefined) parts.push(Uint8Array.of(34, 2 + options.cookie.length, ...options.cookie, 1, 1));
  return concat(...parts);
}

export function tcp(fields: TcpFields, payload: Uint8Array = new Uint8Array(0)): Uint8Array<ArrayBuffer> {
  const options = fields.optionBytes ?? tcpOptionBytes(fields.options ?? {});
  const header = new Uint8Array(20 + Math.ceil(options.length / 4) * 4);
  const data = view(header);
  data.setUint16(0, fields.sourcePort);
  data.setUint16(2, fields.destinationPort);
  data.setUint32(4, fields.seq ?? 0);
  data.setUint32(8, fields.ack ?? 0);
  const offset = (fields.headerBytes ?? header.length) / 4;
  data.setUint16(12, (offset << 12) | tcpFlagBits(fields.flags ?? ""));
  data.setUint16(14, fields.window ?? 65535);
  data.setUint16(18, fields.urgent ?? 0);
  header.set(options, 20);
  const pseudo = pseudoHeader(fields.source, fields.destination, PROTOCOL_TCP, header.length + payload.length);
  data.setUint16(16, fields.checksum ?? internetChecksum(pseudo, header, payload));
  return concat(header, payload);
}

/** A TCP segment in its IPv4 packet. */
export function tcpPacket(
  fields: TcpFields,
  payload?: Uint8Array,
  ip: Partial<Ipv4Fields> = {},
): Uint8Array<ArrayBuffer> {
  const { source, destination } = fields;
  return ipv4({ source, destination, protocol: PROTOCOL_TCP, dontFragment: true, ...ip }, tcp(fields, payload));
}

function tcpFlagBits(text: string): number {
  return text
    .split(" ")
    .filter((word) => word !== "")
    .reduce((bits, word) => {
      const bit = TCP_FLAGS.indexOf(word as TcpFlag);
      if (bit < 0) throw new Error(`${word} is no TCP flag; there are ${TCP_FLAGS.join(", ")}`);
      return bits | (1 << bit);
    }, 0);
}

export type Tcp = {
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly seq: number;
  readonly ack: number;
  /** Names in wire order from FIN on: "syn ack". */
  readonly flags: string;
  readonly window: number;
  readonly urgent: number;
  readonly headerBytes: number;
  readonly checksumValid: boolean;
  readonly options: TcpOptions;
  readonly payload: Uint8Array;
};

export function parseTcp(ip: Pick<Ipv4, "source" | "destination" | "payload">): Tcp {
  const bytes = ip.payload;
  const data = view(bytes);
  const headerBytes = bytes.length < 20 ? 0 : (data.getUint8(12) >> 4) * 4;
  if (headerBytes < 20 || headerBytes > bytes.length) throw new Error(`TCP segment of ${bytes.length} bytes`);
  const bits = data.getUint16(12);
  const pseudo = pseudoHeader(ip.source, ip.destination, PROTOCOL_TCP, bytes.length);
  return {
    sourcePort: data.getUint16(0),
    destinationPort: data.getUint16(2),
    seq: data.getUint32(4),
    ack: data.getUint32(8),
    flags: TCP_FLAGS.filter((_, bit) => (bits >> bit) & 1).join(" "),
    window: data.getUint16(14),
    urgent: data.getUint16(18),
    headerBytes,
    checksumValid: internetChecksum(pseudo, bytes) === 0,
    options: parseTcpOptions(bytes.subarray(20, headerBytes)),
    payload: bytes.subarray(headerBytes),
  };
}

function parseTcpOptions(bytes: Uint8Array): TcpOptions {
  const data = view(bytes);
  const options: { -readonly [Name in keyof TcpOptions]: TcpOptions[Name] } = {};
  for (let at = 0; at < bytes.length && bytes[at] !== 0; ) {
    if (bytes[at] === 1) {
      at++;
      continue;
    }
    const length = bytes[at + 1] ?? 0;
    if (length < 2 || at + length > bytes.length) throw new Error(`TCP option ${bytes[at]} of length ${length}`);
    if (bytes[at] === 2) options.mss = data.getUint16(at + 2);
    if (bytes[at] === 3) options.windowScale = data.getUint8(at + 2);
    if (bytes[at] === 4) options.sackPermitted = true;
    if (bytes[at] === 8) options.timestamps = [data.getUint32(at + 2), data.getUint32(at + 6)];
    if (bytes[at] === 172) {
      options.accurate = Array.from({ length: (length - 2) / 3 }, (_, i) => data.getUint32(at + 3 * i + 1) & 0xffffff);
    }
    if (bytes[at] === 28) options.userTimeout = data.getUint16(at + 2);
    if (bytes[at] === 34) options.cookie = bytes.slice(at + 2, at + length);
    if (bytes[at] === 5) {
      const blocks: [number, number][] = [];
      for (let edge = at + 2; edge < at + length; edge += 8)
        blocks.push([data.getUint32(edge), data.getUint32(edge + 4)]);
      options.sack = blocks;
    }
    at += length;
  }
  return options;
}
