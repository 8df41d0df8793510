/**
 * The Toeplitz hash of receive-side scaling, by table: one table of 256 words per input byte, so that a hash is one
 * look-up and one xor per byte. Read first: Microsoft, "RSS hashing types" and "Verifying the RSS hash calculation".
 *
 * The input is the packet's own bytes in packet order: source address, destination address, then (4-tuple) source port
 * and destination port. Addresses and ports are therefore taken as they lie in memory, without a byte swap.
 */

/** Input bytes of the longest tuple (IPv6 with ports). */
export const TOEPLITZ_INPUT_BYTES_MAX: u32 = 36;

/** The 32 key bits from bit `bit` on, most significant first. Preconditions: bit <= 288. */
function keyWindow(key: usize, bit: u32): u32 {
  const at = key + (bit >> 3);
  const shift = bit & 7;
  const word = bswap<u32>(load<u32>(at));
  return shift == 0 ? word : (word << shift) | (<u32>load<u8>(at, 4) >> (8 - shift));
}

/**
 * Fills the 36 x 256 words at `tables`, of which an IPv4 hash touches the first 12 KiB only, from 40 bytes at `key`.
 * So much of it the longest tuple uses; keys of 52 bytes are for longer inputs than these.
 */
export function toeplitzBuild(tables: usize, key: usize): void {
  for (let byte: u32 = 0; byte < TOEPLITZ_INPUT_BYTES_MAX; byte++) {
    const table = tables + ((<usize>byte) << 10);
    store<u32>(table, 0);
    // Values with one bit set come from the key, each other one from its lowest bit and the rest.
    for (let bit: u32 = 0; bit < 8; bit++) {
      store<u32>(table + ((<usize>(0x80 >> bit)) << 2), keyWindow(key, (byte << 3) + bit));
    }
    for (let value: u32 = 1; value < 256; value++) {
      const low = value & -value;
      const rest = value ^ low;
      store<u32>(
        table + ((<usize>value) << 2),
        load<u32>(table + ((<usize>rest) << 2)) ^ load<u32>(table + ((<usize>low) << 2)),
      );
    }
  }
}

/** What the four input bytes of `word` (memory order) contribute through the four tables at `table`. */
function hashWord(table: usize, word: u32): u32 {
  return (
    load<u32>(table + ((word & 0xff) << 2)) ^
    load<u32>(table + (((word >> 8) & 0xff) << 2), 1024) ^
    load<u32>(table + (((word >> 16) & 0xff) << 2), 2048) ^
    load<u32>(table + ((word >> 24) << 2), 3072)
  );
}

/** IPv4 2-tuple: fragments and protocols without ports. Addresses in memory order. */
export function toeplitzV4Addresses(tables: usize, source: u32, destination: u32): u32 {
  return hashWord(tables, source) ^ hashWord(tables + 4096, destination);
}

/** IPv4 4-tuple. @param ports source then destination port, as load<u32> takes them from the header. */
export function toeplitzV4(tables: usize, source: u32, destination: u32, ports: u32): u32 {
  return toeplitzV4Addresses(tables, source, destination) ^ hashWord(tables + 8192, ports);
}

/** IPv6 2-tuple. @param addresses where source and destination lie, 32 bytes in one piece. */
export function toeplitzV6Addresses(tables: usize, addresses: usize): u32 {
  return (
    hashWord(tables, load<u32>(addresses)) ^
    hashWord(tables + 4096, load<u32>(addresses, 4)) ^
    hashWord(tables + 8192, load<u32>(addresses, 8)) ^
    hashWord(tables + 12288, load<u32>(addresses, 12)) ^
    hashWord(tables + 16384, load<u32>(addresses, 16)) ^
    hashWord(tables + 20480, load<u32>(addresses, 20)) ^
    hashWord(tables + 24576, load<u32>(addresses, 24)) ^
    hashWord(tables + 28672, load<u32>(addresses, 28))
  );
}

/** IPv6 4-tuple. */
export function toeplitzV6(tables: usize, addresses: usize, ports: u32): u32 {
  return toeplitzV6Addresses(tables, addresses) ^ hashWord(tables + 32768, ports);
}

/** The definition, bit by bit: what the tables are checked and measured against. Preconditions: bytes <= 36. */
export function toeplitzBitwise(key: usize, input: usize, bytes: u32): u32 {
  let hash: u32 = 0;
  let window = bswap<u32>(load<u32>(key));
  for (let i: u32 = 0; i < bytes; i++) {
    const byte = <u32>load<u8>(input + i);
    const next = <u32>load<u8>(key + i, 4);
    for (let bit: u32 = 0; bit < 8; bit++) {
      if (byte & (0x80 >> bit)) hash ^= window;
      window = (window << 1) | ((next >> (7 - bit)) & 1);
    }
  }
  return hash;
}
