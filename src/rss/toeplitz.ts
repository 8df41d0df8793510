/**
 * The Toeplitz hash of receive-side scaling for control code (which queue will a reply arrive on?). The data path has
 * its own in assembly/rss/toeplitz.ts; both are tested against the published vectors and against each other.
 */
import { NetPopcornError } from "../errors.ts";

/** Input bytes of the longest tuple: IPv6 with ports. */
export const TOEPLITZ_INPUT_BYTES_MAX = 36;

/** The key of Microsoft's verification suite, also the default of many drivers. */
export const TOEPLITZ_KEY_DEFAULT: readonly number[] = [
  0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0, 0xca, 0x2b,
  0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac,
  0x01, 0xfa,
];

/** 36 tables of 256 words, one per input byte. */
export type ToeplitzTables = Uint32Array;

/** @param key 40 or 52 bytes. @throws NetPopcornError ERR_RSS_KEY. */
export function toeplitzBuild(key: Uint8Array | readonly number[]): ToeplitzTables {
  if (key.length !== 40 && key.length !== 52) {
    throw new NetPopcornError("ERR_RSS_KEY", `an RSS key has 40 or 52 bytes, not ${key.length}`);
  }
  const tables = new Uint32Array(TOEPLITZ_INPUT_BYTES_MAX * 256);
  for (let byte = 0; byte < TOEPLITZ_INPUT_BYTES_MAX; byte++) {
    const table = tables.subarray(byte * 256, byte * 256 + 256);
    for (let bit = 0; bit < 8; bit++) table[0x80 >> bit] = keyWindow(key, byte * 8 + bit);
    for (let value = 1; value < 256; value++) {
      const low = value & -value;
      if (value !== low) table[value] = (table[value ^ low] as number) ^ (table[low] as number);
    }
  }
  return tables;
}

/** The 32 key bits from bit `bit` on. */
function keyWindow(key: Uint8Array | readonly number[], bit: number): number {
  let window = 0;
  for (let i = 0; i < 32; i++) {
    const at = bit + i;
    window = (window << 1) | (((key[at >> 3] as number) >> (7 - (at & 7))) & 1);
  }
  return window >>> 0;
}

/** Hash of `input`: source address, destination address, then perhaps source and destination port, big-endian. */
export function toeplitz(tables: ToeplitzTables, input: Uint8Array): number {
  let hash = 0;
  for (let i = 0; i < input.length; i++) hash ^= tables[i * 256 + (input[i] as number)] as number;
  return hash >>> 0;
}

function hashWord(tables: ToeplitzTables, byte: number, word: number): number {
  const at = byte * 256;
  return (
    (tables[at + (word & 0xff)] as number) ^
    (tables[at + 256 + ((word >> 8) & 0xff)] as number) ^
    (tables[at + 512 + ((word >> 16) & 0xff)] as number) ^
    (tables[at + 768 + (word >>> 24)] as number)
  );
}

/** IPv4 2-tuple; addresses as 32-bit words in memory order (first byte lowest). */
export function toeplitzV4Addresses(tables: ToeplitzTables, source: number, destination: number): number {
  return (hashWord(tables, 0, source) ^ hashWord(tables, 4, destination)) >>> 0;
}

/** IPv4 4-tuple. @param ports the four bytes of source and destination port, in memory order. */
export function toeplitzV4(tables: ToeplitzTables, source: number, destination: number, ports: number): number {
  return (hashWord(tables, 0, source) ^ hashWord(tables, 4, destination) ^ hashWord(tables, 8, ports)) >>> 0;
}

/** Two port numbers as the four bytes of a header, in memory order. */
export function portsWord(sourcePort: number, destinationPort: number): number {
  const source = ((sourcePort & 0xff) << 8) | (sourcePort >> 8);
  const destination = ((destinationPort & 0xff) << 8) | (destinationPort >> 8);
  return (source | (destination << 16)) >>> 0;
}

/** Local ports, both ends included; first > last: none. */
export type PortRange = { readonly first: number; readonly last: number };

/**
 * Hash of a TCP packet from `source` to port 0 of `destination`: what does not depend on the local port.
 * @param source 16 bytes, IPv4 as ::ffff:a.b.c.d. @param v4 hash as IPv4.
 */
export function toeplitzReply(
  tables: ToeplitzTables,
  source: Uint8Array,
  sourcePort: number,
  destination: Uint8Array,
  v4: boolean,
): number {
  const from = v4 ? 12 : 0;
  const addressBytes = 16 - from;
  let hash = 0;
  for (let i = 0; i < addressBytes; i++) {
    hash ^= tables[i * 256 + (source[from + i] as number)] as number;
    hash ^= tables[(addressBytes + i) * 256 + (destination[from + i] as number)] as number;
  }
  const at = 2 * addressBytes * 256;
  return (hash ^ (tables[at + (sourcePort >> 8)] as number) ^ (tables[at + 256 + (sourcePort & 0xff)] as number)) >>> 0;
}
