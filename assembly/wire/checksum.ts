/**
 * The internet checksum (RFC 1071). Sums are taken over little-endian 16-bit words, because the ones' complement sum
 * of swapped words is the swapped sum (RFC 1071 2(B)): a sum made of the bytes as they lie in memory is stored back as
 * it is, with no byte swap anywhere.
 *
 * A *sum* is folded to 16 bits, 0..0xffff; it is 0 only when every byte was 0.
 */

/** Words are made signed for the multiply-add: each loses 0x8000, given back in sumOfLanes(). */
const SIGN = i16x8.splat(-32768);
const ONES = i16x8.splat(1);

/**
 * The exact sum of the words behind four lanes. A lane gains -65536..65534 per step of 16 bytes, so it is good for
 * 32,767 steps, 512 KiB: eight times the largest frame.
 * @param steps of 16 bytes, each of 8 words.
 */
function sumOfLanes(lanes: v128, steps: u64): u64 {
  const wide = i64x2.add(i64x2.extend_low_i32x4_s(lanes), i64x2.extend_high_i32x4_s(lanes));
  return <u64>(i64x2.extract_lane(wide, 0) + i64x2.extract_lane(wide, 1)) + (steps << 18);
}

/** Folds a sum of words (or of 32-bit pairs of words) to 16 bits. */
function fold(sum: u64): u32 {
  sum = (sum & 0xffffffff) + (sum >> 32);
  sum = (sum & 0xffff) + ((sum >> 16) & 0xffff) + (sum >> 32);
  const low = <u32>sum;
  const once = (low & 0xffff) + (low >> 16);
  return (once & 0xffff) + (once >> 16);
}

/** Sum of fewer than 16 bytes. An odd last byte is the low byte of a word padded with zero. */
function sumTail(at: usize, bytes: u32): u64 {
  let sum: u64 = 0;
  if (bytes & 8) {
    const pair = load<u64>(at);
    sum = (pair & 0xffffffff) + (pair >> 32);
    at += 8;
  }
  if (bytes & 4) {
    sum += load<u32>(at);
    at += 4;
  }
  if (bytes & 2) {
    sum += load<u16>(at);
    at += 2;
  }
  if (bytes & 1) sum += load<u8>(at);
  return sum;
}

/**
 * Ones' complement sum of `bytes` bytes at `at`. No alignment needed; reads nothing outside.
 * Preconditions: bytes <= 512 KiB.
 * @returns 0..0xffff.
 */
export function sumBytes(at: usize, bytes: u32): u32 {
  const end = at + (bytes & ~15);
  let a = i32x4.splat(0);
  let b = i32x4.splat(0);
  const endPairs = at + (bytes & ~63);
  while (at < endPairs) {
    a = i32x4.add(a, i32x4.dot_i16x8_s(v128.xor(v128.load(at), SIGN), ONES));
    b = i32x4.add(b, i32x4.dot_i16x8_s(v128.xor(v128.load(at, 16), SIGN), ONES));
    a = i32x4.add(a, i32x4.dot_i16x8_s(v128.xor(v128.load(at, 32), SIGN), ONES));
    b = i32x4.add(b, i32x4.dot_i16x8_s(v128.xor(v128.load(at, 48), SIGN), ONES));
    at += 64;
  }
  while (at < end) {
    a = i32x4.add(a, i32x4.dot_i16x8_s(v128.xor(v128.load(at), SIGN), ONES));
    at += 16;
  }
  return fold(sumOfLanes(i32x4.add(a, b), bytes >> 4) + sumTail(at, bytes & 15));
}

/**
 * Copies `bytes` bytes and sums them in the same pass. The two places may not overlap.
 * @returns as sumBytes.
 */
export function copyAndSum(target: usize, source: usize, bytes: u32): u32 {
  const end = source + (bytes & ~15);
  const endPairs = source + (bytes & ~63);
  let a = i32x4.splat(0);
  let b = i32x4.splat(0);
  while (source < endPairs) {
    const x0 = v128.load(source);
    const x1 = v128.load(source, 16);
    const x2 = v128.load(source, 32);
    const x3 = v128.load(source, 48);
    v128.store(target, x0);
    v128.store(target, x1, 16);
    v128.store(target, x2, 32);
    v128.store(target, x3, 48);
    a = i32x4.add(a, i32x4.dot_i16x8_s(v128.xor(x0, SIGN), ONES));
    b = i32x4.add(b, i32x4.dot_i16x8_s(v128.xor(x1, SIGN), ONES));
    a = i32x4.add(a, i32x4.dot_i16x8_s(v128.xor(x2, SIGN), ONES));
    b = i32x4.add(b, i32x4.dot_i16x8_s(v128.xor(x3, SIGN), ONES));
    source += 64;
    target += 64;
  }
  while (source < end) {
    const x = v128.load(source);
    v128.store(target, x);
    a = i32x4.add(a, i32x4.dot_i16x8_s(v128.xor(x, SIGN), ONES));
    source += 16;
    target += 16;
  }
  const tail = sumTail(source, bytes & 15);
  copyTail(target, source, bytes & 15);
  return fold(sumOfLanes(i32x4.add(a, b), bytes >> 4) + tail);
}

/** Copies fewer than 16 bytes. */
function copyTail(target: usize, source: usize, bytes: u32): void {
  if (bytes & 8) {
    store<u64>(target, load<u64>(source));
    target += 8;
    source += 8;
  }
  if (bytes & 4) {
    store<u32>(target, load<u32>(source));
    target += 4;
    source += 4;
  }
  if (bytes & 2) {
    store<u16>(target, load<u16>(source));
    target += 2;
    source += 2;
  }
  if (bytes & 1) store<u8>(target, load<u8>(source));
}

/** The sum of a piece, as it counts when the piece starts at an odd offset of the whole (RFC 1071 2(B)). */
export function sumSwap(sum: u32): u32 {
  return ((sum << 8) | (sum >> 8)) & 0xffff;
}

/** Sum of two sums. */
export function sumAdd(a: u32, b: u32): u32 {
  const sum = a + b;
  return (sum & 0xffff) + (sum >> 16);
}

/** The checksum field for a sum, in memory order: store<u16>(at, checksumOf(sum)). */
export function checksumOf(sum: u32): u16 {
  return <u16>~sum;
}

/**
 * Sum of the IPv4 pseudo-header (RFC 9293 3.1).
 * @param source address in memory order, as load<u32> gives it. @param lengthBytes of header and payload, 0..65535.
 */
export function pseudoHeaderSumV4(source: u32, destination: u32, protocol: u32, lengthBytes: u32): u32 {
  // Zero byte and protocol, then the length, as they would lie in memory.
  const rest = (protocol << 8) + (((lengthBytes & 0xff) << 8) | (lengthBytes >> 8));
  return fold(<u64>source + <u64>destination + <u64>rest);
}

/**
 * Sum of the IPv6 pseudo-header (RFC 8200 8.1).
 * @param source where its 16 bytes lie, as `destination`. @param lengthBytes of header and payload, 0..65535.
 */
export function pseudoHeaderSumV6(source: usize, destination: usize, protocol: u32, lengthBytes: u32): u32 {
  const rest = (protocol << 8) + (((lengthBytes & 0xff) << 8) | (lengthBytes >> 8));
  const sum =
    <u64>load<u32>(source) +
    load<u32>(source, 4) +
    load<u32>(source, 8) +
    load<u32>(source, 12) +
    load<u32>(destination) +
    load<u32>(destination, 4) +
    load<u32>(destination, 8) +
    load<u32>(destination, 12);
  return fold(sum + rest);
}
