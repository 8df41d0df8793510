/**
 * Interface identifiers that stay the same on one network and tell nothing on another (RFC 7217): a pseudo-random
 * function of the prefix, the Ethernet address, a counter and a secret. The function is SipHash-2-4 (Aumasson,
 * Bernstein 2012), as in the kernel; here it runs a few times in a stack's life.
 */
import { ADDRESS_BYTES } from "./address.ts";

const MASK = 0xffff_ffff_ffff_ffffn;
const PREFIX_BYTES = 8;

function rotate(value: bigint, bits: bigint): bigint {
  return ((value << bits) | (value >> (64n - bits))) & MASK;
}

/** @param key 16 bytes. */
export function sipHash(key: Uint8Array, message: Uint8Array): bigint {
  const keyView = new DataView(key.buffer, key.byteOffset, 16);
  const k0 = keyView.getBigUint64(0, true);
  const k1 = keyView.getBigUint64(8, true);
  let v0 = k0 ^ 0x736f6d6570736575n;
  let v1 = k1 ^ 0x646f72616e646f6dn;
  let v2 = k0 ^ 0x6c7967656e657261n;
  let v3 = k1 ^ 0x7465646279746573n;
  const round = () => {
    v0 = (v0 + v1) & MASK;
    v1 = rotate(v1, 13n) ^ v0;
    v0 = rotate(v0, 32n);
    v2 = (v2 + v3) & MASK;
    v3 = rotate(v3, 16n) ^ v2;
    v0 = (v0 + v3) & MASK;
    v3 = rotate(v3, 21n) ^ v0;
    v2 = (v2 + v1) & MASK;
    v1 = rotate(v1, 17n) ^ v2;
    v2 = rotate(v2, 32n);
  };
  // Whole words, then the rest of the bytes with the length in the top byte.
  const padded = new Uint8Array((Math.floor(message.length / 8) + 1) * 8);
  padded.set(message);
  padded[padded.length - 1] = message.length & 0xff;
  const words = new DataView(padded.buffer);
  for (let at = 0; at < padded.length; at += 8) {
    const word = words.getBigUint64(at, true);
    v3 ^= word;
    round();
    round();
    v0 ^= word;
  }
  v2 ^= 0xffn;
  for (let i = 0; i < 4; i++) round();
  return v0 ^ v1 ^ v2 ^ v3;
}

/** RFC 5453: subnet-router anycast and the reserved anycast identifiers. */
function isReserved(identifier: bigint): boolean {
  return identifier === 0n || (identifier >= 0xfdff_ffff_ffff_ff80n && identifier <= 0xfdff_ffff_ffff_ffffn);
}

/**
 * The address of this station in a /64.
 * @param prefix 16 bytes, the last 8 do not count. @param secret 16 bytes. @param attempt how many of these addresses
 *   were taken by others (RFC 7217 6).
 */
export function stableAddress(prefix: Uint8Array, mac: Uint8Array, secret: Uint8Array, attempt: number): Uint8Array {
  const message = new Uint8Array(PREFIX_BYTES + mac.length + 2);
  message.set(prefix.subarray(0, PREFIX_BYTES));
  message.set(mac, PREFIX_BYTES);
  let identifier = 0n;
  for (let skipped = 0; isReserved(identifier); skipped++) {
    message[PREFIX_BYTES + mac.length] = attempt;
    message[PREFIX_BYTES + mac.length + 1] = skipped;
    identifier = sipHash(secret, message);
  }
  const address = new Uint8Array(ADDRESS_BYTES);
  address.set(prefix.subarray(0, PREFIX_BYTES));
  new DataView(address.buffer).setBigUint64(PREFIX_BYTES, identifier);
  return address;
}

/** fe80::/64 (RFC 4291 2.5.6). */
export const LINK_LOCAL_PREFIX: Uint8Array = Uint8Array.of(0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);

/** The 16 bytes that the words of a seed are. */
export function secretOf(seed: Uint32Array): Uint8Array {
  return new Uint8Array(Uint32Array.from(seed.subarray(0, 4)).buffer);
}
