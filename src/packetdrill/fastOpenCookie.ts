/**
 * The cookie that a kernel gives out for fast open under a given key (RFC 7413 4.1.2), as Linux makes it: SipHash-2-4
 * of both addresses. Written apart from assembly/flow/hash.ts, so that scripts test it.
 */
const MASK = (1n << 64n) - 1n;
const IPV4_OFFSET = 12;

function rotate(value: bigint, bits: bigint): bigint {
  return ((value << bits) | (value >> (64n - bits))) & MASK;
}

function round(v: [bigint, bigint, bigint, bigint]): void {
  v[0] = (v[0] + v[1]) & MASK;
  v[1] = rotate(v[1], 13n) ^ v[0];
  v[0] = rotate(v[0], 32n);
  v[2] = (v[2] + v[3]) & MASK;
  v[3] = rotate(v[3], 16n) ^ v[2];
  v[0] = (v[0] + v[3]) & MASK;
  v[3] = rotate(v[3], 21n) ^ v[0];
  v[2] = (v[2] + v[1]) & MASK;
  v[1] = rotate(v[1], 17n) ^ v[2];
  v[2] = rotate(v[2], 32n);
}

/** SipHash-2-4 (Aumasson, Bernstein 2012). @param bytes a multiple of eight of them. */
function sipHash24(k0: bigint, k1: bigint, bytes: Uint8Array): bigint {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const blocks: bigint[] = [];
  for (let at = 0; at < bytes.length; at += 8) blocks.push(view.getBigUint64(at, true));
  blocks.push(BigInt(bytes.length & 255) << 56n);
  const v: [bigint, bigint, bigint, bigint] = [
    k0 ^ 0x736f6d6570736575n,
    k1 ^ 0x646f72616e646f6dn,
    k0 ^ 0x6c7967656e657261n,
    k1 ^ 0x7465646279746573n,
  ];
  for (const block of blocks) {
    v[3] ^= block;
    round(v);
    round(v);
    v[0] ^= block;
  }
  v[2] ^= 0xffn;
  for (let i = 0; i < 4; i++) round(v);
  return v[0] ^ v[1] ^ v[2] ^ v[3];
}

/**
 * @param remote 16 bytes, IPv4-mapped, as `local`. @param key four 32-bit words.
 * @returns 16 hexadecimal digits.
 */
export function fastOpenCookie(remote: Uint8Array, local: Uint8Array, key: readonly number[]): string {
  const [a = 0, b = 0, c = 0, d = 0] = key;
  const isV4 = local.subarray(0, IPV4_OFFSET).every((byte, index) => byte === (index < 10 ? 0 : 255));
  const from = isV4 ? IPV4_OFFSET : 0;
  const hash = sipHash24(
    BigInt(a) | (BigInt(b) << 32n),
    BigInt(c) | (BigInt(d) << 32n),
    Uint8Array.of(...remote.subarray(from), ...local.subarray(from)),
  );
  const cookie = new DataView(new ArrayBuffer(8));
  cookie.setBigUint64(0, hash, true);
  return [...new Uint8Array(cookie.buffer)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
