/** IPv6 packets for tests, beside packets.ts: builders and parsers, slow and obvious, independent of assembly/. */
import { parseAddress } from "../../src/ip/address.ts";
import { concat, ethernet, internetChecksum, macBytes } from "./packets.ts";

export const ETHERTYPE_IPV6 = 0x86dd;
export const ICMPV6 = 58;
export const FRAGMENT = 44;

function view(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

export type Ipv6Fields = {
  readonly source: string;
  readonly destination: string;
  readonly nextHeader: number;
  readonly hopLimit?: number;
  readonly trafficClass?: number;
  readonly payloadBytes?: number;
  readonly version?: number;
};

export function ipv6(fields: Ipv6Fields, ...payload: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const body = concat(...payload);
  const header = new Uint8Array(40);
  view(header).setUint32(0, ((fields.version ?? 6) << 28) | ((fields.trafficClass ?? 0) << 20));
  view(header).setUint16(4, fields.payloadBytes ?? body.length);
  header[6] = fields.nextHeader;
  header[7] = fields.hopLimit ?? 64;
  header.set(parseAddress(fields.source), 8);
  header.set(parseAddress(fields.destination), 24);
  return concat(header, body);
}

export type Ipv6 = {
  readonly source: Uint8Array;
  readonly destination: Uint8Array;
  readonly nextHeader: number;
  readonly hopLimit: number;
  readonly payload: Uint8Array;
};

export function parseIpv6(packet: Uint8Array): Ipv6 {
  if (packet.length < 40 || (packet[0] as number) >> 4 !== 6) throw new Error("not an IPv6 packet");
  return {
    source: packet.slice(8, 24),
    destination: packet.slice(24, 40),
    nextHeader: packet[6] as number,
    hopLimit: packet[7] as number,
    payload: packet.slice(40, 40 + view(packet).getUint16(4)),
  };
}

/** Sum of the pseudo-header and the payload; 0 when its checksum is right. */
export function checksum6(source: Uint8Array, destination: Uint8Array, protocol: number, payload: Uint8Array): number {
  const rest = new Uint8Array(8);
  view(rest).setUint32(0, payload.length);
  rest[7] = protocol;
  return internetChecksum(source, destination, rest, payload);
}

/** A packet whose payload has its checksum filled in at `at`. */
export function checked(fields: Ipv6Fields, payload: Uint8Array, at: number): Uint8Array<ArrayBuffer> {
  const body = payload.slice();
  const sum = checksum6(parseAddress(fields.source), parseAddress(fields.destination), fields.nextHeader, body);
  view(body).setUint16(at, sum || 0xffff);
  return ipv6(fields, body);
}

/** @param rest bytes 4..7. */
export function icmp6Bytes(type: number, code: number, rest: number, body: Uint8Array): Uint8Array<ArrayBuffer> {
  const head = new Uint8Array(8);
  head.set([type, code]);
  view(head).setUint32(4, rest);
  return concat(head, body);
}

export function icmp6(
  fields: Omit<Ipv6Fields, "nextHeader">,
  type: number,
  { code = 0, rest = 0, body = new Uint8Array(0) }: { code?: number; rest?: number; body?: Uint8Array } = {},
): Uint8Array<ArrayBuffer> {
  return checked({ ...fields, nextHeader: ICMPV6 }, icmp6Bytes(type, code, rest, body), 2);
}

export function udp6Bytes(sourcePort: number, destinationPort: number, payload: Uint8Array): Uint8Array<ArrayBuffer> {
  const head = new Uint8Array(8);
  view(head).setUint16(0, sourcePort);
  view(head).setUint16(2, destinationPort);
  view(head).setUint16(4, 8 + payload.length);
  return concat(head, payload);
}

/** A neighbour solicitation (135) or advertisement (136) for `target`, with an Ethernet address or none. */
export function neighborMessage(
  fields: Omit<Ipv6Fields, "nextHeader">,
  type: 135 | 136,
  target: string,
  mac?: string,
  flags = 0,
): Uint8Array<ArrayBuffer> {
  const option = mac === undefined ? new Uint8Array(0) : concat(Uint8Array.of(type === 135 ? 1 : 2, 1), macBytes(mac));
  return icmp6({ hopLimit: 255, ...fields }, type, { rest: flags, body: concat(parseAddress(target), option) });
}

/** An extension header of options (hop-by-hop, destination) or of routing: `body` padded to whole 8 bytes. */
export function extension(nextHeader: number, body: Uint8Array): Uint8Array<ArrayBuffer> {
  const bytes = Math.ceil((2 + body.length) / 8) * 8;
  const header = new Uint8Array(bytes);
  header.set([nextHeader, bytes / 8 - 1]);
  header.set(body, 2);
  return header;
}

export function fragmentHeader(nextHeader: number, offset: number, more: boolean, ident: number): Uint8Array {
  const header = new Uint8Array(8);
  header[0] = nextHeader;
  view(header).setUint16(2, offset | (more ? 1 : 0));
  view(header).setUint32(4, ident);
  return header;
}

/** Cuts a payload into fragments of `pieceBytes` (a multiple of 8). */
export function fragmentIpv6(fields: Ipv6Fields, payload: Uint8Array, pieceBytes: number, ident = 7): Uint8Array[] {
  const pieces: Uint8Array[] = [];
  for (let offset = 0; offset < payload.length; offset += pieceBytes) {
    const more = offset + pieceBytes < payload.length;
    const piece = payload.subarray(offset, offset + pieceBytes);
    const header = fragmentHeader(fields.nextHeader, offset, more, ident);
    pieces.push(ipv6({ ...fields, nextHeader: FRAGMENT }, header, piece));
  }
  return pieces;
}

export function frame6(destination: string, source: string, packet: Uint8Array): Uint8Array<ArrayBuffer> {
  return ethernet({ destination, source, etherType: ETHERTYPE_IPV6 }, packet);
}
