/**
 * Keyed hashes. The flow table's hash must be fast and unpredictable for outsiders; initial sequence numbers and SYN
 * cookies need a pseudo-random function: SipHash-2-4 (Aumasson, Bernstein 2012).
 * The card's Toeplitz hash is not used here: it is linear, so collisions can be made without knowing its key.
 */
import { seedWord, stackSeedWord } from "../config.ts";

let key0: u64 = 0;
let key1: u64 = 0;
let sip0: u64 = 0;
let sip1: u64 = 0;
let stamp0: u32 = 0;
let stamp1: u64 = 0;
let label0: u64 = 0;
let label1: u64 = 0;

/**
 * The table's key is the kernel's own. Sequence numbers, cookies, timestamps and flow labels are the host's: any of its
 * kernels may have to go on with them when a flow group has moved, so their keys come from the seed that a stack's
 * kernels share.
 */
export function hashBoot(): void {
  // All keys are drawn from a seed by SipHash itself, keyed with the seed.
  sip0 = ((<u64>seedWord(0)) << 32) | seedWord(1);
  sip1 = ((<u64>seedWord(2)) << 32) | seedWord(3);
  key0 = sipHash(3, 0);
  key1 = sipHash(4, 0) | 1;
  sip0 = ((<u64>stackSeedWord(0)) << 32) | stackSeedWord(1);
  sip1 = ((<u64>stackSeedWord(2)) << 32) | stackSeedWord(3);
  const a = sipHash(1, 0);
  const b = sipHash(2, 0);
  stamp0 = <u32>sipHash(3, 0);
  stamp1 = sipHash(4, 0) | 1;
  label0 = sipHash(5, 0);
  label1 = sipHash(6, 0) | 1;
  sip0 = a;
  sip1 = b;
}

/**
 * @param addresses remote and local IPv4 address, in either order but always the same.
 * @param ports both ports as they stand in a received segment.
 */
export function flowHashV4(remote: u32, local: u32, ports: u32): u32 {
  let h = (((<u64>remote) << 32) | ports) ^ key0;
  h *= 0x9fb21c651e98df25;
  h ^= h >> 35;
  h = (h + local) * key1;
  h ^= h >> 29;
  h *= 0xd6e8feb86659fd93;
  return <u32>(h >> 32);
}

/** Likewise for IPv6. @param remote where its 16 bytes lie, as `local`. */
export function flowHashV6(remote: usize, local: usize, ports: u32): u32 {
  let h = (load<u64>(remote) ^ key0) * 0x9fb21c651e98df25;
  h ^= h >> 35;
  h = (h + load<u64>(remote, 8)) * key1;
  h ^= h >> 32;
  h = (h + (load<u64>(local, 8) ^ rotl<u64>(load<u64>(local), 17))) * 0xd6e8feb86659fd93;
  h ^= h >> 29;
  h = (h + ports) * key1;
  h ^= h >> 29;
  h *= 0xd6e8feb86659fd93;
  return <u32>(h >> 32);
}

/**
 * Flow label of what we send to `remote` (RFC 6437 3): the same for all packets of a flow, whichever kernel sends them,
 * and with a key of its own, since the table's hash is nobody's business: who knew it could choose tuples that collide.
 * @param ports as for flowHashV6. @returns 1 to 0xfffff.
 */
export function flowLabel(remote: usize, local: usize, ports: u32): u32 {
  let h = (load<u64>(remote) ^ label0) * 0x9fb21c651e98df25;
  h ^= h >> 35;
  h = (h + load<u64>(remote, 8)) * label1;
  h ^= h >> 32;
  h = (h + (load<u64>(local, 8) ^ rotl<u64>(load<u64>(local), 17))) * 0xd6e8feb86659fd93;
  h ^= h >> 29;
  h = (h + ports) * label1;
  const label = <u32>(h >> 44);
  return label != 0 ? label : 1;
}

/** A pair of IPv6 addresses as the one word that a pair of IPv4 addresses is by itself. */
export function pairHashV6(remote: usize, local: usize): u64 {
  const a = sipHash(load<u64>(remote), load<u64>(remote, 8));
  return sipHash(a ^ load<u64>(local), load<u64>(local, 8));
}

const message: usize = memory.data(16, 8);

/** SipHash-2-4 of 16 bytes, with the host's key. */
export function sipHash(m0: u64, m1: u64): u64 {
  store<u64>(message, m0);
  store<u64>(message, m1, 8);
  return sipHashWords(sip0, sip1, message, 2);
}

/**
 * SipHash-2-4 of `words` words of 8 bytes, with the key (k0, k1).
 * @param at where they lie.
 */
export function sipHashWords(k0: u64, k1: u64, at: usize, words: u32): u64 {
  let v0: u64 = k0 ^ 0x736f6d6570736575;
  let v1: u64 = k1 ^ 0x646f72616e646f6d;
  let v2: u64 = k0 ^ 0x6c7967656e657261;
  let v3: u64 = k1 ^ 0x7465646279746573;
  // The words, then their length in bytes in a top byte, then the end.
  for (let block: u32 = 0; block <= words + 1; block++) {
    const m: u64 = block < words ? load<u64>(at + (block << 3)) : ((<u64>words) << 3) << 56;
    const last = block > words;
    if (last) v2 ^= 0xff;
    else v3 ^= m;
    const rounds = last ? 4 : 2;
    for (let round = 0; round < rounds; round++) {
      v0 += v1;
      v1 = rotl<u64>(v1, 13) ^ v0;
      v0 = rotl<u64>(v0, 32);
      v2 += v3;
      v3 = rotl<u64>(v3, 16) ^ v2;
      v0 += v3;
      v3 = rotl<u64>(v3, 21) ^ v0;
      v2 += v1;
      v1 = rotl<u64>(v1, 17) ^ v2;
      v2 = rotl<u64>(v2, 32);
    }
    if (!last) v0 ^= m;
  }
  return v0 ^ v1 ^ v2 ^ v3;
}

/** Timestamp offset per pair of hosts: hides the clock, yet grows across their connections (RFC 7323 5.4, RFC 6191). */
export function timestampOffset(remote: u32, local: u32): u32 {
  return <u32>(((((<u64>remote) << 32) | local) * stamp1) >> 32) ^ stamp0;
}

/** Likewise for IPv6. @param remote where its 16 bytes lie, as `local`. */
export function timestampOffsetV6(remote: usize, local: usize): u32 {
  let h = (load<u64>(remote) ^ load<u64>(local, 8)) * stamp1;
  h = (h ^ (h >> 29) ^ load<u64>(remote, 8) ^ rotl<u64>(load<u64>(local), 32)) * stamp1;
  return <u32>(h >> 32) ^ stamp0;
}
