import { addressFamily, type Cidr } from "./address.ts";

/** True when `remote` (16 bytes) is in the network of an own address. */
export function isOnLink(own: Cidr, remote: Uint8Array): boolean {
  if (addressFamily(remote) !== own.family) return false;
  const bits = own.prefixLength + (own.family === 4 ? 96 : 0);
  for (let i = 0; i < 16; i++) {
    const mask = (0xff00 >> Math.min(8, Math.max(0, bits - 8 * i))) & 0xff;
    if ((((own.address[i] as number) ^ (remote[i] as number)) & mask) !== 0) return false;
  }
  return true;
}

/**
 * The own address that a kernel speaks from to `remote` (as assembly/ip/address.ts chooses): one of its network, else
 * the first of its family. @returns its index, -1: none.
 */
export function sourceIndexFor(addresses: readonly Cidr[], remote: Uint8Array): number {
  const family = addressFamily(remote);
  let first = -1;
  for (let index = 0; index < addresses.length; index++) {
    const own = addresses[index] as Cidr;
    if (own.family !== family) continue;
    if (isOnLink(own, remote)) return index;
    if (first < 0) first = index;
  }
  return first;
}
