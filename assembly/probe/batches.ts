/**
 * The inner functions over many items in one call, for benchmarks: the cost of a call and the resolution of the timer
 * vanish. Each returns a checksum of its results, so that no work can be optimised away.
 */
import { ipv4Check } from "../ip/ipv4.ts";
import { toeplitzBitwise, toeplitzV4, toeplitzV6 } from "../rss/toeplitz.ts";
import { loadBe16, loadBe32 } from "../wire/bytes.ts";
import { copyAndSum, sumBytes } from "../wire/checksum.ts";

/** Sums `count` pieces of `bytes` bytes, one each `stride` bytes. */
export function sumBatch(at: usize, stride: u32, count: u32, bytes: u32): u32 {
  let result: u32 = 0;
  for (let i: u32 = 0; i < count; i++) {
    result = rotl<u32>(result, 1) ^ sumBytes(at, bytes);
    at += stride;
  }
  return result;
}

export function copyAndSumBatch(target: usize, source: usize, stride: u32, count: u32, bytes: u32): u32 {
  let result: u32 = 0;
  for (let i: u32 = 0; i < count; i++) {
    result = rotl<u32>(result, 1) ^ copyAndSum(target, source, bytes);
    source += stride;
    target += stride;
  }
  return result;
}

/** Tuples of 12 bytes, 16 apart. */
export function toeplitzV4Batch(tables: usize, at: usize, count: u32): u32 {
  let result: u32 = 0;
  for (let i: u32 = 0; i < count; i++) {
    result = rotl<u32>(result, 1) ^ toeplitzV4(tables, load<u32>(at), load<u32>(at, 4), load<u32>(at, 8));
    at += 16;
  }
  return result;
}

/** Tuples of 36 bytes, 48 apart. */
export function toeplitzV6Batch(tables: usize, at: usize, count: u32): u32 {
  let result: u32 = 0;
  for (let i: u32 = 0; i < count; i++) {
    result = rotl<u32>(result, 1) ^ toeplitzV6(tables, at, load<u32>(at, 32));
    at += 48;
  }
  return result;
}

export function toeplitzBitwiseBatch(key: usize, at: usize, stride: u32, count: u32, bytes: u32): u32 {
  let result: u32 = 0;
  for (let i: u32 = 0; i < count; i++) {
    result = rotl<u32>(result, 1) ^ toeplitzBitwise(key, at, bytes);
    at += stride;
  }
  return result;
}

/** Ethernet, IPv4 (every check, header checksum) and the fields of TCP that input needs. */
export function parseBatch(at: usize, stride: u32, count: u32, frameBytes: u32): u32 {
  let result: u32 = 0;
  for (let i: u32 = 0; i < count; i++) {
    if (loadBe16(at + 12) == 0x0800) {
      const packet = at + 14;
      const headerBytes = ipv4Check(packet, frameBytes - 14, false);
      if (headerBytes > 0 && load<u8>(packet, 9) == 6) {
        const tcp = packet + headerBytes;
        const ports = load<u32>(tcp);
        const dataOffset = (<u32>load<u8>(tcp, 12) >> 4) << 2;
        result += ports ^ loadBe32(tcp + 4) ^ loadBe32(tcp + 8) ^ dataOffset ^ load<u8>(tcp, 13) ^ loadBe16(tcp + 14);
      }
    }
    at += stride;
  }
  return result;
}
